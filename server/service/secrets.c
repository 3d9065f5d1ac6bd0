#include "server/service/secrets.h"

#include "common/name.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

/* --- Create --------------------------------------------------------------------------------------------------- */

struct creation {
    struct write write;
    const struct address *address;
    const Coffer__V1__CreateSecretRequest *request;
    struct values values;
    struct secret_row row;
    struct sealed_version sealed;
    Coffer__V1__CreateSecretResponse *response;
};

static cof_code read_creation(struct call *call, struct creation *creation)
{
    const Coffer__V1__CreateSecretRequest *request = creation->request;
    struct secret_row *row = &creation->row;
    if (cof_name_reserved(cof_slice_text(request->name))) {
        return secret_name_reserved(call, "name");
    }
    row->type = request->type == COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED
                    ? COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM
                    : (int32_t) request->type;
    TRY(secret_read_description(call, request->description, &row->description));
    TRY(secret_read_tags(call, request->tags, request->n_tags, &row->tags));
    TRY(secret_read_expire_time(call, request->expire_time, &row->expire_time));
    struct secret_warnings warnings = {0};
    TRY(values_read(call, request->values, request->n_values, "values", &creation->values));
    TRY(secret_check_aws(call, address_name(creation->address), &creation->values));
    TRY(secret_typed(call, row, false, &creation->values, &warnings));
    creation->response->warnings = warnings.items;
    creation->response->n_warnings = warnings.count;
    return COF_OK;
}

static cof_code look_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    TRY(secret_place_queue(call, creation->address));
    return secret_queue(call, creation->address, STATEMENT_SECRET_GET);
}

static cof_code build_creation(struct call *call, struct creation *creation)
{
    struct secret_row *row = &creation->row;
    row->workspace_id = *address_workspace(creation->address);
    row->secret_id = cof_uuid_random();
    row->environment = address_environment(creation->address);
    row->name = address_name(creation->address);
    row->state = SECRET_ACTIVE;
    row->version = 1;
    row->metadata_version = 1;
    row->block_when_expired = creation->request->block_when_expired;
    row->create_time = call_now(call);
    row->update_time = row->create_time;
    row->delete_time = ROW_NO_TIME;
    TRY(guard_seal_row(call, &secret_row_type, &row->workspace_id, row));
    TRY(values_seal(call, &row->workspace_id, &row->secret_id, 1, &creation->values, &creation->sealed));
    return secret_message(call, row, creation->sealed.keys, &creation->response->secret);
}

static cof_code decide_create(struct call *call, void *context)
{
    struct creation *creation = context;
    AUTO(rows_cleanup) struct rows *existing = NULL;
    TRY(secret_place_take(call, creation->address));
    TRY(session_next(call->session, &existing, call->err));
    if (rows_count(existing) > 0) {
        return secret_exists(call, creation->address);
    }
    TRY(build_creation(call, creation));
    return secret_record(call, &creation->write, &creation->row, EFFECT(CREATED), &creation->values);
}

static cof_code apply_create(struct call *call, void *context)
{
    struct creation *creation = context;
    const struct row_more more = secret_more_of(call, &creation->sealed);
    return write_queue_row_and(call, &creation->write, STATEMENT_SECRET_INSERT, &secret_row_type, &creation->row,
                               &more);
}

static cof_code conflict_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    return session_unique_violation(call->session, "secret_address") ? secret_exists(call, creation->address)
                                                                     : call->err->code;
}

cof_code secret_create(struct call *call, const Coffer__V1__CreateSecretRequest *request,
                       Coffer__V1__CreateSecretResponse *response)
{
    struct creation creation = {.request = request, .response = response};
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &creation.address));
    TRY(read_creation(call, &creation));
    creation.write.workspace = *address_workspace(creation.address);
    creation.write.look = look_create;
    creation.write.decide = decide_create;
    creation.write.apply = apply_create;
    creation.write.conflict = conflict_create;
    creation.write.context = &creation;
    creation.write.answer = &response->base;
    return write_run(call, &creation.write);
}

/* --- Get ------------------------------------------------------------------------------------------------------ */

cof_code secret_get(struct call *call, const Coffer__V1__GetSecretRequest *request,
                    Coffer__V1__GetSecretResponse *response)
{
    const struct address *address;
    struct secret_row row = {0};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_READ,
                         &address));
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(secret_queue(call, address, STATEMENT_SECRET_GET));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return secret_not_found(call, address);
    }
    TRY(row_read(&secret_row_type, rows, 0, 0, call->arena, &row, call->err));
    if (guard_check_row(call, &secret_row_type, &row.workspace_id, &row) != COF_OK ||
        secret_message(call, &row, secret_sealed_of(rows, 0).keys, &response->secret) != COF_OK) {
        return call->err->reason == COF_REASON_CORRUPTED ? secret_message_corrupted(call, &row, &response->secret)
                                                         : call->err->code;
    }
    return COF_OK;
}

/* --- List ----------------------------------------------------------------------------------------------------- */

struct listing {
    const Coffer__V1__ListSecretsRequest *request;
    Coffer__V1__ListSecretsResponse *response;
    struct cof_uuid workspace;
    struct page_position position;
    uint32_t size;
};

