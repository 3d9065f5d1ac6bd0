#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/encode.h"
#include "common/narrowed.h"
#include "common/secret.h"
#include "tests/support/test.h"

/* The bytes themselves are held against a second implementation by conformance/narrowed_tokens. */

enum { PREFIX = 6, ROUNDS = 60 };

static cof_code hmac(const uint8_t key[COF_NARROWED_KEY], struct cof_slice data, uint8_t mac[COF_NARROWED_TAG],
                     struct cof_error *err)
{
    unsigned len = COF_NARROWED_TAG;
    return HMAC(EVP_sha256(), key, COF_NARROWED_KEY, data.data, data.len, mac, &len) != NULL
               ? COF_OK
               : cof_fail(err, COF_REASON_INTERNAL, "no HMAC");
}

static cof_code no_hmac(const uint8_t key[COF_NARROWED_KEY], struct cof_slice data, uint8_t mac[COF_NARROWED_TAG],
                        struct cof_error *err)
{
    (void) key;
    (void) data;
    memset(mac, 0, COF_NARROWED_TAG);
    return cof_fail(err, COF_REASON_INTERNAL, "no HMAC");
}

static struct cof_token some_token(cof_token_kind kind)
{
    struct cof_token token = {.kind = kind, .workspace = cof_uuid_random(), .id = cof_uuid_random()};
    const struct cof_uuid halves[2] = {cof_uuid_random(), cof_uuid_random()};
    memcpy(token.secret, halves, sizeof token.secret);
    return token;
}

/* What the server keeps of the token. */
static void key_of(const struct cof_token *token, uint8_t key[COF_NARROWED_KEY])
{
    static const uint8_t no_salt[COF_NARROWED_KEY];
    struct cof_error err;
    uint8_t mid[COF_NARROWED_TAG];
    cof_ignore(hmac(no_salt, cof_slice_of(token->secret, sizeof token->secret), mid, &err));
    cof_ignore(hmac(mid, cof_slice_text("coffer v1 narrowing\x01"), key, &err));
}

static bool tag_fits(const struct cof_narrowed *narrowed, const uint8_t key[COF_NARROWED_KEY])
{
    struct cof_error err;
    uint8_t tag[COF_NARROWED_TAG];
    return cof_narrowed_compute(narrowed, key, hmac, tag, &err) == COF_OK &&
           cof_secret_equal(cof_slice_of(tag, sizeof tag), cof_narrowed_tag(narrowed));
}

static struct cof_narrowing everything(const struct cof_uuid *workspace, const struct cof_slice *patterns)
{
    return (struct cof_narrowing){
        .workspace = workspace,
        .environments = patterns,
        .environment_count = 2,
        .names = patterns + 1,
        .name_count = 2,
        .workflow_id = cof_slice_text("wf"),
        .run_id = cof_slice_text("run"),
        .expires = true,
        .expire_ms = UINT64_C(1893456000123),
    };
}

/* A token that is narrowed by everything at once. */
static cof_code make(const struct cof_token *token, char text[COF_NARROWED_TEXT], struct cof_error *err)
{
    char whole[COF_TOKEN_TEXT];
    const struct cof_uuid workspace = cof_uuid_random();
    const struct cof_slice patterns[] = {cof_slice_text("dev*"), cof_slice_text("prod"), cof_slice_text("aws")};
    const struct cof_narrowing narrowing = everything(&workspace, patterns);
    cof_token_format(token, whole);
    return cof_narrow(cof_slice_text(whole), &narrowing, hmac, text, err);
}

/* The text of any payload. */
static void text_of(const uint8_t *payload, size_t len, char *text)
{
    memcpy(text, "cof_n_", PREFIX);
    cof_base64url_encode(cof_slice_of(payload, len), text + PREFIX);
    const size_t covered = strlen(text);
    cof_token_check(cof_slice_of(text, covered), text + covered);
    text[covered + COF_TOKEN_CHECK_TEXT] = '\0';
}

static void narrowed_token_comes_back_with_the_ids_of_its_token_and_a_tag_that_fits(void)
{
    for (int kind = COF_TOKEN_WORKSPACE; kind <= COF_TOKEN_FLEET; kind++) {
        const struct cof_token token = some_token((cof_token_kind) kind);
        static char text[COF_NARROWED_TEXT];
        uint8_t key[COF_NARROWED_KEY];
        static struct cof_narrowed read;
        struct cof_error err;
        struct cof_token presented;
        CHECK_OK(make(&token, text, &err), &err);
        CHECK_OK(cof_narrowed_parse(cof_slice_text(text), &read, &err), &err);
        CHECK_INT(read.kind, kind);
        CHECK(cof_uuid_equal(&read.id, &token.id) && cof_uuid_equal(&read.workspace, &token.workspace));
        key_of(&token, key);
        CHECK(tag_fits(&read, key));
        key[31] ^= 1;
        CHECK(!tag_fits(&read, key));
        CHECK_OK(cof_narrowed_or_whole(cof_slice_text(text), &presented, &err), &err);
        CHECK(presented.narrowed.data == (const uint8_t *) text &&
              !cof_uuid_equal(&presented.home, &token.workspace));
        CHECK_BYTES(presented.secret, (uint8_t[COF_TOKEN_SECRET]){0}, COF_TOKEN_SECRET);
    }
}

