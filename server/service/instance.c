#include "server/service/instance.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "common/encode.h"
#include "common/secret.h"
#include "server/service/guard.h"
#include "server/service/rights.h"
#include "server/service/token_new.h"

enum { FIRST_GENERATION = 1, FIRST_REVISION = 1, EPOCH_ATTEMPTS = 4 };

#define SYSTEM_NAME "system"
#define ADMIN_NAME "admin"

struct identity {
    int64_t system_identifier;
    int32_t timeline;
};

static cof_code one(struct session *session, statement id, const struct param *params, size_t count,
                    struct rows **ret_rows, struct cof_error *err)
{
    TRY(session_queue(session, id, params, count, err));
    TRY(session_sync(session, err));
    return session_next(session, ret_rows, err);
}

static cof_code read_identity(struct session *session, struct identity *ret_identity, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(one(session, STATEMENT_SYSTEM_IDENTITY, NULL, 0, &rows, err));
    ret_identity->system_identifier = rows_i64(rows, 0, 0);
    ret_identity->timeline = rows_i32(rows, 0, 1);
    return COF_OK;
}

static cof_code random_epoch(int64_t *ret_epoch, struct cof_error *err)
{
    uint8_t bytes[8];
    TRY(crypto_random(bytes, sizeof bytes, err));
    memcpy(ret_epoch, bytes, sizeof *ret_epoch);
    return COF_OK;
}

/* --- Keys ----------------------------------------------------------------------------------------------------- */

static bool check_fits(const struct root_key *root, struct cof_slice stored)
{
    uint8_t check[ROOT_KEY_CHECK];
    root_key_check(root, check);
    return cof_secret_equal(cof_slice_of(check, sizeof check), stored);
}

/* The row's check value says which root key is the instance's; its ID alone would say so of a key that has only that. */
static bool take_root(struct keyring *keyring, const struct rows *rows)
{
    const size_t count = keyring == NULL ? 0 : keyring_root_count(keyring);
    for (size_t i = 0; i < count; i++) {
        const struct root_key *root = keyring_root(keyring, i);
        if (check_fits(root, rows_bytes(rows, 0, 4))) {
            return keyring_wrap_with(keyring, cof_slice_of(root_key_id(root), ROOT_KEY_ID));
        }
    }
    return false;
}

static cof_code missing_root(struct cof_slice id, int64_t count, struct cof_error *err)
{
    char text[2 * ROOT_KEY_ID + 1];
    cof_hex_encode(id, text);
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "%" PRId64 " keys in the database are wrapped by root key %s, which was not given: a rotation is not "
        "finished. Nothing was changed. Name that root key in keys.other_root_keys, and run: cofferd key "
        "rotate-root",
        count, text);
}

static bool was_replaced(struct cof_slice old_ids, struct cof_slice id)
{
    for (size_t i = 0; i + ROOT_KEY_ID <= old_ids.len; i += ROOT_KEY_ID) {
        if (cof_slice_equal(cof_slice_of(old_ids.data + i, ROOT_KEY_ID), id)) {
            return true;
        }
    }
    return false;
}

/* No key is under a root key that was replaced and is not there. One that names no root key of this instance is damaged,
 * which is told when it is used, and keeps no server from starting. */
static cof_code check_roots(struct session *session, const struct keyring *keyring, struct cof_slice old_ids,
                            struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(one(session, STATEMENT_KEY_ROOTS, NULL, 0, &rows, err));
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct cof_slice id = rows_bytes(rows, i, 0);
        if (was_replaced(old_ids, id) && !keyring_has_root(keyring, id)) {
            return missing_root(id, rows_i64(rows, i, 1), err);
        }
    }
    return COF_OK;
}

cof_code instance_check_keys(struct session *session, struct keyring *keyring, bool *ret_exists,
                             struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(one(session, STATEMENT_INSTANCE_GET, NULL, 0, &rows, err));
    *ret_exists = rows_count(rows) == 1;
    if (!*ret_exists) {
        return COF_OK;
    }
    if (take_root(keyring, rows)) {
        return check_roots(session, keyring, rows_bytes(rows, 0, 5), err);
    }
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "the root key does not belong to this database: its check value differs. Nothing was changed. Use "
        "the root key that the database was made with; a new key cannot open it");
}

cof_code instance_follow_root(struct session *session, struct keyring *keyring, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(one(session, STATEMENT_INSTANCE_GET, NULL, 0, &rows, err));
    if (rows_count(rows) == 0 || take_root(keyring, rows)) {
        return COF_OK;
    }
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "the root key was replaced by one that this server was not given; restart it with the new one as "
        "keys.root_key_file and the old one among keys.other_root_keys");
}

