#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/permission.h"
#include "common/slice.h"
#include "common/token.h"
#include "common/uuid.h"
#include "server/cache/cache.h"
#include "server/crypto/keyring.h"
#include "server/service/flights.h"
#include "server/service/networks.h"
#include "server/service/secret_read.h"
#include "server/store/session.h"

/* One request on its way through the service: all that travels with it. */

/* Limits of the service; from the settings, constant while the server runs. */
struct service_limits {
    uint32_t references_per_item;
    uint32_t environments_per_item;
    uint32_t pairs_per_resolve;
    uint32_t items_per_resolve;
    uint32_t response_bytes;
    uint32_t value_bytes;
    uint32_t secret_bytes;
    uint32_t keys_per_secret;
    uint32_t secrets_per_import;
    uint32_t actions_per_workspace;
    uint32_t providers_per_workspace;      /* of their own */
    uint32_t authorizations_per_workspace; /* that are pending */
    uint32_t versions_kept;                /* of a secret, the current one among them */
    uint32_t page_size_max;
    uint32_t page_size_default;
    uint32_t request_age_max_s;   /* 23 h */
    uint32_t request_ahead_max_s; /* 5 min */
    /* Kept by transport and dispatch; here because GetServerInfo tells them. */
    uint32_t request_bytes;
    uint32_t max_timeout_ms;
    uint32_t default_timeout_ms;
    uint32_t in_flight_per_peer;
    uint32_t in_flight_per_token;
    uint32_t waiting_per_workspace;
    uint32_t watches; /* that wait at once */
    uint32_t watches_per_workspace;
    uint32_t waiting_per_provider; /* calls that wait for the same one */
    uint32_t waiting_per_role;
    /* Of no call, but from the settings as well. */
    uint32_t workspace_restorable_ms; /* after its deletion */
    uint32_t backups_kept_days;       /* 0: unknown */
    uint32_t changes_followed_ms;     /* how far behind a watch may be */
};

extern const struct service_limits service_default_limits;

struct asks;
struct audit;
struct authorization_source;
struct catalogue;
struct key_loader;
struct provider_catalogue;
struct roles;
struct token_clock;
struct token_source;
struct token_use;

/* What all calls share. Constant while the server runs, but for what is atomic. */
struct service {
    const struct cof_clock *clock;
    struct keyring *keyring;
    struct key_loader *key_loader;              /* NULL in commands */
    struct audit *audit;                        /* of reads and refusals; NULL in commands that answer nobody */
    struct token_use *token_use;                /* NULL: nobody writes it down */
    struct cache *cache;                        /* NULL: nothing is kept of what is read */
    const struct catalogue *catalogue;          /* of integrations: the built-in ones and the operator's */
    struct flights *flights;                    /* NULL in commands, which ask nothing of the outside */
    const struct provider_catalogue *providers; /* the built-in ones and the operator's */
    struct roles *roles;                        /* of AWS; NULL: none are assumed */
    struct asks *asks;                          /* of providers, by handlers; NULL: nothing is asked */
    struct token_clock *token_clock;            /* NULL: the time is that of each statement */
    const struct token_source *tokens;          /* of connections; NULL: none are refreshed */
    const struct authorization_source *authorizations; /* NULL: no codes are exchanged */
    const char
        *public_url;     /* for browsers, without a slash at its end; NULL or empty: there are no pages for them */
    struct rows *nobody; /* caller_nobody: what a token that does not exist is compared with */
    bool keeps_secrets;  /* sealed, in the cache; else it keeps callers only */
    struct service_limits limits;
    _Atomic uint64_t epoch;   /* of the database; set on every connect */
    _Atomic bool leaving;     /* a server that ends; it may go on taking calls for a while */
    _Atomic bool draining;    /* no new calls are taken */
    _Atomic bool database_up; /* as the workers saw it last */
};

struct caller;

/* Lowest key generations under which a call has sealed; 0: it has not. */
struct call_sealed {
    uint32_t system; /* in the system workspace */
    uint32_t other;  /* in another one */
};

/* What a call waits for that others do (docs/decisions/0006-calls-that-wait.md). */
typedef enum call_wait_cause {
    CALL_WAIT_NONE,
    CALL_WAIT_REVISION, /* until a workspace has reached a revision */
    CALL_WAIT_CHANGE,   /* the same, for a watch, which may wait for a write that never comes */
    CALL_WAIT_PROVIDER, /* until a flight has landed that asks an OAuth provider */
    CALL_WAIT_ROLE,     /* the same of one that takes a role of AWS */
    CALL_WAIT_CAUSES,
} call_wait_cause;

