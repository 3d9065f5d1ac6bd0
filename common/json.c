#include "common/json.h"

#include "common/encode.h"
#include "common/name.h"

static const char *const missing[] = {
    [COF_JSON_EXPECT_VALUE] = "a value is missing here; correct it",
    [COF_JSON_EXPECT_FIRST_VALUE] = "a value or ] is missing here; correct it",
    [COF_JSON_EXPECT_FIRST_KEY] = "a key in double quotes or } is missing here; correct it",
    [COF_JSON_EXPECT_KEY] = "a key in double quotes is missing here; correct it",
    [COF_JSON_EXPECT_COLON] = "a colon is missing here; correct it",
    [COF_JSON_EXPECT_COMMA] = "a comma or the end of the list or object is missing here; correct it",
    [COF_JSON_EXPECT_NOTHING] = "something stands behind the document's end; remove it",
};

void cof_json_scan_init(struct cof_json_scan *scan, struct cof_slice text)
{
    *scan = (struct cof_json_scan){.text = text, .at = COF_PLACE_START, .expected = COF_JSON_EXPECT_VALUE};
}

static cof_code refuse(const struct cof_json_scan *scan, size_t at, const char *problem, struct cof_error *err)
{
    const struct cof_place place = cof_place_behind(scan->text, scan->at, at);
    cof_ignore(
        cof_fail(err, COF_REASON_DOCUMENT_INVALID, "line %u, column %u: %s", place.line, place.column, problem));
    cof_ignore(cof_error_fact(err, "line", "%u", place.line));
    return cof_error_fact(err, "column", "%u", place.column);
}

/* The byte at `at`; 0 at the end, which no rule allows anywhere else. */
static uint8_t byte_at(const struct cof_json_scan *scan, size_t at)
{
    return at < scan->text.len ? scan->text.data[at] : 0;
}

static void advance(struct cof_json_scan *scan, size_t to)
{
    scan->at = cof_place_behind(scan->text, scan->at, to);
}

static void skip_space(struct cof_json_scan *scan)
{
    size_t at = scan->at.offset;
    for (uint8_t byte = byte_at(scan, at); byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
         byte = byte_at(scan, at)) {
        at++;
    }
    advance(scan, at);
}

/* --- Words and strings ---------------------------------------------------------------------------------------- */

static bool digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static size_t skip_digits(const struct cof_json_scan *scan, size_t at)
{
    while (digit(byte_at(scan, at))) {
        at++;
    }
    return at;
}

/* Behind the number at `at`; `at` itself if there is none. */
static size_t number_end(const struct cof_json_scan *scan, const size_t at)
{
    const size_t first = at + (byte_at(scan, at) == '-');
    size_t end = byte_at(scan, first) == '0' ? first + 1 : skip_digits(scan, first);
    if (end == first) {
        return at;
    }
    if (byte_at(scan, end) == '.') {
        const size_t fraction = end + 1;
        end = skip_digits(scan, fraction);
        if (end == fraction) {
            return at;
        }
    }
    if (byte_at(scan, end) == 'e' || byte_at(scan, end) == 'E') {
        const uint8_t sign = byte_at(scan, end + 1);
        const size_t exponent = end + 1 + (sign == '+' || sign == '-');
        end = skip_digits(scan, exponent);
        return end == exponent ? at : end;
    }
    return end;
}

static size_t word_end(const struct cof_json_scan *scan, size_t at)
{
    static const char *const words[] = {"true", "false", "null"};
    const struct cof_slice rest = cof_slice_of(scan->text.data + at, scan->text.len - at);
    for (size_t i = 0; i < COF_COUNT(words); i++) {
        const struct cof_slice word = cof_slice_text(words[i]);
        if (cof_slice_starts_with(rest, word)) {
            return at + word.len;
        }
    }
    return number_end(scan, at);
}

/* Bytes of an escape that begins with a backslash; 0: there is no such escape. */
static size_t escape_length(const struct cof_json_scan *scan, size_t at)
{
    uint8_t unit[2];
    const uint8_t letter = byte_at(scan, at + 1);
    if (letter == 'u') {
        return at + 6 <= scan->text.len && cof_hex_decode(cof_slice_of(scan->text.data + at + 2, 4), unit, 2) ? 6
                                                                                                              : 0;
    }
    return letter != 0 && strchr("\"\\/bfnrt", letter) != NULL ? 2 : 0;
}