static cof_code text_list(struct call *call, char *const *texts, size_t count, struct param *ret_param)
{
    if (count == 0) {
        *ret_param = param_null();
        return COF_OK;
    }
    struct cof_slice *items = cof_arena_array(call->arena, count, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = cof_slice_text(texts[i]);
    }
    return secret_texts(call, items, count, ret_param);
}

static cof_code type_list(struct call *call, const Coffer__V1__SecretType *types, size_t count,
                          struct param *ret_param)
{
    char **texts = cof_arena_array(call->arena, count, sizeof *texts);
    if (texts == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        texts[i] = cof_arena_format(call->arena, "%d", (int) types[i]);
        if (texts[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    return text_list(call, texts, count, ret_param);
}

static cof_code queue_listing(struct call *call, struct listing *listing, uint32_t rows)
{
    const Coffer__V1__ListSecretsRequest *request = listing->request;
    struct cof_uuid after = {{0}};
    if (listing->position.parts[2].len > 0 && !cof_uuid_parse(listing->position.parts[2], &after)) {
        return page_invalid(call);
    }
    struct param environments;
    struct param types;
    struct param tags;
    TRY(text_list(call, request->environments, request->n_environments, &environments));
    TRY(type_list(call, request->types, request->n_types, &types));
    TRY(text_list(call, request->tags, request->n_tags, &tags));
    const struct param params[] = {
        param_uuid(&listing->workspace),
        param_text(listing->position.parts[0]),
        param_text(listing->position.parts[1]),
        param_uuid(&after),
        environments,
        types,
        param_text(cof_slice_text(request->name_prefix)),
        tags,
        param_bool(request->show_deleted),
        param_i64(rows),
    };
    TRY(session_queue(call->session, STATEMENT_SECRET_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

static cof_code list_row(struct call *call, const struct listing *listing, const struct rows *rows, size_t index,
                         Coffer__V1__Secret **ret_secret)
{
    struct secret_row row = {0};
    *ret_secret = NULL;
    TRY(row_read(&secret_row_type, rows, index, 0, call->arena, &row, call->err));
    if (!authorize_sees(call, &listing->workspace, row.environment, row.name, COF_PERMISSION_SECRET_READ)) {
        return COF_OK;
    }
    const bool whole = !rows_null(rows, index, secret_column_at(SECRET_KEYS)) &&
                       !rows_bool(rows, index, secret_column_at(SECRET_BLOB));
    if (whole && guard_check_row(call, &secret_row_type, &row.workspace_id, &row) == COF_OK &&
        secret_message(call, &row, rows_bytes(rows, index, secret_column_at(SECRET_KEYS)), ret_secret) == COF_OK) {
        return COF_OK;
    }
    /* A damaged row is shown as such and hides no other. */
    return secret_message_corrupted(call, &row, ret_secret);
}

static cof_code remember_position(struct call *call, struct listing *listing, const struct rows *rows, size_t index)
{
    struct secret_row row = {0};
    char id[COF_UUID_TEXT];
    TRY(row_read(&secret_row_type, rows, index, 0, call->arena, &row, call->err));
    cof_uuid_format(&row.secret_id, id);
    TRY(text_keep(call->arena, row.name, &listing->position.parts[0], call->err));
    TRY(text_keep(call->arena, row.environment, &listing->position.parts[1], call->err));
    return text_keep(call->arena, cof_slice_text(id), &listing->position.parts[2], call->err);
}

/* Reads on until the page is full, because rows that the caller may not see do not count. */
static cof_code fill_page(struct call *call, struct listing *listing)
{
    Coffer__V1__ListSecretsResponse *response = listing->response;
    bool more = true;
    while (more && response->n_secrets < listing->size) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        TRY(call_check_deadline(call));
        TRY(queue_listing(call, listing, listing->size));
        TRY(session_next(call->session, &rows, call->err));
        more = rows_count(rows) == listing->size;
        for (size_t i = 0; i < rows_count(rows) && response->n_secrets < listing->size; i++) {
            TRY(list_row(call, listing, rows, i, &response->secrets[response->n_secrets]));
            response->n_secrets += response->secrets[response->n_secrets] != NULL;
            TRY(remember_position(call, listing, rows, i));
            more = more || i + 1 < rows_count(rows);
        }
    }
    return more ? page_make(call, PAGE_SECRETS, &listing->position, &response->next_page_token) : COF_OK;
}

cof_code secret_list(struct call *call, const Coffer__V1__ListSecretsRequest *request,
                     Coffer__V1__ListSecretsResponse *response)
{
    struct listing listing = {.request = request, .response = response};
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_SECRET_READ, &listing.workspace));
    TRY(page_read(call, PAGE_SECRETS, request->page_token, &listing.position));
    TRY(guard_load_keys(call, &listing.workspace));
    listing.size = page_size(call, request->page_size);
    response->secrets = cof_arena_array(call->arena, listing.size, sizeof *response->secrets);
    if (response->secrets == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return fill_page(call, &listing);
}
