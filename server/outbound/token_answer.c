#include "server/outbound/token_answer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "common/attr.h"
#include "common/encode.h"
#include "common/json.h"

enum {
    MICROSECONDS = 1000000,
    NUMBER_TEXT = 32,
    DATE_TEXT = 64,
    QUOTED_LEAST = 4, /* shorter credentials are found in any text */
};

/* --- What the answer has in it -------------------------------------------------------------------------------- */

struct fields {
    struct cof_slice access_token;
    struct cof_slice refresh_token;
    struct cof_slice scope;
    struct cof_slice life;
    struct cof_slice refresh_life;
    struct cof_slice error;
    struct cof_slice description;
    bool has_error;
    bool unusable; /* an access token that is no token */
    bool whole;    /* the end of the object was seen */
};

struct reader {
    const struct token_question *question;
    struct cof_arena *arena;
    struct fields *fields;
    bool exhausted;
};

/* RFC 6749, appendix A: VSCHAR. Anything else would end up in a header of somebody's request. */
static bool is_token(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x20 || text.data[i] > 0x7e) {
            return false;
        }
    }
    return text.len > 0 && text.len <= TOKEN_TEXT_MAX;
}

static bool named(struct cof_slice name, const char *text)
{
    return cof_slice_equal(name, cof_slice_text(text));
}

/* No RFC has one; these are what providers send. */
static bool is_refresh_life(struct cof_slice name)
{
    return named(name, "refresh_token_expires_in") || named(name, "refresh_expires_in") ||
           named(name, "x_refresh_token_expires_in");
}

static void take_token_field(struct fields *fields, struct cof_slice name, struct cof_slice value)
{
    if (named(name, "access_token")) {
        fields->unusable = !is_token(value);
        fields->access_token = fields->unusable ? (struct cof_slice){NULL, 0} : value;
    } else if (named(name, "refresh_token")) {
        fields->refresh_token = is_token(value) ? value : (struct cof_slice){NULL, 0};
    } else if (named(name, "scope")) {
        fields->scope = is_token(value) ? value : (struct cof_slice){NULL, 0};
    } else if (named(name, "expires_in")) {
        fields->life = value;
    } else if (is_refresh_life(name)) {
        fields->refresh_life = value;
    }
}

static void take_error_field(struct fields *fields, struct cof_slice name, struct cof_slice value)
{
    if (named(name, "error") && value.len > 0) {
        fields->error = value;
        fields->has_error = true;
    } else if (named(name, "error_description")) {
        fields->description = value;
    }
}

/* --- JSON ----------------------------------------------------------------------------------------------------- */

/* Where the reader is: in the answer's own members (1), in those of the member with the tokens (2), or elsewhere. */
struct json_reader {
    struct reader *reader;
    size_t depth;
    bool inside; /* the member with the tokens */
    struct cof_slice key;
};

static struct cof_slice decoded(struct reader *reader, struct cof_slice raw)
{
    size_t length = 0;
    uint8_t *to = cof_arena_alloc(reader->arena, raw.len);
    if (to == NULL) {
        reader->exhausted = true;
        return (struct cof_slice){NULL, 0};
    }
    return cof_json_decode(raw, to, &length) ? cof_slice_of(to, length) : (struct cof_slice){NULL, 0};
}

/* The depth at which tokens are looked for. */
static bool in_place(const struct json_reader *json, size_t below)
{
    const bool member = json->reader->question->member != NULL;
    return json->depth == (member ? 2U : 1U) + below && (!member || json->inside);
}

static void take_scalar(struct json_reader *json, const struct cof_json_event *event)
{
    struct reader *reader = json->reader;
    const bool text = event->kind == COF_JSON_STRING;
    const struct cof_slice value = text ? decoded(reader, event->raw) : event->raw;
    if (!text && (named(value, "null") || named(value, "true") || named(value, "false"))) {
        return;
    }
    if (json->depth == 1) {
        take_error_field(reader->fields, json->key, value);
    }
    if (in_place(json, 0) && (text || named(json->key, "expires_in") || is_refresh_life(json->key))) {
        take_token_field(reader->fields, json->key, value);
    } else if (in_place(json, 0) && named(json->key, "access_token")) {
        reader->fields->unusable = true; /* a token is a text */
    }
}

