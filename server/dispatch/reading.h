#pragma once

#include "server/dispatch/ticket.h"

/*
 * What calls need before they can run: the rows of their tokens, and where a method says so the secrets that it will
 * ask for, unless they are in the cache. A group of calls is one message each way, and one transaction that ends. Calls with the same token share one
 * read of it, and calls into the same workspace one statement for their secrets: they came before it was sent, so it
 * answers all of them.
 *
 * A statement that fails takes the rest of the group with it; what then is missing is read once more, call by call, so
 * that one call's failure spares the others.
 */

enum { READING_CALLS_MAX = 16 };

/* Leaves a source of the caller or an error in every ticket, and call.prefetch.read where that was read. */
void reading_run(struct session *session, struct ticket *const *tickets, size_t count);
