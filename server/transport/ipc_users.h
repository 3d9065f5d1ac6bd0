#pragma once

#include "common/error.h"
#include "server/dispatch/exchange.h"

/* The users whose programs may connect at ipc://, besides what the permissions of the socket file say. */

enum { IPC_USERS_MOST = 64 };

struct ipc_users {
    uint32_t uids[IPC_USERS_MOST];
    size_t count; /* 0: whoever can open the file */
};

/* Reads user IDs in decimal. CONFIG_INVALID names the one that is none. */
COF_CODE ipc_users_parse(const char *const *texts, size_t count, struct ipc_users *ret_users,
                         struct cof_error *err);

/* Whether the peer may stay. With a list, one whose user the system does not tell may not. */
bool ipc_users_permit(const struct ipc_users *users, const struct exchange_peer *peer);
