#pragma once

#include <coffer/v1/secret.pb-c.h>

#include "client/cli/import_file.h"

/*
 * What `coffer export -o json` writes, read again: secrets of any environments, with their types and all that people wrote
 * about them.
 */

/* Whether the text begins as that does: an object whose first member is the array "secrets". */
bool import_server_is(struct cof_slice text);

/*
 * Fills `request->secrets`, in the file's arena. All of them go to the environment of -e if it was given, else each to its own.
 * Takes the names of --rename. Says what is wrong.
 */
cli_exit import_server_read(const struct cli *cli, struct import_file *file, struct cof_slice text,
                            Coffer__V1__ImportSecretsRequest *request);
