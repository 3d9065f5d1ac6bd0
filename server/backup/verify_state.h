#pragma once

#include "server/backup/history.h"
#include "server/backup/verify.h"
#include "server/service/call.h"
#include "server/store/row.h"

/* What verify.c (the walk over workspaces) and verify_rows.c (the tables of one) share. */

enum { VERIFY_OBJECT = 100 };

struct verify {
    const struct verify_options *options;
    struct verify_summary *summary;
    struct cof_error *err;
    struct service service; /* as far as checking rows needs one */
    struct cof_pool *pool;
    struct cof_arena arena; /* of a page of rows */
    struct call call;
    struct history *history;
    struct chain_ends *ends;
    /* The workspace that is checked. */
    struct cof_uuid workspace;
    uint64_t revision;
    char object[VERIFY_OBJECT]; /* the row that is checked */
    bool keys;                  /* some key of it is open */
};

/* Tells a fault of the row that is checked. */
void verify_fault(struct verify *verify, verify_table table, const char *what);

/* Makes a fault of a CORRUPTED; passes on everything else. `ret_whole` says which it was; NULL is allowed. */
COF_CODE verify_judge(struct verify *verify, verify_table table, cof_code code, bool *ret_whole);

/* Sends one statement and takes its rows. */
COF_CODE verify_ask(struct verify *verify, statement id, const struct param *params, size_t count,
                    struct rows **ret_rows);

/* Checks the rows of all tables whose rows have MACs or sealed things. The workspace's keys are loaded, its history is
 * read. */
COF_CODE verify_tables(struct verify *verify);
