#include "client/cli/page.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/fields.h"
#include "client/cli/message.h"
#include "client/cli/progress.h"

enum { PAGE_SIZE = 1000 };

/* Where what came goes, one of them, and how many items there were. */
struct output {
    struct cli_table *table;
    bool json;
    bool lines; /* of JSON */
    bool begun;
    size_t count;
};

static void *field_at(ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
    assert(field != NULL);
    return (char *) message + field->offset;
}

/* {"items": [ */
static void begin(struct output *output, const ProtobufCFieldDescriptor *field)
{
    if (!output->begun) {
        fputs("{\n  ", stdout);
        cli_json_name(stdout, field);
        fputs("[", stdout);
    }
    output->begun = true;
}

static void add_page(struct output *output, const struct list *list, const ProtobufCMessage *answer)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(list->response, list->items);
    const void *first = NULL;
    assert(field != NULL && field->label == PROTOBUF_C_LABEL_REPEATED);
    if (output->lines) {
        const size_t lines = cli_repeated(answer, field, &first);
        for (size_t i = 0; i < lines; i++) {
            cli_json_line(stdout, ((const ProtobufCMessage *const *) first)[i]);
        }
        return;
    }
    if (output->json) {
        begin(output, field);
        output->count = cli_json_items(stdout, answer, field, output->count, 1);
        return;
    }
    const size_t count = cli_repeated(answer, field, &first);
    const ProtobufCMessage *const *items = first;
    for (size_t i = 0; i < count; i++) {
        list->row(output->table, items[i]);
    }
    output->count += count;
}

/* One page; `token` is that of the page and becomes that of the next, "" at the end. */
static cli_exit one_page(struct cli *cli, const struct list *list, ProtobufCMessage *request, char **token,
                         struct output *output)
{
    ProtobufCMessage *answer = NULL;
    char *next = NULL;
    memcpy(field_at(request, "page_token"), token, sizeof *token);
    const cli_exit code = cli_call(cli, list->method, request, list->response, &answer);
    if (code != CLI_OK) {
        return code;
    }
    add_page(output, list, answer);
    memcpy(&next, field_at(answer, "next_page_token"), sizeof next);
    next = strdup(next);
    free(*token);
    *token = next;
    cli_free_message(answer);
    return next == NULL ? cli_no_memory() : CLI_OK;
}

static void end(const struct output *output)
{
    fputs(output->count == 0 ? "]\n}\n" : "\n  ]\n}\n", stdout);
}

static void finish(struct output *output, const struct fields *fields)
{
    if (output->json && !output->lines) {
        end(output);
    }
    if (output->json) {
        return;
    }
    if (fields->count > 0) {
        cli_table_choose(output->table, fields->at, fields->count);
    }
    cli_table_print(output->table);
    output->table = NULL;
}

cli_exit list_all(struct cli *cli, const struct list *list, ProtobufCMessage *request)
{
    const uint32_t size = PAGE_SIZE;
    struct output output = {.json = cli->json, .lines = cli->lines};
    struct fields fields = {.count = 0};
    if (cli->fields != NULL && strcmp(cli->fields, "help") == 0) {
        fields_print(list, cli->json);
        return CLI_OK;
    }
    cli_exit code = cli->fields == NULL ? CLI_OK : fields_read(cli->fields, list, cli->json, &fields);
    if (code != CLI_OK) {
        return code;
    }
    char *token = strdup("");
    code = token == NULL ? cli_no_memory() : CLI_OK;
    cli_json_choose(fields.count == 0 ? NULL : fields_item(list), fields.at, fields.count);
    memcpy(field_at(request, "page_size"), &size, sizeof size);
    if (!output.json) {
        output.table = cli_table_new(list->headers, list->columns);
        cli_table_none(output.table, list->none);
    }
    progress_begin("reading the list");
    do {
        code = code == CLI_OK ? one_page(cli, list, request, &token, &output) : code;
        progress_count(output.count, 0);
    } while (code == CLI_OK && token[0] != '\0');
    progress_end();
    free(token);
    cli_json_choose(NULL, NULL, 0);
    if (code == CLI_OK) {
        finish(&output, &fields);
    }
    cli_table_free(output.table);
    return code;
}
