#pragma once

#include <coffer/v1/connection.pb-c.h>

#include "server/service/authorize.h"
#include "server/store/row.h"

/* Which connection a request means, and the rows of one. */

/* The scope of every request, by the numbers that its fields have in all of them. */
enum { CONNECTION_SCOPE_ENVIRONMENT = 2, CONNECTION_SCOPE_ALL = 3 };

struct connection_name {
    const char *workspace;
    int scope;               /* 0: not given, which means all environments */
    const char *environment; /* NULL: none was given */
    bool all;
    const char *provider;
    int token_class;
    const char *class_field; /* what says the class */
};

#define CONNECTION_NAME(request, of_class)                                                               \
    ((struct connection_name){                                                                           \
        .workspace = (request)->workspace,                                                               \
        .scope = (int) (request)->scope_case,                                                            \
        .environment =                                                                                   \
            (int) (request)->scope_case == CONNECTION_SCOPE_ENVIRONMENT ? (request)->environment : NULL, \
        .all = (int) (request)->scope_case != CONNECTION_SCOPE_ALL || (request)->all_environments,       \
        .provider = (request)->provider,                                                                 \
        .token_class = (int) (of_class),                                                                 \
        .class_field = "connection_class",                                                               \
    })

/* An authorised connection, whether there is one or not. */
struct connection_place {
    const struct address *address; /* with the name <provider>_oauth, and `*` for all environments */
    struct cof_slice environment;  /* as the rows have it: empty for all */
    struct cof_slice provider;
    int token_class;
};

COF_CODE connection_place_of(struct call *call, const struct connection_name *name, cof_permission permission,
                             struct connection_place *ret_place);

/* The three rows of a connection. */
struct connection {
    struct connection_row row;
    struct connection_token_row token;
    struct connection_lease_row lease;
    bool has_provider;             /* there is one that may be believed */
    int64_t provider_generation;   /* of its configuration as it is now; 0: a built-in one */
    struct row_texts usual_scopes; /* the provider's, which are asked for where the row has none */
};

/* Queues a statement whose parameters are the place: CONNECTION_LOCK, CONNECTION_GET. */
COF_CODE connection_queue(struct call *call, const struct connection_place *place, statement id);

/* Reads the rows of one of CONNECTION_GET or CONNECTION_LIST. Fails with CORRUPTED if a MAC does not fit, a row is missing,
 * or the tokens are of another configuration; the connection's own row is read all the same. */
COF_CODE connection_read(struct call *call, const struct rows *rows, size_t index,
                         struct connection *ret_connection);

/* What CONNECTION_GET finds there: one row or none, of which nothing is checked yet. Loads the keys; no pipeline may be open. */
COF_CODE connection_look(struct call *call, const struct connection_place *place, struct rows **ret_rows);

/* The row of the connection at this place, checked; texts are the call's. CONNECTION_NOT_FOUND, UID_MISMATCH (an
 * empty UUID is any). As above. */
COF_CODE connection_find(struct call *call, const struct connection_place *place, const char *expected_uid,
                         struct connection_row *ret_row);

COF_CODE connection_not_found(struct call *call, const struct connection_place *place);

COF_CODE connection_provider_not_found(struct call *call, const struct connection_place *place);

/* What a row has. CORRUPTED if it cannot be read. */
COF_CODE connection_settings(struct call *call, const struct connection_row *row,
                             Coffer__V1__ConnectionSettings **ret_settings);

/* As it is shown. */
COF_CODE connection_message(struct call *call, const struct connection *connection,
                            Coffer__V1__Connection **ret_message);
/* The same of one that is damaged (`whole` is false): which one it is. */
COF_CODE connection_damaged(struct call *call, const struct connection_row *row,
                            Coffer__V1__Connection **ret_message);
