#include <stdlib.h>

#include "server/providers/flow.h"
#include "server/providers/provider_catalogue.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 17 };

static void begin(struct cof_arena *arena)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, ARENA);
}

/* --- State ---------------------------------------------------------------------------------------------------- */

static void state_carries_the_workspace_and_nothing_else_is_a_state(void)
{
    static const char others[] = "ABCabc019-_=+/ %.";
    const struct cof_uuid workspace = cof_uuid_random();
    uint8_t random[FLOW_STATE_RANDOM];
    uint8_t read[FLOW_STATE_RANDOM];
    struct cof_uuid found = cof_uuid_zero;
    char text[FLOW_STATE_TEXT];
    for (size_t i = 0; i < sizeof random; i++) {
        random[i] = (uint8_t) (i * 7);
    }
    flow_state_make(&workspace, random, text);
    CHECK_INT(strlen(text), FLOW_STATE_TEXT - 1);
    CHECK(flow_state_read(cof_slice_text(text), &found, read));
    CHECK(cof_uuid_equal(&found, &workspace));
    CHECK_BYTES(read, random, sizeof random);
    for (size_t length = 0; length < FLOW_STATE_TEXT - 1; length++) {
        CHECK(!flow_state_read(cof_slice_of(text, length), &found, read));
    }
    for (size_t i = 0; i < sizeof others - 1; i++) {
        char changed[FLOW_STATE_TEXT];
        memcpy(changed, text, sizeof changed);
        changed[0] = others[i]; /* of the format */
        CHECK(changed[0] == text[0] || !flow_state_read(cof_slice_text(changed), &found, read));
    }
    CHECK(!flow_state_read(cof_slice_text(""), &found, read));
}

/* --- Where a person is sent ----------------------------------------------------------------------------------- */

static cof_code make_url(const struct provider *provider, struct provider_pairs parameters, struct cof_arena *arena,
                         const char **ret_url, struct cof_error *err)
{
    const struct flow_start start = {
        .provider = provider,
        .parameters = parameters,
        .client_id = "id&x=y",
        .redirect_uri = "https://coffer.example/oauth/callback",
        .state = "STATE",
        .code_challenge = "CHALLENGE",
        .scopes = provider->sides[PROVIDER_USER].scopes,
    };
    return flow_authorize_url(&start, arena, ret_url, err);
}

static void request_is_made_from_the_providers_fields(void)
{
    static const struct provider_pairs none;
    static const struct provider_pair tenant = {"tenant", "acme"};
    struct cof_arena arena;
    struct cof_error err;
    struct provider_catalogue *catalogue = NULL;
    const char *url = NULL;
    begin(&arena);
    CHECK_OK(provider_catalogue_new(NULL, 0, &catalogue, &err), &err);
    CHECK_OK(make_url(provider_catalogue_find(catalogue, "github"), none, &arena, &url, &err), &err);
    CHECK_TEXT(url, "https://github.com/login/oauth/authorize?response_type=code&client_id=id%26x%3Dy"
                    "&redirect_uri=https%3A%2F%2Fcoffer.example%2Foauth%2Fcallback&state=STATE"
                    "&code_challenge=CHALLENGE&code_challenge_method=S256&scope=repo");
    CHECK_OK(make_url(provider_catalogue_find(catalogue, "slack"), none, &arena, &url, &err), &err);
    CHECK_CONTAINS(url, "&user_scope=search%3Aread");
    CHECK(strstr(url, "code_challenge") == NULL && strstr(url, "&scope=") == NULL);
    CHECK_OK(make_url(provider_catalogue_find(catalogue, "google_drive"), none, &arena, &url, &err), &err);
    CHECK_CONTAINS(url, "&access_type=offline&prompt=consent");
    CHECK_CONTAINS(url, "drive.file%20https");
    CHECK_FAILS(make_url(provider_catalogue_find(catalogue, "microsoft_graph"), none, &arena, &url, &err), &err,
                FIELD_REQUIRED);
    CHECK_OK(make_url(provider_catalogue_find(catalogue, "microsoft_graph"), (struct provider_pairs){&tenant, 1},
                      &arena, &url, &err),
             &err);
    CHECK_CONTAINS(url, "https://login.microsoftonline.com/acme/oauth2/v2.0/authorize?");
    provider_catalogue_free(catalogue);
    cof_arena_reset(&arena);
}

