#include "server/service/resolve_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/name.h"
#include "server/service/action_row.h"
#include "server/service/consistency.h"
#include "server/service/guard.h"
#include "server/service/resolve_aws.h"
#include "server/service/resolve_wanted.h"
#include "server/service/workspace_state.h"

enum { ITEM_ID_MAX = 128, RUN_FIELD_MAX = 256, TRACEPARENT_MAX = 64 };

/* --- The request as a whole ----------------------------------------------------------------------------------- */

static cof_code too_many_in_item(struct call *call, size_t index, const char *what, size_t count, uint32_t limit)
{
    char field[COF_ERROR_FIELD_SIZE];
    (void) snprintf(field, sizeof field, "items[%zu].%s", index, what);
    return asked_too_many(call, field, what, count, limit);
}

static cof_code check_item_counts(struct call *call, const Coffer__V1__ResolveItem *item, size_t index,
                                  uint64_t *pairs)
{
    const struct service_limits *limits = &call->service->limits;
    const size_t references = asked_least(item);
    const size_t environments = item->n_environments == 0 ? 1 : item->n_environments;
    if (references > limits->references_per_item) {
        return too_many_in_item(call, index, "references", references, limits->references_per_item);
    }
    if (environments > limits->environments_per_item) {
        return too_many_in_item(call, index, "environments", environments, limits->environments_per_item);
    }
    *pairs += references * environments;
    return COF_OK;
}

cof_code plan_check_pairs(struct call *call, uint64_t pairs)
{
    const uint32_t limit = call->service->limits.pairs_per_resolve;
    return pairs > limit ? asked_too_many(call, "items", "references x environments", pairs, limit) : COF_OK;
}

static cof_code check_shared(struct call *call, const Coffer__V1__ResolveRequest *request)
{
    const uint32_t limit = call->service->limits.environments_per_item;
    if (request->n_environments > 0 && !request->validate_only) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "environments",
                              "environments is for a request with validate_only; name them in the items");
    }
    return request->n_environments > limit
               ? asked_too_many(call, "environments", "environments", request->n_environments, limit)
               : COF_OK;
}

cof_code plan_check_request(struct call *call, const Coffer__V1__ResolveRequest *request)
{
    const struct service_limits *limits = &call->service->limits;
    uint64_t pairs = 0;
    TRY(check_shared(call, request));
    if (request->n_items == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "items", "items is empty; ask for something");
    }
    if (request->n_items > limits->items_per_resolve) {
        return asked_too_many(call, "items", "items", request->n_items, limits->items_per_resolve);
    }
    for (size_t i = 0; i < request->n_items; i++) {
        TRY(check_item_counts(call, request->items[i], i, &pairs));
    }
    return request->validate_only ? COF_OK : plan_check_pairs(call, pairs);
}

/* --- One item ------------------------------------------------------------------------------------------------- */

int64_t plan_deadline(const struct call *call, const struct plan *plan)
{
    const int64_t deadline = call->received_us + (int64_t) plan->item->timeout_ms * 1000;
    return plan->item->timeout_ms != 0 && deadline < call->deadline_us ? deadline : call->deadline_us;
}

bool plan_out_of_time(const struct call *call, const struct plan *plan)
{
    return cof_clock_monotonic(call->service->clock) >= plan_deadline(call, plan);
}

cof_code plan_fail(struct call *call, struct plan *plan)
{
    plan->failed = outcome_of_reason(call->err->reason);
    plan->failed_message = cof_arena_text(call->arena, cof_slice_text(call->err->message));
    if (plan->failed_message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return COF_OK;
}

static cof_code check_short(struct call *call, const char *field, const char *text, size_t limit)
{
    if (strlen(text) <= limit) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field, "%s has more than %zu bytes", field, limit);
}

static cof_code check_oauth(struct call *call, const Coffer__V1__ResolveItem *item)
{
    char field[COF_ERROR_FIELD_SIZE / 2];
    for (size_t i = 0; i < item->n_oauth_declarations; i++) {
        (void) snprintf(field, sizeof field, "oauth_declarations[%zu]", i);
        TRY(action_check_oauth(call, item->oauth_declarations[i], field));
    }
    return COF_OK;
}

static cof_code check_action(struct call *call, const Coffer__V1__ResolveItem *item)
{
    if (item->action[0] != '\0') {
        return cof_name_check(COF_NAME_ACTION, cof_slice_text(item->action), "action", call->err);
    }
    return asked_least(item) > 0
               ? COF_OK
               : cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "references",
                                "references, expressions, declarations and action are empty; name what is needed");
}