/* Finds the end of the string that begins at `at`. */
static cof_code string_end(const struct cof_json_scan *scan, size_t at, size_t *ret_end, struct cof_error *err)
{
    size_t end = at + 1;
    while (byte_at(scan, end) != '"') {
        const uint8_t byte = byte_at(scan, end);
        const size_t length = byte == '\\' ? escape_length(scan, end) : 1;
        if (byte < ' ') {
            return refuse(scan, end < scan->text.len ? end : at,
                          end < scan->text.len ? "a control character stands in a string; write it as \\u and four "
                                                 "hexadecimal digits"
                                               : "this string is not closed; close it",
                          err);
        }
        if (length == 0) {
            return refuse(scan, end, "there is no such escape; write \\\\ for a backslash", err);
        }
        end += length;
    }
    if (!cof_text_valid(cof_slice_of(scan->text.data + at, end - at))) {
        return refuse(scan, at, "this string is not UTF-8; save the document as UTF-8", err);
    }
    *ret_end = end + 1;
    return COF_OK;
}

bool cof_json_is_plain(struct cof_slice raw)
{
    return memchr(raw.data, '\\', raw.len) == NULL;
}

static uint32_t code_unit(const uint8_t *digits)
{
    uint8_t unit[2] = {0, 0};
    (void) cof_hex_decode(cof_slice_of(digits, 4), unit, sizeof unit);
    return (uint32_t) cof_get_u16(unit);
}

/* Reads the character of \u escapes at `at`, one or a pair; moves behind it. False: half of a pair. */
static bool read_character(struct cof_slice inside, size_t *at, uint32_t *ret_code)
{
    const uint32_t first = code_unit(inside.data + *at + 2);
    *at += 6;
    *ret_code = first;
    if (first < 0xD800 || first > 0xDFFF) {
        return true;
    }
    if (first > 0xDBFF || inside.len - *at < 6 || inside.data[*at] != '\\' || inside.data[*at + 1] != 'u') {
        return false;
    }
    const uint32_t second = code_unit(inside.data + *at + 2);
    *at += 6;
    *ret_code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    return second >= 0xDC00 && second <= 0xDFFF;
}

static size_t put_utf8(uint32_t code, uint8_t *to)
{
    if (code < 0x80) {
        to[0] = (uint8_t) code;
        return 1;
    }
    const size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t leads[] = {0, 0xC0, 0xE0, 0xF0};
    for (size_t i = more; i > 0; i--) {
        to[i] = (uint8_t) (0x80 | (code & 0x3F));
        code >>= 6;
    }
    to[0] = (uint8_t) (leads[more] | code);
    return more + 1;
}

static uint8_t unescaped(uint8_t letter)
{
    switch (letter) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return letter;
    }
}

bool cof_json_decode(struct cof_slice raw, uint8_t *to, size_t *ret_length)
{
    const struct cof_slice inside = cof_slice_of(raw.data + 1, raw.len - 2);
    size_t length = 0;
    size_t at = 0;
    while (at < inside.len) {
        uint32_t code;
        if (inside.data[at] != '\\') {
            to[length++] = inside.data[at++];
        } else if (inside.data[at + 1] != 'u') {
            to[length++] = unescaped(inside.data[at + 1]);
            at += 2;
        } else if (read_character(inside, &at, &code)) {
            length += put_utf8(code, to + length);
        } else {
            return false;
        }
    }
    *ret_length = length;
    return true;
}

/* --- Structure ------------------------------------------------------------------------------------------------ */

static bool in_object(const struct cof_json_scan *scan)
{
    return scan->depth > 0 && (scan->objects >> (scan->depth - 1) & 1U) != 0;
}

static cof_json_expected after_value(const struct cof_json_scan *scan)
{
    return scan->depth == 0 ? COF_JSON_EXPECT_NOTHING : COF_JSON_EXPECT_COMMA;
}

/* Takes `length` bytes as an event. */
static void take(struct cof_json_scan *scan, cof_json_kind kind, size_t length, struct cof_json_event *event)
{
    *event = (struct cof_json_event){kind, cof_slice_of(scan->text.data + scan->at.offset, length), scan->at};
    advance(scan, scan->at.offset + length);
}

