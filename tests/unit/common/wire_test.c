#include <sample.pb-c.h>
#include <stdlib.h>

#include "common/varint.h"
#include "common/wire.h"
#include "tests/support/test.h"

enum { ROOM = 1 << 18, POOL = 1 << 24, DEEPEST = COF_WIRE_DEPTH };

/* Fields of tests/support/sample.proto. */
enum {
    TEXT = 1,
    BLOB = 2,
    NUMBER = 3,
    SIGNED = 4,
    FIXED32 = 5,
    FIXED64 = 6,
    SINGLE = 7,
    REAL = 8,
    FLAG = 9,
    KIND = 10,
    PACKED = 11,
    PACKED32 = 12,
    PACKED64 = 13,
    FLAGS = 14,
    UNPACKED = 15,
    TEXTS = 16,
    ITEMS = 17,
    REFERENCES = 18,
    INNER = 19,
    ENTRIES = 20,
    LEFT = 21,
    RIGHT = 22,
    EMPTY = 23,
    UNKNOWN = 1000,
};

/* A message under construction, in memory of its own so that a read beyond it is seen. */
struct bytes {
    uint8_t *data;
    size_t len;
};

static void bytes_done(struct bytes *bytes)
{
    free(bytes->data);
}

static struct bytes new_bytes(void)
{
    struct bytes bytes = {malloc(ROOM), 0};
    if (bytes.data == NULL) {
        abort();
    }
    return bytes;
}

static void add_tag(struct bytes *bytes, uint64_t number, unsigned type)
{
    bytes->len = (size_t) (varint_put(bytes->data + bytes->len, number << 3 | type) - bytes->data);
}

static void add_varint(struct bytes *bytes, uint64_t number, uint64_t value)
{
    add_tag(bytes, number, WIRE_VARINT);
    bytes->len = (size_t) (varint_put(bytes->data + bytes->len, value) - bytes->data);
}

static void add_raw(struct bytes *bytes, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(bytes->data + bytes->len, data, len);
    }
    bytes->len += len;
}

static void add_bytes(struct bytes *bytes, uint64_t number, const void *data, size_t len)
{
    add_tag(bytes, number, WIRE_BYTES);
    bytes->len = (size_t) (varint_put(bytes->data + bytes->len, len) - bytes->data);
    add_raw(bytes, data, len);
}

static void add_text(struct bytes *bytes, uint64_t number, const char *text)
{
    add_bytes(bytes, number, text, strlen(text));
}

/* Wraps what is there into a field. */
static void wrap(struct bytes *bytes, uint64_t number)
{
    uint8_t *inner = malloc(bytes->len + 1);
    if (inner == NULL) {
        abort();
    }
    const size_t len = bytes->len;
    memcpy(inner, bytes->data, len);
    bytes->len = 0;
    add_bytes(bytes, number, inner, len);
    free(inner);
}

/* Scans a copy of exactly as many bytes. */
static cof_code scan(const struct bytes *bytes, struct cof_error *err)
{
    uint8_t *copy = malloc(bytes->len + (bytes->len == 0));
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, bytes->data, bytes->len);
    cof_error_clear(err);
    const cof_code code = cof_wire_scan(&coffer__test__sample__descriptor, cof_slice_of(copy, bytes->len), err);
    free(copy);
    return code;
}

static void every_kind_of_field(struct bytes *bytes)
{
    add_text(bytes, TEXT, "text");
    add_bytes(bytes, BLOB, "\0\xFF", 2);
    add_varint(bytes, NUMBER, UINT64_MAX);
    add_tag(bytes, FIXED32, WIRE_FIXED32);
    add_raw(bytes, "\1\2\3\4", 4);
    add_bytes(bytes, PACKED, "\1\2\x80\1", 4);
    add_bytes(bytes, PACKED32, "\1\2\3\4\5\6\7\x08", 8);
    add_bytes(bytes, PACKED64, "\1\2\3\4\5\6\7\x08", 8);
    add_varint(bytes, PACKED, 300);
    add_varint(bytes, UNPACKED, 1);
    add_bytes(bytes, UNPACKED, "\5\6", 2);
    add_text(bytes, TEXTS, "one");
    add_text(bytes, TEXTS, "");
    add_bytes(bytes, ITEMS, "\x0A\1x", 3);
    add_bytes(bytes, REFERENCES, "\x0A\1n\x12\1\xFF", 6);
    add_bytes(bytes, ENTRIES, "\x0A\1k\x12\1\xFF", 6);
    add_text(bytes, LEFT, "left");
    add_bytes(bytes, RIGHT, "", 0);
    add_bytes(bytes, EMPTY, "\x08\1", 2);
}

