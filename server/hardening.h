#pragma once

#include "common/error.h"

/* What the process gives up before it touches a secret. */

/*
 * A function of a library that is looked up at its first call leaves what the processor's vector registers hold, which is what
 * was copied last, on the stack of that thread, where nobody wipes it. So the process begins anew with all of them looked up
 * before, which the loader does for a variable of the environment alone. Returns if it is so already, or cannot be.
 *
 * What we link is bound at its start (-z now, deploy/cmake/flags.cmake): the variable is for what libraries call of each
 * other, nng above all. `coffer` and programs with libcoffer leave it at the first: a command is soon over, a program that
 * `coffer run` starts would inherit the variable, and a library does not begin somebody else's process anew.
 */
void hardening_bind(char *const *arguments);

/* No core files, no ptrace by the same user, no new privileges, umask 077. */
COF_CODE hardening_start(struct cof_error *err);
