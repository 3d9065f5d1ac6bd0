#include <stdio.h>
#include <string.h>
#include <time.h>

#include <coffer/v1/aws.pb-c.h>
#include <coffer/v1/resolve.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/message.h"

/* Commands about roles of AWS. */

#define AWS_SERVICE "coffer.v1.AwsService/"

static char *secret_name(const struct cli *cli)
{
    static char name[] = "aws";
    return cli->argument_count > 0 ? cli->arguments[0] : name;
}

/* --- role-info ---------------------------------------------------------------------------------------------------- */

static bool is_form(const struct cli *cli, const char *form)
{
    return cli->format != NULL && strcmp(cli->format, form) == 0;
}

static void show_access(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__GetAssumeRoleAccessResponse *access =
        (const Coffer__V1__GetAssumeRoleAccessResponse *) (const void *) answer;
    if (is_form(cli, "aws-cli")) {
        fputs(access->aws_cli, stdout);
    } else if (is_form(cli, "cloudformation")) {
        fputs(access->cloudformation, stdout);
    } else if (is_form(cli, "terraform")) {
        fputs(access->terraform, stdout);
    } else if (is_form(cli, "permissions")) {
        fputs(access->example_permissions, stdout);
    } else if (is_form(cli, "policy")) {
        fputs(access->trust_policy, stdout);
    } else {
        cli_print_field("account", access->account_id);
        cli_print_field("principal", access->principal_arn);
        cli_print_field("external id", access->external_id);
        cli_note("coffer: the role's trust policy: --format policy; how to make one: --format aws-cli, "
                 "cloudformation or "
                 "terraform");
    }
}

cli_exit cmd_aws_role_info(struct cli *cli)
{
    static const char *const forms[] = {"policy", "permissions", "aws-cli", "cloudformation", "terraform"};
    static const struct cli_method method = {AWS_SERVICE "GetAssumeRoleAccess",
                                             &coffer__v1__get_assume_role_access_response__descriptor, show_access};
    Coffer__V1__GetAssumeRoleAccessRequest request;
    bool known = cli->format == NULL;
    for (size_t i = 0; i < COF_COUNT(forms); i++) {
        known = known || is_form(cli, forms[i]);
    }
    if (!known) {
        return cli_usage("--format policy, permissions, aws-cli, cloudformation or terraform",
                         "there is no form \"%s\" here", cli->format);
    }
    coffer__v1__get_assume_role_access_request__init(&request);
    request.workspace = cli_workspace(cli);
    return cli_do(cli, &method, &request.base);
}

/* --- test --------------------------------------------------------------------------------------------------------- */

static const char *verdict_name(Coffer__V1__AwsRoleVerdict verdict)
{
    switch (verdict) {
    case COFFER__V1__AWS_ROLE_VERDICT__AWS_ROLE_VERDICT_REFUSES:
        return "ok: it demands the External ID";
    case COFFER__V1__AWS_ROLE_VERDICT__AWS_ROLE_VERDICT_OPEN:
        return "OPEN";
    case COFFER__V1__AWS_ROLE_VERDICT__AWS_ROLE_VERDICT_NOT_ASSUMED:
        return "it cannot be assumed";
    case COFFER__V1__AWS_ROLE_VERDICT__AWS_ROLE_VERDICT_INCONCLUSIVE:
        return "inconclusive";
    case COFFER__V1__AWS_ROLE_VERDICT__AWS_ROLE_VERDICT_UNSPECIFIED:
    case _COFFER__V1__AWS_ROLE_VERDICT_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

static void show_test(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__TestRoleResponse *response = (const Coffer__V1__TestRoleResponse *) (const void *) answer;
    const Coffer__V1__Secret *secret = response->secret;
    const Coffer__V1__AwsRoleTest *test =
        secret == NULL || secret->facts == NULL ? NULL : secret->facts->aws_role_test;
    (void) cli;
    if (test != NULL) {
        cli_print_field("result", verdict_name(test->verdict));
        cli_print_field("right id", test->granted_with_external_id ? "granted" : "refused");
        cli_print_field("without id", test->granted_without ? "GRANTED" : "refused");
        cli_print_field("wrong id", test->granted_with_wrong_one ? "GRANTED" : "refused");
        cli_print_field("reason", test->reason);
    }
    for (size_t i = 0; i < response->n_warnings; i++) {
        cli_note("coffer: warning: %s", response->warnings[i]);
    }
}

cli_exit cmd_aws_test(struct cli *cli)
{
    static const struct cli_method method = {AWS_SERVICE "TestRole", &coffer__v1__test_role_response__descriptor,
                                             show_test};
    Coffer__V1__TestRoleRequest request;
    coffer__v1__test_role_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = secret_name(cli);
    return cli_do(cli, &method, &request.base);
}

/* --- assume ------------------------------------------------------------------------------------------------------- */

static const Coffer__V1__KeyValue *value_of(const Coffer__V1__ResolvedSecret *secret, const char *key)
{
    for (size_t i = 0; i < secret->n_values; i++) {
        const Coffer__V1__KeyValue *pair = secret->values[i];
        if (strcmp(pair->key, key) == 0 && pair->value.len > 0) {
            return pair;
        }
    }
    return NULL;
}

static void print_value(const char *name, const Coffer__V1__KeyValue *pair)
{
    if (pair != NULL) {
        fputs(", ", stdout);
        cli_json_bytes(stdout, name, pair->value.data, pair->value.len);
    }
}

static void print_expiration(const Google__Protobuf__Timestamp *time)
{
    char text[sizeof "2027-01-31T12:00:00Z"];
    struct tm parts;
    const time_t seconds = time == NULL ? 0 : (time_t) time->seconds;
    if (time != NULL && gmtime_r(&seconds, &parts) != NULL &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0) {
        printf(", \"Expiration\": \"%s\"", text);
    }
}

/* What AWS's SDKs read from a credential_process. */
static void print_process(const Coffer__V1__ResolvedSecret *secret)
{
    fputs("{\"Version\": 1", stdout);
    print_value("AccessKeyId", value_of(secret, "AWS_ACCESS_KEY_ID"));
    print_value("SecretAccessKey", value_of(secret, "AWS_SECRET_ACCESS_KEY"));
    print_value("SessionToken", value_of(secret, "AWS_SESSION_TOKEN"));
    print_expiration(secret->expire_time);
    puts("}");
}

static cli_exit print_variables(const Coffer__V1__ResolvedSecret *secret)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < secret->n_values; i++) {
        const Coffer__V1__KeyValue *pair = secret->values[i];
        code = cli_print_variable(pair->key, (coffer_bytes){pair->value.data, pair->value.len});
    }
    return code;
}

