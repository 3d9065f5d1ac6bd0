#include <string.h>

#include "common/import/format.h"
#include "common/name.h"

/*
 * Files of lines KEY=value. There is no standard; where the tools that read such files disagree, a form that one of
 * them would read otherwise is refused instead of guessed (docs/importing.md).
 */

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static void skip_blanks(struct cof_import_source *source)
{
    while (is_blank(cof_import_source_peek(source))) {
        (void) cof_import_source_take(source, 1);
    }
}

/* The rest of the line, without the LF or CR LF that ends it. */
static struct cof_slice line_of(const struct cof_import_source *source)
{
    const struct cof_slice rest = cof_import_source_rest(source);
    const uint8_t *newline = rest.len == 0 ? NULL : memchr(rest.data, '\n', rest.len);
    const size_t length = newline == NULL ? rest.len : (size_t) (newline - rest.data);
    return cof_slice_of(rest.data, length > 0 && rest.data[length - 1] == '\r' ? length - 1 : length);
}

/* The rest of a line, its end included, of which nothing is wanted. */
static void skip_line(struct cof_import_source *source)
{
    (void) cof_import_source_take(source, line_of(source).len);
    if (cof_import_source_peek(source) == '\r') {
        (void) cof_import_source_take(source, 1);
    }
    (void) cof_import_source_take(source, 1);
}

/* --- Values --------------------------------------------------------------------------------------------------- */

/*
 * A value without quotes: as it stands, up to the end of the line or a # with a blank before it. A byte stands before
 * the value's first one, too: the = or a blank.
 */
static cof_code read_bare(struct cof_import_source *source, struct cof_slice *ret_value)
{
    const struct cof_slice line = line_of(source);
    size_t length = 0;
    while (length < line.len && !(line.data[length] == '#' && is_blank(*(line.data + length - 1)))) {
        length++;
    }
    while (length > 0 && is_blank(line.data[length - 1])) {
        length--;
    }
    const uint8_t *lonely = length == 0 ? NULL : memchr(line.data, '\r', length);
    if (lonely != NULL) {
        (void) cof_import_source_take(source, (size_t) (lonely - line.data));
        return cof_import_refuse(source->err, source->at,
                                 "a carriage return inside a value; write \"\\r\" in double quotes");
    }
    *ret_value = cof_import_source_take(source, length);
    return COF_OK;
}

/* The length up to the closing quote; a backslash in double quotes belongs to what follows it. */
static bool find_quote(struct cof_slice rest, uint8_t quote, size_t *ret_length)
{
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.data[i] == quote) {
            *ret_length = i;
            return true;
        }
        i += quote == '"' && rest.data[i] == '\\';
    }
    return false;
}

/* Takes a character or an escape; returns false for an escape that is not known. */
static bool take_character(struct cof_import_source *source, uint8_t quote, uint8_t *ret_byte)
{
    static const char escapes[] = "nrt\\\"$`";
    static const char meanings[] = "\n\r\t\\\"$`";
    const struct cof_slice rest = cof_import_source_rest(source);
    if (rest.len > 1 && rest.data[0] == '\r' && rest.data[1] == '\n') {
        (void) cof_import_source_take(source, 1); /* lines inside of values end in LF */
    } else if (quote == '"' && rest.data[0] == '\\') {
        const char *escape = rest.data[1] == 0 ? NULL : strchr(escapes, rest.data[1]);
        if (escape == NULL) {
            return false;
        }
        (void) cof_import_source_take(source, 2);
        *ret_byte = (uint8_t) meanings[escape - escapes];
        return true;
    }
    *ret_byte = cof_import_source_take(source, 1).data[0];
    return true;
}

/* A value in quotes, over lines if need be. In single quotes everything is as it stands. */
static cof_code read_quoted(struct cof_import_source *source, struct cof_slice *ret_value)
{
    const struct cof_place place = source->at;
    const uint8_t quote = cof_import_source_take(source, 1).data[0];
    size_t length;
    if (!find_quote(cof_import_source_rest(source), quote, &length)) {
        return cof_import_refuse(source->err, place, "the quote that begins here is never closed");
    }
    const uint8_t *end = cof_import_source_rest(source).data + length;
    uint8_t *value = cof_arena_alloc(source->arena, length);
    size_t count = 0;
    if (value == NULL) {
        return cof_arena_exhausted(source->err);
    }
    while (cof_import_source_rest(source).data < end) {
        if (!take_character(source, quote, &value[count])) {
            return cof_import_refuse(
                source->err, source->at,
                "an escape that is not known; known in double quotes are \\n \\r \\t \\\\ \\\" "
                "\\$ \\`, and a backslash is written \\\\");
        }
        count++;
    }
    (void) cof_import_source_take(source, 1);
    *ret_value = cof_slice_of(value, count);
    return COF_OK;
}

static cof_code end_quoted(struct cof_import_source *source)
{
    const bool apart = is_blank(cof_import_source_peek(source));
    skip_blanks(source);
    if (line_of(source).len == 0 || (apart && cof_import_source_peek(source) == '#')) {
        return COF_OK;
    }
    return cof_import_refuse(source->err, source->at,
                             "more text behind the closing quote; only a blank and a comment may stand there");
}

static cof_code read_value(struct cof_import_source *source, struct cof_slice *ret_value)
{
    switch (cof_import_source_peek(source)) {
    case '\'':
    case '"':
        TRY(read_quoted(source, ret_value));
        return end_quoted(source);
    case '`':
        return cof_import_refuse(source->err, source->at,
                                 "a value in backquotes, which few programs read; use single or double quotes");
    default:
        return read_bare(source, ret_value);
    }
}

/* --- Lines ---------------------------------------------------------------------------------------------------- */

