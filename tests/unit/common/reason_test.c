#include <string.h>

#include <coffer/rpc/v1/error_reason.pb-c.h>

#include "common/error.h"
#include "tests/support/test.h"

/* common/reason.def and the enum ErrorReason of the wire contract are one list. */

#define PREFIX "ERROR_REASON_"

struct row {
    const char *name;
    int number;
    const char *meaning;
    const char *next_step;
};

static const struct row rows[] = {
#define REASON(name, number, code, meaning, next) {#name, number, meaning, next},
#include "common/reason.def"
#undef REASON
};

static void every_reason_has_its_number_in_the_wire_enum(void)
{
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        char name[128];
        (void) snprintf(name, sizeof name, PREFIX "%s", rows[i].name);
        const ProtobufCEnumValue *value =
            protobuf_c_enum_descriptor_get_value_by_name(&coffer__rpc__v1__error_reason__descriptor, name);
        if (value == NULL) {
            fprintf(stderr, "the enum lacks %s\n", name);
        }
        CHECK(value != NULL);
        CHECK_INT(value->value, rows[i].number);
    }
}

static void wire_enum_has_no_reason_more(void)
{
    const ProtobufCEnumDescriptor *type = &coffer__rpc__v1__error_reason__descriptor;
    CHECK_INT(type->n_values, COF_COUNT(rows) + 1);
    CHECK_TEXT(type->values[0].name, PREFIX "UNSPECIFIED");
    for (unsigned i = 1; i < type->n_values; i++) {
        CHECK_TEXT(cof_reason_name((cof_reason) type->values[i].value), type->values[i].name + strlen(PREFIX));
    }
}

static void every_number_stands_once(void)
{
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        for (size_t k = 0; k < i; k++) {
            CHECK(rows[i].number != rows[k].number);
        }
    }
}

static void every_reason_says_what_it_means_and_what_to_do(void)
{
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        const cof_reason reason = (cof_reason) rows[i].number;
        CHECK(rows[i].meaning[0] != '\0');
        CHECK(rows[i].next_step[0] != '\0');
        CHECK_TEXT(cof_reason_meaning(reason), rows[i].meaning);
        CHECK_TEXT(cof_reason_next_step(reason), rows[i].next_step);
        CHECK(cof_reason_code(reason) != COF_OK);
    }
}

TEST_MAIN(TEST(every_reason_has_its_number_in_the_wire_enum), TEST(wire_enum_has_no_reason_more),
          TEST(every_number_stands_once), TEST(every_reason_says_what_it_means_and_what_to_do))
