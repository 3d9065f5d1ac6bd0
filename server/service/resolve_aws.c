#include "server/service/resolve_aws.h"

#include <inttypes.h>

#include "common/encode.h"
#include "server/crypto/crypto.h"
#include "server/service/flights.h"
#include "server/service/guard.h"
#include "server/service/resolve_need.h"
#include "server/service/text.h"
#include "server/service/write.h"

enum {
    PENDING_MS = 200, /* after which a pending result is worth asking for again */
    LATER_MS = 1000,
};

/* --- Opened secrets ------------------------------------------------------------------------------------------- */

static void read_stored(struct found *found, struct aws_stored *stored)
{
    for (size_t i = 0; i < found->values.count; i++) {
        struct value *value = &found->values.items[i];
        const aws_key key = aws_key_of(value->key);
        if (key != AWS_KEYS) {
            value->bytes = aws_trimmed(value->bytes);
            stored->values[key] = value->bytes;
        }
    }
}

cof_code aws_open(struct call *call, struct found *found)
{
    const aws_kind kind = aws_kind_of(found->row.name);
    if (kind == AWS_KIND_NONE) {
        return COF_OK;
    }
    struct aws_secret *secret = cof_arena_alloc(call->arena, sizeof *secret);
    if (secret == NULL) {
        return cof_arena_exhausted(call->err);
    }
    secret->kind = kind;
    read_stored(found, &secret->stored);
    secret->mode = aws_mode_of(&secret->stored);
    found->aws = secret;
    return COF_OK;
}

/* --- A role's session ----------------------------------------------------------------------------------------- */

/* One role that is needed. */
struct role {
    struct call *call;
    struct plan *plan;
    struct cof_slice environment;
    const struct found *found;
    struct aws_secret *secret;
    struct roles_order order;
};

static struct cof_slice field(const char *text)
{
    return cof_slice_text(text == NULL ? "" : text);
}

static struct cof_slice run_id(const struct role *role)
{
    const Coffer__V1__RunContext *run = role->plan->item->run;
    return field(run == NULL ? NULL : run->run_id);
}

static struct cof_slice workflow_id(const struct role *role)
{
    const Coffer__V1__RunContext *run = role->plan->item->run;
    return field(run == NULL ? NULL : run->workflow_id);
}

/* Why there is no session, as the outcome of what needs it. */
static cof_code no_session(struct role *role, cof_reason reason, const char *message, uint32_t retry_ms)
{
    role->secret->state = outcome_of_reason(reason);
    role->secret->retry_ms = retry_ms;
    role->secret->problem =
        cof_arena_format(role->call->arena, "the secret \"%.*s\" in the environment \"%.*s\": %s",
                         (int) role->found->row.name.len, (const char *) role->found->row.name.data,
                         (int) role->environment.len, (const char *) role->environment.data, message);
    return role->secret->problem == NULL ? cof_arena_exhausted(role->call->err) : COF_OK;
}

static const aws_key temporary_keys[AWS_TEMPORARY] = {AWS_KEY_ACCESS_KEY_ID, AWS_KEY_SECRET_ACCESS_KEY,
                                                      AWS_KEY_SESSION_TOKEN};

static void set_session(struct aws_secret *secret, const struct aws_credentials *credentials)
{
    const struct cof_slice values[AWS_TEMPORARY] = {credentials->access_key_id, credentials->secret_access_key,
                                                    credentials->session_token};
    for (size_t i = 0; i < AWS_TEMPORARY; i++) {
        secret->temporary[i] =
            (struct value){.key = cof_slice_text(aws_key_name(temporary_keys[i])), .bytes = values[i]};
    }
    secret->state = OUTCOME(RESOLVED);
    secret->expire_us = credentials->expire_us;
}

/* Stands in for values in a check, which hands out none. */
static void set_checked(struct aws_secret *secret)
{
    const struct cof_slice value = cof_slice_text("checked");
    set_session(secret, &(struct aws_credentials){value, value, value, 0});
}

static cof_code hash_part(struct crypto_hash *hash, struct cof_slice part, struct cof_error *err)
{
    uint8_t length[4];
    cof_put_u32(length, (uint32_t) part.len);
    TRY(crypto_hash_add(hash, cof_slice_of(length, sizeof length), err));
    return crypto_hash_add(hash, part, err);
}

