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
    size_t index;                   /* of the item in the request */
    const struct asked_item *asked; /* what it asked for; NULL: for references only */
    coffer_status status;           /* the verdict: what the server says, if the library understands all of it */
    coffer_outcome outcome;
    const char *message;
    uint32_t retry_after_ms;
};

struct coffer_result {
    struct memory *memory;
    struct cof_arena arena; /* everything below lies in it */
    coffer_item *items;
    size_t count;
    struct asked *asked; /* from malloc; NULL: all items asked for references only */
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

/* What was not in the answers so far. */
struct result_missing {
    size_t count;
    size_t pending;     /* of them those whose value is being fetched */
    uint32_t advice_ms; /* the shortest wait that the server advises for these */
};

/* Marks the results that had no room in the answer, and if asked to those that have to be waited for. */
struct result_missing result_mark_missing(const coffer_result *result, bool also_pending, bool *ret_marked);

/* Puts the results of a further answer in the place of those marked, `count` in all. */
COF_CODE result_replace(coffer_result *result, struct cof_slice payload, const struct packed_request *request,
                        const bool *marked, size_t count, struct cof_error *err);

/* The last step: judges the items, counts and gathers masks. Takes the list of what was asked for. Fails with
 * OUT_OF_MEMORY. */
COF_CODE result_finish(coffer_result *result, struct packed_request *request, struct cof_error *err);

/* After result_finish: the marked results failed because asking for them again did. */
void result_fail_marked(coffer_result *result, const bool *marked, const struct cof_error *cause);

/* For result.c and template.c (item.c has them). */
bool item_outcome_missing(coffer_outcome outcome);
size_t item_value_count(const Coffer__V1__ResolveResult *wire);
uint32_t item_milliseconds(const Google__Protobuf__Duration *duration);
coffer_expression_kind item_expression_kind(const Coffer__V1__ExpressionResult *expression);
