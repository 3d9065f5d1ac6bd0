#include <sys/mman.h>

#include <openssl/rand.h>

#include "common/secret.h"
#include "server/crypto/contexts.h"

/*
 * Random bytes that were drawn and not yet given out. The system wipes the memory in a forked child, where `left`
 * then reads 0, so that no child repeats what its parent gives out.
 */
struct random_block {
    uint32_t left; /* bytes[0 .. left) are unused */
    uint8_t bytes[4096 - sizeof(uint32_t)];
};

/* Locking is an attempt only: what lies here becomes nonces, which are no secret, and is wiped as it is given out. */
struct random_block *random_block_new(void)
{
    void *memory =
        mmap(NULL, sizeof(struct random_block), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    if (madvise(memory, sizeof(struct random_block), MADV_WIPEONFORK) != 0) {
        (void) munmap(memory, sizeof(struct random_block));
        return NULL;
    }
    (void) madvise(memory, sizeof(struct random_block), MADV_DONTDUMP);
    (void) mlock(memory, sizeof(struct random_block));
    return memory;
}

void random_block_free(struct random_block *block)
{
    if (block == NULL) {
        return;
    }
    cof_wipe(block, sizeof *block);
    (void) munmap(block, sizeof *block);
}

static COF_CODE draw(uint8_t *to, size_t len, struct cof_error *err)
{
    if (len > INT32_MAX || RAND_priv_bytes(to, (int) len) != 1) {
        return crypto_fail(err, "drawing random bytes");
    }
    return COF_OK;
}

static void give_out(struct random_block *block, uint8_t *to, size_t len)
{
    block->left -= (uint32_t) len;
    memcpy(to, block->bytes + block->left, len);
    cof_wipe(block->bytes + block->left, len);
}

COF_CODE crypto_random(uint8_t *to, size_t len, struct cof_error *err)
{
    struct crypto_contexts *contexts;
    TRY(crypto_contexts_view(&contexts, err));
    struct random_block *block = contexts->random;
    /* What may become a key or a token never lies anywhere before. */
    if (block == NULL || len > CRYPTO_NONCE) {
        return draw(to, len, err);
    }
    if (block->left < len) {
        block->left = 0;
        TRY(draw(block->bytes, sizeof block->bytes, err));
        block->left = sizeof block->bytes;
    }
    give_out(block, to, len);
    return COF_OK;
}
