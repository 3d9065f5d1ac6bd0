#include "server/service/values.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/encode.h"
#include "common/name.h"
#include "server/service/guard.h"
#include "server/service/text.h"

enum { KEY_BLANK = 1 };

/* --- From a request ------------------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct value *left = a;
    const struct value *right = b;
    return cof_slice_compare(left->key, right->key);
}

static cof_code read_value(struct call *call, const Coffer__V1__KeyValue *from, const char *path, size_t index,
                           struct value *value)
{
    char field[COF_ERROR_FIELD_SIZE];
    const uint32_t limit = call->service->limits.value_bytes;
    value->key = cof_slice_text(from->key);
    value->bytes = cof_slice_of(from->value.data, from->value.len);
    (void) snprintf(field, sizeof field, "%s[%zu].key", path, index);
    TRY(cof_name_check(COF_NAME_KEY, value->key, field, call->err));
    if (value->bytes.len > limit) {
        (void) snprintf(field, sizeof field, "%s[%zu].value", path, index);
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, field,
                              "the value of the key \"%s\" has %zu bytes; at most %u are allowed", from->key,
                              value->bytes.len, limit);
    }
    return COF_OK;
}

static cof_code refuse_duplicates(struct call *call, const struct values *values, const char *path)
{
    for (size_t i = 1; i < values->count; i++) {
        const struct cof_slice key = values->items[i].key;
        if (cof_slice_equal(values->items[i - 1].key, key)) {
            return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, path,
                                  "%s has the key \"%.*s\" twice; send each key once", path, (int) key.len,
                                  (const char *) key.data);
        }
    }
    return COF_OK;
}

static cof_code check_key_count(struct call *call, size_t count, const char *path)
{
    const uint32_t limit = call->service->limits.keys_per_secret;
    if (count <= limit) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, path, "%s has %zu keys; a secret has at most %u",
                          path, count, limit);
}

cof_code values_read(struct call *call, Coffer__V1__KeyValue *const *from, size_t count, const char *path,
                     struct values *ret_values)
{
    TRY(check_key_count(call, count, path));
    struct values values = {cof_arena_array(call->arena, count, sizeof(struct value)), count};
    if (values.items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(read_value(call, from[i], path, i, &values.items[i]));
    }
    qsort(values.items, count, sizeof *values.items, by_key);
    TRY(refuse_duplicates(call, &values, path));
    *ret_values = values;
    return COF_OK;
}

cof_code values_check(struct call *call, const struct values *values)
{
    const uint32_t limit = call->service->limits.secret_bytes;
    size_t total = 0;
    if (values->count == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "values", "a secret needs at least one key");
    }
    TRY(check_key_count(call, values->count, "values"));
    for (size_t i = 0; i < values->count; i++) {
        total += values->items[i].bytes.len;
    }
    if (total > limit) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "values",
                              "the values have %zu bytes together; at most %u are allowed in a secret", total,
                              limit);
    }
    return COF_OK;
}

const struct value *values_find(const struct values *values, struct cof_slice key)
{
    const struct value wanted = {.key = key};
    if (values->count == 0) {
        return NULL;
    }
    return bsearch(&wanted, values->items, values->count, sizeof *values->items, by_key);
}

/* --- Patches -------------------------------------------------------------------------------------------------- */

static bool named(char *const *names, size_t count, struct cof_slice key)
{
    for (size_t i = 0; i < count; i++) {
        if (cof_slice_equal(cof_slice_text(names[i]), key)) {
            return true;
        }
    }
    return false;
}

