#include "client/bench/compare.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/bench/measure.h"
#include "common/json.h"

/* That the rounds of two runs which do not differ lie apart has then one chance in 35, by the number of their orders. */
enum { LEAST_ROUNDS = 4 };

enum { PATH_SIZE = 120, NUMBER_SIZE = 40, READ_SIZE = 2048 };

/* --- What is read ------------------------------------------------------------------------------------------------- */

struct entry {
    char name[MIX_NAME];
    double in_flight;
    double due;
    struct spread rate;
    struct spread rate_ratio;
    struct spread p50_ratio;
    double p50;
    double p99;
    double p99_9;
    double failed;
    double rounds; /* that are not void */
};

struct run {
    struct entry entries[SUBJECTS_MAX];
    size_t count;
};

/* Where each figure stands in a report. */
static const struct {
    const char *path;
    size_t field;
} places[] = {
    {"subjects.in_flight", offsetof(struct entry, in_flight)},
    {"subjects.due_per_second", offsetof(struct entry, due)},
    {"subjects.rounds", offsetof(struct entry, rounds)},
    {"subjects.failed", offsetof(struct entry, failed)},
    {"subjects.rate.median", offsetof(struct entry, rate.median)},
    {"subjects.rate.min", offsetof(struct entry, rate.least)},
    {"subjects.rate.max", offsetof(struct entry, rate.most)},
    {"subjects.rate_ratio.median", offsetof(struct entry, rate_ratio.median)},
    {"subjects.rate_ratio.min", offsetof(struct entry, rate_ratio.least)},
    {"subjects.rate_ratio.max", offsetof(struct entry, rate_ratio.most)},
    {"subjects.p50_ratio.median", offsetof(struct entry, p50_ratio.median)},
    {"subjects.p50_ratio.min", offsetof(struct entry, p50_ratio.least)},
    {"subjects.p50_ratio.max", offsetof(struct entry, p50_ratio.most)},
    {"subjects.latency_us.p50", offsetof(struct entry, p50)},
    {"subjects.latency_us.p99", offsetof(struct entry, p99)},
    {"subjects.latency_us.p99_9", offsetof(struct entry, p99_9)},
};

/* The names of the members that lead to where one is, joined by dots. */
struct path {
    char text[PATH_SIZE];
    size_t ends[COF_JSON_DEPTH + 1]; /* of the container at each depth */
    size_t depth;
};

/* As much as there is room for. */
static void copy_text(char *to, size_t room, struct cof_slice text)
{
    const size_t length = text.len < room ? text.len : room - 1;
    memcpy(to, text.data, length);
    to[length] = '\0';
}

/* Of a key or string as it stands in the text. */
static struct cof_slice without_quotes(struct cof_slice raw)
{
    return cof_slice_of(raw.data + 1, raw.len - 2);
}

static void path_key(struct path *path, struct cof_slice raw)
{
    size_t end = path->ends[path->depth];
    if (end > 0 && end + 1 < sizeof path->text) {
        path->text[end++] = '.';
    }
    copy_text(path->text + end, sizeof path->text - end, without_quotes(raw));
}

static void path_enter(struct path *path)
{
    path->ends[++path->depth] = strlen(path->text);
}

/* What comes next in the container around has its name, or gets another. */
static void path_leave(struct path *path)
{
    path->text[path->ends[path->depth--]] = '\0';
}

static void take_word(struct run *run, const char *path, struct cof_slice raw)
{
    char number[NUMBER_SIZE];
    char *entry = (char *) &run->entries[run->count - 1];
    copy_text(number, sizeof number, raw);
    for (size_t i = 0; i < COF_COUNT(places); i++) {
        if (strcmp(places[i].path, path) == 0) {
            const double value = strtod(number, NULL);
            memcpy(entry + places[i].field, &value, sizeof value);
        }
    }
}

static bool take(struct run *run, const struct path *path, const struct cof_json_event *event)
{
    if (event->kind == COF_JSON_OBJECT && strcmp(path->text, "subjects") == 0) {
        return run->count++ < SUBJECTS_MAX;
    }
    if (run->count > 0 && event->kind == COF_JSON_WORD) {
        take_word(run, path->text, event->raw);
    } else if (run->count > 0 && event->kind == COF_JSON_STRING && strcmp(path->text, "subjects.name") == 0) {
        copy_text(run->entries[run->count - 1].name, MIX_NAME, without_quotes(event->raw));
    }
    return true;
}

