#pragma once

#include "common/arena.h"
#include "common/expression.h"

/*
 * YAML files that people write, as a tree that says where everything stands: one document, every key once, no anchors,
 * aliases or tags, so what a file means stands where it is read. All of it lies in the arena.
 *
 * Failures are FILE_INVALID with line and column, also as facts, or OUT_OF_MEMORY. They hold nothing of the file but names
 * of fields.
 */

enum { COF_YAML_DEPTH_MAX = 64 };

typedef enum cof_yaml_kind { COF_YAML_TEXT, COF_YAML_MAPPING, COF_YAML_LIST } cof_yaml_kind;

struct cof_yaml_node {
    cof_yaml_kind kind;
    struct cof_slice key;  /* in a mapping */
    struct cof_slice text; /* of COF_YAML_TEXT; a NUL stands behind it */
    bool plain;            /* without quotes, so it may be a number, true or null */
    struct cof_place place;
    struct cof_yaml_node *first; /* what it holds */
    struct cof_yaml_node *last;
    struct cof_yaml_node *next; /* beside it */
    struct cof_yaml_node *above;
};

/* The bytes of a file that a setting names, and of one that is longer than `max` one more, for its reader to refuse.
 * CONFIG_INVALID, which names setting and path, if it cannot be opened or read. */
COF_CODE cof_yaml_file_load(const char *setting, const char *path, size_t max, struct cof_arena *arena,
                            struct cof_slice *ret_file, struct cof_error *err);

/* The document of a file; NULL if it has none. */
COF_CODE cof_yaml_tree_read(struct cof_slice file, struct cof_arena *arena, const struct cof_yaml_node **ret_root,
                            struct cof_error *err);

/* The failure FILE_INVALID at a place. */
cof_code cof_yaml_refuse(struct cof_error *err, struct cof_place place, const char *format, ...) COF_PRINTF(3, 4);

/* A field of a mapping; NULL if it is missing, or the node is no mapping or NULL. */
const struct cof_yaml_node *cof_yaml_field(const struct cof_yaml_node *node, const char *key);

/* Missing, or an unquoted null. */
bool cof_yaml_is_null(const struct cof_yaml_node *node);
bool cof_yaml_is_text(const struct cof_yaml_node *node, const char *text);

/* Fields of a certain kind. A text has to be there; true or false is false if it is missing, and a list is empty. */
COF_CODE cof_yaml_text_field(const struct cof_yaml_node *node, const char *key,
                             const struct cof_yaml_node **ret_found, struct cof_error *err);
COF_CODE cof_yaml_bool_field(const struct cof_yaml_node *node, const char *key, bool *ret_value,
                             struct cof_error *err);
COF_CODE cof_yaml_list_field(const struct cof_yaml_node *node, const char *key, size_t *ret_count,
                             const struct cof_yaml_node **ret_first, struct cof_error *err);

/* For files in which every field must be known: fails unless the node is a mapping with no field but `keys`. `what` names
 * it in messages. */
COF_CODE cof_yaml_check_fields(const struct cof_yaml_node *node, const char *what, const char *const *keys,
                               size_t count, struct cof_error *err);