static void query_of_the_endpoint_stays_and_the_resource_is_sent(void)
{
    static const struct provider_pairs none;
    struct provider provider = provider_defaults;
    struct cof_arena arena;
    struct cof_error err;
    const char *url = NULL;
    begin(&arena);
    provider.authorization_endpoint = "https://a.example/authorize?p=1";
    provider.resource = "https://mcp.example/mcp";
    CHECK_OK(make_url(&provider, none, &arena, &url, &err), &err);
    CHECK_CONTAINS(url, "https://a.example/authorize?p=1&response_type=code&");
    CHECK_CONTAINS(url, "&resource=https%3A%2F%2Fmcp.example%2Fmcp");
    CHECK(strstr(url, "scope") == NULL);
    cof_arena_reset(&arena);
}

static void request_has_a_limit(void)
{
    static const struct provider_pairs none;
    static char scope[PROVIDER_SCOPE_MAX + 1];
    const char *scopes[PROVIDER_SCOPES_MAX];
    struct provider provider = provider_defaults;
    struct cof_arena arena;
    struct cof_error err;
    const char *url = NULL;
    begin(&arena);
    memset(scope, 'x', PROVIDER_SCOPE_MAX);
    for (size_t i = 0; i < PROVIDER_SCOPES_MAX; i++) {
        scopes[i] = scope;
    }
    provider.authorization_endpoint = "https://a.example/authorize";
    provider.sides[PROVIDER_USER].scopes = (struct provider_texts){scopes, PROVIDER_SCOPES_MAX};
    CHECK_FAILS(make_url(&provider, none, &arena, &url, &err), &err, FIELD_INVALID);
    CHECK(url == NULL);
    cof_arena_reset(&arena);
}

/* --- What comes back ------------------------------------------------------------------------------------------ */

#define ISSUER "https://a.example"

static const struct returned {
    const char *query;
    const char *issuer;
    bool sends_issuer;
    flow_verdict verdict;
    const char *code; /* of a refusal */
} returned[] = {
    {"code=c&state=s", "", false, FLOW_CODE, ""},
    {"code=c&state=s&iss=https%3A%2F%2Fa.example", ISSUER, true, FLOW_CODE, ""},
    {"code=c&state=s&session_state=x&scope=a+b", ISSUER, false, FLOW_CODE, ""},
    {"error=access_denied&state=s", "", false, FLOW_REFUSED, "access_denied"},
    {"error=access_denied&state=s&iss=https://a.example", ISSUER, true, FLOW_REFUSED, "access_denied"},
    {"error=%3Cscript%3E&state=s", "", false, FLOW_REFUSED, ""},
    /* mix-up: another server's answer, also where `iss` is not announced */
    {"code=c&state=s&iss=https://evil.example", ISSUER, true, FLOW_ISSUER_OTHER, ""},
    {"code=c&state=s&iss=https://evil.example", ISSUER, false, FLOW_ISSUER_OTHER, ""},
    {"code=c&state=s&iss=https://a.example/", ISSUER, true, FLOW_ISSUER_OTHER, ""},
    {"code=c&state=s&iss=https://A.example", ISSUER, true, FLOW_ISSUER_OTHER, ""},
    {"error=access_denied&state=s&iss=https://evil.example", ISSUER, true, FLOW_ISSUER_OTHER, ""},
    {"code=c&state=s", ISSUER, true, FLOW_ISSUER_MISSING, ""},
    {"code=c&state=s&iss=", ISSUER, true, FLOW_ISSUER_MISSING, ""},
    {"error=access_denied&state=s", ISSUER, true, FLOW_ISSUER_MISSING, ""},
    /* nothing that could be exchanged */
    {"state=s", "", false, FLOW_INCOMPLETE, ""},
    {"code=&state=s", "", false, FLOW_INCOMPLETE, ""},
    {"code=c&error=e&state=s", "", false, FLOW_INCOMPLETE, ""},
    {"", "", false, FLOW_INCOMPLETE, ""},
    {"CODE=c&state=s", "", false, FLOW_INCOMPLETE, ""},
};

