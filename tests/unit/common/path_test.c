#include <stdlib.h>

#include "common/path.h"
#include "tests/support/test.h"

enum { POOL = 4 << 20, TEXT_MAX = 256 };

static struct cof_pool *pool;
static struct cof_arena arena;
static struct cof_path_rules *rules;
static struct cof_error err;

static void begin(void)
{
    if (pool == NULL) {
        if (cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
            abort();
        }
        cof_arena_init(&arena, pool, SIZE_MAX);
    }
    cof_arena_reset(&arena);
    if (cof_path_rules_new(&arena, &rules, &err) != COF_OK) {
        abort();
    }
}

/* Goes a way whose steps are parted by `/`; `#` begins a place in a list. */
static struct cof_path *walk(const char *way)
{
    struct cof_path *path = NULL;
    if (cof_path_new(&arena, rules, TEXT_MAX, &path, &err) != COF_OK) {
        abort();
    }
    while (*way != '\0') {
        const size_t length = strcspn(way, "/");
        if (*way == '#') {
            cof_path_push_index(path, strtoul(way + 1, NULL, 10));
        } else {
            cof_path_push_key(path, cof_slice_of(way, length));
        }
        way += length + (way[length] == '/');
    }
    return path;
}

static bool matches(const char *pattern, const char *way)
{
    begin();
    if (cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_text(pattern), &err) != COF_OK) {
        fprintf(stderr, "%s: %s\n", pattern, err.message);
        abort();
    }
    return cof_path_rule_here(walk(way)) == COF_PATH_REDACTED;
}

static void pattern_matches_its_path_and_all_below(void)
{
    CHECK(matches("a.b", "a/b"));
    CHECK(matches("a.b", "a/b/c/#3"));
    CHECK(!matches("a.b", "a"));
    CHECK(!matches("a.b", "a/c"));
    CHECK(!matches("a.b", "x/a/b"));
    CHECK(!matches("a.b", ""));
}

static void star_is_one_step_and_two_are_any_number(void)
{
    CHECK(matches("actions.*.args.url", "actions/x/args/url"));
    CHECK(matches("actions.*.args.url", "actions/#7/args/url"));
    CHECK(!matches("actions.*.args.url", "actions/args/url"));
    CHECK(!matches("actions.*.args.url", "actions/x/y/args/url"));
    CHECK(matches("**", ""));
    CHECK(matches("**", "a/b"));
    CHECK(matches("**.password", "password"));
    CHECK(matches("**.password", "a/#1/b/password"));
    CHECK(!matches("**.password", "a/passwords"));
    CHECK(matches("a.**.b", "a/b"));
    CHECK(matches("a.**.b", "a/a/b/a/b"));
    CHECK(!matches("a.**.b", "a/a"));
    CHECK(matches("**.a.**.b.**", "x/a/y/b"));
    CHECK(matches("*", "a"));
    CHECK(!matches("*", ""));
}

static void places_in_lists_are_numbers(void)
{
    CHECK(matches("steps.0.env", "steps/#0/env"));
    CHECK(!matches("steps.0.env", "steps/#1/env"));
    CHECK(matches("steps.10", "steps/#10"));
}

/* The same question, answered by trying everything. `steps` and `way` hold one letter for each step; `@` is `**`. */
static bool matches_slowly(const char *steps, const char *way)
{
    if (*steps == '\0') {
        return true;
    }
    if (*steps == '@' && matches_slowly(steps + 1, way)) {
        return true;
    }
    if (*way == '\0') {
        return false;
    }
    if (*steps == '@') {
        return matches_slowly(steps, way + 1);
    }
    return (*steps == '*' || *steps == *way) && matches_slowly(steps + 1, way + 1);
}

/* At least `least` of these letters. */
static void random_letters(uint64_t *state, const char *from, size_t least, size_t most, char *to)
{
    const size_t count = least + test_random(state) % (most - least + 1);
    for (size_t i = 0; i < count; i++) {
        to[i] = from[test_random(state) % strlen(from)];
    }
    to[count] = '\0';
}

/* Writes the letters as a pattern or a way. */
static void spread(const char *letters, char joint, char *to)
{
    for (; *letters != '\0'; letters++) {
        *to++ = *letters == '@' ? '*' : *letters;
        if (*letters == '@') {
            *to++ = '*';
        }
        if (letters[1] != '\0') {
            *to++ = joint;
        }
    }
    *to = '\0';
}

static void random_patterns_match_what_trying_everything_says(void)
{
    enum { STEPS = 7, ROUNDS = 20000 };
    uint64_t state = test_seed();
    size_t matched = 0;
    for (size_t i = 0; i < ROUNDS; i++) {
        char steps[STEPS + 1];
        char way[STEPS + 1];
        char pattern[3 * STEPS + 1];
        char path[2 * STEPS + 1];
        random_letters(&state, "ab*@", 1, STEPS, steps);
        random_letters(&state, "ab", 0, STEPS, way);
        spread(steps, '.', pattern);
        spread(way, '/', path);
        const bool expected = matches_slowly(steps, way);
        matched += expected;
        if (matches(pattern, path) != expected) {
            fprintf(stderr, "%s and %s\n", pattern, path);
        }
        CHECK(matches(pattern, path) == expected);
    }
    CHECK(matched > ROUNDS / 10 && matched < ROUNDS - ROUNDS / 10);
}

