/* Versions: listing, destroying and revealing them. */
#include "server/service/secret_version.h"

#include <inttypes.h>
#include <stdio.h>

#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/secrets.h"
#include "server/service/text.h"
#include "server/service/workspace_state.h"

/* --- Former versions ------------------------------------------------------------------------------------------ */

cof_code secret_read_whole(struct call *call, const struct address *address, struct secret_row *row,
                           struct rows **ret_rows)
{
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(secret_queue(call, address, STATEMENT_SECRET_GET));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, ret_rows, call->err));
    if (rows_count(*ret_rows) == 0) {
        return secret_not_found(call, address);
    }
    TRY(row_read(&secret_row_type, *ret_rows, 0, 0, call->arena, row, call->err));
    return guard_check_row(call, &secret_row_type, &row->workspace_id, row);
}

cof_code secret_version_check(struct call *call, uint64_t version)
{
    if (version != 0 && version <= INT64_MAX) {
        return COF_OK;
    }
    return cof_fail_field(call->err, version == 0 ? COF_REASON_FIELD_REQUIRED : COF_REASON_FIELD_INVALID, "version",
                          "version must be the number of a version; ListSecretVersions shows them");
}

cof_code secret_version_queue(struct call *call, const struct address *address, uint64_t version)
{
    const struct param params[] = {
        param_uuid(address_workspace(address)),
        param_text(address_environment(address)),
        param_text(address_name(address)),
        param_i64((int64_t) version),
    };
    return session_queue(call->session, STATEMENT_VERSION_GET, params, COF_COUNT(params), call->err);
}

cof_code secret_version_present(struct call *call, uint64_t version, const struct rows *former)
{
    const bool there = rows_count(former) > 0;
    if (there && !rows_null(former, 0, VERSION_BLOB)) {
        return COF_OK;
    }
    const cof_reason reason = there ? COF_REASON_VERSION_DESTROYED : COF_REASON_VERSION_NOT_FOUND;
    cof_ignore(cof_fail(call->err, reason, "version %" PRIu64 " of the secret %s; %s", version,
                        there ? "was destroyed" : "is not there", cof_reason_next_step(reason)));
    return cof_error_fact(call->err, "version", "%" PRIu64, version);
}

cof_code secret_version_open(struct call *call, const struct secret_row *secret, uint64_t version,
                             const struct rows *former, struct values *ret_values)
{
    struct secret_row row = *secret;
    TRY(secret_version_present(call, version, former));
    const struct sealed_version sealed = {
        rows_bytes(former, 0, VERSION_KEYS),
        rows_bytes(former, 0, VERSION_BLOB),
    };
    row.version = (int64_t) version;
    return values_open(call, &row, &sealed, ret_values);
}

/* --- ListSecretVersions --------------------------------------------------------------------------------------- */

enum { LIST_VERSION, LIST_KEYS, LIST_DESTROYED, LIST_TIME, LIST_PRINCIPAL, LIST_ACCOUNT };

struct version_list {
    Coffer__V1__ListSecretVersionsResponse *response;
    int64_t before; /* versions below it */
    uint32_t size;
};

static cof_code add_version(struct call *call, struct version_list *list, int64_t version, struct cof_slice keys,
                            Coffer__V1__SecretVersion **ret_message)
{
    Coffer__V1__SecretVersion *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret_version__init(message);
    message->version = (uint64_t) version;
    /* What cannot be read is shown without keys and hides no other version. */
    const cof_code code = values_keys(call, keys, &message->keys, &message->n_keys);
    if (code != COF_OK && code != COF_DATA_LOSS) {
        return code;
    }
    list->response->versions[list->response->n_versions++] = message;
    list->before = version;
    *ret_message = message;
    return COF_OK;
}

