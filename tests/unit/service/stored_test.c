/* What is stored of a secret, and what row MACs cover: byte for byte as tests/golden/stored.txt has it, and nothing
 * else is taken. */
#include <stdlib.h>

#include "common/encode.h"
#include "server/service/guard.h"
#include "server/service/values.h"
#include "tests/unit/crypto/started.h"

enum { LINE = 32768, WORDS = 32, BYTES_MAX = 16384, POOL = 1 << 22, ITEMS = 8, VERSION = 3 };

/* A service without a database, and one call in it. */
struct fixture {
    struct cof_pool *pool;
    struct root_key *root;
    struct cof_arena arena;
    struct cof_error err;
    struct service service;
    struct call call;
    struct cof_uuid workspace;
    struct secret_row secret;
};

static void fixture_done(struct fixture *fixture)
{
    keyring_free(fixture->service.keyring);
    cof_arena_reset(&fixture->arena);
    cof_pool_free(fixture->pool);
}

static void add_key(struct fixture *fixture)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    struct keyring *keyring = fixture->service.keyring;
    CHECK_OK(keyring_generate(keyring, &fixture->workspace, 1, wrapped, &fixture->err), &fixture->err);
    CHECK_OK(keyring_install(keyring, &fixture->workspace, 1, cof_slice_of(wrapped, sizeof wrapped), &fixture->err),
             &fixture->err);
}

static void fixture_init(struct fixture *fixture)
{
    static const uint8_t key[CRYPTO_KEY] = {1, 2, 3};
    started();
    fixture->service.clock = &cof_system_clock;
    fixture->service.limits = service_default_limits;
    fixture->workspace = cof_uuid_random();
    fixture->secret.workspace_id = fixture->workspace;
    fixture->secret.secret_id = cof_uuid_random();
    fixture->secret.version = VERSION;
    fixture->call = (struct call){.service = &fixture->service, .arena = &fixture->arena, .err = &fixture->err};
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &fixture->pool, &fixture->err), &fixture->err);
    cof_arena_init(&fixture->arena, fixture->pool, POOL);
    CHECK_OK(root_key_new(key, &fixture->root, &fixture->err), &fixture->err);
    CHECK_OK(keyring_new(&fixture->root, 1, 10, &fixture->service.keyring, &fixture->err), &fixture->err);
    add_key(fixture);
}

static size_t split(char *text, const char *separators, char **words, size_t most)
{
    size_t count = 0;
    char *rest = text;
    for (char *word = strsep(&rest, separators); word != NULL && count < most; word = strsep(&rest, separators)) {
        if (word[0] != '\0') {
            words[count++] = word;
        }
    }
    return count;
}

/* Bytes of a hex text in the arena; "-" is none. */
static struct cof_slice bytes_of(struct fixture *fixture, const char *hex)
{
    const size_t size = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
    uint8_t *to = cof_arena_alloc(&fixture->arena, size + 1);
    if (to == NULL) {
        abort();
    }
    return size == 0 ? cof_slice_of(to, 0) : unhex(hex, to, size);
}

/* --- Maps ----------------------------------------------------------------------------------------------------- */

static struct values read_pairs(struct fixture *fixture, char **words, size_t count)
{
    struct values values = {NULL, 0};
    Coffer__V1__KeyValue *pairs = cof_arena_array(&fixture->arena, count, sizeof *pairs);
    Coffer__V1__KeyValue **list = cof_arena_array(&fixture->arena, count, sizeof *list);
    for (size_t i = 0; pairs != NULL && list != NULL && i < count; i++) {
        char *hex = strchr(words[i], '=');
        if (hex == NULL) {
            abort();
        }
        *hex++ = '\0';
        const struct cof_slice value = bytes_of(fixture, hex[0] == '\0' ? "-" : hex);
        coffer__v1__key_value__init(&pairs[i]);
        pairs[i].key = words[i];
        memcpy(&pairs[i].value.data, &value.data, sizeof pairs[i].value.data);
        pairs[i].value.len = value.len;
        list[i] = &pairs[i];
    }
    if (values_read(&fixture->call, list, count, "values", &values) != COF_OK) {
        fprintf(stderr, "values_read: %s\n", fixture->err.message);
        abort();
    }
    return values;
}

