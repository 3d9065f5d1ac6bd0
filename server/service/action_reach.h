#pragma once

#include "server/service/action_graph.h"
#include "server/service/action_row.h"

/*
 * Actions of a workspace together with all that their steps call, to any depth, read from one state: from the cache if
 * all of them are kept, else by one statement.
 */

struct reached {
    struct action_row row; /* without digest, UUID, times and MAC */
    bool damaged;          /* nothing but its name holds */
};

struct reach {
    struct cof_uuid workspace;
    struct cof_slice *names; /* that are asked for */
    size_t name_count;
    uint64_t min_revision;

    /* What became of it. */
    bool found;
    bool queued;
    struct cache_read begun;
    struct rows *rows;
    uint64_t revision;
    int64_t older_us;        /* not 0: what is kept is older than it should be, as the workspace permits */
    struct reached *actions; /* sorted by name */
    size_t action_count;
};

/* Takes them from the cache, if all are there and fresh. */
COF_CODE reach_recall(struct call *call, struct reach *reach);

/* Queues the statement; the sync is the caller's. */
COF_CODE reach_queue(struct call *call, struct reach *reach);

/* Takes the rows that came back: checks and keeps them. Nothing may be queued. Fails for a workspace that the caller may
 * not act in now, and with CONSISTENCY_NOT_REACHED where an older state was read than is asked for. */
COF_CODE reach_take(struct call *call, struct reach *reach);

/* Gives back what it holds. */
void reach_done(struct reach *reach);

/* The three together. */
COF_CODE reach_read(struct call *call, struct reach *reach);

/* What an action needs. */
struct action_needs {
    Coffer__V1__ActionDeclarations *declarations; /* its own and those of what its steps call, sorted, each once */
    struct cof_slice *unregistered;               /* actions that are called and not there, sorted */
    size_t unregistered_count;
};

/* Fails with ACTION_NOT_FOUND, with CORRUPTED where a row that it needs is damaged, and with LIMIT_EXCEEDED. */
COF_CODE reach_needs(struct call *call, const struct reach *reach, const char *name,
                     struct action_needs *ret_needs);

/* NULL if there is none. */
const struct reached *reach_find(const struct reach *reach, struct cof_slice name);
