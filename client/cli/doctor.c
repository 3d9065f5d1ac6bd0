#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <coffer/rpc/v1/server.pb-c.h>
#include <coffer/v1/environment.pb-c.h>
#include <coffer/v1/identity.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>

#include "client/cli/profile.h"
#include "client/cli/progress.h"
#include "client/cli/reach.h"
#include "client/libcoffer/settings.h"
#include "common/narrowed.h"

/* `coffer doctor`: goes the way of a call, from the settings to the permissions, and says at each step what is wrong. */

enum {
    FOUND_TEXT = 1024,
    TOKEN_ROOM = 2304, /* longer than any token */
    SKEW_SECONDS = 30,
    SOON_SECONDS = 14 * 86400,
    PAGE = 1000,
};

typedef enum health {
    WELL,
    WARNED,
    ILL,
    UNKNOWN, /* cannot be seen with this token */
} health;

struct doctor {
    struct cli *cli;
    struct cli_table *table;
    cli_exit worst;
    size_t ill;
    size_t warned;
};

/* --- What was found --------------------------------------------------------------------------------------------- */

/* The table is printed at the end; what is wrong decides about the exit code, the first of it. */
static void found(struct doctor *doctor, health state, const char *check, const char *what, const char *next)
{
    static const char *const names[] = {"ok", "warning", "FAILED", "unknown"};
    doctor->ill += state == ILL;
    doctor->warned += state == WARNED;
    cli_table_add(doctor->table, names[state]);
    cli_table_add(doctor->table, check);
    cli_table_add(doctor->table, what);
    cli_table_add(doctor->table, next == NULL ? "" : next);
}

static cli_exit ill(struct doctor *doctor, const char *check, const char *what, const char *next, cli_exit code)
{
    found(doctor, ILL, check, what, next);
    doctor->worst = doctor->worst == CLI_OK ? code : doctor->worst;
    return code;
}

/* A failure that somebody else was about to print; its message ends with what to do, behind a semicolon. */
static cli_exit ill_as_caught(struct doctor *doctor, const char *check, cli_exit code)
{
    static char what[FOUND_TEXT];
    const struct cli_caught *caught = cli_caught();
    (void) snprintf(what, sizeof what, "%s", caught->message);
    char *next = strstr(what, "; ");
    if (next != NULL) {
        *next = '\0';
        next += 2;
    }
    return ill(doctor, check, what, next != NULL ? next : (caught->hint[0] == '\0' ? NULL : caught->hint), code);
}

/* --- Settings --------------------------------------------------------------------------------------------------- */

static cli_exit check_settings(struct doctor *doctor)
{
    char what[FOUND_TEXT];
    bool in_file = false;
    const cli_exit code = profile_apply(doctor->cli);
    if (code != CLI_OK) {
        return ill_as_caught(doctor, "settings", code);
    }
    const char *name = profile_name(&in_file);
    const struct profile_value address = profile_value(SETTING_ADDR);
    if (name != NULL) {
        (void) snprintf(what, sizeof what, "profile %s of %s", name, profile_file());
        found(doctor, WELL, "settings", what, NULL);
    } else if (address.text == NULL) {
        (void) snprintf(what, sizeof what, "no option, no variable and no profile names a server; %s is asked",
                        setting_rows[SETTING_ADDR].builtin);
        found(doctor, WARNED, "settings", what, "coffer login --addr ADDRESS makes a profile");
    } else {
        found(doctor, WELL, "settings", "options and variables, no profile", NULL);
    }
    return CLI_OK;
}

/* --- The token -------------------------------------------------------------------------------------------------- */

static const char *kind_of(const struct cof_token *token)
{
    switch (token->kind) {
    case COF_TOKEN_WORKSPACE:
        return token->narrowed.len > 0 ? "a narrowed token of a workspace" : "a token of a workspace";
    case COF_TOKEN_FLEET:
        return token->narrowed.len > 0 ? "a narrowed token of a fleet" : "a token of a fleet";
    case COF_TOKEN_SYSTEM:
        return "a token of the system, which administers workspaces and resolves nothing";
    }
    return "a token";
}

