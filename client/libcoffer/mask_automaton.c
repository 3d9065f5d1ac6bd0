#include "client/libcoffer/mask_automaton.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROOT = 0,
    BYTES = 256,
    PAIRS = 65536,
    BEGINNING = 4, /* bytes */
    BEGINNING_BITS = 18,
    BEGINNINGS = (1 << BEGINNING_BITS) / 8,
};

_Static_assert((int) BEGINNING <= (int) MASK_VALUE_MIN, "every form has a whole beginning");

/* --- Size ----------------------------------------------------------------------------------------------------- */

static size_t common_prefix(struct cof_slice a, struct cof_slice b)
{
    const size_t shorter = a.len < b.len ? a.len : b.len;
    size_t i = 0;
    while (i < shorter && a.data[i] == b.data[i]) {
        i++;
    }
    return i;
}

/* The bytes that a form shares with the one before it: their nodes are there already. */
static size_t shared(const struct mask_forms *forms, size_t i)
{
    return i == 0 ? 0 : common_prefix(forms->forms[i - 1], forms->forms[i]);
}

static size_t count_nodes(const struct mask_forms *forms)
{
    size_t nodes = 1;
    for (size_t i = 0; i < forms->count; i++) {
        nodes += forms->forms[i].len - shared(forms, i);
    }
    return nodes;
}

bool automaton_fits(const struct mask_forms *forms)
{
    return forms->bytes <= AUTOMATON_NODES_MAX;
}

size_t automaton_room(const struct mask_forms *forms)
{
    return count_nodes(forms) * sizeof(struct automaton_node) + forms->count * sizeof(struct automaton_branch) +
           BYTES * sizeof(uint32_t) + PAIRS + BEGINNINGS;
}

/* --- Steps ---------------------------------------------------------------------------------------------------- */

static uint64_t branch_key(uint32_t parent, uint8_t label)
{
    return (uint64_t) parent << 8 | label;
}

static uint64_t key_of(const struct automaton *automaton, const struct automaton_branch *branch)
{
    return branch_key(branch->parent, automaton->nodes[branch->child].label);
}

