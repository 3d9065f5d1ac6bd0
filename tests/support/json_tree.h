#pragma once

#include "common/slice.h"

/* A JSON file of test data as a tree, read with the scanner of common/json.h. */

typedef enum json_kind {
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_TEXT,
    JSON_WORD,
} json_kind;

struct json_node {
    json_kind kind;
    struct cof_slice key;  /* within an object */
    struct cof_slice text; /* decoded */
    struct json_node *parent;
    struct json_node *first; /* child */
    struct json_node *last;
    struct json_node *next; /* sibling */
};

/* Reads the file, or ends the process and says why. Never freed: the tree lives as long as its test. */
const struct json_node *json_tree_read(const char *path);

/* The same of a text, which must live on; `name` says in messages what it is. */
const struct json_node *json_tree_parse(const char *name, struct cof_slice text);

/* The member of an object; NULL if there is none. */
const struct json_node *json_member(const struct json_node *object, const char *key);

/* The element of an array; ends the process if there is none. */
const struct json_node *json_element(const struct json_node *array, size_t index);

size_t json_count(const struct json_node *array);

/* A number without sign, fraction and exponent. */
size_t json_number(const struct json_node *node);
