/* Secrets with their values, page by page. */
#include <stdio.h>

#include "common/name.h"
#include "server/service/consistency.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/secret_change.h"
#include "server/service/secrets.h"
#include "server/service/text.h"

enum {
    EXPORT_SECRET = 1,        /* column at which the secret's begin; before them stands the revision */
    PAGE_BYTES = 2 << 20,     /* of keys and values: what a call's memory holds a few times */
    PATTERNS_MAX = 1000,      /* and as many environments */
    ANSWER_RESERVE = 4 << 10, /* of a response frame, for what is around the secrets */
};

struct export_page {
    const Coffer__V1__ExportSecretsRequest *request;
    Coffer__V1__ExportSecretsResponse *response;
    struct cof_uuid workspace;
    struct page_position position; /* name and environment of the last secret that was looked at */
    uint32_t size;
    size_t bytes; /* of the answer so far */
};

/* --- The request ---------------------------------------------------------------------------------------------- */

static cof_code check_filters(struct call *call, const Coffer__V1__ExportSecretsRequest *request)
{
    char field[COF_ERROR_FIELD_SIZE];
    if (request->n_environments > PATTERNS_MAX || request->n_name_patterns > PATTERNS_MAX) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED,
                              request->n_environments > PATTERNS_MAX ? "environments" : "name_patterns",
                              "an export has at most %d environments and %d patterns", PATTERNS_MAX, PATTERNS_MAX);
    }
    for (size_t i = 0; i < request->n_environments; i++) {
        (void) snprintf(field, sizeof field, "environments[%zu]", i);
        TRY(cof_name_check(COF_NAME_ENVIRONMENT, cof_slice_text(request->environments[i]), field, call->err));
    }
    for (size_t i = 0; i < request->n_name_patterns; i++) {
        if (!cof_pattern_valid(COF_NAME_SECRET, cof_slice_text(request->name_patterns[i]))) {
            (void) snprintf(field, sizeof field, "name_patterns[%zu]", i);
            return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field,
                                  "%s must be a name, or the beginning of one and *", field);
        }
    }
    return COF_OK;
}

static cof_code environments_of(struct call *call, const Coffer__V1__ExportSecretsRequest *request,
                                struct param *ret_param)
{
    struct cof_slice *items = cof_arena_array(call->arena, request->n_environments, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < request->n_environments; i++) {
        items[i] = cof_slice_text(request->environments[i]);
    }
    *ret_param = param_null();
    return request->n_environments == 0 ? COF_OK : secret_texts(call, items, request->n_environments, ret_param);
}

/* Patterns are names, from the front of the array, and beginnings of names, from its end. */
static cof_code patterns_of(struct call *call, const Coffer__V1__ExportSecretsRequest *request,
                            struct param *ret_names, struct param *ret_prefixes)
{
    const size_t count = request->n_name_patterns;
    struct cof_slice *items = cof_arena_array(call->arena, count, sizeof *items);
    size_t names = 0;
    size_t prefixes = count;
    *ret_names = param_null();
    *ret_prefixes = param_null();
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        const struct cof_slice pattern = cof_slice_text(request->name_patterns[i]);
        if (pattern.data[pattern.len - 1] == '*') {
            items[--prefixes] = cof_slice_of(pattern.data, pattern.len - 1);
        } else {
            items[names++] = pattern;
        }
    }
    if (count == 0) {
        return COF_OK;
    }
    TRY(secret_texts(call, items, names, ret_names));
    return secret_texts(call, items + prefixes, count - prefixes, ret_prefixes);
}

/* --- One page ------------------------------------------------------------------------------------------------- */

static size_t room_of(const struct call *call)
{
    const size_t frame = call->service->limits.response_bytes - ANSWER_RESERVE;
    return frame < PAGE_BYTES ? frame : PAGE_BYTES;
}

static cof_code read_page(struct call *call, const struct export_page *page, struct rows **ret_rows)
{
    struct param params[] = {
        param_uuid(&page->workspace),
        param_text(page->position.parts[0]),
        param_text(page->position.parts[1]),
        param_null(),
        param_null(),
        param_null(),
        param_i64(page->size),
        param_i64((int64_t) room_of(call)),
    };
    TRY(environments_of(call, page->request, &params[3]));
    TRY(patterns_of(call, page->request, &params[4], &params[5]));
    TRY(session_queue(call->session, STATEMENT_SECRET_EXPORT, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, ret_rows, call->err));
    return rows_count(*ret_rows) > 0
               ? COF_OK
               : cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "the workspace's revision is not there");
}