static cof_code check_aws_session(struct call *call, const Coffer__V1__AwsSession *session)
{
    const uint32_t seconds = session == NULL ? 0 : session->duration_seconds;
    if (seconds != 0 && (seconds < STS_DURATION_LEAST_S || seconds > STS_DURATION_MOST_S)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "aws_session.duration_seconds",
                              "aws_session.duration_seconds is %u; a session lasts %d to %d seconds", seconds,
                              STS_DURATION_LEAST_S, STS_DURATION_MOST_S);
    }
    return session == NULL ? COF_OK : check_short(call, "aws_session.policy", session->policy, STS_POLICY_MAX);
}

static cof_code check_fields(struct call *call, const Coffer__V1__ResolveItem *item)
{
    TRY(check_short(call, "id", item->id, ITEM_ID_MAX));
    TRY(check_short(call, "traceparent", item->traceparent, TRACEPARENT_MAX));
    if (item->run != NULL) {
        TRY(check_short(call, "run.workflow_id", item->run->workflow_id, RUN_FIELD_MAX));
        TRY(check_short(call, "run.run_id", item->run->run_id, RUN_FIELD_MAX));
        TRY(check_short(call, "run.action", item->run->action, RUN_FIELD_MAX));
    }
    TRY(check_oauth(call, item));
    TRY(check_aws_session(call, item->aws_session));
    return check_action(call, item);
}

cof_code plan_environments(struct call *call, char *const *names, size_t count, struct plan *plan)
{
    plan->environment_count = count == 0 ? 1 : count;
    plan->environments = cof_arena_array(call->arena, plan->environment_count, sizeof *plan->environments);
    if (plan->environments == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < plan->environment_count; i++) {
        const bool named = i < count && names[i][0] != '\0';
        plan->environments[i] = cof_slice_text(named ? names[i] : COF_DEFAULT_ENVIRONMENT);
    }
    return COF_OK;
}

cof_code plan_check_environments(struct call *call, const struct plan *plan)
{
    for (size_t i = 0; i < plan->environment_count; i++) {
        char field[COF_ERROR_FIELD_SIZE];
        if (!cof_name_valid(COF_NAME_ENVIRONMENT, plan->environments[i])) {
            (void) snprintf(field, sizeof field, "environments[%zu]", i);
            return cof_name_check(COF_NAME_ENVIRONMENT, plan->environments[i], field, call->err);
        }
    }
    return COF_OK;
}

static cof_code check_item(struct call *call, struct plan *plan)
{
    TRY(check_fields(call, plan->item));
    TRY(plan_check_environments(call, plan));
    TRY(authorize_stateless(call, plan->item->workspace, COF_PERMISSION_RESOLVE, &plan->workspace));
    TRY(authorize_run(call, plan->item->run));
    return consistency_parse(call->service, plan->item->consistency_token, &plan->min_revision, call->err);
}

/* A caller who was kept is not older than what he asks for, where that is of his own workspace. */
static cof_code check_age(struct call *call, struct plan *plan)
{
    const struct caller *before = call->caller;
    TRY(caller_at_least(call, &plan->workspace, plan->min_revision));
    return before == call->caller || check_item(call, plan) == COF_OK ? COF_OK : plan_fail(call, plan);
}

cof_code plan_item(struct call *call, const Coffer__V1__ResolveItem *item, uint32_t index,
                   const struct plan *shared, struct plan *ret_plan)
{
    *ret_plan = (struct plan){
        .item = item,
        .index = index,
        .environments = shared->environments,
        .environment_count = shared->environment_count,
        .failed = OUTCOME(RESOLVED),
    };
    if (item->n_environments > 0) {
        TRY(plan_environments(call, item->environments, item->n_environments, ret_plan));
    }
    if (item->action[0] == '\0') {
        TRY(asked_read(call, item, index, NULL, &ret_plan->asked));
    }
    return check_item(call, ret_plan) == COF_OK ? check_age(call, ret_plan) : plan_fail(call, ret_plan);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b)
{
    return cof_slice_compare(*(const struct cof_slice *) a, *(const struct cof_slice *) b);
}

static bool in_order(const struct cof_slice *items, size_t count)
{
    size_t i = 1;
    while (i < count && cof_slice_compare(items[i - 1], items[i]) <= 0) {
        i++;
    }
    return i >= count;
}

static size_t sort_unique(struct cof_slice *items, size_t count)
{
    size_t kept = 0;
    if (!in_order(items, count)) {
        qsort(items, count, sizeof *items, by_bytes);
    }
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || !cof_slice_equal(items[kept - 1], items[i])) {
            items[kept++] = items[i];
        }
    }
    return kept;
}

/* Texts, each once. */
struct distinct {
    struct cof_slice *items;
    size_t count;
};

