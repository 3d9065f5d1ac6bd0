#include "server/backup/writes_check.h"

#include <inttypes.h>
#include <stdlib.h>

#include <coffer/audit/v1/record.pb-c.h>

#include "common/arena.h"
#include "common/encode.h"
#include "common/secret.h"
#include "server/audit/json.h"
#include "server/audit/write_chain.h"
#include "server/service/guard.h"
#include "server/service/key_rotation.h"

enum { PAGE = 64, TEXT = 400, ENDS_FIRST = 1024 };

/* --- Ends of chains ------------------------------------------------------------------------------------------- */

struct chain_end {
    struct cof_uuid workspace;
    uint64_t revision;
    uint8_t hash[CRYPTO_DIGEST];
};

struct chain_ends {
    struct chain_end *items;
    size_t count;
    size_t capacity;
};

cof_code chain_ends_new(struct chain_ends **ret_ends, struct cof_error *err)
{
    *ret_ends = calloc(1, sizeof **ret_ends);
    return *ret_ends == NULL ? cof_arena_exhausted(err) : COF_OK;
}

void chain_ends_free(struct chain_ends *ends)
{
    if (ends != NULL) {
        free(ends->items);
        free(ends);
    }
}

/* By workspace, the last one of each first. */
static int compare_ends(const void *left, const void *right)
{
    const struct chain_end *a = left;
    const struct chain_end *b = right;
    const int order = memcmp(&a->workspace, &b->workspace, sizeof a->workspace);
    return order != 0 ? order : (a->revision < b->revision) - (a->revision > b->revision);
}

void chain_ends_compact(struct chain_ends *ends)
{
    size_t kept = 0;
    if (ends->count > 0) {
        qsort(ends->items, ends->count, sizeof *ends->items, compare_ends);
    }
    for (size_t i = 0; i < ends->count; i++) {
        if (kept == 0 || !cof_uuid_equal(&ends->items[kept - 1].workspace, &ends->items[i].workspace)) {
            ends->items[kept++] = ends->items[i];
        }
    }
    ends->count = kept;
}

/* Grows only if compacting did not make room for as many again. */
static cof_code make_room(struct chain_ends *ends, struct cof_error *err)
{
    if (ends->count < ends->capacity) {
        return COF_OK;
    }
    chain_ends_compact(ends);
    if (ends->capacity > 0 && ends->count <= ends->capacity / 2) {
        return COF_OK;
    }
    const size_t capacity = ends->capacity == 0 ? ENDS_FIRST : 2 * ends->capacity;
    struct chain_end *items = realloc(ends->items, capacity * sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(err);
    }
    ends->items = items;
    ends->capacity = capacity;
    return COF_OK;
}

cof_code chain_ends_add(struct chain_ends *ends, const struct cof_uuid *workspace, uint64_t revision,
                        const uint8_t hash[CRYPTO_DIGEST], struct cof_error *err)
{
    TRY(make_room(ends, err));
    struct chain_end *end = &ends->items[ends->count++];
    *end = (struct chain_end){.workspace = *workspace, .revision = revision};
    memcpy(end->hash, hash, CRYPTO_DIGEST);
    return COF_OK;
}

static cof_code take_end(struct chain_ends *ends, const Coffer__Audit__V1__Object *object, struct cof_error *err)
{
    struct chain_end end = {.revision = object->version};
    if (!cof_uuid_parse(cof_slice_text(object->uid), &end.workspace) || object->n_keys != 1 ||
        strlen(object->keys[0]) != 2 * (size_t) CRYPTO_DIGEST ||
        !cof_hex_decode(cof_slice_text(object->keys[0]), end.hash, CRYPTO_DIGEST)) {
        return cof_fail(err, COF_REASON_CORRUPTED,
                        "a record of the log names the end of a chain that cannot be one");
    }
    return chain_ends_add(ends, &end.workspace, end.revision, end.hash, err);
}

