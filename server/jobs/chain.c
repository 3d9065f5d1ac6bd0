#include "server/jobs/chain.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <coffer/audit/v1/record.pb-c.h>

#include "common/arena.h"
#include "common/encode.h"
#include "server/audit/write_chain.h"
#include "server/service/guard.h"

enum {
    PAUSE_MS = 500,
    LEAST_PAUSE_MS = 100,
    ROUND_TIMEOUT_MS = 30000,
    AT_ONCE = 64,    /* workspaces in one pipeline, whose links are one transaction */
    LEASE_MS = 2000, /* a server that stands still for so long chains no more */
    ENDS_MOST = 256, /* in one audit record */
    HASH_TEXT = 2 * CRYPTO_DIGEST + 1,
    RECORD_REVISION = 1,
};

/* "CoffeC" in ASCII, next to the key of the schema's lock. */
static const int64_t lead_lock = INT64_C(0x436f66666543);

static char kind[] = "write_chain"; /* of an object, and the method of a record, in the server's own log */

/* Where the chain of a workspace ends since this server has made a link. */
struct chain_end {
    char workspace[COF_UUID_TEXT];
    char hash[HASH_TEXT];
    char *keys[1]; /* the hash */
    Coffer__Audit__V1__Object object;
};

struct chain {
    struct chain_options options;
    struct job *job;
    int64_t xmin; /* of the last look's snapshot; 0: there was none, so any workspace may be behind */
    bool refused; /* a link was, in this round */
    uint64_t epoch;
    struct write_chain_link links[AT_ONCE];
    struct chain_end ends[ENDS_MOST];
    Coffer__Audit__V1__Object *objects[ENDS_MOST]; /* of the ends */
    size_t end_count;
};

/* --- The server's own log ------------------------------------------------------------------------------------- */

static cof_code append_record(struct chain *chain, const Coffer__Audit__V1__Record *record, struct cof_error *err)
{
    uint64_t sequence;
    const size_t length = coffer__audit__v1__record__get_packed_size(record);
    uint8_t *bytes = malloc(length);
    if (bytes == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) coffer__audit__v1__record__pack(record, bytes);
    const cof_code code = audit_append(chain->options.service->audit, cof_slice_of(bytes, length), &sequence, err);
    free(bytes);
    return code;
}

/* Whoever can cut a chain's end off in the database cannot cut it off here as well. If it cannot be written now, later
 * ends tell the same. */
static cof_code tell_ends(struct chain *chain, struct cof_error *err)
{
    Coffer__Audit__V1__Record record;
    Google__Protobuf__Timestamp time;
    const size_t count = chain->end_count;
    if (count == 0) {
        return COF_OK;
    }
    chain->end_count = 0;
    const int64_t now = cof_clock_wall(chain->options.service->clock);
    google__protobuf__timestamp__init(&time);
    time.seconds = now / 1000000;
    time.nanos = (int32_t) (now % 1000000) * 1000;
    coffer__audit__v1__record__init(&record);
    record.revision = RECORD_REVISION;
    record.time = &time;
    record.method = kind;
    record.objects = chain->objects;
    record.n_objects = count;
    return append_record(chain, &record, err);
}

static cof_code note_end(struct chain *chain, const struct write_chain_link *link,
                         const uint8_t hash[CRYPTO_DIGEST], struct cof_error *err)
{
    if (chain->end_count == ENDS_MOST) {
        TRY(tell_ends(chain, err));
    }
    struct chain_end *end = &chain->ends[chain->end_count];
    cof_uuid_format(&link->workspace, end->workspace);
    cof_hex_encode(cof_slice_of(hash, CRYPTO_DIGEST), end->hash);
    end->keys[0] = end->hash;
    coffer__audit__v1__object__init(&end->object);
    end->object.kind = kind;
    end->object.uid = end->workspace;
    end->object.version = link->last;
    end->object.keys = end->keys;
    end->object.n_keys = 1;
    chain->objects[chain->end_count++] = &end->object;
    return COF_OK;
}

/* --- Links ---------------------------------------------------------------------------------------------------- */

