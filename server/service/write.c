#include "server/service/write.h"

#include <time.h>

#include "common/secret.h"
#include "common/wire.h"
#include "server/service/caller.h"
#include "server/service/carry.h"
#include "server/service/consistency.h"
#include "server/service/fault.h"
#include "server/service/guard.h"
#include "server/service/resolve_aws.h"
#include "server/service/text.h"
#include "server/service/trail.h"
#include "server/service/workspace_state.h"

enum {
    ATTEMPTS = 8,
    CONSISTENCY_FIELD = 15, /* of every write's answer */
    WIRE_LENGTH_DELIMITED = 2,
    AUDIT_REVISION = 1,
    OBJECTS_FIRST = 4, /* most writes are about fewer things */
    LATER_MS = 1000,
};

/* --- The request's record ------------------------------------------------------------------------------------- */

struct attempt {
    struct call *call;
    struct write *write;
    uint8_t payload_hash[CRYPTO_DIGEST];
    bool repeated; /* one before was committed */
    bool replay;   /* and its answer is sent again */
    bool sent;     /* the commit is on its way */
};

static cof_code queue_record(struct attempt *attempt)
{
    struct call *call = attempt->call;
    const struct param params[] = {
        param_uuid(&attempt->write->workspace),
        param_uuid(&call->caller->principal),
        param_uuid(&call->request_id),
        param_text(cof_slice_text(call->method)),
        param_text(cof_slice_of(attempt->payload_hash, CRYPTO_DIGEST)),
        param_time(call_now(call)),
    };
    return session_queue(call->session, STATEMENT_REQUEST_INSERT, params, COF_COUNT(params), call->err);
}

static cof_code queue_record_key(struct attempt *attempt, statement id)
{
    struct call *call = attempt->call;
    const struct param key[] = {
        param_uuid(&attempt->write->workspace),
        param_uuid(&call->caller->principal),
        param_uuid(&call->request_id),
    };
    return session_queue(call->session, id, key, COF_COUNT(key), call->err);
}

/* Whether the caller may act in the workspace at all, where authorize.c left that to the write. */
static cof_code queue_state(struct call *call)
{
    return call->state_due ? workspace_state_queue(call, &call->state_workspace) : COF_OK;
}

static cof_code take_state(struct call *call)
{
    struct workspace_state_row state;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    if (!call->state_due) {
        return COF_OK;
    }
    TRY(session_next(call->session, &rows, call->err));
    TRY(workspace_state_take_locked(call, &call->state_workspace, rows, &state));
    return workspace_state_permits(call, call->caller->kind, &state);
}

static struct blob_address answer_address(const struct attempt *attempt)
{
    return (struct blob_address){BLOB_ANSWER, attempt->write->workspace, attempt->call->request_id, 0};
}

static cof_code reused(struct call *call)
{
    return cof_fail(call->err, COF_REASON_REQUEST_ID_REUSED, "%s; %s",
                    cof_reason_meaning(COF_REASON_REQUEST_ID_REUSED),
                    cof_reason_next_step(COF_REASON_REQUEST_ID_REUSED));
}

