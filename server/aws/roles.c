#include "server/aws/roles.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/attr.h"
#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/crypto.h"

enum {
    ARENA = 256 * 1024,
    TIMEOUT_MS = 10000,
    TURN_US = 30000000, /* for which a request waits for its turn */
    ANSWER_MOST = 65536,
    BODIES = 3, /* right, without, wrong */
    RANDOM_ID = 16,
    REFUSED_MS = 5000, /* for which a failure is remembered */
    THROTTLED_MS = 2000,
    UNAVAILABLE_MS = 1000,
    TEST_MS = 60000, /* for which what a test found waits for its caller */
    FIRST_TIME_PART = 1000000,
};

/* Which body each try sends. */
static const uint8_t tries[SESSIONS_TRIES] = {0, 1, 2, 0};

struct roles {
    struct roles_options options;
    struct sessions *sessions;
    struct identity *identity;
    atomic_ulong answers[STS_VERDICTS];
};

struct role_flight {
    struct identity_wait wait; /* first */
    struct roles *roles;
    uint8_t key[SESSIONS_KEY];
    struct sessions_owner owner;
    char region[AWS_REGION_MAX + 1];
    char url[AWS_URL_MAX];
    bool tests;
    bool tagged;
    size_t at; /* of the tries */
    struct sessions_test test;
    char *bodies[BODIES];
    size_t sizes[BODIES];
};

/* --- The end -------------------------------------------------------------------------------------------------- */

static void flight_free(struct role_flight *flight)
{
    for (size_t i = 0; i < BODIES; i++) {
        free(flight->bodies[i]);
    }
    free(flight);
}

static void flight_cleanup(struct role_flight **flight)
{
    if (*flight != NULL) {
        flight_free(*flight);
    }
}

/* The result lies where it is looked for. */
static void land(struct role_flight *flight)
{
    const struct roles_options *options = &flight->roles->options;
    uint8_t key[SESSIONS_KEY];
    memcpy(key, flight->key, sizeof key);
    flight_free(flight);
    options->landed(options->context, key);
}

static uint32_t remembered_ms(const struct sessions_failure *failure)
{
    const bool throttled = failure->reason == COF_REASON_AWS_THROTTLED;
    const bool unavailable = failure->reason == COF_REASON_AWS_UNAVAILABLE;
    const uint32_t least = throttled ? THROTTLED_MS : (unavailable ? UNAVAILABLE_MS : REFUSED_MS);
    return failure->retry_ms > least && failure->retry_ms < REFUSED_MS ? failure->retry_ms : least;
}

static void try_next(struct role_flight *flight);

/* One try of a test has ended. */
static void note_try(struct role_flight *flight, cof_reason reason)
{
    flight->test.tries[flight->at++] = reason;
    if (flight->at < SESSIONS_TRIES) {
        try_next(flight);
        return;
    }
    flight->test.time_us = cof_clock_wall(flight->roles->options.clock);
    sessions_keep_test(flight->roles->sessions, flight->key, &flight->owner, &flight->test, TEST_MS);
    land(flight);
}

static void fail(struct role_flight *flight, const struct sessions_failure *failure)
{
    if (flight->tests) {
        note_try(flight, failure->reason);
        return;
    }
    sessions_keep_failure(flight->roles->sessions, flight->key, &flight->owner, failure, remembered_ms(failure));
    land(flight);
}

static void succeed(struct role_flight *flight, const struct aws_credentials *credentials)
{
    if (flight->tests) {
        note_try(flight, COF_REASON_NONE);
        return;
    }
    sessions_keep(flight->roles->sessions, flight->key, &flight->owner, credentials);
    land(flight);
}

