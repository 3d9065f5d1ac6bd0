#pragma once

#include "common/error.h"
#include "common/uuid.h"

/*
 * The server's own directory: what it keeps besides the database. Mode 0700, owned by the server's user, used by one
 * server at a time. It holds `server-id`, `lock` and the folders `audit` and `refresh`.
 */

struct state;

/* Makes what is missing, checks the rest, and locks it. CONFIG_INVALID says what to do. */
COF_CODE state_open(const char *path, struct state **ret_state, struct cof_error *err);
void state_close(struct state *state);
static inline void state_cleanup(struct state **state)
{
    state_close(*state);
}

/* The same UUID for as long as the directory lives. */
const struct cof_uuid *state_server(const struct state *state);

/* Path of the folder of the audit log. */
const char *state_audit_folder(const struct state *state);

/* Path of the folder of the refresh journal. */
const char *state_refresh_folder(const struct state *state);
