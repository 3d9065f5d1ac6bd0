#pragma once

#include <coffer/coffer.h>
#include <coffer/v1/resolve.pb-c.h>

#include "client/libcoffer/memory.h"
#include "client/libcoffer/request.h"
#include "common/slice.h"
#include "common/uuid.h"

/* How a coffer_result is put together from one answer or several. */

struct coffer_item {
    const Coffer__V1__ResolveResult *wire;
    size_t index;         /* of the item in the request that was sent */
    size_t owner;         /* of the item in the caller's request */
    bool may_fail;        /* what it asks for may be missing */
    coffer_status status; /* the verdict: what the server says, if the library understands all of it */
    coffer_outcome outcome;
    const char *message;
    uint32_t retry_after_ms;
};

struct coffer_result {
    struct memory *memory;
    struct cof_arena arena; /* everything below lies in it */
    coffer_item *items;
    size_t count;
    size_t told; /* those before the items that were added for references that may be missing */
    size_t failed;
    coffer_bytes *masks;
    size_t mask_count;
    size_t unmasked;
    const char *next_page_token;
    uint32_t would_resolve;
    uint32_t would_fail;
    char request_id[COF_UUID_TEXT];
};

COF_CODE result_new(struct memory *memory, coffer_result **ret_result, struct cof_error *err);
void result_free_cleanup(coffer_result **result);

/*
 * Takes the first answer to a request, which must have its results and no others, unless it is validate_only. Fails
 * with REPLY_INVALID or OUT_OF_MEMORY.
 */
COF_CODE result_take(coffer_result *result, struct cof_slice payload, const struct packed_request *request,
                     struct cof_error *err);

/* The serialized results of a request that was answered together with others; its first item was `first_item`. */
struct result_parts {
    const struct cof_slice *parts;
    size_t count;
    uint32_t first_item;
};

/* The same for them. */
COF_CODE result_take_parts(coffer_result *result, const struct result_parts *parts,
                           const struct packed_request *request, struct cof_error *err);

/* Marks the results that had no room in the answer, or would have had to be waited for, and counts them. */
size_t result_mark_deferred(const coffer_result *result, bool *ret_marked);

/* Puts the results of a further answer in the place of those marked, `count` in all. */
COF_CODE result_replace(coffer_result *result, struct cof_slice payload, const struct packed_request *request,
                        const bool *marked, size_t count, struct cof_error *err);

/* The last step: judges the items, counts and gathers masks. Fails with OUT_OF_MEMORY. */
COF_CODE result_finish(coffer_result *result, struct cof_error *err);

/* After result_finish: results that are still deferred failed because asking for them again did. */
void result_fail_deferred(coffer_result *result, const struct cof_error *cause);
