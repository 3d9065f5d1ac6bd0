#include "server/dispatch/fair.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    FLOWS = 256,
    LANES = FAIR_LANES + 1,
    LANE_RESUMED = FAIR_LANES,
    KNOWN_WEIGHT = 4, /* of known callers, where a stranger has 1 */
    CREDIT_MOST = KNOWN_WEIGHT * FAIR_QUANTUM,
    STRANGERS_PART = 4, /* known callers push strangers out until these have this part of the queue left */
    RESERVED_PART = 4,  /* the part of the workers that one workspace alone never has */
};

TAILQ_HEAD(item_list, fair_item);

struct lane {
    struct item_list items; /* the oldest first */
    uint32_t count;
};

typedef enum flow_state {
    FLOW_IDLE,
    FLOW_FRESH,   /* has just begun to wait */
    FLOW_TURNS,   /* takes turns with the others */
    FLOW_BLOCKED, /* keeps as many workers busy as it may */
} flow_state;

struct fair_flow {
    TAILQ_ENTRY(fair_flow) siblings;
    struct group *group;
    flow_state state;
    int32_t deficit; /* cost that is left of its turn */
    uint32_t waiting;
    uint32_t queued; /* of those that wait, the ones that are not resumed */
    uint32_t busy;   /* workers */
    uint32_t turn;   /* the lane that comes next, if it has any */
    struct lane lanes[LANES];
};

TAILQ_HEAD(flow_list, fair_flow);

/* Known callers, or strangers. */
struct group {
    struct flow_list fresh;
    struct flow_list turns;
    uint32_t ready;  /* items in the flows of these lists */
    uint32_t queued; /* in all of its flows */
    struct fair_flow flows[FLOWS];
};

struct fair {
    struct fair_options options;
    uint32_t busy_most; /* workers of one flow */
    uint64_t key;       /* so that nobody can choose whose flow he is in */
    uint32_t queued;
    uint32_t resumed;
    int32_t credit; /* cost that known callers may take before a stranger comes */
    struct group known;
    struct group strangers;
};

/* --- Flows ---------------------------------------------------------------------------------------------------- */

static struct flow_list *list_of(struct fair_flow *flow)
{
    switch (flow->state) {
    case FLOW_FRESH:
        return &flow->group->fresh;
    case FLOW_TURNS:
        return &flow->group->turns;
    case FLOW_IDLE:
    case FLOW_BLOCKED:
        break;
    }
    return NULL;
}

static void move_flow(struct fair_flow *flow, flow_state state)
{
    struct flow_list *from = list_of(flow);
    if (from != NULL) {
        TAILQ_REMOVE(from, flow, siblings);
        flow->group->ready -= flow->waiting;
    }
    flow->state = state;
    struct flow_list *to = list_of(flow);
    if (to != NULL) {
        TAILQ_INSERT_TAIL(to, flow, siblings);
        flow->group->ready += flow->waiting;
    }
}

/*
 * A flow whose items are gone stays for one more round behind the others, so that whoever comes again and again with
 * one call at a time is not always fresh.
 */
static void empty_flow(struct fair_flow *flow)
{
    const bool others = !TAILQ_EMPTY(&flow->group->turns);
    move_flow(flow, flow->state == FLOW_FRESH && others ? FLOW_TURNS : FLOW_IDLE);
}

/* The flow whose turn it is; NULL if none has anything. */
static struct fair_flow *next_flow(struct group *group)
{
    for (;;) {
        struct fair_flow *flow = TAILQ_FIRST(&group->fresh);
        flow = flow != NULL ? flow : TAILQ_FIRST(&group->turns);
        if (flow == NULL || (flow->waiting > 0 && flow->deficit > 0)) {
            return flow;
        }
        if (flow->waiting == 0) {
            empty_flow(flow);
        } else {
            flow->deficit += FAIR_QUANTUM;
            move_flow(flow, FLOW_TURNS);
        }
    }
}

static uint32_t next_lane(const struct fair_flow *flow)
{
    uint32_t lane = flow->turn;
    while (flow->lanes[lane].count == 0) {
        lane = (lane + 1) % LANES;
    }
    return lane;
}