static void what_comes_back_is_judged(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct flow_return back;
    struct flow_outcome outcome;
    for (size_t i = 0; i < sizeof returned / sizeof returned[0]; i++) {
        begin(&arena);
        CHECK_OK(flow_return_read(cof_slice_text(returned[i].query), &arena, &back, &err), &err);
        flow_return_judge(&back, returned[i].issuer, returned[i].sends_issuer, &outcome);
        CHECK_INT(outcome.verdict, returned[i].verdict);
        CHECK_TEXT(outcome.code, returned[i].code);
        cof_arena_reset(&arena);
    }
}

static void parameters_are_decoded_and_stand_there_once(void)
{
    static const char *const queries[] = {"code=a&code=b&state=s",
                                          "state=a&state=b&code=c",
                                          "code=%zz",
                                          "code=%a",
                                          "code=%",
                                          "code=%ff",
                                          "code=%00",
                                          "iss=a&iss=a&code=c&state=s"};
    struct cof_arena arena;
    struct cof_error err;
    struct flow_return back = {.state = {NULL, 0}};
    begin(&arena);
    CHECK_OK(flow_return_read(cof_slice_text("code=a%2Fb%3D+c&state=x&&=&y"), &arena, &back, &err), &err);
    CHECK(cof_slice_equal(back.code, cof_slice_text("a/b= c")));
    CHECK(cof_slice_equal(back.state, cof_slice_text("x")));
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        CHECK_FAILS(flow_return_read(cof_slice_text(queries[i]), &arena, &back, &err), &err, FIELD_INVALID);
    }
    cof_arena_reset(&arena);
}

static void what_comes_back_has_limits_and_its_words_are_harmless(void)
{
    static char query[FLOW_QUERY_MAX + 2];
    struct cof_arena arena;
    struct cof_error err;
    struct flow_return back;
    struct flow_outcome outcome;
    begin(&arena);
    memset(query, 'x', FLOW_QUERY_MAX + 1);
    memcpy(query, "code=", 5);
    CHECK_FAILS(flow_return_read(cof_slice_text(query), &arena, &back, &err), &err, FIELD_INVALID);
    query[FLOW_QUERY_MAX] = '\0';
    CHECK_OK(flow_return_read(cof_slice_text(query), &arena, &back, &err), &err);
    flow_return_judge(&back, "", false, &outcome);
    CHECK_INT(outcome.verdict, FLOW_INCOMPLETE); /* a code of that length is none */
    CHECK_OK(flow_return_read(cof_slice_text("error=e&error_description=a%1b%5B31m%C3%A4"), &arena, &back, &err),
             &err);
    flow_return_judge(&back, "", false, &outcome);
    CHECK_TEXT(outcome.words, "a?[31m??");
    cof_arena_reset(&arena);
}

static void people_are_sent_back_to_https_or_this_host_alone(void)
{
    static const char *const fit[] = {"https://a.example/b?c=d", "https://a.example:8443/", "http://127.0.0.1",
                                      "http://127.0.0.1:80/x",   "http://[::1]:5/",         "http://localhost/",
                                      "https://a.example/@b"};
    static const char *const others[] = {"",
                                         "https://",
                                         "https:///x",
                                         "https://:443/",
                                         "https://u@a.example/",
                                         "https://a.example/#f",
                                         "https://a.example\\@b.example/",
                                         "https://a.example/ b",
                                         "http://a.example/",
                                         "http://127.0.0.1.evil.example/",
                                         "http://localhost:80@evil.example/",
                                         "http://localhost@evil.example/",
                                         "javascript:alert(1)"};
    char longest[FLOW_REDIRECT_MAX + 2];
    for (size_t i = 0; i < sizeof fit / sizeof fit[0]; i++) {
        CHECK(flow_redirect_fits(fit[i]));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        CHECK(!flow_redirect_fits(others[i]));
    }
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "https://", strlen("https://"));
    longest[FLOW_REDIRECT_MAX + 1] = '\0';
    CHECK(!flow_redirect_fits(longest));
    longest[FLOW_REDIRECT_MAX] = '\0';
    CHECK(flow_redirect_fits(longest));
}

TEST_MAIN(TEST(state_carries_the_workspace_and_nothing_else_is_a_state),
          TEST(request_is_made_from_the_providers_fields),
          TEST(query_of_the_endpoint_stays_and_the_resource_is_sent), TEST(request_has_a_limit),
          TEST(what_comes_back_is_judged), TEST(parameters_are_decoded_and_stand_there_once),
          TEST(what_comes_back_has_limits_and_its_words_are_harmless),
          TEST(people_are_sent_back_to_https_or_this_host_alone))
