#pragma once

#include "server/cache/cache.h"
#include "server/cache/hash.h"

/*
 * What is known of workspaces: a bounded table of places, one for each workspace that somebody reads.
 *
 * The job's looks at the database are a chain as long as none of them fails: each tells all changes since the one
 * before. A place that was there when a chain had begun, and was read since, is as fresh as the last look of that chain;
 * any place is as fresh as its own last read. When a chain ends, its places are fresh no more, but remain known to have
 * been right at its last look.
 */

struct places;

COF_CODE places_new(const struct cache_options *options, uint64_t bytes, const uint8_t key[HASH_KEY],
                    struct places **ret_places, struct cof_error *err);
void places_free(struct places *places);

bool places_fresh(struct places *places, const struct cof_uuid *workspace, int64_t now_us,
                  struct cache_state *ret_state);
struct cache_read places_read_begin(struct places *places, const struct cof_uuid *workspace, int64_t now_us);
bool places_read_end(struct places *places, const struct cof_uuid *workspace, const struct cache_read *read,
                     uint64_t revision, struct cache_state *ret_state);
void places_permit_older(struct places *places, const struct cof_uuid *workspace, const struct cache_state *state,
                         uint32_t age_ms);
bool places_older(struct places *places, const struct cof_uuid *workspace, struct cache_older *ret_older);
/* Whether this is the last state that is known. */
bool places_at(struct places *places, const struct cof_uuid *workspace, const struct cache_state *state);

/* Carrying over (cache.h): what is to be told; a change begins to be told, which raises the revision, and has been told,
 * when all that it touched is out. */
struct cache_untold places_untold(struct places *places, const struct cof_uuid *workspace);
bool places_carry_begin(struct places *places, const struct cof_uuid *workspace, uint64_t id, uint64_t revision);
void places_carry_end(struct places *places, const struct cof_uuid *workspace, uint64_t id, uint64_t revision);
void places_carry_nothing(struct places *places, const struct cof_uuid *workspace, uint64_t id, uint64_t revision);
void places_reached(struct places *places, const struct cof_uuid *workspace, uint64_t revision);
size_t places_in_use(struct places *places, size_t *place, struct cof_uuid *ret_workspaces, size_t max);
void places_confirmed(struct places *places, int64_t time_us);
void places_doubt(struct places *places);
void places_clear(struct places *places);
