#include "client/reflect/schema_print.h"

#include <inttypes.h>
#include <string.h>

/* Comments come from a server: control characters, also those of C1, are shown and not obeyed. Returns its bytes. */
static size_t print_character(FILE *out, const char *at)
{
    const unsigned char byte = (unsigned char) at[0];
    const bool wide = byte == 0xc2 && (unsigned char) at[1] >= 0x80 && (unsigned char) at[1] < 0xa0;
    (void) fputc(byte < ' ' || byte == 0x7f || wide ? '?' : at[0], out);
    return wide ? 2 : 1;
}

static void print_comment(FILE *out, const char *comment, unsigned depth)
{
    while (*comment != '\0') {
        const char *end = comment + strcspn(comment, "\n");
        fprintf(out, "%*s//", (int) (2 * depth), "");
        while (comment < end) {
            comment += print_character(out, comment);
        }
        (void) fputc('\n', out);
        comment += *comment == '\n';
    }
}

static const char *last_name(const char *full)
{
    const char *slash = strrchr(full, '/');
    const char *dot = strrchr(full, '.');
    return slash != NULL ? slash + 1 : dot == NULL ? full : dot + 1;
}

static void print_type(FILE *out, const struct schema_field *field)
{
    if (field->of != NULL && field->of->is_map) {
        fprintf(out, "map<%s, %s>", schema_type_name(&field->of->fields[0]),
                schema_type_name(&field->of->fields[1]));
        return;
    }
    fprintf(out, "%s%s",
            field->repeated   ? "repeated "
            : field->optional ? "optional "
                              : "",
            schema_type_name(field));
}

static void print_field(FILE *out, const struct schema_field *field, unsigned depth)
{
    print_comment(out, field->comment, depth);
    fprintf(out, "%*s", (int) (2 * depth), "");
    print_type(out, field);
    fprintf(out, " %s = %" PRIu32 ";\n", field->name, field->number);
}

/* A oneof stands where its first branch does. */
static bool is_first(const struct schema_entry *message, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (message->fields[i].oneof == message->fields[index].oneof) {
            return false;
        }
    }
    return true;
}

static void print_oneof(FILE *out, const struct schema_entry *message, int32_t oneof)
{
    print_comment(out, message->oneofs[oneof].comment, 1);
    fprintf(out, "  oneof %s {\n", message->oneofs[oneof].name);
    for (size_t i = 0; i < message->field_count; i++) {
        if (message->fields[i].oneof == oneof) {
            print_field(out, &message->fields[i], 2);
        }
    }
    fputs("  }\n", out);
}

static void print_message(FILE *out, const struct schema_entry *message)
{
    print_comment(out, message->comment, 0);
    fprintf(out, "message %s {%s", last_name(message->name), message->field_count == 0 ? "}\n" : "\n");
    for (size_t i = 0; i < message->field_count; i++) {
        if (message->fields[i].oneof == SCHEMA_NO_ONEOF) {
            print_field(out, &message->fields[i], 1);
        } else if (is_first(message, i)) {
            print_oneof(out, message, message->fields[i].oneof);
        }
    }
    fputs(message->field_count == 0 ? "" : "}\n", out);
}

static void print_enum(FILE *out, const struct schema_entry *entry)
{
    print_comment(out, entry->comment, 0);
    fprintf(out, "enum %s {\n", last_name(entry->name));
    for (size_t i = 0; i < entry->value_count; i++) {
        print_comment(out, entry->values[i].comment, 1);
        fprintf(out, "  %s = %" PRId32 ";\n", entry->values[i].name, entry->values[i].number);
    }
    fputs("}\n", out);
}

static void print_method(FILE *out, const struct schema_entry *method, unsigned depth)
{
    print_comment(out, method->comment, depth);
    fprintf(out, "%*srpc %s(%s) returns (%s);\n", (int) (2 * depth), "", last_name(method->name),
            method->input->name, method->output->name);
}

/* The methods of a service stand behind it in the order of names. */
static void print_service(FILE *out, const struct schema *schema, const struct schema_entry *service)
{
    const size_t length = strlen(service->name);
    print_comment(out, service->comment, 0);
    fprintf(out, "service %s {\n", last_name(service->name));
    for (size_t i = 0; i < schema->count; i++) {
        const struct schema_entry *entry = &schema->entries[i];
        if (entry->kind == SCHEMA_METHOD && strncmp(entry->name, service->name, length) == 0 &&
            entry->name[length] == '/') {
            print_method(out, entry, 1);
        }
    }
    fputs("}\n", out);
}

void schema_print(FILE *out, const struct schema *schema, const struct schema_entry *entry)
{
    switch (entry->kind) {
    case SCHEMA_MESSAGE:
        print_message(out, entry);
        break;
    case SCHEMA_ENUM:
        print_enum(out, entry);
        break;
    case SCHEMA_SERVICE:
        print_service(out, schema, entry);
        break;
    case SCHEMA_METHOD:
        print_method(out, entry, 0);
        (void) fputc('\n', out);
        print_message(out, entry->input);
        (void) fputc('\n', out);
        print_message(out, entry->output);
        break;
    }
}

void schema_summary(const char *comment, char *text, size_t size)
{
    size_t length = 0;
    bool ended = false;
    for (const char *at = comment + strspn(comment, " \n"); *at != '\0' && !ended && length + 1 < size; at++) {
        const bool space = *at == ' ' || *at == '\n';
        if (!space || (length > 0 && text[length - 1] != ' ')) {
            text[length++] = space ? ' ' : *at;
        }
        ended = *at == '.' && (at[1] == ' ' || at[1] == '\n' || at[1] == '\0');
    }
    text[length] = '\0';
}
