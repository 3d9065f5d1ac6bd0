#include "server/outbound/transfer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "common/secret.h"
#include "server/outbound/address.h"

enum {
    HEAD_MAX = 64 * 1024, /* bytes of an answer's status line and headers, those of interim answers among them */
    VALUE_MAX = 4096,     /* of a header that is kept */
    ROOM_FIRST = 4096,
    STATUS_FINAL = 200,
    STATUS_BAD_GATEWAY = 502,
    STATUS_GATEWAY_TIMEOUT = 504,
};

/* --- The request ---------------------------------------------------------------------------------------------- */

static bool is_clean(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x20 || text.data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

/* The list's nodes lie in the arena, so libcurl copies nothing, and it is wiped with the rest. */
static bool add_header(struct outbound_answer *answer, const char *name, struct cof_slice value)
{
    struct curl_slist *node = cof_arena_alloc(&answer->arena, sizeof *node);
    char *line = cof_arena_alloc(&answer->arena, strlen(name) + 2 + value.len + 1);
    if (node == NULL || line == NULL) {
        return false;
    }
    const size_t len = strlen(name);
    memcpy(line, name, len);
    memcpy(line + len, ": ", 2);
    if (value.len > 0) {
        memcpy(line + len + 2, value.data, value.len);
    }
    *node = (struct curl_slist){.data = line, .next = answer->headers};
    answer->headers = node;
    return true;
}

static bool add_headers(struct outbound_answer *answer, const struct outbound_request *request)
{
    assert(request->header_count <= OUTBOUND_HEADERS_MAX && request->wanted_count <= OUTBOUND_HEADERS_MAX);
    for (size_t i = request->header_count; i > 0; i--) {
        if (!add_header(answer, request->headers[i - 1].name, request->headers[i - 1].value)) {
            return false;
        }
    }
    /* libcurl 7.88 would sign the header that it then leaves out. Without it a small body waits for nobody either. */
    if (request->sign != NULL) {
        return true;
    }
    /* A header without a value takes away libcurl's own: the body never waits for permission. */
    struct curl_slist *node = cof_arena_alloc(&answer->arena, sizeof *node);
    char *line = cof_arena_text(&answer->arena, cof_slice_text("Expect:"));
    if (node == NULL || line == NULL) {
        return false;
    }
    *node = (struct curl_slist){.data = line, .next = answer->headers};
    answer->headers = node;
    return true;
}

static bool add_signature(struct outbound_answer *answer, const struct outbound_sigv4 *sign)
{
    if (sign == NULL) {
        return true;
    }
    answer->sigv4 = cof_arena_format(&answer->arena, "aws:amz:%s:%s", sign->region, sign->service);
    answer->access_key = cof_arena_text(&answer->arena, sign->access_key);
    answer->secret_key = cof_arena_text(&answer->arena, sign->secret_key);
    return answer->sigv4 != NULL && answer->access_key != NULL && answer->secret_key != NULL &&
           (sign->session_token.len == 0 || add_header(answer, "X-Amz-Security-Token", sign->session_token));
}

static bool copy_body(struct outbound_answer *answer, struct cof_slice body)
{
    uint8_t *copy = cof_arena_alloc(&answer->arena, body.len + 1);
    if (copy == NULL) {
        return false;
    }
    if (body.len > 0) {
        memcpy(copy, body.data, body.len);
    }
    answer->body = cof_slice_of(copy, body.len);
    return true;
}

static uint32_t limit_of(uint32_t asked, uint32_t most)
{
    return asked != 0 && asked < most ? asked : most;
}

static bool copy(struct outbound_answer *answer, const struct outbound_request *request)
{
    const struct outbound_options *options = answer->options;
    (void) snprintf(answer->group_name, sizeof answer->group_name, "%s", request->group);
    answer->wanted = request->wanted;
    answer->wanted_count = request->wanted_count;
    answer->connect_timeout_ms = limit_of(request->connect_timeout_ms, options->connect_timeout_ms);
    answer->timeout_ms = limit_of(request->timeout_ms, options->timeout_ms);
    answer->answer_bytes = limit_of(request->answer_bytes, options->answer_bytes);
    answer->send_until_us = request->send_until_us;
    answer->method = cof_arena_text(&answer->arena, cof_slice_text(request->method));
    return answer->method != NULL && add_headers(answer, request) && add_signature(answer, request->sign) &&
           copy_body(answer, request->body);
}

/* --- Where it goes -------------------------------------------------------------------------------------------- */

struct target {
    char *scheme;
    char *host;
    char *port;
};

static void target_done(struct target *target)
{
    curl_free(target->scheme);
    curl_free(target->host);
    curl_free(target->port);
}

static bool is_allowed(const struct outbound_options *options, const struct target *target)
{
    for (size_t i = 0; i < options->allowed_count; i++) {
        if (address_entry_is(options->allowed[i], target->host, target->port)) {
            return true;
        }
    }
    return false;
}

static const char *check_target(struct outbound_answer *answer, const struct target *target, outbound_end *ret_end)
{
    *ret_end = OUTBOUND_REFUSED_URL;
    answer->allowed = is_allowed(answer->options, target);
    if (strcmp(target->scheme, "https") != 0 && !(answer->allowed && strcmp(target->scheme, "http") == 0)) {
        return "its URL is not https";
    }
    *ret_end = OUTBOUND_REFUSED_ADDRESS;
    return answer->allowed || address_host_is_public(target->host) ? NULL : "its address is not public";
}

/* The parser is the one that connects: two that read a URL differently would be a hole. */
static const char *read_url(struct outbound_answer *answer, const char *url, outbound_end *ret_end)
{
    AUTO(target_done) struct target target = {NULL, NULL, NULL};
    *ret_end = OUTBOUND_REFUSED_URL;
    answer->url = curl_url();
    if (answer->url == NULL) {
        *ret_end = OUTBOUND_QUEUE_FULL;
        return "there is no memory";
    }
    if (strlen(url) > OUTBOUND_URL_MAX || !is_clean(cof_slice_text(url)) ||
        curl_url_set(answer->url, CURLUPART_URL, url, CURLU_DISALLOW_USER) != CURLUE_OK ||
        curl_url_get(answer->url, CURLUPART_SCHEME, &target.scheme, 0) != CURLUE_OK ||
        curl_url_get(answer->url, CURLUPART_HOST, &target.host, 0) != CURLUE_OK ||
        curl_url_get(answer->url, CURLUPART_PORT, &target.port, CURLU_DEFAULT_PORT) != CURLUE_OK) {
        return "its URL cannot be read";
    }
    return check_target(answer, &target, ret_end);
}

static bool headers_clean(const struct outbound_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (!is_clean(request->headers[i].value)) {
            return false;
        }
    }
    return request->sign == NULL || is_clean(request->sign->session_token);
}

