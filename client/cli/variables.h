#pragma once

#include "client/cli/cli.h"

/* The environment of a program that `coffer run` starts. */

/* A variable and the reference that it gets its value from; all texts belong to the options. */
struct variable {
    const char *name;
    const char *secret;
    const char *key;
};

struct variables {
    struct variable *items;
    size_t count;
    char **environment; /* for posix_spawn */
    char **made;        /* the texts with values, which are wiped */
    size_t made_count;
};

/* Reads --ref and --set, and adds their references to the request. */
cli_exit variables_read(struct cli *cli, coffer_request *request, struct variables *variables);

/* This process's environment without its token, and the variables with their values. */
cli_exit variables_fill(struct variables *variables, const coffer_item *item);

/* Wipes and frees. */
void variables_done(struct variables *variables);
