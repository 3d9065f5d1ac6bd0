#include "server/service/resolve_lookup.h"

#include "common/name.h"
#include "server/service/resolve_aws.h"
#include "server/service/resolve_need.h"
#include "server/service/resolve_oauth.h"
#include "server/service/text.h"

static cof_code check_names(struct call *call, struct lookup *lookup, uint8_t needs)
{
    struct cof_error problem;
    const bool has_key = (needs & NEED_SECRET_ONLY) == 0;
    if (cof_name_valid(COF_NAME_SECRET, lookup->name) && (!has_key || cof_name_valid(COF_NAME_KEY, lookup->key))) {
        return COF_OK;
    }
    if (cof_name_check(COF_NAME_SECRET, lookup->name, "name", &problem) == COF_OK) {
        cof_ignore(cof_name_check(COF_NAME_KEY, lookup->key, "key", &problem));
    }
    lookup->outcome = OUTCOME(EXPRESSION_INVALID);
    lookup->problem = cof_arena_format(call->arena, "the reference cannot be resolved: %s", problem.message);
    return lookup->problem == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* The names are valid. */
static cof_code find_value(struct call *call, struct plan *plan, struct cof_slice environment,
                           struct lookup *lookup, uint8_t needs)
{
    if (!authorize_sees(call, &plan->workspace, environment, lookup->name, COF_PERMISSION_RESOLVE)) {
        lookup->outcome = OUTCOME(PERMISSION_DENIED);
        return COF_OK;
    }
    if (cof_name_reserved(lookup->name)) {
        return oauth_find(call, plan, environment, lookup);
    }
    TRY(plan_find(call, plan, environment, lookup->name, &lookup->found));
    if (lookup->found == NULL) {
        lookup->outcome = OUTCOME(SECRET_NOT_FOUND);
        return COF_OK;
    }
    lookup->outcome = lookup->found->state;
    if (lookup->outcome != OUTCOME(RESOLVED) || (needs & NEED_SECRET_ONLY) != 0) {
        return COF_OK;
    }
    if (lookup->found->aws != NULL) {
        return aws_find(call, plan, environment, needs, lookup);
    }
    lookup->value = values_find(&lookup->found->values, lookup->key);
    lookup->outcome = lookup->value == NULL ? OUTCOME(KEY_NOT_FOUND) : OUTCOME(RESOLVED);
    return COF_OK;
}

cof_code lookup_find(struct call *call, struct plan *plan, struct cof_slice environment, size_t index,
                     struct lookup *ret_lookup)
{
    const struct asked *asked = &plan->asked;
    const uint8_t needs = asked->needs == NULL ? 0 : asked->needs[index];
    const Coffer__V1__SecretReference *reference = asked->references[index];
    *ret_lookup = (struct lookup){
        .reference = reference,
        .name = cof_slice_text(reference->name),
        .key = cof_slice_text(reference->key),
        .outcome = OUTCOME(RESOLVED),
    };
    TRY(check_names(call, ret_lookup, needs));
    if (ret_lookup->outcome == OUTCOME(RESOLVED)) {
        TRY(find_value(call, plan, environment, ret_lookup, needs));
        need_apply(needs, ret_lookup);
    }
    return COF_OK;
}

static char *rare_message(struct call *call, const struct lookup *lookup, struct cof_slice environment)
{
    const cof_reason reason = outcome_reason(lookup->outcome);
    const bool about_key = lookup->outcome == OUTCOME(KEY_EMPTY);
    return cof_arena_format(call->arena, "the secret \"%s\"%s%s%s in the environment \"%.*s\": %s; %s",
                            lookup->reference->name, about_key ? ", key \"" : "",
                            about_key ? lookup->reference->key : "", about_key ? "\"," : "", (int) environment.len,
                            (const char *) environment.data, cof_reason_meaning(reason),
                            cof_reason_next_step(reason));
}

static char *message_of_outcome(struct call *call, const struct lookup *lookup, struct cof_slice environment)
{
    const char *next = cof_reason_next_step(outcome_reason(lookup->outcome));
    const int length = (int) environment.len;
    const char *where = (const char *) environment.data;
    const char *name = lookup->reference->name;
    if (lookup->outcome == OUTCOME(KEY_NOT_FOUND)) {
        return cof_arena_format(call->arena, "the secret \"%s\" in the environment \"%.*s\" has no key \"%s\"; %s",
                                name, length, where, lookup->reference->key, next);
    }
    if (lookup->outcome == OUTCOME(SECRET_NOT_FOUND)) {
        return cof_arena_format(call->arena, "there is no secret \"%s\" in the environment \"%.*s\"; %s", name,
                                length, where, next);
    }
    if (lookup->outcome == OUTCOME(CONNECTION_NOT_FOUND)) {
        return cof_arena_format(call->arena,
                                "there is no OAuth connection for \"%s\" in the environment \"%.*s\"; %s",
                                lookup->reference->key, length, where, next);
    }
    if (lookup->outcome == OUTCOME(PERMISSION_DENIED)) {
        return cof_arena_format(
            call->arena,
            "the token may not resolve the secret \"%s\" in the environment \"%.*s\", or it does "
            "not exist; ask for a grant of resolve",
            name, length, where);
    }
    return rare_message(call, lookup, environment);
}

char *lookup_message(struct call *call, const struct lookup *lookup, struct cof_slice environment)
{
    return lookup->problem != NULL ? lookup->problem : message_of_outcome(call, lookup, environment);
}

static bool is_earlier(int64_t time_us, const Google__Protobuf__Timestamp *than)
{
    return than == NULL || time_us / 1000000 < than->seconds;
}

cof_code lookup_expires(struct call *call, int64_t time_us, Coffer__V1__ResolvedSecret *secret,
                        Coffer__V1__ResolveResult *result)
{
    secret->expire_time = time_of(call->arena, time_us);
    if (secret->expire_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (is_earlier(time_us, result->expire_time)) {
        result->expire_time = secret->expire_time;
    }
    return COF_OK;
}
