#pragma once

#include "server/service/secret_change.h"

/*
 * One secret of an import: what was sent, what is stored, and what becomes of it. What is wrong with it alone becomes
 * its refusal; only what concerns the whole call fails.
 */

/* What an import says about a secret besides its values. */
struct import_metadata {
    bool given;
    struct cof_slice description;
    struct row_texts tags;
    int64_t expire_time;
    bool block_when_expired;
};

struct import_item {
    const Coffer__V1__ImportSecret *from;
    const struct address *address; /* NULL: it is refused for what was sent, and nothing is looked at */
    struct values sent;
    struct import_metadata metadata;
    bool homeless; /* its environment does not exist and is not made */
    bool made;     /* it is new */
    struct secret_change change;
    struct values values; /* of the version that is written */
    cof_reason refusal;   /* NONE: it is not refused */
    Coffer__V1__ImportedSecret *result;
};

/* Reads and checks what was sent, and that the caller may write the secret at all. */
COF_CODE import_item_read(struct call *call, const char *workspace, struct import_item *item);

/* Takes the locked row, if there is one, and makes what is written. May be done again after a lost race. */
COF_CODE import_item_decide(struct call *call, Coffer__V1__ImportMode mode, struct import_item *item);

/* Refuses the secret for the call's failure, which is cleared; the failure is passed on if it is not about one secret. */
COF_CODE import_item_settle(struct call *call, struct import_item *item, cof_code code);

/* Adds it to the audit record. */
COF_CODE import_item_record(struct call *call, struct write *write, const struct import_item *item);

/* Queues what was made. */
COF_CODE import_item_queue(struct call *call, struct write *write, const struct import_item *item);
