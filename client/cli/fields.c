#include "client/cli/fields.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/message.h"

const ProtobufCMessageDescriptor *fields_item(const struct list *list)
{
    const ProtobufCFieldDescriptor *items =
        protobuf_c_message_descriptor_get_field_by_name(list->response, list->items);
    return items->descriptor;
}

static size_t count_of(const struct list *list, bool json)
{
    return json ? fields_item(list)->n_fields : list->columns;
}

/* A column is named as its header, in lower case and without blanks: "last-used". */
static void name_at(const struct list *list, bool json, size_t at, char name[MESSAGE_NAME])
{
    if (json) {
        cli_json_field_name(&fields_item(list)->fields[at], name);
        return;
    }
    const char *header = list->headers[at];
    size_t length = 0;
    for (; header[length] != '\0' && length + 1 < MESSAGE_NAME; length++) {
        name[length] = (char) (header[length] == ' ' ? '-' : tolower((unsigned char) header[length]));
    }
    name[length] = '\0';
}

void fields_print(const struct list *list, bool json)
{
    char name[MESSAGE_NAME];
    for (size_t i = 0; i < count_of(list, json); i++) {
        name_at(list, json, i, name);
        puts(name);
    }
}

static cli_exit unknown(const struct list *list, bool json, const char *word)
{
    char *hint = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&hint, &length);
    if (out == NULL) {
        return cli_no_memory();
    }
    fputs("--fields takes", out);
    for (size_t i = 0; i < count_of(list, json); i++) {
        char name[MESSAGE_NAME];
        name_at(list, json, i, name);
        fprintf(out, "%s %s", i == 0 ? "" : ",", name);
    }
    cli_exit code = fclose(out) == 0 ? CLI_OK : cli_no_memory();
    if (code == CLI_OK) {
        code = cli_usage(hint, "there is no field \"%s\"%s", word,
                         json ? " in the JSON of this list" : " in this list");
    }
    free(hint);
    return code;
}

static bool find(const struct list *list, bool json, const char *word, size_t *ret_at)
{
    for (size_t i = 0; i < count_of(list, json); i++) {
        char name[MESSAGE_NAME];
        name_at(list, json, i, name);
        if (strcmp(name, word) == 0) {
            *ret_at = i;
            return true;
        }
    }
    return false;
}

cli_exit fields_read(const char *text, const struct list *list, bool json, struct fields *ret_fields)
{
    struct fields fields = {.count = 0};
    char *copy = strdup(text);
    char *next = copy;
    cli_exit code = copy == NULL ? cli_no_memory() : CLI_OK;
    while (code == CLI_OK && next != NULL) {
        const char *word = strsep(&next, ",");
        size_t at = 0;
        if (!find(list, json, word, &at)) {
            code = unknown(list, json, word);
        } else if (fields.count == FIELDS_MAX) {
            code = cli_usage(NULL, "--fields has more than %d names", FIELDS_MAX);
        } else {
            fields.at[fields.count++] = at;
        }
    }
    free(copy);
    *ret_fields = fields;
    return code;
}