/* "export " before the key means nothing; `export=1` is a key of that name. */
static void skip_export(struct cof_import_source *source)
{
    const struct cof_import_source before = *source;
    if (!cof_slice_starts_with(cof_import_source_rest(source), cof_slice_text("export"))) {
        return;
    }
    (void) cof_import_source_take(source, 6);
    const bool blank = is_blank(cof_import_source_peek(source));
    skip_blanks(source);
    if (!blank || cof_import_source_peek(source) == '=') {
        *source = before;
    }
}

/* What stands before the = may be a piece of a value whose quotes are missing, so it is never shown. */
static cof_code read_key(struct cof_import_source *source, struct cof_slice *ret_key)
{
    const struct cof_place place = source->at;
    const struct cof_slice line = line_of(source);
    size_t length = 0;
    while (length < line.len && !is_blank(line.data[length]) && line.data[length] != '=') {
        length++;
    }
    const struct cof_slice key = cof_import_source_take(source, length);
    skip_blanks(source);
    if (cof_import_source_peek(source) != '=') {
        return cof_import_refuse(source->err, place,
                                 "no KEY=value; a value of several lines needs quotes around it");
    }
    if (!cof_name_valid(COF_NAME_KEY, key)) {
        return cof_import_refuse(source->err, place,
                                 "no key stands before the =; a key is 1 to 128 of A-Z a-z 0-9 _ . - and begins "
                                 "with a letter or _");
    }
    *ret_key = key;
    return COF_OK;
}

/* Blanks behind the = do not belong to the value. */
static cof_code read_pair(struct cof_import_source *source, struct cof_import_builder *builder)
{
    struct cof_slice key = {NULL, 0};
    struct cof_slice value = {NULL, 0};
    skip_export(source);
    const struct cof_place place = source->at;
    TRY(read_key(source, &key));
    (void) cof_import_source_take(source, 1);
    skip_blanks(source);
    TRY(read_value(source, &value));
    skip_line(source);
    return cof_import_add_flat(builder, key, value, place);
}

cof_code cof_import_dotenv_read(const struct cof_import_source *source, struct cof_import_builder *builder)
{
    struct cof_import_source reading = *source;
    while (reading.at.offset < reading.text.len) {
        skip_blanks(&reading);
        if (line_of(&reading).len == 0 || cof_import_source_peek(&reading) == '#') {
            skip_line(&reading);
        } else {
            TRY(read_pair(&reading, builder));
        }
    }
    return COF_OK;
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

static void put(struct cof_sink *sink, const char *text)
{
    cof_sink_put_raw(sink, cof_slice_text(text));
}

static bool among(struct cof_slice value, const char *set)
{
    for (size_t i = 0; i < value.len; i++) {
        if (strchr(set, value.data[i]) == NULL) {
            return false;
        }
    }
    return true;
}

/* Nothing in it that a shell or another reader of such files would take for something else. */
static bool is_bare(struct cof_slice value)
{
    return value.len > 0 &&
           among(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:@%+,=");
}

static bool has(struct cof_slice value, uint8_t byte)
{
    return value.len > 0 && memchr(value.data, byte, value.len) != NULL;
}

/* A shell that reads the file must find nothing to replace or to run here either. */
static void put_double_quoted(struct cof_sink *sink, struct cof_slice value)
{
    put(sink, "\"");
    for (size_t i = 0; i < value.len; i++) {
        const uint8_t byte = value.data[i];
        if (byte == '\r') {
            put(sink, "\\r");
        } else {
            put(sink, strchr("\"\\$`", byte) != NULL ? "\\" : "");
            cof_sink_put_raw(sink, cof_slice_of(&byte, 1));
        }
    }
    put(sink, "\"");
}

/* Single quotes where they can be: no program finds anything to replace in them. */
static void put_value(struct cof_sink *sink, struct cof_slice value)
{
    if (is_bare(value)) {
        cof_sink_put_raw(sink, value);
    } else if (has(value, '\'') || has(value, '\r')) {
        put_double_quoted(sink, value);
    } else {
        put(sink, "'");
        cof_sink_put_raw(sink, value);
        put(sink, "'");
    }
}

static cof_code refuse_bytes(const struct cof_import_entry *entry, struct cof_error *err)
{
    return cof_fail(err, COF_REASON_FILE_INVALID,
                    "the value of the key \"%.*s\" of the secret \"%.*s\" is not text, which is all that a .env "
                    "file can hold; write JSON or YAML",
                    (int) entry->key.len, (const char *) entry->key.data, (int) entry->secret.len,
                    (const char *) entry->secret.data);
}

static cof_code refuse_second(const struct cof_import_entry *a, const struct cof_import_entry *b,
                              struct cof_error *err)
{
    return cof_fail(
        err, COF_REASON_FILE_INVALID,
        "the secrets \"%.*s\" and \"%.*s\" both have the key \"%.*s\", and a .env file holds a key once; "
        "write them into two files, or write JSON or YAML",
        (int) a->secret.len, (const char *) a->secret.data, (int) b->secret.len, (const char *) b->secret.data,
        (int) a->key.len, (const char *) a->key.data);
}

cof_code cof_import_dotenv_write(const struct cof_import_list *list, struct cof_sink *sink, struct cof_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct cof_import_entry *entry = &list->entries[i];
        if (!cof_text_valid(entry->value)) {
            return refuse_bytes(entry, err);
        }
        if (i > 0 && cof_slice_equal(entry[-1].key, entry->key)) {
            return refuse_second(&entry[-1], entry, err);
        }
        cof_sink_put_raw(sink, entry->key);
        put(sink, "=");
        put_value(sink, entry->value);
        put(sink, "\n");
    }
    return COF_OK;
}
