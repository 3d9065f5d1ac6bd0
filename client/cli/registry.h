#pragma once

#include <coffer/v1/integration.pb-c.h>

#include "client/cli/cli.h"

/* What the commands about actions share. */

#define INTEGRATION_SERVICE "coffer.v1.IntegrationService/"

/* Says what these actions would lack in the environments of -e; CLI_PARTIAL if there is something. */
cli_exit registry_check(struct cli *cli, char *const *actions, size_t count);
