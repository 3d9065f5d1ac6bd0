#pragma once

#include <stdbool.h>

#include "common/arena.h"

/*
 * What an answer of an OAuth token endpoint means (RFC 6749, 5.1 and 5.2; RFC 6585; RFC 9110, 10.2.3), for answers of all
 * makes, broken ones too. The decision table is docs/oauth.md, which the tests go through line by line. Pure: no I/O, no
 * clock. All memory is the arena's; what is found borrows from there.
 */

enum {
    TOKEN_TEXT_MAX = 65536,                      /* bytes of a token */
    TOKEN_CODE_MAX = 64,                         /* of the provider's error code */
    TOKEN_DESCRIPTION_MAX = 300,                 /* of its words about it */
    TOKEN_RETRY_MOST_S = 24 * 60 * 60,           /* longer waits are taken for this */
    TOKEN_LIFE_MOST_S = 10 * 366 * 24 * 60 * 60, /* longer lives are taken for this */
};

/* What was exchanged for the tokens. Only a refresh token can be used up by an answer that was lost, or be dead. */
typedef enum token_grant {
    TOKEN_GRANT_REFRESH,
    TOKEN_GRANT_CODE,
    TOKEN_GRANT_OWN, /* client credentials, JWT bearer: can be repeated as often as one likes */
} token_grant;

/* How the exchange ended. */
typedef enum token_end {
    TOKEN_END_WHOLE,     /* the answer is there as the provider framed it */
    TOKEN_END_CUT,       /* its head and the first part of its body */
    TOKEN_END_TOO_LARGE, /* the same, since no more was taken */
    TOKEN_END_LOST,      /* nothing came, and the request may have arrived */
    TOKEN_END_NOT_SENT,  /* the request did not leave whole: name, connection, TLS */
} token_end;

struct token_reply {
    token_end end;
    int status;
    struct cof_slice retry_after; /* the header's value; empty: there was none */
    struct cof_slice body;
    int64_t now_us; /* since 1970, when it came */
};

struct token_question {
    token_grant grant;
    /* The member of the answer that has the tokens in it; NULL: the answer itself. */
    const char *member;
    /* Credentials that were sent: nothing that holds one of them is quoted. */
    const struct cof_slice *sent;
    size_t sent_count;
};

typedef enum token_verdict {
    TOKEN_GRANTED,       /* tokens are there */
    TOKEN_REFUSED,       /* the grant is dead: somebody has to connect anew, or enable what was disabled */
    TOKEN_MISCONFIGURED, /* the provider refuses what the connection is configured with; the grant may well live */
    TOKEN_UNAVAILABLE,   /* to be tried again later */
} token_verdict;

struct token_found {
    token_verdict verdict;
    /* Not granted, but the grant may have been used up: what was issued for it did not come. */
    bool may_be_spent;
    /* Granted. */
    struct cof_slice access_token;
    struct cof_slice refresh_token; /* empty: none came, the old one stays */
    struct cof_slice scope;         /* separated by spaces; empty: as asked for */
    int64_t life_s;                 /* 0: not told */
    int64_t refresh_life_s;         /* of the refresh token that holds from now on; 0: not told */
    bool refresh_forever;           /* it was told that it does not end */
    /* Not granted. */
    int64_t retry_after_s;                       /* 0: not told */
    char code[TOKEN_CODE_MAX + 1];               /* the provider's, or empty; letters, digits, "_.-" only */
    char description[TOKEN_DESCRIPTION_MAX + 1]; /* printable ASCII without credentials, or empty */
    const char *reason;                          /* static: what was wrong with the answer, in our words */
};

/* Fails only where the arena is exhausted; then the tokens are still in the reply, and it can be tried again with more. */
COF_CODE token_answer_read(const struct token_question *question, const struct token_reply *reply,
                           struct cof_arena *arena, struct token_found *ret_found, struct cof_error *err);

/* Seconds from `now_us` on that a Retry-After header asks for: a number or a date in one of HTTP's three forms; 0 if it is
 * neither, or over. */
int64_t token_retry_after(struct cof_slice header, int64_t now_us);
