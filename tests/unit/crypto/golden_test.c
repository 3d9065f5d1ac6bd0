#include "server/crypto/blob.h"
#include "server/crypto/xaes.h"
#include "tests/unit/crypto/started.h"

/* The bytes of tests/golden/blobs.txt were made by another implementation and must be made and opened for ever. */

enum { LINE = 16384, WORDS = 8, TEXT_MAX = 2048 };

struct golden {
    struct root_key *root;
    struct keyring *keyring;
    struct xaes_key *seal; /* the sealing subkey, to seal with the nonces of the file */
    struct cof_uuid workspace;
    uint32_t generation;
    uint8_t root_key[CRYPTO_KEY];
    uint8_t workspace_key[CRYPTO_KEY];
    size_t lines;
};

static void golden_done(struct golden *golden)
{
    keyring_free(golden->keyring);
    xaes_key_free(golden->seal);
}

static struct cof_slice word_bytes(const char *word, uint8_t *to, size_t size)
{
    return strcmp(word, "-") == 0 ? cof_slice_of(to, 0) : unhex(word, to, size);
}

static void read_root_key(struct golden *golden, char **words)
{
    struct cof_error err;
    (void) unhex(words[1], golden->root_key, CRYPTO_KEY);
    CHECK_OK(root_key_new(golden->root_key, &golden->root, &err), &err);
    CHECK_OK(keyring_new(&golden->root, 1, 10, &golden->keyring, &err), &err);
}

static void check_root_id(struct golden *golden, char **words)
{
    uint8_t id[ROOT_KEY_ID];
    (void) unhex(words[1], id, sizeof id);
    CHECK_BYTES(root_key_id(golden->root), id, sizeof id);
}

static void check_root_check(struct golden *golden, char **words)
{
    uint8_t expected[ROOT_KEY_CHECK];
    uint8_t check[ROOT_KEY_CHECK];
    (void) unhex(words[1], expected, sizeof expected);
    root_key_check(golden->root, check);
    CHECK_BYTES(check, expected, sizeof check);
}

static void read_workspace(struct golden *golden, char **words)
{
    (void) unhex(words[1], golden->workspace.bytes, sizeof golden->workspace.bytes);
}

static void read_generation(struct golden *golden, char **words)
{
    golden->generation = (uint32_t) strtoul(words[1], NULL, 10);
}

static void read_workspace_key(struct golden *golden, char **words)
{
    struct cof_error err;
    uint8_t subkey[CRYPTO_KEY];
    (void) unhex(words[1], golden->workspace_key, CRYPTO_KEY);
    CHECK_OK(crypto_hkdf(cof_slice_of(golden->workspace_key, CRYPTO_KEY), cof_slice_text("coffer v1 seal"), subkey,
                         sizeof subkey, &err),
             &err);
    CHECK_OK(xaes_key_new(subkey, &golden->seal, &err), &err);
}

static void check_wrapped_key(struct golden *golden, char **words)
{
    struct cof_error err;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    const struct cof_slice bytes = unhex(words[1], wrapped, sizeof wrapped);
    CHECK_INT(bytes.len, WRAPPED_KEY_SIZE);
    CHECK_OK(keyring_install(golden->keyring, &golden->workspace, golden->generation, bytes, &err), &err);
}

static void kind_named(const char *name, blob_kind *ret_kind)
{
    static const blob_kind kinds[] = {BLOB_SECRET_VERSION, BLOB_WORKSPACE_KEY,          BLOB_ANSWER,
                                      BLOB_NARROWING_KEY,  BLOB_CONNECTION_CREDENTIALS, BLOB_ACCESS_TOKEN,
                                      BLOB_REFRESH_TOKEN,  BLOB_AUTHORIZATION};
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        if (strcmp(name, blob_kind_name(kinds[i])) == 0) {
            *ret_kind = kinds[i];
            return;
        }
    }
    fprintf(stderr, "no kind %s\n", name);
    abort();
}

