/* Many secrets written at once: all of them, or none. */
#include "server/service/secret_import.h"

#include <stdlib.h>

#include "server/service/secrets.h"
#include "server/service/text.h"

enum { ANSWER_RESERVE = 1024 }; /* of a response frame, for what is around the message */

struct import {
    struct write write;
    const Coffer__V1__ImportSecretsRequest *request;
    Coffer__V1__ImportSecretsResponse *response;
    struct import_item *items;  /* in the request's order */
    struct import_item **asked; /* those that are looked at, by environment and name */
    size_t asked_count;
    size_t looked; /* statements that `look` queued */
};

/* --- The request ---------------------------------------------------------------------------------------------- */

static cof_code check_request(struct call *call, const Coffer__V1__ImportSecretsRequest *request)
{
    const uint32_t limit = call->service->limits.secrets_per_import;
    if (request->n_secrets == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "secrets",
                              "an import needs at least one secret");
    }
    if (request->n_secrets > limit) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "secrets",
                              "an import has at most %u secrets, not %zu; make several of it, each of which is "
                              "written as a whole or not at all",
                              limit, request->n_secrets);
    }
    if ((int) request->mode < 0 || request->mode > COFFER__V1__IMPORT_MODE__IMPORT_MODE_PATCH) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "mode", "mode is no ImportMode of this server");
    }
    return COF_OK;
}

static int by_address(const void *a, const void *b)
{
    const struct import_item *const *left = a;
    const struct import_item *const *right = b;
    const int order =
        cof_slice_compare(address_environment((*left)->address), address_environment((*right)->address));
    return order != 0 ? order : cof_slice_compare(address_name((*left)->address), address_name((*right)->address));
}

static bool same_environment(const struct import_item *a, const struct import_item *b)
{
    return cof_slice_equal(address_environment(a->address), address_environment(b->address));
}

static cof_code refuse_twice(struct call *call, struct import_item *item)
{
    item->address = NULL;
    return import_item_settle(
        call, item,
        cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "name",
                       "the import has this secret twice; send each environment and name once"));
}

/* Of several with one address all are refused: nobody knows which one was meant. */
static cof_code drop_twins(struct call *call, struct import *import)
{
    struct import_item **asked = import->asked;
    const size_t count = import->asked_count;
    import->asked_count = 0;
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && by_address(&asked[first], &asked[end]) == 0; end++) {
        }
        for (size_t i = first; end - first > 1 && i < end; i++) {
            TRY(refuse_twice(call, asked[i]));
        }
        if (end - first == 1) {
            asked[import->asked_count++] = asked[first];
        }
    }
    return COF_OK;
}

static cof_code read_items(struct call *call, struct import *import)
{
    const Coffer__V1__ImportSecretsRequest *request = import->request;
    const size_t count = request->n_secrets;
    import->items = cof_arena_array(call->arena, count, sizeof *import->items);
    import->asked = cof_arena_array(call->arena, count, sizeof(struct import_item *));
    import->response->secrets = cof_arena_array(call->arena, count, sizeof *import->response->secrets);
    if (import->items == NULL || import->asked == NULL || import->response->secrets == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        struct import_item *item = &import->items[i];
        item->from = request->secrets[i];
        TRY(import_item_read(call, request->workspace, item));
        import->response->secrets[import->response->n_secrets++] = item->result;
        if (item->address != NULL) {
            import->asked[import->asked_count++] = item;
        }
    }
    qsort(import->asked, import->asked_count, sizeof(struct import_item *), by_address);
    return drop_twins(call, import);
}

/* --- The write ------------------------------------------------------------------------------------------------ */

/* Environments first, then secrets, both sorted: whoever locks several of them does so in the same order. */
static cof_code look_import(struct call *call, void *context)
{
    struct import *import = context;
    import->looked = 0;
    for (size_t i = 0; i < import->asked_count; i++) {
        if (i == 0 || !same_environment(import->asked[i - 1], import->asked[i])) {
            TRY(secret_place_queue(call, import->asked[i]->address));
            import->looked += SECRET_PLACE_STATEMENTS;
        }
    }
    for (size_t i = 0; i < import->asked_count; i++) {
        TRY(secret_change_look(call, &import->asked[i]->change));
        import->looked++;
    }
    return COF_OK;
}

