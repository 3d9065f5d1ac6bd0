#include <stdlib.h>

#include "common/attr.h"
#include "server/aws/sts_answer.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 19 };

#define CREDENTIALS(token, expiration)                                                                \
    "<Credentials><AccessKeyId>ASIAEXAMPLEEXAMPLE12</AccessKeyId><SecretAccessKey>secret+key/1&amp;2" \
    "</SecretAccessKey><SessionToken>" token "</SessionToken><Expiration>" expiration                 \
    "</Expiration></Credentials>"
#define ANSWER(credentials)                                                                               \
    "<?xml version=\"1.0\"?>\n<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n" \
    "<AssumeRoleResult><AssumedRoleUser><Arn>arn:x</Arn></AssumedRoleUser>" credentials                   \
    "<PackedPolicySize>6</PackedPolicySize></AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId>" \
    "</ResponseMetadata></AssumeRoleResponse>"
#define ERROR(code, message)                                                                                   \
    "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>" code \
    "</Code><Message>" message "</Message></Error><RequestId>r</RequestId></ErrorResponse>"
#define NOON_US (INT64_C(1795608000) * 1000000) /* 2026-11-25 12:00:00 UTC */

static struct cof_arena arena;

static void read_answer(int status, const char *body, struct sts_found *ret_found)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(2 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    if (arena.pool == NULL) {
        cof_arena_init(&arena, pool, ARENA);
    }
    cof_arena_reset(&arena);
    const struct sts_reply reply = {.status = status, .whole = true, .body = cof_slice_text(body)};
    if (sts_answer_read("AssumeRole", &reply, &arena, ret_found, &err) != COF_OK) {
        abort();
    }
}

static void credentials_are_read(void)
{
    struct sts_found found;
    read_answer(200, ANSWER(CREDENTIALS("FwoGZXIvYXdz==", "2026-11-25T12:00:00Z")), &found);
    CHECK_INT(found.verdict, STS_GRANTED);
    CHECK(cof_slice_equal(found.credentials.access_key_id, cof_slice_text("ASIAEXAMPLEEXAMPLE12")));
    CHECK(cof_slice_equal(found.credentials.secret_access_key, cof_slice_text("secret+key/1&2")));
    CHECK(cof_slice_equal(found.credentials.session_token, cof_slice_text("FwoGZXIvYXdz==")));
    CHECK_INT(found.credentials.expire_us, NOON_US);
}

static void expiry_is_read_with_microseconds_and_without(void)
{
    static const char *const none[] = {"",
                                       "2026-11-25",
                                       "2026-11-25T12:00:00",
                                       "2026-11-25T12:00:00.Z",
                                       "2026-13-25T12:00:00Z",
                                       "2026-11-25 12:00:00Z",
                                       "2026-11-25T24:00:00Z",
                                       "2026-11-25T12:00:00.1+02:00"};
    int64_t time;
    CHECK(aws_time_read(cof_slice_text("2026-11-25T12:00:00Z"), &time));
    CHECK_INT(time, NOON_US);
    CHECK(aws_time_read(cof_slice_text("2026-11-25T12:00:00.123456Z"), &time));
    CHECK_INT(time, NOON_US);
    for (size_t i = 0; i < COF_COUNT(none); i++) {
        CHECK(!aws_time_read(cof_slice_text(none[i]), &time));
    }
}

static void errors_of_sts_have_a_verdict_each(void)
{
    static const struct {
        int status;
        sts_verdict verdict;
        const char *body;
        const char *code;
    } rows[] = {
        {403, STS_REFUSED, ERROR("AccessDenied", "not authorized to perform: sts:AssumeRole"), "AccessDenied"},
        {403, STS_IDENTITY, ERROR("ExpiredToken", ""), "ExpiredToken"},
        {403, STS_IDENTITY, ERROR("InvalidClientTokenId", ""), "InvalidClientTokenId"},
        {403, STS_IDENTITY, ERROR("SignatureDoesNotMatch", ""), "SignatureDoesNotMatch"},
        {403, STS_REGION, ERROR("RegionDisabledException", ""), "RegionDisabledException"},
        {400, STS_REQUEST, ERROR("MalformedPolicyDocument", ""), "MalformedPolicyDocument"},
        {400, STS_REQUEST, ERROR("ValidationError", "DurationSeconds"), "ValidationError"},
        {400, STS_THROTTLED, ERROR("Throttling", "Rate exceeded"), "Throttling"},
        {503, STS_THROTTLED, ERROR("SlowDown", ""), "SlowDown"},
        {429, STS_THROTTLED, ERROR("Something", ""), "Something"},
        {500, STS_UNAVAILABLE, ERROR("InternalFailure", ""), "InternalFailure"},
        {503, STS_UNAVAILABLE, ERROR("Something", ""), "Something"},
        {403, STS_REFUSED, ERROR("Something", ""), "Something"},
        {400, STS_REQUEST, ERROR("Something", ""), "Something"},
        {400, STS_REQUEST, ERROR("Some&lt;b&gt; thing\"'", ""), "Somebthing"},
        {403, STS_REFUSED, ERROR("", ""), ""},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        struct sts_found found;
        read_answer(rows[i].status, rows[i].body, &found);
        CHECK_INT(found.verdict, rows[i].verdict);
        CHECK_TEXT(found.code, rows[i].code);
        CHECK(found.fault == NULL && sts_reason(found.verdict) != COF_REASON_NONE);
    }
}

