#include "common/name.h"

#include <stdio.h>

/* Classes of characters, as bits. */
enum {
    DIGIT = 1,
    LOWER = 2,
    UPPER = 4,
    UNDERSCORE = 8,
    DOT = 16,
    DASH = 32,
    LETTER = LOWER | UPPER,
    ALNUM = LETTER | DIGIT,
    ANY = ALNUM | UNDERSCORE | DOT | DASH,
};

struct name_rule {
    size_t max;
    int allowed;
    int first;
    int last;
    const char *text;
};

static const struct name_rule rules[] = {
    [COF_NAME_ENVIRONMENT] = {COF_ENVIRONMENT_MAX, ANY, ALNUM, ANY,
                              "1 to 100 of A-Z a-z 0-9 . _ -, the first one a letter or digit"},
    [COF_NAME_SECRET] = {COF_SECRET_NAME_MAX, ANY, ALNUM | UNDERSCORE, ANY,
                         "1 to 100 of A-Z a-z 0-9 _ . -, the first one a letter, digit or _"},
    [COF_NAME_KEY] = {COF_KEY_NAME_MAX, ANY, LETTER | UNDERSCORE, ANY,
                      "1 to 128 of A-Z a-z 0-9 _ . -, the first one a letter or _"},
    [COF_NAME_WORKSPACE] = {COF_WORKSPACE_NAME_MAX, LOWER | DIGIT | DASH, LOWER | DIGIT, LOWER | DIGIT,
                            "1 to 100 of a-z 0-9 -, the first and the last one a letter or digit"},
    [COF_NAME_ACCOUNT] = {COF_ACCOUNT_NAME_MAX, ANY, ALNUM, ANY,
                          "1 to 100 of A-Z a-z 0-9 . _ -, the first one a letter or digit"},
    [COF_NAME_ACTION] = {COF_ACTION_NAME_MAX, ANY, LETTER | UNDERSCORE, ANY,
                         "1 to 200 of A-Z a-z 0-9 _ . -, the first one a letter or _"},
};

static int class_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return DIGIT;
    }
    if (byte >= 'a' && byte <= 'z') {
        return LOWER;
    }
    if (byte >= 'A' && byte <= 'Z') {
        return UPPER;
    }
    switch (byte) {
    case '_':
        return UNDERSCORE;
    case '.':
        return DOT;
    case '-':
        return DASH;
    default:
        return 0;
    }
}

/* The first wrong byte; the length if there is none. */
static size_t first_wrong(const struct name_rule *rule, struct cof_slice name)
{
    size_t at = 0;
    while (at < name.len && (class_of(name.data[at]) & rule->allowed) != 0) {
        at++;
    }
    if (name.len > 0 && at > 0 && (class_of(name.data[0]) & rule->first) == 0) {
        return 0;
    }
    const bool ends_wrong = at > 0 && at == name.len && (class_of(name.data[at - 1]) & rule->last) == 0;
    return ends_wrong ? at - 1 : at;
}

bool cof_name_valid(cof_name_kind kind, struct cof_slice name)
{
    const struct name_rule *rule = &rules[kind];
    return name.len > 0 && name.len <= rule->max && first_wrong(rule, name) == name.len;
}

static cof_code wrong_byte(const struct name_rule *rule, struct cof_slice name, size_t at, const char *field,
                           struct cof_error *err)
{
    const uint8_t byte = name.data[at];
    char shown[8];
    (void) snprintf(shown, sizeof shown, byte > ' ' && byte < 127 ? "%c" : "\\x%02x", byte);
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: character %zu (%s) is not allowed there; write %s", field, at + 1, shown,
                          rule->text);
}

cof_code cof_name_check(cof_name_kind kind, struct cof_slice name, const char *field, struct cof_error *err)
{
    const struct name_rule *rule = &rules[kind];
    if (name.len == 0) {
        return cof_fail_field(err, COF_REASON_FIELD_REQUIRED, field, "%s is empty; write %s", field, rule->text);
    }
    if (name.len > rule->max) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, field, "%s has %zu characters; write %s", field,
                              name.len, rule->text);
    }
    const size_t wrong = first_wrong(rule, name);
    return wrong == name.len ? COF_OK : wrong_byte(rule, name, wrong, field, err);
}

bool cof_name_reserved(struct cof_slice name)
{
    static const char suffix[] = "_oauth";
    const size_t length = sizeof suffix - 1;
    return name.len >= length && memcmp(name.data + name.len - length, suffix, length) == 0;
}

static bool is_prefix_pattern(struct cof_slice pattern)
{
    return pattern.len > 0 && pattern.data[pattern.len - 1] == '*';
}

