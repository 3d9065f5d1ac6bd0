#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/slice.h"
#include "common/uuid.h"

/*
 * What was read of workspaces and may be used again while it is fresh (docs/decisions/0003-revisions-and-freshness.md).
 *
 * Of each workspace the cache knows one revision, and until when it was confirmed to be the current one. Each entry was
 * read at one revision and is used at that one only. So a write, which raises its workspace's revision, ends the use of
 * everything that was kept of that workspace, and all entries that are found at one revision are one state.
 *
 * What an entry holds is the service's business: it makes entries and reads them. They hold ciphertext and metadata,
 * never an opened value. The memory is bounded; what was not used for longest goes first, nearly.
 *
 * Thread-safe. Nothing here blocks: each lock is one of several and is held for a few instructions.
 */

struct cache;

struct cache_options {
    uint64_t bytes;       /* for everything that is kept */
    int64_t staleness_us; /* for how long a confirmed revision may be used */
    const struct cof_clock *clock;
    const _Atomic uint64_t *epoch; /* of the database; what belongs to another one is not used */
    /* Somebody uses the cache after a pause: revisions have to be confirmed again. Must not block; on any thread. */
    void (*used)(void *context);
    void *context;
};

COF_CODE cache_new(const struct cache_options *options, struct cache **ret_cache, struct cof_error *err);
/* NULL is allowed. All entries must have been released. */
void cache_free(struct cache *cache);

typedef enum cache_kind {
    CACHE_CALLER = 1, /* by the token's ID */
    CACHE_SECRET,     /* by environment and name */
    CACHE_ACTION,     /* by name */
} cache_kind;

struct cache_key {
    cache_kind kind;
    struct cof_uuid workspace;
    struct cof_slice parts[2];
};

/* --- Revisions ------------------------------------------------------------------------------------------------ */

/* A state of a workspace: its rows at one revision, in one life of the database. */
struct cache_state {
    uint64_t epoch;
    uint64_t revision;
    uint64_t carried; /* what is kept of so many revisions before it is of this state, too */
};

/*
 * The state of the workspace that is fresh: every write that was committed before the limit is in it, and every one that
 * this server has told. Whatever is kept of it may be used for the call that asks now.
 */
bool cache_fresh(struct cache *cache, const struct cof_uuid *workspace, struct cache_state *ret_state);

/* A read of the database that is about to be sent. All zero: nothing of it is kept. */
struct cache_read {
    uint64_t place;
    uint64_t chain;
    uint64_t epoch;
    uint64_t known; /* the revision that was known before; 0: none */
    int64_t begin_us;
};

/* Before the statement is sent. */
struct cache_read cache_read_begin(struct cache *cache, const struct cof_uuid *workspace);

/* The statement saw this revision. Gives the state that it read, so that it can be kept; false if a later one is known
 * meanwhile, or too little is known of the workspace. */
bool cache_read_end(struct cache *cache, const struct cof_uuid *workspace, const struct cache_read *read,
                    uint64_t revision, struct cache_state *ret_state);

/* Whether the statement saw less than was known before it was sent: not a race, but an older state that somebody put back
 * into the database (docs/decisions/0018-backups.md). */
bool cache_read_reverted(const struct cache *cache, const struct cache_read *read, uint64_t revision);

/* The workspace has reached this revision. For the writer before it answers, and for the job. */
void cache_reached(struct cache *cache, const struct cof_uuid *workspace, uint64_t revision);

/* For the job that confirms revisions (server/jobs/confirm.h): what these mean is said there. */
void cache_confirmed(struct cache *cache, int64_t time_us);
void cache_doubt(struct cache *cache);
/* The database is another: nothing is kept. */
void cache_clear(struct cache *cache);
/* Workspaces that somebody asked for within the last 25 of these calls, each with a read that is about to be sent; from
 * `*place` on, which moves on. Less than `max`: that is all. It is no use of them. */
size_t cache_workspaces_in_use(struct cache *cache, size_t *place, struct cof_uuid *ret_workspaces,
                               struct cache_read *ret_reads, size_t max);
