#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/name.h"
#include "tests/unit/common/import/reading.h"

enum { ENTRIES = 24, VALUE = 80, ROUNDS = 200, SHELLS = 40 };

/* What is written is read again by the reader of the same format. */
struct round {
    struct reading reading;
    struct cof_import_entry entries[ENTRIES];
    struct cof_import_list list;
    char names[ENTRIES][2][24];
    uint8_t values[ENTRIES][VALUE];
};

static struct cof_slice slice(const char *text)
{
    return cof_slice_text(text);
}

static cof_code write_list(struct reading *reading, cof_import_format format,
                           const struct cof_import_entry *entries, size_t count, struct cof_slice *ret_file)
{
    const struct cof_import_list list = {entries, count};
    cof_arena_reset(&reading->arena);
    return cof_import_write(format, &list, &reading->arena, ret_file, &reading->err);
}

/* The file as the writer makes it of two secrets, one value of which is not text. */
static void check_file(cof_import_format format, const char *expected)
{
    struct reading reading;
    struct cof_slice file = {NULL, 0};
    const struct cof_import_entry entries[] = {
        {.secret = slice("slack"), .key = slice("TOKEN"), .value = slice("a\"b\n\xC3\xA4")},
        {.secret = slice("aws"), .key = slice("B"), .value = cof_slice_of("\0\xFF", 2)},
        {.secret = slice("aws"), .key = slice("A"), .value = cof_slice_of(NULL, 0)},
    };
    reading_init(&reading);
    CHECK_OK(write_list(&reading, format, entries, 3, &file), &reading.err);
    const char *text = cof_arena_text(&reading.arena, file);
    CHECK_TEXT(text, expected);
    reading_done(&reading);
}

static void json_is_sorted_and_has_base64_for_what_is_no_text(void)
{
    check_file(COF_IMPORT_JSON, "{\n"
                                "  \"aws\": {\n"
                                "    \"A\": \"\",\n"
                                "    \"B\": {\"$base64\": \"AP8=\"}\n"
                                "  },\n"
                                "  \"slack\": {\n"
                                "    \"TOKEN\": \"a\\\"b\\n\xC3\xA4\"\n"
                                "  }\n"
                                "}\n");
}

static void yaml_is_sorted_and_has_binary_for_what_is_no_text(void)
{
    check_file(COF_IMPORT_YAML, "\"aws\":\n"
                                "  \"A\": \"\"\n"
                                "  \"B\": !!binary \"AP8=\"\n"
                                "\"slack\":\n"
                                "  \"TOKEN\": \"a\\\"b\\n\xC3\xA4\"\n");
}

static void dotenv_quotes_what_others_would_read_otherwise(void)
{
    struct reading reading;
    struct cof_slice file = {NULL, 0};
    const struct cof_import_entry entries[] = {
        {.secret = slice("s"), .key = slice("A"), .value = slice("https://u:p@h/?x")},
        {.secret = slice("s"), .key = slice("B"), .value = slice("https://host/a=b,c")},
        {.secret = slice("s"), .key = slice("C"), .value = slice("")},
        {.secret = slice("s"), .key = slice("D"), .value = slice("$a `b` \"c\" \\n #d")},
        {.secret = slice("s"), .key = slice("E"), .value = slice("it's $5 `id` \"\\\"\r\n")},
        {.secret = slice("t"), .key = slice("F"), .value = slice("one\ntwo\n")},
    };
    reading_init(&reading);
    CHECK_OK(write_list(&reading, COF_IMPORT_DOTENV, entries, COF_COUNT(entries), &file), &reading.err);
    const char *text = cof_arena_text(&reading.arena, file);
    CHECK_TEXT(text, "A='https://u:p@h/?x'\n"
                     "B=https://host/a=b,c\n"
                     "C=''\n"
                     "D='$a `b` \"c\" \\n #d'\n"
                     "E=\"it's \\$5 \\`id\\` \\\"\\\\\\\"\\r\n\"\n"
                     "F='one\ntwo\n'\n");
    reading_done(&reading);
}

