#include "common/clock.h"

#include <stddef.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec now;
    (void) clock_gettime(id, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t system_wall(void *context)
{
    (void) context;
    return read_us(CLOCK_REALTIME);
}

static int64_t system_monotonic(void *context)
{
    (void) context;
    return read_us(CLOCK_MONOTONIC);
}

const struct cof_clock cof_system_clock = {system_wall, system_monotonic, NULL};
