#include "common/import/rename.h"

/* Whether a name could begin with this. */
static bool can_begin(cof_name_kind kind, uint8_t byte)
{
    return cof_name_valid(kind, cof_slice_of(&byte, 1));
}

/* Whether it could stand further behind. */
static bool can_follow(cof_name_kind kind, uint8_t byte)
{
    const uint8_t pair[] = {'a', byte};
    return cof_name_valid(kind, cof_slice_of(pair, sizeof pair));
}

static bool begins_character(uint8_t byte)
{
    return (byte & 0xC0U) != 0x80U;
}

struct cof_slice cof_import_rename(cof_name_kind kind, struct cof_slice name, struct cof_arena *arena)
{
    uint8_t *renamed = cof_arena_alloc(arena, name.len + 1);
    size_t count = 0;
    if (renamed == NULL) {
        return cof_slice_of(NULL, 0);
    }
    for (size_t i = 0; i < name.len; i++) {
        const bool follows = can_follow(kind, name.data[i]);
        if (i == 0 && follows && !can_begin(kind, name.data[i])) {
            renamed[count++] = '_';
        }
        if (follows) {
            renamed[count++] = name.data[i];
        } else if (begins_character(name.data[i])) {
            renamed[count++] = '_';
        }
    }
    return cof_slice_of(renamed, count);
}
