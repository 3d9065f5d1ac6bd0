#include "client/cli/resolve.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "client/cli/reference.h"
#include "client/cli/template.h"
#include "client/cli/trace.h"
#include "client/libcoffer/request.h"
#include "common/expression.h"

#define RESOLVE "coffer.v1.ResolveService/Resolve"

enum { PLACE_TEXT = 64 };

/* --- Requests --------------------------------------------------------------------------------------------------- */

void resolve_add_environments(const struct cli *cli, coffer_request *request)
{
    if (cli->environments.count == 0 && cli_environment(cli)[0] != '\0') {
        coffer_request_add_environment(request, cli_environment(cli));
    }
    for (size_t i = 0; i < cli->environments.count; i++) {
        coffer_request_add_environment(request, cli->environments.items[i]);
    }
}

/* Once, of the item that is oldest: whoever goes on with such values should know. */
static void warn_of_older(const coffer_result *result)
{
    char text[PLACE_TEXT];
    struct tm parts;
    int64_t oldest_ms = 0;
    for (size_t i = 0; i < coffer_result_count(result); i++) {
        const int64_t since_ms = coffer_item_stale_since_ms(coffer_result_item(result, i));
        oldest_ms = since_ms != 0 && (oldest_ms == 0 || since_ms < oldest_ms) ? since_ms : oldest_ms;
    }
    const time_t seconds = (time_t) (oldest_ms / 1000);
    if (oldest_ms != 0 && gmtime_r(&seconds, &parts) != NULL &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0) {
        cli_note("coffer: warning: the server has lost its database; this is what it knew at %s", text);
    }
}

/* NULL if there was no memory for it. */
static const ProtobufCMessage *message_of(const coffer_request *request)
{
    return request == NULL || request->message == NULL ? NULL : &request->message->base;
}

cli_exit resolve_ask(struct cli *cli, coffer_request *request, coffer_result **ret_result)
{
    assert(command_may_call(cli->command, RESOLVE));
    coffer_error *error = NULL;
    cli_exit code = cli_connect(cli);
    coffer_request_set_traceparent(request, trace_parent());
    const struct trace trace = trace_begin(RESOLVE);
    progress_begin("waiting for values");
    const bool failed = code == CLI_OK && coffer_resolve(cli->client, request, ret_result, &error) != COFFER_OK;
    progress_end();
    if (code == CLI_OK) {
        trace_end(&trace, &(struct trace_end){.request = message_of(request),
                                              .error = error,
                                              .request_id = failed ? NULL : coffer_result_request_id(*ret_result)});
    }
    if (failed) {
        code = cli_fail(error);
        coffer_error_free(error);
    }
    if (code == CLI_OK) {
        warn_of_older(*ret_result);
    }
    return code;
}

/* --- Failures --------------------------------------------------------------------------------------------------- */

/* "did you mean a, b?"; NULL if there is nothing near. */
static char *near_misses(const coffer_fault *fault)
{
    const size_t count = coffer_fault_near_miss_count(fault);
    char *text = NULL;
    size_t length = 0;
    FILE *out = count == 0 ? NULL : open_memstream(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s%s", i == 0 ? "did you mean " : ", ", coffer_fault_near_miss(fault, i));
    }
    fputc('?', out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* Of several failures of one item the last one names the request. */
static cli_exit exit_of(const coffer_item *item)
{
    return coffer_item_outcome(item) == COFFER_OUTCOME_REAUTH_REQUIRED ? CLI_REAUTH
                                                                       : cli_exit_of(coffer_item_status(item));
}

static void report_fault(const coffer_result *result, const coffer_item *item, size_t i)
{
    const coffer_fault *fault = coffer_item_fault(item, i);
    const bool last = i + 1 == coffer_item_fault_count(item);
    char *near = near_misses(fault);
    (void) cli_report(&(struct cli_report){
        .message = coffer_fault_message(fault),
        .hint = near == NULL ? cli_hint(coffer_outcome_name(coffer_fault_outcome(fault))) : near,
        .reason = coffer_outcome_name(last ? coffer_item_outcome(item) : coffer_fault_outcome(fault)),
        .request_id = last ? coffer_result_request_id(result) : NULL,
        .code = exit_of(item),
    });
    free(near);
}

cli_exit resolve_fail_item(const struct cli *cli, const coffer_result *result, const coffer_item *item)
{
    const bool elsewhere =
        coffer_item_outcome(item) == COFFER_OUTCOME_ITEM_INVALID && cli_workspace(cli)[0] == '\0';
    for (size_t i = 0; i < coffer_item_fault_count(item); i++) {
        report_fault(result, item, i);
    }
    if (coffer_item_fault_count(item) == 0) {
        (void) cli_report(&(struct cli_report){
            .message = coffer_item_message(item),
            .hint = elsewhere ? "-w UUID, if the token acts in several workspaces"
                              : cli_hint(coffer_outcome_name(coffer_item_outcome(item))),
            .reason = coffer_outcome_name(coffer_item_outcome(item)),
            .request_id = coffer_result_request_id(result),
            .code = exit_of(item),
        });
    }
    return exit_of(item);
}

cli_exit resolve_all(struct cli *cli, coffer_request *request, coffer_result **ret_result)
{
    cli_exit code = resolve_ask(cli, request, ret_result);
    const size_t count = code == CLI_OK ? coffer_result_count(*ret_result) : 0;
    for (size_t i = 0; i < count; i++) {
        const coffer_item *item = coffer_result_item(*ret_result, i);
        const cli_exit failed =
            coffer_item_status(item) == COFFER_OK ? CLI_OK : resolve_fail_item(cli, *ret_result, item);
        code = code == CLI_OK ? failed : code;
    }
    return code;
}

/* --- get -------------------------------------------------------------------------------------------------------- */

static cli_exit get_reference(struct cli *cli)
{
    struct reference reference;
    coffer_result *result = NULL;
    size_t item = 0;
    cli_exit code = reference_read(cli->arguments[0], "argument 1", &reference);
    if (code != CLI_OK) {
        return code;
    }
    coffer_request *request = coffer_request_new();
    reference_ask(cli, request, &reference, 1, false, &item);
    code = resolve_all(cli, request, &result);
    if (code == CLI_OK) {
        code = cli_print_value(cli, coffer_item_value_at(coffer_result_item(result, item), 0, NULL, NULL));
    }
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}

/* Where a key stands in several secrets only one of them could be its variable. */
static cli_exit check_key(const struct reference *references, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(references[i].key, references[count].key) == 0) {
            return cli_usage("coffer run --set NAME=SECRET.KEY gives one of them another name",
                             "the variable %s would come from two references", references[count].key);
        }
    }
    return CLI_OK;
}

