#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/name.h"

enum { REFERENCE_TEXT = COF_SECRET_NAME_MAX + COF_KEY_NAME_MAX + 2, PLACE_TEXT = 48 };

/* --- References ----------------------------------------------------------------------------------------------- */

/* The library would name the field of the request; people know the arguments that they typed. */
static cli_exit check_name(cof_name_kind kind, const char *name, const char *what, size_t place)
{
    struct cof_error err = {0};
    char field[PLACE_TEXT];
    (void) snprintf(field, sizeof field, "the %s in argument %zu", what, place);
    return cof_name_check(kind, cof_slice_text(name), field, &err) == COF_OK
               ? CLI_OK
               : cli_refuse(CLI_REJECTED, NULL, "%s", err.message);
}

static cli_exit add_reference(struct cli *cli, size_t i, coffer_request *request)
{
    char *name;
    char *key;
    if (!cli_split_reference(cli->arguments[i], &name, &key)) {
        return cli_usage("coffer get slack.SLACK_BOT_TOKEN", "argument %zu is not of the form NAME.KEY", i + 1);
    }
    cli_exit code = check_name(COF_NAME_SECRET, name, "name", i + 1);
    if (code == CLI_OK) {
        code = check_name(COF_NAME_KEY, key, "key", i + 1);
    }
    if (code == CLI_OK) {
        cli->arguments[i] = name;
        coffer_request_add_reference(request, name, key);
    }
    return code;
}

/* Fills the request from arguments and options, and asks. */
static cli_exit ask(struct cli *cli, coffer_request *request, coffer_result **ret_result)
{
    coffer_error *error = NULL;
    cli_exit code = CLI_OK;
    if (cli->environments.count == 0 && cli_environment(cli)[0] != '\0') {
        coffer_request_add_environment(request, cli_environment(cli));
    }
    for (size_t i = 0; i < cli->environments.count; i++) {
        coffer_request_add_environment(request, cli->environments.items[i]);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->argument_count; i++) {
        code = add_reference(cli, i, request);
    }
    if (code == CLI_OK) {
        code = cli_connect(cli);
    }
    if (code == CLI_OK && coffer_resolve(cli->client, request, ret_result, &error) != COFFER_OK) {
        code = cli_fail(error);
        coffer_error_free(error);
    }
    return code;
}

/* --- One value ------------------------------------------------------------------------------------------------ */

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
static void report_fault(const coffer_result *result, const coffer_item *item, size_t i)
{
    const coffer_fault *fault = coffer_item_fault(item, i);
    const bool last = i + 1 == coffer_item_fault_count(item);
    char *near = near_misses(fault);
    (void) cli_report(&(struct cli_report){
        .message = coffer_fault_message(fault),
        .hint = near,
        .reason = coffer_outcome_name(last ? coffer_item_outcome(item) : coffer_fault_outcome(fault)),
        .request_id = last ? coffer_result_request_id(result) : NULL,
        .code = cli_exit_of(coffer_item_status(item)),
    });
    free(near);
}

static cli_exit fail_item(const struct cli *cli, const coffer_result *result, const coffer_item *item)
{
    const bool elsewhere =
        coffer_item_outcome(item) == COFFER_OUTCOME_ITEM_INVALID && cli_workspace(cli)[0] == '\0';
    for (size_t i = 0; i < coffer_item_fault_count(item); i++) {
        report_fault(result, item, i);
    }
    if (coffer_item_fault_count(item) == 0) {
        (void) cli_report(&(struct cli_report){
            .message = coffer_item_message(item),
            .hint = elsewhere ? "-w UUID, if the token acts in several workspaces" : NULL,
            .reason = coffer_outcome_name(coffer_item_outcome(item)),
            .request_id = coffer_result_request_id(result),
            .code = cli_exit_of(coffer_item_status(item)),
        });
    }
    return cli_exit_of(coffer_item_status(item));
}

