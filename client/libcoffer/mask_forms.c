#include "client/libcoffer/mask_forms.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/attr.h"
#include "common/name.h"

enum { BASE64_SHIFTS = 3, NOT_A_POINT = -1 };

static const char hex_lower[] = "0123456789abcdef";
static const char hex_upper[] = "0123456789ABCDEF";
static const char base64_standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Percent-encoders differ in what they leave as it is beside letters and digits. */
static const struct percent_style {
    const char *kept;
    bool space_is_plus;
} percent_styles[] = {
    {"-._~", false},                 /* RFC 3986, unreserved */
    {"-._~/", false},                /* a path */
    {"-._~!*'()", false},            /* encodeURIComponent */
    {"-._~!*'();,/?:@&=+$#", false}, /* encodeURI */
    {"-._~", true},                  /* a query */
    {"-._*", true},                  /* application/x-www-form-urlencoded */
};

/* Writers of JSON must escape quotes, backslashes and control characters; they differ in what else they escape. */
static const struct json_style {
    const char *also; /* as \u00XX */
    bool slash;       /* as \/ */
    bool quote_by_number;
    bool ascii; /* nothing else but ASCII */
    const char *digits;
} json_styles[] = {
    {"", false, false, false, hex_lower},    {"", true, false, false, hex_lower},
    {"", false, false, true, hex_lower},     {"", true, false, true, hex_lower},
    {"<>&", false, false, false, hex_lower}, {"<>&'+`\x7f", false, true, true, hex_upper},
};

/*
 * Forms are written one behind the other. While the room is measured there is nowhere to write to, and everything
 * is counted.
 */
struct writer {
    uint8_t *bytes;
    size_t used;
    struct cof_slice *forms;
    size_t count;
    size_t source; /* index of the first form of the text that is being written */
    size_t begin;  /* of the form that is being written */
};

static void put(struct writer *writer, uint8_t byte)
{
    if (writer->bytes != NULL) {
        writer->bytes[writer->used] = byte;
    }
    writer->used++;
}

static void put_text(struct writer *writer, const char *text)
{
    while (*text != '\0') {
        put(writer, (uint8_t) *text++);
    }
}

/* What was written from where the form began to `end` is a form, perhaps the first part of a longer one. */
static void mark(struct writer *writer, size_t end)
{
    if (writer->bytes != NULL) {
        writer->forms[writer->count] = cof_slice_of(writer->bytes + writer->begin, end - writer->begin);
    }
    writer->count++;
}

/* Most encodings leave most values as they are, so the same forms come again and again; those are taken back. */
static bool drop_repeated(struct writer *writer)
{
    const struct cof_slice form = cof_slice_of(writer->bytes + writer->begin, writer->used - writer->begin);
    for (size_t i = writer->source; writer->bytes != NULL && i < writer->count; i++) {
        if (cof_slice_equal(writer->forms[i], form)) {
            writer->used = writer->begin;
            return true;
        }
    }
    return false;
}

static void finish(struct writer *writer)
{
    if (!drop_repeated(writer)) {
        mark(writer, writer->used);
        writer->begin = writer->used;
    }
}

static void write_raw(struct writer *writer, struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        put(writer, text.data[i]);
    }
    finish(writer);
}

static void write_hex(struct writer *writer, struct cof_slice text, const char *digits)
{
    for (size_t i = 0; i < text.len; i++) {
        put(writer, (uint8_t) digits[text.data[i] >> 4]);
        put(writer, (uint8_t) digits[text.data[i] & 15]);
    }
    finish(writer);
}

/* --- base64 --------------------------------------------------------------------------------------------------- */

/* The six bits of the text that begin at `bit`; behind its end all are zero. */
static unsigned sextet(struct cof_slice text, size_t bit)
{
    const size_t at = bit / 8;
    const unsigned low = at + 1 < text.len ? text.data[at + 1] : 0;
    return ((unsigned) text.data[at] << 8 | low) >> (10 - bit % 8) & 63;
}

/*
 * `shift` bytes that nobody knows stand before the text: the digits that hold bits of theirs are left out, and so is
 * the one that holds bits of what follows. If nothing follows, that one is filled up with zeros, and padding may
 * come.
 */