static void every_kind_of_field_passes_and_is_unpacked(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    struct cof_pool *pool = NULL;
    struct cof_arena arena;
    ProtobufCMessage *base = NULL;
    every_kind_of_field(&bytes);
    CHECK_OK(scan(&bytes, &err), &err);
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    cof_arena_init(&arena, pool, POOL);
    CHECK_OK(cof_wire_unpack(&coffer__test__sample__descriptor, cof_slice_of(bytes.data, bytes.len), &arena, &base,
                             &err),
             &err);
    const Coffer__Test__Sample *sample = (const Coffer__Test__Sample *) (const void *) base;
    CHECK_TEXT(sample->text, "text");
    CHECK_INT(sample->number, -1);
    CHECK_INT(sample->fixed32, 0x04030201);
    CHECK_INT(sample->n_packed, 4);
    CHECK_INT(sample->packed[2], 128);
    CHECK_INT(sample->packed[3], 300);
    CHECK_INT(sample->n_unpacked, 3);
    CHECK_INT(sample->n_texts, 2);
    CHECK_TEXT(sample->items[0]->text, "x");
    CHECK_TEXT(sample->entries[0]->key, "k");
    CHECK_INT(sample->choice_case, COFFER__TEST__SAMPLE__CHOICE_RIGHT);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
}

static void whatever_protobuf_c_packs_passes(void)
{
    struct cof_error err;
    struct cof_pool *pool = NULL;
    struct cof_arena arena;
    struct cof_slice packed;
    Coffer__Test__Sample inner;
    Coffer__Test__Sample sample;
    uint32_t numbers[] = {1, UINT32_MAX, 0};
    char text[] = "text";
    coffer__test__sample__init(&inner);
    coffer__test__sample__init(&sample);
    inner.text = text;
    sample.inner = &inner;
    sample.packed = numbers;
    sample.n_packed = COF_COUNT(numbers);
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    cof_arena_init(&arena, pool, POOL);
    CHECK_OK(cof_wire_pack(&sample.base, &arena, &packed, &err), &err);
    CHECK_OK(cof_wire_scan(&coffer__test__sample__descriptor, packed, &err), &err);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
}

static void empty_message_is_unpacked_also_without_a_pointer(void)
{
    struct cof_error err;
    struct cof_pool *pool = NULL;
    struct cof_arena arena;
    struct cof_slice packed;
    ProtobufCMessage *message = NULL;
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    cof_arena_init(&arena, pool, POOL);
    CHECK_OK(cof_wire_unpack(&coffer__test__sample__descriptor, cof_slice_of(NULL, 0), &arena, &message, &err),
             &err);
    CHECK(message != NULL);
    CHECK_OK(cof_wire_pack(message, &arena, &packed, &err), &err);
    CHECK_INT(packed.len, 0);
    CHECK_OK(cof_wire_unpack(&coffer__test__empty__descriptor, cof_slice_of("\x08\1", 2), &arena, &message, &err),
             &err);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
}

static void message_cut_at_any_byte_passes_only_between_fields(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    every_kind_of_field(&bytes);
    const size_t whole = bytes.len;
    for (size_t len = 0; len <= whole; len++) {
        struct cof_error err;
        bytes.len = len;
        const cof_code code = scan(&bytes, &err);
        ProtobufCMessage *message =
            protobuf_c_message_unpack(&coffer__test__sample__descriptor, NULL, len, bytes.data);
        const bool readable = message != NULL;
        protobuf_c_message_free_unpacked(message, NULL);
        CHECK_INT(code == COF_OK, readable);
        CHECK(code == COF_OK || err.reason == COF_REASON_PAYLOAD_INVALID);
    }
}

