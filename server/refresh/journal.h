#pragma once

#include <stdbool.h>

#include "common/uuid.h"
#include "server/crypto/keyring.h"

/*
 * What providers answered, on this server's disk before it is in the database (docs/decisions/0022-refresh.md): a token that
 * has arrived survives the end of the server, and a database that is away. The journal does not know what an entry says.
 *
 * One file in a folder of the state directory. Entries are sealed under a key of the file's own, which the root key wraps
 * and which is bound to the server's ID. Appending waits for the disk; calls of many threads share one wait. What is done
 * is marked, and the file is begun anew, under a new key, when it is opened and when it has grown.
 *
 * Thread-safe.
 */

enum { JOURNAL_ENTRY_MAX = 512 * 1024 };

struct journal;

struct journal_options {
    const char *folder; /* must be there, 0700 */
    struct cof_uuid server;
    const struct keyring *keyring;
    uint32_t entries; /* that are not done, at most */
    uint64_t bytes;   /* of the file, at most */
};

/* What was found when it was opened. */
struct journal_found {
    uint32_t entries; /* that are not done */
    uint32_t damaged; /* whole records that do not open: what was in them is lost */
    uint64_t torn;    /* bytes at the end that are no whole record: an append that a crash interrupted */
};

/*
 * Opens the journal or begins it, and writes what is not done into a new file. CORRUPTED if it is another server's, or was
 * written under a root key that is not there; the message says what to do. INTERNAL with errno if the disk fails.
 */
COF_CODE journal_open(const struct journal_options *options, struct journal **ret_journal,
                      struct journal_found *ret_found, struct cof_error *err);

/* Once nobody uses it any more. NULL is allowed. */
void journal_close(struct journal *journal);
static inline void journal_cleanup(struct journal **journal)
{
    journal_close(*journal);
}

/*
 * Writes an entry and waits until it is on the disk; its number names it from then on. If it fails the entry is not in the
 * journal, or may be: LIMIT_EXCEEDED if there are too many, INTERNAL with errno if the disk fails or is full. The next call
 * begins a new file if it has to.
 */
COF_CODE journal_put(struct journal *journal, struct cof_slice entry, uint64_t *ret_number, struct cof_error *err);

/* The entry is in the database, or of no use any more. It does not wait: after a crash the entry may be there again. */
void journal_done(struct journal *journal, uint64_t number);

/* Calls `each` for all that are not done, the oldest first; the entry is wiped when it returns. Ends with its first
 * failure. `each` must not call the journal. */
COF_CODE journal_walk(struct journal *journal,
                      cof_code (*each)(void *context, uint64_t number, struct cof_slice entry,
                                       struct cof_error *err),
                      void *context, struct cof_error *err);

/* How many are not done. */
uint32_t journal_count(struct journal *journal);
