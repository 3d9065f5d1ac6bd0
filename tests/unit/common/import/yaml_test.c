#include "tests/unit/common/import/reading.h"

static void gives(const char *text, const char *expected)
{
    reading_gives(COF_IMPORT_YAML, text, expected);
}

static void refuses(const char *text, const char *message)
{
    reading_refuses(COF_IMPORT_YAML, text, message);
}

static void mapping_of_mappings_names_secrets_and_keys(void)
{
    gives("slack:\n  TOKEN: t\n  CHANNEL: c\naws: {ID: i}\n", "2:3 slack.TOKEN=t|3:3 slack.CHANNEL=c|4:7 aws.ID=i");
    gives("", "");
    gives("# nothing\n---\n...\n", "");
    gives("{}", "");
}

static void mapping_of_texts_is_for_the_secret_that_was_named(void)
{
    gives("---\nA: 1\nB: \"\"\n", "2:1 app.A=1|3:1 app.B=");
}

static void plain_values_stay_as_they_are_written(void)
{
    gives("A: 012345678901\nB: yes\nC: 1.10\nD: 2026-01-02\nE: 0x1F\nF: 1e3\nG: on\nH: True\nI: 1_000\nJ: .inf\n"
          "K: 12:30:45\n",
          "1:1 app.A=012345678901|2:1 app.B=yes|3:1 app.C=1.10|4:1 app.D=2026-01-02|5:1 app.E=0x1F|6:1 app.F=1e3|"
          "7:1 app.G=on|8:1 app.H=True|9:1 app.I=1_000|10:1 app.J=.inf|11:1 app.K=12:30:45");
    gives("012345678901: {yes: 1}\n", "1:16 012345678901.yes=1");
}

static void styles_of_texts_are_those_of_yaml(void)
{
    gives("A: 'it''s'\nB: \"a\\n\\x41\\u00e4\\0\"\nC: |\n  one\n   two\nD: >-\n  one\n  two\n",
          "1:1 app.A=it's|2:1 app.B=a\\x0aA\\xc3\\xa4\\x00|3:1 app.C=one\\x0a two\\x0a|6:1 app.D=one two");
    gives("A: a # comment\nB: a#b\n", "1:1 app.A=a|2:1 app.B=a#b");
    gives("\xEF\xBB\xBF"
          "A: 1\r\nB: 2\r\n",
          "1:1 app.A=1|2:1 app.B=2");
}

static void tags_of_texts_and_bytes_are_known(void)
{
    gives("A: !!str 1\nB: !!binary AP+A\nC: ! x\nD: !!str\nE: !!binary |\n  AP+A\n  /w==\n",
          "1:1 app.A=1|2:1 app.B=\\x00\\xff\\x80|3:1 app.C=x|4:1 app.D=|5:1 app.E=\\x00\\xff\\x80\\xff");
    gives("!!map {s: !!map {A: 1}}", "1:18 s.A=1");
    refuses("A: !!binary AP+", "line 1, column 4: this is not base64");
}

static void other_tags_are_refused(void)
{
    refuses("A: !!int 1", "line 1, column 4: a tag other than !!str and !!binary");
    refuses("A: !secret 1", "line 1, column 4: a tag other than");
    refuses("A: !!float 1", "line 1, column 4: a tag other than");
    refuses("s: !!set {A: 1}", "line 1, column 4: a mapping with a tag");
    refuses("!!binary QQ==: 1", "line 1, column 1: a name of bytes");
}

static void null_is_refused_unless_it_is_quoted(void)
{
    gives("A: \"null\"\nB: '~'\nC: nullable\n", "1:1 app.A=null|2:1 app.B=~|3:1 app.C=nullable");
    refuses("A:\nB: 1", "line 1, column 3: no value; write \"\"");
    refuses("A: ~", "line 1, column 4: no value");
    refuses("A: null", "line 1, column 4: no value");
    refuses("s:\n  A: NULL", "line 2, column 6: no value");
    refuses("s:\n", "line 1, column 3: no value");
}

static void anchors_aliases_and_merge_keys_are_refused(void)
{
    refuses("A: &a 1\nB: *a", "line 1, column 4: an anchor");
    refuses("s: &a {A: 1}", "line 1, column 4: an anchor");
    refuses("A: *a", "line 1, column 4: an alias");
    refuses("s:\n  <<: {A: 1}", "line 2, column 3: a merge key");
    gives("s:\n  '<<': x", "2:3 s.<<=x");
}

