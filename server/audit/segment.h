#pragma once

#include "common/uuid.h"
#include "server/crypto/log_key.h"

/*
 * The bytes of a segment of the audit log (docs/decisions/0007-audit-stream.md): writing them into memory, and
 * reading memory that anybody may have written. Knows no files.
 */

enum {
    SEGMENT_HEADER = 256,
    SEGMENT_TEXT_MAX = 64 << 10, /* of one record */
    SEGMENT_CLOSING = 64,        /* bytes of the record that closes a segment */
    SEGMENT_SMALLEST = 256 << 10,
};

/* What stands in a segment's header. */
struct segment_start {
    struct cof_uuid server;
    uint64_t number;
    uint64_t first; /* sequence number of its first record */
    int64_t time_us;
    uint8_t before[CRYPTO_DIGEST]; /* the chain hash that it goes on from */
};

/* Bytes that a record of this text takes. */
size_t segment_record_size(size_t text_len);

/* Writes the header into zeroed memory and gives the chain hash behind it. `wrapped` is the wrapped form of `key`. */
COF_CODE segment_put_start(uint8_t *to, const struct segment_start *start, const uint8_t wrapped[WRAPPED_KEY_SIZE],
                           const struct log_key *key, uint8_t ret_chain[CRYPTO_DIGEST], struct cof_error *err);

/* Writes a record into zeroed memory and moves the chain hash on; on failure nothing counts as written. */
COF_CODE segment_put(uint8_t *to, uint64_t sequence, struct cof_slice text, const struct log_key *key,
                     uint8_t chain[CRYPTO_DIGEST], struct cof_error *err);

/* What is found at a place of a segment. */
typedef enum segment_found {
    SEGMENT_RECORD,
    SEGMENT_CLOSED,    /* the closing record, and nothing behind it */
    SEGMENT_END,       /* zeros: the segment was not closed */
    SEGMENT_UNDER_WAY, /* one record that was not finished, then zeros */
    SEGMENT_DAMAGED,   /* anything else */
} segment_found;

struct segment_reader {
    struct cof_slice bytes;
    struct segment_start start;
    struct log_key *key;
    uint8_t chain[CRYPTO_DIGEST]; /* behind the last good record */
    uint64_t sequence;            /* of the last good record */
    size_t offset;                /* where the next one begins */
};

/* Reads and checks the header. CORRUPTED. The bytes are borrowed and may grow behind what was read. */
COF_CODE segment_reader_init(struct segment_reader *reader, struct cof_slice bytes, const struct keyring *keyring,
                             struct cof_error *err);
void segment_reader_done(struct segment_reader *reader);
static inline void segment_reader_cleanup(struct segment_reader *reader)
{
    segment_reader_done(reader);
}

/* Whether the bytes begin as a segment that was prepared and never begun: a header of zeros. */
bool segment_is_prepared(struct cof_slice bytes);

/* Takes the next record; its text lies in `scratch`, which has SEGMENT_TEXT_MAX bytes. SEGMENT_DAMAGED explains
 * itself in `err`. */
segment_found segment_next(struct segment_reader *reader, uint8_t *scratch, struct cof_slice *ret_text,
                           struct cof_error *err);

/* The end of what is not zero. */
size_t segment_used(struct cof_slice bytes);
