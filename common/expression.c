#include "common/expression.h"

#include <assert.h>

#include "common/name.h"

static const char opening[] = "${{";
static const char closing[] = "}}";

enum { OPENING = 3, CLOSING = 2 };

/* --- Characters ----------------------------------------------------------------------------------------------- */

/* Code points with the property White_Space (Unicode 15), besides those of ASCII. */
static const char *const spaces[] = {
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82", "\xE2\x80\x83",
    "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A",
    "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80",
};

/* Bytes of the white space that the text begins with; 0: none. */
static size_t space_length(struct cof_slice text)
{
    if (text.len == 0) {
        return 0;
    }
    if (text.data[0] == ' ' || (text.data[0] >= '\t' && text.data[0] <= '\r')) {
        return 1;
    }
    for (size_t i = 0; text.data[0] >= 0x80 && i < COF_COUNT(spaces); i++) {
        const struct cof_slice space = cof_slice_text(spaces[i]);
        if (cof_slice_starts_with(text, space)) {
            return space.len;
        }
    }
    return 0;
}

static struct cof_slice from(struct cof_slice text, size_t at)
{
    return at >= text.len ? cof_slice_of(NULL, 0) : cof_slice_of(text.data + at, text.len - at);
}

/* Behind the white space at `at`. */
static size_t skip_space(struct cof_slice text, size_t at)
{
    size_t length = space_length(from(text, at));
    while (length > 0) {
        at += length;
        length = space_length(from(text, at));
    }
    return at;
}

static bool digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static bool letter(uint8_t byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || byte == '_';
}

/* Whether a word begins or goes on. Letters of other scripts belong to words, so that SECRETS is none within one. */
static bool in_word(struct cof_slice text)
{
    return text.len > 0 && (letter(text.data[0]) || (text.data[0] >= 0x80 && space_length(text) == 0));
}

static bool ends_line(uint8_t byte)
{
    return byte == '\n' || byte == '\r';
}

static bool starts_with(struct cof_slice text, size_t at, const char *what)
{
    return cof_slice_starts_with(from(text, at), cof_slice_text(what));
}

static size_t find(struct cof_slice text, size_t at, const char *what)
{
    while (at < text.len) {
        const uint8_t *byte = memchr(text.data + at, what[0], text.len - at);
        at = byte == NULL ? text.len : (size_t) (byte - text.data);
        if (starts_with(text, at, what)) {
            return at;
        }
        at++;
    }
    return text.len;
}

struct cof_place cof_place_behind(struct cof_slice text, struct cof_place from, size_t offset)
{
    struct cof_place place = from;
    for (; place.offset < offset && place.offset < text.len; place.offset++) {
        const uint8_t byte = text.data[place.offset];
        const bool crlf = byte == '\r' && place.offset + 1 < text.len && text.data[place.offset + 1] == '\n';
        if (ends_line(byte) && !crlf) {
            place.line++;
            place.column = 1;
        } else if (!crlf && (byte & 0xC0U) != 0x80U) {
            place.column++;
        }
    }
    return place;
}

/* --- Tokens --------------------------------------------------------------------------------------------------- */

typedef enum token_kind {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_LITERAL,
    TOKEN_DOT,
    TOKEN_OPEN,  /* [ */
    TOKEN_CLOSE, /* ] */
    TOKEN_OR,
    TOKEN_OTHER,
} token_kind;

struct token {
    token_kind kind;
    size_t at;
    struct cof_slice bytes;
};

/* What tokens are read from. Quotes from `unquoted` on mean nothing. */
struct source {
    struct cof_slice text;
    size_t unquoted;
};

/* Bytes up to and with the closing quote; 0: the line ends before it. */
static size_t literal_length(struct cof_slice text)
{
    for (size_t i = 1; i < text.len && !ends_line(text.data[i]); i++) {
        if (text.data[i] == text.data[0]) {
            return i + 1;
        }
    }
    return 0;
}

static size_t word_length(struct cof_slice text)
{
    size_t at = 0;
    while (at < text.len && (in_word(from(text, at)) || digit(text.data[at]))) {
        at++;
    }
    return at;
}

