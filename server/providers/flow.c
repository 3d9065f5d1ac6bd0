#include "server/providers/flow.h"

#include <string.h>

#include "common/attr.h"
#include "common/encode.h"
#include "common/name.h"

enum { STATE_FORMAT = 1, STATE_BYTES = 1 + 16 + FLOW_STATE_RANDOM };

_Static_assert(COF_BASE64URL_SIZE(STATE_BYTES) == FLOW_STATE_TEXT, "FLOW_STATE_TEXT is its size as text");

/* --- State ---------------------------------------------------------------------------------------------------- */

void flow_state_make(const struct cof_uuid *workspace, const uint8_t random[FLOW_STATE_RANDOM],
                     char text[FLOW_STATE_TEXT])
{
    uint8_t bytes[STATE_BYTES] = {STATE_FORMAT};
    memcpy(bytes + 1, workspace->bytes, sizeof workspace->bytes);
    memcpy(bytes + 1 + sizeof workspace->bytes, random, FLOW_STATE_RANDOM);
    cof_base64url_encode(cof_slice_of(bytes, sizeof bytes), text);
}

bool flow_state_read(struct cof_slice text, struct cof_uuid *ret_workspace, uint8_t ret_random[FLOW_STATE_RANDOM])
{
    uint8_t bytes[STATE_BYTES];
    if (text.len != FLOW_STATE_TEXT - 1 || !cof_base64url_decode(text, bytes, sizeof bytes) ||
        bytes[0] != STATE_FORMAT) {
        return false;
    }
    memcpy(ret_workspace->bytes, bytes + 1, sizeof ret_workspace->bytes);
    memcpy(ret_random, bytes + 1 + sizeof ret_workspace->bytes, FLOW_STATE_RANDOM);
    return true;
}

/* --- Where they come back to ------------------------------------------------------------------------------------ */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* http only where nothing leaves the host. */
static bool is_loopback(const char *uri)
{
    static const char *const hosts[] = {"http://127.0.0.1", "http://[::1]", "http://localhost"};
    for (size_t i = 0; i < COF_COUNT(hosts); i++) {
        const char after = begins(uri, hosts[i]) ? uri[strlen(hosts[i])] : 'x';
        if (after == ':' || after == '/' || after == '\0') {
            return true;
        }
    }
    return false;
}

bool flow_redirect_fits(const char *uri)
{
    const bool https =
        begins(uri, "https://") && strspn(uri + strlen("https://"), "/?:@") == 0 && uri[strlen("https://")] != '\0';
    if ((!https && !is_loopback(uri)) || strlen(uri) > FLOW_REDIRECT_MAX) {
        return false;
    }
    const char *path = uri + strcspn(uri, ":") + 3;
    if (memchr(path, '@', strcspn(path, "/?")) != NULL) {
        return false;
    }
    for (const char *c = uri; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || strchr("#\"<>\\^`{|}", *c) != NULL) {
            return false;
        }
    }
    return true;
}

/* --- Where a person is sent ----------------------------------------------------------------------------------- */

struct url {
    char *text; /* of FLOW_QUERY_MAX + 1 bytes */
    size_t length;
    bool has_query;
    bool overflow;
};

static void put(struct url *url, char c)
{
    url->overflow = url->overflow || url->length == FLOW_QUERY_MAX;
    if (!url->overflow) {
        url->text[url->length++] = c;
    }
}

static void put_text(struct url *url, const char *text)
{
    for (; *text != '\0'; text++) {
        put(url, *text);
    }
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~", c) != NULL);
}

static void put_encoded(struct url *url, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *text != '\0'; text++) {
        const unsigned char byte = (unsigned char) *text;
        if (is_unreserved(*text)) {
            put(url, *text);
        } else {
            put(url, '%');
            put(url, digits[byte >> 4]);
            put(url, digits[byte & 15]);
        }
    }
}

static void put_name(struct url *url, const char *name)
{
    put(url, url->has_query ? '&' : '?');
    put_encoded(url, name);
    put(url, '=');
    url->has_query = true;
}

