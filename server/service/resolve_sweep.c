#include "server/service/resolve_sweep.h"

#include <stdlib.h>

#include "server/service/guard.h"
#include "server/service/resolve_result.h"
#include "server/service/resolve_wanted.h"

enum { READ_AT_ONCE = 1000 /* addresses, while there is memory for them */ };

/* One result. */
struct spot {
    uint32_t plan;
    uint32_t environment;
};

struct names {
    struct cof_slice *items;
    size_t count;
};

struct sweeping {
    struct call *call;
    struct plan *plans;
    size_t plan_count;
    struct sweep *sweep;
    struct names *names; /* of each plan */
    struct spot *spots;  /* sorted by workspace, environment and plan */
    size_t at_once;      /* addresses; fewer when the memory has turned out to be too small */
    /* The call's arena is one of these for a while: */
    struct cof_arena *own;
    struct cof_arena held;    /* what was read for some environments */
    struct cof_arena passing; /* what one result takes */
};

/* Spots that are read together. */
struct stretch {
    size_t first;
    size_t end;
    size_t environments;
    struct plan found; /* of no item: what was found for all of them */
};

/* --- What there is to do -------------------------------------------------------------------------------------- */

static int by_environment(const void *a, const void *b, void *context)
{
    const struct plan *plans = context;
    const struct spot *left = a;
    const struct spot *right = b;
    const struct plan *left_plan = &plans[left->plan];
    const struct plan *right_plan = &plans[right->plan];
    int order = memcmp(&left_plan->workspace, &right_plan->workspace, sizeof left_plan->workspace);
    order = order != 0 ? order
                       : cof_slice_compare(left_plan->environments[left->environment],
                                           right_plan->environments[right->environment]);
    order = order != 0 ? order : (left->plan > right->plan) - (left->plan < right->plan);
    return order != 0 ? order : (left->environment > right->environment) - (left->environment < right->environment);
}

static cof_code make_room(struct sweeping *sweeping)
{
    struct sweep *sweep = sweeping->sweep;
    struct cof_arena *arena = sweeping->own;
    size_t count = 0;
    sweep->first = cof_arena_array(arena, sweeping->plan_count, sizeof *sweep->first);
    sweeping->names = cof_arena_array(arena, sweeping->plan_count, sizeof *sweeping->names);
    if (sweep->first == NULL || sweeping->names == NULL) {
        return cof_arena_exhausted(sweeping->call->err);
    }
    for (size_t i = 0; i < sweeping->plan_count; i++) {
        sweep->first[i] = (uint32_t) count;
        count += sweeping->plans[i].environment_count;
    }
    sweep->count = (uint32_t) count;
    sweep->failed = cof_arena_alloc(arena, count / 8 + 1);
    sweeping->spots = cof_arena_array(arena, count, sizeof *sweeping->spots);
    return sweep->failed == NULL || sweeping->spots == NULL ? cof_arena_exhausted(sweeping->call->err) : COF_OK;
}

static cof_code list_spots(struct sweeping *sweeping, size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < sweeping->plan_count; i++) {
        const struct plan *plan = &sweeping->plans[i];
        if (plan->failed != OUTCOME(RESOLVED)) {
            continue;
        }
        TRY(plan_names(sweeping->call, plan, &sweeping->names[i].items, &sweeping->names[i].count));
        for (size_t k = 0; k < plan->environment_count; k++) {
            sweeping->spots[count++] = (struct spot){(uint32_t) i, (uint32_t) k};
        }
    }
    if (count > 1) {
        qsort_r(sweeping->spots, count, sizeof *sweeping->spots, by_environment, sweeping->plans);
    }
    *ret_count = count;
    return COF_OK;
}

/* --- Addresses ------------------------------------------------------------------------------------------------ */

static struct cof_slice environment_of(const struct sweeping *sweeping, size_t spot)
{
    const struct spot *at = &sweeping->spots[spot];
    return sweeping->plans[at->plan].environments[at->environment];
}

