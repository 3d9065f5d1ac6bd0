#pragma once

#include "common/error.h"
#include "server/aws/credentials.h"

/*
 * What an answer of STS means, whatever it is: credentials, one of STS's errors, an answer of somebody else, bytes that
 * are cut or no XML. Pure; all memory is the arena's.
 */

enum {
    STS_CODE_MAX = 64,
    STS_MESSAGE_MAX = 300,
    STS_DEPTH_MAX = 16,
};

typedef enum sts_verdict {
    STS_GRANTED,
    STS_REFUSED,     /* the role's trust policy, or what the server's own identity may do */
    STS_IDENTITY,    /* the server's own credentials are not accepted, or its clock is wrong */
    STS_REGION,      /* the region does not take part */
    STS_REQUEST,     /* the policy, duration or another parameter is not accepted */
    STS_THROTTLED,   /* to be tried again later */
    STS_UNAVAILABLE, /* the same; nothing usable came */
} sts_verdict;

enum { STS_VERDICTS = STS_UNAVAILABLE + 1 };

/* "GRANTED" */
const char *sts_verdict_name(sts_verdict verdict);

struct sts_found {
    sts_verdict verdict;
    struct aws_credentials credentials; /* granted */
    /* Not granted. */
    char code[STS_CODE_MAX + 1]; /* of STS, or empty; letters and digits only */
    bool about_tags;             /* refused, since sts:TagSession is not allowed */
    const char *fault;           /* static: what was wrong with the answer, in our words; NULL: STS says it */
};

struct sts_reply {
    int status;
    bool whole; /* it is there to its end */
    struct cof_slice body;
};

/* `root` is the name of the action: an answer is named after it. Fails only where the arena is exhausted. */
COF_CODE sts_answer_read(const char *action, const struct sts_reply *reply, struct cof_arena *arena,
                         struct sts_found *ret_found, struct cof_error *err);

/* The reason that a caller is given for a verdict that is not GRANTED. */
cof_reason sts_reason(sts_verdict verdict);
