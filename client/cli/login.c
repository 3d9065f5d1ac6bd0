#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <coffer/v1/identity.pb-c.h>

#include "client/cli/config.h"
#include "client/cli/message.h"

/* `coffer login` and `coffer logout`: a token in a file of its own, and the profile that names it. */

enum { LOGIN_CHANGES = SETTINGS };

struct login {
    uint8_t token[CLI_LINE_MAX];
    size_t length;
    char path[PATH_MAX];
};

/* --- The token -------------------------------------------------------------------------------------------------- */

/* All of standard input, without the newline that files of tokens end with. */
static cli_exit read_input(struct login *login)
{
    ssize_t got = 1;
    while (got > 0 && login->length < sizeof login->token) {
        got = read(STDIN_FILENO, login->token + login->length, sizeof login->token - login->length);
        login->length += got > 0 ? (size_t) got : 0;
    }
    if (got < 0) {
        return cli_refuse(CLI_ERROR, NULL, "standard input cannot be read: %s", strerror(errno));
    }
    while (login->length > 0 && strchr("\r\n", login->token[login->length - 1]) != NULL) {
        login->length--;
    }
    return login->length > 0 && login->length < sizeof login->token
               ? CLI_OK
               : cli_usage("coffer login < FILE", "standard input has no token");
}

static cli_exit read_token(struct login *login)
{
    return isatty(STDIN_FILENO) == 1
               ? cli_prompt_hidden("Token", "coffer login < FILE", login->token, &login->length)
               : read_input(login);
}

/* Asks the server whose it is, with nothing but this token. */
static cli_exit check_token(struct cli *cli, const struct login *login, ProtobufCMessage **ret_caller)
{
    Coffer__V1__GetCallerRequest request;
    coffer_error *error = NULL;
    coffer__v1__get_caller_request__init(&request);
    cli->token_file = NULL;
    cli_exit code = cli_connect(cli);
    if (code != CLI_OK) {
        return code;
    }
    if (coffer_client_set_token(cli->client, login->token, login->length, &error) != COFFER_OK) {
        code = cli_fail(error);
        coffer_error_free(error);
        return code;
    }
    return cli_call(cli, "coffer.v1.TokenService/GetCaller", &request.base,
                    &coffer__v1__get_caller_response__descriptor, ret_caller);
}

/* --- Where it goes ---------------------------------------------------------------------------------------------- */

static cli_exit find_place(const char *profile, char path[PATH_MAX])
{
    const char *own = setting_variable("COFFER_CONFIG_DIR");
    const char *state = setting_variable("XDG_STATE_HOME");
    const char *home = setting_variable("HOME");
    int length = 0;
    if (own != NULL) {
        length = snprintf(path, PATH_MAX, "%s/%s.token", own, profile);
    } else if (state != NULL) {
        length = snprintf(path, PATH_MAX, "%s/coffer/%s.token", state, profile);
    } else if (home != NULL) {
        length = snprintf(path, PATH_MAX, "%s/.local/state/coffer/%s.token", home, profile);
    }
    return length > 0 && length < PATH_MAX
               ? CLI_OK
               : cli_usage("COFFER_CONFIG_DIR", "there is no place for a file of the token: HOME is not set");
}

static cli_exit write_token(struct login *login)
{
    login->token[login->length] = '\n';
    return settings_replace(login->path, login->token, login->length + 1);
}

/* An option that names a file is written with its whole path, for the next command may run elsewhere. */
static const char *whole_path(setting which, const char *text, char place[PATH_MAX])
{
    const bool file = which == SETTING_CACERT || which == SETTING_CLIENT_CERT || which == SETTING_CLIENT_KEY;
    return file && realpath(text, place) != NULL ? place : text;
}

static bool of_the_server(setting which)
{
    return which == SETTING_ADDR || which == SETTING_CACERT || which == SETTING_CLIENT_CERT ||
           which == SETTING_CLIENT_KEY || which == SETTING_TLS_SERVER_NAME;
}

