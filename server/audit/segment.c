#include "server/audit/segment.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "common/encode.h"

enum {
    FORMAT = 1,
    FORMAT_AT = 8,
    SERVER_AT = 16,
    NUMBER_AT = 32,
    FIRST_AT = 40,
    TIME_AT = 48,
    BEFORE_AT = 56,
    WRAPPED_AT = 88,
    TAG_AT = 208,
    CHAIN_AT = 224,
    RECORD_HEAD = 16, /* of a record: mark, length, sequence number */
    LENGTH_AT = 4,
    SEQUENCE_AT = 8,
    ALIGNMENT = 8,
};

static const uint8_t magic[8] = {'c', 'o', 'f', 'a', 'u', 'd', 'i', 't'};
static const uint8_t mark[4] = {'r', 'e', 'c', 'o'};

_Static_assert(WRAPPED_AT + WRAPPED_KEY_SIZE <= TAG_AT && CHAIN_AT + CRYPTO_DIGEST == SEGMENT_HEADER, "the header");

/* --- Writing -------------------------------------------------------------------------------------------------- */

size_t segment_record_size(size_t text_len)
{
    const size_t size = RECORD_HEAD + text_len + CRYPTO_TAG + CRYPTO_DIGEST;
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Everything before the mark is in the map before the mark is. */
static void put_mark(uint8_t *to, const uint8_t *bytes, size_t len)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_thread_fence(memory_order_release);
    memcpy(to, bytes, len);
}

COF_CODE segment_put_start(uint8_t *to, const struct segment_start *start, const uint8_t wrapped[WRAPPED_KEY_SIZE],
                           const struct log_key *key, uint8_t ret_chain[CRYPTO_DIGEST], struct cof_error *err)
{
    static const uint8_t nothing[CRYPTO_DIGEST];
    cof_put_u32(to + FORMAT_AT, FORMAT);
    memcpy(to + SERVER_AT, start->server.bytes, sizeof start->server.bytes);
    cof_put_u64(to + NUMBER_AT, start->number);
    cof_put_u64(to + FIRST_AT, start->first);
    cof_put_u64(to + TIME_AT, (uint64_t) start->time_us);
    memcpy(to + BEFORE_AT, start->before, CRYPTO_DIGEST);
    memcpy(to + WRAPPED_AT, wrapped, WRAPPED_KEY_SIZE);
    const struct cof_slice head = {to + FORMAT_AT, TAG_AT - FORMAT_AT};
    TRY(log_key_seal(key, 0, head, cof_slice_of(NULL, 0), to + TAG_AT, err));
    TRY(log_chain(nothing, head, cof_slice_of(to + TAG_AT, CRYPTO_TAG), to + CHAIN_AT, err));
    memcpy(ret_chain, to + CHAIN_AT, CRYPTO_DIGEST);
    put_mark(to, magic, sizeof magic);
    return COF_OK;
}

