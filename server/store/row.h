#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/flat.h"
#include "common/slice.h"
#include "common/uuid.h"
#include "server/store/session.h"

/*
 * The rows of the tables, as the service sees them. Each table is one list of columns, in the order in which the
 * statements of sql.def select and insert them; structs, readers, binders and what a row MAC covers are made from
 * it.
 *
 * Tables that decide who gets what end with mac_generation and mac: the MAC covers the table's name and all columns
 * before it (formats.md, Row MAC).
 */

struct row_texts {
    struct cof_slice *items;
    size_t count;
};

/* NULL in a TIME_OR_NULL column. */
#define ROW_NO_TIME INT64_MIN

#define WORKSPACE_COLUMNS(COLUMN)                \
    COLUMN(workspace, UUID, workspace_id)        \
    COLUMN(workspace, TEXT, name)                \
    COLUMN(workspace, TEXT, display_name)        \
    COLUMN(workspace, TEXT, external_id)         \
    COLUMN(workspace, BOOL, strict_environments) \
    COLUMN(workspace, BOOL, disabled)            \
    COLUMN(workspace, TIME, create_time)         \
    COLUMN(workspace, I32, mac_generation)       \
    COLUMN(workspace, BYTES, mac)

#define WORKSPACE_STATE_COLUMNS(COLUMN)                 \
    COLUMN(workspace_state, UUID, workspace_id)         \
    COLUMN(workspace_state, I32, state)                 \
    COLUMN(workspace_state, BOOL, disabled)             \
    COLUMN(workspace_state, TEXT, name)                 \
    COLUMN(workspace_state, TIME, change_time)          \
    COLUMN(workspace_state, TIME_OR_NULL, delete_time)  \
    COLUMN(workspace_state, I32_OR_NONE, serve_lost_ms) \
    COLUMN(workspace_state, I32, mac_generation)        \
    COLUMN(workspace_state, BYTES, mac)

#define ENVIRONMENT_COLUMNS(COLUMN)           \
    COLUMN(environment, UUID, workspace_id)   \
    COLUMN(environment, TEXT, name)           \
    COLUMN(environment, UUID, environment_id) \
    COLUMN(environment, TIME, create_time)

#define SECRET_COLUMNS(COLUMN)                \
    COLUMN(secret, UUID, workspace_id)        \
    COLUMN(secret, UUID, secret_id)           \
    COLUMN(secret, TEXT, environment)         \
    COLUMN(secret, TEXT, name)                \
    COLUMN(secret, I32, type)                 \
    COLUMN(secret, I32, state)                \
    COLUMN(secret, I64, version)              \
    COLUMN(secret, I64, metadata_version)     \
    COLUMN(secret, TEXT, description)         \
    COLUMN(secret, TEXTS, tags)               \
    COLUMN(secret, TIME_OR_NULL, expire_time) \
    COLUMN(secret, BOOL, block_when_expired)  \
    COLUMN(secret, TIME, create_time)         \
    COLUMN(secret, TIME, update_time)         \
    COLUMN(secret, TIME_OR_NULL, delete_time) \
    COLUMN(secret, BYTES, facts)              \
    COLUMN(secret, I32, mac_generation)       \
    COLUMN(secret, BYTES, mac)

#define PRINCIPAL_COLUMNS(COLUMN)                \
    COLUMN(principal, UUID, workspace_id)        \
    COLUMN(principal, UUID, principal_id)        \
    COLUMN(principal, I32, kind)                 \
    COLUMN(principal, I32, token_kind)           \
    COLUMN(principal, TEXT, name)                \
    COLUMN(principal, TEXT, description)         \
    COLUMN(principal, BYTES, grants)             \
    COLUMN(principal, TEXTS, networks)           \
    COLUMN(principal, BOOL, bootstrap)           \
    COLUMN(principal, BOOL, disabled)            \
    COLUMN(principal, TIME_OR_NULL, expire_time) \
    COLUMN(principal, TIME, create_time)         \
    COLUMN(principal, TIME_OR_NULL, delete_time) \
    COLUMN(principal, I64, metadata_version)     \
    COLUMN(principal, I32, mac_generation)       \
    COLUMN(principal, BYTES, mac)

