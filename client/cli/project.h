#pragma once

#include "client/cli/cli.h"

/*
 * The project's file, .coffer.yaml, in the folder where one works or one above it:
 *
 *     workspace: 0b9d5b0e-6d0c-4d59-9a5a-1f6b1f7e5a10
 *     environment: prod
 *     profile: work
 *
 * It stands in repositories, which others write, so it names no server, no certificate and no token: anything but these three
 * is refused. Of a profile only one that the user has can be named.
 */

struct project {
    char *path; /* NULL: there is none */
    char *workspace;
    char *environment;
    char *profile;
};

/* Reads it, once for the process. Says what is wrong. */
cli_exit project_read(struct project *ret_project);
