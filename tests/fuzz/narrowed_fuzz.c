#include <string.h>

#include "common/encode.h"
#include "common/narrowed.h"
#include "tests/fuzz/fuzz.h"

/* Any text as a narrowed token, and any bytes as the payload of one whose check fits: what is read can be narrowed
 * further, keeps all that it has, and can be read again; a refusal does not echo the token. */

enum { HEADER = 34 };

/* No HMAC, but every byte of key and data counts. */
static cof_code mix(const uint8_t key[COF_NARROWED_KEY], struct cof_slice data, uint8_t mac[COF_NARROWED_TAG],
                    struct cof_error *err)
{
    (void) err;
    for (size_t i = 0; i < COF_NARROWED_TAG; i++) {
        mac[i] = (uint8_t) ((size_t) key[i] * 31 + i);
    }
    for (size_t i = 0; i < data.len; i++) {
        mac[i % COF_NARROWED_TAG] = (uint8_t) (mac[i % COF_NARROWED_TAG] * 33U + data.data[i]);
    }
    return COF_OK;
}

static size_t walk(const struct cof_narrowed *narrowed)
{
    struct cof_caveat caveat;
    size_t at = 0;
    size_t count = 0;
    size_t bytes = 0;
    while (cof_narrowed_next(narrowed, &at, &caveat)) {
        struct cof_slice pattern;
        const bool list = caveat.kind == COF_CAVEAT_ENVIRONMENTS || caveat.kind == COF_CAVEAT_NAMES;
        for (size_t in = 0; list && cof_caveat_next_pattern(&caveat, &in, &pattern);) {
            MUST(pattern.len > 0);
        }
        bytes += caveat.bytes.len;
        count++;
    }
    MUST(count > 0 && count <= COF_CAVEATS_MAX && bytes == narrowed->len - HEADER - COF_NARROWED_TAG);
    return count;
}

static void narrow_again(struct cof_slice text, const struct cof_narrowed *narrowed)
{
    const struct cof_narrowing narrowing = {.run_id = cof_slice_text("r")};
    static struct cof_narrowed read;
    struct cof_error err;
    static char longer[COF_NARROWED_TEXT];
    const size_t count = walk(narrowed);
    if (cof_narrow(text, &narrowing, mix, longer, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_LIMIT_EXCEEDED);
        return;
    }
    MUST(cof_narrowed_parse(cof_slice_text(longer), &read, &err) == COF_OK);
    MUST(memcmp(read.bytes, narrowed->bytes, narrowed->len - COF_NARROWED_TAG) == 0 && walk(&read) == count + 1);
}

static void try_text(struct cof_slice text)
{
    static struct cof_narrowed narrowed;
    struct cof_error err;
    if (cof_narrowed_parse(text, &narrowed, &err) == COF_OK) {
        narrow_again(text, &narrowed);
        return;
    }
    MUST(err.reason == COF_REASON_TOKEN_MALFORMED || err.reason == COF_REASON_TOKEN_UNSUPPORTED);
    MUST(text.len < 16 || memmem(err.message, strlen(err.message), text.data, text.len) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[COF_NARROWED_TEXT + 8] = "cof_n_";
    try_text(cof_slice_of(data, size));
    if (size <= COF_NARROWED_BYTES_MAX) {
        cof_base64url_encode(cof_slice_of(data, size), text + strlen(text));
        const size_t covered = strlen(text);
        cof_token_check(cof_slice_of(text, covered), text + covered);
        try_text(cof_slice_of(text, covered + COF_TOKEN_CHECK_TEXT));
    }
    return 0;
}
