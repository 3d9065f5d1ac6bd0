#include "server/service/secrets.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/name.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/secret_view.h"
#include "server/service/text.h"
#include "server/service/write.h"

enum { DESCRIPTION_MAX = 1000, TAGS_MAX = 50, TAG_MAX = 100 };

/* Columns behind those of the secret in SECRET_GET and SECRET_LOCK; in SECRET_LIST the second one says whether the blob is missing.
 */
#define KEYS_COLUMN (secret_row_type.count)
#define BLOB_COLUMN (secret_row_type.count + 1)

/* --- Shared by several methods -------------------------------------------------------------------------------- */

static cof_code not_found(struct call *call, const struct address *address)
{
    const struct cof_slice name = address_name(address);
    const struct cof_slice environment = address_environment(address);
    cof_ignore(cof_fail(call->err, COF_REASON_SECRET_NOT_FOUND,
                        "there is no secret \"%.*s\" in the environment \"%.*s\"; %s", (int) name.len,
                        (const char *) name.data, (int) environment.len, (const char *) environment.data,
                        cof_reason_next_step(COF_REASON_SECRET_NOT_FOUND)));
    cof_ignore(cof_error_fact(call->err, "secret", "%.*s", (int) name.len, (const char *) name.data));
    return cof_error_fact(call->err, "environment", "%.*s", (int) environment.len, (const char *) environment.data);
}

static cof_code queue_by_address(struct call *call, const struct address *address, statement id)
{
    const struct param params[] = {
        param_uuid(address_workspace(address)),
        param_text(address_environment(address)),
        param_text(address_name(address)),
    };
    return session_queue(call->session, id, params, COF_COUNT(params), call->err);
}

static struct sealed_version sealed_of(const struct rows *rows, size_t index)
{
    const struct cof_slice none = {NULL, 0};
    return (struct sealed_version){
        rows_null(rows, index, KEYS_COLUMN) ? none : rows_bytes(rows, index, KEYS_COLUMN),
        rows_null(rows, index, BLOB_COLUMN) ? none : rows_bytes(rows, index, BLOB_COLUMN),
    };
}

static cof_code check_uid(struct call *call, const char *expected, const struct secret_row *row)
{
    struct cof_uuid uid;
    if (expected[0] == '\0') {
        return COF_OK;
    }
    if (!cof_uuid_parse(cof_slice_text(expected), &uid)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expected_uid",
                              "expected_uid is no UUID in lower case");
    }
    if (!cof_uuid_equal(&uid, &row->secret_id)) {
        return cof_fail(call->err, COF_REASON_UID_MISMATCH, "%s; %s", cof_reason_meaning(COF_REASON_UID_MISMATCH),
                        cof_reason_next_step(COF_REASON_UID_MISMATCH));
    }
    return COF_OK;
}

static cof_code record_keys(struct call *call, Coffer__Audit__V1__Object *object, const struct values *values,
                            uint64_t version)
{
    object->version = version;
    object->keys = cof_arena_array(call->arena, values->count, sizeof *object->keys);
    if (object->keys == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < values->count; i++) {
        object->keys[i] = text_of(call->arena, values->items[i].key);
        if (object->keys[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    object->n_keys = values->count;
    return COF_OK;
}

/* A version's values, behind the columns of the secret's row. */
static struct row_more more_of(const struct call *call, const struct sealed_version *sealed)
{
    return (struct row_more){
        .params = {param_text(sealed->keys), param_text(sealed->blob), param_uuid(&call->caller->principal)},
        .count = 3,
    };
}

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

static cof_code read_tags(struct call *call, char *const *tags, size_t count, struct row_texts *ret_tags)
{
    if (count > TAGS_MAX) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "tags", "a secret has at most %d tags, not %zu",
                              TAGS_MAX, count);
    }
    ret_tags->items = cof_arena_array(call->arena, count, sizeof *ret_tags->items);
    ret_tags->count = count;
    if (ret_tags->items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        ret_tags->items[i] = cof_slice_text(tags[i]);
        if (ret_tags->items[i].len == 0 || ret_tags->items[i].len > TAG_MAX) {
            char field[COF_ERROR_FIELD_SIZE];
            (void) snprintf(field, sizeof field, "tags[%zu]", i);
            return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field, "%s must have 1 to %d bytes", field,
                                  TAG_MAX);
        }
    }
    return COF_OK;
}