static void check_refusal(cof_import_format format, const struct cof_import_entry *entries, size_t count,
                          cof_reason reason, const char *message)
{
    struct reading reading;
    struct cof_slice file = {NULL, 0};
    reading_init(&reading);
    const cof_code code = write_list(&reading, format, entries, count, &file);
    reading_done(&reading);
    CHECK(code != COF_OK);
    CHECK_INT(reading.err.reason, reason);
    CHECK_CONTAINS(reading.err.message, message);
    CHECK(file.data == NULL);
}

static void dotenv_cannot_hold_what_is_no_text(void)
{
    const struct cof_import_entry nul = {
        .secret = slice("s"), .key = slice("KEY"), .value = cof_slice_of("a\0b", 3)};
    const struct cof_import_entry foreign = {.secret = slice("s"), .key = slice("KEY"), .value = slice("\xFF")};
    const char *message = "the value of the key \"KEY\" of the secret \"s\" is not text";
    check_refusal(COF_IMPORT_DOTENV, &nul, 1, COF_REASON_FILE_INVALID, message);
    check_refusal(COF_IMPORT_DOTENV, &foreign, 1, COF_REASON_FILE_INVALID, message);
}

static void dotenv_cannot_hold_one_key_of_two_secrets(void)
{
    const struct cof_import_entry entries[] = {{.secret = slice("jira"), .key = slice("TOKEN")},
                                               {.secret = slice("jira"), .key = slice("USER")},
                                               {.secret = slice("confluence"), .key = slice("TOKEN")}};
    check_refusal(COF_IMPORT_DOTENV, entries, 3, COF_REASON_FILE_INVALID,
                  "the secrets \"confluence\" and \"jira\" both have the key \"TOKEN\"");
}

static void names_that_coffer_does_not_allow_are_not_written(void)
{
    static const cof_import_format formats[] = {COF_IMPORT_DOTENV, COF_IMPORT_JSON, COF_IMPORT_YAML};
    const struct cof_import_entry wrong_key = {.secret = slice("s"), .key = slice("a b")};
    const struct cof_import_entry wrong_name = {.secret = slice("s s"), .key = slice("A")};
    const struct cof_import_entry twice[] = {{.secret = slice("s"), .key = slice("A")},
                                             {.secret = slice("s"), .key = slice("A")}};
    for (size_t i = 0; i < COF_COUNT(formats); i++) {
        check_refusal(formats[i], &wrong_key, 1, COF_REASON_FIELD_INVALID, "key: character 2");
        check_refusal(formats[i], &wrong_name, 1, COF_REASON_FIELD_INVALID, "name: character 2");
        check_refusal(formats[i], twice, 2, COF_REASON_FILE_INVALID,
                      "the key \"A\" of the secret \"s\" stands twice");
    }
}

static void formats_of_others_are_only_read(void)
{
    const struct cof_import_entry entry = {.secret = slice("s"), .key = slice("A")};
    check_refusal(COF_IMPORT_VAULT, &entry, 1, COF_REASON_FIELD_INVALID, "the format \"vault\" is only read");
}

static void memory_that_ends_is_told(void)
{
    static const cof_import_format formats[] = {COF_IMPORT_DOTENV, COF_IMPORT_JSON, COF_IMPORT_YAML};
    static char value[COF_VALUE_MAX];
    struct reading reading;
    memset(value, ' ', sizeof value);
    reading_init(&reading);
    for (size_t i = 0; i < 2 * COF_COUNT(formats); i++) {
        struct cof_arena arena;
        struct cof_slice file = {NULL, 0};
        const struct cof_import_entry entry = {
            .secret = slice("s"), .key = slice("A"), .value = cof_slice_of(value, sizeof value)};
        const struct cof_import_list list = {&entry, 1};
        cof_arena_init(&arena, reading.pool, (i % 2) * COF_ARENA_CHUNK);
        const cof_code code = cof_import_write(formats[i / 2], &list, &arena, &file, &reading.err);
        cof_arena_reset(&arena);
        CHECK_FAILS(code, &reading.err, OUT_OF_MEMORY);
    }
    reading_done(&reading);
}

