#include "server/service/secret_change.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/wire.h"
#include "server/aws/mode.h"
#include "server/service/expected_uid.h"
#include "server/service/guard.h"
#include "server/service/secret_types.h"
#include "server/service/text.h"

enum { DESCRIPTION_MAX = 1000, TAGS_MAX = 50, TAG_MAX = 100 };

/* --- By address ----------------------------------------------------------------------------------------------- */

size_t secret_column_at(enum secret_column column)
{
    return secret_row_type.count + (size_t) column;
}

cof_code secret_queue(struct call *call, const struct address *address, statement id)
{
    const struct param params[] = {
        param_uuid(address_workspace(address)),
        param_text(address_environment(address)),
        param_text(address_name(address)),
    };
    return session_queue(call->session, id, params, COF_COUNT(params), call->err);
}

struct sealed_version secret_sealed_of(const struct rows *rows, size_t index)
{
    const struct cof_slice none = {NULL, 0};
    const size_t keys = secret_column_at(SECRET_KEYS);
    const size_t blob = secret_column_at(SECRET_BLOB);
    return (struct sealed_version){
        rows_null(rows, index, keys) ? none : rows_bytes(rows, index, keys),
        rows_null(rows, index, blob) ? none : rows_bytes(rows, index, blob),
    };
}

cof_code secret_texts(struct call *call, const struct cof_slice *items, size_t count, struct param *ret_param)
{
    uint8_t *place = cof_arena_alloc(call->arena, array_text_size(items, count));
    if (place == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_param = param_text_array(items, count, place);
    return COF_OK;
}

cof_code secret_not_found(struct call *call, const struct address *address)
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

cof_code secret_exists(struct call *call, const struct address *address)
{
    const struct cof_slice name = address_name(address);
    const struct cof_slice environment = address_environment(address);
    return cof_fail(
        call->err, COF_REASON_SECRET_EXISTS,
        "a secret \"%.*s\" exists in the environment \"%.*s\"; update its values, or choose another name",
        (int) name.len, (const char *) name.data, (int) environment.len, (const char *) environment.data);
}

cof_code secret_check_aws(struct call *call, struct cof_slice name, const struct values *values)
{
    const struct cof_slice key = cof_slice_text(aws_key_name(AWS_KEY_ROLE_SESSION_NAME));
    if (aws_kind_of(name) == AWS_KIND_NONE || values_find(values, key) == NULL) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_AWS_SESSION_NAME_REFUSED, "values", "%s; %s",
                          cof_reason_meaning(COF_REASON_AWS_SESSION_NAME_REFUSED),
                          cof_reason_next_step(COF_REASON_AWS_SESSION_NAME_REFUSED));
}

cof_code secret_name_reserved(struct call *call, const char *field)
{
    return cof_fail_field(call->err, COF_REASON_NAME_RESERVED, field, "%s; %s",
                          cof_reason_meaning(COF_REASON_NAME_RESERVED),
                          cof_reason_next_step(COF_REASON_NAME_RESERVED));
}

/* --- Metadata ------------------------------------------------------------------------------------------------- */

cof_code secret_read_tags(struct call *call, char *const *tags, size_t count, struct row_texts *ret_tags)
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

cof_code secret_read_description(struct call *call, const char *description, struct cof_slice *ret_description)
{
    *ret_description = cof_slice_text(description);
    if (ret_description->len > DESCRIPTION_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "description",
                              "description has %zu bytes; at most %d are allowed", ret_description->len,
                              DESCRIPTION_MAX);
    }
    return COF_OK;
}

cof_code secret_read_expire_time(struct call *call, const Google__Protobuf__Timestamp *time, int64_t *ret_time)
{
    if (!time_read(time, ret_time)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expire_time",
                              "expire_time lies outside the years 1 to 9999");
    }
    return COF_OK;
}

/* --- Audit ---------------------------------------------------------------------------------------------------- */

