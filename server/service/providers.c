#include "server/service/providers.h"

#include <assert.h>
#include <stdlib.h>

#include "common/attr.h"
#include "common/name.h"
#include "server/providers/provider_catalogue.h"
#include "server/providers/provider_id.h"
#include "server/service/authorize.h"
#include "server/service/expected_uid.h"
#include "server/service/field_mask.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/provider_row.h"
#include "server/service/provider_write.h"
#include "server/service/registry_write.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

static cof_code not_found(struct call *call, const char *id)
{
    return cof_fail(call->err, COF_REASON_PROVIDER_NOT_FOUND, "there is no provider \"%s\"; %s", id,
                    cof_reason_next_step(COF_REASON_PROVIDER_NOT_FOUND));
}

/* Any ID could be looked for, but none of another form can be there. */
cof_code provider_check_id(struct call *call, const char *id)
{
    static const char bytes[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    if (id[0] == '\0') {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "id", "id is empty; name a provider");
    }
    return id[strspn(id, bytes)] == '\0' && strlen(id) <= PROVIDER_ID_MAX
               ? COF_OK
               : cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "id",
                                "id must be 1 to %d of a-z, 0-9 and \"_\"", PROVIDER_ID_MAX);
}

cof_code provider_queue(struct call *call, const struct cof_uuid *workspace, const char *id, statement number)
{
    const struct param params[] = {param_uuid(workspace), param_text(cof_slice_text(id))};
    return session_queue(call->session, number, params, COF_COUNT(params), call->err);
}

cof_code provider_record(struct call *call, struct write *write, const struct provider_row *row,
                         Coffer__Audit__V1__Effect effect)
{
    const struct cof_slice none = {NULL, 0};
    Coffer__Audit__V1__Object *object = NULL;
    TRY(write_object(call, write, "provider", &row->provider_id, none, row->provider, &object));
    object->effect = effect;
    return COF_OK;
}

/* What a damaged row still says: which one it is. */
static cof_code damaged_message(struct call *call, const struct provider_row *row,
                                Coffer__V1__Provider **ret_message)
{
    Coffer__V1__Provider *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__provider__init(message);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->id = text_of(call->arena, row->provider);
    message->uid = text_of_uuid(call->arena, &row->provider_id);
    message->corrupted = true;
    *ret_message = message;
    return message->workspace == NULL || message->id == NULL || message->uid == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

/* --- What others need ----------------------------------------------------------------------------------------- */

static cof_code read_row(struct call *call, const struct provider_stored *stored, struct provider_row *row,
                         struct provider *ret_provider)
{
    TRY(row_read(&provider_row_type, stored->rows, stored->index, stored->column, call->arena, row, call->err));
    TRY(guard_check_row(call, &provider_row_type, &row->workspace_id, row));
    return provider_of_row(call, row, ret_provider);
}

static bool is_there(const struct provider_stored *stored)
{
    return stored->index < rows_count(stored->rows) && !rows_null(stored->rows, stored->index, stored->column);
}

cof_code provider_take(struct call *call, const struct cof_uuid *workspace, const struct provider_stored *stored,
                       const char *id, struct provider_found *ret_found)
{
    struct provider_row row;
    if (!is_there(stored)) {
        const struct provider *builtin = provider_catalogue_find(call->service->providers, id);
        if (builtin == NULL) {
            return not_found(call, id);
        }
        *ret_found = (struct provider_found){.provider = *builtin};
        return COF_OK;
    }
    TRY(read_row(call, stored, &row, &ret_found->provider));
    assert(cof_uuid_equal(&row.workspace_id, workspace));
    ret_found->generation = (uint64_t) row.generation;
    return COF_OK;
}

cof_code provider_get(struct call *call, const struct cof_uuid *workspace, const char *id,
                      struct provider_found *ret_found)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(provider_queue(call, workspace, id, STATEMENT_PROVIDER_GET));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    const struct provider_stored stored = {.rows = rows};
    return provider_take(call, workspace, &stored, id, ret_found);
}

/* --- Get ------------------------------------------------------------------------------------------------------ */

/* One that is damaged keeps no other from being shown. */
static cof_code show(struct call *call, const struct rows *rows, size_t index, Coffer__V1__Provider **ret_message)
{
    struct provider_row row;
    struct provider provider;
    const struct provider_stored stored = {.rows = rows, .index = index};
    TRY(row_read(&provider_row_type, rows, index, 0, call->arena, &row, call->err));
    const cof_code code = read_row(call, &stored, &row, &provider);
    if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        return damaged_message(call, &row, ret_message);
    }
    TRY(code);
    return provider_message(call, &provider, &row, ret_message);
}

