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

/* Values of workspace_state.state. */
enum { WORKSPACE_ACTIVE = 1, WORKSPACE_DELETED = 3, WORKSPACE_PURGING = 4, WORKSPACE_PURGED = 5 };
/* Values of secret.state. */
enum { SECRET_ACTIVE = 1, SECRET_DELETED = 2 };
/* Values of principal.kind. */
enum { PRINCIPAL_SERVICE_ACCOUNT = 1, PRINCIPAL_USER = 2, PRINCIPAL_WORKLOAD = 3 };

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

enum { ROW_COLUMNS_MAX = 20, ROW_TEXTS_MAX = 64 };

/* Reads row `index`, whose columns begin at `first`. Texts borrow from the rows; the lists are in the arena. */
COF_CODE row_read(const struct row_type *type, const struct rows *rows, size_t index, size_t first,
                  struct cof_arena *arena, void *ret_row, struct cof_error *err);

/* Copies the texts of a row into the arena, so that it can outlive the rows that it was read from. */
COF_CODE row_keep(const struct row_type *type, struct cof_arena *arena, void *row, struct cof_error *err);

/* Copies the texts of a row behind it (common/flat.h), so that both can be kept in one piece of memory. */
void row_flatten(const struct row_type *type, void *row, struct cof_flat *flat);

/* Parameters behind those of a row's columns. */
struct row_more {
    struct param params[4];
    size_t count;
};

/* Queues a statement whose parameters are all columns of the row, in their order, and then `more`; NULL: no more. */
COF_CODE row_queue(const struct row_type *type, const void *row, const struct row_more *more,
                   struct session *session, statement id, struct cof_arena *arena, struct cof_error *err);

/* What the MAC of a row covers: the table's name and every column before mac_generation, each with its length. */
COF_CODE row_mac_input(const struct row_type *type, const void *row, struct cof_arena *arena,
                       struct cof_slice *ret_input, struct cof_error *err);
