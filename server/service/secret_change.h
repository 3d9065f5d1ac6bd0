#pragma once

#include "server/service/authorize.h"
#include "server/service/secret_view.h"
#include "server/service/write.h"

/*
 * What the methods of SecretService share: secrets by their address, and the change of one secret that exists.
 *
 * A change locks the secret's row, checks what the caller expects of it, and writes it anew, with or without new values.
 */

/* What SECRET_GET and SECRET_LOCK have behind the columns of the row. */
enum secret_column { SECRET_KEYS, SECRET_BLOB, SECRET_VALUE_TIME, SECRET_VALUE_PRINCIPAL };
size_t secret_column_at(enum secret_column column);

/* Queues a statement whose parameters are a secret's address. */
COF_CODE secret_queue(struct call *call, const struct address *address, statement id);

/* The version in a row of such a statement; it borrows from the rows. */
struct sealed_version secret_sealed_of(const struct rows *rows, size_t index);

/* AWS_SESSION_NAME_REFUSED if one of the values that are written is AWS_ROLE_SESSION_NAME, in a secret for AWS. */
COF_CODE secret_check_aws(struct call *call, struct cof_slice name, const struct values *values);

/* A list of texts as a parameter. */
COF_CODE secret_texts(struct call *call, const struct cof_slice *items, size_t count, struct param *ret_param);

COF_CODE secret_not_found(struct call *call, const struct address *address);
COF_CODE secret_exists(struct call *call, const struct address *address);
COF_CODE secret_name_reserved(struct call *call, const char *field);

/* Metadata as requests bring it. */
COF_CODE secret_read_tags(struct call *call, char *const *tags, size_t count, struct row_texts *ret_tags);
COF_CODE secret_read_description(struct call *call, const char *description, struct cof_slice *ret_description);
COF_CODE secret_read_expire_time(struct call *call, const Google__Protobuf__Timestamp *time, int64_t *ret_time);

#define EFFECT(name) COFFER__AUDIT__V1__EFFECT__EFFECT_##name

/*
 * Adds the secret to the audit record, with what becomes of it and the names of its values' keys. Those who watch the
 * workspace are told of every secret with an effect (server/service/watch_change.h).
 */
COF_CODE secret_record(struct call *call, struct write *write, const struct secret_row *row,
                       Coffer__Audit__V1__Effect effect, const struct values *values);

/* Queues that the environment is there and stays, and takes the results, all of them even if it fails: `look` and
 * `decide` of what puts a secret into it. A strict workspace has only the environments that somebody created; for
 * others it fails as `missing` does. */
enum { SECRET_PLACE_STATEMENTS = 3 };
COF_CODE secret_place_queue(struct call *call, const struct address *address);
COF_CODE secret_place_take(struct call *call, const struct address *address);
COF_CODE secret_place_missing(struct call *call, const struct address *address);

/* Parameters behind those of the row in statements that write values. */
struct row_more secret_more_of(const struct call *call, const struct sealed_version *sealed);

/* --- Changes --- */

/* Empty, 0: not checked. */
struct secret_guards {
    const char *expected_uid;
    const char *etag;
    uint64_t expected_version;
};

/* As answers have them; empty for most secrets. */
struct secret_warnings {
    char **items;
    size_t count;
};

struct secret_change {
    struct write write;
    const struct address *address;
    struct secret_guards guards;
    struct secret_row row; /* as it was locked, later as it becomes */
    bool damaged;          /* it failed its integrity check: it can be overwritten whole or deleted, nothing else */
    bool new_values;
    struct sealed_version sealed;    /* of the new values */
    struct secret_warnings warnings; /* about the new values */
    Coffer__V1__Secret **answer;
};

/*
 * What all changes have in common of their write: the lock is looked at, and what was made is applied. The context of
 * the write is the change, which is the first member of what its method keeps besides.
 */
void secret_change_init(struct secret_change *change, cof_code (*decide)(struct call *call, void *context),
                        const ProtobufCMessage *answer);

/* Queues the lock. */
COF_CODE secret_change_look(struct call *call, void *context);

/* Takes the locked row and checks the guards. `ret_rows` has the version, too. */
COF_CODE secret_change_take(struct call *call, struct secret_change *change, struct rows **ret_rows);

/* The same, and fails with CORRUPTED for a damaged row. */
COF_CODE secret_change_take_whole(struct call *call, struct secret_change *change, struct rows **ret_rows);

/*
 * Values as the secret's type wants them (secret_types.h), within the limits; `row->facts` becomes what is known of them.
 * A damaged row may have lost its type: if the values are not of it, the secret is of the type custom from now on.
 */
COF_CODE secret_typed(struct call *call, struct secret_row *row, bool damaged, struct values *values,
                      struct secret_warnings *ret_warnings);

/* Makes the next version of values that are typed already: the row and the sealed values. */
COF_CODE secret_change_version(struct call *call, struct secret_change *change, const struct values *values);

/* Makes the next version of values, typed first: the row, the sealed values, the answer, the audit record. */
COF_CODE secret_change_values(struct call *call, struct secret_change *change, struct values *values);

/* The row has new metadata: seals it, and makes the answer, with these keys, and the audit record. */
COF_CODE secret_change_metadata(struct call *call, struct secret_change *change, Coffer__Audit__V1__Effect effect,
                                struct cof_slice keys);

/* Seals the row as it is now: for metadata that changed without a new version. */
COF_CODE secret_change_seal(struct call *call, struct secret_change *change);

/* Queues what was made, as part of a write of one secret or of many. */
COF_CODE secret_change_queue(struct call *call, struct write *write, const struct secret_change *change);

/* The same for the change's own write: its `apply`. */
COF_CODE secret_change_apply(struct call *call, void *context);

/* The `finish` of a write whose `decide` makes new values of one secret. */
COF_CODE secret_change_finish(struct call *call, void *context, const struct row_more *common);