static const struct cof_uuid *workspace_of(const struct sweeping *sweeping, size_t spot)
{
    return &sweeping->plans[sweeping->spots[spot].plan].workspace;
}

/* The end of the spots in the same environment. */
static size_t end_of_environment(const struct sweeping *sweeping, size_t first, size_t count)
{
    size_t end = first + 1;
    while (end < count && cof_uuid_equal(workspace_of(sweeping, first), workspace_of(sweeping, end)) &&
           cof_slice_equal(environment_of(sweeping, first), environment_of(sweeping, end))) {
        end++;
    }
    return end;
}

/* Whether the same items stand in both, so that they ask for the same names. */
static bool same_items(const struct sweeping *sweeping, size_t a, size_t b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (sweeping->spots[a + i].plan != sweeping->spots[b + i].plan) {
            return false;
        }
    }
    return true;
}

static int by_bytes(const void *a, const void *b)
{
    return cof_slice_compare(*(const struct cof_slice *) a, *(const struct cof_slice *) b);
}

static void sort_unique(struct names *names)
{
    size_t kept = 0;
    qsort(names->items, names->count, sizeof *names->items, by_bytes);
    for (size_t i = 0; i < names->count; i++) {
        if (kept == 0 || !cof_slice_equal(names->items[kept - 1], names->items[i])) {
            names->items[kept++] = names->items[i];
        }
    }
    names->count = kept;
}

/* What the items of these spots ask for, each name once. */
static cof_code collect_names(struct sweeping *sweeping, size_t first, size_t end, struct names *ret_names)
{
    struct names names = {0};
    for (size_t i = first; i < end; i++) {
        names.count += sweeping->names[sweeping->spots[i].plan].count;
    }
    names.items = cof_arena_array(sweeping->call->arena, names.count, sizeof *names.items);
    if (names.items == NULL) {
        return cof_arena_exhausted(sweeping->call->err);
    }
    names.count = 0;
    for (size_t i = first; i < end; i++) {
        const struct names *more = &sweeping->names[sweeping->spots[i].plan];
        memcpy(names.items + names.count, more->items, more->count * sizeof *names.items);
        names.count += more->count;
    }
    sort_unique(&names);
    *ret_names = names;
    return COF_OK;
}

/* An empty name is that of no secret; it reads the workspace's state, where nothing else does. */
static void add_addresses(struct sweeping *sweeping, size_t spot, const struct names *names,
                          struct secret_addresses *addresses)
{
    const struct cof_uuid *workspace = workspace_of(sweeping, spot);
    const struct cof_slice environment = environment_of(sweeping, spot);
    const size_t before = addresses->count;
    for (size_t i = 0; i < names->count; i++) {
        if (authorize_sees(sweeping->call, workspace, environment, names->items[i], COF_PERMISSION_RESOLVE)) {
            secret_addresses_add(addresses, environment, names->items[i]);
        }
    }
    if (addresses->count == before) {
        secret_addresses_add(addresses, environment, cof_slice_text(""));
    }
}

