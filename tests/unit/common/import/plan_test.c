#include "common/import/plan.h"
#include "common/import/rename.h"
#include "common/name.h"
#include "tests/unit/common/import/reading.h"

enum { SHOWN = 4096 };

static struct cof_slice slice(const char *text)
{
    return cof_slice_text(text);
}

static struct cof_import_held_key seen(const char *name, const char *value)
{
    return (struct cof_import_held_key){slice(name), slice(value), true};
}

static struct cof_import_held_key unseen(const char *name)
{
    return (struct cof_import_held_key){.name = slice(name)};
}

/* What is stored in most tests. */
static const struct cof_import_held *stored(size_t *ret_count)
{
    static struct cof_import_held_key slack[2];
    static struct cof_import_held_key aws[2];
    static struct cof_import_held held[2];
    slack[0] = seen("TOKEN", "t1");
    slack[1] = seen("CHANNEL", "c1");
    aws[0] = unseen("ID");
    aws[1] = unseen("KEY");
    held[0] = (struct cof_import_held){slice("slack"), slack, 2};
    held[1] = (struct cof_import_held){slice("aws"), aws, 2};
    *ret_count = 2;
    return held;
}

static const char *name_of(cof_import_action action)
{
    static const char *const names[] = {"create", "change", "unchanged", "refused"};
    return names[action];
}

static void show_step(const struct cof_import_step *step, char *shown)
{
    size_t used = strlen(shown);
    used += (size_t) snprintf(shown + used, SHOWN - used, "%s%s%.*s%s:", name_of(step->action), " ",
                              (int) step->secret.len, (const char *) step->secret.data, step->renamed ? "*" : "");
    for (size_t i = 0; i < step->row_count; i++) {
        const struct cof_import_row *row = &step->rows[i];
        used += (size_t) snprintf(shown + used, SHOWN - used, " %s %.*s%s%s", name_of(row->action),
                                  (int) row->key.len, (const char *) row->key.data, row->renamed ? "*" : "",
                                  row->compared || row->action == COF_IMPORT_REFUSED ? "" : "?");
    }
    (void) snprintf(shown + used, SHOWN - used, "\n");
}

struct planned {
    struct reading reading;
    struct cof_import_plan plan;
    char shown[SHOWN];
};

static void make(struct planned *planned, const char *file, const struct cof_import_held *held, size_t count)
{
    struct reading *reading = &planned->reading;
    planned->plan = (struct cof_import_plan){0};
    planned->shown[0] = '\0';
    CHECK_OK(reading_read(reading, COF_IMPORT_YAML, slice(file)), &reading->err);
    CHECK_OK(cof_import_plan(&reading->list, held, count, &reading->arena, &planned->plan, &reading->err),
             &reading->err);
    for (size_t i = 0; i < planned->plan.step_count; i++) {
        show_step(&planned->plan.steps[i], planned->shown);
    }
}

/* The plan of a YAML file against what is stored, a line for each secret; * is renamed, ? is not compared. */
static void plans(const char *file, const char *expected)
{
    static struct planned planned;
    size_t count;
    const struct cof_import_held *held = stored(&count);
    reading_init(&planned.reading);
    make(&planned, file, held, count);
    reading_done(&planned.reading);
    CHECK_TEXT(planned.shown, expected);
}

static void secret_that_is_not_stored_is_created(void)
{
    plans("jira:\n  USER: u\n  TOKEN: t\n", "create jira: create USER create TOKEN\n");
}

static void stored_keys_are_compared_where_their_values_are_known(void)
{
    plans("slack: {TOKEN: t1, CHANNEL: c1}", "unchanged slack: unchanged TOKEN unchanged CHANNEL\n");
    plans("slack: {TOKEN: t2, CHANNEL: c1}", "change slack: change TOKEN unchanged CHANNEL\n");
    plans("slack: {TOKEN: t1, NEW: n}", "change slack: unchanged TOKEN create NEW\n");
    plans("aws: {ID: x, NEW: n}", "change aws: change ID? create NEW\n");
}

static void keys_that_the_file_does_not_name_are_not_in_the_plan(void)
{
    plans("slack: {TOKEN: t1}", "unchanged slack: unchanged TOKEN\n");
}

static void steps_keep_the_order_of_the_file_and_are_counted(void)
{
    static struct planned planned;
    size_t count;
    const struct cof_import_held *held = stored(&count);
    reading_init(&planned.reading);
    make(&planned, "z: {A: 1}\nslack: {TOKEN: t1}\na: {A: 1}\naws: {ID: 1}\nx_oauth: {A: 1}\n", held, count);
    const struct cof_import_plan plan = planned.plan;
    reading_done(&planned.reading);
    CHECK_TEXT(planned.shown, "create z: create A\nunchanged slack: unchanged TOKEN\ncreate a: create A\n"
                              "change aws: change ID?\nrefused x_oauth: create A\n");
    CHECK_INT(plan.counts[COF_IMPORT_CREATE], 2);
    CHECK_INT(plan.counts[COF_IMPORT_UNCHANGED], 1);
    CHECK_INT(plan.counts[COF_IMPORT_CHANGE], 1);
    CHECK_INT(plan.counts[COF_IMPORT_REFUSED], 1);
}

