#pragma once

#include "client/cli/cli.h"

/* The environment of a program that `coffer run` starts. */

/* A variable and the reference that it gets its value from; all texts belong to the options or to the result. */
struct variable {
    const char *name;
    const char *secret;
    const char *key;
};

struct variables {
    struct variable *items;
    size_t count;
    char **lines; /* of files of variables */
    size_t line_count;
    char **environment; /* for posix_spawn */
    char **made;        /* the texts with values, which are wiped */
    size_t made_count;
};

/* Reads --ref, --set, --env-file and --action, and adds their references to the request. */
cli_exit variables_read(struct cli *cli, coffer_request *request, struct variables *variables);

/* Adds a variable, by the name of its key, for each value of the item that has none yet. Its names must outlive this. */
cli_exit variables_add_action(struct variables *variables, const coffer_item *item);

/* This process's environment without its token, and the variables with their values. */
cli_exit variables_fill(struct variables *variables, const coffer_item *item);

/* Wipes and frees. */
void variables_done(struct variables *variables);