static cof_code open_secret(struct call *call, const struct secret_row *row, const struct rows *rows, size_t index,
                            Coffer__V1__ExportedSecret *message)
{
    const size_t keys = EXPORT_SECRET + secret_column_at(SECRET_KEYS);
    const size_t blob = EXPORT_SECRET + secret_column_at(SECRET_BLOB);
    const struct cof_slice none = {NULL, 0};
    const struct sealed_version sealed = {
        rows_bytes(rows, index, keys),
        rows_null(rows, index, blob) ? none : rows_bytes(rows, index, blob),
    };
    struct values values;
    TRY(guard_check_row(call, &secret_row_type, &row->workspace_id, row));
    TRY(values_open(call, row, &sealed, &values));
    TRY(secret_message(call, row, sealed.keys, &message->secret));
    return values_messages(call, &values, &message->values, &message->n_values);
}

/* A damaged secret is shown as such and hides no other. */
static cof_code show_secret(struct call *call, const struct secret_row *row, const struct rows *rows, size_t index,
                            Coffer__V1__ExportedSecret **ret_message)
{
    Coffer__V1__ExportedSecret *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__exported_secret__init(message);
    const cof_code code = open_secret(call, row, rows, index, message);
    if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        coffer__v1__exported_secret__init(message);
        TRY(secret_message_corrupted(call, row, &message->secret));
    } else {
        TRY(code);
    }
    *ret_message = message;
    return COF_OK;
}

static cof_code remember(struct call *call, struct export_page *page, const struct secret_row *row)
{
    TRY(text_keep(call->arena, row->name, &page->position.parts[0], call->err));
    return text_keep(call->arena, row->environment, &page->position.parts[1], call->err);
}

/* Adds what stands in the row, if the caller may reveal it. The first of a page is taken whatever its size is. */
static cof_code add_secret(struct call *call, struct export_page *page, const struct rows *rows, size_t index,
                           bool *ret_full)
{
    Coffer__V1__ExportSecretsResponse *response = page->response;
    Coffer__V1__ExportedSecret *message;
    struct secret_row row = {0};
    TRY(row_read(&secret_row_type, rows, index, EXPORT_SECRET, call->arena, &row, call->err));
    if (!authorize_sees(call, &page->workspace, row.environment, row.name, COF_PERMISSION_SECRET_REVEAL)) {
        return remember(call, page, &row);
    }
    TRY(show_secret(call, &row, rows, index, &message));
    page->bytes += protobuf_c_message_get_packed_size(&message->base);
    *ret_full = response->n_secrets > 0 && page->bytes > call->service->limits.response_bytes - ANSWER_RESERVE;
    if (*ret_full) {
        return COF_OK;
    }
    response->secrets[response->n_secrets++] = message;
    return remember(call, page, &row);
}

/* Whether the statement may have ended before the last secret: it reads so many secrets, or so many bytes. */
static bool may_go_on(const struct call *call, const struct export_page *page, const struct rows *rows)
{
    const size_t keys = EXPORT_SECRET + secret_column_at(SECRET_KEYS);
    const size_t blob = EXPORT_SECRET + secret_column_at(SECRET_BLOB);
    size_t bytes = 0;
    for (size_t i = 0; i < rows_count(rows); i++) {
        bytes += rows_null(rows, i, blob) ? 0 : rows_bytes(rows, i, keys).len + rows_bytes(rows, i, blob).len;
    }
    return rows_count(rows) == page->size || bytes >= room_of(call);
}

static cof_code fill_page(struct call *call, struct export_page *page)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    bool full = false;
    TRY(read_page(call, page, &rows));
    page->response->consistency_token = cof_arena_alloc(call->arena, CONSISTENCY_TOKEN_TEXT);
    if (page->response->consistency_token == NULL) {
        return cof_arena_exhausted(call->err);
    }
    consistency_format(call->service, (uint64_t) rows_i64(rows, 0, 0), page->response->consistency_token);
    if (rows_null(rows, 0, EXPORT_SECRET)) {
        return COF_OK;
    }
    for (size_t i = 0; i < rows_count(rows) && !full; i++) {
        TRY(add_secret(call, page, rows, i, &full));
    }
    return full || may_go_on(call, page, rows)
               ? page_make(call, PAGE_EXPORT, &page->position, &page->response->next_page_token)
               : COF_OK;
}

cof_code secret_export(struct call *call, const Coffer__V1__ExportSecretsRequest *request,
                       Coffer__V1__ExportSecretsResponse *response)
{
    struct export_page page = {
        .request = request, .response = response, .size = page_size(call, request->page_size)};
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_SECRET_REVEAL, &page.workspace));
    TRY(check_filters(call, request));
    TRY(page_read(call, PAGE_EXPORT, request->page_token, &page.position));
    TRY(guard_load_keys(call, &page.workspace));
    response->secrets = cof_arena_array(call->arena, page.size, sizeof *response->secrets);
    if (response->secrets == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return fill_page(call, &page);
}