cof_code chain_ends_take(struct chain_ends *ends, struct cof_slice text, struct cof_error *err)
{
    Coffer__Audit__V1__Record *record = coffer__audit__v1__record__unpack(NULL, text.len, text.data);
    cof_code code = COF_OK;
    if (record == NULL) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a record of the log is no message of coffer.audit.v1");
    }
    for (size_t i = 0; code == COF_OK && strcmp(record->method, "write_chain") == 0 && i < record->n_objects; i++) {
        code = take_end(ends, record->objects[i], err);
    }
    coffer__audit__v1__record__free_unpacked(record, NULL);
    return code;
}

static const struct chain_end *find_end(const struct chain_ends *ends, const struct cof_uuid *workspace)
{
    const struct chain_end key = {.workspace = *workspace, .revision = UINT64_MAX};
    size_t low = 0;
    size_t high = ends->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (compare_ends(&ends->items[middle], &key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const bool found = low < ends->count && cof_uuid_equal(&ends->items[low].workspace, workspace);
    return found ? &ends->items[low] : NULL;
}

/* --- One workspace -------------------------------------------------------------------------------------------- */

struct walk {
    const struct writes_check *check;
    struct writes_summary *summary;
    struct cof_error *err;
    struct cof_uuid workspace;
    uint64_t revision;           /* how far the workspace had come when the walk began */
    uint64_t last;               /* the last one that was accounted for */
    struct writes_end chain;     /* its last link */
    const struct chain_end *end; /* that has not been met; NULL: there is none */
};

static void damaged(struct walk *walk, uint64_t first, uint64_t last, const char *what)
{
    const struct writes_damage damage = {&walk->workspace, first, last, what};
    walk->summary->damages++;
    walk->check->tell(&damage, walk->check->context);
}

/* About an end of the chain that somebody else remembers. */
static void damaged_end(struct walk *walk, const char *format)
{
    char what[TEXT];
    (void) snprintf(what, sizeof what, "%s %s", walk->check->ends_from, format);
    damaged(walk, walk->end->revision, walk->end->revision, what);
}

static cof_code ask(struct walk *walk, statement id, const struct param *params, size_t count,
                    struct rows **ret_rows)
{
    struct session *session = walk->check->session;
    TRY(session_queue(session, id, params, count, walk->err));
    TRY(session_sync(session, walk->err));
    return session_next(session, ret_rows, walk->err);
}

static cof_code read_writes(struct walk *walk, uint64_t first, uint64_t last, struct rows **ret_rows)
{
    const struct param params[] = {param_uuid(&walk->workspace), param_i64((int64_t) first),
                                   param_i64((int64_t) last), param_i64(WRITE_CHAIN_MOST)};
    return ask(walk, STATEMENT_CHANGE_RANGE, params, COF_COUNT(params), ret_rows);
}

static cof_code hand_on(struct walk *walk, const struct write_chain_write *write)
{
    const struct writes_check *check = walk->check;
    if (check->export != NULL &&
        audit_json_write(check->export, write->revision, write->record, walk->err) != COF_OK) {
        damaged(walk, write->revision, write->revision, "the record cannot be read");
    }
    if (check->take == NULL) {
        return COF_OK;
    }
    const cof_code code = check->take(write->revision, write->record, check->context, walk->err);
    if (code == COF_DATA_LOSS) {
        damaged(walk, write->revision, write->revision, "the record cannot be read");
    }
    return code == COF_DATA_LOSS ? COF_OK : code;
}

/* Adds the writes of `rows` to a link, and tells which revisions are missing between them. */
static cof_code take_writes(struct walk *walk, const struct rows *rows, struct write_chain_link *link)
{
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct write_chain_write write = {(uint64_t) rows_i64(rows, i, 0), rows_time(rows, i, 1),
                                                rows_bytes(rows, i, 2), rows_bytes(rows, i, 3)};
        if (write.revision > walk->last + 1) {
            damaged(walk, walk->last + 1, write.revision - 1, "the records are missing");
        } else if (write.revision <= walk->last) {
            damaged(walk, write.revision, write.revision, "the record stands in two links");
        }
        walk->last = write.revision;
        walk->summary->writes++;
        TRY(write_chain_add(link, &write, walk->err));
        TRY(hand_on(walk, &write));
    }
    return COF_OK;
}

/* Links outlive the keys that they were made with: of one that was destroyed there is what checks them. One that does not
 * open is told as missing. */
static cof_code load_generation(struct walk *walk, uint32_t generation)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct keyring *keyring = walk->check->keyring;
    const struct param params[] = {param_uuid(&walk->workspace), param_i32((int32_t) generation)};
    if (keyring_has(keyring, &walk->workspace, generation)) {
        return COF_OK;
    }
    TRY(ask(walk, STATEMENT_KEY_GET, params, COF_COUNT(params), &rows));
    if (rows_count(rows) == 0) {
        return COF_OK;
    }
    const struct cof_slice wrapped = rows_bytes(rows, 0, 0);
    const cof_code code = rows_i32(rows, 0, 1) == GENERATION_RETIRED
                              ? keyring_install_retired(keyring, &walk->workspace, generation, wrapped, walk->err)
                              : keyring_install(keyring, &walk->workspace, generation, wrapped, walk->err);
    return code == COF_DATA_LOSS ? COF_OK : code;
}

