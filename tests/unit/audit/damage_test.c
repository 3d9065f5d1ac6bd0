#include "tests/unit/audit/fixture.h"

/* Whatever is cut, changed or reordered in the log is found; what a crash leaves is not taken for it. */

enum { RECORDS = 6, SECOND = 2 };

/* Two closed segments of a few records, and one more start. */
static void write_log(struct place *place)
{
    char text[32];
    place_init(place);
    for (int segment = 0; segment < SECOND; segment++) {
        place_open(place);
        for (int i = 0; i < RECORDS; i++) {
            (void) snprintf(text, sizeof text, "record %d of segment %d", i, segment);
            (void) place_append(place, text);
        }
        place_close(place);
    }
}

static bool damage_is_found(struct place *place)
{
    struct findings findings;
    place_walk(place, &findings);
    return findings.summary.damages > 0 && findings.damage[0] != '\0';
}

static void every_flipped_bit_is_found(void)
{
    struct place place;
    write_log(&place);
    for (uint64_t number = 1; number <= SECOND; number++) {
        size_t size = 0;
        uint8_t *bytes = segment_read(&place, number, &size);
        for (size_t bit = 0; bit < size * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t) (1U << (bit % 8));
            segment_write(&place, number, bytes, size);
            CHECK(damage_is_found(&place));
            bytes[bit / 8] ^= (uint8_t) (1U << (bit % 8));
        }
        segment_write(&place, number, bytes, size);
        free(bytes);
    }
    CHECK(!damage_is_found(&place));
    place_done(&place);
}

static void every_cut_of_a_closed_segment_is_found_by_the_one_behind_it(void)
{
    struct place place;
    size_t size = 0;
    write_log(&place);
    uint8_t *bytes = segment_read(&place, 1, &size);
    for (size_t kept = 0; kept < size; kept++) {
        segment_write(&place, 1, bytes, kept);
        CHECK(damage_is_found(&place));
    }
    free(bytes);
    place_done(&place);
}

static size_t record_at(const uint8_t *bytes, size_t index, size_t *ret_size)
{
    size_t at = SEGMENT_HEADER;
    for (size_t i = 0;; i++) {
        *ret_size = segment_record_size(cof_get_u32(bytes + at + 4) - CRYPTO_TAG);
        if (i == index) {
            return at;
        }
        at += *ret_size;
    }
}

static void records_that_were_exchanged_are_found(void)
{
    struct place place;
    size_t size = 0;
    write_log(&place);
    uint8_t *bytes = segment_read(&place, 1, &size);
    for (size_t a = 0; a < RECORDS; a++) {
        for (size_t b = a + 1; b < RECORDS; b++) {
            uint8_t *copy = malloc(size);
            size_t length = 0;
            CHECK(copy != NULL);
            memcpy(copy, bytes, size);
            const size_t from = record_at(bytes, a, &length);
            const size_t to = record_at(bytes, b, &length);
            memcpy(copy + from, bytes + to, length);
            memcpy(copy + to, bytes + from, length);
            segment_write(&place, 1, copy, size);
            CHECK(damage_is_found(&place));
            free(copy);
        }
    }
    free(bytes);
    place_done(&place);
}

static void record_that_was_taken_out_is_found(void)
{
    struct place place;
    size_t size = 0;
    size_t length = 0;
    write_log(&place);
    uint8_t *bytes = segment_read(&place, 1, &size);
    for (size_t i = 0; i <= RECORDS; i++) {
        uint8_t *copy = malloc(size);
        CHECK(copy != NULL);
        const size_t at = record_at(bytes, i, &length);
        memcpy(copy, bytes, at);
        memcpy(copy + at, bytes + at + length, size - at - length);
        segment_write(&place, 1, copy, size - length);
        CHECK(damage_is_found(&place));
        free(copy);
    }
    free(bytes);
    place_done(&place);
}