#define TOKEN_COLUMNS(COLUMN)                \
    COLUMN(token, UUID, workspace_id)        \
    COLUMN(token, UUID, token_id)            \
    COLUMN(token, UUID, principal_id)        \
    COLUMN(token, BYTES, hash)               \
    COLUMN(token, BYTES, narrowing_key)      \
    COLUMN(token, BYTES, restrictions)       \
    COLUMN(token, TEXT, description)         \
    COLUMN(token, UUID, issuer_id)           \
    COLUMN(token, TIME, create_time)         \
    COLUMN(token, TIME_OR_NULL, expire_time) \
    COLUMN(token, TIME_OR_NULL, revoke_time) \
    COLUMN(token, UUID, successor_id)        \
    COLUMN(token, I32, mac_generation)       \
    COLUMN(token, BYTES, mac)

#define ACTION_COLUMNS(COLUMN)          \
    COLUMN(action, UUID, workspace_id)  \
    COLUMN(action, TEXT, name)          \
    COLUMN(action, UUID, action_id)     \
    COLUMN(action, TEXTS, steps)        \
    COLUMN(action, BYTES, declarations) \
    COLUMN(action, BYTES, digest)       \
    COLUMN(action, TIME, create_time)   \
    COLUMN(action, TIME, update_time)   \
    COLUMN(action, I32, mac_generation) \
    COLUMN(action, BYTES, mac)

#define PROVIDER_COLUMNS(COLUMN)          \
    COLUMN(provider, UUID, workspace_id)  \
    COLUMN(provider, TEXT, provider)      \
    COLUMN(provider, UUID, provider_id)   \
    COLUMN(provider, TEXT, name)          \
    COLUMN(provider, BYTES, definition)   \
    COLUMN(provider, I64, generation)     \
    COLUMN(provider, TIME, create_time)   \
    COLUMN(provider, TIME, update_time)   \
    COLUMN(provider, I32, mac_generation) \
    COLUMN(provider, BYTES, mac)

#define CONNECTION_COLUMNS(COLUMN)                 \
    COLUMN(connection, UUID, workspace_id)         \
    COLUMN(connection, UUID, connection_id)        \
    COLUMN(connection, TEXT, environment)          \
    COLUMN(connection, TEXT, provider)             \
    COLUMN(connection, I64, provider_generation)   \
    COLUMN(connection, I32, class)                 \
    COLUMN(connection, I32, grant_kind)            \
    COLUMN(connection, I32, client_authentication) \
    COLUMN(connection, TEXT, client_id)            \
    COLUMN(connection, TEXTS, scopes)              \
    COLUMN(connection, BYTES, settings)            \
    COLUMN(connection, BYTES, credentials)         \
    COLUMN(connection, I64, credential_generation) \
    COLUMN(connection, I64, config_generation)     \
    COLUMN(connection, I64, version)               \
    COLUMN(connection, TIME, create_time)          \
    COLUMN(connection, TIME, update_time)          \
    COLUMN(connection, I32, mac_generation)        \
    COLUMN(connection, BYTES, mac)

#define CONNECTION_TOKEN_COLUMNS(COLUMN)                        \
    COLUMN(connection_token, UUID, workspace_id)                \
    COLUMN(connection_token, UUID, connection_id)               \
    COLUMN(connection_token, I64, generation)                   \
    COLUMN(connection_token, I64, config_generation)            \
    COLUMN(connection_token, I32, state)                        \
    COLUMN(connection_token, BYTES, access_token)               \
    COLUMN(connection_token, BYTES, refresh_token)              \
    COLUMN(connection_token, TEXT, token_type)                  \
    COLUMN(connection_token, TEXTS, scopes)                     \
    COLUMN(connection_token, TIME_OR_NULL, obtain_time)         \
    COLUMN(connection_token, TIME_OR_NULL, expire_time)         \
    COLUMN(connection_token, TIME_OR_NULL, refresh_expire_time) \
    COLUMN(connection_token, UUID, principal_id)                \
    COLUMN(connection_token, TIME_OR_NULL, connect_time)        \
    COLUMN(connection_token, I32, mac_generation)               \
    COLUMN(connection_token, BYTES, mac)