static struct cof_slice prefix_of(struct cof_slice pattern)
{
    return cof_slice_of(pattern.data, pattern.len - 1);
}

bool cof_pattern_valid(cof_name_kind kind, struct cof_slice pattern)
{
    const struct name_rule *rule = &rules[kind];
    if (!is_prefix_pattern(pattern)) {
        return cof_name_valid(kind, pattern);
    }
    const struct cof_slice prefix = prefix_of(pattern);
    for (size_t i = 0; i < prefix.len; i++) {
        const int class = class_of(prefix.data[i]);
        if ((class & rule->allowed) == 0 || (i == 0 && (class & rule->first) == 0)) {
            return false;
        }
    }
    return prefix.len <= rule->max;
}

bool cof_pattern_matches(struct cof_slice pattern, struct cof_slice name)
{
    return is_prefix_pattern(pattern) ? cof_slice_starts_with(name, prefix_of(pattern))
                                      : cof_slice_equal(pattern, name);
}

bool cof_pattern_covers(struct cof_slice outer, struct cof_slice inner)
{
    if (!is_prefix_pattern(outer)) {
        return cof_slice_equal(outer, inner);
    }
    return cof_slice_starts_with(is_prefix_pattern(inner) ? prefix_of(inner) : inner, prefix_of(outer));
}

/* Bytes that follow a first byte, and the range of the second one (RFC 3629, section 4). */
static size_t sequence_of(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF) {
        return 1;
    }
    if (first >= 0xE0 && first <= 0xEF) {
        *low = first == 0xE0 ? 0xA0 : 0x80;
        *high = first == 0xED ? 0x9F : 0xBF;
        return 2;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        *low = first == 0xF0 ? 0x90 : 0x80;
        *high = first == 0xF4 ? 0x8F : 0xBF;
        return 3;
    }
    return 0;
}

/* The bytes of the character at the front; 0 if it is none. */
static size_t character_at(struct cof_slice text)
{
    uint8_t low;
    uint8_t high;
    if (text.data[0] < 0x80) {
        return text.data[0] == 0 ? 0 : 1;
    }
    const size_t following = sequence_of(text.data[0], &low, &high);
    if (following == 0 || text.len <= following || text.data[1] < low || text.data[1] > high) {
        return 0;
    }
    for (size_t i = 2; i <= following; i++) {
        if ((text.data[i] & 0xC0U) != 0x80U) {
            return 0;
        }
    }
    return following + 1;
}

/* Eight characters of ASCII at once. Where no byte has its highest bit, subtracting one sets it in a NUL only. */
static bool eight_plain(struct cof_slice text)
{
    uint64_t word;
    if (text.len < sizeof word) {
        return false;
    }
    memcpy(&word, text.data, sizeof word);
    return ((word | (word - 0x0101010101010101U)) & 0x8080808080808080U) == 0;
}

size_t cof_text_valid_length(struct cof_slice text)
{
    struct cof_slice rest = text;
    while (rest.len > 0) {
        const size_t length = eight_plain(rest) ? sizeof(uint64_t) : character_at(rest);
        if (length == 0) {
            break;
        }
        rest = cof_slice_of(rest.data + length, rest.len - length);
    }
    return text.len - rest.len;
}

bool cof_text_valid(struct cof_slice text)
{
    return cof_text_valid_length(text) == text.len;
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    const unsigned ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* One row of Levenshtein's table; returns its least number. */
static unsigned next_row(unsigned *row, struct cof_slice a, struct cof_slice b, size_t index)
{
    unsigned diagonal = row[0];
    unsigned smallest = row[0] = (unsigned) index + 1;
    for (size_t k = 0; k < b.len; k++) {
        const unsigned above = row[k + 1];
        const unsigned substituted = diagonal + (a.data[index] == b.data[k] ? 0 : 1);
        row[k + 1] = least(substituted, above + 1, row[k] + 1);
        smallest = row[k + 1] < smallest ? row[k + 1] : smallest;
        diagonal = above;
    }
    return smallest;
}

unsigned cof_name_distance(struct cof_slice a, struct cof_slice b, unsigned limit)
{
    unsigned row[COF_KEY_NAME_MAX + 1];
    const size_t difference = a.len > b.len ? a.len - b.len : b.len - a.len;
    if (difference > limit || a.len > COF_KEY_NAME_MAX || b.len > COF_KEY_NAME_MAX) {
        return limit + 1;
    }
    for (size_t k = 0; k <= b.len; k++) {
        row[k] = (unsigned) k;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (next_row(row, a, b, i) > limit) {
            return limit + 1;
        }
    }
    return row[b.len] > limit ? limit + 1 : row[b.len];
}
