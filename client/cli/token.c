#include "client/cli/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <coffer/v1/identity.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/grant.h"
#include "client/cli/message.h"
#include "client/cli/moment.h"
#include "client/cli/page.h"

#define SERVICE "coffer.v1.TokenService/"

/* --- Issue and rotate ----------------------------------------------------------------------------------------- */

/* Where a token goes: opened before the token is issued, since it is shown only once. */
static cli_exit open_out(const struct cli *cli, int *ret_fd)
{
    *ret_fd = STDOUT_FILENO;
    if (cli->out == NULL) {
        return CLI_OK;
    }
    *ret_fd = open(cli->out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    return *ret_fd >= 0 ? CLI_OK
                        : cli_refuse(CLI_ERROR, NULL, "%s cannot be made: %s; no token was issued", cli->out,
                                     strerror(errno));
}

bool token_write(int fd, const void *data, size_t length)
{
    const uint8_t *bytes = data;
    size_t done = 0;
    while (done < length) {
        const ssize_t wrote = write(fd, bytes + done, length - done);
        if (wrote <= 0) {
            return false;
        }
        done += (size_t) wrote;
    }
    return true;
}

static cli_exit write_token(const struct cli *cli, int fd, ProtobufCBinaryData text, const Coffer__V1__Token *token)
{
    const char *to = cli->out == NULL ? "standard output" : cli->out;
    if (token_write(fd, text.data, text.len) && token_write(fd, "\n", 1)) {
        return CLI_OK;
    }
    return cli_refuse(CLI_ERROR, "coffer token revoke UID", "%s cannot be written: %s; the token %s is lost", to,
                      strerror(errno), token->uid);
}

/* A new token in an answer. */
struct handed {
    ProtobufCMessage *answer;
    ProtobufCBinaryData *text;
    const Coffer__V1__Token *token;
};

/* The token, and as JSON what the server says of it; with --out the token is in the file alone. Wipes it. */
static cli_exit hand_over(const struct cli *cli, int fd, const struct handed *handed)
{
    cli_exit code = CLI_OK;
    const size_t length = handed->text->len;
    if (cli->out != NULL || !cli->json) {
        code = write_token(cli, fd, *handed->text, handed->token);
    }
    if (code == CLI_OK && cli->json) {
        handed->text->len = cli->out == NULL ? length : 0;
        (void) setvbuf(stdout, NULL, _IONBF, 0);
        cli_json_message(stdout, handed->answer);
    } else if (code == CLI_OK && cli->out == NULL) {
        cli_note("token %s of %s: shown above, and never again", handed->token->uid,
                 handed->token->service_account);
    } else if (code == CLI_OK) {
        cli_note("token %s of %s: written to %s", handed->token->uid, handed->token->service_account, cli->out);
    }
    explicit_bzero(handed->text->data, length);
    return code;
}

static cli_exit issue_with(struct cli *cli, int fd, struct grants *only)
{
    Coffer__V1__IssueTokenRequest request;
    Google__Protobuf__Timestamp expires;
    ProtobufCMessage *answer = NULL;
    bool never = true;
    cli_exit code = cli->expires == NULL ? CLI_OK : moment_read("expires", cli->expires, &expires, &never);
    if (code != CLI_OK) {
        return code;
    }
    coffer__v1__issue_token_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.service_account = cli->arguments[0];
    request.restrictions = only->list;
    request.n_restrictions = only->count;
    request.expire_time = never ? NULL : &expires;
    if (cli->description != NULL) {
        request.description = cli->description;
    }
    code =
        cli_call(cli, SERVICE "IssueToken", &request.base, &coffer__v1__issue_token_response__descriptor, &answer);
    if (code == CLI_OK) {
        Coffer__V1__IssueTokenResponse *issued = (Coffer__V1__IssueTokenResponse *) (void *) answer;
        code = hand_over(cli, fd, &(struct handed){answer, &issued->secret_text, issued->token});
    }
    cli_free_message(answer);
    return code;
}

static cli_exit issue(struct cli *cli, int fd)
{
    struct grants *only = calloc(1, sizeof *only);
    if (only == NULL) {
        return cli_no_memory();
    }
    cli_exit code = grants_read(cli, only);
    if (code == CLI_OK) {
        code = issue_with(cli, fd, only);
    }
    grants_done(only);
    free(only);
    return code;
}

static cli_exit rotate(struct cli *cli, int fd)
{
    Coffer__V1__RotateTokenRequest request;
    Google__Protobuf__Duration overlap;
    Google__Protobuf__Timestamp expires;
    ProtobufCMessage *answer = NULL;
    bool never = true;
    coffer__v1__rotate_token_request__init(&request);
    google__protobuf__duration__init(&overlap);
    if (!moment_span(cli->overlap, &overlap.seconds)) {
        return cli_usage("coffer token rotate UID --overlap 24h", "--overlap %s is no time", cli->overlap);
    }
    cli_exit code = cli->expires == NULL ? CLI_OK : moment_read("expires", cli->expires, &expires, &never);
    if (code != CLI_OK) {
        return code;
    }
    request.workspace = cli_workspace(cli);
    request.overlap = &overlap;
    request.expire_time = never ? NULL : &expires;
    if (cli->argument_count > 0) {
        request.token_uid = cli->arguments[0];
    }
    code = cli_call(cli, SERVICE "RotateToken", &request.base, &coffer__v1__rotate_token_response__descriptor,
                    &answer);
    if (code == CLI_OK) {
        Coffer__V1__RotateTokenResponse *rotated = (Coffer__V1__RotateTokenResponse *) (void *) answer;
        code = hand_over(cli, fd, &(struct handed){answer, &rotated->secret_text, rotated->token});
        cli_note("token %s works until %s", rotated->predecessor->uid, cli_time(rotated->predecessor->expire_time));
    }
    cli_free_message(answer);
    return code;
}

cli_exit token_into_out(struct cli *cli, cli_exit (*make)(struct cli *cli, int fd))
{
    int fd = -1;
    cli_exit code = open_out(cli, &fd);
    if (code != CLI_OK) {
        return code;
    }
    code = make(cli, fd);
    if (cli->out != NULL && close(fd) != 0 && code == CLI_OK) {
        code = cli_refuse(CLI_ERROR, "coffer token list ACCOUNT", "%s cannot be written: %s", cli->out,
                          strerror(errno));
    }
    if (cli->out != NULL && code != CLI_OK) {
        (void) unlink(cli->out);
    }
    return code;
}

cli_exit cmd_token_issue(struct cli *cli)
{
    return token_into_out(cli, issue);
}

cli_exit cmd_token_rotate(struct cli *cli)
{
    if (cli->self == (cli->argument_count > 0) || cli->overlap == NULL) {
        return cli_usage("coffer token list ACCOUNT shows the UIDs",
                         "token rotate needs a UID, or --self, and --overlap");
    }
    return token_into_out(cli, rotate);
}

/* --- List and revoke ------------------------------------------------------------------------------------------ */

static const char *state_of(const Coffer__V1__Token *token)
{
    if (token->corrupted) {
        return "corrupted";
    }
    if (token->revoke_time != NULL) {
        return "revoked";
    }
    if (token->expire_time != NULL && cli_is_past(token->expire_time)) {
        return "expired";
    }
    return token->successor_uid[0] == '\0' ? "active" : "rotated";
}

static void token_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__Token *token = (const Coffer__V1__Token *) (const void *) item;
    cli_table_add(table, token->uid);
    cli_table_add(table, cli_time(token->create_time));
    cli_table_add(table, cli_time(token->expire_time));
    cli_table_add(table, token->last_use_time == NULL ? "never" : cli_time(token->last_use_time));
    cli_table_add(table, state_of(token));
    cli_table_add(table, token->description);
}