static cof_code read_description(struct call *call, const char *description, struct cof_slice *ret_description)
{
    *ret_description = cof_slice_text(description);
    if (ret_description->len > DESCRIPTION_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "description",
                              "description has %zu bytes; at most %d are allowed", ret_description->len,
                              DESCRIPTION_MAX);
    }
    return COF_OK;
}

static cof_code read_type(struct call *call, Coffer__V1__SecretType type, int32_t *ret_type)
{
    if (type != COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED &&
        type != COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM) {
        return cof_fail_field(call->err, COF_REASON_NOT_AVAILABLE, "type",
                              "this server stores secrets of the type custom only; leave the type empty");
    }
    *ret_type = COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM;
    return COF_OK;
}

static cof_code read_creation(struct call *call, struct creation *creation)
{
    const Coffer__V1__CreateSecretRequest *request = creation->request;
    struct secret_row *row = &creation->row;
    if (cof_name_reserved(cof_slice_text(request->name))) {
        return cof_fail_field(call->err, COF_REASON_NAME_RESERVED, "name", "%s; %s",
                              cof_reason_meaning(COF_REASON_NAME_RESERVED),
                              cof_reason_next_step(COF_REASON_NAME_RESERVED));
    }
    TRY(read_type(call, request->type, &row->type));
    TRY(read_description(call, request->description, &row->description));
    TRY(read_tags(call, request->tags, request->n_tags, &row->tags));
    if (!time_read(request->expire_time, &row->expire_time)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expire_time",
                              "expire_time lies outside the years 1 to 9999");
    }
    TRY(values_read(call, request->values, request->n_values, "values", &creation->values));
    return values_check(call, &creation->values);
}

static cof_code look_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    const struct address *address = creation->address;
    const struct cof_uuid id = cof_uuid_random();
    const struct param workspace[] = {param_uuid(address_workspace(address))};
    const struct param environment[] = {
        param_uuid(address_workspace(address)),
        param_text(address_environment(address)),
        param_uuid(&id),
        param_time(call_now(call)),
    };
    TRY(session_queue(call->session, STATEMENT_WORKSPACE_GET, workspace, COF_COUNT(workspace), call->err));
    TRY(session_queue(call->session, STATEMENT_ENVIRONMENT_INSERT_MISSING, environment, COF_COUNT(environment),
                      call->err));
    TRY(session_queue(call->session, STATEMENT_ENVIRONMENT_KEEP, environment, 2, call->err));
    return queue_by_address(call, address, STATEMENT_SECRET_GET);
}

/* The environment's row is locked now, unless it was deleted between the statement that would have made it and the
 * one that keeps it: then another attempt makes it anew. */
static cof_code take_kept(struct call *call, struct cof_slice environment)
{
    AUTO(rows_cleanup) struct rows *kept = NULL;
    TRY(session_next(call->session, &kept, call->err));
    if (rows_count(kept) > 0) {
        return COF_OK;
    }
    return cof_fail(call->err, COF_REASON_CONFLICT, "the environment \"%.*s\" was deleted at the same time; %s",
                    (int) environment.len, (const char *) environment.data,
                    cof_reason_next_step(COF_REASON_CONFLICT));
}

/* A strict workspace has only the environments that somebody created; the others exist from their first write on.
 */
