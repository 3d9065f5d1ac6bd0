#include <stdlib.h>

#include "server/providers/provider_file.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 20, TEXT = 1024 };

static void begin(struct cof_arena *arena)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, ARENA);
}

static cof_code read_text(const char *text, struct cof_arena *arena, struct provider_entries *ret_entries,
                          struct cof_error *err)
{
    return provider_file_read(cof_slice_text(text), arena, ret_entries, err);
}

#define FULL                                                                                      \
    "providers:\n"                                                                                \
    "  - id: example\n"                                                                           \
    "    name: Beispiel \xc3\xa4\n"                                                               \
    "    documentation: https://example.com/docs\n"                                               \
    "    issuer: https://{host}\n"                                                                \
    "    authorization_endpoint: https://{host}/{tenant}/authorize\n"                             \
    "    token_endpoint: https://{host}/token\n"                                                  \
    "    revocation_endpoint: https://{host}/revoke\n"                                            \
    "    device_endpoint: https://{host}/device\n"                                                \
    "    registration_endpoint: https://{host}/register\n"                                        \
    "    mcp_server: https://mcp.example.com/mcp\n"                                               \
    "    resource: https://mcp.example.com/mcp\n"                                                 \
    "    parameters:\n"                                                                           \
    "      - {name: host, form: host, value: a.example.com, help: yours}\n"                       \
    "      - {name: tenant, form: segment}\n"                                                     \
    "    scope_separator: ','\n"                                                                  \
    "    user:\n"                                                                                 \
    "      scopes: [read, write]\n"                                                               \
    "      scope_parameter: user_scope\n"                                                         \
    "      token_member: authed_user\n"                                                           \
    "      token: {audience: a}\n"                                                                \
    "    service:\n"                                                                              \
    "      jwt_bearer: true\n"                                                                    \
    "    pkce: false\n"                                                                           \
    "    sends_issuer: true\n"                                                                    \
    "    authorize: {access_type: offline, prompt: consent}\n"                                    \
    "    client_authentication: [client_secret_post, private_key_jwt]\n"                          \
    "    accept_json: true\n"                                                                     \
    "    assertion_audience: issuer\n"                                                            \
    "    tokens: {life: never, refresh: rotates_strictly, refresh_life: 90d, refresh_grace: 3s, " \
    "refresh_ends_old_access: true}\n"                                                            \
    "    replaces: true\n"

static void every_field_is_read(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct provider_entries entries = {0};
    begin(&arena);
    CHECK_OK(read_text(FULL, &arena, &entries, &err), &err);
    CHECK_INT(entries.count, 1);
    CHECK_INT(entries.items[0].line, 2);
    CHECK(entries.items[0].replaces);
    const struct provider *provider = &entries.items[0].provider;
    const struct provider_side *user = &provider->sides[PROVIDER_USER];
    CHECK_TEXT(provider->id, "example");
    CHECK_TEXT(provider->name, "Beispiel \xc3\xa4");
    CHECK_TEXT(provider->documentation, "https://example.com/docs");
    CHECK_TEXT(provider->issuer, "https://{host}");
    CHECK_TEXT(provider->authorization_endpoint, "https://{host}/{tenant}/authorize");
    CHECK_TEXT(provider->token_endpoint, "https://{host}/token");
    CHECK_TEXT(provider->revocation_endpoint, "https://{host}/revoke");
    CHECK_TEXT(provider->device_endpoint, "https://{host}/device");
    CHECK_TEXT(provider->registration_endpoint, "https://{host}/register");
    CHECK_TEXT(provider->mcp_server, "https://mcp.example.com/mcp");
    CHECK_TEXT(provider->resource, "https://mcp.example.com/mcp");
    CHECK_INT(provider->parameter_count, 2);
    CHECK_TEXT(provider->parameters[0].value, "a.example.com");
    CHECK_TEXT(provider->parameters[0].help, "yours");
    CHECK_INT(provider->parameters[1].form, PROVIDER_FORM_SEGMENT);
    CHECK(user->offered && user->scopes.count == 2);
    CHECK_TEXT(user->scopes.items[1], "write");
    CHECK_TEXT(user->scope_parameter, "user_scope");
    CHECK_TEXT(user->token_member, "authed_user");
    CHECK_TEXT(user->token_extras.items[0].name, "audience");
    CHECK(provider->sides[PROVIDER_SERVICE].offered && provider->sides[PROVIDER_SERVICE].jwt_bearer);
    CHECK_TEXT(provider->scope_separator, ",");
    CHECK_INT(provider->pkce, PROVIDER_PKCE_REFUSED);
    CHECK(provider->sends_issuer && provider->accept_json && provider->assertion_audience_issuer);
    CHECK_INT(provider->authorize_extras.count, 2);
    CHECK_TEXT(provider->authorize_extras.items[1].value, "consent");
    CHECK_INT(provider->client_auths, PROVIDER_AUTH_POST | PROVIDER_AUTH_PRIVATE_KEY_JWT);
    CHECK_INT(provider->client_auth, PROVIDER_AUTH_POST);
    CHECK(provider->token_never_expires && provider->refresh_rotates && provider->refresh_rotates_strictly);
    CHECK_INT(provider->refresh_life_s, 90 * 86400);
    CHECK_INT(provider->refresh_grace_s, 3);
    CHECK(provider->refresh_ends_old_access);
    cof_arena_reset(&arena);
}