/* Scopes in an array: one text with spaces. What can be no scope is left out. */
static void take_in_array(struct json_reader *json, const struct cof_json_event *event)
{
    struct reader *reader = json->reader;
    struct cof_slice *scope = &reader->fields->scope;
    if (event->kind != COF_JSON_STRING || !in_place(json, 1) || !named(json->key, "scope")) {
        return;
    }
    const struct cof_slice one = decoded(reader, event->raw);
    if (!is_token(one) || scope->len + 1 + one.len > TOKEN_TEXT_MAX) {
        return;
    }
    uint8_t *joined = cof_arena_alloc(reader->arena, scope->len + 1 + one.len);
    if (joined == NULL) {
        reader->exhausted = true;
        return;
    }
    size_t length = 0;
    if (scope->len > 0) {
        memcpy(joined, scope->data, scope->len);
        length = scope->len;
        joined[length++] = ' ';
    }
    memcpy(joined + length, one.data, one.len);
    *scope = cof_slice_of(joined, length + one.len);
}

static void open_container(struct json_reader *json, cof_json_kind kind)
{
    const char *member = json->reader->question->member;
    if (json->depth == 1 && kind == COF_JSON_OBJECT) {
        json->inside = member != NULL && named(json->key, member);
        json->reader->fields->has_error = json->reader->fields->has_error || named(json->key, "error");
    }
    json->depth++;
}

/* False at the end of the object. */
static bool take_event(struct json_reader *json, const struct cof_json_event *event, bool *in_array)
{
    switch (event->kind) {
    case COF_JSON_OBJECT:
    case COF_JSON_ARRAY:
        *in_array = event->kind == COF_JSON_ARRAY;
        open_container(json, event->kind);
        return true;
    case COF_JSON_OBJECT_END:
    case COF_JSON_ARRAY_END:
        *in_array = false;
        json->depth--;
        json->inside = json->inside && json->depth > 1;
        return json->depth > 0;
    case COF_JSON_KEY:
        json->key = decoded(json->reader, event->raw);
        return true;
    case COF_JSON_STRING:
    case COF_JSON_WORD:
        if (*in_array) {
            take_in_array(json, event);
        } else {
            take_scalar(json, event);
        }
        return true;
    case COF_JSON_END:
        break;
    }
    return false;
}

/* What arrived whole counts, also where the rest is missing or no JSON: nothing that was issued gets lost. */
static void read_json(struct reader *reader, struct cof_slice body)
{
    struct json_reader json = {.reader = reader};
    struct cof_json_scan scan;
    struct cof_json_event event;
    struct cof_error ignored;
    bool in_array = false;
    cof_json_scan_init(&scan, body);
    while (cof_json_next(&scan, &event, &ignored) == COF_OK) {
        if (!take_event(&json, &event, &in_array)) {
            reader->fields->whole = true;
            return;
        }
    }
}

/* --- Forms (as GitHub answers by default) --------------------------------------------------------------------- */

/* 16: it is none. */
static unsigned hex_digit(uint8_t digit)
{
    const unsigned lower = digit | 0x20U;
    if (lower >= 'a' && lower <= 'f') {
        return lower - 'a' + 10;
    }
    return digit >= '0' && digit <= '9' ? (unsigned) digit - '0' : 16;
}

static bool is_escape(struct cof_slice text, size_t at)
{
    return text.data[at] == '%' && at + 2 < text.len && hex_digit(text.data[at + 1]) < 16 &&
           hex_digit(text.data[at + 2]) < 16;
}

