#include "server/service/resolve_result.h"

#include <stdlib.h>

#include "server/service/consistency.h"
#include "server/service/resolve_aws.h"
#include "server/service/resolve_expression.h"
#include "server/service/resolve_near.h"
#include "server/service/resolve_need.h"
#include "server/service/resolve_oauth.h"
#include "server/service/resolve_view.h"
#include "server/service/text.h"

enum {
    RETRY_DELAY_MS = 200,
    MASK_MIN = 4, /* shorter values would mask half of every log */
};

/* --- Values --------------------------------------------------------------------------------------------------- */

static int by_secret_and_key(const void *a, const void *b)
{
    const struct lookup *left = *(const struct lookup *const *) a;
    const struct lookup *right = *(const struct lookup *const *) b;
    const int order = cof_slice_compare(left->name, right->name);
    return order != 0 ? order : cof_slice_compare(left->key, right->key);
}

static cof_code add_secret(struct call *call, const struct lookup *lookup, Coffer__V1__ResolveResult *result,
                           size_t room)
{
    const struct secret_row *row = &lookup->found->row;
    Coffer__V1__ResolvedSecret *secret = cof_arena_alloc(call->arena, sizeof *secret);
    if (secret == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__resolved_secret__init(secret);
    secret->name = lookup->reference->name;
    secret->uid = text_of_uuid(call->arena, &row->secret_id);
    secret->version = (uint64_t) row->version;
    secret->values = cof_arena_array(call->arena, room, sizeof *secret->values);
    secret->secret_expire_time = time_of(call->arena, row->expire_time);
    if (secret->uid == NULL || secret->values == NULL) {
        return cof_arena_exhausted(call->err);
    }
    result->secrets[result->n_secrets++] = secret;
    TRY(aws_describe(call, lookup->found, secret, result));
    return oauth_describe(call, lookup->found, secret, result);
}

static cof_code add_value(struct call *call, const struct lookup *lookup, Coffer__V1__ResolveResult *result)
{
    Coffer__V1__ResolvedSecret *secret = result->secrets[result->n_secrets - 1];
    Coffer__V1__KeyValue *pair = cof_arena_alloc(call->arena, sizeof *pair);
    if (pair == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__key_value__init(pair);
    pair->key = lookup->reference->key;
    /* protobuf-c's type has no const; packing only reads. */
    memcpy(&pair->value.data, &lookup->value->bytes.data, sizeof pair->value.data);
    pair->value.len = lookup->value->bytes.len;
    secret->values[secret->n_values++] = pair;
    result->unmasked_values += pair->value.len < MASK_MIN;
    return COF_OK;
}

static size_t sort_values(const struct lookup *lookups, size_t count, const struct lookup **sorted)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (lookups[i].value != NULL) {
            sorted[found++] = &lookups[i];
        }
    }
    size_t in_order = 1;
    while (in_order < found && by_secret_and_key(&sorted[in_order - 1], &sorted[in_order]) <= 0) {
        in_order++;
    }
    if (in_order < found) {
        qsort(sorted, found, sizeof *sorted, by_secret_and_key);
    }
    return found;
}

/* How many of the sorted values belong to the secret of the first. */
static size_t count_of_secret(const struct lookup *const *sorted, size_t count)
{
    size_t same = 1;
    while (same < count && cof_slice_equal(sorted[same]->name, sorted[0]->name)) {
        same++;
    }
    return same;
}

