#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <coffer/rpc/v1/server.pb-c.h>

#include "client/cli/import_file.h"
#include "client/cli/import_server.h"
#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "client/cli/secret.h"

enum {
    FRAME_RESERVE = 4096, /* of a request frame, for what is around the message */
    ACTIONS = 6,
    MESSAGE_ROOM = 1024,
};

static const char *const action_names[ACTIONS] = {"unknown",   "created", "changed",
                                                  "unchanged", "skipped", "refused"};
static const char *const change_names[] = {"unknown", "added", "changed", "removed", "written"};

/* --- The request ---------------------------------------------------------------------------------------------- */

static cli_exit read_mode(const char *text, Coffer__V1__ImportMode *ret_mode)
{
    static const char *const modes[] = {"fail", "skip", "replace", "patch"};
    *ret_mode = COFFER__V1__IMPORT_MODE__IMPORT_MODE_FAIL;
    for (size_t i = 0; text != NULL && i < COF_COUNT(modes); i++) {
        if (strcmp(text, modes[i]) == 0) {
            *ret_mode = (Coffer__V1__ImportMode) (COFFER__V1__IMPORT_MODE__IMPORT_MODE_FAIL + (int) i);
            return CLI_OK;
        }
    }
    return text == NULL ? CLI_OK
                        : cli_usage("coffer import prod.yaml --on-conflict patch",
                                    "--on-conflict is fail, skip, replace or patch");
}

static bool fill_values(struct cof_arena *arena, const struct cof_import_step *step,
                        Coffer__V1__ImportSecret *secret)
{
    secret->values = cof_arena_array(arena, step->row_count, sizeof *secret->values);
    for (size_t i = 0; secret->values != NULL && i < step->row_count; i++) {
        const struct cof_slice value = step->rows[i].entry->value;
        Coffer__V1__KeyValue *pair = cof_arena_alloc(arena, sizeof *pair);
        if (pair == NULL) {
            return false;
        }
        coffer__v1__key_value__init(pair);
        pair->key = cof_arena_text(arena, step->rows[i].key);
        pair->value.len = value.len;
        /* protobuf-c's bytes have no const; packing only reads. */
        memcpy(&pair->value.data, &value.data, sizeof pair->value.data);
        secret->values[secret->n_values++] = pair;
    }
    return secret->n_values == step->row_count;
}

static Coffer__V1__ImportSecret *make_secret(struct cof_arena *arena, char *environment,
                                             const struct cof_import_step *step)
{
    Coffer__V1__ImportSecret *secret = cof_arena_alloc(arena, sizeof *secret);
    if (secret == NULL) {
        return NULL;
    }
    coffer__v1__import_secret__init(secret);
    secret->environment = environment;
    secret->name = cof_arena_text(arena, step->secret);
    return secret->name != NULL && fill_values(arena, step, secret) ? secret : NULL;
}

static cli_exit fill_secrets(const struct cli *cli, struct import_file *file,
                             Coffer__V1__ImportSecretsRequest *request)
{
    request->secrets = cof_arena_array(&file->arena, file->plan.step_count, sizeof *request->secrets);
    for (size_t i = 0; request->secrets != NULL && i < file->plan.step_count; i++) {
        request->secrets[i] = make_secret(&file->arena, cli_environment(cli), &file->plan.steps[i]);
        if (request->secrets[i] == NULL) {
            return cli_no_memory();
        }
        request->n_secrets++;
    }
    return request->secrets == NULL ? cli_no_memory() : CLI_OK;
}

/* A file of people, or what the server's export was. */
static cli_exit read_secrets(const struct cli *cli, struct import_file *file,
                             Coffer__V1__ImportSecretsRequest *request)
{
    const char *path = cli->arguments[0];
    const bool exported = cli->format != NULL && strcmp(cli->format, "coffer") == 0;
    cof_import_format format = COF_IMPORT_JSON;
    struct cof_slice bytes = {NULL, 0};
    cli_exit code = exported ? CLI_OK : import_format(cli, path, &format);
    if (code == CLI_OK) {
        code = import_file_load(path, file, &bytes);
    }
    if (code == CLI_OK && (exported || (format == COF_IMPORT_JSON && import_server_is(bytes)))) {
        return import_server_read(cli, file, bytes, request);
    }
    if (code == CLI_OK) {
        code = import_file_plan(cli, format, bytes, file);
    }
    return code == CLI_OK ? fill_secrets(cli, file, request) : code;
}