static void empty_file_plans_nothing(void)
{
    plans("", "");
}

/* The first problem of the plan. */
static void refuses(const char *file, cof_reason reason, const char *problem)
{
    static struct planned planned;
    reading_init(&planned.reading);
    make(&planned, file, NULL, 0);
    const struct cof_import_step *step = planned.plan.steps;
    CHECK(step != NULL);
    CHECK_INT(step->action, COF_IMPORT_REFUSED);
    size_t at = 0;
    while (at + 1 < step->row_count && step->rows[at].problem == NULL) {
        at++;
    }
    CHECK_INT(step->problem != NULL ? step->reason : step->rows[at].reason, reason);
    CHECK_CONTAINS(step->problem != NULL ? step->problem : step->rows[at].problem, problem);
    reading_done(&planned.reading);
}

static void reserved_names_are_refused(void)
{
    refuses("\n\ngithub_oauth: {A: 1}", COF_REASON_NAME_RESERVED,
            "line 3, column 16: the secret's name ends in _oauth");
    refuses("git hub oauth: {A: 1}", COF_REASON_NAME_RESERVED, "ends in _oauth");
    plans("github_OAUTH: {A: 1}", "create github_OAUTH: create A\n");
}

static void names_that_are_not_allowed_become_ones_that_are(void)
{
    plans("my secret/a: {a b: 1, \"\xC3\xA4\xC3\xB6x\": 2, 9z: 3, ok-1.2_: 4}",
          "create my_secret_a*: create a_b* create __x* create _9z* create ok-1.2_\n");
    plans("-a: {A: 1}\n.b: {A: 1}\n9: {.A: 1}",
          "create _-a*: create A\ncreate _.b*: create A\ncreate 9: create _.A*\n");
}

static void renamed_key_meets_the_stored_one_of_its_new_name(void)
{
    static struct planned planned;
    const struct cof_import_held_key key = seen("a_b", "1");
    const struct cof_import_held held = {slice("s_1"), &key, 1};
    reading_init(&planned.reading);
    make(&planned, "s 1: {a b: 1}", &held, 1);
    reading_done(&planned.reading);
    CHECK_TEXT(planned.shown, "unchanged s_1*: unchanged a_b*\n");
}

static void keys_that_become_one_are_refused_with_both_places(void)
{
    plans("s: {a b: 1, ok: 2, a_b: 3}", "refused s: refused a_b* create ok refused a_b\n");
    refuses("s: {a b: 1, ok: 2, a_b: 3}", COF_REASON_FIELD_INVALID,
            "line 1, column 5: the name becomes \"a_b\", as does the one in line 1, column 20; rename one of them");
    plans("s: {a b: 1, a/b: 2, a.b: 3}", "refused s: refused a_b* refused a_b* create a.b\n");
}

static void secrets_that_become_one_are_refused_with_both_places(void)
{
    plans("s 1: {A: 1}\ns_1: {B: 1}\nt: {C: 1}",
          "refused s_1*: create A\nrefused s_1: create B\ncreate t: create C\n");
    refuses("s 1: {A: 1}\ns_1: {B: 1}", COF_REASON_FIELD_INVALID,
            "line 1, column 7: the name becomes \"s_1\", as does the one in line 2, column 7");
}

static void names_of_wrong_length_are_refused(void)
{
    static char file[512];
    refuses("\"\": {A: 1}", COF_REASON_FIELD_INVALID, "the secret's name is empty or longer than 100");
    refuses("s: {\"\": 1}", COF_REASON_FIELD_INVALID,
            "line 1, column 5: the key's name is empty or longer than 128");
    (void) reading_put(file, "", COF_SECRET_NAME_MAX + 1, ": {A: 1}");
    refuses(file, COF_REASON_FIELD_INVALID, "the secret's name is empty or longer than 100");
    (void) reading_put(file, "s: {a", COF_KEY_NAME_MAX, ": 1}");
    refuses(file, COF_REASON_FIELD_INVALID, "the key's name is empty or longer than 128");
    (void) reading_put(file, "s: {", COF_KEY_NAME_MAX, ": 1}");
    refuses(file, COF_REASON_FIELD_INVALID, "the key's name is empty or longer than 128");
}

static void value_over_its_limit_is_refused(void)
{
    static char file[COF_VALUE_MAX + 64];
    (void) reading_put(file, "s: {B: 1, A: \"", COF_VALUE_MAX + 1, "\"}");
    refuses(file, COF_REASON_LIMIT_EXCEEDED, "line 1, column 11: the value is longer than 64 KiB");
    (void) reading_put(file, "s: {A: \"", COF_VALUE_MAX, "\"}");
    static struct planned planned;
    reading_init(&planned.reading);
    make(&planned, file, NULL, 0);
    reading_done(&planned.reading);
    CHECK_TEXT(planned.shown, "create s: create A\n");
}

