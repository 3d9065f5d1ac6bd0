#pragma once

#include "server/service/call.h"

/*
 * Brings the rows of a workspace to the current generation of its key (docs/decisions/0016-key-rotation.md): what is
 * sealed is opened and sealed anew, MACs are checked and made anew. Nothing else of a row changes, neither its version
 * nor its times, and the workspace's revision stays.
 *
 * Each row is updated by itself, if it is still what was read. So writers hardly wait, a row that was written meanwhile
 * is left to its writer, who has sealed it under the current generation, and several may do this at once, or one after
 * the other where another was killed. A row that does not fit its MAC, or does not open, stays as it is.
 */

/* A walk over the rows, in the order of their tables: versions behind the secrets that they come from. */
struct reseal {
    struct cof_uuid workspace;
    uint32_t generation; /* the current one, which rows are brought to */
    size_t table;        /* where the walk is */
    struct cof_uuid first, second;
    int64_t version;
    uint64_t resealed; /* rows that were brought to it */
    uint64_t damaged;  /* rows that stay as they are */
};

struct reseal reseal_from_start(const struct cof_uuid *workspace, uint32_t generation);

/* Takes some rows; `ret_done` if the walk is over. Nothing may be queued; the call is one of the server's own, with memory
 * for so many rows. */
COF_CODE reseal_some(struct call *call, struct reseal *walk, bool *ret_done);

enum { RESEAL_CALL_MEMORY = 24 << 20 };

/* How many rows are sealed or have a MAC, and how many of them under an older generation than this one. */
COF_CODE reseal_count(struct call *call, const struct cof_uuid *workspace, uint32_t generation, uint64_t *ret_rows,
                      uint64_t *ret_old);