static cli_exit fill_request(const struct cli *cli, struct import_file *file,
                             Coffer__V1__ImportSecretsRequest *request)
{
    coffer__v1__import_secrets_request__init(request);
    request->workspace = cli_workspace(cli);
    request->validate_only = cli->dry_run;
    const cli_exit code = read_secrets(cli, file, request);
    return code == CLI_OK ? read_mode(cli->on_conflict, &request->mode) : code;
}

/* --- The server's limits -------------------------------------------------------------------------------------- */

#define WHOLE "an import is written as a whole or not at all, so it is not split; make several files of it"

static cli_exit compare_limits(const Coffer__V1__ImportSecretsRequest *request,
                               const Coffer__Rpc__V1__ServerLimits *limits)
{
    const size_t size = protobuf_c_message_get_packed_size(&request->base) + FRAME_RESERVE;
    if (limits == NULL || limits->max_secrets_per_import == 0) {
        return cli_refuse(CLI_ERROR, "coffer status shows the server's version", "the server knows no imports");
    }
    if (request->n_secrets > limits->max_secrets_per_import) {
        return cli_refuse(CLI_LIMIT, WHOLE, "the file has %zu secrets, and the server takes %u at once",
                          request->n_secrets, limits->max_secrets_per_import);
    }
    if (size > limits->max_request_bytes) {
        return cli_refuse(CLI_LIMIT, WHOLE, "the file makes a request of %zu bytes, and the server takes %u", size,
                          limits->max_request_bytes);
    }
    return CLI_OK;
}

static cli_exit check_limits(struct cli *cli, const Coffer__V1__ImportSecretsRequest *request)
{
    Coffer__Rpc__V1__GetServerInfoRequest ask;
    ProtobufCMessage *answer = NULL;
    coffer__rpc__v1__get_server_info_request__init(&ask);
    cli_exit code = cli_call(cli, "coffer.rpc.v1.ServerService/GetServerInfo", &ask.base,
                             &coffer__rpc__v1__get_server_info_response__descriptor, &answer);
    if (code == CLI_OK) {
        code = compare_limits(request,
                              ((const Coffer__Rpc__V1__GetServerInfoResponse *) (const void *) answer)->limits);
    }
    cli_free_message(answer);
    return code;
}

/* --- What became of it ---------------------------------------------------------------------------------------- */

static const char *name_in(const char *const *names, size_t count, int number)
{
    return names[number > 0 && (size_t) number < count ? number : 0];
}

/* The name as it stands in the file, where it became another one; `step` is NULL for what the server exported. */
static char *name_before(struct cof_arena *arena, const struct cof_import_step *step, const char *key)
{
    if (step == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < step->row_count; i++) {
        const struct cof_import_row *row = &step->rows[i];
        if (key != NULL && row->renamed && cof_slice_equal(row->key, cof_slice_text(key))) {
            return cof_arena_text(arena, row->entry->key);
        }
    }
    return key == NULL && step->renamed ? cof_arena_text(arena, step->rows[0].entry->secret) : NULL;
}

static void add_row(struct cli_table *table, const Coffer__V1__ImportedSecret *secret,
                    const Coffer__V1__ImportedKey *key, const char *before)
{
    cli_table_add(table, secret->name);
    cli_table_add(table, name_in(action_names, ACTIONS, (int) secret->action));
    cli_table_add(table, key == NULL ? "" : key->key);
    cli_table_add(table, key == NULL ? "" : name_in(change_names, COF_COUNT(change_names), (int) key->change));
    cli_table_add(table, before == NULL ? "" : before);
    cli_table_add(table, secret->environment);
}

