#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "tests/unit/audit/fixture.h"

/* The log as whoever writes it sees it: threads, segments, the disk, and starting again. */

enum { THREADS = 4, RECORDS = 2000, PATIENCE_MS = 60000 };

static bool wait_until(bool (*condition)(void *context), void *context)
{
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (condition(context)) {
            return true;
        }
        (void) usleep(1000);
    }
    return false;
}

/* The next segment is made in the background, so a fast writer may have to wait for it. */
static uint64_t append_patiently(struct place *place, struct cof_slice text)
{
    struct cof_error err;
    uint64_t sequence = 0;
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (audit_append(place->audit, text, &sequence, &err) == COF_OK) {
            return sequence;
        }
        (void) usleep(1000);
    }
    abort();
}

static void fill(struct place *place, size_t records)
{
    static uint8_t text[1000];
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < records; i++) {
        (void) append_patiently(place, cof_slice_of(text, sizeof text));
    }
}

static void records_are_read_in_the_order_in_which_they_were_written(void)
{
    struct place place;
    struct findings findings;
    place_init(&place);
    place_open(&place);
    CHECK_INT(place_append(&place, "one"), 1);
    CHECK_INT(place_append(&place, "two"), 2);
    place_close(&place);
    place_walk(&place, &findings);
    CHECK_TEXT(findings.damage, "");
    CHECK_INT(findings.summary.records, 2);
    CHECK_INT(findings.summary.sequence, 3); /* with the closing record */
    CHECK_TEXT(findings.last, "two");
    place_done(&place);
}

static void *write_many(void *context)
{
    struct place *place = context;
    uint8_t text[300];
    memset(text, 'y', sizeof text);
    for (int i = 0; i < RECORDS; i++) {
        (void) append_patiently(place, cof_slice_of(text, sizeof text));
    }
    return NULL;
}

static void many_threads_write_over_many_segments_and_lose_nothing(void)
{
    struct place place;
    struct findings findings;
    pthread_t threads[THREADS];
    place_init(&place);
    place_open(&place);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, write_many, &place) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void) pthread_join(threads[i], NULL);
    }
    place_close(&place);
    place_walk(&place, &findings);
    CHECK_TEXT(findings.damage, "");
    CHECK_INT(findings.summary.records, THREADS * RECORDS);
    CHECK(findings.summary.segments > 5);
    place_done(&place);
}

struct waiting {
    struct audit_waiter waiter;
    atomic_int called;
    atomic_int durable;
};

static void on_disk(struct audit_waiter *waiter, bool durable)
{
    struct waiting *waiting = (struct waiting *) (void *) waiter;
    atomic_store(&waiting->durable, durable);
    atomic_store(&waiting->called, 1);
}

static bool was_called(void *context)
{
    return atomic_load(&((struct waiting *) context)->called) != 0;
}

static void waiters_are_called_once_their_record_is_on_the_disk(void)
{
    struct place place;
    static struct waiting waiting[3];
    place_init(&place);
    place_open(&place);
    for (size_t i = 0; i < COF_COUNT(waiting); i++) {
        waiting[i] = (struct waiting){.waiter = {.done = on_disk}};
        waiting[i].waiter.sequence = place_append(&place, "durable");
        audit_wait(place.audit, &waiting[i].waiter);
    }
    CHECK(wait_until(was_called, &waiting[0]));
    place_close(&place); /* calls whoever still waits */
    for (size_t i = 0; i < COF_COUNT(waiting); i++) {
        CHECK(atomic_load(&waiting[i].called) && atomic_load(&waiting[i].durable));
    }
    place_done(&place);
}

static bool is_writable(void *context)
{
    return audit_writable(((struct place *) context)->audit);
}

static bool is_not_writable(void *context)
{
    return !is_writable(context);
}

/* A file in the way of the next segment does for every user what a full disk does. */
static void log_without_a_next_segment_refuses_and_recovers_by_itself(void)
{
    struct place place;
    struct findings findings;
    struct cof_error err;
    uint64_t sequence;
    static uint8_t text[SEGMENT_TEXT_MAX];
    place_init(&place);
    segment_write(&place, 3, text, 0);
    CHECK_OK(segment_remove(place.options.folder, 3, &err), &err);
    place_open(&place);
    segment_write(&place, 3, text, 1); /* the current one is 1, the next one 2 */
    memset(text, 'z', sizeof text);
    cof_code code = COF_OK;
    for (int i = 0; i < 50 && code == COF_OK; i++) {
        code = audit_append(place.audit, cof_slice_of(text, sizeof text), &sequence, &err);
        (void) (i == 2 ? usleep(400000) : 0); /* time to prepare segment 2 */
    }
    CHECK_INT(code, COF_UNAVAILABLE);
    CHECK_INT(err.reason, COF_REASON_AUDIT_UNAVAILABLE);
    CHECK(err.retry_after_ms > 0);
    CHECK(!audit_writable(place.audit));
    CHECK_OK(segment_remove(place.options.folder, 3, &err), &err);
    CHECK(wait_until(is_writable, &place));
    (void) place_append(&place, "again");
    place_close(&place);
    place_walk(&place, &findings);
    CHECK_TEXT(findings.damage, "");
    CHECK_TEXT(findings.last, "again");
    place_done(&place);
}

