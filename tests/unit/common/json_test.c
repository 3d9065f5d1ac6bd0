#include "common/attr.h"
#include "common/json.h"
#include "tests/support/test.h"

enum { KINDS = 64 };

/* One letter for each event; the letter E for the end, and for a failure. */
static cof_code kinds_of(const char *text, char kinds[KINDS], struct cof_error *err)
{
    static const char letters[] = "{}[]ksw.";
    struct cof_json_scan scan;
    struct cof_json_event event = {.kind = COF_JSON_WORD};
    cof_json_scan_init(&scan, cof_slice_text(text));
    for (size_t i = 0; i + 1 < KINDS && event.kind != COF_JSON_END; i++) {
        TRY(cof_json_next(&scan, &event, err));
        kinds[i] = letters[event.kind];
        kinds[i + 1] = '\0';
    }
    return COF_OK;
}

static void documents_are_read_as_rows_of_events(void)
{
    static const char *const cases[][2] = {
        {"{}", "{}."},
        {" [ ] ", "[]."},
        {"null", "w."},
        {"\"\"", "s."},
        {"{\"a\":1,\"a\":[true,\"x\",{}]}", "{kwk[ws{}]}."},
        {"[-0,0.5e+10,1E-2,12.50,false]", "[wwwww]."},
        {"\t\r\n[ \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\" ]", "[s]."},
        {"[[],[[]],{\"\":{}}]", "[[][[]]{k{}}]."},
    };
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        char kinds[KINDS] = "";
        struct cof_error err;
        CHECK_OK(kinds_of(cases[i][0], kinds, &err), &err);
        CHECK_TEXT(kinds, cases[i][1]);
    }
}

static const char *const refused[] = {
    "",
    " ",
    "{",
    "[",
    "}",
    "]",
    "[1,]",
    "{\"a\":1,}",
    "[1 2]",
    "{\"a\"}",
    "{a:1}",
    "{'a':1}",
    "['a']",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "1e+",
    "0x1",
    "NaN",
    "True",
    "nul",
    "\"",
    "\"a",
    "\"\n\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\xFF\"",
    "\"\xC0\x80\"",
    "\"\xED\xA0\x80\"",
    "[1]]",
    "1 2",
    "{}{}",
    "{\"a\":}",
    "{:1}",
    "[,1]",
    "[1,,2]",
    "\xEF\xBB\xBF{}",
    "// x\n1",
    "[1}",
    "{\"a\":1]",
    "{\"a\" 1}",
    "\"\\",
    "\"\\u",
    "nulll",
    "-01",
    "\"\x01\"",
    "{1:2}",
};

static void what_the_standard_does_not_allow_is_refused(void)
{
    for (size_t i = 0; i < COF_COUNT(refused); i++) {
        char kinds[KINDS] = "";
        struct cof_error err;
        CHECK_FAILS(kinds_of(refused[i], kinds, &err), &err, DOCUMENT_INVALID);
        CHECK_CONTAINS(err.message, "line ");
        CHECK_CONTAINS(err.message, ", column ");
    }
}

static void failure_says_where(void)
{
    char kinds[KINDS];
    struct cof_error err;
    CHECK_FAILS(kinds_of("{\n  \"a\": 1\n  \"b\": 2\n}", kinds, &err), &err, DOCUMENT_INVALID);
    CHECK_TEXT(err.message,
               "line 3, column 3: a comma or the end of the list or object is missing here; correct it");
    CHECK_FAILS(kinds_of("[\"\xC3\xA9\", \"\\q\"]", kinds, &err), &err, DOCUMENT_INVALID);
    CHECK_CONTAINS(err.message, "line 1, column 8: there is no such escape");
}

static cof_code nested(size_t depth, struct cof_error *err)
{
    char text[2 * (COF_JSON_DEPTH + 1) + 1] = "";
    struct cof_json_scan scan;
    struct cof_json_event event = {.kind = COF_JSON_WORD};
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    cof_json_scan_init(&scan, cof_slice_text(text));
    while (event.kind != COF_JSON_END) {
        TRY(cof_json_next(&scan, &event, err));
    }
    return COF_OK;
}

static void nesting_has_a_limit(void)
{
    struct cof_error err;
    CHECK_OK(nested(COF_JSON_DEPTH, &err), &err);
    CHECK_FAILS(nested(COF_JSON_DEPTH + 1, &err), &err, DOCUMENT_TOO_DEEP);
    CHECK_CONTAINS(err.message, "column 65: the document is nested more than 64 deep");
}

static void strings_are_decoded(void)
{
    static const char *const cases[][2] = {
        {"\"\"", ""},
        {"\"plain \xC3\xA9\"", "plain \xC3\xA9"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC"},
        {"\"\\ud83d\\udd11\"", "\xF0\x9F\x94\x91"},
        {"\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
        {"\"\\u0024{{\"", "${{"},
    };
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        uint8_t text[64];
        size_t length = 0;
        CHECK(cof_json_decode(cof_slice_text(cases[i][0]), text, &length));
        CHECK(cof_slice_equal(cof_slice_of(text, length), cof_slice_text(cases[i][1])));
    }
}

static void half_of_a_surrogate_pair_is_no_character(void)
{
    static const char *const cases[] = {"\"\\ud83d\"",        "\"\\ud83dx\"",   "\"\\udd11\"",
                                        "\"\\ud83d\\ud83d\"", "\"\\ud83d\\n\"", "\"\\ud83d\\u0041\""};
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        uint8_t text[64];
        size_t length;
        CHECK(!cof_json_decode(cof_slice_text(cases[i]), text, &length));
    }
}

TEST_MAIN(TEST(documents_are_read_as_rows_of_events), TEST(what_the_standard_does_not_allow_is_refused),
          TEST(failure_says_where), TEST(nesting_has_a_limit), TEST(strings_are_decoded),
          TEST(half_of_a_surrogate_pair_is_no_character))