static void check_sealing(const struct golden *golden, const struct blob_address *address, const uint8_t *nonce,
                          struct cof_slice plaintext, struct cof_slice blob)
{
    struct cof_error err;
    uint8_t associated[BLOB_ASSOCIATED_MAX];
    static uint8_t made[TEXT_MAX + BLOB_OVERHEAD];
    made[0] = BLOB_FORMAT;
    cof_put_u32(made + 1, golden->generation);
    memcpy(made + BLOB_HEADER - CRYPTO_NONCE, nonce, CRYPTO_NONCE);
    CHECK_OK(
        xaes_seal(golden->seal, nonce, blob_associated(address, associated), plaintext, made + BLOB_HEADER, &err),
        &err);
    CHECK_INT(blob.len, plaintext.len + BLOB_OVERHEAD);
    CHECK_BYTES(made, blob.data, blob.len);
}

/* blob <kind> <object> <version> <nonce> <plaintext> <blob> */
static void check_blob(struct golden *golden, char **words)
{
    static uint8_t blob_bytes[TEXT_MAX + BLOB_OVERHEAD];
    static uint8_t opened[TEXT_MAX];
    static uint8_t text[TEXT_MAX];
    struct cof_error err;
    uint8_t nonce[CRYPTO_NONCE];
    struct blob_address address = {BLOB_ANSWER, golden->workspace, {{0}}, strtoull(words[3], NULL, 10)};
    kind_named(words[1], &address.kind);
    (void) unhex(words[2], address.object.bytes, sizeof address.object.bytes);
    (void) unhex(words[4], nonce, sizeof nonce);
    const struct cof_slice plaintext = word_bytes(words[5], text, sizeof text);
    const struct cof_slice blob = word_bytes(words[6], blob_bytes, sizeof blob_bytes);
    check_sealing(golden, &address, nonce, plaintext, blob);
    CHECK_INT(blob_generation(blob), golden->generation);
    CHECK_OK(keyring_open(golden->keyring, &address, blob, opened, &err), &err);
    CHECK_BYTES(opened, plaintext.data, plaintext.len);
}

static void check_row_mac(struct golden *golden, char **words)
{
    struct cof_error err;
    static uint8_t data[TEXT_MAX];
    uint8_t expected[CRYPTO_DIGEST];
    uint8_t mac[CRYPTO_DIGEST];
    const struct cof_slice row = word_bytes(words[1], data, sizeof data);
    (void) unhex(words[2], expected, sizeof expected);
    CHECK_OK(keyring_row_mac(golden->keyring, &golden->workspace, golden->generation, row, mac, &err), &err);
    CHECK_BYTES(mac, expected, sizeof mac);
}

static const struct {
    const char *name;
    size_t words;
    void (*check)(struct golden *golden, char **words);
} line_kinds[] = {
    {"root_key", 2, read_root_key},        {"root_id", 2, check_root_id},
    {"root_check", 2, check_root_check},   {"workspace", 2, read_workspace},
    {"generation", 2, read_generation},    {"workspace_key", 2, read_workspace_key},
    {"wrapped_key", 2, check_wrapped_key}, {"blob", 7, check_blob},
    {"row_mac", 3, check_row_mac},
};

static void check_line(struct golden *golden, char *line)
{
    char *words[WORDS] = {NULL};
    size_t count = 0;
    char *rest = line;
    for (char *word = strsep(&rest, " \n"); word != NULL && count < WORDS; word = strsep(&rest, " \n")) {
        if (word[0] != '\0') {
            words[count++] = word;
        }
    }
    CHECK(words[0] != NULL);
    for (size_t i = 0; i < COF_COUNT(line_kinds); i++) {
        if (count == line_kinds[i].words && strcmp(words[0], line_kinds[i].name) == 0) {
            line_kinds[i].check(golden, words);
            golden->lines++;
            return;
        }
    }
    CHECK_TEXT(words[0], "a known kind of line");
}

static void file_close_auto(FILE **file)
{
    if (*file != NULL) {
        (void) fclose(*file);
    }
}

static void everything_in_the_golden_file_is_made_and_opened_byte_for_byte(void)
{
    static char line[LINE];
    started();
    AUTO(golden_done) struct golden golden = {0};
    AUTO(file_close_auto) FILE *file = fopen(GOLDEN_FILE, "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL && test_failures == 0) {
        check_line(&golden, line);
    }
    CHECK(golden.lines >= 15);
}

TEST_MAIN(TEST(everything_in_the_golden_file_is_made_and_opened_byte_for_byte))
