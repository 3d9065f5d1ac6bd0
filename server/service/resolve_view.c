#include "server/service/resolve_view.h"

#include <stdlib.h>

/* And by place, so that of those which are equal the first one is told. */
static int by_key_and_secret(const void *a, const void *b)
{
    const struct lookup *left = *(const struct lookup *const *) a;
    const struct lookup *right = *(const struct lookup *const *) b;
    const int order = cof_slice_compare(left->key, right->key);
    const int names = order != 0 ? order : cof_slice_compare(left->name, right->name);
    return names != 0 ? names : (left > right) - (left < right);
}

static cof_code mark(struct call *call, const struct lookup *one, struct lookup *other)
{
    other->problem = cof_arena_format(call->arena, "the secrets \"%s\" and \"%s\" both have the key \"%s\"; %s",
                                      one->reference->name, other->reference->name, one->reference->key,
                                      cof_reason_next_step(COF_REASON_ENVIRONMENT_VIEW_CONFLICT));
    other->outcome = OUTCOME(ENVIRONMENT_VIEW_CONFLICT);
    return other->problem == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code view_check(struct call *call, struct lookup *lookups, size_t count)
{
    size_t found = 0;
    struct lookup **sorted = cof_arena_array(call->arena, count, sizeof *sorted);
    if (sorted == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        if (lookups[i].value != NULL) {
            sorted[found++] = &lookups[i];
        }
    }
    if (found > 1) {
        qsort(sorted, found, sizeof *sorted, by_key_and_secret);
    }
    for (size_t i = 1; i < found; i++) {
        if (cof_slice_equal(sorted[i - 1]->key, sorted[i]->key) &&
            !cof_slice_equal(sorted[i - 1]->name, sorted[i]->name)) {
            TRY(mark(call, sorted[i - 1], sorted[i]));
        }
    }
    return COF_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(Coffer__V1__EnvironmentVariable *const *) a)->name,
                  (*(Coffer__V1__EnvironmentVariable *const *) b)->name);
}

static size_t count_values(const Coffer__V1__ResolveResult *result)
{
    size_t count = 0;
    for (size_t i = 0; i < result->n_secrets; i++) {
        count += result->secrets[i]->n_values;
    }
    return count;
}

static cof_code add_variables(struct call *call, const Coffer__V1__ResolvedSecret *secret,
                              Coffer__V1__ResolveResult *result)
{
    for (size_t i = 0; i < secret->n_values; i++) {
        Coffer__V1__EnvironmentVariable *variable = cof_arena_alloc(call->arena, sizeof *variable);
        if (variable == NULL) {
            return cof_arena_exhausted(call->err);
        }
        coffer__v1__environment_variable__init(variable);
        variable->name = secret->values[i]->key;
        variable->value = secret->values[i]->value;
        result->environment_variables[result->n_environment_variables++] = variable;
    }
    return COF_OK;
}

cof_code view_fill(struct call *call, Coffer__V1__ResolveResult *result)
{
    const size_t count = count_values(result);
    result->environment_variables = cof_arena_array(call->arena, count, sizeof(Coffer__V1__EnvironmentVariable *));
    if (result->environment_variables == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < result->n_secrets; i++) {
        TRY(add_variables(call, result->secrets[i], result));
    }
    if (count > 1) {
        qsort(result->environment_variables, count, sizeof *result->environment_variables, by_name);
    }
    return COF_OK;
}
