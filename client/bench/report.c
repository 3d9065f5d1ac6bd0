#include "client/bench/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct quantile {
    const char *name; /* in JSON */
    double share;
};

static const struct quantile quantiles[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99_9", 0.999}, {"max", 1},
};

static double microseconds(const struct histogram *histogram, double share)
{
    return histogram_quantile(histogram, share) / 1000;
}

/* What is compared: round by round, without the subject's void rounds. */
static struct spread ratio_of(const struct measure *measure, const struct subject *subject, const double *value,
                              const double *base)
{
    return statistics_ratio(value, base, subject->marks, measure->rounds);
}

/* --- Text ----------------------------------------------------------------------------------------------------- */

static int label_width(const struct measure *measure)
{
    size_t width = 12;
    for (size_t i = 0; i < measure->subject_count; i++) {
        const size_t length = strlen(measure->subjects[i].label);
        width = length > width ? length : width;
    }
    return (int) width;
}

static bool text_series(const struct measure *measure, const struct subject *subject, const char *name,
                        const struct series *series, FILE *to)
{
    struct load_result *total = measure_total(measure, subject, series);
    if (total == NULL) {
        return false;
    }
    (void) fprintf(to, "%-*s %8.0f", label_width(measure), name,
                   statistics_spread(series->rate, subject->marks, measure->rounds).median);
    for (size_t i = 0; i < COF_COUNT(quantiles); i++) {
        (void) fprintf(to, " %8.1f", microseconds(&total->latency, quantiles[i].share));
    }
    (void) fprintf(to, " %7" PRIu64 "\n", total->failed);
    if (total->late > 0) {
        (void) fprintf(to, "    late: %" PRIu64 " calls waited, because as many as may be were in flight\n",
                       total->late);
    }
    for (size_t i = 0; i < LOAD_REASONS && total->reasons[i].name != NULL; i++) {
        (void) fprintf(to, "    failed: %s, %" PRIu64 " times\n", total->reasons[i].name, total->reasons[i].count);
    }
    free(total);
    return true;
}

static void text_ratio(const char *what, struct spread ratio, FILE *to)
{
    (void) fprintf(to, "    %-36s %7.3f   (%.3f to %.3f)\n", what, ratio.median, ratio.least, ratio.most);
}

static void text_void(const struct measure *measure, const struct subject *subject, FILE *to)
{
    const size_t count = measure_void_count(measure, subject);
    if (count == 0) {
        return;
    }
    (void) fprintf(
        to, "    void: %zu of %" PRIu32 " rounds, since the echo was off its median by more than %.0f %%:", count,
        measure->rounds, measure->deviation);
    for (uint32_t i = 0; i < measure->rounds; i++) {
        if (subject->marks[i]) {
            (void) fprintf(to, " %" PRIu32, i + 1);
        }
    }
    (void) fputc('\n', to);
}

static bool text_control(const struct measure *measure, const struct subject *subject, FILE *to)
{
    if (!text_series(measure, subject, "  nng echo", &subject->control, to)) {
        return false;
    }
    if (subject->rate == 0) {
        text_ratio("calls/s to the echo's", ratio_of(measure, subject, subject->own.rate, subject->control.rate),
                   to);
    }
    text_ratio("p50 to the echo's", ratio_of(measure, subject, subject->own.p50_us, subject->control.p50_us), to);
    return true;
}

static bool text_subject(const struct measure *measure, const struct subject *subject, FILE *to)
{
    char what[ANCHOR_NAME + 20];
    if (!text_series(measure, subject, subject->label, &subject->own, to)) {
        return false;
    }
    if (!measure->no_echo && !text_control(measure, subject, to)) {
        return false;
    }
    for (size_t i = 0; i < measure->anchor_count; i++) {
        const struct anchor *anchor = &measure->anchors[i];
        (void) snprintf(what, sizeof what, "calls/s to %s's", anchor->name);
        text_ratio(what, ratio_of(measure, subject, subject->own.rate, anchor->series.rate), to);
    }
    text_void(measure, subject, to);
    return true;
}

