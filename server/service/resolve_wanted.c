#include "server/service/resolve_wanted.h"

#include <assert.h>
#include <stdlib.h>

#include "common/name.h"

enum {
    SUFFIX = sizeof "_oauth" - 1,
    READ_AT_ONCE = 1000, /* connections; of one environment at least */
};

struct wanted_connections {
    struct cof_uuid workspace;
    bool check_only;
    struct wanted *wanted; /* sorted, each once */
    size_t wanted_count;
    const struct cof_slice *environments;
    size_t environment_count;
    size_t at; /* the environment that was asked for last */
    /* The environments that were read last. */
    size_t first;
    size_t end;
    struct rows *rows;           /* one for each environment and connection */
    struct oauth_token **tokens; /* as many; NULL for a check */
};

/* --- Names ---------------------------------------------------------------------------------------------------- */

static bool upper_equal(struct cof_slice lower, struct cof_slice upper)
{
    if (lower.len != upper.len) {
        return false;
    }
    for (size_t i = 0; i < lower.len; i++) {
        const uint8_t byte = lower.data[i];
        if (upper.data[i] != (byte >= 'a' && byte <= 'z' ? (uint8_t) (byte - 'a' + 'A') : byte)) {
            return false;
        }
    }
    return true;
}

/* Whether the key is the provider's ID in upper case with `end` behind it. */
static bool key_is(struct cof_slice key, struct cof_slice provider, const char *end)
{
    const struct cof_slice tail = cof_slice_text(end);
    return key.len == provider.len + tail.len && upper_equal(provider, cof_slice_of(key.data, provider.len)) &&
           cof_slice_equal(cof_slice_of(key.data + provider.len, tail.len), tail);
}

bool wanted_of(struct cof_slice name, struct cof_slice key, struct wanted *ret_wanted)
{
    const struct cof_slice provider = cof_slice_of(name.data, name.len - SUFFIX);
    const bool user = key_is(key, provider, "_USER_TOKEN");
    *ret_wanted = (struct wanted){name, provider, user ? CONNECTION_USER : CONNECTION_SERVICE};
    return user || key_is(key, provider, "_SERVICE_TOKEN");
}

static int by_provider(const void *a, const void *b)
{
    const struct wanted *left = a;
    const struct wanted *right = b;
    const int order = cof_slice_compare(left->provider, right->provider);
    return order != 0 ? order : (left->token_class > right->token_class) - (left->token_class < right->token_class);
}

/* --- What is wanted ------------------------------------------------------------------------------------------- */

/* Those that mean something; nothing is kept where `to` is NULL. */
static size_t list_wanted(const struct asked *asked, struct wanted *to)
{
    size_t count = 0;
    for (size_t i = 0; i < asked->count; i++) {
        struct wanted wanted;
        const struct cof_slice name = cof_slice_text(asked->references[i]->name);
        if (cof_name_reserved(name) && cof_name_valid(COF_NAME_SECRET, name) &&
            wanted_of(name, cof_slice_text(asked->references[i]->key), &wanted)) {
            if (to != NULL) {
                to[count] = wanted;
            }
            count++;
        }
    }
    return count;
}

static size_t count_wanted(const struct plan *const *plans, size_t count)
{
    size_t wanted = 0;
    for (size_t i = 0; i < count; i++) {
        wanted += list_wanted(&plans[i]->asked, NULL);
    }
    return wanted;
}

static void sort_unique(struct wanted_connections *connections)
{
    size_t kept = 0;
    struct wanted *wanted = connections->wanted;
    qsort(wanted, connections->wanted_count, sizeof *wanted, by_provider);
    for (size_t i = 0; i < connections->wanted_count; i++) {
        if (kept == 0 || by_provider(&wanted[kept - 1], &wanted[i]) != 0) {
            wanted[kept++] = wanted[i];
        }
    }
    connections->wanted_count = kept;
}

