#include "client/bench/measure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/bench/anchor.h"

/* --- What is called ------------------------------------------------------------------------------------------- */

struct target {
    struct measure *measure;
    struct subject *subject;
};

static void begin_call(struct load_slot *slot, void *context)
{
    const struct target *target = context;
    const struct operation *operation = mix_choose(&target->subject->mix, slot);
    const struct remote_call call = {
        .method = operation->kind->method,
        .payload = operation_payload(operation, &target->measure->data, slot),
        .least = operation->least,
    };
    remote_begin(target->measure->clients[slot->index % target->measure->client_count], &call, slot);
}

static void begin_echo(struct load_slot *slot, void *context)
{
    const struct target *target = context;
    echo_call(target->measure->echo, &mix_choose(&target->subject->mix, slot)->sizes, slot);
}

static bool run_load(struct measure *measure, struct subject *subject, struct series *series, uint32_t round)
{
    struct target target = {measure, subject};
    struct load_result *result = &series->results[round];
    const struct load_options options = {
        .in_flight = subject->in_flight,
        .rate = subject->rate,
        .think_us = measure->think_us,
        .ramp_us = measure->ramp_us,
        .warm_up_us = measure->warm_up_us,
        .duration_us = measure->duration_us,
        .calls = measure->calls,
        .seed = measure->seed + round * (uint64_t) LOAD_SLOTS_MAX,
        .begin = series == &subject->own ? begin_call : begin_echo,
        .context = &target,
    };
    if (!load_run(&options, result)) {
        (void) fprintf(stderr, "coffer-bench: there is no memory left\n");
        return false;
    }
    series->rate[round] = result->seconds > 0 ? (double) result->latency.count / result->seconds : 0;
    series->p50_us[round] = histogram_quantile(&result->latency, 0.5) / 1000;
    return true;
}

/* --- Rounds --------------------------------------------------------------------------------------------------- */

/* Over the line before, and away again with an empty text. */
static void tell(const char *format, ...) COF_PRINTF(1, 2);

static void tell(const char *format, ...)
{
    va_list arguments;
    if (isatty(STDERR_FILENO) == 0) {
        return;
    }
    (void) fputs("\r\033[K", stderr);
    va_start(arguments, format);
    (void) vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void) fflush(stderr);
}

/* The mixes, their controls and the anchors, numbered one after the other. */
static bool run_one(struct measure *measure, size_t number, uint32_t round)
{
    if (number < 2 * measure->subject_count) {
        struct subject *subject = &measure->subjects[number / 2];
        if (number % 2 == 1 && measure->no_echo) {
            return true;
        }
        tell("round %u of %u: %s%s", round + 1, measure->rounds, subject->label,
             number % 2 == 0 ? "" : ", its echo");
        return run_load(measure, subject, number % 2 == 0 ? &subject->own : &subject->control, round);
    }
    struct anchor *anchor = &measure->anchors[number - 2 * measure->subject_count];
    if (!anchor_run(anchor->program, &anchor->series.rate[round])) {
        (void) fprintf(stderr, "coffer-bench: the anchor %s failed, or printed no number\n", anchor->name);
        return false;
    }
    return true;
}

static bool run_round(struct measure *measure, uint32_t round, uint64_t *random)
{
    size_t order[2 * SUBJECTS_MAX + ANCHORS_MAX];
    const size_t count = 2 * measure->subject_count + measure->anchor_count;
    statistics_shuffle(order, count, random);
    for (size_t i = 0; i < count; i++) {
        if (!run_one(measure, order[i], round)) {
            return false;
        }
    }
    return true;
}

static bool make_room(struct measure *measure)
{
    for (size_t i = 0; i < measure->subject_count; i++) {
        struct subject *subject = &measure->subjects[i];
        subject->own.results = calloc(measure->rounds, sizeof *subject->own.results);
        subject->control.results = calloc(measure->rounds, sizeof *subject->control.results);
        if (subject->own.results == NULL || subject->control.results == NULL) {
            (void) fprintf(stderr, "coffer-bench: there is no memory left\n");
            return false;
        }
    }
    return true;
}

bool measure_run(struct measure *measure, const volatile int *stop)
{
    uint64_t random = measure->seed;
    uint32_t round = 0;
    if (!make_room(measure)) {
        return false;
    }
    for (; round < measure->rounds && *stop == 0; round++) {
        if (!run_round(measure, round, &random)) {
            return false;
        }
    }
    tell("%s", "");
    measure->rounds = round;
    for (size_t i = 0; i < measure->subject_count; i++) {
        struct subject *subject = &measure->subjects[i];
        statistics_void(subject->control.rate, round, measure->deviation, subject->marks);
    }
    return true;
}

void measure_done(struct measure *measure)
{
    for (size_t i = 0; i < measure->subject_count; i++) {
        mix_done(&measure->subjects[i].mix);
        free(measure->subjects[i].own.results);
        free(measure->subjects[i].control.results);
    }
    data_done(&measure->data);
}

size_t measure_void_count(const struct measure *measure, const struct subject *subject)
{
    size_t count = 0;
    for (uint32_t i = 0; i < measure->rounds; i++) {
        count += subject->marks[i];
    }
    return count;
}

bool measure_spoiled(const struct measure *measure)
{
    bool spoiled = false;
    for (size_t i = 0; i < measure->subject_count; i++) {
        spoiled = spoiled || 2 * measure_void_count(measure, &measure->subjects[i]) > measure->rounds;
    }
    return spoiled;
}

struct load_result *measure_total(const struct measure *measure, const struct subject *subject,
                                  const struct series *series)
{
    struct load_result *total = calloc(1, sizeof *total);
    for (uint32_t i = 0; total != NULL && i < measure->rounds; i++) {
        const struct load_result *result = &series->results[i];
        if (subject->marks[i]) {
            continue;
        }
        histogram_merge(&total->latency, &result->latency);
        total->seconds += result->seconds;
        total->late += result->late;
        for (size_t k = 0; k < LOAD_REASONS && result->reasons[k].name != NULL; k++) {
            load_add_reason(total, result->reasons[k].name, result->reasons[k].count);
        }
    }
    return total;
}