static cli_exit check_text(struct doctor *doctor, struct cof_slice text, const char *from)
{
    char what[FOUND_TEXT];
    struct cof_token token;
    struct cof_error err = {0};
    while (text.len > 0 && strchr("\r\n ", text.data[text.len - 1]) != NULL) {
        text.len--;
    }
    if (text.len == 0) {
        (void) snprintf(what, sizeof what, "%s is empty", from);
        return ill(doctor, "token", what, "coffer login stores a token", CLI_NOT_LOGGED_IN);
    }
    if (cof_narrowed_or_whole(text, &token, &err) != COF_OK) {
        (void) snprintf(what, sizeof what, "%s: %.*s", from, (int) strcspn(err.message, ";"), err.message);
        return ill(doctor, "token", what, "copy it again, whole; it begins with cof_ and stands on one line",
                   CLI_NOT_LOGGED_IN);
    }
    (void) snprintf(what, sizeof what, "%s: %s", from, kind_of(&token));
    found(doctor, WELL, "token", what, NULL);
    explicit_bzero(&token, sizeof token);
    return CLI_OK;
}

static cli_exit refuse_file(struct doctor *doctor, const char *path, const char *why, const char *next)
{
    char what[FOUND_TEXT];
    (void) snprintf(what, sizeof what, "%s %s", path, why);
    return ill(doctor, "token", what, next, CLI_NOT_LOGGED_IN);
}

static cli_exit check_file(struct doctor *doctor, const char *path)
{
    uint8_t text[TOKEN_ROOM];
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        return refuse_file(doctor, path, errno == ENOENT ? "is not there" : "cannot be opened: permission denied",
                           errno == ENOENT ? "coffer login stores a token, or correct --token-file"
                                           : "it must be yours, with mode 600");
    }
    const ssize_t got = read(fd, text, sizeof text);
    const bool wide = fstat(fd, &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0;
    (void) close(fd);
    if (got < 0) {
        return refuse_file(doctor, path, "cannot be read", "it must be a file");
    }
    const cli_exit code = check_text(doctor, cof_slice_of(text, (size_t) got), path);
    explicit_bzero(text, sizeof text);
    if (wide && code == CLI_OK) {
        char what[FOUND_TEXT];
        (void) snprintf(what, sizeof what, "%s can be read by others", path);
        found(doctor, WARNED, "token", what, "chmod 600, and issue another token if somebody may have read it");
    }
    return code;
}

static cli_exit check_token(struct doctor *doctor)
{
    const char *file =
        doctor->cli->token_file != NULL ? doctor->cli->token_file : setting_variable("COFFER_TOKEN_FILE");
    const char *text = doctor->cli->token_file != NULL ? NULL : setting_variable("COFFER_TOKEN");
    if (text != NULL && file != NULL) {
        return ill(doctor, "token", "COFFER_TOKEN and COFFER_TOKEN_FILE are both set", "unset one of them",
                   CLI_USAGE);
    }
    if (text != NULL) {
        return check_text(doctor, cof_slice_text(text), "COFFER_TOKEN");
    }
    return file != NULL ? check_file(doctor, file)
                        : ill(doctor, "token", "there is none", "coffer login stores one", CLI_NOT_LOGGED_IN);
}

/* --- The server ------------------------------------------------------------------------------------------------- */

/* One of the addresses that can be reached is enough. */
static cli_exit check_addresses(struct doctor *doctor)
{
    struct cof_error err = {0};
    struct settings settings = {0};
    struct reach reach;
    cli_exit code = CLI_UNAVAILABLE;
    char *text = cli_settings(doctor->cli);
    if (text == NULL || settings_read(text, setting_variable, &settings, &err) != COF_OK) {
        free(text);
        return ill(doctor, "address", err.message, NULL, CLI_USAGE);
    }
    free(text);
    for (size_t i = 0; i < settings.address_count; i++) {
        char what[FOUND_TEXT];
        reach_probe(settings.addresses[i], &reach);
        (void) snprintf(what, sizeof what, "%.200s%s%s", settings.addresses[i], reach.what[0] == '\0' ? "" : ": ",
                        reach.what);
        found(doctor, reach.end == REACH_FAILED ? ILL : WELL, "address", what, reach.next);
        code = reach.end == REACH_FAILED ? code : CLI_OK;
    }
    settings_done(&settings);
    doctor->worst = code != CLI_OK && doctor->worst == CLI_OK ? code : doctor->worst;
    return code;
}

