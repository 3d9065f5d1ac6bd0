#pragma once

#include "common/clock.h"
#include "common/log.h"
#include "server/aws/identity_config.h"
#include "server/aws/sessions.h"
#include "server/outbound/http.h"

/*
 * The server's own AWS credentials (identity_config.h says where they come from): fetched at the first use, kept in locked
 * memory, fetched again before they expire while the old ones still serve. Thread-safe; nothing here blocks but the read
 * of a token's file.
 */

struct identity;

/* What is asked of the outside, by outbound's client; tests have one of their own. */
struct aws_outside {
    void (*send)(struct outbound *outbound, const struct outbound_request *request);
    struct outbound_answer_view (*view)(const struct outbound_answer *answer);
    void (*free_answer)(struct outbound_answer *answer);
};

struct identity_options {
    const struct cof_clock *clock;
    const struct cof_log *log;
    const struct aws_outside *outside;
    struct outbound *outbound; /* to STS */
    struct outbound *local;    /* to the container's or the instance's endpoint; NULL if neither is the source */
    struct cof_pool *pool;
    const struct aws_identity_config *config;
    const char *sts_endpoint; /* empty: the regional one */
};

COF_CODE identity_new(const struct identity_options *options, struct identity **ret_identity,
                      struct cof_error *err);
/* When nothing is asked of the outside any more. NULL is allowed. */
void identity_free(struct identity *identity);

/* Somebody who needs the credentials. `ready` is called once: with credentials that are valid during the call, or with
 * NULL and why there are none. On any thread, perhaps before identity_want returns; must not block. */
struct identity_wait {
    struct identity_wait *next;
    void (*ready)(struct identity_wait *wait, const struct aws_credentials *credentials,
                  const struct sessions_failure *failure);
};

void identity_want(struct identity *identity, struct identity_wait *wait);

/* STS did not accept them: they are fetched anew when they are needed next. */
void identity_doubt(struct identity *identity);
