#pragma once

#include <stdbool.h>

#include "server/dispatch/exchange.h"
#include "server/dispatch/fair.h"
#include "server/service/call.h"

/*
 * Calls that wait for something that others do (docs/decisions/0006-calls-that-wait.md). A parked call is its
 * exchange and one small record: no ticket, no thread, no session, no arena. Who sees that something has happened
 * tells parking and is given the calls that can go on.
 *
 * Two things can be waited for: the revision of a workspace, and the end of a flight (docs/decisions/0021-outside-calls.md).
 *
 * Thread-safe; nothing here blocks or calls back. It knows neither tickets nor the database.
 */

struct parking;

struct parking_options {
    uint32_t capacity;      /* parked calls */
    uint32_t per_workspace; /* of one workspace, whatever they wait for */
    uint32_t watches;       /* of all, those that wait for a change */
    uint32_t watches_per_workspace;
    uint64_t bytes;          /* of the requests of all parked calls, which transport keeps for them */
    uint32_t per_provider;   /* calls that wait for flights of one provider, of all workspaces */
    uint32_t per_role;       /* and of one role */
    struct flights *flights; /* what is under way; NULL: nothing is, and nobody waits for a flight */
};

/* NULL if there is no memory. */
struct parking *parking_new(const struct parking_options *options);

/* All calls must have been given out and released. NULL is allowed. */
void parking_free(struct parking *parking);

/* What is known of a call while it waits. */
struct parked {
    struct exchange *exchange;
    struct cof_uuid request_id; /* the one for the log, which a read may have been given */
    uint32_t waits;             /* how often it has been parked, with this time */
    struct call_wait wait;
    /* Once it is given out: the next in the order in which they were parked. Then it is the caller's. */
    struct parked *next;
    struct fair_item item; /* of the queue that it goes on from */
};

typedef enum parking_outcome {
    PARKING_DONE,
    PARKING_WORKSPACE_FULL, /* TOO_MANY_IN_FLIGHT */
    PARKING_GROUP_FULL,     /* SERVER_BUSY: too many wait for the same provider or role */
    PARKING_FULL,           /* SERVER_BUSY */
    PARKING_CLOSED,         /* SERVER_DRAINING */
} parking_outcome;

struct parking_result {
    parking_outcome outcome;
    struct parked *ready; /* the call, if what it waits for has happened meanwhile; else NULL */
    bool unconfirmed;     /* the workspace's revision has to be asked for: see parking_unconfirmed */
    bool first;           /* nobody else waits for the like */
    bool earliest;        /* no other call is due earlier */
};

/* Parks a call; the exchange belongs to parking then, and may be given out before this returns. */
struct parking_result parking_add(struct parking *parking, const struct parked *call);

/* The workspace has reached the revision: gives out who waits for it. */
struct parked *parking_reached(struct parking *parking, const struct cof_uuid *workspace, uint64_t revision);

/* The flight has landed: gives out who waits for it, whatever the cause. */
struct parked *parking_landed(struct parking *parking, const struct flight_key *key);

/* Gives out the calls that have waited as long as they want to. */
struct parked *parking_due(struct parking *parking, int64_t now_us);

/* When the next one will have; INT64_MAX if nobody waits. */
int64_t parking_next_due(struct parking *parking);

/* Gives out all. */
struct parked *parking_all(struct parking *parking);

/* The same, and nobody is parked any more. */
struct parked *parking_close(struct parking *parking);

/* Takes back the record of a call that was given out. */
void parking_release(struct parking *parking, struct parked *call);

/* Calls that are parked now. */
uint32_t parking_count(struct parking *parking, call_wait_cause cause);
uint32_t parking_count_workspace(struct parking *parking, const struct cof_uuid *workspace);

/*
 * Workspaces in which somebody began to wait: a revision that was reached between the read of the first such call
 * and its parking was told to nobody, so it has to be asked for once. At most `max`, each once.
 */
size_t parking_unconfirmed(struct parking *parking, struct cof_uuid *ret_workspaces, size_t max);

/* Revisions may have been reached without being told: all workspaces have to be asked for again. */
void parking_doubt(struct parking *parking);
