#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/secret.h"
#include "server/bootstrap.h"
#include "server/server.h"
#include "server/service/caller.h"
#include "server/service/instance.h"
#include "server/settings.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

/*
 * A token with a wrong secret, one that is unknown, and one of an unknown workspace take the same steps, and the same
 * time. In the test's own process: the rows are read once, then the check is made again and again, the kinds in a random
 * order, and their times are compared by Welch's t-test, as dudect does it. TEST_FULL=1: more samples.
 */

enum {
    PATH_SIZE = 512,
    SAMPLES = 20000,
    SAMPLES_FULL = 1000000,
    TIMEOUT_MS = 60000,
    CALL_MEMORY = 1 << 20,
    ROUNDS = 5,
    SPACE_MOST = 8192
};

/* Beyond it a difference is taken to be real. */
#define T_MOST 4.5
/* The slowest tenth is left out: interrupts, and other processes. */
#define KEPT_SHARE 0.9

typedef enum kind {
    KIND_WRONG,
    KIND_UNKNOWN,
    KIND_WORKSPACE,
    KIND_COUNT,
} kind;

static const char *const kind_names[KIND_COUNT] = {"a wrong secret", "an unknown token", "an unknown workspace"};

static struct test_database database;
static char directory[256];
static struct settings settings;
static struct server_core *core;
static struct session *session;
static struct cof_token tokens[KIND_COUNT];
static struct caller_source sources[KIND_COUNT];
static struct cof_arena arena;

/* --- Steps that are counted ----------------------------------------------------------------------------------- */

static unsigned digests;
static unsigned comparisons;
static unsigned allocations;

cof_code __real_crypto_sha256(struct cof_slice bytes, uint8_t digest[CRYPTO_DIGEST], struct cof_error *err);
cof_code __wrap_crypto_sha256(struct cof_slice bytes, uint8_t digest[CRYPTO_DIGEST], struct cof_error *err);
bool __real_cof_secret_equal(struct cof_slice a, struct cof_slice b);
bool __wrap_cof_secret_equal(struct cof_slice a, struct cof_slice b);
void *__real_cof_arena_alloc(struct cof_arena *from, size_t size);
void *__wrap_cof_arena_alloc(struct cof_arena *from, size_t size);

cof_code __wrap_crypto_sha256(struct cof_slice bytes, uint8_t digest[CRYPTO_DIGEST], struct cof_error *err)
{
    digests++;
    return __real_crypto_sha256(bytes, digest, err);
}

bool __wrap_cof_secret_equal(struct cof_slice a, struct cof_slice b)
{
    comparisons++;
    return __real_cof_secret_equal(a, b);
}

void *__wrap_cof_arena_alloc(struct cof_arena *from, size_t size)
{
    allocations++;
    return __real_cof_arena_alloc(from, size);
}

/* --- A server without sockets --------------------------------------------------------------------------------- */

static void give_up(const char *what, const struct cof_error *err)
{
    fprintf(stderr, "%s: %s (%s)\n", what, err->message, err->trail);
    exit(1);
}

static void read_token(struct cof_token *ret_token)
{
    char path[PATH_SIZE];
    char text[COF_TOKEN_TEXT];
    struct cof_error err;
    (void) snprintf(path, sizeof path, "%s/%s", directory, BOOTSTRAP_ADMIN_TOKEN);
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(text, sizeof text, file) == NULL) {
        perror(path);
        exit(1);
    }
    (void) fclose(file);
    text[strcspn(text, "\n")] = '\0';
    if (cof_token_parse(cof_slice_text(text), ret_token, &err) != COF_OK) {
        give_up("the token", &err);
    }
}

static cof_code start_session(struct cof_error *err)
{
    const struct session_options options = {
        .conninfo = database.conninfo,
        .clock = &cof_system_clock,
        .connect_timeout_ms = TIMEOUT_MS,
        .backoff_max_ms = 100,
        .on_connect = instance_on_connect,
        .context = server_core_service(core),
    };
    TRY(session_new(&options, &session, err));
    session_deadline(session, cof_clock_monotonic(&cof_system_clock) + (int64_t) TIMEOUT_MS * 1000);
    return session_ready(session, err);
}