static void secret_of_the_token_does_not_stand_in_it(void)
{
    const struct cof_token token = some_token(COF_TOKEN_FLEET);
    static char text[COF_NARROWED_TEXT];
    uint8_t key[COF_NARROWED_KEY];
    static struct cof_narrowed read;
    struct cof_error err;
    CHECK_OK(make(&token, text, &err), &err);
    CHECK_OK(cof_narrowed_parse(cof_slice_text(text), &read, &err), &err);
    key_of(&token, key);
    CHECK(memmem(read.bytes, read.len, token.secret, 8) == NULL);
    CHECK(memmem(read.bytes, read.len, key, 8) == NULL);
}

static void check_changed(char *text, size_t length, size_t at)
{
    static struct cof_narrowed read;
    struct cof_error err;
    const char right = text[at];
    for (int byte = 0; byte < 256; byte++) {
        text[at] = (char) byte;
        if (text[at] != right) {
            CHECK_FAILS(cof_narrowed_parse(cof_slice_of(text, length), &read, &err), &err, TOKEN_MALFORMED);
        }
    }
    text[at] = right;
}

static void any_one_character_changed_is_noticed(void)
{
    const struct cof_token token = some_token(COF_TOKEN_WORKSPACE);
    static char text[COF_NARROWED_TEXT];
    static struct cof_narrowed read;
    struct cof_error err;
    CHECK_OK(make(&token, text, &err), &err);
    const size_t length = strlen(text);
    for (size_t at = 0; at < length; at++) {
        check_changed(text, length, at);
    }
    CHECK_OK(cof_narrowed_parse(cof_slice_of(text, length), &read, &err), &err);
}

static void token_cut_anywhere_is_noticed(void)
{
    const struct cof_token token = some_token(COF_TOKEN_WORKSPACE);
    static char text[COF_NARROWED_TEXT];
    struct cof_error err;
    CHECK_OK(make(&token, text, &err), &err);
    for (size_t length = 0; length < strlen(text); length++) {
        static struct cof_narrowed read;
        /* A copy without room behind it, so that reading on would be seen. */
        char *cut = malloc(length + 1);
        CHECK(cut != NULL);
        memcpy(cut, text, length);
        const cof_code code = cof_narrowed_parse(cof_slice_of(cut, length), &read, &err);
        free(cut);
        CHECK_INT(code, COF_UNAUTHENTICATED);
        CHECK_INT(err.reason, COF_REASON_TOKEN_MALFORMED);
    }
}

/* Whoever changes a payload can make its check fit, but not its tag. */
static void check_payload(const uint8_t *payload, size_t len, const uint8_t key[COF_NARROWED_KEY])
{
    static char text[2 * COF_NARROWED_TEXT];
    static struct cof_narrowed read;
    struct cof_error err;
    text_of(payload, len, text);
    if (cof_narrowed_parse(cof_slice_text(text), &read, &err) == COF_OK) {
        CHECK(!tag_fits(&read, key));
    } else {
        CHECK_INT(err.code, COF_UNAUTHENTICATED);
    }
}

static void any_byte_changed_under_a_check_that_fits_is_refused_or_has_another_tag(void)
{
    const struct cof_token token = some_token(COF_TOKEN_WORKSPACE);
    static char text[COF_NARROWED_TEXT];
    uint8_t key[COF_NARROWED_KEY];
    static struct cof_narrowed read;
    struct cof_error err;
    CHECK_OK(make(&token, text, &err), &err);
    CHECK_OK(cof_narrowed_parse(cof_slice_text(text), &read, &err), &err);
    key_of(&token, key);
    for (size_t at = 0; at < read.len; at++) {
        for (unsigned change = 1; change < 256; change = change * 2 + (unsigned) (at % 2)) {
            read.bytes[at] ^= (uint8_t) change;
            check_payload(read.bytes, read.len, key);
            read.bytes[at] ^= (uint8_t) change;
        }
    }
    for (size_t len = 0; len < read.len; len++) {
        check_payload(read.bytes, len, key);
    }
    CHECK(tag_fits(&read, key));
}

/* Patterns like n17*, from a random choice of a few. */
struct wishes {
    char texts[8][8];
    struct cof_slice patterns[8];
    struct cof_uuid workspace;
    struct cof_narrowing narrowing;
};

