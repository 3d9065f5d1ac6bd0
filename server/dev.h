#pragma once

#include "server/server.h"

/*
 * `cofferd serve --dev`: everything that a trial needs, in one directory of its own: a private PostgreSQL, a root
 * key, a workspace, tokens, and an env file for the shell.
 */

struct dev_options {
    const char *
        directory; /* NULL: $XDG_DATA_HOME/coffer/dev, ~/.local/share/coffer/dev, or for root /var/lib/coffer-dev */
    bool temporary;  /* a new directory below /tmp, removed at the end */
    const char *tcp; /* address of the TCP listener; NULL: tcp://127.0.0.1:7480 */
};

COF_CODE dev_run(const struct dev_options *options, struct cof_error *err);