/* Puts the values into the result, by secret and key, each once. */
static cof_code add_values(const struct building *building)
{
    struct call *call = building->call;
    Coffer__V1__ResolveResult *result = building->result;
    const struct lookup **sorted = cof_arena_array(call->arena, building->all, sizeof *sorted);
    result->secrets = cof_arena_array(call->arena, building->all, sizeof *result->secrets);
    if (sorted == NULL || result->secrets == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const size_t found = sort_values(building->lookups, building->all, sorted);
    for (size_t i = 0; i < found; i++) {
        const bool same_secret = i > 0 && cof_slice_equal(sorted[i - 1]->name, sorted[i]->name);
        if (same_secret && cof_slice_equal(sorted[i - 1]->key, sorted[i]->key)) {
            continue;
        }
        if (!same_secret) {
            TRY(add_secret(call, sorted[i], result, count_of_secret(&sorted[i], found - i)));
        }
        TRY(add_value(call, sorted[i], result));
    }
    return COF_OK;
}

/* --- The result ----------------------------------------------------------------------------------------------- */

/* An answer is marked, a failure that comes from what is known of an older caller as well. */
static cof_code mark_older(struct call *call, const struct plan *plan, Coffer__V1__ResolveResult *result)
{
    const int64_t older_us = plan->older_us != 0 ? plan->older_us : call->older_us;
    if (older_us == 0) {
        return COF_OK;
    }
    result->stale_since =
        time_of(call->arena, call_now(call) - (cof_clock_monotonic(call->service->clock) - older_us));
    return result->stale_since == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code new_result(struct call *call, const struct plan *plan, size_t environment,
                           Coffer__V1__ResolveResult **ret_result)
{
    Coffer__V1__ResolveResult *result = cof_arena_alloc(call->arena, sizeof *result);
    Coffer__V1__ResultStatus *status = cof_arena_alloc(call->arena, sizeof *status);
    if (result == NULL || status == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__resolve_result__init(result);
    coffer__v1__result_status__init(status);
    result->item_index = plan->index;
    result->item_id = plan->item->id;
    result->workspace = text_of_uuid(call->arena, &plan->workspace);
    result->environment = text_of(call->arena, plan->environments[environment]);
    result->status = status;
    *ret_result = result;
    TRY(mark_older(call, plan, result));
    return result->workspace == NULL || result->environment == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* What is unavailable now may be there a little later. */
static cof_code advise_retry(struct call *call, uint32_t milliseconds, Google__Protobuf__Duration **ret_delay)
{
    Google__Protobuf__Duration *delay = cof_arena_alloc(call->arena, sizeof *delay);
    if (delay == NULL) {
        return cof_arena_exhausted(call->err);
    }
    google__protobuf__duration__init(delay);
    delay->seconds = milliseconds / 1000;
    delay->nanos = (int32_t) (milliseconds % 1000 * 1000000);
    *ret_delay = delay;
    return COF_OK;
}

cof_code result_of_outcome(struct call *call, const struct plan *plan, size_t environment, outcome value,
                           const char *message, Coffer__V1__ResolveResult **ret_result)
{
    const cof_code code = outcome_code(value);
    TRY(new_result(call, plan, environment, ret_result));
    (*ret_result)->status->code = (int32_t) code;
    (*ret_result)->status->outcome = value;
    if (code == COF_UNAVAILABLE) {
        TRY(advise_retry(call, RETRY_DELAY_MS, &(*ret_result)->status->retry_delay));
    }
    (*ret_result)->status->message = text_of(call->arena, cof_slice_text(message));
    return (*ret_result)->status->message == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code set_token(struct call *call, const struct plan *plan, Coffer__V1__ResolveResult *result)
{
    result->consistency_token = cof_arena_alloc(call->arena, CONSISTENCY_TOKEN_TEXT);
    if (result->consistency_token == NULL) {
        return cof_arena_exhausted(call->err);
    }
    consistency_format(call->service, plan->revision, result->consistency_token);
    return COF_OK;
}

/* A reference is copied, because one of the request may carry fields that are not known here. */
static cof_code copy_reference(struct call *call, const Coffer__V1__SecretReference *reference,
                               Coffer__V1__SecretReference **ret_copy)
{
    Coffer__V1__SecretReference *copy = cof_arena_alloc(call->arena, sizeof *copy);
    if (copy == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret_reference__init(copy);
    copy->name = reference->name;
    copy->key = reference->key;
    *ret_copy = copy;
    return COF_OK;
}

/* Nothing was understood of an expression that is not written as it must be, so its fault has no reference. */
static cof_code make_fault(const struct building *building, size_t index, Coffer__V1__ReferenceFault **ret_fault)
{
    struct call *call = building->call;
    const struct lookup *lookup = &building->lookups[index];
    Coffer__V1__ReferenceFault *fault = cof_arena_alloc(call->arena, sizeof *fault);
    if (fault == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__reference_fault__init(fault);
    fault->reference_index = (uint32_t) index;
    fault->outcome = lookup->outcome;
    fault->message = lookup_message(call, lookup, building->environment);
    *ret_fault = fault;
    if (fault->message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (lookup->retry_ms > 0) {
        TRY(advise_retry(call, lookup->retry_ms, &fault->retry_delay));
    }
    return lookup->reference == NULL ? COF_OK : copy_reference(call, lookup->reference, &fault->reference);
}

static cof_code add_faults(const struct building *building)
{
    Coffer__V1__ResolveResult *result = building->result;
    result->faults = cof_arena_array(building->call->arena, building->count, sizeof *result->faults);
    if (result->faults == NULL) {
        return cof_arena_exhausted(building->call->err);
    }
    for (size_t i = 0; i < building->count; i++) {
        const struct lookup *lookup = &building->lookups[i];
        if (!outcome_is_fault(lookup->outcome)) {
            continue;
        }
        Coffer__V1__ReferenceFault **fault = &result->faults[result->n_faults++];
        TRY(make_fault(building, i, fault));
        if (lookup->outcome == OUTCOME(KEY_NOT_FOUND) && !lookup->tolerated) {
            TRY(near_keys(building->call, lookup, *fault));
        }
    }
    return COF_OK;
}

/* Says what failed, how often, and the first of it in its own words. */
static cof_code set_message(const struct building *building)
{
    const Coffer__V1__ReferenceFault *first = NULL;
    Coffer__V1__ResolveResult *result = building->result;
    size_t failed = 0;
    for (size_t i = 0; i < result->n_faults; i++) {
        if (!building->lookups[result->faults[i]->reference_index].tolerated) {
            first = failed == 0 ? result->faults[i] : first;
            failed++;
        }
    }
    if (failed == 0) {
        return COF_OK;
    }
    result->status->message =
        failed == 1
            ? first->message
            : cof_arena_format(building->call->arena, "%zu of %zu references cannot be resolved; the first: %s",
                               failed, result->n_outcomes, first->message);
    return result->status->message == NULL ? cof_arena_exhausted(building->call->err) : COF_OK;
}

static outcome worst_of(const struct building *building)
{
    outcome worst = OUTCOME(RESOLVED);
    for (size_t i = 0; i < building->count; i++) {
        const struct lookup *lookup = &building->lookups[i];
        worst = lookup->tolerated ? worst : outcome_worse(worst, lookup->outcome);
    }
    return outcome_is_fault(worst) ? worst : OUTCOME(RESOLVED);
}

static cof_code set_outcomes(const struct building *building)
{
    Coffer__V1__ResolveResult *result = building->result;
    uint32_t retry_ms = 0;
    result->outcomes = cof_arena_array(building->call->arena, building->count, sizeof *result->outcomes);
    if (result->outcomes == NULL) {
        return cof_arena_exhausted(building->call->err);
    }
    for (size_t i = 0; i < building->count; i++) {
        const struct lookup *lookup = &building->lookups[i];
        result->outcomes[result->n_outcomes++] = lookup->outcome;
        retry_ms = lookup->retry_ms > retry_ms ? lookup->retry_ms : retry_ms;
    }
    result->status->outcome = worst_of(building);
    const cof_code code = outcome_code(result->status->outcome);
    result->status->code = (int32_t) code;
    return code == COF_UNAVAILABLE && retry_ms > 0
               ? advise_retry(building->call, retry_ms, &result->status->retry_delay)
               : COF_OK;
}

/* What two secrets both have is told where it was asked for. */
static cof_code check_view(const struct building *building)
{
    struct lookup *lookups = building->lookups;
    TRY(view_check(building->call, lookups, building->all));
    for (size_t i = building->count; i < building->all; i++) {
        if (outcome_is_fault(lookups[i].outcome)) {
            lookups[lookups[i].origin].outcome = lookups[i].outcome;
            lookups[lookups[i].origin].problem = lookups[i].problem;
        }
    }
    return COF_OK;
}

static cof_code look_up_all(struct building *building)
{
    struct call *call = building->call;
    struct plan *plan = building->plan;
    const struct asked *asked = &plan->asked;
    struct lookup *lookups = building->lookups;
    for (size_t i = 0; i < asked->before_expressions; i++) {
        TRY(lookup_find(call, plan, building->environment, i, &lookups[i]));
    }
    TRY(expression_results(call, plan, building->environment, lookups, building->result));
    for (size_t i = asked->behind_expressions; i < asked->count; i++) {
        TRY(lookup_find(call, plan, building->environment, i, &lookups[i]));
    }
    TRY(need_check(call, asked, building->environment, lookups));
    TRY(aws_complete(call, asked, lookups, &building->all));
    return plan->item->environment_view ? check_view(building) : COF_OK;
}

static cof_code hand_out(const struct building *building)
{
    TRY(add_values(building));
    return building->plan->item->environment_view ? view_fill(building->call, building->result) : COF_OK;
}

static cof_code begin(struct call *call, struct plan *plan, size_t environment, struct building *ret_building)
{
    *ret_building = (struct building){
        .call = call,
        .plan = plan,
        .environment = plan->environments[environment],
        .count = plan->asked.count,
        .lookups = cof_arena_array(call->arena, plan->asked.count + AWS_ROOM, sizeof(struct lookup)),
    };
    return ret_building->lookups == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code result_check(struct call *call, struct plan *plan, size_t environment, bool *ret_fails)
{
    Coffer__V1__ResolveResult result;
    struct building building;
    coffer__v1__resolve_result__init(&result);
    TRY(begin(call, plan, environment, &building));
    building.result = &result;
    TRY(look_up_all(&building));
    *ret_fails = worst_of(&building) != OUTCOME(RESOLVED);
    return COF_OK;
}

cof_code result_build(struct call *call, struct plan *plan, size_t environment, bool with_values,
                      struct building *ret_building)
{
    struct building *building = ret_building;
    TRY(begin(call, plan, environment, building));
    TRY(new_result(call, plan, environment, &building->result));
    TRY(look_up_all(building));
    TRY(set_outcomes(building));
    TRY(set_token(call, plan, building->result));
    TRY(add_faults(building));
    TRY(set_message(building));
    if (with_values && building->result->status->code == COF_OK) {
        return hand_out(building);
    }
    expression_withhold(building->result);
    return COF_OK;
}

cof_code result_suggest(const struct building *building)
{
    TRY(near_names(building->call, building->plan, building->result));
    return set_message(building);
}