/* Room for the answer as it is sent. It is taken before anything is committed: nothing may fail after that. */
static cof_code reserve_answer(struct call *call, struct cof_slice packed, uint8_t **ret_answer)
{
    *ret_answer = cof_arena_alloc(call->arena, packed.len + 2 + CONSISTENCY_TOKEN_TEXT);
    return *ret_answer == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* The packed message, then its consistency token as one more field. */
static void fill_answer(struct call *call, struct cof_slice packed, uint64_t revision, uint8_t *answer)
{
    char token[CONSISTENCY_TOKEN_TEXT];
    consistency_format(call->service, revision, token);
    const size_t length = strlen(token);
    if (packed.len > 0) {
        memcpy(answer, packed.data, packed.len);
    }
    answer[packed.len] = (uint8_t) (CONSISTENCY_FIELD << 3 | WIRE_LENGTH_DELIMITED);
    answer[packed.len + 1] = (uint8_t) length;
    memcpy(answer + packed.len + 2, token, length);
    call->packed_answer = cof_slice_of(answer, packed.len + 2 + length);
}

/* Whoever is answered finds the write's state at once, here too if it was committed by another server. */
static void tell_cache(const struct attempt *attempt, uint64_t revision)
{
    if (attempt->call->service->cache != NULL) {
        cache_reached(attempt->call->service->cache, &attempt->write->workspace, revision);
    }
}

static void tell_touched(const struct attempt *attempt, uint64_t revision)
{
    const struct call *call = attempt->call;
    Coffer__Audit__V1__Record record;
    coffer__audit__v1__record__init(&record);
    record.method = (char *) (uintptr_t) call->method;
    record.objects = attempt->write->objects;
    record.n_objects = attempt->write->object_count;
    carry_written(call->service, &attempt->write->workspace, revision, &record);
}

static cof_code replay(struct attempt *attempt, const struct rows *record)
{
    struct call *call = attempt->call;
    const struct cof_slice blob = rows_bytes(record, 0, 2);
    const struct blob_address address = answer_address(attempt);
    uint8_t *packed = cof_arena_alloc(call->arena, blob.len);
    uint8_t *answer;
    if (packed == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_open(call, &address, blob, packed));
    const struct cof_slice message = {packed, blob.len - BLOB_OVERHEAD};
    TRY(reserve_answer(call, message, &answer));
    fill_answer(call, message, (uint64_t) rows_i64(record, 0, 3), answer);
    tell_cache(attempt, (uint64_t) rows_i64(record, 0, 3));
    call->replayed = true;
    attempt->replay = true;
    return COF_OK;
}

static cof_code check_record(struct attempt *attempt, const struct rows *record)
{
    struct call *call = attempt->call;
    if (rows_count(record) != 1) {
        return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "the request's record is not there");
    }
    if (!cof_slice_equal(rows_bytes(record, 0, 0), cof_slice_text(call->method)) ||
        !cof_slice_equal(rows_bytes(record, 0, 1), cof_slice_of(attempt->payload_hash, CRYPTO_DIGEST))) {
        return reused(call);
    }
    return COF_OK;
}

static cof_code in_progress(struct call *call)
{
    cof_ignore(cof_fail(call->err, COF_REASON_IN_PROGRESS, "%s; %s", cof_reason_meaning(COF_REASON_IN_PROGRESS),
                        cof_reason_next_step(COF_REASON_IN_PROGRESS)));
    return cof_error_retry_after(call->err, LATER_MS);
}

/* Answers a request that was committed before, in a transaction that is rolled back. */
static cof_code repeat(struct attempt *attempt)
{
    struct call *call = attempt->call;
    const struct write *write = attempt->write;
    AUTO(rows_cleanup) struct rows *record = NULL;
    attempt->repeated = true;
    attempt->sent = false;
    session_reset(call->session);
    TRY(session_begin(call->session, call->err));
    TRY(queue_record_key(attempt, STATEMENT_REQUEST_GET));
    TRY(queue_state(call));
    if (write->recheck != NULL && write->look != NULL) {
        TRY(write->look(call, write->context));
    }
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, NULL, call->err)); /* begin */
    TRY(session_next(call->session, &record, call->err));
    TRY(take_state(call));
    TRY(check_record(attempt, record));
    if (rows_null(record, 0, 2)) {
        return in_progress(call);
    }
    if (write->recheck != NULL) {
        TRY(write->recheck(call, write->context));
    }
    return replay(attempt, record);
}

/* Whether an attempt before was committed. One that is under way is waited for: it holds the key that is inserted here, in
 * a transaction that is rolled back. */
static cof_code look_for_record(struct attempt *attempt, bool *ret_found)
{
    struct call *call = attempt->call;
    AUTO(rows_cleanup) struct rows *inserted = NULL;
    session_reset(call->session);
    TRY(session_begin(call->session, call->err));
    TRY(queue_record(attempt));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, NULL, call->err)); /* begin */
    TRY(session_next(call->session, &inserted, call->err));
    *ret_found = rows_affected(inserted) == 0;
    session_reset(call->session);
    return COF_OK;
}

