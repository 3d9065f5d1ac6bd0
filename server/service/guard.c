#include "server/service/guard.h"

#include <inttypes.h>

#include "common/secret.h"
#include "server/service/key_loader.h"

/* The MAC columns are the last two of every guarded row. */
static int32_t *generation_of(const struct row_type *type, void *row)
{
    return (int32_t *) (void *) ((uint8_t *) row + type->columns[type->count - 2].offset);
}

static struct cof_slice *mac_of(const struct row_type *type, void *row)
{
    return (struct cof_slice *) (void *) ((uint8_t *) row + type->columns[type->count - 1].offset);
}

static cof_code corrupted(struct call *call, const struct row_type *type, const char *what)
{
    cof_ignore(cof_fail(call->err, COF_REASON_CORRUPTED, "a stored %s failed its integrity check; %s", type->table,
                        cof_reason_next_step(COF_REASON_CORRUPTED)));
    return cof_note(call->err, "row of %s: %s", type->table, what);
}

/* The keyring is bounded: other calls may push a workspace's keys out of it while this one waits for the database.
 * That is no damage. */
static cof_code pushed_out(struct call *call)
{
    cof_ignore(cof_fail(call->err, COF_REASON_CONFLICT, "%s; %s", cof_reason_meaning(COF_REASON_CONFLICT),
                        cof_reason_next_step(COF_REASON_CONFLICT)));
    return cof_note(call->err, "the workspace's keys were pushed out of the keyring");
}

