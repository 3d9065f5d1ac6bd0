#pragma once

#include "server/providers/provider.h"
#include "server/refresh/machine.h"
#include "server/service/call.h"
#include "server/store/row.h"

/*
 * What a refresh reads and writes in the database (docs/decisions/0022-refresh.md): the actions of the machine that begin
 * there. The call is one of the server's own, with a session that is idle, and memory for one refresh.
 *
 * Each of them is one transaction, or two that end before it returns. DATABASE_UNAVAILABLE and DEADLINE_EXCEEDED leave it
 * open whether it was done; each may be repeated then.
 */

/* One connection's rows, of one state. The texts are the call's. */
struct refresh_rows {
    struct connection_row row;
    struct connection_token_row token;
    struct connection_lease_row lease;
    int64_t time;          /* that tokens and leases live by (token_clock.h) */
    int64_t database_time; /* as the statement said */
};

struct refresh_lease {
    bool taken; /* else somebody else has it */
    bool lapsed;
    int64_t fence;
};

/* Fails with CONNECTION_NOT_FOUND, or with CORRUPTED if a row's MAC does not fit or the tokens are of another configuration. */
COF_CODE refresh_rows_read(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                           struct refresh_rows *ret_rows);

/* Where a connection is asked for. */
struct refresh_place {
    struct cof_slice environment;
    struct cof_slice provider; /* empty: none */
    int32_t token_class;
};

/* Reads, by one statement, the connections that hold in environments: each environment's own before that of all
 * environments, whatever becomes of it. A row for each place, in their order; no pipeline may be open. */
COF_CODE refresh_rows_look(struct call *call, const struct cof_uuid *workspace, const struct refresh_place *places,
                           size_t count, struct rows **ret_found);

/* One of them; false if there is none; CORRUPTED as above. The workspace's keys are loaded. */
COF_CODE refresh_rows_take(struct call *call, const struct rows *found, size_t index, bool *ret_found,
                           struct refresh_rows *ret_rows);

/* The column where the row of the workspace's own provider begins; NULL if the workspace has none of that ID. */
size_t refresh_rows_provider(void);

/* Both for one connection. */
COF_CODE refresh_rows_find(struct call *call, const struct cof_uuid *workspace, const struct refresh_place *place,
                           bool *ret_found, struct refresh_rows *ret_rows);

/* Looks at the clock, takes the lease if it is free, and reads the rows behind that in any case. */
COF_CODE refresh_rows_claim(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                            const struct cof_uuid *holder, int64_t lease_us, struct refresh_lease *ret_lease,
                            struct refresh_rows *ret_rows);

/* What the machine goes by. NULL: a provider that is not there, so nothing can be refreshed. */
void refresh_rows_facts(const struct refresh_rows *rows, const struct provider *provider,
                        struct refresh_facts *ret_facts);

/* False if the lease is not under the action's fence any more, or the tokens have moved on. */
COF_CODE refresh_rows_record(struct call *call, const struct refresh_rows *rows,
                             const struct refresh_action *action, int64_t lease_us, bool *ret_recorded);

/* What came. */
struct refresh_tokens {
    struct cof_slice access_token;
    struct cof_slice refresh_token; /* empty: the old one stays */
    struct row_texts scopes;        /* none: those of before */
    /* When the refresh token that holds from now on ends; REFRESH_NEVER: it does not, or nobody knows; 0: as before, unless a
     * new one came. */
    int64_t refresh_expires;
};

/* Puts them in the place of the rows' tokens, with the revision and the record; false if these have moved on. The rows are
 * of the action's generation. */
COF_CODE refresh_rows_store(struct call *call, const struct refresh_rows *rows, const struct refresh_action *action,
                            const struct refresh_tokens *tokens, bool *ret_stored);

/* What a person's authorization brought (docs/decisions/0025-authorization.md). */
struct refresh_connect {
    struct cof_uuid authorization;
    struct cof_uuid principal; /* who started it */
    int64_t config_generation; /* of the connection when it was started */
    int64_t generation;        /* of the tokens when what came back was sent to the provider */
    int64_t connect_time;      /* theirs then; ROW_NO_TIME */
    int64_t obtained;          /* before it was sent */
    int64_t expires;           /* REFRESH_NEVER */
};

/*
 * Puts its tokens in the place of the rows', with the revision, the record and the start's end; false if somebody else has
 * written tokens meanwhile, refreshes excepted, or the connection is configured otherwise. The rows were read just now.
 */
COF_CODE refresh_rows_connect(struct call *call, const struct refresh_rows *rows,
                              const struct refresh_connect *connect, const struct refresh_tokens *tokens,
                              bool *ret_stored);

/* Why it failed, for people: a reason of ours and the provider's words. */
struct refresh_failure {
    cof_reason reason; /* COF_REASON_NONE: it did not */
    struct cof_slice text;
};

/* Gives the lease back. A state that changes is a write like others; one that has moved on stays. */
COF_CODE refresh_rows_release(struct call *call, const struct refresh_rows *rows,
                              const struct refresh_action *action, const struct refresh_failure *failure);

/* The access token, opened into the call's memory. */
COF_CODE refresh_rows_access_token(struct call *call, const struct refresh_rows *rows, struct cof_slice *ret_token);
COF_CODE refresh_rows_refresh_token(struct call *call, const struct refresh_rows *rows,
                                    struct cof_slice *ret_token);
