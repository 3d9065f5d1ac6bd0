#include "common/trace.h"
#include "tests/support/test.h"

static bool parses(const char *header)
{
    struct cof_trace trace;
    return cof_trace_parse(cof_slice_text(header), &trace);
}

static void trace_and_span_are_taken_from_the_header(void)
{
    struct cof_trace trace;
    CHECK(cof_trace_parse(cof_slice_text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), &trace));
    CHECK(cof_slice_equal(trace.trace_id, cof_slice_text("0af7651916cd43dd8448eb211c80319c")));
    CHECK(cof_slice_equal(trace.span_id, cof_slice_text("b7ad6b7169203331")));
    CHECK(parses("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff"));
}

static void header_that_breaks_its_form_is_none(void)
{
    static const char *const wrong[] = {
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        "00-0af7651916cd43dd8448eb211c80319c\n-b7ad6b716920333-01",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(!parses(wrong[i]));
    }
}

TEST_MAIN(TEST(trace_and_span_are_taken_from_the_header), TEST(header_that_breaks_its_form_is_none))
