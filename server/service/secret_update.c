/* New versions of a secret: values replaced or patched, and values of an older version written anew. */
#include <inttypes.h>

#include "server/service/secret_version.h"
#include "server/service/secrets.h"

/* --- UpdateSecretValues --------------------------------------------------------------------------------------- */

struct update {
    struct secret_change change;
    const Coffer__V1__UpdateSecretValuesRequest *request;
    Coffer__V1__UpdateSecretValuesResponse *response;
    struct values sent;
};

/* A damaged secret has no values that could be patched. */
static cof_code patched(struct call *call, struct update *update, const struct rows *rows,
                        struct values *ret_values)
{
    const Coffer__V1__PatchValues *patch = update->request->patch;
    const struct sealed_version sealed = secret_sealed_of(rows, 0);
    struct values base;
    TRY(values_open(call, &update->change.row, &sealed, &base));
    return values_patch(call, &base, &update->sent, patch->remove, patch->n_remove, ret_values);
}

static cof_code decide_update(struct call *call, void *context)
{
    struct update *update = context;
    struct values values = update->sent;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    if (update->request->change_case == COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE) {
        TRY(secret_change_take(call, &update->change, &rows));
    } else {
        TRY(secret_change_take_whole(call, &update->change, &rows));
        TRY(patched(call, update, rows, &values));
    }
    TRY(secret_change_values(call, &update->change, &values));
    update->response->warnings = update->change.warnings.items;
    update->response->n_warnings = update->change.warnings.count;
    return COF_OK;
}

static cof_code check_removals(struct call *call, size_t count)
{
    const uint32_t limit = call->service->limits.keys_per_secret;
    if (count <= limit) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "patch.remove",
                          "patch.remove has %zu keys; a secret has at most %u", count, limit);
}

static cof_code read_sent(struct call *call, struct update *update)
{
    const Coffer__V1__UpdateSecretValuesRequest *request = update->request;
    switch (request->change_case) {
    case COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE:
        return values_read(call, request->replace->values, request->replace->n_values, "replace.values",
                           &update->sent);
    case COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_PATCH:
        if (request->patch->n_set + request->patch->n_remove == 0) {
            return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "patch",
                                  "patch changes nothing; name keys to set or to remove");
        }
        TRY(check_removals(call, request->patch->n_remove));
        return values_read(call, request->patch->set, request->patch->n_set, "patch.set", &update->sent);
    case COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE__NOT_SET:
    case _COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE__CASE_IS_INT_SIZE:
        break;
    }
    return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "change", "one of replace and patch is needed");
}

cof_code secret_update_values(struct call *call, const Coffer__V1__UpdateSecretValuesRequest *request,
                              Coffer__V1__UpdateSecretValuesResponse *response)
{
    struct update update = {.request = request, .response = response};
    struct secret_change *change = &update.change;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change->address));
    TRY(read_sent(call, &update));
    TRY(secret_check_aws(call, address_name(change->address), &update.sent));
    change->guards = (struct secret_guards){.expected_uid = request->expected_uid,
                                            .expected_version = request->expected_version};
    change->answer = &response->secret;
    secret_change_init(change, decide_update, &response->base);
    change->write.finish = secret_change_finish;
    return write_run(call, &change->write);
}

/* --- RollBackSecret ------------------------------------------------------------------------------------------- */

struct rollback {
    struct secret_change change;
    uint64_t version;
};

static cof_code look_rollback(struct call *call, void *context)
{
    const struct rollback *rollback = context;
    TRY(secret_change_look(call, context));
    return secret_version_queue(call, rollback->change.address, rollback->version);
}

static cof_code decide_rollback(struct call *call, void *context)
{
    struct rollback *rollback = context;
    struct secret_change *change = &rollback->change;
    struct values values;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    AUTO(rows_cleanup) struct rows *former = NULL;
    TRY(secret_change_take_whole(call, change, &rows));
    TRY(session_next(call->session, &former, call->err));
    if (rollback->version == (uint64_t) change->row.version) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "version",
                              "version %" PRIu64 " is the current one; name an older one", rollback->version);
    }
    TRY(secret_version_open(call, &change->row, rollback->version, former, &values));
    return secret_change_values(call, change, &values);
}

cof_code secret_roll_back(struct call *call, const Coffer__V1__RollBackSecretRequest *request,
                          Coffer__V1__RollBackSecretResponse *response)
{
    struct rollback rollback = {.version = request->version};
    struct secret_change *change = &rollback.change;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change->address));
    TRY(secret_version_check(call, request->version));
    change->guards = (struct secret_guards){.expected_uid = request->expected_uid,
                                            .expected_version = request->expected_version};
    change->answer = &response->secret;
    secret_change_init(change, decide_rollback, &response->base);
    change->write.look = look_rollback;
    change->write.finish = secret_change_finish;
    return write_run(call, &change->write);
}