cof_code secret_record(struct call *call, struct write *write, const struct secret_row *row,
                       Coffer__Audit__V1__Effect effect, const struct values *values)
{
    Coffer__Audit__V1__Object *object;
    TRY(write_object(call, write, "secret", &row->secret_id, row->environment, row->name, &object));
    object->version = (uint64_t) row->version;
    object->effect = effect;
    object->metadata_version = effect == EFFECT(UNSPECIFIED) ? 0 : (uint64_t) row->metadata_version;
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

/* --- Places --------------------------------------------------------------------------------------------------- */

cof_code secret_place_queue(struct call *call, const struct address *address)
{
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
    return session_queue(call->session, STATEMENT_ENVIRONMENT_KEEP, environment, 2, call->err);
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

cof_code secret_place_missing(struct call *call, const struct address *address)
{
    const struct cof_slice name = address_environment(address);
    return cof_fail(call->err, COF_REASON_ENVIRONMENT_NOT_FOUND,
                    "there is no environment \"%.*s\", and the workspace makes none by itself; create it first",
                    (int) name.len, (const char *) name.data);
}

cof_code secret_place_take(struct call *call, const struct address *address)
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
    TRY(take_kept(call, name));
    return workspace.strict_environments && rows_affected(made) > 0 ? secret_place_missing(call, address) : COF_OK;
}

struct row_more secret_more_of(const struct call *call, const struct sealed_version *sealed)
{
    return (struct row_more){
        .params = {param_text(sealed->keys), param_text(sealed->blob), param_uuid(&call->caller->principal)},
        .count = 3,
    };
}

/* --- Changes -------------------------------------------------------------------------------------------------- */

static cof_code check_etag(struct call *call, const struct secret_change *change)
{
    char *etag;
    const char *expected = change->guards.etag;
    if (expected == NULL || expected[0] == '\0') {
        return COF_OK;
    }
    TRY(secret_etag(call, &change->row, &etag));
    if (strcmp(etag, expected) == 0) {
        return COF_OK;
    }
    return cof_fail(call->err, COF_REASON_ETAG_MISMATCH, "%s; %s", cof_reason_meaning(COF_REASON_ETAG_MISMATCH),
                    cof_reason_next_step(COF_REASON_ETAG_MISMATCH));
}

static cof_code check_version(struct call *call, const struct secret_change *change)
{
    const uint64_t expected = change->guards.expected_version;
    if (expected == 0 || expected == (uint64_t) change->row.version) {
        return COF_OK;
    }
    cof_ignore(cof_fail(call->err, COF_REASON_VERSION_MISMATCH,
                        "the secret has version %" PRId64 ", not %" PRIu64 "; %s", change->row.version, expected,
                        cof_reason_next_step(COF_REASON_VERSION_MISMATCH)));
    return cof_error_fact(call->err, "version", "%" PRId64, change->row.version);
}

void secret_change_init(struct secret_change *change, cof_code (*decide)(struct call *call, void *context),
                        const ProtobufCMessage *answer)
{
    change->write = (struct write){.workspace = *address_workspace(change->address),
                                   .look = secret_change_look,
                                   .decide = decide,
                                   .apply = secret_change_apply,
                                   .context = change,
                                   .answer = answer};
}

cof_code secret_change_look(struct call *call, void *context)
{
    const struct secret_change *change = context;
    return secret_queue(call, change->address, STATEMENT_SECRET_LOCK);
}

cof_code secret_change_take(struct call *call, struct secret_change *change, struct rows **ret_rows)
{
    TRY(session_next(call->session, ret_rows, call->err));
    if (rows_count(*ret_rows) == 0) {
        return secret_not_found(call, change->address);
    }
    TRY(row_read(&secret_row_type, *ret_rows, 0, 0, call->arena, &change->row, call->err));
    TRY(row_keep(&secret_row_type, call->arena, &change->row, call->err));
    const cof_code code = guard_check_row(call, &secret_row_type, &change->row.workspace_id, &change->row);
    change->damaged = code == COF_DATA_LOSS;
    if (code != COF_OK && !change->damaged) {
        return code;
    }
    TRY(expected_uid_check(call, change->guards.expected_uid, &change->row.secret_id));
    TRY(check_version(call, change));
    return check_etag(call, change);
}

cof_code secret_change_take_whole(struct call *call, struct secret_change *change, struct rows **ret_rows)
{
    TRY(secret_change_take(call, change, ret_rows));
    return change->damaged ? guard_check_row(call, &secret_row_type, &change->row.workspace_id, &change->row)
                           : COF_OK;
}

/* The address is what was asked for, whatever a damaged row says. */
cof_code secret_change_seal(struct call *call, struct secret_change *change)
{
    change->row.update_time = call_now(call);
    return guard_seal_row(call, &secret_row_type, &change->row.workspace_id, &change->row);
}

/* What is stored of them is the message that answers show; nothing at all for a secret without any. */
static cof_code pack_facts(struct call *call, const struct secret_facts *facts, struct cof_slice *ret_packed)
{
    Coffer__V1__SecretFacts message;
    Google__Protobuf__Timestamp expire_time;
    coffer__v1__secret_facts__init(&message);
    google__protobuf__timestamp__init(&expire_time);
    message.key_type = text_of(call->arena, cof_slice_text(facts->key_type));
    message.key_bits = facts->key_bits;
    message.fingerprint = text_of(call->arena, cof_slice_text(facts->fingerprint));
    message.subject = text_of(call->arena, cof_slice_text(facts->subject));
    message.issuer = text_of(call->arena, cof_slice_text(facts->issuer));
    message.certificates = facts->certificates;
    if (facts->certificates > 0) {
        expire_time.seconds = facts->not_after;
        message.certificate_expire_time = &expire_time;
    }
    if (message.key_type == NULL || message.fingerprint == NULL || message.subject == NULL ||
        message.issuer == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return cof_wire_pack(&message.base, call->arena, ret_packed, call->err);
}

static cof_code keep_warnings(struct call *call, const struct secret_facts *facts,
                              struct secret_warnings *ret_warnings)
{
    ret_warnings->items = cof_arena_array(call->arena, facts->warning_count, sizeof *ret_warnings->items);
    ret_warnings->count = facts->warning_count;
    if (ret_warnings->items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < facts->warning_count; i++) {
        ret_warnings->items[i] = text_of(call->arena, cof_slice_text(facts->warnings[i]));
        if (ret_warnings->items[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    return COF_OK;
}

cof_code secret_typed(struct call *call, struct secret_row *row, bool damaged, struct values *values,
                      struct secret_warnings *ret_warnings)
{
    struct values checked;
    struct secret_facts facts;
    const int64_t now = call_now(call) / 1000000;
    const Coffer__V1__SecretType type = (Coffer__V1__SecretType) row->type;
    const cof_code code = secret_type_check(type, values, now, call->arena, &checked, &facts, call->err);
    if (code != COF_OK && !damaged) {
        return code;
    }
    if (code != COF_OK) {
        cof_error_clear(call->err);
        row->type = COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM;
        return secret_typed(call, row, false, values, ret_warnings);
    }
    *values = checked;
    TRY(values_check(call, values));
    TRY(keep_warnings(call, &facts, ret_warnings));
    return pack_facts(call, &facts, &row->facts);
}

cof_code secret_change_version(struct call *call, struct secret_change *change, const struct values *values)
{
    struct secret_row *row = &change->row;
    row->version++;
    row->environment = address_environment(change->address);
    row->name = address_name(change->address);
    row->state = SECRET_ACTIVE;
    TRY(secret_change_seal(call, change));
    TRY(values_seal(call, &row->workspace_id, &row->secret_id, (uint64_t) row->version, values, &change->sealed));
    change->new_values = true;
    return COF_OK;
}

cof_code secret_change_values(struct call *call, struct secret_change *change, struct values *values)
{
    struct secret_row *row = &change->row;
    TRY(secret_typed(call, row, change->damaged, values, &change->warnings));
    TRY(secret_change_version(call, change, values));
    TRY(secret_message(call, row, change->sealed.keys, change->answer));
    return secret_record(call, &change->write, row, row->version == 1 ? EFFECT(CREATED) : EFFECT(VALUES_CHANGED),
                         values);
}

cof_code secret_change_metadata(struct call *call, struct secret_change *change, Coffer__Audit__V1__Effect effect,
                                struct cof_slice keys)
{
    static const struct values none;
    change->row.metadata_version++;
    TRY(secret_change_seal(call, change));
    const cof_code code = secret_message(call, &change->row, keys, change->answer);
    if (code == COF_DATA_LOSS) {
        TRY(secret_message_corrupted(call, &change->row, change->answer));
    } else {
        TRY(code);
    }
    return secret_record(call, &change->write, &change->row, effect, &none);
}

/* Versions that are older than the ones that are kept go with the write that makes one too many. */
static cof_code trim(struct call *call, struct write *write, const struct secret_row *row)
{
    const int64_t newest = row->version - (int64_t) call->service->limits.versions_kept;
    const struct param params[] = {
        param_uuid(&row->workspace_id),
        param_uuid(&row->secret_id),
        param_i64(newest),
    };
    return newest <= 0 ? COF_OK : write_queue(call, write, STATEMENT_VERSION_TRIM, params, COF_COUNT(params));
}

cof_code secret_change_queue(struct call *call, struct write *write, const struct secret_change *change)
{
    const struct row_more more = secret_more_of(call, &change->sealed);
    if (!change->new_values) {
        return write_queue_row(call, write, STATEMENT_SECRET_UPDATE, &secret_row_type, &change->row);
    }
    TRY(write_queue_row_and(call, write, STATEMENT_SECRET_UPDATE_VALUES, &secret_row_type, &change->row, &more));
    return trim(call, write, &change->row);
}

cof_code secret_change_apply(struct call *call, void *context)
{
    struct secret_change *change = context;
    return secret_change_queue(call, &change->write, change);
}

cof_code secret_change_finish(struct call *call, void *context, const struct row_more *common)
{
    struct secret_change *change = context;
    struct row_more more = secret_more_of(call, &change->sealed);
    for (size_t i = 0; i < common->count; i++) {
        more.params[more.count++] = common->params[i];
    }
    TRY(row_queue(&secret_row_type, &change->row, &more, call->session, STATEMENT_SECRET_FINISH_VALUES, call->arena,
                  call->err));
    return trim(call, &change->write, &change->row);
}
