#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/message.h"
#include "client/cli/reference.h"
#include "client/cli/registry.h"
#include "client/cli/resolve.h"
#include "client/cli/template.h"
#include "common/name.h"

/* What would be resolved, in several environments, without values: `resolve` and `check`. */

enum { REFERENCE_TEXT = COF_SECRET_NAME_MAX + COF_KEY_NAME_MAX + 2, PLACE_TEXT = 32 };

/* A reference that is asked for, or one that may be missing, which is not. */
struct wanted {
    const char *name;
    const char *key;
    bool required;
    size_t place; /* among those of the request */
};

struct check {
    struct wanted *wanted;
    size_t count;
    struct template *templates;
    size_t template_count;
    coffer_request *request;
    coffer_result *result;
    bool faults_only; /* what is well is not told, and arguments are none of ours */
};

/* --- What is asked for ------------------------------------------------------------------------------------------ */

/* Adds what is not there yet; required wins. The request gets the references later, in the order of the list. */
static cli_exit add_wanted(struct check *check, struct wanted one)
{
    for (size_t i = 0; i < check->count; i++) {
        struct wanted *other = &check->wanted[i];
        if (strcmp(other->name, one.name) == 0 && strcmp(other->key, one.key) == 0) {
            other->required = other->required || one.required;
            return CLI_OK;
        }
    }
    struct wanted *grown = realloc(check->wanted, (check->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return cli_no_memory();
    }
    check->wanted = grown;
    check->wanted[check->count++] = one;
    return CLI_OK;
}

static cli_exit add_template(struct check *check, const char *path, const char *format)
{
    struct template *template = &check->templates[check->template_count++];
    cli_exit code = template_read(path, format, template);
    const size_t count = code == CLI_OK ? coffer_template_reference_count(template->parsed) : 0;
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        code = add_wanted(check, (struct wanted){coffer_template_reference_secret(template->parsed, i),
                                                 coffer_template_reference_key(template->parsed, i),
                                                 coffer_template_reference_required(template->parsed, i), 0});
    }
    return code;
}

static cli_exit add_argument(struct check *check, char *text, size_t place)
{
    char what[PLACE_TEXT];
    struct reference reference;
    (void) snprintf(what, sizeof what, "argument %zu", place);
    const cli_exit code = reference_read_short(text, what, &reference);
    return code == CLI_OK
               ? add_wanted(check, (struct wanted){.name = reference.name, .key = reference.key, .required = true})
               : code;
}

static cli_exit collect(struct cli *cli, struct check *check)
{
    cli_exit code = CLI_OK;
    check->templates = calloc(cli->templates.count + 1, sizeof *check->templates);
    if (check->templates == NULL) {
        return cli_no_memory();
    }
    for (size_t i = 0; code == CLI_OK && !check->faults_only && i < cli->argument_count; i++) {
        code = add_argument(check, cli->arguments[i], i + 1);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->templates.count; i++) {
        code = add_template(check, cli->templates.items[i], cli->format);
    }
    return code;
}

/* --- What came of it -------------------------------------------------------------------------------------------- */

