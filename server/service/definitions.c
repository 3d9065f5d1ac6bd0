#include <stdlib.h>
#include <string.h>

#include "common/name.h"
#include "server/service/action_row.h"
#include "server/service/authorize.h"
#include "server/service/catalogue.h"
#include "server/service/guard.h"
#include "server/service/integrations.h"
#include "server/service/page.h"
#include "server/service/resolve_asked.h"
#include "server/service/resolve_plan.h"

/* What integrations need: the catalogue and what the actions of a workspace declare, put together by name. */

enum { CELLS_MAX = 5000 /* definitions x environments that are looked at for one page */, KEYS_ROOM = 8 };

#define STATE(name) COFFER__V1__DEFINITION_STATE__DEFINITION_STATE_##name

typedef Coffer__V1__DefinitionState definition_state;

struct listing {
    struct call *call;
    const Coffer__V1__ListDefinitionsRequest *request;
    struct cof_uuid workspace;
    struct cof_slice after; /* names behind this one */
    struct cof_slice prefix;
    size_t page;
    Coffer__V1__Definition **items; /* sorted by name; one more than the page has, if there are more */
    size_t count;
    struct plan environments; /* of no item: those of the request */
    /* The call's arena is one of these for a while: */
    struct cof_arena *own;
    struct cof_arena passing; /* one action, or one secret */
};

/* --- Putting together ----------------------------------------------------------------------------------------- */

static bool is_listed(const struct listing *listing, struct cof_slice name)
{
    return cof_slice_compare(name, listing->after) > 0 && name.len >= listing->prefix.len &&
           cof_slice_equal(cof_slice_of(name.data, listing->prefix.len), listing->prefix);
}