static void write_base64(struct writer *writer, struct cof_slice text, const char *alphabet, size_t shift)
{
    const size_t end = 8 * text.len;
    size_t bit = shift == 0 ? 0 : 6 - 8 * shift % 6;
    for (; bit + 6 <= end; bit += 6) {
        put(writer, (uint8_t) alphabet[sextet(text, bit)]);
    }
    const size_t sure = writer->used;
    if (bit < end) {
        put(writer, (uint8_t) alphabet[sextet(text, bit)]);
        put_text(writer, (shift + text.len) % 3 == 1 ? "==" : "=");
    }
    if (drop_repeated(writer)) {
        return;
    }
    mark(writer, sure);
    if (bit < end) {
        mark(writer, sure + 1);
        mark(writer, writer->used);
    }
    writer->begin = writer->used;
}

/* --- Percent-encoding ----------------------------------------------------------------------------------------- */

static bool alphanumeric(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static bool one_of(const char *set, uint8_t byte)
{
    return byte != '\0' && strchr(set, byte) != NULL;
}

static void write_percent(struct writer *writer, struct cof_slice text, const struct percent_style *style,
                          const char *digits)
{
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t byte = text.data[i];
        if (alphanumeric(byte) || one_of(style->kept, byte)) {
            put(writer, byte);
        } else if (byte == ' ' && style->space_is_plus) {
            put(writer, '+');
        } else {
            put(writer, '%');
            put(writer, (uint8_t) digits[byte >> 4]);
            put(writer, (uint8_t) digits[byte & 15]);
        }
    }
    finish(writer);
}

/* --- JSON ----------------------------------------------------------------------------------------------------- */

/* The code point that begins the text, and its length; NOT_A_POINT with the length 1 where that is not UTF-8. */
static int32_t code_point(struct cof_slice text, size_t *ret_length)
{
    static const uint8_t first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    const uint8_t first = text.data[0];
    const size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (length == 0 || length > text.len || !cof_text_valid(cof_slice_of(text.data, length))) {
        *ret_length = 1;
        return first == '\0' ? 0 : NOT_A_POINT;
    }
    int32_t point = first & first_bits[length];
    for (size_t i = 1; i < length; i++) {
        point = point << 6 | (text.data[i] & 0x3f);
    }
    *ret_length = length;
    return point;
}

static void put_number(struct writer *writer, unsigned unit, const char *digits)
{
    put_text(writer, "\\u");
    for (unsigned shift = 16; shift > 0; shift -= 4) {
        put(writer, (uint8_t) digits[unit >> (shift - 4) & 15]);
    }
}

/* UTF-16 code units, two of them for a point beyond the first plane. */
static void put_point(struct writer *writer, int32_t point, const char *digits)
{
    const unsigned value = (unsigned) point;
    if (value >= 0x10000) {
        put_number(writer, 0xd800 + ((value - 0x10000) >> 10), digits);
        put_number(writer, 0xdc00 + ((value - 0x10000) & 0x3ff), digits);
    } else {
        put_number(writer, value, digits);
    }
}

/* The letter of a two-byte escape; NUL if the byte has none. */
static char short_escape(uint8_t byte, const struct json_style *style)
{
    static const char from[] = "\b\f\n\r\t\\\"/";
    static const char to[] = "bfnrt\\\"/";
    const char *found = byte == '\0' ? NULL : strchr(from, byte);
    if (found == NULL || (byte == '/' && !style->slash) || (byte == '"' && style->quote_by_number)) {
        return '\0';
    }
    return to[found - from];
}

static bool by_number(int32_t point, const struct json_style *style)
{
    if (point >= 0x80) {
        return style->ascii;
    }
    return point < 0x20 || (point == '"' && style->quote_by_number) || one_of(style->also, (uint8_t) point);
}

static void write_json(struct writer *writer, struct cof_slice text, const struct json_style *style)
{
    size_t length;
    for (size_t i = 0; i < text.len; i += length) {
        const int32_t point = code_point(cof_slice_of(text.data + i, text.len - i), &length);
        const char letter = short_escape(text.data[i], style);
        if (letter != '\0') {
            put(writer, '\\');
            put(writer, (uint8_t) letter);
        } else if (point != NOT_A_POINT && by_number(point, style)) {
            put_point(writer, point, style->digits);
        } else {
            for (size_t k = 0; k < length; k++) {
                put(writer, text.data[i + k]);
            }
        }
    }
    finish(writer);
}

/* --- Values --------------------------------------------------------------------------------------------------- */

