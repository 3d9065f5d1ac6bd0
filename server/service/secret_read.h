#pragma once

#include "common/arena.h"
#include "common/slice.h"
#include "common/uuid.h"
#include "server/cache/cache.h"
#include "server/store/session.h"

/*
 * Secrets of one workspace, read by their addresses: one statement, one snapshot. Calls that come at the same time are
 * read together (server/dispatch/reading.c): each has a range of the statement's addresses.
 */

struct service;

/* Two lists of the same length. */
struct secret_addresses {
    struct cof_slice *environments;
    struct cof_slice *names;
    size_t count;
};

/* What was found for some of a statement's addresses. */
struct secret_read {
    struct rows *rows; /* a share of them; NULL: nothing was read */
    size_t first;      /* index among the statement's addresses */
    size_t count;
    struct cache_read begun; /* before the statement was sent */
};

/* Columns of the rows; those of the secret begin at SECRET_READ_SECRET, behind them are its keys and its blob, and then
 * the workspace's state, NULL in an active one. */
enum { SECRET_READ_REVISION, SECRET_READ_PLACE, SECRET_READ_SECRET };

/* Room for so many addresses. */
COF_CODE secret_addresses_new(struct cof_arena *arena, size_t capacity, struct secret_addresses *ret_addresses,
                              struct cof_error *err);

/* Adds one; the slices are borrowed. There must be room. */
void secret_addresses_add(struct secret_addresses *addresses, struct cof_slice environment, struct cof_slice name);

/* Before the statement is sent, so that what it reads can be kept. */
struct cache_read secret_read_begin(const struct service *service, const struct cof_uuid *workspace);

/* Queues the statement; the sync is the caller's. */
COF_CODE secret_read_queue(struct session *session, const struct cof_uuid *workspace,
                           const struct secret_addresses *addresses, struct cof_arena *arena,
                           struct cof_error *err);

/*
 * Where the rows of this read are among those of a statement that several calls share: one for each address, in their
 * order. PostgreSQL does not promise the order; where it is another one, the range is all of them.
 */
struct secret_read_range {
    size_t first;
    size_t end;
};
struct secret_read_range secret_read_range(const struct secret_read *read);

/* Whether the row belongs to the range and has a secret. */
bool secret_read_has(const struct secret_read *read, size_t row);
