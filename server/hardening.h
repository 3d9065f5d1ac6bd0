#pragma once

#include "common/error.h"

/* What the process gives up before it touches a secret. */

/* No core files, no ptrace by the same user, no new privileges, umask 077. */
COF_CODE hardening_start(struct cof_error *err);