static struct sealed_version seal(struct fixture *fixture, const struct values *values)
{
    struct sealed_version sealed;
    if (values_seal(&fixture->call, &fixture->workspace, &fixture->secret.secret_id, VERSION, values, &sealed) !=
        COF_OK) {
        abort();
    }
    return sealed;
}

static void check_opened(struct fixture *fixture, const struct sealed_version *sealed, const struct values *values)
{
    struct values opened;
    CHECK_OK(values_open(&fixture->call, &fixture->secret, sealed, &opened), &fixture->err);
    CHECK_INT(opened.count, values->count);
    for (size_t i = 0; i < opened.count; i++) {
        CHECK(cof_slice_equal(opened.items[i].key, values->items[i].key));
        CHECK(cof_slice_equal(opened.items[i].bytes, values->items[i].bytes));
    }
}

static void check_map(struct fixture *fixture, char **words, size_t count)
{
    const struct cof_slice map = bytes_of(fixture, words[count - 2]);
    const struct cof_slice keys = bytes_of(fixture, words[count - 1]);
    const struct values values = read_pairs(fixture, words + 1, count - 3);
    const struct sealed_version sealed = seal(fixture, &values);
    const struct blob_address address = {BLOB_SECRET_VERSION, fixture->workspace, fixture->secret.secret_id,
                                         VERSION};
    uint8_t *opened = cof_arena_alloc(&fixture->arena, sealed.blob.len);
    CHECK(opened != NULL);
    CHECK(cof_slice_equal(sealed.keys, keys));
    CHECK_INT(sealed.blob.len, map.len + BLOB_OVERHEAD);
    CHECK_OK(keyring_open(fixture->service.keyring, &address, sealed.blob, opened, &fixture->err), &fixture->err);
    CHECK_BYTES(opened, map.data, map.len);
    check_opened(fixture, &sealed, &values);
}

/* --- Rows ----------------------------------------------------------------------------------------------------- */

static struct row_texts texts_of(struct fixture *fixture, char *text)
{
    struct row_texts texts = {cof_arena_array(&fixture->arena, ITEMS, sizeof *texts.items), 0};
    char *rest = strcmp(text, "-") == 0 ? NULL : text;
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        texts.items[texts.count] = bytes_of(fixture, word[0] == '\0' ? "-" : word);
        texts.count++;
    }
    return texts;
}

static void set_cell(struct fixture *fixture, const struct column *column, char *text, void *row)
{
    void *field = (uint8_t *) row + column->offset;
    const int64_t number = strcmp(text, "null") == 0 ? ROW_NO_TIME : strtoll(text, NULL, 10);
    switch (column->type) {
    case COLUMN_UUID:
        memcpy(field, bytes_of(fixture, text).data, sizeof(struct cof_uuid));
        break;
    case COLUMN_TEXT:
    case COLUMN_BYTES:
        *(struct cof_slice *) field = bytes_of(fixture, text);
        break;
    case COLUMN_TEXTS:
        *(struct row_texts *) field = texts_of(fixture, text);
        break;
    case COLUMN_I32:
    case COLUMN_I32_OR_NONE:
        *(int32_t *) field = (int32_t) number;
        break;
    case COLUMN_BOOL:
        *(bool *) field = number != 0;
        break;
    case COLUMN_I64:
    case COLUMN_TIME:
    case COLUMN_TIME_OR_NULL:
        *(int64_t *) field = number;
        break;
    }
}

static const struct row_type *row_type_named(const char *table)
{
    static const struct row_type *const types[] = {
        &workspace_row_type, &workspace_state_row_type, &secret_row_type,     &principal_row_type,
        &token_row_type,     &provider_row_type,        &connection_row_type, &connection_token_row_type};
    for (size_t i = 0; i < COF_COUNT(types); i++) {
        if (strcmp(types[i]->table, table) == 0) {
            return types[i];
        }
    }
    return NULL;
}

