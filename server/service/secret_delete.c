/* Secrets that go, and come back. */
#include "server/service/guard.h"
#include "server/service/secret_change.h"
#include "server/service/secrets.h"

enum { RESTORABLE_DAYS = 30 };

#define DAY_US INT64_C(86400000000)

/* --- DeleteSecret --------------------------------------------------------------------------------------------- */

static cof_code decide_delete(struct call *call, void *context)
{
    struct secret_change *change = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(secret_change_take(call, change, &rows));
    /* The address is what was asked for, whatever a damaged row says. */
    change->row.environment = address_environment(change->address);
    change->row.name = address_name(change->address);
    change->row.state = SECRET_DELETED;
    change->row.delete_time = call_now(call);
    return secret_change_metadata(call, change, EFFECT(DELETED), secret_sealed_of(rows, 0).keys);
}

cof_code secret_delete(struct call *call, const Coffer__V1__DeleteSecretRequest *request,
                       Coffer__V1__DeleteSecretResponse *response)
{
    struct secret_change change = {.answer = &response->secret};
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change.address));
    change.guards = (struct secret_guards){.expected_uid = request->expected_uid, .etag = request->etag};
    secret_change_init(&change, decide_delete, &response->base);
    return write_run(call, &change.write);
}

/* --- RestoreSecret -------------------------------------------------------------------------------------------- */

struct restoration {
    struct secret_change change;
    struct cof_uuid uid;
    bool has_uid;
};

static cof_code look_restore(struct call *call, void *context)
{
    const struct restoration *restoration = context;
    const struct address *address = restoration->change.address;
    const struct param params[] = {
        param_uuid(address_workspace(address)),
        param_text(address_environment(address)),
        param_text(address_name(address)),
        restoration->has_uid ? param_uuid(&restoration->uid) : param_null(),
        param_time(call_now(call) - RESTORABLE_DAYS * DAY_US),
    };
    TRY(secret_place_queue(call, address));
    return session_queue(call->session, STATEMENT_SECRET_LOCK_DELETED, params, COF_COUNT(params), call->err);
}

/* Versions and metadata come back as they were. A damaged row cannot be trusted with a name. */
static cof_code decide_restore(struct call *call, void *context)
{
    struct restoration *restoration = context;
    struct secret_change *change = &restoration->change;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(secret_place_take(call, change->address));
    TRY(secret_change_take_whole(call, change, &rows));
    change->row.state = SECRET_ACTIVE;
    change->row.delete_time = ROW_NO_TIME;
    return secret_change_metadata(call, change, EFFECT(RESTORED), secret_sealed_of(rows, 0).keys);
}

static cof_code conflict_restore(struct call *call, void *context)
{
    const struct restoration *restoration = context;
    return session_unique_violation(call->session, "secret_address")
               ? secret_exists(call, restoration->change.address)
               : call->err->code;
}

cof_code secret_restore(struct call *call, const Coffer__V1__RestoreSecretRequest *request,
                        Coffer__V1__RestoreSecretResponse *response)
{
    struct restoration restoration = {.change.answer = &response->secret, .has_uid = request->uid[0] != '\0'};
    struct secret_change *change = &restoration.change;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change->address));
    if (restoration.has_uid && !cof_uuid_parse(cof_slice_text(request->uid), &restoration.uid)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "uid", "uid is no UUID in lower case");
    }
    secret_change_init(change, decide_restore, &response->base);
    change->write.look = look_restore;
    change->write.conflict = conflict_restore;
    return write_run(call, &change->write);
}
