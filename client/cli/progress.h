#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * What takes longer than a second tells a terminal so, in one line on standard error that goes away again. Nothing is told
 * where standard output or error goes elsewhere, as JSON, or with --quiet. For the main thread.
 */

/* Whether anything may be told; it may not before this says so. */
void progress_allow(bool allowed);

/* Begins something, as "reading templates". May be nested; the outermost is told. The text must live on. */
void progress_begin(const char *what);
void progress_end(void);

/* From now on it is this. */
void progress_say(const char *what);

/* How much of it is done; `total` is 0 where nobody knows. */
void progress_count(size_t done, size_t total);

/* Takes the line away for whoever prints something else; it comes again. */
void progress_clear(void);
