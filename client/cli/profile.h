#pragma once

#include "client/cli/settings_file.h"

/*
 * The settings in force. An option wins over a variable, a variable over the project's file (project.h), that over the profile
 * (settings_file.h), and where none says anything something is built in.
 *
 * The token and the TLS files of a profile go with the profile's address only, and nobody else may be able to read its token.
 */

typedef enum profile_source {
    PROFILE_BUILTIN,
    PROFILE_OPTION,
    PROFILE_VARIABLE,
    PROFILE_PROJECT,
    PROFILE_PROFILE,
} profile_source;

struct profile_value {
    const char *text; /* NULL: nothing is given */
    profile_source source;
};

/* Fills in what neither an option nor a variable gives. A profile that is named and not there is refused. */
cli_exit profile_apply(struct cli *cli);

/* The same, but the profile need not be there yet. */
cli_exit profile_apply_new(struct cli *cli);

/* Only finds out which profile is meant: for changes of what is wrong. */
cli_exit profile_find(struct cli *cli);

/* What is in force, after one of the first two. */
struct profile_value profile_value(setting which);

/* Name of the profile in use, or that would be; NULL if none is named. `ret_found`: whether there is such a section. */
const char *profile_name(bool *ret_found);

/* Where the profiles are; "" where there is no place for them. */
const char *profile_file(void);

/* Whether the file says which profile is used where none is named. */
bool profile_has_default(void);

/* What names it: "--profile", "COFFER_PROFILE" or the path of a file. */
const char *profile_named_by(void);

/* "profile work in ~/.config/coffer/config", for example: where a value with this source comes from. */
const char *profile_origin(setting which, profile_source source);

/* The path with the home folder in place of "~", in the heap; NULL if there is no memory. */
char *profile_expand(const char *path);