/* It has no MAC: nothing in it decides what is handed out. */
#define CONNECTION_LEASE_COLUMNS(COLUMN)                 \
    COLUMN(connection_lease, UUID, workspace_id)         \
    COLUMN(connection_lease, UUID, connection_id)        \
    COLUMN(connection_lease, I64, fence)                 \
    COLUMN(connection_lease, UUID, holder)               \
    COLUMN(connection_lease, TIME_OR_NULL, lease_until)  \
    COLUMN(connection_lease, I64, generation)            \
    COLUMN(connection_lease, I32, tries)                 \
    COLUMN(connection_lease, I32, failures)              \
    COLUMN(connection_lease, TIME_OR_NULL, next_time)    \
    COLUMN(connection_lease, TIME_OR_NULL, forced_time)  \
    COLUMN(connection_lease, TIME_OR_NULL, refresh_time) \
    COLUMN(connection_lease, TIME_OR_NULL, error_time)   \
    COLUMN(connection_lease, I32, error_reason)          \
    COLUMN(connection_lease, TEXT, error_text)
/* No MAC: what decides anything is sealed (server/service/authorizations.h). */
#define CONNECTION_AUTHORIZATION_COLUMNS(COLUMN)             \
    COLUMN(connection_authorization, UUID, workspace_id)     \
    COLUMN(connection_authorization, UUID, authorization_id) \
    COLUMN(connection_authorization, UUID, connection_id)    \
    COLUMN(connection_authorization, I32, flow)              \
    COLUMN(connection_authorization, I32, state)             \
    COLUMN(connection_authorization, BYTES, state_hash)      \
    COLUMN(connection_authorization, UUID, principal_id)     \
    COLUMN(connection_authorization, BYTES, sealed)          \
    COLUMN(connection_authorization, TIME, create_time)      \
    COLUMN(connection_authorization, TIME, expire_time)      \
    COLUMN(connection_authorization, TIME, change_time)      \
    COLUMN(connection_authorization, I32, error_reason)      \
    COLUMN(connection_authorization, TEXT, error_text)

#define ROW_FIELD_UUID struct cof_uuid
#define ROW_FIELD_TEXT struct cof_slice
#define ROW_FIELD_BYTES struct cof_slice
#define ROW_FIELD_TEXTS struct row_texts
#define ROW_FIELD_I32 int32_t
#define ROW_FIELD_I32_OR_NONE int32_t
#define ROW_FIELD_I64 int64_t
#define ROW_FIELD_BOOL bool
#define ROW_FIELD_TIME int64_t
#define ROW_FIELD_TIME_OR_NULL int64_t
#define ROW_FIELD(table, type, name) ROW_FIELD_##type name;

struct workspace_row {
    WORKSPACE_COLUMNS(ROW_FIELD)
};
struct workspace_state_row {
    WORKSPACE_STATE_COLUMNS(ROW_FIELD)
};
struct environment_row {
    ENVIRONMENT_COLUMNS(ROW_FIELD)
};
struct secret_row {
    SECRET_COLUMNS(ROW_FIELD)
};
struct principal_row {
    PRINCIPAL_COLUMNS(ROW_FIELD)
};
struct token_row {
    TOKEN_COLUMNS(ROW_FIELD)
};
struct action_row {
    ACTION_COLUMNS(ROW_FIELD)
};
struct provider_row {
    PROVIDER_COLUMNS(ROW_FIELD)
};
struct connection_row {
    CONNECTION_COLUMNS(ROW_FIELD)
};
struct connection_token_row {
    CONNECTION_TOKEN_COLUMNS(ROW_FIELD)
};
struct connection_lease_row {
    CONNECTION_LEASE_COLUMNS(ROW_FIELD)
};
struct connection_authorization_row {
    CONNECTION_AUTHORIZATION_COLUMNS(ROW_FIELD)
};

