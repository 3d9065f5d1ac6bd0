#pragma once

#include <stdbool.h>

#include <coffer/v1/resolve.pb-c.h>

#include "common/error.h"
#include "common/slice.h"

/*
 * What items ask for, each as the one list that the outcomes of its results follow: its references, the keys and OAuth
 * tokens that it declares, the references of its expressions, and what a registered action declares, which only the server
 * knows (docs/decisions/0005-resolve-answer.md, "One list").
 */

/* Where something stands in the list. */
struct asked_span {
    size_t first;
    size_t count;
};

/* One entry; empty names: an expression that is not written as it must be. */
struct asked_name {
    struct cof_slice secret;
    struct cof_slice key;
};

struct asked_item {
    struct asked_name *names;
    size_t count;
    struct asked_span *declarations;
    size_t declaration_count;
    struct asked_span *expressions;
    size_t expression_count;
    size_t before_expressions; /* how many entries come from elsewhere */
    bool more;                 /* behind them is what a registered action declares */
};

/* Everything lies in one block from malloc, which free() gives back. */
struct asked {
    size_t count;
    struct asked_item items[];
};

/* How many entries the list of an item has. */
size_t asked_count(const Coffer__V1__ResolveItem *item);

/* Whether an item asks for more than references, so that its list has to be known to read its results. */
bool asked_more(const Coffer__V1__ResolveItem *item);

/* The lists of all items of a request; names are copied. Fails with OUT_OF_MEMORY. */
COF_CODE asked_new(const Coffer__V1__ResolveRequest *request, struct asked **ret_asked, struct cof_error *err);
