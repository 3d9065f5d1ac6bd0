#include <string.h>

#include "common/name.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as names and patterns, cut in two at the first NUL. */

enum { FIRST_KIND = COF_NAME_ENVIRONMENT, LAST_KIND = COF_NAME_ACTION, DISTANCE = 3 };

static void try_name(struct cof_slice name)
{
    for (int kind = FIRST_KIND; kind <= LAST_KIND; kind++) {
        struct cof_error err;
        const bool valid = cof_name_valid((cof_name_kind) kind, name);
        const cof_code code = cof_name_check((cof_name_kind) kind, name, "field", &err);
        MUST(valid == (code == COF_OK));
        MUST(valid || (strcmp(err.field, "field") == 0 && cof_text_valid(cof_slice_text(err.message))));
        /* A name is text, and as a pattern it matches itself. */
        MUST(!valid || (cof_text_valid(name) && cof_pattern_valid((cof_name_kind) kind, name)));
        MUST(!valid || cof_pattern_matches(name, name));
    }
}

static void try_patterns(struct cof_slice outer, struct cof_slice inner)
{
    if (!cof_pattern_valid(COF_NAME_SECRET, outer) || !cof_pattern_valid(COF_NAME_SECRET, inner)) {
        return;
    }
    MUST(cof_pattern_covers(outer, outer));
    if (cof_name_valid(COF_NAME_SECRET, inner)) {
        MUST(cof_pattern_covers(outer, inner) == cof_pattern_matches(outer, inner));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size == 0 ? NULL : memchr(data, '\0', size);
    const size_t cut = nul == NULL ? size : (size_t) (nul - data);
    const struct cof_slice first = {data, cut};
    const struct cof_slice second = {data + cut, size - cut};
    const struct cof_slice rest = nul == NULL ? second : (struct cof_slice){nul + 1, size - cut - 1};
    try_name(first);
    try_name(rest);
    try_patterns(first, rest);
    const unsigned there = cof_name_distance(first, rest, DISTANCE);
    MUST(there == cof_name_distance(rest, first, DISTANCE) && there <= DISTANCE + 1);
    MUST((there == 0) == cof_slice_equal(first, rest) || first.len > COF_KEY_NAME_MAX ||
         rest.len > COF_KEY_NAME_MAX);
    return 0;
}
