#include "server/aws/identity.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/attr.h"
#include "common/secret.h"
#include "server/aws/arn.h"
#include "server/aws/sts_answer.h"
#include "server/aws/sts_request.h"

enum {
    ARENA = 256 * 1024,
    MICROSECONDS = 1000000,
    EARLY_S = 600,    /* before they expire, others are fetched */
    LATE_S = 60,      /* before they expire, they are not used any more */
    FAILED_MS = 2000, /* a failure is told to all who come within that time */
    LOCAL_TIMEOUT_MS = 2000,
    STS_TIMEOUT_MS = 10000,
    ROLE_NAME_MAX = 256,
    OWN_DURATION_S = 3600,
    TOKEN_FILE_MAX = 2 * AWS_HEADER_TOKEN_MAX,
};

#define INSTANCE_TOKEN "/latest/api/token"
#define INSTANCE_ROLES "/latest/meta-data/iam/security-credentials/"

/* What is asked next. Only an instance is asked more than once. */
typedef enum step {
    STEP_TOKEN,
    STEP_ROLE,
    STEP_CREDENTIALS,
} step;

struct identity {
    pthread_mutex_t lock;
    struct identity_options options;
    struct aws_identity_config config;
    bool fetching;
    struct identity_wait *waiting;
    struct cof_arena kept; /* of `credentials` */
    bool has;
    struct aws_credentials credentials;
    int64_t fetched_us;
    struct sessions_failure failure;
    int64_t failure_until_us;
    /* Of the fetch; used by one thread at a time. */
    struct cof_arena arena;
    step step;
    struct cof_slice instance_token;
};

static void ask(struct identity *identity);

/* --- The end of a fetch --------------------------------------------------------------------------------------- */

static void tell(struct identity_wait *waiting, const struct aws_credentials *credentials,
                 const struct sessions_failure *failure)
{
    while (waiting != NULL) {
        struct identity_wait *wait = waiting;
        waiting = wait->next;
        wait->ready(wait, credentials, failure);
    }
}

static struct cof_slice copy_text(struct cof_arena *arena, struct cof_slice text, bool *ok)
{
    char *copy = cof_arena_text(arena, text);
    *ok = *ok && copy != NULL;
    return cof_slice_of(copy, copy == NULL ? 0 : text.len);
}

static bool copy(struct cof_arena *arena, const struct aws_credentials *from, struct aws_credentials *to)
{
    bool ok = true;
    *to = (struct aws_credentials){
        .access_key_id = copy_text(arena, from->access_key_id, &ok),
        .secret_access_key = copy_text(arena, from->secret_access_key, &ok),
        .session_token = copy_text(arena, from->session_token, &ok),
        .expire_us = from->expire_us,
    };
    return ok;
}

/* With the lock held. */
static void keep(struct identity *identity, const struct aws_credentials *credentials)
{
    cof_arena_reset(&identity->kept);
    identity->has = copy(&identity->kept, credentials, &identity->credentials);
    identity->fetched_us = cof_clock_wall(identity->options.clock);
}

static struct identity_wait *end_fetch(struct identity *identity)
{
    struct identity_wait *waiting = identity->waiting;
    identity->fetching = false;
    identity->waiting = NULL;
    return waiting;
}

/* Those who wait are told before the fetch's own memory, which holds the credentials, is wiped. */
static void succeed(struct identity *identity, const struct aws_credentials *credentials)
{
    (void) pthread_mutex_lock(&identity->lock);
    keep(identity, credentials);
    identity->failure_until_us = 0;
    struct identity_wait *waiting = identity->waiting;
    identity->waiting = NULL;
    (void) pthread_mutex_unlock(&identity->lock);
    tell(waiting, credentials, NULL);
    (void) pthread_mutex_lock(&identity->lock);
    cof_arena_reset(&identity->arena);
    identity->fetching = false;
    waiting = identity->waiting;
    identity->waiting = NULL;
    (void) pthread_mutex_unlock(&identity->lock);
    while (waiting != NULL) { /* who came meanwhile */
        struct identity_wait *wait = waiting;
        waiting = wait->next;
        identity_want(identity, wait);
    }
}

