#pragma once

#include <stdbool.h>

/*
 * Something else that is measured in the same rounds: a program that runs for about as long as a round and prints how
 * many calls it made in a second, as the last number of its output.
 */

/* Runs the program, without a shell and without arguments. False if it cannot be run, fails, or prints no number. */
bool anchor_run(const char *program, double *ret_rate);