static size_t place_of(const struct listing *listing, const char *name)
{
    size_t low = 0;
    size_t high = listing->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(listing->items[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The last one falls off where there are more than the page and one: it is found again by a later page. */
static cof_code insert(struct listing *listing, size_t place, const char *name, Coffer__V1__Definition **ret_made)
{
    Coffer__V1__Definition *made = cof_arena_alloc(listing->own, sizeof *made);
    if (made == NULL) {
        return cof_arena_exhausted(listing->call->err);
    }
    coffer__v1__definition__init(made);
    made->optional = true;
    made->name = cof_arena_text(listing->own, cof_slice_text(name));
    if (made->name == NULL) {
        return cof_arena_exhausted(listing->call->err);
    }
    listing->count -= listing->count == listing->page + 1;
    memmove(listing->items + place + 1, listing->items + place, (listing->count - place) * sizeof *listing->items);
    listing->items[place] = made;
    listing->count++;
    *ret_made = made;
    return COF_OK;
}

/* The definition of this name, a new one if there is none and `adds`; NULL if it is not on the page. */
static cof_code find(struct listing *listing, const char *name, bool adds, Coffer__V1__Definition **ret_found)
{
    const size_t place = place_of(listing, name);
    *ret_found = NULL;
    if (!is_listed(listing, cof_slice_text(name)) || place > listing->page) {
        return COF_OK;
    }
    if (place < listing->count && strcmp(listing->items[place]->name, name) == 0) {
        *ret_found = listing->items[place];
        return COF_OK;
    }
    return adds ? insert(listing, place, name, ret_found) : COF_OK;
}

static size_t index_of(char *const *keys, size_t count, const char *key)
{
    size_t index = 0;
    while (index < count && strcmp(keys[index], key) != 0) {
        index++;
    }
    return index;
}

/* Room grows by doubling: there is some wherever the count is no power of two. */
static cof_code add_key(const struct listing *listing, char ***keys, size_t *count, const char *key)
{
    struct call *call = listing->call;
    if (index_of(*keys, *count, key) < *count) {
        return COF_OK;
    }
    const bool full = *count == 0 || (*count >= KEYS_ROOM && (*count & (*count - 1)) == 0);
    if (full) {
        char **grown = cof_arena_array(listing->own, *count == 0 ? KEYS_ROOM : 2 * *count, sizeof(char *));
        if (grown == NULL) {
            return cof_arena_exhausted(call->err);
        }
        if (*count > 0) {
            memcpy(grown, *keys, *count * sizeof *grown);
        }
        *keys = grown;
    }
    char *copy = cof_arena_text(listing->own, cof_slice_text(key));
    if (copy == NULL) {
        return cof_arena_exhausted(call->err);
    }
    (*keys)[(*count)++] = copy;
    return COF_OK;
}

/* Required wins over optional; the first type that is given holds. Actions come before the catalogue, which decides whether
 * the secret may be missing only where no action does. */
static cof_code merge(struct listing *listing, const Coffer__V1__SecretDeclaration *declaration,
                      Coffer__V1__Definition *into)
{
    if (!into->in_catalogue || into->actions == 0) {
        into->optional = into->optional && declaration->optional;
    }
    if (into->type == COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED) {
        into->type = declaration->type;
    }
    for (size_t i = 0; i < declaration->n_keys; i++) {
        TRY(add_key(listing, &into->keys, &into->n_keys, declaration->keys[i]));
    }
    for (size_t i = 0; i < declaration->n_optional_keys; i++) {
        TRY(add_key(listing, &into->optional_keys, &into->n_optional_keys, declaration->optional_keys[i]));
    }
    return COF_OK;
}

/* With `used_only`, what it says of those that actions declare. */
static cof_code take_catalogue(struct listing *listing)
{
    const struct catalogue *catalogue = listing->call->service->catalogue;
    for (size_t i = 0; i < catalogue_count(catalogue); i++) {
        const Coffer__V1__SecretDeclaration *declaration = catalogue_at(catalogue, i);
        Coffer__V1__Definition *definition;
        TRY(find(listing, declaration->name, !listing->request->used_only, &definition));
        if (definition != NULL) {
            definition->in_catalogue = true;
            TRY(merge(listing, declaration, definition));
        }
    }
    return COF_OK;
}

/* An action may declare one secret in several ways, and counts once. */
static bool declared_before(const Coffer__V1__ActionDeclarations *declarations, size_t index)
{
    const char *name = declarations->secrets[index]->name;
    for (size_t i = 0; i < index; i++) {
        const char *before = declarations->secrets[i]->name;
        if (strcmp(before, name) == 0) {
            return true;
        }
    }
    return false;
}

static cof_code take_declarations(struct listing *listing, const Coffer__V1__ActionDeclarations *declarations)
{
    for (size_t i = 0; i < declarations->n_secrets; i++) {
        Coffer__V1__Definition *definition;
        TRY(find(listing, declarations->secrets[i]->name, true, &definition));
        if (definition != NULL) {
            definition->actions += !declared_before(declarations, i);
            TRY(merge(listing, declarations->secrets[i], definition));
        }
    }
    return COF_OK;
}

static cof_code read_declarations(struct listing *listing, const struct rows *rows, size_t index,
                                  Coffer__V1__ActionDeclarations **ret_declarations)
{
    struct call *call = listing->call;
    struct action_row row = {0};
    TRY(row_read(&action_row_type, rows, index, 0, call->arena, &row, call->err));
    TRY(guard_check_row(call, &action_row_type, &listing->workspace, &row));
    return action_declarations(call, &row, ret_declarations);
}

/* One that is damaged declares nothing, and keeps no other from being counted. */
static cof_code take_action(struct listing *listing, const struct rows *rows, size_t index, uint32_t *damaged)
{
    struct call *call = listing->call;
    Coffer__V1__ActionDeclarations *declarations = NULL;
    call->arena = &listing->passing;
    cof_code code = read_declarations(listing, rows, index, &declarations);
    call->arena = listing->own;
    if (code == COF_OK) {
        code = take_declarations(listing, declarations);
    } else if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        (*damaged)++;
        code = COF_OK;
    }
    cof_arena_reset(&listing->passing);
    return code;
}

static cof_code take_actions(struct listing *listing, uint32_t *ret_damaged)
{
    struct call *call = listing->call;
    const struct param params[] = {param_uuid(&listing->workspace)};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_queue(call->session, STATEMENT_ACTION_ALL, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    for (size_t i = 0; i < rows_count(rows); i++) {
        TRY(take_action(listing, rows, i, ret_damaged));
    }
    return COF_OK;
}

/* A key that is required somewhere is no optional one. */
static void drop_required(Coffer__V1__Definition *definition)
{
    size_t kept = 0;
    for (size_t i = 0; i < definition->n_optional_keys; i++) {
        if (index_of(definition->keys, definition->n_keys, definition->optional_keys[i]) == definition->n_keys) {
            definition->optional_keys[kept++] = definition->optional_keys[i];
        }
    }
    definition->n_optional_keys = kept;
}

/* --- Looking into environments -------------------------------------------------------------------------------- */

static bool is_filled(const struct found *found, const char *key)
{
    const struct value *value = values_find(&found->values, cof_slice_text(key));
    return value != NULL && !values_blank(value->bytes);
}

/* The required keys that are not there; where none is required, and one has to be, all optional ones if none is. */
static cof_code find_missing(struct listing *listing, const Coffer__V1__Definition *definition,
                             const struct found *found, Coffer__V1__DefinitionCoverage *coverage)
{
    const bool one_of = definition->n_keys == 0 && !definition->optional;
    char *const *keys = one_of ? definition->optional_keys : definition->keys;
    const size_t count = one_of ? definition->n_optional_keys : definition->n_keys;
    coverage->missing_keys = cof_arena_array(listing->own, count, sizeof(char *));
    if (coverage->missing_keys == NULL) {
        return cof_arena_exhausted(listing->call->err);
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_filled(found, keys[i])) {
            coverage->missing_keys[coverage->n_missing_keys++] = keys[i];
        }
    }
    if (one_of && coverage->n_missing_keys < count) {
        coverage->n_missing_keys = 0;
    }
    return COF_OK;
}

/* Its values are opened for this look alone. */
static cof_code look(struct listing *listing, struct plan *plan, const Coffer__V1__Definition *definition,
                     struct cof_slice environment, Coffer__V1__DefinitionCoverage *coverage)
{
    struct found *found = NULL;
    TRY(plan_find(listing->call, plan, environment, cof_slice_text(definition->name), &found));
    if (found == NULL) {
        coverage->state = STATE(ABSENT);
        return COF_OK;
    }
    if (found->state != OUTCOME(RESOLVED)) {
        coverage->state = found->state == OUTCOME(SECRET_EXPIRED) ? STATE(EXPIRED) : STATE(CORRUPTED);
        return COF_OK;
    }
    if (definition->type != COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED &&
        (int32_t) definition->type != found->row.type) {
        coverage->state = STATE(WRONG_TYPE);
        return COF_OK;
    }
    TRY(find_missing(listing, definition, found, coverage));
    coverage->state = coverage->n_missing_keys == 0 ? STATE(COMPLETE) : STATE(INCOMPLETE);
    return COF_OK;
}

static bool sees(const struct listing *listing, struct cof_slice environment, const char *name)
{
    return authorize_sees(listing->call, &listing->workspace, environment, cof_slice_text(name),
                          COF_PERMISSION_SECRET_READ);
}

static cof_code cover_one(struct listing *listing, struct plan *plan, Coffer__V1__Definition *definition,
                          struct cof_slice environment)
{
    struct call *call = listing->call;
    Coffer__V1__DefinitionCoverage *coverage = cof_arena_alloc(listing->own, sizeof *coverage);
    if (coverage == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__definition_coverage__init(coverage);
    coverage->environment = cof_arena_text(listing->own, environment);
    if (coverage->environment == NULL) {
        return cof_arena_exhausted(call->err);
    }
    definition->environments[definition->n_environments++] = coverage;
    if (!sees(listing, environment, definition->name)) {
        coverage->state = STATE(HIDDEN);
        return COF_OK;
    }
    call->arena = &listing->passing;
    const cof_code code = look(listing, plan, definition, environment, coverage);
    call->arena = listing->own;
    cof_arena_reset(&listing->passing);
    return code;
}

static cof_code cover(struct listing *listing, struct plan *plan)
{
    for (size_t i = 0; i < listing->count; i++) {
        Coffer__V1__Definition *definition = listing->items[i];
        definition->environments = cof_arena_array(listing->own, listing->environments.environment_count,
                                                   sizeof *definition->environments);
        if (definition->environments == NULL) {
            return cof_arena_exhausted(listing->call->err);
        }
        for (size_t k = 0; k < listing->environments.environment_count; k++) {
            TRY(cover_one(listing, plan, definition, listing->environments.environments[k]));
        }
    }
    return COF_OK;
}

/* What the caller may not see is not read. */
static cof_code list_addresses(const struct listing *listing, struct secret_addresses *ret_addresses)
{
    struct call *call = listing->call;
    const struct plan *environments = &listing->environments;
    TRY(secret_addresses_new(call->arena, listing->count * environments->environment_count + 1, ret_addresses,
                             call->err));
    for (size_t i = 0; i < listing->count; i++) {
        for (size_t k = 0; k < environments->environment_count; k++) {
            const char *name = listing->items[i]->name;
            if (sees(listing, environments->environments[k], name)) {
                secret_addresses_add(ret_addresses, environments->environments[k], cof_slice_text(name));
            }
        }
    }
    if (ret_addresses->count == 0) {
        secret_addresses_add(ret_addresses, cof_slice_text(COF_DEFAULT_ENVIRONMENT), cof_slice_text(""));
    }
    return COF_OK;
}

/* All of a page comes from one state. */
static cof_code read_and_cover(struct listing *listing, struct plan *plan)
{
    struct call *call = listing->call;
    struct secret_addresses addresses = {0};
    TRY(list_addresses(listing, &addresses));
    TRY(plan_queue_these(call, plan, &addresses));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &plan->read.rows, call->err));
    TRY(plan_take(call, plan));
    TRY(guard_load_keys(call, &plan->workspace));
    plan->keeps = false;
    return cover(listing, plan);
}

static cof_code cover_page(struct listing *listing)
{
    struct plan plan = {.workspace = listing->workspace};
    if (listing->environments.environment_count == 0 || listing->count == 0) {
        return COF_OK;
    }
    const cof_code code = read_and_cover(listing, &plan);
    plan_done(&plan);
    return code;
}

/* --- The method ----------------------------------------------------------------------------------------------- */

static cof_code read_environments(struct listing *listing)
{
    struct call *call = listing->call;
    const Coffer__V1__ListDefinitionsRequest *request = listing->request;
    const uint32_t limit = call->service->limits.environments_per_item;
    if (request->n_environments == 0) {
        return COF_OK;
    }
    if (request->n_environments > limit) {
        return asked_too_many(call, "environments", "environments", request->n_environments, limit);
    }
    TRY(plan_environments(call, request->environments, request->n_environments, &listing->environments));
    return plan_check_environments(call, &listing->environments);
}

static size_t fitting_page(const struct listing *listing)
{
    const size_t asked = page_size(listing->call, listing->request->page_size);
    const size_t environments = listing->environments.environment_count;
    const size_t most = environments == 0 ? asked : CELLS_MAX / environments;
    return asked < most ? asked : most;
}

static cof_code gather(struct listing *listing, uint32_t *ret_damaged)
{
    listing->items = cof_arena_array(listing->own, listing->page + 2, sizeof *listing->items);
    if (listing->items == NULL) {
        return cof_arena_exhausted(listing->call->err);
    }
    TRY(take_actions(listing, ret_damaged));
    TRY(take_catalogue(listing));
    for (size_t i = 0; i < listing->count; i++) {
        drop_required(listing->items[i]);
    }
    return COF_OK;
}

static cof_code answer(struct listing *listing, Coffer__V1__ListDefinitionsResponse *response)
{
    const bool more = listing->count > listing->page;
    listing->count -= more;
    TRY(cover_page(listing));
    response->definitions = listing->items;
    response->n_definitions = listing->count;
    if (!more) {
        return COF_OK;
    }
    const struct page_position last = {.parts = {cof_slice_text(listing->items[listing->count - 1]->name)}};
    return page_make(listing->call, PAGE_DEFINITIONS, &last, &response->next_page_token);
}

cof_code definition_list(struct call *call, const Coffer__V1__ListDefinitionsRequest *request,
                         Coffer__V1__ListDefinitionsResponse *response)
{
    const struct address *address;
    struct page_position position;
    struct listing listing = {
        .call = call,
        .request = request,
        .prefix = cof_slice_text(request->name_prefix),
        .own = call->arena,
    };
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_INTEGRATION_READ, &address));
    TRY(page_read(call, PAGE_DEFINITIONS, request->page_token, &position));
    TRY(read_environments(&listing));
    TRY(guard_load_keys(call, address_workspace(address)));
    listing.workspace = *address_workspace(address);
    listing.after = position.parts[0];
    listing.page = fitting_page(&listing);
    cof_arena_init(&listing.passing, call->arena->pool, call->arena->limit / 4 * COF_ARENA_CHUNK);
    TRY(gather(&listing, &response->corrupted_actions));
    return answer(&listing, response);
}
