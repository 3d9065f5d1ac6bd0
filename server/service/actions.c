#include "common/name.h"
#include "server/service/action_reach.h"
#include "server/service/authorize.h"
#include "server/service/expected_uid.h"
#include "server/service/guard.h"
#include "server/service/integrations.h"
#include "server/service/page.h"
#include "server/service/registry_write.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

static cof_code check_name(struct call *call, const char *name)
{
    return cof_name_check(COF_NAME_ACTION, cof_slice_text(name), "name", call->err);
}

/* What a damaged row still says: which one it is. */
static cof_code damaged_message(struct call *call, const struct action_row *row, Coffer__V1__Action **ret_message)
{
    Coffer__V1__Action *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__action__init(message);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->name = text_of(call->arena, row->name);
    message->uid = text_of_uuid(call->arena, &row->action_id);
    message->corrupted = true;
    *ret_message = message;
    return message->workspace == NULL || message->name == NULL || message->uid == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

/* One that is damaged keeps no other from being shown. */
static cof_code show(struct call *call, const struct action_row *row, Coffer__V1__Action **ret_message)
{
    const cof_code code = guard_check_row(call, &action_row_type, &row->workspace_id, row);
    if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        return damaged_message(call, row, ret_message);
    }
    TRY(code);
    return action_message(call, row, ret_message);
}

/* --- Get ------------------------------------------------------------------------------------------------------ */

static cof_code read_action(struct call *call, const struct cof_uuid *workspace, const char *name,
                            Coffer__V1__Action **ret_message)
{
    const struct param params[] = {param_uuid(workspace), param_text(cof_slice_text(name))};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct action_row row;
    TRY(session_queue(call->session, STATEMENT_ACTION_GET, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return action_not_found(call, name);
    }
    TRY(row_read(&action_row_type, rows, 0, 0, call->arena, &row, call->err));
    return show(call, &row, ret_message);
}

static cof_code set_needs(struct call *call, const struct action_needs *needs,
                          Coffer__V1__GetActionResponse *response)
{
    response->needs = needs->declarations;
    response->unregistered_steps =
        cof_arena_array(call->arena, needs->unregistered_count, sizeof *response->unregistered_steps);
    if (response->unregistered_steps == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < needs->unregistered_count; i++) {
        char *text = text_of(call->arena, needs->unregistered[i]);
        if (text == NULL) {
            return cof_arena_exhausted(call->err);
        }
        response->unregistered_steps[response->n_unregistered_steps++] = text;
    }
    return COF_OK;
}

static cof_code add_needs(struct call *call, const struct cof_uuid *workspace, const char *name,
                          Coffer__V1__GetActionResponse *response)
{
    struct cof_slice names[] = {cof_slice_text(name)};
    struct reach reach = {.workspace = *workspace, .names = names, .name_count = COF_COUNT(names)};
    struct action_needs needs;
    cof_code code = reach_read(call, &reach);
    if (code == COF_OK) {
        code = reach_needs(call, &reach, name, &needs);
    }
    if (code == COF_OK) {
        code = set_needs(call, &needs, response);
    }
    reach_done(&reach);
    return code;
}

cof_code action_get(struct call *call, const Coffer__V1__GetActionRequest *request,
                    Coffer__V1__GetActionResponse *response)
{
    const struct address *address;
    TRY(check_name(call, request->name));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_INTEGRATION_READ, &address));
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(read_action(call, address_workspace(address), request->name, &response->action));
    return response->action->corrupted ? COF_OK
                                       : add_needs(call, address_workspace(address), request->name, response);
}

/* --- List ----------------------------------------------------------------------------------------------------- */

