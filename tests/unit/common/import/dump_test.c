#include "tests/unit/common/import/reading.h"

#define VAULT_HEAD \
    "{\"request_id\": \"r\", \"lease_duration\": 0, \"renewable\": false, \"warnings\": null, \"data\": "

static void vault_secret_gives_its_keys(void)
{
    reading_gives(COF_IMPORT_VAULT,
                  VAULT_HEAD "{\"data\": {\"passcode\": \"p\",\n\"user\": \"u\"}, \"metadata\": {\"version\": 1, "
                             "\"deletion_time\": \"\"}}}",
                  "1:98 app.passcode=p|2:1 app.user=u");
    reading_gives(COF_IMPORT_VAULT, "{\"data\": {\"data\": {}}}", "");
}

static void what_is_no_vault_secret_is_refused(void)
{
    reading_refuses(COF_IMPORT_VAULT, "{\"data\":\n {\"passcode\": \"p\"}}",
                    "line 2, column 2: the object that begins here must have \"data\", once");
    reading_refuses(COF_IMPORT_VAULT, "{\"passcode\": \"p\"}",
                    "line 1, column 1: the object that begins here must have \"data\"");
    reading_refuses(COF_IMPORT_VAULT, "{\"data\": {\"data\": {\"n\": 1}}}",
                    "line 1, column 25: a number stands where a text in double quotes must");
    reading_refuses(COF_IMPORT_VAULT, "{\"data\": {\"data\": {}, \"data\": {}}}", "line 1, column 10: the object");
    reading_refuses(COF_IMPORT_VAULT, "{\"data\": {\"data\": {\"A\": \"1\", \"A\": \"2\"}}}",
                    "line 1, column 30: the key \"A\" stands already in line 1, column 20");
    reading_refuses(COF_IMPORT_VAULT, "{\"data\": {\"data\": {}}} x", "line 1, column 24: something stands behind");
    reading_refuses(COF_IMPORT_VAULT, "{\"data\": {\"data\": null}}",
                    "line 1, column 19: null stands where an object must");
}

static void what_is_passed_over_must_be_json(void)
{
    reading_refuses(COF_IMPORT_VAULT, "{\"x\": [1,, 2], \"data\": {\"data\": {}}}",
                    "line 1, column 10: a value is missing here");
    reading_refuses(COF_IMPORT_VAULT, "{\"x\": [1, 2", "line 1, column 12: a comma or the end");
    reading_refuses(COF_IMPORT_VAULT, "{\"x\":", "line 1, column 6: a value is missing here");
}

static void depth_of_what_is_passed_over_has_a_limit(void)
{
    static char file[1 << 18];
    memset(file, '[', sizeof file - 1);
    memcpy(file, "{\"x\":", 5);
    reading_refuses(COF_IMPORT_VAULT, file, "line 1, column 69: the document is nested more than 64 deep");
}

static void infisical_rows_give_keys_and_values(void)
{
    reading_gives(COF_IMPORT_INFISICAL,
                  "[{\"key\": \"A\", \"workspace\": \"w\", \"value\": \"1\", \"tags\": [{\"slug\": \"t\"}]},\n"
                  " {\"value\": \"2\\n\", \"type\": \"shared\", \"key\": \"B\"}]",
                  "1:2 app.A=1|2:2 app.B=2\\x0a");
    reading_gives(COF_IMPORT_INFISICAL, "[]", "");
}

static void what_is_no_infisical_row_is_refused(void)
{
    reading_refuses(COF_IMPORT_INFISICAL, "{}", "line 1, column 1: an object stands where an array must");
    reading_refuses(COF_IMPORT_INFISICAL, "[{\"key\": \"A\"}]",
                    "line 1, column 2: an object with a \"key\" and a \"value\" is expected here");
    reading_refuses(COF_IMPORT_INFISICAL, "[{\"value\": \"A\"}]", "line 1, column 2: an object with");
    reading_refuses(COF_IMPORT_INFISICAL, "[{\"key\": \"A\", \"value\": 1}]", "line 1, column 24: a number stands");
    reading_refuses(COF_IMPORT_INFISICAL, "[{\"key\": \"A\", \"key\": \"B\", \"value\": \"1\"}]",
                    "line 1, column 15: this name stands twice in its object");
    reading_refuses(COF_IMPORT_INFISICAL,
                    "[{\"key\": \"A\", \"value\": \"1\"}, {\"key\": \"A\", \"value\": \"1\"}]",
                    "line 1, column 30: the key \"A\" stands already in line 1, column 2");
    reading_refuses(COF_IMPORT_INFISICAL, "[{\"key\": \"A\", \"value\": \"1\"},]",
                    "line 1, column 29: a value is missing here");
    reading_refuses(COF_IMPORT_INFISICAL, "[1]", "line 1, column 2: an object with");
    reading_refuses(COF_IMPORT_INFISICAL, "[] []", "line 1, column 4: something stands behind");
}

static void formats_have_names(void)
{
    cof_import_format format = COF_IMPORT_JSON;
    CHECK(cof_import_format_find("infisical", &format));
    CHECK_INT(format, COF_IMPORT_INFISICAL);
    CHECK_TEXT(cof_import_format_name(COF_IMPORT_DOTENV), "env");
    CHECK(!cof_import_format_find("xml", &format));
    CHECK_INT(format, COF_IMPORT_INFISICAL);
    CHECK(cof_import_format_written(COF_IMPORT_YAML));
    CHECK(!cof_import_format_written(COF_IMPORT_VAULT));
}

TEST_MAIN(TEST(vault_secret_gives_its_keys), TEST(what_is_no_vault_secret_is_refused),
          TEST(what_is_passed_over_must_be_json), TEST(depth_of_what_is_passed_over_has_a_limit),
          TEST(infisical_rows_give_keys_and_values), TEST(what_is_no_infisical_row_is_refused),
          TEST(formats_have_names))
