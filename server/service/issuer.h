#pragma once

#include "server/service/caller.h"

/*
 * Who may give what (formats.md, Grants and `sys`): the rule for everything that gives somebody access. Whoever makes
 * an account, gives one more than it had, or issues a token may do himself, from where he may call, all that can be
 * done with it. The exception: a system token gives fleet accounts and the first account of a workspace anything, and
 * other accounts of workspaces nothing.
 */

/* Fails with TOKEN_EXCEEDS_ISSUER, naming `field` if it is not NULL. `account` is as it will be; `restrictions` are
 * those of the token, or NULL. */
COF_CODE issuer_check(struct call *call, const struct principal_row *account, const struct rule_set *restrictions,
                      const char *field);
