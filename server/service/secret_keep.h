#pragma once

#include "server/service/call.h"
#include "server/service/values.h"

/*
 * Secrets in the cache, by their addresses. What is kept of one is its row, whose MAC was checked, and its version, which
 * was opened, compared, and sealed again for this process alone; also that there is none. Nothing that was found damaged
 * is kept.
 */

struct secret_kept {
    bool exists;
    struct secret_row row;   /* without what no Resolve needs: description, tags, facts, MAC */
    struct cof_slice sealed; /* of values_keep */
    bool session_tags;       /* see secret_has_session_tags */
};

struct cache_key secret_keep_key(const struct cof_uuid *workspace, struct cof_slice environment,
                                 struct cof_slice name);

/* What is kept of some addresses, all of it from one state; to be released. */
struct secrets_recalled {
    struct cache_entry **entries; /* in the order of the addresses */
    size_t count;
    uint64_t revision;
    int64_t older_us; /* monotonic: when they, and the caller, were known to be right; 0: all is fresh */
};

/*
 * The state of a workspace that the call may be answered from, with what is kept of it: a fresh one, or while the database
 * is lost an older one that the workspace permits; then `ret_older_us` says when it was confirmed, else it is 0.
 */
bool kept_usable(struct call *call, const struct cof_uuid *workspace, uint64_t min_revision,
                 struct cache_state *ret_state, int64_t *ret_older_us);

/*
 * Whether all of them are kept, from a fresh state that is not older than `min_revision`. A call that is hurried gets no
 * more than it can answer quickly. While the database is lost, and with `min_revision` 0, an older state does if the
 * workspace permits its age and that of the caller.
 */
bool secrets_recall(struct call *call, const struct cof_uuid *workspace, const struct secret_addresses *addresses,
                    uint64_t min_revision, struct secrets_recalled *ret_recalled);
const struct secret_kept *secrets_recalled_at(const struct secrets_recalled *recalled, size_t index);
void secrets_release(struct secrets_recalled *recalled);

/* Whether the secret has the tag that asks for session tags (docs/decisions/0026-aws.md). */
bool secret_has_session_tags(const struct secret_row *row);

/* Keeps a secret that was read in this state, checked and opened. */
void secret_keep(struct call *call, const struct cache_state *state, const struct secret_row *row,
                 const struct values *values);

/* Keeps that there is none. */
void secret_keep_absence(const struct service *service, const struct cache_state *state,
                         const struct cof_uuid *workspace, struct cof_slice environment, struct cof_slice name);