/* Whether the failure is that nothing can be asked of the database now. */
static bool cut_off(const struct call *call)
{
    return call->err->reason == COF_REASON_DATABASE_UNAVAILABLE ||
           call->err->reason == COF_REASON_DEADLINE_EXCEEDED;
}

/*
 * An attempt that commits has made the request's record, and so was the first. One that ends in another way, by failing or
 * by finding nothing to do, may have met the effect of an attempt before: then that one's answer is the request's.
 */
static cof_code settle(struct attempt *attempt, cof_code code)
{
    struct call *call = attempt->call;
    const struct cof_error failure = *call->err;
    bool found = false;
    if (attempt->repeated || attempt->write->intended || (code != COF_OK && cut_off(call))) {
        return code;
    }
    cof_error_clear(call->err);
    TRY(look_for_record(attempt, &found));
    if (found) {
        return repeat(attempt);
    }
    *call->err = failure;
    return code;
}

/* --- Audit ---------------------------------------------------------------------------------------------------- */

cof_code write_record(struct call *call, struct write *write, struct cof_slice *ret_record)
{
    struct trail_actor actor;
    Coffer__Audit__V1__Record record;
    coffer__audit__v1__record__init(&record);
    trail_fill_actor(call, NULL, &actor);
    record.revision = AUDIT_REVISION;
    record.time = time_of(call->arena, call_now(call));
    record.request_id = (ProtobufCBinaryData){sizeof call->request_id.bytes, call->request_id.bytes};
    record.method = text_of(call->arena, cof_slice_text(call->method));
    record.actor = &actor.message;
    record.workspace = text_of_uuid(call->arena, &write->workspace);
    record.objects = write->objects;
    record.n_objects = write->object_count;
    if (record.time == NULL || record.method == NULL || record.workspace == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return cof_wire_pack(&record.base, call->arena, ret_record, call->err);
}

/* --- The two pipelines ---------------------------------------------------------------------------------------- */

/* What all writes have in common, behind all other parameters of a statement. */
enum {
    COMMON_REQUEST,
    COMMON_METHOD,
    COMMON_PAYLOAD,
    COMMON_ANSWER,
    COMMON_OBJECTS,
    COMMON_RECORD,
    COMMON_GENERATION
};

static cof_code make_common(struct attempt *attempt, struct cof_slice packed, struct row_more *ret_common)
{
    struct call *call = attempt->call;
    const struct write *write = attempt->write;
    const struct blob_address address = answer_address(attempt);
    struct cof_slice record;
    uint8_t *sealed = cof_arena_alloc(call->arena, packed.len + BLOB_OVERHEAD);
    if (sealed == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_seal(call, &address, packed, sealed));
    TRY(write_record(call, attempt->write, &record));
    *ret_common = (struct row_more){
        .params =
            {
                [COMMON_REQUEST] = param_uuid(&call->request_id),
                [COMMON_METHOD] = param_text(cof_slice_text(call->method)),
                [COMMON_PAYLOAD] = param_text(cof_slice_of(attempt->payload_hash, CRYPTO_DIGEST)),
                [COMMON_ANSWER] = param_text(cof_slice_of(sealed, packed.len + BLOB_OVERHEAD)),
                [COMMON_OBJECTS] =
                    param_text(cof_slice_of(write->object_ids, write->object_count * sizeof(struct cof_uuid))),
                [COMMON_RECORD] = param_text(record),
                [COMMON_GENERATION] = param_i32((int32_t) guard_sealed_generation(call, &write->workspace)),
            },
        .count = WRITE_COMMON,
    };
    return COF_OK;
}

/* Where the record was written before, it has the method and the payload. */
static cof_code queue_finish(struct attempt *attempt, const struct row_more *common)
{
    struct call *call = attempt->call;
    const struct write *write = attempt->write;
    const statement id = write->intended ? STATEMENT_REQUEST_FINISH_INTENDED : STATEMENT_REQUEST_FINISH;
    struct param params[4 + WRITE_COMMON] = {
        param_uuid(&write->workspace),
        param_uuid(&call->caller->principal),
        param_time(call_now(call)),
        write->token_revision == 0 ? param_null() : param_i64(write->token_revision),
    };
    size_t count = 4;
    for (size_t i = 0; i < WRITE_COMMON; i++) {
        if (!write->intended || (i != COMMON_METHOD && i != COMMON_PAYLOAD)) {
            params[count++] = common->params[i];
        }
    }
    return session_queue(call->session, id, params, count, call->err);
}

static cof_code first_pipeline(struct attempt *attempt)
{
    struct call *call = attempt->call;
    const struct write *write = attempt->write;
    AUTO(rows_cleanup) struct rows *record = NULL;
    TRY(session_begin(call->session, call->err));
    TRY(write->intended ? queue_record_key(attempt, STATEMENT_REQUEST_LOCK) : COF_OK);
    TRY(queue_state(call));
    if (write->look != NULL) {
        TRY(write->look(call, write->context));
    }
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, NULL, call->err)); /* begin */
    TRY(write->intended ? session_next(call->session, &record, call->err) : COF_OK);
    if (write->intended && (rows_count(record) == 0 || !rows_null(record, 0, 2))) {
        return repeat(attempt); /* the record has its answer, of a transaction that was committed */
    }
    TRY(take_state(call));
    return write->decide(call, write->context);
}

