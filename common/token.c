#include "common/token.h"

#include "common/attr.h"
#include "common/encode.h"
#include "common/secret.h"

enum {
    PAYLOAD_BYTES = 64,
    PAYLOAD_WORDS = 8,
    BASE = 62,
    CHUNK_DIGITS = 10, /* as many as a word holds */
    DIGITS = COF_TOKEN_PAYLOAD_TEXT + COF_TOKEN_CHECK_TEXT,
    LANES = 16, /* digits that are read at once */
    VECTORS = (DIGITS + LANES - 1) / LANES,
};

#define CHUNK UINT64_C(839299365868340224) /* 62 to the power of CHUNK_DIGITS */

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

struct kind_row {
    cof_token_kind kind;
    const char *prefix;
};

static const struct kind_row kinds[] = {
    {COF_TOKEN_WORKSPACE, "cof_ws_"},
    {COF_TOKEN_FLEET, "cof_fleet_"},
    {COF_TOKEN_SYSTEM, "cof_sys_"},
};

typedef uint8_t lanes __attribute__((vector_size(LANES)));

/* Without branches: digits are random, and secret. Above 61: it is none. */
static lanes digit_values(lanes text)
{
    const lanes number = text - '0';
    const lanes upper = text - 'A';
    const lanes lower = text - 'a';
    const lanes is_number = (lanes) (number < 10);
    const lanes is_upper = (lanes) (upper < 26);
    const lanes is_lower = (lanes) (lower < 26);
    return (number & is_number) | ((upper + 10) & is_upper) | ((lower + 36) & is_lower) |
           ~(is_number | is_upper | is_lower);
}

__extension__ typedef unsigned __int128 two_words;

/* Divides the number by 62 in place and returns the remainder; words are big-endian. */
static uint32_t divide(uint64_t words[PAYLOAD_WORDS])
{
    uint64_t rest = 0;
    for (size_t i = 0; i < PAYLOAD_WORDS; i++) {
        const uint64_t high = rest << 32 | words[i] >> 32;
        const uint64_t low = high % BASE << 32 | (words[i] & UINT32_MAX);
        words[i] = high / BASE << 32 | low / BASE;
        rest = low % BASE;
    }
    return (uint32_t) rest;
}

/* Multiplies and adds; false if the number outgrows its words. */
static bool multiply(uint64_t words[PAYLOAD_WORDS], uint64_t factor, uint64_t more)
{
    uint64_t carry = more;
    for (size_t i = PAYLOAD_WORDS; i-- > 0;) {
        const two_words product = (two_words) words[i] * factor + carry;
        words[i] = (uint64_t) product;
        carry = (uint64_t) (product >> 64);
    }
    return carry == 0;
}

static void encode_payload(const struct cof_token *token, char *to)
{
    uint8_t bytes[PAYLOAD_BYTES];
    uint64_t words[PAYLOAD_WORDS];
    memcpy(bytes, token->workspace.bytes, 16);
    memcpy(bytes + 16, token->id.bytes, 16);
    memcpy(bytes + 32, token->secret, COF_TOKEN_SECRET);
    for (size_t i = 0; i < PAYLOAD_WORDS; i++) {
        words[i] = cof_get_u64(bytes + i * 8);
    }
    for (size_t i = COF_TOKEN_PAYLOAD_TEXT; i-- > 0;) {
        to[i] = digits[divide(words)];
    }
    cof_wipe(bytes, sizeof bytes);
    cof_wipe(words, sizeof words);
}

/* `values` are those of the digits. */
static bool decode_payload(const uint8_t *values, struct cof_token *token)
{
    uint8_t bytes[PAYLOAD_BYTES];
    uint64_t words[PAYLOAD_WORDS] = {0};
    size_t i = 0;
    bool fits = true;
    /* Several digits at a time, first those that are left over. */
    for (size_t end = COF_TOKEN_PAYLOAD_TEXT % CHUNK_DIGITS; end <= COF_TOKEN_PAYLOAD_TEXT; end += CHUNK_DIGITS) {
        uint64_t chunk = 0;
        for (; i < end; i++) {
            chunk = chunk * BASE + values[i];
        }
        fits = multiply(words, CHUNK, chunk) && fits;
    }
    for (size_t word = 0; word < PAYLOAD_WORDS; word++) {
        cof_put_u64(bytes + word * 8, words[word]);
    }
    memcpy(token->workspace.bytes, bytes, 16);
    memcpy(token->id.bytes, bytes + 16, 16);
    memcpy(token->secret, bytes + 32, COF_TOKEN_SECRET);
    cof_wipe(bytes, sizeof bytes);
    cof_wipe(words, sizeof words);
    return fits;
}

