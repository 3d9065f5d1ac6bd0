#pragma once

#include "server/service/connection_place.h"
#include "server/service/providers.h"
#include "server/service/write.h"

/* What the writes of ConnectionService have in common: one connection by its place, locked, changed, and written anew. */

struct connection_change {
    struct write write;
    struct connection_place place;
    const char *expected_uid;
    bool found;
    bool damaged; /* its own row is read, and nothing of it may be believed */
    struct connection connection;
    struct provider_found provider; /* of the transaction, in which it cannot change */
    cof_reason provider_reason;     /* why there is none; COF_REASON_NONE */
    bool writes_row;
    bool writes_tokens;
    int64_t next_time; /* when there is something to refresh; ROW_NO_TIME */
};

/* The context of the write is the change, which is the first member of what its method keeps besides. */
void connection_change_init(struct connection_change *change, cof_code (*decide)(struct call *call, void *context),
                            const ProtobufCMessage *answer);

/* `look`, and its results. The second fails with CONNECTION_NOT_FOUND, CORRUPTED or UID_MISMATCH. */
COF_CODE connection_change_look(struct call *call, void *context);
COF_CODE connection_change_take(struct call *call, struct connection_change *change);
COF_CODE connection_change_take_whole(struct call *call, struct connection_change *change);
/* Besides, PROVIDER_NOT_FOUND or CORRUPTED if its provider cannot be used. */
COF_CODE connection_change_provider(struct call *call, const struct connection_change *change);
/* A whole one of its provider's present configuration; CONNECTION_NOT_FOUND if that has changed since. */
COF_CODE connection_change_take_current(struct call *call, struct connection_change *change);

/* Nothing is left of the tokens, and their generation moves on. */
void connection_drop_tokens(struct connection_change *change);

/* Seals the rows that are written, and makes the answer and the audit record. */
COF_CODE connection_change_seal(struct call *call, struct connection_change *change,
                                Coffer__Audit__V1__Effect effect, Coffer__V1__Connection **ret_message);
COF_CODE connection_change_record(struct call *call, struct connection_change *change,
                                  Coffer__Audit__V1__Effect effect);

/* `apply`. */
COF_CODE connection_change_apply(struct call *call, void *context);
