#include "tests/unit/common/import/reading.h"

static void gives(const char *text, const char *expected)
{
    reading_gives(COF_IMPORT_DOTENV, text, expected);
}

static void refuses(const char *text, const char *message)
{
    reading_refuses(COF_IMPORT_DOTENV, text, message);
}

static void lines_become_keys_of_the_secret_that_was_named(void)
{
    gives("A=1\nB_2.c-d=two words\n", "1:1 app.A=1|2:1 app.B_2.c-d=two words");
    gives("A=1", "1:1 app.A=1");
    gives("", "");
    gives("\n\n  \n\t\n", "");
}

static void comments_and_blanks_around_things_mean_nothing(void)
{
    gives("# A=1\n  # B=2\nC=3 # three\n", "3:1 app.C=3");
    gives("  A = 1\t \n\tB\t=\t2\n", "1:3 app.A=1|2:2 app.B=2");
    gives("A='1' # one\nB=\"2\"\t#two\n", "1:1 app.A=1|2:1 app.B=2");
}

static void hash_without_a_blank_before_it_belongs_to_the_value(void)
{
    gives("A=a#b\nB=#c\nC=a ##b\nD= #nothing\n", "1:1 app.A=a#b|2:1 app.B=#c|3:1 app.C=a|4:1 app.D=");
    gives("A='a # b'\nB=\"a # b\"", "1:1 app.A=a # b|2:1 app.B=a # b");
}

static void export_before_a_key_means_nothing(void)
{
    gives("export A=1\nexport\t B=2\n  export C='3'\n", "1:8 app.A=1|2:9 app.B=2|3:10 app.C=3");
    gives("export=1\nexported=2\n", "1:1 app.export=1|2:1 app.exported=2");
    gives("export =1", "1:1 app.export=1");
    refuses("export A", "line 1, column 8: no KEY=value");
    refuses("export", "line 1, column 1: no KEY=value");
}

static void value_without_quotes_is_taken_as_it_stands(void)
{
    gives("A=a\\nb\nB=a'b\"c`d\nC=p=q==\n", "1:1 app.A=a\\nb|2:1 app.B=a'b\"c`d|3:1 app.C=p=q==");
    gives("A=\nB=   \nC=''\nD=\"\"", "1:1 app.A=|2:1 app.B=|3:1 app.C=|4:1 app.D=");
    gives("A=012345678901\nB=1.10\nC=yes", "1:1 app.A=012345678901|2:1 app.B=1.10|3:1 app.C=yes");
}

static void dollars_and_braces_are_never_replaced(void)
{
    gives("A=$HOME\nB=${A}\nC=$(id)\nD='$HOME'\nE=\"${A:-x}\"",
          "1:1 app.A=$HOME|2:1 app.B=${A}|3:1 app.C=$(id)|4:1 app.D=$HOME|5:1 app.E=${A:-x}");
}

static void single_quotes_keep_everything(void)
{
    gives("A=' a\\n\"$b\" # c '", "1:1 app.A= a\\n\"$b\" # c ");
    gives("A='one\ntwo'\nB=3", "1:1 app.A=one\\x0atwo|3:1 app.B=3");
    refuses("A='it\\'s'", "line 1, column 8: more text behind the closing quote");
}

static void double_quotes_know_seven_escapes(void)
{
    gives("A=\"a\\nb\\rc\\td\\\\e\\\"f\\$g\\`\"", "1:1 app.A=a\\x0ab\\x0dc\\x09d\\e\"f$g`");
    refuses("A=\"C:\\dir\"", "line 1, column 6: an escape that is not known");
    refuses("A=\"one\ntwo\\x41\"", "line 2, column 4: an escape that is not known");
    refuses("A=\"one\\\ntwo\"", "line 1, column 7: an escape that is not known");
}

static void double_quotes_reach_over_lines(void)
{
    gives("A=\"-----BEGIN-----\nMII=\n-----END-----\n\" # key\nB=2",
          "1:1 app.A=-----BEGIN-----\\x0aMII=\\x0a-----END-----\\x0a|5:1 app.B=2");
}