/* --- Random lists --------------------------------------------------------------------------------------------- */

/* Mostly what readers stumble over: quotes, escapes, blanks, line ends, pieces of UTF-8. */
static uint8_t random_byte(uint64_t *state, bool text)
{
    static const char odd[] = "\"'\\$#`\n\r\t ={}[]:,&*!|>%@~-?\x7F\x01\x1B";
    const uint64_t number = test_random(state);
    if (number % 3 == 0) {
        return (uint8_t) odd[(number >> 8) % (sizeof odd - 1)];
    }
    return text ? (uint8_t) ('!' + (number >> 8) % 94) : (uint8_t) (number >> 8);
}

/* A character of up to four bytes; none of those that UTF-8 does not have. */
static size_t put_character(uint8_t *to, uint64_t *state)
{
    static const uint32_t special[] = {0x85,   0xA0,   0x2028, 0x2029, 0xFEFF,
                                       0xFFFD, 0xFFFE, 0xFFFF, 0xE000, 0x10FFFF};
    const uint32_t number = (uint32_t) test_random(state);
    const uint32_t any = (number >> 8) % 0x10FFFF + 1;
    uint32_t point = number % 4 == 0 ? special[(number >> 8) % COF_COUNT(special)] : any;
    point = point >= 0xD800 && point <= 0xDFFF ? 0xD7FF : point;
    if (point < 0x80) {
        to[0] = (uint8_t) point;
        return 1;
    }
    const size_t following = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const uint8_t first[] = {0, 0xC0, 0xE0, 0xF0};
    to[0] = (uint8_t) (first[following] | point >> (6 * following));
    for (size_t i = 1; i <= following; i++) {
        to[i] = (uint8_t) (0x80U | (point >> (6 * (following - i)) & 0x3FU));
    }
    return following + 1;
}

static struct cof_slice random_value(uint8_t value[VALUE], uint64_t *state, bool text)
{
    const size_t length = test_random(state) % VALUE;
    size_t count = 0;
    while (count < length) {
        if (text && count + 4 <= length && test_random(state) % 4 == 0) {
            count += put_character(value + count, state);
        } else {
            value[count++] = random_byte(state, text);
        }
    }
    return cof_slice_of(value, count);
}

/* Keys differ everywhere, so that flat formats can hold them, too. */
static void fill(struct round *round, uint64_t *state, bool text)
{
    round->list = (struct cof_import_list){round->entries, 1 + test_random(state) % ENTRIES};
    for (size_t i = 0; i < round->list.count; i++) {
        (void) snprintf(round->names[i][0], sizeof round->names[i][0], "s%u", (unsigned) (test_random(state) % 4));
        (void) snprintf(round->names[i][1], sizeof round->names[i][1], "K%02zu", i);
        round->entries[i] = (struct cof_import_entry){
            .secret = slice(round->names[i][0]),
            .key = slice(round->names[i][1]),
            .value = random_value(round->values[i], state, text),
        };
    }
}

static const struct cof_import_entry *find(const struct cof_import_list *list,
                                           const struct cof_import_entry *wanted, bool flat)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct cof_import_entry *entry = &list->entries[i];
        if (cof_slice_equal(entry->key, wanted->key) && (flat || cof_slice_equal(entry->secret, wanted->secret))) {
            return entry;
        }
    }
    return NULL;
}

