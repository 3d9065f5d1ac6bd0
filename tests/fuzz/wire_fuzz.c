#include <sample.pb-c.h>

#include "common/wire.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as a message: what passes the scan is unpacked without harm, and what is packed again passes, too, both ways. */

enum { POOL = 1 << 24, LIMIT = 1 << 23 };

static struct cof_pool *the_pool(void)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL) {
        MUST(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    }
    return pool;
}

static void try_message(const ProtobufCMessage *message, struct cof_arena *arena)
{
    struct cof_error err;
    struct cof_slice packed;
    if (cof_wire_pack(message, arena, &packed, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_OUT_OF_MEMORY);
        return;
    }
    MUST(cof_wire_scan(message->descriptor, packed, &err) == COF_OK);
    uint8_t *room = cof_arena_alloc(arena, packed.len);
    struct cof_slice backwards;
    if (room != NULL) {
        MUST(cof_wire_pack_at_end(message, room, packed.len, &backwards));
        MUST(cof_slice_equal(backwards, packed));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cof_slice bytes = cof_slice_of(data, size);
    struct cof_error err;
    struct cof_arena arena;
    ProtobufCMessage *message = NULL;
    cof_arena_init(&arena, the_pool(), LIMIT);
    if (cof_wire_unpack(&coffer__test__sample__descriptor, bytes, &arena, &message, &err) == COF_OK) {
        try_message(message, &arena);
    } else {
        MUST(err.reason == COF_REASON_PAYLOAD_INVALID || err.reason == COF_REASON_STRING_INVALID ||
             err.reason == COF_REASON_OUT_OF_MEMORY);
    }
    cof_arena_reset(&arena);
    MUST(cof_pool_used(the_pool()) == 0);
    return 0;
}
