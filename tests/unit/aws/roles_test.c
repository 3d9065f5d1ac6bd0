#include <stdlib.h>

#include "common/attr.h"
#include "server/aws/roles.h"
#include "server/crypto/crypto.h"
#include "tests/support/test.h"

/* Roles and the server's own identity, with an outside that answers what a test wants, when it wants it. */

enum {
    POOL = 8 << 20,
    ARENA = 1 << 20,
    SENT_MAX = 32,
    TEXT = 4096,
    SECOND = 1000000,
};

#define START_US (INT64_C(1795608000) * SECOND) /* 2026-11-25 12:00:00 UTC */
#define GRANTED_UNTIL(time)                                                                                        \
    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIASESSION</AccessKeyId>"                    \
    "<SecretAccessKey>session-secret</SecretAccessKey><SessionToken>session-token</SessionToken><Expiration>" time \
    "</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
#define GRANTED GRANTED_UNTIL("2026-11-25T13:00:00Z")
#define REFUSED(code) "<ErrorResponse><Error><Code>" code "</Code><Message>no</Message></Error></ErrorResponse>"

/* --- The outside ------------------------------------------------------------------------------------------------ */

struct sent {
    char method[8];
    char url[TEXT];
    char body[TEXT];
    char header[TEXT]; /* the last one */
    char access_key[AWS_ACCESS_KEY_MAX];
    void (*done)(void *context, struct outbound_answer *answer);
    void *context;
};

struct outbound_answer {
    struct outbound_answer_view view;
};

static struct sent sent[SENT_MAX];
static size_t sent_count;
static int64_t now_us;
static size_t landings;

static void copy(char *to, size_t size, struct cof_slice from)
{
    const size_t length = from.len < size - 1 ? from.len : size - 1;
    if (length > 0) {
        memcpy(to, from.data, length);
    }
    to[length] = '\0';
}

static void take(struct outbound *outbound, const struct outbound_request *request)
{
    struct sent *one = &sent[sent_count++ % SENT_MAX];
    (void) outbound;
    memset(one, 0, sizeof *one);
    one->done = request->done;
    one->context = request->context;
    copy(one->method, sizeof one->method, cof_slice_text(request->method));
    copy(one->url, sizeof one->url, cof_slice_text(request->url));
    copy(one->body, sizeof one->body, request->body);
    if (request->header_count > 0) {
        const struct outbound_header *header = &request->headers[request->header_count - 1];
        (void) snprintf(one->header, sizeof one->header, "%s: %.1000s", header->name,
                        header->value.len == 0 ? "" : (const char *) header->value.data);
    }
    if (request->sign != NULL) {
        copy(one->access_key, sizeof one->access_key, request->sign->access_key);
    }
}

static struct outbound_answer_view view_of(const struct outbound_answer *answer)
{
    return answer->view;
}

static void free_answer(struct outbound_answer *answer)
{
    free(answer);
}

static const struct aws_outside outside = {take, view_of, free_answer};

static void answer(size_t index, outbound_end end, int status, const char *body)
{
    struct outbound_answer *one = calloc(1, sizeof *one);
    if (one == NULL || index >= sent_count) {
        abort();
    }
    one->view = (struct outbound_answer_view){.end = end,
                                              .sent = end < OUTBOUND_NOT_SENT,
                                              .status = status,
                                              .body = cof_slice_text(body),
                                              .what = "a test"};
    void (*done)(void *context, struct outbound_answer *answer) = sent[index].done;
    sent[index].done = NULL;
    done(sent[index].context, one);
}

/* As outbound does when the server ends: everything that was begun is told that it is over. */
static void end_all(void)
{
    for (size_t i = 0; i < sent_count; i++) {
        if (sent[i].done != NULL) {
            answer(i, OUTBOUND_STOPPED, 0, "");
        }
    }
}

/* --- A server's roles ------------------------------------------------------------------------------------------- */

static int64_t now(void *context)
{
    (void) context;
    return now_us;
}

static const struct cof_clock test_clock = {now, now, NULL};
static struct cof_log test_log;
static struct cof_pool *pool;
static struct cof_arena arena;
static struct aws_identity_config config;
static struct roles *roles;

static void landed(void *context, const uint8_t key[SESSIONS_KEY])
{
    (void) context;
    (void) key;
    landings++;
}