static cof_code check_hash(struct walk *walk, const struct write_chain_link *link, uint32_t generation,
                           struct cof_slice hash)
{
    uint8_t expected[CRYPTO_DIGEST];
    struct keyring *keyring = walk->check->keyring;
    TRY(load_generation(walk, generation));
    if (!keyring_has(keyring, &walk->workspace, generation)) {
        damaged(walk, link->first, link->last, "the link names a key that is not there");
        return COF_OK;
    }
    TRY(write_chain_hash(link, keyring, generation, expected, walk->err));
    if (!cof_secret_equal(cof_slice_of(expected, sizeof expected), hash)) {
        damaged(walk, link->first, link->last,
                "the records do not fit their chain: they or the link were changed or exchanged, or the link "
                "before was");
    }
    return COF_OK;
}

static void check_end(struct walk *walk, uint64_t revision, struct cof_slice hash)
{
    if (walk->end == NULL || walk->end->revision != revision) {
        return;
    }
    if (!cof_slice_equal(cof_slice_of(walk->end->hash, CRYPTO_DIGEST), hash)) {
        damaged_end(walk, "has another chain");
    }
    walk->end = NULL;
}

/* A link's own numbers are part of its hash, so what they say is compared with the records that are there. */
static cof_code check_link(struct walk *walk, const struct rows *links, size_t index)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct write_chain_link link;
    const uint64_t first = (uint64_t) rows_i64(links, index, 0);
    const uint64_t last = (uint64_t) rows_i64(links, index, 1);
    const struct cof_slice hash = rows_bytes(links, index, 4);
    if (first > walk->last + 1) {
        damaged(walk, walk->last + 1, first - 1, "there is no link, though there is one behind them");
        walk->last = first - 1;
    }
    TRY(read_writes(walk, first, last, &rows));
    write_chain_begin(&link, &walk->workspace, cof_slice_of(walk->chain.hash, CRYPTO_DIGEST));
    TRY(take_writes(walk, rows, &link));
    if (walk->last < last) {
        damaged(walk, walk->last + 1, last, "the records are missing");
    }
    link.first = first;
    link.last = last;
    TRY(check_hash(walk, &link, (uint32_t) rows_i32(links, index, 3), hash));
    check_end(walk, last, hash);
    memcpy(walk->chain.hash, hash.data, CRYPTO_DIGEST);
    walk->chain.revision = last;
    walk->last = last;
    walk->summary->links++;
    return COF_OK;
}