static struct spread anchor_rate(const struct measure *measure, const struct anchor *anchor)
{
    static const bool none[ROUNDS_MAX];
    return statistics_spread(anchor->series.rate, none, measure->rounds);
}

static void text_loads(const struct measure *measure, FILE *to)
{
    const struct subject *first = &measure->subjects[0];
    if (first->rate > 0) {
        (void) fprintf(
            to, "An open loop: @N/s calls are due, and times count from then; at most %" PRIu32 " in flight.\n",
            first->in_flight);
    } else {
        (void) fputs("A closed loop: xN calls in flight", to);
        (void) fprintf(to, measure->think_us > 0 ? ", %.6g ms of thought between them.\n" : ".\n",
                       (double) measure->think_us / 1000);
    }
    (void) fprintf(to, "Values of %zu bytes, seed %" PRIu64 ", %" PRIu32 " rounds; times in microseconds.\n\n",
                   measure->data.value_size, measure->seed, measure->rounds);
}

bool report_text(const struct measure *measure, FILE *to)
{
    text_loads(measure, to);
    (void) fprintf(to, "%-*s %8s %8s %8s %8s %8s %8s %7s\n", label_width(measure), "", "calls/s", "p50", "p90",
                   "p99", "p99.9", "max", "failed");
    for (size_t i = 0; i < measure->subject_count; i++) {
        if (!text_subject(measure, &measure->subjects[i], to)) {
            return false;
        }
    }
    for (size_t i = 0; i < measure->anchor_count; i++) {
        const struct anchor *anchor = &measure->anchors[i];
        (void) fprintf(to, "%-*s %8.0f\n", label_width(measure), anchor->name, anchor_rate(measure, anchor).median);
    }
    if (measure_spoiled(measure)) {
        (void) fputs("The machine was too busy with other things for these figures to mean anything.\n", to);
    }
    return true;
}

/* --- JSON ----------------------------------------------------------------------------------------------------- */

/* Names are made of letters, digits and a few signs that JSON takes as they are. */
static void json_spread(const char *before, const char *name, struct spread spread, FILE *to)
{
    (void) fprintf(to, "%s\"%s\":{\"median\":%.6g,\"min\":%.6g,\"max\":%.6g}", before, name, spread.median,
                   spread.least, spread.most);
}

static void json_errors(const struct load_result *total, FILE *to)
{
    (void) fputs("\"errors\":{", to);
    for (size_t i = 0; i < LOAD_REASONS && total->reasons[i].name != NULL; i++) {
        (void) fprintf(to, "%s\"%s\":%" PRIu64, i == 0 ? "" : ",", total->reasons[i].name, total->reasons[i].count);
    }
    (void) fputs("},", to);
}

/* As HdrHistogram prints it: ever finer towards the end. */
static void json_distribution(const struct histogram *histogram, FILE *to)
{
    static const double shares[] = {0,    0.1,  0.2,  0.3,   0.4,   0.5,    0.6,    0.7,     0.8,     0.85, 0.9,
                                    0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 1};
    (void) fputs(",\"distribution_us\":[", to);
    for (size_t i = 0; i < COF_COUNT(shares); i++) {
        (void) fprintf(to, "%s[%g,%.1f]", i == 0 ? "" : ",", 100 * shares[i], microseconds(histogram, shares[i]));
    }
    (void) fputc(']', to);
}

/* Calls up to each duration that is the double of the one before, and not up to that. */
static void json_histogram(const struct histogram *histogram, FILE *to)
{
    uint64_t before = 0;
    const char *comma = "";
    (void) fputs(",\"histogram_us\":[", to);
    for (unsigned bit = 8; bit < 63 && before < histogram->count; bit++) {
        const uint64_t edge = UINT64_C(1) << bit;
        const uint64_t upto = histogram_upto(histogram, edge - 1);
        if (upto > before) {
            (void) fprintf(to, "%s[%.3f,%" PRIu64 "]", comma, (double) edge / 1000, upto - before);
            comma = ",";
        }
        before = upto;
    }
    (void) fputc(']', to);
}