static void start(void)
{
    static char root_key[PATH_SIZE];
    static char token[PATH_SIZE];
    char workspace[BOOTSTRAP_UUID_TEXT];
    struct cof_error err;
    bool made;
    test_database_init(&database);
    test_directory_init(directory);
    (void) snprintf(root_key, sizeof root_key, "%s/root.key", directory);
    (void) snprintf(token, sizeof token, "%s/%s", directory, BOOTSTRAP_SYSTEM_TOKEN);
    cof_code code = settings_read(NULL, &settings, &err);
    settings.database_conninfo = database.conninfo;
    settings.keys_root_key_file = root_key;
    code = code == COF_OK ? server_start(&settings, &err) : code;
    code = code == COF_OK ? server_make_root_key(&settings, &made, &err) : code;
    code = code == COF_OK ? server_core_new(&settings, &core, &err) : code;
    code = code == COF_OK ? bootstrap_instance(core, token, &err) : code;
    code = code == COF_OK ? bootstrap_development(core, directory, workspace, &err) : code;
    code = code == COF_OK ? start_session(&err) : code;
    if (code != COF_OK) {
        give_up("starting", &err);
    }
    cof_arena_init(&arena, server_core_pool(core), CALL_MEMORY);
}

static void stop(void)
{
    for (unsigned i = 0; i < KIND_COUNT; i++) {
        caller_source_done(&sources[i]);
    }
    cof_arena_reset(&arena);
    session_free(session);
    server_core_free(core);
    settings_done(&settings);
    test_directory_done(directory);
    test_database_done(&database);
}

/* --- The check ------------------------------------------------------------------------------------------------ */

static struct call new_call(const struct cof_token *token, struct cof_error *err)
{
    return (struct call){
        .service = server_core_service(core),
        .session = session,
        .arena = &arena,
        .err = err,
        .token = token,
        .deadline_us = INT64_MAX,
        .peer = "test",
        .from = {.local = true},
    };
}

static void make_tokens(struct cof_token right)
{
    tokens[KIND_WRONG] = tokens[KIND_UNKNOWN] = tokens[KIND_WORKSPACE] = right;
    tokens[KIND_WRONG].secret[7] ^= 1;
    tokens[KIND_UNKNOWN].id = cof_uuid_random();
    tokens[KIND_WORKSPACE].workspace = cof_uuid_random();
}

static cof_code read_rows(kind which, struct cof_error *err)
{
    struct call call = new_call(&tokens[which], err);
    TRY(caller_queue(&call, &tokens[which], &sources[which]));
    TRY(session_sync(session, err));
    TRY(session_next(session, &sources[which].rows, err));
    session_reset(session);
    return COF_OK;
}

static cof_code check(kind which, struct cof_error *err)
{
    struct caller caller = {.kind = tokens[which].kind};
    struct call call = new_call(&tokens[which], err);
    return caller_read(&call, &tokens[which], &sources[which], &caller);
}

static bool prepare(void)
{
    struct cof_error err;
    struct cof_token right;
    read_token(&right);
    make_tokens(right);
    for (unsigned i = 0; i < KIND_COUNT; i++) {
        if (read_rows((kind) i, &err) != COF_OK) {
            give_up("reading the rows", &err);
        }
    }
    return rows_count(sources[KIND_WRONG].rows) == 1 && rows_count(sources[KIND_UNKNOWN].rows) == 0 &&
           rows_count(sources[KIND_WORKSPACE].rows) == 0;
}

static void wrong_and_unknown_tokens_take_the_same_steps(void)
{
    struct cof_error err;
    for (unsigned i = 0; i < KIND_COUNT; i++) {
        digests = comparisons = allocations = 0;
        CHECK_FAILS(check((kind) i, &err), &err, TOKEN_INVALID);
        CHECK_INT(digests, 1);
        CHECK_INT(comparisons, 1);
        CHECK_INT(allocations, 0);
    }
}

/* --- Time ----------------------------------------------------------------------------------------------------- */

struct samples {
    double *times;
    size_t count;
};

static int by_time(const void *a, const void *b)
{
    const double left = *(const double *) a;
    const double right = *(const double *) b;
    return (left > right) - (left < right);
}

static double now_ns(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec * 1e9 + (double) now.tv_nsec;
}

/* Two kinds, as often one as the other, so that neither is more at home in caches and predictors. */
static void measure(const kind kinds[2], struct samples samples[2], size_t total, uint64_t *random)
{
    struct cof_error err;
    samples[0].count = samples[1].count = 0;
    for (size_t i = 0; i < total; i++) {
        const size_t which = test_random(random) >> 32 & 1;
        const double begun = now_ns();
        const cof_code code = check(kinds[which], &err);
        const double time = now_ns() - begun;
        if (code != COF_OK) {
            samples[which].times[samples[which].count++] = time;
        }
    }
}

