#pragma once

/*
 * The trace that this program's calls belong to: TRACEPARENT of the environment, a header of W3C Trace Context, which CI
 * systems and other programs leave there for those that they start. NULL where there is none, or one that breaks its form,
 * which that standard wants ignored.
 */
const char *trace_parent(void);