static bool json_series(const struct measure *measure, const struct subject *subject, const struct series *series,
                        FILE *to)
{
    struct load_result *total = measure_total(measure, subject, series);
    if (total == NULL) {
        return false;
    }
    (void) fprintf(to, "\"calls\":%" PRIu64 ",\"failed\":%" PRIu64 ",", total->latency.count, total->failed);
    json_errors(total, to);
    json_spread("", "rate", statistics_spread(series->rate, subject->marks, measure->rounds), to);
    (void) fputs(",\"latency_us\":{", to);
    for (size_t i = 0; i < COF_COUNT(quantiles); i++) {
        (void) fprintf(to, "%s\"%s\":%.1f", i == 0 ? "" : ",", quantiles[i].name,
                       microseconds(&total->latency, quantiles[i].share));
    }
    (void) fprintf(to, "},\"late\":%" PRIu64, total->late);
    json_distribution(&total->latency, to);
    json_histogram(&total->latency, to);
    free(total);
    return true;
}

static void json_void(const struct measure *measure, const struct subject *subject, FILE *to)
{
    const char *comma = "";
    (void) fputs(",\"void_rounds\":[", to);
    for (uint32_t i = 0; i < measure->rounds; i++) {
        if (subject->marks[i]) {
            (void) fprintf(to, "%s%" PRIu32, comma, i + 1);
            comma = ",";
        }
    }
    (void) fputc(']', to);
}

static bool json_subject(const struct measure *measure, const struct subject *subject, FILE *to)
{
    (void) fprintf(to, "{\"name\":\"%s\",\"in_flight\":%" PRIu32 ",\"due_per_second\":%" PRIu32 ",\"rounds\":%zu,",
                   subject->mix.name, subject->in_flight, subject->rate,
                   measure->rounds - measure_void_count(measure, subject));
    if (!json_series(measure, subject, &subject->own, to)) {
        return false;
    }
    (void) fputs(",\"echo\":{", to);
    if (!json_series(measure, subject, &subject->control, to)) {
        return false;
    }
    (void) fputc('}', to);
    json_void(measure, subject, to);
    json_spread(",", "rate_ratio", ratio_of(measure, subject, subject->own.rate, subject->control.rate), to);
    json_spread(",", "p50_ratio", ratio_of(measure, subject, subject->own.p50_us, subject->control.p50_us), to);
    (void) fputs(",\"anchor_ratios\":{", to);
    for (size_t i = 0; i < measure->anchor_count; i++) {
        const struct anchor *anchor = &measure->anchors[i];
        json_spread(i == 0 ? "" : ",", anchor->name,
                    ratio_of(measure, subject, subject->own.rate, anchor->series.rate), to);
    }
    (void) fputs("}}", to);
    return true;
}

bool report_json(const struct measure *measure, FILE *to)
{
    (void) fprintf(to,
                   "{\"think_us\":%" PRIu64 ",\"ramp_us\":%" PRIu64
                   ",\"addresses\":%zu,\"value_size\":%zu,\"seed\":%" PRIu64 ",\"rounds\":%" PRIu32
                   ",\"deviation_percent\":%.6g,\"subjects\":[",
                   measure->think_us, measure->ramp_us, measure->client_count, measure->data.value_size,
                   measure->seed, measure->rounds, measure->deviation);
    for (size_t i = 0; i < measure->subject_count; i++) {
        (void) fputs(i == 0 ? "" : ",", to);
        if (!json_subject(measure, &measure->subjects[i], to)) {
            return false;
        }
    }
    (void) fputs("],\"anchors\":{", to);
    for (size_t i = 0; i < measure->anchor_count; i++) {
        const struct anchor *anchor = &measure->anchors[i];
        json_spread(i == 0 ? "" : ",", anchor->name, anchor_rate(measure, anchor), to);
    }
    (void) fputs("}}\n", to);
    return true;
}
