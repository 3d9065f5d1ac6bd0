#include "server/service/secret_keep.h"

/* What a call may be answered with from memory, on a thread that others wait for. */
enum { QUICK_ADDRESSES = 64, QUICK_BYTES = 256 * 1024 };

struct cache_key secret_keep_key(const struct cof_uuid *workspace, struct cof_slice environment,
                                 struct cof_slice name)
{
    return (struct cache_key){.kind = CACHE_SECRET, .workspace = *workspace, .parts = {environment, name}};
}

/* --- Finding -------------------------------------------------------------------------------------------------- */

static bool recall_all(struct cache *cache, const struct cof_uuid *workspace,
                       const struct secret_addresses *addresses, const struct cache_state *state,
                       struct secrets_recalled *recalled, size_t *ret_bytes)
{
    *ret_bytes = 0;
    for (size_t i = 0; i < addresses->count; i++) {
        const struct cache_key key = secret_keep_key(workspace, addresses->environments[i], addresses->names[i]);
        struct cache_entry *entry = cache_get(cache, &key, state);
        if (entry == NULL) {
            return false;
        }
        recalled->entries[recalled->count++] = entry;
        *ret_bytes += ((const struct secret_kept *) cache_content(entry))->sealed.len;
    }
    return true;
}

/* The workspace's older state, if it permits that age; an answer is as old as the older of the two that it comes from. */
static bool permitted_older(struct call *call, const struct cof_uuid *workspace, struct cache_state *ret_state,
                            int64_t *ret_older_us)
{
    struct cache_older older;
    if (!call->lost || !cache_older(call->service->cache, workspace, &older) || older.permitted_us == 0) {
        return false;
    }
    const bool caller_older = call->older_us != 0 && call->older_us < older.confirmed_us;
    *ret_older_us = caller_older ? call->older_us : older.confirmed_us;
    *ret_state = older.state;
    const bool outdated = cof_clock_monotonic(call->service->clock) - *ret_older_us > older.permitted_us;
    call->outdated = call->outdated || outdated;
    return !outdated;
}

bool kept_usable(struct call *call, const struct cof_uuid *workspace, uint64_t min_revision,
                 struct cache_state *ret_state, int64_t *ret_older_us)
{
    *ret_older_us = 0;
    if (call->older_us == 0 && cache_fresh(call->service->cache, workspace, ret_state)) {
        return ret_state->revision >= min_revision;
    }
    return min_revision == 0 && permitted_older(call, workspace, ret_state, ret_older_us);
}

bool secrets_recall(struct call *call, const struct cof_uuid *workspace, const struct secret_addresses *addresses,
                    uint64_t min_revision, struct secrets_recalled *ret_recalled)
{
    struct cache *cache = call->service->keeps_secrets ? call->service->cache : NULL;
    const bool quick = call->hurried;
    struct cache_state state;
    size_t bytes;
    *ret_recalled = (struct secrets_recalled){0};
    if (cache == NULL || (quick && addresses->count > QUICK_ADDRESSES) ||
        !kept_usable(call, workspace, min_revision, &state, &ret_recalled->older_us)) {
        return false;
    }
    ret_recalled->revision = state.revision;
    ret_recalled->entries = cof_arena_array(call->arena, addresses->count, sizeof(struct cache_entry *));
    if (ret_recalled->entries == NULL) {
        return false;
    }
    if (!recall_all(cache, workspace, addresses, &state, ret_recalled, &bytes) || (quick && bytes > QUICK_BYTES)) {
        secrets_release(ret_recalled);
        return false;
    }
    return true;
}

const struct secret_kept *secrets_recalled_at(const struct secrets_recalled *recalled, size_t index)
{
    return cache_content(recalled->entries[index]);
}

void secrets_release(struct secrets_recalled *recalled)
{
    for (size_t i = 0; i < recalled->count; i++) {
        cache_release(recalled->entries[i]);
    }
    recalled->count = 0;
}

/* --- Keeping -------------------------------------------------------------------------------------------------- */

static void flatten(struct secret_kept *kept, struct cof_flat *flat)
{
    struct secret_kept *copy = cof_flat_items(flat, kept, sizeof *kept);
    row_flatten(&secret_row_type, &copy->row, flat);
    cof_flat_slice(flat, &copy->sealed);
}

static void put(const struct service *service, const struct cache_state *state, const struct cache_key *key,
                struct secret_kept *kept)
{
    struct cof_flat flat = {NULL, 0};
    flatten(kept, &flat);
    struct cache_entry *entry = cache_entry_new(service->cache, key, state, flat.size);
    if (entry != NULL) {
        flat = (struct cof_flat){cache_content(entry), 0};
        flatten(kept, &flat);
        cache_put(service->cache, entry);
    }
}

bool secret_has_session_tags(const struct secret_row *row)
{
    for (size_t i = 0; i < row->tags.count; i++) {
        if (cof_slice_equal(row->tags.items[i], cof_slice_text("coffer:session-tags"))) {
            return true;
        }
    }
    return false;
}

void secret_keep(struct call *call, const struct cache_state *state, const struct secret_row *row,
                 const struct values *values)
{
    static const struct cof_slice none = {NULL, 0};
    const struct cache_key key = secret_keep_key(&row->workspace_id, row->environment, row->name);
    struct secret_kept kept = {.exists = true, .row = *row, .session_tags = secret_has_session_tags(row)};
    struct cof_error err;
    if (values_keep(call, row, values, &kept.sealed, &err) != COF_OK) {
        return;
    }
    kept.row.description = none;
    kept.row.tags = (struct row_texts){NULL, 0};
    kept.row.facts = none;
    kept.row.mac = none;
    put(call->service, state, &key, &kept);
}

void secret_keep_absence(const struct service *service, const struct cache_state *state,
                         const struct cof_uuid *workspace, struct cof_slice environment, struct cof_slice name)
{
    const struct cache_key key = secret_keep_key(workspace, environment, name);
    struct secret_kept kept = {.exists = false};
    put(service, state, &key, &kept);
}
