#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/bench/histogram.h"

/*
 * A closed loop: a number of slots, each of which begins its next call when the last one has ended, and it has thought for a
 * while if it is to. Or, with a rate, an open one: calls begin when they are due, whatever has become of those before.
 * What is called is somebody else's: an echo, a server.
 *
 * In an open loop a call's time counts from the moment at which it was due. If no slot is free then it waits for one, and
 * that is part of its time: a server that stands still is not asked less.
 *
 * With a ramp the load grows evenly until it is whole: slots begin one after the other, or the rate rises.
 */

enum { LOAD_REASONS = 16, LOAD_SLOTS_MAX = 4096 };

struct load;

struct load_slot {
    struct load *load;
    struct load_slot *next; /* of those that wait: in an open loop for a call, in a closed one for their time */
    size_t index;           /* 0 to `in_flight` - 1 */
    uint64_t random;        /* state of the slot's own generator */
    size_t expected;        /* of whoever is called: what it wants of the answer */
    uint64_t begun_ns;      /* in an open loop: when it was due */
    uint64_t due_ns;        /* of a slot that thinks */
    atomic_int state;
};

/* Begins one call and sees to it that load_done is called once for it, on any thread, also before this returns. */
typedef void load_begin(struct load_slot *slot, void *context);

struct load_options {
    uint32_t in_flight;  /* in an open loop: at most */
    uint32_t rate;       /* calls that begin in a second; 0: a closed loop */
    uint64_t think_us;   /* in a closed loop: between a slot's calls */
    uint64_t ramp_us;    /* before the load is whole, and the warm-up begins */
    uint64_t warm_up_us; /* before anything is counted */
    /* What is counted: ends in a closed loop, beginnings in an open one; 0: until `calls` have ended. */
    uint64_t duration_us;
    uint64_t calls; /* if there is no duration: that many are made, and no other */
    uint64_t seed;
    load_begin *begin;
    void *context;
};

struct load_reason {
    const char *name; /* static */
    uint64_t count;
};

struct load_result {
    struct histogram latency; /* ns, of calls that succeeded */
    double seconds;
    uint64_t failed;
    uint64_t late;                            /* in an open loop: calls that were counted and waited for a slot */
    struct load_reason reasons[LOAD_REASONS]; /* of those that failed; the last takes what has no place */
};

/* Runs until all calls have ended. False if there is no memory. */
bool load_run(const struct load_options *options, struct load_result *ret_result);

/* The call of the slot has ended: well (NULL) or with this reason, a static text. May begin the slot's next call. */
void load_done(struct load_slot *slot, const char *reason);

/* Adds the failures of another result. */
void load_add_reason(struct load_result *result, const char *name, uint64_t count);
