#include "server/jobs/refresh_keep.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/stored/v1/refresh.pb-c.h>

#include "common/wire.h"

enum { PLACES = 4096 };

/* Where a connection's answer is in the journal. While the database is away there may be as many as the journal holds. */
struct place {
    struct place *next;
    struct cof_uuid connection;
    struct cof_uuid authorization; /* all zero: a refresh's */
    uint64_t number;
};

struct refresh_keep {
    struct refresh_keep_options options;
    struct journal *journal;
    pthread_mutex_t lock; /* of the places */
    uint64_t seed;
    struct place *places[PLACES]; /* by the hash of the connection */
    uint32_t unread;              /* entries that this version cannot read; they stay in the journal */
};

/* --- Entries -------------------------------------------------------------------------------------------------- */

/* protobuf-c's type has no const; packing only reads. */
static ProtobufCBinaryData bytes_of(struct cof_slice slice)
{
    ProtobufCBinaryData bytes = {.len = slice.len};
    memcpy(&bytes.data, &slice.data, sizeof bytes.data);
    return bytes;
}

static struct cof_slice slice_of(const ProtobufCBinaryData *bytes)
{
    return cof_slice_of(bytes->data, bytes->len);
}

static cof_code pack(const struct refresher_entry *entry, struct cof_arena *arena, struct cof_slice *ret_packed,
                     struct cof_error *err)
{
    Coffer__Stored__V1__RefreshAnswer message;
    const struct row_texts *scopes = &entry->tokens.scopes;
    ProtobufCBinaryData *items = cof_arena_array(arena, scopes->count, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < scopes->count; i++) {
        items[i] = bytes_of(scopes->items[i]);
    }
    coffer__stored__v1__refresh_answer__init(&message);
    message.workspace = bytes_of(cof_slice_of(entry->workspace.bytes, sizeof entry->workspace.bytes));
    message.connection = bytes_of(cof_slice_of(entry->connection.bytes, sizeof entry->connection.bytes));
    message.generation = entry->store.generation;
    message.fence = entry->store.fence;
    message.obtain_time = entry->store.obtained;
    message.expire_time = entry->store.expires;
    message.next_time = entry->store.next;
    message.tries = entry->store.tries;
    message.access_token = bytes_of(entry->tokens.access_token);
    message.refresh_token = bytes_of(entry->tokens.refresh_token);
    message.refresh_expire_time = entry->tokens.refresh_expires;
    if (entry->connects) {
        const struct refresh_connect *connect = &entry->connect;
        message.authorization =
            bytes_of(cof_slice_of(connect->authorization.bytes, sizeof connect->authorization.bytes));
        message.principal = bytes_of(cof_slice_of(connect->principal.bytes, sizeof connect->principal.bytes));
        message.generation = connect->generation;
        message.obtain_time = connect->obtained;
        message.expire_time = connect->expires;
        message.config_generation = connect->config_generation;
        message.connect_time = connect->connect_time;
    }
    message.scopes = items;
    message.n_scopes = scopes->count;
    return cof_wire_pack(&message.base, arena, ret_packed, err);
}

static cof_code read_scopes(const Coffer__Stored__V1__RefreshAnswer *message, struct cof_arena *arena,
                            struct row_texts *ret_scopes, struct cof_error *err)
{
    struct row_texts scopes = {cof_arena_array(arena, message->n_scopes, sizeof(struct cof_slice)), 0};
    if (scopes.items == NULL) {
        return cof_arena_exhausted(err);
    }
    while (scopes.count < message->n_scopes) {
        scopes.items[scopes.count] = slice_of(&message->scopes[scopes.count]);
        scopes.count++;
    }
    *ret_scopes = scopes;
    return COF_OK;
}

static cof_code read_connect(const Coffer__Stored__V1__RefreshAnswer *message, struct refresher_entry *entry,
                             struct cof_error *err)
{
    struct refresh_connect *connect = &entry->connect;
    entry->connects = message->authorization.len > 0;
    if (!entry->connects) {
        return COF_OK;
    }
    if (message->authorization.len != sizeof connect->authorization.bytes ||
        message->principal.len != sizeof connect->principal.bytes) {
        return cof_fail(err, COF_REASON_CORRUPTED, "an entry of the refresh journal names no authorization");
    }
    memcpy(connect->authorization.bytes, message->authorization.data, sizeof connect->authorization.bytes);
    memcpy(connect->principal.bytes, message->principal.data, sizeof connect->principal.bytes);
    connect->config_generation = message->config_generation;
    connect->generation = message->generation;
    connect->connect_time = message->connect_time;
    connect->obtained = message->obtain_time;
    connect->expires = message->expire_time;
    return COF_OK;
}

