/* One secret of an import. */
#include "common/name.h"
#include "common/secret.h"
#include "server/service/guard.h"
#include "server/service/secret_import.h"
#include "server/service/text.h"

#define CREATED COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_CREATED
#define CHANGED COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_CHANGED
#define UNCHANGED COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_UNCHANGED
#define SKIPPED COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_SKIPPED
#define REFUSED COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_REFUSED

#define KEY_SAME COFFER__V1__KEY_CHANGE__KEY_CHANGE_UNSPECIFIED
#define KEY_ADDED COFFER__V1__KEY_CHANGE__KEY_CHANGE_ADDED
#define KEY_CHANGED COFFER__V1__KEY_CHANGE__KEY_CHANGE_CHANGED
#define KEY_REMOVED COFFER__V1__KEY_CHANGE__KEY_CHANGE_REMOVED
#define KEY_WRITTEN COFFER__V1__KEY_CHANGE__KEY_CHANGE_WRITTEN

/* How much of what is stored the caller may be told. */
typedef enum sight {
    SIGHT_NONE,
    SIGHT_NAMES,
    SIGHT_VALUES,
} sight;

struct held {
    sight sight;
    struct values values; /* names only, unless the secret was opened */
};

/* --- Refusals ------------------------------------------------------------------------------------------------- */

static const cof_reason about_one_secret[] = {
    COF_REASON_FIELD_INVALID, COF_REASON_FIELD_REQUIRED,        COF_REASON_LIMIT_EXCEEDED,
    COF_REASON_NAME_RESERVED, COF_REASON_NOT_AVAILABLE,         COF_REASON_PERMISSION_DENIED,
    COF_REASON_SECRET_EXISTS, COF_REASON_ENVIRONMENT_NOT_FOUND, COF_REASON_CORRUPTED,
};

static bool is_about_one(cof_reason reason)
{
    for (size_t i = 0; i < COF_COUNT(about_one_secret); i++) {
        if (about_one_secret[i] == reason) {
            return true;
        }
    }
    return false;
}

