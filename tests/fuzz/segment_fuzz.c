#include <string.h>

#include "server/audit/segment.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as a segment of the audit log: reading ends, stays inside of it, and believes nothing that is not sealed. */

enum { HEAP = 1 << 16 };

static struct keyring *keyring_of_the_seeds(void)
{
    static struct keyring *keyring;
    struct root_key *root = NULL;
    struct cof_error err;
    uint8_t key[CRYPTO_KEY];
    if (keyring == NULL) {
        memset(key, 7, sizeof key);
        MUST(crypto_start(HEAP, 0, &err) == COF_OK);
        MUST(root_key_new(key, &root, &err) == COF_OK);
        MUST(keyring_new(&root, 1, 1, &keyring, &err) == COF_OK);
    }
    return keyring;
}

static void walk(struct segment_reader *reader)
{
    static uint8_t scratch[SEGMENT_TEXT_MAX];
    struct cof_error err;
    struct cof_slice text;
    segment_found found = SEGMENT_RECORD;
    while (found == SEGMENT_RECORD) {
        const size_t before = reader->offset;
        const uint64_t sequence = reader->sequence;
        found = segment_next(reader, scratch, &text, &err);
        const bool taken = found == SEGMENT_RECORD || found == SEGMENT_CLOSED;
        MUST(reader->offset <= reader->bytes.len);
        MUST(taken == (reader->offset > before) && reader->sequence == sequence + taken);
        MUST(found != SEGMENT_RECORD || (text.len > 0 && text.len <= SEGMENT_TEXT_MAX));
        MUST(found != SEGMENT_DAMAGED || err.reason == COF_REASON_CORRUPTED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_reader reader;
    struct cof_error err;
    const struct cof_slice bytes = {data, size};
    struct keyring *keyring = keyring_of_the_seeds();
    MUST(segment_used(bytes) <= size);
    if (segment_reader_init(&reader, bytes, keyring, &err) != COF_OK) {
        MUST(err.message[0] != '\0');
        return 0;
    }
    MUST(!segment_is_prepared(bytes));
    walk(&reader);
    segment_reader_done(&reader);
    return 0;
}
