#pragma once

#include "server/service/call.h"

/*
 * The rotation of a workspace's key (docs/decisions/0016-key-rotation.md). A new generation takes the place of the
 * current one; a walk (reseal.h) seals everything anew that is under an older one; when it is over these are unused, and
 * after a time in which whatever was read earlier is forgotten, and another walk that finds nothing, they are destroyed.
 *
 * Every step can be interrupted and repeated, by any server, and by several at once. Calls are the server's own.
 */

/* Values of workspace_key.state. */
enum { GENERATION_CURRENT = 1, GENERATION_OLD = 2, GENERATION_UNUSED = 3, GENERATION_RETIRED = 4 };

/* Makes a new generation current, in a transaction of its own; a change of the workspace. WORKSPACE_NOT_FOUND if it is
 * not there, or deleted. */
COF_CODE key_rotation_begin(struct call *call, const struct cof_uuid *workspace, uint32_t *ret_generation);

/* What the generations of a workspace need next. */
typedef enum key_rotation_need {
    KEY_ROTATION_NOTHING, /* also: not yet */
    KEY_ROTATION_WALK,    /* a walk, and then key_rotation_unused */
    KEY_ROTATION_END,     /* a walk; if it finds nothing, key_rotation_destroy, else key_rotation_unused */
} key_rotation_need;

/* `kept_us`: how long an unused generation is kept. `ret_generation` is the current one. Nothing is needed in a
 * workspace that is deleted, whose keys stay closed. */
COF_CODE key_rotation_look(struct call *call, const struct cof_uuid *workspace, int64_t kept_us,
                           key_rotation_need *ret_need, uint32_t *ret_generation);

/* Nothing is sealed any more under generations older than this one: their time begins. A change of the workspace, so
 * that what was read earlier is kept nowhere. */
COF_CODE key_rotation_unused(struct call *call, const struct cof_uuid *workspace, uint32_t generation);

/* Destroys the generations that have been unused for so long; what is left of each is its subkey for the chain over the
 * records of writes, or nothing where no link names it. */
COF_CODE key_rotation_destroy(struct call *call, const struct cof_uuid *workspace, int64_t kept_us,
                              uint64_t *ret_destroyed);
