#include "common/narrowed.h"

#include "common/attr.h"
#include "common/encode.h"
#include "common/name.h"
#include "common/secret.h"

enum {
    FORMAT = 1,
    HEADER = 1 + 1 + 16 + 16,
    CAVEAT_HEADER = 1 + 2,
    TIME = 8,
};

static const char prefix[] = "cof_n_";
static const char key_info[] = "coffer v1 narrowing\x01"; /* of HKDF, with the number of its only block */

enum { PREFIX = sizeof prefix - 1 };

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code malformed(struct cof_error *err, const char *what)
{
    return cof_fail(err, COF_REASON_TOKEN_MALFORMED, "%s; %s", what,
                    cof_reason_next_step(COF_REASON_TOKEN_MALFORMED));
}

static cof_code unsupported(struct cof_error *err, const char *what, unsigned number)
{
    return cof_fail(err, COF_REASON_TOKEN_UNSUPPORTED,
                    "the narrowed token has %s with the number %u, which this version does not know; %s", what,
                    number, cof_reason_next_step(COF_REASON_TOKEN_UNSUPPORTED));
}

bool cof_narrowed_is(struct cof_slice text)
{
    return cof_slice_starts_with(text, cof_slice_of(prefix, PREFIX));
}

/* From the text to the bytes of the payload, whatever these are. */
static cof_code decode(struct cof_slice text, struct cof_narrowed *narrowed, struct cof_error *err)
{
    char check[COF_TOKEN_CHECK_TEXT];
    if (!cof_narrowed_is(text)) {
        return malformed(err, "this is no narrowed token: it does not begin with cof_n_");
    }
    if (text.len > COF_NARROWED_TEXT_MAX) {
        return malformed(err, "the narrowed token is longer than 2,048 characters");
    }
    if (text.len < PREFIX + COF_TOKEN_CHECK_TEXT) {
        return malformed(err, "the narrowed token is cut: it is too short");
    }
    const size_t covered = text.len - COF_TOKEN_CHECK_TEXT;
    cof_token_check(cof_slice_of(text.data, covered), check);
    if (memcmp(check, text.data + covered, sizeof check) != 0) {
        return malformed(err, "the narrowed token is cut or mistyped: its check does not fit");
    }
    const struct cof_slice body = {text.data + PREFIX, covered - PREFIX};
    narrowed->len = body.len * 3 / 4;
    if (!cof_base64url_decode(body, narrowed->bytes, narrowed->len)) {
        return malformed(err, "the narrowed token holds a character that no such token has");
    }
    return COF_OK;
}

static cof_code read_header(struct cof_narrowed *narrowed, struct cof_error *err)
{
    const uint8_t *bytes = narrowed->bytes;
    if (narrowed->len > 0 && bytes[0] != FORMAT) {
        return unsupported(err, "a format", bytes[0]);
    }
    if (narrowed->len < HEADER + COF_NARROWED_TAG) {
        return malformed(err, "the narrowed token is too short to be one");
    }
    if (bytes[1] != COF_TOKEN_WORKSPACE && bytes[1] != COF_TOKEN_FLEET) {
        return malformed(err, "the narrowed token comes from a token of a kind that cannot be narrowed");
    }
    narrowed->kind = (cof_token_kind) bytes[1];
    memcpy(narrowed->workspace.bytes, bytes + 2, 16);
    memcpy(narrowed->id.bytes, bytes + 18, 16);
    return COF_OK;
}

static bool patterns_valid(const struct cof_caveat *caveat, cof_name_kind kind)
{
    struct cof_slice pattern;
    struct cof_slice before = {NULL, 0};
    size_t at = 0;
    size_t count = 0;
    while (cof_caveat_next_pattern(caveat, &at, &pattern)) {
        if (!cof_pattern_valid(kind, pattern) || (count > 0 && cof_slice_compare(before, pattern) >= 0)) {
            return false;
        }
        before = pattern;
        count++;
    }
    return at == caveat->value.len && count > 0 && count <= COF_CAVEAT_PATTERNS_MAX;
}

