#include "client/cli/rpc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/rpc/v1/reflection.pb-c.h>

#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "client/cli/trace.h"
#include "client/reflect/message_pack.h"
#include "client/reflect/message_print.h"
#include "client/reflect/schema.h"
#include "client/reflect/schema_print.h"

/*
 * Calls of any method, by the descriptors that the server tells: they may be of a newer server than this program. Requests
 * and answers may hold values, so all of it lies in locked memory.
 */

enum { MEMORY = 128 << 20, JSON_MAX = 2 << 20, REQUEST_MAX = 1 << 20, ABOUT = 200 };

struct rpc {
    struct cof_pool *pool;
    struct cof_arena arena;
    struct schema schema;
};

static void rpc_done(struct rpc *rpc)
{
    if (rpc->pool != NULL) {
        cof_arena_reset(&rpc->arena);
        cof_pool_free(rpc->pool);
    }
}

static cli_exit fail(const struct cof_error *err)
{
    return cli_refuse(cli_exit_of((coffer_status) err->code), NULL, "%s", err->message);
}

/* --- The server's descriptors --------------------------------------------------------------------------------- */

static cli_exit read_schema(struct rpc *rpc, const ProtobufCMessage *answer)
{
    const Coffer__Rpc__V1__GetFileDescriptorSetResponse *response =
        (const Coffer__Rpc__V1__GetFileDescriptorSetResponse *) (const void *) answer;
    struct cof_error err = {0};
    const struct cof_slice set =
        cof_slice_of(response->file_descriptor_set.data, response->file_descriptor_set.len);
    return schema_read(set, &rpc->arena, &rpc->schema, &err) == COF_OK ? CLI_OK : fail(&err);
}

static cli_exit rpc_init(struct cli *cli, struct rpc *rpc)
{
    Coffer__Rpc__V1__GetFileDescriptorSetRequest request;
    ProtobufCMessage *answer = NULL;
    struct cof_error err = {0};
    if (cof_pool_new(MEMORY, COF_LOCK_BEST_EFFORT, &rpc->pool, &err) != COF_OK) {
        return cli_no_memory();
    }
    cof_arena_init(&rpc->arena, rpc->pool, MEMORY);
    coffer__rpc__v1__get_file_descriptor_set_request__init(&request);
    cli_exit code = cli_call(cli, "coffer.rpc.v1.ReflectionService/GetFileDescriptorSet", &request.base,
                             &coffer__rpc__v1__get_file_descriptor_set_response__descriptor, &answer);
    if (code == CLI_OK) {
        code = read_schema(rpc, answer);
    }
    cli_free_message(answer);
    return code;
}

/* What the first argument names; `kind` is asked for, or anything if there is none. */
static cli_exit find(const struct rpc *rpc, const char *name, const schema_kind *kind,
                     const struct schema_entry **ret_entry)
{
    static const char hint[] = "coffer rpc list names the methods";
    const struct schema_entry *entry = schema_find(&rpc->schema, cof_slice_text(name));
    const char *near = entry == NULL ? schema_near(&rpc->schema, cof_slice_text(name)) : NULL;
    if (near != NULL) {
        return cli_refuse(CLI_NOT_FOUND, hint, "the server has nothing of this name; did you mean %s?", near);
    }
    if (entry == NULL) {
        return cli_refuse(CLI_NOT_FOUND, hint, "the server has nothing of this name, or several");
    }
    if (kind != NULL && entry->kind != *kind) {
        return cli_refuse(CLI_NOT_FOUND, hint, "%s is no %s", entry->name,
                          *kind == SCHEMA_METHOD ? "method" : "service");
    }
    *ret_entry = entry;
    return CLI_OK;
}

/* --- list ----------------------------------------------------------------------------------------------------- */

static bool is_method_of(const struct schema_entry *entry, const struct schema_entry *service)
{
    const size_t length = service == NULL ? 0 : strlen(service->name);
    return entry->kind == SCHEMA_METHOD &&
           (service == NULL || (strncmp(entry->name, service->name, length) == 0 && entry->name[length] == '/'));
}

