#pragma once

#include "server/backup/verify.h"
#include "server/crypto/root_key.h"

/*
 * Backups of a database and what brings them back (docs/decisions/0018-backups.md): a directory of mode 0700 with
 * PostgreSQL's dump and a manifest under a MAC of the root key. The root key itself is in neither.
 */

struct backup_options {
    const char *conninfo;
    const char *path;              /* the backup's directory */
    const char *pg_folder;         /* of PostgreSQL's programs; NULL: on the PATH */
    struct root_key *const *roots; /* those of the settings; files are made with the first one */
    size_t root_count;
    struct verify_options verify;                                      /* session, keyring, clock, who is told */
    void (*progress)(const char *what, uint64_t bytes, void *context); /* of the dump's file */
};

/*
 * Makes a backup, beside servers that write: one snapshot is checked and dumped. The directory must not be there; it appears
 * when everything in it is on the disk. Faults that were found stand in the summary: the backup has them, too.
 */
COF_CODE backup_make(const struct backup_options *options, struct verify_summary *ret_summary,
                     struct cof_error *err);

/*
 * Brings it back into an empty database. Before anything is written the manifest's MAC, the dump's hash and the schema are
 * checked: CONFIG_INVALID without the root key that the backup was made with. Then the dump is loaded in one transaction,
 * the schema brought to this binary's, every row checked and compared with the manifest, and at last the instance's row
 * written, with a new epoch; without that row no server starts. Faults keep it from being written, unless they are
 * accepted.
 */
COF_CODE backup_restore(const struct backup_options *options, bool accept_faults,
                        struct verify_summary *ret_summary, struct cof_error *err);