static bool run_valid(struct cof_slice text)
{
    return text.len > 0 && text.len <= COF_CAVEAT_RUN_MAX && cof_text_valid(text);
}

static bool value_valid(const struct cof_caveat *caveat)
{
    switch (caveat->kind) {
    case COF_CAVEAT_WORKSPACE:
        return caveat->value.len == sizeof caveat->workspace.bytes;
    case COF_CAVEAT_ENVIRONMENTS:
        return patterns_valid(caveat, COF_NAME_ENVIRONMENT);
    case COF_CAVEAT_NAMES:
        return patterns_valid(caveat, COF_NAME_SECRET);
    case COF_CAVEAT_WORKFLOW:
    case COF_CAVEAT_RUN:
        return run_valid(caveat->value);
    case COF_CAVEAT_EXPIRY:
        return caveat->value.len == TIME;
    }
    return false;
}

static struct cof_slice caveats_of(const struct cof_narrowed *narrowed)
{
    return cof_slice_of(narrowed->bytes + HEADER, narrowed->len - HEADER - COF_NARROWED_TAG);
}

/* The caveat that begins there, its value not looked at; false if there is no whole one. */
static bool take_caveat(struct cof_slice caveats, size_t *at, struct cof_caveat *ret_caveat)
{
    const size_t rest = caveats.len - *at;
    if (rest < CAVEAT_HEADER) {
        return false;
    }
    const uint8_t *bytes = caveats.data + *at;
    const size_t len = cof_get_u16(bytes + 1);
    if (rest - CAVEAT_HEADER < len) {
        return false;
    }
    *ret_caveat = (struct cof_caveat){.kind = (cof_caveat_kind) bytes[0],
                                      .bytes = cof_slice_of(bytes, CAVEAT_HEADER + len),
                                      .value = cof_slice_of(bytes + CAVEAT_HEADER, len)};
    *at += CAVEAT_HEADER + len;
    return true;
}

static cof_code check_caveats(const struct cof_narrowed *narrowed, struct cof_error *err)
{
    const struct cof_slice caveats = caveats_of(narrowed);
    struct cof_caveat caveat;
    size_t at = 0;
    size_t count = 0;
    while (take_caveat(caveats, &at, &caveat)) {
        if (caveat.kind < COF_CAVEAT_WORKSPACE || caveat.kind > COF_CAVEAT_EXPIRY) {
            return unsupported(err, "a caveat", caveat.kind);
        }
        if (!value_valid(&caveat)) {
            return malformed(err, "a caveat of the narrowed token is not written as it must be");
        }
        count++;
    }
    if (at != caveats.len || count == 0 || count > COF_CAVEATS_MAX) {
        return malformed(err, "the narrowed token does not hold 1 to 32 whole caveats");
    }
    return COF_OK;
}

static void narrowed_done(struct cof_narrowed *narrowed)
{
    cof_wipe(narrowed, sizeof *narrowed);
}

cof_code cof_narrowed_parse(struct cof_slice text, struct cof_narrowed *ret_narrowed, struct cof_error *err)
{
    AUTO(narrowed_done) struct cof_narrowed narrowed = {.len = 0};
    TRY(decode(text, &narrowed, err));
    TRY(read_header(&narrowed, err));
    TRY(check_caveats(&narrowed, err));
    *ret_narrowed = narrowed;
    return COF_OK;
}

bool cof_narrowed_next(const struct cof_narrowed *narrowed, size_t *at, struct cof_caveat *ret_caveat)
{
    if (!take_caveat(caveats_of(narrowed), at, ret_caveat)) {
        return false;
    }
    if (ret_caveat->kind == COF_CAVEAT_WORKSPACE) {
        memcpy(ret_caveat->workspace.bytes, ret_caveat->value.data, sizeof ret_caveat->workspace.bytes);
    } else if (ret_caveat->kind == COF_CAVEAT_EXPIRY) {
        ret_caveat->expire_ms = cof_get_u64(ret_caveat->value.data);
    }
    return true;
}