static void list(const struct cli *cli, const struct rpc *rpc, const struct schema_entry *service)
{
    static const char *const headers[] = {"METHOD", "ABOUT"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    for (size_t i = 0; i < rpc->schema.count; i++) {
        const struct schema_entry *entry = &rpc->schema.entries[i];
        char about[ABOUT];
        if (is_method_of(entry, service)) {
            schema_summary(entry->comment, about, sizeof about);
            cli_table_add(table, entry->name);
            cli_table_add(table, about);
        }
    }
    if (cli->json) {
        cli_table_print_json(table, "methods");
    } else {
        cli_table_print(table);
    }
}

cli_exit cmd_rpc_list(struct cli *cli)
{
    const schema_kind kind = SCHEMA_SERVICE;
    const struct schema_entry *service = NULL;
    struct rpc rpc = {0};
    cli_exit code = rpc_init(cli, &rpc);
    if (code == CLI_OK && cli->argument_count > 0) {
        code = find(&rpc, cli->arguments[0], &kind, &service);
    }
    if (code == CLI_OK) {
        list(cli, &rpc, service);
    }
    rpc_done(&rpc);
    return code;
}

/* --- describe ------------------------------------------------------------------------------------------------- */

static cli_exit describe_as_json(const struct rpc *rpc, const struct schema_entry *entry)
{
    static const char *const kinds[] = {[SCHEMA_MESSAGE] = "message",
                                        [SCHEMA_ENUM] = "enum",
                                        [SCHEMA_SERVICE] = "service",
                                        [SCHEMA_METHOD] = "method"};
    char *text = NULL;
    size_t length = 0;
    assert(entry != NULL);
    FILE *out = open_memstream(&text, &length);
    if (out == NULL) {
        return cli_no_memory();
    }
    schema_print(out, &rpc->schema, entry);
    if (fclose(out) != 0) {
        free(text);
        return cli_no_memory();
    }
    printf("{\n  \"name\": \"%s\",\n  \"kind\": \"%s\",\n  \"text\": ", entry->name, kinds[entry->kind]);
    cli_json_text(stdout, text);
    fputs("\n}\n", stdout);
    free(text);
    return CLI_OK;
}

cli_exit cmd_rpc_describe(struct cli *cli)
{
    const struct schema_entry *entry = NULL;
    struct rpc rpc = {0};
    cli_exit code = rpc_init(cli, &rpc);
    if (code == CLI_OK) {
        code = find(&rpc, cli->arguments[0], NULL, &entry);
    }
    if (code == CLI_OK && cli->json) {
        code = describe_as_json(&rpc, entry);
    } else if (code == CLI_OK) {
        schema_print(stdout, &rpc.schema, entry);
    }
    rpc_done(&rpc);
    return code;
}

/* --- call ----------------------------------------------------------------------------------------------------- */

static cli_exit read_all(int fd, const char *from, struct rpc *rpc, struct cof_slice *ret_json)
{
    uint8_t *bytes = cof_arena_alloc(&rpc->arena, JSON_MAX + 1);
    size_t length = 0;
    ssize_t got = 1;
    if (bytes == NULL) {
        return cli_no_memory();
    }
    while (got > 0 && length <= JSON_MAX) {
        got = read(fd, bytes + length, JSON_MAX + 1 - length);
        length += got > 0 ? (size_t) got : 0;
    }
    if (got < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", from, strerror(errno));
    }
    if (length > JSON_MAX) {
        return cli_refuse(CLI_LIMIT, NULL, "%s holds more than 2 MiB, from which no request can be made", from);
    }
    *ret_json = cof_slice_of(bytes, length);
    return CLI_OK;
}

/* The JSON that --data names; without it an object without fields. Text in its place is not shown: it could be a value.
 */
static cli_exit read_data(const struct cli *cli, struct rpc *rpc, struct cof_slice *ret_json)
{
    if (cli->data == NULL) {
        *ret_json = cof_slice_text("{}");
        return CLI_OK;
    }
    if (strcmp(cli->data, "-") == 0) {
        return read_all(STDIN_FILENO, "standard input", rpc, ret_json);
    }
    if (cli->data[0] != '@') {
        return cli_usage("coffer rpc call METHOD --data - <<< '{\"name\": \"slack\"}'",
                         "--data takes @FILE, or - for standard input: what stands on the command line can be read "
                         "by everybody on the machine");
    }
    const char *path = cli->data + 1;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be opened: %s", path, strerror(errno));
    }
    const cli_exit code = read_all(fd, path, rpc, ret_json);
    (void) close(fd);
    return code;
}

