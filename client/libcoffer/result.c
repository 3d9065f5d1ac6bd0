#include "client/libcoffer/result.h"

#include <assert.h>
#include <stdlib.h>

#include "common/wire.h"

enum { MASK_MIN = 4 };

static bool deferred(const Coffer__V1__ResolveResult *wire)
{
    return wire->status != NULL && wire->status->outcome == COFFER__V1__OUTCOME__OUTCOME_DEFERRED;
}

static bool pending(const Coffer__V1__ResolveResult *wire)
{
    return wire->status != NULL && wire->status->outcome == COFFER__V1__OUTCOME__OUTCOME_PENDING;
}

cof_code result_new(struct memory *memory, coffer_result **ret_result, struct cof_error *err)
{
    coffer_result *result = calloc(1, sizeof *result);
    if (result == NULL) {
        return memory_exhausted(err);
    }
    result->memory = memory_hold(memory);
    result->next_page_token = "";
    cof_arena_init(&result->arena, memory_pool(memory), SIZE_MAX);
    *ret_result = result;
    return COF_OK;
}

void coffer_result_free(coffer_result *result)
{
    if (result == NULL) {
        return;
    }
    cof_arena_reset(&result->arena);
    free(result->asked);
    memory_drop(result->memory);
    free(result);
}

void result_free_cleanup(coffer_result **result)
{
    coffer_result_free(*result);
}

static cof_code not_ours(struct cof_error *err, size_t count, size_t expected)
{
    return cof_fail(err, COF_REASON_REPLY_INVALID, "the server answered %zu items instead of %zu; %s", count,
                    expected, cof_reason_next_step(COF_REASON_REPLY_INVALID));
}

static cof_code foreign(struct cof_error *err, const struct request_pair *pair)
{
    return cof_fail(
        err, COF_REASON_REPLY_INVALID,
        "the server answered another item, or another environment, in the place of items[%u] in %.*s; %s",
        pair->item, (int) pair->environment.len, (const char *) pair->environment.data,
        cof_reason_next_step(COF_REASON_REPLY_INVALID));
}

static cof_code unpack(coffer_result *result, const ProtobufCMessageDescriptor *type, struct cof_slice bytes,
                       ProtobufCMessage **ret_message, struct cof_error *err)
{
    const cof_code code = cof_wire_unpack(type, bytes, &result->arena, ret_message, err);
    if (code == COF_RESOURCE_EXHAUSTED) {
        return memory_exhausted(err);
    }
    if (code != COF_OK) {
        return cof_fail(err, COF_REASON_REPLY_INVALID, "the server's answer is no %s; %s", type->short_name,
                        cof_reason_next_step(COF_REASON_REPLY_INVALID));
    }
    return COF_OK;
}

static cof_code unpack_response(coffer_result *result, struct cof_slice payload,
                                const Coffer__V1__ResolveResponse **ret_response, struct cof_error *err)
{
    ProtobufCMessage *message = NULL;
    TRY(unpack(result, &coffer__v1__resolve_response__descriptor, payload, &message, err));
    *ret_response = (const Coffer__V1__ResolveResponse *) (const void *) message;
    return COF_OK;
}

static cof_code unpack_result(coffer_result *result, struct cof_slice bytes,
                              const Coffer__V1__ResolveResult **ret_wire, struct cof_error *err)
{
    ProtobufCMessage *message = NULL;
    TRY(unpack(result, &coffer__v1__resolve_result__descriptor, bytes, &message, err));
    *ret_wire = (const Coffer__V1__ResolveResult *) (const void *) message;
    return COF_OK;
}

/* A value in the wrong place would be somebody else's, or that of another environment. */
static bool fits(const Coffer__V1__ResolveResult *wire, const struct request_pair *pair)
{
    return cof_slice_equal(cof_slice_text(wire->item_id), pair->id) &&
           cof_slice_equal(cof_slice_text(wire->environment), pair->environment);
}

static cof_code make_items(coffer_result *result, size_t count, struct cof_error *err)
{
    result->items = cof_arena_array(&result->arena, count, sizeof *result->items);
    if (result->items == NULL) {
        return memory_exhausted(err);
    }
    result->count = count;
    return COF_OK;
}

static cof_code check_order(const coffer_result *result, const struct packed_request *request,
                            struct cof_error *err)
{
    struct pair_walk walk;
    struct request_pair pair;
    pair_walk_init(&walk, request);
    for (size_t i = 0; i < result->count && pair_walk_next(&walk, &pair); i++) {
        if (result->items[i].index != pair.item || !fits(result->items[i].wire, &pair)) {
            return foreign(err, &pair);
        }
    }
    return COF_OK;
}

