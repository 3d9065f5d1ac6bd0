#include <stdlib.h>

#include "server/providers/provider.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 16 };

static void begin(struct cof_arena *arena)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, ARENA);
}

static struct provider example(void)
{
    struct provider provider = {.id = "example", .parameter_count = 3};
    provider.parameters[0] = (struct provider_parameter){"tenant", PROVIDER_FORM_SEGMENT, "common", ""};
    provider.parameters[1] = (struct provider_parameter){"instance", PROVIDER_FORM_LABEL, "", ""};
    provider.parameters[2] = (struct provider_parameter){"domain", PROVIDER_FORM_HOST, "", ""};
    return provider;
}

static cof_code expand(const char *template, const char *name, const char *value, struct cof_arena *arena,
                       const char **ret_url, struct cof_error *err)
{
    const struct provider provider = example();
    const struct provider_pair pair = {name, value};
    return provider_expand(&provider, template, (struct provider_pairs){&pair, name == NULL ? 0 : 1}, arena,
                           ret_url, err);
}

static void parameters_are_put_where_they_stand(void)
{
    struct cof_arena arena;
    struct cof_error err;
    const char *url = NULL;
    begin(&arena);
    CHECK_OK(expand("https://a.example/x", NULL, NULL, &arena, &url, &err), &err);
    CHECK_TEXT(url, "https://a.example/x");
    CHECK_OK(expand("https://a.example/{tenant}/x/{tenant}", "tenant", "T-1.x_y", &arena, &url, &err), &err);
    CHECK_TEXT(url, "https://a.example/T-1.x_y/x/T-1.x_y");
    CHECK_OK(expand("https://{instance}.a.example/", "instance", "dev-1", &arena, &url, &err), &err);
    CHECK_TEXT(url, "https://dev-1.a.example/");
    CHECK_OK(expand("https://{domain}", "domain", "acme.okta.example", &arena, &url, &err), &err);
    CHECK_TEXT(url, "https://acme.okta.example");
    cof_arena_reset(&arena);
}

static void parameter_that_is_not_given_is_its_own_value_or_missing(void)
{
    struct cof_arena arena;
    struct cof_error err;
    const char *url = NULL;
    begin(&arena);
    CHECK_OK(expand("https://a.example/{tenant}", NULL, NULL, &arena, &url, &err), &err);
    CHECK_TEXT(url, "https://a.example/common");
    CHECK_FAILS(expand("https://{instance}.a.example/", NULL, NULL, &arena, &url, &err), &err, FIELD_REQUIRED);
    CHECK_CONTAINS(err.message, "instance");
    CHECK_FAILS(expand("https://a.example/{tenant}", "tenent", "x", &arena, &url, &err), &err, FIELD_INVALID);
    CHECK_CONTAINS(err.message, "tenent");
    cof_arena_reset(&arena);
}

/* Every value would make another URL of the template than the one that was meant. */
static void value_cannot_change_what_stands_around_it(void)
{
    static const char *const labels[] = {
        "evil.example/", "evil.example", "a/b", "a@b", "a:1",     "-a", "a-", "A", "", "a#", "a?",
        "a%2f",          "a\\",          "a b", "a\n", "\xc3\xa4"};
    static const char *const segments[] = {".",   "..", "a/b",   "a?b",  "a#b",     "a%2e",
                                           "a b", "",   "a\r\n", "a\\b", "{tenant}"};
    static const char *const hosts[] = {"localhost", "a..b",  ".a.b", "a.b.", "a.b:1",
                                        "a.b/c",     "u@a.b", "a.b#", "[::1]"};
    const struct provider provider = example();
    for (size_t i = 0; i < sizeof segments / sizeof segments[0]; i++) {
        CHECK(!provider_parameter_fits(&provider.parameters[0], segments[i]));
    }
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        CHECK(!provider_parameter_fits(&provider.parameters[1], labels[i]));
    }
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        CHECK(!provider_parameter_fits(&provider.parameters[2], hosts[i]));
    }
    CHECK(provider_parameter_fits(&provider.parameters[2], "127.0.0.1")); /* refused where one connects */
}

static void value_that_does_not_fit_is_not_told(void)
{
    struct cof_arena arena;
    struct cof_error err;
    const char *url = NULL;
    begin(&arena);
    CHECK_FAILS(expand("https://{instance}.a.example/", "instance", "evil.example/", &arena, &url, &err), &err,
                FIELD_INVALID);
    CHECK(strstr(err.message, "evil") == NULL);
    CHECK_CONTAINS(err.message, "instance");
    CHECK(url == NULL);
    cof_arena_reset(&arena);
}

static void lengths_have_limits(void)
{
    static char template[PROVIDER_URL_MAX + 2];
    char value[PROVIDER_PARAMETER_VALUE_MAX + 2];
    struct cof_arena arena;
    struct cof_error err;
    const char *url = NULL;
    const struct provider provider = example();
    begin(&arena);
    memset(value, 'a', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    CHECK(!provider_parameter_fits(&provider.parameters[0], value));
    value[sizeof value - 2] = '\0';
    CHECK(provider_parameter_fits(&provider.parameters[0], value));
    memset(template, 'x', PROVIDER_URL_MAX);
    CHECK_OK(expand(template, NULL, NULL, &arena, &url, &err), &err);
    template[PROVIDER_URL_MAX] = 'x';
    CHECK_FAILS(expand(template, NULL, NULL, &arena, &url, &err), &err, FIELD_INVALID);
    cof_arena_reset(&arena);
}

TEST_MAIN(TEST(parameters_are_put_where_they_stand), TEST(parameter_that_is_not_given_is_its_own_value_or_missing),
          TEST(value_cannot_change_what_stands_around_it), TEST(value_that_does_not_fit_is_not_told),
          TEST(lengths_have_limits))