static void string_that_is_no_text_is_refused_and_named(void)
{
    static const struct {
        const char *bytes;
        size_t len;
    } wrong[] = {{"a\0b", 3}, {"\0", 1}, {"\xFF", 1}, {"\xC0\x80", 2}, {"\xED\xA0\x80", 3}, {"a\xE2\x82", 3}};
    for (size_t i = 0; i < COF_COUNT(wrong); i++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        struct cof_error err;
        add_bytes(&bytes, TEXT, wrong[i].bytes, wrong[i].len);
        CHECK_FAILS(scan(&bytes, &err), &err, STRING_INVALID);
        CHECK_TEXT(err.field, "text");
        bytes.len = 0;
        add_bytes(&bytes, BLOB, wrong[i].bytes, wrong[i].len);
        CHECK_OK(scan(&bytes, &err), &err);
        bytes.len = 0;
        add_bytes(&bytes, LEFT, wrong[i].bytes, wrong[i].len);
        CHECK_FAILS(scan(&bytes, &err), &err, STRING_INVALID);
        CHECK_TEXT(err.field, "left");
    }
}

static void error_names_the_path_of_the_field(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    for (int i = 0; i < 3; i++) {
        add_bytes(&bytes, ITEMS, "", 0);
    }
    add_bytes(&bytes, ITEMS, "\x92\1\3\x0A\1\xFF", 6); /* items[3].references[0].name */
    CHECK_FAILS(scan(&bytes, &err), &err, STRING_INVALID);
    CHECK_TEXT(err.field, "items[3].references[0].name");
    CHECK_CONTAINS(err.message, "items[3].references[0].name");
    bytes.len = 0;
    add_bytes(&bytes, ENTRIES, "\x0A\1\xFF", 3);
    CHECK_FAILS(scan(&bytes, &err), &err, STRING_INVALID);
    CHECK_TEXT(err.field, "entries[0].key");
}

static void index_in_the_path_counts_the_field_not_its_neighbours(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    for (int i = 0; i < 5; i++) {
        add_text(&bytes, TEXTS, "fine");
        add_bytes(&bytes, ITEMS, "", 0);
        add_text(&bytes, TEXT, "between");
    }
    add_bytes(&bytes, TEXTS, "\xFF", 1);
    CHECK_FAILS(scan(&bytes, &err), &err, STRING_INVALID);
    CHECK_TEXT(err.field, "texts[5]");
}

static void check_wire_type(uint64_t number, unsigned type, bool right)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    /* Eight bytes are a varint of one and an empty rest, a length of zero and so on. */
    add_tag(&bytes, number, type);
    add_raw(&bytes, "\0\0\0\0\0\0\0\0", type == WIRE_FIXED64 ? 8 : type == WIRE_FIXED32 ? 4 : 1);
    if (right) {
        CHECK_OK(scan(&bytes, &err), &err);
    } else {
        CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    }
}

static void wrong_wire_type_is_refused_and_groups_are_too(void)
{
    static const uint64_t numbers[] = {TEXT, BLOB, NUMBER, FIXED32, PACKED, TEXTS, ITEMS, INNER, ENTRIES, LEFT};
    static const unsigned right[] = {2, 2, 0, 5, 0, 2, 2, 2, 2, 2};
    for (size_t i = 0; i < COF_COUNT(numbers); i++) {
        for (unsigned type = 0; type < 8; type++) {
            const bool packed = numbers[i] == PACKED && type == WIRE_BYTES;
            check_wire_type(numbers[i], type, type == right[i] || packed);
        }
    }
}