static cof_code fill_version(struct call *call, const struct rows *rows, size_t row, size_t time_column,
                             struct cof_slice account, Coffer__V1__SecretVersion *message)
{
    const struct cof_uuid principal = rows_uuid(rows, row, time_column + 1);
    message->create_time = time_of(call->arena, rows_time(rows, row, time_column));
    message->principal = text_of_uuid(call->arena, &principal);
    message->account = text_of(call->arena, account);
    return message->create_time == NULL || message->principal == NULL || message->account == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

/* `account` has the name of who wrote it, or no row. */
static cof_code add_current(struct call *call, struct version_list *list, const struct secret_row *row,
                            const struct rows *rows, const struct rows *account)
{
    const struct cof_slice name = rows_count(account) == 0 ? cof_slice_text("") : rows_bytes(account, 0, 0);
    Coffer__V1__SecretVersion *message;
    if (row->version >= list->before) {
        return COF_OK;
    }
    TRY(add_version(call, list, row->version, secret_sealed_of(rows, 0).keys, &message));
    message->state = COFFER__V1__SECRET_VERSION_STATE__SECRET_VERSION_STATE_CURRENT;
    return fill_version(call, rows, 0, secret_column_at(SECRET_VALUE_TIME), name, message);
}

static cof_code add_former(struct call *call, struct version_list *list, const struct rows *rows, size_t row)
{
    Coffer__V1__SecretVersion *message;
    TRY(add_version(call, list, rows_i64(rows, row, LIST_VERSION), rows_bytes(rows, row, LIST_KEYS), &message));
    message->state = rows_bool(rows, row, LIST_DESTROYED)
                         ? COFFER__V1__SECRET_VERSION_STATE__SECRET_VERSION_STATE_DESTROYED
                         : COFFER__V1__SECRET_VERSION_STATE__SECRET_VERSION_STATE_REPLACED;
    return fill_version(call, rows, row, LIST_TIME, rows_bytes(rows, row, LIST_ACCOUNT), message);
}

static cof_code end_versions(struct call *call, const struct version_list *list)
{
    char *version = cof_arena_format(call->arena, "%" PRId64, list->before);
    if (version == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const struct page_position position = {.parts = {cof_slice_text(version)}};
    return page_make(call, PAGE_VERSIONS, &position, &list->response->next_page_token);
}

static cof_code queue_versions(struct call *call, const struct version_list *list, const struct secret_row *row,
                               const struct rows *current)
{
    const struct cof_uuid writer = rows_uuid(current, 0, secret_column_at(SECRET_VALUE_TIME) + 1);
    const struct param name[] = {param_uuid(&row->workspace_id), param_uuid(&writer)};
    /* The current one is not among them, though a write may have come between. */
    const int64_t before = row->version < list->before ? row->version : list->before;
    const struct param params[] = {
        param_uuid(&row->workspace_id),
        param_uuid(&row->secret_id),
        param_i64(before),
        param_i64((int64_t) list->size + 1),
    };
    TRY(session_queue(call->session, STATEMENT_PRINCIPAL_NAME, name, COF_COUNT(name), call->err));
    TRY(session_queue(call->session, STATEMENT_VERSION_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

static cof_code fill_versions(struct call *call, struct version_list *list, const struct secret_row *row,
                              const struct rows *current)
{
    AUTO(rows_cleanup) struct rows *account = NULL;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(queue_versions(call, list, row, current));
    TRY(session_next(call->session, &account, call->err));
    TRY(session_next(call->session, &rows, call->err));
    TRY(add_current(call, list, row, current, account));
    for (size_t i = 0; i < rows_count(rows); i++) {
        if (list->response->n_versions == list->size) {
            return end_versions(call, list);
        }
        TRY(add_former(call, list, rows, i));
    }
    return COF_OK;
}

static cof_code read_before(struct call *call, const char *token, int64_t *ret_before)
{
    struct page_position position;
    unsigned long long before = 0;
    TRY(page_read(call, PAGE_VERSIONS, token, &position));
    *ret_before = INT64_MAX;
    for (size_t i = 0; i < position.parts[0].len; i++) {
        const uint8_t digit = (uint8_t) (position.parts[0].data[i] - '0');
        if (digit > 9 || i == 18) {
            return page_invalid(call);
        }
        before = before * 10 + digit;
    }
    if (position.parts[0].len > 0) {
        *ret_before = (int64_t) before;
    }
    return COF_OK;
}

cof_code secret_list_versions(struct call *call, const Coffer__V1__ListSecretVersionsRequest *request,
                              Coffer__V1__ListSecretVersionsResponse *response)
{
    const struct address *address;
    struct secret_row row = {0};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct version_list list = {.response = response, .size = page_size(call, request->page_size)};
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_READ,
                         &address));
    TRY(read_before(call, request->page_token, &list.before));
    TRY(secret_read_whole(call, address, &row, &rows));
    TRY(secret_message(call, &row, secret_sealed_of(rows, 0).keys, &response->secret));
    response->versions = cof_arena_array(call->arena, list.size, sizeof *response->versions);
    if (response->versions == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return fill_versions(call, &list, &row, rows);
}

/* --- DestroySecretVersion ------------------------------------------------------------------------------------- */

struct destruction {
    struct secret_change change;
    uint64_t version;
    Google__Protobuf__Timestamp **answer_copies;
};

static cof_code look_destroy(struct call *call, void *context)
{
    const struct destruction *destruction = context;
    TRY(secret_change_look(call, context));
    return secret_version_queue(call, destruction->change.address, destruction->version);
}

static cof_code decide_destroy(struct call *call, void *context)
{
    struct destruction *destruction = context;
    struct secret_change *change = &destruction->change;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    AUTO(rows_cleanup) struct rows *former = NULL;
    TRY(secret_change_take_whole(call, change, &rows));
    TRY(session_next(call->session, &former, call->err));
    if (destruction->version == (uint64_t) change->row.version) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "version",
                              "version %" PRIu64
                              " is the current one; write another one first, or delete the secret",
                              destruction->version);
    }
    TRY(secret_version_present(call, destruction->version, former));
    TRY(copies_in_backups_until(call, call_now(call), destruction->answer_copies));
    TRY(secret_change_metadata(call, change, EFFECT(VERSION_DESTROYED), secret_sealed_of(rows, 0).keys));
    change->write.objects[change->write.object_count - 1]->destroyed_version = destruction->version;
    return COF_OK;
}

static cof_code apply_destroy(struct call *call, void *context)
{
    struct destruction *destruction = context;
    const struct param params[] = {
        param_uuid(&destruction->change.row.workspace_id),
        param_uuid(&destruction->change.row.secret_id),
        param_i64((int64_t) destruction->version),
    };
    TRY(write_queue(call, &destruction->change.write, STATEMENT_VERSION_DESTROY, params, COF_COUNT(params)));
    return secret_change_apply(call, &destruction->change);
}

cof_code secret_destroy_version(struct call *call, const Coffer__V1__DestroySecretVersionRequest *request,
                                Coffer__V1__DestroySecretVersionResponse *response)
{
    struct destruction destruction = {
        .version = request->version,
        .answer_copies = &response->copies_in_backups_until,
    };
    struct secret_change *change = &destruction.change;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change->address));
    TRY(secret_version_check(call, request->version));
    change->guards.expected_uid = request->expected_uid;
    change->answer = &response->secret;
    secret_change_init(change, decide_destroy, &response->base);
    change->write.look = look_destroy;
    change->write.apply = apply_destroy;
    return write_run(call, &change->write);
}