static void secret_over_its_size_is_refused(void)
{
    static char file[COF_SECRET_SIZE_MAX + 512];
    static const char *const keys[] = {"s: {A: \"", "\", B: \"", "\", C: \"", "\", D: \"", "\", E: \""};
    char *end = file;
    for (size_t i = 0; i < COF_COUNT(keys); i++) {
        end = reading_put(end, keys[i], COF_SECRET_SIZE_MAX / COF_COUNT(keys) + 1, i == 4 ? "\"}" : "");
    }
    refuses(file, COF_REASON_LIMIT_EXCEEDED, "line 1, column 5: the secret's values would have more than 256 KiB");
}

/* A file with so many keys in one secret. */
static void write_keys(char *file, size_t size, size_t count)
{
    size_t used = (size_t) snprintf(file, size, "s:\n");
    for (size_t i = 0; i < count; i++) {
        used += (size_t) snprintf(file + used, size - used, "  K%zu: 1\n", i);
    }
}

static void secret_over_its_keys_is_refused_stored_ones_included(void)
{
    static char file[4096];
    static struct planned planned;
    const struct cof_import_held_key keys[] = {unseen("K0"), unseen("OTHER")};
    const struct cof_import_held held = {slice("s"), keys, 2};
    write_keys(file, sizeof file, COF_SECRET_KEYS_MAX + 1);
    refuses(file, COF_REASON_LIMIT_EXCEEDED, "line 2, column 3: the secret would have more than 100 keys");
    write_keys(file, sizeof file, COF_SECRET_KEYS_MAX);
    reading_init(&planned.reading);
    make(&planned, file, NULL, 0);
    CHECK_INT(planned.plan.counts[COF_IMPORT_CREATE], 1);
    make(&planned, file, &held, 1);
    CHECK_INT(planned.plan.counts[COF_IMPORT_REFUSED], 1);
    make(&planned, file, &(struct cof_import_held){slice("s"), keys, 1}, 1);
    CHECK_INT(planned.plan.counts[COF_IMPORT_CHANGE], 1);
    reading_done(&planned.reading);
}

static void everything_that_is_wrong_comes_at_once(void)
{
    plans("a_oauth: {A: 1}\ns: {\"\": 1, a b: 2, a/b: 3}\n\"\": {A: 1}\nt: {A: 1}",
          "refused a_oauth: create A\nrefused s: refused  refused a_b* refused a_b*\nrefused : create A\n"
          "create t: create A\n");
}

static void renaming_keeps_allowed_names_and_gives_allowed_ones(void)
{
    struct reading reading;
    uint64_t state = test_seed();
    reading_init(&reading);
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[24];
        const size_t length = 1 + test_random(&state) % sizeof bytes;
        for (size_t k = 0; k < length; k++) {
            bytes[k] = (uint8_t) test_random(&state);
        }
        const struct cof_slice name = {bytes, cof_text_valid_length(cof_slice_of(bytes, length))};
        const cof_name_kind kind = i % 2 == 0 ? COF_NAME_SECRET : COF_NAME_KEY;
        const struct cof_slice renamed = cof_import_rename(kind, name, &reading.arena);
        CHECK(renamed.data != NULL);
        CHECK(name.len == 0 || cof_name_valid(kind, renamed));
        CHECK(!cof_name_valid(kind, name) || cof_slice_equal(name, renamed));
        CHECK(cof_slice_equal(cof_import_rename(kind, renamed, &reading.arena), renamed));
        cof_arena_reset(&reading.arena);
    }
    reading_done(&reading);
}

static void memory_that_ends_is_told(void)
{
    struct reading reading;
    struct cof_arena arena;
    struct cof_import_plan plan;
    reading_init(&reading);
    CHECK_OK(reading_read(&reading, COF_IMPORT_YAML, slice("s: {A: 1}")), &reading.err);
    cof_arena_init(&arena, reading.pool, 0);
    CHECK_FAILS(cof_import_plan(&reading.list, NULL, 0, &arena, &plan, &reading.err), &reading.err, OUT_OF_MEMORY);
    reading_done(&reading);
}

TEST_MAIN(TEST(secret_that_is_not_stored_is_created), TEST(stored_keys_are_compared_where_their_values_are_known),
          TEST(keys_that_the_file_does_not_name_are_not_in_the_plan),
          TEST(steps_keep_the_order_of_the_file_and_are_counted), TEST(empty_file_plans_nothing),
          TEST(reserved_names_are_refused), TEST(names_that_are_not_allowed_become_ones_that_are),
          TEST(renamed_key_meets_the_stored_one_of_its_new_name),
          TEST(keys_that_become_one_are_refused_with_both_places),
          TEST(secrets_that_become_one_are_refused_with_both_places), TEST(names_of_wrong_length_are_refused),
          TEST(value_over_its_limit_is_refused), TEST(secret_over_its_size_is_refused),
          TEST(secret_over_its_keys_is_refused_stored_ones_included), TEST(everything_that_is_wrong_comes_at_once),
          TEST(renaming_keeps_allowed_names_and_gives_allowed_ones), TEST(memory_that_ends_is_told))
