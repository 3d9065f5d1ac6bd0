#include "tests/unit/common/import/reading.h"

static void gives(const char *text, const char *expected)
{
    reading_gives(COF_IMPORT_JSON, text, expected);
}

static void refuses(const char *text, const char *message)
{
    reading_refuses(COF_IMPORT_JSON, text, message);
}

static void object_of_objects_names_secrets_and_keys(void)
{
    gives("{\"slack\": {\"TOKEN\": \"t\", \"CHANNEL\": \"c\"},\n \"aws\": {\"ID\": \"i\"}}",
          "1:12 slack.TOKEN=t|1:26 slack.CHANNEL=c|2:10 aws.ID=i");
    gives(" { } ", "");
}

static void object_of_texts_is_for_the_secret_that_was_named(void)
{
    gives("{\"A\": \"1\", \"B\": \"\"}", "1:2 app.A=1|1:12 app.B=");
}

static void byte_order_mark_and_cr_lf_are_passed_over(void)
{
    gives("\xEF\xBB\xBF{\r\n\"A\":\r\n\t\"1\"\r\n}\r\n", "2:1 app.A=1");
}

static void escapes_of_texts_are_decoded(void)
{
    gives("{\"A\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\ud83d\\ude00\"}",
          "1:2 app.A=\"\\/\\x08\\x0c\\x0a\\x0d\\x09\\xc3\\xa4\\xf0\\x9f\\x98\\x80");
    gives("{\"A\": \"a\\u0000b\"}", "1:2 app.A=a\\x00b");
    refuses("{\"A\": \"\\ud800\"}", "line 1, column 7: half of a surrogate pair");
    refuses("{\"A\": \"\\x\"}", "line 1, column 8: there is no such escape");
    refuses("{\"A\": \"a\nb\"}", "line 1, column 9: a control character stands in a string");
}

static void names_are_taken_as_they_stand(void)
{
    gives("{\"my secret\": {\"my\\tkey\": \"1\", \"\": \"2\"}}", "1:16 my secret.my\\x09key=1|1:32 my secret.=2");
    gives("{\"012345678901\": {\"1.10\": \"x\"}}", "1:19 012345678901.1.10=x");
}

static void base64_stands_for_any_bytes(void)
{
    gives("{\"A\": {\"$base64\": \"AP+A\"}, \"B\": {\"$base64\":\"\"}}", "1:2 app.A=\\x00\\xff\\x80|1:28 app.B=");
    gives("{\"s\": {\"A\": {\"$base64\": \"/w==\"}}}", "1:8 s.A=\\xff");
    refuses("{\"A\": {\"$base64\": \"_w==\"}}", "line 1, column 19: this is not base64");
    refuses("{\"A\": {\"$base64\": \"/w\"}}", "line 1, column 19: this is not base64");
    refuses("{\"A\": {\"$base64\": 1}}", "line 1, column 19: a number stands where a text in double quotes must");
    refuses("{\"A\": {\"$base64\": \"\", \"x\": \"\"}}",
            "line 1, column 23: nothing else may stand beside $base64");
}

static void what_is_no_text_is_refused_with_its_kind(void)
{
    refuses("{\"A\": 1}", "line 1, column 7: a number stands where a text in double quotes must");
    refuses("{\"A\":\n -0.5}", "line 2, column 2: a number stands");
    refuses("{\"A\": true}", "line 1, column 7: true or false stands");
    refuses("{\"A\": false}", "line 1, column 7: true or false stands");
    refuses("{\"A\": null}", "line 1, column 7: null stands");
    refuses("{\"A\": [\"x\"]}", "line 1, column 7: an array stands");
    refuses("{\"s\": {\"A\": {\"deep\": \"x\"}}}", "line 1, column 13: an object stands");
    refuses("{\"s\": {\"A\": {}}}", "line 1, column 13: an object stands");
    refuses("[]", "line 1, column 1: an array stands where an object must");
    refuses("\"A\"", "line 1, column 1: a text stands where an object must");
}

static void what_is_not_json_is_refused_at_its_place(void)
{
    refuses("", "line 1, column 1: a value is missing here");
    refuses("{", "line 1, column 2: a key in double quotes or } is missing here");
    refuses("{\"A\"", "line 1, column 5: a colon is missing here");
    refuses("{\"A\":", "line 1, column 6: a value is missing here");
    refuses("{\"A\": \"x", "line 1, column 7: this string is not closed");
    refuses("{\"A\": \"x\"", "line 1, column 10: a comma or the end of the list or object is missing here");
    refuses("{\"A\": \"x\",}", "line 1, column 11: a key in double quotes is missing here");
    refuses("{\"A\" \"x\"}", "line 1, column 6: a colon is missing here");
    refuses("{\"A\": \"x\" \"B\": \"y\"}", "line 1, column 11: a comma or the end");
    refuses("{A: \"x\"}", "line 1, column 2: a key in double quotes or } is missing here");
    refuses("{\"A\": x}", "line 1, column 7: a value is missing here");
    refuses("{\"A\": \"x\"} {}", "line 1, column 12: something stands behind the document's end");
    refuses("{\"A\": \"x\"} // c", "line 1, column 12: something stands behind the document's end");
    refuses("{\"s\": {\"A\": \"x\"}", "line 1, column 17: a comma or the end");
    refuses("{\"A\": \"\xFF\"}", "line 1, column 8: this is not UTF-8");
}

