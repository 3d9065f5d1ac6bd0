#include "common/sink.h"

#include <assert.h>

#include "common/name.h"

static const char hex[] = "0123456789abcdef";

/* Letters that stand behind a backslash for a control character: the same ones in JSON and YAML. */
static char short_escape(uint8_t byte)
{
    switch (byte) {
    case '"':
    case '\\':
        return (char) byte;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

void cof_sink_put_raw(struct cof_sink *sink, struct cof_slice bytes)
{
    if (sink->to != NULL && bytes.len > 0) {
        assert(bytes.len <= sink->room - sink->used);
        memcpy(sink->to + sink->used, bytes.data, bytes.len);
    }
    sink->used += bytes.len;
}

static void put_code_unit(struct cof_sink *sink, unsigned unit)
{
    const char text[] = {'\\', 'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15], hex[unit & 15]};
    cof_sink_put_raw(sink, cof_slice_of(text, sizeof text));
}

/*
 * Characters beyond ASCII that YAML takes for line breaks or refuses: U+0080 to U+009F, U+2028, U+2029, U+FEFF,
 * U+FFFE, U+FFFF. Their bytes are counted in ret_length.
 */
static unsigned unprintable(struct cof_slice rest, size_t *ret_length)
{
    const uint8_t *byte = rest.data;
    *ret_length = 0;
    if (rest.len > 1 && byte[0] == 0xC2 && byte[1] < 0xA0) {
        *ret_length = 2;
        return byte[1];
    }
    if (rest.len > 2 && (byte[0] == 0xE2 || byte[0] == 0xEF)) {
        const unsigned code = (byte[0] & 15U) << 12 | (byte[1] & 63U) << 6 | (byte[2] & 63U);
        const bool refused = code == 0x2028 || code == 0x2029 || code == 0xFEFF || code >= 0xFFFE;
        *ret_length = refused ? 3 : 0;
        return code;
    }
    return 0;
}

/* Writes the character that the rest begins with, if it needs an escape, and returns its bytes; 0: it needs none. */
static size_t put_escape(struct cof_sink *sink, cof_encoding encoding, struct cof_slice rest)
{
    const uint8_t byte = rest.data[0];
    const char escape[] = {'\\', short_escape(byte)};
    size_t length = 0;
    if (escape[1] != 0) {
        cof_sink_put_raw(sink, cof_slice_of(escape, sizeof escape));
        return 1;
    }
    if (byte < ' ' || (byte == 0x7F && encoding == COF_ENCODING_YAML)) {
        put_code_unit(sink, byte);
        return 1;
    }
    if (byte >= 0x80 && encoding == COF_ENCODING_YAML) {
        const unsigned code = unprintable(rest, &length);
        if (length > 0) {
            put_code_unit(sink, code);
        }
    }
    return length;
}

void cof_sink_put(struct cof_sink *sink, cof_encoding encoding, struct cof_slice bytes)
{
    size_t plain = 0;
    if (encoding == COF_ENCODING_RAW) {
        cof_sink_put_raw(sink, bytes);
        return;
    }
    for (size_t i = 0; i < bytes.len;) {
        const struct cof_slice rest = cof_slice_of(bytes.data + i, bytes.len - i);
        struct cof_sink trial = {0};
        const size_t length = put_escape(&trial, encoding, rest);
        if (length == 0) {
            i++;
            continue;
        }
        cof_sink_put_raw(sink, cof_slice_of(bytes.data + plain, i - plain));
        (void) put_escape(sink, encoding, rest);
        i += length;
        plain = i;
    }
    if (bytes.len > plain) {
        cof_sink_put_raw(sink, cof_slice_of(bytes.data + plain, bytes.len - plain));
    }
}

bool cof_sink_accepts(struct cof_slice bytes)
{
    size_t begin = 0;
    while (begin < bytes.len) {
        const uint8_t *nul = memchr(bytes.data + begin, '\0', bytes.len - begin);
        const size_t end = nul == NULL ? bytes.len : (size_t) (nul - bytes.data);
        if (!cof_text_valid(cof_slice_of(bytes.data + begin, end - begin))) {
            return false;
        }
        begin = end + 1;
    }
    return true;
}