static struct cof_slice form_decoded(struct reader *reader, struct cof_slice text)
{
    uint8_t *to = cof_arena_alloc(reader->arena, text.len);
    size_t length = 0;
    if (to == NULL) {
        reader->exhausted = true;
        return (struct cof_slice){NULL, 0};
    }
    for (size_t i = 0; i < text.len; i++) {
        if (is_escape(text, i)) {
            to[length++] = (uint8_t) (hex_digit(text.data[i + 1]) << 4 | hex_digit(text.data[i + 2]));
            i += 2;
        } else {
            to[length++] = text.data[i] == '+' ? ' ' : text.data[i];
        }
    }
    return cof_slice_of(to, length);
}

static size_t find(struct cof_slice text, size_t from, uint8_t byte)
{
    const uint8_t *found = from < text.len ? memchr(text.data + from, byte, text.len - from) : NULL;
    return found == NULL ? text.len : (size_t) (found - text.data);
}

static void read_form(struct reader *reader, struct cof_slice body)
{
    for (size_t at = 0; at < body.len;) {
        const size_t end = find(body, at, '&');
        const struct cof_slice pair = {body.data + at, end - at};
        const size_t equals = find(pair, 0, '=');
        if (equals < pair.len) {
            const struct cof_slice name = {pair.data, equals};
            const struct cof_slice value =
                form_decoded(reader, (struct cof_slice){pair.data + equals + 1, pair.len - equals - 1});
            take_error_field(reader->fields, name, value);
            take_token_field(reader->fields, name, value);
        }
        at = end + 1;
    }
    reader->fields->whole = true;
}

/* The last value of a form that was cut may be a part of one. */
static struct cof_slice without_last_pair(struct cof_slice body)
{
    size_t length = body.len;
    while (length > 0 && body.data[length - 1] != '&') {
        length--;
    }
    return (struct cof_slice){body.data, length};
}

static struct cof_slice without_space(struct cof_slice text)
{
    static const uint8_t mark[] = {0xef, 0xbb, 0xbf}; /* of UTF-8, which some send */
    if (cof_slice_starts_with(text, cof_slice_of(mark, sizeof mark))) {
        text = cof_slice_of(text.data + sizeof mark, text.len - sizeof mark);
    }
    while (text.len > 0 && strchr(" \t\r\n", text.data[0]) != NULL && text.data[0] != '\0') {
        text = cof_slice_of(text.data + 1, text.len - 1);
    }
    return text;
}

/* By what it looks like: content types are wrong too often. */
static void read_body(struct reader *reader, const struct token_reply *reply)
{
    const struct cof_slice body = without_space(reply->body);
    if (body.len == 0 || body.data[0] == '<' || body.data[0] == '[') {
        return;
    }
    if (body.data[0] == '{') {
        read_json(reader, body);
        return;
    }
    const bool cut = reply->end != TOKEN_END_WHOLE;
    read_form(reader, cut ? without_last_pair(body) : body);
    reader->fields->whole = !cut;
}

/* --- Numbers and dates ---------------------------------------------------------------------------------------- */

/* Seconds, also as a text or with a fraction; 0 if it is none, or none that can be. */
static int64_t seconds_of(struct cof_slice text, int64_t most)
{
    char copy[NUMBER_TEXT];
    char *end;
    if (text.len == 0 || text.len >= sizeof copy) {
        return 0;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (strspn(copy, "0123456789.eE+-") != text.len) {
        return 0;
    }
    const double value = strtod(copy, &end);
    if (*end != '\0' || !isfinite(value) || value < 1) {
        return 0;
    }
    return value > (double) most ? most : (int64_t) value;
}

static int64_t date_of(const char *text)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    for (size_t i = 0; i < COF_COUNT(forms); i++) {
        struct tm date = {0};
        const char *end = strptime(text, forms[i], &date);
        if (end != NULL && *end == '\0') {
            return (int64_t) timegm(&date);
        }
    }
    return 0;
}

int64_t token_retry_after(struct cof_slice header, int64_t now_us)
{
    char copy[DATE_TEXT];
    const int64_t seconds = seconds_of(header, TOKEN_RETRY_MOST_S);
    if (seconds > 0 || header.len == 0 || header.len >= sizeof copy) {
        return seconds;
    }
    memcpy(copy, header.data, header.len);
    copy[header.len] = '\0';
    const int64_t wait = date_of(copy) - now_us / MICROSECONDS;
    if (wait <= 0) {
        return 0;
    }
    return wait > TOKEN_RETRY_MOST_S ? TOKEN_RETRY_MOST_S : wait;
}

