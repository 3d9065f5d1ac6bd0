#include <string.h>

#include "common/token.h"
#include "tests/fuzz/fuzz.h"

/* Any text as a token: what is read is written again as the same text, and a refusal does not echo it. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cof_token token;
    struct cof_error err;
    char text[COF_TOKEN_TEXT];
    if (cof_token_parse(cof_slice_of(data, size), &token, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_TOKEN_MALFORMED && err.message[0] != '\0');
        MUST(size < 16 || memmem(err.message, strlen(err.message), data, size) == NULL);
        return 0;
    }
    cof_token_format(&token, text);
    MUST(strlen(text) == size && memcmp(text, data, size) == 0);
    return 0;
}