static void follow(struct path *path, const struct cof_json_event *event)
{
    switch (event->kind) {
    case COF_JSON_OBJECT:
    case COF_JSON_ARRAY:
        path_enter(path);
        break;
    case COF_JSON_OBJECT_END:
    case COF_JSON_ARRAY_END:
        path_leave(path);
        break;
    case COF_JSON_KEY:
        path_key(path, event->raw);
        break;
    case COF_JSON_STRING:
    case COF_JSON_WORD:
    case COF_JSON_END:
        break;
    }
}

static bool parse(const char *name, struct cof_slice text, struct run *run)
{
    struct cof_error err = {0};
    struct cof_json_scan scan;
    struct cof_json_event event = {.kind = COF_JSON_ARRAY};
    struct path path = {.depth = 0};
    cof_json_scan_init(&scan, text);
    while (event.kind != COF_JSON_END) {
        if (cof_json_next(&scan, &event, &err) != COF_OK) {
            (void) fprintf(stderr, "coffer-bench: %s: %s\n", name, err.message);
            return false;
        }
        if (!take(run, &path, &event)) {
            (void) fprintf(stderr, "coffer-bench: %s has more than %d mixes\n", name, SUBJECTS_MAX);
            return false;
        }
        follow(&path, &event);
    }
    if (run->count == 0) {
        (void) fprintf(stderr, "coffer-bench: %s is no report\n  hint: coffer-bench MIX --output json >FILE\n",
                       name);
    }
    return run->count > 0;
}

static char *read_all(FILE *file, size_t *ret_length)
{
    char *text = NULL;
    FILE *to = open_memstream(&text, ret_length);
    char part[READ_SIZE];
    size_t got = 0;
    bool good = to != NULL;
    while (good && (got = fread(part, 1, sizeof part, file)) > 0) {
        good = fwrite(part, 1, got, to) == got;
    }
    good = good && ferror(file) == 0;
    if ((to != NULL && fclose(to) != 0) || !good) {
        free(text);
        return NULL;
    }
    return text;
}

static struct run *read_run(const char *name)
{
    FILE *file = fopen(name, "re");
    size_t length = 0;
    char *text = file == NULL ? NULL : read_all(file, &length);
    struct run *run = text == NULL ? NULL : calloc(1, sizeof *run);
    if (run == NULL) {
        (void) fprintf(stderr, "coffer-bench: %s: %s\n", name, strerror(errno));
    } else if (!parse(name, cof_slice_of(text, length), run)) {
        free(run);
        run = NULL;
    }
    free(text);
    if (file != NULL) {
        (void) fclose(file);
    }
    return run;
}

/* --- What is told ------------------------------------------------------------------------------------------------- */

typedef enum verdict { VERDICT_NONE, VERDICT_SAME, VERDICT_BETTER, VERDICT_WORSE } verdict;

static const char *const verdicts[] = {"", "same", "better", "worse"};

struct figure {
    const char *name; /* in JSON */
    const char *text;
    size_t field;
    bool spread;       /* over rounds, so that it can be judged */
    bool less;         /* is better */
    bool without_echo; /* is judged only if there was none */
};

static const struct figure figures[] = {
    {"rate", "calls/s", offsetof(struct entry, rate), true, false, true},
    {"rate_ratio", "calls/s to the echo's", offsetof(struct entry, rate_ratio), true, false, false},
    {"p50_ratio", "p50 to the echo's", offsetof(struct entry, p50_ratio), true, true, false},
    {"p50_us", "p50", offsetof(struct entry, p50), false, true, false},
    {"p99_us", "p99", offsetof(struct entry, p99), false, true, false},
    {"p99_9_us", "p99.9", offsetof(struct entry, p99_9), false, true, false},
    {"failed", "failed", offsetof(struct entry, failed), false, true, false},
};

static struct spread spread_of(const struct entry *entry, const struct figure *figure)
{
    const void *field = (const char *) entry + figure->field;
    struct spread spread = {0};
    if (figure->spread) {
        memcpy(&spread, field, sizeof spread);
    } else {
        memcpy(&spread.median, field, sizeof spread.median);
    }
    return spread;
}

/* Percent; 0 if there is nothing to compare with. */
static double change_of(struct spread before, struct spread after)
{
    return before.median > 0 ? 100 * (after.median / before.median - 1) : 0;
}

static bool can_judge(const struct entry *before, const struct entry *after)
{
    return before->rounds >= LEAST_ROUNDS && after->rounds >= LEAST_ROUNDS;
}

