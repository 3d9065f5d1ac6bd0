#include "client/cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct exit_row {
    coffer_status status;
    cli_exit code;
};

static const struct exit_row exits[] = {
    {COFFER_NOT_FOUND, CLI_NOT_FOUND},       {COFFER_UNAUTHENTICATED, CLI_NOT_LOGGED_IN},
    {COFFER_PERMISSION_DENIED, CLI_DENIED},  {COFFER_ALREADY_EXISTS, CLI_CONFLICT},
    {COFFER_ABORTED, CLI_CONFLICT},          {COFFER_FAILED_PRECONDITION, CLI_CONFLICT},
    {COFFER_UNAVAILABLE, CLI_UNAVAILABLE},   {COFFER_DEADLINE_EXCEEDED, CLI_UNAVAILABLE},
    {COFFER_INVALID_ARGUMENT, CLI_REJECTED}, {COFFER_OUT_OF_RANGE, CLI_REJECTED},
    {COFFER_RESOURCE_EXHAUSTED, CLI_LIMIT},
};

static cli_exit exit_of(coffer_status status)
{
    for (size_t i = 0; i < COF_COUNT(exits); i++) {
        if (exits[i].status == status) {
            return exits[i].code;
        }
    }
    return CLI_ERROR;
}

cli_exit cli_fail(const coffer_error *error)
{
    const char *request_id = coffer_error_request_id(error);
    fprintf(stderr, "coffer: %s\n", coffer_error_message(error));
    if (request_id[0] != '\0') {
        fprintf(stderr, "  request: %s  (%s)\n", request_id, coffer_reason_name(coffer_error_reason(error)));
    }
    return exit_of(coffer_error_status(error));
}

cli_exit cli_usage(const char *hint, const char *format, ...)
{
    va_list args;
    fputs("coffer: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    if (hint != NULL) {
        fprintf(stderr, "  hint: %s\n", hint);
    }
    return CLI_USAGE;
}

/* Quotes as the settings of coffer_client_open want it: a path may hold spaces. */
static void add_setting(char *settings, size_t size, const char *key, const char *value)
{
    size_t used = strlen(settings);
    used += (size_t) snprintf(settings + used, size - used, "%s='", key);
    for (; *value != '\0' && used + 4 < size; value++) {
        if (*value == '\'' || *value == '\\') {
            settings[used++] = '\\';
        }
        settings[used++] = *value;
    }
    (void) snprintf(settings + used, size - used, "' ");
}

cli_exit cli_connect(struct cli *cli)
{
    char settings[2048] = "application_name=coffer-cli ";
    coffer_error *error = NULL;
    if (cli->client != NULL) {
        return CLI_OK;
    }
    if (cli->address != NULL) {
        add_setting(settings, sizeof settings, "addr", cli->address);
    }
    if (cli->token_file != NULL) {
        add_setting(settings, sizeof settings, "token_file", cli->token_file);
    }
    if (coffer_client_open(settings, &cli->client, &error) != COFFER_OK) {
        const cli_exit code = cli_fail(error);
        coffer_error_free(error);
        return code;
    }
    return CLI_OK;
}

static cli_exit call_packed(struct cli *cli, const char *method, const uint8_t *packed, size_t length,
                            const ProtobufCMessageDescriptor *response, ProtobufCMessage **ret_response)
{
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    if (coffer_call(cli->client, method, packed, length, NULL, &reply, &error) != COFFER_OK) {
        const cli_exit code = cli_fail(error);
        coffer_error_free(error);
        return code;
    }
    const coffer_bytes payload = coffer_reply_payload(reply);
    *ret_response = protobuf_c_message_unpack(response, NULL, payload.length, payload.data);
    coffer_reply_free(reply);
    if (*ret_response == NULL) {
        fputs("coffer: the answer cannot be decoded; check the server's version with coffer status\n", stderr);
        return CLI_ERROR;
    }
    return CLI_OK;
}

cli_exit cli_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *response, ProtobufCMessage **ret_response)
{
    const cli_exit connected = cli_connect(cli);
    if (connected != CLI_OK) {
        return connected;
    }
    const size_t length = protobuf_c_message_get_packed_size(request);
    uint8_t *packed = malloc(length + 1);
    if (packed == NULL) {
        fputs("coffer: there is no memory left\n", stderr);
        return CLI_ERROR;
    }
    (void) protobuf_c_message_pack(request, packed);
    const cli_exit code = call_packed(cli, method, packed, length, response, ret_response);
    explicit_bzero(packed, length);
    free(packed);
    return code;
}

void cli_free_message(ProtobufCMessage *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}
