#pragma once

#include "common/uuid.h"
#include "server/backup/outside.h"
#include "server/backup/writes_check.h"

/*
 * How far every workspace had come at some time, kept where whoever can change the database cannot change it
 * (docs/decisions/0018-backups.md). A database whose workspaces are behind it was put back.
 */

enum { ANCHOR_SETTINGS = 16 };

struct anchor_workspace {
    struct cof_uuid id;
    uint64_t revision; /* 0: it had been purged */
    struct writes_end chain;
    uint8_t settings[ANCHOR_SETTINGS]; /* hash of its settings and of its state, as their MACs cover them */
    bool seen;                         /* for who compares */
};

struct anchor {
    int64_t time_us;
    uint64_t epoch;
    struct anchor_workspace *workspaces; /* in the order of their UUIDs */
    size_t count;
    size_t capacity;
};

void anchor_done(struct anchor *anchor);

/* Adds one; they come in the order of their UUIDs. */
COF_CODE anchor_add(struct anchor *anchor, const struct anchor_workspace *workspace, struct cof_error *err);

/* NULL if it is not in it. */
struct anchor_workspace *anchor_find(struct anchor *anchor, const struct cof_uuid *id);

/* The lines of an anchor, as they also stand in a backup's manifest: time, root key, epoch, workspaces. */
void anchor_lines(const struct anchor *anchor, const struct root_key *root, struct outside *file);

/* Reads them from a file whose MAC was checked. CORRUPTED if they cannot be read. */
COF_CODE anchor_parse(const struct outside *file, struct anchor *ret_anchor, struct cof_error *err);

/* The file of an anchor alone. */
COF_CODE anchor_write(const struct anchor *anchor, const struct root_key *root, const char *path,
                      struct cof_error *err);
COF_CODE anchor_read(const char *path, struct root_key *const *roots, size_t count, struct anchor *ret_anchor,
                     struct cof_error *err);
