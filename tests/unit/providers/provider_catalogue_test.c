#include <stdlib.h>
#include <unistd.h>

#include "common/attr.h"
#include "server/providers/provider_catalogue.h"
#include "tests/support/test.h"

enum { LEAST_PROVIDERS = 70, TEXT = 2048 };

static void cleanup(struct provider_catalogue **catalogue)
{
    provider_catalogue_free(*catalogue);
}

/* What a platform's workflows use today, as its list has it: whose tokens, where from, how many scopes. */
static const struct wanted {
    const char *id;
    provider_class class;
    const char *from;
    size_t scopes;
} wanted[] = {
    {"azure_management", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 2},
    {"azure_management", PROVIDER_SERVICE, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"azure_log_analytics", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 2},
    {"azure_log_analytics", PROVIDER_SERVICE, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"microsoft_defender_endpoint", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
     2},
    {"microsoft_defender_endpoint", PROVIDER_SERVICE,
     "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"microsoft_defender_xdr", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 2},
    {"microsoft_defender_xdr", PROVIDER_SERVICE, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"microsoft_entra", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 4},
    {"microsoft_entra", PROVIDER_SERVICE, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"microsoft_graph", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 2},
    {"microsoft_graph", PROVIDER_SERVICE, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"microsoft_sentinel", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 2},
    {"microsoft_sentinel", PROVIDER_SERVICE, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"microsoft_teams", PROVIDER_USER, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 4},
    {"microsoft_teams", PROVIDER_SERVICE, "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", 1},
    {"github", PROVIDER_USER, "https://github.com/login/oauth/access_token", 1},
    {"slack", PROVIDER_USER, "https://slack.com/api/oauth.v2.access", 1},
    {"google_drive", PROVIDER_USER, "https://oauth2.googleapis.com/token", 4},
    {"google_gmail", PROVIDER_USER, "https://oauth2.googleapis.com/token", 4},
    {"google", PROVIDER_SERVICE, "https://oauth2.googleapis.com/token", 1},
    {"google_docs", PROVIDER_SERVICE, "https://oauth2.googleapis.com/token", 2},
    {"google_sheets", PROVIDER_SERVICE, "https://oauth2.googleapis.com/token", 2},
    {"jamf", PROVIDER_SERVICE, "https://{instance}.jamfcloud.com/api/v1/oauth/token", 0},
    {"servicenow", PROVIDER_SERVICE, "https://{instance}.service-now.com/oauth_token.do", 0},
    {"github_mcp", PROVIDER_USER, "https://github.com/login/oauth/access_token", 0},
    {"jira_mcp", PROVIDER_USER, "https://mcp.atlassian.com/v1/mcp", 0},
    {"linear_mcp", PROVIDER_USER, "https://mcp.linear.app/mcp", 0},
    {"notion_mcp", PROVIDER_USER, "https://mcp.notion.com/mcp", 0},
    {"runreveal_mcp", PROVIDER_USER, "https://api.runreveal.com/mcp", 0},
    {"secureannex_mcp", PROVIDER_USER, "https://mcp.secureannex.com/mcp", 0},
    {"sentry_mcp", PROVIDER_USER, "https://mcp.sentry.dev/mcp", 0},
    {"wiz_mcp", PROVIDER_USER, "https://mcp.app.wiz.io/", 0},
};

static void what_workflows_use_today_is_there(void)
{
    struct cof_error err;
    AUTO(cleanup) struct provider_catalogue *catalogue = NULL;
    CHECK_OK(provider_catalogue_new(NULL, 0, &catalogue, &err), &err);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const struct provider *provider = provider_catalogue_find(catalogue, wanted[i].id);
        CHECK(provider != NULL);
        CHECK(provider->sides[wanted[i].class].offered);
        CHECK_INT(provider->sides[wanted[i].class].scopes.count, wanted[i].scopes);
        CHECK_TEXT(provider->discovery ? provider->mcp_server : provider->token_endpoint, wanted[i].from);
        CHECK_INT(provider->sides[PROVIDER_SERVICE].jwt_bearer,
                  wanted[i].class == PROVIDER_SERVICE && strncmp(wanted[i].id, "google", 6) == 0);
    }
}

static void every_entry_tells_its_documentation_and_is_in_order(void)
{
    struct cof_error err;
    AUTO(cleanup) struct provider_catalogue *catalogue = NULL;
    CHECK_OK(provider_catalogue_new(NULL, 0, &catalogue, &err), &err);
    CHECK(provider_catalogue_count(catalogue) >= LEAST_PROVIDERS);
    for (size_t i = 0; i < provider_catalogue_count(catalogue); i++) {
        const struct provider *provider = provider_catalogue_at(catalogue, i);
        CHECK(strncmp(provider->documentation, "https://", 8) == 0);
        CHECK(i == 0 || strcmp(provider_catalogue_at(catalogue, i - 1)->id, provider->id) < 0);
        CHECK(provider_catalogue_find(catalogue, provider->id) == provider);
    }
    CHECK(provider_catalogue_find(catalogue, "nobody") == NULL);
    CHECK(provider_catalogue_find(catalogue, "") == NULL);
}

