#include "client/cli/message.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <google/protobuf/timestamp.pb-c.h>

#include "client/cli/cli.h"
#include "common/name.h"

enum { TIME_TEXT = 40, GROUP = 3 };

/* --- Texts ---------------------------------------------------------------------------------------------------- */

/* Control characters are escaped, also those of C1, which some terminals obey; U+007F as well. */
static size_t escaped_length(const uint8_t *at, size_t left)
{
    if (*at < ' ' || *at == '"' || *at == '\\' || *at == 0x7f) {
        return 1;
    }
    return *at == 0xc2 && left > 1 && at[1] >= 0x80 && at[1] < 0xa0 ? 2 : 0;
}

static void write_escaped(FILE *out, const uint8_t *at, size_t length)
{
    if (*at == '"' || *at == '\\') {
        fprintf(out, "\\%c", *at);
    } else if (*at == '\n') {
        fputs("\\n", out);
    } else {
        fprintf(out, "\\u%04x", (unsigned) at[length - 1]);
    }
}

/* In spans, which an output without a buffer takes in few pieces. */
static void write_characters(FILE *out, const uint8_t *data, size_t length)
{
    size_t begin = 0;
    for (size_t i = 0; i < length;) {
        const size_t escaped = escaped_length(data + i, length - i);
        if (escaped == 0) {
            i++;
            continue;
        }
        (void) fwrite(data + begin, 1, i - begin, out);
        write_escaped(out, data + i, escaped);
        i += escaped;
        begin = i;
    }
    (void) fwrite(data + begin, 1, length - begin, out);
}

void cli_json_text(FILE *out, const char *text)
{
    (void) fputc('"', out);
    write_characters(out, (const uint8_t *) text, strlen(text));
    (void) fputc('"', out);
}

static void write_base64(FILE *out, const uint8_t *data, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += GROUP) {
        const size_t left = length - i;
        const uint32_t bits = (uint32_t) data[i] << 16 | (left > 1 ? (uint32_t) data[i + 1] << 8 : 0U) |
                              (left > 2 ? (uint32_t) data[i + 2] : 0U);
        (void) fputc(digits[bits >> 18], out);
        (void) fputc(digits[bits >> 12 & 63], out);
        (void) fputc(left > 1 ? digits[bits >> 6 & 63] : '=', out);
        (void) fputc(left > 2 ? digits[bits & 63] : '=', out);
    }
}

static bool redacted;

void cli_json_bytes(FILE *out, const char *name, const uint8_t *data, size_t length)
{
    if (redacted) {
        fprintf(out, "\"%s\": \"***\"", name);
        return;
    }
    const bool text = length == 0 || cof_text_valid(cof_slice_of(data, length));
    fprintf(out, text ? "\"%s\": \"" : "\"%sBase64\": \"", name);
    if (text && length > 0) {
        write_characters(out, data, length);
    } else if (!text) {
        write_base64(out, data, length);
    }
    (void) fputc('"', out);
}

static void write_time(FILE *out, const Google__Protobuf__Timestamp *time)
{
    char text[TIME_TEXT];
    struct tm parts;
    const time_t seconds = (time_t) time->seconds;
    if (gmtime_r(&seconds, &parts) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        fprintf(out, "%" PRId64, time->seconds);
        return;
    }
    fprintf(out, "\"%s\"", text);
}

/* --- Messages ------------------------------------------------------------------------------------------------- */

static void write_message(FILE *out, const ProtobufCMessage *message, unsigned depth);

static void write_line(FILE *out, unsigned depth)
{
    fprintf(out, "\n%*s", (int) (2 * depth), "");
}

void cli_json_field_name(const ProtobufCFieldDescriptor *field, char *ret_name)
{
    bool upper = false;
    size_t length = 0;
    for (const char *at = field->name; *at != '\0' && length + 1 < MESSAGE_NAME; at++) {
        if (*at != '_') {
            const char letter = *at;
            ret_name[length++] = (char) (upper && letter >= 'a' && letter <= 'z' ? letter - 'a' + 'A' : letter);
        }
        upper = *at == '_';
    }
    ret_name[length] = '\0';
}

void cli_json_name(FILE *out, const ProtobufCFieldDescriptor *field)
{
    char name[MESSAGE_NAME];
    cli_json_field_name(field, name);
    fprintf(out, "\"%s\": ", name);
}

static void write_enum(FILE *out, const ProtobufCFieldDescriptor *field, const void *at)
{
    int number;
    memcpy(&number, at, sizeof number);
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(field->descriptor, number);
    if (value == NULL) {
        fprintf(out, "%d", number);
    } else {
        cli_json_text(out, value->name);
    }
}

static void write_number(FILE *out, ProtobufCType type, const void *at)
{
    uint64_t wide;
    uint32_t narrow;
    if (type == PROTOBUF_C_TYPE_UINT64 || type == PROTOBUF_C_TYPE_INT64) {
        memcpy(&wide, at, sizeof wide);
        type == PROTOBUF_C_TYPE_INT64 ? fprintf(out, "%" PRId64, (int64_t) wide) : fprintf(out, "%" PRIu64, wide);
    } else {
        memcpy(&narrow, at, sizeof narrow);
        type == PROTOBUF_C_TYPE_INT32 ? fprintf(out, "%" PRId32, (int32_t) narrow)
                                      : fprintf(out, "%" PRIu32, narrow);
    }
}

