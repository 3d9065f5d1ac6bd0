#pragma once

#include "server/service/authorizations.h"

/* What a browser asks of this server's own pages for authorizations (docs/decisions/0025-authorization.md), without HTTP. */

typedef enum authorization_step {
    AUTHORIZATION_SHOW,   /* the start page */
    AUTHORIZATION_PASS,   /* its button */
    AUTHORIZATION_RETURN, /* the provider sent the browser back */
} authorization_step;

struct authorization_visit {
    authorization_step step;
    struct cof_slice query;              /* of the URL, as it came */
    bool has_browser;                    /* a cookie came along */
    uint8_t browser[AUTHORIZATION_HASH]; /* SHA-256 of it */
};

typedef enum authorization_result {
    AUTHORIZATION_ASKS,          /* SHOW: may be passed by this browser */
    AUTHORIZATION_GOES,          /* PASS: to `url` */
    AUTHORIZATION_EXCHANGES,     /* RETURN: it was consumed, and `code` is to be exchanged */
    AUTHORIZATION_DONE,          /* the connection has new tokens; never of authorization_visit */
    AUTHORIZATION_UNKNOWN,       /* no such start */
    AUTHORIZATION_USED,          /* it was used, or its time is over */
    AUTHORIZATION_OTHER_BROWSER, /* nothing was changed */
    AUTHORIZATION_REFUSED,       /* by the provider, or what it sent may not be believed: `text` */
    AUTHORIZATION_CHANGED,       /* the connection, its provider, the account or the workspace is not as it was */
    AUTHORIZATION_UNFINISHED,    /* the exchange has failed: `text`; never of authorization_visit */
    AUTHORIZATION_STORING, /* the tokens are there, and not in the database yet; never of authorization_visit */
    AUTHORIZATION_LATER,   /* the database is away, or there is too much to do */
} authorization_result;

/* What a page says. Texts are the call's, not NULL. */
struct authorization_answer {
    authorization_result result;
    const char *workspace;
    const char *environment; /* empty: all */
    const char *provider;    /* its name */
    const char *account;     /* who started it */
    const char *url;
    const char *text;
    struct cof_slice code;
    struct authorization authorization; /* EXCHANGES */
};

extern const struct authorization_answer authorization_no_answer;

/* Fails only if the database is away or memory is exhausted. Nothing may be queued; the call is one of the server's own. */
COF_CODE authorization_visit(struct call *call, const struct authorization_visit *visit,
                             struct authorization_answer *ret_answer);
