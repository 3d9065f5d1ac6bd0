#include <assert.h>
#include <string.h>

#include "common/name.h"
#include "common/yaml_tree.h"
#include "server/service/action_row.h"
#include "server/service/catalogue.h"
#include "server/service/secret_types.h"

struct reader {
    struct cof_arena *arena;
    struct cof_error *err;
};

struct keys {
    char **items;
    size_t count;
};

/* --- Names ---------------------------------------------------------------------------------------------------- */

static cof_code read_name(const struct reader *reader, const struct cof_yaml_node *node, cof_name_kind kind,
                          const char *what, char **ret_name)
{
    struct cof_error problem;
    if (node->kind != COF_YAML_TEXT) {
        return cof_yaml_refuse(reader->err, node->place, "%s is no text", what);
    }
    if (cof_name_check(kind, node->text, what, &problem) != COF_OK) {
        return cof_yaml_refuse(reader->err, node->place, "%s", problem.message);
    }
    *ret_name = cof_arena_text(reader->arena, node->text);
    return *ret_name == NULL ? cof_arena_exhausted(reader->err) : COF_OK;
}

static bool has(const struct keys *keys, const char *key)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->items[i], key) == 0) {
            return true;
        }
    }
    return false;
}

/* A key stands once, in one of the two lists. */
static cof_code read_keys(const struct reader *reader, const struct cof_yaml_node *entry, const char *field,
                          const struct keys *others, struct keys *ret_keys)
{
    const struct cof_yaml_node *item = NULL;
    struct keys keys = {0};
    size_t count = 0;
    TRY(cof_yaml_list_field(entry, field, &count, &item, reader->err));
    if (count > ACTION_KEYS_MAX) {
        return cof_yaml_refuse(reader->err, item->place, "%s has %zu keys, at most %d are allowed", field, count,
                               ACTION_KEYS_MAX);
    }
    keys.items = cof_arena_array(reader->arena, count, sizeof(char *));
    if (keys.items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        char *key = NULL;
        TRY(read_name(reader, item, COF_NAME_KEY, "a key", &key));
        assert(key != NULL);
        if (has(&keys, key) || has(others, key)) {
            return cof_yaml_refuse(reader->err, item->place, "the key %s stands twice; leave one of them", key);
        }
        keys.items[keys.count++] = key;
    }
    *ret_keys = keys;
    return COF_OK;
}

/* --- Types ---------------------------------------------------------------------------------------------------- */

static cof_code read_type(const struct reader *reader, const struct cof_yaml_node *entry,
                          Coffer__V1__SecretType *ret_type)
{
    const struct cof_yaml_node *node = cof_yaml_field(entry, "type");
    *ret_type = COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM;
    if (cof_yaml_is_null(node) || cof_yaml_is_text(node, "custom")) {
        return COF_OK;
    }
    if (node->kind == COF_YAML_TEXT && secret_type_of_name(node->text, ret_type)) {
        return COF_OK;
    }
    return cof_yaml_refuse(reader->err, node->place,
                           "type is none of custom, ssh_key, mtls, ca_cert and github_app");
}

/* A secret with a structure has certain keys, and all that it must have are there whenever it is. */
static cof_code check_structure(const struct reader *reader, const struct cof_yaml_node *entry,
                                const Coffer__V1__SecretDeclaration *declaration)
{
    char *const *lists[] = {declaration->keys, declaration->optional_keys};
    const size_t counts[] = {declaration->n_keys, declaration->n_optional_keys};
    for (size_t i = 0; i < COF_COUNT(lists); i++) {
        for (size_t k = 0; k < counts[i]; k++) {
            if (!secret_type_may_have(declaration->type, lists[i][k])) {
                return cof_yaml_refuse(reader->err, cof_yaml_field(entry, "type")->place,
                                       "a secret of this type has no key %s; give it the type that its keys are of",
                                       lists[i][k]);
            }
        }
    }
    return COF_OK;
}

/* --- Entries -------------------------------------------------------------------------------------------------- */