/* --- What may be quoted --------------------------------------------------------------------------------------- */

static void quote_code(struct cof_slice code, char ret_code[TOKEN_CODE_MAX + 1])
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    ret_code[0] = '\0';
    if (code.len > TOKEN_CODE_MAX) {
        return;
    }
    for (size_t i = 0; i < code.len; i++) {
        if (code.data[i] == '\0' || strchr(allowed, code.data[i]) == NULL) {
            return;
        }
    }
    if (code.len > 0) {
        memcpy(ret_code, code.data, code.len);
    }
    ret_code[code.len] = '\0';
}

static bool contains(struct cof_slice text, struct cof_slice part)
{
    return part.len >= QUOTED_LEAST && part.len <= text.len &&
           memmem(text.data, text.len, part.data, part.len) != NULL;
}

static void quote_description(const struct token_question *question, struct cof_slice text,
                              char ret_text[TOKEN_DESCRIPTION_MAX + 1])
{
    const size_t length = text.len < TOKEN_DESCRIPTION_MAX ? text.len : TOKEN_DESCRIPTION_MAX;
    ret_text[0] = '\0';
    for (size_t i = 0; i < question->sent_count; i++) {
        if (contains(text, question->sent[i])) {
            return;
        }
    }
    for (size_t i = 0; i < length; i++) {
        ret_text[i] = text.data[i] >= 0x20 && text.data[i] <= 0x7e ? (char) text.data[i] : '?';
    }
    ret_text[length] = '\0';
}

/* --- What it means -------------------------------------------------------------------------------------------- */

static bool can_be_spent(const struct token_question *question)
{
    return question->grant != TOKEN_GRANT_OWN;
}

static void mean(struct token_found *found, token_verdict verdict, const char *reason)
{
    found->verdict = verdict;
    found->reason = reason;
}

static bool known_code(const char *code, token_verdict *ret_verdict)
{
    static const struct {
        const char *code;
        token_verdict verdict;
    } codes[] = {
#define CODE(text, verdict) {text, TOKEN_##verdict},
#include "server/outbound/token_code.def"
#undef CODE
    };
    for (size_t i = 0; i < COF_COUNT(codes); i++) {
        if (strcmp(codes[i].code, code) == 0) {
            *ret_verdict = codes[i].verdict;
            return true;
        }
    }
    return false;
}

/* False: the answer has no code that says what it means. */
static bool mean_by_code(const struct token_question *question, int status, struct token_found *found)
{
    token_verdict verdict;
    if (strcmp(found->code, "invalid_request") == 0 && status < 500) {
        /* One that was well-formed enough to work before: what is invalid about it is the token. */
        mean(found, can_be_spent(question) ? TOKEN_REFUSED : TOKEN_MISCONFIGURED,
             "the provider refuses the request");
        return true;
    }
    if (!known_code(found->code, &verdict)) {
        return false;
    }
    static const char *const reasons[] = {
        [TOKEN_REFUSED] = "the provider refuses the grant",
        [TOKEN_MISCONFIGURED] = "the provider refuses the client or what it asks for",
        [TOKEN_UNAVAILABLE] = "the provider cannot answer now",
    };
    mean(found, verdict, reasons[verdict]);
    found->may_be_spent = verdict == TOKEN_UNAVAILABLE && status >= 500 && status != 503 && can_be_spent(question);
    return true;
}

static void mean_by_refusal(int status, struct token_found *found)
{
    switch (status) {
    case 401:
        mean(found, TOKEN_MISCONFIGURED, "the provider does not accept the client's credentials");
        return;
    case 404:
    case 405:
    case 410:
    case 411:
    case 413:
    case 414:
    case 415:
    case 431:
        mean(found, TOKEN_MISCONFIGURED, "the address is not that of a token endpoint");
        return;
    default:
        mean(found, TOKEN_UNAVAILABLE, "the provider refuses without saying why");
    }
}