static cof_code check_removed(struct call *call, const struct values *base, const struct values *set,
                              char *const *remove, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char field[COF_ERROR_FIELD_SIZE];
        (void) snprintf(field, sizeof field, "patch.remove[%zu]", i);
        TRY(cof_name_check(COF_NAME_KEY, cof_slice_text(remove[i]), field, call->err));
        if (values_find(base, cof_slice_text(remove[i])) == NULL) {
            return cof_fail_field(call->err, COF_REASON_KEY_NOT_FOUND, field,
                                  "the secret has no key \"%s\" that could be removed", remove[i]);
        }
        if (values_find(set, cof_slice_text(remove[i])) != NULL) {
            return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field,
                                  "the key \"%s\" is both set and removed; do one of them", remove[i]);
        }
    }
    return COF_OK;
}

cof_code values_patch(struct call *call, const struct values *base, const struct values *set, char *const *remove,
                      size_t remove_count, struct values *ret_values)
{
    TRY(check_removed(call, base, set, remove, remove_count));
    struct values merged = {cof_arena_array(call->arena, base->count + set->count, sizeof(struct value)), 0};
    if (merged.items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < base->count; i++) {
        const struct cof_slice key = base->items[i].key;
        if (values_find(set, key) == NULL && !named(remove, remove_count, key)) {
            merged.items[merged.count++] = base->items[i];
        }
    }
    for (size_t i = 0; i < set->count; i++) {
        merged.items[merged.count++] = set->items[i];
    }
    qsort(merged.items, merged.count, sizeof *merged.items, by_key);
    *ret_values = merged;
    return COF_OK;
}

/* --- For an answer -------------------------------------------------------------------------------------------- */

