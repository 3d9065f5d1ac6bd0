#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/bench/histogram.h"

/*
 * A closed loop: a number of slots, each of which begins its next call when the last one has ended. What is called is
 * somebody else's: an echo, a server.
 */

enum { LOAD_REASONS = 16, LOAD_SLOTS_MAX = 4096 };

struct load;

struct load_slot {
    struct load *load;
    size_t index;    /* 0 to `in_flight` - 1 */
    uint64_t random; /* state of the slot's own generator */
    size_t expected; /* of whoever is called: what it wants of the answer */
    uint64_t begun_ns;
    atomic_int state;
};

/* Begins one call and sees to it that load_done is called once for it, on any thread, also before this returns. */
typedef void load_begin(struct load_slot *slot, void *context);

struct load_options {
    uint32_t in_flight;
    uint64_t warm_up_us;  /* before anything is counted */
    uint64_t duration_us; /* what is counted; 0: until `calls` have ended */
    uint64_t calls;       /* if there is no duration: that many are made, and no other */
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
    struct load_reason reasons[LOAD_REASONS]; /* of those that failed; the last takes what has no place */
};

/* Runs until all calls have ended. False if there is no memory. */
bool load_run(const struct load_options *options, struct load_result *ret_result);

/* The call of the slot has ended: well (NULL) or with this reason, a static text. May begin the slot's next call. */
void load_done(struct load_slot *slot, const char *reason);

/* Adds the failures of another result. */
void load_add_reason(struct load_result *result, const char *name, uint64_t count);