/* A workspace whose keys do not open keeps the others from nothing; `cofferd audit verify --writes` tells of it. */
static cof_code load_keys(struct chain *chain, struct session *session, const struct cof_uuid *workspace,
                          struct cof_error *err)
{
    struct keyring *keyring = chain->options.service->keyring;
    const cof_code code = guard_load_keys_of(keyring, session, workspace, err);
    if (code != COF_OK && (err->reason == COF_REASON_CORRUPTED || err->reason == COF_REASON_WORKSPACE_NOT_FOUND)) {
        char text[COF_UUID_TEXT];
        cof_uuid_format(workspace, text);
        COF_LOG(chain->options.log, COF_LOG_WARN, "write_chain", "the writes of a workspace cannot be chained",
                cof_log_text("workspace", text), cof_log_text("reason", cof_reason_name(err->reason)));
        return COF_OK;
    }
    return code;
}

static cof_code take_writes(struct session *session, const struct cof_uuid *workspace,
                            struct write_chain_link *link, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(session, &rows, err));
    write_chain_begin(link, workspace, rows_null(rows, 0, 1) ? cof_slice_of(NULL, 0) : rows_bytes(rows, 0, 1));
    for (size_t i = 0; i < rows_count(rows) && !rows_null(rows, i, 2); i++) {
        const struct write_chain_write write = {
            .revision = (uint64_t) rows_i64(rows, i, 2),
            .time_us = rows_time(rows, i, 3),
            .objects = rows_bytes(rows, i, 4),
            .record = rows_bytes(rows, i, 5),
        };
        TRY(write_chain_add(link, &write, err));
    }
    return COF_OK;
}

static cof_code read_writes(struct chain *chain, struct session *session, const struct cof_uuid *workspaces,
                            size_t count, struct cof_error *err)
{
    for (size_t i = 0; i < count; i++) {
        TRY(load_keys(chain, session, &workspaces[i], err));
    }
    for (size_t i = 0; i < count; i++) {
        const struct param params[] = {param_uuid(&workspaces[i]), param_i64(WRITE_CHAIN_MOST)};
        TRY(session_queue(session, STATEMENT_CHAIN_READ, params, COF_COUNT(params), err));
        TRY(session_sync(session, err));
    }
    for (size_t i = 0; i < count; i++) {
        TRY(take_writes(session, &workspaces[i], &chain->links[i], err));
    }
    return COF_OK;
}

/* Queues a link; false if there is nothing to link, or no key for it. */
static cof_code queue_link(struct chain *chain, struct session *session, const struct write_chain_link *link,
                           uint8_t hash[CRYPTO_DIGEST], bool *ret_queued, struct cof_error *err)
{
    struct keyring *keyring = chain->options.service->keyring;
    const uint32_t generation = keyring_generation(keyring, &link->workspace);
    *ret_queued = link->count > 0 && generation != 0;
    if (!*ret_queued) {
        return COF_OK;
    }
    TRY(write_chain_hash(link, keyring, generation, hash, err));
    const struct param params[] = {
        param_uuid(&link->workspace),    param_i64((int64_t) link->first),
        param_i64((int64_t) link->last), param_time(cof_clock_wall(chain->options.service->clock)),
        param_i32((int32_t) generation), param_text(cof_slice_of(hash, CRYPTO_DIGEST)),
    };
    return session_queue(session, STATEMENT_CHAIN_INSERT, params, COF_COUNT(params), err);
}

static cof_code write_links(struct chain *chain, struct session *session, size_t count, struct cof_error *err)
{
    uint8_t hashes[AT_ONCE][CRYPTO_DIGEST];
    bool queued[AT_ONCE];
    for (size_t i = 0; i < count; i++) {
        TRY(queue_link(chain, session, &chain->links[i], hashes[i], &queued[i], err));
    }
    TRY(session_sync(session, err));
    for (size_t i = 0; i < count; i++) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        if (!queued[i]) {
            continue;
        }
        TRY(session_next(session, &rows, err));
        if (rows_affected(rows) == 1) {
            TRY(note_end(chain, &chain->links[i], hashes[i], err));
        } else {
            chain->refused = true;
        }
    }
    return COF_OK;
}

/* Links until nothing is left of what these workspaces had at the beginning. */
static cof_code extend(struct chain *chain, struct session *session, const struct cof_uuid *workspaces,
                       size_t count, struct cof_error *err)
{
    bool full = count > 0;
    while (full) {
        full = false;
        TRY(read_writes(chain, session, workspaces, count, err));
        TRY(write_links(chain, session, count, err));
        for (size_t i = 0; i < count; i++) {
            full = full || chain->links[i].count == WRITE_CHAIN_MOST;
        }
        full = full && !chain->refused;
    }
    return COF_OK;
}