static void lines_may_end_in_cr_lf(void)
{
    gives("A=1\r\n# c\r\n\r\nB='2'\r\nC=\"x\r\ny\"\r\nD=4\r",
          "1:1 app.A=1|4:1 app.B=2|5:1 app.C=x\\x0ay|7:1 app.D=4");
    gives("A=\"x\ry\\r\\n\"", "1:1 app.A=x\\x0dy\\x0d\\x0a");
    refuses("A=1\rB=2\n", "line 1, column 4: a carriage return inside a value");
}

static void byte_order_mark_is_passed_over(void)
{
    gives("\xEF\xBB\xBF"
          "A=1",
          "1:1 app.A=1");
    refuses("\xFF\xFE"
            "A",
            "line 1, column 1: this is not UTF-8");
}

static void columns_count_characters(void)
{
    gives("A='\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80'", "1:1 app.A=\\xc3\\xa4\\xe2\\x82\\xac\\xf0\\x9f\\x98\\x80");
    refuses("A='\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80' x", "line 1, column 9: more text");
    refuses("A=1\nB=\xC3\xA4\xC3(", "line 2, column 4: this is not UTF-8");
}

static void nul_is_refused(void)
{
    struct reading reading;
    reading_init(&reading);
    const cof_code code = reading_read(&reading, COF_IMPORT_DOTENV, cof_slice_of("A=1\nB=\0", 7));
    reading_done(&reading);
    CHECK_FAILS(code, &reading.err, FILE_INVALID);
    CHECK_CONTAINS(reading.err.message, "line 2, column 3: a NUL byte");
}

static void open_quote_is_told_where_it_begins(void)
{
    refuses("A=1\nB= \"two\nC=3\n", "line 2, column 4: the quote that begins here is never closed");
    refuses("A='x\"", "line 1, column 3: the quote");
    refuses("A=\"x\\\"", "line 1, column 3: the quote");
    refuses("A=\"\\", "line 1, column 3: the quote");
}

static void text_behind_a_closing_quote_is_refused(void)
{
    refuses("A=\"x\"y", "line 1, column 6: more text behind the closing quote");
    refuses("A='x'#y", "line 1, column 6: more text behind the closing quote");
    refuses("A='x' 'y'", "line 1, column 7: more text behind the closing quote");
}

static void backquotes_are_refused(void)
{
    refuses("A=`x`", "line 1, column 3: a value in backquotes");
}

static void line_without_a_pair_is_refused_and_not_shown(void)
{
    struct reading reading;
    reading_init(&reading);
    const cof_code code = reading_read(&reading, COF_IMPORT_DOTENV,
                                       cof_slice_text("KEY=-----BEGIN-----\nQkVHSU4qqqq\n-----END-----\n"));
    reading_done(&reading);
    CHECK_FAILS(code, &reading.err, FILE_INVALID);
    CHECK_CONTAINS(reading.err.message, "line 2, column 1: no KEY=value; a value of several lines needs quotes");
    CHECK(strstr(reading.err.message, "QkVH") == NULL);
}

static void key_that_is_none_is_refused_and_not_shown(void)
{
    refuses("=1", "line 1, column 1: no key stands before the =");
    refuses("1A=1", "line 1, column 1: no key stands before the =");
    refuses("A/B=1", "line 1, column 1: no key stands before the =; a key is 1 to 128 of");
    refuses("A B=1", "line 1, column 1: no KEY=value");
    refuses("A: 1", "line 1, column 1: no KEY=value");
    refuses("\"A\"=1", "line 1, column 1: no key stands before the =");
}

static void key_that_stands_twice_is_told_with_both_places(void)
{
    refuses("A=1\nB=2\n  A=3\n", "line 3, column 3: the key \"A\" stands already in line 1, column 1; keep one");
    gives("A=1\na=2\n", "1:1 app.A=1|2:1 app.a=2");
}

static void file_needs_the_name_of_a_secret(void)
{
    struct reading reading;
    reading_init(&reading);
    const cof_code code = cof_import_read(COF_IMPORT_DOTENV, cof_slice_text("A=1"), cof_slice_of(NULL, 0),
                                          &reading.arena, &reading.list, &reading.err);
    reading_done(&reading);
    CHECK_FAILS(code, &reading.err, FIELD_REQUIRED);
    CHECK_CONTAINS(reading.err.message, "say which secret it is for");
}