static struct cof_uuid home_of(const struct cof_narrowed *narrowed)
{
    struct cof_caveat caveat;
    size_t at = 0;
    while (cof_narrowed_next(narrowed, &at, &caveat)) {
        if (caveat.kind == COF_CAVEAT_WORKSPACE) {
            return caveat.workspace;
        }
    }
    return narrowed->workspace;
}

cof_code cof_narrowed_or_whole(struct cof_slice text, struct cof_token *ret_token, struct cof_error *err)
{
    AUTO(narrowed_done) struct cof_narrowed narrowed = {.len = 0};
    if (!cof_narrowed_is(text)) {
        return cof_token_parse(text, ret_token, err);
    }
    TRY(cof_narrowed_parse(text, &narrowed, err));
    *ret_token = (struct cof_token){
        .kind = narrowed.kind,
        .workspace = narrowed.workspace,
        .id = narrowed.id,
        .home = home_of(&narrowed),
        .narrowed = text,
    };
    return COF_OK;
}

bool cof_caveat_next_pattern(const struct cof_caveat *caveat, size_t *at, struct cof_slice *ret_pattern)
{
    const size_t rest = caveat->value.len - *at;
    const uint8_t *bytes = caveat->value.data + *at;
    if (rest == 0 || rest - 1 < bytes[0]) {
        return false;
    }
    *ret_pattern = cof_slice_of(bytes + 1, bytes[0]);
    *at += 1 + (size_t) bytes[0];
    return true;
}

/* --- Tags ----------------------------------------------------------------------------------------------------- */

struct cof_slice cof_narrowed_tag(const struct cof_narrowed *narrowed)
{
    return cof_slice_of(narrowed->bytes + narrowed->len - COF_NARROWED_TAG, COF_NARROWED_TAG);
}

/* One step of the chain; `tag` is its key before and its end afterwards. */
static cof_code chain(cof_hmac *hmac, struct cof_slice bytes, uint8_t tag[COF_NARROWED_TAG], struct cof_error *err)
{
    uint8_t next[COF_NARROWED_TAG];
    const cof_code code = hmac(tag, bytes, next, err);
    memcpy(tag, next, sizeof next);
    cof_wipe(next, sizeof next);
    return code;
}

cof_code cof_narrowed_compute(const struct cof_narrowed *narrowed, const uint8_t key[COF_NARROWED_KEY],
                              cof_hmac *hmac, uint8_t tag[COF_NARROWED_TAG], struct cof_error *err)
{
    struct cof_caveat caveat;
    size_t at = 0;
    TRY(hmac(key, cof_slice_of(narrowed->bytes, HEADER), tag, err));
    while (cof_narrowed_next(narrowed, &at, &caveat)) {
        TRY(chain(hmac, caveat.bytes, tag, err));
    }
    return COF_OK;
}

/* --- Narrowing ------------------------------------------------------------------------------------------------ */

/* A token under way: its payload without the tag, and the tag so far. */
struct making {
    struct cof_narrowed token;
    uint8_t tag[COF_NARROWED_TAG];
    size_t caveat_count;
    cof_hmac *hmac;
    struct cof_error *err;
};

static void making_done(struct making *making)
{
    cof_wipe(making, sizeof *making);
}

/* HKDF-SHA-256 without a salt, whose output is one block, and then the first step of the chain. */
static cof_code begin_chain(struct making *making, const struct cof_token *token)
{
    static const uint8_t no_salt[COF_NARROWED_KEY];
    TRY(making->hmac(no_salt, cof_slice_of(token->secret, sizeof token->secret), making->tag, making->err));
    TRY(chain(making->hmac, cof_slice_of(key_info, sizeof key_info - 1), making->tag, making->err));
    return chain(making->hmac, cof_slice_of(making->token.bytes, HEADER), making->tag, making->err);
}