static struct sessions_failure failure_of(cof_reason reason, const char *what)
{
    struct sessions_failure failure = {.reason = reason,
                                       .retry_ms = reason == COF_REASON_AWS_UNAVAILABLE ? FAILED_MS : 0};
    (void) snprintf(failure.message, sizeof failure.message, "%s: %s; %s", cof_reason_meaning(reason), what,
                    cof_reason_next_step(reason));
    return failure;
}

static void fail(struct identity *identity, cof_reason reason, const char *what)
{
    const struct sessions_failure failure = failure_of(reason, what);
    (void) pthread_mutex_lock(&identity->lock);
    identity->failure = failure;
    identity->failure_until_us = cof_clock_wall(identity->options.clock) + (int64_t) FAILED_MS * 1000;
    cof_arena_reset(&identity->arena);
    struct identity_wait *waiting = end_fetch(identity);
    (void) pthread_mutex_unlock(&identity->lock);
    const struct cof_log_field fields[] = {
        {.key = "reason", .type = COF_LOG_STRING, .text = cof_slice_text(cof_reason_name(reason))},
        {.key = "what", .type = COF_LOG_STRING, .text = cof_slice_text(what)},
    };
    cof_log_event(identity->options.log, COF_LOG_WARN, "aws_identity",
                  "the server's own AWS credentials did not come", fields, COF_COUNT(fields));
    tell(waiting, NULL, &failure);
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

static void take_sts(struct identity *identity, const struct outbound_answer_view *view)
{
    struct sts_found found;
    struct cof_error err;
    const struct sts_reply reply = {view->status, view->end == OUTBOUND_ANSWERED, view->body};
    if (sts_answer_read("AssumeRoleWithWebIdentity", &reply, &identity->arena, &found, &err) != COF_OK) {
        fail(identity, COF_REASON_AWS_UNAVAILABLE, "there is no memory for the answer");
    } else if (found.verdict == STS_GRANTED) {
        succeed(identity, &found.credentials);
    } else {
        const bool later = found.verdict == STS_THROTTLED || found.verdict == STS_UNAVAILABLE;
        fail(identity, later ? COF_REASON_AWS_UNAVAILABLE : COF_REASON_AWS_IDENTITY_REFUSED,
             found.fault != NULL ? found.fault : "STS does not accept the web identity");
    }
}

static void take_json(struct identity *identity, struct cof_slice body)
{
    struct aws_credentials credentials;
    const char *fault = aws_credentials_read_json(body, &identity->arena, &credentials);
    if (fault == NULL && credentials.expire_us <= cof_clock_wall(identity->options.clock)) {
        fault = "the endpoint's credentials have expired";
    }
    if (fault != NULL) {
        fail(identity, COF_REASON_AWS_UNAVAILABLE, fault);
    } else {
        succeed(identity, &credentials);
    }
}

/* The first line; letters, digits and what names of roles may have. */
static bool take_role(struct identity *identity, struct cof_slice body)
{
    size_t length = 0;
    while (length < body.len && body.data[length] > ' ' && body.data[length] <= '~' &&
           memchr("/?#%\\", body.data[length], 5) == NULL) {
        length++;
    }
    const bool ends = length == body.len || body.data[length] == '\n' || body.data[length] == '\r';
    if (!ends || length == 0 || length > ROLE_NAME_MAX) {
        return false;
    }
    const int written = snprintf(identity->config.url + strlen(identity->options.config->url),
                                 sizeof identity->config.url - strlen(identity->options.config->url), "%s%.*s",
                                 INSTANCE_ROLES, (int) length, (const char *) body.data);
    return written > 0 && (size_t) written < sizeof identity->config.url - strlen(identity->options.config->url);
}

static void take_instance(struct identity *identity, struct cof_slice body)
{
    if (identity->step == STEP_TOKEN) {
        const struct cof_slice token = aws_header_token(body);
        char *copy = cof_arena_text(&identity->arena, token);
        identity->instance_token = cof_slice_of(copy, copy == NULL ? 0 : token.len);
        identity->step = STEP_ROLE;
        if (identity->instance_token.len == 0) {
            fail(identity, COF_REASON_AWS_UNAVAILABLE, "the instance's token is none");
            return;
        }
        ask(identity);
    } else if (identity->step == STEP_ROLE) {
        identity->step = STEP_CREDENTIALS;
        if (!take_role(identity, body)) {
            fail(identity, COF_REASON_AWS_IDENTITY_MISSING, "the instance has no role");
            return;
        }
        ask(identity);
    } else {
        take_json(identity, body);
    }
}

static void answered(void *context, struct outbound_answer *answer)
{
    struct identity *identity = context;
    const struct outbound_answer_view view = identity->options.outside->view(answer);
    const bool web = identity->config.source == AWS_SOURCE_WEB_IDENTITY;
    if (view.end != OUTBOUND_ANSWERED) {
        const bool nobody = identity->config.source == AWS_SOURCE_INSTANCE && !view.sent;
        fail(identity, nobody ? COF_REASON_AWS_IDENTITY_MISSING : COF_REASON_AWS_UNAVAILABLE,
             nobody ? "nothing is configured, and there is no instance that could have a role" : view.what);
    } else if (web) {
        take_sts(identity, &view);
    } else if (view.status == 404 && identity->config.source == AWS_SOURCE_INSTANCE) {
        fail(identity, COF_REASON_AWS_IDENTITY_MISSING, "the instance has no role");
    } else if (view.status != 200) {
        fail(identity, COF_REASON_AWS_UNAVAILABLE, "the endpoint answers with an error");
    } else if (identity->config.source == AWS_SOURCE_INSTANCE) {
        take_instance(identity, view.body);
    } else {
        take_json(identity, view.body);
    }
    identity->options.outside->free_answer(answer);
}

/* --- Questions ------------------------------------------------------------------------------------------------ */

static void ask_instance(struct identity *identity)
{
    char url[AWS_URL_MAX + sizeof INSTANCE_ROLES];
    const bool first = identity->step == STEP_TOKEN;
    const struct outbound_header header = {
        .name = first ? "X-aws-ec2-metadata-token-ttl-seconds" : "X-aws-ec2-metadata-token",
        .value = first ? cof_slice_text("21600") : identity->instance_token,
    };
    static const char *const paths[] = {[STEP_TOKEN] = INSTANCE_TOKEN, [STEP_ROLE] = INSTANCE_ROLES};
    (void) snprintf(url, sizeof url, "%s%s",
                    identity->step == STEP_CREDENTIALS ? identity->config.url : identity->options.config->url,
                    identity->step == STEP_CREDENTIALS ? "" : paths[identity->step]);
    identity->options.outside->send(identity->options.local, &(struct outbound_request){
                                                                 .group = "aws-instance",
                                                                 .method = first ? "PUT" : "GET",
                                                                 .url = url,
                                                                 .headers = &header,
                                                                 .header_count = 1,
                                                                 .connect_timeout_ms = LOCAL_TIMEOUT_MS / 2,
                                                                 .timeout_ms = LOCAL_TIMEOUT_MS,
                                                                 .done = answered,
                                                                 .context = identity,
                                                             });
}

/* Reads a small file into the fetch's arena; empty if it cannot be read. */
static struct cof_slice read_file(struct identity *identity, const char *path)
{
    char *bytes = cof_arena_alloc(&identity->arena, TOKEN_FILE_MAX);
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t length = 0;
    if (bytes != NULL && file >= 0) {
        length = read(file, bytes, TOKEN_FILE_MAX);
    }
    if (file >= 0) {
        (void) close(file);
    }
    return cof_slice_of(bytes, length < 0 ? 0 : (size_t) length);
}

/* The file goes before the variable, and is read anew each time, since its token changes. */
static void ask_container(struct identity *identity)
{
    struct cof_slice token = {NULL, 0};
    if (identity->config.token_file != NULL) {
        token = aws_header_token(read_file(identity, identity->config.token_file));
    } else if (identity->config.token != NULL) {
        token = aws_header_token(cof_slice_text(identity->config.token));
    }
    if (token.len == 0 && (identity->config.token_file != NULL || identity->config.token != NULL)) {
        fail(identity, COF_REASON_AWS_IDENTITY_MISSING,
             "the token for the container's endpoint cannot be read, or cannot stand in a header");
        return;
    }
    const struct outbound_header header = {.name = "Authorization", .value = token};
    identity->options.outside->send(identity->options.local, &(struct outbound_request){
                                                                 .group = "aws-container",
                                                                 .method = "GET",
                                                                 .url = identity->config.url,
                                                                 .headers = &header,
                                                                 .header_count = token.len > 0,
                                                                 .timeout_ms = LOCAL_TIMEOUT_MS,
                                                                 .done = answered,
                                                                 .context = identity,
                                                             });
}

static void send_web_identity(struct identity *identity, struct cof_slice body, const char *host)
{
    char url[AWS_URL_MAX];
    const char *endpoint = identity->options.sts_endpoint;
    const struct outbound_header headers[] = {
        {"Content-Type", cof_slice_text("application/x-www-form-urlencoded; charset=utf-8")},
    };
    (void) snprintf(url, sizeof url, "%s%s/", endpoint[0] == '\0' ? "https://" : "",
                    endpoint[0] == '\0' ? host : endpoint);
    identity->options.outside->send(identity->options.outbound, &(struct outbound_request){
                                                                    .group = "aws-web-identity",
                                                                    .method = "POST",
                                                                    .url = url,
                                                                    .headers = headers,
                                                                    .header_count = COF_COUNT(headers),
                                                                    .body = body,
                                                                    .timeout_ms = STS_TIMEOUT_MS,
                                                                    .done = answered,
                                                                    .context = identity,
                                                                });
}

static void ask_web_identity(struct identity *identity)
{
    struct aws_arn arn;
    struct aws_place place;
    struct cof_error err;
    struct cof_slice body;
    const struct cof_slice token = aws_header_token(read_file(identity, identity->config.token_file));
    const char *region = identity->config.region;
    const struct sts_role role = {
        .arn = cof_slice_text(identity->config.role_arn),
        .session_name = cof_slice_text(identity->config.session_name),
        .duration_s = OWN_DURATION_S,
    };
    if (token.len == 0) {
        fail(identity, COF_REASON_AWS_IDENTITY_MISSING,
             "AWS_WEB_IDENTITY_TOKEN_FILE cannot be read, or holds no token");
    } else if (aws_role_arn_read(role.arn, &arn, &err) != COF_OK ||
               aws_place_of(arn.partition, cof_slice_text(region == NULL ? "" : region), &place, &err) != COF_OK) {
        fail(identity, COF_REASON_AWS_IDENTITY_MISSING,
             "AWS_ROLE_ARN or AWS_REGION of the server's environment is wrong");
    } else if (sts_assume_role_with_token(&role, token, &identity->arena, &body, &err) != COF_OK) {
        fail(identity, COF_REASON_AWS_UNAVAILABLE, "there is no memory for the request");
    } else {
        send_web_identity(identity, body, place.host);
    }
}

static void ask(struct identity *identity)
{
    if (identity->config.fault != NULL) {
        fail(identity, COF_REASON_AWS_IDENTITY_MISSING, identity->config.fault);
        return;
    }
    switch (identity->config.source) {
    case AWS_SOURCE_NONE:
        fail(identity, COF_REASON_AWS_IDENTITY_MISSING, "nothing is configured");
        break;
    case AWS_SOURCE_ENVIRONMENT:
        succeed(identity, &identity->config.credentials);
        break;
    case AWS_SOURCE_WEB_IDENTITY:
        ask_web_identity(identity);
        break;
    case AWS_SOURCE_CONTAINER:
        ask_container(identity);
        break;
    case AWS_SOURCE_INSTANCE:
        ask_instance(identity);
        break;
    }
}

/* --- Use ------------------------------------------------------------------------------------------------------ */

/* Whether there are more than `seconds` left; of a short life, a part that is as large. */
static bool lasts(const struct identity *identity, int64_t seconds, int64_t part)
{
    const struct aws_credentials *credentials = &identity->credentials;
    if (!identity->has || credentials->expire_us == AWS_NEVER) {
        return identity->has;
    }
    const int64_t share = (credentials->expire_us - identity->fetched_us) / part;
    const int64_t margin = seconds * MICROSECONDS < share ? seconds * MICROSECONDS : share;
    return cof_clock_wall(identity->options.clock) < credentials->expire_us - margin;
}

static bool failed_lately(const struct identity *identity)
{
    return cof_clock_wall(identity->options.clock) < identity->failure_until_us;
}

/* What can be told at once. */
struct known {
    bool usable;
    bool failed;
    bool fetch;
    struct aws_credentials credentials; /* a copy, since others may take their place before they are used */
    struct sessions_failure failure;
};

/* With the lock held. Whoever gets no copy for lack of memory is told so: nothing may come that he could wait for. */
static struct known look(struct identity *identity, struct identity_wait *wait, struct cof_arena *arena)
{
    const bool has = lasts(identity, LATE_S, 4);
    struct known known = {.failure = identity->failure};
    known.usable = has && copy(arena, &identity->credentials, &known.credentials);
    known.failed = !known.usable && (has || (failed_lately(identity) && !identity->fetching));
    if (has && !known.usable) {
        known.failure = failure_of(COF_REASON_AWS_UNAVAILABLE, "there is no memory for a copy of them");
    }
    known.fetch = !identity->fetching && !known.failed && !lasts(identity, EARLY_S, 2) && !failed_lately(identity);
    identity->fetching = identity->fetching || known.fetch;
    if (!known.usable && !known.failed) {
        wait->next = identity->waiting;
        identity->waiting = wait;
    }
    return known;
}

void identity_want(struct identity *identity, struct identity_wait *wait)
{
    struct cof_arena arena;
    cof_arena_init(&arena, identity->options.pool, ARENA);
    (void) pthread_mutex_lock(&identity->lock);
    const struct known known = look(identity, wait, &arena);
    (void) pthread_mutex_unlock(&identity->lock);
    if (known.usable || known.failed) {
        wait->ready(wait, known.usable ? &known.credentials : NULL, known.usable ? NULL : &known.failure);
    }
    cof_arena_reset(&arena);
    if (known.fetch) {
        identity->step = STEP_TOKEN;
        ask(identity);
    }
}

void identity_doubt(struct identity *identity)
{
    (void) pthread_mutex_lock(&identity->lock);
    identity->has = false;
    (void) pthread_mutex_unlock(&identity->lock);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

cof_code identity_new(const struct identity_options *options, struct identity **ret_identity, struct cof_error *err)
{
    struct identity *identity = calloc(1, sizeof *identity);
    if (identity == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) pthread_mutex_init(&identity->lock, NULL);
    identity->options = *options;
    identity->config = *options->config;
    cof_arena_init(&identity->kept, options->pool, ARENA);
    cof_arena_init(&identity->arena, options->pool, ARENA);
    *ret_identity = identity;
    return COF_OK;
}

void identity_free(struct identity *identity)
{
    if (identity == NULL) {
        return;
    }
    cof_arena_reset(&identity->kept);
    cof_arena_reset(&identity->arena);
    (void) pthread_mutex_destroy(&identity->lock);
    free(identity);
}