static cof_code queue_listing(struct call *call, const struct cof_uuid *workspace, struct cof_slice after,
                              const Coffer__V1__ListActionsRequest *request)
{
    const struct param params[] = {
        param_uuid(workspace),
        param_text(after),
        param_text(cof_slice_text(request->name_prefix)),
        param_i64(page_size(call, request->page_size)),
    };
    TRY(session_queue(call->session, STATEMENT_REGISTRY_GET, params, 1, call->err));
    TRY(session_queue(call->session, STATEMENT_ACTION_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

static cof_code fill_page(struct call *call, const struct rows *rows, Coffer__V1__ListActionsResponse *response)
{
    struct action_row row = {0};
    const size_t count = rows_count(rows);
    response->actions = cof_arena_array(call->arena, count, sizeof *response->actions);
    if (response->actions == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(row_read(&action_row_type, rows, i, 0, call->arena, &row, call->err));
        TRY(show(call, &row, &response->actions[i]));
        response->n_actions++;
    }
    return COF_OK;
}

cof_code action_list(struct call *call, const Coffer__V1__ListActionsRequest *request,
                     Coffer__V1__ListActionsResponse *response)
{
    const struct address *address;
    struct page_position position;
    AUTO(rows_cleanup) struct rows *registry = NULL;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_INTEGRATION_READ, &address));
    TRY(page_read(call, PAGE_ACTIONS, request->page_token, &position));
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(queue_listing(call, address_workspace(address), position.parts[0], request));
    TRY(session_next(call->session, &registry, call->err));
    TRY(session_next(call->session, &rows, call->err));
    response->generation = rows_count(registry) == 0 ? 1 : (uint64_t) rows_i64(registry, 0, 0);
    TRY(fill_page(call, rows, response));
    if (rows_count(rows) < page_size(call, request->page_size)) {
        return COF_OK;
    }
    const struct page_position last = {.parts = {cof_slice_text(response->actions[response->n_actions - 1]->name)}};
    return page_make(call, PAGE_ACTIONS, &last, &response->next_page_token);
}

/* --- Delete --------------------------------------------------------------------------------------------------- */

struct removal {
    struct write write;
    const Coffer__V1__DeleteActionRequest *request;
    Coffer__V1__DeleteActionResponse *response;
};

static cof_code look_delete(struct call *call, void *context)
{
    const struct removal *removal = context;
    const struct param params[] = {param_uuid(&removal->write.workspace),
                                   param_text(cof_slice_text(removal->request->name))};
    TRY(registry_look(call, &removal->write.workspace));
    return session_queue(call->session, STATEMENT_ACTION_GET, params, COF_COUNT(params), call->err);
}

static cof_code decide_delete(struct call *call, void *context)
{
    struct removal *removal = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct action_row row;
    uint64_t generation = 0;
    TRY(registry_take(call, removal->request->expected_generation, &generation));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return action_not_found(call, removal->request->name);
    }
    TRY(row_read(&action_row_type, rows, 0, 0, call->arena, &row, call->err));
    TRY(expected_uid_check(call, removal->request->expected_uid, &row.action_id));
    removal->response->generation = generation + 1;
    return registry_record(call, &removal->write, &row, EFFECT(DELETED));
}

static cof_code apply_delete(struct call *call, void *context)
{
    struct removal *removal = context;
    const struct cof_slice name = cof_slice_text(removal->request->name);
    uint8_t *place = cof_arena_alloc(call->arena, array_text_size(&name, 1));
    if (place == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const struct param params[] = {param_uuid(&removal->write.workspace), param_text_array(&name, 1, place)};
    TRY(registry_raise(call, &removal->write, removal->response->generation));
    return write_queue(call, &removal->write, STATEMENT_ACTION_DELETE, params, COF_COUNT(params));
}

cof_code action_delete(struct call *call, const Coffer__V1__DeleteActionRequest *request,
                       Coffer__V1__DeleteActionResponse *response)
{
    struct removal removal = {.request = request, .response = response};
    const struct address *address;
    TRY(check_name(call, request->name));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_INTEGRATION_WRITE, &address));
    removal.write.workspace = *address_workspace(address);
    removal.write.look = look_delete;
    removal.write.decide = decide_delete;
    removal.write.apply = apply_delete;
    removal.write.context = &removal;
    removal.write.answer = &response->base;
    return write_run(call, &removal.write);
}
