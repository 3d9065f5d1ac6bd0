#pragma once

#include "common/arena.h"
#include "common/expression.h"

/* Everything that is wrong with a text or a document, so that its author hears of it at once. */

enum { COF_FAULTS_MAX = 1000 };

struct cof_fault {
    cof_reason reason;
    struct cof_place place; /* in the text; in a document of the string that the fault is in */
    const char *path;       /* in a document, as path patterns name it; else empty */
    const char *message;    /* what is wrong, where, and what to do next; no value of a secret */
};

/* In the arena; those past COF_FAULTS_MAX are only counted. */
struct cof_fault_list {
    struct cof_arena *arena;
    struct cof_fault *items;
    size_t count;
    size_t room;
    size_t total;
    bool exhausted;         /* no memory was left for one */
    bool withheld;          /* there is one that counts only if there is no other */
    struct cof_fault spare; /* the first of those */
};

void cof_fault_list_init(struct cof_fault_list *list, struct cof_arena *arena);

/* Adds a fault; its texts are copied. A `path` of NULL is empty. */
void cof_fault_list_add(struct cof_fault_list *list, const struct cof_fault *fault);

/* The same for what follows from another fault, most likely one in the list: it is told only if there is no other. */
void cof_fault_list_withhold(struct cof_fault_list *list, const struct cof_fault *fault);

/* COF_OK if there is none. Otherwise the first one's reason and message, and how many there are (fact `faults`); or
 * OUT_OF_MEMORY. */
COF_CODE cof_fault_list_check(const struct cof_fault_list *list, struct cof_error *err);