static void check(struct outbound_answer *answer, const struct outbound_request *request)
{
    outbound_end end = OUTBOUND_REFUSED_URL;
    const char *what =
        headers_clean(request) ? read_url(answer, request->url, &end) : "a header of it holds control characters";
    if (what != NULL) {
        transfer_refuse(answer, end, what);
    }
}

struct outbound_answer *transfer_new(const struct outbound_options *options, const struct outbound_request *request)
{
    assert(strlen(request->group) <= OUTBOUND_GROUP_MAX);
    AUTO(outbound_answer_cleanup) struct outbound_answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL) {
        return NULL;
    }
    const size_t bytes = limit_of(request->answer_bytes, options->answer_bytes);
    cof_arena_init(&answer->arena, options->pool,
                   TRANSFER_MEMORY_BASE + bytes * TRANSFER_MEMORY_PER_BYTE + TRANSFER_SENT_MAX);
    answer->options = options;
    answer->done = request->done;
    answer->context = request->context;
    answer->what = "";
    if (!copy(answer, request)) {
        return NULL;
    }
    check(answer, request);
    return TAKE(answer);
}

/* --- What comes back ------------------------------------------------------------------------------------------ */

static bool make_room(struct outbound_answer *answer, size_t len)
{
    size_t room = answer->received_room == 0 ? ROOM_FIRST : answer->received_room;
    while (room < len) {
        room *= 2;
    }
    if (room == answer->received_room) {
        return true;
    }
    uint8_t *larger = cof_arena_alloc(&answer->arena, room);
    if (larger == NULL) {
        return false;
    }
    if (answer->received_len > 0) {
        memcpy(larger, answer->received, answer->received_len);
        cof_wipe(answer->received, answer->received_len);
    }
    answer->received = larger;
    answer->received_room = room;
    return true;
}

