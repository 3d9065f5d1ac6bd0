#include "server/providers/provider_id.h"

#include <stdio.h>
#include <string.h>
#include <unicode/ustring.h>
#include <unicode/utrans.h>

#include "common/attr.h"
#include "common/encode.h"
#include "common/uuid.h"

/* One character may become many; ICU says when they do not fit. */
enum {
    GROWTH = 8,
    UNITS_MAX = PROVIDER_NAME_MAX * GROWTH,
    NUMBER_MAX = 12,
    SLUG_MAX = PROVIDER_ID_MAX - NUMBER_MAX
};

#define PREFIX "custom_"
#define RESERVED "custom_mcp_"
#define INSTEAD "custom_oauth_mcp_"

static void close_transliterator(UTransliterator **transliterator)
{
    utrans_close(*transliterator);
}

static cof_code open_transliterator(UTransliterator **ret_transliterator, struct cof_error *err)
{
    UErrorCode status = U_ZERO_ERROR;
    UChar id[32];
    int32_t length = 0;
    u_strFromUTF8(id, COF_COUNT(id), &length, "Any-Latin; Latin-ASCII", -1, &status);
    *ret_transliterator = utrans_openU(id, length, UTRANS_FORWARD, NULL, 0, NULL, &status);
    return U_SUCCESS(status) != 0 ? COF_OK
                                  : cof_fail_internal(err, COF_ORIGIN_OWN, u_errorName(status),
                                                      "ICU has no transliteration into ASCII");
}

static cof_code unreadable(struct cof_error *err)
{
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, "name",
                          "name must be UTF-8 of at most %d bytes, of which an ID can be made", PROVIDER_NAME_MAX);
}

/* Into UTF-8 again, where all that is not ASCII is one of the other characters. */
static cof_code to_ascii(const char *name, struct cof_arena *arena, char **ret_text, struct cof_error *err)
{
    AUTO(close_transliterator) UTransliterator *transliterator = NULL;
    UErrorCode status = U_ZERO_ERROR;
    UChar *units = cof_arena_array(arena, UNITS_MAX + 1, sizeof *units);
    char *text = cof_arena_alloc(arena, 3 * UNITS_MAX + 1);
    int32_t length = 0;
    if (units == NULL || text == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(open_transliterator(&transliterator, err));
    u_strFromUTF8(units, UNITS_MAX, &length, name, -1, &status);
    if (U_FAILURE(status) != 0) {
        return unreadable(err);
    }
    int32_t limit = length;
    utrans_transUChars(transliterator, units, &length, UNITS_MAX, 0, &limit, &status);
    u_strToUTF8(text, 3 * UNITS_MAX, NULL, units, length, &status);
    if (U_FAILURE(status) != 0 || status == U_STRING_NOT_TERMINATED_WARNING) {
        return unreadable(err);
    }
    *ret_text = text;
    return COF_OK;
}

static void make_slug(const char *text, char slug[SLUG_MAX + 1])
{
    size_t length = 0;
    bool gap = false;
    for (; *text != '\0' && length < SLUG_MAX - sizeof INSTEAD; text++) {
        const char c = (char) (*text >= 'A' && *text <= 'Z' ? *text - 'A' + 'a' : *text);
        const bool kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (kept && gap && length > 0) {
            slug[length++] = '_';
        }
        if (kept) {
            slug[length++] = c;
        }
        gap = !kept;
    }
    slug[length] = '\0';
}

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *allowed_id(const char *id, struct cof_arena *arena)
{
    return begins_with(id, RESERVED) ? cof_arena_format(arena, "%s%s", INSTEAD, id + strlen(RESERVED)) : id;
}

static const char *numbered_id(const char *base, unsigned number, struct cof_arena *arena)
{
    const char *id = number == 0 ? base : cof_arena_format(arena, "%s_%u", base, number);
    return id == NULL ? NULL : allowed_id(id, arena);
}

static const char *base_id(const char *text, struct cof_arena *arena)
{
    char slug[SLUG_MAX + 1];
    make_slug(text, slug);
    if (slug[0] == '\0') {
        const struct cof_uuid random = cof_uuid_random();
        cof_hex_encode(cof_slice_of(&random, 4), slug);
    }
    return cof_arena_format(arena, "%s%s", begins_with(slug, PREFIX) ? "" : PREFIX, slug);
}

cof_code provider_id_make(const char *name, bool (*taken)(const char *id, const void *context), const void *context,
                          struct cof_arena *arena, const char **ret_id, struct cof_error *err)
{
    char *text = NULL;
    TRY(to_ascii(name, arena, &text, err));
    const char *base = base_id(text, arena);
    const char *id = base == NULL ? NULL : numbered_id(base, 0, arena);
    for (unsigned number = 1; id != NULL && taken(id, context); number++) {
        id = numbered_id(base, number, arena);
    }
    if (id == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_id = id;
    return COF_OK;
}
