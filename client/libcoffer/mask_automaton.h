#pragma once

#include <stdbool.h>

#include "client/libcoffer/mask_forms.h"

/*
 * Finds all forms in one pass: the automaton of Aho and Corasick over their bytes. After each byte of the input its
 * node is the longest end of the input that begins a form.
 *
 * Nodes are numbered in the order of the forms' bytes, so that the first child of a node, mostly its only one, is the
 * next node; other children are branches, found by binary search. A node that nothing leads on from falls back to the
 * longest shorter end of the input. Each byte of the input is one step forward, and steps back are no more than
 * those.
 */

enum {
    AUTOMATON_NODES_MAX = 8 << 20,
    AUTOMATON_WINDOW_MAX = 8,
};

struct automaton_node {
    uint32_t back;    /* the longest other end of what led here that begins a form */
    uint32_t depth;   /* bytes that led here */
    uint32_t longest; /* the longest form that ends here; 0: none does */
    uint8_t label;    /* the last byte that led here */
    bool chained;     /* the next node is a child */
    bool branches;    /* there are other children */
};

struct automaton_branch {
    uint32_t parent;
    uint32_t child;
};

struct automaton {
    struct automaton_node *nodes; /* the first is the root */
    uint32_t node_count;
    struct automaton_branch *branches; /* by parent, then by the child's label */
    uint32_t branch_count;
    uint32_t *root;      /* 256: the root's children; 0: none */
    uint8_t *shifts;     /* 65,536: by how much a form can begin later, if these two bytes end the window */
    uint8_t *beginnings; /* a bit for each hash of four bytes: whether a form begins with some of it */
    size_t window;       /* bytes that every form has at least, MASK_VALUE_MIN to AUTOMATON_WINDOW_MAX */
};

/* Whether that many forms are too many: more than AUTOMATON_NODES_MAX bytes. */
bool automaton_fits(const struct mask_forms *forms);

/* The room that automaton_make takes in the arena. */
size_t automaton_room(const struct mask_forms *forms);

/* Of forms that fit, or of none. They are not needed afterwards. Fails with OUT_OF_MEMORY. */
COF_CODE automaton_make(const struct mask_forms *forms, struct cof_arena *arena, struct automaton *ret_automaton,
                        struct cof_error *err);

/* The node after one more byte. */
uint32_t automaton_step(const struct automaton *automaton, uint32_t node, uint8_t byte);

/* At the root: an index from `at` on before which no form begins; the last few bytes of a text are not looked at. */
size_t automaton_skip(const struct automaton *automaton, struct cof_slice text, size_t at);
