#include "server/crypto/pem.h"

#include <string.h>

#define BEGIN "-----BEGIN "
#define END "-----END "
#define DASHES "-----"

enum { NOT_BASE64 = 0xff };

/* --- Lines ---------------------------------------------------------------------------------------------------- */

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

cof_code pem_normalize(struct cof_slice text, struct cof_arena *arena, struct cof_slice *ret_text,
                       struct cof_error *err)
{
    uint8_t *to = cof_arena_alloc(arena, text.len + 1);
    size_t length = 0;
    if (to == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < text.len; i++) {
        const bool pair = text.data[i] == '\r' && i + 1 < text.len && text.data[i + 1] == '\n';
        if (!pair) {
            to[length++] = text.data[i] == '\r' ? '\n' : text.data[i];
        }
    }
    while (length > 0 && is_blank(to[length - 1])) {
        length--;
    }
    to[length++] = '\n';
    *ret_text = cof_slice_of(to, length);
    return COF_OK;
}

/* The first line, without its end and the white space before that; taken off the front. */
static struct cof_slice take_line(struct cof_slice *text)
{
    const uint8_t *end = text->len == 0 ? NULL : memchr(text->data, '\n', text->len);
    struct cof_slice line = cof_slice_of(text->data, end == NULL ? text->len : (size_t) (end - text->data));
    const size_t taken = line.len + (end != NULL);
    *text = cof_slice_of(text->data + taken, text->len - taken);
    while (line.len > 0 && is_blank(line.data[line.len - 1])) {
        line.len--;
    }
    return line;
}

/* Whether the line is `begin`, a label and dashes. */
static bool armour(struct cof_slice line, const char *begin, struct cof_slice *ret_label)
{
    const size_t before = strlen(begin);
    const size_t after = strlen(DASHES);
    if (line.len <= before + after || line.len > before + PEM_LABEL_MAX + after ||
        !cof_slice_starts_with(line, cof_slice_text(begin)) ||
        memcmp(line.data + line.len - after, DASHES, after) != 0) {
        return false;
    }
    *ret_label = cof_slice_of(line.data + before, line.len - before - after);
    for (size_t i = 0; i < ret_label->len; i++) {
        if (ret_label->data[i] < ' ' || ret_label->data[i] > '~') {
            return false;
        }
    }
    return true;
}

static bool contains(struct cof_slice text, const char *part)
{
    return text.len > 0 && memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* --- Base64 --------------------------------------------------------------------------------------------------- */

static uint8_t digit(uint8_t byte)
{
    if (byte >= 'A' && byte <= 'Z') {
        return (uint8_t) (byte - 'A');
    }
    if (byte >= 'a' && byte <= 'z') {
        return (uint8_t) (byte - 'a' + 26);
    }
    if (byte >= '0' && byte <= '9') {
        return (uint8_t) (byte - '0' + 52);
    }
    return byte == '+' ? 62 : byte == '/' ? 63 : NOT_BASE64;
}

/* Decodes into `to`, which has as many bytes as the text. */
static bool decode(struct cof_slice text, uint8_t *to, size_t *ret_length)
{
    uint32_t bits = 0;
    size_t digits = 0;
    size_t padding = 0;
    size_t length = 0;
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t value = digit(text.data[i]);
        if (is_blank(text.data[i])) {
            continue;
        }
        if (text.data[i] == '=') {
            padding++;
            continue;
        }
        if (value == NOT_BASE64 || padding > 0) {
            return false;
        }
        bits = bits << 6 | value;
        if (++digits % 4 != 1) {
            to[length++] = (uint8_t) (bits >> (6 - 2 * ((digits + 3) % 4)));
        }
    }
    *ret_length = length;
    return padding <= 2 && (digits + padding) % 4 == 0 && length > 0;
}

/* --- Blocks --------------------------------------------------------------------------------------------------- */

