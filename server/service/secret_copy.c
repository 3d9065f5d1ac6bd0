/* Values of one secret written to another one. */
#include "common/name.h"
#include "server/service/guard.h"
#include "server/service/secret_change.h"
#include "server/service/secrets.h"

struct copy {
    struct secret_change change; /* of the target */
    const struct address *source;
    bool overwrite;
    bool made; /* the target is new */
};

static cof_code look_copy(struct call *call, void *context)
{
    const struct copy *copy = context;
    TRY(secret_queue(call, copy->source, STATEMENT_SECRET_GET));
    TRY(secret_place_queue(call, copy->change.address));
    return secret_change_look(call, context);
}

static cof_code take_source(struct call *call, const struct copy *copy, struct secret_row *row,
                            struct values *values)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return secret_not_found(call, copy->source);
    }
    TRY(row_read(&secret_row_type, rows, 0, 0, call->arena, row, call->err));
    TRY(row_keep(&secret_row_type, call->arena, row, call->err));
    TRY(guard_check_row(call, &secret_row_type, &row->workspace_id, row));
    const struct sealed_version sealed = secret_sealed_of(rows, 0);
    return values_open(call, row, &sealed, values);
}

/* A new secret with what is about the source. */
static cof_code make_target(struct call *call, struct copy *copy, const struct secret_row *source,
                            struct values *values)
{
    struct secret_change *change = &copy->change;
    change->row = *source;
    change->row.secret_id = cof_uuid_random();
    change->row.version = 0; /* secret_change_values makes it the first */
    change->row.metadata_version = 1;
    change->row.create_time = call_now(call);
    change->row.delete_time = ROW_NO_TIME;
    copy->made = true;
    return secret_change_values(call, change, values);
}

static cof_code type_differs(struct call *call)
{
    return cof_fail(
        call->err, COF_REASON_SECRET_EXISTS,
        "the target is a secret of another type, which never changes; choose another name, or delete it");
}

static cof_code decide_copy(struct call *call, void *context)
{
    struct copy *copy = context;
    struct secret_row source = {0};
    struct values values;
    AUTO(rows_cleanup) struct rows *target = NULL;
    TRY(take_source(call, copy, &source, &values));
    TRY(secret_record(call, &copy->change.write, &source, EFFECT(UNSPECIFIED), &values));
    TRY(secret_place_take(call, copy->change.address));
    copy->made = false;
    const cof_code code = secret_change_take(call, &copy->change, &target);
    if (code == COF_NOT_FOUND) {
        cof_error_clear(call->err);
        return make_target(call, copy, &source, &values);
    }
    TRY(code);
    if (!copy->overwrite) {
        return secret_exists(call, copy->change.address);
    }
    if (!copy->change.damaged && copy->change.row.type != source.type) {
        return type_differs(call);
    }
    copy->change.row.type = source.type;
    return secret_change_values(call, &copy->change, &values);
}

static cof_code apply_copy(struct call *call, void *context)
{
    struct copy *copy = context;
    const struct row_more more = secret_more_of(call, &copy->change.sealed);
    if (!copy->made) {
        return secret_change_apply(call, &copy->change);
    }
    return write_queue_row_and(call, &copy->change.write, STATEMENT_SECRET_INSERT, &secret_row_type,
                               &copy->change.row, &more);
}

static cof_code conflict_copy(struct call *call, void *context)
{
    const struct copy *copy = context;
    return session_unique_violation(call->session, "secret_address") ? secret_exists(call, copy->change.address)
                                                                     : call->err->code;
}

static cof_code check_target(struct call *call, const struct copy *copy, const char *target_name)
{
    const struct address *target = copy->change.address;
    if (cof_name_reserved(address_name(target)) || cof_name_reserved(address_name(copy->source))) {
        return secret_name_reserved(call, target_name[0] == '\0' ? "name" : "target_name");
    }
    if (cof_slice_equal(address_environment(target), address_environment(copy->source)) &&
        cof_slice_equal(address_name(target), address_name(copy->source))) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "target_environment",
                              "source and target are the same secret; name another environment or another name");
    }
    return COF_OK;
}

cof_code secret_copy(struct call *call, const Coffer__V1__CopySecretRequest *request,
                     Coffer__V1__CopySecretResponse *response)
{
    struct copy copy = {.change.answer = &response->secret, .overwrite = request->overwrite};
    struct secret_change *change = &copy.change;
    const char *target_name = request->target_name[0] == '\0' ? request->name : request->target_name;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name,
                         COF_PERMISSION_SECRET_REVEAL, &copy.source));
    TRY(authorize_secret(call, request->workspace, request->target_environment, target_name,
                         COF_PERMISSION_SECRET_WRITE, &change->address));
    TRY(check_target(call, &copy, request->target_name));
    secret_change_init(change, decide_copy, &response->base);
    change->write.look = look_copy;
    change->write.apply = apply_copy;
    change->write.conflict = conflict_copy;
    return write_run(call, &change->write);
}
