#include "server/backup/verify.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <coffer/audit/v1/record.pb-c.h>

#include "common/secret.h"
#include "server/backup/verify_state.h"
#include "server/service/guard.h"

/* A page of secrets is at most what the pool can hold opened and sealed at once. */
enum { POOL = 48 << 20, ARENA = 40 << 20 };

/* --- What both files use -------------------------------------------------------------------------------------- */

const char *verify_table_name(verify_table table)
{
    static const char *const names[] = {
#define TABLE(name) #name,
        VERIFY_TABLES(TABLE)
#undef TABLE
    };
    return names[table];
}

uint64_t verify_rows(const struct verify_summary *summary)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < VERIFY_TABLE_COUNT; i++) {
        rows += summary->rows[i];
    }
    return rows;
}

static void tell(struct verify *verify, const char *table, const char *object, const char *what)
{
    const struct verify_fault fault = {table, &verify->workspace, object, what};
    verify->summary->faults++;
    verify->options->fault(&fault, verify->options->context);
}

void verify_fault(struct verify *verify, verify_table table, const char *what)
{
    tell(verify, verify_table_name(table), verify->object, what);
}

cof_code verify_judge(struct verify *verify, verify_table table, cof_code code, bool *ret_whole)
{
    const struct cof_error *err = verify->err;
    if (ret_whole != NULL) {
        *ret_whole = code == COF_OK;
    }
    if (code == COF_OK || err->reason != COF_REASON_CORRUPTED) {
        return code;
    }
    verify_fault(verify, table, err->trail[0] == '\0' ? err->message : err->trail);
    cof_error_clear(verify->err);
    return COF_OK;
}

cof_code verify_ask(struct verify *verify, statement id, const struct param *params, size_t count,
                    struct rows **ret_rows)
{
    struct session *session = verify->options->session;
    TRY(session_queue(session, id, params, count, verify->err));
    TRY(session_sync(session, verify->err));
    return session_next(session, ret_rows, verify->err);
}

static void about(struct verify *verify, const char *object)
{
    (void) snprintf(verify->object, sizeof verify->object, "%s", object);
}

/* --- One workspace -------------------------------------------------------------------------------------------- */

/* What is there of a workspace once, read together. */
struct head {
    struct rows *directory;
    struct rows *state;
    struct rows *workspace;
    struct rows *revision;
    struct rows *keys;
    int32_t lifecycle;                  /* workspace_state.state */
    bool trusted;                       /* the state's MAC fits, or there is no row */
    uint8_t settings[2][CRYPTO_DIGEST]; /* hashes of what the MACs of workspace and state cover */
};

static void head_done(struct head *head)
{
    rows_free(head->directory);
    rows_free(head->state);
    rows_free(head->workspace);
    rows_free(head->revision);
    rows_free(head->keys);
}

static cof_code read_head(struct verify *verify, struct head *head)
{
    const struct param params[] = {param_uuid(&verify->workspace)};
    TRY(verify_ask(verify, STATEMENT_VERIFY_DIRECTORY, params, COF_COUNT(params), &head->directory));
    TRY(verify_ask(verify, STATEMENT_WORKSPACE_STATE_GET, params, COF_COUNT(params), &head->state));
    TRY(verify_ask(verify, STATEMENT_WORKSPACE_GET, params, COF_COUNT(params), &head->workspace));
    TRY(verify_ask(verify, STATEMENT_REVISION_GET, params, COF_COUNT(params), &head->revision));
    return verify_ask(verify, STATEMENT_KEY_LIST, params, COF_COUNT(params), &head->keys);
}

static cof_code hash_row(struct verify *verify, const struct row_type *type, const void *row,
                         uint8_t digest[CRYPTO_DIGEST])
{
    struct cof_slice input;
    TRY(row_mac_input(type, row, &verify->arena, &input, verify->err));
    return crypto_sha256(input, digest, verify->err);
}

/* Whether keys of the system workspace are open, with which the states of all others are checked. */
static cof_code load_system_keys(struct verify *verify, bool *ret_loaded)
{
    struct keyring *keyring = verify->options->keyring;
    const cof_code code = guard_load_keys_of(keyring, verify->options->session, &cof_uuid_zero, verify->err);
    const bool damaged =
        verify->err->reason == COF_REASON_CORRUPTED || verify->err->reason == COF_REASON_WORKSPACE_NOT_FOUND;
    if (code != COF_OK && !damaged) {
        return code;
    }
    cof_error_clear(verify->err);
    *ret_loaded = keyring_generation(keyring, &cof_uuid_zero) != 0;
    return COF_OK;
}