/* The answer's entry as it is before anything is known: with the names, if they can be some. */
static cof_code begin_result(struct call *call, struct import_item *item)
{
    const char *environment =
        item->from->environment[0] == '\0' ? COF_DEFAULT_ENVIRONMENT : item->from->environment;
    Coffer__V1__ImportedSecret *result = item->result;
    coffer__v1__imported_secret__init(result);
    if (cof_name_valid(COF_NAME_ENVIRONMENT, cof_slice_text(environment))) {
        result->environment = text_of(call->arena, cof_slice_text(environment));
    }
    if (cof_name_valid(COF_NAME_SECRET, cof_slice_text(item->from->name))) {
        result->name = item->from->name;
    }
    return result->environment == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code import_item_settle(struct call *call, struct import_item *item, cof_code code)
{
    if (code == COF_OK || !is_about_one(call->err->reason)) {
        return code;
    }
    TRY(begin_result(call, item));
    Coffer__V1__ImportedSecret *result = item->result;
    item->refusal = call->err->reason;
    result->action = REFUSED;
    result->reason = text_of(call->arena, cof_slice_text(cof_reason_name(item->refusal)));
    result->message = text_of(call->arena, cof_slice_text(call->err->message));
    result->field = text_of(call->arena, cof_slice_text(call->err->field));
    cof_error_clear(call->err);
    return result->reason == NULL || result->message == NULL || result->field == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

/* --- What was sent -------------------------------------------------------------------------------------------- */

static cof_code read_metadata(struct call *call, const Coffer__V1__ImportMetadata *from,
                              struct import_metadata *metadata)
{
    if (from == NULL) {
        *metadata = (struct import_metadata){.expire_time = ROW_NO_TIME};
        return COF_OK;
    }
    metadata->given = true;
    metadata->block_when_expired = from->block_when_expired;
    TRY(secret_read_description(call, from->description, &metadata->description));
    TRY(secret_read_tags(call, from->tags, from->n_tags, &metadata->tags));
    return secret_read_expire_time(call, from->expire_time, &metadata->expire_time);
}

static cof_code read_sent(struct call *call, const char *workspace, struct import_item *item)
{
    const Coffer__V1__ImportSecret *from = item->from;
    TRY(authorize_secret(call, workspace, from->environment, from->name, COF_PERMISSION_SECRET_WRITE,
                         &item->address));
    if (cof_name_reserved(cof_slice_text(from->name))) {
        return secret_name_reserved(call, "name");
    }
    TRY(read_metadata(call, from->metadata, &item->metadata));
    if (from->n_values == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "values", "a secret needs at least one key");
    }
    return values_read(call, from->values, from->n_values, "values", &item->sent);
}

cof_code import_item_read(struct call *call, const char *workspace, struct import_item *item)
{
    item->result = cof_arena_alloc(call->arena, sizeof *item->result);
    if (item->result == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const cof_code code = read_sent(call, workspace, item);
    item->change.address = item->address;
    if (code != COF_OK) {
        item->address = NULL;
    }
    return import_item_settle(call, item, code);
}

/* --- What differs --------------------------------------------------------------------------------------------- */

static bool sees(const struct call *call, const struct import_item *item, cof_permission permission)
{
    return authorize_sees(call, address_workspace(item->address), address_environment(item->address),
                          address_name(item->address), permission);
}

static cof_code names_of(struct call *call, struct cof_slice keys, struct held *held)
{
    Coffer__V1__SecretKey **list;
    size_t count;
    TRY(values_keys(call, keys, &list, &count));
    held->values.items = cof_arena_array(call->arena, count, sizeof *held->values.items);
    if (held->values.items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        held->values.items[i].key = cof_slice_text(list[i]->name);
    }
    held->values.count = count;
    return COF_OK;
}

/* What cannot be read is compared with nothing: it is only overwritten. */
static cof_code unless_damaged(struct call *call, struct held *held, cof_code code)
{
    if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        *held = (struct held){.sight = SIGHT_NONE};
        return COF_OK;
    }
    return code;
}

/* For a secret whose values are replaced. */
static cof_code read_held(struct call *call, const struct import_item *item, const struct rows *rows,
                          struct held *held)
{
    const struct sealed_version sealed = secret_sealed_of(rows, 0);
    if (item->change.damaged || held->sight == SIGHT_NONE) {
        held->sight = SIGHT_NONE;
        return COF_OK;
    }
    return unless_damaged(call, held,
                          held->sight == SIGHT_VALUES ? values_open(call, &item->change.row, &sealed, &held->values)
                                                      : names_of(call, sealed.keys, held));
}

static sight sight_of(const struct call *call, const struct import_item *item)
{
    if (sees(call, item, COF_PERMISSION_SECRET_REVEAL) || sees(call, item, COF_PERMISSION_RESOLVE)) {
        return SIGHT_VALUES;
    }
    return sees(call, item, COF_PERMISSION_SECRET_READ) ? SIGHT_NAMES : SIGHT_NONE;
}

/* A key that stood there and will. */
static Coffer__V1__KeyChange change_of(const struct import_item *item, const struct held *held,
                                       const struct value *before, const struct value *after)
{
    if (held->sight == SIGHT_VALUES) {
        return cof_secret_equal(before->bytes, after->bytes) ? KEY_SAME : KEY_CHANGED;
    }
    return values_find(&item->sent, after->key) == NULL ? KEY_SAME : KEY_WRITTEN;
}

static cof_code add_key(struct call *call, Coffer__V1__ImportedSecret *result, struct cof_slice key,
                        Coffer__V1__KeyChange change)
{
    if (change == KEY_SAME) {
        return COF_OK;
    }
    Coffer__V1__ImportedKey *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__imported_key__init(message);
    message->key = text_of(call->arena, key);
    message->change = change;
    result->keys[result->n_keys++] = message;
    return message->key == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* Both lists of keys are sorted by bytes. */
static cof_code tell_keys(struct call *call, const struct import_item *item, const struct held *held)
{
    const struct values *before = &held->values;
    const struct values *after = &item->values;
    Coffer__V1__ImportedSecret *result = item->result;
    size_t i = 0;
    size_t k = 0;
    result->keys = cof_arena_array(call->arena, before->count + after->count, sizeof *result->keys);
    if (result->keys == NULL) {
        return cof_arena_exhausted(call->err);
    }
    while (i < before->count || k < after->count) {
        const int order = i == before->count  ? 1
                          : k == after->count ? -1
                                              : cof_slice_compare(before->items[i].key, after->items[k].key);
        Coffer__V1__KeyChange change = order < 0 ? KEY_REMOVED : KEY_ADDED;
        if (order == 0) {
            change = change_of(item, held, &before->items[i], &after->items[k]);
        }
        TRY(add_key(call, result, order < 0 ? before->items[i].key : after->items[k].key, change));
        i += order <= 0;
        k += order >= 0;
    }
    return COF_OK;
}

static bool tags_equal(const struct row_texts *a, const struct row_texts *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; i < a->count && equal; i++) {
        equal = cof_slice_equal(a->items[i], b->items[i]);
    }
    return equal;
}

static bool metadata_differs(const struct import_metadata *metadata, const struct secret_row *row)
{
    return metadata->given &&
           (!cof_slice_equal(metadata->description, row->description) || !tags_equal(&metadata->tags, &row->tags) ||
            metadata->expire_time != row->expire_time || metadata->block_when_expired != row->block_when_expired);
}

/* --- What is written ------------------------------------------------------------------------------------------ */

static void put_metadata(const struct import_metadata *metadata, struct secret_row *row)
{
    row->description = metadata->description;
    row->tags = metadata->tags;
    row->expire_time = metadata->expire_time;
    row->block_when_expired = metadata->block_when_expired;
}

static void tell(struct import_item *item, Coffer__V1__ImportAction action)
{
    Coffer__V1__ImportedSecret *result = item->result;
    result->action = action;
    result->version = (uint64_t) item->change.row.version;
    result->warnings = item->change.warnings.items;
    result->n_warnings = item->change.warnings.count;
}

static cof_code make_new(struct call *call, struct import_item *item)
{
    static const struct held nothing = {.sight = SIGHT_VALUES};
    struct secret_row *row = &item->change.row;
    *row = (struct secret_row){
        .workspace_id = *address_workspace(item->address),
        .secret_id = cof_uuid_random(),
        .type = item->from->type == COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED
                    ? COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM
                    : (int32_t) item->from->type,
        .metadata_version = 1,
        .create_time = call_now(call),
        .delete_time = ROW_NO_TIME,
    };
    put_metadata(&item->metadata, row);
    item->made = true;
    item->values = item->sent;
    TRY(secret_typed(call, row, false, &item->values, &item->change.warnings));
    TRY(secret_change_version(call, &item->change, &item->values));
    tell(item, CREATED);
    return tell_keys(call, item, &nothing);
}

/* A damaged row may have lost its type. */
static cof_code check_type(struct call *call, struct import_item *item)
{
    struct secret_row *row = &item->change.row;
    if (item->from->type == COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED ||
        row->type == (int32_t) item->from->type) {
        return COF_OK;
    }
    if (item->change.damaged) {
        row->type = (int32_t) item->from->type;
        return COF_OK;
    }
    return cof_fail_field(
        call->err, COF_REASON_SECRET_EXISTS, "type",
        "the secret exists with another type, which never changes; choose another name, or delete it");
}

/* Where values cannot be compared they are always written: whether they are the same would show in the version. */
static cof_code write_what_differs(struct call *call, struct import_item *item, const struct held *held)
{
    struct secret_row *row = &item->change.row;
    const bool values_differ = held->sight != SIGHT_VALUES || item->result->n_keys > 0;
    const bool metadata = metadata_differs(&item->metadata, row);
    item->result->metadata_changed = metadata;
    if (metadata) {
        put_metadata(&item->metadata, row);
        row->metadata_version++;
    }
    if (values_differ) {
        TRY(secret_change_version(call, &item->change, &item->values));
    } else if (metadata) {
        TRY(secret_change_seal(call, &item->change));
    }
    tell(item, values_differ || metadata ? CHANGED : UNCHANGED);
    return COF_OK;
}

static cof_code replace(struct call *call, struct import_item *item, const struct rows *rows)
{
    struct held held = {.sight = sight_of(call, item)};
    item->values = item->sent;
    TRY(check_type(call, item));
    TRY(read_held(call, item, rows, &held));
    TRY(secret_typed(call, &item->change.row, item->change.damaged, &item->values, &item->change.warnings));
    if (held.sight != SIGHT_NONE) {
        TRY(tell_keys(call, item, &held));
    }
    return write_what_differs(call, item, &held);
}

/* A damaged secret has no values that could be patched. */
static cof_code patch(struct call *call, struct import_item *item, const struct rows *rows)
{
    struct held held = {.sight = sight_of(call, item)};
    const struct sealed_version sealed = secret_sealed_of(rows, 0);
    struct secret_row *row = &item->change.row;
    TRY(guard_check_row(call, &secret_row_type, &row->workspace_id, row));
    TRY(check_type(call, item));
    TRY(values_open(call, row, &sealed, &held.values));
    TRY(values_patch(call, &held.values, &item->sent, NULL, 0, &item->values));
    TRY(secret_typed(call, row, false, &item->values, &item->change.warnings));
    if (held.sight != SIGHT_NONE) {
        TRY(tell_keys(call, item, &held));
    }
    return write_what_differs(call, item, &held);
}

/* There is a secret with this name. */
static cof_code meet(struct call *call, Coffer__V1__ImportMode mode, struct import_item *item,
                     const struct rows *rows)
{
    item->result->uid = text_of_uuid(call->arena, &item->change.row.secret_id);
    if (item->result->uid == NULL) {
        return cof_arena_exhausted(call->err);
    }
    switch (mode) {
    case COFFER__V1__IMPORT_MODE__IMPORT_MODE_SKIP:
        tell(item, SKIPPED);
        return COF_OK;
    case COFFER__V1__IMPORT_MODE__IMPORT_MODE_REPLACE:
        return replace(call, item, rows);
    case COFFER__V1__IMPORT_MODE__IMPORT_MODE_PATCH:
        return patch(call, item, rows);
    case COFFER__V1__IMPORT_MODE__IMPORT_MODE_UNSPECIFIED:
    case COFFER__V1__IMPORT_MODE__IMPORT_MODE_FAIL:
    case _COFFER__V1__IMPORT_MODE_IS_INT_SIZE:
        break;
    }
    return secret_exists(call, item->address);
}

cof_code import_item_decide(struct call *call, Coffer__V1__ImportMode mode, struct import_item *item)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    item->made = false;
    item->refusal = COF_REASON_NONE;
    item->change.new_values = false;
    item->change.damaged = false;
    item->change.warnings = (struct secret_warnings){0};
    TRY(begin_result(call, item));
    cof_code code = secret_change_take(call, &item->change, &rows);
    if (code == COF_OK) {
        code = meet(call, mode, item, rows);
    } else if (code == COF_NOT_FOUND) {
        cof_error_clear(call->err);
        code = item->homeless ? secret_place_missing(call, item->address) : make_new(call, item);
    }
    return import_item_settle(call, item, code);
}