static cof_code check_environment(struct call *call, const struct address *address)
{
    AUTO(rows_cleanup) struct rows *workspace_rows = NULL;
    AUTO(rows_cleanup) struct rows *made = NULL;
    struct workspace_row workspace = {0};
    const struct cof_slice name = address_environment(address);
    TRY(session_next(call->session, &workspace_rows, call->err));
    if (rows_count(workspace_rows) != 1) {
        return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "the workspace's row is not there");
    }
    TRY(row_read(&workspace_row_type, workspace_rows, 0, 0, call->arena, &workspace, call->err));
    TRY(guard_check_row(call, &workspace_row_type, address_workspace(address), &workspace));
    TRY(session_next(call->session, &made, call->err));
    if (workspace.strict_environments && rows_affected(made) > 0) {
        return cof_fail(call->err, COF_REASON_ENVIRONMENT_NOT_FOUND,
                        "there is no environment \"%.*s\", and the workspace makes none by itself; create it first",
                        (int) name.len, (const char *) name.data);
    }
    return take_kept(call, name);
}

static cof_code exists(struct call *call, const struct address *address)
{
    const struct cof_slice name = address_name(address);
    const struct cof_slice environment = address_environment(address);
    return cof_fail(
        call->err, COF_REASON_SECRET_EXISTS,
        "a secret \"%.*s\" exists in the environment \"%.*s\"; update its values, or choose another name",
        (int) name.len, (const char *) name.data, (int) environment.len, (const char *) environment.data);
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
    Coffer__Audit__V1__Object *object;
    AUTO(rows_cleanup) struct rows *existing = NULL;
    TRY(check_environment(call, creation->address));
    TRY(session_next(call->session, &existing, call->err));
    if (rows_count(existing) > 0) {
        return exists(call, creation->address);
    }
    TRY(build_creation(call, creation));
    TRY(write_object(call, &creation->write, "secret", &creation->row.secret_id, creation->row.environment,
                     creation->row.name, &object));
    return record_keys(call, object, &creation->values, 1);
}

static cof_code apply_create(struct call *call, void *context)
{
    struct creation *creation = context;
    const struct row_more more = more_of(call, &creation->sealed);
    return write_queue_row_and(call, &creation->write, STATEMENT_SECRET_INSERT, &secret_row_type, &creation->row,
                               &more);
}