static void mean_by_status(const struct token_question *question, int status, struct token_found *found)
{
    if (status >= 300 && status < 400) {
        mean(found, TOKEN_MISCONFIGURED,
             "the token endpoint redirects; configure the address that it has moved to");
    } else if (status == 408 || status == 425 || status == 429) {
        mean(found, TOKEN_UNAVAILABLE, "the provider asks to be called less often");
    } else if (status >= 400 && status < 500) {
        mean_by_refusal(status, found);
    } else {
        mean(found, TOKEN_UNAVAILABLE, "the provider has failed");
        found->may_be_spent = status != 503 && can_be_spent(question);
    }
}

static void mean_no_tokens(const struct token_question *question, const struct token_reply *reply,
                           const struct fields *fields, struct token_found *found)
{
    const char *reason = "the answer is that of no token endpoint";
    if (fields->unusable) {
        reason = "the access token in the answer cannot be one";
    } else if (reply->end != TOKEN_END_WHOLE) {
        reason = reply->end == TOKEN_END_CUT ? "the answer was cut off" : "the answer is too large";
    } else if (reply->body.len == 0) {
        reason = "the answer is empty";
    }
    mean(found, TOKEN_UNAVAILABLE, reason);
    found->may_be_spent = can_be_spent(question);
}

static void grant(const struct token_question *question, const struct fields *fields, struct token_found *found)
{
    mean(found, TOKEN_GRANTED, "tokens were issued");
    found->access_token = fields->access_token;
    found->refresh_token = fields->refresh_token;
    found->scope = fields->scope;
    found->life_s = seconds_of(fields->life, TOKEN_LIFE_MOST_S);
    found->refresh_life_s = seconds_of(fields->refresh_life, TOKEN_LIFE_MOST_S);
    found->refresh_forever = named(fields->refresh_life, "0");
    /* The next refresh token may have stood in what is missing. */
    found->may_be_spent = !fields->whole && fields->refresh_token.len == 0 && can_be_spent(question);
}

static void mean_answer(const struct token_question *question, const struct token_reply *reply,
                        const struct fields *fields, struct token_found *found)
{
    const bool success = reply->status >= 200 && reply->status < 300;
    if (success && fields->access_token.len > 0) {
        grant(question, fields, found);
        return;
    }
    quote_code(fields->error, found->code);
    quote_description(question, fields->description, found->description);
    if (mean_by_code(question, reply->status, found)) {
        return;
    }
    if (success && fields->has_error) {
        mean(found, TOKEN_UNAVAILABLE, "the provider refuses without saying why");
    } else if (success) {
        mean_no_tokens(question, reply, fields, found);
    } else {
        mean_by_status(question, reply->status, found);
    }
}

cof_code token_answer_read(const struct token_question *question, const struct token_reply *reply,
                           struct cof_arena *arena, struct token_found *ret_found, struct cof_error *err)
{
    struct fields fields = {.whole = false};
    struct reader reader = {question, arena, &fields, false};
    *ret_found = (struct token_found){.verdict = TOKEN_UNAVAILABLE};
    if (reply->end == TOKEN_END_NOT_SENT) {
        mean(ret_found, TOKEN_UNAVAILABLE, "the provider cannot be reached");
        return COF_OK;
    }
    if (reply->end == TOKEN_END_LOST) {
        mean(ret_found, TOKEN_UNAVAILABLE, "the provider did not answer");
        ret_found->may_be_spent = can_be_spent(question);
        return COF_OK;
    }
    read_body(&reader, reply);
    if (reader.exhausted) {
        return cof_arena_exhausted(err);
    }
    mean_answer(question, reply, &fields, ret_found);
    if (ret_found->verdict != TOKEN_GRANTED) {
        ret_found->retry_after_s = token_retry_after(reply->retry_after, reply->now_us);
    }
    return COF_OK;
}