cof_code guard_load_keys_anew(struct keyring *keyring, struct session *session, const struct cof_uuid *workspace,
                              struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(workspace)};
    TRY(session_queue(session, STATEMENT_KEY_LIST, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    if (rows_count(rows) == 0) {
        return cof_fail(err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                        cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
    }
    /* The highest one first: whoever seals meanwhile must not take an older one for it. */
    for (size_t i = 0; i < rows_count(rows); i++) {
        TRY(keyring_install(keyring, workspace, (uint32_t) rows_i32(rows, i, 0), rows_bytes(rows, i, 1), err));
    }
    return COF_OK;
}

cof_code guard_load_keys_of(struct keyring *keyring, struct session *session, const struct cof_uuid *workspace,
                            struct cof_error *err)
{
    return keyring_generation(keyring, workspace) != 0 ? COF_OK
                                                       : guard_load_keys_anew(keyring, session, workspace, err);
}

cof_code guard_load_keys(struct call *call, const struct cof_uuid *workspace)
{
    struct keyring *keyring = call->service->keyring;
    if (keyring_generation(keyring, workspace) != 0) {
        return COF_OK;
    }
    TRY(call_needs_database(call));
    return guard_load_keys_of(keyring, call->session, workspace, call->err);
}

cof_code guard_reload_keys(struct call *call, const struct cof_uuid *workspace)
{
    struct key_loader *loader = call->service->key_loader;
    if (loader == NULL) {
        return COF_OK; /* all keys that there are have been installed */
    }
    TRY(call_needs_database(call));
    return key_loader_load(loader, call->service->keyring, workspace, call->deadline_us, call->err);
}

/* --- Generations ---------------------------------------------------------------------------------------------- */

/* A server learns of a new generation when it meets something that is sealed under it, which may be in the middle of a
 * transaction: the keys are read over a connection of their own. */
static cof_code need_generation(struct call *call, const struct cof_uuid *workspace, uint32_t generation)
{
    return generation == 0 || keyring_has(call->service->keyring, workspace, generation)
               ? COF_OK
               : guard_reload_keys(call, workspace);
}

static void note_sealed(struct call *call, const struct cof_uuid *workspace, uint32_t generation)
{
    uint32_t *least = cof_uuid_equal(workspace, &cof_uuid_zero) ? &call->sealed.system : &call->sealed.other;
    *least = *least == 0 || generation < *least ? generation : *least;
}

uint32_t guard_sealed_generation(const struct call *call, const struct cof_uuid *workspace)
{
    return cof_uuid_equal(workspace, &cof_uuid_zero) ? call->sealed.system : call->sealed.other;
}

cof_code guard_seal(struct call *call, const struct blob_address *address, struct cof_slice plaintext, uint8_t *to)
{
    TRY(keyring_seal(call->service->keyring, address, plaintext, to, call->err));
    note_sealed(call, &address->workspace, blob_generation(cof_slice_of(to, plaintext.len + BLOB_OVERHEAD)));
    return COF_OK;
}

cof_code guard_open(struct call *call, const struct blob_address *address, struct cof_slice blob, uint8_t *to)
{
    struct keyring *keyring = call->service->keyring;
    const uint32_t generation = blob_generation(blob);
    TRY(need_generation(call, &address->workspace, generation));
    if (generation != 0 && !keyring_has(keyring, &address->workspace, generation) &&
        keyring_generation(keyring, &address->workspace) != 0) {
        cof_ignore(cof_fail(call->err, COF_REASON_CORRUPTED, "%s; %s", cof_reason_meaning(COF_REASON_CORRUPTED),
                            cof_reason_next_step(COF_REASON_CORRUPTED)));
        return cof_note(call->err, "a blob names a key generation that does not exist");
    }
    return keyring_open(keyring, address, blob, to, call->err);
}

/* --- Rows ----------------------------------------------------------------------------------------------------- */

cof_code guard_seal_row(struct call *call, const struct row_type *type, const struct cof_uuid *workspace, void *row)
{
    struct cof_slice input;
    const uint32_t generation = keyring_generation(call->service->keyring, workspace);
    uint8_t *mac = cof_arena_alloc(call->arena, CRYPTO_DIGEST);
    if (mac == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (generation == 0) {
        return pushed_out(call);
    }
    TRY(row_mac_input(type, row, call->arena, &input, call->err));
    TRY(keyring_row_mac(call->service->keyring, workspace, generation, input, mac, call->err));
    note_sealed(call, workspace, generation);
    *generation_of(type, row) = (int32_t) generation;
    *mac_of(type, row) = cof_slice_of(mac, CRYPTO_DIGEST);
    return COF_OK;
}

cof_code guard_check_row(struct call *call, const struct row_type *type, const struct cof_uuid *workspace,
                         const void *row)
{
    struct cof_slice input;
    uint8_t expected[CRYPTO_DIGEST];
    const uint8_t *bytes = row;
    int32_t generation;
    struct cof_slice mac;
    memcpy(&generation, bytes + type->columns[type->count - 2].offset, sizeof generation);
    memcpy(&mac, bytes + type->columns[type->count - 1].offset, sizeof mac);
    if (keyring_generation(call->service->keyring, workspace) == 0) {
        return pushed_out(call);
    }
    if (generation > 0) {
        TRY(need_generation(call, workspace, (uint32_t) generation));
    }
    if (generation <= 0 || !keyring_has(call->service->keyring, workspace, (uint32_t) generation)) {
        return corrupted(call, type, "no key of its generation");
    }
    TRY(row_mac_input(type, row, call->arena, &input, call->err));
    TRY(keyring_row_mac(call->service->keyring, workspace, (uint32_t) generation, input, expected, call->err));
    if (!cof_secret_equal(cof_slice_of(expected, sizeof expected), mac)) {
        return corrupted(call, type, "its MAC does not fit");
    }
    return COF_OK;
}

cof_code guard_check_revision(struct call *call, const struct cache_read *read, uint64_t revision)
{
    if (call->service->cache == NULL || !cache_read_reverted(call->service->cache, read, revision)) {
        return COF_OK;
    }
    cof_ignore(cof_fail(call->err, COF_REASON_CORRUPTED,
                        "the workspace's stored state is older than one that this server has seen; %s",
                        cof_reason_next_step(COF_REASON_CORRUPTED)));
    return cof_note(call->err, "revision %" PRIu64 ", where %" PRIu64 " was seen: the database was put back",
                    revision, read->known);
}