static void refusal_of_tags_is_known(void)
{
    struct sts_found found;
    read_answer(403, ERROR("AccessDenied", "User is not authorized to perform: sts:TagSession on resource"),
                &found);
    CHECK(found.about_tags);
    read_answer(403, ERROR("AccessDenied", "User is not authorized to perform: sts:AssumeRole"), &found);
    CHECK(!found.about_tags);
}

/* Whoever stands on the way, or another service, says nothing about the role. */
static void what_is_no_answer_of_sts_is_an_outage(void)
{
    static const struct {
        int status;
        const char *body;
    } rows[] = {
        {200, ""},
        {200, "{\"AccessKeyId\": \"x\"}"},
        {200, "<html><body>Sign in</body></html>"},
        {403, "<html>proxy says no</html>"},
        {200, "<ListBucketResult><Credentials/></ListBucketResult>"},
        {200, ERROR("AccessDenied", "")},
        {500, ANSWER(CREDENTIALS("t", "2026-11-25T12:00:00Z"))},
        {302, "<AssumeRoleResponse/>"},
        {200, "<AssumeRoleResponse/>"},
        {200, ANSWER("")},
        {200, ANSWER(CREDENTIALS("", "2026-11-25T12:00:00Z"))},
        {200, ANSWER(CREDENTIALS("to ken", "2026-11-25T12:00:00Z"))},
        {200, ANSWER(CREDENTIALS("t", "tomorrow"))},
        {200, ANSWER(CREDENTIALS("t", "2026-11-25T12:00:00Z") CREDENTIALS("u", "2026-11-25T12:00:00Z"))},
        {200, "<AssumeRoleWithSAMLResponse><AssumeRoleWithSAMLResult>" CREDENTIALS(
                  "t", "2026-11-25T12:00:00Z") "</AssumeRoleWithSAMLResult></AssumeRoleWithSAMLResponse>"},
        {200, "<!DOCTYPE x [<!ENTITY a \"b\">]><AssumeRoleResponse>&a;</AssumeRoleResponse>"},
        {200, "<AssumeRoleResponse><AssumeRoleResult>" CREDENTIALS("t", "2026-11-25T12:00:00Z")},
        {200, "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>"},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        struct sts_found found;
        read_answer(rows[i].status, rows[i].body, &found);
        CHECK_INT(found.verdict, STS_UNAVAILABLE);
        CHECK(found.fault != NULL);
    }
}

/* Every prefix of an answer, and every answer with one byte changed: never granted with something that is not whole. */
static void answer_that_is_cut_or_changed_grants_nothing_else(void)
{
    static const char answer[] = ANSWER(CREDENTIALS("FwoGZXIvYXdz==", "2026-11-25T12:00:00Z"));
    static char changed[sizeof answer];
    struct sts_found found;
    uint64_t state = test_seed();
    for (size_t length = 0; length + 1 < sizeof answer; length++) {
        memcpy(changed, answer, length);
        changed[length] = '\0';
        read_answer(200, changed, &found);
        CHECK_INT(found.verdict, STS_UNAVAILABLE);
    }
    for (size_t i = 0; i < 2000; i++) {
        memcpy(changed, answer, sizeof answer);
        changed[test_random(&state) % (sizeof answer - 1)] = (char) (1 + test_random(&state) % 255);
        read_answer(200, changed, &found);
        CHECK(found.verdict != STS_GRANTED || aws_credentials_are_usable(&found.credentials));
    }
}

static void credentials_of_an_endpoint_are_read(void)
{
    struct aws_credentials credentials;
    struct sts_found found;
    read_answer(200, "", &found);
    CHECK(
        aws_credentials_read_json(
            cof_slice_text("{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"s\\/x\",\"Token\":"
                           "\"t\",\"Expiration\":\"2026-11-25T12:00:00Z\",\"Deep\":{\"AccessKeyId\":\"other\"}}"),
            &arena, &credentials) == NULL);
    CHECK(cof_slice_equal(credentials.access_key_id, cof_slice_text("ASIA")));
    CHECK(cof_slice_equal(credentials.secret_access_key, cof_slice_text("s/x")));
    CHECK_INT(credentials.expire_us, NOON_US);
    static const char *const none[] = {
        "",
        "[]",
        "{\"AccessKeyId\":\"A\"}",
        "{\"Code\":\"AssumeRoleUnauthorizedAccess\"}",
        "<html/>",
        "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Expiration\":\"soon\"}",
        "{\"AccessKeyId\":\"A\\r\\nX: y\",\"SecretAccessKey\":\"s\"}",
    };
    for (size_t i = 0; i < COF_COUNT(none); i++) {
        CHECK(aws_credentials_read_json(cof_slice_text(none[i]), &arena, &credentials) != NULL);
    }
}

TEST_MAIN(TEST(credentials_are_read), TEST(expiry_is_read_with_microseconds_and_without),
          TEST(errors_of_sts_have_a_verdict_each), TEST(refusal_of_tags_is_known),
          TEST(what_is_no_answer_of_sts_is_an_outage), TEST(answer_that_is_cut_or_changed_grants_nothing_else),
          TEST(credentials_of_an_endpoint_are_read))