static void put_parameter(struct url *url, const char *name, const char *value)
{
    put_name(url, name);
    put_encoded(url, value);
}

static void put_scopes(struct url *url, const struct flow_start *start)
{
    const struct provider *provider = start->provider;
    if (start->scopes.count == 0) {
        return;
    }
    put_name(url, provider->sides[PROVIDER_USER].scope_parameter);
    for (size_t i = 0; i < start->scopes.count; i++) {
        put_encoded(url, i == 0 ? "" : provider->scope_separator);
        put_encoded(url, start->scopes.items[i]);
    }
}

static void put_request(struct url *url, const struct flow_start *start, const char *resource)
{
    const struct provider *provider = start->provider;
    put_parameter(url, "response_type", "code");
    put_parameter(url, "client_id", start->client_id);
    put_parameter(url, "redirect_uri", start->redirect_uri);
    put_parameter(url, "state", start->state);
    if (provider->pkce == PROVIDER_PKCE_USED) {
        put_parameter(url, "code_challenge", start->code_challenge);
        put_parameter(url, "code_challenge_method", "S256");
    }
    put_scopes(url, start);
    if (resource[0] != '\0') {
        put_parameter(url, "resource", resource);
    }
    for (size_t i = 0; i < provider->authorize_extras.count; i++) {
        put_parameter(url, provider->authorize_extras.items[i].name, provider->authorize_extras.items[i].value);
    }
}

cof_code flow_authorize_url(const struct flow_start *start, struct cof_arena *arena, const char **ret_url,
                            struct cof_error *err)
{
    const char *endpoint = NULL;
    const char *resource = NULL;
    struct url url = {.text = cof_arena_alloc(arena, FLOW_QUERY_MAX + 1)};
    if (url.text == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(provider_expand(start->provider, start->provider->authorization_endpoint, start->parameters, arena,
                        &endpoint, err));
    TRY(provider_expand(start->provider, start->provider->resource, start->parameters, arena, &resource, err));
    put_text(&url, endpoint);
    url.has_query = strchr(endpoint, '?') != NULL;
    put_request(&url, start, resource);
    url.text[url.length] = '\0';
    if (url.overflow) {
        return cof_fail(err, COF_REASON_FIELD_INVALID,
                        "the authorization request of %s is longer than %d bytes; ask for fewer scopes",
                        start->provider->id, FLOW_QUERY_MAX);
    }
    *ret_url = url.text;
    return COF_OK;
}

/* --- What comes back ------------------------------------------------------------------------------------------ */

static bool hex_digit(uint8_t c, uint8_t *ret_value)
{
    if (c >= '0' && c <= '9') {
        *ret_value = (uint8_t) (c - '0');
    } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
        *ret_value = (uint8_t) ((c | 0x20) - 'a' + 10);
    } else {
        return false;
    }
    return true;
}

/* application/x-www-form-urlencoded; `to` has text.len bytes. */
static bool decode(struct cof_slice text, uint8_t *to, size_t *ret_length)
{
    size_t length = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t high = 0;
        uint8_t low = 0;
        if (text.data[i] != '%') {
            to[length++] = text.data[i] == '+' ? ' ' : text.data[i];
        } else if (text.len - i > 2 && hex_digit(text.data[i + 1], &high) && hex_digit(text.data[i + 2], &low)) {
            to[length++] = (uint8_t) (high << 4 | low);
            i += 2;
        } else {
            return false;
        }
    }
    *ret_length = length;
    return cof_text_valid(cof_slice_of(to, length));
}

static cof_code malformed(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_FIELD_INVALID,
                    "what came back is not form-encoded, too long, or says the same thing twice");
}

struct expected {
    const char *name;
    struct cof_slice *place;
    bool seen;
};