cof_code instance_set_root(struct session *session, struct keyring *keyring, struct cof_error *err)
{
    uint8_t check[ROOT_KEY_CHECK];
    const struct root_key *root = keyring_root(keyring, 0);
    const struct cof_slice id = {root_key_id(root), ROOT_KEY_ID};
    root_key_check(root, check);
    const struct param params[] = {param_text(id), param_text(cof_slice_of(check, sizeof check))};
    TRY(one(session, STATEMENT_INSTANCE_SET_ROOT, params, COF_COUNT(params), NULL, err));
    (void) keyring_wrap_with(keyring, id);
    return COF_OK;
}

/* --- Epoch ---------------------------------------------------------------------------------------------------- */

static cof_code replace_epoch(struct session *session, const struct identity *identity, int64_t old,
                              struct cof_error *err)
{
    int64_t epoch;
    TRY(random_epoch(&epoch, err));
    const struct param params[] = {
        param_i64(epoch),
        param_i64(identity->system_identifier),
        param_i32(identity->timeline),
        param_i64(old),
    };
    return one(session, STATEMENT_INSTANCE_NEW_EPOCH, params, COF_COUNT(params), NULL, err);
}

/* Sets the epoch if the instance's row fits the database; else replaces it, and `ret_settled` is false. */
static cof_code settle_epoch(struct session *session, struct service *service, const struct identity *identity,
                             bool *ret_settled, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(one(session, STATEMENT_INSTANCE_GET, NULL, 0, &rows, err));
    *ret_settled = true;
    if (rows_count(rows) == 0) {
        return COF_OK;
    }
    const int64_t epoch = rows_i64(rows, 0, 0);
    if (rows_i64(rows, 0, 1) == identity->system_identifier && rows_i32(rows, 0, 2) == identity->timeline) {
        atomic_store(&service->epoch, (uint64_t) epoch);
        return COF_OK;
    }
    *ret_settled = false;
    return replace_epoch(session, identity, epoch, err);
}

cof_code instance_on_connect(struct session *session, void *service, struct cof_error *err)
{
    struct identity identity;
    TRY(read_identity(session, &identity, err));
    for (unsigned i = 0; i < EPOCH_ATTEMPTS; i++) {
        bool settled = false;
        TRY(settle_epoch(session, service, &identity, &settled, err));
        if (settled) {
            return COF_OK;
        }
    }
    return cof_fail(err, COF_REASON_CONFLICT, "the database's epoch changes while it is read; %s",
                    cof_reason_next_step(COF_REASON_CONFLICT));
}

cof_code instance_restore(struct session *session, struct cof_slice row, struct cof_error *err)
{
    struct identity identity;
    int64_t epoch;
    TRY(read_identity(session, &identity, err));
    TRY(random_epoch(&epoch, err));
    const struct param params[] = {
        param_text(row),
        param_i64(epoch),
        param_i64(identity.system_identifier),
        param_i32(identity.timeline),
    };
    return one(session, STATEMENT_RESTORE_INSTANCE, params, COF_COUNT(params), NULL, err);
}

/* --- Creation ------------------------------------------------------------------------------------------------- */

struct creation {
    struct call *call;
    struct identity identity;
    int64_t epoch;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    struct workspace_row workspace;
    struct principal_row admin;
    struct token_row token;
    struct cof_slice token_text;
};

static cof_code build_workspace(struct creation *creation)
{
    struct call *call = creation->call;
    struct workspace_row *row = &creation->workspace;
    struct keyring *keyring = call->service->keyring;
    row->workspace_id = cof_uuid_zero;
    row->name = cof_slice_text(SYSTEM_NAME);
    row->display_name = cof_slice_text("System workspace");
    row->external_id = cof_slice_text("");
    row->create_time = call_now(call);
    TRY(keyring_generate(keyring, &cof_uuid_zero, FIRST_GENERATION, creation->wrapped, call->err));
    TRY(keyring_install(keyring, &cof_uuid_zero, FIRST_GENERATION,
                        cof_slice_of(creation->wrapped, sizeof creation->wrapped), call->err));
    return guard_seal_row(call, &workspace_row_type, &cof_uuid_zero, row);
}

