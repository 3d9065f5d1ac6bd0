#include "server/service/resolve_result.h"

#include <stdlib.h>

#include "common/name.h"
#include "server/service/consistency.h"
#include "server/service/text.h"

enum {
    NEAR_MISSES = 3,
    NEAR_DISTANCE = 3,
    NEAR_NAMES_READ = 2000,
    RETRY_DELAY_MS = 200,
    MASK_MIN = 4, /* shorter values would mask half of every log */
};

/* --- One reference -------------------------------------------------------------------------------------------- */

/* What is known of one reference while its result is built. */
struct lookup {
    const Coffer__V1__SecretReference *reference;
    struct cof_slice name;
    struct cof_slice key;
    outcome outcome;
    struct found *found;
    const struct value *value;
    const char *problem; /* of a name that is none */
};

static cof_code check_names(struct call *call, struct lookup *lookup)
{
    struct cof_error problem;
    if (cof_name_check(COF_NAME_SECRET, lookup->name, "name", &problem) == COF_OK &&
        cof_name_check(COF_NAME_KEY, lookup->key, "key", &problem) == COF_OK) {
        return COF_OK;
    }
    lookup->outcome = OUTCOME(EXPRESSION_INVALID);
    lookup->problem = cof_arena_text(call->arena, cof_slice_text(problem.message));
    return lookup->problem == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code look_up(struct call *call, struct plan *plan, struct cof_slice environment, struct lookup *lookup)
{
    lookup->name = cof_slice_text(lookup->reference->name);
    lookup->key = cof_slice_text(lookup->reference->key);
    lookup->outcome = OUTCOME(RESOLVED);
    TRY(check_names(call, lookup));
    if (lookup->outcome != OUTCOME(RESOLVED)) {
        return COF_OK;
    }
    if (!authorize_sees(call, &plan->workspace, environment, lookup->name, COF_PERMISSION_RESOLVE)) {
        lookup->outcome = OUTCOME(PERMISSION_DENIED);
        return COF_OK;
    }
    if (cof_name_reserved(lookup->name)) {
        lookup->outcome = OUTCOME(NOT_AVAILABLE);
        return COF_OK;
    }
    TRY(plan_find(call, plan, environment, lookup->name, &lookup->found));
    if (lookup->found == NULL) {
        lookup->outcome = OUTCOME(SECRET_NOT_FOUND);
        return COF_OK;
    }
    lookup->outcome = lookup->found->state;
    if (lookup->outcome == OUTCOME(RESOLVED)) {
        lookup->value = values_find(&lookup->found->values, lookup->key);
        lookup->outcome = lookup->value == NULL ? OUTCOME(KEY_NOT_FOUND) : OUTCOME(RESOLVED);
    }
    return COF_OK;
}

/* --- Faults --------------------------------------------------------------------------------------------------- */

static char *fault_message(struct call *call, const struct lookup *lookup, struct cof_slice environment)
{
    const char *next = cof_reason_next_step(outcome_reason(lookup->outcome));
    const int environment_length = (int) environment.len;
    const char *environment_text = (const char *) environment.data;
    const char *name = lookup->reference->name;
    if (lookup->problem != NULL) {
        return cof_arena_format(call->arena, "the reference cannot be resolved: %s", lookup->problem);
    }
    if (lookup->outcome == OUTCOME(KEY_NOT_FOUND)) {
        return cof_arena_format(call->arena, "the secret \"%s\" in the environment \"%.*s\" has no key \"%s\"; %s",
                                name, environment_length, environment_text, lookup->reference->key, next);
    }
    if (lookup->outcome == OUTCOME(SECRET_NOT_FOUND)) {
        return cof_arena_format(call->arena, "there is no secret \"%s\" in the environment \"%.*s\"; %s", name,
                                environment_length, environment_text, next);
    }
    if (lookup->outcome == OUTCOME(PERMISSION_DENIED)) {
        return cof_arena_format(
            call->arena,
            "the token may not resolve the secret \"%s\" in the environment \"%.*s\", or it does "
            "not exist; ask for a grant of resolve",
            name, environment_length, environment_text);
    }
    return cof_arena_format(call->arena, "the secret \"%s\" in the environment \"%.*s\": %s; %s", name,
                            environment_length, environment_text,
                            cof_reason_meaning(outcome_reason(lookup->outcome)), next);
}

static cof_code make_fault(struct call *call, const struct lookup *lookup, size_t index,
                           struct cof_slice environment, Coffer__V1__ReferenceFault **ret_fault)
{
    Coffer__V1__ReferenceFault *fault = cof_arena_alloc(call->arena, sizeof *fault);
    Coffer__V1__SecretReference *reference = cof_arena_alloc(call->arena, sizeof *reference);
    if (fault == NULL || reference == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__reference_fault__init(fault);
    coffer__v1__secret_reference__init(reference);
    reference->name = lookup->reference->name;
    reference->key = lookup->reference->key;
    fault->reference_index = (uint32_t) index;
    fault->outcome = lookup->outcome;
    fault->reference = reference;
    fault->message = fault_message(call, lookup, environment);
    *ret_fault = fault;
    return fault->message == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

struct near {
    struct cof_slice name;
    unsigned distance;
};

/* Keeps the nearest few, the nearest first. */
static void keep_near(struct near *near, size_t *count, struct cof_slice name, unsigned distance)
{
    size_t at = *count < NEAR_MISSES ? (*count)++ : NEAR_MISSES;
    while (at > 0 && near[at - 1].distance > distance) {
        if (at < NEAR_MISSES) {
            near[at] = near[at - 1];
        }
        at--;
    }
    if (at < NEAR_MISSES) {
        near[at] = (struct near){name, distance};
    }
}

static cof_code set_near_misses(struct call *call, Coffer__V1__ReferenceFault *fault, const struct near *near,
                                size_t count)
{
    fault->near_misses = cof_arena_array(call->arena, count, sizeof *fault->near_misses);
    if (fault->near_misses == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        fault->near_misses[i] = text_of(call->arena, near[i].name);
        if (fault->near_misses[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    fault->n_near_misses = count;
    return COF_OK;
}

static cof_code suggest_keys(struct call *call, const struct lookup *lookup, Coffer__V1__ReferenceFault *fault)
{
    struct near near[NEAR_MISSES];
    size_t count = 0;
    for (size_t i = 0; i < lookup->found->values.count; i++) {
        const struct cof_slice key = lookup->found->values.items[i].key;
        const unsigned distance = cof_name_distance(lookup->key, key, NEAR_DISTANCE);
        if (distance <= NEAR_DISTANCE) {
            keep_near(near, &count, key, distance);
        }
    }
    return set_near_misses(call, fault, near, count);
}

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
    return COF_OK;
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

/* Puts the values into the result, by secret and key, each once. */
static cof_code add_values(struct call *call, struct lookup *lookups, size_t count,
                           Coffer__V1__ResolveResult *result)
{
    struct lookup **sorted = cof_arena_array(call->arena, count, sizeof *sorted);
    result->secrets = cof_arena_array(call->arena, count, sizeof *result->secrets);
    if (sorted == NULL || result->secrets == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &lookups[i];
    }
    if (count > 1) {
        qsort(sorted, count, sizeof *sorted, by_secret_and_key);
    }
    for (size_t i = 0; i < count; i++) {
        const bool same_secret = i > 0 && cof_slice_equal(sorted[i - 1]->name, sorted[i]->name);
        if (same_secret && cof_slice_equal(sorted[i - 1]->key, sorted[i]->key)) {
            continue;
        }
        if (!same_secret) {
            TRY(add_secret(call, sorted[i], result, count - i));
        }
        TRY(add_value(call, sorted[i], result));
    }
    return COF_OK;
}

/* --- The result ----------------------------------------------------------------------------------------------- */

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
    return result->workspace == NULL || result->environment == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* What is unavailable now may be there a little later. */
static cof_code advise_retry(struct call *call, Coffer__V1__ResultStatus *status)
{
    Google__Protobuf__Duration *delay = cof_arena_alloc(call->arena, sizeof *delay);
    if (delay == NULL) {
        return cof_arena_exhausted(call->err);
    }
    google__protobuf__duration__init(delay);
    delay->nanos = RETRY_DELAY_MS * 1000000;
    status->retry_delay = delay;
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
        TRY(advise_retry(call, (*ret_result)->status));
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

static cof_code add_faults(struct call *call, const struct lookup *lookups, size_t count,
                           struct cof_slice environment, Coffer__V1__ResolveResult *result)
{
    result->faults = cof_arena_array(call->arena, count, sizeof *result->faults);
    if (result->faults == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        if (!outcome_is_fault(lookups[i].outcome)) {
            continue;
        }
        Coffer__V1__ReferenceFault **fault = &result->faults[result->n_faults++];
        TRY(make_fault(call, &lookups[i], i, environment, fault));
        if (lookups[i].outcome == OUTCOME(KEY_NOT_FOUND)) {
            TRY(suggest_keys(call, &lookups[i], *fault));
        }
    }
    return COF_OK;
}

static cof_code set_status(struct call *call, Coffer__V1__ResolveResult *result)
{
    outcome worst = OUTCOME(RESOLVED);
    for (size_t i = 0; i < result->n_outcomes; i++) {
        worst = outcome_worse(worst, result->outcomes[i]);
    }
    result->status->outcome = outcome_is_fault(worst) ? worst : OUTCOME(RESOLVED);
    const cof_code code = outcome_code(result->status->outcome);
    result->status->code = (int32_t) code;
    if (result->n_faults == 0) {
        return COF_OK;
    }
    result->status->message =
        result->n_faults == 1
            ? result->faults[0]->message
            : cof_arena_format(call->arena, "%zu of %zu references cannot be resolved; the first: %s",
                               result->n_faults, result->n_outcomes, result->faults[0]->message);
    return result->status->message == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code look_up_all(struct call *call, struct plan *plan, struct cof_slice environment,
                            struct lookup *lookups, Coffer__V1__ResolveResult *result)
{
    result->outcomes = cof_arena_array(call->arena, plan->item->n_references, sizeof *result->outcomes);
    if (result->outcomes == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < plan->item->n_references; i++) {
        lookups[i].reference = plan->item->references[i];
        TRY(look_up(call, plan, environment, &lookups[i]));
        result->outcomes[result->n_outcomes++] = lookups[i].outcome;
    }
    return COF_OK;
}

cof_code result_build(struct call *call, struct plan *plan, size_t environment, bool with_values,
                      Coffer__V1__ResolveResult **ret_result)
{
    const size_t count = plan->item->n_references;
    const struct cof_slice name = plan->environments[environment];
    struct lookup *lookups = cof_arena_array(call->arena, count, sizeof *lookups);
    if (lookups == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(new_result(call, plan, environment, ret_result));
    Coffer__V1__ResolveResult *result = *ret_result;
    TRY(look_up_all(call, plan, name, lookups, result));
    TRY(set_token(call, plan, result));
    TRY(add_faults(call, lookups, count, name, result));
    TRY(set_status(call, result));
    return result->n_faults == 0 && with_values ? add_values(call, lookups, count, result) : COF_OK;
}

/* --- Names that look alike ------------------------------------------------------------------------------------ */

/* The names of the environment's secrets, or of the workspace's environments, this one first. */
static cof_code read_names(struct call *call, const struct plan *plan, const char *environment, statement id,
                           struct rows **ret_rows)
{
    const struct param params[] = {
        param_uuid(&plan->workspace),
        param_text(cof_slice_text(environment)),
        param_i64(NEAR_NAMES_READ),
    };
    TRY(session_queue(call->session, id, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, ret_rows, call->err);
}

static cof_code suggest_names(struct call *call, const struct plan *plan, const char *environment,
                              const struct rows *names, Coffer__V1__ReferenceFault *fault)
{
    struct near near[NEAR_MISSES];
    size_t count = 0;
    const struct cof_slice wanted = cof_slice_text(fault->reference->name);
    for (size_t i = 0; i < rows_count(names); i++) {
        const struct cof_slice name = rows_bytes(names, i, 0);
        const unsigned distance = cof_name_distance(wanted, name, NEAR_DISTANCE);
        if (distance <= NEAR_DISTANCE &&
            authorize_sees(call, &plan->workspace, cof_slice_text(environment), name, COF_PERMISSION_RESOLVE)) {
            keep_near(near, &count, name, distance);
        }
    }
    return set_near_misses(call, fault, near, count);
}

static struct near nearest_environment(struct call *call, const struct plan *plan, const struct rows *names,
                                       const Coffer__V1__SecretReference *reference, struct cof_slice environment)
{
    struct near nearest = {.distance = NEAR_DISTANCE + 1};
    for (size_t i = 0; i < rows_count(names); i++) {
        const struct cof_slice name = rows_bytes(names, i, 0);
        const unsigned distance = cof_name_distance(environment, name, NEAR_DISTANCE);
        if (distance < nearest.distance &&
            authorize_sees(call, &plan->workspace, name, cof_slice_text(reference->name), COF_PERMISSION_RESOLVE)) {
            nearest = (struct near){name, distance};
        }
    }
    return nearest;
}

/* The caller may resolve in this environment, so he may know that it does not exist. */
static cof_code tell_no_environment(struct call *call, const struct plan *plan, const char *environment,
                                    const struct rows *names, Coffer__V1__ReferenceFault *fault)
{
    const struct near nearest =
        nearest_environment(call, plan, names, fault->reference, cof_slice_text(environment));
    const char *next = cof_reason_next_step(COF_REASON_SECRET_NOT_FOUND);
    fault->message =
        nearest.distance > NEAR_DISTANCE
            ? cof_arena_format(call->arena, "there is no environment \"%s\", so no secret \"%s\" in it; %s",
                               environment, fault->reference->name, next)
            : cof_arena_format(
                  call->arena,
                  "there is no environment \"%s\", so no secret \"%s\" in it; did you mean \"%.*s\"? %s",
                  environment, fault->reference->name, (int) nearest.name.len, (const char *) nearest.name.data,
                  next);
    return fault->message == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code suggest_environment(struct call *call, const struct plan *plan, Coffer__V1__ResolveResult *result)
{
    AUTO(rows_cleanup) struct rows *names = NULL;
    const char *environment = result->environment;
    TRY(read_names(call, plan, environment, STATEMENT_ENVIRONMENT_NAMES, &names));
    if (rows_count(names) > 0 && cof_slice_equal(rows_bytes(names, 0, 0), cof_slice_text(environment))) {
        return COF_OK;
    }
    for (size_t i = 0; i < result->n_faults; i++) {
        if (result->faults[i]->outcome == OUTCOME(SECRET_NOT_FOUND)) {
            TRY(tell_no_environment(call, plan, environment, names, result->faults[i]));
        }
    }
    return set_status(call, result);
}

static bool has_missing_secret(const Coffer__V1__ResolveResult *result)
{
    for (size_t i = 0; i < result->n_faults; i++) {
        if (result->faults[i]->outcome == OUTCOME(SECRET_NOT_FOUND)) {
            return true;
        }
    }
    return false;
}

cof_code result_suggest(struct call *call, const struct plan *plan, Coffer__V1__ResolveResult *result)
{
    AUTO(rows_cleanup) struct rows *names = NULL;
    if (!has_missing_secret(result)) {
        return COF_OK;
    }
    TRY(read_names(call, plan, result->environment, STATEMENT_SECRET_NAMES, &names));
    if (rows_count(names) == 0) {
        return suggest_environment(call, plan, result);
    }
    for (size_t i = 0; i < result->n_faults; i++) {
        if (result->faults[i]->outcome == OUTCOME(SECRET_NOT_FOUND)) {
            TRY(suggest_names(call, plan, result->environment, names, result->faults[i]));
        }
    }
    return COF_OK;
}