static cof_code take_pair(struct cof_slice pair, struct expected *expected, size_t count, struct cof_arena *arena,
                          struct cof_error *err)
{
    const uint8_t *equals = pair.len == 0 ? NULL : memchr(pair.data, '=', pair.len);
    const size_t name_length = equals == NULL ? pair.len : (size_t) (equals - pair.data);
    const struct cof_slice name = cof_slice_of(pair.data, name_length);
    const struct cof_slice value =
        equals == NULL ? cof_slice_of(NULL, 0) : cof_slice_of(equals + 1, pair.len - name_length - 1);
    for (size_t i = 0; i < count; i++) {
        if (!cof_slice_equal(name, cof_slice_text(expected[i].name))) {
            continue;
        }
        uint8_t *to = cof_arena_alloc(arena, value.len + 1);
        size_t length = 0;
        if (to == NULL) {
            return cof_arena_exhausted(err);
        }
        if (expected[i].seen || !decode(value, to, &length)) {
            return malformed(err);
        }
        expected[i].seen = true;
        *expected[i].place = cof_slice_of(to, length);
    }
    return COF_OK;
}

cof_code flow_return_read(struct cof_slice query, struct cof_arena *arena, struct flow_return *ret_return,
                          struct cof_error *err)
{
    struct flow_return back = {.state = {NULL, 0}};
    struct expected expected[] = {
        {"state", &back.state, false},
        {"code", &back.code, false},
        {"iss", &back.issuer, false},
        {"error", &back.error, false},
        {"error_description", &back.error_description, false},
    };
    if (query.len > FLOW_QUERY_MAX) {
        return malformed(err);
    }
    for (size_t at = 0; at < query.len;) {
        const uint8_t *end = memchr(query.data + at, '&', query.len - at);
        const size_t length = end == NULL ? query.len - at : (size_t) (end - query.data) - at;
        TRY(take_pair(cof_slice_of(query.data + at, length), expected, COF_COUNT(expected), arena, err));
        at += length + 1;
    }
    *ret_return = back;
    return COF_OK;
}

static void copy_code(struct cof_slice from, char to[FLOW_ERROR_MAX + 1])
{
    static const char bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    to[0] = '\0';
    for (size_t i = 0; i < from.len; i++) {
        if (from.len > FLOW_ERROR_MAX || strchr(bytes, from.data[i]) == NULL) {
            return;
        }
    }
    if (from.len > 0) {
        memcpy(to, from.data, from.len);
    }
    to[from.len] = '\0';
}

static void copy_words(struct cof_slice from, char to[FLOW_WORDS_MAX + 1])
{
    size_t length = 0;
    for (; length < from.len && length < FLOW_WORDS_MAX; length++) {
        const uint8_t byte = from.data[length];
        to[length] = byte >= ' ' && byte <= '~' ? (char) byte : '?';
    }
    to[length] = '\0';
}

static flow_verdict judge_issuer(const struct flow_return *back, const char *issuer, bool sends_issuer)
{
    if (back->issuer.len == 0) {
        return sends_issuer ? FLOW_ISSUER_MISSING : FLOW_CODE;
    }
    /* One whose issuer nobody knows says nothing that could be compared. */
    if (issuer[0] == '\0') {
        return sends_issuer ? FLOW_ISSUER_OTHER : FLOW_CODE;
    }
    return cof_slice_equal(back->issuer, cof_slice_text(issuer)) ? FLOW_CODE : FLOW_ISSUER_OTHER;
}

void flow_return_judge(const struct flow_return *back, const char *issuer, bool sends_issuer,
                       struct flow_outcome *ret_outcome)
{
    *ret_outcome = (struct flow_outcome){.verdict = judge_issuer(back, issuer, sends_issuer)};
    if (ret_outcome->verdict != FLOW_CODE) {
        return;
    }
    const bool has_code = back->code.len > 0 && back->code.len <= FLOW_CODE_MAX;
    const bool has_error = back->error.len > 0;
    if (has_code == has_error) {
        ret_outcome->verdict = FLOW_INCOMPLETE;
        return;
    }
    if (has_error) {
        ret_outcome->verdict = FLOW_REFUSED;
        copy_code(back->error, ret_outcome->code);
        copy_words(back->error_description, ret_outcome->words);
    }
}