static void begin(uint32_t capacity)
{
    struct cof_error err;
    if (pool == NULL && (crypto_start(1 << 20, 0, &err) != COF_OK ||
                         cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK)) {
        abort();
    }
    end_all();
    roles_free(roles);
    roles = NULL;
    if (arena.pool == NULL) {
        cof_arena_init(&arena, pool, ARENA);
    }
    cof_arena_reset(&arena);
    cof_log_init(&test_log, 2, COF_LOG_JSON, COF_LOG_ERROR, &test_clock);
    sent_count = 0;
    landings = 0;
    now_us = START_US;
    const struct roles_options options = {.clock = &test_clock,
                                          .log = &test_log,
                                          .outside = &outside,
                                          .pool = pool,
                                          .config = &config,
                                          .sts_endpoint = "",
                                          .principal_arn = "",
                                          .duration_s = 3600,
                                          .sessions = capacity,
                                          .landed = landed};
    if (roles_new(&options, &roles, &err) != COF_OK) {
        abort();
    }
}

static void begin_with_keys(uint32_t capacity)
{
    config = (struct aws_identity_config){
        .source = AWS_SOURCE_ENVIRONMENT,
        .credentials = {cof_slice_text("AKIAOWN"), cof_slice_text("own-secret"), cof_slice_text(""), AWS_NEVER}};
    begin(capacity);
}

static struct roles_order order_of(uint8_t number)
{
    struct cof_error err;
    struct roles_order order = {
        .key = {number},
        .owner = {.secret = {{number}}},
        .version = 7,
        .role = {.arn = cof_slice_text("arn:aws:iam::123456789012:role/r"),
                 .session_name = cof_slice_text("s"),
                 .external_id = cof_slice_text("the-right-id"),
                 .duration_s = 3600},
    };
    if (aws_place_of(cof_slice_text("aws"), cof_slice_text("eu-central-1"), &order.place, &err) != COF_OK) {
        abort();
    }
    return order;
}

static void fly(uint8_t number)
{
    struct cof_error err;
    const struct roles_order order = order_of(number);
    if (roles_fly(roles, &order, &arena, &err) != COF_OK) {
        abort();
    }
}

static struct sessions_result found(uint8_t number)
{
    struct cof_error err;
    struct sessions_result result;
    const uint8_t key[SESSIONS_KEY] = {number};
    if (sessions_find(roles_sessions(roles), key, &arena, &result, &err) != COF_OK) {
        abort();
    }
    return result;
}

/* --- Sessions --------------------------------------------------------------------------------------------------- */

static void role_is_assumed_with_the_external_id_at_its_regions_endpoint(void)
{
    begin_with_keys(4);
    fly(1);
    CHECK_INT(sent_count, 1);
    CHECK_TEXT(sent[0].method, "POST");
    CHECK_TEXT(sent[0].url, "https://sts.eu-central-1.amazonaws.com/");
    CHECK_TEXT(sent[0].access_key, "AKIAOWN");
    CHECK_CONTAINS(sent[0].body, "&ExternalId=the-right-id");
    CHECK_INT(found(1).found, SESSIONS_NOTHING);
    answer(0, OUTBOUND_ANSWERED, 200, GRANTED);
    CHECK_INT(landings, 1);
    const struct sessions_result result = found(1);
    CHECK_INT(result.found, SESSIONS_CREDENTIALS);
    CHECK(cof_slice_equal(result.credentials.access_key_id, cof_slice_text("ASIASESSION")));
    CHECK(cof_slice_equal(result.credentials.secret_access_key, cof_slice_text("session-secret")));
    CHECK(cof_slice_equal(result.credentials.session_token, cof_slice_text("session-token")));
    CHECK_INT(found(2).found, SESSIONS_NOTHING);
}

static void session_is_handed_out_until_five_minutes_before_it_expires(void)
{
    begin_with_keys(4);
    fly(1);
    answer(0, OUTBOUND_ANSWERED, 200, GRANTED);
    now_us = START_US + (int64_t) (3600 - 300) * SECOND - 1;
    CHECK_INT(found(1).found, SESSIONS_CREDENTIALS);
    now_us += 1;
    CHECK_INT(found(1).found, SESSIONS_NOTHING);
    CHECK_INT(sessions_count(roles_sessions(roles)), 0);
}

static void session_with_a_short_life_is_handed_out_for_half_of_it(void)
{
    begin_with_keys(4);
    fly(1);
    answer(0, OUTBOUND_ANSWERED, 200, GRANTED_UNTIL("2026-11-25T12:01:00Z"));
    now_us = START_US + (int64_t) 30 * SECOND - 1;
    CHECK_INT(found(1).found, SESSIONS_CREDENTIALS);
    now_us += 1;
    CHECK_INT(found(1).found, SESSIONS_NOTHING);
}

