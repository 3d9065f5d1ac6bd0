#include "server/http/site.h"
#include "tests/support/test.h"

#define HOST "Host: 127.0.0.1\r\n"

enum { BODY_MOST = 100000 };

static void echo(const struct http_request *request, struct http_response *response, void *context)
{
    (void) context;
    response->fields = request->method == HTTP_POST ? "X-Posted: yes\r\n" : NULL;
    http_text_format(&response->body, "query=%.*s body=", (int) request->query.len,
                     (const char *) request->query.data);
    http_text_add(&response->body, request->body);
}

static void overflow(const struct http_request *request, struct http_response *response, void *context)
{
    (void) request;
    (void) context;
    response->body.most = 10;
    http_text_add(&response->body, cof_slice_text("more than ten bytes"));
}

static const struct http_route routes[] = {
    {.path = "/callback", .methods = HTTP_GET | HTTP_POST, .body_most = BODY_MOST, .kind = "takes", .answer = echo},
    {.path = "/form", .methods = HTTP_POST, .body_most = BODY_MOST, .kind = "takes", .answer = echo},
    {.path = "/near", .methods = HTTP_GET, .only_loopback = true, .kind = "is near", .answer = echo},
    {.path = "/overflow", .methods = HTTP_GET, .kind = "is too much", .answer = overflow},
};
static const struct http_site site = {.routes = routes, .route_count = sizeof routes / sizeof routes[0]};

/* The answer's text, in memory that the next call uses again. */
static const char *serve(const char *text, bool loopback, http_step *ret_step)
{
    static char answer[4096];
    struct http_outcome outcome;
    http_serve(&site, "/ws", loopback, cof_slice_text(text), NULL, &outcome);
    const size_t size = outcome.bytes.size < sizeof answer ? outcome.bytes.size : sizeof answer - 1;
    if (size > 0) {
        memcpy(answer, outcome.bytes.data, size);
    }
    answer[size] = '\0';
    *ret_step = outcome.step;
    http_text_done(&outcome.bytes);
    return answer;
}

static void a_body_is_waited_for_and_given_to_its_route(void)
{
    http_step step;
    const char *answer = serve("POST /callback?a=b HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell", true, &step);
    CHECK_INT(step, HTTP_MORE);
    answer = serve("POST /callback?a=b HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", true, &step);
    CHECK_INT(step, HTTP_ANSWER);
    CHECK_CONTAINS(answer, "HTTP/1.1 200 OK\r\n");
    CHECK_CONTAINS(answer, "\r\nX-Posted: yes\r\n");
    CHECK_CONTAINS(answer, "\r\n\r\nquery=a=b body=hello");
}

static void more_is_wanted_by_its_number_so_that_room_can_be_made(void)
{
    struct http_outcome outcome;
    const char *text = "POST /callback HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n";
    http_serve(&site, "/ws", true, cof_slice_text(text), NULL, &outcome);
    CHECK_INT(outcome.step, HTTP_MORE);
    CHECK_INT(outcome.wanted, strlen(text) + BODY_MOST);
    http_text_done(&outcome.bytes);
}

static void a_body_over_the_limit_of_its_route_is_refused_before_it_comes(void)
{
    http_step step;
    CHECK_CONTAINS(serve("POST /callback HTTP/1.1\r\n" HOST "Content-Length: 100001\r\n\r\n", true, &step),
                   "HTTP/1.1 413 ");
    CHECK_CONTAINS(
        serve("POST /callback HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551617\r\n\r\n", true, &step),
        "HTTP/1.1 400 ");
    CHECK_CONTAINS(serve("GET /near HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx", true, &step), "HTTP/1.1 413 ");
}

static void a_route_may_be_for_this_host_only(void)
{
    http_step step;
    CHECK_CONTAINS(serve("GET /near HTTP/1.1\r\n" HOST "\r\n", true, &step), "HTTP/1.1 200 ");
    CHECK_CONTAINS(serve("GET /near HTTP/1.1\r\n" HOST "\r\n", false, &step), "HTTP/1.1 403 ");
}

static void what_is_allowed_is_told_with_a_wrong_method(void)
{
    http_step step;
    CHECK_CONTAINS(serve("PUT /callback HTTP/1.1\r\n" HOST "\r\n", true, &step), "\r\nAllow: GET, HEAD, POST\r\n");
    CHECK_CONTAINS(serve("GET /form HTTP/1.1\r\n" HOST "\r\n", true, &step), "\r\nAllow: POST\r\n");
    CHECK_CONTAINS(serve("POST /near HTTP/1.1\r\n" HOST "\r\n", true, &step), "\r\nAllow: GET, HEAD\r\n");
    CHECK_CONTAINS(serve("POST /ws HTTP/1.1\r\n" HOST "\r\n", true, &step), "\r\nAllow: GET\r\n");
}

static void an_answer_that_has_no_room_is_a_failure_and_not_half_an_answer(void)
{
    http_step step;
    const char *answer = serve("GET /overflow HTTP/1.1\r\n" HOST "\r\n", true, &step);
    CHECK_CONTAINS(answer, "HTTP/1.1 503 ");
    CHECK(strstr(answer, "more than") == NULL);
}

TEST_MAIN(TEST(a_body_is_waited_for_and_given_to_its_route),
          TEST(more_is_wanted_by_its_number_so_that_room_can_be_made),
          TEST(a_body_over_the_limit_of_its_route_is_refused_before_it_comes),
          TEST(a_route_may_be_for_this_host_only), TEST(what_is_allowed_is_told_with_a_wrong_method),
          TEST(an_answer_that_has_no_room_is_a_failure_and_not_half_an_answer))