static const coffer_fault *fault_of(const coffer_item *item, const struct wanted *wanted)
{
    const size_t count = item == NULL || !wanted->required ? 0 : coffer_item_fault_count(item);
    for (size_t i = 0; i < count; i++) {
        if (coffer_fault_reference(coffer_item_fault(item, i)) == wanted->place) {
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

static const char *outcome_of(const coffer_item *item, const struct wanted *wanted, const coffer_fault *fault)
{
    if (fault != NULL) {
        return coffer_outcome_name(coffer_fault_outcome(fault));
    }
    if (!wanted->required) {
        return "OPTIONAL";
    }
    return coffer_outcome_name(item == NULL || coffer_item_fault_count(item) > 0 ? COFFER_OUTCOME_RESOLVED
                                                                                 : coffer_item_outcome(item));
}

/* Where rows go. */
struct rows {
    struct cli_table *table; /* or as JSON */
    size_t count;
};

static void add_json(struct rows *rows, const char *environment, const char *reference, const char *outcome,
                     const coffer_fault *fault)
{
    fputs(rows->count++ == 0 ? "\n    {\"environment\": " : ",\n    {\"environment\": ", stdout);
    cli_json_text(stdout, environment);
    fputs(", \"reference\": ", stdout);
    cli_json_text(stdout, reference);
    fputs(", \"outcome\": ", stdout);
    cli_json_text(stdout, outcome);
    if (fault != NULL) {
        fputs(", \"message\": ", stdout);
        cli_json_text(stdout, coffer_fault_message(fault));
    }
    fputs(", \"nearMisses\": [", stdout);
    for (size_t i = 0; fault != NULL && i < coffer_fault_near_miss_count(fault); i++) {
        fputs(i == 0 ? "" : ", ", stdout);
        cli_json_text(stdout, coffer_fault_near_miss(fault, i));
    }
    fputs("]}", stdout);
}

static void add_row(struct rows *rows, const coffer_item *item, const char *environment,
                    const struct wanted *wanted)
{
    const coffer_fault *fault = fault_of(item, wanted);
    const bool near = fault != NULL && coffer_fault_near_miss_count(fault) > 0;
    const char *outcome = outcome_of(item, wanted, fault);
    char reference[REFERENCE_TEXT];
    (void) snprintf(reference, sizeof reference, "%s.%s", wanted->name, wanted->key);
    if (rows->table == NULL) {
        add_json(rows, environment, reference, outcome, fault);
        return;
    }
    cli_table_add(rows->table, environment);
    cli_table_add(rows->table, reference);
    cli_table_add(rows->table, outcome);
    cli_table_add(rows->table, near ? coffer_fault_near_miss(fault, 0) : "");
}

static void add_environment(const struct cli *cli, const struct check *check, const char *environment,
                            struct rows *rows)
{
    const coffer_item *item = item_of(check->result, environment);
    if (item != NULL && coffer_item_fault_count(item) == 0) {
        (void) resolve_fail_item(cli, check->result, item);
    }
    for (size_t i = 0; i < check->count; i++) {
        add_row(rows, item, environment, &check->wanted[i]);
    }
}

static cli_exit print_result(const struct cli *cli, const struct check *check)
{
    static const char *const headers[] = {"ENVIRONMENT", "REFERENCE", "OUTCOME", "DID YOU MEAN"};
    const char *only = cli_environment(cli)[0] == '\0' ? COF_DEFAULT_ENVIRONMENT : cli_environment(cli);
    const size_t count = cli->environments.count == 0 ? 1 : cli->environments.count;
    struct rows rows = {.table = cli->json ? NULL : cli_table_new(headers, COF_COUNT(headers))};
    if (!cli->json && rows.table == NULL) {
        return cli_no_memory();
    }
    fputs(cli->json ? "{\n  \"references\": [" : "", stdout);
    for (size_t i = 0; i < count; i++) {
        add_environment(cli, check, cli->environments.count == 0 ? only : cli->environments.items[i], &rows);
    }
    if (cli->json) {
        printf("\n  ],\n  \"wouldResolve\": %" PRIu32 ",\n  \"wouldFail\": %" PRIu32 "\n}\n",
               coffer_result_would_resolve(check->result), coffer_result_would_fail(check->result));
    }
    cli_table_print(rows.table);
    return coffer_result_would_fail(check->result) == 0 ? CLI_OK : CLI_PARTIAL;
}

/* Only what is missing, on standard error. */
static cli_exit tell_faults(const struct cli *cli, const struct check *check)
{
    for (size_t i = 0; i < coffer_result_count(check->result); i++) {
        (void) resolve_fail_item(cli, check->result, coffer_result_item(check->result, i));
    }
    return coffer_result_would_fail(check->result) == 0 ? CLI_OK : CLI_PARTIAL;
}

/* --- Commands --------------------------------------------------------------------------------------------------- */

static cli_exit ask(struct cli *cli, struct check *check)
{
    size_t required = 0;
    check->request = coffer_request_new();
    coffer_request_set_validate_only(check->request, CLI_LIST_MAX, NULL);
    resolve_add_environments(cli, check->request);
    for (size_t i = 0; i < check->count; i++) {
        if (check->wanted[i].required) {
            coffer_request_add_reference(check->request, check->wanted[i].name, check->wanted[i].key);
            check->wanted[i].place = required++;
        }
    }
    if (required == 0) {
        cli_note("coffer: note: nothing is needed: there is no reference that may not be missing");
        return CLI_OK;
    }
    const cli_exit code = resolve_ask(cli, check->request, &check->result);
    if (code != CLI_OK) {
        return code;
    }
    return check->faults_only ? tell_faults(cli, check) : print_result(cli, check);
}

static cli_exit run_check(struct cli *cli, bool faults_only)
{
    struct check check = {.faults_only = faults_only};
    cli_exit code = collect(cli, &check);
    if (code == CLI_OK) {
        code = ask(cli, &check);
    }
    for (size_t i = 0; i < check.template_count; i++) {
        template_done(&check.templates[i]);
    }
    coffer_result_free(check.result);
    coffer_request_free(check.request);
    free(check.templates);
    free(check.wanted);
    return code;
}

/* The name of a file has the form of a reference. */
static void note_files(const struct cli *cli)
{
    for (size_t i = 0; i < cli->argument_count; i++) {
        if (access(cli->arguments[i], F_OK) == 0) {
            cli_note("coffer: note: %s is a file, too; --template %s checks what it names", cli->arguments[i],
                     cli->arguments[i]);
        }
    }
}

cli_exit cmd_check(struct cli *cli)
{
    note_files(cli);
    if (cli->argument_count + cli->templates.count == 0) {
        return cli_usage("coffer check slack.SLACK_BOT_TOKEN --template workflow.yaml -e prod",
                         "check needs a reference, or --template");
    }
    return run_check(cli, false);
}

cli_exit check_templates(struct cli *cli)
{
    return cli->templates.count == 0 ? CLI_OK : run_check(cli, true);
}

cli_exit cmd_resolve(struct cli *cli)
{
    if (cli->action != NULL && cli->argument_count > 0) {
        return cli_usage("coffer resolve --action tools.slack.post -e prod",
                         "resolve takes references, or --action");
    }
    if (cli->action != NULL) {
        return registry_check(cli, &cli->action, 1);
    }
    return cli->argument_count > 0 ? cmd_check(cli)
                                   : cli_usage("coffer resolve slack.SLACK_BOT_TOKEN -e prod",
                                               "resolve needs a reference, or --action");
}
