#include "common/permission.h"
#include "tests/support/test.h"

static const struct {
    const char *name;
    int bit;
} rows[] = {
#define PERMISSION(symbol, bit, name, kinds, what) {name, bit},
#include "common/permission.def"
#undef PERMISSION
};

static void names_and_bits_are_unique_and_complete(void)
{
    cof_permission_set seen = 0;
    CHECK_INT(sizeof rows / sizeof rows[0], COF_PERMISSION_COUNT);
    for (size_t i = 0; i < COF_PERMISSION_COUNT; i++) {
        CHECK(rows[i].bit >= 0 && rows[i].bit < COF_PERMISSION_COUNT);
        CHECK((seen & COF_PERMISSION_BIT(rows[i].bit)) == 0);
        seen |= COF_PERMISSION_BIT(rows[i].bit);
        for (size_t k = 0; k < i; k++) {
            CHECK(strcmp(rows[i].name, rows[k].name) != 0);
        }
    }
    CHECK(seen == COF_PERMISSION_BIT(COF_PERMISSION_COUNT) - 1);
}

static void every_name_is_read_as_its_permission(void)
{
    for (size_t i = 0; i < COF_PERMISSION_COUNT; i++) {
        const cof_permission permission = (cof_permission) rows[i].bit;
        CHECK_INT(cof_permission_parse(cof_slice_text(rows[i].name)), rows[i].bit);
        CHECK_TEXT(cof_permission_name(permission), rows[i].name);
        CHECK(cof_permission_what(permission)[0] != '\0');
    }
}

static void unknown_names_are_refused(void)
{
    static const char *const wrong[] = {
        "", "Resolve", "resolve ", "secret:", "secret:*", "*", "secret:readx", "admin"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_INT(cof_permission_parse(cof_slice_text(wrong[i])), -1);
    }
    CHECK_INT(cof_permission_parse(cof_slice_of("resolve\0", 8)), -1);
}

static void system_accounts_can_neither_resolve_nor_touch_secrets(void)
{
    const cof_permission_set system = cof_permission_usable(COF_TOKEN_SYSTEM);
    CHECK((system & COF_PERMISSION_BIT(COF_PERMISSION_RESOLVE)) == 0);
    CHECK((system & COF_PERMISSION_BIT(COF_PERMISSION_SECRET_READ)) == 0);
    CHECK((system & COF_PERMISSION_BIT(COF_PERMISSION_SECRET_WRITE)) == 0);
    CHECK((system & COF_PERMISSION_BIT(COF_PERMISSION_SECRET_REVEAL)) == 0);
    CHECK((system & COF_PERMISSION_BIT(COF_PERMISSION_WORKSPACE_CREATE)) != 0);
}

static void only_system_accounts_can_make_workspaces_and_manage_keys(void)
{
    const cof_permission_set reserved =
        COF_PERMISSION_BIT(COF_PERMISSION_WORKSPACE_CREATE) | COF_PERMISSION_BIT(COF_PERMISSION_KEY_MANAGE);
    CHECK((cof_permission_usable(COF_TOKEN_WORKSPACE) & reserved) == 0);
    CHECK((cof_permission_usable(COF_TOKEN_FLEET) & reserved) == 0);
    CHECK((cof_permission_usable(COF_TOKEN_SYSTEM) & reserved) == reserved);
}

TEST_MAIN(TEST(names_and_bits_are_unique_and_complete), TEST(every_name_is_read_as_its_permission),
          TEST(unknown_names_are_refused), TEST(system_accounts_can_neither_resolve_nor_touch_secrets),
          TEST(only_system_accounts_can_make_workspaces_and_manage_keys))