/* The state's MAC is made with the system workspace's key. */
static cof_code check_state(struct verify *verify, struct head *head)
{
    struct workspace_state_row row;
    bool loaded = false;
    head->lifecycle = WORKSPACE_ACTIVE;
    head->trusted = true;
    about(verify, "");
    if (rows_count(head->state) == 0) {
        return COF_OK;
    }
    verify->summary->rows[VERIFY_workspace_state]++;
    TRY(load_system_keys(verify, &loaded));
    if (!loaded) {
        head->trusted = false;
        verify_fault(verify, VERIFY_workspace_state,
                     "no key of the system workspace opens, so it cannot be checked");
        return COF_OK;
    }
    TRY(row_read(&workspace_state_row_type, head->state, 0, 0, &verify->arena, &row, verify->err));
    const cof_code code = guard_check_row(&verify->call, &workspace_state_row_type, &cof_uuid_zero, &row);
    TRY(verify_judge(verify, VERIFY_workspace_state, code, &head->trusted));
    head->lifecycle = row.state;
    return hash_row(verify, &workspace_state_row_type, &row, head->settings[1]);
}

static cof_code load_keys(struct verify *verify, struct head *head)
{
    verify->keys = false;
    for (size_t i = 0; i < rows_count(head->keys); i++) {
        bool whole;
        const int32_t generation = rows_i32(head->keys, i, 0);
        (void) snprintf(verify->object, sizeof verify->object, "generation %" PRId32, generation);
        verify->summary->rows[VERIFY_workspace_key]++;
        TRY(verify_judge(verify, VERIFY_workspace_key,
                         keyring_install(verify->options->keyring, &verify->workspace, (uint32_t) generation,
                                         rows_bytes(head->keys, i, 1), verify->err),
                         &whole));
        verify->keys = verify->keys || whole;
    }
    about(verify, "");
    if (!verify->keys) {
        verify_fault(verify, VERIFY_workspace_key,
                     "no key of the workspace opens, so nothing else in it can be checked");
    }
    return COF_OK;
}

static cof_code check_settings(struct verify *verify, struct head *head)
{
    struct workspace_row row;
    about(verify, "");
    if (rows_count(head->workspace) == 0) {
        verify_fault(verify, VERIFY_workspace, "the row is missing");
        return COF_OK;
    }
    verify->summary->rows[VERIFY_workspace]++;
    TRY(row_read(&workspace_row_type, head->workspace, 0, 0, &verify->arena, &row, verify->err));
    const cof_code code = guard_check_row(&verify->call, &workspace_row_type, &verify->workspace, &row);
    TRY(verify_judge(verify, VERIFY_workspace, code, NULL));
    if (rows_count(head->directory) == 1 && !cof_slice_equal(rows_bytes(head->directory, 0, 0), row.name)) {
        tell(verify, "workspace_directory", "", "it has another name than the workspace itself");
    }
    return hash_row(verify, &workspace_row_type, &row, head->settings[0]);
}

static void check_directory(struct verify *verify, const struct head *head)
{
    const bool ended = head->lifecycle != WORKSPACE_ACTIVE;
    if (rows_count(head->directory) == 0) {
        tell(verify, "workspace_directory", "", "there are rows of a workspace that is not in the directory");
    } else if (rows_bool(head->directory, 0, 1) == ended) {
        tell(verify, "workspace_directory", "",
             ended ? "the directory calls a workspace living that was deleted"
                   : "the directory calls a workspace deleted that was not");
    }
}

static cof_code take_record(uint64_t revision, struct cof_slice record, void *context, struct cof_error *err)
{
    struct verify *verify = context;
    return history_take(verify->history, revision, record, err);
}

static void take_damage(const struct writes_damage *damage, void *context)
{
    struct verify *verify = context;
    (void) snprintf(verify->object, sizeof verify->object, "revisions %" PRIu64 " to %" PRIu64, damage->first,
                    damage->last);
    verify_fault(verify, VERIFY_change, damage->what);
}

static cof_code check_writes(struct verify *verify, struct writes_end *ret_end)
{
    const struct writes_check check = {
        .session = verify->options->session,
        .keyring = verify->options->keyring,
        .ends = verify->ends,
        .ends_from = "the anchor",
        .take = take_record,
        .tell = take_damage,
        .context = verify,
    };
    struct writes_summary writes = {0};
    history_clear(verify->history);
    TRY(writes_check_workspace(&check, &verify->workspace, verify->revision, &writes, ret_end, verify->err));
    verify->summary->rows[VERIFY_change] += writes.writes;
    verify->summary->rows[VERIFY_write_chain] += writes.links;
    verify->summary->unchained += writes.unchained;
    return COF_OK;
}

