#pragma once

#include "client/cli/cli.h"
#include "common/name.h"

/*
 * References as people write them: NAME.KEY, "${{ SECRETS.NAME.KEY }}", and coffer://WORKSPACE/ENVIRONMENT/NAME/KEY, which says
 * where as well. WORKSPACE is a UUID, or empty for that of the command.
 */

struct reference {
    const char *workspace;   /* NULL: that of the command */
    const char *environment; /* NULL: those of the command; given together with the workspace */
    const char *name;
    const char *key;
};

/* Whether the text says that it is a reference with its place. */
bool reference_is_full(struct cof_slice text);

/* Whether it may be such a name; says in which part of what it stands, for the server would name the field of the request, and
 * people know the arguments that they typed. */
cli_exit reference_check_name(cof_name_kind kind, struct cof_slice name, const char *part, const char *what);

/* Takes the text apart in place, to which the reference then belongs; `what` names it in messages, as "argument 1". */
cli_exit reference_read(char *text, const char *what, struct reference *ret_reference);

/* For what needs a reference of the command's own environments. */
cli_exit reference_read_short(char *text, const char *what, struct reference *ret_reference);

/*
 * Adds the references to a request without any, those of one place to one item, and tells in `ret_items` which. If `first` is
 * set, or any reference is of the command's own place, the first item is the one for that.
 */
void reference_ask(const struct cli *cli, coffer_request *request, const struct reference *references, size_t count,
                   bool first, size_t *ret_items);
