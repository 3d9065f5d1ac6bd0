#include "server/service/resolve_near.h"

#include "common/name.h"
#include "server/service/text.h"

enum {
    NEAR_MISSES = 3,
    NEAR_DISTANCE = 3,
    NEAR_NAMES_READ = 2000,
};

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

cof_code near_keys(struct call *call, const struct lookup *lookup, Coffer__V1__ReferenceFault *fault)
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

/* --- Names of secrets and environments --------------------------------------------------------------------------- */

/* The names of the environment's secrets, or of the workspace's environments, this one first. */
static cof_code read_names(struct call *call, const struct plan *plan, const char *environment, statement id,
                           struct rows **ret_rows)
{
    const struct param params[] = {
        param_uuid(&plan->workspace),
        param_text(cof_slice_text(environment)),
        param_i64(NEAR_NAMES_READ),
    };
    TRY(call_needs_database(call));
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
    return COF_OK;
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

cof_code near_names(struct call *call, const struct plan *plan, Coffer__V1__ResolveResult *result)
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
