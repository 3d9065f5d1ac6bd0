#include <inttypes.h>

#include "common/name.h"
#include "server/service/account_fields.h"
#include "server/service/accounts.h"
#include "server/service/authorize.h"
#include "server/service/expected_uid.h"
#include "server/service/field_mask.h"
#include "server/service/guard.h"
#include "server/service/issuer.h"
#include "server/service/networks.h"
#include "server/service/text.h"
#include "server/service/write.h"

/* Changing and deleting accounts. */

enum account_field {
    FIELD_DESCRIPTION = 1 << 0,
    FIELD_GRANTS = 1 << 1,
    FIELD_NETWORKS = 1 << 2,
    FIELD_DISABLED = 1 << 3,
    FIELD_EXPIRE_TIME = 1 << 4,
};

static const struct mask_field fields[] = {
    {"description", FIELD_DESCRIPTION}, {"grants", FIELD_GRANTS},           {"networks", FIELD_NETWORKS},
    {"disabled", FIELD_DISABLED},       {"expire_time", FIELD_EXPIRE_TIME},
};

struct change {
    struct write write;
    const struct address *address;
    const char *name;
    const char *etag;
    const char *expected_uid;
    const Coffer__V1__UpdateServiceAccountRequest *request; /* NULL: delete */
    unsigned mask;
    struct principal_row before;
    struct principal_row row;
    Coffer__V1__ServiceAccount **answer_account;
};

/* --- What is there -------------------------------------------------------------------------------------------- */

/* The account that is changed, and the one that the caller acts with: until the end of the transaction nobody takes
 * from the latter what makes this change its right. Two that would disable each other meet here. */
static cof_code look(struct call *call, void *context)
{
    const struct change *change = context;
    const struct param params[] = {
        param_uuid(address_workspace(change->address)),
        param_text(cof_slice_text(change->name)),
    };
    const struct param own[] = {param_uuid(&call->caller->workspace), param_uuid(&call->caller->principal)};
    TRY(session_queue(call->session, STATEMENT_PRINCIPAL_KEEP_BY_ID, own, COF_COUNT(own), call->err));
    return session_queue(call->session, STATEMENT_PRINCIPAL_LOCK, params, COF_COUNT(params), call->err);
}

/* The caller was authenticated before the transaction began, and may have lost a race since. */
static cof_code check_caller(struct call *call)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct caller *caller = call->caller;
    struct principal_row own = {0};
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "the caller's account is not there");
    }
    TRY(row_read(&principal_row_type, rows, 0, 0, call->arena, &own, call->err));
    TRY(guard_check_row(call, &principal_row_type, &caller->workspace, &own));
    TRY(caller_check_account(call, &own));
    if (!cof_slice_equal(own.grants, caller->account.grants)) {
        return cof_fail(call->err, COF_REASON_CONFLICT,
                        "the grants of the caller's own account were changed meanwhile; %s",
                        cof_reason_next_step(COF_REASON_CONFLICT));
    }
    return COF_OK;
}

static cof_code check_expected(struct call *call, const struct change *change)
{
    const char *etag = cof_arena_format(call->arena, "%" PRId64, change->row.metadata_version);
    if (etag == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(expected_uid_check(call, change->expected_uid, &change->row.principal_id));
    if (change->etag[0] != '\0' && strcmp(change->etag, etag) != 0) {
        return cof_fail(call->err, COF_REASON_ETAG_MISMATCH, "%s; %s", cof_reason_meaning(COF_REASON_ETAG_MISMATCH),
                        cof_reason_next_step(COF_REASON_ETAG_MISMATCH));
    }
    return COF_OK;
}

static cof_code take_account(struct call *call, struct change *change)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(check_caller(call));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return account_not_found(call, cof_slice_text(change->name));
    }
    TRY(row_read(&principal_row_type, rows, 0, 0, call->arena, &change->row, call->err));
    TRY(guard_check_row(call, &principal_row_type, address_workspace(change->address), &change->row));
    TRY(row_keep(&principal_row_type, call->arena, &change->row, call->err));
    change->before = change->row;
    return check_expected(call, change);
}

/* --- What may be changed -------------------------------------------------------------------------------------- */

static bool is_own(const struct call *call, const struct change *change)
{
    return cof_uuid_equal(&call->caller->principal, &change->row.principal_id);
}

static cof_code needed(struct call *call, const char *why)
{
    return cof_fail(call->err, COF_REASON_ACCOUNT_NEEDED, "%s; %s", why,
                    cof_reason_next_step(COF_REASON_ACCOUNT_NEEDED));
}

static bool ends_earlier(const struct change *change)
{
    const int64_t end = change->row.expire_time;
    return end != ROW_NO_TIME && (change->before.expire_time == ROW_NO_TIME || end < change->before.expire_time);
}

static bool ends_later(const struct change *change)
{
    const int64_t end = change->before.expire_time;
    return end != ROW_NO_TIME && (change->row.expire_time == ROW_NO_TIME || change->row.expire_time > end);
}

