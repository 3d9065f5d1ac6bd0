/* What registering a client asks for, and what of the answers is believed. */
#include <stdlib.h>
#include <string.h>

#include "common/attr.h"
#include "server/providers/registration.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 18 };

static const char *const uris[] = {"https://coffer.example/oauth/callback", "http://127.0.0.1/callback"};
static const char *const grants[] = {"authorization_code", "refresh_token"};

static const struct registration_wish wish = {
    .name = "Our \"platform\"",
    .redirect_uris = {uris, COF_COUNT(uris)},
    .grants = {grants, COF_COUNT(grants)},
    .auth = PROVIDER_AUTH_BASIC,
    .auths = PROVIDER_AUTH_BASIC | PROVIDER_AUTH_NONE,
    .software_id = "coffer",
    .software_version = "",
};

static void begin(struct cof_arena *arena)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, ARENA);
}

static void request_names_all_that_the_client_is_to_be(void)
{
    struct cof_error err = {0};
    struct cof_arena arena;
    struct cof_slice body;
    begin(&arena);
    CHECK_OK(registration_write(&wish, &arena, &body, &err), &err);
    CHECK_TEXT(cof_arena_text(&arena, body),
               "{\"token_endpoint_auth_method\":\"client_secret_basic\",\"client_name\":\"Our \\\"platform\\\"\","
               "\"redirect_uris\":[\"https://coffer.example/oauth/callback\",\"http://127.0.0.1/callback\"],"
               "\"grant_types\":[\"authorization_code\",\"refresh_token\"],\"response_types\":[\"code\"],"
               "\"software_id\":\"coffer\"}");
    cof_arena_reset(&arena);
}

/* An answer, and what is wrong with it; NULL: nothing. */
struct answer {
    const char *text;
    const char *problem;
};

static const struct answer answers[] = {
    {"{\"client_id\":\"a\",\"client_secret\":\"s\"}", NULL},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"client_secret_expires_at\":0,\"unknown\":[{}]}", NULL},
    {"{\"client_id\":\"a\",\"token_endpoint_auth_method\":\"none\"}", NULL},
    {"{\"client_secret\":\"s\"}", "no ID"},
    {"{\"client_id\":7,\"client_secret\":\"s\"}", "no ID"},
    {"{\"client_id\":\"a\\u000ab\",\"client_secret\":\"s\"}", "no ID"},
    {"{\"client_id\":\"a\"}", "no secret"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\\u000d\\u000ax\"}", "cannot be sent"},
    {"{\"client_id\":\"a\",\"client_id\":\"b\",\"client_secret\":\"s\"}", "twice"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"client_secret\":\"t\"}", "twice"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"token_endpoint_auth_method\":\"client_secret_jwt\"}",
     "does not know"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"token_endpoint_auth_method\":\"client_secret_post\"}",
     "does not take"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"redirect_uris\":[\"https://evil.example/\"]}",
     "other redirect"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"redirect_uris\":[\"https://coffer.example/oauth/callback\","
     "\"http://127.0.0.1/callback\",\"https://evil.example/\"]}",
     "other redirect"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"registration_client_uri\":\"http://a.example/\"}", "https"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"client_secret_expires_at\":1.5}", "whole"},
    {"{\"client_id\":\"a\",\"client_secret\":\"s\",\"client_secret_expires_at\":-1}", "whole"},
    {"[]", "no object"},
    {"<html>registered</html>", "no JSON"},
    {"", "no JSON"},
};

static void only_a_client_that_is_what_was_asked_for_is_believed(void)
{
    for (size_t i = 0; i < COF_COUNT(answers); i++) {
        struct cof_error err = {0};
        struct cof_arena arena;
        struct registration_found found;
        begin(&arena);
        const cof_code code = registration_read(cof_slice_text(answers[i].text), &wish, &arena, &found, &err);
        CHECK_INT(code == COF_OK, answers[i].problem == NULL);
        if (answers[i].problem == NULL) {
            CHECK_TEXT(found.client_id, "a");
            CHECK_TEXT(found.client_secret, found.auth == PROVIDER_AUTH_NONE ? "" : "s");
        } else {
            CHECK(strstr(err.message, answers[i].problem) != NULL);
            CHECK(strstr(err.message, "evil") == NULL);
        }
        cof_arena_reset(&arena);
    }
}

static void what_manages_the_client_is_kept_with_its_end(void)
{
    struct cof_error err = {0};
    struct cof_arena arena;
    struct registration_found found;
    begin(&arena);
    CHECK_INT(registration_read(
                  cof_slice_text(
                      "{\"client_id\":\"a\",\"client_secret\":\"s\",\"client_secret_expires_at\":1800000000,"
                      "\"registration_access_token\":\"t\",\"registration_client_uri\":\"https://a.example/a\"}"),
                  &wish, &arena, &found, &err),
              COF_OK);
    CHECK_INT(found.secret_expires_s, 1800000000);
    CHECK_TEXT(found.access_token, "t");
    CHECK_TEXT(found.client_uri, "https://a.example/a");
    cof_arena_reset(&arena);
}

static void refusal_is_told_in_printable_words(void)
{
    struct cof_arena arena;
    char words[REGISTRATION_WORDS_MAX + 1];
    begin(&arena);
    registration_refusal(
        cof_slice_text("{\"error\":\"invalid_client_metadata\",\"error_description\":\"no\\u000athere\"}"), &arena,
        words);
    CHECK_TEXT(words, "invalid_client_metadata: no?there");
    registration_refusal(cof_slice_text("<html>"), &arena, words);
    CHECK_TEXT(words, "");
    cof_arena_reset(&arena);
}

TEST_MAIN(TEST(request_names_all_that_the_client_is_to_be),
          TEST(only_a_client_that_is_what_was_asked_for_is_believed),
          TEST(what_manages_the_client_is_kept_with_its_end), TEST(refusal_is_told_in_printable_words))