void cof_token_check(struct cof_slice text, char check[COF_TOKEN_CHECK_TEXT])
{
    uint32_t number = cof_crc32(text);
    for (size_t i = COF_TOKEN_CHECK_TEXT; i-- > 0;) {
        check[i] = digits[number % BASE];
        number /= BASE;
    }
}

static bool check_fits(struct cof_slice text)
{
    char expected[COF_TOKEN_CHECK_TEXT];
    const size_t covered = text.len - COF_TOKEN_CHECK_TEXT;
    cof_token_check(cof_slice_of(text.data, covered), expected);
    return memcmp(expected, text.data + covered, sizeof expected) == 0;
}

static const struct kind_row *kind_of(struct cof_slice text)
{
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        if (cof_slice_starts_with(text, cof_slice_text(kinds[i].prefix))) {
            return &kinds[i];
        }
    }
    return NULL;
}

static cof_code malformed(struct cof_error *err, const char *what)
{
    return cof_fail(err, COF_REASON_TOKEN_MALFORMED, "%s; %s", what,
                    cof_reason_next_step(COF_REASON_TOKEN_MALFORMED));
}

/* What stands behind the prefix, or the values of its digits. */
union body {
    uint8_t bytes[VECTORS * LANES];
    lanes vectors[VECTORS];
};

/* False if there is a character that is no digit. */
static bool take_digits(struct cof_slice text, union body *body)
{
    uint8_t highest = 0;
    memset(body->bytes, '0', sizeof body->bytes);
    memcpy(body->bytes, text.data, DIGITS);
    lanes high = {0};
    for (size_t i = 0; i < VECTORS; i++) {
        body->vectors[i] = digit_values(body->vectors[i]);
        high |= (lanes) (body->vectors[i] >= BASE);
    }
    for (size_t i = 0; i < LANES; i++) {
        highest |= high[i];
    }
    return highest == 0;
}

static cof_code check_and_decode(struct cof_slice text, union body *body, struct cof_token *token,
                                 struct cof_error *err)
{
    if (!take_digits(cof_slice_of(text.data + text.len - DIGITS, DIGITS), body)) {
        return malformed(err, "the token holds a character that no token has");
    }
    if (!check_fits(text)) {
        return malformed(err, "the token is mistyped: its check does not fit");
    }
    return decode_payload(body->bytes, token) ? COF_OK
                                              : malformed(err, "the token is mistyped: its number is too large");
}

/* Once its length is known to be right. */
static cof_code parse_body(struct cof_slice text, struct cof_token *token, struct cof_error *err)
{
    union body body;
    const cof_code code = check_and_decode(text, &body, token, err);
    cof_wipe(&body, sizeof body);
    return code;
}

cof_code cof_token_parse(struct cof_slice text, struct cof_token *ret_token, struct cof_error *err)
{
    const struct kind_row *kind = kind_of(text);
    if (kind == NULL) {
        return malformed(err, "this is no token of Coffer: it begins with none of cof_ws_, cof_fleet_, cof_sys_");
    }
    const size_t right = strlen(kind->prefix) + DIGITS;
    if (text.len != right) {
        return malformed(err, text.len < right ? "the token is cut: it is too short" : "the token is too long");
    }
    struct cof_token token = {.kind = kind->kind};
    const cof_code code = parse_body(text, &token, err);
    if (code == COF_OK) {
        token.home = token.workspace;
        *ret_token = token;
    }
    cof_wipe(&token, sizeof token);
    return code;
}

static const char *prefix_of(cof_token_kind kind)
{
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].prefix;
        }
    }
    return "";
}

void cof_token_format(const struct cof_token *token, char text[COF_TOKEN_TEXT])
{
    const char *prefix = prefix_of(token->kind);
    const size_t length = strlen(prefix);
    memcpy(text, prefix, length);
    encode_payload(token, text + length);
    cof_token_check(cof_slice_of(text, length + COF_TOKEN_PAYLOAD_TEXT), text + length + COF_TOKEN_PAYLOAD_TEXT);
    text[length + COF_TOKEN_PAYLOAD_TEXT + COF_TOKEN_CHECK_TEXT] = '\0';
}
