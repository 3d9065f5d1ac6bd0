#pragma once

#include "server/crypto/keyring.h"
#include "server/store/session.h"

/*
 * The rotation of the root key (docs/decisions/0016-key-rotation.md): every key in the database that another root key
 * wraps is wrapped anew by the instance's. Each is updated by itself, if it is still what was read, so this can be
 * interrupted and repeated, and done by several at once.
 */
struct root_rotation {
    struct cof_uuid workspace; /* where the walk is */
    int32_t generation;
    uint64_t rewrapped;
    uint64_t damaged; /* keys that do not open, and stay as they are */
};

/* Takes some keys; `ret_done` if the walk is over. Nothing may be queued. */
COF_CODE root_rotation_some(struct session *session, struct keyring *keyring, struct root_rotation *walk,
                            bool *ret_done, struct cof_error *err);

/* How many keys there are in the database under the root key of this ID, and how many in all. */
COF_CODE root_rotation_count(struct session *session, struct cof_slice root_id, uint64_t *ret_under,
                             uint64_t *ret_all, struct cof_error *err);
