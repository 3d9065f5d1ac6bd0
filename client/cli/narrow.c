#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/token.h>

#include "client/cli/cli.h"
#include "client/cli/moment.h"
#include "client/cli/token.h"
#include "client/libcoffer/credential.h"
#include "client/libcoffer/failure.h"
#include "client/libcoffer/settings.h"

/* Narrows the token that every command would use. No server is asked, and none needs to be there. */

enum { SCHEME = sizeof "Bearer " - 1 };

/* The token and the memory that it lies in. */
struct holder {
    struct memory *memory;
    struct credential *credential;
};

static void holder_done(struct holder *holder)
{
    credential_drop(holder->credential);
    memory_drop(holder->memory);
}

/* A narrowed token; wiped when it goes out of scope. */
struct narrowed {
    char text[COFFER_NARROWED_SIZE];
};

static void narrowed_done(struct narrowed *narrowed)
{
    coffer_token_wipe(narrowed, sizeof *narrowed);
}

static const char *environment_variable(const char *name)
{
    return secure_getenv(name);
}

static cof_code read_token(const struct settings *settings, struct holder *holder, struct cof_error *err)
{
    TRY(memory_new(MEMORY_MIN, &holder->memory, err));
    if (settings->token_file != NULL) {
        return credential_read(holder->memory, settings->token_file, &holder->credential, err);
    }
    if (settings->token != NULL) {
        return credential_new(holder->memory, cof_slice_text(settings->token), &holder->credential, err);
    }
    return cof_fail(err, COF_REASON_TOKEN_MISSING, "there is no token to narrow");
}

static cof_code find_token(const char *text, struct holder *holder, struct cof_error *err)
{
    struct settings settings = {0};
    cof_code code = settings_read(text, environment_variable, &settings, err);
    if (code == COF_OK) {
        code = read_token(&settings, holder, err);
    }
    settings_done(&settings);
    return code;
}

/* From where every command takes its token; from a file or the environment, never from an argument. */
static cli_exit take_token(const struct cli *cli, struct holder *holder)
{
    struct cof_error err;
    coffer_error *error = NULL;
    char *text = cli_settings(cli);
    if (text == NULL) {
        return cli_no_memory();
    }
    cof_error_clear(&err);
    const cof_code found = find_token(text, holder, &err);
    free(text);
    if (found == COF_OK) {
        return CLI_OK;
    }
    (void) failure_tell(&err, NULL, &error);
    const cli_exit code = cli_fail(error);
    coffer_error_free(error);
    return code;
}

static cli_exit read_expiry(const char *text, int64_t *ret_ms)
{
    Google__Protobuf__Timestamp time;
    bool never = false;
    const cli_exit code = moment_read("expires", text, &time, &never);
    if (code != CLI_OK) {
        return code;
    }
    if (never || time.seconds <= 0) {
        return cli_usage("leave --expires out for a token that ends with the one that it is made from",
                         "--expires %s does not narrow a token", text);
    }
    *ret_ms = time.seconds * 1000;
    return CLI_OK;
}

static cli_exit read_wishes(const struct cli *cli, coffer_narrowing *narrowing)
{
    narrowing->workspace = cli->workspace;
    narrowing->environments = (const char *const *) cli->environment_patterns.items;
    narrowing->environment_count = cli->environment_patterns.count;
    narrowing->names = (const char *const *) cli->names.items;
    narrowing->name_count = cli->names.count;
    narrowing->workflow_id = cli->workflow;
    narrowing->run_id = cli->run;
    return cli->expires == NULL ? CLI_OK : read_expiry(cli->expires, &narrowing->expire_time_ms);
}

static bool write_text(int fd, const char *text)
{
    return token_write(fd, text, strlen(text));
}

/* A token has no character that JSON would escape. */
static cli_exit write_narrowed(const struct cli *cli, int fd, const struct narrowed *narrowed)
{
    const bool json = cli->json && cli->out == NULL;
    if (!write_text(fd, json ? "{\"token\": \"" : "") || !write_text(fd, narrowed->text) ||
        !write_text(fd, json ? "\"}\n" : "\n")) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be written: %s",
                          cli->out == NULL ? "standard output" : cli->out, strerror(errno));
    }
    if (cli->out != NULL) {
        cli_note("narrowed token: written to %s", cli->out);
    }
    return CLI_OK;
}

static cli_exit narrow(struct cli *cli, int fd)
{
    AUTO(holder_done) struct holder holder = {NULL, NULL};
    AUTO(narrowed_done) struct narrowed narrowed;
    coffer_narrowing narrowing = COFFER_NARROWING_INIT;
    coffer_error *error = NULL;
    cli_exit code = read_wishes(cli, &narrowing);
    if (code == CLI_OK) {
        code = take_token(cli, &holder);
    }
    if (code != CLI_OK) {
        return code;
    }
    const struct cof_slice token = credential_text(holder.credential);
    if (coffer_token_narrow(token.data + SCHEME, token.len - SCHEME, &narrowing, narrowed.text, &error) !=
        COFFER_OK) {
        code = cli_fail(error);
        coffer_error_free(error);
        return code;
    }
    return write_narrowed(cli, fd, &narrowed);
}

cli_exit cmd_token_narrow(struct cli *cli)
{
    return token_into_out(cli, narrow);
}