/* Below which the faster part of all samples lies. */
static double limit_of(const struct samples samples[2])
{
    const size_t count = samples[0].count + samples[1].count;
    double *all = malloc(count * sizeof *all);
    if (all == NULL) {
        abort();
    }
    memcpy(all, samples[0].times, samples[0].count * sizeof *all);
    memcpy(all + samples[0].count, samples[1].times, samples[1].count * sizeof *all);
    qsort(all, count, sizeof *all, by_time);
    const double limit = all[(size_t) ((double) count * KEPT_SHARE)];
    free(all);
    return limit;
}

struct moments {
    double count;
    double mean;
    double variance;
};

static struct moments moments_below(const struct samples *samples, double limit)
{
    struct moments result = {0, 0, 0};
    double squares = 0;
    for (size_t i = 0; i < samples->count; i++) {
        if (samples->times[i] <= limit) {
            result.count++;
            const double off = samples->times[i] - result.mean;
            result.mean += off / result.count;
            squares += off * (samples->times[i] - result.mean);
        }
    }
    result.variance = squares / (result.count - 1);
    return result;
}

static double welch(const struct moments *a, const struct moments *b)
{
    return (a->mean - b->mean) / sqrt(a->variance / a->count + b->variance / b->count);
}

static double t_of(const kind kinds[2], uint64_t *random)
{
    const size_t total = 2 * (size_t) (getenv("TEST_FULL") != NULL ? SAMPLES_FULL : SAMPLES);
    struct samples samples[2] = {{calloc(total, sizeof(double)), 0}, {calloc(total, sizeof(double)), 0}};
    if (samples[0].times == NULL || samples[1].times == NULL) {
        abort();
    }
    measure(kinds, samples, total / 10, random); /* nothing is cold any more */
    measure(kinds, samples, total, random);
    const double limit = limit_of(samples);
    const struct moments first = moments_below(&samples[0], limit);
    const struct moments second = moments_below(&samples[1], limit);
    const double t = welch(&first, &second);
    printf("%s and %s: %.2f and %.2f ns, t %.2f\n", kind_names[kinds[0]], kind_names[kinds[1]], first.mean,
           second.mean, t);
    free(samples[0].times);
    free(samples[1].times);
    return t;
}

/* Reads the rows again, so that they lie elsewhere: some places are a nanosecond or two faster than others. */
static void move_rows(uint64_t *random)
{
    void *spaces[KIND_COUNT];
    struct cof_error err;
    for (unsigned i = 0; i < KIND_COUNT; i++) {
        spaces[i] = malloc(1 + (size_t) (test_random(random) % SPACE_MOST));
        caller_source_done(&sources[i]);
        if (spaces[i] == NULL) {
            abort();
        }
        if (read_rows((kind) i, &err) != COF_OK) {
            give_up("reading the rows", &err);
        }
    }
    for (unsigned i = 0; i < KIND_COUNT; i++) {
        free(spaces[i]);
    }
}

/* What differs shows each time, wherever the rows lie, and the same one is faster; what the machine does otherwise does
 * not. */
static bool differ(kind a, kind b, uint64_t *random)
{
    const kind kinds[2] = {a, b};
    double before = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        move_rows(random);
        const double t = t_of(kinds, random);
        if (fabs(t) < T_MOST || t * before < 0) {
            return false;
        }
        before = t;
    }
    return true;
}

static void wrong_and_unknown_tokens_take_the_same_time(void)
{
    uint64_t random = test_seed();
    CHECK(!differ(KIND_WRONG, KIND_UNKNOWN, &random));
    CHECK(!differ(KIND_WRONG, KIND_WORKSPACE, &random));
    CHECK(!differ(KIND_UNKNOWN, KIND_WORKSPACE, &random));
}

static const struct test_case cases[] = {
    TEST(wrong_and_unknown_tokens_take_the_same_steps),
    TEST(wrong_and_unknown_tokens_take_the_same_time),
};

int main(int argc, char **argv)
{
    start();
    const bool prepared = prepare();
    const int result = prepared ? test_main(argc, argv, cases, COF_COUNT(cases)) : 1;
    stop();
    return result;
}
