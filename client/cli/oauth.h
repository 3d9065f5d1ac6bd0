#pragma once

#include "client/cli/cli.h"

/* What the commands on OAuth connections share. */

/* The environment that a command is about; NULL: the connection is that of all environments. */
char *oauth_environment(const struct cli *cli);

/* The fields that requests about one connection have in common. `cli` is in scope. */
#define OAUTH_NAME(request, REQUEST)                                            \
    do {                                                                        \
        (request)->workspace = cli_workspace(cli);                              \
        (request)->provider = cli->arguments[0];                                \
        if (oauth_environment(cli) != NULL) {                                   \
            (request)->environment = oauth_environment(cli);                    \
            (request)->scope_case = COFFER__V1__##REQUEST##__SCOPE_ENVIRONMENT; \
        } else if (cli->environments.count > 0) {                               \
            (request)->scope_case = COFFER__V1__##REQUEST##__SCOPE__NOT_SET;    \
        }                                                                       \
    } while (0)
