#pragma once

#include "client/bench/operation.h"
#include "client/bench/statistics.h"

/*
 * Rounds. In each round every mix, its control and every anchor runs once, in an order of its own, so that what else the
 * machine does meets all alike; ratios are taken within a round. A round in which the control of a mix is far from its
 * own median says nothing about the mix and is void for it.
 */

enum { SUBJECTS_MAX = 64, ANCHORS_MAX = 8, ANCHOR_NAME = 40, CLIENTS_MAX = 16, SUBJECT_LABEL = MIX_NAME + 20 };

/* One thing that runs in each round, and what it reached there. */
struct series {
    struct load_result *results; /* one for each round; NULL for an anchor */
    double rate[ROUNDS_MAX];     /* calls that succeeded, per second */
    double p50_us[ROUNDS_MAX];
};

/* A mix under one load. */
struct subject {
    struct mix mix;
    char label[SUBJECT_LABEL]; /* with the load: "resolve x64", or "resolve @5000/s" */
    uint32_t in_flight;        /* in an open loop: at most */
    uint32_t rate;             /* calls that begin in a second; 0: a closed loop */
    struct series own;
    struct series control;
    bool marks[ROUNDS_MAX]; /* void rounds */
};

struct anchor {
    char name[ANCHOR_NAME];
    const char *program;
    struct series series;
};

struct measure {
    bool no_echo; /* no controls, and so no ratios to them, and no void rounds */
    uint32_t rounds;
    uint64_t think_us; /* in closed loops */
    uint64_t ramp_us;
    uint64_t warm_up_us;
    uint64_t duration_us;
    uint64_t calls; /* of each run, if there is no duration */
    uint64_t seed;
    double deviation; /* percent, that a control may be off its median */
    struct subject subjects[SUBJECTS_MAX];
    size_t subject_count;
    struct anchor anchors[ANCHORS_MAX];
    size_t anchor_count;
    struct data data;
    coffer_client *clients[CLIENTS_MAX]; /* one for each address, used by turns */
    size_t client_count;
    struct echo_client *echo;
};

/* Runs the rounds, tells a terminal which one, and marks the void ones. `stop` ends it after a round; says what is wrong. */
bool measure_run(struct measure *measure, const volatile int *stop);
void measure_done(struct measure *measure);

size_t measure_void_count(const struct measure *measure, const struct subject *subject);
/* Whether more than half of the rounds of a mix are void, so that its figures mean nothing. */
bool measure_spoiled(const struct measure *measure);

/* All that a series of the subject has counted in rounds that are not void. In memory of its own, as it is large. */
struct load_result *measure_total(const struct measure *measure, const struct subject *subject,
                                  const struct series *series);
