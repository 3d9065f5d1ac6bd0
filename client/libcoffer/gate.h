#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A gate that is opened once, for all who wait at it. One call of the system wakes them all, and nobody needs a lock to
 * pass. Zeroed memory is a gate that is shut.
 */
struct gate {
    atomic_uint open;
};

/* What was written before this is seen by whoever passes. After it the gate may be gone at any moment. */
void gate_open(struct gate *gate);

/* Wakes those who sleep at a gate that was opened; only its address is used. */
void gate_wake(const struct gate *gate);

/* Waits until the gate is open, at most until `deadline_us` of the system's monotonic clock. False: it is shut. */
bool gate_wait(struct gate *gate, int64_t deadline_us);