cof_code wanted_new(struct call *call, const struct plan *const *plans, size_t count,
                    const struct cof_slice *environments, size_t environment_count,
                    struct wanted_connections **ret_connections)
{
    struct wanted_connections *connections = cof_arena_alloc(call->arena, sizeof *connections);
    struct wanted *wanted = cof_arena_array(call->arena, count_wanted(plans, count), sizeof *wanted);
    if (connections == NULL || wanted == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *connections = (struct wanted_connections){
        .workspace = plans[0]->workspace,
        .check_only = plans[0]->check_only,
        .wanted = wanted,
        .environments = environments,
        .environment_count = environment_count,
    };
    for (size_t i = 0; i < count; i++) {
        connections->wanted_count += list_wanted(&plans[i]->asked, &wanted[connections->wanted_count]);
    }
    sort_unique(connections);
    *ret_connections = connections;
    return COF_OK;
}

void wanted_done(struct wanted_connections *connections)
{
    if (connections != NULL) {
        rows_free(connections->rows);
        connections->rows = NULL;
    }
}

/* --- Places --------------------------------------------------------------------------------------------------- */

/* Results are made environment by environment, so the search begins with the last one. */
static size_t environment_at(const struct wanted_connections *connections, struct cof_slice environment)
{
    const size_t count = connections->environment_count;
    size_t at = connections->at;
    for (size_t i = 0; i < count && !cof_slice_equal(connections->environments[at], environment); i++) {
        at = at + 1 < count ? at + 1 : 0;
    }
    assert(cof_slice_equal(connections->environments[at], environment));
    return at;
}

static size_t wanted_at(const struct wanted_connections *connections, const struct wanted *wanted)
{
    const struct wanted *found =
        bsearch(wanted, connections->wanted, connections->wanted_count, sizeof *connections->wanted, by_provider);
    assert(found != NULL);
    return (size_t) (found - connections->wanted);
}

static void set_place(const struct wanted_connections *connections, const struct wanted *wanted,
                      struct wanted_place *ret_place)
{
    const size_t before = (connections->at - connections->first) * connections->wanted_count;
    const size_t index = before + wanted_at(connections, wanted);
    *ret_place = (struct wanted_place){
        .rows = connections->rows,
        .index = index,
        .token = connections->tokens == NULL ? NULL : &connections->tokens[index],
    };
}

bool wanted_known(struct wanted_connections *connections, struct cof_slice environment, const struct wanted *wanted,
                  struct wanted_place *ret_place)
{
    connections->at = environment_at(connections, environment);
    if (connections->rows == NULL || connections->at < connections->first || connections->at >= connections->end) {
        return false;
    }
    set_place(connections, wanted, ret_place);
    return true;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* What is not to be seen stands there without a provider, which nothing has. */
static void list_places(struct call *call, const struct wanted_connections *connections,
                        struct refresh_place *places)
{
    for (size_t k = connections->first; k < connections->end; k++) {
        for (size_t i = 0; i < connections->wanted_count; i++) {
            const struct wanted *wanted = &connections->wanted[i];
            const bool sees = authorize_sees(call, &connections->workspace, connections->environments[k],
                                             wanted->name, COF_PERMISSION_RESOLVE);
            *places++ = (struct refresh_place){
                .environment = connections->environments[k],
                .provider = sees ? wanted->provider : cof_slice_text(""),
                .token_class = wanted->token_class,
            };
        }
    }
}

static size_t environments_at_once(const struct wanted_connections *connections)
{
    const size_t fit = READ_AT_ONCE / connections->wanted_count;
    const size_t left = connections->environment_count - connections->at;
    const size_t some = fit == 0 ? 1 : fit;
    return some < left ? some : left;
}

static cof_code read_window(struct call *call, struct wanted_connections *connections)
{
    const size_t environments = environments_at_once(connections);
    const size_t count = environments * connections->wanted_count;
    struct refresh_place *places = cof_arena_array(call->arena, count, sizeof *places);
    wanted_done(connections);
    if (!connections->check_only) {
        connections->tokens = cof_arena_array(call->arena, count, sizeof(struct oauth_token *));
    }
    if (places == NULL || (connections->tokens == NULL && !connections->check_only)) {
        return cof_arena_exhausted(call->err);
    }
    connections->first = connections->at;
    connections->end = connections->at + environments;
    list_places(call, connections, places);
    return refresh_rows_look(call, &connections->workspace, places, count, &connections->rows);
}

cof_code wanted_read(struct call *call, struct wanted_connections *connections, struct cof_slice environment,
                     const struct wanted *wanted, struct wanted_place *ret_place)
{
    connections->at = environment_at(connections, environment);
    TRY(read_window(call, connections));
    set_place(connections, wanted, ret_place);
    return COF_OK;
}