static cof_code queue_second(struct attempt *attempt, struct cof_slice packed)
{
    struct call *call = attempt->call;
    struct write *write = attempt->write;
    struct row_more common;
    TRY(make_common(attempt, packed, &common));
    write->applied = 0;
    if (write->finish != NULL) {
        TRY(write->finish(call, write->context, &common));
    } else {
        TRY(queue_finish(attempt, &common));
        TRY(write->apply(call, write->context));
    }
    TRY(session_commit(call->session, call->err));
    return session_sync(call->session, call->err);
}

static cof_code take_second(struct attempt *attempt, uint64_t *ret_revision)
{
    struct call *call = attempt->call;
    AUTO(rows_cleanup) struct rows *raised = NULL;
    TRY(session_next(call->session, &raised, call->err));
    if (rows_count(raised) != 1) {
        return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                        cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
    }
    /* What `apply` queued, and the commit. */
    for (size_t i = 0; i < attempt->write->applied + 1; i++) {
        TRY(session_next(call->session, NULL, call->err));
    }
    *ret_revision = (uint64_t) rows_i64(raised, 0, 0);
    tell_cache(attempt, *ret_revision);
    tell_touched(attempt, *ret_revision);
    call->written_workspace = attempt->write->workspace;
    call->written_revision = *ret_revision;
    return COF_OK;
}

static cof_code second_pipeline(struct attempt *attempt)
{
    struct call *call = attempt->call;
    struct cof_slice packed;
    uint8_t *answer;
    uint64_t revision = 0;
    TRY(cof_wire_pack(attempt->write->answer, call->arena, &packed, call->err));
    TRY(reserve_answer(call, packed, &answer));
    TRY(queue_second(attempt, packed));
    attempt->sent = true;
    FAULT_POINT("write.before_commit");
    TRY(take_second(attempt, &revision));
    FAULT_POINT("write.after_commit");
    if (attempt->write->token_revision != 0) {
        revision = (uint64_t) attempt->write->token_revision;
    }
    fill_answer(call, packed, revision, answer);
    return COF_OK;
}

static cof_code run_once(struct attempt *attempt)
{
    struct call *call = attempt->call;
    attempt->repeated = false;
    attempt->replay = false;
    attempt->sent = false;
    attempt->write->nothing = false;
    attempt->write->object_count = 0;
    call->sealed = (struct call_sealed){0};
    TRY(guard_load_keys(call, &attempt->write->workspace));
    TRY(call->state_due ? workspace_state_load_keys(call) : COF_OK);
    if (attempt->write->committed) {
        return repeat(attempt);
    }
    TRY(first_pipeline(attempt));
    if (attempt->replay || attempt->write->nothing) {
        return COF_OK;
    }
    const cof_code code = second_pipeline(attempt);
    return code == COF_ABORTED && session_unique_violation(call->session, "request_pkey") ? repeat(attempt) : code;
}

