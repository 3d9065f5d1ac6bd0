#pragma once

#include "server/service/refresh_rows.h"
#include "server/service/resolve_plan.h"

/*
 * The OAuth connections that the references of a Resolve want. One statement reads them for as many environments as fit, in
 * the order in which results are made; what the caller may not resolve is not read.
 */

struct oauth_token;

/* What a reference means. */
struct wanted {
    struct cof_slice name;
    struct cof_slice provider;
    int32_t token_class;
};

/* The name ends in _oauth. False if the key means neither token; the provider is told all the same. */
bool wanted_of(struct cof_slice name, struct cof_slice key, struct wanted *ret_wanted);

struct wanted_connections;

/* For the references of these plans, which are of one workspace, in each of the environments. */
COF_CODE wanted_new(struct call *call, const struct plan *const *plans, size_t count,
                    const struct cof_slice *environments, size_t environment_count,
                    struct wanted_connections **ret_connections);
/* Gives back what was read. NULL is allowed. */
void wanted_done(struct wanted_connections *connections);

/* What was read of one connection in one environment. */
struct wanted_place {
    const struct rows *rows; /* of refresh_rows_look */
    size_t index;
    struct oauth_token **token; /* what was made of it, NULL at first; NULL where a check keeps nothing */
};

/* False if it was not read yet, or is not there any more. */
bool wanted_known(struct wanted_connections *connections, struct cof_slice environment, const struct wanted *wanted,
                  struct wanted_place *ret_place);

/* Reads it, with those of the environments that follow. No pipeline may be open. */
COF_CODE wanted_read(struct call *call, struct wanted_connections *connections, struct cof_slice environment,
                     const struct wanted *wanted, struct wanted_place *ret_place);