static void unknown_fields_are_skipped_but_must_be_whole(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    add_varint(&bytes, 1000, UINT64_MAX);
    add_bytes(&bytes, 536870911, "\xFF\0", 2);
    add_tag(&bytes, 999, WIRE_FIXED64);
    add_raw(&bytes, "12345678", 8);
    add_tag(&bytes, 998, WIRE_FIXED32);
    add_raw(&bytes, "1234", 4);
    CHECK_OK(scan(&bytes, &err), &err);
    bytes.len--;
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    bytes.len = 0;
    add_tag(&bytes, 1000, 3);
    add_tag(&bytes, 1000, 4);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
}

static void field_numbers_outside_of_the_range_are_refused(void)
{
    static const uint64_t numbers[] = {0, 536870912, (uint64_t) 1 << 32, (uint64_t) 1 << 60};
    for (size_t i = 0; i < COF_COUNT(numbers); i++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        struct cof_error err;
        add_varint(&bytes, numbers[i], 1);
        CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    }
}

static void overlong_varints_are_refused(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    add_tag(&bytes, NUMBER, WIRE_VARINT);
    add_raw(&bytes, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\1", 10);
    CHECK_OK(scan(&bytes, &err), &err);
    bytes.data[bytes.len - 1] = 2;
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    bytes.data[bytes.len - 1] = 0x80;
    add_raw(&bytes, "\1", 1);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
}

/* protobuf-c reads at most five bytes of a tag or length; what only it refuses must not look like missing memory.
 */
static void overlong_tag_is_an_invalid_payload(void)
{
    struct cof_error err;
    struct cof_pool *pool = NULL;
    struct cof_arena arena;
    ProtobufCMessage *message = NULL;
    const struct cof_slice overlong = cof_slice_of("\x98\x80\x80\x80\x80\x80\0\1", 8);
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    cof_arena_init(&arena, pool, POOL);
    CHECK_FAILS(cof_wire_unpack(&coffer__test__sample__descriptor, overlong, &arena, &message, &err), &err,
                PAYLOAD_INVALID);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
}

static void length_beyond_the_end_is_refused(void)
{
    static const uint64_t lengths[] = {4, 127, 1U << 31, UINT32_MAX, (uint64_t) 1 << 63, UINT64_MAX};
    for (size_t i = 0; i < COF_COUNT(lengths); i++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        struct cof_error err;
        add_tag(&bytes, BLOB, WIRE_BYTES);
        bytes.len = (size_t) (varint_put(bytes.data + bytes.len, lengths[i]) - bytes.data);
        add_raw(&bytes, "abc", 3);
        CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    }
}

static void messages_may_be_nested_64_deep_and_no_deeper(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    add_text(&bytes, TEXT, "inmost");
    for (int depth = 0; depth < DEEPEST; depth++) {
        wrap(&bytes, depth % 2 == 0 ? INNER : ITEMS);
    }
    CHECK_OK(scan(&bytes, &err), &err);
    wrap(&bytes, INNER);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    CHECK_CONTAINS(err.message, "nested too deeply");
    CHECK_INT(strncmp(err.field, "inner.items[0].inner.items[0]", 29), 0);
}

static void repeated_field_takes_20000_elements_and_no_more(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    for (int i = 0; i < COF_WIRE_REPEATED_MAX; i++) {
        add_bytes(&bytes, TEXTS, "", 0);
    }
    CHECK_OK(scan(&bytes, &err), &err);
    add_bytes(&bytes, TEXTS, "", 0);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    CHECK_TEXT(err.field, "texts[20000]");
    CHECK_CONTAINS(err.message, "too many elements");
}

static void elements_are_counted_although_others_stand_between_them(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    for (int i = 0; i < COF_WIRE_REPEATED_MAX; i++) {
        add_bytes(&bytes, TEXTS, "", 0);
        add_bytes(&bytes, ITEMS, "", 0);
    }
    CHECK_OK(scan(&bytes, &err), &err);
    add_bytes(&bytes, TEXTS, "", 0);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    CHECK_TEXT(err.field, "texts[20000]");
}

static void packed_elements_are_counted_over_all_their_pieces(void)
{
    static const uint8_t zeroes[COF_WIRE_REPEATED_MAX * 8];
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    add_bytes(&bytes, PACKED, zeroes, COF_WIRE_REPEATED_MAX / 2);
    add_bytes(&bytes, PACKED, zeroes, COF_WIRE_REPEATED_MAX / 2 - 1);
    add_varint(&bytes, PACKED, 1);
    CHECK_OK(scan(&bytes, &err), &err);
    add_varint(&bytes, PACKED, 1);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    bytes.len = 0;
    add_bytes(&bytes, PACKED64, zeroes, sizeof zeroes);
    CHECK_OK(scan(&bytes, &err), &err);
    add_bytes(&bytes, PACKED64, zeroes, 8);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    CHECK_CONTAINS(err.message, "too many elements");
}

static void singular_message_that_occurs_twice_is_refused(void)
{
    static const uint64_t numbers[] = {INNER, RIGHT, EMPTY};
    for (size_t i = 0; i < COF_COUNT(numbers); i++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        struct cof_error err;
        add_bytes(&bytes, numbers[i], "", 0);
        add_text(&bytes, TEXT, "a text may: the last one holds");
        add_text(&bytes, TEXT, "b");
        CHECK_OK(scan(&bytes, &err), &err);
        add_bytes(&bytes, numbers[i], "", 0);
        CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
        CHECK_CONTAINS(err.message, "occurs twice");
    }
}

static void packed_numbers_that_are_cut_are_refused(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    add_bytes(&bytes, PACKED, "\1\x80", 2);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    CHECK_TEXT(err.field, "packed[0]");
    bytes.len = 0;
    add_bytes(&bytes, PACKED32, "123", 3);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
    bytes.len = 0;
    add_bytes(&bytes, PACKED64, "123456789", 9);
    CHECK_FAILS(scan(&bytes, &err), &err, PAYLOAD_INVALID);
}

static void unpacking_into_too_little_memory_says_so(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    struct cof_error err;
    struct cof_pool *pool = NULL;
    struct cof_arena arena;
    ProtobufCMessage *message = NULL;
    for (int i = 0; i < 5000; i++) {
        add_bytes(&bytes, ITEMS, "", 0);
    }
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    for (size_t chunks = 1; chunks <= 32; chunks *= 2) {
        cof_arena_init(&arena, pool, chunks * COF_ARENA_CHUNK);
        CHECK_FAILS(cof_wire_unpack(&coffer__test__sample__descriptor, cof_slice_of(bytes.data, bytes.len), &arena,
                                    &message, &err),
                    &err, OUT_OF_MEMORY);
        cof_arena_reset(&arena);
    }
    CHECK_INT(cof_pool_used(pool), 0);
    cof_pool_free(pool);
}

/* Random bytes of a message changed to random ones; the sanitizers watch. */
/* The same bytes as protobuf-c's, into exactly as much room as they need, and into no less. */
static void check_packed_alike(const ProtobufCMessage *message)
{
    const size_t size = protobuf_c_message_get_packed_size(message);
    AUTO(bytes_done) struct bytes expected = {malloc(size + 1), size};
    AUTO(bytes_done) struct bytes room = {malloc(size + 1), size};
    struct cof_slice packed;
    (void) protobuf_c_message_pack(message, expected.data);
    CHECK(cof_wire_pack_at_end(message, room.data, size, &packed));
    CHECK(packed.data == room.data);
    CHECK(cof_slice_equal(packed, cof_slice_of(expected.data, size)));
    CHECK(size == 0 || !cof_wire_pack_at_end(message, room.data, size - 1, &packed));
}

static void check_repacked(const struct bytes *bytes)
{
    ProtobufCMessage *message =
        protobuf_c_message_unpack(&coffer__test__sample__descriptor, NULL, bytes->len, bytes->data);
    CHECK(message != NULL);
    check_packed_alike(message);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void numbers_of_all_kinds(struct bytes *bytes, const uint8_t *eight)
{
    uint64_t number;
    memcpy(&number, eight, sizeof number);
    add_varint(bytes, NUMBER, (uint64_t) (int64_t) (int32_t) number);
    add_varint(bytes, SIGNED, number);
    add_tag(bytes, FIXED64, WIRE_FIXED64);
    add_raw(bytes, eight, 8);
    add_tag(bytes, SINGLE, WIRE_FIXED32);
    add_raw(bytes, eight, 4);
    add_tag(bytes, REAL, WIRE_FIXED64);
    add_raw(bytes, eight, 8);
    add_varint(bytes, FLAG, number & 1);
    add_varint(bytes, KIND, number & 1);
    add_bytes(bytes, FLAGS, "\0\1\0", 3);
    add_varint(bytes, UNKNOWN, number);
    add_bytes(bytes, UNKNOWN + 1, eight, 8);
}

static void messages_are_packed_backwards_into_the_bytes_of_protobuf_c(void)
{
    static const uint8_t edges[][8] = {
        {0}, {1}, {255, 255, 255, 255, 255, 255, 255, 255}, {0, 0, 0, 128}, {0, 0, 0, 0, 0, 0, 0, 128}, {128}};
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    AUTO(bytes_done) struct bytes outer = new_bytes();
    check_repacked(&bytes);
    for (size_t i = 0; i < COF_COUNT(edges); i++) {
        bytes.len = 0;
        numbers_of_all_kinds(&bytes, edges[i]);
        check_repacked(&bytes);
        every_kind_of_field(&bytes);
        check_repacked(&bytes);
        outer.len = 0;
        add_bytes(&outer, INNER, bytes.data, bytes.len);
        add_bytes(&outer, ITEMS, bytes.data, bytes.len);
        add_bytes(&outer, ITEMS, "", 0);
        check_repacked(&outer);
    }
}

static void damaged_messages_are_refused_or_harmless(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    uint64_t state = test_seed();
    for (int i = 0; i < 20000; i++) {
        struct cof_error err;
        bytes.len = 0;
        every_kind_of_field(&bytes);
        for (uint64_t changes = 1 + test_random(&state) % 4; changes > 0; changes--) {
            bytes.data[test_random(&state) % bytes.len] = (uint8_t) test_random(&state);
        }
        const cof_code code = scan(&bytes, &err);
        CHECK(code == COF_OK || err.reason == COF_REASON_PAYLOAD_INVALID ||
              err.reason == COF_REASON_STRING_INVALID);
        if (code == COF_OK) {
            ProtobufCMessage *message =
                protobuf_c_message_unpack(&coffer__test__sample__descriptor, NULL, bytes.len, bytes.data);
            if (message != NULL) {
                check_packed_alike(message);
            }
            protobuf_c_message_free_unpacked(message, NULL);
        }
    }
}

TEST_MAIN(TEST(every_kind_of_field_passes_and_is_unpacked), TEST(whatever_protobuf_c_packs_passes),
          TEST(empty_message_is_unpacked_also_without_a_pointer),
          TEST(message_cut_at_any_byte_passes_only_between_fields),
          TEST(string_that_is_no_text_is_refused_and_named), TEST(error_names_the_path_of_the_field),
          TEST(index_in_the_path_counts_the_field_not_its_neighbours),
          TEST(wrong_wire_type_is_refused_and_groups_are_too), TEST(unknown_fields_are_skipped_but_must_be_whole),
          TEST(field_numbers_outside_of_the_range_are_refused), TEST(overlong_varints_are_refused),
          TEST(overlong_tag_is_an_invalid_payload), TEST(length_beyond_the_end_is_refused),
          TEST(messages_may_be_nested_64_deep_and_no_deeper), TEST(repeated_field_takes_20000_elements_and_no_more),
          TEST(elements_are_counted_although_others_stand_between_them),
          TEST(packed_elements_are_counted_over_all_their_pieces), TEST(packed_numbers_that_are_cut_are_refused),
          TEST(singular_message_that_occurs_twice_is_refused), TEST(unpacking_into_too_little_memory_says_so),
          TEST(messages_are_packed_backwards_into_the_bytes_of_protobuf_c),
          TEST(damaged_messages_are_refused_or_harmless))