static void what_is_no_text_is_refused(void)
{
    refuses("A: [1, 2]", "line 1, column 4: a list");
    refuses("A:\n  - 1", "line 2, column 3: a list");
    refuses("- A", "line 1, column 1: a list");
    refuses("s:\n  A:\n    B: 1", "line 3, column 5: a mapping inside of a secret");
    refuses("text", "line 1, column 1: a text; a mapping of secrets or keys must stand here");
    refuses("? {a: b}\n: 1", "line 1, column 3: a name must stand here");
    refuses("A: 1\n---\nB: 2", "line 2, column 1: a second document");
}

static void what_is_not_yaml_is_refused_at_its_place(void)
{
    refuses("A: \"x", "line 1, column 6: found unexpected end of stream");
    refuses("A: 1\n B: 2", "line 2, column 3: mapping values are not allowed in this context");
    refuses("\tA: 1", "line 1, column 1: found character that cannot start any token");
    refuses("A: 1\nB: \x01", "line 2, column 4: control characters are not allowed");
    refuses("A: \xFF", "line 1, column 4: this is not UTF-8");
    refuses("A: {", "line 2, column 1: did not find expected node content");
}

static void messages_hold_nothing_of_a_value(void)
{
    static const char *const files[] = {
        "A: \"s3cr3t",        "A: \"s3cr3t\\q\"", "A: [s3cr3t]", "A: !s3cr3t s3cr3t",
        "A: !!binary s3cr3t", "A: &s3cr3t x",     "A: *s3cr3t",  "s3cr3t"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct reading reading;
        reading_init(&reading);
        const cof_code code = reading_read(&reading, COF_IMPORT_YAML, cof_slice_text(files[i]));
        reading_done(&reading);
        CHECK_FAILS(code, &reading.err, FILE_INVALID);
        CHECK(strstr(reading.err.message, "s3cr3t") == NULL);
    }
}

static void names_that_stand_twice_are_told_with_both_places(void)
{
    refuses("A: 1\n\"A\": 2", "line 2, column 1: the key \"A\" stands already in line 1, column 1");
    refuses("s: {A: 1, B: 2, A: 3}", "line 1, column 17: the key \"A\" stands already in line 1, column 5");
    refuses("s: {A: 1}\nt: {A: 1}\ns: {B: 1}",
            "line 3, column 1: the secret \"s\" stands already in line 1, column 1");
}

static void secret_without_a_key_is_refused(void)
{
    refuses("s: {}", "line 1, column 1: a secret without a key");
}

static void keys_with_and_without_a_secret_do_not_mix(void)
{
    refuses("A: 1\ns:\n  B: 2", "line 2, column 1: keys with a secret and keys without one (line 1, column 1)");
    refuses("s:\n  B: 2\nA: 1", "line 3, column 1: keys with a secret and keys without one (line 1, column 1)");
}

/* What is nested is refused when it begins, so its depth costs nothing. */
static void depth_has_a_limit(void)
{
    static char file[1 << 18];
    memset(file, '[', sizeof file - 1);
    memcpy(file, "A: ", 3);
    refuses(file, "line 1, column 4: a list");
    memset(file, '{', sizeof file - 1);
    refuses(file, "line 1, column 2: a name must stand here");
}

TEST_MAIN(TEST(mapping_of_mappings_names_secrets_and_keys), TEST(mapping_of_texts_is_for_the_secret_that_was_named),
          TEST(plain_values_stay_as_they_are_written), TEST(styles_of_texts_are_those_of_yaml),
          TEST(tags_of_texts_and_bytes_are_known), TEST(other_tags_are_refused),
          TEST(null_is_refused_unless_it_is_quoted), TEST(anchors_aliases_and_merge_keys_are_refused),
          TEST(what_is_no_text_is_refused), TEST(what_is_not_yaml_is_refused_at_its_place),
          TEST(messages_hold_nothing_of_a_value), TEST(names_that_stand_twice_are_told_with_both_places),
          TEST(secret_without_a_key_is_refused), TEST(keys_with_and_without_a_secret_do_not_mix),
          TEST(depth_has_a_limit))