static cof_code begin_whole(struct making *making, const struct cof_token *token)
{
    uint8_t *bytes = making->token.bytes;
    if (token->kind == COF_TOKEN_SYSTEM) {
        return cof_fail_field(making->err, COF_REASON_FIELD_INVALID, "token",
                              "a system token cannot be narrowed, for it can resolve nothing; narrow a token of a "
                              "workspace or a fleet");
    }
    bytes[0] = FORMAT;
    bytes[1] = (uint8_t) token->kind;
    memcpy(bytes + 2, token->workspace.bytes, 16);
    memcpy(bytes + 18, token->id.bytes, 16);
    making->token.len = HEADER;
    return begin_chain(making, token);
}

static cof_code begin_narrowed(struct making *making, struct cof_slice text)
{
    struct cof_caveat caveat;
    size_t at = 0;
    TRY(cof_narrowed_parse(text, &making->token, making->err));
    while (cof_narrowed_next(&making->token, &at, &caveat)) {
        making->caveat_count++;
    }
    memcpy(making->tag, cof_narrowed_tag(&making->token).data, sizeof making->tag);
    making->token.len -= COF_NARROWED_TAG;
    return COF_OK;
}

static cof_code begin(struct making *making, struct cof_slice text)
{
    struct cof_token token;
    if (cof_narrowed_is(text)) {
        return begin_narrowed(making, text);
    }
    TRY(cof_token_parse(text, &token, making->err));
    const cof_code code = begin_whole(making, &token);
    cof_wipe(&token, sizeof token);
    return code;
}

static cof_code too_long(struct cof_error *err)
{
    return cof_fail(
        err, COF_REASON_LIMIT_EXCEEDED,
        "the narrowed token would have more than 2,048 characters or 32 caveats; use fewer or shorter patterns");
}

/* Adds `len` bytes of a caveat's value to what begins at `from`; false if there is no room. */
static bool put(struct making *making, const void *bytes, size_t len)
{
    struct cof_narrowed *token = &making->token;
    if (sizeof token->bytes - COF_NARROWED_TAG - token->len < len) {
        return false;
    }
    memcpy(token->bytes + token->len, bytes, len);
    token->len += len;
    return true;
}

static bool put_caveat_header(struct making *making, cof_caveat_kind kind)
{
    const uint8_t header[CAVEAT_HEADER] = {(uint8_t) kind, 0, 0};
    return ++making->caveat_count <= COF_CAVEATS_MAX && put(making, header, sizeof header);
}

/* The caveat that began at `from` is whole: writes its length and takes it into the tag. */
static cof_code end_caveat(struct making *making, size_t from)
{
    uint8_t *bytes = making->token.bytes + from;
    const size_t len = making->token.len - from;
    cof_put_u16(bytes + 1, (uint16_t) (len - CAVEAT_HEADER));
    return chain(making->hmac, cof_slice_of(bytes, len), making->tag, making->err);
}

static cof_code add_value(struct making *making, cof_caveat_kind kind, struct cof_slice value)
{
    const size_t from = making->token.len;
    if (!put_caveat_header(making, kind) || !put(making, value.data, value.len)) {
        return too_long(making->err);
    }
    return end_caveat(making, from);
}

struct pattern_wish {
    cof_caveat_kind caveat;
    cof_name_kind rule;
    const char *field;
    const struct cof_slice *patterns;
    size_t count;
};

static cof_code check_patterns(const struct pattern_wish *wish, struct cof_error *err)
{
    if (wish->count > COF_CAVEAT_PATTERNS_MAX) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, wish->field,
                              "%s has %zu patterns; at most %d are allowed", wish->field, wish->count,
                              COF_CAVEAT_PATTERNS_MAX);
    }
    for (size_t i = 0; i < wish->count; i++) {
        if (!cof_pattern_valid(wish->rule, wish->patterns[i])) {
            return cof_fail_field(err, COF_REASON_FIELD_INVALID, wish->field,
                                  "%s[%zu] is neither a name nor the beginning of a name followed by *",
                                  wish->field, i);
        }
    }
    return COF_OK;
}

/* The first pattern behind `before` in the order of their bytes; NULL if there is none. They are few, and so they are
 * sorted, each once, without room for a copy of the list. */