/* --- Attempts ------------------------------------------------------------------------------------------------- */

/* Whether the commit may have happened although its result is not known: the connection was lost, or there was no
 * memory to take the result in. */
static bool left_in_doubt(const struct attempt *attempt, cof_code code)
{
    return session_commit_in_doubt(attempt->call->session) || (attempt->sent && code == COF_RESOURCE_EXHAUSTED);
}

static bool leaves_open(cof_code code)
{
    return code == COF_UNAVAILABLE || code == COF_DEADLINE_EXCEEDED || code == COF_RESOURCE_EXHAUSTED;
}

/* A lost race is worth another attempt; so is a commit whose outcome is unknown, because the request's record tells
 * it. Anything else that fails was not committed. */
static bool worth_another(struct attempt *attempt, cof_code code, bool in_doubt)
{
    const struct call *call = attempt->call;
    if (cof_clock_monotonic(call->service->clock) >= call->deadline_us) {
        return false;
    }
    return (in_doubt && leaves_open(code)) || (code == COF_ABORTED && call->err->reason == COF_REASON_CONFLICT) ||
           (code == COF_UNAVAILABLE && call->err->reason == COF_REASON_DATABASE_UNAVAILABLE);
}

static void pause_before(struct call *call, unsigned attempt)
{
    uint8_t random = 0;
    cof_ignore(crypto_random(&random, 1, call->err));
    const long ms = (1L << (attempt < 6 ? attempt : 6)) + random % 8;
    const struct timespec pause = {.tv_nsec = ms * 1000000};
    (void) nanosleep(&pause, NULL);
}

static cof_code outcome_unknown(struct call *call)
{
    return cof_fail(call->err, COF_REASON_OUTCOME_UNKNOWN, "%s; %s", cof_reason_meaning(COF_REASON_OUTCOME_UNKNOWN),
                    cof_reason_next_step(COF_REASON_OUTCOME_UNKNOWN));
}

/* A newer key has taken the place of the one that this attempt has sealed with: with it, another one succeeds. */
static cof_code sealed_too_old(struct attempt *attempt)
{
    struct call *call = attempt->call;
    TRY(guard_reload_keys(call, &attempt->write->workspace));
    cof_ignore(cof_fail(call->err, COF_REASON_CONFLICT, "%s; %s", cof_reason_meaning(COF_REASON_CONFLICT),
                        cof_reason_next_step(COF_REASON_CONFLICT)));
    return cof_note(call->err, "the workspace's key was rotated meanwhile");
}

/* The attempt's failure as the caller is told it; `ret_final` says whether another attempt would meet it again. */
static cof_code judge(struct attempt *attempt, cof_code code, bool *ret_final)
{
    struct call *call = attempt->call;
    if (code != COF_OK && session_check_violation(call->session, "workspace_revision_generation", call->err)) {
        *ret_final = false;
        return sealed_too_old(attempt);
    }
    *ret_final = code == COF_OK || (code == COF_ABORTED && session_unique_violation(call->session, NULL));
    if (code == COF_ABORTED && attempt->write->conflict != NULL) {
        return attempt->write->conflict(call, attempt->write->context);
    }
    return code;
}

static cof_code run_attempts(struct attempt *attempt)
{
    struct call *call = attempt->call;
    bool in_doubt = false;
    for (unsigned i = 1;; i++) {
        bool final;
        cof_code code = run_once(attempt);
        if (code == COF_OK && !attempt->replay && !attempt->write->nothing) {
            return COF_OK;
        }
        code = judge(attempt, code, &final);
        session_reset(call->session);
        in_doubt = in_doubt || left_in_doubt(attempt, code);
        if (final || i == ATTEMPTS || !worth_another(attempt, code, in_doubt)) {
            return in_doubt && leaves_open(code) ? outcome_unknown(call) : settle(attempt, code);
        }
        pause_before(call, i);
    }
}