static cof_code read_entry(struct cof_slice packed, struct cof_arena *arena, struct refresher_entry *ret_entry,
                           struct cof_error *err)
{
    ProtobufCMessage *read = NULL;
    struct refresher_entry entry = {.store = {.kind = REFRESH_DO_STORE, .status = REFRESH_CONNECTED}};
    TRY(cof_wire_unpack(&coffer__stored__v1__refresh_answer__descriptor, packed, arena, &read, err));
    const Coffer__Stored__V1__RefreshAnswer *message = (const Coffer__Stored__V1__RefreshAnswer *) (void *) read;
    if (message->workspace.len != sizeof entry.workspace.bytes ||
        message->connection.len != sizeof entry.connection.bytes) {
        return cof_fail(err, COF_REASON_CORRUPTED, "an entry of the refresh journal names no connection");
    }
    memcpy(entry.workspace.bytes, message->workspace.data, sizeof entry.workspace.bytes);
    memcpy(entry.connection.bytes, message->connection.data, sizeof entry.connection.bytes);
    entry.store.generation = message->generation;
    entry.store.fence = message->fence;
    entry.store.obtained = message->obtain_time;
    entry.store.expires = message->expire_time;
    entry.store.next = message->next_time;
    entry.store.tries = message->tries;
    entry.tokens.access_token = slice_of(&message->access_token);
    entry.tokens.refresh_token = slice_of(&message->refresh_token);
    entry.tokens.refresh_expires = message->refresh_expire_time;
    TRY(read_scopes(message, arena, &entry.tokens.scopes, err));
    TRY(read_connect(message, &entry, err));
    *ret_entry = entry;
    return COF_OK;
}

/* --- Places --------------------------------------------------------------------------------------------------- */

static struct place **chain_of(struct refresh_keep *keep, const struct cof_uuid *connection)
{
    return &keep->places[cof_uuid_hash(connection, keep->seed) % PLACES];
}

static void remember(struct refresh_keep *keep, struct place *place, const struct refresher_entry *entry,
                     uint64_t number)
{
    struct place **chain = chain_of(keep, &entry->connection);
    (void) pthread_mutex_lock(&keep->lock);
    *place = (struct place){
        .next = *chain,
        .connection = entry->connection,
        .authorization = entry->connects ? entry->connect.authorization : cof_uuid_zero,
        .number = number,
    };
    *chain = place;
    (void) pthread_mutex_unlock(&keep->lock);
}

/* Takes one of them out; NULL if there is none any more. */
static struct place *take_place(struct refresh_keep *keep, const struct cof_uuid *connection,
                                const struct cof_uuid *authorization)
{
    (void) pthread_mutex_lock(&keep->lock);
    struct place **link = chain_of(keep, connection);
    while (*link != NULL && !(cof_uuid_equal(&(*link)->connection, connection) &&
                              cof_uuid_equal(&(*link)->authorization, authorization))) {
        link = &(*link)->next;
    }
    struct place *place = *link;
    if (place != NULL) {
        *link = place->next;
    }
    (void) pthread_mutex_unlock(&keep->lock);
    return place;
}

/* The journal, which has a lock of its own, is not told under ours: a walk over it comes the other way. */
void refresh_keep_forget(struct refresh_keep *keep, const struct cof_uuid *connection,
                         const struct cof_uuid *authorization)
{
    struct place *place = take_place(keep, connection, authorization);
    while (place != NULL) {
        journal_done(keep->journal, place->number);
        free(place);
        place = take_place(keep, connection, authorization);
    }
}

/* --- Keeping -------------------------------------------------------------------------------------------------- */

static void log_failure(const struct refresh_keep *keep, const struct cof_error *err)
{
    COF_LOG(keep->options.log, COF_LOG_ERROR, "journal_failed",
            "a new token is only in memory until the database has it", cof_log_text("reason", err->message));
}

static cof_code put(struct refresh_keep *keep, const struct refresher_entry *entry, struct cof_arena *arena,
                    struct cof_error *err)
{
    struct cof_slice packed = {NULL, 0};
    uint64_t number = 0;
    struct place *place = calloc(1, sizeof *place);
    if (place == NULL) {
        return cof_arena_exhausted(err);
    }
    cof_code code = pack(entry, arena, &packed, err);
    if (code == COF_OK) {
        code = journal_put(keep->journal, packed, &number, err);
    }
    if (code != COF_OK) {
        free(place);
        return code;
    }
    remember(keep, place, entry, number);
    return COF_OK;
}

