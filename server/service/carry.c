#include "server/service/carry.h"

#include "server/service/secret_keep.h"

enum { OBJECTS_MOST = 8, WRITES_MOST = 64 };

/* What they do beside the secrets that their records name decides nothing of what is kept: an environment that comes into
 * being has nothing in it but them. */
static const char *const methods[] = {
    "coffer.v1.SecretService/CreateSecret", "coffer.v1.SecretService/UpdateSecretValues",
    "coffer.v1.SecretService/UpdateSecret", "coffer.v1.SecretService/RenameSecret",
    "coffer.v1.SecretService/DeleteSecret", "coffer.v1.SecretService/RollBackSecret",
};

struct touched {
    struct cache_key keys[OBJECTS_MOST];
    size_t count;
};

static bool is_method(const char *name)
{
    bool found = false;
    for (size_t i = 0; i < COF_COUNT(methods) && !found; i++) {
        found = strcmp(methods[i], name) == 0;
    }
    return found;
}

/* False if it could have touched anything else. The keys borrow the record. */
static bool touched_by(const struct cof_uuid *workspace, const Coffer__Audit__V1__Record *record,
                       struct touched *ret_touched)
{
    ret_touched->count = 0;
    if (!is_method(record->method) || record->n_objects == 0 || record->n_objects > OBJECTS_MOST) {
        return false;
    }
    for (size_t i = 0; i < record->n_objects; i++) {
        const Coffer__Audit__V1__Object *object = record->objects[i];
        if (strcmp(object->kind, "secret") != 0 || object->environment[0] == '\0' || object->name[0] == '\0') {
            return false;
        }
        ret_touched->keys[ret_touched->count++] =
            secret_keep_key(workspace, cof_slice_text(object->environment), cof_slice_text(object->name));
    }
    return true;
}

static void carry(struct cache *cache, const struct cof_uuid *workspace, const struct cache_untold *untold,
                  uint64_t revision, const Coffer__Audit__V1__Record *record)
{
    struct touched touched;
    if (record != NULL && touched_by(workspace, record, &touched)) {
        cache_carry(cache, workspace, untold, revision, touched.keys, touched.count);
    } else {
        cache_carry_nothing(cache, workspace, untold, revision);
    }
}

/* One that comes before another that was committed earlier is told by the job. */
void carry_written(const struct service *service, const struct cof_uuid *workspace, uint64_t revision,
                   const Coffer__Audit__V1__Record *record)
{
    if (service->cache == NULL) {
        return;
    }
    const struct cache_untold untold = cache_changes_untold(service->cache, workspace);
    if (untold.place != 0 && untold.from + 1 == revision) {
        carry(service->cache, workspace, &untold, revision, record);
    }
}

cof_code carry_queue(struct session *session, const struct cof_uuid *workspace, const struct cache_untold *untold,
                     struct cof_error *err)
{
    const struct param params[] = {param_uuid(workspace), param_i64((int64_t) untold->from + 1),
                                   param_i64((int64_t) untold->to), param_i64(WRITES_MOST)};
    return session_queue(session, STATEMENT_CHANGE_RANGE, params, COF_COUNT(params), err);
}

cof_code carry_take(const struct service *service, struct session *session, const struct cof_uuid *workspace,
                    const struct cache_untold *untold, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(session, &rows, err));
    /* One is not there, or there are more than anybody would go through. */
    if (rows_count(rows) != untold->to - untold->from) {
        cache_carry_nothing(service->cache, workspace, untold, untold->to);
        return COF_OK;
    }
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct cof_slice bytes = rows_bytes(rows, i, 3);
        Coffer__Audit__V1__Record *record = coffer__audit__v1__record__unpack(NULL, bytes.len, bytes.data);
        carry(service->cache, workspace, untold, (uint64_t) rows_i64(rows, i, 0), record);
        coffer__audit__v1__record__free_unpacked(record, NULL);
    }
    return COF_OK;
}