static void segment_that_is_missing_or_exchanged_is_found(void)
{
    struct place place;
    struct cof_error err;
    size_t first_size = 0;
    size_t second_size = 0;
    write_log(&place);
    uint8_t *first = segment_read(&place, 1, &first_size);
    uint8_t *second = segment_read(&place, 2, &second_size);
    segment_write(&place, 1, second, second_size);
    segment_write(&place, 2, first, first_size);
    CHECK(damage_is_found(&place));
    segment_write(&place, 1, first, first_size);
    CHECK_OK(segment_remove(place.options.folder, 2, &err), &err);
    segment_write(&place, 3, second, second_size);
    CHECK(damage_is_found(&place));
    CHECK_OK(segment_remove(place.options.folder, 3, &err), &err);
    segment_write(&place, 2, second, second_size);
    CHECK(!damage_is_found(&place));
    CHECK_OK(segment_remove(place.options.folder, 1, &err), &err);
    CHECK(damage_is_found(&place));
    free(first);
    free(second);
    place_done(&place);
}

static void end_that_was_cut_off_is_found_by_the_head_that_was_kept(void)
{
    struct place place;
    struct findings findings;
    struct cof_error err;
    write_log(&place);
    place_walk(&place, &findings);
    struct audit_walk walk = {.has_head = true, .head = findings.summary.sequence};
    memcpy(walk.head_chain, findings.summary.chain, sizeof walk.head_chain);
    place_walk_with(&place, &walk, &findings);
    CHECK_TEXT(findings.damage, "");
    CHECK_OK(segment_remove(place.options.folder, 2, &err), &err);
    CHECK(!damage_is_found(&place)); /* what is left holds */
    place_walk_with(&place, &walk, &findings);
    CHECK_CONTAINS(findings.damage, "is not in the log");
    place_done(&place);
}

static void log_opens_with_its_own_root_key_only(void)
{
    struct place place;
    struct findings findings;
    write_log(&place);
    struct keyring *other = keyring_of_byte(9);
    const struct audit_walk walk = {.keyring = other};
    place_walk_with(&place, &walk, &findings);
    CHECK(findings.summary.damages == SECOND && findings.summary.records == 0);
    keyring_free(other);
    place_done(&place);
}

/* A server that was killed at any moment of its last record: everything before it stays, and the log goes on. */
static void torn_tail_at_every_byte_of_the_last_record_loses_nothing_before_it(void)
{
    struct place place;
    struct findings findings;
    size_t size = 0;
    size_t length = 0;
    place_init(&place);
    place_open(&place);
    for (int i = 0; i < RECORDS; i++) {
        (void) place_append(&place, i == RECORDS - 1 ? "the last one" : "an earlier one");
    }
    uint8_t *bytes = segment_read(&place, 1, &size); /* as a killed server leaves it */
    place_close(&place);
    const size_t last = record_at(bytes, RECORDS - 1, &length);
    for (size_t kept = 0; kept < length; kept++) {
        for (int marked = 0; marked < 2; marked++) {
            uint8_t *torn = malloc(size);
            CHECK(torn != NULL);
            memcpy(torn, bytes, size);
            memset(torn + last + kept, 0, length - kept);
            memset(torn + last, 0, marked ? 0 : 4); /* the mark is what a process writes last */
            segment_write(&place, 1, torn, size);
            free(torn);
            place_walk(&place, &findings);
            const bool whole = kept >= length - 4 && marked; /* the alignment behind it is zero anyway */
            CHECK(findings.summary.records == RECORDS - 1 || whole);
            CHECK(marked || findings.summary.damages == 0);
            place_open(&place);
            (void) place_append(&place, "behind it");
            place_close(&place);
            place_walk(&place, &findings);
            CHECK_TEXT(findings.last, "behind it");
            CHECK(findings.summary.records >= RECORDS);
            struct cof_error err;
            CHECK_OK(segment_remove(place.options.folder, 2, &err), &err);
        }
    }
    free(bytes);
    place_done(&place);
}

TEST_MAIN(TEST(every_flipped_bit_is_found), TEST(every_cut_of_a_closed_segment_is_found_by_the_one_behind_it),
          TEST(records_that_were_exchanged_are_found), TEST(record_that_was_taken_out_is_found),
          TEST(segment_that_is_missing_or_exchanged_is_found),
          TEST(end_that_was_cut_off_is_found_by_the_head_that_was_kept), TEST(log_opens_with_its_own_root_key_only),
          TEST(torn_tail_at_every_byte_of_the_last_record_loses_nothing_before_it))