static void log_whose_file_was_removed_refuses_and_goes_on_in_a_new_one(void)
{
    struct place place;
    struct cof_error err;
    place_init(&place);
    place_open(&place);
    (void) place_append(&place, "before");
    CHECK_OK(segment_remove(place.options.folder, 1, &err), &err);
    CHECK(wait_until(is_not_writable, &place) || true); /* may be over before it is seen */
    static struct waiting waiting;
    waiting = (struct waiting){.waiter = {.done = on_disk}};
    (void) usleep(500000);
    CHECK(wait_until(is_writable, &place));
    waiting.waiter.sequence = append_patiently(&place, cof_slice_text("after"));
    audit_wait(place.audit, &waiting.waiter);
    CHECK(wait_until(was_called, &waiting));
    CHECK(atomic_load(&waiting.durable));
    place_close(&place);
    struct findings findings;
    place_walk(&place, &findings);
    CHECK_TEXT(findings.last, "after");
    CHECK_CONTAINS(findings.damage, "segment 2: it is the first one here"); /* and the loss is seen */
    place_done(&place);
}

static void refusals_beyond_the_limit_are_counted_in_a_record(void)
{
    struct place place;
    struct findings findings;
    unsigned full = 0;
    place_init(&place);
    place_open(&place);
    for (int i = 0; i < 1000; i++) {
        full += audit_sample(place.audit, COF_REASON_TOKEN_INVALID);
    }
    CHECK(full >= 10 && full < 1000);
    place_close(&place);
    place_walk(&place, &findings);
    CHECK_TEXT(findings.damage, "");
    CHECK(findings.summary.records >= 1);
    CHECK_CONTAINS(findings.last, "TOKEN_INVALID");
    place_done(&place);
}

static void closed_segments_beyond_those_kept_are_removed(void)
{
    struct place place;
    uint64_t *numbers = NULL;
    size_t count = 0;
    struct cof_error err;
    place_init(&place);
    place.options.keep_segments = 2;
    place_open(&place);
    fill(&place, 2000);
    for (int i = 0; i < PATIENCE_MS / 10; i++) {
        free(TAKE(numbers));
        CHECK_OK(segment_list(place.options.folder, &numbers, &count, &err), &err);
        if (count <= 4) { /* two closed, the current one, the next one */
            break;
        }
        (void) usleep(10000);
    }
    CHECK(count <= 4 && numbers[0] > 2);
    free(numbers);
    place_done(&place);
}

static void log_of_another_root_key_is_refused_at_start(void)
{
    struct place place;
    struct cof_error err;
    struct audit *audit = NULL;
    place_init(&place);
    place_open(&place);
    (void) place_append(&place, "secret from others");
    place_close(&place);
    struct keyring *other = keyring_of_byte(8);
    struct audit_options options = place.options;
    options.keyring = other;
    CHECK_FAILS(audit_open(&options, &audit, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "root key");
    keyring_free(other);
    place_done(&place);
}

static void log_goes_on_behind_its_end_after_every_start(void)
{
    struct place place;
    struct findings findings;
    place_init(&place);
    for (int i = 0; i < 4; i++) {
        place_open(&place);
        (void) place_append(&place, "started");
        place_close(&place);
    }
    place_walk(&place, &findings);
    CHECK_TEXT(findings.damage, "");
    CHECK_INT(findings.summary.segments, 4);
    CHECK_INT(findings.summary.records, 4);
    place_done(&place);
}

static void state_directory_is_for_one_server_and_its_user_alone(void)
{
    struct place place;
    struct state *second = NULL;
    struct cof_error err;
    char text[COF_UUID_TEXT];
    char again[COF_UUID_TEXT];
    place_init(&place);
    cof_uuid_format(state_server(place.state), text);
    CHECK_FAILS(state_open(place.path, &second, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "in use by another server");
    state_close(TAKE(place.state));
    CHECK(chmod(place.path, 0750) == 0);
    CHECK_FAILS(state_open(place.path, &second, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "chmod 700");
    CHECK(chmod(place.path, 0700) == 0);
    CHECK_OK(state_open(place.path, &place.state, &err), &err);
    cof_uuid_format(state_server(place.state), again);
    CHECK_TEXT(again, text);
    place.options.folder = state_audit_folder(place.state);
    place_done(&place);
}

TEST_MAIN(TEST(records_are_read_in_the_order_in_which_they_were_written),
          TEST(many_threads_write_over_many_segments_and_lose_nothing),
          TEST(waiters_are_called_once_their_record_is_on_the_disk),
          TEST(log_without_a_next_segment_refuses_and_recovers_by_itself),
          TEST(log_whose_file_was_removed_refuses_and_goes_on_in_a_new_one),
          TEST(refusals_beyond_the_limit_are_counted_in_a_record),
          TEST(closed_segments_beyond_those_kept_are_removed), TEST(log_of_another_root_key_is_refused_at_start),
          TEST(log_goes_on_behind_its_end_after_every_start),
          TEST(state_directory_is_for_one_server_and_its_user_alone))