/* Values of workspace_state.state. */
enum { WORKSPACE_ACTIVE = 1, WORKSPACE_DELETED = 3, WORKSPACE_PURGING = 4, WORKSPACE_PURGED = 5 };
/* Values of secret.state. */
enum { SECRET_ACTIVE = 1, SECRET_DELETED = 2 };
/* Values of principal.kind. */
enum { PRINCIPAL_SERVICE_ACCOUNT = 1, PRINCIPAL_USER = 2, PRINCIPAL_WORKLOAD = 3 };
/* Values of connection.class. */
enum { CONNECTION_USER = 1, CONNECTION_SERVICE = 2 };
/* Values of connection_token.state. */
enum {
    CONNECTION_WITHOUT_TOKENS = 1,
    CONNECTION_CONNECTED = 2,
    CONNECTION_REAUTH_REQUIRED = 3, /* the refresh token is kept */
    CONNECTION_ERROR = 4,           /* the provider refuses the configuration */
};
/* Values of connection_authorization.flow and .state. */
enum { AUTHORIZATION_CODE = 1, AUTHORIZATION_DEVICE = 2 };
enum {
    AUTHORIZATION_PENDING = 1,
    AUTHORIZATION_EXCHANGING = 2, /* it was consumed */
    AUTHORIZATION_CONNECTED = 3,
    AUTHORIZATION_FAILED = 4,
};

typedef enum column_type {
    COLUMN_UUID,
    COLUMN_TEXT,
    COLUMN_BYTES,
    COLUMN_TEXTS,
    COLUMN_I32,
    COLUMN_I32_OR_NONE, /* a column that came later: where it is 0, the MAC is as if there were none */
    COLUMN_I64,
    COLUMN_BOOL,
    COLUMN_TIME,
    COLUMN_TIME_OR_NULL,
} column_type;

struct column {
    const char *name;
    column_type type;
    size_t offset;
};

struct row_type {
    const char *table;
    const struct column *columns;
    size_t count;
};

extern const struct row_type workspace_row_type;
extern const struct row_type workspace_state_row_type;
extern const struct row_type environment_row_type;
extern const struct row_type secret_row_type;
extern const struct row_type principal_row_type;
extern const struct row_type token_row_type;
extern const struct row_type action_row_type;
extern const struct row_type provider_row_type;
extern const struct row_type connection_row_type;
extern const struct row_type connection_token_row_type;
extern const struct row_type connection_lease_row_type;
extern const struct row_type connection_authorization_row_type;

enum { ROW_COLUMNS_MAX = 20, ROW_TEXTS_MAX = 64 };

/* Reads row `index`, whose columns begin at `first`. Texts borrow from the rows; the lists are in the arena. */
COF_CODE row_read(const struct row_type *type, const struct rows *rows, size_t index, size_t first,
                  struct cof_arena *arena, void *ret_row, struct cof_error *err);

/* Copies the texts of a row into the arena, so that it can outlive the rows that it was read from. */
COF_CODE row_keep(const struct row_type *type, struct cof_arena *arena, void *row, struct cof_error *err);

/* Copies the texts of a row behind it (common/flat.h), so that both can be kept in one piece of memory. */
void row_flatten(const struct row_type *type, void *row, struct cof_flat *flat);

/* Parameters behind those of a row's columns. */
enum { ROW_MORE_MAX = 10 };

struct row_more {
    struct param params[ROW_MORE_MAX];
    size_t count;
};

/* Queues a statement whose parameters are all columns of the row, in their order, and then `more`; NULL: no more. */
COF_CODE row_queue(const struct row_type *type, const void *row, const struct row_more *more,
                   struct session *session, statement id, struct cof_arena *arena, struct cof_error *err);

/* What the MAC of a row covers: the table's name and every column before mac_generation, each with its length. */
COF_CODE row_mac_input(const struct row_type *type, const void *row, struct cof_arena *arena,
                       struct cof_slice *ret_input, struct cof_error *err);