static cli_exit print_answer(struct rpc *rpc, const struct schema_entry *method, const coffer_reply *reply)
{
    const coffer_bytes payload = coffer_reply_payload(reply);
    struct cof_slice json = {NULL, 0};
    struct cof_error err = {0};
    if (message_print(method->output, cof_slice_of(payload.data, payload.length), &rpc->arena, &json, &err) !=
        COF_OK) {
        return fail(&err);
    }
    (void) fwrite(json.data, 1, json.len, stdout);
    return CLI_OK;
}

static cli_exit call(struct cli *cli, struct rpc *rpc, const struct schema_entry *method, struct cof_slice json)
{
    struct cof_slice request = {NULL, 0};
    struct cof_error err = {0};
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    assert(method != NULL);
    options.traceparent = trace_parent();
    if (method->streams) {
        return cli_refuse(CLI_ERROR, NULL, "%s streams, which this coffer cannot", method->name);
    }
    if (message_pack(method->input, json, REQUEST_MAX, &rpc->arena, &request, &err) != COF_OK) {
        return fail(&err);
    }
    const struct trace trace = trace_begin(method->name);
    progress_begin("waiting for the server");
    const coffer_status status =
        coffer_call(cli->client, method->name, request.data, request.len, &options, &reply, &error);
    progress_end();
    trace_end(&trace, &(struct trace_end){.error = error,
                                          .request_id = reply == NULL ? NULL : coffer_reply_request_id(reply),
                                          .server_time_us = reply == NULL ? 0 : coffer_reply_server_time_us(reply),
                                          .attempts = reply == NULL ? 0 : coffer_reply_attempts(reply)});
    if (status != COFFER_OK) {
        const cli_exit code = cli_fail(error);
        coffer_error_free(error);
        return code;
    }
    const cli_exit code = print_answer(rpc, method, reply);
    coffer_reply_free(reply);
    return code;
}

cli_exit cmd_rpc_call(struct cli *cli)
{
    const schema_kind kind = SCHEMA_METHOD;
    const struct schema_entry *method = NULL;
    struct cof_slice json = {NULL, 0};
    struct rpc rpc = {0};
    cli_exit code = rpc_init(cli, &rpc);
    if (code == CLI_OK) {
        code = find(&rpc, cli->arguments[0], &kind, &method);
    }
    if (code == CLI_OK) {
        code = read_data(cli, &rpc, &json);
    }
    if (code == CLI_OK) {
        code = call(cli, &rpc, method, json);
    }
    rpc_done(&rpc);
    return code;
}

/* --- Messages of other commands ------------------------------------------------------------------------------- */

static cli_exit unpack_data(struct rpc *rpc, const struct schema_entry *entry, struct cof_slice json,
                            const ProtobufCMessageDescriptor *descriptor, ProtobufCMessage **ret_message)
{
    struct cof_slice bytes = {NULL, 0};
    struct cof_error err = {0};
    if (message_pack(entry, json, REQUEST_MAX, &rpc->arena, &bytes, &err) != COF_OK) {
        return fail(&err);
    }
    *ret_message = protobuf_c_message_unpack(descriptor, NULL, bytes.len, bytes.data);
    return *ret_message == NULL ? cli_no_memory() : CLI_OK;
}

cli_exit rpc_read_data(struct cli *cli, const ProtobufCMessageDescriptor *descriptor,
                       ProtobufCMessage **ret_message)
{
    const schema_kind kind = SCHEMA_MESSAGE;
    const struct schema_entry *entry = NULL;
    struct cof_slice json = {NULL, 0};
    struct rpc rpc = {0};
    cli_exit code = rpc_init(cli, &rpc);
    if (code == CLI_OK) {
        code = find(&rpc, descriptor->name, &kind, &entry);
    }
    if (code == CLI_OK) {
        code = read_data(cli, &rpc, &json);
    }
    if (code == CLI_OK) {
        code = unpack_data(&rpc, entry, json, descriptor, ret_message);
    }
    rpc_done(&rpc);
    return code;
}