static void check_clock(struct doctor *doctor, const Coffer__Rpc__V1__GetServerInfoResponse *info)
{
    char what[FOUND_TEXT];
    if (info->server_time == NULL) {
        return;
    }
    const int64_t ahead = (int64_t) time(NULL) - info->server_time->seconds;
    const bool off = ahead > SKEW_SECONDS || ahead < -SKEW_SECONDS;
    (void) snprintf(what, sizeof what, "this host's clock is %" PRId64 " s %s the server's",
                    ahead < 0 ? -ahead : ahead, ahead < 0 ? "behind" : "ahead of");
    if (off) {
        (void) ill(doctor, "clock", what, "set both by NTP: calls, tokens and certificates have times", CLI_ERROR);
    } else {
        found(doctor, WELL, "clock", "agrees with the server's", NULL);
    }
}

/* Before 1.0 each minor version may differ. */
static void check_version(struct doctor *doctor, const Coffer__Rpc__V1__GetServerInfoResponse *info)
{
    char what[FOUND_TEXT];
    const char *own = coffer_version();
    const char *dot = strchr(own, '.');
    const size_t length = dot == NULL ? strlen(own) : (size_t) (strchrnul(dot + 1, '.') - own);
    const bool same = strncmp(own, info->version, length) == 0;
    (void) snprintf(what, sizeof what, "coffer %s, server %.40s", own, info->version);
    found(doctor, same ? WELL : WARNED, "version", what,
          same ? NULL : "what only the newer of them knows fails; bring them to one version");
}

static cli_exit check_server(struct doctor *doctor)
{
    Coffer__Rpc__V1__GetServerInfoRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__rpc__v1__get_server_info_request__init(&request);
    const cli_exit code = cli_call(doctor->cli, "coffer.rpc.v1.ServerService/GetServerInfo", &request.base,
                                   &coffer__rpc__v1__get_server_info_response__descriptor, &answer);
    if (code != CLI_OK) {
        return ill_as_caught(doctor, "connection", code);
    }
    const Coffer__Rpc__V1__GetServerInfoResponse *info =
        (const Coffer__Rpc__V1__GetServerInfoResponse *) (const void *) answer;
    found(doctor, WELL, "connection", "the server answers", NULL);
    check_version(doctor, info);
    check_clock(doctor, info);
    cli_free_message(answer);
    return CLI_OK;
}

static cli_exit check_ready(struct doctor *doctor)
{
    Grpc__Health__V1__HealthCheckRequest request;
    ProtobufCMessage *answer = NULL;
    char service[] = "readiness";
    grpc__health__v1__health_check_request__init(&request);
    request.service = service;
    const cli_exit code = cli_call(doctor->cli, "grpc.health.v1.Health/Check", &request.base,
                                   &grpc__health__v1__health_check_response__descriptor, &answer);
    if (code != CLI_OK) {
        return ill_as_caught(doctor, "readiness", code);
    }
    const bool ready = ((Grpc__Health__V1__HealthCheckResponse *) (void *) answer)->status ==
                       GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    cli_free_message(answer);
    if (ready) {
        found(doctor, WELL, "readiness", "the server is ready, and so is its database", NULL);
        return CLI_OK;
    }
    return ill(doctor, "readiness",
               "the server does not take calls: its database is out of reach, or it is shutting down",
               "see the server's log", CLI_UNAVAILABLE);
}

/* --- The caller ------------------------------------------------------------------------------------------------- */

