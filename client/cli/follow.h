#pragma once

#include "client/cli/cli.h"

/*
 * Values that are asked for anew when their secrets change, by a thread of its own. What is told of a change are names, so
 * the values have to be asked for again, and perhaps they are the same.
 */

struct follow;

/*
 * Asks for the values, of the state of this consistency token at least, as another server than the one that told of the change
 * may not know of it yet. Called once for each group of changes, and again a while after it failed with what passes by itself.
 * Its failures it tells.
 */
typedef cli_exit follow_renew(const char *state, void *context);

/* Takes the position of now: what changes later is not missed, if the values are asked for after this. Connects. */
cli_exit follow_new(struct cli *cli, struct follow **ret_follow);

/* Follows this secret; every one of the workspace without any. The texts are copied. */
cli_exit follow_add(struct follow *follow, const char *environment, const char *name);

/* From now on calls `renew`; until follow_free the client belongs to the thread. */
cli_exit follow_start(struct follow *follow, follow_renew *renew, void *context);

/* Ends the thread and closes the client. NULL is allowed. */
void follow_free(struct follow *follow);