static void begin_flow(struct fair *fair, struct fair_flow *flow)
{
    if (flow->state == FLOW_IDLE) {
        flow->deficit = FAIR_QUANTUM;
        move_flow(flow, flow->busy < fair->busy_most ? FLOW_FRESH : FLOW_BLOCKED);
    }
}

/* --- Items ---------------------------------------------------------------------------------------------------- */

/* Counts an item in (1) or out (-1). */
static void count_item(struct fair *fair, const struct fair_item *item, int by)
{
    const uint32_t change = (uint32_t) by;
    struct fair_flow *flow = item->flow;
    assert(flow->group != NULL);
    flow->lanes[item->lane].count += change;
    flow->waiting += change;
    flow->group->ready += list_of(flow) != NULL ? change : 0;
    if (item->resumed) {
        fair->resumed += change;
        return;
    }
    flow->queued += change;
    flow->group->queued += change;
    fair->queued += change;
}

static void remove_item(struct fair *fair, struct fair_item *item)
{
    TAILQ_REMOVE(&item->flow->lanes[item->lane].items, item, siblings);
    count_item(fair, item, -1);
}

static void place_item(struct fair *fair, struct fair_item *item, const struct fair_key *key)
{
    struct group *group = key->stranger ? &fair->strangers : &fair->known;
    item->flow = &group->flows[cof_uuid_hash(&key->workspace, fair->key) % FLOWS];
    item->lane = item->resumed ? LANE_RESUMED : cof_uuid_hash(&key->token, fair->key) % FAIR_LANES;
}

static void append_item(struct fair *fair, struct fair_item *item)
{
    TAILQ_INSERT_TAIL(&item->flow->lanes[item->lane].items, item, siblings);
    count_item(fair, item, 1);
    begin_flow(fair, item->flow);
}

/* --- A full queue --------------------------------------------------------------------------------------------- */

static struct fair_flow *fattest_flow(struct group *group)
{
    struct fair_flow *fattest = &group->flows[0];
    for (uint32_t i = 1; i < FLOWS; i++) {
        if (group->flows[i].queued > fattest->queued) {
            fattest = &group->flows[i];
        }
    }
    return fattest;
}

static uint32_t fattest_lane(const struct fair_flow *flow)
{
    uint32_t fattest = 0;
    for (uint32_t i = 1; i < FAIR_LANES; i++) {
        if (flow->lanes[i].count > flow->lanes[fattest].count) {
            fattest = i;
        }
    }
    return fattest;
}

/* The flow that has to give way. The first test spares a flood the search: nobody has more than half. */
static struct fair_flow *flow_to_shorten(struct fair *fair, const struct fair_item *item)
{
    const bool too_many_strangers = fair->strangers.queued > fair->options.capacity / STRANGERS_PART;
    if (item->flow->queued > fair->options.capacity / 2 &&
        (!too_many_strangers || item->flow->group == &fair->strangers)) {
        return item->flow;
    }
    struct fair_flow *stranger = fattest_flow(&fair->strangers);
    if (too_many_strangers) {
        return stranger;
    }
    struct fair_flow *known = fattest_flow(&fair->known);
    return known->queued >= stranger->queued ? known : stranger;
}

/* Whether an item of the flow is to give way to this one. */
static bool gives_way(const struct fair *fair, const struct fair_flow *flow, const struct fair_item *item)
{
    if (flow == item->flow) {
        return flow->lanes[fattest_lane(flow)].count > flow->lanes[item->lane].count + 1;
    }
    const bool pushed_out = flow->group == &fair->strangers && item->flow->group == &fair->known &&
                            fair->strangers.queued > fair->options.capacity / STRANGERS_PART;
    return pushed_out || flow->queued > item->flow->queued + 1;
}

static struct fair_item *evict(struct fair *fair, const struct fair_item *item)
{
    struct fair_flow *flow = flow_to_shorten(fair, item);
    if (flow->queued == 0 || !gives_way(fair, flow, item)) {
        return NULL;
    }
    struct fair_item *last = TAILQ_LAST(&flow->lanes[fattest_lane(flow)].items, item_list);
    remove_item(fair, last);
    return last;
}

