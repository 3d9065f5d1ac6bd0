#include "client/libcoffer/parcel.h"

#include <stdlib.h>

#include "common/encode.h"
#include "common/secret.h"

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

struct cof_slice parcel_sealed(struct parcel *parcel, bool ipc)
{
    const size_t skipped = ipc ? 0 : 1;
    parcel->header[0] = 1;
    cof_put_u64(parcel->header + 1, PARCEL_ID + parcel->size);
    cof_put_u32(parcel->header + PARCEL_HEADER - PARCEL_ID, parcel->id);
    const uint8_t *start = (const uint8_t *) parcel + offsetof(struct parcel, header) + skipped;
    return cof_slice_of(start, PARCEL_HEADER - skipped + parcel->size);
}