static void write_forms(struct writer *writer, struct cof_slice text)
{
    writer->source = writer->count;
    write_raw(writer, text);
    write_hex(writer, text, hex_lower);
    write_hex(writer, text, hex_upper);
    for (size_t shift = 0; shift < BASE64_SHIFTS; shift++) {
        write_base64(writer, text, base64_standard, shift);
        write_base64(writer, text, base64_url, shift);
    }
    for (size_t i = 0; i < COF_COUNT(percent_styles); i++) {
        write_percent(writer, text, &percent_styles[i], hex_upper);
        write_percent(writer, text, &percent_styles[i], hex_lower);
    }
    for (size_t i = 0; i < COF_COUNT(json_styles); i++) {
        write_json(writer, text, &json_styles[i]);
    }
}

static struct cof_slice trim(struct cof_slice text)
{
    while (text.len > 0 && one_of(" \t\r\n\v\f", text.data[0])) {
        text = cof_slice_of(text.data + 1, text.len - 1);
    }
    while (text.len > 0 && one_of(" \t\r\n\v\f", text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

/* "-----BEGIN PRIVATE KEY-----" stands in many logs and tells nothing. */
static bool armour(struct cof_slice line)
{
    const struct cof_slice dashes = cof_slice_text("-----");
    const bool begins = cof_slice_starts_with(line, cof_slice_text("-----BEGIN ")) ||
                        cof_slice_starts_with(line, cof_slice_text("-----END "));
    return begins && cof_slice_equal(cof_slice_of(line.data + line.len - dashes.len, dashes.len), dashes);
}

static void write_lines(struct writer *writer, struct cof_slice text)
{
    while (text.len > 0) {
        const uint8_t *newline = memchr(text.data, '\n', text.len);
        const size_t length = newline == NULL ? text.len : (size_t) (newline - text.data);
        const struct cof_slice line = trim(cof_slice_of(text.data, length));
        const size_t next = newline == NULL ? length : length + 1;
        if (line.len >= MASK_LINE_MIN && !armour(line)) {
            write_forms(writer, line);
        }
        text = cof_slice_of(text.data + next, text.len - next);
    }
}

static void write_value(struct writer *writer, struct cof_slice value)
{
    const struct cof_slice text = trim(value);
    if (value.len < MASK_VALUE_MIN) {
        return;
    }
    write_forms(writer, value);
    if (text.len < value.len && text.len >= MASK_VALUE_MIN) {
        write_forms(writer, text);
    }
    if (text.len > 0 && memchr(text.data, '\n', text.len) != NULL) {
        write_lines(writer, text);
    }
}

static struct writer measure(const struct cof_slice *values, size_t count)
{
    struct writer writer = {.bytes = NULL};
    for (size_t i = 0; i < count; i++) {
        write_value(&writer, values[i]);
    }
    return writer;
}

size_t mask_forms_room(const struct cof_slice *values, size_t count)
{
    const struct writer measured = measure(values, count);
    return measured.used + measured.count * sizeof(struct cof_slice);
}

static int in_order(const void *a, const void *b)
{
    return cof_slice_compare(*(const struct cof_slice *) a, *(const struct cof_slice *) b);
}

/* Keeps one of each form, and sums up. */
static struct mask_forms distinct(struct cof_slice *forms, size_t count)
{
    struct mask_forms made = {.forms = forms};
    for (size_t i = 0; i < count; i++) {
        if (made.count > 0 && cof_slice_equal(forms[made.count - 1], forms[i])) {
            continue;
        }
        made.bytes += forms[i].len;
        made.longest = forms[i].len > made.longest ? forms[i].len : made.longest;
        made.shortest = made.count == 0 || forms[i].len < made.shortest ? forms[i].len : made.shortest;
        forms[made.count++] = forms[i];
    }
    return made;
}

cof_code mask_forms_make(const struct cof_slice *values, size_t count, struct cof_arena *arena,
                         struct mask_forms *ret_forms, struct cof_error *err)
{
    const struct writer measured = measure(values, count);
    struct writer writer = {
        .bytes = cof_arena_alloc(arena, measured.used),
        .forms = cof_arena_array(arena, measured.count, sizeof *writer.forms),
    };
    if (writer.bytes == NULL || writer.forms == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < count; i++) {
        write_value(&writer, values[i]);
    }
    if (writer.count > 0) {
        qsort(writer.forms, writer.count, sizeof *writer.forms, in_order);
    }
    *ret_forms = distinct(writer.forms, writer.count);
    return COF_OK;
}
