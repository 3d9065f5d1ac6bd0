#pragma once

#include <stdio.h>

#include "client/bench/measure.h"

/* What was measured, for people and for programs. No name of a secret, no value and no token stands in it. */

/* False if there is no memory. */
bool report_text(const struct measure *measure, FILE *to);
/* One JSON object; times in microseconds. docs/benchmarks.md describes it. */
bool report_json(const struct measure *measure, FILE *to);
