#pragma once

#include "common/arena.h"
#include "server/backup/anchor.h"
#include "server/crypto/keyring.h"
#include "server/store/session.h"

/*
 * Checks every row of a database with its keys (docs/decisions/0018-backups.md): row MACs, sealed things, lists of keys,
 * chains, what rows say of each other, and each row against the record of the last write that changed it. May run beside
 * servers that write: each workspace is one snapshot. Memory does not grow with the database, but for 64 bytes for each
 * thing that was ever written in the largest workspace, and 100 for each workspace of an anchor.
 */

/* Tables whose rows are counted. */
#define VERIFY_TABLES(TABLE) \
    TABLE(workspace)         \
    TABLE(workspace_state)   \
    TABLE(workspace_key)     \
    TABLE(environment)       \
    TABLE(secret)            \
    TABLE(secret_version)    \
    TABLE(principal)         \
    TABLE(token)             \
    TABLE(request)           \
    TABLE(change)            \
    TABLE(write_chain)       \
    TABLE(action)            \
    TABLE(provider)          \
    TABLE(connection)        \
    TABLE(connection_token)

typedef enum verify_table {
#define TABLE(name) VERIFY_##name,
    VERIFY_TABLES(TABLE)
#undef TABLE
        VERIFY_TABLE_COUNT,
} verify_table;

/* "secret". */
const char *verify_table_name(verify_table table);

struct verify_fault {
    const char *table;
    const struct cof_uuid *workspace;
    const char *object; /* UUID, or what else names the row; empty: the workspace itself */
    const char *what;   /* a sentence's part, without any value */
};

struct verify_summary {
    uint64_t workspaces;
    uint64_t rows[VERIFY_TABLE_COUNT];
    uint64_t blobs; /* that were opened */
    uint64_t unchained;
    uint64_t faults;
};

struct verify_options {
    struct session *session;
    struct keyring *keyring;
    const struct cof_clock *clock;
    cof_lock_mode lock;     /* of the memory that values are opened in */
    bool in_snapshot;       /* the session is in a transaction that sees one state */
    struct anchor *anchor;  /* to compare with; NULL: none */
    bool other_epoch;       /* that the anchor has another epoch is known */
    struct anchor *collect; /* gets the state that was found; NULL: nobody wants it */
    void (*fault)(const struct verify_fault *fault, void *context);
    void (*progress)(const struct verify_summary *summary, void *context); /* now and then */
    void *context;
};

uint64_t verify_rows(const struct verify_summary *summary);

/* Fails only if the database cannot be read; faults stand in the summary. */
COF_CODE verify_run(const struct verify_options *options, struct verify_summary *ret_summary,
                    struct cof_error *err);
