#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/outbound/token_answer.h"

/*
 * How the tokens of one OAuth connection are refreshed (docs/decisions/0022-refresh.md): a state machine without input and
 * output. It is told what happened and says the one thing that is to be done next; when that is done it is told again.
 * The server drives it (server/jobs/refresher.h), and so does a simulator (tests/simulation).
 *
 * No clock, no memory but the struct's, no failure: an event that its state does not await is a mistake of the driver, and
 * an assertion. A machine is one thread's at a time.
 *
 * Times are microseconds. `time` is the database's clock as this server carries it on (refresh_clock), `mono` is the
 * server's own monotonic clock, which leases are checked on.
 */

#define REFRESH_NEVER INT64_MAX

enum { REFRESH_TRIES_MOST = 2 }; /* at one generation that may have spent the grant: the first, and one more */

/* What may be used up by an exchange whose answer did not come. */
typedef enum refresh_rotation {
    REFRESH_ROTATES_PERHAPS, /* nothing else is known: as if each use may be the last, with a grace */
    REFRESH_ROTATES_NEVER,   /* or the grant is no refresh token: it can be sent as often as one likes */
    REFRESH_ROTATES_STRICTLY /* an old refresh token used again ends the session, its access token with it */
} refresh_rotation;

/* `connection_token.state`. */
typedef enum refresh_status {
    REFRESH_EMPTY = 1,         /* no tokens yet, or none any more */
    REFRESH_CONNECTED = 2,     /* tokens are there */
    REFRESH_REAUTHORIZE = 3,   /* the provider has refused the grant, or two answers were lost */
    REFRESH_MISCONFIGURED = 4, /* the provider refuses the client */
} refresh_status;

/* One connection as its rows were at one moment. */
struct refresh_facts {
    bool exists;     /* it may be refreshed at all: it is there, and so is its workspace */
    bool obtainable; /* there is a grant to send: a refresh token, or credentials of its own */
    int64_t generation;
    refresh_status status;
    refresh_rotation rotation;
    bool own_grant;       /* client credentials, JWT bearer: nobody can authorise anew */
    bool ends_old_access; /* a new access token ends the old one at once, so it is asked for late */
    int64_t obtained;     /* time; of the current access token, if `expires` is not 0 */
    int64_t expires;      /* time; REFRESH_NEVER; 0: there is no access token */
    /* Of the lease's row. */
    int32_t tries;    /* at this generation that were begun and not answered */
    int32_t failures; /* since the last success */
    int64_t next;     /* time before which a failure is not tried again; REFRESH_NEVER: not by itself */
    int64_t forced;   /* time at which a caller last had a token refreshed that was good for longer; 0: none did */
    uint64_t spread;  /* any number that differs between connections */
};

typedef enum refresh_want {
    REFRESH_WANT_DUE,   /* nobody waits: ahead of expiry, or because of the row's `next_time` */
    REFRESH_WANT_TOKEN, /* a resolve, which needs it for `validity` longer */
    REFRESH_WANT_NOW,   /* a person says so, whatever the state */
} refresh_want;

struct refresh_wish {
    refresh_want want;
    int64_t validity; /* asked for by the caller; 0: the default */
};

/* What a resolve does with a connection, and a machine once it has the lease. */
typedef enum refresh_need {
    REFRESH_USE,         /* the token is good; nothing is to be done */
    REFRESH_FETCH,       /* a new one is needed; the old one may still be good: see refresh_alive */
    REFRESH_LATER,       /* one would be needed, and there is none before `next` */
    REFRESH_PERSON,      /* none without a person: to authorise anew, or to mend the configuration */
    REFRESH_IN_DOUBT,    /* the same, since two answers were lost, and it is not written down yet */
    REFRESH_NOT_AT_ALL,  /* there are no tokens and no grant, or no connection */
    REFRESH_FORCED_OFTEN /* a person says so too often */
} refresh_need;

refresh_need refresh_need_of(const struct refresh_facts *facts, const struct refresh_wish *wish, int64_t time);

/* Whether the access token may be handed out: it is there, and expires in a while that covers the difference of clocks. */
bool refresh_alive(const struct refresh_facts *facts, int64_t time);

/* Whether asking for another token cannot end this one: there is none, or the grant is not used up by being sent and a new
 * token leaves the old one as it is. */
bool refresh_harmless(const struct refresh_facts *facts, int64_t time);

/* For how long the token must be good so that it is not refreshed: `asked`, at most half of its life; 0: the smaller of
 * five minutes and a fifth of its life. */
int64_t refresh_validity(const struct refresh_facts *facts, int64_t asked);

/* When a token is refreshed although nobody asks, ahead of what its users need, and not all at once. */
int64_t refresh_due(const struct refresh_facts *facts);

/*
 * The database's clock, as the server carries it on between two looks by its monotonic clock. Clocks of servers play no
 * part. It errs by running ahead, by the time that a look took, and does not go back: a database that stands in for
 * another may have a clock that is behind.
 */
struct refresh_clock {
    bool known;
    int64_t offset; /* time - mono */
    int64_t error;  /* by how much the offset may be too large */
};

/* Returns by how much that is behind the clock, if it has gone back by more than is followed; else 0. */
int64_t refresh_clock_look(struct refresh_clock *clock, int64_t mono_asked, int64_t mono_answered,
                           int64_t database_time);
int64_t refresh_clock_time(const struct refresh_clock *clock, int64_t mono);

