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

/* Reads a file, or standard input for -, whole. Says what is wrong. */
cli_exit import_file_load(const char *path, struct import_file *file, struct cof_slice *ret_bytes);

/* Makes the plan of its text, with the names of --rename. Says everything that is wrong, all at once. */
cli_exit import_file_plan(const struct cli *cli, cof_import_format format, struct cof_slice bytes,
                          struct import_file *file);

/* The failure of common/import. */
cli_exit import_fail(const char *path, const struct cof_error *err);