cof_code write_queue(struct call *call, struct write *write, statement id, const struct param *params, size_t count)
{
    write->applied++;
    return session_queue(call->session, id, params, count, call->err);
}

cof_code write_queue_row_and(struct call *call, struct write *write, statement id, const struct row_type *type,
                             const void *row, const struct row_more *more)
{
    write->applied++;
    return row_queue(type, row, more, call->session, id, call->arena, call->err);
}

cof_code write_queue_row(struct call *call, struct write *write, statement id, const struct row_type *type,
                         const void *row)
{
    return write_queue_row_and(call, write, id, type, row, NULL);
}

/* Room for one more; what was there before stays in the arena. */
static cof_code grow_objects(struct call *call, struct write *write)
{
    const size_t room = write->object_room == 0 ? OBJECTS_FIRST : 2 * write->object_room;
    const size_t count = write->object_count;
    Coffer__Audit__V1__Object **objects = cof_arena_array(call->arena, room, sizeof(Coffer__Audit__V1__Object *));
    struct cof_uuid *ids = cof_arena_array(call->arena, room, sizeof *ids);
    if (objects == NULL || ids == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (count > 0) {
        memcpy(objects, write->objects, count * sizeof(Coffer__Audit__V1__Object *));
        memcpy(ids, write->object_ids, count * sizeof *ids);
    }
    write->objects = objects;
    write->object_ids = ids;
    write->object_room = room;
    return COF_OK;
}

cof_code write_object(struct call *call, struct write *write, const char *kind, const struct cof_uuid *id,
                      struct cof_slice environment, struct cof_slice name, Coffer__Audit__V1__Object **ret_object)
{
    Coffer__Audit__V1__Object *object = cof_arena_alloc(call->arena, sizeof *object);
    if (write->object_count == write->object_room) {
        TRY(grow_objects(call, write));
    }
    if (object == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__audit__v1__object__init(object);
    object->kind = text_of(call->arena, cof_slice_text(kind));
    object->uid = text_of_uuid(call->arena, id);
    object->environment = text_of(call->arena, environment);
    object->name = text_of(call->arena, name);
    if (object->kind == NULL || object->uid == NULL || object->environment == NULL || object->name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    write->objects[write->object_count] = object;
    write->object_ids[write->object_count++] = *id;
    *ret_object = object;
    return COF_OK;
}

cof_code write_run(struct call *call, struct write *write)
{
    struct attempt attempt = {.call = call, .write = write};
    TRY(crypto_sha256(call->payload, attempt.payload_hash, call->err));
    TRY(run_attempts(&attempt));
    aws_written(call, write);
    call->state_due = false;
    return COF_OK;
}

/* --- Effects outside ------------------------------------------------------------------------------------------ */

static cof_code begin_attempt(struct call *call, const struct write *write, struct write *copy,
                              struct attempt *attempt)
{
    *copy = *write;
    *attempt = (struct attempt){.call = call, .write = copy};
    return crypto_sha256(call->payload, attempt->payload_hash, call->err);
}

cof_code write_intend(struct call *call, struct write *write, write_intent *ret_intent)
{
    struct write copy;
    struct attempt attempt;
    AUTO(rows_cleanup) struct rows *inserted = NULL;
    AUTO(rows_cleanup) struct rows *record = NULL;
    TRY(begin_attempt(call, write, &copy, &attempt));
    TRY(queue_record(&attempt));
    TRY(queue_record_key(&attempt, STATEMENT_REQUEST_GET));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &inserted, call->err));
    TRY(session_next(call->session, &record, call->err));
    TRY(check_record(&attempt, record));
    write->intended = rows_affected(inserted) == 1;
    write->committed = !rows_null(record, 0, 2);
    *ret_intent = write->intended ? WRITE_INTENDED : write->committed ? WRITE_DONE : WRITE_BEGUN;
    return COF_OK;
}

cof_code write_unintend(struct call *call, const struct write *write)
{
    struct write copy;
    struct attempt attempt;
    TRY(begin_attempt(call, write, &copy, &attempt));
    TRY(queue_record_key(&attempt, STATEMENT_REQUEST_DROP));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, NULL, call->err);
}