cof_code provider_show(struct call *call, const Coffer__V1__GetProviderRequest *request,
                       Coffer__V1__GetProviderResponse *response)
{
    const struct address *address = NULL;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_CONNECTION_READ, &address));
    TRY(provider_check_id(call, request->id));
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(provider_queue(call, address_workspace(address), request->id, STATEMENT_PROVIDER_GET));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 1) {
        return show(call, rows, 0, &response->provider);
    }
    const struct provider *builtin = provider_catalogue_find(call->service->providers, request->id);
    return builtin == NULL ? not_found(call, request->id)
                           : provider_message(call, builtin, NULL, &response->provider);
}

/* --- List ----------------------------------------------------------------------------------------------------- */

struct listing {
    const Coffer__V1__ListProvidersRequest *request;
    const char *after;
    size_t size;
    const struct rows *rows; /* of the workspace, behind `after` */
    size_t row;
    size_t builtin; /* the next one of the catalogue */
};

/* The order of the next of either kind; a workspace's own comes in the place of a built-in one of its ID. */
static cof_code add_next(struct call *call, struct listing *listing, Coffer__V1__ListProvidersResponse *response,
                         bool *ret_found)
{
    const struct provider_catalogue *catalogue = call->service->providers;
    Coffer__V1__Provider **place = &response->providers[response->n_providers];
    const bool has_row = listing->row < rows_count(listing->rows);
    const bool has_builtin = !listing->request->own_only && listing->builtin < provider_catalogue_count(catalogue);
    const struct provider *builtin = has_builtin ? provider_catalogue_at(catalogue, listing->builtin) : NULL;
    const struct cof_slice id = has_row ? rows_bytes(listing->rows, listing->row, 1) : cof_slice_of(NULL, 0);
    const int order = builtin == NULL ? 1 : !has_row ? -1 : cof_slice_compare(cof_slice_text(builtin->id), id);
    *ret_found = has_row || has_builtin;
    if (!*ret_found) {
        return COF_OK;
    }
    if (order < 0) {
        TRY(provider_message(call, builtin, NULL, place));
    } else {
        TRY(show(call, listing->rows, listing->row, place));
    }
    listing->builtin += order <= 0;
    listing->row += order >= 0;
    response->n_providers++;
    return COF_OK;
}

static cof_code fill_page(struct call *call, struct listing *listing, Coffer__V1__ListProvidersResponse *response)
{
    const struct provider_catalogue *catalogue = call->service->providers;
    bool found = true;
    response->providers = cof_arena_array(call->arena, listing->size, sizeof *response->providers);
    if (response->providers == NULL) {
        return cof_arena_exhausted(call->err);
    }
    while (listing->builtin < provider_catalogue_count(catalogue) &&
           strcmp(provider_catalogue_at(catalogue, listing->builtin)->id, listing->after) <= 0) {
        listing->builtin++;
    }
    while (found && response->n_providers < listing->size) {
        TRY(add_next(call, listing, response, &found));
    }
    return COF_OK;
}

