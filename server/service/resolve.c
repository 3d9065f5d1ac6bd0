#include "server/service/resolve.h"

#include <stdio.h>

#include "common/encode.h"
#include "server/service/consistency.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/resolve_action.h"
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
    uint32_t position; /* of the next result, over all items and environments */
    uint32_t first;    /* with validate_only: where the page begins */
    uint32_t page;
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
    for (size_t i = 0; i < work->request->n_items; i++) {
        TRY(plan_item(call, work->request->items[i], (uint32_t) i, &work->plans[i]));
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
    if (work->request->validate_only) {
        return COF_OK;
    }
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

static int64_t deadline_of(const struct work *work, const struct plan *plan)
{
    const struct call *call = work->call;
    const int64_t deadline = call->received_us + (int64_t) plan->item->timeout_ms * 1000;
    return plan->item->timeout_ms != 0 && deadline < call->deadline_us ? deadline : call->deadline_us;
}

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
        const int64_t end = call_wait_end(call, deadline_of(work, plan));
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

/* --- Answering ------------------------------------------------------------------------------------------------ */

static bool out_of_time(const struct work *work, const struct plan *plan)
{
    return cof_clock_monotonic(work->call->service->clock) >= deadline_of(work, plan);
}

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
    if (out_of_time(work, plan)) {
        return plain(work, plan, environment, OUTCOME(DEADLINE_EXCEEDED), ret_result);
    }
    struct building building;
    TRY(result_build(call, plan, environment, !work->request->validate_only, &building));
    *ret_result = building.result;
    return suggest(work, &building);
}

/* A result that does not fit behind the others is asked for again; one that fits into no answer never is. */
static cof_code fit(struct work *work, struct plan *plan, size_t environment, Coffer__V1__ResolveResult **result)
{
    const size_t size = protobuf_c_message_get_packed_size(&(*result)->base) + RESULT_HEADER;
    if (work->bytes + size <= work->limit) {
        work->bytes += size;
        return COF_OK;
    }
    TRY(size > work->limit ? plain(work, plan, environment, OUTCOME(TOO_LARGE), result)
                           : deferred(work, plan, environment, result));
    work->bytes += protobuf_c_message_get_packed_size(&(*result)->base) + RESULT_HEADER;
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

static cof_code end_page(struct work *work)
{
    uint8_t position[4];
    char text[COF_BASE64URL_SIZE(sizeof position)];
    if (work->response->next_page_token[0] != '\0') {
        return COF_OK;
    }
    cof_put_u32(position, work->position);
    cof_base64url_encode(cof_slice_of(position, sizeof position), text);
    const struct page_position place = {.parts = {cof_slice_text(text)}};
    return page_make(work->call, PAGE_RESOLVE, &place, &work->response->next_page_token);
}

static cof_code check_one(struct work *work, struct plan *plan, size_t environment)
{
    Coffer__V1__ResolveResult *result = NULL;
    TRY(build(work, plan, environment, &result));
    if (result->status->code == COF_OK) {
        work->response->counts->resolved++;
    } else {
        work->response->counts->failed++;
        if (work->position >= work->first && work->response->n_results < work->page) {
            TRY(fit(work, plan, environment, &result));
            work->response->results[work->response->n_results++] = result;
        } else if (work->position >= work->first) {
            TRY(end_page(work));
        }
    }
    work->position++;
    return COF_OK;
}

static cof_code read_page(struct work *work)
{
    struct call *call = work->call;
    struct page_position position;
    uint8_t first[4] = {0};
    TRY(page_read(call, PAGE_RESOLVE, work->request->page_token, &position));
    if (position.parts[0].len > 0 && !cof_base64url_decode(position.parts[0], first, sizeof first)) {
        return cof_fail_field(call->err, COF_REASON_PAGE_TOKEN_INVALID, "page_token", "%s; %s",
                              cof_reason_meaning(COF_REASON_PAGE_TOKEN_INVALID),
                              cof_reason_next_step(COF_REASON_PAGE_TOKEN_INVALID));
    }
    work->first = cof_get_u32(first);
    work->page = page_size(call, work->request->page_size);
    return COF_OK;
}

static cof_code answer_check(struct work *work)
{
    Coffer__V1__ResolveCounts *counts = cof_arena_alloc(work->call->arena, sizeof *counts);
    if (counts == NULL) {
        return cof_arena_exhausted(work->call->err);
    }
    coffer__v1__resolve_counts__init(counts);
    work->response->counts = counts;
    TRY(read_page(work));
    for (size_t i = 0; i < work->plan_count; i++) {
        for (size_t k = 0; k < work->plans[i].environment_count; k++) {
            TRY(check_one(work, &work->plans[i], k));
        }
    }
    return COF_OK;
}

/* --- The method ----------------------------------------------------------------------------------------------- */

static cof_code run(struct work *work)
{
    size_t results = 0;
    TRY(make_plans(work));
    TRY(check_pairs(work));
    TRY(read_all(work));
    if (must_wait(work)) {
        return plan_not_reached(work->call);
    }
    for (size_t i = 0; i < work->plan_count; i++) {
        results += work->plans[i].environment_count;
    }
    if (work->request->validate_only && results > work->call->service->limits.page_size_max) {
        results = work->call->service->limits.page_size_max;
    }
    work->response->results = cof_arena_array(work->call->arena, results, sizeof *work->response->results);
    if (work->response->results == NULL) {
        return cof_arena_exhausted(work->call->err);
    }
    return work->request->validate_only ? answer_check(work) : answer_values(work);
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
    return item != NULL && item->n_environments <= 1 && item->n_expressions == 0 && item->action[0] == '\0' &&
           asked_least(item) <= PREFETCH_REFERENCES && asked_least(item) > 0;
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
    TRY(plan_environments(call, &plan));
    TRY(asked_read(call, item, 0, NULL, &plan.asked));
    TRY(plan_addresses(call, &plan, &prefetch->addresses));
    if (is_kept(call, item, prefetch)) {
        prefetch->addresses.count = 0;
    }
    return COF_OK;
}