/* What stands at `at`: a value of the field, or an element of it. Bytes are written with their name. */
static void write_value(FILE *out, const ProtobufCFieldDescriptor *field, const void *at, unsigned depth)
{
    const void *pointer = NULL;
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE) {
        memcpy(&pointer, at, sizeof pointer);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        cli_json_text(out, pointer == NULL ? "" : pointer);
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE &&
               field->descriptor == &google__protobuf__timestamp__descriptor) {
        write_time(out, pointer);
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        write_message(out, pointer, depth);
    } else if (field->type == PROTOBUF_C_TYPE_BOOL) {
        protobuf_c_boolean flag;
        memcpy(&flag, at, sizeof flag);
        fputs(flag ? "true" : "false", out);
    } else if (field->type == PROTOBUF_C_TYPE_ENUM) {
        write_enum(out, field, at);
    } else {
        write_number(out, field->type, at);
    }
}

static size_t size_of(ProtobufCType type)
{
    if (type == PROTOBUF_C_TYPE_STRING || type == PROTOBUF_C_TYPE_MESSAGE) {
        return sizeof(void *);
    }
    return type == PROTOBUF_C_TYPE_UINT64 || type == PROTOBUF_C_TYPE_INT64 ? sizeof(uint64_t) : sizeof(uint32_t);
}

size_t cli_repeated(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, const void **ret_items)
{
    size_t count;
    const char *base = (const char *) message;
    memcpy(&count, base + field->quantifier_offset, sizeof count);
    memcpy(ret_items, base + field->offset, sizeof *ret_items);
    return count;
}

size_t cli_json_items(FILE *out, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                      size_t before, unsigned depth)
{
    const void *items = NULL;
    const size_t count = cli_repeated(message, field, &items);
    for (size_t i = 0; i < count; i++) {
        fputs(before + i == 0 ? "" : ",", out);
        write_line(out, depth + 1);
        write_value(out, field, (const char *) items + i * size_of(field->type), depth + 1);
    }
    return before + count;
}

/* A message that is not set, and the branch of a oneof that is not taken, are not written. */
static bool is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *) message;
    const void *pointer;
    uint32_t branch;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        memcpy(&branch, base + field->quantifier_offset, sizeof branch);
        return branch == field->id;
    }
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED) {
        return true;
    }
    memcpy(&pointer, base + field->offset, sizeof pointer);
    return pointer != NULL;
}

static void write_field(FILE *out, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                        unsigned depth)
{
    const char *at = (const char *) message + field->offset;
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        char name[MESSAGE_NAME];
        ProtobufCBinaryData bytes;
        cli_json_field_name(field, name);
        memcpy(&bytes, at, sizeof bytes);
        cli_json_bytes(out, name, bytes.data, bytes.len);
        return;
    }
    cli_json_name(out, field);
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        write_value(out, field, at, depth);
        return;
    }
    (void) fputc('[', out);
    if (cli_json_items(out, message, field, 0, depth) > 0) {
        write_line(out, depth);
    }
    (void) fputc(']', out);
}

static struct {
    const size_t *at;
    size_t count;
    const ProtobufCMessageDescriptor *of; /* NULL: everything is written */
} chosen;

void cli_json_choose(const ProtobufCMessageDescriptor *of, const size_t *fields, size_t count)
{
    chosen.at = fields;
    chosen.count = count;
    chosen.of = of;
}

static bool is_chosen(const ProtobufCMessage *message, size_t field)
{
    bool found = message->descriptor != chosen.of;
    for (size_t i = 0; !found && i < chosen.count; i++) {
        found = chosen.at[i] == field;
    }
    return found;
}

/* Returns whether there was one. */
static bool write_fields(FILE *out, const ProtobufCMessage *message, unsigned depth)
{
    bool any = false;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (!is_set(message, field) || !is_chosen(message, i)) {
            continue;
        }
        fputs(any ? "," : "", out);
        write_line(out, depth + 1);
        write_field(out, message, field, depth + 1);
        any = true;
    }
    return any;
}

static void write_message(FILE *out, const ProtobufCMessage *message, unsigned depth)
{
    (void) fputc('{', out);
    if (write_fields(out, message, depth)) {
        write_line(out, depth);
    }
    (void) fputc('}', out);
}

void cli_json_members(FILE *out, const ProtobufCMessage *message)
{
    (void) write_fields(out, message, 0);
}

/* Line breaks in texts are escaped, so all that there are, with the blanks behind them, are form. */
static void write_one_line(FILE *out, const ProtobufCMessage *message)
{
    char *text = NULL;
    size_t length = 0;
    FILE *whole = open_memstream(&text, &length);
    if (whole == NULL) {
        return;
    }
    write_message(whole, message, 0);
    if (fclose(whole) == 0) {
        for (const char *at = text; *at != '\0'; at++) {
            if (*at == '\n') {
                at += strspn(at + 1, " ");
            } else {
                (void) fputc(*at, out);
            }
        }
    }
    free(text);
}

void cli_json_line(FILE *out, const ProtobufCMessage *message)
{
    write_one_line(out, message);
    (void) fputc('\n', out);
}

void cli_json_redacted(FILE *out, const ProtobufCMessage *message)
{
    redacted = true;
    write_one_line(out, message);
    redacted = false;
}

void cli_json_message(FILE *out, const ProtobufCMessage *message)
{
    write_message(out, message, 0);
    (void) fputc('\n', out);
}
