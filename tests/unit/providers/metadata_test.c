#include <stdlib.h>

#include "server/providers/metadata.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 18, TEXT = 1024 };

static void begin(struct cof_arena *arena)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, ARENA);
}

static void metadata_is_looked_for_where_the_standards_have_it(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct metadata_places places;
    begin(&arena);
    CHECK_OK(metadata_server_places("https://a.example/tenant/", &arena, &places, &err), &err);
    CHECK_INT(places.count, 3);
    CHECK_TEXT(places.urls[0], "https://a.example/.well-known/oauth-authorization-server/tenant");
    CHECK_TEXT(places.urls[1], "https://a.example/.well-known/openid-configuration/tenant");
    CHECK_TEXT(places.urls[2], "https://a.example/tenant/.well-known/openid-configuration");
    CHECK_OK(metadata_server_places("https://a.example", &arena, &places, &err), &err);
    CHECK_INT(places.count, 2);
    CHECK_TEXT(places.urls[1], "https://a.example/.well-known/openid-configuration");
    CHECK_OK(metadata_resource_places("https://mcp.example/v1/mcp", &arena, &places, &err), &err);
    CHECK_INT(places.count, 2);
    CHECK_TEXT(places.urls[0], "https://mcp.example/.well-known/oauth-protected-resource/v1/mcp");
    CHECK_TEXT(places.urls[1], "https://mcp.example/.well-known/oauth-protected-resource");
    CHECK_OK(metadata_resource_places("https://mcp.example/", &arena, &places, &err), &err);
    CHECK_INT(places.count, 1);
    cof_arena_reset(&arena);
}

static void issuer_that_is_no_https_url_is_not_asked(void)
{
    static const char *const issuers[] = {"http://a.example",
                                          "https://",
                                          "https:///x",
                                          "https://u@a.example",
                                          "a.example",
                                          "https://a.example?x",
                                          "https://a.example#x",
                                          "https://a.example/ b",
                                          "",
                                          "https://a.example/\"",
                                          "file:///etc/passwd"};
    struct cof_arena arena;
    struct cof_error err;
    struct metadata_places places = {.count = 0};
    begin(&arena);
    for (size_t i = 0; i < sizeof issuers / sizeof issuers[0]; i++) {
        CHECK_FAILS(metadata_server_places(issuers[i], &arena, &places, &err), &err, FIELD_INVALID);
        CHECK_INT(places.count, 0);
    }
    cof_arena_reset(&arena);
}

#define ISSUER "https://a.example/t"
#define WHOLE                                                                                                  \
    "{\"issuer\":\"https://a.example/t\",\"authorization_endpoint\":\"https://a.example/authorize\","          \
    "\"token_endpoint\":\"https:\\/\\/a.example/token\",\"revocation_endpoint\":\"https://a.example/revoke\"," \
    "\"device_authorization_endpoint\":\"https://a.example/device\",\"registration_endpoint\":"                \
    "\"https://a.example/register\",\"authorization_response_iss_parameter_supported\":true,"                  \
    "\"code_challenge_methods_supported\":[\"plain\",\"S256\"],\"other\":{\"issuer\":\"x\",\"a\":[[],{}]},"    \
    "\"token_endpoint_auth_methods_supported\":[\"none\",7,{\"a\":1},\"client_secret_post\",\"tls_client_auth\"]}"

static cof_code read_server(const char *text, struct cof_arena *arena, struct metadata_server *ret_server,
                            struct cof_error *err)
{
    return metadata_server_read(cof_slice_text(text), ISSUER, arena, ret_server, err);
}

static void metadata_of_a_server_is_read(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct metadata_server server;
    begin(&arena);
    CHECK_OK(read_server(WHOLE, &arena, &server, &err), &err);
    CHECK_TEXT(server.issuer, ISSUER);
    CHECK_TEXT(server.authorization_endpoint, "https://a.example/authorize");
    CHECK_TEXT(server.token_endpoint, "https://a.example/token");
    CHECK_TEXT(server.revocation_endpoint, "https://a.example/revoke");
    CHECK_TEXT(server.device_endpoint, "https://a.example/device");
    CHECK_TEXT(server.registration_endpoint, "https://a.example/register");
    CHECK(server.sends_issuer && server.pkce_s256);
    CHECK_INT(server.client_auths, PROVIDER_AUTH_NONE | PROVIDER_AUTH_POST);
    CHECK_OK(read_server("{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://a.example/t\"}", &arena, &server,
                         &err),
             &err);
    CHECK(!server.sends_issuer && server.pkce_s256);
    CHECK_INT(server.client_auths, PROVIDER_AUTH_BASIC);
    CHECK_TEXT(server.authorization_endpoint, "");
    CHECK_OK(read_server("{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://a.example/t\","
                         "\"code_challenge_methods_supported\":[\"plain\"]}",
                         &arena, &server, &err),
             &err);
    CHECK(!server.pkce_s256);
    cof_arena_reset(&arena);
}

