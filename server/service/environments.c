#include "server/service/environments.h"

#include <inttypes.h>

#include "common/name.h"
#include "server/service/authorize.h"
#include "server/service/expected_uid.h"
#include "server/service/page.h"
#include "server/service/text.h"
#include "server/service/write.h"

static cof_code environment_message(struct call *call, const struct environment_row *row,
                                    Coffer__V1__Environment **ret_message)
{
    Coffer__V1__Environment *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__environment__init(message);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->name = text_of(call->arena, row->name);
    message->uid = text_of_uuid(call->arena, &row->environment_id);
    message->create_time = time_of(call->arena, row->create_time);
    if (message->workspace == NULL || message->name == NULL || message->uid == NULL ||
        message->create_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_message = message;
    return COF_OK;
}

static cof_code queue_by_name(struct call *call, const struct address *address, statement id)
{
    const struct param params[] = {
        param_uuid(address_workspace(address)),
        param_text(address_environment(address)),
    };
    return session_queue(call->session, id, params, COF_COUNT(params), call->err);
}

static cof_code record(struct call *call, struct write *write, const struct environment_row *row)
{
    Coffer__Audit__V1__Object *object;
    return write_object(call, write, "environment", &row->environment_id, row->name, row->name, &object);
}

/* The name as it was sent: an empty one means the default where a secret is looked for, but nobody makes or deletes
 * that by omission. */
static cof_code check_name(struct call *call, const char *name)
{
    return cof_name_check(COF_NAME_ENVIRONMENT, cof_slice_text(name), "name", call->err);
}

/* --- Create --------------------------------------------------------------------------------------------------- */

struct creation {
    struct write write;
    const struct address *address;
    struct environment_row row;
    Coffer__V1__CreateEnvironmentResponse *response;
};

static cof_code exists(struct call *call, const struct address *address)
{
    const struct cof_slice name = address_environment(address);
    return cof_fail(call->err, COF_REASON_ENVIRONMENT_EXISTS, "an environment \"%.*s\" exists already",
                    (int) name.len, (const char *) name.data);
}

static cof_code look_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    return queue_by_name(call, creation->address, STATEMENT_ENVIRONMENT_KEEP);
}

static cof_code decide_create(struct call *call, void *context)
{
    struct creation *creation = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) > 0) {
        return exists(call, creation->address);
    }
    creation->row.workspace_id = *address_workspace(creation->address);
    creation->row.name = address_environment(creation->address);
    creation->row.environment_id = cof_uuid_random();
    creation->row.create_time = call_now(call);
    TRY(environment_message(call, &creation->row, &creation->response->environment));
    return record(call, &creation->write, &creation->row);
}

static cof_code apply_create(struct call *call, void *context)
{
    struct creation *creation = context;
    return write_queue_row(call, &creation->write, STATEMENT_ENVIRONMENT_INSERT, &environment_row_type,
                           &creation->row);
}

static cof_code conflict_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    return session_unique_violation(call->session, "environment_pkey") ? exists(call, creation->address)
                                                                       : call->err->code;
}

cof_code environment_create(struct call *call, const Coffer__V1__CreateEnvironmentRequest *request,
                            Coffer__V1__CreateEnvironmentResponse *response)
{
    struct creation creation = {.response = response};
    TRY(check_name(call, request->name));
    TRY(authorize_environment(call, request->workspace, request->name, COF_PERMISSION_ENVIRONMENT_WRITE,
                              &creation.address));
    creation.write.workspace = *address_workspace(creation.address);
    creation.write.look = look_create;
    creation.write.decide = decide_create;
    creation.write.apply = apply_create;
    creation.write.conflict = conflict_create;
    creation.write.context = &creation;
    creation.write.answer = &response->base;
    return write_run(call, &creation.write);
}

/* --- List ----------------------------------------------------------------------------------------------------- */

struct listing {
    struct cof_uuid workspace;
    struct cof_slice after;
    uint32_t size;
    Coffer__V1__ListEnvironmentsResponse *response;
};