fair_outcome fair_add(struct fair *fair, struct fair_item *item, const struct fair_key *key,
                      struct fair_item **ret_evicted)
{
    assert(item->cost > 0);
    *ret_evicted = NULL;
    place_item(fair, item, key);
    if (!item->resumed && fair->queued >= fair->options.capacity) {
        *ret_evicted = evict(fair, item);
        if (*ret_evicted == NULL) {
            return item->flow->queued == fair->queued ? FAIR_FULL : FAIR_SHARE_USED;
        }
    }
    append_item(fair, item);
    return FAIR_TAKEN;
}

/* --- Taking --------------------------------------------------------------------------------------------------- */

static struct group *next_group(struct fair *fair)
{
    if (fair->strangers.ready == 0) {
        return &fair->known;
    }
    return fair->known.ready > 0 && fair->credit > 0 ? &fair->known : &fair->strangers;
}

struct fair_item *fair_next(struct fair *fair)
{
    struct group *group = next_group(fair);
    if (group->ready == 0) {
        return NULL;
    }
    struct fair_flow *flow = next_flow(group);
    return TAILQ_FIRST(&flow->lanes[next_lane(flow)].items);
}

static void pay(struct fair *fair, const struct fair_item *item)
{
    const int32_t cost = (int32_t) item->cost;
    const bool known = item->flow->group == &fair->known;
    const int32_t credit = fair->credit + (known ? -cost : KNOWN_WEIGHT * cost);
    fair->credit = credit > CREDIT_MOST ? CREDIT_MOST : credit < 0 ? 0 : credit;
    item->flow->deficit -= cost;
}

static void enter_batch(struct fair_batch *batch, struct fair_flow *flow)
{
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        if (batch->flows[i] == flow) {
            return;
        }
    }
    assert(batch->flow_count < FAIR_BATCH);
    batch->flows[batch->flow_count++] = flow;
    flow->busy++;
}

struct fair_item *fair_take(struct fair *fair, struct fair_batch *batch)
{
    struct fair_item *item = fair_next(fair);
    if (item == NULL) {
        return NULL;
    }
    pay(fair, item);
    item->flow->turn = (item->lane + 1) % LANES;
    remove_item(fair, item);
    enter_batch(batch, item->flow);
    batch->cost += item->cost;
    return item;
}

void fair_close(struct fair *fair, struct fair_batch *batch)
{
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        if (batch->flows[i]->busy >= fair->busy_most) {
            move_flow(batch->flows[i], FLOW_BLOCKED);
        }
    }
}

void fair_done(struct fair *fair, struct fair_batch *batch)
{
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        struct fair_flow *flow = batch->flows[i];
        flow->busy--;
        if (flow->state == FLOW_BLOCKED && flow->busy < fair->busy_most) {
            move_flow(flow, flow->waiting > 0 ? FLOW_TURNS : FLOW_IDLE);
        }
    }
    batch->flow_count = 0;
    batch->cost = 0;
}

uint32_t fair_queued(const struct fair *fair)
{
    return fair->queued;
}

uint32_t fair_resumed(const struct fair *fair)
{
    return fair->resumed;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void init_group(struct group *group)
{
    TAILQ_INIT(&group->fresh);
    TAILQ_INIT(&group->turns);
    for (uint32_t i = 0; i < FLOWS; i++) {
        group->flows[i].group = group;
        for (uint32_t lane = 0; lane < LANES; lane++) {
            TAILQ_INIT(&group->flows[i].lanes[lane].items);
        }
    }
}

struct fair *fair_new(const struct fair_options *options)
{
    struct fair *fair = calloc(1, sizeof *fair);
    const struct cof_uuid random = cof_uuid_random();
    if (fair == NULL) {
        return NULL;
    }
    fair->options = *options;
    const uint32_t most = options->workers - options->workers / RESERVED_PART;
    /* Where nothing is reserved nobody is kept waiting. */
    fair->busy_most = most < options->workers ? most : UINT32_MAX;
    fair->credit = CREDIT_MOST;
    memcpy(&fair->key, random.bytes, sizeof fair->key);
    init_group(&fair->known);
    init_group(&fair->strangers);
    return fair;
}

void fair_free(struct fair *fair)
{
    free(fair);
}
