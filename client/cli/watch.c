#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <coffer/v1/secret.pb-c.h>
#include <coffer/watch.h>

#include "client/cli/cli.h"
#include "client/cli/message.h"

/* `coffer secret watch`: a line for each change, until somebody ends it. */

enum { PAUSE_MS = 2000, CHANGE_TEXT = 40, WHEN_TEXT = 32, MS = 1000, NS_IN_MS = 1000000 };

/* "values changed" */
static void kind_text(const coffer_change *change, char text[CHANGE_TEXT])
{
    (void) snprintf(text, CHANGE_TEXT, "%s", coffer_change_kind_name(coffer_change_what(change)));
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '_' ? ' ' : (char) (*at | 0x20);
    }
}

static void when_text(const coffer_change *change, char text[WHEN_TEXT])
{
    struct tm parts;
    const time_t seconds = (time_t) (coffer_change_time_ms(change) / MS);
    if (gmtime_r(&seconds, &parts) == NULL || strftime(text, WHEN_TEXT, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        (void) snprintf(text, WHEN_TEXT, "-");
    }
}

static void print_line(const coffer_change *change)
{
    char kind[CHANGE_TEXT];
    char when[WHEN_TEXT];
    const char *old_name = coffer_change_old_name(change);
    kind_text(change, kind);
    when_text(change, when);
    printf("%s  %s/%s  %s", when, coffer_change_environment(change), coffer_change_name(change), kind);
    if (coffer_change_destroyed_version(change) != 0) {
        printf(" (%" PRIu64 ")", coffer_change_destroyed_version(change));
    }
    if (old_name[0] != '\0') {
        printf(" from %s", old_name);
    }
    printf(", version %" PRIu64 "\n", coffer_change_version(change));
}

static void print_text(const char *name, const char *text)
{
    printf("\"%s\": ", name);
    cli_json_text(stdout, text);
    fputs(", ", stdout);
}

/* One object in a line. Where it ends an answer it has the token to go on with. */
static void print_json(const coffer_change *change, const char *token)
{
    char when[WHEN_TEXT];
    when_text(change, when);
    putchar('{');
    print_text("kind", coffer_change_kind_name(coffer_change_what(change)));
    print_text("environment", coffer_change_environment(change));
    print_text("name", coffer_change_name(change));
    print_text("oldName", coffer_change_old_name(change));
    print_text("uid", coffer_change_uid(change));
    print_text("time", when);
    if (token != NULL) {
        print_text("resumeToken", token);
    }
    printf("\"version\": %" PRIu64 ", \"destroyedVersion\": %" PRIu64 ", \"revision\": %" PRIu64 "}\n",
           coffer_change_version(change), coffer_change_destroyed_version(change), coffer_change_revision(change));
}

static cli_exit print_changes(bool json, const coffer_changes *changes)
{
    const size_t count = coffer_changes_count(changes);
    for (size_t i = 0; i < count; i++) {
        const coffer_change *change = coffer_changes_at(changes, i);
        if (json) {
            print_json(change, i + 1 == count ? coffer_changes_resume_token(changes) : NULL);
        } else {
            print_line(change);
        }
    }
    if (fflush(stdout) != 0) {
        return cli_refuse(CLI_ERROR, NULL, "standard output cannot be written: %s", strerror(errno));
    }
    return CLI_OK;
}

static void pause_a_while(void)
{
    const struct timespec pause = {.tv_sec = PAUSE_MS / MS, .tv_nsec = (long) (PAUSE_MS % MS) * NS_IN_MS};
    (void) nanosleep(&pause, NULL);
}

/* What passes by itself; the watch goes on where it was. */
static bool passes(const coffer_error *error)
{
    switch (coffer_error_status(error)) {
    case COFFER_UNAVAILABLE:
    case COFFER_DEADLINE_EXCEEDED:
        return true;
    case COFFER_RESOURCE_EXHAUSTED:
        return coffer_error_retry_after_ms(error) > 0;
    default:
        return false;
    }
}

/* Once it has begun a server that is away is waited for; before that it is a mistake in the address, perhaps. */
static cli_exit watch_once(bool json, coffer_watch *watch, bool *begun)
{
    coffer_changes *changes = NULL;
    coffer_error *error = NULL;
    cli_exit code = CLI_OK;
    if (coffer_watch_next(watch, &changes, &error) == COFFER_OK) {
        *begun = true;
        code = print_changes(json, changes);
    } else if (*begun && passes(error)) {
        cli_note("%s; watching on", coffer_error_message(error));
        pause_a_while();
    } else {
        code = cli_fail(error);
    }
    coffer_changes_free(changes);
    coffer_error_free(error);
    return code;
}

static void describe(const struct cli *cli, coffer_watch *watch)
{
    const char *workspace = cli_workspace(cli);
    if (workspace[0] != '\0') {
        coffer_watch_set_workspace(watch, workspace);
    }
    for (size_t i = 0; i < cli->environments.count; i++) {
        coffer_watch_add_environment(watch, cli->environments.items[i]);
    }
    if (cli->prefix != NULL) {
        coffer_watch_set_name_prefix(watch, cli->prefix);
    }
    if (cli->from != NULL) {
        coffer_watch_set_resume_token(watch, cli->from);
    }
}

cli_exit cmd_secret_watch(struct cli *cli)
{
    bool begun = false;
    cli_exit code = cli_connect(cli);
    if (code != CLI_OK) {
        return code;
    }
    coffer_watch *watch = coffer_watch_new(cli->client);
    if (watch == NULL) {
        return cli_no_memory();
    }
    describe(cli, watch);
    while (code == CLI_OK) {
        code = watch_once(cli->json || !cli_on_terminal(), watch, &begun);
    }
    coffer_watch_free(watch);
    return code;
}