/* --- The write ------------------------------------------------------------------------------------------------ */

cof_code import_item_record(struct call *call, struct write *write, const struct import_item *item)
{
    static const struct values none;
    const struct secret_row *row = &item->change.row;
    Coffer__Audit__V1__Object *object;
    if (item->change.new_values) {
        return secret_record(call, write, row, item->made ? EFFECT(CREATED) : EFFECT(VALUES_CHANGED),
                             &item->values);
    }
    if (item->result->action == CHANGED) {
        return secret_record(call, write, row, EFFECT(METADATA_CHANGED), &none);
    }
    TRY(write_object(call, write, "secret", &row->secret_id, address_environment(item->address),
                     address_name(item->address), &object));
    object->version = (uint64_t) row->version;
    object->reason =
        text_of(call->arena, cof_slice_text(item->result->action == SKIPPED ? "SKIPPED" : "UNCHANGED"));
    return object->reason == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code import_item_queue(struct call *call, struct write *write, const struct import_item *item)
{
    const struct row_more more = secret_more_of(call, &item->change.sealed);
    if (item->made) {
        return write_queue_row_and(call, write, STATEMENT_SECRET_INSERT, &secret_row_type, &item->change.row,
                                   &more);
    }
    return item->result->action == CHANGED ? secret_change_queue(call, write, &item->change) : COF_OK;
}