static const char *mode_name(Coffer__V1__AwsMode mode)
{
    if (mode == COFFER__V1__AWS_MODE__AWS_MODE_ROLE) {
        return "session of a role";
    }
    return mode == COFFER__V1__AWS_MODE__AWS_MODE_DIRECT ? "stored keys" : "profile";
}

/* Without values, which only a program is given. */
static void print_assumed(const Coffer__V1__ResolvedSecret *secret)
{
    cli_print_field("secret", secret->name);
    cli_print_field("credentials", mode_name(secret->aws_mode));
    cli_print_field("expire", cli_time(secret->expire_time));
    for (size_t i = 0; i < secret->n_ignored_keys; i++) {
        cli_print_field("ignored", secret->ignored_keys[i]);
    }
    cli_note("coffer: for AWS's tools, in their configuration file: credential_process = coffer aws assume %s -o "
             "credential_process",
             secret->name);
}

static cli_exit fail_result(const Coffer__V1__ResolveResult *result)
{
    const Coffer__V1__ResultStatus *status = result->status;
    return cli_report(&(struct cli_report){
        .message = status == NULL ? "the answer has no status" : status->message,
        .reason =
            coffer_outcome_name(status == NULL ? COFFER_OUTCOME_UNSPECIFIED : (coffer_outcome) status->outcome),
        .code = cli_exit_of(status == NULL ? COFFER_INTERNAL : (coffer_status) status->code),
    });
}

static cli_exit show_result(const struct cli *cli, const Coffer__V1__ResolveResponse *response)
{
    const Coffer__V1__ResolveResult *result = response->n_results == 1 ? response->results[0] : NULL;
    if (result == NULL) {
        return cli_refuse(CLI_ERROR, NULL, "the answer has no result");
    }
    if (result->status == NULL || result->status->code != 0 || result->n_secrets != 1) {
        return fail_result(result);
    }
    if (cli->shell) {
        return print_variables(result->secrets[0]);
    }
    if (cli->process) {
        print_process(result->secrets[0]);
    } else {
        print_assumed(result->secrets[0]);
    }
    return CLI_OK;
}

/* The two keys that everybody has, and the token that only a session has. */
static cli_exit ask(struct cli *cli, ProtobufCMessage **ret_answer)
{
    static char access_key[] = "AWS_ACCESS_KEY_ID";
    static char secret_key[] = "AWS_SECRET_ACCESS_KEY";
    static char token[] = "AWS_SESSION_TOKEN";
    char *keys[] = {access_key, secret_key};
    char *optional_keys[] = {token};
    char *environments[] = {cli_environment(cli)};
    Coffer__V1__SecretDeclaration declaration;
    Coffer__V1__SecretDeclaration *declarations[] = {&declaration};
    Coffer__V1__RunContext run;
    Coffer__V1__ResolveItem item;
    Coffer__V1__ResolveItem *items[] = {&item};
    Coffer__V1__ResolveRequest request;
    coffer__v1__secret_declaration__init(&declaration);
    coffer__v1__run_context__init(&run);
    coffer__v1__resolve_item__init(&item);
    coffer__v1__resolve_request__init(&request);
    declaration.name = secret_name(cli);
    declaration.keys = keys;
    declaration.n_keys = COF_COUNT(keys);
    declaration.optional_keys = optional_keys;
    declaration.n_optional_keys = COF_COUNT(optional_keys);
    item.workspace = cli_workspace(cli);
    item.environments = environments;
    item.n_environments = COF_COUNT(environments);
    item.declarations = declarations;
    item.n_declarations = COF_COUNT(declarations);
    run.run_id = cli->run == NULL ? run.run_id : cli->run;
    run.workflow_id = cli->workflow == NULL ? run.workflow_id : cli->workflow;
    item.run = &run;
    request.items = items;
    request.n_items = COF_COUNT(items);
    return cli_call(cli, "coffer.v1.ResolveService/Resolve", &request.base,
                    &coffer__v1__resolve_response__descriptor, ret_answer);
}

cli_exit cmd_aws_assume(struct cli *cli)
{
    ProtobufCMessage *answer = NULL;
    cli_exit code = ask(cli, &answer);
    if (code == CLI_OK) {
        code = show_result(cli, (const Coffer__V1__ResolveResponse *) (const void *) answer);
        cli_free_message(answer);
    }
    return code;
}
