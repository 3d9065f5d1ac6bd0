#pragma once

#include "client/cli/cli.h"
#include "client/cli/reference.h"

/* The environment of a program that `coffer run` starts. */

/* A variable and the reference that it gets its value from; all texts belong to what is kept below. */
struct variable {
    const char *name;
    struct reference from;
    bool mounted; /* the value is a file, whose path the variable holds */
};

struct variables {
    struct variable *items;
    size_t *places; /* the item of the request that each was asked for with */
    size_t count;
    char **texts; /* copies of options, of lines of files and of variables of this process, that are taken apart */
    size_t text_count;
    ProtobufCMessage **answers; /* that the keys of whole secrets were taken from */
    size_t answer_count;
    char **environment; /* for posix_spawn */
    char **made;        /* the texts with values, which are wiped */
    size_t made_count;
    int *files; /* of values that are mounted; the program inherits them under the same numbers */
    size_t file_count;
};

/*
 * Reads --ref, --set, --mount, --secret and --env-file, and the variables of this process that hold coffer:// references, which
 * an option of the same name outdoes. For --secret it asks the server which keys there are.
 */
cli_exit variables_read(struct cli *cli, struct variables *variables);

/* Asks for their values, and for those that --action declares, in a request without anything. */
cli_exit variables_ask(const struct cli *cli, coffer_request *request, struct variables *variables);

/* Adds a variable, by the name of its key, for each value of the first item that has none yet. Its names must outlive this. */
cli_exit variables_add_action(struct variables *variables, const coffer_result *result);

/* This process's environment without its token, and the variables with their values. */
cli_exit variables_fill(struct variables *variables, const coffer_result *result);

/* Wipes and frees. */
void variables_done(struct variables *variables);
