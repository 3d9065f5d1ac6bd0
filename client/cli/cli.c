#include "client/cli/cli.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "client/cli/trace.h"

#define SYSTEM_WORKSPACE "00000000-0000-0000-0000-000000000000"

/* --- Where a request goes ------------------------------------------------------------------------------------- */

char *cli_workspace(const struct cli *cli)
{
    static char nothing[] = "";
    static char system_workspace[] = SYSTEM_WORKSPACE;
    char *given = cli->workspace != NULL ? cli->workspace : getenv("COFFER_WORKSPACE");
    if (cli->workspace == NULL && cli->kind != NULL) {
        return system_workspace;
    }
    if (given == NULL || given[0] == '\0') {
        given = cli->from_profile.workspace;
    }
    if (given != NULL && strcmp(given, "system") == 0) {
        return system_workspace;
    }
    return given == NULL ? nothing : given;
}

char *cli_environment(const struct cli *cli)
{
    static char nothing[] = "";
    char *given = cli->environments.count > 0 ? cli->environments.items[0] : getenv("COFFER_ENVIRONMENT");
    if (given == NULL || given[0] == '\0') {
        given = cli->from_profile.environment;
    }
    return given == NULL ? nothing : given;
}

/* Quotes as the settings of coffer_client_open want it: a path may hold spaces. */
static void add_setting(FILE *settings, const char *key, const char *value)
{
    if (value == NULL) {
        return;
    }
    fprintf(settings, "%s='", key);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\') {
            (void) fputc('\\', settings);
        }
        (void) fputc(*value, settings);
    }
    fputs("' ", settings);
}

/* A workspace that is named as "system" in the variable must not reach the library, which wants a UUID. */
char *cli_settings(const struct cli *cli)
{
    char *text = NULL;
    size_t length = 0;
    FILE *settings = open_memstream(&text, &length);
    if (settings == NULL) {
        return NULL;
    }
    fputs("application_name=coffer-cli ", settings);
    add_setting(settings, "addr", cli->address);
    add_setting(settings, "token_file", cli->token_file);
    add_setting(settings, "cacert", cli->cacert);
    add_setting(settings, "client_cert", cli->client_cert);
    add_setting(settings, "client_key", cli->client_key);
    add_setting(settings, "tls_server_name", cli->tls_server_name);
    add_setting(settings, "timeout", cli->timeout);
    add_setting(settings, "insecure_transport", cli->insecure_transport ? "yes" : NULL);
    if (cli_workspace(cli)[0] != '\0') {
        add_setting(settings, "workspace", cli_workspace(cli));
    }
    if (fclose(settings) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

cli_exit cli_connect(struct cli *cli)
{
    coffer_error *error = NULL;
    cli_exit code = CLI_OK;
    if (cli->client != NULL) {
        return CLI_OK;
    }
    char *settings = cli_settings(cli);
    if (settings == NULL) {
        return cli_no_memory();
    }
    if (coffer_client_open(settings, &cli->client, &error) != COFFER_OK) {
        code = cli_fail(error);
        coffer_error_free(error);
    }
    free(settings);
    return code;
}

/* --- Calls ---------------------------------------------------------------------------------------------------- */

struct method {
    const char *name;
    const ProtobufCMessageDescriptor *response;
    coffer_reason expected;
};

static cli_exit fail_unless_expected(const struct method *method, const coffer_error *error)
{
    const bool expected = method->expected != COFFER_REASON_NONE && coffer_error_reason(error) == method->expected;
    return expected ? CLI_OK : cli_fail(error);
}

/* The bytes are the packed request, and are wiped by who made them. */
static cli_exit call_packed(struct cli *cli, const struct method *method, const ProtobufCMessage *request,
                            coffer_bytes packed, ProtobufCMessage **ret_response)
{
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    assert(command_may_call(cli->command, method->name));
    options.traceparent = trace_parent();
    const struct trace trace = trace_begin(method->name);
    progress_begin("waiting for the server");
    const coffer_status status =
        coffer_call(cli->client, method->name, packed.data, packed.length, &options, &reply, &error);
    progress_end();
    trace_end(&trace, &(struct trace_end){.request = request,
                                          .error = error,
                                          .request_id = reply == NULL ? NULL : coffer_reply_request_id(reply),
                                          .server_time_us = reply == NULL ? 0 : coffer_reply_server_time_us(reply),
                                          .attempts = reply == NULL ? 0 : coffer_reply_attempts(reply)});
    if (status != COFFER_OK) {
        const cli_exit code = fail_unless_expected(method, error);
        coffer_error_free(error);
        return code;
    }
    const coffer_bytes payload = coffer_reply_payload(reply);
    *ret_response = protobuf_c_message_unpack(method->response, NULL, payload.length, payload.data);
    coffer_reply_free(reply);
    if (*ret_response == NULL) {
        return cli_refuse(CLI_ERROR, "coffer status shows the server's version", "the answer cannot be decoded");
    }
    return CLI_OK;
}

static cli_exit call(struct cli *cli, const struct method *method, const ProtobufCMessage *request,
                     ProtobufCMessage **ret_response)
{
    const cli_exit connected = cli_connect(cli);
    *ret_response = NULL;
    if (connected != CLI_OK) {
        return connected;
    }
    const size_t length = protobuf_c_message_get_packed_size(request);
    uint8_t *packed = malloc(length + 1);
    if (packed == NULL) {
        return cli_no_memory();
    }
    (void) protobuf_c_message_pack(request, packed);
    const cli_exit code = call_packed(cli, method, request, (coffer_bytes){packed, length}, ret_response);
    explicit_bzero(packed, length);
    free(packed);
    return code;
}

cli_exit cli_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *response, ProtobufCMessage **ret_response)
{
    return call(cli, &(struct method){method, response, COFFER_REASON_NONE}, request, ret_response);
}

cli_exit cli_try(struct cli *cli, const char *method, const ProtobufCMessage *request,
                 const ProtobufCMessageDescriptor *response, coffer_reason expected,
                 ProtobufCMessage **ret_response)
{
    return call(cli, &(struct method){method, response, expected}, request, ret_response);
}

cli_exit cli_do_try(struct cli *cli, const struct cli_method *method, const ProtobufCMessage *request,
                    coffer_reason expected, bool *ret_done)
{
    ProtobufCMessage *answer = NULL;
    const cli_exit code = cli_try(cli, method->name, request, method->response, expected, &answer);
    *ret_done = answer != NULL;
    if (answer != NULL && cli->json) {
        cli_json_message(stdout, answer);
    } else if (answer != NULL) {
        method->show(cli, answer);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cli_do(struct cli *cli, const struct cli_method *method, const ProtobufCMessage *request)
{
    bool done = false;
    return cli_do_try(cli, method, request, COFFER_REASON_NONE, &done);
}

void cli_free_message(ProtobufCMessage *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}
