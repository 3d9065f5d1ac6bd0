#include "client/libcoffer/parcel.h"

#include <stdlib.h>

#include <openssl/rand.h>

#include "common/encode.h"
#include "common/secret.h"

/* What goes out is one piece: the end of the header and the frame. */
_Static_assert(offsetof(struct parcel, header) + PARCEL_HEADER == offsetof(struct parcel, frame), "there is a gap");

struct parcel *parcel_new(size_t size)
{
    struct parcel *parcel = malloc(sizeof *parcel + size);
    if (parcel == NULL) {
        return NULL;
    }
    *parcel = (struct parcel){.size = size};
    return parcel;
}

void parcel_free(struct parcel *parcel)
{
    if (parcel != NULL) {
        cof_wipe(parcel->frame, parcel->size);
        free(parcel);
    }
}

static size_t write_header(uint8_t to[COF_WEB_HEADER_MOST], uint64_t size, parcel_framing framing,
                           const uint8_t *mask)
{
    if (framing == PARCEL_WEB) {
        return cof_web_header(to, COF_WEB_BINARY, size, mask);
    }
    const size_t ipc = framing == PARCEL_IPC;
    to[0] = 1;
    cof_put_u64(to + ipc, size);
    return ipc + sizeof size;
}

bool parcel_seal(struct parcel *parcel, parcel_framing framing)
{
    uint8_t header[COF_WEB_HEADER_MOST];
    uint8_t mask[COF_WEB_MASK];
    uint8_t *id = parcel->header + PARCEL_HEADER - PARCEL_ID;
    if (framing == PARCEL_WEB && RAND_bytes(mask, sizeof mask) != 1) {
        return false;
    }
    const size_t size = write_header(header, PARCEL_ID + parcel->size, framing, mask);
    parcel->header_size = size + PARCEL_ID;
    memcpy(id - size, header, size);
    cof_put_u32(id, parcel->id);
    if (framing == PARCEL_WEB) {
        /* The ID has as many bytes as the mask, so the frame begins with the mask's first one again. */
        _Static_assert((int) PARCEL_ID == (int) COF_WEB_MASK, "the frame would be masked from another byte on");
        cof_web_mask(mask, id, PARCEL_ID);
        cof_web_mask(mask, parcel->frame, parcel->size);
    }
    return true;
}

struct cof_slice parcel_sealed(const struct parcel *parcel)
{
    const uint8_t *start = (const uint8_t *) parcel + offsetof(struct parcel, frame) - parcel->header_size;
    return cof_slice_of(start, parcel->header_size + parcel->size);
}
