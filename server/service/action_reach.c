#include "server/service/action_reach.h"

#include <stdlib.h>

#include "server/service/action_keep.h"
#include "server/service/guard.h"
#include "server/service/resolve_plan.h"
#include "server/service/secret_keep.h"
#include "server/service/workspace_state.h"

enum {
    QUICK_ACTIONS = 64,          /* of a call that is answered on a thread that others wait for */
    NEEDS_COLLECTED_MAX = 10000, /* declarations, before the same ones are found */
    FIRST_ROOM = 16,
};

/* Columns of the rows; behind the action's is the workspace's state. */
enum { REACHED_REVISION, REACHED_NAME, REACHED_ACTION };

/* --- Names that are being followed ---------------------------------------------------------------------------- */

/* Each once; `sorted` to find them, `order` as they came. */
struct trace {
    struct cof_slice *sorted;
    struct cof_slice *order;
    size_t count;
    size_t room;
};

static cof_code grow(struct call *call, struct trace *trace)
{
    const size_t room = trace->room == 0 ? FIRST_ROOM : 2 * trace->room;
    struct cof_slice *sorted = cof_arena_array(call->arena, room, sizeof *sorted);
    struct cof_slice *order = cof_arena_array(call->arena, room, sizeof *order);
    if (sorted == NULL || order == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (trace->count > 0) {
        memcpy(sorted, trace->sorted, trace->count * sizeof *sorted);
        memcpy(order, trace->order, trace->count * sizeof *order);
    }
    *trace = (struct trace){sorted, order, trace->count, room};
    return COF_OK;
}

static size_t place_of(const struct trace *trace, struct cof_slice name)
{
    size_t low = 0;
    size_t high = trace->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (cof_slice_compare(trace->sorted[middle], name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static cof_code follow(struct call *call, struct trace *trace, const struct cof_slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const size_t place = place_of(trace, names[i]);
        if (place < trace->count && cof_slice_equal(trace->sorted[place], names[i])) {
            continue;
        }
        if (trace->count == trace->room) {
            TRY(grow(call, trace));
        }
        memmove(&trace->sorted[place + 1], &trace->sorted[place], (trace->count - place) * sizeof *trace->sorted);
        trace->sorted[place] = names[i];
        trace->order[trace->count++] = names[i];
    }
    return COF_OK;
}

/* --- From the cache ------------------------------------------------------------------------------------------- */

/* What is kept goes on to belong to others. */
static cof_code copy_row(struct call *call, const struct action_row *from, struct action_row *ret_row)
{
    struct cof_slice *steps = cof_arena_array(call->arena, from->steps.count, sizeof *steps);
    if (steps == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (from->steps.count > 0) {
        memcpy(steps, from->steps.items, from->steps.count * sizeof *steps);
    }
    *ret_row = *from;
    ret_row->steps.items = steps;
    return row_keep(&action_row_type, call->arena, ret_row, call->err);
}

static cof_code add_action(struct call *call, struct reach *reach, size_t *room, const struct action_row *row)
{
    if (reach->action_count == *room) {
        const size_t more = *room == 0 ? FIRST_ROOM : 2 * *room;
        struct reached *actions = cof_arena_array(call->arena, more, sizeof *actions);
        if (actions == NULL) {
            return cof_arena_exhausted(call->err);
        }
        if (*room > 0) {
            memcpy(actions, reach->actions, reach->action_count * sizeof *actions);
        }
        reach->actions = actions;
        *room = more;
    }
    reach->actions[reach->action_count++] = (struct reached){*row, false};
    return COF_OK;
}

/* `ret_kept` is false if it is not in the cache. */
static cof_code recall_one(struct call *call, struct reach *reach, const struct cache_state *state,
                           struct cof_slice name, struct action_row *ret_row, bool *ret_kept, bool *ret_exists)
{
    struct cache_entry *entry = action_recall(call->service, state, &reach->workspace, name);
    cof_code code = COF_OK;
    *ret_kept = entry != NULL;
    if (entry == NULL) {
        return COF_OK;
    }
    const struct action_kept *kept = cache_content(entry);
    *ret_exists = kept->exists;
    if (kept->exists) {
        code = copy_row(call, &kept->row, ret_row);
    }
    cache_release(entry);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return cof_slice_compare(((const struct reached *) a)->row.name, ((const struct reached *) b)->row.name);
}

static void sort_actions(struct reach *reach)
{
    if (reach->action_count > 1) {
        qsort(reach->actions, reach->action_count, sizeof *reach->actions, by_name);
    }
}

static cof_code recall_all(struct call *call, struct reach *reach, const struct cache_state *state)
{
    struct trace trace = {0};
    size_t room = 0;
    TRY(follow(call, &trace, reach->names, reach->name_count));
    for (size_t i = 0; i < trace.count; i++) {
        struct action_row row;
        bool kept;
        bool exists = false;
        TRY(recall_one(call, reach, state, trace.order[i], &row, &kept, &exists));
        if (!kept || (call->hurried && i == QUICK_ACTIONS)) {
            return COF_OK;
        }
        if (exists) {
            TRY(add_action(call, reach, &room, &row));
            TRY(follow(call, &trace, row.steps.items, row.steps.count));
        }
    }
    sort_actions(reach);
    reach->revision = state->revision;
    reach->found = true;
    return COF_OK;
}

cof_code reach_recall(struct call *call, struct reach *reach)
{
    struct cache_state state;
    if (call->service->cache == NULL ||
        !kept_usable(call, &reach->workspace, reach->min_revision, &state, &reach->older_us)) {
        return COF_OK;
    }
    return recall_all(call, reach, &state);
}

/* --- From the database ---------------------------------------------------------------------------------------- */

cof_code reach_queue(struct call *call, struct reach *reach)
{
    TRY(call_needs_database(call));
    uint8_t *place = cof_arena_alloc(call->arena, array_text_size(reach->names, reach->name_count));
    if (place == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const struct param params[] = {param_uuid(&reach->workspace),
                                   param_text_array(reach->names, reach->name_count, place)};
    if (call->service->cache != NULL) {
        reach->begun = cache_read_begin(call->service->cache, &reach->workspace);
    }
    TRY(session_queue(call->session, STATEMENT_ACTION_REACHED, params, COF_COUNT(params), call->err));
    reach->queued = true;
    return COF_OK;
}

/* The keys last: those of a deleted workspace stay closed. */
static cof_code check_workspace(struct call *call, struct reach *reach)
{
    struct workspace_state_row state;
    if (rows_count(reach->rows) == 0) {
        return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                        cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
    }
    reach->revision = (uint64_t) rows_i64(reach->rows, 0, REACHED_REVISION);
    TRY(workspace_state_take(call, &reach->workspace, reach->rows, 0, REACHED_ACTION + action_row_type.count,
                             &state));
    TRY(workspace_state_permits(call, call->caller->kind, &state));
    if (reach->revision < reach->min_revision) {
        return plan_not_reached(call);
    }
    return guard_load_keys(call, &reach->workspace);
}

static cof_code take_row(struct call *call, struct reach *reach, const struct cache_state *keep, size_t index)
{
    const struct cof_slice name = rows_bytes(reach->rows, index, REACHED_NAME);
    struct action_row row;
    if (rows_null(reach->rows, index, REACHED_ACTION)) {
        if (keep != NULL) {
            action_keep(call->service, keep, &reach->workspace, name, NULL);
        }
        return COF_OK;
    }
    TRY(row_read(&action_row_type, reach->rows, index, REACHED_ACTION, call->arena, &row, call->err));
    const cof_code code = guard_check_row(call, &action_row_type, &reach->workspace, &row);
    if (code != COF_OK && code != COF_DATA_LOSS) {
        return code;
    }
    if (code == COF_OK && keep != NULL) {
        action_keep(call->service, keep, &reach->workspace, name, &row);
    }
    row.name = name;
    reach->actions[reach->action_count++] = (struct reached){row, code != COF_OK};
    return COF_OK;
}

cof_code reach_take(struct call *call, struct reach *reach)
{
    struct cache_state state;
    TRY(check_workspace(call, reach));
    const size_t count = rows_count(reach->rows);
    const bool keeps = call->service->cache != NULL && cache_read_end(call->service->cache, &reach->workspace,
                                                                      &reach->begun, reach->revision, &state);
    reach->actions = cof_arena_array(call->arena, count, sizeof *reach->actions);
    if (reach->actions == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(take_row(call, reach, keeps ? &state : NULL, i));
    }
    sort_actions(reach);
    reach->found = true;
    return COF_OK;
}

void reach_done(struct reach *reach)
{
    rows_free(reach->rows);
    reach->rows = NULL;
}

cof_code reach_read(struct call *call, struct reach *reach)
{
    TRY(reach_recall(call, reach));
    if (reach->found) {
        return COF_OK;
    }
    TRY(reach_queue(call, reach));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &reach->rows, call->err));
    return reach_take(call, reach);
}

/* --- What an action needs ------------------------------------------------------------------------------------- */

const struct reached *reach_find(const struct reach *reach, struct cof_slice name)
{
    const struct reached wanted = {.row.name = name};
    return reach->action_count == 0
               ? NULL
               : bsearch(&wanted, reach->actions, reach->action_count, sizeof *reach->actions, by_name);
}

static int order_texts(char *const *a, size_t a_count, char *const *b, size_t b_count)
{
    for (size_t i = 0; i < a_count && i < b_count; i++) {
        const int order = strcmp(a[i], b[i]);
        if (order != 0) {
            return order;
        }
    }
    return (a_count > b_count) - (a_count < b_count);
}

/* Required before optional, so that what is written first is what holds. */
static int by_secret(const void *a, const void *b)
{
    const Coffer__V1__SecretDeclaration *left = *(Coffer__V1__SecretDeclaration *const *) a;
    const Coffer__V1__SecretDeclaration *right = *(Coffer__V1__SecretDeclaration *const *) b;
    int order = strcmp(left->name, right->name);
    order = order != 0 ? order : (left->optional != 0) - (right->optional != 0);
    order = order != 0 ? order : (left->type > right->type) - (left->type < right->type);
    order = order != 0 ? order : order_texts(left->keys, left->n_keys, right->keys, right->n_keys);
    return order != 0 ? order
                      : order_texts(left->optional_keys, left->n_optional_keys, right->optional_keys,
                                    right->n_optional_keys);
}

static int by_oauth(const void *a, const void *b)
{
    const Coffer__V1__OAuthDeclaration *left = *(Coffer__V1__OAuthDeclaration *const *) a;
    const Coffer__V1__OAuthDeclaration *right = *(Coffer__V1__OAuthDeclaration *const *) b;
    int order = strcmp(left->provider, right->provider);
    order = order != 0 ? order : (left->grant > right->grant) - (left->grant < right->grant);
    return order != 0 ? order : (left->optional != 0) - (right->optional != 0);
}

/* Pointers; sorts them, and keeps one of those that are the same. */
static size_t unique(void *items, size_t count, int (*order)(const void *, const void *))
{
    void **all = items;
    size_t kept = 0;
    if (count > 1) {
        qsort(all, count, sizeof *all, order);
    }
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || order(&all[kept - 1], &all[i]) != 0) {
            all[kept++] = all[i];
        }
    }
    return kept;
}

/* What is gathered on the way along the steps. */
struct gathering {
    struct call *call;
    const struct reach *reach;
    struct trace trace;
    struct trace unregistered;
    Coffer__V1__ActionDeclarations **parts;
    size_t part_count;
    size_t secrets;
    size_t oauth;
};

static cof_code damaged(struct call *call, struct cof_slice name)
{
    return cof_fail(call->err, COF_REASON_CORRUPTED,
                    "the action \"%.*s\" failed its integrity check; register it anew", (int) name.len,
                    (const char *) name.data);
}

static cof_code gather_one(struct gathering *gathering, struct cof_slice name)
{
    struct call *call = gathering->call;
    const struct reached *reached = reach_find(gathering->reach, name);
    if (reached == NULL) {
        return follow(call, &gathering->unregistered, &name, 1);
    }
    if (reached->damaged) {
        return damaged(call, name);
    }
    Coffer__V1__ActionDeclarations **part = &gathering->parts[gathering->part_count++];
    TRY(action_declarations(call, &reached->row, part));
    gathering->secrets += (*part)->n_secrets;
    gathering->oauth += (*part)->n_oauth;
    if (gathering->secrets + gathering->oauth > NEEDS_COLLECTED_MAX) {
        return cof_fail(call->err, COF_REASON_LIMIT_EXCEEDED,
                        "the action and those that its steps call have more than %d declarations; split it",
                        NEEDS_COLLECTED_MAX);
    }
    return follow(call, &gathering->trace, reached->row.steps.items, reached->row.steps.count);
}

static cof_code put_together(struct gathering *gathering, struct action_needs *ret_needs)
{
    struct call *call = gathering->call;
    Coffer__V1__ActionDeclarations *all = cof_arena_alloc(call->arena, sizeof *all);
    if (all == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__action_declarations__init(all);
    all->secrets = cof_arena_array(call->arena, gathering->secrets, sizeof *all->secrets);
    all->oauth = cof_arena_array(call->arena, gathering->oauth, sizeof *all->oauth);
    if (all->secrets == NULL || all->oauth == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < gathering->part_count; i++) {
        const Coffer__V1__ActionDeclarations *part = gathering->parts[i];
        for (size_t k = 0; k < part->n_secrets; k++) {
            all->secrets[all->n_secrets++] = part->secrets[k];
        }
        for (size_t k = 0; k < part->n_oauth; k++) {
            all->oauth[all->n_oauth++] = part->oauth[k];
        }
    }
    all->n_secrets = unique(all->secrets, all->n_secrets, by_secret);
    all->n_oauth = unique(all->oauth, all->n_oauth, by_oauth);
    *ret_needs = (struct action_needs){all, gathering->unregistered.sorted, gathering->unregistered.count};
    return COF_OK;
}

cof_code reach_needs(struct call *call, const struct reach *reach, const char *name, struct action_needs *ret_needs)
{
    const struct cof_slice first = cof_slice_text(name);
    struct gathering gathering = {.call = call, .reach = reach};
    if (reach_find(reach, first) == NULL) {
        return action_not_found(call, name);
    }
    /* Of the registered ones there are no more than these; each calls a bounded number of others. */
    gathering.parts = cof_arena_array(call->arena, reach->action_count, sizeof(Coffer__V1__ActionDeclarations *));
    if (gathering.parts == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(follow(call, &gathering.trace, &first, 1));
    for (size_t i = 0; i < gathering.trace.count; i++) {
        TRY(gather_one(&gathering, gathering.trace.order[i]));
    }
    return put_together(&gathering, ret_needs);
}
