#include "server/service/resolve_action.h"

#include "server/service/action_reach.h"

/* Items of one workspace: where they begin, and what is read for them. */
struct group {
    struct reach reach;
    size_t first; /* index of the first one; items of other workspaces stand between them */
    cof_code code;
};

struct grouping {
    struct call *call;
    struct plan *plans;
    size_t plan_count;
    struct group *groups;
    size_t group_count;
};

static bool names_action(const struct plan *plan)
{
    return plan->item->action[0] != '\0' && plan->failed == OUTCOME(RESOLVED);
}

static struct group *group_of(const struct grouping *grouping, const struct cof_uuid *workspace)
{
    for (size_t i = 0; i < grouping->group_count; i++) {
        if (cof_uuid_equal(&grouping->groups[i].reach.workspace, workspace)) {
            return &grouping->groups[i];
        }
    }
    return NULL;
}

static size_t count_named(const struct grouping *grouping)
{
    size_t count = 0;
    for (size_t i = 0; i < grouping->plan_count; i++) {
        count += names_action(&grouping->plans[i]);
    }
    return count;
}

/* The newest state that one of the items asks for serves all of them. */
static cof_code add_plan(struct grouping *grouping, size_t index, size_t room)
{
    const struct plan *plan = &grouping->plans[index];
    struct group *group = group_of(grouping, &plan->workspace);
    if (group == NULL) {
        group = &grouping->groups[grouping->group_count++];
        *group = (struct group){.reach.workspace = plan->workspace, .first = index};
        group->reach.names = cof_arena_array(grouping->call->arena, room, sizeof *group->reach.names);
        if (group->reach.names == NULL) {
            return cof_arena_exhausted(grouping->call->err);
        }
    }
    struct reach *reach = &group->reach;
    reach->names[reach->name_count++] = cof_slice_text(plan->item->action);
    reach->min_revision = plan->min_revision > reach->min_revision ? plan->min_revision : reach->min_revision;
    return COF_OK;
}

static cof_code make_groups(struct grouping *grouping)
{
    const size_t named = count_named(grouping);
    grouping->groups = cof_arena_array(grouping->call->arena, named, sizeof *grouping->groups);
    if (grouping->groups == NULL) {
        return cof_arena_exhausted(grouping->call->err);
    }
    for (size_t i = 0; i < grouping->plan_count; i++) {
        if (names_action(&grouping->plans[i])) {
            TRY(add_plan(grouping, i, named));
        }
    }
    return COF_OK;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* The items of a workspace whose actions cannot be read. */
static cof_code fail_group(struct grouping *grouping, const struct group *group)
{
    struct call *call = grouping->call;
    for (size_t i = group->first; i < grouping->plan_count; i++) {
        struct plan *plan = &grouping->plans[i];
        if (names_action(plan) && cof_uuid_equal(&plan->workspace, &group->reach.workspace)) {
            TRY(plan_fail(call, plan));
        }
    }
    return COF_OK;
}

/* While the database is lost, what is not kept fails alone. */
static cof_code queue_group(struct grouping *grouping, struct group *group)
{
    struct call *call = grouping->call;
    TRY(reach_recall(call, &group->reach));
    if (group->reach.found) {
        return COF_OK;
    }
    if (call->lost && call_needs_database(call) != COF_OK) {
        return fail_group(grouping, group);
    }
    TRY(reach_queue(call, &group->reach));
    return session_sync(call->session, call->err);
}

static cof_code queue_groups(struct grouping *grouping)
{
    for (size_t i = 0; i < grouping->group_count; i++) {
        TRY(queue_group(grouping, &grouping->groups[i]));
    }
    return COF_OK;
}

static cof_code collect_groups(struct grouping *grouping)
{
    struct call *call = grouping->call;
    for (size_t i = 0; i < grouping->group_count; i++) {
        struct group *group = &grouping->groups[i];
        if (group->reach.queued && session_next(call->session, &group->reach.rows, call->err) != COF_OK) {
            TRY(fail_group(grouping, group));
        }
    }
    for (size_t i = 0; i < grouping->group_count; i++) {
        struct group *group = &grouping->groups[i];
        if (group->reach.rows != NULL && reach_take(call, &group->reach) != COF_OK) {
            TRY(fail_group(grouping, group));
        }
    }
    return COF_OK;
}

/* --- What they ask for ---------------------------------------------------------------------------------------- */

static cof_code read_asked(struct call *call, struct plan *plan, const struct reach *reach)
{
    struct action_needs needs;
    TRY(reach_needs(call, reach, plan->item->action, &needs));
    TRY(asked_read(call, plan->item, plan->index, needs.declarations, &plan->asked));
    /* What they ask for was decided by that state; an older one would not do. */
    if (reach->older_us == 0 && reach->revision > plan->min_revision) {
        plan->min_revision = reach->revision;
    }
    return COF_OK;
}

static cof_code read_plans(struct grouping *grouping)
{
    struct call *call = grouping->call;
    for (size_t i = 0; i < grouping->plan_count; i++) {
        struct plan *plan = &grouping->plans[i];
        if (!names_action(plan)) {
            continue;
        }
        if (read_asked(call, plan, &group_of(grouping, &plan->workspace)->reach) != COF_OK) {
            TRY(plan_fail(call, plan));
        }
    }
    return COF_OK;
}

static cof_code read_all(struct grouping *grouping)
{
    TRY(make_groups(grouping));
    TRY(queue_groups(grouping));
    TRY(collect_groups(grouping));
    return read_plans(grouping);
}

cof_code action_plans(struct call *call, struct plan *plans, size_t count)
{
    struct grouping grouping = {.call = call, .plans = plans, .plan_count = count};
    if (count_named(&grouping) == 0) {
        return COF_OK;
    }
    const cof_code code = read_all(&grouping);
    for (size_t i = 0; i < grouping.group_count; i++) {
        reach_done(&grouping.groups[i].reach);
    }
    return code;
}
