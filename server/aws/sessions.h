#pragma once

#include "common/clock.h"
#include "common/error.h"
#include "common/uuid.h"
#include "server/aws/credentials.h"

/*
 * What STS gave or refused lately, under keys that say for whom, of which role, and for what (docs/decisions/0026-aws.md).
 * Credentials are sealed under a key of this process. Bounded: what was used longest ago goes first. Thread-safe.
 */

enum {
    SESSIONS_KEY = 32,
    SESSIONS_MESSAGE = 256,
    SESSIONS_MARGIN_S =
        300,            /* before they expire, credentials are not handed out any more; half of a shorter life */
    SESSIONS_TRIES = 4, /* of a role test */
};

struct sessions;

COF_CODE sessions_new(uint32_t capacity, const struct cof_clock *clock, struct sessions **ret_sessions,
                      struct cof_error *err);
/* NULL is allowed. */
void sessions_free(struct sessions *sessions);

/* Whom an entry belongs to, so that it can be evicted. */
struct sessions_owner {
    struct cof_uuid workspace;
    struct cof_uuid secret;
};

/* Why there are no credentials. */
struct sessions_failure {
    cof_reason reason;
    uint32_t retry_ms; /* 0: no advice */
    char message[SESSIONS_MESSAGE];
};

/* What a role test found: for each try the reason why it was not granted, COF_REASON_NONE if it was. */
struct sessions_test {
    cof_reason tries[SESSIONS_TRIES];
    int64_t time_us; /* since 1970 */
    int64_t version; /* of the secret */
};

typedef enum sessions_found {
    SESSIONS_NOTHING,
    SESSIONS_CREDENTIALS,
    SESSIONS_FAILURE,
    SESSIONS_TEST,
} sessions_found;

struct sessions_result {
    sessions_found found;
    struct aws_credentials credentials; /* in the arena */
    struct sessions_failure failure;
    struct sessions_test test;
};

/* Fails only where the arena is exhausted, or with INTERNAL. */
COF_CODE sessions_find(struct sessions *sessions, const uint8_t key[SESSIONS_KEY], struct cof_arena *arena,
                       struct sessions_result *ret_result, struct cof_error *err);

/* Each takes the place of what was there. What cannot be kept is not there: whoever asks next flies again. */
void sessions_keep(struct sessions *sessions, const uint8_t key[SESSIONS_KEY], const struct sessions_owner *owner,
                   const struct aws_credentials *credentials);
void sessions_keep_failure(struct sessions *sessions, const uint8_t key[SESSIONS_KEY],
                           const struct sessions_owner *owner, const struct sessions_failure *failure,
                           uint32_t for_ms);
void sessions_keep_test(struct sessions *sessions, const uint8_t key[SESSIONS_KEY],
                        const struct sessions_owner *owner, const struct sessions_test *test, uint32_t for_ms);

/* Forgets what belongs to a secret; NULL: to its whole workspace. */
void sessions_evict(struct sessions *sessions, const struct cof_uuid *workspace, const struct cof_uuid *secret);

/* Entries that are kept now. */
uint32_t sessions_count(struct sessions *sessions);
