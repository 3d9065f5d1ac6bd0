#pragma once

#include <coffer/v1/secret.pb-c.h>

#include "client/cli/cli.h"

/* What the commands about secrets share. */

#define SECRET_SERVICE "coffer.v1.SecretService/"

/* Keys with their values, as commands take them and as requests hold them. */
struct pairs {
    struct cli_value values[CLI_KEYS_MAX];
    Coffer__V1__KeyValue messages[CLI_KEYS_MAX];
    Coffer__V1__KeyValue *list[CLI_KEYS_MAX];
    size_t count;
};

/* NULL if there is no memory. */
struct pairs *pairs_new(void);

/* Wipes and frees. NULL is allowed. */
void pairs_free(struct pairs *pairs);

/* Reads the command's arguments from the one at `first` on, and --file KEY=PATH, as keys of the secret of this name; refuses
 * what no server would take before it asks for a value. */
cli_exit pairs_read(const struct cli *cli, const char *name, size_t first, struct pairs *pairs);

/* The type of the option --type; unspecified without it. */
cli_exit secret_type_read(const char *text, Coffer__V1__SecretType *ret_type);

const char *secret_type_name(Coffer__V1__SecretType type);

/* "" for one that is in use. */
const char *secret_state_name(const Coffer__V1__Secret *secret);

/* `here` and `there` are the words for what only one side has. */
const char *secret_difference(Coffer__V1__Difference difference, const char *here, const char *there);

/* "KEY, +2" */
const char *secret_keys_text(Coffer__V1__SecretKey *const *keys, size_t count, char *text, size_t room);

/* All that is known of a secret, on standard output. */
void secret_print(const Coffer__V1__Secret *secret);

/* "name: changed in prod, version 2, 3 keys", as a note. */
void secret_note(const char *what, const Coffer__V1__Secret *secret);

/* What the server warns of, one a line. */
void secret_warn(char *const *warnings, size_t count);

/* Asks for the secret's name to be typed; `what` is "This deletes", for example. */
cli_exit secret_confirm(const struct cli *cli, const char *what);