static void check_round(struct round *round, cof_import_format format)
{
    struct cof_slice file = {NULL, 0};
    struct reading *reading = &round->reading;
    CHECK_OK(write_list(reading, format, round->entries, round->list.count, &file), &reading->err);
    CHECK_OK(cof_import_read(format, file, slice("app"), &reading->arena, &reading->list, &reading->err),
             &reading->err);
    CHECK_INT(reading->list.count, round->list.count);
    for (size_t i = 0; i < round->list.count; i++) {
        const struct cof_import_entry *back = find(&reading->list, &round->entries[i], format == COF_IMPORT_DOTENV);
        CHECK(back != NULL);
        CHECK(cof_slice_equal(back->value, round->entries[i].value));
    }
}

static void check_rounds(cof_import_format format, bool text)
{
    uint64_t state = test_seed() + (uint64_t) format;
    struct round *round = calloc(1, sizeof *round);
    CHECK(round != NULL);
    reading_init(&round->reading);
    const int failures = test_failures;
    for (int i = 0; i < ROUNDS && test_failures == failures; i++) {
        fill(round, &state, text);
        check_round(round, format);
    }
    reading_done(&round->reading);
    free(round);
}

static void any_bytes_come_back_from_json(void)
{
    check_rounds(COF_IMPORT_JSON, false);
    check_rounds(COF_IMPORT_JSON, true);
}

static void any_bytes_come_back_from_yaml(void)
{
    check_rounds(COF_IMPORT_YAML, false);
    check_rounds(COF_IMPORT_YAML, true);
}

static void any_text_comes_back_from_dotenv(void)
{
    check_rounds(COF_IMPORT_DOTENV, true);
}

/* --- A shell -------------------------------------------------------------------------------------------------- */

enum { SCRIPT = 512, OUTPUT = ENTRIES * (VALUE + 1) };

/* Has a shell read the file and print the value of every key that there may be, each with a NUL behind it. */
static void run_shell(int file, int output)
{
    char script[SCRIPT];
    size_t used = (size_t) snprintf(script, sizeof script, ". /proc/self/fd/%d; printf '%%s\\0'", file);
    for (unsigned i = 0; i < ENTRIES; i++) {
        used += (size_t) snprintf(script + used, sizeof script - used, " \"$K%02u\"", i);
    }
    (void) dup2(output, STDOUT_FILENO);
    (void) execl("/bin/sh", "sh", "-c", script, (char *) NULL);
    _exit(127);
}

/* What the shell prints; 0: it failed. */
static size_t read_by_shell(struct cof_slice text, char output[OUTPUT])
{
    const int file = memfd_create("dotenv", 0);
    int ends[2];
    int status = -1;
    size_t length = 0;
    if (file < 0 || write(file, text.data, text.len) != (ssize_t) text.len || pipe(ends) != 0) {
        return 0;
    }
    const pid_t child = fork();
    if (child == 0) {
        run_shell(file, ends[1]);
    }
    (void) close(ends[1]);
    for (ssize_t got = 1; got > 0; length += got > 0 ? (size_t) got : 0) {
        got = read(ends[0], output + length, OUTPUT - length);
    }
    (void) close(ends[0]);
    (void) close(file);
    return waitpid(child, &status, 0) == child && status == 0 ? length : 0;
}

/* A shell knows no escape for a carriage return, so there is none. */
static void fill_for_shell(struct round *round, uint64_t *state)
{
    fill(round, state, true);
    for (size_t i = 0; i < round->list.count; i++) {
        for (size_t k = 0; k < round->entries[i].value.len; k++) {
            round->values[i][k] = round->values[i][k] == '\r' ? '\'' : round->values[i][k];
        }
    }
}

static void check_shell(struct round *round)
{
    static char output[OUTPUT];
    struct cof_slice file = {NULL, 0};
    CHECK_OK(write_list(&round->reading, COF_IMPORT_DOTENV, round->entries, round->list.count, &file),
             &round->reading.err);
    const size_t length = read_by_shell(file, output);
    size_t at = 0;
    for (size_t i = 0; i < round->list.count; i++) {
        const struct cof_slice value = round->entries[i].value;
        CHECK(at + value.len < length);
        CHECK(cof_slice_equal(cof_slice_of(output + at, value.len), value));
        CHECK_INT(output[at + value.len], 0);
        at += value.len + 1;
    }
}

