#pragma once

#include "server/service/refresh_rows.h"
#include "tests/support/pg.h"

/* A database with OAuth connections, and what a server has to refresh them: real keys, real rows, no network. */

enum { CONNECTIONS_MEMORY = 1 << 20 };

struct connections {
    struct test_database database;
    struct cof_error err;
    struct cof_pool *pool;
    struct service service;
    struct session *session;
    struct cof_arena arena;
    struct call call;
};

extern const struct cof_uuid connections_workspace;

/* The connections have the numbers 0 and up. */
struct cof_uuid connections_uuid(size_t number);

/* Connections of "prod", all of one provider, whose access tokens expired long ago; the refresh token is
 * "<number>-0". */
COF_CODE connections_start(struct connections *connections, size_t count);
void connections_stop(struct connections *connections);

/* A call of the server's own, with memory that the one before gave back. */
struct call *connections_call(struct connections *connections);

struct session_options connections_session_options(const struct connections *connections);