/* As much as may be kept is kept, decompressed; then the transfer ends. */
static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct outbound_answer *answer = context;
    const size_t len = size * count;
    const size_t left = answer->answer_bytes - answer->received_len;
    const size_t taken = len < left ? len : left;
    if (!make_room(answer, answer->received_len + taken)) {
        answer->too_large = true;
        return 0;
    }
    if (taken > 0) {
        memcpy(answer->received + answer->received_len, data, taken);
        answer->received_len += taken;
    }
    answer->too_large = taken < len;
    return taken;
}

static struct cof_slice trimmed(struct cof_slice text)
{
    while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = cof_slice_of(text.data + 1, text.len - 1);
    }
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL) {
        text.len--;
    }
    return text;
}

static void keep_value(struct outbound_answer *answer, size_t at, struct cof_slice value)
{
    if (answer->values[at].data != NULL || value.len > VALUE_MAX) {
        return;
    }
    const char *copy = cof_arena_text(&answer->arena, value);
    if (copy != NULL) {
        answer->values[at] = cof_slice_of(copy, value.len);
    }
}

static void read_header(struct outbound_answer *answer, struct cof_slice line)
{
    for (size_t i = 0; i < answer->wanted_count; i++) {
        const size_t len = strlen(answer->wanted[i]);
        if (line.len > len && line.data[len] == ':' &&
            strncasecmp((const char *) line.data, answer->wanted[i], len) == 0) {
            keep_value(answer, i, trimmed(cof_slice_of(line.data + len + 1, line.len - len - 1)));
        }
    }
}

/* Line by line; a status line begins an answer, which may be an interim one, and an empty line ends its head. */
static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    struct outbound_answer *answer = context;
    const struct cof_slice line = cof_slice_of(data, size * count);
    answer->head_bytes += line.len;
    if (answer->head_bytes > HEAD_MAX) {
        answer->too_large = true;
        return 0;
    }
    if (cof_slice_starts_with(line, cof_slice_text("HTTP/"))) {
        long status = 0;
        (void) curl_easy_getinfo(answer->curl, CURLINFO_RESPONSE_CODE, &status);
        answer->status = status >= STATUS_FINAL ? (int) status : 0;
    } else if (trimmed(line).len == 0) {
        answer->head_whole = answer->status != 0;
    } else if (answer->status != 0 && !answer->head_whole) {
        read_header(answer, line);
    }
    return line.len;
}

/* Bytes of the body as they come over the wire; what becomes of them after decompression on_body counts. */
static int on_progress(void *context, curl_off_t announced, curl_off_t received, curl_off_t to_send,
                       curl_off_t sent)
{
    struct outbound_answer *answer = context;
    (void) announced;
    (void) to_send;
    (void) sent;
    answer->too_large = answer->too_large || received > (curl_off_t) answer->answer_bytes;
    return answer->too_large ? 1 : 0;
}

/* --- What leaves ---------------------------------------------------------------------------------------------- */

