#include "server/oauth_pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/crypto.h"

enum {
    URL_MOST = 300,
    COOKIE_BYTES = 32,
    COOKIE_SECONDS = 1200, /* a start lasts for half of it, and one may begin while another is under way */
    FORM_TEXT = COF_BASE64URL_SIZE(CRYPTO_DIGEST),
    FIELD_MOST = 16384, /* a URL of the provider, among others */
    PAGE_MOST = 16384,
    FORM_MOST = 256,
};

#define HTTPS "https://"
#define HTTP "http://"
#define SECURE_COOKIE "__Host-coffer_oauth"
#define PLAIN_COOKIE "coffer_oauth"
#define FORM_FIELD "t="

static const char style[] =
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1a1d21}"
    "main{box-sizing:border-box;width:calc(100% - 2rem);max-width:37rem;margin:8vh auto;padding:1.5rem;"
    "background:#fff;border-radius:8px}main>:last-child{margin-bottom:0}"
    ".of{margin:0 0 .5rem;color:#5a626b;font-size:.9rem}.said{padding-left:.8rem;border-left:3px solid #8a929b}"
    "h1{font-size:1.35rem;line-height:1.3;margin:0 0 1rem;overflow-wrap:anywhere}"
    "dl{margin:1rem 0}dt{color:#5a626b;font-size:.9rem}"
    "dd{margin:0 0 .6rem;overflow-wrap:anywhere;font-weight:600}p{overflow-wrap:anywhere}"
    "button{font:inherit;font-weight:600;width:100%;padding:.8rem;border:0;border-radius:6px;background:#1f5fbf;"
    "color:#fff;cursor:pointer;overflow-wrap:anywhere}button:hover{background:#184c9b}"
    "button:focus-visible{outline:3px solid #f0a500;outline-offset:2px}"
    "@media(prefers-color-scheme:dark){body{background:#15181c;color:#e8eaed}main{background:#20242a}"
    "dt,.of{color:#a5adb8}}";

/* One that somebody's browser waits for. */
struct asked {
    struct oauth_pages *pages;
    struct http_later *later;
    uint8_t cookie[COOKIE_BYTES];
    char form[FORM_TEXT]; /* what the button has to send */
};

/* --- The public URL ------------------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool is_https(const char *url)
{
    return begins(url, HTTPS);
}

struct cof_slice oauth_pages_host(const char *public_url)
{
    const char *host = strstr(public_url, "://");
    if (host == NULL) {
        return cof_slice_text("");
    }
    host += strlen("://");
    const char *end = host[0] == '[' ? strchr(host, ']') : NULL;
    const size_t length = end != NULL ? (size_t) (end - host) + 1 : strcspn(host, ":/");
    return cof_slice_of((const uint8_t *) host, length);
}

static bool is_loopback(struct cof_slice host)
{
    return cof_slice_equal(host, cof_slice_text("localhost")) ||
           cof_slice_equal(host, cof_slice_text("127.0.0.1")) || cof_slice_equal(host, cof_slice_text("[::1]"));
}

/* Nothing, or a colon and a number. */
static bool is_port(const char *text)
{
    return text[0] == '\0' || (text[0] == ':' && strspn(text + 1, "0123456789") == strlen(text + 1) &&
                               strlen(text) > 1 && strlen(text) < 7);
}

static bool is_host(struct cof_slice host)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
    for (size_t i = 0; i < host.len; i++) {
        if (strchr(allowed, host.data[i]) == NULL) {
            return false;
        }
    }
    return host.len > 0;
}

cof_code oauth_pages_check(const char *public_url, struct cof_error *err)
{
    const struct cof_slice host = oauth_pages_host(public_url);
    const bool local = begins(public_url, HTTP) && is_loopback(host);
    if (public_url[0] == '\0') {
        return COF_OK;
    }
    if ((local || (is_https(public_url) && is_host(host))) && strlen(public_url) <= URL_MOST &&
        is_port((const char *) host.data + host.len)) {
        return COF_OK;
    }
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "http.public_url must be https:// and a host in lower case, perhaps with a port, without a path, such as "
        "https://coffer.example; http:// is only for 127.0.0.1, [::1] and localhost");
}

/* --- Cookies and forms ---------------------------------------------------------------------------------------- */

static const char *cookie_name(const struct oauth_pages *pages)
{
    return is_https(pages->public_url) ? SECURE_COOKIE : PLAIN_COOKIE;
}