static void session_that_has_expired_when_it_comes_is_none(void)
{
    begin_with_keys(4);
    fly(1);
    answer(0, OUTBOUND_ANSWERED, 200, GRANTED_UNTIL("2026-11-25T12:00:00Z"));
    CHECK_INT(found(1).failure.reason, COF_REASON_AWS_UNAVAILABLE);
    CHECK_CONTAINS(found(1).failure.message, "clock");
}

static void cache_forgets_what_was_used_longest_ago(void)
{
    begin_with_keys(3);
    for (uint8_t i = 1; i <= 3; i++) {
        fly(i);
        answer(i - 1U, OUTBOUND_ANSWERED, 200, GRANTED);
    }
    CHECK_INT(found(1).found, SESSIONS_CREDENTIALS);
    fly(4);
    answer(3, OUTBOUND_ANSWERED, 200, GRANTED);
    CHECK_INT(sessions_count(roles_sessions(roles)), 3);
    CHECK_INT(found(2).found, SESSIONS_NOTHING);
    CHECK_INT(found(1).found, SESSIONS_CREDENTIALS);
    CHECK_INT(found(4).found, SESSIONS_CREDENTIALS);
}

static void change_of_a_secret_or_of_grants_evicts(void)
{
    const struct cof_uuid workspace = {{0}};
    const struct cof_uuid other = {{9}};
    const struct cof_uuid secret = {{1}};
    begin_with_keys(8);
    for (uint8_t i = 1; i <= 3; i++) {
        fly(i);
        answer(i - 1U, OUTBOUND_ANSWERED, 200, GRANTED);
    }
    sessions_evict(roles_sessions(roles), &other, NULL);
    CHECK_INT(sessions_count(roles_sessions(roles)), 3);
    sessions_evict(roles_sessions(roles), &workspace, &secret);
    CHECK_INT(found(1).found, SESSIONS_NOTHING);
    CHECK_INT(found(2).found, SESSIONS_CREDENTIALS);
    sessions_evict(roles_sessions(roles), &workspace, NULL);
    CHECK_INT(sessions_count(roles_sessions(roles)), 0);
}

/* --- Failures --------------------------------------------------------------------------------------------------- */

static void failures_have_their_reasons_and_are_remembered_for_seconds(void)
{
    static const struct {
        outbound_end end;
        int status;
        const char *body;
        cof_reason reason;
        bool retry;
    } rows[] = {
        {OUTBOUND_ANSWERED, 403, REFUSED("AccessDenied"), COF_REASON_AWS_ROLE_REFUSED, false},
        {OUTBOUND_ANSWERED, 403, REFUSED("ExpiredToken"), COF_REASON_AWS_IDENTITY_REFUSED, false},
        {OUTBOUND_ANSWERED, 400, REFUSED("Throttling"), COF_REASON_AWS_THROTTLED, true},
        {OUTBOUND_ANSWERED, 400, REFUSED("PackedPolicyTooLarge"), COF_REASON_AWS_SESSION_REFUSED, false},
        {OUTBOUND_ANSWERED, 200, "<html/>", COF_REASON_AWS_UNAVAILABLE, true},
        {OUTBOUND_CUT, 200, GRANTED, COF_REASON_AWS_UNAVAILABLE, true},
        {OUTBOUND_TOO_LARGE, 200, GRANTED, COF_REASON_AWS_UNAVAILABLE, true},
        {OUTBOUND_LOST, 0, "", COF_REASON_AWS_UNAVAILABLE, true},
        {OUTBOUND_NOT_SENT, 0, "", COF_REASON_AWS_UNAVAILABLE, true},
        {OUTBOUND_BREAKER_OPEN, 0, "", COF_REASON_AWS_UNAVAILABLE, true},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        begin_with_keys(4);
        fly(1);
        answer(0, rows[i].end, rows[i].status, rows[i].body);
        CHECK_INT(landings, 1);
        const struct sessions_result result = found(1);
        CHECK_INT(result.found, SESSIONS_FAILURE);
        CHECK_INT(result.failure.reason, rows[i].reason);
        CHECK_INT(result.failure.retry_ms > 0, rows[i].retry);
        now_us += (int64_t) 10 * SECOND;
        CHECK_INT(found(1).found, SESSIONS_NOTHING);
    }
}

static void answers_are_counted_by_what_they_said(void)
{
    uint64_t counts[STS_VERDICTS];
    begin_with_keys(4);
    fly(1);
    answer(0, OUTBOUND_ANSWERED, 200, GRANTED);
    fly(2);
    answer(1, OUTBOUND_ANSWERED, 403, REFUSED("AccessDenied"));
    fly(3);
    answer(2, OUTBOUND_LOST, 0, "");
    roles_counts(roles, counts);
    for (size_t i = 0; i < STS_VERDICTS; i++) {
        const bool one = i == STS_GRANTED || i == STS_REFUSED || i == STS_UNAVAILABLE;
        CHECK_INT(counts[i], one ? 1 : 0);
    }
    CHECK_TEXT(sts_verdict_name(STS_GRANTED), "GRANTED");
    CHECK_TEXT(sts_verdict_name(STS_UNAVAILABLE), "UNAVAILABLE");
}