static cof_code make_message(struct call *call, const struct value *value, Coffer__V1__KeyValue **ret_pair)
{
    Coffer__V1__KeyValue *pair = cof_arena_alloc(call->arena, sizeof *pair);
    if (pair == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__key_value__init(pair);
    pair->key = text_of(call->arena, value->key);
    pair->value.len = value->bytes.len;
    /* protobuf-c's bytes have no const; packing only reads. */
    memcpy(&pair->value.data, &value->bytes.data, sizeof pair->value.data);
    *ret_pair = pair;
    return pair->key == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code values_messages(struct call *call, const struct values *values, Coffer__V1__KeyValue ***ret_pairs,
                         size_t *ret_count)
{
    Coffer__V1__KeyValue **pairs = cof_arena_array(call->arena, values->count, sizeof(Coffer__V1__KeyValue *));
    if (pairs == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < values->count; i++) {
        TRY(make_message(call, &values->items[i], &pairs[i]));
    }
    *ret_pairs = pairs;
    *ret_count = values->count;
    return COF_OK;
}

/* --- Stored forms --------------------------------------------------------------------------------------------- */

bool values_blank(struct cof_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (strchr(" \t\n\v\f\r", bytes.data[i]) == NULL || bytes.data[i] == '\0') {
            return false;
        }
    }
    return true;
}

static uint8_t *put_key(uint8_t *at, struct cof_slice key)
{
    cof_put_u16(at, (uint16_t) key.len);
    memcpy(at + 2, key.data, key.len);
    return at + 2 + key.len;
}

static void encode_map(const struct values *values, uint8_t *at)
{
    for (size_t i = 0; i < values->count; i++) {
        const struct value *value = &values->items[i];
        at = put_key(at, value->key);
        cof_put_u32(at, (uint32_t) value->bytes.len);
        if (value->bytes.len > 0) {
            memcpy(at + 4, value->bytes.data, value->bytes.len);
        }
        at += 4 + value->bytes.len;
    }
}

static void encode_keys(const struct values *values, uint8_t *at)
{
    for (size_t i = 0; i < values->count; i++) {
        const struct value *value = &values->items[i];
        at = put_key(at, value->key);
        cof_put_u32(at, (uint32_t) value->bytes.len);
        at[4] = values_blank(value->bytes) ? KEY_BLANK : 0;
        at += 5;
    }
}

/* Takes `len` bytes off the front; false if there are fewer. */
static bool take(struct cof_slice *rest, size_t len, struct cof_slice *ret_bytes)
{
    if (rest->len < len) {
        return false;
    }
    *ret_bytes = cof_slice_of(rest->data, len);
    *rest = cof_slice_of(rest->data + len, rest->len - len);
    return true;
}

static bool take_key(struct cof_slice *rest, struct cof_slice *ret_key)
{
    struct cof_slice length;
    return take(rest, 2, &length) && take(rest, cof_get_u16(length.data), ret_key);
}

static bool take_value(struct cof_slice *rest, struct value *value)
{
    struct cof_slice length;
    return take_key(rest, &value->key) && take(rest, 4, &length) &&
           take(rest, cof_get_u32(length.data), &value->bytes);
}

struct clear_key {
    struct cof_slice name;
    uint32_t size;
    bool blank;
};

static bool take_clear_key(struct cof_slice *rest, struct clear_key *key)
{
    struct cof_slice tail;
    if (!take_key(rest, &key->name) || !cof_name_valid(COF_NAME_KEY, key->name) || !take(rest, 5, &tail)) {
        return false;
    }
    key->size = cof_get_u32(tail.data);
    key->blank = (tail.data[4] & KEY_BLANK) != 0;
    return (tail.data[4] & ~KEY_BLANK) == 0;
}

static cof_code corrupted(struct call *call, const char *what)
{
    cof_ignore(cof_fail(call->err, COF_REASON_CORRUPTED, "the stored secret failed its integrity check; %s",
                        cof_reason_next_step(COF_REASON_CORRUPTED)));
    return cof_note(call->err, "%s", what);
}

static bool count_values(struct cof_slice bytes, size_t *ret_count)
{
    struct value value;
    *ret_count = 0;
    while (bytes.len > 0) {
        if (!take_value(&bytes, &value)) {
            return false;
        }
        (*ret_count)++;
    }
    return true;
}

/* The names are checked where the map comes from outside of this process. */
static cof_code decode_map(struct call *call, struct cof_slice bytes, bool kept, struct values *ret_values)
{
    size_t count;
    if (!count_values(bytes, &count)) {
        return corrupted(call, "the opened map cannot be read");
    }
    struct values values = {cof_arena_array(call->arena, count, sizeof(struct value)), count};
    if (values.items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        (void) take_value(&bytes, &values.items[i]);
        if (!kept && !cof_name_valid(COF_NAME_KEY, values.items[i].key)) {
            return corrupted(call, "the opened map has a key that is no name");
        }
    }
    *ret_values = values;
    return COF_OK;
}

static bool keys_fit(const struct values *values, struct cof_slice keys)
{
    for (size_t i = 0; i < values->count; i++) {
        struct clear_key key;
        const struct value *value = &values->items[i];
        if (!take_clear_key(&keys, &key) || !cof_slice_equal(key.name, value->key) ||
            key.size != value->bytes.len || key.blank != values_blank(value->bytes)) {
            return false;
        }
    }
    return keys.len == 0;
}

static cof_code key_message(struct call *call, const struct clear_key *key, Coffer__V1__SecretKey **ret_message)
{
    Coffer__V1__SecretKey *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret_key__init(message);
    message->name = cof_arena_text(call->arena, key->name);
    message->size = key->size;
    message->blank = key->blank;
    *ret_message = message;
    return message->name == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code values_keys(struct call *call, struct cof_slice keys, Coffer__V1__SecretKey ***ret_keys, size_t *ret_count)
{
    Coffer__V1__SecretKey **messages =
        cof_arena_array(call->arena, keys.len / 8 + 1, sizeof(Coffer__V1__SecretKey *));
    size_t count = 0;
    if (messages == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (keys.len == 0) {
        return corrupted(call, "the list of keys is empty");
    }
    while (keys.len > 0) {
        struct clear_key key;
        if (!take_clear_key(&keys, &key)) {
            return corrupted(call, "the list of keys cannot be read");
        }
        TRY(key_message(call, &key, &messages[count++]));
    }
    *ret_keys = messages;
    *ret_count = count;
    return COF_OK;
}

cof_code values_list_keys(struct call *call, const struct values *values, struct cof_slice *ret_keys)
{
    size_t size = 0;
    for (size_t i = 0; i < values->count; i++) {
        size += 2 + values->items[i].key.len + 5;
    }
    uint8_t *keys = cof_arena_alloc(call->arena, size);
    if (keys == NULL) {
        return cof_arena_exhausted(call->err);
    }
    encode_keys(values, keys);
    *ret_keys = cof_slice_of(keys, size);
    return COF_OK;
}

static size_t map_size_of(const struct values *values)
{
    size_t size = 0;
    for (size_t i = 0; i < values->count; i++) {
        size += 2 + values->items[i].key.len + 4 + values->items[i].bytes.len;
    }
    return size;
}

cof_code values_seal(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *secret,
                     uint64_t version, const struct values *values, struct sealed_version *ret_sealed)
{
    const struct blob_address address = {BLOB_SECRET_VERSION, *workspace, *secret, version};
    const size_t map_size = map_size_of(values);
    TRY(values_list_keys(call, values, &ret_sealed->keys));
    uint8_t *map = cof_arena_alloc(call->arena, map_size);
    uint8_t *blob = cof_arena_alloc(call->arena, map_size + BLOB_OVERHEAD);
    if (map == NULL || blob == NULL) {
        return cof_arena_exhausted(call->err);
    }
    encode_map(values, map);
    TRY(guard_seal(call, &address, cof_slice_of(map, map_size), blob));
    ret_sealed->blob = cof_slice_of(blob, map_size + BLOB_OVERHEAD);
    return COF_OK;
}

static struct blob_address address_of(const struct secret_row *secret)
{
    return (struct blob_address){BLOB_SECRET_VERSION, secret->workspace_id, secret->secret_id,
                                 (uint64_t) secret->version};
}

cof_code values_open(struct call *call, const struct secret_row *secret, const struct sealed_version *sealed,
                     struct values *ret_values)
{
    const struct blob_address address = address_of(secret);
    if (sealed->blob.len < BLOB_OVERHEAD) {
        return corrupted(call, "the version's blob is missing or cut");
    }
    const size_t size = sealed->blob.len - BLOB_OVERHEAD;
    uint8_t *map = cof_arena_alloc(call->arena, size);
    if (map == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_open(call, &address, sealed->blob, map));
    TRY(decode_map(call, cof_slice_of(map, size), false, ret_values));
    return keys_fit(ret_values, sealed->keys) ? COF_OK
                                              : corrupted(call, "the list of keys does not fit the values");
}

cof_code values_keep(struct call *call, const struct secret_row *secret, const struct values *values,
                     struct cof_slice *ret_kept, struct cof_error *err)
{
    const struct blob_address address = address_of(secret);
    const size_t size = map_size_of(values);
    uint8_t *map = cof_arena_alloc(call->arena, size);
    uint8_t *kept = cof_arena_alloc(call->arena, size + KEYRING_KEPT_OVERHEAD);
    if (map == NULL || kept == NULL) {
        return cof_arena_exhausted(err);
    }
    encode_map(values, map);
    TRY(keyring_seal_kept(call->service->keyring, &address, cof_slice_of(map, size), kept, err));
    *ret_kept = cof_slice_of(kept, size + KEYRING_KEPT_OVERHEAD);
    return COF_OK;
}

cof_code values_open_kept(struct call *call, const struct secret_row *secret, struct cof_slice kept,
                          struct values *ret_values)
{
    const struct blob_address address = address_of(secret);
    const size_t size = kept.len - KEYRING_KEPT_OVERHEAD;
    uint8_t *map = cof_arena_alloc(call->arena, size);
    if (map == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(keyring_open_kept(call->service->keyring, &address, kept, map, call->err));
    return decode_map(call, cof_slice_of(map, size), true, ret_values);
}
