#include "server/http/site.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "common/encode.h"
#include "common/web/handshake.h"

enum {
    OK = 200,
    ACCEPTED = 202,
    SEE_OTHER = 303,
    BAD_REQUEST = 400,
    FORBIDDEN = 403,
    NOT_FOUND = 404,
    METHOD_NOT_ALLOWED = 405,
    REQUEST_TIMEOUT = 408,
    CONFLICT = 409,
    GONE = 410,
    CONTENT_TOO_LARGE = 413,
    MISDIRECTED = 421,
    UPGRADE_REQUIRED = 426,
    FIELDS_TOO_LARGE = 431,
    INTERNAL = 500,
    NOT_IMPLEMENTED = 501,
    BAD_GATEWAY = 502,
    UNAVAILABLE = 503,
    HOST_MOST = 255,
    DIGITS_MOST = 8, /* of a Content-Length */
};

/* Nothing that is served here is for a frame, a cache or another site; a page that comes to need more says so itself. */
#define SECURITY_FIELDS                             \
    "Cache-Control: no-store\r\n"                   \
    "Cross-Origin-Resource-Policy: same-origin\r\n" \
    "Referrer-Policy: no-referrer\r\n"              \
    "X-Content-Type-Options: nosniff\r\n"           \
    "X-Frame-Options: DENY\r\n"

static const char nothing_allowed[] = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'";

#define PLAIN "text/plain; charset=utf-8"

/* --- Writing answers ------------------------------------------------------------------------------------------ */

static const char *phrase_of(unsigned status)
{
    static const struct {
        unsigned status;
        const char *phrase;
    } phrases[] = {
        {OK, "OK"},
        {ACCEPTED, "Accepted"},
        {SEE_OTHER, "See Other"},
        {BAD_REQUEST, "Bad Request"},
        {FORBIDDEN, "Forbidden"},
        {NOT_FOUND, "Not Found"},
        {METHOD_NOT_ALLOWED, "Method Not Allowed"},
        {REQUEST_TIMEOUT, "Request Timeout"},
        {CONFLICT, "Conflict"},
        {GONE, "Gone"},
        {CONTENT_TOO_LARGE, "Content Too Large"},
        {MISDIRECTED, "Misdirected Request"},
        {UPGRADE_REQUIRED, "Upgrade Required"},
        {FIELDS_TOO_LARGE, "Request Header Fields Too Large"},
        {INTERNAL, "Internal Server Error"},
        {NOT_IMPLEMENTED, "Not Implemented"},
        {BAD_GATEWAY, "Bad Gateway"},
        {UNAVAILABLE, "Service Unavailable"},
    };
    for (size_t i = 0; i < COF_COUNT(phrases); i++) {
        if (phrases[i].status == status) {
            return phrases[i].phrase;
        }
    }
    return "Other"; /* the phrase says nothing that the number does not */
}

static void write_answer(const struct http_response *response, struct http_outcome *outcome)
{
    struct http_text *to = &outcome->bytes;
    outcome->step = HTTP_ANSWER;
    outcome->status = response->status;
    http_text_format(to, "HTTP/1.1 %u %s\r\n", response->status, phrase_of(response->status));
    http_text_format(to, "Content-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n" SECURITY_FIELDS,
                     response->type == NULL ? PLAIN : response->type, response->body.size);
    http_text_format(to, "Content-Security-Policy: %s\r\n",
                     response->policy == NULL ? nothing_allowed : response->policy);
    if (response->fields != NULL) {
        http_text_add(to, cof_slice_text(response->fields));
    }
    http_text_add(to, cof_slice_text("\r\n"));
    if (!outcome->only_head) {
        http_text_add(to, cof_slice_of(response->body.data, response->body.size));
    }
    if (to->failed) {
        http_text_done(to);
    }
}

/* `fields` may be NULL. */
static void refuse(struct http_outcome *outcome, unsigned status, const char *fields, const char *why)
{
    struct http_response response = {.status = status, .fields = fields};
    outcome->refusal = why;
    http_text_format(&response.body, "%s\n", why);
    write_answer(&response, outcome);
    http_text_done(&response.body);
}

void http_too_slow(struct http_outcome *ret_outcome)
{
    *ret_outcome = (struct http_outcome){0};
    refuse(ret_outcome, REQUEST_TIMEOUT, NULL, "the request did not come in time");
}

void http_too_late(bool only_head, struct http_outcome *ret_outcome)
{
    *ret_outcome = (struct http_outcome){.only_head = only_head};
    refuse(ret_outcome, UNAVAILABLE, NULL, "the answer takes too long");
}