static cof_code check_links(struct walk *walk)
{
    size_t count = PAGE;
    uint64_t after = 0;
    while (count == PAGE) {
        AUTO(rows_cleanup) struct rows *links = NULL;
        const struct param params[] = {param_uuid(&walk->workspace), param_i64((int64_t) after), param_i64(PAGE)};
        TRY(ask(walk, STATEMENT_CHAIN_LINKS, params, COF_COUNT(params), &links));
        count = rows_count(links);
        for (size_t i = 0; i < count; i++) {
            after = (uint64_t) rows_i64(links, i, 0);
            TRY(check_link(walk, links, i));
        }
    }
    return COF_OK;
}

/* What no link covers yet. */
static cof_code check_rest(struct walk *walk)
{
    size_t count = WRITE_CHAIN_MOST;
    while (count == WRITE_CHAIN_MOST && walk->last < walk->revision) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        struct write_chain_link link;
        TRY(read_writes(walk, walk->last + 1, walk->revision, &rows));
        count = rows_count(rows);
        write_chain_begin(&link, &walk->workspace, cof_slice_of(walk->chain.hash, CRYPTO_DIGEST));
        TRY(take_writes(walk, rows, &link));
        walk->summary->unchained += count;
    }
    if (walk->last < walk->revision) {
        damaged(walk, walk->last + 1, walk->revision, "the records, the last ones, are missing");
    }
    return COF_OK;
}

static cof_code walk_workspace(struct walk *walk)
{
    const cof_code code =
        guard_load_keys_of(walk->check->keyring, walk->check->session, &walk->workspace, walk->err);
    if (code != COF_OK && walk->err->reason != COF_REASON_CORRUPTED &&
        walk->err->reason != COF_REASON_WORKSPACE_NOT_FOUND) {
        return code;
    }
    walk->summary->workspaces++;
    walk->last = WRITE_CHAIN_BEFORE;
    walk->end = find_end(walk->check->ends, &walk->workspace);
    walk->summary->ends += walk->end != NULL;
    TRY(check_links(walk));
    TRY(check_rest(walk));
    if (walk->end != NULL) {
        damaged_end(walk, "has an end of the chain here that the chain does not have");
    }
    return COF_OK;
}

cof_code writes_check_workspace(const struct writes_check *check, const struct cof_uuid *workspace,
                                uint64_t revision, struct writes_summary *summary, struct writes_end *ret_end,
                                struct cof_error *err)
{
    struct walk walk = {
        .check = check, .summary = summary, .err = err, .workspace = *workspace, .revision = revision};
    TRY(walk_workspace(&walk));
    *ret_end = walk.chain;
    return COF_OK;
}

/* --- All of them ---------------------------------------------------------------------------------------------- */

static cof_code check_page(const struct writes_check *check, const struct rows *rows,
                           struct writes_summary *summary, struct cof_error *err)
{
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct cof_uuid workspace = rows_uuid(rows, i, 0);
        struct writes_end end;
        TRY(writes_check_workspace(check, &workspace, (uint64_t) rows_i64(rows, i, 1), summary, &end, err));
    }
    return COF_OK;
}

static cof_code read_page(const struct writes_check *check, const struct cof_uuid *from, struct rows **ret_rows,
                          struct cof_error *err)
{
    const struct param params[] = {param_uuid(from), param_i64(PAGE)};
    TRY(session_queue(check->session, STATEMENT_REVISION_LIST, params, COF_COUNT(params), err));
    TRY(session_sync(check->session, err));
    return session_next(check->session, ret_rows, err);
}

cof_code writes_check_run(const struct writes_check *check, struct writes_summary *ret_summary,
                          struct cof_error *err)
{
    struct cof_uuid from = cof_uuid_zero;
    size_t count = PAGE;
    *ret_summary = (struct writes_summary){0};
    chain_ends_compact(check->ends);
    TRY(session_ready(check->session, err));
    while (count == PAGE) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        TRY(read_page(check, &from, &rows, err));
        count = rows_count(rows);
        TRY(check_page(check, rows, ret_summary, err));
        if (count > 0) {
            const struct cof_uuid last = rows_uuid(rows, count - 1, 0);
            from = cof_uuid_next(&last);
        }
    }
    return COF_OK;
}