/* --- Which workspaces ----------------------------------------------------------------------------------------- */

static cof_code extend_behind(struct chain *chain, struct session *session, struct cof_error *err)
{
    struct cof_uuid workspaces[AT_ONCE];
    struct cof_uuid from = cof_uuid_zero;
    size_t count = AT_ONCE;
    while (count == AT_ONCE) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        const struct param params[] = {param_uuid(&from), param_i64(AT_ONCE)};
        TRY(session_queue(session, STATEMENT_CHAIN_BEHIND, params, COF_COUNT(params), err));
        TRY(session_sync(session, err));
        TRY(session_next(session, &rows, err));
        count = rows_count(rows);
        for (size_t i = 0; i < count; i++) {
            workspaces[i] = rows_uuid(rows, i, 0);
            from = cof_uuid_next(&workspaces[i]);
        }
        TRY(extend(chain, session, workspaces, count, err));
    }
    return COF_OK;
}

static cof_code extend_all(struct chain *chain, struct session *session, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_queue(session, STATEMENT_SNAPSHOT, NULL, 0, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    TRY(extend_behind(chain, session, err));
    chain->xmin = rows_i64(rows, 0, 0);
    return COF_OK;
}

/* As confirming does it (confirm.h): what was committed since the last look. */
static cof_code extend_changed(struct chain *chain, struct session *session, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct cof_uuid workspaces[AT_ONCE];
    size_t count = 0;
    const struct param since = param_i64(chain->xmin);
    TRY(session_queue(session, STATEMENT_CHANGE_SINCE, &since, 1, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    for (size_t i = 0; i < rows_count(rows) && !rows_null(rows, i, 1); i++) {
        workspaces[count++] = rows_uuid(rows, i, 1);
        if (count == AT_ONCE) {
            TRY(extend(chain, session, workspaces, count, err));
            count = 0;
        }
    }
    TRY(extend(chain, session, workspaces, count, err));
    chain->xmin = rows_i64(rows, 0, 0);
    return COF_OK;
}

/*
 * One server chains for all, as long as its connection lives: the lock is the connection's, and taking it once more
 * succeeds. Others try again in each round.
 */
static cof_code take_lead(struct session *session, bool *ret_leads, struct cof_error *err)
{
    char lease[16];
    AUTO(rows_cleanup) struct rows *rows = NULL;
    (void) snprintf(lease, sizeof lease, "%d", LEASE_MS);
    const struct param params[] = {param_i64(lead_lock), param_text(cof_slice_text(lease))};
    TRY(session_queue(session, STATEMENT_CHAIN_LEAD, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    *ret_leads = rows_bool(rows, 0, 0);
    return COF_OK;
}

static cof_code look(struct chain *chain, struct session *session, struct cof_error *err)
{
    bool leads;
    TRY(session_ready(session, err));
    TRY(take_lead(session, &leads, err));
    if (!leads) {
        chain->xmin = 0; /* whoever takes over begins with all that is behind */
        return COF_OK;
    }
    const uint64_t epoch = atomic_load(&chain->options.service->epoch);
    if (epoch != chain->epoch) {
        chain->epoch = epoch;
        chain->xmin = 0;
    }
    chain->refused = false;
    TRY(chain->xmin == 0 ? extend_all(chain, session, err) : extend_changed(chain, session, err));
    if (chain->refused) {
        chain->xmin = 0; /* the key was rotated, which this server learns of within a second */
    }
    return tell_ends(chain, err);
}

static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct chain *chain = context;
    *ret_pause_ms = PAUSE_MS;
    const cof_code code = look(chain, session, err);
    if (code != COF_OK) {
        chain->xmin = 0;
    }
    return code;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

cof_code chain_start(const struct chain_options *options, struct chain **ret_chain, struct cof_error *err)
{
    struct chain *chain = calloc(1, sizeof *chain);
    if (chain == NULL) {
        return cof_arena_exhausted(err);
    }
    chain->options = *options;
    const struct job_options job = {
        .name = "chain",
        .log = options->log,
        .session = options->session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = LEAST_PAUSE_MS,
        .round = run_round,
        .context = chain,
    };
    const cof_code code = job_start(&job, &chain->job, err);
    if (code != COF_OK) {
        free(chain);
        return code;
    }
    *ret_chain = chain;
    return COF_OK;
}

void chain_stop(struct chain *chain)
{
    if (chain != NULL) {
        job_stop(chain->job);
        free(chain);
    }
}