cof_code result_take(coffer_result *result, struct cof_slice payload, const struct packed_request *request,
                     struct cof_error *err)
{
    const Coffer__V1__ResolveResponse *response = NULL;
    TRY(unpack_response(result, payload, &response, err));
    assert(response != NULL);
    if (!request->validate_only && response->n_results != request->pairs) {
        return not_ours(err, response->n_results, request->pairs);
    }
    TRY(make_items(result, response->n_results, err));
    for (size_t i = 0; i < result->count; i++) {
        result->items[i].wire = response->results[i];
        result->items[i].index = response->results[i]->item_index;
    }
    result->next_page_token = response->next_page_token;
    if (response->counts != NULL) {
        result->would_resolve = response->counts->resolved;
        result->would_fail = response->counts->failed;
    }
    return request->validate_only ? COF_OK : check_order(result, request, err);
}

cof_code result_take_parts(coffer_result *result, const struct result_parts *parts,
                           const struct packed_request *request, struct cof_error *err)
{
    if (parts->count != request->pairs) {
        return not_ours(err, parts->count, request->pairs);
    }
    TRY(make_items(result, parts->count, err));
    for (size_t i = 0; i < parts->count; i++) {
        TRY(unpack_result(result, parts->parts[i], &result->items[i].wire, err));
        result->items[i].index = result->items[i].wire->item_index - parts->first_item;
    }
    return check_order(result, request, err);
}

struct result_missing result_mark_missing(const coffer_result *result, bool also_pending, bool *ret_marked)
{
    struct result_missing missing = {0};
    for (size_t i = 0; i < result->count; i++) {
        const Coffer__V1__ResolveResult *wire = result->items[i].wire;
        const bool waits = also_pending && pending(wire);
        ret_marked[i] = waits || deferred(wire);
        missing.count += ret_marked[i];
        missing.pending += waits;
        if (waits) {
            const uint32_t advice = item_milliseconds(wire->status->retry_delay);
            missing.advice_ms = missing.pending == 1 || advice < missing.advice_ms ? advice : missing.advice_ms;
        }
    }
    return missing;
}

cof_code result_replace(coffer_result *result, struct cof_slice payload, const struct packed_request *request,
                        const bool *marked, size_t count, struct cof_error *err)
{
    const Coffer__V1__ResolveResponse *response = NULL;
    struct pair_walk walk;
    struct request_pair pair;
    size_t next = 0;
    TRY(unpack_response(result, payload, &response, err));
    assert(response != NULL);
    if (response->n_results != count) {
        return not_ours(err, response->n_results, count);
    }
    pair_walk_init(&walk, request);
    for (size_t i = 0; i < result->count && pair_walk_next(&walk, &pair); i++) {
        if (!marked[i]) {
            continue;
        }
        if (!fits(response->results[next], &pair)) {
            return foreign(err, &pair);
        }
        result->items[i].wire = response->results[next++];
    }
    return COF_OK;
}

static bool known(coffer_outcome outcome)
{
    return outcome > COFFER_OUTCOME_UNSPECIFIED && outcome <= COFFER_OUTCOME_AWS_UNAVAILABLE;
}

/* What is missing is no failure of an expression in which something else stands in for it: the status decides. */
static bool goes_with_success(const coffer_item *item, size_t index)
{
    const coffer_outcome outcome = (coffer_outcome) item->wire->outcomes[index];
    const bool operand = item->asked != NULL && index >= item->asked->before_expressions;
    return coffer_outcome_ok(outcome) || (operand && item_outcome_missing(outcome));
}

/* The first outcome that does not go with success; RESOLVED if all do. */
static coffer_outcome first_bad_outcome(const coffer_item *item)
{
    const Coffer__V1__ResolveResult *wire = item->wire;
    for (size_t i = 0; i < wire->n_outcomes; i++) {
        if (!goes_with_success(item, i)) {
            return (coffer_outcome) wire->outcomes[i];
        }
    }
    for (size_t i = 0; i < wire->n_expressions; i++) {
        if (!coffer_outcome_ok((coffer_outcome) wire->expressions[i]->outcome)) {
            return (coffer_outcome) wire->expressions[i]->outcome;
        }
    }
    const coffer_outcome worst = (coffer_outcome) wire->status->outcome;
    return coffer_outcome_ok(worst) ? COFFER_OUTCOME_RESOLVED : worst;
}

/* Of an item that asks for more than references every part has its answer, of a kind that the library knows. A
 * preflight, which has no values, tells only of items that would fail. */
static bool complete(const coffer_item *item)
{
    const Coffer__V1__ResolveResult *wire = item->wire;
    const struct asked_item *asked = item->asked;
    bool good =
        asked == NULL || ((asked->more ? wire->n_outcomes >= asked->count : wire->n_outcomes == asked->count) &&
                          wire->n_expressions == asked->expression_count);
    for (size_t i = 0; good && i < wire->n_expressions; i++) {
        good = item_expression_kind(wire->expressions[i]) != COFFER_EXPRESSION_NONE;
    }
    return good;
}

static cof_code refuse(coffer_result *result, coffer_item *item, coffer_outcome outcome, struct cof_error *err)
{
    item->status = COFFER_UNKNOWN;
    item->outcome = outcome;
    item->message =
        cof_arena_format(&result->arena,
                         "the server answered with outcome %d (%s), which this library does not know as a "
                         "success; use a newer libcoffer",
                         (int) outcome, coffer_outcome_name(outcome));
    return item->message == NULL ? memory_exhausted(err) : COF_OK;
}

