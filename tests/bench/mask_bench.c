#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <coffer/mask.h>

#include "common/attr.h"

/*
 * What masking costs, as a ratio to a plain copy and to one search for a byte that does not come, over the same text
 * in one run. All are measured in turn, several times; the best time counts, as noise only ever adds. The text is
 * like that of a log; in one of the rows each line of it holds a value.
 */

enum { TEXT = 8 << 20, PIECE = 64 << 10, ROUNDS = 15, VALUE = 40, VALUES_MAX = 1000 };

struct bench {
    char *text;
    char *text_with_values;
    char *to;
    size_t written;
    char values[VALUES_MAX][VALUE + 1];
    coffer_mask_stream *streams[3];
    coffer_masker *maskers[3];
};

/* Numbers that are the same in each run. */
static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static bool copy(const void *data, size_t length, void *context)
{
    struct bench *bench = context;
    if (bench->written + length > TEXT) {
        bench->written = 0;
    }
    memcpy(bench->to + bench->written, data, length);
    bench->written += length;
    return true;
}

static void run_memcpy(struct bench *bench)
{
    for (size_t at = 0; at < TEXT; at += PIECE) {
        (void) copy(bench->text + at, PIECE, bench);
    }
}

static void run_memchr(struct bench *bench)
{
    if (memchr(bench->text, '\x7f', TEXT) != NULL) {
        abort();
    }
}

static void mask(coffer_mask_stream *stream, const char *text)
{
    coffer_status status = COFFER_OK;
    for (size_t at = 0; status == COFFER_OK && at < TEXT; at += PIECE) {
        status = coffer_mask_stream_feed(stream, text + at, PIECE);
    }
    if (status != COFFER_OK || coffer_mask_stream_flush(stream) != COFFER_OK) {
        abort();
    }
}

static void run_one(struct bench *bench)
{
    mask(bench->streams[0], bench->text);
}

static void run_ten(struct bench *bench)
{
    mask(bench->streams[1], bench->text);
}

static void run_ten_with_values(struct bench *bench)
{
    mask(bench->streams[1], bench->text_with_values);
}

static void run_thousand(struct bench *bench)
{
    mask(bench->streams[2], bench->text);
}

static const struct {
    const char *name;
    void (*run)(struct bench *bench);
} subjects[] = {
    {"memcpy", run_memcpy},
    {"memchr", run_memchr},
    {"1 value", run_one},
    {"10 values", run_ten},
    {"10 values, one in each line", run_ten_with_values},
    {"1,000 values", run_thousand},
};

static double now_ns(void)
{
    struct timespec time;
    (void) clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec * 1e9 + (double) time.tv_nsec;
}

static void make_values(struct bench *bench, uint64_t *random)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
    for (size_t i = 0; i < VALUES_MAX; i++) {
        for (size_t k = 0; k < VALUE; k++) {
            bench->values[i][k] = letters[next(random) % (sizeof letters - 1)];
        }
    }
}

static void make_text(struct bench *bench, char *text, bool with_values, uint64_t *random)
{
    char line[256];
    for (size_t at = 0; at < TEXT;) {
        const int length = snprintf(
            line, sizeof line,
            "2026-01-%02" PRIu64 "T12:%02" PRIu64 ":07Z level=info run=%08" PRIx64 " action=tools.http.request "
            "status=%" PRIu64 " message=\"fetched %" PRIu64 " items\" %s\n",
            next(random) % 28 + 1, next(random) % 60, next(random), 200 + next(random) % 300, next(random) % 5000,
            with_values ? bench->values[next(random) % 10] : "done");
        const size_t left = TEXT - at;
        const size_t taken = (size_t) length < left ? (size_t) length : left;
        memcpy(text + at, line, taken);
        at += taken;
    }
}

static void make_stream(struct bench *bench, size_t index, size_t count)
{
    static coffer_bytes values[VALUES_MAX];
    for (size_t i = 0; i < count; i++) {
        values[i] = (coffer_bytes){(const uint8_t *) bench->values[i], VALUE};
    }
    if (coffer_masker_new(NULL, values, count, &bench->maskers[index], NULL) != COFFER_OK ||
        coffer_mask_stream_new(bench->maskers[index], copy, bench, &bench->streams[index], NULL) != COFFER_OK) {
        abort();
    }
}

static void prepare(struct bench *bench)
{
    uint64_t random = 1;
    bench->text = malloc(TEXT);
    bench->text_with_values = malloc(TEXT);
    bench->to = malloc(TEXT);
    if (bench->text == NULL || bench->text_with_values == NULL || bench->to == NULL) {
        abort();
    }
    make_values(bench, &random);
    make_text(bench, bench->text, false, &random);
    make_text(bench, bench->text_with_values, true, &random);
    make_stream(bench, 0, 1);
    make_stream(bench, 1, 10);
    make_stream(bench, 2, VALUES_MAX);
}

static void finish(struct bench *bench)
{
    for (size_t i = 0; i < COF_COUNT(bench->streams); i++) {
        coffer_mask_stream_free(bench->streams[i]);
        coffer_masker_free(bench->maskers[i]);
    }
    free(bench->text);
    free(bench->text_with_values);
    free(bench->to);
}

int main(void)
{
    static struct bench bench;
    double best[COF_COUNT(subjects)] = {0};
    prepare(&bench);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < COF_COUNT(subjects); i++) {
            const double start = now_ns();
            subjects[i].run(&bench);
            const double took = now_ns() - start;
            best[i] = best[i] == 0 || took < best[i] ? took : best[i];
        }
    }
    printf("%d MiB in pieces of %d KiB, values of %d bytes, best of %d rounds\n", TEXT >> 20, PIECE >> 10, VALUE,
           ROUNDS);
    printf("%-28s %8s  %9s  %9s\n", "", "MB/s", "to memcpy", "to memchr");
    for (size_t i = 0; i < COF_COUNT(subjects); i++) {
        printf("%-28s %8.0f  %9.3f  %9.3f\n", subjects[i].name, TEXT * 1e3 / best[i], best[0] / best[i],
               best[1] / best[i]);
    }
    finish(&bench);
    return 0;
}
