#include "server/cache/hash.h"

#include <endian.h>
#include <string.h>

enum { WORD = 8, ROUNDS_PER_WORD = 2, ROUNDS_AT_END = 4 };

struct state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

/* Numbers are little-endian, as the published vectors have them. */
static uint64_t word_of(const uint8_t *bytes, size_t count)
{
    uint64_t word = 0;
    for (size_t i = 0; i < count; i++) {
        word |= (uint64_t) bytes[i] << (8 * i);
    }
    return word;
}

static uint64_t whole_word(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return le64toh(word);
}

static void mix(struct state *state, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        state->v0 += state->v1;
        state->v2 += state->v3;
        state->v1 = rotate(state->v1, 13) ^ state->v0;
        state->v3 = rotate(state->v3, 16) ^ state->v2;
        state->v0 = rotate(state->v0, 32);
        state->v2 += state->v1;
        state->v0 += state->v3;
        state->v1 = rotate(state->v1, 17) ^ state->v2;
        state->v3 = rotate(state->v3, 21) ^ state->v0;
        state->v2 = rotate(state->v2, 32);
    }
}

static void absorb(struct state *state, uint64_t word)
{
    state->v3 ^= word;
    mix(state, ROUNDS_PER_WORD);
    state->v0 ^= word;
}

uint64_t hash_bytes(const uint8_t key[HASH_KEY], struct cof_slice bytes)
{
    const uint64_t k0 = whole_word(key);
    const uint64_t k1 = whole_word(key + WORD);
    struct state state = {
        k0 ^ 0x736f6d6570736575U,
        k1 ^ 0x646f72616e646f6dU,
        k0 ^ 0x6c7967656e657261U,
        k1 ^ 0x7465646279746573U,
    };
    const size_t whole = bytes.len / WORD * WORD;
    for (size_t i = 0; i < whole; i += WORD) {
        absorb(&state, whole_word(bytes.data + i));
    }
    absorb(&state, (uint64_t) bytes.len << 56 | word_of(bytes.data + whole, bytes.len - whole));
    state.v2 ^= 0xff;
    mix(&state, ROUNDS_AT_END);
    return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}