/* Whoever changes accounts keeps the power to do so: so there is always somebody left who can give it back. */
static cof_code check_own(struct call *call, const struct change *change)
{
    const struct principal_row *row = &change->row;
    struct rule_set grants;
    TRY(rights_unpack(row->grants, (cof_token_kind) row->token_kind, call->arena, &grants, call->err));
    if (row->disabled || ends_earlier(change)) {
        return needed(call, "nobody disables or ends the account that he acts with");
    }
    if (!rights_permit_somewhere(&grants, COF_PERMISSION_ACCOUNT_WRITE, NULL)) {
        return needed(call, "nobody takes account:write from the account that he acts with");
    }
    if (!networks_permit(&row->networks, &call->from)) {
        return needed(call, "the caller's own account could not be used any more from where this call comes from");
    }
    return COF_OK;
}

/* Enabling an account, or letting it live longer or be used from elsewhere, is giving all that it may do. */
static bool gives(const struct change *change)
{
    return (change->mask & FIELD_GRANTS) != 0 || (change->before.disabled && !change->row.disabled) ||
           ends_later(change) || !networks_within(&change->row.networks, &change->before.networks);
}

static cof_code check_update(struct call *call, const struct change *change)
{
    if (is_own(call, change)) {
        TRY(check_own(call, change));
    }
    return gives(change) ? issuer_check(call, &change->row, NULL, "grants") : COF_OK;
}

static cof_code check_delete(struct call *call, const struct change *change)
{
    if (is_own(call, change)) {
        return needed(call, "nobody deletes the account that he acts with");
    }
    if (change->row.bootstrap) {
        return cof_fail(call->err, COF_REASON_ACCOUNT_NEEDED,
                        "the first account of a workspace is not deleted, for it is the way back in; disable it");
    }
    return COF_OK;
}

/* --- Update --------------------------------------------------------------------------------------------------- */

static cof_code set_fields(struct call *call, struct change *change)
{
    const Coffer__V1__UpdateServiceAccountRequest *request = change->request;
    struct principal_row *row = &change->row;
    if ((change->mask & FIELD_DESCRIPTION) != 0) {
        TRY(account_set_description(call, request->description, row));
    }
    if ((change->mask & FIELD_GRANTS) != 0) {
        TRY(account_set_grants(call, request->grants, request->n_grants, row));
    }
    if ((change->mask & FIELD_NETWORKS) != 0) {
        TRY(account_set_networks(call, request->networks, request->n_networks, row));
    }
    if ((change->mask & FIELD_EXPIRE_TIME) != 0) {
        TRY(account_set_expire_time(call, request->expire_time, row));
    }
    row->disabled = (change->mask & FIELD_DISABLED) != 0 ? request->disabled : row->disabled;
    return COF_OK;
}

static cof_code finish(struct call *call, struct change *change)
{
    Coffer__Audit__V1__Object *object;
    const struct cof_slice none = {NULL, 0};
    struct principal_row *row = &change->row;
    row->metadata_version++;
    TRY(guard_seal_row(call, &principal_row_type, &row->workspace_id, row));
    TRY(account_message(call, row, change->answer_account));
    TRY(write_object(call, &change->write, "service_account", &row->principal_id, none, row->name, &object));
    object->metadata_version = (uint64_t) row->metadata_version;
    return COF_OK;
}

static cof_code decide_update(struct call *call, void *context)
{
    struct change *change = context;
    TRY(take_account(call, change));
    TRY(set_fields(call, change));
    TRY(check_update(call, change));
    return finish(call, change);
}

static cof_code apply(struct call *call, void *context)
{
    struct change *change = context;
    return write_queue_row(call, &change->write, STATEMENT_PRINCIPAL_UPDATE, &principal_row_type, &change->row);
}

static cof_code run(struct call *call, struct change *change, const ProtobufCMessage *answer)
{
    change->write.workspace = *address_workspace(change->address);
    change->write.look = look;
    change->write.apply = apply;
    change->write.context = change;
    change->write.answer = answer;
    return write_run(call, &change->write);
}

cof_code account_update(struct call *call, const Coffer__V1__UpdateServiceAccountRequest *request,
                        Coffer__V1__UpdateServiceAccountResponse *response)
{
    struct change change = {
        .name = request->name,
        .etag = request->etag,
        .expected_uid = request->expected_uid,
        .request = request,
        .answer_account = &response->service_account,
    };
    TRY(cof_name_check(COF_NAME_ACCOUNT, cof_slice_text(request->name), "name", call->err));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_ACCOUNT_WRITE, &change.address));
    TRY(mask_read(call, change.request->update_mask, fields, COF_COUNT(fields),
                  "description, grants, networks, disabled and expire_time", &change.mask));
    change.write.decide = decide_update;
    return run(call, &change, &response->base);
}

/* --- Delete --------------------------------------------------------------------------------------------------- */

static cof_code decide_delete(struct call *call, void *context)
{
    struct change *change = context;
    TRY(take_account(call, change));
    TRY(check_delete(call, change));
    change->row.delete_time = call_now(call);
    return finish(call, change);
}

cof_code account_delete(struct call *call, const Coffer__V1__DeleteServiceAccountRequest *request,
                        Coffer__V1__DeleteServiceAccountResponse *response)
{
    struct change change = {
        .name = request->name,
        .etag = request->etag,
        .expected_uid = request->expected_uid,
        .answer_account = &response->service_account,
    };
    TRY(cof_name_check(COF_NAME_ACCOUNT, cof_slice_text(request->name), "name", call->err));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_ACCOUNT_WRITE, &change.address));
    change.write.decide = decide_delete;
    return run(call, &change, &response->base);
}