static const struct cof_slice *pattern_behind(const struct pattern_wish *wish, const struct cof_slice *before)
{
    const struct cof_slice *found = NULL;
    for (size_t i = 0; i < wish->count; i++) {
        const struct cof_slice *pattern = &wish->patterns[i];
        const bool behind = before == NULL || cof_slice_compare(*before, *pattern) < 0;
        found = behind && (found == NULL || cof_slice_compare(*pattern, *found) < 0) ? pattern : found;
    }
    return found;
}

static cof_code add_patterns(struct making *making, const struct pattern_wish *wish)
{
    const size_t from = making->token.len;
    const struct cof_slice *pattern = NULL;
    if (wish->count == 0) {
        return COF_OK;
    }
    TRY(check_patterns(wish, making->err));
    bool room = put_caveat_header(making, wish->caveat);
    while (room && (pattern = pattern_behind(wish, pattern)) != NULL) {
        const uint8_t length = (uint8_t) pattern->len;
        room = put(making, &length, 1) && put(making, pattern->data, pattern->len);
    }
    return room ? end_caveat(making, from) : too_long(making->err);
}

static cof_code add_run(struct making *making, cof_caveat_kind kind, const char *field, struct cof_slice text)
{
    if (text.len == 0) {
        return COF_OK;
    }
    if (!run_valid(text)) {
        return cof_fail_field(making->err, COF_REASON_FIELD_INVALID, field,
                              "%s is not 1 to %d bytes of UTF-8 without a NUL", field, COF_CAVEAT_RUN_MAX);
    }
    return add_value(making, kind, text);
}

/* In the order of the format's table, so that everybody makes the same bytes. */
static cof_code add_caveats(struct making *making, const struct cof_narrowing *narrowing)
{
    uint8_t time[TIME];
    const struct pattern_wish environments = {COF_CAVEAT_ENVIRONMENTS, COF_NAME_ENVIRONMENT, "environments",
                                              narrowing->environments, narrowing->environment_count};
    const struct pattern_wish names = {COF_CAVEAT_NAMES, COF_NAME_SECRET, "names", narrowing->names,
                                       narrowing->name_count};
    const size_t before = making->caveat_count;
    if (narrowing->workspace != NULL) {
        TRY(add_value(making, COF_CAVEAT_WORKSPACE, cof_slice_of(narrowing->workspace->bytes, 16)));
    }
    TRY(add_patterns(making, &environments));
    TRY(add_patterns(making, &names));
    TRY(add_run(making, COF_CAVEAT_WORKFLOW, "workflow_id", narrowing->workflow_id));
    TRY(add_run(making, COF_CAVEAT_RUN, "run_id", narrowing->run_id));
    if (narrowing->expires) {
        cof_put_u64(time, narrowing->expire_ms);
        TRY(add_value(making, COF_CAVEAT_EXPIRY, cof_slice_of(time, sizeof time)));
    }
    if (making->caveat_count == before) {
        return cof_fail_field(making->err, COF_REASON_FIELD_REQUIRED, "narrowing",
                              "the token would not be narrowed by anything; say what it is narrowed to");
    }
    return COF_OK;
}

static void write_text(const struct cof_narrowed *token, char text[COF_NARROWED_TEXT])
{
    memcpy(text, prefix, PREFIX);
    cof_base64url_encode(cof_slice_of(token->bytes, token->len), text + PREFIX);
    const size_t covered = strlen(text);
    cof_token_check(cof_slice_of(text, covered), text + covered);
    text[covered + COF_TOKEN_CHECK_TEXT] = '\0';
}

cof_code cof_narrow(struct cof_slice token, const struct cof_narrowing *narrowing, cof_hmac *hmac,
                    char text[COF_NARROWED_TEXT], struct cof_error *err)
{
    AUTO(making_done) struct making making = {.hmac = hmac, .err = err};
    TRY(begin(&making, token));
    TRY(add_caveats(&making, narrowing));
    memcpy(making.token.bytes + making.token.len, making.tag, sizeof making.tag);
    making.token.len += sizeof making.tag;
    write_text(&making.token, text);
    return COF_OK;
}