static void what_providers_do_in_their_own_way_is_data(void)
{
    struct cof_error err;
    AUTO(cleanup) struct provider_catalogue *catalogue = NULL;
    CHECK_OK(provider_catalogue_new(NULL, 0, &catalogue, &err), &err);
    const struct provider *slack = provider_catalogue_find(catalogue, "slack");
    const struct provider *google = provider_catalogue_find(catalogue, "google_drive");
    const struct provider *github = provider_catalogue_find(catalogue, "github");
    const struct provider *jamf = provider_catalogue_find(catalogue, "jamf");
    CHECK(slack != NULL && google != NULL && github != NULL && jamf != NULL);
    CHECK_TEXT(slack->sides[PROVIDER_USER].scope_parameter, "user_scope");
    CHECK_TEXT(slack->sides[PROVIDER_USER].token_member, "authed_user");
    CHECK_TEXT(google->authorize_extras.items[0].name, "access_type");
    CHECK_TEXT(google->authorize_extras.items[0].value, "offline");
    CHECK_TEXT(google->authorize_extras.items[1].name, "prompt");
    CHECK_INT(google->pkce, PROVIDER_PKCE_USED);
    CHECK(github->accept_json && github->token_never_expires);
    CHECK_INT(jamf->client_auth, PROVIDER_AUTH_POST);
    CHECK_TEXT(provider_catalogue_find(catalogue, "sentry_mcp")->resource, "https://mcp.sentry.dev/mcp");
}

/* --- Files of operators --------------------------------------------------------------------------------------- */

static void remove_file(char (*path)[64])
{
    (void) unlink(*path);
}

static cof_code with_file(const char *text, char path[64], struct provider_catalogue **ret_catalogue,
                          struct cof_error *err)
{
    (void) snprintf(path, 64, "/tmp/coffer-providers-XXXXXX");
    const int fd = mkstemp(path);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text)) {
        abort();
    }
    (void) close(fd);
    const char *files[] = {path};
    return provider_catalogue_new(files, 1, ret_catalogue, err);
}

#define ENTRY(id, more)                                                                                     \
    "providers:\n  - id: " id "\n    name: Ours\n    token_endpoint: https://ours.example/t\n    service: " \
    "{}\n" more

static void operators_add_and_replace(void)
{
    struct cof_error err;
    AUTO(remove_file) char path[64] = "";
    AUTO(cleanup) struct provider_catalogue *catalogue = NULL;
    CHECK_OK(with_file(ENTRY("github", "    replaces: true\n") "  - id: ours\n    name: Ours\n    token_endpoint: "
                                                               "https://ours.example/t\n    service: {}\n",
                       path, &catalogue, &err),
             &err);
    CHECK(provider_catalogue_find(catalogue, "ours") != NULL);
    CHECK_TEXT(provider_catalogue_find(catalogue, "github")->token_endpoint, "https://ours.example/t");
    CHECK(provider_catalogue_find(catalogue, "gitlab") != NULL);
}

static void entry_takes_no_other_ones_place_by_accident(void)
{
    struct cof_error err;
    AUTO(remove_file) char path[64] = "";
    AUTO(remove_file) char other[64] = "";
    struct provider_catalogue *catalogue = NULL;
    CHECK_FAILS(with_file(ENTRY("github", ""), path, &catalogue, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, path);
    CHECK_CONTAINS(err.message, "line 2: github is there already");
    CHECK_FAILS(with_file(ENTRY("ours", "    replaces: true\n"), other, &catalogue, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "line 2: ours replaces nothing");
    CHECK(catalogue == NULL);
}

static void wrong_file_is_told_with_its_place(void)
{
    struct cof_error err;
    AUTO(remove_file) char path[64] = "";
    struct provider_catalogue *catalogue = NULL;
    const char *missing[] = {"/nonexistent/providers.yaml"};
    CHECK_FAILS(with_file(ENTRY("ours", "    colour: red\n"), path, &catalogue, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, path);
    CHECK_CONTAINS(err.message, "line 6, column 13: a provider has no field \"colour\"");
    CHECK_FAILS(provider_catalogue_new(missing, 1, &catalogue, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "/nonexistent/providers.yaml cannot be opened");
    CHECK(catalogue == NULL);
}

TEST_MAIN(TEST(what_workflows_use_today_is_there), TEST(every_entry_tells_its_documentation_and_is_in_order),
          TEST(what_providers_do_in_their_own_way_is_data), TEST(operators_add_and_replace),
          TEST(entry_takes_no_other_ones_place_by_accident), TEST(wrong_file_is_told_with_its_place))