static cof_code check_entry(const struct reader *reader, const struct cof_yaml_node *entry,
                            const Coffer__V1__SecretDeclaration *declaration)
{
    if (cof_name_reserved(cof_slice_text(declaration->name))) {
        return cof_yaml_refuse(reader->err, entry->place,
                               "%s is the name of an OAuth connection, which providers.files are for",
                               declaration->name);
    }
    if (declaration->n_keys + declaration->n_optional_keys == 0) {
        return cof_yaml_refuse(reader->err, entry->place, "%s has no keys; name those that its actions use",
                               declaration->name);
    }
    return declaration->type == COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM
               ? COF_OK
               : check_structure(reader, entry, declaration);
}

static cof_code read_entry(const struct reader *reader, const struct cof_yaml_node *node,
                           struct catalogue_entry *ret_entry)
{
    static const char *const fields[] = {"name", "type", "keys", "optional_keys", "optional", "replaces"};
    static const struct keys none = {0};
    const struct cof_yaml_node *name = NULL;
    struct catalogue_entry entry = {.line = node->place.line};
    Coffer__V1__SecretDeclaration *declaration = &entry.declaration;
    struct keys keys = {0};
    struct keys optional_keys = {0};
    bool optional = false;
    coffer__v1__secret_declaration__init(declaration);
    TRY(cof_yaml_check_fields(node, "an integration", fields, COF_COUNT(fields), reader->err));
    TRY(cof_yaml_text_field(node, "name", &name, reader->err));
    TRY(read_name(reader, name, COF_NAME_SECRET, "name", &declaration->name));
    TRY(read_type(reader, node, &declaration->type));
    TRY(read_keys(reader, node, "keys", &none, &keys));
    TRY(read_keys(reader, node, "optional_keys", &keys, &optional_keys));
    TRY(cof_yaml_bool_field(node, "optional", &optional, reader->err));
    TRY(cof_yaml_bool_field(node, "replaces", &entry.replaces, reader->err));
    declaration->keys = keys.items;
    declaration->n_keys = keys.count;
    declaration->optional_keys = optional_keys.items;
    declaration->n_optional_keys = optional_keys.count;
    declaration->optional = optional;
    TRY(check_entry(reader, node, declaration));
    *ret_entry = entry;
    return COF_OK;
}

static cof_code check_twice(const struct reader *reader, const struct catalogue_entries *entries,
                            const struct cof_yaml_node *node)
{
    const struct catalogue_entry *last = &entries->items[entries->count - 1];
    for (size_t i = 0; i + 1 < entries->count; i++) {
        if (strcmp(entries->items[i].declaration.name, last->declaration.name) == 0) {
            return cof_yaml_refuse(reader->err, node->place, "%s stands already in line %u; leave one of them",
                                   last->declaration.name, entries->items[i].line);
        }
    }
    return COF_OK;
}

cof_code catalogue_read(struct cof_slice file, struct cof_arena *arena, struct catalogue_entries *ret_entries,
                        struct cof_error *err)
{
    static const char *const fields[] = {"integrations"};
    const struct reader reader = {arena, err};
    const struct cof_yaml_node *root = NULL;
    const struct cof_yaml_node *node = NULL;
    struct catalogue_entries entries = {0};
    size_t count = 0;
    if (file.len > CATALOGUE_FILE_MAX) {
        return cof_yaml_refuse(err, (struct cof_place){0, 1, 1}, "the file has more than %d bytes; split it",
                               CATALOGUE_FILE_MAX);
    }
    TRY(cof_yaml_tree_read(file, arena, &root, err));
    if (root == NULL) {
        return cof_yaml_refuse(err, (struct cof_place){0, 1, 1},
                               "the file is empty; it has a list \"integrations\"");
    }
    TRY(cof_yaml_check_fields(root, "the file", fields, COF_COUNT(fields), err));
    TRY(cof_yaml_list_field(root, "integrations", &count, &node, err));
    entries.items = cof_arena_array(arena, count, sizeof *entries.items);
    if (entries.items == NULL) {
        return cof_arena_exhausted(err);
    }
    for (; node != NULL; node = node->next) {
        TRY(read_entry(&reader, node, &entries.items[entries.count++]));
        TRY(check_twice(&reader, &entries, node));
    }
    *ret_entries = entries;
    return COF_OK;
}
