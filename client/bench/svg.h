#pragma once

#include "client/bench/measure.h"

/*
 * Draws latency against load: for each mix a line of p50, p99 and p99.9 over the rates at which it ran, or over the rate that a
 * closed loop reached. The axis of time is logarithmic. Says what is wrong.
 */
bool svg_write(const struct measure *measure, const char *path);