cli_exit cmd_token_list(struct cli *cli)
{
    static const char *const headers[] = {"TOKEN", "ISSUED", "EXPIRES", "LAST USE", "STATE", "DESCRIPTION"};
    static const struct list list = {.method = SERVICE "ListTokens",
                                     .response = &coffer__v1__list_tokens_response__descriptor,
                                     .items = "tokens",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = token_row,
                                     .none = "the account has no token; coffer token issue ACCOUNT makes one"};
    Coffer__V1__ListTokensRequest request;
    Google__Protobuf__Timestamp before;
    bool never = false;
    coffer__v1__list_tokens_request__init(&request);
    if (cli->expiring != NULL) {
        const cli_exit code = moment_read("expiring", cli->expiring, &before, &never);
        if (code != CLI_OK) {
            return code;
        }
        request.expire_before = never ? NULL : &before;
    }
    request.workspace = cli_workspace(cli);
    request.service_account = cli->arguments[0];
    request.active_only = cli->active;
    return list_all(cli, &list, &request.base);
}

static void show_revoked(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Token *token = ((const Coffer__V1__RevokeTokenResponse *) (const void *) answer)->token;
    (void) cli;
    cli_note("token %s of %s: revoked", token->uid, token->service_account);
}

cli_exit cmd_token_revoke(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "RevokeToken", &coffer__v1__revoke_token_response__descriptor,
                                             show_revoked};
    Coffer__V1__RevokeTokenRequest request;
    coffer__v1__revoke_token_request__init(&request);
    if (cli->self == (cli->argument_count > 0)) {
        return cli_usage("coffer token list ACCOUNT shows the UIDs", "token revoke needs a UID, or --self");
    }
    request.workspace = cli_workspace(cli);
    if (cli->argument_count > 0) {
        request.token_uid = cli->arguments[0];
    }
    return cli_do(cli, &method, &request.base);
}