static verdict judge(const struct compare *compare, const struct figure *figure, const struct entry *before,
                     const struct entry *after)
{
    const struct spread was = spread_of(before, figure);
    const struct spread is = spread_of(after, figure);
    const bool echo = before->rate_ratio.median > 0 && after->rate_ratio.median > 0;
    if (!can_judge(before, after) || !figure->spread || (figure->without_echo && echo) || was.median <= 0 ||
        is.median <= 0) {
        return VERDICT_NONE;
    }
    const double change = change_of(was, is);
    if (change > compare->tolerance && is.least > was.most) {
        return figure->less ? VERDICT_WORSE : VERDICT_BETTER;
    }
    if (change < -compare->tolerance && is.most < was.least) {
        return figure->less ? VERDICT_BETTER : VERDICT_WORSE;
    }
    return VERDICT_SAME;
}

static void text_entry(const struct compare *compare, const struct entry *before, const struct entry *after)
{
    for (size_t i = 0; i < COF_COUNT(figures); i++) {
        const struct spread was = spread_of(before, &figures[i]);
        const struct spread is = spread_of(after, &figures[i]);
        if (was.median > 0 || is.median > 0) {
            const verdict found = judge(compare, &figures[i], before, after);
            printf("    %-24s %12.5g %12.5g %+9.1f %%%s%s\n", figures[i].text, was.median, is.median,
                   change_of(was, is), found == VERDICT_NONE ? "" : "  ", verdicts[found]);
        }
    }
}

static void json_entry(const struct compare *compare, const struct entry *before, const struct entry *after)
{
    for (size_t i = 0; i < COF_COUNT(figures); i++) {
        const struct spread was = spread_of(before, &figures[i]);
        const struct spread is = spread_of(after, &figures[i]);
        const verdict found = judge(compare, &figures[i], before, after);
        printf(",\"%s\":{\"before\":%.6g,\"after\":%.6g,\"change_percent\":%.4g", figures[i].name, was.median,
               is.median, change_of(was, is));
        printf(found == VERDICT_NONE ? "}" : ",\"verdict\":\"%s\"}", verdicts[found]);
    }
}

static const struct entry *find(const struct run *run, const struct entry *like)
{
    for (size_t i = 0; i < run->count; i++) {
        const struct entry *entry = &run->entries[i];
        if (strcmp(entry->name, like->name) == 0 && entry->in_flight == like->in_flight &&
            entry->due == like->due) {
            return entry;
        }
    }
    return NULL;
}

static void text_label(const struct entry *entry)
{
    if (entry->due > 0) {
        printf("%s @%.0f/s\n", entry->name, entry->due);
    } else {
        printf("%s x%.0f\n", entry->name, entry->in_flight);
    }
}

static void tell(const struct compare *compare, const struct entry *before, const struct entry *after, bool first)
{
    if (compare->json) {
        printf("%s{\"name\":\"%s\",\"in_flight\":%.0f,\"due_per_second\":%.0f", first ? "" : ",", after->name,
               after->in_flight, after->due);
        json_entry(compare, before, after);
        printf("}");
    } else {
        text_label(after);
        text_entry(compare, before, after);
        printf("%s", can_judge(before, after) ? "" : "    fewer than 4 rounds count, so nothing is judged\n");
    }
}

static bool is_worse(const struct compare *compare, const struct entry *before, const struct entry *after)
{
    bool worse = false;
    for (size_t i = 0; i < COF_COUNT(figures); i++) {
        worse = worse || judge(compare, &figures[i], before, after) == VERDICT_WORSE;
    }
    return worse;
}

static bool compare_runs(const struct compare *compare, const struct run *before, const struct run *after,
                         bool *ret_worse)
{
    size_t told = 0;
    *ret_worse = false;
    printf(compare->json ? "{\"subjects\":[" : "%-28s %12s %12s %11s\n", "", "before", "after", "change");
    for (size_t i = 0; i < after->count; i++) {
        const struct entry *old = find(before, &after->entries[i]);
        if (old != NULL) {
            tell(compare, old, &after->entries[i], told++ == 0);
            *ret_worse = *ret_worse || is_worse(compare, old, &after->entries[i]);
        }
    }
    printf("%s", compare->json ? "]}\n" : "");
    if (told == 0) {
        (void) fputs("coffer-bench: the two runs have no mix under the same load in common\n", stderr);
    }
    return told > 0 && fflush(stdout) == 0;
}

bool compare_files(const struct compare *compare, bool *ret_worse)
{
    struct run *before = read_run(compare->before);
    struct run *after = before == NULL ? NULL : read_run(compare->after);
    const bool done = after != NULL && compare_runs(compare, before, after, ret_worse);
    free(before);
    free(after);
    return done;
}
