#include "common/web/handshake.h"
#include "server/http/site.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as what a peer of HTTP sends: an answer, a WebSocket or the wish for more; the same however it comes. */

static void answer(const struct http_request *request, struct http_response *response, void *context)
{
    (void) context;
    http_text_add(&response->body, request->body);
}

static const char *const names[] = {"coffer.example"};
static const struct cof_config_list hosts = {.items = (const char **) (uintptr_t) names, .count = 1};
static const struct http_route routes[] = {
    {.path = "/livez", .methods = HTTP_GET, .kind = "lives", .answer = answer},
    {.path = "/callback", .methods = HTTP_GET | HTTP_POST, .body_most = 64, .kind = "takes", .answer = answer},
};
static const struct http_site site = {.routes = routes, .route_count = 2, .hosts = &hosts, .origins = &hosts};

static bool has_text(const struct http_text *text, const char *start)
{
    const struct cof_slice bytes = cof_slice_of(text->data, text->size);
    return cof_slice_starts_with(bytes, cof_slice_text(start));
}

static void check_outcome(const struct http_outcome *outcome, struct cof_slice bytes)
{
    struct cof_head head;
    switch (outcome->step) {
    case HTTP_MORE:
        MUST(outcome->bytes.data == NULL && bytes.len < COF_HEAD_MOST + 64);
        MUST(outcome->wanted == 0 || outcome->wanted > bytes.len);
        return;
    case HTTP_ANSWER:
        MUST(has_text(&outcome->bytes, "HTTP/1.1 ") && outcome->status >= 200 && outcome->status < 600);
        break;
    case HTTP_LATER:
        MUST(false); /* there is nobody who waits */
        break;
    case HTTP_UPGRADE:
        MUST(has_text(&outcome->bytes, "HTTP/1.1 101 ") && outcome->taken <= bytes.len);
        break;
    }
    MUST(cof_head_response(cof_slice_of(outcome->bytes.data, outcome->bytes.size), &head) == COF_HEAD_DONE);
}

/* A peer may send byte by byte: what is answered in the end is the same. */
static size_t shortest(struct cof_slice bytes, http_step step)
{
    size_t low = 0;
    for (size_t size = bytes.len; size > 0 && bytes.len - size < 8; size--) {
        struct http_outcome outcome;
        http_serve(&site, "/ws", false, cof_slice_of(bytes.data, size), NULL, &outcome);
        MUST(outcome.step == step || outcome.step == HTTP_MORE || outcome.status >= 400);
        http_text_done(&outcome.bytes);
        low = size;
    }
    return low;
}

static void try_response(struct cof_slice bytes)
{
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
    struct cof_head head;
    if (cof_head_response(bytes, &head) == COF_HEAD_DONE) {
        MUST(head.size <= bytes.len && head.status <= 999);
        (void) cof_web_accepted(&head, key);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_outcome outcome;
    const struct cof_slice bytes = cof_slice_of(data, size);
    http_serve(&site, "/ws", true, bytes, NULL, &outcome);
    check_outcome(&outcome, bytes);
    (void) shortest(bytes, outcome.step);
    http_text_done(&outcome.bytes);
    try_response(bytes);
    return 0;
}
