#include "server/audit/write_chain.h"

#include <stdlib.h>

#include "common/arena.h"
#include "common/encode.h"

enum {
    WRITE_HEAD = CRYPTO_DIGEST + 8 + 8 + 4,
    NAME = sizeof "write_chain" - 1,
    LINK_SIZE = NAME + CRYPTO_DIGEST + 16 + 8 + 8 + CRYPTO_DIGEST,
};

static void put_slice(uint8_t *to, struct cof_slice from)
{
    if (from.len > 0) {
        memcpy(to, from.data, from.len);
    }
}

void write_chain_begin(struct write_chain_link *link, const struct cof_uuid *workspace, struct cof_slice before)
{
    *link = (struct write_chain_link){.workspace = *workspace};
    if (before.len == CRYPTO_DIGEST) {
        memcpy(link->before, before.data, CRYPTO_DIGEST);
    }
}

cof_code write_chain_add(struct write_chain_link *link, const struct write_chain_write *write,
                         struct cof_error *err)
{
    const size_t length = WRITE_HEAD + write->objects.len + write->record.len;
    uint8_t *bytes = malloc(length);
    if (bytes == NULL) {
        return cof_arena_exhausted(err);
    }
    uint8_t *at = bytes;
    memcpy(at, link->digest, CRYPTO_DIGEST);
    cof_put_u64(at += CRYPTO_DIGEST, write->revision);
    cof_put_u64(at += 8, (uint64_t) write->time_us);
    cof_put_u32(at + 8, (uint32_t) write->objects.len);
    put_slice(bytes + WRITE_HEAD, write->objects);
    put_slice(bytes + WRITE_HEAD + write->objects.len, write->record);
    const cof_code code = crypto_sha256(cof_slice_of(bytes, length), link->digest, err);
    free(bytes);
    TRY(code);
    link->first = link->count == 0 ? write->revision : link->first;
    link->last = write->revision;
    link->count++;
    return COF_OK;
}

cof_code write_chain_hash(const struct write_chain_link *link, struct keyring *keyring, uint32_t generation,
                          uint8_t ret_hash[CRYPTO_DIGEST], struct cof_error *err)
{
    uint8_t input[LINK_SIZE];
    uint8_t *at = input;
    memcpy(at, "write_chain", NAME);
    memcpy(at += NAME, link->before, CRYPTO_DIGEST);
    memcpy(at += CRYPTO_DIGEST, link->workspace.bytes, sizeof link->workspace.bytes);
    cof_put_u64(at += sizeof link->workspace.bytes, link->first);
    cof_put_u64(at += 8, link->last);
    memcpy(at + 8, link->digest, CRYPTO_DIGEST);
    return keyring_row_mac(keyring, &link->workspace, generation, cof_slice_of(input, sizeof input), ret_hash, err);
}
