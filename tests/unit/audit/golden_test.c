#include "server/audit/segment.h"
#include "tests/unit/crypto/started.h"

/* The segment of tests/golden/audit.txt was made by another implementation and must be made and read for ever. */

enum { LINE = 16384, TEXTS_MAX = 8, BYTES_MAX = 4096 };

struct bytes {
    uint8_t data[BYTES_MAX];
    size_t len;
};

struct golden {
    struct keyring *keyring;
    struct segment_start start;
    struct bytes wrapped;
    struct bytes texts[TEXTS_MAX];
    size_t text_count;
    struct bytes chain;
    struct bytes segment;
};

static void golden_done(struct golden **golden)
{
    if (*golden != NULL) {
        keyring_free((*golden)->keyring);
    }
}

static void read_bytes(const char *value, struct bytes *to)
{
    to->len = unhex(value, to->data, sizeof to->data).len;
}

static void read_fixed(const char *value, uint8_t *to, size_t size)
{
    if (unhex(value, to, size).len != size) {
        abort();
    }
}

static void read_root(struct golden *golden, const char *value)
{
    struct cof_error err;
    struct root_key *root = NULL;
    uint8_t key[CRYPTO_KEY];
    read_fixed(value, key, sizeof key);
    if (root_key_new(key, &root, &err) != COF_OK || keyring_new(&root, 1, 4, &golden->keyring, &err) != COF_OK) {
        abort();
    }
}

static bool is(const char *name, const char *wanted)
{
    return strcmp(name, wanted) == 0;
}

static bool read_line(struct golden *golden, const char *name, const char *value)
{
    if (is(name, "root_key")) {
        read_root(golden, value);
    } else if (is(name, "server")) {
        read_fixed(value, golden->start.server.bytes, sizeof golden->start.server.bytes);
    } else if (is(name, "number")) {
        golden->start.number = strtoull(value, NULL, 10);
    } else if (is(name, "first")) {
        golden->start.first = strtoull(value, NULL, 10);
    } else if (is(name, "time_us")) {
        golden->start.time_us = strtoll(value, NULL, 10);
    } else if (is(name, "before")) {
        read_fixed(value, golden->start.before, sizeof golden->start.before);
    } else if (is(name, "wrapped")) {
        read_bytes(value, &golden->wrapped);
    } else if (is(name, "text")) {
        read_bytes(value, &golden->texts[golden->text_count++]);
    } else if (is(name, "chain")) {
        read_bytes(value, &golden->chain);
    } else if (is(name, "segment")) {
        read_bytes(value, &golden->segment);
    } else {
        return false;
    }
    return true;
}

static void file_close_auto(FILE **file)
{
    if (*file != NULL) {
        (void) fclose(*file);
    }
}

static bool read_all(struct golden *golden)
{
    static char line[LINE];
    size_t lines = 0;
    AUTO(file_close_auto) FILE *file = fopen(GOLDEN_FILE, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *value = strchr(line, ' ');
        if (value == NULL) {
            return false;
        }
        *value++ = '\0';
        value[strcspn(value, "\n")] = '\0';
        if (!read_line(golden, line, value)) {
            return false;
        }
        lines++;
    }
    return lines == 13;
}

/* Too large for the stack, so there is one; NULL if the file is not what it was. */
static struct golden *golden_read(void)
{
    static struct golden golden;
    started();
    memset(&golden, 0, sizeof golden);
    return read_all(&golden) ? &golden : NULL;
}

static void segment_of_the_golden_file_is_read_whole(void)
{
    AUTO(golden_done) struct golden *golden = golden_read();
    AUTO(segment_reader_cleanup) struct segment_reader reader = {.key = NULL};
    static uint8_t scratch[SEGMENT_TEXT_MAX];
    struct cof_error err;
    struct cof_slice text;
    CHECK(golden != NULL);
    CHECK_OK(segment_reader_init(&reader, cof_slice_of(golden->segment.data, golden->segment.len), golden->keyring,
                                 &err),
             &err);
    CHECK(reader.start.number == golden->start.number && reader.start.time_us == golden->start.time_us);
    CHECK(cof_uuid_equal(&reader.start.server, &golden->start.server));
    CHECK_BYTES(reader.start.before, golden->start.before, CRYPTO_DIGEST);
    for (size_t i = 0; i < golden->text_count; i++) {
        CHECK_INT(segment_next(&reader, scratch, &text, &err), SEGMENT_RECORD);
        CHECK_INT(reader.sequence, golden->start.first + i);
        CHECK_INT(text.len, golden->texts[i].len);
        CHECK_BYTES(text.data, golden->texts[i].data, text.len);
    }
    CHECK_INT(segment_next(&reader, scratch, &text, &err), SEGMENT_CLOSED);
    CHECK_BYTES(reader.chain, golden->chain.data, CRYPTO_DIGEST);
}

static void segment_of_the_golden_file_is_written_byte_for_byte(void)
{
    AUTO(golden_done) struct golden *golden = golden_read();
    AUTO(log_key_cleanup) struct log_key *key = NULL;
    static uint8_t made[BYTES_MAX];
    uint8_t chain[CRYPTO_DIGEST];
    size_t at = SEGMENT_HEADER;
    struct cof_error err;
    CHECK(golden != NULL);
    CHECK_OK(log_key_open(golden->keyring, &golden->start.server, golden->start.number,
                          cof_slice_of(golden->wrapped.data, golden->wrapped.len), &key, &err),
             &err);
    CHECK_OK(segment_put_start(made, &golden->start, golden->wrapped.data, key, chain, &err), &err);
    for (size_t i = 0; i <= golden->text_count; i++) {
        const struct cof_slice text =
            cof_slice_of(golden->texts[i].data, golden->texts[i].len); /* the last: none */
        CHECK_OK(segment_put(made + at, golden->start.first + i, text, key, chain, &err), &err);
        at += segment_record_size(text.len);
    }
    CHECK_INT(at, golden->segment.len);
    CHECK_BYTES(made, golden->segment.data, at);
    CHECK_BYTES(chain, golden->chain.data, CRYPTO_DIGEST);
}

static void key_of_a_segment_opens_for_its_server_and_number_only(void)
{
    AUTO(golden_done) struct golden *golden = golden_read();
    struct log_key *key = NULL;
    struct cof_error err;
    CHECK(golden != NULL);
    const struct cof_slice wrapped = {golden->wrapped.data, golden->wrapped.len};
    CHECK_FAILS(log_key_open(golden->keyring, &golden->start.server, golden->start.number + 1, wrapped, &key, &err),
                &err, CORRUPTED);
    CHECK_FAILS(log_key_open(golden->keyring, &cof_uuid_zero, golden->start.number, wrapped, &key, &err), &err,
                CORRUPTED);
}

TEST_MAIN(TEST(segment_of_the_golden_file_is_read_whole), TEST(segment_of_the_golden_file_is_written_byte_for_byte),
          TEST(key_of_a_segment_opens_for_its_server_and_number_only))