/* A number is one token with its dots, so that no reference begins within `1.SECRETS`. */
static size_t number_length(struct cof_slice text)
{
    size_t at = 0;
    while (at < text.len && (digit(text.data[at]) || text.data[at] == '.' || in_word(from(text, at)))) {
        at++;
    }
    return at;
}

static bool is_quote(uint8_t byte)
{
    return byte == '\'' || byte == '"';
}

static token_kind kind_of_sign(struct cof_slice rest)
{
    switch (rest.data[0]) {
    case '.':
        return TOKEN_DOT;
    case '[':
        return TOKEN_OPEN;
    case ']':
        return TOKEN_CLOSE;
    default:
        return rest.len > 1 && rest.data[0] == '|' && rest.data[1] == '|' ? TOKEN_OR : TOKEN_OTHER;
    }
}

/* The token at `at` or behind the white space there. */
static struct token token_at(const struct source *source, size_t at)
{
    const size_t begin = skip_space(source->text, at);
    const struct cof_slice rest = from(source->text, begin);
    token_kind kind = TOKEN_END;
    size_t length = 0;
    if (rest.len == 0) {
        return (struct token){kind, begin, rest};
    }
    if (is_quote(rest.data[0]) && begin < source->unquoted) {
        length = literal_length(rest);
    }
    if (length > 0) {
        kind = TOKEN_LITERAL;
    } else if (in_word(rest)) {
        kind = TOKEN_WORD;
        length = word_length(rest);
    } else if (digit(rest.data[0])) {
        kind = TOKEN_OTHER;
        length = number_length(rest);
    } else {
        kind = kind_of_sign(rest);
        length = kind == TOKEN_OR ? 2 : 1;
    }
    return (struct token){kind, begin, cof_slice_of(rest.data, length)};
}

static size_t behind(const struct token *token)
{
    return token->at + token->bytes.len;
}

static bool is_word(const struct token *token, const char *word)
{
    return token->kind == TOKEN_WORD && cof_slice_equal(token->bytes, cof_slice_text(word));
}

static struct cof_slice unquoted(const struct token *literal)
{
    return cof_slice_of(literal->bytes.data + 1, literal->bytes.len - 2);
}

/* The next SECRETS that begins a reference, at `at` or behind it; false if there is none. */
static bool find_reference(const struct source *source, size_t at, struct token *ret_token)
{
    token_kind before = TOKEN_OTHER;
    for (;;) {
        const struct token token = token_at(source, at);
        if (token.kind == TOKEN_END) {
            return false;
        }
        if (before != TOKEN_DOT && is_word(&token, "SECRETS")) {
            *ret_token = token;
            return true;
        }
        before = token.kind;
        at = behind(&token);
    }
}

/* --- References ----------------------------------------------------------------------------------------------- */

/* What is wrong, and where; no problem: nothing. */
struct flaw {
    const char *problem;
    size_t at;
};

#define HOW_TO_WRITE "write SECRETS.<name>.<KEY>, or SECRETS['<name>'].<KEY> for a name that is no identifier"

static bool flawed(struct flaw *flaw, size_t at, const char *problem)
{
    *flaw = (struct flaw){problem, at};
    return false;
}

static const char *not_a_name(cof_name_kind kind)
{
    return kind == COF_NAME_SECRET
               ? "no secret can have this name; write 1 to 100 of A-Z a-z 0-9 _ . -, the first one a letter, digit "
                 "or _"
               : "no key can have this name; write 1 to 128 of A-Z a-z 0-9 _ . -, the first one a letter or _";
}

static bool read_bracket(const struct source *source, const struct token *open, cof_name_kind kind,
                         struct cof_slice *ret_name, size_t *at, struct flaw *flaw)
{
    const struct token literal = token_at(source, behind(open));
    const struct token close = token_at(source, behind(&literal));
    if (literal.kind != TOKEN_LITERAL) {
        return flawed(flaw, literal.at, "a name in quotes is missing behind [; " HOW_TO_WRITE);
    }
    if (close.kind != TOKEN_CLOSE) {
        return flawed(flaw, close.at, "a ] is missing; " HOW_TO_WRITE);
    }
    if (!cof_name_valid(kind, unquoted(&literal))) {
        return flawed(flaw, literal.at, not_a_name(kind));
    }
    *ret_name = unquoted(&literal);
    *at = behind(&close);
    return true;
}