/* Everything that makes one session another one. */
static cof_code make_key(struct role *role)
{
    AUTO(crypto_hash_cleanup) struct crypto_hash *hash = NULL;
    struct cof_error *err = role->call->err;
    const struct sts_role *asked = &role->order.role;
    const bool tagged = asked->tag_count > 0;
    uint8_t numbers[8 + 4 + 1];
    cof_put_u64(numbers, (uint64_t) role->found->row.version);
    cof_put_u32(numbers + 8, asked->duration_s);
    numbers[12] = tagged;
    const struct cof_slice parts[] = {
        cof_slice_text("aws-role"),
        cof_slice_of(role->plan->workspace.bytes, sizeof role->plan->workspace.bytes),
        role->environment,
        cof_slice_of(role->found->row.secret_id.bytes, sizeof role->found->row.secret_id.bytes),
        cof_slice_of(numbers, sizeof numbers),
        run_id(role),
        asked->policy,
        tagged ? workflow_id(role) : field(NULL),
    };
    TRY(crypto_hash_new(&hash, err));
    for (size_t i = 0; i < COF_COUNT(parts); i++) {
        TRY(hash_part(hash, parts[i], err));
    }
    return crypto_hash_end(hash, role->order.key, err);
}

static void add_tag(struct sts_role *asked, const char *key, struct cof_slice value)
{
    asked->tags[asked->tag_count++] = (struct sts_tag){key, value};
}

static cof_code add_tags(struct role *role)
{
    struct sts_role *asked = &role->order.role;
    if (!role->found->session_tags) {
        return COF_OK;
    }
    char *workspace = text_of_uuid(role->call->arena, &role->plan->workspace);
    if (workspace == NULL) {
        return cof_arena_exhausted(role->call->err);
    }
    add_tag(asked, "coffer:workspace", cof_slice_text(workspace));
    add_tag(asked, "coffer:environment", role->environment);
    add_tag(asked, "coffer:workflow", workflow_id(role));
    add_tag(asked, "coffer:run", run_id(role));
    return COF_OK;
}

cof_code aws_order_of(struct call *call, const struct aws_stored *stored, struct roles_order *ret_order)
{
    struct aws_arn arn;
    *ret_order = (struct roles_order){.role = {.arn = stored->values[AWS_KEY_ROLE_ARN]}};
    TRY(aws_role_arn_read(stored->values[AWS_KEY_ROLE_ARN], &arn, call->err));
    return aws_place_of(arn.partition, stored->values[AWS_KEY_REGION], &ret_order->place, call->err);
}