static void server_that_speaks_for_another_or_nonsense_is_refused(void)
{
    static const char *const answers[] = {
        "{\"issuer\":\"https://evil.example\",\"token_endpoint\":\"https://a.example/t\"}",
        "{\"issuer\":\"https://a.example/t/\",\"token_endpoint\":\"https://a.example/t\"}",
        "{\"issuer\":\"https://A.example/t\",\"token_endpoint\":\"https://a.example/t\"}",
        "{\"token_endpoint\":\"https://a.example/t\"}",
        "{\"issuer\":\"" ISSUER "\"}",
        "{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"http://a.example/t\"}",
        "{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://u:p@a.example/t\"}",
        "{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"javascript:alert(1)\"}",
        "{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://a.example/t#x\"}",
        "{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://a.example/\\n\"}",
        "{\"issuer\":\"" ISSUER
        "\",\"token_endpoint\":\"https://a.example/t\",\"registration_endpoint\":\"http://a.example\"}",
        "{\"issuer\":\"" ISSUER "\",\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://a.example/t\"}",
        "{\"issuer\":[\"" ISSUER "\"],\"token_endpoint\":\"https://a.example/t\"}",
        "{\"issuer\":\"" ISSUER "\\u0000\",\"token_endpoint\":\"https://a.example/t\"}",
        "{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://a.example/t\"",
        "{\"issuer\":\"" ISSUER "\",\"token_endpoint\":\"https://a.example/t\"} x",
        "[]",
        "\"x\"",
        "",
        "<html></html>",
        "null",
    };
    struct cof_arena arena;
    struct cof_error err;
    struct metadata_server server = {.issuer = NULL};
    begin(&arena);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        CHECK_FAILS(read_server(answers[i], &arena, &server, &err), &err, FILE_INVALID);
        CHECK(strstr(err.message, "evil") == NULL && strstr(err.message, "alert") == NULL);
        CHECK(server.issuer == NULL);
    }
    cof_arena_reset(&arena);
}

static void answer_that_is_cut_anywhere_is_refused(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct metadata_server server;
    for (size_t length = 0; length < strlen(WHOLE); length++) {
        begin(&arena);
        CHECK_FAILS(metadata_server_read(cof_slice_of(WHOLE, length), ISSUER, &arena, &server, &err), &err,
                    FILE_INVALID);
        cof_arena_reset(&arena);
    }
}

#define RESOURCE "https://mcp.example/mcp"

static void metadata_of_a_resource_names_its_servers(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct metadata_resource resource;
    begin(&arena);
    CHECK_OK(
        metadata_resource_read(cof_slice_text("{\"resource\":\"" RESOURCE "\",\"authorization_servers\":[\"" ISSUER
                                              "\"],\"scopes_supported\":[\"a\",\"b\"]}"),
                               RESOURCE, &arena, &resource, &err),
        &err);
    CHECK_INT(resource.servers.count, 1);
    CHECK_TEXT(resource.servers.items[0], ISSUER);
    CHECK_INT(resource.scopes.count, 2);
    cof_arena_reset(&arena);
}

static void resource_of_another_or_without_a_server_is_refused(void)
{
    static const char *const answers[] = {
        "{\"resource\":\"https://evil.example/mcp\",\"authorization_servers\":[\"" ISSUER "\"]}",
        "{\"authorization_servers\":[\"" ISSUER "\"]}",
        "{\"resource\":\"" RESOURCE "\"}",
        "{\"resource\":\"" RESOURCE "\",\"authorization_servers\":[]}",
        "{\"resource\":\"" RESOURCE "\",\"authorization_servers\":\"" ISSUER "\"}",
        "{\"resource\":\"" RESOURCE "\",\"authorization_servers\":[\"http://a.example\"]}",
        "{\"resource\":\"" RESOURCE "\",\"authorization_servers\":[\"" ISSUER "\",\"https://a.example?x=y\"]}",
        "{\"resource\":\"" RESOURCE
        "\",\"authorization_servers\":[\"https://a\",\"https://b\",\"https://c\",\"https://d\","
        "\"https://e\",\"https://f\",\"https://g\",\"https://h\",\"https://i\"]}",
    };
    struct cof_arena arena;
    struct cof_error err;
    struct metadata_resource resource = {.resource = NULL};
    begin(&arena);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        CHECK_FAILS(metadata_resource_read(cof_slice_text(answers[i]), RESOURCE, &arena, &resource, &err), &err,
                    FILE_INVALID);
        CHECK(resource.resource == NULL);
    }
    cof_arena_reset(&arena);
}

TEST_MAIN(TEST(metadata_is_looked_for_where_the_standards_have_it), TEST(issuer_that_is_no_https_url_is_not_asked),
          TEST(metadata_of_a_server_is_read), TEST(server_that_speaks_for_another_or_nonsense_is_refused),
          TEST(answer_that_is_cut_anywhere_is_refused), TEST(metadata_of_a_resource_names_its_servers),
          TEST(resource_of_another_or_without_a_server_is_refused))