cof_code provider_list(struct call *call, const Coffer__V1__ListProvidersRequest *request,
                       Coffer__V1__ListProvidersResponse *response)
{
    const struct address *address = NULL;
    struct page_position position = {0};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct listing listing = {.request = request, .size = page_size(call, request->page_size)};
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_CONNECTION_READ, &address));
    TRY(page_read(call, PAGE_PROVIDERS, request->page_token, &position));
    TRY(guard_load_keys(call, address_workspace(address)));
    listing.after = text_of(call->arena, position.parts[0]);
    if (listing.after == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const struct param params[] = {param_uuid(address_workspace(address)), param_text(position.parts[0]),
                                   param_i64((int64_t) listing.size)};
    TRY(session_queue(call->session, STATEMENT_PROVIDER_LIST, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    listing.rows = rows;
    TRY(fill_page(call, &listing, response));
    if (response->n_providers < listing.size) {
        return COF_OK;
    }
    const struct page_position last = {
        .parts = {cof_slice_text(response->providers[response->n_providers - 1]->id)}};
    return page_make(call, PAGE_PROVIDERS, &last, &response->next_page_token);
}

/* --- Create --------------------------------------------------------------------------------------------------- */

struct creation {
    struct write write;
    const Coffer__V1__CreateProviderRequest *request;
    struct provider provider;
    struct provider_row row;
    Coffer__V1__CreateProviderResponse *response;
};

/* The registry's lock: two that are made of the same name at once get different IDs. */
static cof_code look_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    const struct param params[] = {param_uuid(&creation->write.workspace)};
    TRY(registry_look(call, &creation->write.workspace));
    return session_queue(call->session, STATEMENT_PROVIDER_IDS, params, COF_COUNT(params), call->err);
}

static bool is_taken(const char *id, const void *context)
{
    const struct rows *rows = context;
    for (size_t i = 0; i < rows_count(rows); i++) {
        if (cof_slice_equal(rows_bytes(rows, i, 0), cof_slice_text(id))) {
            return true;
        }
    }
    return false;
}

cof_code provider_new_id(struct call *call, const struct rows *ids, const char *name, const char **ret_id)
{
    return provider_id_make(name, is_taken, ids, call->arena, ret_id, call->err);
}

cof_code provider_new_row(struct call *call, const struct cof_uuid *workspace, const struct rows *ids,
                          const struct provider *provider, struct provider_row *ret_row)
{
    const uint32_t limit = call->service->limits.providers_per_workspace;
    if (rows_count(ids) >= limit) {
        return cof_fail_field(
            call->err, COF_REASON_LIMIT_EXCEEDED, "name",
            "the workspace has %u providers of its own, and more are not allowed; delete others first", limit);
    }
    struct provider_row row = {
        .workspace_id = *workspace,
        .provider = cof_slice_text(provider->id),
        .provider_id = cof_uuid_random(),
        .name = cof_slice_text(provider->name),
        .generation = 1,
        .create_time = call_now(call),
        .update_time = call_now(call),
    };
    TRY(provider_pack(call, provider, &row.definition));
    TRY(guard_seal_row(call, &provider_row_type, workspace, &row));
    *ret_row = row;
    return COF_OK;
}

cof_code provider_change_row(struct call *call, const struct provider *before, const struct provider *after,
                             struct provider_row *row)
{
    row->name = cof_slice_text(after->name);
    row->generation += provider_moves(before, after) ? 1 : 0;
    row->update_time = call_now(call);
    TRY(provider_pack(call, after, &row->definition));
    return guard_seal_row(call, &provider_row_type, &row->workspace_id, row);
}

static cof_code decide_create(struct call *call, void *context)
{
    struct creation *creation = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    uint64_t generation = 0;
    TRY(registry_take(call, 0, &generation));
    TRY(session_next(call->session, &rows, call->err));
    TRY(provider_new_id(call, rows, creation->request->name, &creation->provider.id));
    TRY(provider_new_row(call, &creation->write.workspace, rows, &creation->provider, &creation->row));
    TRY(provider_message(call, &creation->provider, &creation->row, &creation->response->provider));
    return provider_record(call, &creation->write, &creation->row, EFFECT(CREATED));
}

static cof_code apply_create(struct call *call, void *context)
{
    struct creation *creation = context;
    return write_queue_row(call, &creation->write, STATEMENT_PROVIDER_INSERT, &provider_row_type, &creation->row);
}

cof_code provider_create(struct call *call, const Coffer__V1__CreateProviderRequest *request,
                         Coffer__V1__CreateProviderResponse *response)
{
    struct creation creation = {.request = request, .response = response};
    const struct address *address = NULL;
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_CONNECTION_MANAGE_ALL, &address));
    TRY(provider_read(call, "custom_new", request->name, request->definition, &creation.provider));
    creation.write.workspace = *address_workspace(address);
    creation.write.look = look_create;
    creation.write.decide = decide_create;
    creation.write.apply = apply_create;
    creation.write.context = &creation;
    creation.write.answer = &response->base;
    return write_run(call, &creation.write);
}

/* --- Update and delete ---------------------------------------------------------------------------------------- */

enum provider_field { FIELD_NAME = 1 << 0, FIELD_DEFINITION = 1 << 1 };

static const struct mask_field fields[] = {{"name", FIELD_NAME}, {"definition", FIELD_DEFINITION}};

struct change {
    struct write write;
    const char *id;
    const Coffer__V1__UpdateProviderRequest *update;
    const Coffer__V1__DeleteProviderRequest *removal;
    unsigned mask;
    struct provider provider;
    struct provider_row row;
    Coffer__V1__UpdateProviderResponse *response;
};

static cof_code look_change(struct call *call, void *context)
{
    const struct change *change = context;
    TRY(provider_queue(call, &change->write.workspace, change->id, STATEMENT_PROVIDER_LOCK));
    return provider_queue(call, &change->write.workspace, change->id, STATEMENT_PROVIDER_CONNECTIONS);
}

/* Built-in ones are there and cannot be changed. */
static cof_code not_own(struct call *call, const char *id)
{
    return provider_catalogue_find(call->service->providers, id) == NULL
               ? not_found(call, id)
               : cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "id",
                                "the provider \"%s\" is built in and cannot be changed; create one of your own",
                                id);
}

