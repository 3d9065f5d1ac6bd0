#pragma once

#include "client/cli/cli.h"
#include "common/import/plan.h"

/* A file of secrets as a plan, in locked memory that is wiped with it. */

struct import_file {
    struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_import_list list;
    struct cof_import_plan plan;
};

/* The format of --format, or the one that a file's name ends with. */
cli_exit import_format(const struct cli *cli, const char *path, cof_import_format *ret_format);

/* Memory for a file. Says what is wrong. */
cli_exit import_file_init(struct import_file *file);
void import_file_done(struct import_file *file);

/* Reads the command's FILE, or standard input for -, names what --rename names, and plans. Says everything that is wrong,
 * all at once. */
cli_exit import_file_read(const struct cli *cli, struct import_file *file);

/* The failure of common/import. */
cli_exit import_fail(const char *path, const struct cof_error *err);
