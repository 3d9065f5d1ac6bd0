#pragma once

/*
 * Fault points: marked places at which a test ends the process or makes it wait. They are built only with
 * COFFER_FAULTS and switched on by the environment variable COFFER_FAULT, for example
 * "write.after_commit:exit:0.1" (ends the process there with a probability of 0.1).
 */
#ifdef COFFER_FAULTS
void fault_point(const char *name);
#define FAULT_POINT(name) fault_point(name)
#else
#define FAULT_POINT(name) ((void) 0)
#endif
