/* What begins a device flow, and what a refusal means meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "common/attr.h"
#include "server/providers/device.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 18 };

#define CODES "\"device_code\":\"GmRh-secret\",\"user_code\":\"WDJB-MJHT\""
#define URI "\"verification_uri\":\"https://a.example/device\""

static void begin(struct cof_arena *arena)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, ARENA);
}

static void what_a_person_needs_is_read_and_times_have_limits(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct device_start start = {0};
    begin(&arena);
    CHECK_OK(device_start_read(cof_slice_text("{" CODES "," URI ",\"expires_in\":1800,\"interval\":7,"
                                              "\"verification_uri_complete\":\"https://a.example/d?c=WDJB-MJHT\"}"),
                               &arena, &start, &err),
             &err);
    CHECK_TEXT(start.device_code, "GmRh-secret");
    CHECK_TEXT(start.user_code, "WDJB-MJHT");
    CHECK_TEXT(start.verification_uri, "https://a.example/device");
    CHECK_TEXT(start.complete_uri, "https://a.example/d?c=WDJB-MJHT");
    CHECK_INT(start.life_s, 1800);
    CHECK_INT(start.interval_s, 7);
    CHECK_OK(device_start_read(cof_slice_text("{" CODES ",\"verification_url\":\"https://b.example/\","
                                              "\"expires_in\":99999999}"),
                               &arena, &start, &err),
             &err);
    CHECK_TEXT(start.verification_uri, "https://b.example/");
    CHECK_TEXT(start.complete_uri, "");
    CHECK_INT(start.life_s, DEVICE_LIFE_MOST_S);
    CHECK_INT(start.interval_s, DEVICE_INTERVAL_S);
    cof_arena_reset(&arena);
}

static const char *const wrong[] = {
    "{\"user_code\":\"W\"," URI ",\"expires_in\":60}",
    "{\"device_code\":\"GmRh-secret\"," URI ",\"expires_in\":60}",
    "{\"device_code\":\"a\\u000ab\",\"user_code\":\"W\"," URI ",\"expires_in\":60}",
    "{\"device_code\":\"a\",\"user_code\":\"\\u001b[2J\"," URI ",\"expires_in\":60}",
    "{" CODES ",\"expires_in\":60}",
    "{" CODES ",\"verification_uri\":\"http://a.example/\",\"expires_in\":60}",
    "{" CODES ",\"verification_uri\":\"javascript:alert(1)\",\"expires_in\":60}",
    "{" CODES ",\"verification_uri\":\"https://a.example@evil.example/\",\"expires_in\":60}",
    "{" CODES "," URI ",\"expires_in\":60,\"verification_uri_complete\":\"http://a.example/\"}",
    "{" CODES "," URI ",\"expires_in\":60,\"verification_uri_complete\":\"https://a.example/?c=GmRh-secret\"}",
    "{" CODES "," URI "}",
    "{" CODES "," URI ",\"expires_in\":0}",
    "{" CODES "," URI ",\"expires_in\":-1}",
    "{" CODES "," URI ",\"expires_in\":60,\"interval\":86400}",
    "{" CODES "," URI ",\"expires_in\":60,\"device_code\":\"other\"}",
    "{" CODES "," URI ",\"expires_in\":60",
    "[]",
    "<html>",
    "",
};

static void answer_that_nobody_could_follow_is_refused_and_not_quoted(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct device_start start = {0};
    begin(&arena);
    for (size_t i = 0; i < COF_COUNT(wrong); i++) {
        CHECK_FAILS(device_start_read(cof_slice_text(wrong[i]), &arena, &start, &err), &err, FILE_INVALID);
        CHECK(start.device_code == NULL);
        CHECK(strstr(err.message, "secret") == NULL && strstr(err.message, "evil") == NULL);
    }
    cof_arena_reset(&arena);
}

static void words_of_the_provider_have_their_meaning_and_no_other(void)
{
    CHECK_INT(device_word_of("authorization_pending"), DEVICE_PENDING);
    CHECK_INT(device_word_of("slow_down"), DEVICE_SLOWER);
    CHECK_INT(device_word_of("access_denied"), DEVICE_DENIED);
    CHECK_INT(device_word_of("expired_token"), DEVICE_EXPIRED);
    CHECK_INT(device_word_of("invalid_grant"), DEVICE_OTHER);
    CHECK_INT(device_word_of("Slow_Down"), DEVICE_OTHER);
    CHECK_INT(device_word_of(""), DEVICE_OTHER);
}

TEST_MAIN(TEST(what_a_person_needs_is_read_and_times_have_limits),
          TEST(answer_that_nobody_could_follow_is_refused_and_not_quoted),
          TEST(words_of_the_provider_have_their_meaning_and_no_other))