static void random_wishes(uint64_t *state, struct wishes *wishes)
{
    wishes->workspace = cof_uuid_random();
    for (size_t i = 0; i < 8; i++) {
        (void) snprintf(wishes->texts[i], sizeof wishes->texts[i], "n%u%s", (unsigned) (test_random(state) % 20),
                        test_random(state) % 2 == 0 ? "*" : "");
        wishes->patterns[i] = cof_slice_text(wishes->texts[i]);
    }
    wishes->narrowing = (struct cof_narrowing){
        .workspace = test_random(state) % 4 == 0 ? &wishes->workspace : NULL,
        .environments = wishes->patterns,
        .environment_count = test_random(state) % 4,
        .names = wishes->patterns + 3,
        .name_count = test_random(state) % 5,
        .run_id = cof_slice_text("run"),
        .expires = test_random(state) % 2 == 0,
        .expire_ms = test_random(state),
    };
}

static size_t count_caveats(const struct cof_narrowed *narrowed)
{
    struct cof_caveat caveat;
    size_t at = 0;
    size_t count = 0;
    while (cof_narrowed_next(narrowed, &at, &caveat)) {
        count++;
    }
    return count;
}

static void narrowing_again_and_again_keeps_what_was_there_until_there_is_no_room(void)
{
    uint64_t state = test_seed();
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct cof_token token = some_token(COF_TOKEN_FLEET);
        static char text[COF_NARROWED_TEXT];
        uint8_t key[COF_NARROWED_KEY];
        static struct cof_narrowed before;
        static struct cof_narrowed after;
        struct cof_error err;
        struct wishes wishes;
        key_of(&token, key);
        cof_token_format(&token, text);
        random_wishes(&state, &wishes);
        CHECK_OK(cof_narrow(cof_slice_text(text), &wishes.narrowing, hmac, text, &err), &err);
        CHECK_OK(cof_narrowed_parse(cof_slice_text(text), &before, &err), &err);
        for (;;) {
            random_wishes(&state, &wishes);
            if (cof_narrow(cof_slice_text(text), &wishes.narrowing, hmac, text, &err) != COF_OK) {
                break;
            }
            CHECK_OK(cof_narrowed_parse(cof_slice_text(text), &after, &err), &err);
            CHECK(tag_fits(&after, key) && count_caveats(&after) > count_caveats(&before));
            CHECK_BYTES(after.bytes, before.bytes, before.len - COF_NARROWED_TAG);
            before = after;
        }
        CHECK_INT(err.reason, COF_REASON_LIMIT_EXCEEDED);
        CHECK(count_caveats(&before) > COF_CAVEATS_MAX - 6);
        CHECK_OK(cof_narrowed_parse(cof_slice_text(text), &after, &err), &err);
    }
}

static void what_fails_writes_nothing_and_shows_no_token(void)
{
    const struct cof_token token = some_token(COF_TOKEN_SYSTEM);
    const struct cof_narrowing narrowing = {.run_id = cof_slice_text("r")};
    char whole[COF_TOKEN_TEXT];
    static char text[COF_NARROWED_TEXT] = "as before";
    struct cof_error err;
    cof_token_format(&token, whole);
    CHECK_FAILS(cof_narrow(cof_slice_text(whole), &narrowing, hmac, text, &err), &err, FIELD_INVALID);
    CHECK(strstr(err.message, whole + 8) == NULL);
    const struct cof_token usable = some_token(COF_TOKEN_WORKSPACE);
    cof_token_format(&usable, whole);
    CHECK_FAILS(cof_narrow(cof_slice_text(whole), &narrowing, no_hmac, text, &err), &err, INTERNAL);
    CHECK_FAILS(cof_narrow(cof_slice_text(whole), &(struct cof_narrowing){0}, hmac, text, &err), &err,
                FIELD_REQUIRED);
    CHECK_TEXT(text, "as before");
    whole[50] = whole[50] == 'a' ? 'b' : 'a';
    CHECK_FAILS(cof_narrow(cof_slice_text(whole), &narrowing, hmac, text, &err), &err, TOKEN_MALFORMED);
    CHECK(strstr(err.message, whole + 8) == NULL);
}

TEST_MAIN(TEST(narrowed_token_comes_back_with_the_ids_of_its_token_and_a_tag_that_fits),
          TEST(secret_of_the_token_does_not_stand_in_it), TEST(any_one_character_changed_is_noticed),
          TEST(token_cut_anywhere_is_noticed),
          TEST(any_byte_changed_under_a_check_that_fits_is_refused_or_has_another_tag),
          TEST(narrowing_again_and_again_keeps_what_was_there_until_there_is_no_room),
          TEST(what_fails_writes_nothing_and_shows_no_token))
