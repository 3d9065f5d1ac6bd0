#include "client/bench/load.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/condition.h"

enum { NS_PER_US = 1000, NS_PER_S = 1000000000 };

/*
 * A slot's call can end before the function that began it has returned, on the same thread or on another. Whoever of
 * the two comes second goes on with the slot, so that calls that end at once make a loop and no recursion.
 */
enum slot_state { SLOT_BEGINNING, SLOT_RUNNING, SLOT_ENDED };

struct load {
    struct load_options options;
    struct load_result *result;
    pthread_mutex_t lock;
    pthread_cond_t over;
    uint32_t running; /* slots */
    uint64_t begun;
    uint64_t begin_ns;
    uint64_t from_ns; /* what ends in between is counted */
    uint64_t until_ns;
    uint64_t last_ns;
    struct load_slot *waiting; /* in an open loop those without a call; else those that think, the next one first */
    struct load_slot *last_waiting;
    pthread_cond_t some_waiting;
    struct load_slot slots[];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

void load_add_reason(struct load_result *result, const char *name, uint64_t count)
{
    size_t i = 0;
    while (i + 1 < LOAD_REASONS && result->reasons[i].name != NULL && strcmp(result->reasons[i].name, name) != 0) {
        i++;
    }
    if (result->reasons[i].name == NULL || i + 1 < LOAD_REASONS) {
        result->reasons[i].name = name;
    }
    result->reasons[i].count += count;
    result->failed += count;
}

/* Whether one more call may begin; the last slot to stop wakes who waits. */
static bool go_on(struct load *load, uint64_t now)
{
    (void) pthread_mutex_lock(&load->lock);
    const bool more = load->options.duration_us > 0 ? now < load->until_ns : load->begun < load->options.calls;
    if (more) {
        load->begun++;
    } else if (--load->running == 0) {
        (void) pthread_cond_signal(&load->over);
    }
    (void) pthread_mutex_unlock(&load->lock);
    return more;
}

static void pump(struct load_slot *slot)
{
    struct load *load = slot->load;
    int state;
    do {
        state = SLOT_BEGINNING;
        slot->begun_ns = now_ns();
        if (!go_on(load, slot->begun_ns)) {
            return;
        }
        atomic_store(&slot->state, SLOT_BEGINNING);
        load->options.begin(slot, load->options.context);
    } while (!atomic_compare_exchange_strong(&slot->state, &state, SLOT_RUNNING));
}

static void count(struct load *load, const struct load_slot *slot, const char *reason)
{
    const uint64_t now = now_ns();
    const uint64_t counted = load->options.rate > 0 ? slot->begun_ns : now;
    (void) pthread_mutex_lock(&load->lock);
    if (counted >= load->from_ns && counted <= load->until_ns) {
        load->last_ns = now > load->last_ns ? now : load->last_ns;
        if (reason == NULL) {
            histogram_add(&load->result->latency, now - slot->begun_ns);
        } else {
            load_add_reason(load->result, reason, 1);
        }
    }
    (void) pthread_mutex_unlock(&load->lock);
}

static void sleep_until(uint64_t moment_ns)
{
    const struct timespec until = {(time_t) (moment_ns / NS_PER_S), (long) (moment_ns % NS_PER_S)};
    if (now_ns() < moment_ns) {
        (void) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
}

/* --- An open loop --------------------------------------------------------------------------------------------- */

static void put_idle(struct load *load, struct load_slot *slot)
{
    (void) pthread_mutex_lock(&load->lock);
    slot->next = load->waiting;
    load->waiting = slot;
    load->running--;
    (void) pthread_cond_signal(&load->some_waiting);
    if (load->running == 0) {
        (void) pthread_cond_signal(&load->over);
    }
    (void) pthread_mutex_unlock(&load->lock);
}

static struct load_slot *take_idle(struct load *load, uint64_t due_ns)
{
    (void) pthread_mutex_lock(&load->lock);
    load->result->late += load->waiting == NULL && due_ns >= load->from_ns;
    while (load->waiting == NULL) {
        (void) pthread_cond_wait(&load->some_waiting, &load->lock);
    }
    struct load_slot *slot = load->waiting;
    load->waiting = slot->next;
    load->running++;
    (void) pthread_mutex_unlock(&load->lock);
    return slot;
}

/* After how many seconds the call is due: the rate rises from nothing during the ramp. */
static double due_after(const struct load_options *options, uint64_t number)
{
    const double ramp = (double) options->ramp_us / 1e6;
    const double within = options->rate * ramp / 2; /* calls */
    if ((double) number < within) {
        return sqrt(2 * (double) number * ramp / options->rate);
    }
    return ramp + ((double) number - within) / options->rate;
}

static void run_open(struct load *load)
{
    const struct load_options *options = &load->options;
    load->running = 0;
    for (uint32_t i = 0; i < options->in_flight; i++) {
        load->slots[i].next = load->waiting;
        load->waiting = &load->slots[i];
    }
    for (uint64_t number = 0; options->duration_us > 0 || number < options->calls; number++) {
        const uint64_t due_ns = load->begin_ns + (uint64_t) (due_after(options, number) * NS_PER_S);
        if (due_ns >= load->until_ns) {
            break;
        }
        sleep_until(due_ns);
        struct load_slot *slot = take_idle(load, due_ns);
        slot->begun_ns = due_ns;
        options->begin(slot, options->context);
    }
}

/* --- A closed loop -------------------------------------------------------------------------------------------- */

/* When the slot begins: spread over the ramp and over one thought, so that slots do not walk in step. */
static uint64_t first_ns(const struct load *load, uint32_t index)
{
    const uint64_t spread_us = load->options.ramp_us + load->options.think_us;
    return load->begin_ns + spread_us * NS_PER_US / load->options.in_flight * index;
}

static void run_closed(struct load *load)
{
    for (uint32_t i = 0; i < load->options.in_flight; i++) {
        sleep_until(first_ns(load, i));
        pump(&load->slots[i]);
    }
}

/* The slot waits until it is due. Nearly always it is the last of those that wait. Called with the lock. */
static void put_thinking(struct load *load, struct load_slot *slot, uint64_t due_ns)
{
    const bool last = load->waiting != NULL && load->last_waiting->due_ns <= due_ns;
    struct load_slot **place = last ? &load->last_waiting->next : &load->waiting;
    while (*place != NULL && (*place)->due_ns <= due_ns) {
        place = &(*place)->next;
    }
    slot->due_ns = due_ns;
    slot->next = *place;
    *place = slot;
    load->last_waiting = slot->next == NULL ? slot : load->last_waiting;
}

static void think(struct load *load, struct load_slot *slot)
{
    const uint64_t due_ns = now_ns() + load->options.think_us * NS_PER_US;
    (void) pthread_mutex_lock(&load->lock);
    put_thinking(load, slot, due_ns < load->until_ns ? due_ns : load->until_ns);
    (void) pthread_cond_signal(&load->some_waiting);
    (void) pthread_mutex_unlock(&load->lock);
}

/* The slot that is due next, when it is; NULL once all have stopped. */
static struct load_slot *take_due(struct load *load)
{
    struct load_slot *slot = NULL;
    (void) pthread_mutex_lock(&load->lock);
    while (load->running > 0 && slot == NULL) {
        slot = load->waiting;
        if (slot == NULL) {
            (void) pthread_cond_wait(&load->some_waiting, &load->lock);
        } else if (now_ns() < slot->due_ns) {
            const struct timespec until = {(time_t) (slot->due_ns / NS_PER_S), (long) (slot->due_ns % NS_PER_S)};
            (void) pthread_cond_timedwait(&load->some_waiting, &load->lock, &until);
            slot = NULL;
        }
    }
    if (slot != NULL) {
        load->waiting = slot->next;
    }
    (void) pthread_mutex_unlock(&load->lock);
    return slot;
}

static void run_thinking(struct load *load)
{
    struct load_slot *slot;
    (void) pthread_mutex_lock(&load->lock);
    for (uint32_t i = 0; i < load->options.in_flight; i++) {
        const uint64_t due_ns = first_ns(load, i);
        put_thinking(load, &load->slots[i], due_ns < load->until_ns ? due_ns : load->until_ns);
    }
    (void) pthread_mutex_unlock(&load->lock);
    while ((slot = take_due(load)) != NULL) {
        slot->begun_ns = now_ns();
        if (go_on(load, slot->begun_ns)) {
            load->options.begin(slot, load->options.context);
        }
    }
}

/* --- Both ----------------------------------------------------------------------------------------------------- */

void load_done(struct load_slot *slot, const char *reason)
{
    int state = SLOT_BEGINNING;
    count(slot->load, slot, reason);
    if (slot->load->options.rate > 0) {
        put_idle(slot->load, slot);
    } else if (slot->load->options.think_us > 0) {
        think(slot->load, slot);
    } else if (!atomic_compare_exchange_strong(&slot->state, &state, SLOT_ENDED)) {
        pump(slot);
    }
}

static struct load *new_load(const struct load_options *options, struct load_result *result)
{
    struct load *load = calloc(1, sizeof *load + options->in_flight * sizeof(struct load_slot));
    if (load == NULL) {
        return NULL;
    }
    load->options = *options;
    load->result = result;
    load->running = options->in_flight;
    load->begin_ns = now_ns();
    load->from_ns = load->begin_ns + (options->ramp_us + options->warm_up_us) * NS_PER_US;
    load->until_ns = options->duration_us > 0 ? load->from_ns + options->duration_us * NS_PER_US : UINT64_MAX;
    (void) pthread_mutex_init(&load->lock, NULL);
    (void) pthread_cond_init(&load->over, NULL);
    cof_condition_init(&load->some_waiting);
    return load;
}

static double seconds_of(const struct load *load)
{
    if (load->options.duration_us > 0) {
        return (double) load->options.duration_us / 1e6;
    }
    return load->last_ns > load->from_ns ? (double) (load->last_ns - load->from_ns) / NS_PER_S : 0;
}

bool load_run(const struct load_options *options, struct load_result *ret_result)
{
    memset(ret_result, 0, sizeof *ret_result);
    struct load *load = new_load(options, ret_result);
    if (load == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < options->in_flight; i++) {
        load->slots[i].load = load;
        load->slots[i].index = i;
        load->slots[i].random = options->seed + i;
    }
    if (options->rate > 0) {
        run_open(load);
    } else if (options->think_us > 0) {
        run_thinking(load);
    } else {
        run_closed(load);
    }
    (void) pthread_mutex_lock(&load->lock);
    while (load->running > 0) {
        (void) pthread_cond_wait(&load->over, &load->lock);
    }
    (void) pthread_mutex_unlock(&load->lock);
    ret_result->seconds = seconds_of(load);
    (void) pthread_cond_destroy(&load->over);
    (void) pthread_cond_destroy(&load->some_waiting);
    (void) pthread_mutex_destroy(&load->lock);
    free(load);
    return true;
}
