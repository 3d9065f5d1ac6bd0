#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/message.h"
#include "client/cli/progress.h"

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

const char cli_hint_connection[] = "coffer oauth list shows connections; coffer help oauth says how one is made";
const char cli_hint_reauth[] = "coffer oauth show PROVIDER says why; its user has to connect it again";

/* --- Failures ------------------------------------------------------------------------------------------------- */

/* What to do at the command line about a failure whose message speaks of the protocol. */
static const struct {
    coffer_reason reason;
    const char *hint;
} hints[] = {
    {COFFER_REASON_TOKEN_MISSING, "coffer login stores one; --token-file FILE or COFFER_TOKEN_FILE give one"},
    {COFFER_REASON_REAUTH_REQUIRED, cli_hint_reauth},
    {COFFER_REASON_CONNECTION_NOT_FOUND, cli_hint_connection},
    {COFFER_REASON_TOKEN_MALFORMED, "coffer login stores another one"},
    {COFFER_REASON_TOKEN_INVALID, "coffer login stores another one"},
    {COFFER_REASON_TOKEN_EXPIRED, "coffer login stores another one"},
    {COFFER_REASON_FRAME_REVISION_UNSUPPORTED, "coffer doctor compares the versions of client and server"},
    {COFFER_REASON_METHOD_UNKNOWN, "coffer doctor compares the versions of client and server"},
    {COFFER_REASON_REPLY_INVALID, "coffer doctor looks at what answers there"},
    {COFFER_REASON_REQUEST_ID_EXPIRED, "coffer doctor compares the clocks of client and server"},
    {COFFER_REASON_CONFIG_INVALID, "coffer config shows where each setting comes from"},
    {COFFER_REASON_PERMISSION_DENIED, "coffer whoami shows what the token may do"},
    {COFFER_REASON_ENVIRONMENT_NOT_FOUND, "coffer env list shows them, coffer env create makes one"},
    {COFFER_REASON_VERSION_NOT_FOUND, "coffer secret versions NAME lists them"},
    {COFFER_REASON_WORKSPACE_REQUIRED, "-w UUID, or -w system; coffer workspace list lists them"},
    {COFFER_REASON_NOT_CONNECTED,
     "coffer doctor looks for the cause; --addr ADDRESS or COFFER_ADDR name another server"},
};

static const char *hint_of(coffer_reason reason)
{
    for (size_t i = 0; i < COF_COUNT(hints); i++) {
        if (hints[i].reason == reason) {
            return hints[i].hint;
        }
    }
    return NULL;
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
    progress_clear();
    fprintf(stderr, "coffer: %s\n", report->message);
    if (report->hint != NULL) {
        fprintf(stderr, "  hint: %s\n", report->hint);
    }
    if (report->request_id != NULL && report->request_id[0] != '\0') {
        fprintf(stderr, "  request: %s  (%s)\n", report->request_id, report->reason);
    }
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
    return cli_report(&(struct cli_report){
        .message = coffer_error_message(error),
        .hint = hint_of(reason),
        .reason = coffer_reason_name(reason),
        .request_id = coffer_error_request_id(error),
        .code = exit_of_error(error),
    });
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
        fprintf(stderr, "  request: %s\n", request_id);
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
        fprintf(stderr, "%s\n", note);
    }
    free(length >= 0 ? note : NULL);
}
