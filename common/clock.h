#pragma once

#include <stdint.h>

/*
 * Time comes in through this interface, so that tests can replace it. A clock is constant after it was made and
 * may be read by any thread.
 */
struct cof_clock {
    /* Microseconds since 1970-01-01 UTC. */
    int64_t (*wall_us)(void *context);
    /* Microseconds since some moment; never goes back. Deadlines and leases use this one. */
    int64_t (*monotonic_us)(void *context);
    void *context;
};

/* The system's clock. */
extern const struct cof_clock cof_system_clock;

static inline int64_t cof_clock_wall(const struct cof_clock *clock)
{
    return clock->wall_us(clock->context);
}

static inline int64_t cof_clock_monotonic(const struct cof_clock *clock)
{
    return clock->monotonic_us(clock->context);
}