static bool read_identifier(const struct source *source, const struct token *dot, cof_name_kind kind,
                            struct cof_slice *ret_name, size_t *at, struct flaw *flaw)
{
    const struct token word = token_at(source, behind(dot));
    if (word.kind != TOKEN_WORD) {
        return flawed(flaw, word.at, "an identifier is missing behind the dot; " HOW_TO_WRITE);
    }
    if (!cof_name_valid(kind, word.bytes)) {
        return flawed(flaw, word.at, not_a_name(kind));
    }
    *ret_name = word.bytes;
    *at = behind(&word);
    return true;
}

/* One part behind SECRETS, at *at: `.identifier` or `['name']`. */
static bool read_part(const struct source *source, cof_name_kind kind, struct cof_slice *ret_name, size_t *at,
                      struct flaw *flaw)
{
    const struct token first = token_at(source, *at);
    if (first.kind == TOKEN_OPEN) {
        return read_bracket(source, &first, kind, ret_name, at, flaw);
    }
    if (first.kind == TOKEN_DOT) {
        return read_identifier(source, &first, kind, ret_name, at, flaw);
    }
    return flawed(flaw, first.at,
                  kind == COF_NAME_SECRET ? "the secret's name is missing; " HOW_TO_WRITE
                                          : "the key is missing; " HOW_TO_WRITE);
}

/* Reads what follows SECRETS at *at. */
static bool read_reference(const struct source *source, struct cof_operand *operand, size_t *at, struct flaw *flaw)
{
    operand->kind = COF_OPERAND_REFERENCE;
    if (!read_part(source, COF_NAME_SECRET, &operand->name, at, flaw) ||
        !read_part(source, COF_NAME_KEY, &operand->key, at, flaw)) {
        return false;
    }
    const struct token next = token_at(source, *at);
    if (next.kind == TOKEN_DOT || next.kind == TOKEN_OPEN) {
        return flawed(flaw, next.at, "a reference ends with its key, and has two parts; " HOW_TO_WRITE);
    }
    return true;
}

static bool check_references(const struct source *source, size_t at, struct flaw *flaw)
{
    struct token token;
    while (find_reference(source, at, &token)) {
        struct cof_operand operand;
        at = behind(&token);
        if (!read_reference(source, &operand, &at, flaw)) {
            return false;
        }
    }
    return true;
}

/* --- Operands ------------------------------------------------------------------------------------------------- */

/* Reads an operand of `||` and the `||` behind it; false if there is none or something else follows. */
static bool read_operand(const struct source *source, size_t *at, struct cof_operand *ret_operand)
{
    struct flaw flaw;
    const struct token token = token_at(source, *at);
    struct cof_operand operand = {.kind = COF_OPERAND_NONE, .offset = token.at};
    *at = behind(&token);
    if (is_word(&token, "SECRETS")) {
        if (!read_reference(source, &operand, at, &flaw)) {
            return false;
        }
    } else if (token.kind == TOKEN_LITERAL) {
        operand.kind = COF_OPERAND_LITERAL;
        operand.literal = unquoted(&token);
    } else if (!is_word(&token, "None")) {
        return false;
    }
    const struct token next = token_at(source, *at);
    operand.last = next.kind == TOKEN_END;
    *at = behind(&next);
    *ret_operand = operand;
    return operand.last || next.kind == TOKEN_OR;
}

static bool is_alternatives(const struct source *source)
{
    size_t at = 0;
    struct cof_operand operand;
    while (read_operand(source, &at, &operand)) {
        if (operand.last) {
            return true;
        }
    }
    return false;
}

static struct source inside_of(struct cof_slice template)
{
    return (struct source){cof_slice_of(template.data + OPENING, template.len - OPENING - CLOSING), SIZE_MAX};
}

void cof_operand_scan_init(struct cof_operand_scan *scan, const struct cof_template *template)
{
    *scan = (struct cof_operand_scan){.template = *template};
}

static bool next_reference(const struct source *source, size_t *at, struct cof_operand *ret_operand)
{
    struct flaw flaw;
    struct token token;
    if (!find_reference(source, *at, &token)) {
        return false;
    }
    *ret_operand = (struct cof_operand){.offset = token.at, .last = true, .alone = true};
    *at = behind(&token);
    return read_reference(source, ret_operand, at, &flaw);
}

