#include "common/attr.h"
#include "common/method.h"
#include "tests/support/test.h"

static void every_row_is_found_by_its_name(void)
{
    for (size_t i = 0; i < cof_method_count(); i++) {
        size_t index = SIZE_MAX;
        CHECK(cof_method_find(cof_slice_text(cof_method_at(i)->name), &index));
        CHECK_INT(index, i);
    }
}

static void name_that_is_nearly_one_is_unknown(void)
{
    static const char *const names[] = {"",
                                        "/",
                                        "coffer.v1.ResolveService",
                                        "coffer.v1.ResolveService/",
                                        "coffer.v1.ResolveService/Resolv",
                                        "coffer.v1.ResolveService/Resolve2",
                                        "coffer.v1.resolveService/Resolve"};
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        size_t index = SIZE_MAX;
        CHECK(!cof_method_find(cof_slice_text(names[i]), &index));
        CHECK(index == SIZE_MAX);
    }
}

static void row_says_who_may_call(void)
{
    static const struct {
        const char *name;
        cof_method_access access;
        cof_permission permission;
    } rows[] = {
        {"grpc.health.v1.Health/Check", COF_METHOD_OPEN, 0},
        {"coffer.rpc.v1.ReflectionService/GetFileDescriptorSet", COF_METHOD_CALLER, 0},
        {"coffer.v1.WorkspaceService/GetWorkspace", COF_METHOD_PERMITTED, COF_PERMISSION_WORKSPACE_READ},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        size_t index = 0;
        CHECK(cof_method_find(cof_slice_text(rows[i].name), &index));
        CHECK_INT(cof_method_at(index)->access, rows[i].access);
        CHECK_INT(cof_method_at(index)->permission, rows[i].permission);
    }
}

TEST_MAIN(TEST(every_row_is_found_by_its_name), TEST(name_that_is_nearly_one_is_unknown),
          TEST(row_says_who_may_call))
