#include "server/service/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "common/attr.h"
#include "common/yaml_tree.h"

enum { MEMORY = 8 << 20, FILES_MAX = 64 };

struct catalogue {
    struct cof_pool *pool;
    struct cof_arena arena;
    const Coffer__V1__SecretDeclaration **items; /* sorted by name */
    size_t count;
};

extern const uint8_t catalogue_builtin_file[];
extern const size_t catalogue_builtin_size;

/* Like a failure of the settings, since it is one: the file first. */
static cof_code refuse(const char *file, const struct cof_error *problem, struct cof_error *err)
{
    return problem->reason == COF_REASON_FILE_INVALID
               ? cof_fail(err, COF_REASON_CONFIG_INVALID, "%.200s: %s", file, problem->message)
               : cof_fail(err, problem->reason, "%.200s: %s", file, problem->message);
}

/* --- Definitions ---------------------------------------------------------------------------------------------- */

static size_t place_of(const struct catalogue *catalogue, const char *name)
{
    size_t place = 0;
    while (place < catalogue->count && strcmp(catalogue->items[place]->name, name) < 0) {
        place++;
    }
    return place;
}

static cof_code add(struct catalogue *catalogue, const struct catalogue_entry *entry, const char *file,
                    struct cof_error *err)
{
    const char *name = entry->declaration.name;
    const size_t place = place_of(catalogue, name);
    const bool there = place < catalogue->count && strcmp(catalogue->items[place]->name, name) == 0;
    if (there != entry->replaces) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%.200s: line %u: %s %s", file, entry->line, name,
                        there ? "is there already; write replaces: true if this one shall take its place"
                              : "replaces nothing: no earlier file has it");
    }
    if (!there) {
        memmove(catalogue->items + place + 1, catalogue->items + place,
                (catalogue->count - place) * sizeof *catalogue->items);
        catalogue->count++;
    }
    catalogue->items[place] = &entry->declaration;
    return COF_OK;
}

static cof_code take(struct catalogue *catalogue, struct cof_slice text, const char *file, struct cof_error *err)
{
    struct cof_error problem = {0};
    struct catalogue_entries entries = {0};
    if (catalogue_read(text, &catalogue->arena, &entries, &problem) != COF_OK) {
        return refuse(file, &problem, err);
    }
    const Coffer__V1__SecretDeclaration **grown = cof_arena_array(
        &catalogue->arena, catalogue->count + entries.count, sizeof(const Coffer__V1__SecretDeclaration *));
    if (grown == NULL) {
        return cof_arena_exhausted(err);
    }
    if (catalogue->count > 0) {
        memcpy(grown, catalogue->items, catalogue->count * sizeof *grown);
    }
    catalogue->items = grown;
    for (size_t i = 0; i < entries.count; i++) {
        TRY(add(catalogue, &entries.items[i], file, err));
    }
    return COF_OK;
}

static cof_code read_all(struct catalogue *catalogue, const char *const *files, size_t count, struct cof_error *err)
{
    TRY(take(catalogue, cof_slice_of(catalogue_builtin_file, catalogue_builtin_size), "integrations.yaml", err));
    for (size_t i = 0; i < count; i++) {
        struct cof_slice text = {0};
        TRY(cof_yaml_file_load("integrations.files", files[i], CATALOGUE_FILE_MAX, &catalogue->arena, &text, err));
        TRY(take(catalogue, text, files[i], err));
    }
    return COF_OK;
}

/* --- The catalogue -------------------------------------------------------------------------------------------- */

static void cleanup(struct catalogue **catalogue)
{
    catalogue_free(*catalogue);
}

cof_code catalogue_new(const char *const *files, size_t count, struct catalogue **ret_catalogue,
                       struct cof_error *err)
{
    if (count > FILES_MAX) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "integrations.files: at most %d", FILES_MAX);
    }
    AUTO(cleanup) struct catalogue *catalogue = calloc(1, sizeof *catalogue);
    const size_t memory = MEMORY + count * 8 * (size_t) CATALOGUE_FILE_MAX;
    if (catalogue == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(cof_pool_new(memory, COF_LOCK_NONE, &catalogue->pool, err));
    cof_arena_init(&catalogue->arena, catalogue->pool, memory);
    TRY(read_all(catalogue, files, count, err));
    *ret_catalogue = TAKE(catalogue);
    return COF_OK;
}

void catalogue_free(struct catalogue *catalogue)
{
    if (catalogue == NULL) {
        return;
    }
    if (catalogue->pool != NULL) {
        cof_arena_reset(&catalogue->arena);
        cof_pool_free(catalogue->pool);
    }
    free(catalogue);
}

size_t catalogue_count(const struct catalogue *catalogue)
{
    return catalogue == NULL ? 0 : catalogue->count;
}

const Coffer__V1__SecretDeclaration *catalogue_at(const struct catalogue *catalogue, size_t index)
{
    return catalogue->items[index];
}