bool cof_operand_next(struct cof_operand_scan *scan, struct cof_operand *ret_operand)
{
    const struct source source = inside_of(scan->template.text);
    const bool first = scan->at == 0;
    struct cof_operand operand;
    const bool found =
        scan->at < source.text.len && (scan->template.evaluated ? read_operand(&source, &scan->at, &operand)
                                                                : next_reference(&source, &scan->at, &operand));
    if (found) {
        operand.alone = operand.alone || (first && operand.last);
        operand.offset += OPENING;
        *ret_operand = operand;
    }
    return found;
}

/* --- Templates ------------------------------------------------------------------------------------------------ */

/* Where a template ends, and what stands in its way. */
struct extent {
    size_t inside; /* behind `${{` */
    size_t end;    /* at `}}`; the text's length if there is none */
    size_t quote;  /* of a literal without its end; SIZE_MAX: none */
    size_t nested; /* at another `${{` inside; SIZE_MAX: none */
};

static struct extent measure(struct cof_slice text, size_t start)
{
    struct extent extent = {.inside = start + OPENING, .quote = SIZE_MAX, .nested = SIZE_MAX};
    size_t at = extent.inside;
    while (at < text.len && !starts_with(text, at, closing)) {
        const bool quoted = extent.quote == SIZE_MAX && is_quote(text.data[at]);
        const size_t literal = quoted ? literal_length(from(text, at)) : 0;
        if (quoted && literal == 0) {
            extent.quote = at;
        } else if (extent.nested == SIZE_MAX && starts_with(text, at, opening)) {
            extent.nested = at;
        }
        at += literal > 0 ? literal : 1;
    }
    extent.end = at;
    return extent;
}

/* Behind an opening that is never closed quotes mean nothing, for no template says where they belong to. */
static bool holds_reference(struct cof_slice text, const struct extent *extent)
{
    const bool closed = extent->end < text.len;
    const struct source source = {cof_slice_of(text.data, extent->end), closed ? extent->quote : 0};
    struct token token;
    return find_reference(&source, extent->inside, &token);
}

static bool check_shape(struct cof_slice text, size_t start, const struct extent *extent, struct flaw *flaw)
{
    if (extent->end >= text.len) {
        return flawed(flaw, start, "this ${{ has no }}, though a reference follows it; close it with }}");
    }
    if (extent->quote != SIZE_MAX) {
        return flawed(flaw, extent->quote, "this quote is not closed on its line; close it");
    }
    if (extent->nested != SIZE_MAX) {
        return flawed(flaw, extent->nested, "a ${{ stands within another; write }} before it");
    }
    return true;
}

/* Adds the place to a failure. */
static cof_code at_fault(const struct cof_place *place, struct cof_error *err)
{
    cof_ignore(cof_error_fact(err, "offset", "%zu", place->offset));
    cof_ignore(cof_error_fact(err, "line", "%u", place->line));
    return cof_error_fact(err, "column", "%u", place->column);
}

static cof_code refuse(struct cof_template_scan *scan, const struct flaw *flaw, struct cof_error *err)
{
    scan->fault = cof_place_behind(scan->text, scan->at, flaw->at);
    cof_ignore(cof_fail(err, COF_REASON_EXPRESSION_INVALID, "line %u, column %u: %s", scan->fault.line,
                        scan->fault.column, flaw->problem));
    return at_fault(&scan->fault, err);
}

static cof_code refuse_long(struct cof_template_scan *scan, size_t length, struct cof_error *err)
{
    scan->fault = scan->at;
    cof_ignore(cof_fail(err, COF_REASON_EXPRESSION_TOO_LONG,
                        "line %u, column %u: the expression has %zu bytes, at most %d are allowed; make it shorter",
                        scan->fault.line, scan->fault.column, length, COF_EXPRESSION_MAX));
    return at_fault(&scan->fault, err);
}

