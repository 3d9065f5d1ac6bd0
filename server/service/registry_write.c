#include "server/service/registry_write.h"

#include <inttypes.h>

cof_code registry_look(struct call *call, const struct cof_uuid *workspace)
{
    const struct param params[] = {param_uuid(workspace)};
    TRY(session_queue(call->session, STATEMENT_REGISTRY_INSERT_MISSING, params, COF_COUNT(params), call->err));
    return session_queue(call->session, STATEMENT_REGISTRY_LOCK, params, COF_COUNT(params), call->err);
}

cof_code registry_take(struct call *call, uint64_t expected, uint64_t *ret_generation)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, NULL, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) != 1) {
        return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "the registry's row is not there");
    }
    *ret_generation = (uint64_t) rows_i64(rows, 0, 0);
    if (expected == 0 || expected == *ret_generation) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_GENERATION_MISMATCH, "expected_generation",
                          "the registry has the generation %" PRIu64 ", not %" PRIu64 "; %s", *ret_generation,
                          expected, cof_reason_next_step(COF_REASON_GENERATION_MISMATCH));
}

cof_code registry_raise(struct call *call, struct write *write, uint64_t generation)
{
    const struct param params[] = {param_uuid(&write->workspace), param_i64((int64_t) generation)};
    return write_queue(call, write, STATEMENT_REGISTRY_RAISE, params, COF_COUNT(params));
}

cof_code registry_record(struct call *call, struct write *write, const struct action_row *row,
                         Coffer__Audit__V1__Effect effect)
{
    const struct cof_slice none = {NULL, 0};
    Coffer__Audit__V1__Object *object;
    TRY(write_object(call, write, "action", &row->action_id, none, row->name, &object));
    object->effect = effect;
    object->metadata_version = (uint64_t) row->update_time;
    return COF_OK;
}