struct call_wait {
    call_wait_cause cause;
    struct cof_uuid workspace;
    uint64_t revision;
    int64_t until_us;     /* monotonic: the call goes on then in any case */
    struct flight flight; /* of a provider or a role */
};

/* Secrets that the method will ask for, read while the caller is still being authenticated; the method may take them. */
struct call_prefetch {
    struct cof_uuid workspace;
    struct secret_addresses addresses; /* none: nothing is read ahead */
    struct secret_read read;
};

struct call {
    struct service *service;
    struct session *session; /* NULL: the call has only what is in memory; see call_needs_database */
    struct cof_arena *arena;
    struct cof_error *err;
    const struct cof_token *token;
    const struct caller *caller;
    const char *method;        /* full name; static */
    cof_permission permission; /* the method's, if it has one */
    bool writes;               /* the method is a write */
    /* A write acts in a workspace that is not its caller's own: write_run looks at the state of that one in its
     * transaction. A write that did not is not answered. */
    bool state_due;
    struct cof_uuid state_workspace;
    struct cof_uuid request_id;
    struct cof_slice payload; /* the request as it came */
    int64_t received_us;      /* monotonic */
    int64_t deadline_us;      /* monotonic */
    const char *peer;         /* transport and address, for the audit trail */
    struct call_peer from;    /* the same, for limits of accounts to networks */
    struct call_prefetch prefetch;
    uint32_t waits;          /* how often the call has waited already; it began anew each time */
    struct call_wait waited; /* what it waited for the last time */
    struct call_wait wait;   /* what the handler that failed would wait for; see call_wait_for_revision */
    bool hurried;            /* it runs on a thread that others wait for */
    bool lost;               /* the database is: what is kept may be old */
    int64_t older_us;        /* monotonic: when the caller was known to be right; 0: he is fresh */
    bool outdated;           /* what is kept was too old for it */
    bool needs_database;     /* what it did was worth nothing: it begins anew, with a session */
    /* What the call has committed, also if it failed afterwards; revision 0: nothing. */
    struct cof_uuid written_workspace;
    uint64_t written_revision;
    struct call_sealed sealed; /* by this attempt of a write; see guard.h */
    /* For the request's log line. */
    struct cof_uuid workspace;
    bool has_workspace;
    bool replayed;
    /* The answer of a write, packed; the consistency token is appended to it. */
    struct cof_slice packed_answer;
};

/*
 * For whatever is about to use the session. Fails if the call has none. If it is only tried from memory it is not
 * answered then, whatever becomes of that failure, but begins anew on a worker; if the database is lost, this is what
 * the caller is told of whatever is not in memory.
 */
COF_CODE call_needs_database(struct call *call);

/* Whether the deadline has passed; fails with DEADLINE_EXCEEDED. */
COF_CODE call_check_deadline(struct call *call);

/*
 * When a wait of the call must end so that there is time left for an answer before `deadline_us`, which is the call's
 * or an earlier one.
 */
int64_t call_wait_end(const struct call *call, int64_t deadline_us);

/* Whether the call may begin to wait until then: it has not waited too often, and there is something left of the time.
 */
bool call_may_wait(const struct call *call, int64_t until_us);

/*
 * Says that the call can go on when the workspace has reached the revision, and at `until_us` in any case. A handler
 * that has said so fails with the call's error and leaves nothing behind: no transaction, nothing in the arena that
 * is needed again. The call waits without a thread and without a session, and its handler runs anew afterwards.
 */
void call_wait_for_revision(struct call *call, const struct cof_uuid *workspace, uint64_t revision,
                            int64_t until_us);

/* The same for a watch. */
void call_wait_for_change(struct call *call, const struct cof_uuid *workspace, uint64_t revision, int64_t until_us);

/*
 * The same for a flight that was begun or joined (server/service/flights.h), for CALL_WAIT_PROVIDER or CALL_WAIT_ROLE. The
 * workspace is the one whose limit it counts against. The handler looks for the result before it begins the flight, and
 * finds it, or why there is none, when it runs anew; if call_may_wait says no then, it answers with what there is.
 */
void call_wait_for_flight(struct call *call, call_wait_cause cause, const struct cof_uuid *workspace,
                          const struct flight *flight, int64_t until_us);

/* Wall-clock time of the call, microseconds since 1970. */
int64_t call_now(const struct call *call);

/* The time that tokens live by (token_clock.h); false as long as this server does not know it, or has no such clock. */
bool call_token_time(const struct call *call, int64_t *ret_time);