cli_exit cmd_get(struct cli *cli)
{
    coffer_result *result = NULL;
    if (cli->output != NULL && strcmp(cli->output, "raw") != 0) {
        return cli_usage("coffer get slack.SLACK_BOT_TOKEN -o raw", "--output can only be raw");
    }
    coffer_request *request = coffer_request_new();
    cli_exit code = ask(cli, request, &result);
    if (code == CLI_OK) {
        const coffer_item *item = coffer_result_item(result, 0);
        code = coffer_item_status(item) == COFFER_OK
                   ? cli_print_value(cli, coffer_item_value_at(item, 0, NULL, NULL))
                   : fail_item(cli, result, item);
    }
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}

/* --- Outcomes without values ---------------------------------------------------------------------------------- */

static const coffer_fault *fault_of(const coffer_item *item, size_t reference)
{
    for (size_t i = 0; item != NULL && i < coffer_item_fault_count(item); i++) {
        if (coffer_fault_reference(coffer_item_fault(item, i)) == reference) {
            return coffer_item_fault(item, i);
        }
    }
    return NULL;
}

/* The answer has only what would fail, so an environment without an item has everything. */
static const coffer_item *item_of(const coffer_result *result, const char *environment)
{
    for (size_t i = 0; i < coffer_result_count(result); i++) {
        if (strcmp(coffer_item_environment(coffer_result_item(result, i)), environment) == 0) {
            return coffer_result_item(result, i);
        }
    }
    return NULL;
}

static coffer_outcome outcome_of(const coffer_item *item, const coffer_fault *fault)
{
    if (fault != NULL) {
        return coffer_fault_outcome(fault);
    }
    return item == NULL || coffer_item_fault_count(item) > 0 ? COFFER_OUTCOME_RESOLVED : coffer_item_outcome(item);
}

/* The arguments were split in place: the name ends where its dot was. */
static void add_rows(const struct cli *cli, const coffer_item *item, const char *environment,
                     struct cli_table *table)
{
    for (size_t i = 0; i < cli->argument_count; i++) {
        const coffer_fault *fault = fault_of(item, i);
        const bool near = fault != NULL && coffer_fault_near_miss_count(fault) > 0;
        char reference[REFERENCE_TEXT];
        char *name = cli->arguments[i];
        (void) snprintf(reference, sizeof reference, "%s.%s", name, name + strlen(name) + 1);
        cli_table_add(table, environment);
        cli_table_add(table, reference);
        cli_table_add(table, coffer_outcome_name(outcome_of(item, fault)));
        cli_table_add(table, near ? coffer_fault_near_miss(fault, 0) : "");
    }
}

static cli_exit print_result(const struct cli *cli, const coffer_result *result)
{
    static const char *const headers[] = {"ENVIRONMENT", "REFERENCE", "OUTCOME", "DID YOU MEAN"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    const char *only = cli_environment(cli)[0] == '\0' ? COF_DEFAULT_ENVIRONMENT : cli_environment(cli);
    const size_t count = cli->environments.count == 0 ? 1 : cli->environments.count;
    for (size_t i = 0; i < count; i++) {
        const char *environment = cli->environments.count == 0 ? only : cli->environments.items[i];
        const coffer_item *item = item_of(result, environment);
        if (item != NULL && coffer_item_fault_count(item) == 0) {
            (void) fail_item(cli, result, item);
        }
        add_rows(cli, item, environment, table);
    }
    cli_table_print(table);
    return coffer_result_would_fail(result) == 0 ? CLI_OK : CLI_PARTIAL;
}

cli_exit cmd_resolve(struct cli *cli)
{
    coffer_result *result = NULL;
    coffer_request *request = coffer_request_new();
    coffer_request_set_validate_only(request, CLI_LIST_MAX, NULL);
    cli_exit code = ask(cli, request, &result);
    if (code == CLI_OK) {
        code = print_result(cli, result);
    }
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}