static void refusal_of_tags_says_what_to_change(void)
{
    struct cof_error err;
    struct roles_order order = order_of(1);
    order.role.tags[0] = (struct sts_tag){"coffer:run", cof_slice_text("r")};
    order.role.tag_count = 1;
    begin_with_keys(4);
    CHECK_OK(roles_fly(roles, &order, &arena, &err), &err);
    CHECK_CONTAINS(sent[0].body, "Tags.member.1.Key");
    answer(0, OUTBOUND_ANSWERED, 403,
           "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: "
           "sts:TagSession</Message>"
           "</Error></ErrorResponse>");
    CHECK_CONTAINS(found(1).failure.message, "sts:TagSession");
}

/* --- The role test ---------------------------------------------------------------------------------------------- */

static void role_test_tries_right_none_wrong_and_right_again(void)
{
    struct cof_error err;
    struct roles_order order = order_of(1);
    order.tests = true;
    begin_with_keys(4);
    CHECK_OK(roles_fly(roles, &order, &arena, &err), &err);
    answer(0, OUTBOUND_ANSWERED, 200, GRANTED);
    answer(1, OUTBOUND_ANSWERED, 403, REFUSED("AccessDenied"));
    answer(2, OUTBOUND_ANSWERED, 400, REFUSED("Throttling"));
    CHECK_INT(landings, 0);
    answer(3, OUTBOUND_ANSWERED, 200, GRANTED);
    CHECK_INT(landings, 1);
    CHECK_INT(sent_count, 4);
    CHECK_CONTAINS(sent[0].body, "ExternalId=the-right-id");
    CHECK(strstr(sent[1].body, "ExternalId") == NULL);
    CHECK_CONTAINS(sent[2].body, "ExternalId=");
    CHECK(strstr(sent[2].body, "the-right-id") == NULL);
    CHECK_TEXT(sent[3].body, sent[0].body);
    const struct sessions_result result = found(1);
    CHECK_INT(result.found, SESSIONS_TEST);
    CHECK_INT(result.test.version, 7);
    CHECK_INT(result.test.tries[0], COF_REASON_NONE);
    CHECK_INT(result.test.tries[1], COF_REASON_AWS_ROLE_REFUSED);
    CHECK_INT(result.test.tries[2], COF_REASON_AWS_THROTTLED);
    CHECK_INT(result.test.tries[3], COF_REASON_NONE);
}

/* --- The server's own identity ---------------------------------------------------------------------------------- */

static void begin_with_instance(void)
{
    config = (struct aws_identity_config){.source = AWS_SOURCE_INSTANCE, .url = "http://169.254.169.254"};
    begin(8);
}

static void answer_instance(size_t first, const char *expiration)
{
    char body[TEXT / 4];
    (void) snprintf(body, sizeof body,
                    "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIAOWN\",\"SecretAccessKey\":\"s\",\"Token\":\"t\","
                    "\"Expiration\":\"%s\"}",
                    expiration);
    answer(first, OUTBOUND_ANSWERED, 200, "imds-token");
    answer(first + 1, OUTBOUND_ANSWERED, 200, "own-role\n");
    answer(first + 2, OUTBOUND_ANSWERED, 200, body);
}

static void instance_is_asked_with_a_token_once_for_all_who_wait(void)
{
    begin_with_instance();
    fly(1);
    fly(2);
    CHECK_INT(sent_count, 1);
    answer_instance(0, "2026-11-25T18:00:00Z");
    CHECK_TEXT(sent[0].method, "PUT");
    CHECK_TEXT(sent[0].url, "http://169.254.169.254/latest/api/token");
    CHECK_TEXT(sent[1].header, "X-aws-ec2-metadata-token: imds-token");
    CHECK_TEXT(sent[2].url, "http://169.254.169.254/latest/meta-data/iam/security-credentials/own-role");
    CHECK_INT(sent_count, 5);
    CHECK_TEXT(sent[3].access_key, "ASIAOWN");
    CHECK_TEXT(sent[4].access_key, "ASIAOWN");
    fly(3);
    CHECK_INT(sent_count, 6);
}

