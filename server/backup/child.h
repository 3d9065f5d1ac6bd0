#pragma once

#include <sys/types.h>

#include "common/error.h"

/*
 * PostgreSQL's own programs. They connect to where a connection string says: it is handed over in their environment, not in
 * their arguments, which everybody on the machine can read; of this process's environment they get PATH, HOME and what
 * libpq reads, nothing else.
 */

struct child_options {
    const char *folder;           /* where the program is; NULL: on the PATH */
    const char *program;          /* "pg_dump" */
    const char *const *arguments; /* behind the program's name; ends with NULL */
    const char *conninfo;
    int input;  /* its standard input; -1: empty */
    int output; /* its standard output; -1: standard error */
};

/* Starts it. CONFIG_INVALID if it is not there. */
COF_CODE child_start(const struct child_options *options, pid_t *ret_pid, struct cof_error *err);

/* Waits for its end. INTERNAL if that was no success; it has told why on standard error. */
COF_CODE child_wait(pid_t pid, const char *program, struct cof_error *err);

/* Ends it and waits. */
void child_end(pid_t pid);