static cof_code conflict_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    return session_unique_violation(call->session, "secret_address") ? exists(call, creation->address)
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
    TRY(queue_by_address(call, address, STATEMENT_SECRET_GET));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return not_found(call, address);
    }
    TRY(row_read(&secret_row_type, rows, 0, 0, call->arena, &row, call->err));
    if (guard_check_row(call, &secret_row_type, &row.workspace_id, &row) != COF_OK ||
        secret_message(call, &row, sealed_of(rows, 0).keys, &response->secret) != COF_OK) {
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
    uint8_t *place = cof_arena_alloc(call->arena, array_text_size(items, count));
    if (place == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_param = param_text_array(items, count, place);
    return COF_OK;
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
        return cof_fail_field(call->err, COF_REASON_PAGE_TOKEN_INVALID, "page_token", "%s; %s",
                              cof_reason_meaning(COF_REASON_PAGE_TOKEN_INVALID),
                              cof_reason_next_step(COF_REASON_PAGE_TOKEN_INVALID));
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
    const bool whole = !rows_null(rows, index, KEYS_COLUMN) && !rows_bool(rows, index, BLOB_COLUMN);
    if (whole && guard_check_row(call, &secret_row_type, &row.workspace_id, &row) == COF_OK &&
        secret_message(call, &row, rows_bytes(rows, index, KEYS_COLUMN), ret_secret) == COF_OK) {
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

/* --- Update and delete ---------------------------------------------------------------------------------------- */

struct change {
    struct write write;
    const struct address *address;
    const Coffer__V1__UpdateSecretValuesRequest *request; /* NULL: delete */
    const Coffer__V1__DeleteSecretRequest *deletion;
    struct values sent;
    struct values values;
    struct secret_row row;
    struct sealed_version sealed;
    bool damaged;
    Coffer__V1__Secret **answer_secret;
};

static cof_code look_change(struct call *call, void *context)
{
    const struct change *change = context;
    return queue_by_address(call, change->address, STATEMENT_SECRET_LOCK);
}

/* Takes the locked row. A damaged one is remembered as such: it can be overwritten whole or deleted, nothing else.
 */
static cof_code take_locked(struct call *call, struct change *change, struct rows **ret_rows)
{
    TRY(session_next(call->session, ret_rows, call->err));
    if (rows_count(*ret_rows) == 0) {
        return not_found(call, change->address);
    }
    TRY(row_read(&secret_row_type, *ret_rows, 0, 0, call->arena, &change->row, call->err));
    TRY(row_keep(&secret_row_type, call->arena, &change->row, call->err));
    const cof_code code = guard_check_row(call, &secret_row_type, &change->row.workspace_id, &change->row);
    change->damaged = code == COF_DATA_LOSS;
    return change->damaged ? COF_OK : code;
}

static cof_code check_version(struct call *call, const struct change *change)
{
    const uint64_t expected = change->request->expected_version;
    if (expected == 0 || expected == (uint64_t) change->row.version) {
        return COF_OK;
    }
    cof_ignore(cof_fail(call->err, COF_REASON_VERSION_MISMATCH,
                        "the secret has version %" PRId64 ", not %" PRIu64 "; %s", change->row.version, expected,
                        cof_reason_next_step(COF_REASON_VERSION_MISMATCH)));
    return cof_error_fact(call->err, "version", "%" PRId64, change->row.version);
}

static cof_code new_values(struct call *call, struct change *change, const struct rows *rows)
{
    const Coffer__V1__UpdateSecretValuesRequest *request = change->request;
    if (request->change_case == COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE) {
        change->values = change->sent;
        return values_check(call, &change->values);
    }
    struct values base;
    const struct sealed_version sealed = sealed_of(rows, 0);
    if (change->damaged) {
        return guard_check_row(call, &secret_row_type, &change->row.workspace_id, &change->row);
    }
    TRY(values_open(call, &change->row, &sealed, &base));
    TRY(values_patch(call, &base, &change->sent, request->patch->remove, request->patch->n_remove,
                     &change->values));
    return values_check(call, &change->values);
}

static cof_code record_change(struct call *call, struct change *change)
{
    Coffer__Audit__V1__Object *object;
    TRY(write_object(call, &change->write, "secret", &change->row.secret_id, change->row.environment,
                     change->row.name, &object));
    return record_keys(call, object, &change->values, (uint64_t) change->row.version);
}

static cof_code decide_update(struct call *call, void *context)
{
    struct change *change = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(take_locked(call, change, &rows));
    TRY(check_uid(call, change->request->expected_uid, &change->row));
    TRY(check_version(call, change));
    TRY(new_values(call, change, rows));
    change->row.version++;
    change->row.update_time = call_now(call);
    /* The address is what was asked for, whatever a damaged row says; its type cannot be known any more. */
    change->row.environment = address_environment(change->address);
    change->row.name = address_name(change->address);
    change->row.state = SECRET_ACTIVE;
    TRY(guard_seal_row(call, &secret_row_type, &change->row.workspace_id, &change->row));
    TRY(values_seal(call, &change->row.workspace_id, &change->row.secret_id, (uint64_t) change->row.version,
                    &change->values, &change->sealed));
    TRY(secret_message(call, &change->row, change->sealed.keys, change->answer_secret));
    return record_change(call, change);
}

static cof_code apply_update(struct call *call, void *context)
{
    struct change *change = context;
    const struct row_more more = more_of(call, &change->sealed);
    return write_queue_row_and(call, &change->write, STATEMENT_SECRET_UPDATE_VALUES, &secret_row_type, &change->row,
                               &more);
}

static cof_code check_removals(struct call *call, size_t count)
{
    const uint32_t limit = call->service->limits.keys_per_secret;
    if (count <= limit) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "patch.remove",
                          "patch.remove has %zu keys; a secret has at most %u", count, limit);
}

static cof_code read_change(struct call *call, struct change *change)
{
    const Coffer__V1__UpdateSecretValuesRequest *request = change->request;
    switch (request->change_case) {
    case COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE:
        return values_read(call, request->replace->values, request->replace->n_values, "replace.values",
                           &change->sent);
    case COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_PATCH:
        if (request->patch->n_set + request->patch->n_remove == 0) {
            return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "patch",
                                  "patch changes nothing; name keys to set or to remove");
        }
        TRY(check_removals(call, request->patch->n_remove));
        return values_read(call, request->patch->set, request->patch->n_set, "patch.set", &change->sent);
    case COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE__NOT_SET:
    case _COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE__CASE_IS_INT_SIZE:
        break;
    }
    return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "change", "one of replace and patch is needed");
}

