#pragma once

#include <coffer/v1/identity.pb-c.h>

#include "client/cli/cli.h"

/*
 * Rules of accounts and tokens as people write them:
 *
 *     PERMISSION[,...][@ENVIRONMENT[,...]][/NAME[,...]][#WORKSPACE[,...]]
 *
 * for example "resolve,secret:read@prod,staging/slack". A part that is not given holds for all.
 */

enum { GRANTS_MAX = 64 };

struct grants {
    Coffer__V1__Rule rules[GRANTS_MAX];
    Coffer__V1__Rule *list[GRANTS_MAX];
    char **words[GRANTS_MAX]; /* what the lists of a rule point into; NULL: into options */
    size_t count;
};

/*
 * The rules of --grant, or the one of --permission, --env-pattern, --name-pattern and --for-workspace; none if none
 * of them was given. Cuts the options' texts in place. To be given to grants_done in any case.
 */
cli_exit grants_read(struct cli *cli, struct grants *grants);
void grants_done(struct grants *grants);

/* The rule for people, one part a line, on a terminal wrapped; `label` names the line of the permissions. */
void grant_print(const char *label, const Coffer__V1__Rule *rule);

/* The items under the label, on one line, or on as many as a terminal needs; nothing for none. */
void grant_print_list(const char *label, char *const *items, size_t count);