/* Whether anybody used the cache lately. */
bool cache_in_use(struct cache *cache);

/*
 * --- While the database is lost --------------------------------------------------------------------------------
 *
 * Lost is a database that refuses, or that has not answered the job's look for CACHE_UNANSWERED_US; not one that is
 * slower than usual. Then
 * what is kept may be used although it is not fresh, by those who say so, for as long as its workspace permits.
 */

enum { CACHE_OLDEST_US = 900000000, CACHE_UNANSWERED_US = 400000 };

/* The job asks the database now. */
void cache_asks(struct cache *cache);
/* It has answered. */
void cache_answered(struct cache *cache);
/* It did not; also for whoever else could not reach it. */
void cache_unanswered(struct cache *cache);
bool cache_database_lost(struct cache *cache);

/* What the workspace decides in this state: how old what is kept may be then, CACHE_OLDEST_US at most. */
void cache_permit_older(struct cache *cache, const struct cof_uuid *workspace, const struct cache_state *state,
                        uint32_t age_ms);

/*
 * Carrying over: what a write did not touch is as right after it as it was before. Where that is known of all writes
 * since a revision, its entries belong to the last state that is known, too; only `cache_older` says so. Everything else
 * that may have changed ends the use of all that was kept, as ever.
 */

/* Changes of a workspace that the job is to tell one by one: those behind the first number up to the second one. */
struct cache_untold {
    uint64_t place; /* 0: none; nobody would be answered from an older state there */
    uint64_t from;
    uint64_t to;
};
struct cache_untold cache_changes_untold(struct cache *cache, const struct cof_uuid *workspace);

/* A write has made this revision of the one before; of what is kept it touched what has these keys and nothing else. In
 * the order of the revisions; one that is told twice is told once. */
void cache_carry(struct cache *cache, const struct cof_uuid *workspace, const struct cache_untold *untold,
                 uint64_t revision, const struct cache_key *keys, size_t count);

/* Nobody knows what the writes up to this revision have touched. */
void cache_carry_nothing(struct cache *cache, const struct cof_uuid *workspace, const struct cache_untold *untold,
                         uint64_t revision);

/* What is known of a workspace, however old it is. */
struct cache_older {
    struct cache_state state;
    int64_t confirmed_us; /* monotonic: every change that was committed before has been told */
    int64_t permitted_us; /* how old the workspace lets it be; 0: it is for nobody */
};

/* The last state that is known; false if none is, it is older than anybody permits, or the database is not lost. */
bool cache_older(struct cache *cache, const struct cof_uuid *workspace, struct cache_older *ret_older);

/* --- Entries -------------------------------------------------------------------------------------------------- */

struct cache_entry;

/* The entry of this state, to be released; NULL if there is none. */
struct cache_entry *cache_get(struct cache *cache, const struct cache_key *key, const struct cache_state *state);

/* The entry of whatever state, perhaps one that is long over: for what authorises nothing. It is no use of it. */
struct cache_entry *cache_get_any(struct cache *cache, const struct cache_key *key);

/* A new entry with room for so many bytes of content, to be filled and put; NULL if there is no memory, or it would not
 * be kept. */
struct cache_entry *cache_entry_new(struct cache *cache, const struct cache_key *key,
                                    const struct cache_state *state, size_t size);

/* Its content, aligned for any type; it stays where it is until the last owner releases it, and does not change once it
 * was put. */
void *cache_content(struct cache_entry *entry);

/* Takes the entry over, in the place of an older one. */
void cache_put(struct cache *cache, struct cache_entry *entry);

/* NULL is allowed. */
void cache_release(struct cache_entry *entry);

/* Bytes that are taken by entries. */
uint64_t cache_bytes(struct cache *cache);

/* What became of entries since the cache is there, but for how many there are. */
struct cache_use {
    uint64_t entries;
    uint64_t bytes;
    uint64_t hits; /* of the state that was asked for */
    uint64_t misses;
    uint64_t evictions; /* for want of room */
};
struct cache_use cache_use_now(struct cache *cache);