static cli_exit read_references(const struct cli *cli, struct reference *references)
{
    char what[PLACE_TEXT];
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < cli->argument_count; i++) {
        (void) snprintf(what, sizeof what, "argument %zu", i + 1);
        code = reference_read(cli->arguments[i], what, &references[i]);
        if (code == CLI_OK) {
            code = check_key(references, i);
        }
    }
    return code;
}

/* All of them, or none. */
static cli_exit print_variables(struct cli *cli, const struct reference *references, size_t *items)
{
    coffer_result *result = NULL;
    assert(references != NULL && items != NULL);
    coffer_request *request = coffer_request_new();
    reference_ask(cli, request, references, cli->argument_count, false, items);
    cli_exit code = resolve_all(cli, request, &result);
    for (size_t i = 0; code == CLI_OK && i < cli->argument_count; i++) {
        const coffer_item *item = coffer_result_item(result, items[i]);
        code =
            cli_print_variable(references[i].key, coffer_item_value(item, references[i].name, references[i].key));
    }
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}

static cli_exit get_variables(struct cli *cli)
{
    struct reference *references = calloc(cli->argument_count, sizeof *references);
    size_t *items = calloc(cli->argument_count, sizeof *items);
    cli_exit code = references == NULL || items == NULL ? cli_no_memory() : read_references(cli, references);
    if (code == CLI_OK) {
        code = print_variables(cli, references, items);
    }
    free(references);
    free(items);
    return code;
}

/* What another program would evaluate would come back as it is, with the exit code of a value. */
static cli_exit check_expression(const char *text)
{
    struct cof_template_scan scan;
    struct cof_template template;
    struct cof_error err = {0};
    size_t count = 0;
    bool found = true;
    cof_template_scan_init(&scan, cof_slice_text(text));
    while (cof_template_next(&scan, &template, &found, &err) == COF_OK && found) {
        if (!template.evaluated) {
            return cli_usage("'${{ SECRETS.a.K || \"none\" }}'",
                             "argument 1 has an expression that Coffer does not evaluate, at column %" PRIu32
                             ": operands are references, texts and None, with || between them",
                             template.place.column);
        }
        count++;
    }
    return count > 0 || err.code != COF_OK
               ? CLI_OK
               : cli_usage("'${{ SECRETS.a.K || \"none\" }}'", "argument 1 has no reference to a secret");
}

static cli_exit get_expression(struct cli *cli)
{
    struct template template = {
        .from = "argument 1", .text = cli->arguments[0], .length = strlen(cli->arguments[0])};
    cli_exit code = check_expression(template.text);
    if (code == CLI_OK) {
        code = template_parse(&template, COFFER_TEMPLATE_TEXT);
    }
    if (code == CLI_OK) {
        code = template_print(cli, &template);
    }
    template_done(&template);
    return code;
}

/* A lone reference of a workflow is one of the command line, too, with its messages. */
cli_exit cmd_get(struct cli *cli)
{
    const char *text = cli->arguments[0];
    if (cli->shell) {
        return get_variables(cli);
    }
    if (cli->argument_count > 1) {
        return cli_usage("coffer get slack.SLACK_BOT_TOKEN jira.API_TOKEN -o env",
                         "get prints one value, or with -o env several");
    }
    const bool expression = strstr(text, "${{") != NULL && !cli_is_reference(text);
    return expression ? get_expression(cli) : get_reference(cli);
}