static cof_code queue_listing(struct call *call, const struct listing *listing)
{
    const struct param params[] = {
        param_uuid(&listing->workspace),
        param_text(listing->after),
        param_i64(listing->size),
    };
    TRY(session_queue(call->session, STATEMENT_ENVIRONMENT_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

static cof_code add_if_seen(struct call *call, struct listing *listing, const struct environment_row *row)
{
    const struct cof_slice none = {NULL, 0};
    Coffer__V1__ListEnvironmentsResponse *response = listing->response;
    if (!authorize_sees(call, &listing->workspace, row->name, none, COF_PERMISSION_ENVIRONMENT_READ)) {
        return COF_OK;
    }
    return environment_message(call, row, &response->environments[response->n_environments++]);
}

static cof_code fill_page(struct call *call, struct listing *listing)
{
    bool more = true;
    while (more && listing->response->n_environments < listing->size) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        TRY(call_check_deadline(call));
        TRY(queue_listing(call, listing));
        TRY(session_next(call->session, &rows, call->err));
        more = rows_count(rows) == listing->size;
        for (size_t i = 0; i < rows_count(rows) && listing->response->n_environments < listing->size; i++) {
            struct environment_row row;
            TRY(row_read(&environment_row_type, rows, i, 0, call->arena, &row, call->err));
            TRY(add_if_seen(call, listing, &row));
            TRY(text_keep(call->arena, row.name, &listing->after, call->err));
            more = more || i + 1 < rows_count(rows);
        }
    }
    const struct page_position position = {.parts = {listing->after}};
    return more ? page_make(call, PAGE_ENVIRONMENTS, &position, &listing->response->next_page_token) : COF_OK;
}

cof_code environment_list(struct call *call, const Coffer__V1__ListEnvironmentsRequest *request,
                          Coffer__V1__ListEnvironmentsResponse *response)
{
    struct listing listing = {.response = response};
    struct page_position position;
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_ENVIRONMENT_READ, &listing.workspace));
    TRY(page_read(call, PAGE_ENVIRONMENTS, request->page_token, &position));
    listing.after = position.parts[0];
    listing.size = page_size(call, request->page_size);
    response->environments = cof_arena_array(call->arena, listing.size, sizeof *response->environments);
    if (response->environments == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return fill_page(call, &listing);
}

/* --- Delete --------------------------------------------------------------------------------------------------- */

struct removal {
    struct write write;
    const struct address *address;
    const Coffer__V1__DeleteEnvironmentRequest *request;
};

static cof_code look_delete(struct call *call, void *context)
{
    const struct removal *removal = context;
    TRY(queue_by_name(call, removal->address, STATEMENT_ENVIRONMENT_LOCK));
    return queue_by_name(call, removal->address, STATEMENT_ENVIRONMENT_COUNT);
}

static cof_code decide_delete(struct call *call, void *context)
{
    struct removal *removal = context;
    struct environment_row row;
    AUTO(rows_cleanup) struct rows *locked = NULL;
    AUTO(rows_cleanup) struct rows *counts = NULL;
    const struct cof_slice name = address_environment(removal->address);
    TRY(session_next(call->session, &locked, call->err));
    TRY(session_next(call->session, &counts, call->err));
    if (rows_count(locked) == 0) {
        return cof_fail(call->err, COF_REASON_ENVIRONMENT_NOT_FOUND, "there is no environment \"%.*s\"",
                        (int) name.len, (const char *) name.data);
    }
    TRY(row_read(&environment_row_type, locked, 0, 0, call->arena, &row, call->err));
    TRY(expected_uid_check(call, removal->request->expected_uid, &row.environment_id));
    if (rows_i64(counts, 0, 0) > 0 || rows_i64(counts, 0, 1) > 0) {
        return cof_fail(call->err, COF_REASON_ENVIRONMENT_NOT_EMPTY,
                        "the environment \"%.*s\" holds %" PRId64 " secret%s and %" PRId64
                        " OAuth connection%s; delete them first",
                        (int) name.len, (const char *) name.data, rows_i64(counts, 0, 0),
                        rows_i64(counts, 0, 0) == 1 ? "" : "s", rows_i64(counts, 0, 1),
                        rows_i64(counts, 0, 1) == 1 ? "" : "s");
    }
    return record(call, &removal->write, &row);
}

static cof_code apply_delete(struct call *call, void *context)
{
    struct removal *removal = context;
    const struct param params[] = {
        param_uuid(address_workspace(removal->address)),
        param_text(address_environment(removal->address)),
    };
    return write_queue(call, &removal->write, STATEMENT_ENVIRONMENT_DELETE, params, COF_COUNT(params));
}

cof_code environment_delete(struct call *call, const Coffer__V1__DeleteEnvironmentRequest *request,
                            Coffer__V1__DeleteEnvironmentResponse *response)
{
    struct removal removal = {.request = request};
    TRY(check_name(call, request->name));
    TRY(authorize_environment(call, request->workspace, request->name, COF_PERMISSION_ENVIRONMENT_WRITE,
                              &removal.address));
    removal.write.workspace = *address_workspace(removal.address);
    removal.write.look = look_delete;
    removal.write.decide = decide_delete;
    removal.write.apply = apply_delete;
    removal.write.context = &removal;
    removal.write.answer = &response->base;
    return write_run(call, &removal.write);
}