/* Success is only what the library understands as success in all of its parts. */
static cof_code judge(coffer_result *result, coffer_item *item, struct cof_error *err)
{
    const Coffer__V1__ResultStatus *status = item->wire->status;
    if (status == NULL) {
        return refuse(result, item, COFFER_OUTCOME_UNSPECIFIED, err);
    }
    item->outcome = (coffer_outcome) status->outcome;
    item->message = status->message;
    item->retry_after_ms = item_milliseconds(status->retry_delay);
    if (status->code != COFFER_OK) {
        const bool in_range = status->code > COFFER_OK && status->code <= COFFER_UNAUTHENTICATED;
        item->status = in_range && known(item->outcome) ? (coffer_status) status->code : COFFER_UNKNOWN;
        return COF_OK;
    }
    const coffer_outcome bad = first_bad_outcome(item);
    if (bad != COFFER_OUTCOME_RESOLVED) {
        return refuse(result, item, bad, err);
    }
    return complete(item) ? COF_OK : refuse(result, item, COFFER_OUTCOME_UNSPECIFIED, err);
}

static void add_mask(coffer_result *result, const ProtobufCBinaryData *value)
{
    if (value->len >= MASK_MIN) {
        result->masks[result->mask_count++] = (coffer_bytes){value->data, value->len};
    }
}

/* Also those of items that were refused: their values were handed to this process. */
static void gather_masks(coffer_result *result, const Coffer__V1__ResolveResult *wire)
{
    for (size_t i = 0; i < wire->n_secrets; i++) {
        for (size_t k = 0; k < wire->secrets[i]->n_values; k++) {
            add_mask(result, &wire->secrets[i]->values[k]->value);
        }
    }
    for (size_t i = 0; i < wire->n_additional_masks; i++) {
        add_mask(result, &wire->additional_masks[i]);
    }
    result->unmasked += wire->unmasked_values;
}

static int longer_first(const void *a, const void *b)
{
    const size_t left = ((const coffer_bytes *) a)->length;
    const size_t right = ((const coffer_bytes *) b)->length;
    return (left < right) - (left > right);
}

static cof_code make_masks(coffer_result *result, struct cof_error *err)
{
    size_t most = 0;
    for (size_t i = 0; i < result->count; i++) {
        most += item_value_count(result->items[i].wire) + result->items[i].wire->n_additional_masks;
    }
    result->masks = cof_arena_array(&result->arena, most, sizeof *result->masks);
    if (result->masks == NULL) {
        return memory_exhausted(err);
    }
    for (size_t i = 0; i < result->count; i++) {
        gather_masks(result, result->items[i].wire);
    }
    if (result->mask_count > 0) {
        qsort(result->masks, result->mask_count, sizeof *result->masks, longer_first);
    }
    return COF_OK;
}

cof_code result_finish(coffer_result *result, struct packed_request *request, struct cof_error *err)
{
    result->asked = TAKE(request->asked);
    for (size_t i = 0; i < result->count; i++) {
        coffer_item *item = &result->items[i];
        if (result->asked != NULL && item->index < result->asked->count) {
            item->asked = &result->asked->items[item->index];
        }
        TRY(judge(result, item, err));
        result->failed += item->status != COFFER_OK;
    }
    return make_masks(result, err);
}

void result_fail_marked(coffer_result *result, const bool *marked, const struct cof_error *cause)
{
    for (size_t i = 0; i < result->count; i++) {
        coffer_item *item = &result->items[i];
        if (marked[i]) {
            char *message = cof_arena_format(
                &result->arena, "the answer did not have this yet, and asking again failed: %s", cause->message);
            item->status = (coffer_status) cause->code;
            item->message = message == NULL ? item->message : message;
            item->retry_after_ms = cause->retry_after_ms;
        }
    }
}

size_t coffer_result_count(const coffer_result *result)
{
    return result->count;
}

size_t coffer_result_failed(const coffer_result *result)
{
    return result->failed;
}

const coffer_item *coffer_result_item(const coffer_result *result, size_t index)
{
    return index < result->count ? &result->items[index] : NULL;
}

size_t coffer_result_mask_count(const coffer_result *result)
{
    return result->mask_count;
}

coffer_bytes coffer_result_mask(const coffer_result *result, size_t index)
{
    return index < result->mask_count ? result->masks[index] : (coffer_bytes){NULL, 0};
}

size_t coffer_result_unmasked(const coffer_result *result)
{
    return result->unmasked;
}

const char *coffer_result_next_page_token(const coffer_result *result)
{
    return result->next_page_token;
}

uint32_t coffer_result_would_resolve(const coffer_result *result)
{
    return result->would_resolve;
}

uint32_t coffer_result_would_fail(const coffer_result *result)
{
    return result->would_fail;
}

const char *coffer_result_request_id(const coffer_result *result)
{
    return result->request_id;
}
