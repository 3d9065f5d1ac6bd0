#include "server/service/resolve.h"

#include <assert.h>
#include <stdio.h>

#include "server/service/consistency.h"
#include "server/service/guard.h"
#include "server/service/resolve_action.h"
#include "server/service/resolve_check.h"
#include "server/service/resolve_plan.h"
#include "server/service/resolve_result.h"

enum {
    FRAME_ROOM = 4096, /* of an answer, for what is not a result */
    PREFETCH_REFERENCES = 64,
    SUGGEST_RESULTS = 16, /* results of one answer that get near misses */
    RESULT_HEADER = 8,    /* tag and length of a result in the answer */
};

/* One Resolve under way. */
struct work {
    struct call *call;
    const Coffer__V1__ResolveRequest *request;
    Coffer__V1__ResolveResponse *response;
    struct plan *plans;
    size_t plan_count;
    size_t bytes; /* of the results so far */
    size_t limit;
    uint32_t suggested;
};

static void free_plans(struct work *work)
{
    for (size_t i = 0; i < work->plan_count; i++) {
        plan_done(&work->plans[i]);
    }
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code make_plans(struct work *work)
{
    struct call *call = work->call;
    work->plans = cof_arena_array(call->arena, work->request->n_items, sizeof *work->plans);
    if (work->plans == NULL) {
        return cof_arena_exhausted(call->err);
    }
    struct plan shared = {0};
    TRY(plan_environments(call, work->request->environments, work->request->n_environments, &shared));
    for (size_t i = 0; i < work->request->n_items; i++) {
        TRY(plan_item(call, work->request->items[i], (uint32_t) i, &shared, &work->plans[i]));
        work->plans[i].check_only = work->request->validate_only;
        work->plan_count++;
    }
    return action_plans(call, work->plans, work->plan_count);
}

static bool item_failed(const struct plan *plan)
{
    return plan->failed != OUTCOME(RESOLVED);
}

static uint64_t pairs_of(const struct plan *plan)
{
    return (uint64_t) plan->asked.count * plan->environment_count;
}

/* What an action declares only the server knows, so an item with one that is too much for the request fails alone. */
static cof_code check_actions(const struct work *work, uint64_t pairs)
{
    for (size_t i = 0; i < work->plan_count; i++) {
        struct plan *plan = &work->plans[i];
        if (plan->item->action[0] == '\0' || item_failed(plan)) {
            continue;
        }
        if (plan_check_pairs(work->call, pairs + pairs_of(plan)) == COF_OK) {
            pairs += pairs_of(plan);
        } else {
            TRY(plan_fail(work->call, plan));
        }
    }
    return COF_OK;
}

/* References of expressions and actions are known only once these were read. */
static cof_code check_pairs(const struct work *work)
{
    uint64_t pairs = 0;
    for (size_t i = 0; i < work->plan_count; i++) {
        const struct plan *plan = &work->plans[i];
        pairs += plan->item->action[0] == '\0' ? pairs_of(plan) : 0;
    }
    TRY(plan_check_pairs(work->call, pairs));
    return check_actions(work, pairs);
}

/* While the database is lost, what is not kept fails alone. */
static cof_code queue_plan(struct call *call, struct plan *plan)
{
    if (call->lost && call_needs_database(call) != COF_OK) {
        return plan_fail(call, plan);
    }
    TRY(plan_queue(call, plan));
    return session_sync(call->session, call->err);
}

static cof_code queue_plans(struct work *work)
{
    for (size_t i = 0; i < work->plan_count; i++) {
        if (!item_failed(&work->plans[i]) && !work->plans[i].taken) {
            TRY(queue_plan(work->call, &work->plans[i]));
        }
    }
    return COF_OK;
}

/* One item's statement may fail alone. When the connection breaks all that are left fail, each as its own outcome.
 */
static cof_code collect_rows(struct work *work)
{
    struct call *call = work->call;
    for (size_t i = 0; i < work->plan_count; i++) {
        struct plan *plan = &work->plans[i];
        if (plan->queued && session_next(call->session, &plan->read.rows, call->err) != COF_OK) {
            TRY(plan_fail(call, plan));
        }
    }
    return COF_OK;
}

/* The keys last: those of a deleted workspace stay closed. */
static cof_code take(struct call *call, struct plan *plan)
{
    if (!plan->taken) {
        TRY(plan_take(call, plan));
    }
    return guard_load_keys(call, &plan->workspace);
}

static cof_code take_plans(struct work *work)
{
    struct call *call = work->call;
    for (size_t i = 0; i < work->plan_count; i++) {
        struct plan *plan = &work->plans[i];
        if (item_failed(plan)) {
            continue;
        }
        if (take(call, plan) != COF_OK) {
            TRY(plan_fail(call, plan));
        }
    }
    return COF_OK;
}

/* Another server may reach the database: clients go there if nothing at all can be answered here. */
static cof_code check_any(const struct work *work)
{
    for (size_t i = 0; i < work->plan_count; i++) {
        if (work->plans[i].failed != OUTCOME(STORE_UNAVAILABLE)) {
            return COF_OK;
        }
    }
    return call_needs_database(work->call);
}

static cof_code recall_plans(struct work *work)
{
    for (size_t i = 0; i < work->plan_count; i++) {
        if (!item_failed(&work->plans[i])) {
            TRY(plan_recall(work->call, &work->plans[i]));
        }
    }
    return COF_OK;
}

static cof_code read_all(struct work *work)
{
    struct call *call = work->call;
    if (call->prefetch.read.rows != NULL) {
        work->plans[0].read = call->prefetch.read;
        call->prefetch.read.rows = NULL;
        return take_plans(work);
    }
    TRY(recall_plans(work));
    TRY(queue_plans(work));
    TRY(collect_rows(work));
    TRY(take_plans(work));
    return call->lost ? check_any(work) : COF_OK;
}

/* --- Waiting -------------------------------------------------------------------------------------------------- */

/*
 * What a call waits for if some of its items ask for a revision that is not reached: that of the first such item's
 * workspace, until the most patient of them has to be answered, since one answer carries them all.
 */
static bool must_wait(struct work *work)
{
    struct call *call = work->call;
    struct call_wait wait = {.cause = CALL_WAIT_NONE};
    for (size_t i = 0; i < work->plan_count; i++) {
        const struct plan *plan = &work->plans[i];
        if (plan->failed != OUTCOME(CONSISTENCY_NOT_REACHED)) {
            continue;
        }
        if (wait.cause == CALL_WAIT_NONE) {
            wait = (struct call_wait){.cause = CALL_WAIT_REVISION, .workspace = plan->workspace};
        }
        const int64_t end = call_wait_end(call, plan_deadline(call, plan));
        wait.until_us = end > wait.until_us ? end : wait.until_us;
        if (plan->min_revision > wait.revision && cof_uuid_equal(&plan->workspace, &wait.workspace)) {
            wait.revision = plan->min_revision;
        }
    }
    if (wait.cause == CALL_WAIT_NONE || !call_may_wait(call, wait.until_us)) {
        return false;
    }
    call_wait_for_revision(call, &wait.workspace, wait.revision, wait.until_us);
    return true;
}

/*
 * The same for what is asked of the outside: the last flight of all that some item needs, since they take turns. What was
 * put together meanwhile is thrown away.
 */
static bool must_wait_for_flight(struct work *work)
{
    struct call *call = work->call;
    const struct plan *last = NULL;
    int64_t until_us = 0;
    for (size_t i = 0; i < work->plan_count; i++) {
        const struct plan *plan = &work->plans[i];
        const int64_t end = call_wait_end(call, plan_deadline(call, plan));
        last = plan->waits ? plan : last;
        until_us = plan->waits && end > until_us ? end : until_us;
    }
    if (last != NULL) {
        call_wait_for_flight(call, last->cause, &last->workspace, &last->flight, until_us);
    }
    return last != NULL;
}

/* --- Answering ------------------------------------------------------------------------------------------------ */

static cof_code plain(struct work *work, const struct plan *plan, size_t environment, outcome value,
                      Coffer__V1__ResolveResult **ret_result)
{
    const cof_reason reason = outcome_reason(value);
    char message[COF_ERROR_MESSAGE_SIZE];
    (void) snprintf(message, sizeof message, "%s; %s", cof_reason_meaning(reason), cof_reason_next_step(reason));
    return result_of_outcome(work->call, plan, environment, value, message, ret_result);
}

static cof_code deferred(struct work *work, const struct plan *plan, size_t environment,
                         Coffer__V1__ResolveResult **ret_result)
{
    return result_of_outcome(work->call, plan, environment, OUTCOME(DEFERRED),
                             "the answer has no room left for this result; ask for it again", ret_result);
}

static cof_code suggest(struct work *work, const struct building *building)
{
    const bool enough = work->suggested == SUGGEST_RESULTS || work->call->lost;
    if (building->result->status->code == COF_OK || enough) {
        return COF_OK;
    }
    work->suggested++;
    return result_suggest(building);
}

static cof_code build(struct work *work, struct plan *plan, size_t environment,
                      Coffer__V1__ResolveResult **ret_result)
{
    struct call *call = work->call;
    /* A request over more workspaces than the keyring holds has pushed out its own first keys by now. */
    if (!item_failed(plan) && guard_load_keys(call, &plan->workspace) != COF_OK) {
        TRY(plan_fail(call, plan));
    }
    if (item_failed(plan)) {
        return result_of_outcome(call, plan, environment, plan->failed, plan->failed_message, ret_result);
    }
    if (plan_out_of_time(call, plan)) {
        return plain(work, plan, environment, OUTCOME(DEADLINE_EXCEEDED), ret_result);
    }
    struct building building;
    TRY(result_build(call, plan, environment, !work->request->validate_only, &building));
    *ret_result = building.result;
    return suggest(work, &building);
}

static size_t size_of(const Coffer__V1__ResolveResult *result)
{
    return protobuf_c_message_get_packed_size(&result->base) + RESULT_HEADER;
}

/* A result that does not fit behind the others is asked for again; one that fits into no answer never is. */
static cof_code fit(struct work *work, struct plan *plan, size_t environment, Coffer__V1__ResolveResult **result)
{
    const size_t size = size_of(*result);
    if (work->bytes + size <= work->limit) {
        work->bytes += size;
        return COF_OK;
    }
    TRY(size > work->limit ? plain(work, plan, environment, OUTCOME(TOO_LARGE), result)
                           : deferred(work, plan, environment, result));
    work->bytes += size_of(*result);
    return COF_OK;
}

/* Memory that ends in the middle of an answer spoils no result that is there already. */
static cof_code answer_one(struct work *work, struct plan *plan, size_t environment)
{
    Coffer__V1__ResolveResult *result = NULL;
    const cof_code code = build(work, plan, environment, &result);
    if (code == COF_RESOURCE_EXHAUSTED && work->response->n_results > 0) {
        TRY(deferred(work, plan, environment, &result));
    } else {
        TRY(code);
    }
    TRY(fit(work, plan, environment, &result));
    work->response->results[work->response->n_results++] = result;
    return COF_OK;
}

static cof_code make_room(struct work *work)
{
    size_t results = 0;
    for (size_t i = 0; i < work->plan_count; i++) {
        results += work->plans[i].environment_count;
    }
    work->response->results = cof_arena_array(work->call->arena, results, sizeof *work->response->results);
    return work->response->results == NULL ? cof_arena_exhausted(work->call->err) : COF_OK;
}

static cof_code answer_values(struct work *work)
{
    for (size_t i = 0; i < work->plan_count; i++) {
        for (size_t k = 0; k < work->plans[i].environment_count; k++) {
            TRY(answer_one(work, &work->plans[i], k));
        }
    }
    return COF_OK;
}

/* --- Preflight ------------------------------------------------------------------------------------------------ */

/* A result that was written in the meantime fails no more. What the answer has no room for begins the next page. */
static cof_code show_one(struct work *work, struct plan *plan, size_t environment, bool *ret_full)
{
    Coffer__V1__ResolveResult *result = NULL;
    const cof_code code = build(work, plan, environment, &result);
    if (code == COF_RESOURCE_EXHAUSTED && work->response->n_results > 0) {
        cof_error_clear(work->call->err);
        *ret_full = true;
        return COF_OK;
    }
    TRY(code);
    if (result->status->code == COF_OK) {
        return COF_OK;
    }
    const size_t size = size_of(result);
    *ret_full = work->response->n_results > 0 && work->bytes + size > work->limit;
    if (*ret_full) {
        return COF_OK;
    }
    TRY(fit(work, plan, environment, &result));
    work->response->results[work->response->n_results++] = result;
    return COF_OK;
}

static cof_code show_all(struct work *work, const struct check *check, size_t *ret_shown)
{
    bool full = false;
    *ret_shown = 0;
    for (size_t i = 0; i < work->plan_count; i++) {
        for (size_t k = 0; k < work->plans[i].environment_count; k++) {
            TRY(show_one(work, &work->plans[i], k, &full));
            if (full) {
                return COF_OK;
            }
            (*ret_shown)++;
        }
    }
    assert(*ret_shown == check->count);
    return COF_OK;
}

/* Nobody waits for it on a thread that others wait for. */
static cof_code answer_check(struct work *work)
{
    struct call *call = work->call;
    struct check check = {0};
    size_t shown = 0;
    if (call->hurried) {
        return call_needs_database(call);
    }
    TRY(check_choose(call, work->request, work->plans, work->plan_count, &check));
    if (must_wait(work)) {
        return plan_not_reached(call);
    }
    TRY(call->lost ? check_any(work) : COF_OK);
    work->plans = check.plans;
    work->plan_count = check.plan_count;
    work->response->counts = check.counts;
    TRY(read_all(work));
    TRY(make_room(work));
    TRY(show_all(work, &check, &shown));
    if (shown < check.count) {
        return check_page(call, &check, check.positions[shown], &work->response->next_page_token);
    }
    return check.has_next ? check_page(call, &check, check.next, &work->response->next_page_token) : COF_OK;
}

/* --- The method ----------------------------------------------------------------------------------------------- */

static cof_code run(struct work *work)
{
    TRY(make_plans(work));
    if (work->request->validate_only) {
        return answer_check(work);
    }
    TRY(check_pairs(work));
    TRY(read_all(work));
    if (must_wait(work)) {
        return plan_not_reached(work->call);
    }
    TRY(make_room(work));
    TRY(answer_values(work));
    return must_wait_for_flight(work)
               ? cof_fail(work->call->err, COF_REASON_IN_PROGRESS, "%s; %s",
                          cof_reason_meaning(COF_REASON_IN_PROGRESS), cof_reason_next_step(COF_REASON_IN_PROGRESS))
               : COF_OK;
}

cof_code resolve(struct call *call, const Coffer__V1__ResolveRequest *request,
                 Coffer__V1__ResolveResponse *response)
{
    struct work work = {.call = call, .request = request, .response = response};
    work.limit = call->service->limits.response_bytes - FRAME_ROOM;
    TRY(plan_check_request(call, request));
    const cof_code code = run(&work);
    free_plans(&work);
    return code;
}

static bool small(const Coffer__V1__ResolveRequest *request)
{
    const Coffer__V1__ResolveItem *item = request->n_items == 1 ? request->items[0] : NULL;
    return !request->validate_only && item != NULL && item->n_environments <= 1 && item->n_expressions == 0 &&
           item->action[0] == '\0' && asked_least(item) <= PREFETCH_REFERENCES && asked_least(item) > 0;
}

/* What the handler will find in the cache. */
static bool is_kept(struct call *call, const Coffer__V1__ResolveItem *item, const struct call_prefetch *prefetch)
{
    struct secrets_recalled recalled;
    struct cof_error err; /* the handler's to tell */
    uint64_t min_revision;
    if (consistency_parse(call->service, item->consistency_token, &min_revision, &err) != COF_OK ||
        !secrets_recall(call, &prefetch->workspace, &prefetch->addresses, min_revision, &recalled)) {
        return false;
    }
    secrets_release(&recalled);
    return true;
}

cof_code resolve_prefetch(struct call *call, const Coffer__V1__ResolveRequest *request,
                          const struct cof_uuid *workspace)
{
    if (!small(request)) {
        return COF_OK;
    }
    struct call_prefetch *prefetch = &call->prefetch;
    const Coffer__V1__ResolveItem *item = request->items[0];
    prefetch->workspace = *workspace;
    if (item->workspace[0] != '\0' && !cof_uuid_parse(cof_slice_text(item->workspace), &prefetch->workspace)) {
        return COF_OK;
    }
    struct plan plan = {.item = item};
    TRY(plan_environments(call, item->environments, item->n_environments, &plan));
    TRY(asked_read(call, item, 0, NULL, &plan.asked));
    TRY(plan_addresses(call, &plan, &prefetch->addresses));
    if (is_kept(call, item, prefetch)) {
        prefetch->addresses.count = 0;
    }
    return COF_OK;
}
