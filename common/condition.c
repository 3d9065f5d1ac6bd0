#include "common/condition.h"

enum { US_PER_S = 1000000, NS_PER_US = 1000, NS_PER_S = 1000000000 };

void cof_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    (void) pthread_condattr_init(&attributes);
    (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void) pthread_cond_init(condition, &attributes);
    (void) pthread_condattr_destroy(&attributes);
}

struct timespec cof_condition_in(int64_t us)
{
    struct timespec moment;
    (void) clock_gettime(CLOCK_MONOTONIC, &moment);
    if (us > 0) {
        const int64_t ns = moment.tv_nsec + us % US_PER_S * NS_PER_US;
        moment.tv_sec += (time_t) (us / US_PER_S + ns / NS_PER_S);
        moment.tv_nsec = (long) (ns % NS_PER_S);
    }
    return moment;
}