static void keys_in_quotes_may_hold_anything(void)
{
    CHECK(matches("headers['x.y']", "headers/x.y"));
    CHECK(matches("headers[\"it's\"].z", "headers/it's/z"));
    CHECK(matches("['a'].b", "a/b"));
    CHECK(matches("['*']", "*"));
    CHECK(!matches("['*']", "a"));
    CHECK(matches("a b.\xC3\xA9", "a b/\xC3\xA9"));
    CHECK(matches("['']", "/x"));
}

static void exclusion_wins_over_redaction(void)
{
    begin();
    CHECK_OK(cof_path_rules_add(rules, COF_PATH_EXCLUDED, cof_slice_text("a.b"), &err), &err);
    CHECK_OK(cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_text("a"), &err), &err);
    CHECK_INT(cof_path_rule_here(walk("a")), COF_PATH_REDACTED);
    CHECK_INT(cof_path_rule_here(walk("a/b/c")), COF_PATH_EXCLUDED);
    CHECK_INT(cof_path_rule_here(walk("c")), COF_PATH_EXPANDED);
}

static void going_up_leaves_no_trace(void)
{
    begin();
    CHECK_OK(cof_path_rules_add(rules, COF_PATH_EXCLUDED, cof_slice_text("a.b"), &err), &err);
    struct cof_path *path = walk("a/b");
    char text[TEXT_MAX];
    CHECK_INT(cof_path_rule_here(path), COF_PATH_EXCLUDED);
    cof_path_pop(path);
    CHECK_INT(cof_path_rule_here(path), COF_PATH_EXPANDED);
    cof_path_push_key(path, cof_slice_text("c"));
    CHECK_INT(cof_path_rule_here(path), COF_PATH_EXPANDED);
    cof_path_write(path, text, sizeof text);
    CHECK_TEXT(text, "a.c");
}

static void wrong_patterns_are_refused_with_the_place(void)
{
    static const char *const cases[][2] = {
        {"", "character 1: a step is missing"},       {".a", "character 1: a step is missing"},
        {"a.", "character 3: a step is missing"},     {"a..b", "character 3: a step is missing"},
        {"a***", "character 2: a dot is missing"},    {"***", "character 4: there are * and **"},
        {"a*", "character 2: a dot is missing"},      {"a[b]", "character 3: a key in quotes is missing"},
        {"a['b]", "character 7: the quote or the ]"}, {"a['b'", "character 6: the quote or the ]"},
        {"a['b']c", "character 7: a dot is missing"}, {"a]b", "character 2: a dot is missing"},
    };
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        begin();
        CHECK_FAILS(cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_text(cases[i][0]), &err), &err,
                    FIELD_INVALID);
        CHECK_CONTAINS(err.message, cases[i][1]);
    }
}

static void patterns_have_limits(void)
{
    char steps[2 * (COF_PATH_STEPS_MAX + 1)] = "";
    char text[COF_PATH_PATTERN_MAX + 1];
    for (size_t i = 0; i < COF_PATH_STEPS_MAX; i++) {
        memcpy(steps + 2 * i, "*.", 2);
    }
    begin();
    CHECK_OK(cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_of(steps, 2 * COF_PATH_STEPS_MAX - 1), &err),
             &err);
    steps[sizeof steps - 2] = 'a';
    CHECK_FAILS(cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_of(steps, 2 * COF_PATH_STEPS_MAX + 1), &err),
                &err, LIMIT_EXCEEDED);
    memset(text, 'a', sizeof text);
    CHECK_FAILS(cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_of(text, sizeof text), &err), &err,
                LIMIT_EXCEEDED);
    for (size_t i = 1; i < COF_PATH_PATTERNS_MAX; i++) {
        CHECK_OK(cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_text("a"), &err), &err);
    }
    CHECK_FAILS(cof_path_rules_add(rules, COF_PATH_REDACTED, cof_slice_text("a"), &err), &err, LIMIT_EXCEEDED);
}

static void paths_are_written_as_patterns_name_them(void)
{
    char text[64];
    begin();
    cof_path_write(walk("a/#3/x.y/it's.z/"), text, sizeof text);
    CHECK_TEXT(text, "a.3['x.y'][\"it's.z\"]");
    cof_path_write(walk(""), text, sizeof text);
    CHECK_TEXT(text, "");
    cof_path_write(walk("abc/def/ghi"), text, 9);
    CHECK_TEXT(text, "abc.def");
    cof_path_write(walk("a\nb"), text, sizeof text);
    CHECK_TEXT(text, "['a?b']");
}

TEST_MAIN(TEST(pattern_matches_its_path_and_all_below), TEST(star_is_one_step_and_two_are_any_number),
          TEST(places_in_lists_are_numbers), TEST(random_patterns_match_what_trying_everything_says),
          TEST(keys_in_quotes_may_hold_anything), TEST(exclusion_wins_over_redaction),
          TEST(going_up_leaves_no_trace), TEST(wrong_patterns_are_refused_with_the_place),
          TEST(patterns_have_limits), TEST(paths_are_written_as_patterns_name_them))
