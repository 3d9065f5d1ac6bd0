#include <coffer/errors.h>

#include "common/error.h"
#include "tests/support/test.h"

/* A row of the tables that the public header does not have, or has with another number, does not compile. */
#define CODE(name, number) _Static_assert(COFFER_##name == (number), "COFFER_" #name " is not " #number);
#include "common/code.def"
#undef CODE
#define REASON(name, number, code, meaning, next) \
    _Static_assert(COFFER_REASON_##name == (number), "COFFER_REASON_" #name " is not " #number);
#include "common/reason.def"
#undef REASON

static void names_are_those_of_the_tables(void)
{
    CHECK_TEXT(coffer_status_name(COFFER_OK), "OK");
    CHECK_TEXT(coffer_status_name(COFFER_UNAUTHENTICATED), "UNAUTHENTICATED");
    CHECK_TEXT(coffer_status_name((coffer_status) 99), "UNKNOWN");
    CHECK_TEXT(coffer_reason_name(COFFER_REASON_KEY_NOT_FOUND), "KEY_NOT_FOUND");
    CHECK_TEXT(coffer_reason_name((coffer_reason) 9999), "UNSPECIFIED");
}

TEST_MAIN(TEST(names_are_those_of_the_tables))