/* Takes environments until enough is to be read, one at least. */
static cof_code choose(struct sweeping *sweeping, size_t count, struct stretch *stretch,
                       struct secret_addresses *ret_addresses)
{
    struct call *call = sweeping->call;
    struct names names = {0};
    size_t same = 0; /* where the environment begins that the names are of */
    stretch->end = stretch->first;
    while (stretch->end < count) {
        const size_t begin = stretch->end;
        const size_t end = end_of_environment(sweeping, begin, count);
        if (begin == stretch->first) {
            TRY(collect_names(sweeping, begin, end, &names));
            TRY(secret_addresses_new(call->arena, names.count + sweeping->at_once, ret_addresses, call->err));
        } else if (!cof_uuid_equal(workspace_of(sweeping, stretch->first), workspace_of(sweeping, begin)) ||
                   end - begin != begin - same || !same_items(sweeping, same, begin, end - begin) ||
                   ret_addresses->count + names.count > sweeping->at_once) {
            return COF_OK;
        }
        add_addresses(sweeping, begin, &names, ret_addresses);
        stretch->environments++;
        stretch->end = end;
        same = begin;
    }
    return COF_OK;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* The newest state that one of the items asks for is asked for from the cache; one that is older, from the database,
 * fails those alone that need it. */
static cof_code read_rows(struct call *call, struct plan *found, const struct secret_addresses *addresses)
{
    TRY(plan_recall_these(call, found, addresses));
    if (!found->taken) {
        found->min_revision = 0;
        TRY(plan_queue_these(call, found, addresses));
        TRY(session_sync(call->session, call->err));
        TRY(session_next(call->session, &found->read.rows, call->err));
        TRY(plan_take(call, found));
    }
    found->keeps = false;
    /* The keys last: those of a deleted workspace stay closed. */
    return guard_load_keys(call, &found->workspace);
}

/* All of it, because each result's memory is thrown away. */
static cof_code open_all(struct call *call, struct plan *found)
{
    for (size_t i = 0; i < found->found_count; i++) {
        const struct secret_row *row = &found->found[i].row;
        struct found *opened;
        TRY(plan_find(call, found, row->environment, row->name, &opened));
    }
    return COF_OK;
}

static uint64_t newest_asked(const struct sweeping *sweeping, const struct stretch *stretch)
{
    uint64_t newest = 0;
    for (size_t i = stretch->first; i < stretch->end; i++) {
        const uint64_t asked = sweeping->plans[sweeping->spots[i].plan].min_revision;
        newest = asked > newest ? asked : newest;
    }
    return newest;
}

/* All environments of a stretch have the same items. */
static cof_code want_connections(const struct sweeping *sweeping, struct stretch *stretch)
{
    struct call *call = sweeping->call;
    const size_t items = end_of_environment(sweeping, stretch->first, stretch->end) - stretch->first;
    const struct plan **plans = cof_arena_array(call->arena, items, sizeof(const struct plan *));
    struct cof_slice *environments = cof_arena_array(call->arena, stretch->environments, sizeof *environments);
    if (plans == NULL || environments == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < items; i++) {
        plans[i] = &sweeping->plans[sweeping->spots[stretch->first + i].plan];
    }
    for (size_t i = 0; i < stretch->environments; i++) {
        environments[i] = environment_of(sweeping, stretch->first + i * items);
    }
    return wanted_new(call, plans, items, environments, stretch->environments, &stretch->found.connections);
}

static cof_code read_stretch(struct sweeping *sweeping, size_t count, struct stretch *stretch)
{
    struct call *call = sweeping->call;
    struct secret_addresses addresses = {0};
    TRY(choose(sweeping, count, stretch, &addresses));
    stretch->found = (struct plan){
        .workspace = *workspace_of(sweeping, stretch->first),
        .min_revision = newest_asked(sweeping, stretch),
    };
    TRY(want_connections(sweeping, stretch));
    TRY(read_rows(call, &stretch->found, &addresses));
    return open_all(call, &stretch->found);
}

/* --- Looking -------------------------------------------------------------------------------------------------- */

static void set_failed(struct sweep *sweep, const struct spot *spot)
{
    const uint32_t position = sweep->first[spot->plan] + spot->environment;
    sweep->failed[position / 8] |= (uint8_t) (1U << (position % 8));
}

/* What was found, in the place of what the item would have read itself. */
static cof_code look(struct sweeping *sweeping, const struct stretch *stretch, const struct spot *spot)
{
    struct call *call = sweeping->call;
    struct plan plan = sweeping->plans[spot->plan];
    bool fails = true;
    plan.found = stretch->found.found;
    plan.found_count = stretch->found.found_count;
    plan.revision = stretch->found.revision;
    plan.older_us = stretch->found.older_us;
    plan.connections = stretch->found.connections;
    if (!plan_out_of_time(call, &plan)) {
        call->arena = &sweeping->passing;
        const cof_code code = result_check(call, &plan, spot->environment, &fails);
        call->arena = sweeping->own;
        cof_arena_reset(&sweeping->passing);
        TRY(code);
    }
    if (fails) {
        set_failed(sweeping->sweep, spot);
    }
    return COF_OK;
}

static cof_code look_at_all(struct sweeping *sweeping, const struct stretch *stretch)
{
    struct call *call = sweeping->call;
    for (size_t i = stretch->first; i < stretch->end; i++) {
        struct plan *plan = &sweeping->plans[sweeping->spots[i].plan];
        if (plan->failed != OUTCOME(RESOLVED)) {
            continue;
        }
        if (stretch->found.revision < plan->min_revision) {
            cof_ignore(plan_not_reached(call));
            TRY(plan_fail(call, plan));
        } else {
            TRY(look(sweeping, stretch, &sweeping->spots[i]));
        }
    }
    return COF_OK;
}

/* Nothing of these environments could be read. */
static cof_code fail_stretch(struct sweeping *sweeping, const struct stretch *stretch)
{
    for (size_t i = stretch->first; i < stretch->end; i++) {
        struct plan *plan = &sweeping->plans[sweeping->spots[i].plan];
        if (plan->failed == OUTCOME(RESOLVED)) {
            TRY(plan_fail(sweeping->call, plan));
        }
    }
    return COF_OK;
}

/* Where the memory did not suffice for several environments they are read again one by one. */
static cof_code sweep_stretch(struct sweeping *sweeping, size_t count, struct stretch *stretch)
{
    struct call *call = sweeping->call;
    call->arena = &sweeping->held;
    cof_code code = read_stretch(sweeping, count, stretch);
    call->arena = sweeping->own;
    if (code == COF_OK) {
        code = look_at_all(sweeping, stretch);
    } else if (call->err->reason != COF_REASON_OUT_OF_MEMORY) {
        code = fail_stretch(sweeping, stretch);
    } else if (stretch->environments > 1) {
        sweeping->at_once = 0;
        stretch->end = stretch->first;
        code = COF_OK;
    }
    plan_done(&stretch->found);
    cof_arena_reset(&sweeping->held);
    return code;
}

static cof_code sweep_all(struct sweeping *sweeping)
{
    size_t count = 0;
    size_t at = 0;
    TRY(make_room(sweeping));
    TRY(list_spots(sweeping, &count));
    /* What the call has left is shared by what is read and what is made of it. */
    const size_t left = (sweeping->own->limit - sweeping->own->chunk_count) / 2 * COF_ARENA_CHUNK;
    cof_arena_init(&sweeping->held, sweeping->own->pool, left);
    cof_arena_init(&sweeping->passing, sweeping->own->pool, left);
    while (at < count) {
        struct stretch stretch = {.first = at};
        TRY(sweep_stretch(sweeping, count, &stretch));
        at = stretch.end;
    }
    return COF_OK;
}

cof_code sweep_run(struct call *call, struct plan *plans, size_t count, struct sweep *ret_sweep)
{
    struct sweep sweep = {.plans = plans};
    struct sweeping sweeping = {
        .call = call,
        .plans = plans,
        .plan_count = count,
        .sweep = &sweep,
        .at_once = READ_AT_ONCE,
        .own = call->arena,
    };
    TRY(sweep_all(&sweeping));
    *ret_sweep = sweep;
    return COF_OK;
}

bool sweep_failed(const struct sweep *sweep, size_t plan, size_t environment)
{
    const uint32_t position = sweep->first[plan] + (uint32_t) environment;
    return sweep->plans[plan].failed != OUTCOME(RESOLVED) ||
           (sweep->failed[position / 8] & (1U << (position % 8))) != 0;
}