/* Whether the last record about the workspace itself agrees with its state. */
static void check_lifecycle(struct verify *verify, const struct head *head)
{
    const struct history_entry *entry = history_find(verify->history, &verify->workspace, 0);
    const bool deleted = head->lifecycle != WORKSPACE_ACTIVE;
    about(verify, "");
    if (entry == NULL || !head->trusted) {
        return;
    }
    if (deleted != (entry->effect == COFFER__AUDIT__V1__EFFECT__EFFECT_DELETED)) {
        verify_fault(verify, VERIFY_workspace_state,
                     "the state is another than the last write left: it was put back");
    }
}

/* --- The anchor ----------------------------------------------------------------------------------------------- */

static cof_code hash_settings(struct verify *verify, const struct head *head, uint8_t settings[ANCHOR_SETTINGS])
{
    uint8_t digest[CRYPTO_DIGEST];
    TRY(crypto_sha256(cof_slice_of(head->settings, sizeof head->settings), digest, verify->err));
    memcpy(settings, digest, ANCHOR_SETTINGS);
    return COF_OK;
}

static void compare_anchor(struct verify *verify, const struct anchor_workspace *found)
{
    struct anchor *anchor = verify->options->anchor;
    struct anchor_workspace *known = anchor == NULL ? NULL : anchor_find(anchor, &verify->workspace);
    if (known == NULL) {
        return;
    }
    known->seen = true;
    if (found->revision == 0) {
        return;
    }
    const struct history_entry *entry = history_find(verify->history, &verify->workspace, 0);
    const bool changed = entry != NULL && entry->revision > known->revision;
    about(verify, "");
    if (known->revision == 0) {
        tell(verify, "workspace_revision", "",
             "the workspace is back, and had been purged when the anchor was made");
    } else if (found->revision < known->revision) {
        tell(verify, "workspace_revision", "", "the workspace is older than the anchor: it was put back");
    } else if (!changed && memcmp(found->settings, known->settings, ANCHOR_SETTINGS) != 0) {
        verify_fault(verify, VERIFY_workspace,
                     "its settings or its state are others than the anchor has, and no write changed them since");
    }
}

static cof_code finish_workspace(struct verify *verify, const struct head *head, const struct writes_end *end)
{
    struct anchor_workspace found = {.id = verify->workspace, .revision = verify->revision, .chain = *end};
    TRY(hash_settings(verify, head, found.settings));
    compare_anchor(verify, &found);
    return verify->options->collect == NULL ? COF_OK : anchor_add(verify->options->collect, &found, verify->err);
}

/* --- The walk ------------------------------------------------------------------------------------------------- */

/* Of a workspace whose purge has begun the keys and the revision are gone; the rest is noise on its way out. */
static cof_code check_purged(struct verify *verify, const struct head *head)
{
    const struct writes_end none = {.revision = 0};
    verify->revision = 0;
    history_clear(verify->history);
    about(verify, "");
    if (rows_count(head->keys) > 0) {
        verify_fault(verify, VERIFY_workspace_key, "a key of a purged workspace was put back");
    }
    return finish_workspace(verify, head, &none);
}

static cof_code check_living(struct verify *verify, struct head *head)
{
    struct writes_end end = {.revision = 0};
    if (rows_count(head->revision) == 0) {
        tell(verify, "workspace_revision", "", "the row is missing");
    }
    verify->revision = rows_count(head->revision) == 0 ? 0 : (uint64_t) rows_i64(head->revision, 0, 0);
    TRY(load_keys(verify, head));
    if (!verify->keys) {
        history_clear(verify->history);
        return finish_workspace(verify, head, &end);
    }
    TRY(check_settings(verify, head));
    TRY(check_writes(verify, &end));
    check_lifecycle(verify, head);
    TRY(verify_tables(verify));
    return finish_workspace(verify, head, &end);
}

static cof_code check_rows_of(struct verify *verify, struct head *head)
{
    TRY(read_head(verify, head));
    TRY(check_state(verify, head));
    check_directory(verify, head);
    return head->trusted && head->lifecycle >= WORKSPACE_PURGING ? check_purged(verify, head)
                                                                 : check_living(verify, head);
}

