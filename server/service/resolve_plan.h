#pragma once

#include "server/service/authorize.h"
#include "server/service/flights.h"
#include "server/service/outcome.h"
#include "server/service/resolve.h"
#include "server/service/resolve_asked.h"
#include "server/service/secret_keep.h"

/* What one item of a Resolve asks for, checked, and what the store has of it. */

struct aws_secret;
struct oauth_token;
struct wanted_connections;

/* A secret that was found in one environment. */
struct found {
    struct secret_row row;
    struct sealed_version sealed;   /* as it was read; or */
    const struct secret_kept *kept; /* as it was kept: the row's MAC was checked before */
    bool opened;                    /* `values` or `state` are known */
    outcome state;                  /* RESOLVED: `values` hold; else CORRUPTED or SECRET_EXPIRED */
    struct values values;
    struct aws_secret *aws;          /* of an opened secret for AWS; see resolve_aws.h */
    bool session_tags;               /* its role's sessions have tags */
    const struct oauth_token *oauth; /* what stands in the place of a secret is a connection; see resolve_oauth.h */
};

struct plan {
    const Coffer__V1__ResolveItem *item;
    uint32_t index;
    bool check_only; /* nothing is handed out, so nothing is asked of the outside */
    struct asked asked;
    struct cof_uuid workspace;
    struct cof_slice *environments;
    size_t environment_count;
    uint64_t min_revision; /* of the consistency token */
    /* A failure of the whole item. */
    outcome failed; /* RESOLVED: none */
    const char *failed_message;
    /* What was read. */
    struct secret_read read;
    bool queued;
    struct secrets_recalled recalled; /* in the place of rows */
    bool taken;                       /* `found` holds all there is */
    bool keeps;                       /* what was read may be kept, as of this state: */
    struct cache_state state;
    uint64_t revision;
    int64_t older_us; /* monotonic: when that was the current state for sure; 0: it is fresh */
    bool waits;       /* the call must not be answered yet: this flight is to land first */
    call_wait_cause cause;
    struct flight flight;
    struct wanted_connections *connections; /* of OAuth, once one of them was asked for */
    struct found *found;                    /* sorted by environment and name */
    size_t found_count;
};

/* Checks the limits of the request as a whole; a failure is the frame's. */
COF_CODE plan_check_request(struct call *call, const Coffer__V1__ResolveRequest *request);

/* The same for all references x environments of a request that returns values. */
COF_CODE plan_check_pairs(struct call *call, uint64_t pairs);

/* Checks one item of the request; a failure that is the item's own stands in the plan. `shared` are the environments of
 * those that name none. */
COF_CODE plan_item(struct call *call, const Coffer__V1__ResolveItem *item, uint32_t index,
                   const struct plan *shared, struct plan *ret_plan);

/* These environments, the default where there are none. */
COF_CODE plan_environments(struct call *call, char *const *names, size_t count, struct plan *plan);

/* Whether these have names. */
COF_CODE plan_check_environments(struct call *call, const struct plan *plan);

/* Until when the item is worked on, and whether that is over. */
int64_t plan_deadline(const struct call *call, const struct plan *plan);
bool plan_out_of_time(const struct call *call, const struct plan *plan);

/* The names of the secrets that the item asks for, sorted, each once; at least one, which may be empty. */
COF_CODE plan_names(struct call *call, const struct plan *plan, struct cof_slice **ret_names, size_t *ret_count);

/* Every secret that the item asks for, each once. */
COF_CODE plan_addresses(struct call *call, const struct plan *plan, struct secret_addresses *ret_addresses);

/* Takes what the item asks for from the cache if all of it is there. */
COF_CODE plan_recall(struct call *call, struct plan *plan);

/* Queues the statement of an item; the sync is the caller's. */
COF_CODE plan_queue(struct call *call, struct plan *plan);

/* The same for any addresses, which are sorted. */
COF_CODE plan_recall_these(struct call *call, struct plan *plan, const struct secret_addresses *addresses);
COF_CODE plan_queue_these(struct call *call, struct plan *plan, const struct secret_addresses *addresses);

/* Gives back what it holds. */
void plan_done(struct plan *plan);

/* Takes over the item's rows: reads, checks and sorts them. The workspace's keys must be loaded. Fails with
 * CONSISTENCY_NOT_REACHED if they come from an older state than the item asks for. */
COF_CODE plan_take(struct call *call, struct plan *plan);

/* That failure. */
COF_CODE plan_not_reached(struct call *call);

/* Marks the item as failed by the call's error. */
COF_CODE plan_fail(struct call *call, struct plan *plan);

/* The secret of a name in an environment; NULL if there is none. Opens it at its first use. */
COF_CODE plan_find(struct call *call, struct plan *plan, struct cof_slice environment, struct cof_slice name,
                   struct found **ret_found);