static void identity_is_fetched_again_before_it_expires_while_the_old_one_serves(void)
{
    begin_with_instance();
    fly(1);
    answer_instance(0, "2026-11-25T13:00:00Z");
    CHECK_INT(sent_count, 4);
    now_us = START_US + (int64_t) (3600 - 599) * SECOND;
    fly(2);
    CHECK_INT(sent_count, 6);
    CHECK_TEXT(sent[4].access_key, "ASIAOWN");
    CHECK_TEXT(sent[5].method, "PUT");
    now_us = START_US + (int64_t) (3600 - 59) * SECOND;
    fly(3);
    CHECK_INT(sent_count, 6); /* it waits */
    answer_instance(5, "2026-11-25T19:00:00Z");
    CHECK_INT(sent_count, 9);
    CHECK_TEXT(sent[8].access_key, "ASIAOWN");
}

static void without_an_identity_the_use_of_a_role_says_so(void)
{
    config = (struct aws_identity_config){.source = AWS_SOURCE_NONE};
    begin(4);
    fly(1);
    CHECK_INT(sent_count, 0);
    CHECK_INT(landings, 1);
    CHECK_INT(found(1).failure.reason, COF_REASON_AWS_IDENTITY_MISSING);
    begin_with_instance();
    fly(1);
    answer(0, OUTBOUND_NOT_SENT, 0, "");
    CHECK_INT(found(1).failure.reason, COF_REASON_AWS_IDENTITY_MISSING);
    begin_with_instance();
    fly(1);
    answer(0, OUTBOUND_ANSWERED, 200, "token\r\nX-Other: header");
    CHECK_INT(found(1).failure.reason, COF_REASON_AWS_UNAVAILABLE);
}

static void container_is_asked_with_its_token(void)
{
    config = (struct aws_identity_config){
        .source = AWS_SOURCE_CONTAINER, .url = "http://169.254.170.2/v2/x", .token = "Bearer abc"};
    begin(4);
    fly(1);
    CHECK_TEXT(sent[0].url, "http://169.254.170.2/v2/x");
    CHECK_TEXT(sent[0].header, "Authorization: Bearer abc");
    answer(0, OUTBOUND_ANSWERED, 200,
           "{\"AccessKeyId\":\"ASIABOX\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":"
           "\"2026-11-25T18:00:00Z\"}");
    CHECK_TEXT(sent[1].access_key, "ASIABOX");
    config.token = "a\r\nX-Other: b";
    begin(4);
    fly(1);
    CHECK_INT(sent_count, 0);
    CHECK_INT(found(1).failure.reason, COF_REASON_AWS_IDENTITY_MISSING);
}

static void identity_that_sts_does_not_accept_is_fetched_anew(void)
{
    begin_with_instance();
    fly(1);
    answer_instance(0, "2026-11-25T18:00:00Z");
    answer(3, OUTBOUND_ANSWERED, 403, REFUSED("ExpiredToken"));
    fly(2);
    CHECK_INT(sent_count, 5);
    CHECK_TEXT(sent[4].method, "PUT");
    answer_instance(4, "2026-11-25T18:00:00Z");
    CHECK_TEXT(sent[7].access_key, "ASIAOWN");
}

static void end_of_the_server_lands_what_is_under_way(void)
{
    begin_with_instance();
    fly(1);
    fly(2);
    CHECK_INT(landings, 0);
    end_all();
    CHECK_INT(landings, 2);
    CHECK_INT(sent_count, 1);
    CHECK_INT(found(1).found, SESSIONS_FAILURE);
    roles_free(roles);
    roles = NULL;
}

TEST_MAIN(TEST(role_is_assumed_with_the_external_id_at_its_regions_endpoint),
          TEST(session_is_handed_out_until_five_minutes_before_it_expires),
          TEST(session_with_a_short_life_is_handed_out_for_half_of_it),
          TEST(session_that_has_expired_when_it_comes_is_none), TEST(cache_forgets_what_was_used_longest_ago),
          TEST(change_of_a_secret_or_of_grants_evicts),
          TEST(failures_have_their_reasons_and_are_remembered_for_seconds),
          TEST(answers_are_counted_by_what_they_said), TEST(refusal_of_tags_says_what_to_change),
          TEST(role_test_tries_right_none_wrong_and_right_again),
          TEST(instance_is_asked_with_a_token_once_for_all_who_wait),
          TEST(identity_is_fetched_again_before_it_expires_while_the_old_one_serves),
          TEST(without_an_identity_the_use_of_a_role_says_so), TEST(container_is_asked_with_its_token),
          TEST(identity_that_sts_does_not_accept_is_fetched_anew), TEST(end_of_the_server_lands_what_is_under_way))