void http_answer(const struct http_response *response, bool only_head, struct http_outcome *ret_outcome)
{
    *ret_outcome = (struct http_outcome){.only_head = only_head};
    if (response->body.failed) {
        refuse(ret_outcome, UNAVAILABLE, NULL, "there is no memory left for the answer");
    } else {
        write_answer(response, ret_outcome);
    }
}

/* --- Whose request it is -------------------------------------------------------------------------------------- */

static bool listed(const struct cof_config_list *list, struct cof_slice text)
{
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        if (cof_head_same(cof_slice_text(list->items[i]), text)) {
            return true;
        }
    }
    return false;
}

/* Without the port behind it. */
static struct cof_slice host_of(struct cof_slice value)
{
    size_t end = value.len;
    while (end > 0 && value.data[end - 1] >= '0' && value.data[end - 1] <= '9') {
        end--;
    }
    return end > 0 && value.data[end - 1] == ':' ? cof_slice_of(value.data, end - 1) : value;
}

/* A page of a stranger can have its own name point to our address, but not send an address where its name is. */
static bool is_address(struct cof_slice host)
{
    char text[HOST_MOST + 1];
    uint8_t address[sizeof(struct in6_addr)];
    if (host.len > HOST_MOST) {
        return false;
    }
    const bool brackets = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    const struct cof_slice inside = brackets ? cof_slice_of(host.data + 1, host.len - 2) : host;
    if (inside.len > 0) {
        memcpy(text, inside.data, inside.len);
    }
    text[inside.len] = '\0';
    return inet_pton(brackets ? AF_INET6 : AF_INET, text, address) == 1;
}

static bool host_allowed(const struct http_site *site, struct cof_slice value)
{
    const struct cof_slice host = host_of(value);
    return is_address(host) || cof_head_same(host, cof_slice_text("localhost")) || listed(site->hosts, host) ||
           (site->own_host.len > 0 && cof_head_same(site->own_host, host));
}

/* True if the request may be answered; false if it was refused. */
static bool check_host(const struct http_site *site, const struct cof_head *head, struct http_outcome *outcome)
{
    struct cof_slice host;
    if (cof_head_find(head, "Host", &host) != 1) {
        refuse(outcome, BAD_REQUEST, NULL, "a request must have one Host field");
        return false;
    }
    if (!host_allowed(site, host)) {
        refuse(outcome, MISDIRECTED, NULL,
               "the name in the Host field is none of this server's; its operator can add it to http.hosts");
        return false;
    }
    return true;
}

/* --- WebSocket ------------------------------------------------------------------------------------------------ */

static bool has_once(const struct cof_head *head, const char *name, const char *value)
{
    struct cof_slice found;
    return cof_head_find(head, name, &found) == 1 && cof_slice_equal(found, cof_slice_text(value));
}

/* NULL if the origin may open a WebSocket. */
static const char *origin_fault(const struct http_site *site, const struct cof_head *head)
{
    struct cof_slice origin;
    const uint32_t count = cof_head_find(head, "Origin", &origin);
    if (count == 0 || (count == 1 && listed(site->origins, origin))) {
        return NULL;
    }
    return "pages of this origin may not open a WebSocket here; the operator can add it to http.origins";
}

/* NULL if it is a request for a WebSocket as we speak it. */
static const char *upgrade_fault(const struct cof_head *head, struct cof_slice *ret_key)
{
    if (cof_head_find(head, "Sec-WebSocket-Key", ret_key) != 1 || !cof_web_key_valid(*ret_key)) {
        return "Sec-WebSocket-Key must be there once, with 16 bytes in base64";
    }
    if (!has_once(head, "Sec-WebSocket-Protocol", COF_WEB_PROTOCOL)) {
        return "Sec-WebSocket-Protocol must be there once and be " COF_WEB_PROTOCOL;
    }
    if (cof_head_find(head, "Content-Length", &(struct cof_slice){0}) != 0 ||
        cof_head_find(head, "Transfer-Encoding", &(struct cof_slice){0}) != 0) {
        return "a request for a WebSocket has no body";
    }
    return NULL;
}

static void accept_upgrade(struct cof_slice key, const struct cof_head *head, struct http_outcome *outcome)
{
    char accept[COF_WEB_ACCEPT];
    if (!cof_web_accept(key, accept)) {
        refuse(outcome, INTERNAL, NULL, "the key could not be answered");
        return;
    }
    outcome->step = HTTP_UPGRADE;
    outcome->taken = head->size;
    http_text_format(&outcome->bytes,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: " COF_WEB_PROTOCOL "\r\n\r\n",
                     accept);
    if (outcome->bytes.failed) {
        http_text_done(&outcome->bytes);
    }
}