/* Headers stand before an empty line. */
static struct cof_slice skip_headers(struct cof_slice body, bool *ret_encrypted)
{
    struct cof_slice rest = body;
    *ret_encrypted = false;
    for (struct cof_slice line = take_line(&rest); contains(line, ":"); line = take_line(&rest)) {
        if (cof_slice_starts_with(line, cof_slice_text("Proc-Type:")) && contains(line, "ENCRYPTED")) {
            *ret_encrypted = true;
        }
        body = rest;
    }
    return body;
}

static cof_code read_body(struct cof_slice body, const char *field, struct cof_arena *arena,
                          struct pem_block *block, struct cof_error *err)
{
    const struct cof_slice base64 = skip_headers(body, &block->encrypted);
    uint8_t *bytes = cof_arena_alloc(arena, base64.len);
    size_t length = 0;
    if (bytes == NULL) {
        return cof_arena_exhausted(err);
    }
    if (!decode(base64, bytes, &length)) {
        return cof_fail_field(
            err, COF_REASON_FIELD_INVALID, field,
            "%s: what stands between the lines BEGIN and END of the block \"%.*s\" is not base64; "
            "copy the whole block again",
            field, (int) block->label.len, (const char *) block->label.data);
    }
    block->bytes = cof_slice_of(bytes, length);
    return COF_OK;
}

/* The body of a block, from behind its first line on; the text goes on behind its last. */
static cof_code take_body(struct cof_slice *text, const char *field, struct cof_slice label,
                          struct cof_slice *ret_body, struct cof_error *err)
{
    const uint8_t *begin = text->data;
    while (text->len > 0) {
        struct cof_slice end;
        struct cof_slice other;
        const uint8_t *here = text->data;
        const struct cof_slice line = take_line(text);
        if (armour(line, END, &end) && cof_slice_equal(end, label)) {
            *ret_body = cof_slice_of(begin, (size_t) (here - begin));
            return COF_OK;
        }
        if (armour(line, END, &other) || armour(line, BEGIN, &other)) {
            break;
        }
    }
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: the block \"%.*s\" has no line END; copy the whole block again", field,
                          (int) label.len, (const char *) label.data);
}

cof_code pem_next(struct cof_slice *text, const char *field, struct cof_arena *arena, struct pem_block *ret_block,
                  struct cof_slice *ret_before, bool *ret_found, struct cof_error *err)
{
    const uint8_t *begin = text->data;
    struct cof_slice rest = *text;
    struct pem_block block = {.encrypted = false};
    *ret_found = false;
    while (rest.len > 0) {
        const uint8_t *here = rest.data;
        if (!armour(take_line(&rest), BEGIN, &block.label)) {
            continue;
        }
        struct cof_slice body = {0};
        TRY(take_body(&rest, field, block.label, &body, err));
        TRY(read_body(body, field, arena, &block, err));
        if (ret_before != NULL) {
            *ret_before = cof_slice_of(begin, (size_t) (here - begin));
        }
        *text = rest;
        *ret_block = block;
        *ret_found = true;
        return COF_OK;
    }
    return COF_OK;
}

cof_code pem_missing(struct cof_slice text, const char *field, const char *wanted, struct cof_error *err)
{
    if (contains(text, DASHES "\\n") || contains(text, DASHES "\\r\\n")) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                              "%s: the text has the two characters \\n where its lines should end; store it with "
                              "real line ends",
                              field);
    }
    if (cof_slice_starts_with(text, cof_slice_text("PuTTY-User-Key-File"))) {
        return cof_fail_field(
            err, COF_REASON_FIELD_INVALID, field,
            "%s: this is a key file of PuTTY; convert it: puttygen KEY.ppk -O private-openssh -o KEY", field);
    }
    return cof_fail_field(
        err, COF_REASON_FIELD_INVALID, field,
        "%s: there is no PEM block in it; store %s, from its line -----BEGIN to its line -----END", field, wanted);
}