/* The index of the first branch whose key is not less. */
static uint32_t lower_bound(const struct automaton *automaton, uint64_t key)
{
    uint32_t low = 0;
    uint32_t high = automaton->branch_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (key_of(automaton, &automaton->branches[middle]) < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint32_t find_branch(const struct automaton *automaton, uint32_t node, uint8_t byte)
{
    const uint64_t key = branch_key(node, byte);
    const uint32_t at = lower_bound(automaton, key);
    const bool found = at < automaton->branch_count && key_of(automaton, &automaton->branches[at]) == key;
    return found ? automaton->branches[at].child : ROOT;
}

/* ROOT if there is none. */
static uint32_t child_of(const struct automaton *automaton, uint32_t node, uint8_t byte)
{
    if (automaton->nodes[node].chained && automaton->nodes[node + 1].label == byte) {
        return node + 1;
    }
    return automaton->nodes[node].branches ? find_branch(automaton, node, byte) : ROOT;
}

uint32_t automaton_step(const struct automaton *automaton, uint32_t node, uint8_t byte)
{
    while (node != ROOT) {
        const uint32_t child = child_of(automaton, node, byte);
        if (child != ROOT) {
            return child;
        }
        node = automaton->nodes[node].back;
    }
    return automaton->root[byte];
}

/* The bit of four bytes. */
static uint32_t bit_of(const uint8_t *bytes)
{
    uint32_t four;
    memcpy(&four, bytes, BEGINNING);
    return four * UINT32_C(0x9e3779b1) >> (32 - BEGINNING_BITS);
}

static bool may_begin(const struct automaton *automaton, const uint8_t *bytes)
{
    const uint32_t bit = bit_of(bytes);
    return (automaton->beginnings[bit / 8] >> bit % 8 & 1) != 0;
}

/*
 * Looks at the two bytes that end a window as wide as the shortest form is long. If they stand in no window of a
 * form, or only further to the left, no form begins before the window has moved there. Of many forms all pairs
 * stand everywhere; then it is the first four bytes that tell.
 */
size_t automaton_skip(const struct automaton *automaton, struct cof_slice text, size_t at)
{
    const size_t window = automaton->window;
    while (text.len - at >= window) {
        const uint8_t *pair = text.data + at + window - 2;
        const size_t shift = automaton->shifts[pair[0] << 8 | pair[1]];
        if (shift > 0) {
            at += shift;
        } else if (!may_begin(automaton, text.data + at)) {
            at++;
        } else {
            return at;
        }
    }
    return at;
}

/* --- Building ------------------------------------------------------------------------------------------------- */

/* Adds the nodes of a form behind those that it shares with the one before it; `path` has the nodes of both. */
static void add_form(struct automaton *automaton, struct cof_slice form, size_t from, uint32_t *path)
{
    for (size_t i = from; i < form.len; i++) {
        const uint32_t parent = path[i];
        const uint32_t node = automaton->node_count++;
        automaton->nodes[node] = (struct automaton_node){.depth = (uint32_t) i + 1, .label = form.data[i]};
        path[i + 1] = node;
        if (parent == ROOT) {
            automaton->root[form.data[i]] = node;
        } else if (parent == node - 1) {
            automaton->nodes[parent].chained = true;
        } else {
            automaton->nodes[parent].branches = true;
            automaton->branches[automaton->branch_count++] = (struct automaton_branch){parent, node};
        }
    }
    automaton->nodes[path[form.len]].longest = (uint32_t) form.len;
}

static int by_parent(const void *a, const void *b)
{
    const struct automaton_branch *left = a;
    const struct automaton_branch *right = b;
    if (left->parent != right->parent) {
        return left->parent < right->parent ? -1 : 1;
    }
    /* Children were numbered in the order of their labels. */
    return left->child < right->child ? -1 : left->child > right->child;
}

/* The nodes in the order of their depth. */
struct queue {
    uint32_t *nodes;
    uint32_t last;
};

static void append(struct automaton *automaton, struct queue *queue, uint32_t node, uint32_t parents_back)
{
    struct automaton_node *added = &automaton->nodes[node];
    added->back = added->depth == 1 ? ROOT : automaton_step(automaton, parents_back, added->label);
    queue->nodes[queue->last++] = node;
}

static void append_children(struct automaton *automaton, struct queue *queue, uint32_t node)
{
    const uint32_t back = automaton->nodes[node].back;
    if (automaton->nodes[node].chained) {
        append(automaton, queue, node + 1, back);
    }
    if (!automaton->nodes[node].branches) {
        return;
    }
    for (uint32_t i = lower_bound(automaton, branch_key(node, 0));
         i < automaton->branch_count && automaton->branches[i].parent == node; i++) {
        append(automaton, queue, automaton->branches[i].child, back);
    }
}

/* What a node falls back to is shallower, so it is finished when the node's turn comes. */
static void link_nodes(struct automaton *automaton, struct queue *queue)
{
    for (size_t byte = 0; byte < BYTES; byte++) {
        if (automaton->root[byte] != ROOT) {
            append(automaton, queue, automaton->root[byte], ROOT);
        }
    }
    for (uint32_t i = 0; i < queue->last; i++) {
        struct automaton_node *node = &automaton->nodes[queue->nodes[i]];
        if (node->longest == 0) {
            node->longest = automaton->nodes[node->back].longest;
        }
        append_children(automaton, queue, queue->nodes[i]);
    }
    assert(queue->last + 1 == automaton->node_count);
}

static void fill_tables(struct automaton *automaton, const struct mask_forms *forms)
{
    const size_t window = automaton->window;
    memset(automaton->shifts, (int) window - 1, PAIRS);
    for (size_t i = 0; i < forms->count; i++) {
        const uint8_t *form = forms->forms[i].data;
        const uint32_t bit = bit_of(form);
        automaton->beginnings[bit / 8] |= (uint8_t) (1 << bit % 8);
        for (size_t at = 0; at + 2 <= window; at++) {
            uint8_t *shift = &automaton->shifts[form[at] << 8 | form[at + 1]];
            const uint8_t here = (uint8_t) (window - 2 - at);
            *shift = here < *shift ? here : *shift;
        }
    }
}

static void free_numbers(uint32_t **numbers)
{
    free(*numbers);
}

static cof_code build(struct automaton *automaton, const struct mask_forms *forms, size_t nodes,
                      struct cof_error *err)
{
    AUTO(free_numbers) uint32_t *path = calloc(forms->longest + 1, sizeof *path);
    AUTO(free_numbers) uint32_t *turns = calloc(nodes, sizeof *turns);
    struct queue queue = {.nodes = turns};
    if (path == NULL || turns == NULL) {
        return cof_arena_exhausted(err);
    }
    automaton->node_count = 1;
    for (size_t i = 0; i < forms->count; i++) {
        add_form(automaton, forms->forms[i], shared(forms, i), path);
    }
    if (automaton->branch_count > 0) {
        qsort(automaton->branches, automaton->branch_count, sizeof *automaton->branches, by_parent);
    }
    link_nodes(automaton, &queue);
    fill_tables(automaton, forms);
    return COF_OK;
}

cof_code automaton_make(const struct mask_forms *forms, struct cof_arena *arena, struct automaton *ret_automaton,
                        struct cof_error *err)
{
    const size_t nodes = count_nodes(forms);
    struct automaton made = {
        .nodes = cof_arena_array(arena, nodes, sizeof *made.nodes),
        .branches = cof_arena_array(arena, forms->count, sizeof *made.branches),
        .root = cof_arena_array(arena, BYTES, sizeof *made.root),
        .shifts = cof_arena_alloc(arena, PAIRS),
        .beginnings = cof_arena_alloc(arena, BEGINNINGS),
        .window =
            forms->count == 0 || forms->shortest > AUTOMATON_WINDOW_MAX ? AUTOMATON_WINDOW_MAX : forms->shortest,
    };
    if (made.nodes == NULL || made.branches == NULL || made.root == NULL || made.shifts == NULL ||
        made.beginnings == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(build(&made, forms, nodes, err));
    *ret_automaton = made;
    return COF_OK;
}
