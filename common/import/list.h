#pragma once

#include "common/import/import.h"

/*
 * A list that is being read. It takes copies, so nothing in it points into the file.
 *
 * A file names its secrets (begin_secret, then add), or it holds the keys of one secret only (add_flat); not both.
 */
struct cof_import_builder {
    struct cof_arena *arena;
    struct cof_error *err;
    struct cof_slice flat_secret; /* for files without names of secrets; may be empty */
    struct cof_import_entry *entries;
    size_t count;
    size_t room;
    struct cof_import_entry *secrets; /* those that the file names, with an empty key */
    size_t secret_count;
    size_t secret_room;
    struct cof_place flat_place; /* of the first key without a secret; line 0: none yet */
};

/* The keys that follow belong to this secret. */
COF_CODE cof_import_begin_secret(struct cof_import_builder *builder, struct cof_slice name, struct cof_place place);

/* A key of the secret begun last. */
COF_CODE cof_import_add(struct cof_import_builder *builder, struct cof_slice key, struct cof_slice value,
                        struct cof_place place);

/* A key of the one secret that the caller named. */
COF_CODE cof_import_add_flat(struct cof_import_builder *builder, struct cof_slice key, struct cof_slice value,
                             struct cof_place place);

/* The end of the file: refuses secrets without a key, and secrets and keys that stand twice, with both places. */
COF_CODE cof_import_finish(struct cof_import_builder *builder, struct cof_import_list *ret_list);

typedef int cof_import_order(const void *a, const void *b);

/* Orders entries by secret, then key; and by key, then secret, for files that do not name secrets. */
int cof_import_by_secret(const void *a, const void *b);
int cof_import_by_key(const void *a, const void *b);

/* The entries in an order, in the arena. */
COF_CODE cof_import_sorted(const struct cof_import_list *list, cof_import_order *order, struct cof_arena *arena,
                           struct cof_import_list *ret_list, struct cof_error *err);
