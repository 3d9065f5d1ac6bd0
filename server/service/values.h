#pragma once

#include <coffer/v1/secret.pb-c.h>

#include "server/service/call.h"
#include "server/store/row.h"

/*
 * The values of one version of a secret: a map of keys and bytes, sorted by key.
 *
 *   map  = for each key: u16 length, key, u32 length, value         (sealed: the version's blob)
 *   keys = for each key: u16 length, key, u32 size of the value, u8 flags: 1 = blank   (in the clear, beside the
 * blob)
 *
 * Numbers are big-endian. The clear list is compared with the map after it was opened (formats.md, Encodings).
 */

struct value {
    struct cof_slice key;
    struct cof_slice bytes;
};

struct values {
    struct value *items;
    size_t count;
};

/* Reads values from a request: names, sizes, number; sorted; a key twice is refused. Failures name fields below
 * `path`. An empty list is allowed here. */
COF_CODE values_read(struct call *call, Coffer__V1__KeyValue *const *from, size_t count, const char *path,
                     struct values *ret_values);

/* Applies a patch: `set` over `base`, then without `remove`, each of which must be in `base`. */
COF_CODE values_patch(struct call *call, const struct values *base, const struct values *set, char *const *remove,
                      size_t remove_count, struct values *ret_values);

/* 1 to keys_per_secret keys, at most secret_bytes in all. */
COF_CODE values_check(struct call *call, const struct values *values);

/* The value of a key; NULL if there is none. */
const struct value *values_find(const struct values *values, struct cof_slice key);

/* The clear list of keys of a version, as SecretKey messages. CORRUPTED if it cannot be read. */
COF_CODE values_keys(struct call *call, struct cof_slice keys, Coffer__V1__SecretKey ***ret_keys,
                     size_t *ret_count);

/* The values as messages, which borrow their bytes. */
COF_CODE values_messages(struct call *call, const struct values *values, Coffer__V1__KeyValue ***ret_pairs,
                         size_t *ret_count);

/* Makes the clear list of keys of these values. */
COF_CODE values_list_keys(struct call *call, const struct values *values, struct cof_slice *ret_keys);

/* What is stored of a version: the clear list and the sealed map. */
struct sealed_version {
    struct cof_slice keys;
    struct cof_slice blob;
};

COF_CODE values_seal(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *secret,
                     uint64_t version, const struct values *values, struct sealed_version *ret_sealed);

/* Opens a version and compares it with its list of keys; CORRUPTED if anything does not fit. The values are in the
 * arena. */
COF_CODE values_open(struct call *call, const struct secret_row *secret, const struct sealed_version *sealed,
                     struct values *ret_values);

/* What this process keeps of a version that was opened and compared: its map, sealed by the keyring for itself; in the
 * arena. Errors go to `err`, for whoever cannot keep something goes on. */
COF_CODE values_keep(struct call *call, const struct secret_row *secret, const struct values *values,
                     struct cof_slice *ret_kept, struct cof_error *err);
COF_CODE values_open_kept(struct call *call, const struct secret_row *secret, struct cof_slice kept,
                          struct values *ret_values);

/* Empty, or nothing but ASCII white space. */
bool values_blank(struct cof_slice bytes);