static cof_code system_grants(struct call *call, struct cof_slice *ret_grants)
{
    Coffer__V1__Rule rule;
    Coffer__V1__Rule *rules[] = {&rule};
    char *names[COF_PERMISSION_COUNT];
    coffer__v1__rule__init(&rule);
    rule.permissions = names;
    for (int i = 0; i < COF_PERMISSION_COUNT; i++) {
        if ((cof_permission_usable(COF_TOKEN_SYSTEM) & COF_PERMISSION_BIT(i)) == 0) {
            continue;
        }
        names[rule.n_permissions] =
            cof_arena_text(call->arena, cof_slice_text(cof_permission_name((cof_permission) i)));
        if (names[rule.n_permissions++] == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    return rights_pack(rules, 1, call->arena, ret_grants, call->err);
}

static cof_code build_admin(struct creation *creation)
{
    struct call *call = creation->call;
    struct principal_row *row = &creation->admin;
    row->workspace_id = cof_uuid_zero;
    row->principal_id = cof_uuid_random();
    row->kind = PRINCIPAL_SERVICE_ACCOUNT;
    row->token_kind = COF_TOKEN_SYSTEM;
    row->name = cof_slice_text(ADMIN_NAME);
    row->description = cof_slice_text("Made with the instance");
    row->bootstrap = true;
    row->expire_time = ROW_NO_TIME;
    row->create_time = call_now(call);
    row->delete_time = ROW_NO_TIME;
    row->metadata_version = 1;
    TRY(system_grants(call, &row->grants));
    return guard_seal_row(call, &principal_row_type, &cof_uuid_zero, row);
}

static cof_code build_token(struct creation *creation)
{
    struct call *call = creation->call;
    struct token_row *row = &creation->token;
    row->workspace_id = cof_uuid_zero;
    row->principal_id = creation->admin.principal_id;
    row->issuer_id = creation->admin.principal_id;
    row->description = cof_slice_text("Made with the instance");
    row->create_time = call_now(call);
    row->expire_time = ROW_NO_TIME;
    row->revoke_time = ROW_NO_TIME;
    row->successor_id = cof_uuid_zero;
    TRY(rights_pack(NULL, 0, call->arena, &row->restrictions, call->err));
    TRY(token_new(call, COF_TOKEN_SYSTEM, row, &creation->token_text));
    return guard_seal_row(call, &token_row_type, &cof_uuid_zero, row);
}

static cof_code queue_instance(struct creation *creation)
{
    struct call *call = creation->call;
    const struct root_key *root = keyring_wrapping_root(call->service->keyring);
    uint8_t check[ROOT_KEY_CHECK];
    root_key_check(root, check);
    const struct param params[] = {
        param_i64(creation->epoch),
        param_i64(creation->identity.system_identifier),
        param_i32(creation->identity.timeline),
        param_text(cof_slice_of(root_key_id(root), ROOT_KEY_ID)),
        param_text(cof_slice_of(check, sizeof check)),
    };
    return session_queue(call->session, STATEMENT_INSTANCE_INSERT, params, COF_COUNT(params), call->err);
}

static cof_code queue_workspace(struct creation *creation)
{
    struct call *call = creation->call;
    const struct param directory[] = {param_uuid(&cof_uuid_zero), param_text(creation->workspace.name)};
    const struct param revision[] = {param_uuid(&cof_uuid_zero), param_i64(FIRST_REVISION),
                                     param_i32(FIRST_GENERATION)};
    const struct param key[] = {
        param_uuid(&cof_uuid_zero),
        param_i32(FIRST_GENERATION),
        param_text(cof_slice_of(creation->wrapped, sizeof creation->wrapped)),
        param_time(creation->workspace.create_time),
    };
    TRY(session_queue(call->session, STATEMENT_DIRECTORY_INSERT, directory, COF_COUNT(directory), call->err));
    TRY(session_queue(call->session, STATEMENT_KEY_INSERT, key, COF_COUNT(key), call->err));
    TRY(session_queue(call->session, STATEMENT_REVISION_INSERT, revision, COF_COUNT(revision), call->err));
    return row_queue(&workspace_row_type, &creation->workspace, NULL, call->session, STATEMENT_WORKSPACE_INSERT,
                     call->arena, call->err);
}

/* Begin, the instance, four rows of the workspace, account, token, commit. */
enum { CREATION_RESULTS = 9 };

static cof_code store(struct creation *creation)
{
    struct call *call = creation->call;
    struct session *session = call->session;
    TRY(session_begin(session, call->err));
    TRY(queue_instance(creation));
    TRY(queue_workspace(creation));
    TRY(row_queue(&principal_row_type, &creation->admin, NULL, session, STATEMENT_PRINCIPAL_INSERT, call->arena,
                  call->err));
    TRY(row_queue(&token_row_type, &creation->token, NULL, session, STATEMENT_TOKEN_INSERT, call->arena,
                  call->err));
    TRY(session_commit(session, call->err));
    TRY(session_sync(session, call->err));
    for (int i = 0; i < CREATION_RESULTS; i++) {
        TRY(session_next(session, NULL, call->err));
    }
    return COF_OK;
}

cof_code instance_create(struct call *call, struct cof_slice *ret_token)
{
    struct creation creation = {.call = call};
    TRY(read_identity(call->session, &creation.identity, call->err));
    TRY(random_epoch(&creation.epoch, call->err));
    TRY(build_workspace(&creation));
    TRY(build_admin(&creation));
    TRY(build_token(&creation));
    const cof_code code = store(&creation);
    if (code != COF_OK) {
        session_reset(call->session);
        return cof_note(call->err, "creating the instance");
    }
    atomic_store(&call->service->epoch, (uint64_t) creation.epoch);
    *ret_token = creation.token_text;
    return COF_OK;
}