/* A file with so many lines "A<number>=". */
static struct cof_slice lines(struct reading *reading, size_t count)
{
    enum { LINE = 24 };
    char *text = cof_arena_alloc(&reading->arena, count * LINE);
    size_t length = 0;
    for (size_t i = 0; text != NULL && i < count; i++) {
        length += (size_t) snprintf(text + length, LINE, "A%zu=\n", i);
    }
    return cof_slice_of(text, length);
}

static void check_limits(struct reading *reading)
{
    const struct cof_slice secret = cof_slice_text("app");
    const struct cof_slice most = lines(reading, COF_IMPORT_ENTRIES_MAX);
    const struct cof_slice more = lines(reading, COF_IMPORT_ENTRIES_MAX + 1);
    CHECK(most.data != NULL && more.data != NULL);
    CHECK_OK(cof_import_read(COF_IMPORT_DOTENV, most, secret, &reading->arena, &reading->list, &reading->err),
             &reading->err);
    CHECK_INT(reading->list.count, COF_IMPORT_ENTRIES_MAX);
    CHECK_FAILS(cof_import_read(COF_IMPORT_DOTENV, more, secret, &reading->arena, &reading->list, &reading->err),
                &reading->err, LIMIT_EXCEEDED);
    CHECK_CONTAINS(reading->err.message, "line 10001, column 1: more than 10000 values");
    /* The size is looked at first, so nothing needs to stand there. */
    CHECK_FAILS(cof_import_read(COF_IMPORT_DOTENV, cof_slice_of(most.data, COF_IMPORT_FILE_MAX + 1), secret,
                                &reading->arena, &reading->list, &reading->err),
                &reading->err, LIMIT_EXCEEDED);
    CHECK_CONTAINS(reading->err.message, "at most 16 MiB");
}

static void files_and_lists_have_limits(void)
{
    struct reading reading;
    reading_init(&reading);
    check_limits(&reading);
    reading_done(&reading);
}

static void memory_that_ends_is_told(void)
{
    struct reading reading;
    reading_init(&reading);
    for (size_t chunks = 0; chunks < 3; chunks++) {
        struct cof_arena arena;
        static char file[COF_ARENA_CHUNK * 3];
        memset(file, 'a', sizeof file);
        file[1] = '=';
        cof_arena_init(&arena, reading.pool, chunks * COF_ARENA_CHUNK);
        const cof_code code = cof_import_read(COF_IMPORT_DOTENV, cof_slice_of(file, sizeof file),
                                              cof_slice_text("app"), &arena, &reading.list, &reading.err);
        cof_arena_reset(&arena);
        CHECK_FAILS(code, &reading.err, OUT_OF_MEMORY);
    }
    reading_done(&reading);
}

TEST_MAIN(TEST(lines_become_keys_of_the_secret_that_was_named),
          TEST(comments_and_blanks_around_things_mean_nothing),
          TEST(hash_without_a_blank_before_it_belongs_to_the_value), TEST(export_before_a_key_means_nothing),
          TEST(value_without_quotes_is_taken_as_it_stands), TEST(dollars_and_braces_are_never_replaced),
          TEST(single_quotes_keep_everything), TEST(double_quotes_know_seven_escapes),
          TEST(double_quotes_reach_over_lines), TEST(lines_may_end_in_cr_lf), TEST(byte_order_mark_is_passed_over),
          TEST(columns_count_characters), TEST(nul_is_refused), TEST(open_quote_is_told_where_it_begins),
          TEST(text_behind_a_closing_quote_is_refused), TEST(backquotes_are_refused),
          TEST(line_without_a_pair_is_refused_and_not_shown), TEST(key_that_is_none_is_refused_and_not_shown),
          TEST(key_that_stands_twice_is_told_with_both_places), TEST(file_needs_the_name_of_a_secret),
          TEST(files_and_lists_have_limits), TEST(memory_that_ends_is_told))