static cof_code make_order(struct role *role)
{
    struct call *call = role->call;
    const Coffer__V1__AwsSession *session = role->plan->item->aws_session;
    char *name = cof_arena_alloc(call->arena, STS_SESSION_NAME);
    struct sts_role *asked = &role->order.role;
    if (name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(sts_session_name(&role->plan->workspace, run_id(role), name, call->err));
    asked->session_name = cof_slice_text(name);
    asked->policy = field(session == NULL ? NULL : session->policy);
    asked->duration_s = session == NULL || session->duration_seconds == 0
                            ? roles_options_of(call->service->roles)->duration_s
                            : session->duration_seconds;
    role->order.owner = (struct sessions_owner){role->plan->workspace, role->found->row.secret_id};
    TRY(add_tags(role));
    return make_key(role);
}

cof_code aws_external_id(struct call *call, const struct cof_uuid *workspace, struct cof_slice *ret_id)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct workspace_row row;
    const struct param params[] = {param_uuid(workspace)};
    TRY(call_needs_database(call));
    TRY(guard_load_keys(call, workspace));
    TRY(session_queue(call->session, STATEMENT_WORKSPACE_GET, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace");
    }
    TRY(row_read(&workspace_row_type, rows, 0, 0, call->arena, &row, call->err));
    TRY(guard_check_row(call, &workspace_row_type, workspace, &row));
    char *text = text_of(call->arena, row.external_id);
    *ret_id = field(text);
    return text == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* A session must never be asked for without an External ID: any role that demands none would be given. */
static cof_code fill_external_id(struct role *role)
{
    TRY(aws_external_id(role->call, &role->plan->workspace, &role->order.role.external_id));
    return role->order.role.external_id.len > 0
               ? COF_OK
               : cof_fail(role->call->err, COF_REASON_CORRUPTED, "the workspace has no External ID");
}

static cof_code take(struct role *role, const struct sessions_result *result)
{
    if (result->found == SESSIONS_FAILURE) {
        return no_session(role, result->failure.reason, result->failure.message, result->failure.retry_ms);
    }
    set_session(role->secret, &result->credentials);
    return COF_OK;
}

static cof_code find_session(struct role *role, struct sessions_result *ret_result)
{
    return sessions_find(roles_sessions(role->call->service->roles), role->order.key, role->call->arena, ret_result,
                         role->call->err);
}

/* The flight is this call's to fly, unless it has landed since the cache was looked at. */
static cof_code fly(struct role *role, const struct flight_key *key, struct sessions_result *ret_result)
{
    struct call *call = role->call;
    cof_code code = find_session(role, ret_result);
    if (code == COF_OK && ret_result->found == SESSIONS_NOTHING) {
        code = roles_fly(call->service->roles, &role->order, call->arena, call->err);
        if (code == COF_OK) {
            return COF_OK;
        }
    }
    flights_land(call->service->flights, key);
    return code;
}

/* Waits, as the call may, until the session is there. */
static cof_code pend(struct role *role, const struct flight *flight)
{
    struct call *call = role->call;
    struct plan *plan = role->plan;
    if (!plan->item->allow_pending && !call_may_wait(call, call_wait_end(call, plan_deadline(call, plan)))) {
        return no_session(role, COF_REASON_AWS_UNAVAILABLE, "AWS STS has not answered yet; repeat the call",
                          LATER_MS);
    }
    role->secret->state = OUTCOME(PENDING);
    role->secret->retry_ms = PENDING_MS;
    plan->waits = plan->waits || !plan->item->allow_pending;
    plan->cause = CALL_WAIT_ROLE;
    plan->flight = *flight;
    return COF_OK;
}

static cof_code group_of(const struct role *role, struct flight_group *ret_group)
{
    uint8_t digest[CRYPTO_DIGEST];
    TRY(crypto_sha256(role->order.role.arn, digest, role->call->err));
    memcpy(ret_group->bytes, digest, sizeof ret_group->bytes);
    return COF_OK;
}

static cof_code begin_flight(struct role *role)
{
    struct call *call = role->call;
    struct sessions_result result = {.found = SESSIONS_NOTHING};
    struct flight flight;
    memcpy(flight.key.bytes, role->order.key, sizeof flight.key.bytes);
    TRY(group_of(role, &flight.group));
    TRY(fill_external_id(role));
    const flight_start start = flights_begin(call->service->flights, &flight.key);
    if (start == FLIGHT_FULL) {
        return no_session(role, COF_REASON_AWS_UNAVAILABLE,
                          "this server waits for too many things; repeat the call", LATER_MS);
    }
    if (start == FLIGHT_BEGUN) {
        TRY(fly(role, &flight.key, &result));
    }
    return result.found == SESSIONS_NOTHING ? pend(role, &flight) : take(role, &result);
}

/* Without the database there is no External ID. One that is only tried from memory begins anew on a worker. */
static cof_code need_session(struct role *role)
{
    struct call *call = role->call;
    struct sessions_result result;
    TRY(make_order(role));
    TRY(find_session(role, &result));
    if (result.found != SESSIONS_NOTHING) {
        return take(role, &result);
    }
    if (call->session == NULL && call->lost && !call->hurried) {
        return no_session(role, COF_REASON_DATABASE_UNAVAILABLE, "the database cannot be reached; repeat the call",
                          LATER_MS);
    }
    TRY(call_needs_database(call));
    return begin_flight(role);
}

/* Once for each secret in each environment. */
static cof_code ask_for_session(struct call *call, struct plan *plan, struct cof_slice environment,
                                const struct found *found)
{
    struct role role = {
        .call = call, .plan = plan, .environment = environment, .found = found, .secret = found->aws};
    if (found->aws->asked) {
        return COF_OK;
    }
    /* A preflight goes through many results in memory that it uses again: it keeps nothing here. */
    found->aws->asked = !plan->check_only;
    if (aws_order_of(call, &found->aws->stored, &role.order) != COF_OK) {
        return no_session(&role, call->err->reason, call->err->message, 0);
    }
    if (plan->check_only) {
        set_checked(found->aws);
        return COF_OK;
    }
    if (!roles_are_assumed(call->service->roles)) {
        return no_session(&role, COF_REASON_NOT_AVAILABLE, "this server assumes no roles", 0);
    }
    return need_session(&role);
}

/* --- Keys ----------------------------------------------------------------------------------------------------- */

static bool is_declared(uint8_t needs)
{
    return (needs & (NEED_KEY_OPTIONAL | NEED_KEY_FILLED)) != 0;
}

static void take_state(struct lookup *lookup)
{
    const struct aws_secret *secret = lookup->found->aws;
    lookup->outcome = secret->state;
    lookup->problem = secret->problem;
    lookup->retry_ms = secret->retry_ms;
}

static cof_code find_temporary(struct call *call, struct plan *plan, struct cof_slice environment, aws_key key,
                               struct lookup *lookup)
{
    const struct aws_secret *secret = lookup->found->aws;
    TRY(ask_for_session(call, plan, environment, lookup->found));
    take_state(lookup);
    if (lookup->outcome == OUTCOME(RESOLVED)) {
        lookup->value = &secret->temporary[key - AWS_KEY_ACCESS_KEY_ID];
    }
    return COF_OK;
}

/* Whoever declares the role needs its session, and is satisfied by it. */
static cof_code find_role(struct call *call, struct plan *plan, struct cof_slice environment, struct lookup *lookup)
{
    TRY(ask_for_session(call, plan, environment, lookup->found));
    take_state(lookup);
    if (lookup->outcome == OUTCOME(RESOLVED)) {
        lookup->outcome = OUTCOME(ABSENT);
        lookup->satisfied = true;
    }
    return COF_OK;
}

static cof_code withhold(struct call *call, struct lookup *lookup)
{
    const struct aws_secret *secret = lookup->found->aws;
    const char *why = secret->mode == AWS_MODE_ROLE
                          ? "since the secret has a role; use AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
                            "AWS_SESSION_TOKEN, which are those of its session"
                          : "since the secret has a profile, which comes before it; use AWS_PROFILE";
    lookup->outcome = OUTCOME(KEY_NOT_FOUND);
    if (aws_key_of(lookup->key) == AWS_KEY_ROLE_SESSION_NAME) {
        why = "since Coffer names the sessions of roles itself; do without it";
    }
    lookup->problem = cof_arena_format(call->arena, "the key \"%s\" of the secret \"%s\" is not handed out, %s",
                                       lookup->reference->key, lookup->reference->name, why);
    return lookup->problem == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static void find_stored(struct lookup *lookup)
{
    lookup->value = values_find(&lookup->found->values, lookup->key);
    lookup->outcome = lookup->value == NULL ? OUTCOME(KEY_NOT_FOUND) : OUTCOME(RESOLVED);
}

cof_code aws_find(struct call *call, struct plan *plan, struct cof_slice environment, uint8_t needs,
                  struct lookup *lookup)
{
    const struct aws_secret *secret = lookup->found->aws;
    const aws_key key = aws_key_of(lookup->key);
    switch (aws_fate_of(secret->kind, &secret->stored, key)) {
    case AWS_FATE_STORED:
        find_stored(lookup);
        return COF_OK;
    case AWS_FATE_TEMPORARY:
        return find_temporary(call, plan, environment, key, lookup);
    case AWS_FATE_INCOMPLETE:
        lookup->outcome = OUTCOME(INCOMPLETE_AWS_KEYS);
        return COF_OK;
    case AWS_FATE_WITHHELD:
        break;
    }
    if (key == AWS_KEY_ROLE_ARN && secret->mode == AWS_MODE_ROLE && is_declared(needs)) {
        return find_role(call, plan, environment, lookup);
    }
    if (values_find(&lookup->found->values, lookup->key) == NULL) {
        lookup->outcome = OUTCOME(KEY_NOT_FOUND);
        return COF_OK;
    }
    return withhold(call, lookup);
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

static bool completes(const struct asked *asked, const struct lookup *lookups, size_t index)
{
    const struct lookup *lookup = &lookups[index];
    return asked->needs != NULL && is_declared(asked->needs[index]) && lookup->found != NULL &&
           lookup->found->aws != NULL && lookup->found->aws->mode == AWS_MODE_ROLE &&
           lookup->found->aws->state == OUTCOME(RESOLVED) && aws_stands_for_role(aws_key_of(lookup->key));
}

static bool completed(const struct lookup *lookups, size_t from, size_t to, const struct found *found)
{
    for (size_t i = from; i < to; i++) {
        if (lookups[i].found == found) {
            return true;
        }
    }
    return false;
}

static cof_code add_temporary(struct call *call, struct lookup *lookups, size_t origin, size_t *count)
{
    const struct lookup *from = &lookups[origin];
    for (size_t i = 0; i < AWS_TEMPORARY; i++) {
        const struct value *value = &from->found->aws->temporary[i];
        Coffer__V1__SecretReference *reference = cof_arena_alloc(call->arena, sizeof *reference);
        char *key = cof_arena_text(call->arena, value->key);
        if (reference == NULL || key == NULL) {
            return cof_arena_exhausted(call->err);
        }
        coffer__v1__secret_reference__init(reference);
        reference->name = from->reference->name;
        reference->key = key;
        lookups[(*count)++] = (struct lookup){.reference = reference,
                                              .name = from->name,
                                              .key = value->key,
                                              .outcome = OUTCOME(RESOLVED),
                                              .found = from->found,
                                              .value = value,
                                              .origin = origin};
    }
    return COF_OK;
}

cof_code aws_complete(struct call *call, const struct asked *asked, struct lookup *lookups, size_t *ret_count)
{
    size_t count = asked->count;
    for (size_t i = 0; i < asked->count; i++) {
        if (completes(asked, lookups, i) && !completed(lookups, asked->count, count, lookups[i].found)) {
            TRY(add_temporary(call, lookups, i, &count));
        }
    }
    *ret_count = count;
    return COF_OK;
}

static cof_code list_ignored(struct call *call, const struct aws_secret *aws, Coffer__V1__ResolvedSecret *secret)
{
    secret->ignored_keys = cof_arena_array(call->arena, AWS_KEYS, sizeof *secret->ignored_keys);
    if (secret->ignored_keys == NULL) {
        return cof_arena_exhausted(call->err);
    }
    static const aws_key sorted[] = {AWS_KEY_ACCESS_KEY_ID, AWS_KEY_PROFILE, AWS_KEY_ROLE_SESSION_NAME,
                                     AWS_KEY_SECRET_ACCESS_KEY, AWS_KEY_SESSION_TOKEN};
    for (size_t i = 0; i < COF_COUNT(sorted); i++) {
        if (aws_ignored(&aws->stored, sorted[i])) {
            char *name = cof_arena_text(call->arena, cof_slice_text(aws_key_name(sorted[i])));
            if (name == NULL) {
                return cof_arena_exhausted(call->err);
            }
            secret->ignored_keys[secret->n_ignored_keys++] = name;
        }
    }
    return COF_OK;
}

static Coffer__V1__AwsMode mode_message(aws_mode mode)
{
    switch (mode) {
    case AWS_MODE_DIRECT:
        return COFFER__V1__AWS_MODE__AWS_MODE_DIRECT;
    case AWS_MODE_PROFILE:
        return COFFER__V1__AWS_MODE__AWS_MODE_PROFILE;
    case AWS_MODE_ROLE:
        break;
    }
    return COFFER__V1__AWS_MODE__AWS_MODE_ROLE;
}

cof_code aws_describe(struct call *call, const struct found *found, Coffer__V1__ResolvedSecret *secret,
                      Coffer__V1__ResolveResult *result)
{
    const struct aws_secret *aws = found->aws;
    if (aws == NULL) {
        return COF_OK;
    }
    secret->aws_mode = mode_message(aws->mode);
    TRY(list_ignored(call, aws, secret));
    if (!aws->asked || aws->state != OUTCOME(RESOLVED)) {
        return COF_OK;
    }
    return lookup_expires(call, aws->expire_us, secret, result);
}

/* --- Eviction ------------------------------------------------------------------------------------------------- */

static bool is(const char *kind, const char *name)
{
    return strcmp(kind, name) == 0;
}

void aws_written(struct call *call, const struct write *write)
{
    struct roles *roles = call->service->roles;
    if (roles == NULL) {
        return;
    }
    for (size_t i = 0; i < write->object_count; i++) {
        const Coffer__Audit__V1__Object *object = write->objects[i];
        if (is(object->kind, "secret")) {
            sessions_evict(roles_sessions(roles), &write->workspace, &write->object_ids[i]);
        } else if (is(object->kind, "workspace") ||
                   (is(object->kind, "service_account") && object->metadata_version > 1)) {
            sessions_evict(roles_sessions(roles), &write->workspace, NULL);
        }
    }
}