static void check_expiry(struct doctor *doctor, const Coffer__V1__GetCallerResponse *caller)
{
    char what[FOUND_TEXT];
    const Google__Protobuf__Timestamp *ends[] = {caller->token->expire_time, caller->service_account->expire_time};
    static const char *const whose[] = {"the token", "its account"};
    for (size_t i = 0; i < COF_COUNT(ends); i++) {
        if (ends[i] != NULL && ends[i]->seconds - (int64_t) time(NULL) < SOON_SECONDS) {
            (void) snprintf(what, sizeof what, "%s expires %s", whose[i], cli_time(ends[i]));
            found(doctor, WARNED, "expiry", what,
                  i == 0 ? "coffer token rotate --self --overlap 24h --out FILE"
                         : "coffer sa update ACCOUNT --expires TIME");
        }
    }
}

static bool may(const Coffer__V1__ServiceAccount *account, const char *permission)
{
    for (size_t i = 0; i < account->n_grants; i++) {
        for (size_t k = 0; k < account->grants[i]->n_permissions; k++) {
            if (strcmp(account->grants[i]->permissions[k], permission) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void check_permissions(struct doctor *doctor, const Coffer__V1__ServiceAccount *account)
{
    if (account->kind == COFFER__V1__TOKEN_KIND__TOKEN_KIND_SYSTEM) {
        found(doctor, WARNED, "permissions", "an account of the system resolves nothing and reads no secret",
              "use a token of a workspace for secrets");
    } else if (!may(account, "resolve") && !may(account, "secret:read")) {
        found(doctor, WARNED, "permissions", "the account may neither resolve nor read secrets",
              "an administrator gives it more: coffer sa update ACCOUNT --grant resolve@ENVIRONMENT");
    } else {
        found(doctor, WELL, "permissions",
              may(account, "resolve") ? "the account may resolve; coffer whoami shows where"
                                      : "the account may read secrets and not resolve; coffer whoami shows where",
              NULL);
    }
}

/* Where the calls go that name no workspace, and whether the token is of that one. */
static cli_exit check_workspace(struct doctor *doctor, const Coffer__V1__ServiceAccount *account)
{
    char what[FOUND_TEXT];
    const char *wanted = cli_workspace(doctor->cli);
    const struct profile_value from = profile_value(SETTING_WORKSPACE);
    if (account->kind == COFFER__V1__TOKEN_KIND__TOKEN_KIND_WORKSPACE && wanted[0] != '\0' &&
        strcmp(wanted, account->workspace) != 0) {
        (void) snprintf(what, sizeof what, "the token is of the workspace %s, and %.200s says %.100s",
                        account->workspace, profile_origin(SETTING_WORKSPACE, from.source), wanted);
        return ill(doctor, "workspace", what, "leave the workspace out, or use a token of that one", CLI_DENIED);
    }
    if (account->kind == COFFER__V1__TOKEN_KIND__TOKEN_KIND_FLEET && wanted[0] == '\0') {
        found(doctor, WARNED, "workspace", "the token acts in several workspaces, and none is named",
              "-w UUID, COFFER_WORKSPACE, or coffer config set workspace UUID");
        return CLI_OK;
    }
    found(doctor, WELL, "workspace", wanted[0] == '\0' ? account->workspace : wanted, NULL);
    return CLI_OK;
}

static cli_exit check_caller(struct doctor *doctor)
{
    char what[FOUND_TEXT];
    Coffer__V1__GetCallerRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__get_caller_request__init(&request);
    cli_exit code = cli_call(doctor->cli, "coffer.v1.TokenService/GetCaller", &request.base,
                             &coffer__v1__get_caller_response__descriptor, &answer);
    if (code != CLI_OK) {
        return ill_as_caught(doctor, "caller", code);
    }
    const Coffer__V1__GetCallerResponse *caller = (const Coffer__V1__GetCallerResponse *) (const void *) answer;
    (void) snprintf(what, sizeof what, "%.200s, by the token %.40s", caller->service_account->name,
                    caller->token->uid);
    found(doctor, WELL, "caller", what, NULL);
    check_expiry(doctor, caller);
    check_permissions(doctor, caller->service_account);
    /* An account of the system acts in none. */
    if (caller->service_account->kind == COFFER__V1__TOKEN_KIND__TOKEN_KIND_SYSTEM) {
        code = CLI_DENIED;
    } else {
        code = check_workspace(doctor, caller->service_account);
    }
    cli_free_message(answer);
    return code;
}

/* --- The environment -------------------------------------------------------------------------------------------- */

static bool has(const Coffer__V1__ListEnvironmentsResponse *page, const char *name)
{
    for (size_t i = 0; i < page->n_environments; i++) {
        if (strcmp(page->environments[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static cli_exit check_environment(struct doctor *doctor)
{
    char what[FOUND_TEXT];
    Coffer__V1__ListEnvironmentsRequest request;
    ProtobufCMessage *answer = NULL;
    const char *given = cli_environment(doctor->cli);
    const char *name = given[0] == '\0' ? COF_DEFAULT_ENVIRONMENT : given;
    coffer__v1__list_environments_request__init(&request);
    request.workspace = cli_workspace(doctor->cli);
    request.page_size = PAGE;
    const cli_exit code = cli_call(doctor->cli, "coffer.v1.EnvironmentService/ListEnvironments", &request.base,
                                   &coffer__v1__list_environments_response__descriptor, &answer);
    if (code == CLI_DENIED) {
        found(doctor, UNKNOWN, "environment", "the account may not list environments", NULL);
        return CLI_OK;
    }
    if (code != CLI_OK) {
        return ill_as_caught(doctor, "environment", code);
    }
    const bool there = has((const Coffer__V1__ListEnvironmentsResponse *) (const void *) answer, name);
    cli_free_message(answer);
    (void) snprintf(what, sizeof what, there ? "%s" : "nothing is stored in an environment %s yet", name);
    found(doctor, there ? WELL : WARNED, "environment", what,
          there ? NULL : "coffer env list shows them; -e NAME and COFFER_ENVIRONMENT choose one");
    return CLI_OK;
}

/* --- All of it -------------------------------------------------------------------------------------------------- */

/* What comes after a fault that stands in its way is not asked: it would only say the same again. */
static void examine(struct doctor *doctor)
{
    if (check_settings(doctor) != CLI_OK) {
        return;
    }
    const cli_exit token = check_token(doctor);
    progress_say("trying the addresses");
    if (token == CLI_USAGE || check_addresses(doctor) != CLI_OK) {
        return;
    }
    /* A token that is no token keeps a client from being made; the server is looked at all the same. */
    if (token != CLI_OK) {
        doctor->cli->token_file = NULL;
        (void) unsetenv("COFFER_TOKEN");
        (void) unsetenv("COFFER_TOKEN_FILE");
    }
    progress_say("asking the server");
    if (check_server(doctor) != CLI_OK || check_ready(doctor) != CLI_OK || token != CLI_OK) {
        return;
    }
    if (check_caller(doctor) == CLI_OK) {
        (void) check_environment(doctor);
    }
}

cli_exit cmd_doctor(struct cli *cli)
{
    static const char *const headers[] = {"STATE", "CHECK", "FOUND", "NEXT STEP"};
    struct doctor doctor = {.cli = cli, .table = cli_table_new(headers, COF_COUNT(headers))};
    if (doctor.table == NULL) {
        return cli_no_memory();
    }
    cli_catch(true);
    progress_begin("looking at the settings");
    examine(&doctor);
    progress_end();
    cli_catch(false);
    if (cli->json) {
        cli_table_print_json(doctor.table, "checks");
    } else {
        cli_table_colour(doctor.table);
        cli_table_print_list(doctor.table, "do: ");
    }
    (void) fflush(stdout);
    if (doctor.ill > 0) {
        cli_note("%zu check%s failed", doctor.ill, doctor.ill == 1 ? "" : "s");
    } else {
        cli_note(doctor.warned > 0 ? "nothing failed, %zu warning%s" : "everything is as it should be",
                 doctor.warned, doctor.warned == 1 ? "" : "s");
    }
    return doctor.worst;
}
