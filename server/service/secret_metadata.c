/* What is about a secret, and its name. */
#include <stdio.h>

#include "common/name.h"
#include "server/service/secret_change.h"
#include "server/service/secrets.h"

/* --- UpdateSecret --------------------------------------------------------------------------------------------- */

struct metadata {
    struct secret_change change;
    const Coffer__V1__UpdateSecretRequest *request;
    /* What the request brings, by field. */
    struct secret_row sent;
};

static bool mask_has(const Google__Protobuf__FieldMask *mask, const char *path)
{
    for (size_t i = 0; i < mask->n_paths; i++) {
        if (strcmp(mask->paths[i], path) == 0) {
            return true;
        }
    }
    return false;
}

static cof_code check_mask(struct call *call, const Google__Protobuf__FieldMask *mask)
{
    static const char *const known[] = {"description", "tags", "expire_time", "block_when_expired"};
    if (mask == NULL || mask->n_paths == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "update_mask",
                              "update_mask names no field; name what is to change");
    }
    for (size_t i = 0; i < mask->n_paths; i++) {
        bool found = false;
        for (size_t k = 0; k < COF_COUNT(known); k++) {
            found = found || strcmp(mask->paths[i], known[k]) == 0;
        }
        if (!found) {
            char field[COF_ERROR_FIELD_SIZE];
            (void) snprintf(field, sizeof field, "update_mask.paths[%zu]", i);
            return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field,
                                  "\"%.64s\" cannot be changed here; description, tags, expire_time and "
                                  "block_when_expired can",
                                  mask->paths[i]);
        }
    }
    return COF_OK;
}

static cof_code read_metadata(struct call *call, struct metadata *metadata)
{
    const Coffer__V1__UpdateSecretRequest *request = metadata->request;
    TRY(check_mask(call, request->update_mask));
    TRY(secret_read_description(call, request->description, &metadata->sent.description));
    TRY(secret_read_tags(call, request->tags, request->n_tags, &metadata->sent.tags));
    return secret_read_expire_time(call, request->expire_time, &metadata->sent.expire_time);
}

static cof_code decide_metadata(struct call *call, void *context)
{
    struct metadata *metadata = context;
    const Google__Protobuf__FieldMask *mask = metadata->request->update_mask;
    struct secret_row *row = &metadata->change.row;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(secret_change_take_whole(call, &metadata->change, &rows));
    if (mask_has(mask, "description")) {
        row->description = metadata->sent.description;
    }
    if (mask_has(mask, "tags")) {
        row->tags = metadata->sent.tags;
    }
    if (mask_has(mask, "expire_time")) {
        row->expire_time = metadata->sent.expire_time;
    }
    if (mask_has(mask, "block_when_expired")) {
        row->block_when_expired = metadata->request->block_when_expired;
    }
    return secret_change_metadata(call, &metadata->change, EFFECT(METADATA_CHANGED),
                                  secret_sealed_of(rows, 0).keys);
}

cof_code secret_update(struct call *call, const Coffer__V1__UpdateSecretRequest *request,
                       Coffer__V1__UpdateSecretResponse *response)
{
    struct metadata metadata = {.request = request};
    struct secret_change *change = &metadata.change;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change->address));
    TRY(read_metadata(call, &metadata));
    change->guards = (struct secret_guards){.expected_uid = request->expected_uid, .etag = request->etag};
    change->answer = &response->secret;
    secret_change_init(change, decide_metadata, &response->base);
    return write_run(call, &change->write);
}

/* --- RenameSecret --------------------------------------------------------------------------------------------- */

struct renaming {
    struct secret_change change;
    const struct address *target;
};

static cof_code decide_rename(struct call *call, void *context)
{
    struct renaming *renaming = context;
    static const struct values none;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(secret_change_take_whole(call, &renaming->change, &rows));
    /* Both names stand in the audit record. */
    TRY(secret_record(call, &renaming->change.write, &renaming->change.row, EFFECT(RENAMED_FROM), &none));
    renaming->change.row.name = address_name(renaming->target);
    return secret_change_metadata(call, &renaming->change, EFFECT(RENAMED_TO), secret_sealed_of(rows, 0).keys);
}

static cof_code conflict_rename(struct call *call, void *context)
{
    const struct renaming *renaming = context;
    return session_unique_violation(call->session, "secret_address") ? secret_exists(call, renaming->target)
                                                                     : call->err->code;
}

cof_code secret_rename(struct call *call, const Coffer__V1__RenameSecretRequest *request,
                       Coffer__V1__RenameSecretResponse *response)
{
    struct renaming renaming = {0};
    struct secret_change *change = &renaming.change;
    const struct cof_slice new_name = cof_slice_text(request->new_name);
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &change->address));
    TRY(cof_name_check(COF_NAME_SECRET, new_name, "new_name", call->err));
    TRY(authorize_secret(call, request->workspace, request->environment, request->new_name,
                         COF_PERMISSION_SECRET_WRITE, &renaming.target));
    if (cof_name_reserved(new_name)) {
        return secret_name_reserved(call, "new_name");
    }
    if (cof_slice_equal(new_name, address_name(change->address))) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "new_name",
                              "new_name is the name that the secret has; choose another one");
    }
    change->guards = (struct secret_guards){.expected_uid = request->expected_uid, .etag = request->etag};
    change->answer = &response->secret;
    secret_change_init(change, decide_rename, &response->base);
    change->write.conflict = conflict_rename;
    return write_run(call, &change->write);
}
