#pragma once

#include "server/service/call.h"
#include "server/store/row.h"

/* Actions and the calls between them. */

/* One that has been gone through is never gone through again. */
typedef enum graph_mark {
    GRAPH_NEW,
    GRAPH_OPEN, /* on the path that is being followed */
    GRAPH_DONE,
} graph_mark;

struct graph_node {
    struct cof_slice name;
    struct row_texts steps;
    size_t tag; /* the caller's own */
    graph_mark mark;
    size_t next;  /* step that is followed next */
    size_t above; /* how many stand before it on that path */
};

struct graph {
    struct graph_node *nodes; /* sorted by graph_sort */
    size_t count;
};

void graph_sort(struct graph *graph);

/* NULL if there is none; the graph must be sorted. */
struct graph_node *graph_find(const struct graph *graph, struct cof_slice name);

/* Told of a circle: its nodes in the order of the calls, the last one calls the first. */
typedef cof_code (*graph_circle)(void *context, struct graph_node *const *nodes, size_t count);

/*
 * Finds circles: at least one if there is any, and none twice. Steps that are no node of the graph are left out.
 * `path` has room for all nodes. Ends with the first failure of `circle`.
 */
COF_CODE graph_find_circles(struct graph *graph, struct graph_node **path, graph_circle circle, void *context);
