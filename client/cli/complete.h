#pragma once

#include "client/cli/cli.h"

/* Names for completion that only the server knows. */

typedef enum complete_source {
    COMPLETE_ENVIRONMENTS,
    COMPLETE_SECRETS,
    COMPLETE_REFERENCES, /* NAME.KEY */
    COMPLETE_ACTIONS,
    COMPLETE_INTEGRATIONS,
    COMPLETE_WORKSPACES,
    COMPLETE_ACCOUNTS,
    COMPLETE_PROVIDERS,
} complete_source;

/*
 * Calls `each` for the names that begin with `prefix`, a page of them at most, as the caller of the command line may see
 * them. Whoever presses a key waits for it, so it takes a second at most unless a time is set, and whatever goes wrong is not
 * told.
 */
void complete_from_server(complete_source source, char *const *words, size_t count, const char *prefix,
                          void (*each)(const char *name, void *context), void *context);