/* What was given beside the token belongs to the profile, too: the address always, for the token is its server's. */
static cli_exit write_profile(const struct login *login)
{
    static char places[SETTINGS][PATH_MAX];
    struct config_change changes[LOGIN_CHANGES];
    size_t count = 0;
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct profile_value value = profile_value((setting) i);
        const bool given =
            value.source == PROFILE_OPTION || (value.source == PROFILE_VARIABLE && of_the_server((setting) i));
        if (i == SETTING_TOKEN_FILE) {
            changes[count++] = (struct config_change){SETTING_TOKEN_FILE, login->path};
        } else if (value.text != NULL && given) {
            changes[count++] = (struct config_change){(setting) i, whole_path((setting) i, value.text, places[i])};
        } else if (i == SETTING_ADDR && value.text == NULL) {
            changes[count++] = (struct config_change){SETTING_ADDR, setting_rows[SETTING_ADDR].builtin};
        }
    }
    return config_change(config_profile(), changes, count);
}

static void say_done(const struct login *login, const Coffer__V1__GetCallerResponse *caller)
{
    const struct profile_value address = profile_value(SETTING_ADDR);
    assert(caller != NULL);
    cli_note("logged in as %s at %s", caller->service_account->name,
             address.text == NULL ? setting_rows[SETTING_ADDR].builtin : address.text);
    cli_note("profile %s, token in %s%s%s", config_profile(), login->path,
             caller->token->expire_time == NULL ? "" : ", expires ",
             caller->token->expire_time == NULL ? "" : cli_time(caller->token->expire_time));
    if (setting_variable("COFFER_TOKEN") != NULL || setting_variable("COFFER_TOKEN_FILE") != NULL) {
        cli_note("coffer: note: %s is set and wins over the profile's token; unset it",
                 setting_variable("COFFER_TOKEN") != NULL ? "COFFER_TOKEN" : "COFFER_TOKEN_FILE");
    }
}

static cli_exit store(struct login *login)
{
    cli_exit code = find_place(config_profile(), login->path);
    if (code == CLI_OK) {
        code = write_token(login);
    }
    return code == CLI_OK ? write_profile(login) : code;
}

static cli_exit log_in(struct cli *cli, struct login *login)
{
    ProtobufCMessage *caller = NULL;
    cli_exit code = profile_apply_new(cli);
    if (code == CLI_OK) {
        code = config_check_name(config_profile());
    }
    if (code == CLI_OK) {
        code = read_token(login);
    }
    if (code == CLI_OK) {
        code = check_token(cli, login, &caller);
    }
    if (code == CLI_OK) {
        code = store(login);
    }
    if (code == CLI_OK && cli->json) {
        cli_json_message(stdout, caller);
    } else if (code == CLI_OK) {
        say_done(login, (const Coffer__V1__GetCallerResponse *) (const void *) caller);
    }
    cli_free_message(caller);
    return code;
}

cli_exit cmd_login(struct cli *cli)
{
    struct login *login = calloc(1, sizeof *login);
    if (login == NULL) {
        return cli_no_memory();
    }
    const cli_exit code = log_in(cli, login);
    explicit_bzero(login, sizeof *login);
    free(login);
    return code;
}

/* --- Out -------------------------------------------------------------------------------------------------------- */

cli_exit cmd_logout(struct cli *cli)
{
    static char path[PATH_MAX];
    const struct config_change change = {SETTING_TOKEN_FILE, NULL};
    cli_exit code = profile_find(cli);
    if (code == CLI_OK) {
        code = find_place(config_profile(), path);
    }
    if (code != CLI_OK) {
        return code;
    }
    if (unlink(path) != 0) {
        return errno == ENOENT ? cli_refuse(CLI_NOT_FOUND, "coffer config profiles",
                                            "%s is not there: the profile %s has "
                                            "no token of coffer login",
                                            path, config_profile())
                               : cli_refuse(CLI_ERROR, NULL, "%s cannot be removed: %s", path, strerror(errno));
    }
    code = config_change(config_profile(), &change, 1);
    if (code == CLI_OK) {
        cli_note("the token of the profile %s is removed from this machine; it goes on working elsewhere until it "
                 "is revoked "
                 "(coffer token revoke)",
                 config_profile());
    }
    return code;
}