#define LEAST "providers:\n  - id: a\n    name: A\n    token_endpoint: https://a.example/t\n    service: {}\n"

static void what_is_not_told_is_as_the_standards_have_it(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct provider_entries entries = {0};
    begin(&arena);
    CHECK_OK(read_text(LEAST, &arena, &entries, &err), &err);
    const struct provider *provider = &entries.items[0].provider;
    CHECK_TEXT(provider->scope_separator, " ");
    CHECK_TEXT(provider->sides[PROVIDER_SERVICE].scope_parameter, "scope");
    CHECK_TEXT(provider->revocation_endpoint, "");
    CHECK_INT(provider->client_auths, PROVIDER_AUTH_BASIC);
    CHECK_INT(provider->pkce, PROVIDER_PKCE_USED);
    CHECK_INT(provider->token_life_s, 3600);
    CHECK(!provider->token_never_expires && !provider->discovery && !entries.items[0].replaces);
    CHECK(!provider->sides[PROVIDER_USER].offered);
    cof_arena_reset(&arena);
}

/* Lines behind LEAST, and what is said about them. */
static const struct fault {
    const char *lines;
    const char *message;
} faults[] = {
    {"    tokenendpoint: x\n", "line 6, column 20: a provider has no field \"tokenendpoint\""},
    {"    name: B\n", "line 6, column 11: a key that stands twice"},
    {"    pkce: maybe\n", "line 6, column 11: pkce is neither true nor false"},
    {"    documentation: [a]\n", "line 6, column 20: documentation: a text is wanted here"},
    {"    documentation: ''\n", "documentation: a text is wanted here"},
    {"    documentation: \"a\\0b\"\n", "documentation: a text is wanted here"},
    {"    documentation: http://a.example\n", "line 2, column 5: documentation: must begin with https://"},
    {"    parameters: x\n", "parameters is no list"},
    {"    parameters: [{name: x}]\n", "form is missing"},
    {"    parameters: [{name: x, form: url}]\n", "line 6, column 34: form: this is none of the words"},
    {"    parameters: [{name: x, form: host}]\n", "parameters: x is in no URL"},
    {"    parameters: [{name: x, form: host, default: y}]\n", "a parameter has no field \"default\""},
    {"    user: {scopes: read}\n", "line 6, column 20: scopes: a list is wanted here"},
    {"    user: {jwt_bearer: true}\n", "user has no field \"jwt_bearer\""},
    {"    user: {}\n", "authorization_endpoint: tokens of users need it"},
    {"    authorize: [a]\n", "authorize: names with their values are wanted here"},
    {"    authorize: {state: x}\n", "authorize: state is sent by Coffer itself"},
    {"    authorize: {redirect_uri: x}\n", "authorize: redirect_uri is sent by Coffer itself"},
    {"    client_authentication: []\n", "client_authentication: say at least one"},
    {"    client_authentication: [basic]\n", "this is none of the words"},
    {"    client_authentication: [none]\n", "client_authentication: none, but"},
    {"    client_authentication: [none, none]\n", "it stands there twice"},
    {"    assertion_audience: x\n", "assertion_audience: this is none of the words"},
    {"    assertion_audience: issuer\n", "issuer: assertion_audience is the issuer"},
    {"    sends_issuer: true\n", "issuer: sends_issuer compares with it"},
    {"    scope_separator: ';'\n", "scope_separator: a space or a comma"},
    {"    tokens: {life: 5}\n", "life: a time is wanted here"},
    {"    tokens: {life: 0s}\n", "life: a time is wanted here"},
    {"    tokens: {life: 99999999999999999999d}\n", "life: a time is wanted here"},
    {"    tokens: {life: 4000000000s}\n", "life: a time is wanted here"},
    {"    tokens: {refresh: sometimes}\n", "refresh: this is none of the words"},
    {"    tokens: {refresh_grace: 5s}\n", "tokens.refresh_grace: an old refresh token"},
    {"    issuer: https://{x}\n", "issuer: {x} is not among the parameters"},
    {"    issuer: https://{x\n", "issuer: a parameter that does not end"},
    {"    issuer: https://a.example/#x\n", "issuer: this is no https URL"},
    {"    issuer: https://u:p@a.example/\n", "issuer: this is no https URL"},
    {"    issuer: https://A.example/\n", "issuer: this is no https URL"},
    {"    issuer: https:///x\n", "issuer: has no host's name"},
    {"    issuer: \"https://a.example/a b\"\n", "issuer: this is no https URL"},
    {"    issuer: \"https://a.example/\\x7f\"\n", "issuer: this is no https URL"},
    {"  - id: a\n    name: B\n    token_endpoint: https://b.example/t\n    service: {}\n",
     "line 6, column 5: a stands in line 2 already"},
    {"  - id: custom_a\n    name: B\n    token_endpoint: https://b.example/t\n    service: {}\n",
     "custom_ is for providers of workspaces"},
    {"  - id: B\n    name: B\n    token_endpoint: https://b.example/t\n    service: {}\n",
     "line 6, column 5: id: 1 to 94"},
    {"  - id: b\n    name: B\n    service: {}\n", "token_endpoint: it is needed, or discovery"},
    {"  - id: b\n    name: B\n    discovery: true\n    user: {}\n", "issuer: discovery begins there"},
    {"  - id: b\n    name: B\n    token_endpoint: https://b.example/t\n", "user: say whose tokens there are"},
    {"  - id: b\n    token_endpoint: https://b.example/t\n", "name is missing"},
    {"  - x\n", "a provider is no mapping"},
    {"other: 1\n", "the file has no field \"other\""},
};

