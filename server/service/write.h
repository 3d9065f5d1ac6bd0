#pragma once

#include <coffer/audit/v1/record.pb-c.h>

#include "server/service/call.h"
#include "server/store/row.h"

/*
 * The one way in which anything is written (docs/decisions/0004-exactly-once.md): the effect, the record that makes
 * it happen once, the audit record and the raised revision are one transaction of two pipelines.
 *
 *   first:  begin, then what `look` queues (reads and locks)
 *           `decide` takes the results of `look`, checks, prepares rows and the answer
 *   second: the workspace's revision is raised, with the audit record and the request's record, then what `apply`
 *           queues, then commit
 *
 * A repeat of a committed request is answered with the first answer: its record cannot be made a second time, and whatever
 * else comes of a repeat, `decide` failing in what the first one has left for instance, is told only if there is no record.
 * A serialization failure or a lost connection runs the steps again, too, so they must leave nothing behind but memory in
 * the arena.
 */
enum { WRITE_COMMON = 7 };

struct write {
    struct cof_uuid workspace;
    /* Queues statements; may be NULL. */
    cof_code (*look)(struct call *call, void *context);
    /* Takes the results of what `look` queued with session_next, in their order. Must fill `answer`. */
    cof_code (*decide)(struct call *call, void *context);
    /* Queues statements, by write_queue and write_queue_row; their results are not looked at. */
    cof_code (*apply)(struct call *call, void *context);
    /* In the place of `apply`: queues one statement that does the common part as well (SECRET_FINISH_VALUES), with
     * `common` behind its own parameters, and what else there is by write_queue; may be NULL. */
    cof_code (*finish)(struct call *call, void *context, const struct row_more *common);
    /* Before the first answer is sent again: takes the results of `look` and checks what the caller's right to the
     * answer depends on, where `decide` does that; may be NULL. */
    cof_code (*recheck)(struct call *call, void *context);
    /* Turns the unique violation of a constraint into a failure of the product; may be NULL. */
    cof_code (*conflict)(struct call *call, void *context);
    void *context;

    const ProtobufCMessage *answer;
    /* `decide` says that nothing is to be written: the transaction is rolled back, and `answer` is all of the answer. */
    bool nothing;

    Coffer__Audit__V1__Object **objects;
    struct cof_uuid *object_ids;
    size_t object_count;
    size_t object_room;
    /* write_intend has written the request's record down before. */
    bool intended;
    /* write_intend has found the request's answer. */
    bool committed;
    /* The consistency token names this revision instead of the workspace's; 0: the workspace's. */
    int64_t token_revision;

    size_t applied; /* statements that `apply` queued */
};

/* What `apply` queues with. */
COF_CODE write_queue(struct call *call, struct write *write, statement id, const struct param *params,
                     size_t count);
COF_CODE write_queue_row(struct call *call, struct write *write, statement id, const struct row_type *type,
                         const void *row);
/* With parameters behind those of the row. */
COF_CODE write_queue_row_and(struct call *call, struct write *write, statement id, const struct row_type *type,
                             const void *row, const struct row_more *more);

/* Adds what the write is about to the audit record. `kind` is static; the keys are borrowed. */
COF_CODE write_object(struct call *call, struct write *write, const char *kind, const struct cof_uuid *id,
                      struct cof_slice environment, struct cof_slice name, Coffer__Audit__V1__Object **ret_object);

/* The audit record of the write, packed, in the arena: for what keeps it in a second place. */
COF_CODE write_record(struct call *call, struct write *write, struct cof_slice *ret_record);

/* Runs it and leaves the packed answer in the call. */
COF_CODE write_run(struct call *call, struct write *write);

/*
 * For a request that has an effect outside which cannot be had twice: before that its record is written down, without an
 * answer, in a transaction of its own. Whoever repeats the request then, on whichever server, is told.
 */
typedef enum write_intent {
    WRITE_INTENDED, /* now, and it was not before: the effect may be had, and `intended` is set */
    WRITE_BEGUN,    /* an attempt before has: the effect may have been had, or be under way */
    WRITE_DONE,     /* the request was committed: write_run answers it again */
} write_intent;
COF_CODE write_intend(struct call *call, struct write *write, write_intent *ret_intent);

/* The effect was not had for certain: the request can be repeated. */
COF_CODE write_unintend(struct call *call, const struct write *write);
