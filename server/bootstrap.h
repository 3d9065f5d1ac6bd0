#pragma once

#include "common/uuid.h"
#include "server/server.h"

/* What makes a fresh database usable: the instance, and for --dev a workspace with accounts. */

/* Makes the instance and writes its first token to a file that must not exist, mode 0600. */
COF_CODE bootstrap_instance(struct server_core *core, const char *token_file, struct cof_error *err);

/* The files of `directory` that bootstrap_development writes. */
#define BOOTSTRAP_SYSTEM_TOKEN "system.token"
#define BOOTSTRAP_ADMIN_TOKEN "admin.token"
#define BOOTSTRAP_EXECUTOR_TOKEN "executor.token"

enum { BOOTSTRAP_UUID_TEXT = COF_UUID_TEXT };

/*
 * Makes the workspace "dev" with the accounts "admin" (may do everything in it) and "executor" (may resolve), and
 * writes a token of each into the directory. Needs system.token there. Runs the service's own methods, so nothing
 * is stored that a client could not have stored.
 */
COF_CODE bootstrap_development(struct server_core *core, const char *directory, char workspace[BOOTSTRAP_UUID_TEXT],
                               struct cof_error *err);
