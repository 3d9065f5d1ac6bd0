#pragma once

#include "client/cli/cli.h"

/* Asking for values: what `get`, `run`, `inject`, `resolve` and `check` have in common. */

/* Adds the environments of -e, or that of COFFER_ENVIRONMENT. */
void resolve_add_environments(const struct cli *cli, coffer_request *request);

/* Connects and asks, as part of the trace that the environment names. Says what is wrong with the request as a whole. */
cli_exit resolve_ask(struct cli *cli, coffer_request *request, coffer_result **ret_result);

/* Says all that is wrong with an item, and returns the exit code of it. */
cli_exit resolve_fail_item(const struct cli *cli, const coffer_result *result, const coffer_item *item);

/* Asks, and fails unless every item was resolved, which it says of each. */
cli_exit resolve_all(struct cli *cli, coffer_request *request, coffer_result **ret_result);

/* Whether all that the files of --check name would be resolved; says what would not, and nothing else. */
cli_exit check_templates(struct cli *cli);
