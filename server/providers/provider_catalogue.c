#include "server/providers/provider_catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "common/attr.h"
#include "common/yaml_tree.h"
#include "server/providers/provider_file.h"

enum { MEMORY = 8 << 20, FILES_MAX = 64 };

struct provider_catalogue {
    struct cof_pool *pool;
    struct cof_arena arena;
    const struct provider **providers; /* sorted by ID */
    size_t count;
};

extern const uint8_t provider_builtin_file[];
extern const size_t provider_builtin_size;

/* Like a failure of the settings, since it is one: the file first. */
static cof_code refuse(const char *file, const struct cof_error *problem, struct cof_error *err)
{
    return problem->reason == COF_REASON_FILE_INVALID
               ? cof_fail(err, COF_REASON_CONFIG_INVALID, "%.200s: %s", file, problem->message)
               : cof_fail(err, problem->reason, "%.200s: %s", file, problem->message);
}

static size_t place_of(const struct provider_catalogue *catalogue, const char *id)
{
    size_t place = 0;
    while (place < catalogue->count && strcmp(catalogue->providers[place]->id, id) < 0) {
        place++;
    }
    return place;
}

static cof_code add(struct provider_catalogue *catalogue, const struct provider_entry *entry, const char *file,
                    struct cof_error *err)
{
    const size_t place = place_of(catalogue, entry->provider.id);
    const bool there = place < catalogue->count && strcmp(catalogue->providers[place]->id, entry->provider.id) == 0;
    if (there != entry->replaces) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%.200s: line %u: %s %s", file, entry->line,
                        entry->provider.id,
                        there ? "is there already; write replaces: true if this entry shall take its place"
                              : "replaces nothing: no earlier file has it");
    }
    if (!there) {
        memmove(catalogue->providers + place + 1, catalogue->providers + place,
                (catalogue->count - place) * sizeof *catalogue->providers);
        catalogue->count++;
    }
    catalogue->providers[place] = &entry->provider;
    return COF_OK;
}

static cof_code take_entries(struct provider_catalogue *catalogue, struct cof_slice text, const char *file,
                             struct cof_error *err)
{
    struct cof_error problem = {0};
    struct provider_entries entries = {0};
    if (provider_file_read(text, &catalogue->arena, &entries, &problem) != COF_OK) {
        return refuse(file, &problem, err);
    }
    const struct provider **grown =
        cof_arena_array(&catalogue->arena, catalogue->count + entries.count, sizeof(const struct provider *));
    if (grown == NULL) {
        return cof_arena_exhausted(err);
    }
    if (catalogue->count > 0) {
        memcpy(grown, catalogue->providers, catalogue->count * sizeof *grown);
    }
    catalogue->providers = grown;
    for (size_t i = 0; i < entries.count; i++) {
        TRY(add(catalogue, &entries.items[i], file, err));
    }
    return COF_OK;
}

static cof_code read_all(struct provider_catalogue *catalogue, const char *const *files, size_t count,
                         struct cof_error *err)
{
    TRY(take_entries(catalogue, cof_slice_of(provider_builtin_file, provider_builtin_size), "providers.yaml", err));
    for (size_t i = 0; i < count; i++) {
        struct cof_slice text = {0};
        TRY(cof_yaml_file_load("providers.files", files[i], PROVIDER_FILE_MAX, &catalogue->arena, &text, err));
        TRY(take_entries(catalogue, text, files[i], err));
    }
    return COF_OK;
}

static void cleanup(struct provider_catalogue **catalogue)
{
    provider_catalogue_free(*catalogue);
}

cof_code provider_catalogue_new(const char *const *files, size_t count, struct provider_catalogue **ret_catalogue,
                                struct cof_error *err)
{
    if (count > FILES_MAX) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "providers.files: at most %d", FILES_MAX);
    }
    AUTO(cleanup) struct provider_catalogue *catalogue = calloc(1, sizeof *catalogue);
    const size_t memory = MEMORY + count * 4 * (size_t) PROVIDER_FILE_MAX;
    if (catalogue == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(cof_pool_new(memory, COF_LOCK_NONE, &catalogue->pool, err));
    cof_arena_init(&catalogue->arena, catalogue->pool, memory);
    TRY(read_all(catalogue, files, count, err));
    *ret_catalogue = TAKE(catalogue);
    return COF_OK;
}

void provider_catalogue_free(struct provider_catalogue *catalogue)
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

const struct provider *provider_catalogue_find(const struct provider_catalogue *catalogue, const char *id)
{
    const size_t place = place_of(catalogue, id);
    return place < catalogue->count && strcmp(catalogue->providers[place]->id, id) == 0
               ? catalogue->providers[place]
               : NULL;
}

size_t provider_catalogue_count(const struct provider_catalogue *catalogue)
{
    return catalogue->count;
}

const struct provider *provider_catalogue_at(const struct provider_catalogue *catalogue, size_t index)
{
    return catalogue->providers[index];
}
