#include "server/service/secret_view.h"

#include <inttypes.h>

#include "common/wire.h"
#include "server/service/text.h"

static cof_code fill_identity(struct call *call, const struct secret_row *row, Coffer__V1__Secret *message)
{
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->environment = text_of(call->arena, row->environment);
    message->name = text_of(call->arena, row->name);
    message->uid = text_of_uuid(call->arena, &row->secret_id);
    if (message->workspace == NULL || message->environment == NULL || message->name == NULL ||
        message->uid == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return COF_OK;
}

static cof_code fill_times(struct call *call, const struct secret_row *row, Coffer__V1__Secret *message)
{
    message->expire_time = time_of(call->arena, row->expire_time);
    message->create_time = time_of(call->arena, row->create_time);
    message->update_time = time_of(call->arena, row->update_time);
    message->delete_time = time_of(call->arena, row->delete_time);
    const bool missing = (message->expire_time == NULL && row->expire_time != ROW_NO_TIME) ||
                         (message->delete_time == NULL && row->delete_time != ROW_NO_TIME);
    if (missing || message->create_time == NULL || message->update_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return COF_OK;
}

static cof_code fill_tags(struct call *call, const struct secret_row *row, Coffer__V1__Secret *message)
{
    message->tags = cof_arena_array(call->arena, row->tags.count, sizeof *message->tags);
    message->n_tags = row->tags.count;
    if (message->tags == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < row->tags.count; i++) {
        message->tags[i] = text_of(call->arena, row->tags.items[i]);
        if (message->tags[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    return COF_OK;
}

static cof_code fill_facts(struct call *call, const struct secret_row *row, Coffer__V1__Secret *message)
{
    ProtobufCMessage *facts;
    if (row->facts.len == 0) {
        return COF_OK;
    }
    TRY(cof_wire_unpack(&coffer__v1__secret_facts__descriptor, row->facts, call->arena, &facts, call->err));
    message->facts = (Coffer__V1__SecretFacts *) (void *) facts;
    return COF_OK;
}

static cof_code new_message(struct call *call, const struct secret_row *row, Coffer__V1__Secret **ret_message)
{
    Coffer__V1__Secret *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret__init(message);
    TRY(fill_identity(call, row, message));
    *ret_message = message;
    return COF_OK;
}

cof_code secret_etag(struct call *call, const struct secret_row *row, char **ret_etag)
{
    *ret_etag = cof_arena_format(call->arena, "%" PRId64 "-%" PRId64, row->version, row->metadata_version);
    return *ret_etag == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code secret_message(struct call *call, const struct secret_row *row, struct cof_slice keys,
                        Coffer__V1__Secret **ret_message)
{
    Coffer__V1__Secret *message;
    TRY(new_message(call, row, &message));
    TRY(fill_times(call, row, message));
    TRY(fill_tags(call, row, message));
    TRY(values_keys(call, keys, &message->keys, &message->n_keys));
    TRY(secret_etag(call, row, &message->etag));
    message->type = (Coffer__V1__SecretType) row->type;
    message->state = row->state == SECRET_ACTIVE ? COFFER__V1__SECRET_STATE__SECRET_STATE_ACTIVE
                                                 : COFFER__V1__SECRET_STATE__SECRET_STATE_DELETED;
    message->version = (uint64_t) row->version;
    message->description = text_of(call->arena, row->description);
    TRY(fill_facts(call, row, message));
    message->block_when_expired = row->block_when_expired;
    *ret_message = message;
    return message->description == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code secret_message_corrupted(struct call *call, const struct secret_row *row, Coffer__V1__Secret **ret_message)
{
    Coffer__V1__Secret *message;
    TRY(new_message(call, row, &message));
    message->state = COFFER__V1__SECRET_STATE__SECRET_STATE_CORRUPTED;
    *ret_message = message;
    return COF_OK;
}