static cof_code take_place(struct call *call, const struct address *address, bool *ret_missing)
{
    const cof_code code = secret_place_take(call, address);
    *ret_missing = code == COF_NOT_FOUND && call->err->reason == COF_REASON_ENVIRONMENT_NOT_FOUND;
    if (*ret_missing) {
        cof_error_clear(call->err);
        return COF_OK;
    }
    return code;
}

static cof_code take_places(struct call *call, struct import *import)
{
    bool missing = false;
    for (size_t i = 0; i < import->asked_count; i++) {
        struct import_item *item = import->asked[i];
        if (i == 0 || !same_environment(import->asked[i - 1], item)) {
            TRY(take_place(call, item->address, &missing));
        }
        item->homeless = missing;
    }
    return COF_OK;
}

static bool any_refused(const struct import *import)
{
    for (size_t i = 0; i < import->request->n_secrets; i++) {
        if (import->items[i].refusal != COF_REASON_NONE) {
            return true;
        }
    }
    return false;
}

/* What is committed must be told, so an answer that is too large is found out now. */
static cof_code check_answer(struct call *call, const struct import *import)
{
    const size_t size = protobuf_c_message_get_packed_size(&import->response->base);
    if (size + ANSWER_RESERVE <= call->service->limits.response_bytes) {
        return COF_OK;
    }
    return cof_fail(
        call->err, COF_REASON_MESSAGE_TOO_LARGE,
        "the answer would be larger than a response frame may be, and nothing was written; import fewer "
        "secrets at once");
}

/* The UUID of a secret that is new is told once it is the secret's. */
static cof_code tell_written(struct call *call, struct import *import)
{
    for (size_t i = 0; i < import->request->n_secrets; i++) {
        struct import_item *item = &import->items[i];
        item->result->uid = text_of_uuid(call->arena, &item->change.row.secret_id);
        if (item->result->uid == NULL) {
            return cof_arena_exhausted(call->err);
        }
        TRY(import_item_record(call, &import->write, item));
    }
    return COF_OK;
}

static cof_code decide_import(struct call *call, void *context)
{
    struct import *import = context;
    TRY(take_places(call, import));
    for (size_t i = 0; i < import->asked_count; i++) {
        TRY(call_check_deadline(call));
        TRY(import_item_decide(call, import->request->mode, import->asked[i]));
    }
    import->response->written = !import->request->validate_only && !any_refused(import);
    import->write.nothing = !import->response->written;
    if (import->response->written) {
        TRY(tell_written(call, import));
    }
    return check_answer(call, import);
}

static cof_code apply_import(struct call *call, void *context)
{
    struct import *import = context;
    for (size_t i = 0; i < import->asked_count; i++) {
        TRY(import_item_queue(call, &import->write, import->asked[i]));
    }
    return COF_OK;
}

/* What was sent was good once; a right may have been lost since. */
static cof_code recheck_import(struct call *call, void *context)
{
    const struct import *import = context;
    for (size_t i = 0; i < import->looked; i++) {
        TRY(session_next(call->session, NULL, call->err));
    }
    for (size_t i = 0; i < import->request->n_secrets; i++) {
        if (import->items[i].refusal == COF_REASON_PERMISSION_DENIED) {
            return cof_fail(call->err, COF_REASON_PERMISSION_DENIED, "%s", import->items[i].result->message);
        }
    }
    return COF_OK;
}

cof_code secret_import(struct call *call, const Coffer__V1__ImportSecretsRequest *request,
                       Coffer__V1__ImportSecretsResponse *response)
{
    struct import import = {.request = request, .response = response};
    TRY(check_request(call, request));
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_SECRET_WRITE, &import.write.workspace));
    TRY(read_items(call, &import));
    import.write.look = look_import;
    import.write.decide = decide_import;
    import.write.apply = apply_import;
    import.write.recheck = recheck_import;
    import.write.context = &import;
    import.write.answer = &response->base;
    return write_run(call, &import.write);
}