static cof_code take_row(struct call *call, struct change *change, const char *expected_uid, struct rows **ret_rows,
                         int64_t *ret_connections)
{
    AUTO(rows_cleanup) struct rows *connections = NULL;
    TRY(session_next(call->session, ret_rows, call->err));
    TRY(session_next(call->session, &connections, call->err));
    *ret_connections = rows_i64(connections, 0, 0);
    if (rows_count(*ret_rows) == 0) {
        return not_own(call, change->id);
    }
    TRY(row_read(&provider_row_type, *ret_rows, 0, 0, call->arena, &change->row, call->err));
    return expected_uid_check(call, expected_uid, &change->row.provider_id);
}

static cof_code new_provider(struct call *call, const struct change *change, const struct provider *before,
                             struct provider *ret_provider)
{
    const char *name = (change->mask & FIELD_NAME) != 0 ? change->update->name : before->name;
    if ((change->mask & FIELD_DEFINITION) != 0) {
        return provider_read(call, before->id, name, change->update->definition, ret_provider);
    }
    *ret_provider = *before;
    ret_provider->name = name;
    struct cof_error problem = {0};
    return provider_check(ret_provider, &problem) == COF_OK
               ? COF_OK
               : cof_fail_field(call->err, problem.reason, "name", "%s", problem.message);
}

static cof_code decide_update(struct call *call, void *context)
{
    struct change *change = context;
    struct provider_row *row = &change->row;
    struct provider before;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    int64_t connections = 0;
    TRY(take_row(call, change, change->update->expected_uid, &rows, &connections));
    TRY(row_keep(&provider_row_type, call->arena, row, call->err));
    TRY(guard_check_row(call, &provider_row_type, &row->workspace_id, row));
    TRY(provider_of_row(call, row, &before));
    TRY(new_provider(call, change, &before, &change->provider));
    TRY(provider_change_row(call, &before, &change->provider, row));
    TRY(provider_message(call, &change->provider, row, &change->response->provider));
    return provider_record(call, &change->write, row, EFFECT(METADATA_CHANGED));
}

static cof_code apply_update(struct call *call, void *context)
{
    struct change *change = context;
    return write_queue_row(call, &change->write, STATEMENT_PROVIDER_UPDATE, &provider_row_type, &change->row);
}

cof_code provider_update(struct call *call, const Coffer__V1__UpdateProviderRequest *request,
                         Coffer__V1__UpdateProviderResponse *response)
{
    struct change change = {.update = request, .id = request->id, .response = response};
    const struct address *address = NULL;
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_CONNECTION_MANAGE_ALL, &address));
    TRY(provider_check_id(call, request->id));
    TRY(mask_read(call, request->update_mask, fields, COF_COUNT(fields), "name, definition", &change.mask));
    change.write.workspace = *address_workspace(address);
    change.write.look = look_change;
    change.write.decide = decide_update;
    change.write.apply = apply_update;
    change.write.context = &change;
    change.write.answer = &response->base;
    return write_run(call, &change.write);
}

/* A provider that comes back under an old ID must find no connection that was made for another one. */
static cof_code decide_delete(struct call *call, void *context)
{
    struct change *change = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    int64_t connections = 0;
    TRY(take_row(call, change, change->removal->expected_uid, &rows, &connections));
    if (connections > 0) {
        return cof_fail(call->err, COF_REASON_PROVIDER_IN_USE, "the provider \"%s\" has connections; %s",
                        change->id, cof_reason_next_step(COF_REASON_PROVIDER_IN_USE));
    }
    return provider_record(call, &change->write, &change->row, EFFECT(DELETED));
}

static cof_code apply_delete(struct call *call, void *context)
{
    struct change *change = context;
    const struct param params[] = {param_uuid(&change->write.workspace), param_text(cof_slice_text(change->id))};
    return write_queue(call, &change->write, STATEMENT_PROVIDER_DELETE, params, COF_COUNT(params));
}

cof_code provider_delete(struct call *call, const Coffer__V1__DeleteProviderRequest *request,
                         Coffer__V1__DeleteProviderResponse *response)
{
    struct change change = {.removal = request, .id = request->id};
    const struct address *address = NULL;
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_CONNECTION_MANAGE_ALL, &address));
    TRY(provider_check_id(call, request->id));
    change.write.workspace = *address_workspace(address);
    change.write.look = look_change;
    change.write.decide = decide_delete;
    change.write.apply = apply_delete;
    change.write.context = &change;
    change.write.answer = &response->base;
    return write_run(call, &change.write);
}
