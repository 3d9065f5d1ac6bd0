#pragma once

#include "client/cli/cli.h"

/* Where new tokens go: the file of --out, which is made before anything is done, or standard output. */

/* Runs `make` with that file; removes it if that fails. */
cli_exit token_into_out(struct cli *cli, cli_exit (*make)(struct cli *cli, int fd));

/* False with errno if not all of it could be written. */
bool token_write(int fd, const void *data, size_t length);
