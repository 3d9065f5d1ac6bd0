#include "server/service/workspace_view.h"

#include "common/encode.h"
#include "server/service/text.h"

enum { ETAG_BYTES = 8 };

static Coffer__V1__WorkspaceState state_of(const struct workspace_state_row *state)
{
    switch (state->state) {
    case WORKSPACE_ACTIVE:
        return state->disabled ? COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_DISABLED
                               : COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_ACTIVE;
    case WORKSPACE_DELETED:
        return COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_DELETED;
    case WORKSPACE_PURGING:
        return COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_PURGING;
    default:
        return COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_PURGED;
    }
}

static cof_code plain(struct call *call, const struct cof_uuid *workspace, struct cof_slice name,
                      Coffer__V1__WorkspaceState state, Coffer__V1__Workspace **ret_message)
{
    Coffer__V1__Workspace *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__workspace__init(message);
    message->uid = text_of_uuid(call->arena, workspace);
    message->name = text_of(call->arena, name);
    message->state = state;
    if (message->uid == NULL || message->name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_message = message;
    return COF_OK;
}

cof_code workspace_etag(struct call *call, const struct workspace_row *row, const struct workspace_state_row *state,
                        char **ret_etag)
{
    uint8_t digest[CRYPTO_DIGEST];
    uint8_t macs[2 * CRYPTO_DIGEST] = {0};
    memcpy(macs, row->mac.data, row->mac.len < CRYPTO_DIGEST ? row->mac.len : CRYPTO_DIGEST);
    if (state->mac.len == CRYPTO_DIGEST) {
        memcpy(macs + CRYPTO_DIGEST, state->mac.data, CRYPTO_DIGEST);
    }
    TRY(crypto_sha256(cof_slice_of(macs, sizeof macs), digest, call->err));
    *ret_etag = cof_arena_alloc(call->arena, 2 * ETAG_BYTES + 1);
    if (*ret_etag == NULL) {
        return cof_arena_exhausted(call->err);
    }
    cof_hex_encode(cof_slice_of(digest, ETAG_BYTES), *ret_etag);
    return COF_OK;
}

static cof_code set_serve_lost(struct call *call, const struct workspace_state_row *state,
                               Coffer__V1__Workspace *message)
{
    Google__Protobuf__Duration *time = cof_arena_alloc(call->arena, sizeof *time);
    if (time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    google__protobuf__duration__init(time);
    time->seconds = state->serve_lost_ms / 1000;
    time->nanos = state->serve_lost_ms % 1000 * 1000000;
    message->serve_when_database_lost = time;
    return COF_OK;
}

cof_code workspace_message(struct call *call, const struct workspace_row *row,
                           const struct workspace_state_row *state, Coffer__V1__Workspace **ret_message)
{
    Coffer__V1__Workspace *message;
    TRY(plain(call, &row->workspace_id, row->name, state_of(state), &message));
    TRY(workspace_etag(call, row, state, &message->etag));
    message->display_name = text_of(call->arena, row->display_name);
    message->external_id = text_of(call->arena, row->external_id);
    message->strict_environments = row->strict_environments;
    TRY(set_serve_lost(call, state, message));
    message->create_time = time_of(call->arena, row->create_time);
    if (message->display_name == NULL || message->external_id == NULL || message->create_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_message = message;
    return COF_OK;
}

cof_code workspace_message_of_state(struct call *call, const struct workspace_state_row *state,
                                    Coffer__V1__Workspace **ret_message)
{
    Coffer__V1__Workspace *message;
    TRY(plain(call, &state->workspace_id, state->name, state_of(state), &message));
    if (state->state != WORKSPACE_ACTIVE) {
        message->delete_time = time_of(call->arena, state->delete_time);
        message->purge_time = time_of(call->arena, workspace_purge_time(call, state));
        if (message->delete_time == NULL || message->purge_time == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    *ret_message = message;
    return COF_OK;
}

cof_code workspace_message_corrupted(struct call *call, const struct cof_uuid *workspace, struct cof_slice name,
                                     Coffer__V1__Workspace **ret_message)
{
    return plain(call, workspace, name, COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_CORRUPTED, ret_message);
}
