#pragma once

#include "server/service/write.h"

/* What every write of a registry begins and ends with: its row is locked, its generation is looked at and raised. */

/* Queues what registry_take takes, in a write's `look`. */
COF_CODE registry_look(struct call *call, const struct cof_uuid *workspace);

/* Takes it. Fails with GENERATION_MISMATCH if another generation was expected; 0: none was. */
COF_CODE registry_take(struct call *call, uint64_t expected, uint64_t *ret_generation);

/* Queues the raise, in a write's `apply`. */
COF_CODE registry_raise(struct call *call, struct write *write, uint64_t generation);

/* Adds an action to the audit record. */
COF_CODE registry_record(struct call *call, struct write *write, const struct action_row *row,
                         Coffer__Audit__V1__Effect effect);