static void messages_hold_nothing_of_a_value(void)
{
    static const char *const files[] = {"{\"A\": \"s3cr3t",      "{\"A\": \"s3cr3t\\x\"}",
                                        "{\"A\": \"s3cr3t\n\"}", "{\"A\": s3cr3t}",
                                        "{\"A\": \"x\" s3cr3t}", "{\"A\": {\"$base64\": \"s3cr3t\"}}"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct reading reading;
        reading_init(&reading);
        const cof_code code = reading_read(&reading, COF_IMPORT_JSON, cof_slice_text(files[i]));
        reading_done(&reading);
        CHECK_FAILS(code, &reading.err, FILE_INVALID);
        CHECK(strstr(reading.err.message, "s3cr3t") == NULL);
    }
}

static void names_that_stand_twice_are_told_with_both_places(void)
{
    refuses("{\"A\": \"1\",\n\"A\": \"2\"}", "line 2, column 1: the key \"A\" stands already in line 1, column 2");
    refuses("{\"s\": {\"A\": \"1\", \"B\": \"2\", \"\\u0041\": \"3\"}}",
            "line 1, column 28: the key \"A\" stands already in line 1, column 8");
    refuses("{\"s\": {\"A\": \"1\"}, \"t\": {\"A\": \"1\"}, \"s\": {\"B\": \"1\"}}",
            "line 1, column 36: the secret \"s\" stands already in line 1, column 2");
}

static void secret_without_a_key_is_refused(void)
{
    refuses("{\"s\": {}}", "line 1, column 2: a secret without a key");
    refuses("{\"s\": {},\n \"t\": {\"A\": \"1\"}}", "line 1, column 2: a secret without a key");
}

static void keys_with_and_without_a_secret_do_not_mix(void)
{
    refuses("{\"A\": \"1\", \"s\": {\"B\": \"2\"}}",
            "line 1, column 12: keys with a secret and keys without one (line 1, column 2) in one file");
    refuses("{\"s\": {\"B\": \"2\"}, \"A\": \"1\"}",
            "line 1, column 19: keys with a secret and keys without one (line 1, column 2) in one file");
}

static void flat_file_needs_the_name_of_a_secret(void)
{
    struct reading reading;
    reading_init(&reading);
    const cof_code code = cof_import_read(COF_IMPORT_JSON, cof_slice_text("{\"A\": \"1\"}"), cof_slice_of(NULL, 0),
                                          &reading.arena, &reading.list, &reading.err);
    reading_done(&reading);
    CHECK_FAILS(code, &reading.err, FILE_INVALID);
    CHECK_CONTAINS(reading.err.message, "line 1, column 2: a key that stands below no secret; say which secret");
}

static void name_without_end_is_refused(void)
{
    static char file[COF_IMPORT_NAME_MAX + 64];
    (void) reading_put(file, "{\"", COF_IMPORT_NAME_MAX, "\": {\"A\": \"1\"}}");
    struct reading reading;
    reading_init(&reading);
    const cof_code code = reading_read(&reading, COF_IMPORT_JSON, cof_slice_text(file));
    reading_done(&reading);
    CHECK_OK(code, &reading.err);
    (void) reading_put(file, "{\"", COF_IMPORT_NAME_MAX + 1, "\": {\"A\": \"1\"}}");
    refuses(file, "line 1, column 2: a name of 1025 bytes");
    (void) reading_put(file, "{\"", COF_IMPORT_NAME_MAX + 1, "\": \"1\"}");
    refuses(file, "line 1, column 2: a name of 1025 bytes");
}

TEST_MAIN(TEST(object_of_objects_names_secrets_and_keys), TEST(object_of_texts_is_for_the_secret_that_was_named),
          TEST(byte_order_mark_and_cr_lf_are_passed_over), TEST(escapes_of_texts_are_decoded),
          TEST(names_are_taken_as_they_stand), TEST(base64_stands_for_any_bytes),
          TEST(what_is_no_text_is_refused_with_its_kind), TEST(what_is_not_json_is_refused_at_its_place),
          TEST(messages_hold_nothing_of_a_value), TEST(names_that_stand_twice_are_told_with_both_places),
          TEST(secret_without_a_key_is_refused), TEST(keys_with_and_without_a_secret_do_not_mix),
          TEST(flat_file_needs_the_name_of_a_secret), TEST(name_without_end_is_refused))
