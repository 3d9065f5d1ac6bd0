#include "server/service/action_graph.h"

#include <stdlib.h>

static int by_name(const void *a, const void *b)
{
    return cof_slice_compare(((const struct graph_node *) a)->name, ((const struct graph_node *) b)->name);
}

void graph_sort(struct graph *graph)
{
    if (graph->count > 1) {
        qsort(graph->nodes, graph->count, sizeof *graph->nodes, by_name);
    }
}

struct graph_node *graph_find(const struct graph *graph, struct cof_slice name)
{
    const struct graph_node wanted = {.name = name};
    return graph->count == 0 ? NULL : bsearch(&wanted, graph->nodes, graph->count, sizeof *graph->nodes, by_name);
}

/* The path that is being followed. */
struct following {
    struct graph *graph;
    struct graph_node **path;
    size_t length;
    graph_circle circle;
    void *context;
};

static void enter(struct following *following, struct graph_node *node)
{
    node->mark = GRAPH_OPEN;
    node->next = 0;
    node->above = following->length;
    following->path[following->length++] = node;
}

/* A node on the path that is called again closes a circle. */
static cof_code follow(struct following *following, struct graph_node *called)
{
    if (called == NULL || called->mark == GRAPH_DONE) {
        return COF_OK;
    }
    if (called->mark == GRAPH_OPEN) {
        return following->circle(following->context, following->path + called->above,
                                 following->length - called->above);
    }
    enter(following, called);
    return COF_OK;
}

static cof_code follow_from(struct following *following, struct graph_node *first)
{
    enter(following, first);
    while (following->length > 0) {
        struct graph_node *node = following->path[following->length - 1];
        if (node->next < node->steps.count) {
            TRY(follow(following, graph_find(following->graph, node->steps.items[node->next++])));
        } else {
            node->mark = GRAPH_DONE;
            following->length--;
        }
    }
    return COF_OK;
}

cof_code graph_find_circles(struct graph *graph, struct graph_node **path, graph_circle circle, void *context)
{
    struct following following = {.graph = graph, .path = path, .circle = circle, .context = context};
    for (size_t i = 0; i < graph->count; i++) {
        graph->nodes[i].mark = GRAPH_NEW;
    }
    for (size_t i = 0; i < graph->count; i++) {
        if (graph->nodes[i].mark == GRAPH_NEW) {
            TRY(follow_from(&following, &graph->nodes[i]));
        }
    }
    return COF_OK;
}