/* The value of our cookie in a list of them; false if it is not there, or twice. */
static bool find_cookie(struct cof_slice list, const char *name, struct cof_slice *ret_value)
{
    const size_t length = strlen(name);
    unsigned found = 0;
    size_t at = 0;
    while (at < list.len) {
        size_t end = at;
        while (end < list.len && list.data[end] != ';') {
            end++;
        }
        const struct cof_slice pair = cof_slice_of(list.data + at, end - at);
        if (pair.len > length && memcmp(pair.data, name, length) == 0 && pair.data[length] == '=') {
            *ret_value = cof_slice_of(pair.data + length + 1, pair.len - length - 1);
            found++;
        }
        at = end + 1;
        while (at < list.len && list.data[at] == ' ') {
            at++;
        }
    }
    return found == 1;
}

static bool read_cookie(const struct oauth_pages *pages, const struct http_request *request,
                        uint8_t cookie[COOKIE_BYTES])
{
    struct cof_slice list;
    struct cof_slice value;
    return cof_head_find(request->head, "Cookie", &list) == 1 && find_cookie(list, cookie_name(pages), &value) &&
           cof_base64url_decode(value, cookie, COOKIE_BYTES);
}

/* The state is in the query, so a button is for one start in one browser. */
static cof_code make_form(const struct asked *asked, struct cof_slice query, char form[FORM_TEXT],
                          struct cof_error *err)
{
    uint8_t mac[CRYPTO_DIGEST];
    TRY(crypto_hmac(asked->cookie, query, mac, err));
    cof_base64url_encode(cof_slice_of(mac, sizeof mac), form);
    return COF_OK;
}

static bool form_fits(const struct asked *asked, struct cof_slice body)
{
    const size_t name = strlen(FORM_FIELD);
    return body.len == name + FORM_TEXT - 1 && cof_slice_starts_with(body, cof_slice_text(FORM_FIELD)) &&
           cof_secret_equal(cof_slice_of(body.data + name, FORM_TEXT - 1), cof_slice_text(asked->form));
}

/* --- HTML ----------------------------------------------------------------------------------------------------- */

static void put(struct http_text *to, const char *text)
{
    http_text_add(to, cof_slice_text(text));
}

static void put_escaped(struct http_text *to, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            put(to, "&amp;");
            break;
        case '<':
            put(to, "&lt;");
            break;
        case '>':
            put(to, "&gt;");
            break;
        case '"':
            put(to, "&quot;");
            break;
        case '\'':
            put(to, "&#39;");
            break;
        default:
            http_text_add(to, cof_slice_of((const uint8_t *) text, 1));
        }
    }
}

/* Titles have a name in them, or none: `name` stands for the %. */
static void put_named(struct http_text *to, const char *text, const char *name)
{
    const char *place = strchr(text, '%');
    if (place == NULL) {
        put_escaped(to, text);
        return;
    }
    http_text_add(to, cof_slice_of((const uint8_t *) text, (size_t) (place - text)));
    put_escaped(to, name);
    put(to, place + 1);
}

static void put_fact(struct http_text *to, const char *name, const char *value)
{
    http_text_format(to, "<dt>%s</dt><dd>", name);
    put_escaped(to, value);
    put(to, "</dd>");
}

static void put_facts(struct http_text *to, const struct authorization_answer *answer)
{
    if (answer->workspace[0] == '\0') {
        return;
    }
    put(to, "<dl>");
    put_fact(to, "Workspace", answer->workspace);
    put_fact(to, "Environment", answer->environment[0] == '\0' ? "all environments" : answer->environment);
    put_fact(to, "Provider", answer->provider);
    put_fact(to, "Started by", answer->account);
    put(to, "</dl>");
}

/* A page for each end: what happened, and what to do next. */
struct page {
    authorization_result result;
    unsigned status;
    const char *title;
    const char *text;
};

static const struct page endings[] = {
    {AUTHORIZATION_ASKS, 200, "Connect %?",
     "The button leads to the provider, where you sign in and say what may be done. From then on this "
     "workspace can act there as you, within that. Go on only if you expected this page and know who started "
     "it."},
    {AUTHORIZATION_DONE, 200, "% is connected", "The workspace has its tokens. You can close this page."},
    {AUTHORIZATION_UNKNOWN, 404, "There is no such authorization",
     "The address is incomplete, or the authorization ended long ago. Nothing was changed. Start anew, and "
     "open the whole address."},
    {AUTHORIZATION_USED, 410, "This authorization is over",
     "It was used already, or ten minutes have passed. Nothing was changed by this visit. Whoever started it "
     "can see how it went; to connect again, start anew."},
    {AUTHORIZATION_OTHER_BROWSER, 403, "This is not the browser that began",
     "An authorization ends in the browser in which its button was pressed, with cookies allowed. Nothing was "
     "changed. Go on in that browser, or start anew."},
    {AUTHORIZATION_REFUSED, 403, "The provider did not agree",
     "Nothing was changed: a connection that worked still does. If access was refused by mistake, start anew. "
     "If the provider names the client, the redirect URI or a scope, the connection's configuration has to be "
     "corrected first."},
    {AUTHORIZATION_CHANGED, 409, "The connection has changed meanwhile",
     "The connection, its provider or its workspace is not as it was, or whoever started this may no longer "
     "connect it. Nothing was stored. Start anew."},
    {AUTHORIZATION_UNFINISHED, 502, "The connection was not made",
     "The provider sent you back, but gave no tokens, or they could not be used. A connection that worked "
     "still does. Start anew; if it fails again, the connection's configuration has to be looked at."},
    {AUTHORIZATION_STORING, 202, "It takes longer than usual",
     "The provider sent you back, and the rest is still under way. You need not do anything: whoever started "
     "this can see how it went."},
    {AUTHORIZATION_LATER, 503, "Not just now",
     "The server cannot do this at the moment. Load this page again in a few seconds. If that says that the "
     "authorization is over, start anew."},
};

