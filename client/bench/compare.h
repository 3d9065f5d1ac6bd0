#pragma once

#include <stdbool.h>

/* Two reports as JSON of coffer-bench, mix by mix and load by load. */

struct compare {
    const char *before; /* paths */
    const char *after;
    double tolerance; /* percent that a figure may change by without a word */
    bool json;
};

/*
 * Prints what has changed. A ratio to the echo is worse, or better, if it has changed by more than the tolerance and no
 * round of one run reached what any round of the other did, and each has four rounds at least; so are plain rates where there was no echo. Latencies are
 * told without a judgement, for they are those of all rounds together. False: what is wrong was said.
 */
bool compare_files(const struct compare *compare, bool *ret_worse);
