#include <stdlib.h>

#include "server/providers/provider_id.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 18, TAKEN_MAX = 8 };

static void begin(struct cof_arena *arena)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, ARENA);
}

struct taken {
    const char *ids[TAKEN_MAX];
};

static bool is_taken(const char *id, const void *context)
{
    const struct taken *taken = context;
    for (size_t i = 0; i < TAKEN_MAX && taken->ids[i] != NULL; i++) {
        if (strcmp(taken->ids[i], id) == 0) {
            return true;
        }
    }
    return false;
}

static void name_in_any_script_becomes_an_id(void)
{
    static const char *const cases[][2] = {
        {"My Custom App", "custom_my_custom_app"},
        {"Acme API", "custom_acme_api"},
        {"Stra\xc3\x9f"
         "e",
         "custom_strasse"},
        {"\xe6\x97\xa5\xe6\x9c\xac", "custom_ri_ben"},
        {"\xd0\x9c\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0", "custom_moskva"},
        {"\xce\x91\xce\xb8\xce\xae\xce\xbd\xce\xb1", "custom_athena"},
        {"Caf\xc3\xa9 \xe2\x80\x94 Cr\xc3\xa8me", "custom_cafe_creme"},
        {"  --Zwei  W\xc3\xb6rter!! ", "custom_zwei_worter"},
        {"a_b__c", "custom_a_b_c"},
        {"1Password", "custom_1password"},
        {"\xef\xbc\xa1\xef\xbc\xa2\xef\xbc\xa3", "custom_abc"},
    };
    static const struct taken none;
    struct cof_arena arena;
    struct cof_error err;
    const char *id = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(&arena);
        CHECK_OK(provider_id_make(cases[i][0], is_taken, &none, &arena, &id, &err), &err);
        CHECK_TEXT(id, cases[i][1]);
        cof_arena_reset(&arena);
    }
}

static void prefix_stands_there_once(void)
{
    static const struct taken none;
    struct cof_arena arena;
    struct cof_error err;
    const char *id = NULL;
    begin(&arena);
    CHECK_OK(provider_id_make("Custom App", is_taken, &none, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_app");
    CHECK_OK(provider_id_make("custom", is_taken, &none, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_custom");
    CHECK_OK(provider_id_make("customer", is_taken, &none, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_customer");
    cof_arena_reset(&arena);
}

static void reserved_prefix_becomes_another(void)
{
    static const struct taken none;
    static const struct taken taken = {{"custom_mcp"}};
    struct cof_arena arena;
    struct cof_error err;
    const char *id = NULL;
    begin(&arena);
    CHECK_OK(provider_id_make("MCP Server", is_taken, &none, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_oauth_mcp_server");
    CHECK_OK(provider_id_make("custom mcp x", is_taken, &none, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_oauth_mcp_x");
    CHECK_OK(provider_id_make("MCP", is_taken, &none, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_mcp");
    CHECK_OK(provider_id_make("MCP", is_taken, &taken, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_oauth_mcp_1");
    cof_arena_reset(&arena);
}

static void name_of_which_nothing_is_left_becomes_random_digits(void)
{
    static const struct taken none;
    struct cof_arena arena;
    struct cof_error err;
    const char *first = NULL;
    const char *second = NULL;
    begin(&arena);
    CHECK_OK(provider_id_make("!!!", is_taken, &none, &arena, &first, &err), &err);
    CHECK_OK(provider_id_make("\xf0\x9f\x92\xa5", is_taken, &none, &arena, &second, &err), &err);
    CHECK_INT(strlen(first), strlen("custom_") + 8);
    CHECK_INT(strspn(first + strlen("custom_"), "0123456789abcdef"), 8);
    CHECK_INT(strlen(second), strlen("custom_") + 8);
    CHECK(strcmp(first, second) != 0);
    cof_arena_reset(&arena);
}

static void taken_id_gets_the_first_free_number(void)
{
    static const struct taken taken = {{"custom_acme", "custom_acme_1", "custom_acme_3"}};
    struct cof_arena arena;
    struct cof_error err;
    const char *id = NULL;
    begin(&arena);
    CHECK_OK(provider_id_make("Acme", is_taken, &taken, &arena, &id, &err), &err);
    CHECK_TEXT(id, "custom_acme_2");
    cof_arena_reset(&arena);
}

static void long_name_is_cut_and_bad_text_refused(void)
{
    static const struct taken none;
    char name[PROVIDER_NAME_MAX + 1];
    struct cof_arena arena;
    struct cof_error err;
    const char *id = NULL;
    begin(&arena);
    memset(name, 'x', PROVIDER_NAME_MAX);
    name[PROVIDER_NAME_MAX] = '\0';
    CHECK_OK(provider_id_make(name, is_taken, &none, &arena, &id, &err), &err);
    CHECK(strlen(id) <= PROVIDER_ID_MAX);
    CHECK_FAILS(provider_id_make("\xff", is_taken, &none, &arena, &id, &err), &err, FIELD_INVALID);
    cof_arena_reset(&arena);
}

TEST_MAIN(TEST(name_in_any_script_becomes_an_id), TEST(prefix_stands_there_once),
          TEST(reserved_prefix_becomes_another), TEST(name_of_which_nothing_is_left_becomes_random_digits),
          TEST(taken_id_gets_the_first_free_number), TEST(long_name_is_cut_and_bad_text_refused))