static const struct page *page_of(authorization_result result)
{
    for (size_t i = 0; i < COF_COUNT(endings); i++) {
        if (endings[i].result == result) {
            return &endings[i];
        }
    }
    return &endings[COF_COUNT(endings) - 1];
}

static void put_button(struct http_text *to, const struct asked *asked, const struct authorization_answer *answer)
{
    http_text_format(to,
                     "<form method=\"post\"><input type=\"hidden\" name=\"t\" value=\"%s\"><button>Continue to ",
                     asked->form);
    put_escaped(to, answer->provider);
    put(to, "</button></form>");
}

static void put_page(struct http_text *to, const struct asked *asked, const struct authorization_answer *answer)
{
    const struct page *page = page_of(answer->result);
    const char *name = answer->provider[0] == '\0' ? "The provider" : answer->provider;
    to->most = PAGE_MOST;
    put(to, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
            "content=\"width=device-width,initial-scale=1\"><title>");
    put_named(to, page->title, name);
    put(to, "</title><style>");
    put(to, style);
    put(to, "</style></head><body><main><p class=\"of\">Coffer</p><h1>");
    put_named(to, page->title, name);
    put(to, "</h1>");
    put_facts(to, answer);
    put(to, "<p>");
    put_escaped(to, page->text);
    put(to, "</p>");
    if (answer->text[0] != '\0') {
        put(to, "<p class=\"said\">The reason: ");
        put_escaped(to, answer->text);
        put(to, "</p>");
    }
    if (answer->result == AUTHORIZATION_ASKS) {
        put_button(to, asked, answer);
    }
    put(to, "</main></body></html>\n");
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

static void put_cookie(struct http_text *fields, const struct asked *asked)
{
    char value[COF_BASE64URL_SIZE(COOKIE_BYTES)];
    cof_base64url_encode(cof_slice_of(asked->cookie, sizeof asked->cookie), value);
    http_text_format(fields, "Set-Cookie: %s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s\r\n",
                     cookie_name(asked->pages), value, COOKIE_SECONDS,
                     is_https(asked->pages->public_url) ? "; Secure" : "");
}

static void send_page(struct asked *asked, const struct authorization_answer *answer)
{
    struct http_response response = {
        .status = page_of(answer->result)->status,
        .type = "text/html; charset=utf-8",
        .policy = asked->pages->policy,
    };
    struct http_text fields = {.most = FIELD_MOST};
    if (answer->result == AUTHORIZATION_GOES) {
        response.status = 303;
        response.type = NULL;
        http_text_format(&fields, "Location: %s\r\n", answer->url);
    } else {
        put_page(&response.body, asked, answer);
    }
    if (answer->result == AUTHORIZATION_ASKS) {
        put_cookie(&fields, asked);
    }
    http_text_add(&fields, cof_slice_of((const uint8_t *) "", 1)); /* its NUL */
    response.body.failed = response.body.failed || fields.failed;
    response.fields = fields.failed ? NULL : fields.data;
    asked->later->answer(asked->later, &response);
    http_text_done(&response.body);
    http_text_done(&fields);
}

static void answered(void *context, const struct authorization_answer *answer)
{
    struct asked *asked = context;
    send_page(asked, answer);
    cof_wipe(asked, sizeof *asked);
    free(asked);
}

static void answer_now(struct asked *asked, authorization_result result)
{
    struct authorization_answer answer = authorization_no_answer;
    answer.result = result;
    answered(asked, &answer);
}

static void visit(struct asked *asked, authorization_step step, struct cof_slice query, bool has_cookie)
{
    struct oauth_pages *pages = asked->pages;
    struct cof_error err;
    struct authorizer_visit visit = {
        .visit = {.step = step, .query = query, .has_browser = has_cookie}, .answer = answered, .context = asked};
    (void) pthread_rwlock_rdlock(&pages->lock);
    struct refreshing *refreshing = pages->refreshing;
    if (refreshing != NULL &&
        crypto_sha256(cof_slice_of(asked->cookie, sizeof asked->cookie), visit.visit.browser, &err) == COF_OK) {
        refreshing_visit(refreshing, &visit);
    } else {
        answer_now(asked, AUTHORIZATION_LATER);
    }
    (void) pthread_rwlock_unlock(&pages->lock);
}

/* NULL if it was answered: there is no memory. */
static struct asked *ask(struct oauth_pages *pages, struct http_later *later)
{
    struct asked *asked = calloc(1, sizeof *asked);
    if (asked == NULL) {
        const struct http_response response = {.status = 503};
        later->answer(later, &response);
        return NULL;
    }
    asked->pages = pages;
    asked->later = later;
    return asked;
}

/* A program that only wants to know whether there is something must use nothing up. */
static bool is_head(const struct http_request *request, struct http_later *later)
{
    const struct http_response response = {.status = 405, .fields = "Allow: GET, POST\r\n"};
    if (request->method == HTTP_HEAD) {
        later->answer(later, &response);
        return true;
    }
    return false;
}

static void take_start(const struct http_request *request, struct http_later *later, void *context)
{
    struct oauth_pages *pages = context;
    struct cof_error err;
    struct asked *asked = is_head(request, later) ? NULL : ask(pages, later);
    if (asked == NULL) {
        return;
    }
    const bool has_cookie = read_cookie(pages, request, asked->cookie);
    if ((!has_cookie && crypto_random(asked->cookie, sizeof asked->cookie, &err) != COF_OK) ||
        make_form(asked, request->query, asked->form, &err) != COF_OK) {
        answer_now(asked, AUTHORIZATION_LATER);
    } else if (request->method != HTTP_POST) {
        visit(asked, AUTHORIZATION_SHOW, request->query, has_cookie);
    } else if (has_cookie && form_fits(asked, request->body)) {
        visit(asked, AUTHORIZATION_PASS, request->query, true);
    } else {
        answer_now(asked, AUTHORIZATION_OTHER_BROWSER);
    }
}

static void take_callback(const struct http_request *request, struct http_later *later, void *context)
{
    struct oauth_pages *pages = context;
    struct asked *asked = is_head(request, later) ? NULL : ask(pages, later);
    if (asked != NULL) {
        const bool has_cookie = read_cookie(pages, request, asked->cookie);
        visit(asked, AUTHORIZATION_RETURN, request->query, has_cookie);
    }
}

void oauth_pages_routes(struct oauth_pages *pages, struct http_route routes[OAUTH_PAGES_ROUTES])
{
    routes[0] = (struct http_route){
        .path = "/oauth/start",
        .methods = HTTP_GET | HTTP_POST,
        .body_most = FORM_MOST,
        .kind = "where somebody's browser begins to connect an OAuth provider",
        .take = take_start,
        .taker = pages,
    };
    routes[1] = (struct http_route){
        .path = "/oauth/callback",
        .methods = HTTP_GET,
        .kind = "where OAuth providers send it back to",
        .take = take_callback,
        .taker = pages,
    };
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

/* Browsers apply form-action to the redirects behind a form, too, so the providers' pages have to be in it. */
static cof_code make_policy(struct oauth_pages *pages, struct cof_error *err)
{
    uint8_t digest[CRYPTO_DIGEST];
    char hash[COF_BASE64_SIZE(CRYPTO_DIGEST)];
    TRY(crypto_sha256(cof_slice_text(style), digest, err));
    cof_base64_encode(cof_slice_of(digest, sizeof digest), hash);
    (void) snprintf(
        pages->policy, sizeof pages->policy,
        "default-src 'none'; style-src 'sha256-%s'; form-action 'self' https:%s; frame-ancestors 'none'; "
        "base-uri 'none'",
        hash, is_https(pages->public_url) ? "" : " http:");
    return COF_OK;
}

cof_code oauth_pages_init(struct oauth_pages *pages, const char *public_url, struct cof_error *err)
{
    *pages = (struct oauth_pages){.public_url = public_url};
    TRY(make_policy(pages, err));
    (void) pthread_rwlock_init(&pages->lock, NULL);
    return COF_OK;
}

void oauth_pages_done(struct oauth_pages *pages)
{
    (void) pthread_rwlock_destroy(&pages->lock);
}

void oauth_pages_connect(struct oauth_pages *pages, struct refreshing *refreshing)
{
    (void) pthread_rwlock_wrlock(&pages->lock);
    pages->refreshing = refreshing;
    (void) pthread_rwlock_unlock(&pages->lock);
}