static void what_is_wrong_is_refused_with_its_place(void)
{
    char text[TEXT];
    struct cof_arena arena;
    struct cof_error err;
    struct provider_entries entries = {0};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        begin(&arena);
        (void) snprintf(text, sizeof text, "%s%s", LEAST, faults[i].lines);
        CHECK_FAILS(read_text(text, &arena, &entries, &err), &err, FILE_INVALID);
        CHECK_CONTAINS(err.message, faults[i].message);
        CHECK_INT(entries.count, 0);
        cof_arena_reset(&arena);
    }
}

static void scopes_are_tokens(void)
{
    static const char *const scopes[] = {"'a b'", "'a\"b'", "'a\\b'", "\"a\\x01\"", "\"\xc3\xa4\"", "r, r"};
    char text[TEXT];
    struct cof_arena arena;
    struct cof_error err;
    struct provider_entries entries = {0};
    for (size_t i = 0; i < sizeof scopes / sizeof scopes[0]; i++) {
        begin(&arena);
        (void) snprintf(text, sizeof text,
                        "providers:\n  - id: a\n    name: A\n    token_endpoint: https://a.example/t\n    service: "
                        "{scopes: [%s]}\n",
                        scopes[i]);
        CHECK_FAILS(read_text(text, &arena, &entries, &err), &err, FILE_INVALID);
        CHECK_CONTAINS(err.message, "service.scopes");
        cof_arena_reset(&arena);
    }
}

static void parameter_of_a_path_is_none_of_a_host(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct provider_entries entries = {0};
    begin(&arena);
    CHECK_FAILS(
        read_text("providers:\n  - id: a\n    name: A\n    token_endpoint: https://{x}.example/t\n    service: {}\n"
                  "    parameters: [{name: x, form: segment}]\n",
                  &arena, &entries, &err),
        &err, FILE_INVALID);
    CHECK_CONTAINS(err.message, "token_endpoint: the parameter x stands in the host's name");
    cof_arena_reset(&arena);
}

static void empty_file_is_refused(void)
{
    struct cof_arena arena;
    struct cof_error err;
    struct provider_entries entries = {0};
    begin(&arena);
    CHECK_FAILS(read_text("", &arena, &entries, &err), &err, FILE_INVALID);
    cof_arena_reset(&arena);
}

/* Cut anywhere, the file is read or refused, and nothing else. */
static void file_that_is_cut_is_read_or_refused(void)
{
    char text[] = FULL;
    struct cof_arena arena;
    struct cof_error err;
    struct provider_entries entries = {0};
    for (size_t length = 0; length < sizeof text; length++) {
        begin(&arena);
        const cof_code code = provider_file_read(cof_slice_of(text, length), &arena, &entries, &err);
        CHECK(code == COF_OK || err.reason == COF_REASON_FILE_INVALID);
        cof_arena_reset(&arena);
    }
}

TEST_MAIN(TEST(every_field_is_read), TEST(what_is_not_told_is_as_the_standards_have_it),
          TEST(what_is_wrong_is_refused_with_its_place), TEST(scopes_are_tokens),
          TEST(parameter_of_a_path_is_none_of_a_host), TEST(empty_file_is_refused),
          TEST(file_that_is_cut_is_read_or_refused))
