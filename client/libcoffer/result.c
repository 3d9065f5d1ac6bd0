#include "client/libcoffer/result.h"

#include <assert.h>
#include <stdlib.h>

#include "common/wire.h"

enum { MASK_MIN = 4 };

static const char *const outcome_names[] = {
    [COFFER_OUTCOME_UNSPECIFIED] = "UNSPECIFIED",
    [COFFER_OUTCOME_RESOLVED] = "RESOLVED",
    [COFFER_OUTCOME_ABSENT] = "ABSENT",
    [COFFER_OUTCOME_NOT_NEEDED] = "NOT_NEEDED",
    [COFFER_OUTCOME_SECRET_NOT_FOUND] = "SECRET_NOT_FOUND",
    [COFFER_OUTCOME_KEY_NOT_FOUND] = "KEY_NOT_FOUND",
    [COFFER_OUTCOME_CONNECTION_NOT_FOUND] = "CONNECTION_NOT_FOUND",
    [COFFER_OUTCOME_REAUTH_REQUIRED] = "REAUTH_REQUIRED",
    [COFFER_OUTCOME_PROVIDER_UNAVAILABLE] = "PROVIDER_UNAVAILABLE",
    [COFFER_OUTCOME_PERMISSION_DENIED] = "PERMISSION_DENIED",
    [COFFER_OUTCOME_CORRUPTED] = "CORRUPTED",
    [COFFER_OUTCOME_AWS_ROLE_REFUSED] = "AWS_ROLE_REFUSED",
    [COFFER_OUTCOME_EXPRESSION_INVALID] = "EXPRESSION_INVALID",
    [COFFER_OUTCOME_PENDING] = "PENDING",
    [COFFER_OUTCOME_DEFERRED] = "DEFERRED",
    [COFFER_OUTCOME_DECLARATION_NOT_SATISFIED] = "DECLARATION_NOT_SATISFIED",
    [COFFER_OUTCOME_ENVIRONMENT_VIEW_CONFLICT] = "ENVIRONMENT_VIEW_CONFLICT",
    [COFFER_OUTCOME_TOO_LARGE] = "TOO_LARGE",
    [COFFER_OUTCOME_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [COFFER_OUTCOME_STORE_UNAVAILABLE] = "STORE_UNAVAILABLE",
    [COFFER_OUTCOME_INCOMPLETE_AWS_KEYS] = "INCOMPLETE_AWS_KEYS",
    [COFFER_OUTCOME_KEY_EMPTY] = "KEY_EMPTY",
    [COFFER_OUTCOME_CONSISTENCY_TOKEN_UNKNOWN] = "CONSISTENCY_TOKEN_UNKNOWN",
    [COFFER_OUTCOME_CONSISTENCY_NOT_REACHED] = "CONSISTENCY_NOT_REACHED",
    [COFFER_OUTCOME_SECRET_EXPIRED] = "SECRET_EXPIRED",
    [COFFER_OUTCOME_NOT_AVAILABLE] = "NOT_AVAILABLE",
    [COFFER_OUTCOME_WORKSPACE_DISABLED] = "WORKSPACE_DISABLED",
    [COFFER_OUTCOME_ITEM_INVALID] = "ITEM_INVALID",
};

_Static_assert(COF_COUNT(outcome_names) == COFFER__V1__OUTCOME__OUTCOME_ITEM_INVALID + 1,
               "the public enum has the outcomes of resolve.proto");

/* PENDING comes only to requests that travel with those of others: nobody waits for a stranger (batch.h). */
static bool deferred(const Coffer__V1__ResolveResult *wire)
{
    return wire->status != NULL && (wire->status->outcome == COFFER__V1__OUTCOME__OUTCOME_DEFERRED ||
                                    wire->status->outcome == COFFER__V1__OUTCOME__OUTCOME_PENDING);
}

static uint32_t milliseconds(const Google__Protobuf__Duration *duration)
{
    if (duration == NULL || duration->seconds < 0 || duration->nanos < 0) {
        return 0;
    }
    if (duration->seconds >= UINT32_MAX / 1000) {
        return UINT32_MAX;
    }
    return (uint32_t) duration->seconds * 1000 + (uint32_t) duration->nanos / 1000000;
}

static int64_t milliseconds_since_1970(const Google__Protobuf__Timestamp *time)
{
    if (time == NULL || time->seconds < 0 || time->seconds > INT64_MAX / 1000 - 1) {
        return 0;
    }
    return time->seconds * 1000 + time->nanos / 1000000;
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

/* The items that were added stand behind the caller's own. */
static void take_origins(coffer_result *result, const struct packed_request *request)
{
    result->told = 0;
    for (size_t i = 0; i < result->count; i++) {
        coffer_item *item = &result->items[i];
        item->owner = item->index;
        if (request->origins != NULL && item->index < request->items) {
            item->owner = request->origins[item->index].owner;
            item->may_fail = request->origins[item->index].may_fail;
        }
        result->told += item->owner == item->index;
    }
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
    take_origins(result, request);
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
    take_origins(result, request);
    return check_order(result, request, err);
}

size_t result_mark_deferred(const coffer_result *result, bool *ret_marked)
{
    size_t count = 0;
    for (size_t i = 0; i < result->count; i++) {
        ret_marked[i] = deferred(result->items[i].wire);
        count += ret_marked[i];
    }
    return count;
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
    return outcome > COFFER_OUTCOME_UNSPECIFIED && outcome <= COFFER_OUTCOME_ITEM_INVALID;
}

/* The first outcome that does not go with success; RESOLVED if all do. */
static coffer_outcome first_bad_outcome(const Coffer__V1__ResolveResult *wire)
{
    for (size_t i = 0; i < wire->n_outcomes; i++) {
        if (!coffer_outcome_ok((coffer_outcome) wire->outcomes[i])) {
            return (coffer_outcome) wire->outcomes[i];
        }
    }
    const coffer_outcome worst = (coffer_outcome) wire->status->outcome;
    return coffer_outcome_ok(worst) ? COFFER_OUTCOME_RESOLVED : worst;
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

static bool is_missing(coffer_outcome outcome)
{
    return outcome == COFFER_OUTCOME_SECRET_NOT_FOUND || outcome == COFFER_OUTCOME_KEY_NOT_FOUND ||
           outcome == COFFER_OUTCOME_CONNECTION_NOT_FOUND;
}

/* What may be missing and is, is no failure of the item. */
static void excuse(coffer_item *item)
{
    if (item->may_fail && item->status != COFFER_OK && is_missing(item->outcome)) {
        item->status = COFFER_OK;
        item->outcome = COFFER_OUTCOME_ABSENT;
        item->message = "";
        item->retry_after_ms = 0;
    }
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
    item->retry_after_ms = milliseconds(status->retry_delay);
    if (status->code != COFFER_OK) {
        const bool in_range = status->code > COFFER_OK && status->code <= COFFER_UNAUTHENTICATED;
        item->status = in_range && known(item->outcome) ? (coffer_status) status->code : COFFER_UNKNOWN;
        return COF_OK;
    }
    const coffer_outcome bad = first_bad_outcome(item->wire);
    return bad == COFFER_OUTCOME_RESOLVED ? COF_OK : refuse(result, item, bad, err);
}

static size_t value_count(const Coffer__V1__ResolveResult *wire)
{
    size_t count = 0;
    for (size_t i = 0; i < wire->n_secrets; i++) {
        count += wire->secrets[i]->n_values;
    }
    return count;
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
        most += value_count(result->items[i].wire) + result->items[i].wire->n_additional_masks;
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

cof_code result_finish(coffer_result *result, struct cof_error *err)
{
    for (size_t i = 0; i < result->count; i++) {
        TRY(judge(result, &result->items[i], err));
        excuse(&result->items[i]);
        result->failed += i < result->told && result->items[i].status != COFFER_OK;
    }
    return make_masks(result, err);
}

void result_fail_deferred(coffer_result *result, const struct cof_error *cause)
{
    for (size_t i = 0; i < result->count; i++) {
        coffer_item *item = &result->items[i];
        if (deferred(item->wire)) {
            char *message = cof_arena_format(
                &result->arena, "the answer had no room for this, and asking again failed: %s", cause->message);
            item->status = (coffer_status) cause->code;
            item->message = message == NULL ? item->message : message;
            item->retry_after_ms = cause->retry_after_ms;
        }
    }
}

const char *coffer_outcome_name(coffer_outcome outcome)
{
    return (size_t) outcome < COF_COUNT(outcome_names) ? outcome_names[outcome] : "UNKNOWN";
}

bool coffer_outcome_ok(coffer_outcome outcome)
{
    return outcome >= COFFER_OUTCOME_RESOLVED && outcome <= COFFER_OUTCOME_NOT_NEEDED;
}

size_t coffer_result_count(const coffer_result *result)
{
    return result->told;
}

size_t coffer_result_failed(const coffer_result *result)
{
    return result->failed;
}

const coffer_item *coffer_result_item(const coffer_result *result, size_t index)
{
    return index < result->told ? &result->items[index] : NULL;
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

size_t coffer_item_index(const coffer_item *item)
{
    return item->index;
}

const char *coffer_item_id(const coffer_item *item)
{
    return item->wire->item_id;
}

const char *coffer_item_workspace(const coffer_item *item)
{
    return item->wire->workspace;
}

const char *coffer_item_environment(const coffer_item *item)
{
    return item->wire->environment;
}

coffer_status coffer_item_status(const coffer_item *item)
{
    return item->status;
}

coffer_outcome coffer_item_outcome(const coffer_item *item)
{
    return item->outcome;
}

const char *coffer_item_message(const coffer_item *item)
{
    return item->message;
}

uint32_t coffer_item_retry_after_ms(const coffer_item *item)
{
    return item->retry_after_ms;
}

/* protobuf-c gives an empty value no bytes; the caller must be able to tell it from none. */
static coffer_bytes bytes_of(const ProtobufCBinaryData *value)
{
    static const uint8_t empty;
    return (coffer_bytes){value->data == NULL ? &empty : value->data, value->len};
}

/* A secret of an item that was resolved; NULL if there is none of that name. */
static const Coffer__V1__ResolvedSecret *find_secret(const coffer_item *item, const char *name)
{
    for (size_t i = 0; item->status == COFFER_OK && i < item->wire->n_secrets; i++) {
        if (strcmp(item->wire->secrets[i]->name, name) == 0) {
            return item->wire->secrets[i];
        }
    }
    return NULL;
}

coffer_bytes coffer_item_value(const coffer_item *item, const char *secret, const char *key)
{
    const Coffer__V1__ResolvedSecret *found = find_secret(item, secret);
    for (size_t i = 0; found != NULL && i < found->n_values; i++) {
        if (strcmp(found->values[i]->key, key) == 0) {
            return bytes_of(&found->values[i]->value);
        }
    }
    return (coffer_bytes){NULL, 0};
}

size_t coffer_item_value_count(const coffer_item *item)
{
    return item->status == COFFER_OK ? value_count(item->wire) : 0;
}

static void tell_names(const char *secret, const char *key, const char **ret_secret, const char **ret_key)
{
    if (ret_secret != NULL) {
        *ret_secret = secret;
    }
    if (ret_key != NULL) {
        *ret_key = key;
    }
}

coffer_bytes coffer_item_value_at(const coffer_item *item, size_t index, const char **ret_secret,
                                  const char **ret_key)
{
    size_t left = index;
    for (size_t i = 0; item->status == COFFER_OK && i < item->wire->n_secrets; i++) {
        const Coffer__V1__ResolvedSecret *secret = item->wire->secrets[i];
        if (left < secret->n_values) {
            tell_names(secret->name, secret->values[left]->key, ret_secret, ret_key);
            return bytes_of(&secret->values[left]->value);
        }
        left -= secret->n_values;
    }
    tell_names(NULL, NULL, ret_secret, ret_key);
    return (coffer_bytes){NULL, 0};
}

uint64_t coffer_item_version(const coffer_item *item, const char *secret)
{
    const Coffer__V1__ResolvedSecret *found = find_secret(item, secret);
    return found == NULL ? 0 : found->version;
}

int64_t coffer_item_expires_ms(const coffer_item *item)
{
    return milliseconds_since_1970(item->wire->expire_time);
}

int64_t coffer_item_stale_since_ms(const coffer_item *item)
{
    return milliseconds_since_1970(item->wire->stale_since);
}

const char *coffer_item_consistency_token(const coffer_item *item)
{
    return item->wire->consistency_token;
}

size_t coffer_item_reference_count(const coffer_item *item)
{
    return item->wire->n_outcomes;
}

coffer_outcome coffer_item_reference_outcome(const coffer_item *item, size_t index)
{
    return index < item->wire->n_outcomes ? (coffer_outcome) item->wire->outcomes[index]
                                          : COFFER_OUTCOME_UNSPECIFIED;
}

/* A fault is the message itself; only its name differs. */
static const Coffer__V1__ReferenceFault *wire_of(const coffer_fault *fault)
{
    return (const Coffer__V1__ReferenceFault *) (const void *) fault;
}

size_t coffer_item_fault_count(const coffer_item *item)
{
    return item->wire->n_faults;
}

const coffer_fault *coffer_item_fault(const coffer_item *item, size_t index)
{
    return index < item->wire->n_faults ? (const coffer_fault *) (const void *) item->wire->faults[index] : NULL;
}

size_t coffer_fault_reference(const coffer_fault *fault)
{
    return wire_of(fault)->reference_index;
}

const char *coffer_fault_secret(const coffer_fault *fault)
{
    return wire_of(fault)->reference == NULL ? "" : wire_of(fault)->reference->name;
}

const char *coffer_fault_key(const coffer_fault *fault)
{
    return wire_of(fault)->reference == NULL ? "" : wire_of(fault)->reference->key;
}

coffer_outcome coffer_fault_outcome(const coffer_fault *fault)
{
    return (coffer_outcome) wire_of(fault)->outcome;
}

const char *coffer_fault_message(const coffer_fault *fault)
{
    return wire_of(fault)->message;
}

uint32_t coffer_fault_retry_after_ms(const coffer_fault *fault)
{
    return milliseconds(wire_of(fault)->retry_delay);
}

size_t coffer_fault_near_miss_count(const coffer_fault *fault)
{
    return wire_of(fault)->n_near_misses;
}

const char *coffer_fault_near_miss(const coffer_fault *fault, size_t index)
{
    return index < wire_of(fault)->n_near_misses ? wire_of(fault)->near_misses[index] : "";
}
