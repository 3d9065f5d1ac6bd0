#pragma once

#include "client/cli/profile.h"

/* Changes of the file of profiles, for the commands that make them. */

struct config_change {
    setting which;
    const char *value; /* NULL takes the setting away */
};

/* The profile that is changed: the one in use, or "default" where none is. After profile_apply_new. */
const char *config_profile(void);

/* Refuses a name that no profile may have. */
cli_exit config_check_name(const char *name);

/* Changes settings of the profile, which is made if it is not there, and is the one in use if none was. Says what is wrong. */
cli_exit config_change(const char *name, const struct config_change *changes, size_t count);
