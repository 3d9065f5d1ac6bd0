#include "server/service/action_keep.h"

static struct cache_key key_of(const struct cof_uuid *workspace, struct cof_slice name)
{
    return (struct cache_key){.kind = CACHE_ACTION, .workspace = *workspace, .parts = {name, {NULL, 0}}};
}

struct cache_entry *action_recall(const struct service *service, const struct cache_state *state,
                                  const struct cof_uuid *workspace, struct cof_slice name)
{
    const struct cache_key key = key_of(workspace, name);
    return cache_get(service->cache, &key, state);
}

static void flatten(struct action_kept *kept, struct cof_flat *flat)
{
    struct action_kept *copy = cof_flat_items(flat, kept, sizeof *kept);
    row_flatten(&action_row_type, &copy->row, flat);
}

void action_keep(const struct service *service, const struct cache_state *state, const struct cof_uuid *workspace,
                 struct cof_slice name, const struct action_row *row)
{
    static const struct cof_slice none = {NULL, 0};
    const struct cache_key key = key_of(workspace, name);
    struct action_kept kept = {.exists = row != NULL};
    struct cof_flat flat = {NULL, 0};
    if (row != NULL) {
        kept.row = *row;
        kept.row.digest = none;
        kept.row.mac = none;
    }
    flatten(&kept, &flat);
    struct cache_entry *entry = cache_entry_new(service->cache, &key, state, flat.size);
    if (entry != NULL) {
        flat = (struct cof_flat){cache_content(entry), 0};
        flatten(&kept, &flat);
        cache_put(service->cache, entry);
    }
}