COF_CODE segment_put(uint8_t *to, uint64_t sequence, struct cof_slice text, const struct log_key *key,
                     uint8_t chain[CRYPTO_DIGEST], struct cof_error *err)
{
    const struct cof_slice head = {to + LENGTH_AT, RECORD_HEAD - LENGTH_AT};
    const struct cof_slice sealed = {to + RECORD_HEAD, text.len + CRYPTO_TAG};
    uint8_t *after = to + RECORD_HEAD + sealed.len;
    cof_put_u32(to + LENGTH_AT, (uint32_t) sealed.len);
    cof_put_u64(to + SEQUENCE_AT, sequence);
    TRY(log_key_seal(key, sequence, head, text, to + RECORD_HEAD, err));
    TRY(log_chain(chain, head, sealed, after, err));
    memcpy(chain, after, CRYPTO_DIGEST);
    put_mark(to, mark, sizeof mark);
    return COF_OK;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static bool all_zero(struct cof_slice bytes)
{
    return bytes.len == 0 || (bytes.data[0] == 0 && memcmp(bytes.data, bytes.data + 1, bytes.len - 1) == 0);
}

size_t segment_used(struct cof_slice bytes)
{
    enum { STEP = 4096 };
    size_t used = bytes.len;
    while (used > STEP && all_zero(cof_slice_of(bytes.data + used - STEP, STEP))) {
        used -= STEP;
    }
    while (used > 0 && bytes.data[used - 1] == 0) {
        used--;
    }
    return used;
}

bool segment_is_prepared(struct cof_slice bytes)
{
    return all_zero(cof_slice_of(bytes.data, bytes.len < SEGMENT_HEADER ? bytes.len : SEGMENT_HEADER));
}

static COF_CODE damaged(struct cof_error *err, const char *what)
{
    return cof_fail(err, COF_REASON_CORRUPTED, "%s", what);
}

static COF_CODE check_header(struct segment_reader *reader, struct cof_error *err)
{
    static const uint8_t nothing[CRYPTO_DIGEST];
    const uint8_t *bytes = reader->bytes.data;
    const struct cof_slice head = {bytes + FORMAT_AT, TAG_AT - FORMAT_AT};
    const struct cof_slice tag = {bytes + TAG_AT, CRYPTO_TAG};
    uint8_t text[1];
    TRY(log_key_unseal(reader->key, 0, head, tag, text, err));
    TRY(log_chain(nothing, head, tag, reader->chain, err));
    if (memcmp(reader->chain, bytes + CHAIN_AT, CRYPTO_DIGEST) != 0) {
        return damaged(err, "the hash of its header does not fit");
    }
    return COF_OK;
}

static void read_start(const uint8_t *bytes, struct segment_start *start)
{
    memcpy(start->server.bytes, bytes + SERVER_AT, sizeof start->server.bytes);
    start->number = cof_get_u64(bytes + NUMBER_AT);
    start->first = cof_get_u64(bytes + FIRST_AT);
    start->time_us = (int64_t) cof_get_u64(bytes + TIME_AT);
    memcpy(start->before, bytes + BEFORE_AT, CRYPTO_DIGEST);
}

COF_CODE segment_reader_init(struct segment_reader *reader, struct cof_slice bytes, const struct keyring *keyring,
                             struct cof_error *err)
{
    *reader = (struct segment_reader){.bytes = bytes, .offset = SEGMENT_HEADER};
    if (bytes.len < SEGMENT_HEADER || memcmp(bytes.data, magic, sizeof magic) != 0) {
        return damaged(err, "it does not begin as a segment of the audit log");
    }
    if (cof_get_u32(bytes.data + FORMAT_AT) != FORMAT) {
        return damaged(err, "it has a format that this version does not know");
    }
    read_start(bytes.data, &reader->start);
    TRY(log_key_open(keyring, &reader->start.server, reader->start.number,
                     cof_slice_of(bytes.data + WRAPPED_AT, WRAPPED_KEY_SIZE), &reader->key, err));
    reader->sequence = reader->start.first - 1;
    const cof_code code = check_header(reader, err);
    if (code != COF_OK) {
        segment_reader_done(reader);
    }
    return code;
}

void segment_reader_done(struct segment_reader *reader)
{
    log_key_free(reader->key);
    reader->key = NULL;
}

static segment_found is_damaged(struct cof_error *err, const struct segment_reader *reader, const char *what)
{
    cof_ignore(cof_fail(err, COF_REASON_CORRUPTED, "behind record %" PRIu64 ", at byte %zu: %s", reader->sequence,
                        reader->offset, what));
    return SEGMENT_DAMAGED;
}

static bool length_fits(const struct segment_reader *reader, size_t sealed)
{
    return sealed >= CRYPTO_TAG && sealed <= SEGMENT_TEXT_MAX + CRYPTO_TAG &&
           segment_record_size(sealed - CRYPTO_TAG) <= reader->bytes.len - reader->offset;
}

/* Nothing stands here, or a record that was not finished: its mark is missing, and nothing is behind it. */
static segment_found without_mark(const struct segment_reader *reader, struct cof_slice rest, struct cof_error *err)
{
    if (all_zero(rest)) {
        return SEGMENT_END;
    }
    const size_t sealed = rest.len < RECORD_HEAD ? 0 : cof_get_u32(rest.data + LENGTH_AT);
    if (!all_zero(cof_slice_of(rest.data, LENGTH_AT)) || !length_fits(reader, sealed)) {
        return is_damaged(err, reader, "there is something that is no record");
    }
    const size_t size = segment_record_size(sealed - CRYPTO_TAG);
    if (!all_zero(cof_slice_of(rest.data + size, rest.len - size))) {
        return is_damaged(err, reader, "a record is not whole, and something stands behind it");
    }
    return SEGMENT_UNDER_WAY;
}

static COF_CODE check_record(const struct segment_reader *reader, size_t sealed_len, uint8_t *scratch,
                             uint8_t chain[CRYPTO_DIGEST], struct cof_error *err)
{
    const uint8_t *at = reader->bytes.data + reader->offset;
    const struct cof_slice head = {at + LENGTH_AT, RECORD_HEAD - LENGTH_AT};
    const struct cof_slice sealed = {at + RECORD_HEAD, sealed_len};
    const uint8_t *after = sealed.data + sealed.len;
    const size_t used = RECORD_HEAD + sealed.len + CRYPTO_DIGEST;
    if (cof_get_u64(at + SEQUENCE_AT) != reader->sequence + 1) {
        return damaged(err, "the next record has another number than it must have");
    }
    TRY(log_key_unseal(reader->key, reader->sequence + 1, head, sealed, scratch, err));
    TRY(log_chain(reader->chain, head, sealed, chain, err));
    if (memcmp(chain, after, CRYPTO_DIGEST) != 0) {
        return damaged(err, "the next record's hash does not fit");
    }
    if (!all_zero(cof_slice_of(at + used, segment_record_size(sealed_len - CRYPTO_TAG) - used))) {
        return damaged(err, "there is something between two records");
    }
    return COF_OK;
}

static bool has_mark(struct cof_slice rest)
{
    const bool there = rest.len >= sizeof mark && memcmp(rest.data, mark, sizeof mark) == 0;
    atomic_thread_fence(memory_order_acquire);
    return there;
}

segment_found segment_next(struct segment_reader *reader, uint8_t *scratch, struct cof_slice *ret_text,
                           struct cof_error *err)
{
    const struct cof_slice rest = {reader->bytes.data + reader->offset, reader->bytes.len - reader->offset};
    uint8_t chain[CRYPTO_DIGEST];
    struct cof_error fault;
    if (!has_mark(rest)) {
        const segment_found found = without_mark(reader, rest, err);
        /* A server that writes at this moment may have gone on while the rest was looked at. */
        if (found != SEGMENT_DAMAGED || !has_mark(rest)) {
            return found;
        }
    }
    const size_t sealed = rest.len < RECORD_HEAD ? 0 : cof_get_u32(rest.data + LENGTH_AT);
    if (!length_fits(reader, sealed)) {
        return is_damaged(err, reader, "the next record has a length that cannot be");
    }
    if (check_record(reader, sealed, scratch, chain, &fault) != COF_OK) {
        return is_damaged(err, reader, fault.message);
    }
    const size_t size = segment_record_size(sealed - CRYPTO_TAG);
    if (sealed == CRYPTO_TAG && !all_zero(cof_slice_of(rest.data + size, rest.len - size))) {
        return is_damaged(err, reader, "something stands behind the end of the segment");
    }
    memcpy(reader->chain, chain, CRYPTO_DIGEST);
    reader->sequence++;
    reader->offset += size;
    *ret_text = cof_slice_of(scratch, sealed - CRYPTO_TAG);
    return sealed == CRYPTO_TAG ? SEGMENT_CLOSED : SEGMENT_RECORD;
}