/* The scan stands at the template, which holds a reference. */
static cof_code read_template(struct cof_template_scan *scan, const struct extent *extent,
                              struct cof_template *ret_template, struct cof_error *err)
{
    const size_t start = scan->at.offset;
    const bool closed = extent->end < scan->text.len;
    const struct cof_slice whole = cof_slice_of(scan->text.data + start, extent->end + CLOSING - start);
    struct flaw flaw;
    if (closed && whole.len > COF_EXPRESSION_MAX) {
        return refuse_long(scan, whole.len, err);
    }
    if (!check_shape(scan->text, start, extent, &flaw)) {
        return refuse(scan, &flaw, err);
    }
    const struct source source = inside_of(whole);
    if (!check_references(&source, 0, &flaw)) {
        flaw.at += extent->inside;
        return refuse(scan, &flaw, err);
    }
    *ret_template = (struct cof_template){whole, scan->at, is_alternatives(&source)};
    return COF_OK;
}

static cof_code take_template(struct cof_template_scan *scan, const struct extent *extent,
                              struct cof_template *ret_template, struct cof_error *err)
{
    const size_t end = extent->end < scan->text.len ? extent->end + CLOSING : scan->text.len;
    const cof_code code = read_template(scan, extent, ret_template, err);
    scan->at = cof_place_behind(scan->text, scan->at, end);
    return code;
}

void cof_template_scan_init(struct cof_template_scan *scan, struct cof_slice text)
{
    *scan = (struct cof_template_scan){.text = text, .at = COF_PLACE_START};
}

static cof_code refuse_text(struct cof_template_scan *scan, struct cof_error *err)
{
    const size_t length = scan->text.len;
    cof_template_scan_init(scan, cof_slice_of(NULL, 0));
    scan->fault = scan->at;
    return cof_fail(err, COF_REASON_TEXT_TOO_LARGE, "the text has %zu bytes, at most %d are allowed; %s", length,
                    COF_TEXT_MAX, cof_reason_next_step(COF_REASON_TEXT_TOO_LARGE));
}

cof_code cof_template_next(struct cof_template_scan *scan, struct cof_template *ret_template, bool *ret_found,
                           struct cof_error *err)
{
    *ret_found = false;
    if (scan->text.len > COF_TEXT_MAX) {
        return refuse_text(scan, err);
    }
    size_t at = find(scan->text, scan->at.offset, opening);
    while (at < scan->text.len) {
        const struct extent extent = measure(scan->text, at);
        if (holds_reference(scan->text, &extent)) {
            scan->at = cof_place_behind(scan->text, scan->at, at);
            TRY(take_template(scan, &extent, ret_template, err));
            *ret_found = true;
            return COF_OK;
        }
        at = extent.end < scan->text.len ? find(scan->text, extent.end + CLOSING, opening) : scan->text.len;
    }
    scan->at.offset = scan->text.len;
    return COF_OK;
}

static bool is_blank(struct cof_slice text)
{
    return skip_space(text, 0) >= text.len;
}

bool cof_template_is_whole(struct cof_slice text, const struct cof_template *template)
{
    assert(template->text.data >= text.data);
    const size_t start = (size_t) (template->text.data - text.data);
    return is_blank(cof_slice_of(text.data, start)) && is_blank(from(text, start + template->text.len));
}

/* What holds no reference is left alone if it is written as one template. */
static bool looks_like_template(struct cof_slice text)
{
    const char *space = " \t\r\n";
    while (text.len > 0 && strchr(space, text.data[0]) != NULL) {
        text = cof_slice_of(text.data + 1, text.len - 1);
    }
    while (text.len > 0 && strchr(space, text.data[text.len - 1]) != NULL) {
        text.len--;
    }
    return text.len >= 5 && memcmp(text.data, "${{", 3) == 0 && memcmp(text.data + text.len - 2, "}}", 2) == 0;
}

cof_code cof_template_read(struct cof_slice text, struct cof_template *ret_template, bool *ret_found,
                           struct cof_error *err)
{
    struct cof_template_scan scan;
    if (text.len > COF_EXPRESSION_MAX) {
        return cof_fail(err, COF_REASON_EXPRESSION_TOO_LONG, "%s",
                        cof_reason_meaning(COF_REASON_EXPRESSION_TOO_LONG));
    }
    cof_template_scan_init(&scan, text);
    TRY(cof_template_next(&scan, ret_template, ret_found, err));
    if (*ret_found ? cof_template_is_whole(text, ret_template) : looks_like_template(text)) {
        return COF_OK;
    }
    return cof_fail(err, COF_REASON_EXPRESSION_INVALID,
                    "this is not one expression and nothing else; write ${{ ... }}, each expression by itself");
}