/* Fills the row from COLUMN=VALUE words, which must be its columns in their order, without the MAC's two. */
static void read_row(struct fixture *fixture, const struct row_type *type, char **words, void *row)
{
    for (size_t i = 0; i + 2 < type->count; i++) {
        CHECK(words[i] != NULL);
        char *value = strchr(words[i], '=');
        CHECK(value != NULL);
        *value++ = '\0';
        CHECK_TEXT(words[i], type->columns[i].name);
        set_cell(fixture, &type->columns[i], value, row);
    }
}

static void check_row(struct fixture *fixture, char **words, size_t count)
{
    struct cof_slice input;
    const struct row_type *type = row_type_named(words[1]);
    CHECK(type != NULL);
    CHECK_INT(count, type->count + 1);
    void *row = cof_arena_alloc(&fixture->arena, 1024);
    CHECK(row != NULL);
    read_row(fixture, type, words + 2, row);
    const struct cof_slice expected = bytes_of(fixture, words[count - 1]);
    CHECK_OK(row_mac_input(type, row, &fixture->arena, &input, &fixture->err), &fixture->err);
    CHECK_INT(input.len, expected.len);
    CHECK_BYTES(input.data, expected.data, expected.len);
}

/* --- The file ------------------------------------------------------------------------------------------------- */

static void file_close_auto(FILE **file)
{
    if (*file != NULL) {
        (void) fclose(*file);
    }
}

/* Calls `check` for the lines of one kind; the number of them. */
static size_t for_lines(const char *kind, void (*check)(struct fixture *fixture, char **words, size_t count))
{
    static char line[LINE];
    size_t lines = 0;
    AUTO(fixture_done) struct fixture fixture = {0};
    AUTO(file_close_auto) FILE *file = fopen(GOLDEN_FILE, "re");
    fixture_init(&fixture);
    while (file != NULL && test_failures == 0 && fgets(line, sizeof line, file) != NULL) {
        char *words[WORDS] = {NULL};
        const size_t count = split(line, " \n", words, WORDS);
        if (count > 2 && strcmp(words[0], kind) == 0) {
            check(&fixture, words, count);
            lines++;
        }
        cof_arena_reset(&fixture.arena);
    }
    return lines;
}

static void every_map_of_the_golden_file_is_made_and_read_byte_for_byte(void)
{
    CHECK(for_lines("map", check_map) >= 4);
}

static void mac_of_every_row_of_the_golden_file_covers_exactly_its_bytes(void)
{
    CHECK(for_lines("row", check_row) >= 5);
}

/* --- What does not fit ---------------------------------------------------------------------------------------- */

static struct values some_values(struct fixture *fixture)
{
    char *words[] = {cof_arena_text(&fixture->arena, cof_slice_text("KEY=76616c7565")),
                     cof_arena_text(&fixture->arena, cof_slice_text("BLANK=20"))};
    if (words[0] == NULL || words[1] == NULL) {
        abort();
    }
    return read_pairs(fixture, words, COF_COUNT(words));
}

static struct sealed_version copied(struct fixture *fixture, struct cof_slice keys, struct cof_slice blob)
{
    return (struct sealed_version){
        cof_slice_of(cof_arena_text(&fixture->arena, keys), keys.len),
        cof_slice_of(cof_arena_text(&fixture->arena, blob), blob.len),
    };
}

static void flip(struct cof_slice bytes, size_t bit)
{
    uint8_t *data;
    memcpy(&data, &bytes.data, sizeof data);
    data[bit / 8] ^= (uint8_t) (1U << bit % 8);
}

static void every_flipped_bit_of_the_list_of_keys_and_of_the_blob_is_corrupted(void)
{
    struct values opened;
    AUTO(fixture_done) struct fixture fixture = {0};
    fixture_init(&fixture);
    const struct values values = some_values(&fixture);
    const struct sealed_version sealed = seal(&fixture, &values);
    for (size_t bit = 0; bit < sealed.keys.len * 8; bit++) {
        const struct sealed_version wrong = copied(&fixture, sealed.keys, sealed.blob);
        flip(wrong.keys, bit);
        CHECK_FAILS(values_open(&fixture.call, &fixture.secret, &wrong, &opened), &fixture.err, CORRUPTED);
    }
    for (size_t bit = 0; bit < sealed.blob.len * 8; bit++) {
        const struct sealed_version wrong = copied(&fixture, sealed.keys, sealed.blob);
        flip(wrong.blob, bit);
        CHECK_FAILS(values_open(&fixture.call, &fixture.secret, &wrong, &opened), &fixture.err, CORRUPTED);
    }
    check_opened(&fixture, &sealed, &values);
}

