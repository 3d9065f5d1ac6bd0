#pragma once

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* Conditions that are waited for until some moment, by the clock that nobody sets. */

/* As pthread_cond_init does; its waits end at moments of CLOCK_MONOTONIC. */
void cof_condition_init(pthread_cond_t *condition);

/* The moment in so many microseconds; less than 0 is now. */
struct timespec cof_condition_in(int64_t us);