/* A row for each secret, and one for each key that differs. */
static void print_differences(struct import_file *file, const Coffer__V1__ImportSecretsResponse *answer)
{
    static const char *const headers[] = {"NAME", "ACTION", "KEY", "CHANGE", "NAME IN THE FILE", "ENVIRONMENT"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    for (size_t i = 0; i < answer->n_secrets; i++) {
        const Coffer__V1__ImportedSecret *secret = answer->secrets[i];
        const struct cof_import_step *step = i < file->plan.step_count ? &file->plan.steps[i] : NULL;
        add_row(table, secret, NULL, name_before(&file->arena, step, NULL));
        for (size_t k = 0; k < secret->n_keys; k++) {
            add_row(table, secret, secret->keys[k], name_before(&file->arena, step, secret->keys[k]->key));
        }
    }
    cli_table_print(table);
}

static cli_exit exit_of_reason(const char *reason)
{
    for (int i = 1; i < 1000; i++) {
        if (strcmp(cof_reason_name((cof_reason) i), reason) == 0) {
            return cli_exit_of((coffer_status) cof_reason_code((cof_reason) i));
        }
    }
    return CLI_REJECTED;
}

/* Everything that is refused; the exit code is that of the first. */
static cli_exit say_refusals(const Coffer__V1__ImportSecretsResponse *answer)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < answer->n_secrets; i++) {
        const Coffer__V1__ImportedSecret *secret = answer->secrets[i];
        if (secret->action != COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_REFUSED) {
            continue;
        }
        const cli_exit own = exit_of_reason(secret->reason);
        char message[MESSAGE_ROOM];
        (void) snprintf(message, sizeof message, "%s: %s", secret->name, secret->message);
        const char *hint = own == CLI_CONFLICT ? "--on-conflict skip, replace or patch" : NULL;
        (void) cli_report(
            &(struct cli_report){.message = message, .hint = hint, .reason = secret->reason, .code = own});
        code = code == CLI_OK ? own : code;
    }
    return code;
}

static void say_counts(const struct cli *cli, const Coffer__V1__ImportSecretsResponse *answer)
{
    size_t counts[ACTIONS] = {0};
    for (size_t i = 0; i < answer->n_secrets; i++) {
        const int action = (int) answer->secrets[i]->action;
        counts[action > 0 && action < ACTIONS ? action : 0]++;
        secret_warn(answer->secrets[i]->warnings, answer->secrets[i]->n_warnings);
    }
    cli_note("%s: %zu created, %zu changed, %zu unchanged, %zu skipped, %zu refused%s",
             cli->dry_run ? "dry run" : "import", counts[1], counts[2], counts[3], counts[4], counts[5],
             answer->written ? "" : "; nothing was written");
}

static cli_exit run(struct cli *cli, struct import_file *file, const Coffer__V1__ImportSecretsRequest *request)
{
    ProtobufCMessage *message = NULL;
    progress_begin(cli->dry_run ? "comparing secrets" : "writing secrets");
    cli_exit code = cli_call(cli, SECRET_SERVICE "ImportSecrets", &request->base,
                             &coffer__v1__import_secrets_response__descriptor, &message);
    progress_end();
    if (code != CLI_OK) {
        return code;
    }
    const Coffer__V1__ImportSecretsResponse *answer =
        (const Coffer__V1__ImportSecretsResponse *) (const void *) message;
    if (cli->json) {
        cli_json_message(stdout, message);
    } else if (cli->dry_run) {
        print_differences(file, answer);
    }
    code = say_refusals(answer);
    say_counts(cli, answer);
    cli_free_message(message);
    return code;
}

static cli_exit import_all(struct cli *cli, struct import_file *file)
{
    Coffer__V1__ImportSecretsRequest request;
    cli_exit code = fill_request(cli, file, &request);
    if (code == CLI_OK) {
        code = check_limits(cli, &request);
    }
    return code == CLI_OK ? run(cli, file, &request) : code;
}

cli_exit cmd_import(struct cli *cli)
{
    struct import_file file;
    if (cli->secrets.count > 1) {
        return cli_usage("coffer import FILE --secret NAME", "a file is for one secret, not for %zu",
                         cli->secrets.count);
    }
    cli_exit code = import_file_init(&file);
    if (code == CLI_OK) {
        code = import_all(cli, &file);
    }
    import_file_done(&file);
    return code;
}
