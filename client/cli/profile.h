#pragma once

#include "client/cli/cli.h"

/*
 * Settings from a file, for people who work with several servers or workspaces:
 *
 *     profile = work
 *
 *     [work]
 *     addr = ipc:///run/coffer/coffer.sock
 *     token-file = ~/.config/coffer/work.token
 *     workspace = 0b9d5b0e-...
 *     environment = prod
 *
 * in $COFFER_CONFIG_DIR/config, $XDG_CONFIG_HOME/coffer/config or ~/.config/coffer/config. Options and variables win.
 * The token of a profile goes to the profile's server only, and nobody else may be able to read its file.
 */

/* Fills in what neither an option nor a variable gives. Does nothing where there is no file. */
cli_exit profile_apply(struct cli *cli);