cof_code secret_update_values(struct call *call, const Coffer__V1__UpdateSecretValuesRequest *request,
                              Coffer__V1__UpdateSecretValuesResponse *response)
{
    struct change change = {.request = request, .answer_secret = &response->secret};
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change.address));
    TRY(read_change(call, &change));
    change.write.workspace = *address_workspace(change.address);
    change.write.look = look_change;
    change.write.decide = decide_update;
    change.write.apply = apply_update;
    change.write.context = &change;
    change.write.answer = &response->base;
    return write_run(call, &change.write);
}

static cof_code check_etag(struct call *call, const struct change *change)
{
    char *etag;
    if (change->deletion->etag[0] == '\0') {
        return COF_OK;
    }
    TRY(secret_etag(call, &change->row, &etag));
    if (strcmp(etag, change->deletion->etag) == 0) {
        return COF_OK;
    }
    return cof_fail(call->err, COF_REASON_ETAG_MISMATCH, "%s; %s", cof_reason_meaning(COF_REASON_ETAG_MISMATCH),
                    cof_reason_next_step(COF_REASON_ETAG_MISMATCH));
}

static cof_code deleted_message(struct call *call, struct change *change, const struct rows *rows)
{
    const cof_code code = secret_message(call, &change->row, sealed_of(rows, 0).keys, change->answer_secret);
    return code == COF_DATA_LOSS ? secret_message_corrupted(call, &change->row, change->answer_secret) : code;
}

static cof_code decide_delete(struct call *call, void *context)
{
    struct change *change = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(take_locked(call, change, &rows));
    TRY(check_uid(call, change->deletion->expected_uid, &change->row));
    TRY(check_etag(call, change));
    change->row.environment = address_environment(change->address);
    change->row.name = address_name(change->address);
    change->row.state = SECRET_DELETED;
    change->row.metadata_version++;
    change->row.update_time = call_now(call);
    change->row.delete_time = change->row.update_time;
    TRY(guard_seal_row(call, &secret_row_type, &change->row.workspace_id, &change->row));
    TRY(deleted_message(call, change, rows));
    return record_change(call, change);
}

static cof_code apply_delete(struct call *call, void *context)
{
    struct change *change = context;
    return write_queue_row(call, &change->write, STATEMENT_SECRET_UPDATE, &secret_row_type, &change->row);
}

cof_code secret_delete(struct call *call, const Coffer__V1__DeleteSecretRequest *request,
                       Coffer__V1__DeleteSecretResponse *response)
{
    struct change change = {.deletion = request, .answer_secret = &response->secret};
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change.address));
    change.write.workspace = *address_workspace(change.address);
    change.write.look = look_change;
    change.write.decide = decide_delete;
    change.write.apply = apply_delete;
    change.write.context = &change;
    change.write.answer = &response->base;
    return write_run(call, &change.write);
}