/* The address is the one that is connected to: no second answer of the DNS can come between. */
static curl_socket_t on_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct outbound_answer *answer = context;
    (void) purpose;
    const bool to_proxy = !answer->allowed && answer->options->proxy[0] != '\0';
    if (!answer->allowed && !to_proxy && !address_is_public(&address->addr)) {
        answer->address_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Connected, TLS done, nothing sent yet. The type is libcurl's. */
/* NOLINTNEXTLINE(readability-non-const-parameter) */
static int on_ready(void *context, char *to_address, char *from_address, int to_port, int from_port)
{
    struct outbound_answer *answer = context;
    (void) to_address;
    (void) from_address;
    (void) to_port;
    (void) from_port;
    if (answer->send_until_us != 0 && cof_clock_monotonic(answer->options->clock) > answer->send_until_us) {
        answer->too_late = true;
        return CURL_PREREQFUNC_ABORT;
    }
    answer->sent = true;
    return CURL_PREREQFUNC_OK;
}

/* --- Libcurl -------------------------------------------------------------------------------------------------- */

/* curl_easy_setopt is a macro of many lines that checks types. */
#define SET(option, value) (ok = ok && curl_easy_setopt(curl, (option), (value)) == CURLE_OK)

static bool set_callbacks(CURL *curl, struct outbound_answer *answer)
{
    bool ok = true;
    SET(CURLOPT_PRIVATE, answer);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, answer);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, answer);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, answer);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
    SET(CURLOPT_OPENSOCKETDATA, answer);
    SET(CURLOPT_PREREQFUNCTION, on_ready);
    SET(CURLOPT_PREREQDATA, answer);
    return ok;
}

/* HTTP/1.1 over a connection of its own: on a used one, and with HTTP/2, libcurl sends again by itself what may have
 * arrived. */
static bool set_connection(CURL *curl, const struct outbound_answer *answer)
{
    const struct outbound_options *options = answer->options;
    bool ok = true;
    SET(CURLOPT_CURLU, answer->url);
    SET(CURLOPT_PROTOCOLS_STR, answer->allowed ? "http,https" : "https");
    SET(CURLOPT_PROXY, answer->allowed ? "" : options->proxy);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_FRESH_CONNECT, 1L);
    SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
    if (options->ca_file[0] != '\0') {
        SET(CURLOPT_CAINFO, options->ca_file);
        SET(CURLOPT_CAPATH, NULL);
    }
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long) answer->connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, (long) answer->timeout_ms);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a name server that hangs must not be waited for */
    return ok;
}

static bool set_request(CURL *curl, const struct outbound_answer *answer)
{
    bool ok = true;
    SET(CURLOPT_HTTPHEADER, answer->headers);
    SET(CURLOPT_USERAGENT, "coffer");
    SET(CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    if (strcmp(answer->method, "GET") == 0) {
        SET(CURLOPT_HTTPGET, 1L);
    } else {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) answer->body.len);
        SET(CURLOPT_POSTFIELDS, (const char *) answer->body.data);
        SET(CURLOPT_CUSTOMREQUEST, answer->method);
    }
    if (answer->sigv4 != NULL) {
        SET(CURLOPT_AWS_SIGV4, answer->sigv4);
        SET(CURLOPT_USERNAME, answer->access_key);
        SET(CURLOPT_PASSWORD, answer->secret_key);
    }
    return ok;
}

bool transfer_prepare(struct outbound_answer *answer)
{
    answer->curl = curl_easy_init();
    return answer->curl != NULL && set_callbacks(answer->curl, answer) && set_connection(answer->curl, answer) &&
           set_request(answer->curl, answer);
}

/* --- The end -------------------------------------------------------------------------------------------------- */

static const char *what_of(CURLcode result)
{
    switch (result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return "its name is not known";
    case CURLE_COULDNT_CONNECT:
        return "it takes no connection";
    case CURLE_OPERATION_TIMEDOUT:
        return "the time for it was over";
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return "its certificate is not trusted";
    case CURLE_SSL_CONNECT_ERROR:
        return "TLS with it failed";
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_HTTP2:
        return "what came is not HTTP";
    default:
        return "its connection broke";
    }
}

static outbound_end end_of(const struct outbound_answer *answer, CURLcode result)
{
    if (answer->status != 0) {
        if (answer->too_large) {
            return OUTBOUND_TOO_LARGE;
        }
        return result == CURLE_OK && answer->head_whole ? OUTBOUND_ANSWERED : OUTBOUND_CUT;
    }
    if (answer->sent) {
        return OUTBOUND_LOST;
    }
    return answer->address_refused ? OUTBOUND_REFUSED_ADDRESS : OUTBOUND_NOT_SENT;
}

