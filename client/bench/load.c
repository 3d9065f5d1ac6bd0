#include "client/bench/load.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    uint64_t from_ns; /* what ends in between is counted */
    uint64_t until_ns;
    uint64_t last_ns;
    struct load_slot *idle; /* of an open loop */
    pthread_cond_t some_idle;
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

/* --- An open loop --------------------------------------------------------------------------------------------- */

static void put_idle(struct load *load, struct load_slot *slot)
{
    (void) pthread_mutex_lock(&load->lock);
    slot->next = load->idle;
    load->idle = slot;
    load->running--;
    (void) pthread_cond_signal(&load->some_idle);
    if (load->running == 0) {
        (void) pthread_cond_signal(&load->over);
    }
    (void) pthread_mutex_unlock(&load->lock);
}

static struct load_slot *take_idle(struct load *load)
{
    (void) pthread_mutex_lock(&load->lock);
    while (load->idle == NULL) {
        (void) pthread_cond_wait(&load->some_idle, &load->lock);
    }
    struct load_slot *slot = load->idle;
    load->idle = slot->next;
    load->running++;
    (void) pthread_mutex_unlock(&load->lock);
    return slot;
}

static void sleep_until(uint64_t moment_ns)
{
    const struct timespec until = {(time_t) (moment_ns / NS_PER_S), (long) (moment_ns % NS_PER_S)};
    if (now_ns() < moment_ns) {
        (void) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
}

static void run_open(struct load *load)
{
    const struct load_options *options = &load->options;
    const uint64_t begin_ns = now_ns();
    load->running = 0;
    for (uint32_t i = 0; i < options->in_flight; i++) {
        load->slots[i].next = load->idle;
        load->idle = &load->slots[i];
    }
    for (uint64_t number = 0; options->duration_us > 0 || number < options->calls; number++) {
        const uint64_t due_ns = begin_ns + (uint64_t) ((double) number * NS_PER_S / options->rate);
        if (due_ns >= load->until_ns) {
            break;
        }
        sleep_until(due_ns);
        struct load_slot *slot = take_idle(load);
        slot->begun_ns = due_ns;
        options->begin(slot, options->context);
    }
}

/* --- Both ----------------------------------------------------------------------------------------------------- */

static void run_closed(struct load *load)
{
    for (uint32_t i = 0; i < load->options.in_flight; i++) {
        pump(&load->slots[i]);
    }
}

void load_done(struct load_slot *slot, const char *reason)
{
    int state = SLOT_BEGINNING;
    count(slot->load, slot, reason);
    if (slot->load->options.rate > 0) {
        put_idle(slot->load, slot);
        return;
    }
    if (!atomic_compare_exchange_strong(&slot->state, &state, SLOT_ENDED)) {
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
    load->from_ns = now_ns() + options->warm_up_us * NS_PER_US;
    load->until_ns = options->duration_us > 0 ? load->from_ns + options->duration_us * NS_PER_US : UINT64_MAX;
    (void) pthread_mutex_init(&load->lock, NULL);
    (void) pthread_cond_init(&load->over, NULL);
    (void) pthread_cond_init(&load->some_idle, NULL);
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
    (void) pthread_cond_destroy(&load->some_idle);
    (void) pthread_mutex_destroy(&load->lock);
    free(load);
    return true;
}
