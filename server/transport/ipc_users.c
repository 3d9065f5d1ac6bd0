#include "server/transport/ipc_users.h"

#include <stdlib.h>

static cof_code parse_uid(const char *text, uint32_t *ret_uid, struct cof_error *err)
{
    char *end = NULL;
    const unsigned long long number = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : UINT64_MAX;
    /* The last number means "no user" to the system. */
    if (number >= UINT32_MAX || *end != '\0') {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "transport.ipc_uids: \"%s\" is no user ID; write its number, which id -u NAME tells", text);
    }
    *ret_uid = (uint32_t) number;
    return COF_OK;
}

cof_code ipc_users_parse(const char *const *texts, size_t count, struct ipc_users *ret_users, struct cof_error *err)
{
    if (count > IPC_USERS_MOST) {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "transport.ipc_uids has more than %d users; put them into the group of the socket file instead",
            IPC_USERS_MOST);
    }
    struct ipc_users users = {.count = count};
    for (size_t i = 0; i < count; i++) {
        TRY(parse_uid(texts[i], &users.uids[i], err));
    }
    *ret_users = users;
    return COF_OK;
}

bool ipc_users_permit(const struct ipc_users *users, const struct exchange_peer *peer)
{
    bool found = users->count == 0;
    for (size_t i = 0; i < users->count && !found; i++) {
        found = peer->has_uid && peer->uid == users->uids[i];
    }
    return found;
}