static void count(struct role_flight *flight, sts_verdict verdict)
{
    atomic_fetch_add(&flight->roles->answers[verdict], 1);
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

static uint32_t retry_of(sts_verdict verdict)
{
    if (verdict == STS_THROTTLED) {
        return THROTTLED_MS;
    }
    return verdict == STS_UNAVAILABLE ? UNAVAILABLE_MS : 0;
}

static const char *next_step(const struct role_flight *flight, const struct sts_found *found, cof_reason reason)
{
    return flight->tagged && found->about_tags ? "allow sts:TagSession in the role's trust policy, or take the tag "
                                                 "coffer:session-tags off the secret"
                                               : cof_reason_next_step(reason);
}

static void refuse(struct role_flight *flight, const struct sts_found *found)
{
    const cof_reason reason = sts_reason(found->verdict);
    struct sessions_failure failure = {.reason = reason, .retry_ms = retry_of(found->verdict)};
    const char *detail = found->fault != NULL ? found->fault : found->code;
    (void) snprintf(failure.message, sizeof failure.message, "%s%s%s%s; %s", cof_reason_meaning(reason),
                    detail[0] == '\0' ? "" : " (", detail, detail[0] == '\0' ? "" : ")",
                    next_step(flight, found, reason));
    if (found->verdict == STS_IDENTITY) {
        identity_doubt(flight->roles->identity);
    }
    fail(flight, &failure);
}

static void not_answered(struct role_flight *flight, const struct outbound_answer_view *view)
{
    const cof_reason reason = COF_REASON_AWS_UNAVAILABLE;
    struct sessions_failure failure = {
        .reason = reason, .retry_ms = view->retry_after_ms > 0 ? view->retry_after_ms : UNAVAILABLE_MS};
    (void) snprintf(failure.message, sizeof failure.message, "AWS STS does not answer (%s); %s", view->what,
                    cof_reason_next_step(reason));
    count(flight, STS_UNAVAILABLE);
    fail(flight, &failure);
}

/* In a function of its own, so that the arena, which holds the credentials, is wiped on every way. */
static void read_answer(struct role_flight *flight, const struct outbound_answer_view *view,
                        struct cof_arena *arena)
{
    struct sts_found found;
    struct cof_error err;
    const struct sts_reply reply = {view->status, view->end == OUTBOUND_ANSWERED, view->body};
    if (sts_answer_read("AssumeRole", &reply, arena, &found, &err) != COF_OK) {
        found = (struct sts_found){.verdict = STS_UNAVAILABLE, .fault = "there is no memory for the answer"};
    }
    if (found.verdict == STS_GRANTED &&
        found.credentials.expire_us <= cof_clock_wall(flight->roles->options.clock) + FIRST_TIME_PART) {
        found = (struct sts_found){.verdict = STS_UNAVAILABLE,
                                   .fault = "its credentials have expired; check the server's clock"};
    }
    count(flight, found.verdict);
    if (found.verdict == STS_GRANTED) {
        succeed(flight, &found.credentials);
    } else {
        refuse(flight, &found);
    }
}

static void answered(void *context, struct outbound_answer *answer)
{
    struct role_flight *flight = context;
    const struct aws_outside *outside = flight->roles->options.outside;
    const struct outbound_answer_view view = outside->view(answer);
    if (view.end == OUTBOUND_ANSWERED || view.end == OUTBOUND_CUT || view.end == OUTBOUND_TOO_LARGE) {
        struct cof_arena arena;
        cof_arena_init(&arena, flight->roles->options.pool, ARENA);
        read_answer(flight, &view, &arena);
        cof_arena_reset(&arena);
    } else {
        not_answered(flight, &view);
    }
    outside->free_answer(answer);
}

/* --- Questions ------------------------------------------------------------------------------------------------ */

static void send_request(struct role_flight *flight, const struct aws_credentials *credentials)
{
    char group[OUTBOUND_GROUP_MAX];
    const struct roles_options *options = &flight->roles->options;
    const size_t body = flight->tests ? tries[flight->at] : 0;
    const struct outbound_header headers[] = {
        {"Content-Type", cof_slice_text("application/x-www-form-urlencoded; charset=utf-8")},
    };
    const struct outbound_sigv4 sign = {
        .region = flight->region,
        .service = "sts",
        .access_key = credentials->access_key_id,
        .secret_key = credentials->secret_access_key,
        .session_token = credentials->session_token,
    };
    (void) snprintf(group, sizeof group, "aws-sts-%s", flight->region);
    options->outside->send(options->outbound, &(struct outbound_request){
                                                  .group = group,
                                                  .method = "POST",
                                                  .url = flight->url,
                                                  .headers = headers,
                                                  .header_count = COF_COUNT(headers),
                                                  .body = cof_slice_of(flight->bodies[body], flight->sizes[body]),
                                                  .sign = &sign,
                                                  .timeout_ms = TIMEOUT_MS,
                                                  .answer_bytes = ANSWER_MOST,
                                                  .send_until_us = cof_clock_monotonic(options->clock) + TURN_US,
                                                  .done = answered,
                                                  .context = flight,
                                              });
}

static void identity_ready(struct identity_wait *wait, const struct aws_credentials *credentials,
                           const struct sessions_failure *failure)
{
    struct role_flight *flight = (struct role_flight *) (void *) wait;
    if (credentials == NULL) {
        count(flight, STS_IDENTITY);
        fail(flight, failure);
    } else {
        send_request(flight, credentials);
    }
}

static void try_next(struct role_flight *flight)
{
    identity_want(flight->roles->identity, &flight->wait);
}

/* --- Orders --------------------------------------------------------------------------------------------------- */

static cof_code add_body(struct role_flight *flight, size_t at, const struct sts_role *role,
                         struct cof_arena *arena, struct cof_error *err)
{
    struct cof_slice body;
    TRY(sts_assume_role(role, arena, &body, err));
    flight->bodies[at] = malloc(body.len);
    if (flight->bodies[at] == NULL) {
        return cof_arena_exhausted(err);
    }
    memcpy(flight->bodies[at], body.data, body.len);
    flight->sizes[at] = body.len;
    return COF_OK;
}

static cof_code add_bodies(struct role_flight *flight, const struct roles_order *order, struct cof_arena *arena,
                           struct cof_error *err)
{
    uint8_t random[RANDOM_ID];
    char wrong[2 * RANDOM_ID + 1];
    struct sts_role role = order->role;
    TRY(add_body(flight, 0, &role, arena, err));
    if (!order->tests) {
        return COF_OK;
    }
    role.external_id = (struct cof_slice){NULL, 0};
    TRY(add_body(flight, 1, &role, arena, err));
    TRY(crypto_random(random, sizeof random, err));
    cof_hex_encode(cof_slice_of(random, sizeof random), wrong);
    role.external_id = cof_slice_text(wrong);
    return add_body(flight, 2, &role, arena, err);
}

cof_code roles_fly(struct roles *roles, const struct roles_order *order, struct cof_arena *arena,
                   struct cof_error *err)
{
    const char *endpoint = roles->options.sts_endpoint;
    AUTO(flight_cleanup) struct role_flight *flight = calloc(1, sizeof *flight);
    if (flight == NULL) {
        return cof_arena_exhausted(err);
    }
    flight->roles = roles;
    flight->wait.ready = identity_ready;
    flight->owner = order->owner;
    flight->tests = order->tests;
    flight->test.version = order->version;
    flight->tagged = order->role.tag_count > 0;
    memcpy(flight->key, order->key, sizeof flight->key);
    memcpy(flight->region, order->place.region, sizeof flight->region);
    (void) snprintf(flight->url, sizeof flight->url, "%s%s/", endpoint[0] == '\0' ? "https://" : "",
                    endpoint[0] == '\0' ? order->place.host : endpoint);
    TRY(add_bodies(flight, order, arena, err));
    try_next(TAKE(flight));
    return COF_OK;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static cof_code check_options(const struct roles_options *options, struct cof_error *err)
{
    struct aws_arn arn;
    const size_t length = strlen(options->sts_endpoint);
    if (options->principal_arn[0] != '\0') {
        TRY(aws_principal_arn_read(cof_slice_text(options->principal_arn), &arn, err));
    }
    const bool http =
        strncmp(options->sts_endpoint, "https://", 8) == 0 || strncmp(options->sts_endpoint, "http://", 7) == 0;
    if (length > 0 && (!http || length >= AWS_URL_MAX - 1 || options->sts_endpoint[length - 1] == '/')) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, "aws.sts_endpoint",
                              "aws.sts_endpoint is not written like https://sts.example.com, without a path");
    }
    return COF_OK;
}