static cof_code begin(struct cof_json_scan *scan, bool object, struct cof_json_event *event, struct cof_error *err)
{
    if (scan->depth == COF_JSON_DEPTH) {
        return cof_fail(err, COF_REASON_DOCUMENT_TOO_DEEP,
                        "line %u, column %u: the document is nested more than %d deep; %s", scan->at.line,
                        scan->at.column, COF_JSON_DEPTH, cof_reason_next_step(COF_REASON_DOCUMENT_TOO_DEEP));
    }
    const uint64_t bit = (uint64_t) 1 << scan->depth;
    scan->objects = object ? scan->objects | bit : scan->objects & ~bit;
    scan->depth++;
    scan->expected = object ? COF_JSON_EXPECT_FIRST_KEY : COF_JSON_EXPECT_FIRST_VALUE;
    take(scan, object ? COF_JSON_OBJECT : COF_JSON_ARRAY, 1, event);
    return COF_OK;
}

static cof_code end(struct cof_json_scan *scan, struct cof_json_event *event)
{
    take(scan, in_object(scan) ? COF_JSON_OBJECT_END : COF_JSON_ARRAY_END, 1, event);
    scan->depth--;
    scan->expected = after_value(scan);
    return COF_OK;
}

static cof_code take_string(struct cof_json_scan *scan, cof_json_kind kind, struct cof_json_event *event,
                            struct cof_error *err)
{
    size_t behind = scan->at.offset;
    TRY(string_end(scan, scan->at.offset, &behind, err));
    take(scan, kind, behind - scan->at.offset, event);
    scan->expected = kind == COF_JSON_KEY ? COF_JSON_EXPECT_COLON : after_value(scan);
    return COF_OK;
}

static cof_code take_value(struct cof_json_scan *scan, struct cof_json_event *event, struct cof_error *err)
{
    const size_t at = scan->at.offset;
    const uint8_t byte = byte_at(scan, at);
    if (byte == '{' || byte == '[') {
        return begin(scan, byte == '{', event, err);
    }
    if (byte == '"') {
        return take_string(scan, COF_JSON_STRING, event, err);
    }
    const size_t behind = at < scan->text.len ? word_end(scan, at) : at;
    if (behind == at) {
        return refuse(scan, at, missing[scan->expected], err);
    }
    take(scan, COF_JSON_WORD, behind - at, event);
    scan->expected = after_value(scan);
    return COF_OK;
}

/* Moves behind a colon or comma, if there is one. */
static void take_sign(struct cof_json_scan *scan)
{
    const uint8_t byte = byte_at(scan, scan->at.offset);
    if (scan->expected == COF_JSON_EXPECT_COLON && byte == ':') {
        scan->expected = COF_JSON_EXPECT_VALUE;
    } else if (scan->expected == COF_JSON_EXPECT_COMMA && byte == ',') {
        scan->expected = in_object(scan) ? COF_JSON_EXPECT_KEY : COF_JSON_EXPECT_VALUE;
    } else {
        return;
    }
    advance(scan, scan->at.offset + 1);
    skip_space(scan);
}

static bool may_end(const struct cof_json_scan *scan)
{
    const uint8_t byte = byte_at(scan, scan->at.offset);
    return (scan->expected == COF_JSON_EXPECT_COMMA && byte == (in_object(scan) ? '}' : ']')) ||
           (scan->expected == COF_JSON_EXPECT_FIRST_KEY && byte == '}') ||
           (scan->expected == COF_JSON_EXPECT_FIRST_VALUE && byte == ']');
}

cof_code cof_json_next(struct cof_json_scan *scan, struct cof_json_event *ret_event, struct cof_error *err)
{
    skip_space(scan);
    take_sign(scan);
    if (may_end(scan)) {
        return end(scan, ret_event);
    }
    switch (scan->expected) {
    case COF_JSON_EXPECT_VALUE:
    case COF_JSON_EXPECT_FIRST_VALUE:
        return take_value(scan, ret_event, err);
    case COF_JSON_EXPECT_FIRST_KEY:
    case COF_JSON_EXPECT_KEY:
        if (byte_at(scan, scan->at.offset) == '"') {
            return take_string(scan, COF_JSON_KEY, ret_event, err);
        }
        break;
    case COF_JSON_EXPECT_NOTHING:
        if (scan->at.offset == scan->text.len) {
            take(scan, COF_JSON_END, 0, ret_event);
            return COF_OK;
        }
        break;
    case COF_JSON_EXPECT_COLON:
    case COF_JSON_EXPECT_COMMA:
        break;
    }
    return refuse(scan, scan->at.offset, missing[scan->expected], err);
}