/* A snapshot for each workspace, so that rows which move from one table to another meanwhile are seen once. */
static cof_code check_workspace(struct verify *verify)
{
    AUTO(head_done) struct head head = {.directory = NULL};
    struct session *session = verify->options->session;
    if (verify->options->in_snapshot) {
        TRY(check_rows_of(verify, &head));
    } else {
        TRY(session_script(session, "begin isolation level repeatable read read only", verify->err));
        TRY(check_rows_of(verify, &head));
        TRY(session_script(session, "commit", verify->err));
    }
    verify->summary->workspaces++;
    cof_arena_reset(&verify->arena);
    /* The system workspace's keys check the states of all others. */
    if (!cof_uuid_equal(&verify->workspace, &cof_uuid_zero)) {
        keyring_evict(verify->options->keyring, &verify->workspace);
    }
    verify->options->progress(verify->summary, verify->options->context);
    return COF_OK;
}

/* The next workspace of which there is any row; false if there is none. */
static cof_code next_workspace(struct verify *verify, bool first, bool *ret_found)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(&verify->workspace), param_bool(first)};
    TRY(verify_ask(verify, STATEMENT_VERIFY_NEXT, params, COF_COUNT(params), &rows));
    *ret_found = rows_count(rows) == 1 && !rows_null(rows, 0, 0);
    if (*ret_found) {
        verify->workspace = rows_uuid(rows, 0, 0);
    }
    return COF_OK;
}

static cof_code check_all(struct verify *verify)
{
    bool found = false;
    verify->workspace = cof_uuid_zero;
    TRY(next_workspace(verify, true, &found));
    while (found) {
        TRY(check_workspace(verify));
        TRY(next_workspace(verify, false, &found));
    }
    return COF_OK;
}

/* Those that the anchor knows and the database does not. */
static void tell_missing(struct verify *verify)
{
    const struct anchor *anchor = verify->options->anchor;
    for (size_t i = 0; anchor != NULL && i < anchor->count; i++) {
        if (!anchor->workspaces[i].seen) {
            verify->workspace = anchor->workspaces[i].id;
            tell(verify, "workspace_directory", "", "the anchor knows the workspace, and nothing of it is there");
        }
    }
}

static cof_code check_epoch(struct verify *verify)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct anchor *collect = verify->options->collect;
    const struct anchor *anchor = verify->options->anchor;
    TRY(verify_ask(verify, STATEMENT_INSTANCE_GET, NULL, 0, &rows));
    const uint64_t epoch = rows_count(rows) == 0 ? 0 : (uint64_t) rows_i64(rows, 0, 0);
    if (collect != NULL) {
        collect->epoch = epoch;
        collect->time_us = cof_clock_wall(verify->options->clock);
    }
    if (anchor != NULL && !verify->options->other_epoch && anchor->epoch != epoch) {
        tell(verify, "instance", "",
             "the epoch is another than the anchor's: the database was restored or promoted since, or put back");
    }
    return COF_OK;
}

static cof_code take_ends(struct verify *verify)
{
    const struct anchor *anchor = verify->options->anchor;
    for (size_t i = 0; anchor != NULL && i < anchor->count; i++) {
        const struct anchor_workspace *known = &anchor->workspaces[i];
        if (known->chain.revision != 0) {
            TRY(chain_ends_add(verify->ends, &known->id, known->chain.revision, known->chain.hash, verify->err));
        }
    }
    chain_ends_compact(verify->ends);
    return COF_OK;
}

static void verify_done(struct verify *verify)
{
    if (verify->pool != NULL) {
        cof_arena_reset(&verify->arena);
    }
    cof_pool_free(verify->pool);
    history_free(verify->history);
    chain_ends_free(verify->ends);
}

/* A call without a caller, for the functions of the service that check rows. */
static void fill_call(struct verify *verify)
{
    cof_arena_init(&verify->arena, verify->pool, ARENA);
    verify->service.clock = verify->options->clock;
    verify->service.keyring = verify->options->keyring;
    verify->service.limits = service_default_limits;
    verify->call.service = &verify->service;
    verify->call.session = verify->options->session;
    verify->call.arena = &verify->arena;
    verify->call.err = verify->err;
}

cof_code verify_run(const struct verify_options *options, struct verify_summary *ret_summary, struct cof_error *err)
{
    AUTO(verify_done) struct verify verify = {.options = options, .summary = ret_summary, .err = err};
    *ret_summary = (struct verify_summary){0};
    TRY(cof_pool_new(POOL, options->lock, &verify.pool, err));
    fill_call(&verify);
    TRY(history_new(&verify.history, err));
    TRY(chain_ends_new(&verify.ends, err));
    TRY(take_ends(&verify));
    TRY(check_epoch(&verify));
    TRY(check_all(&verify));
    tell_missing(&verify);
    return COF_OK;
}