static void open_websocket(const struct http_site *site, const struct cof_head *head, struct http_outcome *outcome)
{
    struct cof_slice key;
    if (!cof_slice_equal(head->method, cof_slice_text("GET"))) {
        refuse(outcome, METHOD_NOT_ALLOWED, "Allow: GET\r\n", "a WebSocket is opened with GET");
        return;
    }
    if (!cof_head_lists(head, "Upgrade", "websocket") || !cof_head_lists(head, "Connection", "upgrade")) {
        refuse(outcome, UPGRADE_REQUIRED, "Upgrade: websocket\r\n", "this is the path of a WebSocket");
        return;
    }
    if (!has_once(head, "Sec-WebSocket-Version", "13")) {
        refuse(outcome, UPGRADE_REQUIRED, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
               "only version 13 of WebSocket is spoken here");
        return;
    }
    const char *origin = origin_fault(site, head);
    if (origin != NULL) {
        refuse(outcome, FORBIDDEN, NULL, origin);
        return;
    }
    const char *fault = upgrade_fault(head, &key);
    if (fault != NULL) {
        refuse(outcome, BAD_REQUEST, NULL, fault);
        return;
    }
    accept_upgrade(key, head, outcome);
}

/* --- Routes --------------------------------------------------------------------------------------------------- */

static void refuse_path(const struct http_site *site, const char *websocket, struct http_outcome *outcome)
{
    struct http_response response = {.status = NOT_FOUND};
    outcome->refusal = "there is nothing at this path";
    http_text_format(&response.body,
                     "There is nothing at this path. What there is:\n%s  WebSocket, with the protocol %s\n",
                     websocket, COF_WEB_PROTOCOL);
    for (size_t i = 0; i < site->route_count; i++) {
        http_text_format(&response.body, "%s  %s\n", site->routes[i].path, site->routes[i].kind);
    }
    write_answer(&response, outcome);
    http_text_done(&response.body);
}

static unsigned methods_of(const struct http_route *route)
{
    return (route->methods & HTTP_GET) != 0 ? route->methods | HTTP_HEAD : route->methods;
}

static http_method method_of(struct cof_slice name)
{
    static const struct {
        const char *name;
        http_method method;
    } methods[] = {{"GET", HTTP_GET}, {"HEAD", HTTP_HEAD}, {"POST", HTTP_POST}};
    for (size_t i = 0; i < COF_COUNT(methods); i++) {
        if (cof_slice_equal(name, cof_slice_text(methods[i].name))) {
            return methods[i].method;
        }
    }
    return HTTP_OTHER;
}

static void refuse_method(const struct http_route *route, struct http_outcome *outcome)
{
    const unsigned methods = methods_of(route);
    const bool get = (methods & HTTP_GET) != 0;
    const bool post = (methods & HTTP_POST) != 0;
    const char *allow = get ? "Allow: GET, HEAD\r\n" : "Allow: POST\r\n";
    refuse(outcome, METHOD_NOT_ALLOWED, get && post ? "Allow: GET, HEAD, POST\r\n" : allow,
           "this method is not for this path");
}

/* Whether the request has a length that can be read; without one there is no body. */
static bool read_length(const struct cof_head *head, uint64_t *ret_length)
{
    struct cof_slice text;
    *ret_length = 0;
    const uint32_t count = cof_head_find(head, "Content-Length", &text);
    if (count == 0) {
        return true;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        *ret_length = *ret_length * 10 + (uint64_t) (text.data[i] - '0');
    }
    return count == 1 && text.len > 0 && text.len <= DIGITS_MOST;
}

/* True if the body is there; otherwise more is wanted, or the request was refused. */
static bool take_body(const struct http_route *route, const struct cof_head *head, struct cof_slice bytes,
                      struct cof_slice *ret_body, struct http_outcome *outcome)
{
    uint64_t length = 0;
    struct cof_slice coding;
    if (cof_head_find(head, "Transfer-Encoding", &coding) != 0) {
        refuse(outcome, NOT_IMPLEMENTED, NULL, "a body must have a Content-Length and no Transfer-Encoding");
        return false;
    }
    if (!read_length(head, &length)) {
        refuse(outcome, BAD_REQUEST, NULL, "the Content-Length is no number that can be");
        return false;
    }
    if (length > route->body_most) {
        refuse(outcome, CONTENT_TOO_LARGE, NULL, "the body is larger than this path takes");
        return false;
    }
    outcome->wanted = head->size + (size_t) length;
    *ret_body = cof_slice_of(bytes.data + head->size, (size_t) length);
    return outcome->wanted <= bytes.len;
}