static void shell_reads_what_was_written_and_runs_nothing(void)
{
    static struct round round;
    uint64_t state = test_seed();
    const int failures = test_failures;
    reading_init(&round.reading);
    for (int i = 0; i < SHELLS && test_failures == failures; i++) {
        fill_for_shell(&round, &state);
        check_shell(&round);
    }
    reading_done(&round.reading);
}

/* Each byte and character alone, and between others. */
static void every_byte_comes_back(void)
{
    static struct round round;
    reading_init(&round.reading);
    for (unsigned byte = 0; byte < 256; byte++) {
        const uint8_t value[] = {'a', (uint8_t) byte, 'b', (uint8_t) byte};
        round.entries[0] = (struct cof_import_entry){slice("s"), slice("A"), cof_slice_of(value + 1, 1), {0, 0, 0}};
        round.entries[1] = (struct cof_import_entry){slice("s"), slice("B"), cof_slice_of(value, 4), {0, 0, 0}};
        round.list = (struct cof_import_list){round.entries, 2};
        check_round(&round, COF_IMPORT_JSON);
        check_round(&round, COF_IMPORT_YAML);
        if (byte > 0 && byte < 0x80) {
            check_round(&round, COF_IMPORT_DOTENV);
        }
    }
    reading_done(&round.reading);
}

static void longest_names_and_largest_values_come_back(void)
{
    static struct round round;
    static char name[COF_KEY_NAME_MAX + 1];
    static uint8_t value[COF_VALUE_MAX];
    uint64_t state = test_seed();
    memset(name, 'k', COF_KEY_NAME_MAX);
    reading_init(&round.reading);
    for (size_t i = 0; i < sizeof value; i++) {
        value[i] = random_byte(&state, true);
    }
    round.entries[0] = (struct cof_import_entry){
        cof_slice_of(name, COF_SECRET_NAME_MAX), slice(name), cof_slice_of(value, sizeof value), {0, 0, 0}};
    round.list = (struct cof_import_list){round.entries, 1};
    check_round(&round, COF_IMPORT_DOTENV);
    check_round(&round, COF_IMPORT_JSON);
    check_round(&round, COF_IMPORT_YAML);
    value[0] = 0;
    check_round(&round, COF_IMPORT_JSON);
    check_round(&round, COF_IMPORT_YAML);
    reading_done(&round.reading);
}

static void empty_list_is_an_empty_file(void)
{
    static struct round round;
    reading_init(&round.reading);
    round.list = (struct cof_import_list){round.entries, 0};
    check_round(&round, COF_IMPORT_DOTENV);
    check_round(&round, COF_IMPORT_JSON);
    check_round(&round, COF_IMPORT_YAML);
    reading_done(&round.reading);
}

TEST_MAIN(TEST(json_is_sorted_and_has_base64_for_what_is_no_text),
          TEST(yaml_is_sorted_and_has_binary_for_what_is_no_text),
          TEST(dotenv_quotes_what_others_would_read_otherwise), TEST(dotenv_cannot_hold_what_is_no_text),
          TEST(dotenv_cannot_hold_one_key_of_two_secrets), TEST(names_that_coffer_does_not_allow_are_not_written),
          TEST(formats_of_others_are_only_read), TEST(memory_that_ends_is_told),
          TEST(any_bytes_come_back_from_json), TEST(any_bytes_come_back_from_yaml),
          TEST(any_text_comes_back_from_dotenv), TEST(shell_reads_what_was_written_and_runs_nothing),
          TEST(every_byte_comes_back), TEST(longest_names_and_largest_values_come_back),
          TEST(empty_list_is_an_empty_file))
