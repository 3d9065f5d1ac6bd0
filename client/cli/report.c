#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"

enum { REQUEST_TEXT = 160 };

static struct {
    bool json;
    bool quiet;
    bool catching;
} how;

static struct cli_caught caught;

void cli_catch(bool on)
{
    how.catching = on;
    caught = (struct cli_caught){.message = ""};
}

const struct cli_caught *cli_caught(void)
{
    return &caught;
}

void cli_report_as(bool json, bool quiet)
{
    how.json = json;
    how.quiet = quiet || json;
}

/* --- Exit codes ----------------------------------------------------------------------------------------------- */

struct exit_row {
    coffer_status status;
    cli_exit code;
};

static const struct exit_row exits[] = {
    {COFFER_OK, CLI_OK},
    {COFFER_NOT_FOUND, CLI_NOT_FOUND},
    {COFFER_UNAUTHENTICATED, CLI_NOT_LOGGED_IN},
    {COFFER_PERMISSION_DENIED, CLI_DENIED},
    {COFFER_ALREADY_EXISTS, CLI_CONFLICT},
    {COFFER_ABORTED, CLI_CONFLICT},
    {COFFER_FAILED_PRECONDITION, CLI_CONFLICT},
    {COFFER_UNAVAILABLE, CLI_UNAVAILABLE},
    {COFFER_DEADLINE_EXCEEDED, CLI_UNAVAILABLE},
    {COFFER_INVALID_ARGUMENT, CLI_REJECTED},
    {COFFER_OUT_OF_RANGE, CLI_REJECTED},
    {COFFER_RESOURCE_EXHAUSTED, CLI_LIMIT},
};

cli_exit cli_exit_of(coffer_status status)
{
    for (size_t i = 0; i < COF_COUNT(exits); i++) {
        if (exits[i].status == status) {
            return exits[i].code;
        }
    }
    return CLI_ERROR;
}

/* --- Failures ------------------------------------------------------------------------------------------------- */

/* What to do at the command line about a failure whose message speaks of the protocol, or to anybody. */
static const struct {
    const char *hint;
    coffer_reason reason;
    bool instead; /* in place of what the message says, which nobody can do here */
} hints[] = {
#define HINT(reason, instead, hint) {hint, COFFER_REASON_##reason, instead},
#include "client/cli/hints.def"
#undef HINT
};

const char *cli_hint(const char *reason)
{
    for (size_t i = 0; i < COF_COUNT(hints); i++) {
        if (strcmp(coffer_reason_name(hints[i].reason), reason) == 0) {
            return hints[i].hint;
        }
    }
    return NULL;
}

static bool is_instead(coffer_reason reason)
{
    bool instead = false;
    for (size_t i = 0; i < COF_COUNT(hints); i++) {
        instead = instead || (hints[i].reason == reason && hints[i].instead);
    }
    return instead;
}

static void print_member(const char *name, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        fprintf(stderr, ", \"%s\": ", name);
        cli_json_text(stderr, text);
    }
}

/* One line for each failure, so that several can be read one by one. */
static void print_json(const struct cli_report *report)
{
    fprintf(stderr, "{\"error\": {\"exitCode\": %d", (int) report->code);
    print_member("message", report->message);
    print_member("hint", report->hint);
    print_member("reason", report->reason);
    print_member("requestId", report->request_id);
    fputs("}}\n", stderr);
}

/* On a terminal no word is broken, and further lines stand below the text. */
static void print_labelled(const char *label, const char *text)
{
    fputs(label, stderr);
    text_wrap(stderr, text, strlen(label), strlen(label), text_room(stderr));
    (void) fputc('\n', stderr);
}

static void print_text(const struct cli_report *report)
{
    char request[REQUEST_TEXT];
    progress_clear();
    print_labelled("coffer: ", report->message);
    if (report->hint != NULL) {
        print_labelled("  hint: ", report->hint);
    }
    if (report->request_id != NULL && report->request_id[0] != '\0') {
        (void) snprintf(request, sizeof request, "%s  (%s)", report->request_id, report->reason);
        print_labelled("  request: ", request);
    }
}

cli_exit cli_report(const struct cli_report *report)
{
    if (how.catching) {
        (void) snprintf(caught.message, sizeof caught.message, "%s", report->message);
        (void) snprintf(caught.hint, sizeof caught.hint, "%s", report->hint == NULL ? "" : report->hint);
        return report->code;
    }
    if (how.json) {
        print_json(report);
        return report->code;
    }
    print_text(report);
    return report->code;
}

static cli_exit exit_of_error(const coffer_error *error)
{
    const coffer_reason reason = coffer_error_reason(error);
    if (reason == COFFER_REASON_CONFIG_INVALID) {
        return CLI_USAGE;
    }
    return reason == COFFER_REASON_REAUTH_REQUIRED ? CLI_REAUTH : cli_exit_of(coffer_error_status(error));
}

cli_exit cli_fail(const coffer_error *error)
{
    const coffer_reason reason = coffer_error_reason(error);
    const char *whole = coffer_error_message(error);
    const char *advice = is_instead(reason) ? strstr(whole, "; ") : NULL;
    char *what = advice == NULL ? NULL : strndup(whole, (size_t) (advice - whole));
    const cli_exit code = cli_report(&(struct cli_report){
        .message = what == NULL ? whole : what,
        .hint = cli_hint(coffer_reason_name(reason)),
        .reason = coffer_reason_name(reason),
        .request_id = coffer_error_request_id(error),
        .code = exit_of_error(error),
    });
    free(what);
    return code;
}

cli_exit cli_refuse(cli_exit code, const char *hint, const char *format, ...)
{
    char *message = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&message, format, args) < 0) {
        message = NULL;
    }
    va_end(args);
    (void) cli_report(&(struct cli_report){
        .message = message == NULL ? "there is no memory left" : message, .hint = hint, .code = code});
    free(message);
    return code;
}

cli_exit cli_no_memory(void)
{
    return cli_report(&(struct cli_report){.message = "there is no memory left", .code = CLI_ERROR});
}

void cli_report_request(const char *request_id)
{
    if (!how.json && request_id[0] != '\0') {
        print_labelled("  request: ", request_id);
    }
}

void cli_note(const char *format, ...)
{
    char *note = NULL;
    va_list args;
    va_start(args, format);
    const int length = vasprintf(&note, format, args);
    va_end(args);
    if (length >= 0 && !how.quiet) {
        progress_clear();
        print_labelled("", note);
    }
    free(length >= 0 ? note : NULL);
}