static cof_code distinct_environments(struct call *call, const struct plan *plan, struct distinct *ret_distinct)
{
    struct cof_slice *items = cof_arena_array(call->arena, plan->environment_count, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    memcpy(items, plan->environments, plan->environment_count * sizeof *items);
    *ret_distinct = (struct distinct){items, sort_unique(items, plan->environment_count)};
    return COF_OK;
}

/* Where nothing is asked for, as by expressions without references, the state is read with a name that is none. Names of
 * OAuth connections are names of no secret. */
static cof_code distinct_names(struct call *call, const struct asked *asked, struct distinct *ret_distinct)
{
    size_t count = 0;
    struct cof_slice *items = cof_arena_array(call->arena, asked->count + 1, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < asked->count; i++) {
        const struct cof_slice name = cof_slice_text(asked->references[i]->name);
        if (!cof_name_reserved(name)) {
            items[count++] = name;
        }
    }
    if (count == 0) {
        items[count++] = cof_slice_text("");
    }
    *ret_distinct = (struct distinct){items, sort_unique(items, count)};
    return COF_OK;
}

cof_code plan_names(struct call *call, const struct plan *plan, struct cof_slice **ret_names, size_t *ret_count)
{
    struct distinct names;
    TRY(distinct_names(call, &plan->asked, &names));
    *ret_names = names.items;
    *ret_count = names.count;
    return COF_OK;
}

cof_code plan_addresses(struct call *call, const struct plan *plan, struct secret_addresses *ret_addresses)
{
    struct distinct environments = {0};
    struct distinct names = {0};
    TRY(distinct_environments(call, plan, &environments));
    TRY(distinct_names(call, &plan->asked, &names));
    TRY(secret_addresses_new(call->arena, environments.count * names.count, ret_addresses, call->err));
    for (size_t i = 0; i < environments.count; i++) {
        for (size_t k = 0; k < names.count; k++) {
            secret_addresses_add(ret_addresses, environments.items[i], names.items[k]);
        }
    }
    return COF_OK;
}

/* The addresses are sorted, so what is found is. */
static cof_code take_recalled(struct call *call, struct plan *plan)
{
    plan->found = cof_arena_array(call->arena, plan->recalled.count, sizeof *plan->found);
    if (plan->found == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < plan->recalled.count; i++) {
        const struct secret_kept *kept = secrets_recalled_at(&plan->recalled, i);
        if (kept->exists) {
            plan->found[plan->found_count++] =
                (struct found){.row = kept->row, .kept = kept, .session_tags = kept->session_tags};
        }
    }
    plan->revision = plan->recalled.revision;
    plan->older_us = plan->recalled.older_us;
    plan->taken = true;
    return COF_OK;
}

cof_code plan_recall_these(struct call *call, struct plan *plan, const struct secret_addresses *addresses)
{
    if (call->service->cache == NULL ||
        !secrets_recall(call, &plan->workspace, addresses, plan->min_revision, &plan->recalled)) {
        return COF_OK;
    }
    return take_recalled(call, plan);
}

cof_code plan_recall(struct call *call, struct plan *plan)
{
    struct secret_addresses addresses;
    if (call->service->cache == NULL) {
        return COF_OK;
    }
    TRY(plan_addresses(call, plan, &addresses));
    return plan_recall_these(call, plan, &addresses);
}

void plan_done(struct plan *plan)
{
    rows_free(plan->read.rows);
    secrets_release(&plan->recalled);
    wanted_done(plan->connections);
}

cof_code plan_queue_these(struct call *call, struct plan *plan, const struct secret_addresses *addresses)
{
    TRY(call_needs_database(call));
    plan->read.begun = secret_read_begin(call->service, &plan->workspace);
    TRY(secret_read_queue(call->session, &plan->workspace, addresses, call->arena, call->err));
    plan->read.count = addresses->count;
    plan->queued = true;
    return COF_OK;
}

cof_code plan_queue(struct call *call, struct plan *plan)
{
    struct secret_addresses addresses;
    TRY(call_needs_database(call));
    TRY(plan_addresses(call, plan, &addresses));
    return plan_queue_these(call, plan, &addresses);
}

static int by_place(const struct found *found, struct cof_slice environment, struct cof_slice name)
{
    const int order = cof_slice_compare(environment, found->row.environment);
    return order != 0 ? order : cof_slice_compare(name, found->row.name);
}

static int by_address(const void *a, const void *b)
{
    const struct found *left = a;
    return -by_place(left, ((const struct found *) b)->row.environment, ((const struct found *) b)->row.name);
}

static struct cof_slice bytes_or_none(const struct rows *rows, size_t row, size_t column)
{
    return rows_null(rows, row, column) ? (struct cof_slice){NULL, 0} : rows_bytes(rows, row, column);
}

static cof_code take_row(struct call *call, struct plan *plan, size_t index)
{
    const struct rows *rows = plan->read.rows;
    const size_t keys = SECRET_READ_SECRET + secret_row_type.count;
    struct found *found = &plan->found[plan->found_count];
    TRY(row_read(&secret_row_type, rows, index, SECRET_READ_SECRET, call->arena, &found->row, call->err));
    found->session_tags = secret_has_session_tags(&found->row);
    found->sealed.keys = bytes_or_none(rows, index, keys);
    found->sealed.blob = bytes_or_none(rows, index, keys + 1);
    plan->found_count++;
    return COF_OK;
}

cof_code plan_not_reached(struct call *call)
{
    return cof_fail(call->err, COF_REASON_CONSISTENCY_NOT_REACHED, "%s; %s",
                    cof_reason_meaning(COF_REASON_CONSISTENCY_NOT_REACHED),
                    cof_reason_next_step(COF_REASON_CONSISTENCY_NOT_REACHED));
}

static cof_code check_revision(struct call *call, struct plan *plan)
{
    if (rows_count(plan->read.rows) == 0) {
        return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                        cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
    }
    plan->revision = (uint64_t) rows_i64(plan->read.rows, 0, SECRET_READ_REVISION);
    TRY(guard_check_revision(call, &plan->read.begun, plan->revision));
    plan->keeps =
        call->service->keeps_secrets && call->service->cache != NULL &&
        cache_read_end(call->service->cache, &plan->workspace, &plan->read.begun, plan->revision, &plan->state);
    return plan->revision < plan->min_revision ? plan_not_reached(call) : COF_OK;
}

/* The statement reads the workspace's state behind everything else. */
static cof_code check_state(struct call *call, const struct plan *plan)
{
    struct workspace_state_row state;
    const size_t first = SECRET_READ_SECRET + secret_row_type.count + 2;
    TRY(workspace_state_take(call, &plan->workspace, plan->read.rows, 0, first, &state));
    if (plan->keeps && state.serve_lost_ms > 0) {
        cache_permit_older(call->service->cache, &plan->workspace, &plan->state, (uint32_t) state.serve_lost_ms);
    }
    return workspace_state_permits(call, call->caller->kind, &state);
}

static size_t count_found(const struct secret_read *read, struct secret_read_range range)
{
    size_t count = 0;
    for (size_t i = range.first; i < range.end; i++) {
        count += secret_read_has(read, i);
    }
    return count;
}

cof_code plan_take(struct call *call, struct plan *plan)
{
    TRY(check_revision(call, plan));
    TRY(check_state(call, plan));
    const struct secret_read_range range = secret_read_range(&plan->read);
    plan->found = cof_arena_array(call->arena, count_found(&plan->read, range), sizeof *plan->found);
    if (plan->found == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = range.first; i < range.end; i++) {
        if (secret_read_has(&plan->read, i)) {
            TRY(take_row(call, plan, i));
        }
    }
    if (plan->found_count > 1) {
        qsort(plan->found, plan->found_count, sizeof *plan->found, by_address);
    }
    return COF_OK;
}

static bool expired(const struct call *call, const struct secret_row *row)
{
    return row->block_when_expired && row->expire_time != ROW_NO_TIME && row->expire_time <= call_now(call);
}

static cof_code check_found(struct call *call, const struct found *found)
{
    return found->kept != NULL ? COF_OK
                               : guard_check_row(call, &secret_row_type, &found->row.workspace_id, &found->row);
}

static cof_code open_values(struct call *call, struct found *found)
{
    return found->kept != NULL ? values_open_kept(call, &found->row, found->kept->sealed, &found->values)
                               : values_open(call, &found->row, &found->sealed, &found->values);
}

static cof_code open_found(struct call *call, const struct plan *plan, struct found *found)
{
    cof_code code = check_found(call, found);
    if (code == COF_OK && expired(call, &found->row)) {
        found->state = OUTCOME(SECRET_EXPIRED);
        found->opened = true;
        return COF_OK;
    }
    if (code == COF_OK) {
        code = open_values(call, found);
    }
    if (code != COF_OK && code != COF_DATA_LOSS) {
        return code;
    }
    found->state = code == COF_OK ? OUTCOME(RESOLVED) : OUTCOME(CORRUPTED);
    found->opened = true;
    if (code == COF_OK && plan->keeps) {
        secret_keep(call, &plan->state, &found->row, &found->values);
    }
    return code == COF_OK ? aws_open(call, found) : COF_OK;
}

cof_code plan_find(struct call *call, struct plan *plan, struct cof_slice environment, struct cof_slice name,
                   struct found **ret_found)
{
    size_t low = 0;
    size_t high = plan->found_count;
    *ret_found = NULL;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = by_place(&plan->found[middle], environment, name);
        if (order == 0) {
            *ret_found = &plan->found[middle];
            return plan->found[middle].opened ? COF_OK : open_found(call, plan, &plan->found[middle]);
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (plan->keeps) {
        secret_keep_absence(call->service, &plan->state, &plan->workspace, environment, name);
    }
    return COF_OK;
}
