#pragma once

#include <coffer/v1/integration.pb-c.h>

#include "server/service/call.h"
#include "server/store/row.h"

/* Actions as they are sent, stored and shown. */

enum { ACTION_STEPS_MAX = ROW_TEXTS_MAX, ACTION_DECLARATIONS_MAX = 100, ACTION_KEYS_MAX = 100 };

/*
 * Reads what was sent into name, steps, declarations and digest of a row; the rest of it stays as it is. Texts are
 * borrowed. Fails with FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED or NAME_RESERVED; the field is one of NewAction.
 */
COF_CODE action_read(struct call *call, const Coffer__V1__NewAction *action, struct action_row *row);

/* What a row declares. CORRUPTED if it cannot be read. */
COF_CODE action_declarations(struct call *call, const struct action_row *row,
                             Coffer__V1__ActionDeclarations **ret_declarations);

/* The row as it is shown. */
COF_CODE action_message(struct call *call, const struct action_row *row, Coffer__V1__Action **ret_message);

/* Checks an OAuth declaration; `field` names it in the failure. */
COF_CODE action_check_oauth(struct call *call, const Coffer__V1__OAuthDeclaration *declaration, const char *field);

/* The reference that an OAuth declaration stands for: `github_oauth`, `GITHUB_USER_TOKEN`. NULL if memory is exhausted. */
char *action_oauth_name(struct cof_arena *arena, const Coffer__V1__OAuthDeclaration *declaration) COF_MUST_USE;
char *action_oauth_key(struct cof_arena *arena, const Coffer__V1__OAuthDeclaration *declaration) COF_MUST_USE;

COF_CODE action_not_found(struct call *call, const char *name);