static void roles_cleanup(struct roles **roles)
{
    roles_free(*roles);
}

cof_code roles_new(const struct roles_options *options, struct roles **ret_roles, struct cof_error *err)
{
    const struct identity_options identity = {
        .clock = options->clock,
        .outside = options->outside,
        .log = options->log,
        .outbound = options->outbound,
        .local = options->local,
        .pool = options->pool,
        .config = options->config,
        .sts_endpoint = options->sts_endpoint,
    };
    TRY(check_options(options, err));
    AUTO(roles_cleanup) struct roles *roles = calloc(1, sizeof *roles);
    if (roles == NULL) {
        return cof_arena_exhausted(err);
    }
    roles->options = *options;
    TRY(sessions_new(options->sessions, options->clock, &roles->sessions, err));
    TRY(identity_new(&identity, &roles->identity, err));
    *ret_roles = TAKE(roles);
    return COF_OK;
}

void roles_free(struct roles *roles)
{
    if (roles != NULL) {
        identity_free(roles->identity);
        sessions_free(roles->sessions);
        free(roles);
    }
}

const struct roles_options *roles_options_of(const struct roles *roles)
{
    return &roles->options;
}

bool roles_are_assumed(const struct roles *roles)
{
    return roles != NULL && roles->options.outside != NULL;
}

void roles_counts(const struct roles *roles, uint64_t counts[STS_VERDICTS])
{
    for (size_t i = 0; i < STS_VERDICTS; i++) {
        counts[i] = atomic_load(&roles->answers[i]);
    }
}

struct sessions *roles_sessions(struct roles *roles)
{
    return roles->sessions;
}