static void every_truncation_of_the_list_of_keys_and_of_the_blob_is_corrupted(void)
{
    struct values opened;
    AUTO(fixture_done) struct fixture fixture = {0};
    fixture_init(&fixture);
    const struct values values = some_values(&fixture);
    const struct sealed_version sealed = seal(&fixture, &values);
    for (size_t len = 0; len < sealed.keys.len; len++) {
        const struct sealed_version wrong = {cof_slice_of(sealed.keys.data, len), sealed.blob};
        CHECK_FAILS(values_open(&fixture.call, &fixture.secret, &wrong, &opened), &fixture.err, CORRUPTED);
    }
    for (size_t len = 0; len < sealed.blob.len; len++) {
        const struct sealed_version wrong = {sealed.keys, cof_slice_of(sealed.blob.data, len)};
        CHECK_FAILS(values_open(&fixture.call, &fixture.secret, &wrong, &opened), &fixture.err, CORRUPTED);
    }
}

static void list_of_keys_of_other_values_is_corrupted(void)
{
    struct values opened;
    AUTO(fixture_done) struct fixture fixture = {0};
    fixture_init(&fixture);
    const struct values values = some_values(&fixture);
    const struct values fewer = {values.items, 1};
    const struct sealed_version sealed = seal(&fixture, &values);
    const struct sealed_version less = seal(&fixture, &fewer);
    const struct sealed_version mixed[] = {{less.keys, sealed.blob}, {sealed.keys, less.blob}};
    for (size_t i = 0; i < COF_COUNT(mixed); i++) {
        CHECK_FAILS(values_open(&fixture.call, &fixture.secret, &mixed[i], &opened), &fixture.err, CORRUPTED);
    }
}

static void row_that_any_other_column_or_key_was_put_into_is_corrupted(void)
{
    AUTO(fixture_done) struct fixture fixture = {0};
    fixture_init(&fixture);
    struct secret_row row = fixture.secret;
    row.expire_time = ROW_NO_TIME;
    CHECK_OK(guard_seal_row(&fixture.call, &secret_row_type, &fixture.workspace, &row), &fixture.err);
    CHECK_OK(guard_check_row(&fixture.call, &secret_row_type, &fixture.workspace, &row), &fixture.err);
    /* A NULL is neither a time nor nothing, and text does not move between columns. */
    struct secret_row moved = row;
    moved.expire_time = 0;
    CHECK_FAILS(guard_check_row(&fixture.call, &secret_row_type, &fixture.workspace, &moved), &fixture.err,
                CORRUPTED);
    moved = row;
    moved.environment = cof_slice_text("a");
    CHECK_FAILS(guard_check_row(&fixture.call, &secret_row_type, &fixture.workspace, &moved), &fixture.err,
                CORRUPTED);
    moved = row;
    moved.mac_generation = 2;
    CHECK_FAILS(guard_check_row(&fixture.call, &secret_row_type, &fixture.workspace, &moved), &fixture.err,
                CORRUPTED);
    moved = row;
    moved.mac.len = 0;
    CHECK_FAILS(guard_check_row(&fixture.call, &secret_row_type, &fixture.workspace, &moved), &fixture.err,
                CORRUPTED);
}

TEST_MAIN(TEST(every_map_of_the_golden_file_is_made_and_read_byte_for_byte),
          TEST(mac_of_every_row_of_the_golden_file_covers_exactly_its_bytes),
          TEST(every_flipped_bit_of_the_list_of_keys_and_of_the_blob_is_corrupted),
          TEST(every_truncation_of_the_list_of_keys_and_of_the_blob_is_corrupted),
          TEST(list_of_keys_of_other_values_is_corrupted),
          TEST(row_that_any_other_column_or_key_was_put_into_is_corrupted))