void transfer_end(struct outbound_answer *answer, CURLcode result)
{
    answer->end = end_of(answer, result);
    answer->received_us = cof_clock_wall(answer->options->clock);
    if (answer->end == OUTBOUND_REFUSED_ADDRESS) {
        answer->what = "its address is not public";
    } else if (answer->too_late) {
        answer->what = "it could not be sent in time";
    } else if (answer->too_large) {
        answer->what = "its answer is too large";
    } else if (answer->end != OUTBOUND_ANSWERED) {
        answer->what = what_of(result);
    }
    curl_easy_cleanup(answer->curl);
    answer->curl = NULL;
}

void transfer_refuse(struct outbound_answer *answer, outbound_end end, const char *what)
{
    answer->end = end;
    answer->what = what;
    answer->received_us = cof_clock_wall(answer->options->clock);
    if (answer->curl != NULL) {
        curl_easy_cleanup(answer->curl);
        answer->curl = NULL;
    }
}

/*
 * A status of 500 says nothing of the provider: one caller's broken request must not keep others from it. Gateways that
 * reach nobody, and 503, do.
 */
transfer_health transfer_health_of(const struct outbound_answer *answer)
{
    switch (answer->end) {
    case OUTBOUND_ANSWERED:
    case OUTBOUND_CUT:
    case OUTBOUND_TOO_LARGE:
        return answer->status >= STATUS_BAD_GATEWAY && answer->status <= STATUS_GATEWAY_TIMEOUT ? TRANSFER_ILL
                                                                                                : TRANSFER_HEALTHY;
    case OUTBOUND_LOST:
        return TRANSFER_ILL;
    case OUTBOUND_NOT_SENT:
        return answer->too_late ? TRANSFER_UNKNOWN : TRANSFER_ILL;
    case OUTBOUND_REFUSED_URL:
    case OUTBOUND_REFUSED_ADDRESS:
    case OUTBOUND_BREAKER_OPEN:
    case OUTBOUND_QUEUE_FULL:
    case OUTBOUND_STOPPED:
        break;
    }
    return TRANSFER_UNKNOWN;
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

const char *outbound_end_name(outbound_end end)
{
    static const char *const names[] = {
        [OUTBOUND_ANSWERED] = "answered",
        [OUTBOUND_CUT] = "cut",
        [OUTBOUND_TOO_LARGE] = "too_large",
        [OUTBOUND_LOST] = "lost",
        [OUTBOUND_NOT_SENT] = "not_sent",
        [OUTBOUND_REFUSED_URL] = "refused_url",
        [OUTBOUND_REFUSED_ADDRESS] = "refused_address",
        [OUTBOUND_BREAKER_OPEN] = "breaker_open",
        [OUTBOUND_QUEUE_FULL] = "queue_full",
        [OUTBOUND_STOPPED] = "stopped",
    };
    return names[end];
}

struct outbound_answer_view outbound_answer_view(const struct outbound_answer *answer)
{
    return (struct outbound_answer_view){
        .end = answer->end,
        .sent = answer->sent,
        .status = answer->status,
        .body = cof_slice_of(answer->received, answer->received_len),
        .retry_after_ms = answer->retry_after_ms,
        .received_us = answer->received_us,
        .what = answer->what,
    };
}

struct cof_slice outbound_answer_header(const struct outbound_answer *answer, const char *name)
{
    for (size_t i = 0; i < answer->wanted_count; i++) {
        if (strcasecmp(answer->wanted[i], name) == 0) {
            return answer->values[i];
        }
    }
    return cof_slice_of(NULL, 0);
}

void outbound_answer_free(struct outbound_answer *answer)
{
    if (answer == NULL) {
        return;
    }
    assert(answer->curl == NULL);
    curl_url_cleanup(answer->url);
    cof_arena_reset(&answer->arena);
    cof_wipe(answer, sizeof *answer);
    free(answer);
}