/* What is being served. */
struct serving {
    const struct http_site *site;
    const char *websocket;
    struct cof_slice bytes;
    const struct http_waiter *waiter;
    struct http_request request;
};

static void answer_route(const struct serving *serving, const struct http_route *route,
                         struct http_outcome *outcome)
{
    struct http_response response = {.status = OK};
    route->answer(&serving->request, &response, serving->site->context);
    if (response.body.failed) {
        http_text_done(&response.body);
        refuse(outcome, UNAVAILABLE, NULL, "there is no memory left for the answer");
        return;
    }
    write_answer(&response, outcome);
    http_text_done(&response.body);
}

static void take_route(const struct serving *serving, const struct http_route *route, struct http_outcome *outcome)
{
    const struct http_waiter *waiter = serving->waiter;
    struct http_later *later = waiter == NULL ? NULL : waiter->wait(waiter->context, outcome->only_head);
    if (later == NULL) {
        refuse(outcome, UNAVAILABLE, NULL, "nobody can wait for the answer now");
        return;
    }
    outcome->step = HTTP_LATER;
    route->take(&serving->request, later, route->taker);
}

static void serve_route(struct serving *serving, const struct http_route *route, struct http_outcome *outcome)
{
    struct http_request *request = &serving->request;
    request->method = method_of(request->head->method);
    if ((methods_of(route) & request->method) == 0) {
        refuse_method(route, outcome);
        return;
    }
    if (route->only_loopback && !request->loopback) {
        refuse(outcome, FORBIDDEN, NULL, "this path is answered to peers on the server's own host only");
        return;
    }
    if (!take_body(route, request->head, serving->bytes, &request->body, outcome)) {
        return;
    }
    if (route->take != NULL) {
        take_route(serving, route, outcome);
    } else {
        answer_route(serving, route, outcome);
    }
}

static const struct http_route *find_route(const struct http_site *site, struct cof_slice path)
{
    for (size_t i = 0; i < site->route_count; i++) {
        if (cof_slice_equal(path, cof_slice_text(site->routes[i].path))) {
            return &site->routes[i];
        }
    }
    return NULL;
}

static void serve_head(struct serving *serving, struct http_outcome *outcome)
{
    const struct http_site *site = serving->site;
    const struct cof_head *head = serving->request.head;
    outcome->only_head = cof_slice_equal(head->method, cof_slice_text("HEAD"));
    if (!check_host(site, head, outcome)) {
        return;
    }
    if (cof_slice_equal(head->path, cof_slice_text(serving->websocket))) {
        open_websocket(site, head, outcome);
        return;
    }
    const struct http_route *route = find_route(site, head->path);
    if (route == NULL) {
        refuse_path(site, serving->websocket, outcome);
    } else {
        serve_route(serving, route, outcome);
    }
}

void http_serve(const struct http_site *site, const char *websocket, bool loopback, struct cof_slice bytes,
                const struct http_waiter *waiter, struct http_outcome *ret_outcome)
{
    struct cof_head head;
    *ret_outcome = (struct http_outcome){.step = HTTP_MORE};
    switch (cof_head_request(bytes, &head)) {
    case COF_HEAD_SHORT:
        return;
    case COF_HEAD_BAD:
        refuse(ret_outcome, BAD_REQUEST, NULL, "this is no request of HTTP/1.1");
        return;
    case COF_HEAD_LARGE:
        refuse(ret_outcome, FIELDS_TOO_LARGE, NULL,
               "the head of the request is larger than 8 KiB or has too many fields");
        return;
    case COF_HEAD_DONE:
        break;
    }
    struct serving serving = {
        .site = site,
        .websocket = websocket,
        .bytes = bytes,
        .waiter = waiter,
        .request = {.query = head.query, .head = &head, .loopback = loopback},
    };
    if (site->lock != NULL) {
        (void) pthread_rwlock_rdlock(site->lock);
    }
    serve_head(&serving, ret_outcome);
    if (site->lock != NULL) {
        (void) pthread_rwlock_unlock(site->lock);
    }
}

void http_site_allow(struct http_site *site, const struct cof_config_list *hosts,
                     const struct cof_config_list *origins)
{
    (void) pthread_rwlock_wrlock(site->lock);
    site->hosts = hosts;
    site->origins = origins;
    (void) pthread_rwlock_unlock(site->lock);
}