/* --- RevealSecret --------------------------------------------------------------------------------------------- */

static cof_code open_revealed(struct call *call, const struct address *address, struct secret_row *row,
                              uint64_t version, struct values *ret_values)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    AUTO(rows_cleanup) struct rows *former = NULL;
    TRY(secret_read_whole(call, address, row, &rows));
    TRY(row_keep(&secret_row_type, call->arena, row, call->err));
    if (version == 0 || version == (uint64_t) row->version) {
        const struct sealed_version sealed = secret_sealed_of(rows, 0);
        return values_open(call, row, &sealed, ret_values);
    }
    TRY(secret_version_queue(call, address, version));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &former, call->err));
    TRY(secret_version_open(call, row, version, former, ret_values));
    row->version = (int64_t) version;
    return COF_OK;
}

static cof_code key_not_found(struct call *call, size_t index, const char *key)
{
    char field[COF_ERROR_FIELD_SIZE];
    (void) snprintf(field, sizeof field, "keys[%zu]", index);
    return cof_fail_field(call->err, COF_REASON_KEY_NOT_FOUND, field, "the version has no key \"%.128s\"; %s", key,
                          cof_reason_next_step(COF_REASON_KEY_NOT_FOUND));
}

/* Leaves the values that were asked for, in their order. */
static cof_code choose(struct call *call, const Coffer__V1__RevealSecretRequest *request, struct values *values)
{
    struct values chosen = {.items = cof_arena_array(call->arena, values->count, sizeof *chosen.items)};
    if (chosen.items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < request->n_keys; i++) {
        if (values_find(values, cof_slice_text(request->keys[i])) == NULL) {
            return key_not_found(call, i, request->keys[i]);
        }
    }
    for (size_t i = 0; i < values->count; i++) {
        bool asked = request->n_keys == 0;
        for (size_t k = 0; k < request->n_keys && !asked; k++) {
            asked = cof_slice_equal(values->items[i].key, cof_slice_text(request->keys[k]));
        }
        if (asked) {
            chosen.items[chosen.count++] = values->items[i];
        }
    }
    *values = chosen;
    return COF_OK;
}

cof_code secret_reveal(struct call *call, const Coffer__V1__RevealSecretRequest *request,
                       Coffer__V1__RevealSecretResponse *response)
{
    const struct address *address;
    struct secret_row row = {0};
    struct values values;
    struct cof_slice keys;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name,
                         COF_PERMISSION_SECRET_REVEAL, &address));
    if (request->version > INT64_MAX) {
        return secret_version_check(call, request->version);
    }
    TRY(open_revealed(call, address, &row, request->version, &values));
    TRY(choose(call, request, &values));
    TRY(values_list_keys(call, &values, &keys));
    TRY(secret_message(call, &row, keys, &response->secret));
    return values_messages(call, &values, &response->values, &response->n_values);
}