/* Constant while the server runs. */
struct refresh_rules {
    int64_t call_us;      /* the longest that an exchange with a provider takes */
    int64_t lease_us;     /* a lease lasts; longer than call_us */
    int64_t settle_us;    /* what a successor waits for the answer of a holder whose lease ran out */
    int64_t again_us;     /* between two tries to reach the database */
    int64_t held_us;      /* between two looks at a lease that another server holds */
    int64_t held_most_us; /* such a look becomes rarer, up to this */
};

extern const struct refresh_rules refresh_default_rules;

typedef enum refresh_event_kind {
    REFRESH_CLAIMED,  /* the lease is this server's; `claim` */
    REFRESH_HELD,     /* another server has it; `claim.facts` */
    REFRESH_LOST,     /* the lease is not this server's any more, or the tokens have moved on */
    REFRESH_NO_STORE, /* the database did not answer: it is unknown whether it was done */
    REFRESH_DONE,     /* recorded, journaled, released, forgotten, waited: what was to be done is */
    REFRESH_FAILED,   /* the journal could not be written */
    REFRESH_ANSWERED, /* the exchange is over; `answer` */
    REFRESH_STORED,   /* the compare-and-set succeeded */
    REFRESH_OUTRUN,   /* it did not: the tokens have moved on, or the connection has gone or changed */
} refresh_event_kind;

struct refresh_claim {
    struct refresh_facts facts;
    int64_t fence;
    int64_t asked; /* mono: before the statement was sent; the lease counts from there */
    bool lapsed;   /* a holder before had not given the lease back: it ran out, or was this server's own */
};

struct refresh_answer {
    token_verdict verdict;
    bool lost;         /* it did not come, or not whole: the provider may have used the grant up and said so */
    bool may_be_spent; /* as token_found says */
    int64_t life;      /* how long the access token lives; REFRESH_NEVER */
    int64_t retry_after;
};

struct refresh_event {
    refresh_event_kind kind;
    int64_t mono;
    int64_t time;
    int64_t until;   /* mono: until when somebody waits for the outcome; 0: nobody does */
    uint64_t random; /* for the back-off */
    const struct refresh_claim *claim;
    const struct refresh_answer *answer;
};

typedef enum refresh_action_kind {
    REFRESH_DO_CLAIM, /* take the lease if it is free, with a fence of one more, and read the rows after that */
    REFRESH_DO_RECORD, /* write down that the grant will be sent: `tries`, under `fence`, at this generation; the lease begins
                           anew */
    REFRESH_DO_SEND,    /* the request to the provider, unless it would leave after `not_after` */
    REFRESH_DO_JOURNAL, /* the answer, to this server's disk */
    REFRESH_DO_STORE, /* the answer's tokens, as the next generation, if the rows are still at this one; the lease's row gets
                           `tries`, no failures and `next`, and is given back if it has `fence` */
    REFRESH_DO_RELEASE, /* give the lease back under `fence` with `tries`, `failures`, `next`, `status` */
    REFRESH_DO_FORGET,  /* the journal's entry */
    REFRESH_DO_WAIT,    /* until `not_before`; or until there is news of a lease that is held */
    REFRESH_DO_FINISH,  /* the machine is at its end; who waits is told `outcome` */
} refresh_action_kind;

/* What those who wait are told; they look at the rows themselves. */
typedef enum refresh_outcome {
    REFRESH_FRESH,       /* look: there is another token, or the old one is good */
    REFRESH_REFUSED,     /* look: it takes a person */
    REFRESH_UNAVAILABLE, /* look: the provider failed, and when it is tried again stands there */
    REFRESH_GONE,        /* look: there is nothing to refresh */
    REFRESH_UNKNOWN,     /* the database is away, or another server is still at it */
    REFRESH_TOO_OFTEN,   /* a person says so too often */
} refresh_outcome;

struct refresh_action {
    refresh_action_kind kind;
    int64_t not_after;  /* mono */
    int64_t not_before; /* mono */
    int64_t fence;
    int64_t generation;
    bool forced; /* the record says that a caller had a good token refreshed */
    /* Of the rows. */
    int32_t tries;
    int32_t failures;
    int64_t next; /* time; REFRESH_NEVER */
    refresh_status status;
    int64_t obtained; /* time: before the request was sent */
    int64_t expires;  /* time */
    refresh_outcome outcome;
};

/* A machine; its fields are its own. */
struct refresh {
    const struct refresh_rules *rules;
    int state;
    struct refresh_wish wish;
    struct refresh_facts facts;
    struct refresh_action
        doing; /* the work that was given out last, to be given out again where the database is away */
    int64_t fence;
    int64_t lease_end; /* mono */
    int64_t held_for;
    int32_t tries_before; /* what `tries` was before this try was recorded */
    bool held;            /* `facts` are those of a lease that another server had first */
    bool settles;         /* the holder before may still have an answer */
    bool unsettled;       /* and the database was away, so he could not store it */
    bool journaled;
};

/* Begins with a wish; the first action is to claim the lease. */
struct refresh_action refresh_begin(struct refresh *machine, const struct refresh_rules *rules,
                                    const struct refresh_wish *wish);

/* Begins with an answer that a journal has kept: what is in it is to be stored, if the rows are still where they were. */
struct refresh_action refresh_recover(struct refresh *machine, const struct refresh_rules *rules,
                                      const struct refresh_action *store);

/* The next action after what happened. */
struct refresh_action refresh_step(struct refresh *machine, const struct refresh_event *event);

/* Somebody more wants a token while a machine is at work. */
void refresh_join(struct refresh *machine, const struct refresh_wish *wish);