bool refresh_keep_put(struct refresh_keep *keep, const struct refresher_entry *entry)
{
    struct cof_error err;
    struct cof_arena arena;
    cof_arena_init(&arena, keep->options.pool, keep->options.memory);
    const cof_code code = put(keep, entry, &arena, &err);
    cof_arena_reset(&arena);
    if (code != COF_OK) {
        log_failure(keep, &err);
    }
    return code == COF_OK;
}

/* --- Recovery ------------------------------------------------------------------------------------------------- */

struct recovery {
    struct refresh_keep *keep;
    bool (*take)(void *context, const struct refresher_entry *entry);
    void *context;
    struct cof_arena arena;
};

/* It opened, so it was written as it is; most likely by a newer version, which can still store it. */
static cof_code set_aside(struct refresh_keep *keep, uint64_t number, struct cof_error *err)
{
    if (err->reason == COF_REASON_OUT_OF_MEMORY) {
        return err->code;
    }
    COF_LOG(keep->options.log, COF_LOG_ERROR, "journal_entry_unread",
            "a token that came before the server ended cannot be read by this version, and stays in the journal; "
            "start the "
            "version that wrote it with this state directory, which stores it, or connect anew what asks for it",
            cof_log_number("entry", (int64_t) number), cof_log_text("reason", err->message));
    cof_error_clear(err);
    keep->unread++;
    return COF_OK;
}

/* An entry stays where it is until it is stored, or found to be of no use any more. */
static cof_code recover(void *context, uint64_t number, struct cof_slice packed, struct cof_error *err)
{
    struct recovery *recovery = context;
    struct refresher_entry entry;
    struct place *place = calloc(1, sizeof *place);
    if (place == NULL) {
        return cof_arena_exhausted(err);
    }
    const cof_code code = read_entry(packed, &recovery->arena, &entry, err);
    if (code != COF_OK) {
        free(place);
        cof_arena_reset(&recovery->arena);
        return set_aside(recovery->keep, number, err);
    }
    remember(recovery->keep, place, &entry, number);
    const bool taken = recovery->take(recovery->context, &entry);
    cof_arena_reset(&recovery->arena);
    return taken ? COF_OK : cof_arena_exhausted(err);
}

cof_code refresh_keep_recover(struct refresh_keep *keep,
                              bool (*take)(void *context, const struct refresher_entry *entry), void *context,
                              struct cof_error *err)
{
    struct recovery recovery = {.keep = keep, .take = take, .context = context};
    cof_arena_init(&recovery.arena, keep->options.pool, keep->options.memory);
    const cof_code code = journal_walk(keep->journal, recover, &recovery, err);
    cof_arena_reset(&recovery.arena);
    return code;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void keep_cleanup(struct refresh_keep **keep)
{
    refresh_keep_close(*keep);
}

cof_code refresh_keep_open(const struct refresh_keep_options *options, struct refresh_keep **ret_keep,
                           struct cof_error *err)
{
    struct journal_found found;
    const struct cof_uuid seed = cof_uuid_random();
    AUTO(keep_cleanup) struct refresh_keep *keep = calloc(1, sizeof *keep);
    if (keep == NULL) {
        return cof_arena_exhausted(err);
    }
    keep->options = *options;
    memcpy(&keep->seed, seed.bytes, sizeof keep->seed);
    (void) pthread_mutex_init(&keep->lock, NULL);
    TRY(journal_open(&options->journal, &keep->journal, &found, err));
    if (found.entries + found.damaged > 0 || found.torn > 0) {
        COF_LOG(options->log, found.damaged > 0 ? COF_LOG_ERROR : COF_LOG_INFO, "journal_opened",
                "tokens that came before the server ended are stored now", cof_log_number("entries", found.entries),
                cof_log_number("damaged", found.damaged), cof_log_number("torn", (int64_t) found.torn));
    }
    *ret_keep = TAKE(keep);
    return COF_OK;
}

void refresh_keep_close(struct refresh_keep *keep)
{
    if (keep == NULL) {
        return;
    }
    for (size_t i = 0; i < PLACES; i++) {
        for (struct place *place = keep->places[i], *next; place != NULL; place = next) {
            next = place->next;
            free(place);
        }
    }
    journal_close(keep->journal);
    (void) pthread_mutex_destroy(&keep->lock);
    free(keep);
}

uint32_t refresh_keep_count(struct refresh_keep *keep)
{
    return keep == NULL ? 0 : journal_count(keep->journal) - keep->unread;
}
