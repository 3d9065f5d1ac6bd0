#pragma once

#include "server/service/action_row.h"

/* Actions in the cache, by their names: the row, whose MAC was checked, or that there is none. */

struct action_kept {
    bool exists;
    struct action_row row; /* without UUID, times, digest and MAC */
};

/* To be released; NULL: it is not kept. */
struct cache_entry *action_recall(const struct service *service, const struct cache_state *state,
                                  const struct cof_uuid *workspace, struct cof_slice name);

/* Keeps an action that was read in this state and checked; with a row of NULL that there is none. */
void action_keep(const struct service *service, const struct cache_state *state, const struct cof_uuid *workspace,
                 struct cof_slice name, const struct action_row *row);
