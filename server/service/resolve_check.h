#pragma once

#include "server/service/resolve_plan.h"

/*
 * A page of a preflight: of all results only those that would fail, and how many there are of each kind.
 *
 * The first page looks at all results and counts them. Its token carries the counts, so those that follow look only at
 * what they may show.
 */

struct check {
    Coffer__V1__ResolveCounts *counts;
    struct plan *plans; /* those with results on the page, with the environments of these */
    size_t plan_count;
    uint32_t *positions; /* of these results among all, in their order */
    size_t count;
    uint32_t next; /* position of the first result of the next page */
    bool has_next;
};

/* Chooses the results of the page that the request asks for. A plan that fails as a whole says so. */
COF_CODE check_choose(struct call *call, const Coffer__V1__ResolveRequest *request, struct plan *plans,
                      size_t count, struct check *ret_check);

/* The token for a page that begins with this result. */
COF_CODE check_page(struct call *call, const struct check *check, uint32_t position, char **ret_token);
