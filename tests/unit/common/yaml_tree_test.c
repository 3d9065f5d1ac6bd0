#include <stdlib.h>

#include "common/yaml_tree.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 18 };

static void begin(struct cof_arena *arena, size_t limit)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, limit);
}

static cof_code read_text(const char *text, struct cof_arena *arena, const struct cof_yaml_node **ret_root,
                          struct cof_error *err)
{
    return cof_yaml_tree_read(cof_slice_text(text), arena, ret_root, err);
}

static void everything_says_where_it_stands(void)
{
    struct cof_arena arena;
    struct cof_error err;
    const struct cof_yaml_node *root = NULL;
    begin(&arena, ARENA);
    CHECK_OK(read_text("a: x\nb:\n  - one\n  - {c: 'null'}\n", &arena, &root, &err), &err);
    CHECK(root != NULL && root->kind == COF_YAML_MAPPING);
    CHECK(cof_yaml_is_text(cof_yaml_field(root, "a"), "x"));
    const struct cof_yaml_node *list = cof_yaml_field(root, "b");
    CHECK(list != NULL && list->kind == COF_YAML_LIST);
    CHECK(cof_yaml_is_text(list->first, "one"));
    CHECK_INT(list->first->place.line, 3);
    CHECK_INT(list->first->place.column, 5);
    CHECK(!cof_yaml_is_null(cof_yaml_field(list->last, "c")));
    CHECK(cof_yaml_field(root, "z") == NULL);
    cof_arena_reset(&arena);
}

static void file_of_nothing_has_no_root(void)
{
    struct cof_arena arena;
    struct cof_error err;
    const struct cof_yaml_node *root = NULL;
    begin(&arena, ARENA);
    CHECK_OK(read_text("# only a comment\n", &arena, &root, &err), &err);
    CHECK(root == NULL);
    cof_arena_reset(&arena);
}

static void what_means_something_else_than_stands_there_is_refused(void)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"a: &x 1\nb: *x\n", "line 1, column 4: an anchor"},
        {"a: 1\nb: !!str 2\n", "line 2, column 4: an anchor, an alias or a tag"},
        {"a: !x {b: 1}\n", "tag"},
        {"a: 1\nb: 2\na: 3\n", "line 3, column 4: a key that stands twice"},
        {"a: 1\n---\nb: 2\n", "second document"},
        {"? [a]\n: 1\n", "a key that is no text"},
        {"a: [1\n", "line 2"},
        {"a: \"\xff\"\n", "line 1"},
    };
    struct cof_arena arena;
    struct cof_error err;
    const struct cof_yaml_node *root = NULL;
    begin(&arena, ARENA);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_FAILS(read_text(cases[i].text, &arena, &root, &err), &err, FILE_INVALID);
        CHECK_CONTAINS(err.message, cases[i].message);
        CHECK(root == NULL);
    }
    cof_arena_reset(&arena);
}

static void depth_and_memory_have_limits(void)
{
    char deep[COF_YAML_DEPTH_MAX + 3];
    struct cof_arena arena;
    struct cof_error err;
    const struct cof_yaml_node *root = NULL;
    begin(&arena, ARENA);
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    CHECK_FAILS(read_text(deep, &arena, &root, &err), &err, FILE_INVALID);
    CHECK_CONTAINS(err.message, "too deep");
    cof_arena_reset(&arena);
    static char many[200000];
    for (size_t i = 0; i + 3 < sizeof many; i += 2) {
        memcpy(many + i, i == 0 ? "[1" : ",1", 2);
    }
    many[sizeof many - 2] = ']';
    begin(&arena, COF_ARENA_CHUNK);
    CHECK_FAILS(read_text(many, &arena, &root, &err), &err, OUT_OF_MEMORY);
    cof_arena_reset(&arena);
}

static void fields_are_what_they_have_to_be(void)
{
    static const char *const keys[] = {"text", "flag", "list", "none"};
    struct cof_arena arena;
    struct cof_error err;
    const struct cof_yaml_node *root = NULL;
    const struct cof_yaml_node *found = NULL;
    bool flag = false;
    size_t count = 9;
    begin(&arena, ARENA);
    CHECK_OK(read_text("text: t\nflag: true\nlist: [a, b]\nnone: ~\n", &arena, &root, &err), &err);
    CHECK_OK(cof_yaml_text_field(root, "text", &found, &err), &err);
    CHECK_TEXT((const char *) found->text.data, "t");
    CHECK_FAILS(cof_yaml_text_field(root, "list", &found, &err), &err, FILE_INVALID);
    CHECK_FAILS(cof_yaml_text_field(root, "none", &found, &err), &err, FILE_INVALID);
    CHECK_CONTAINS(err.message, "none is missing");
    CHECK_OK(cof_yaml_bool_field(root, "flag", &flag, &err), &err);
    CHECK(flag);
    CHECK_OK(cof_yaml_bool_field(root, "absent", &flag, &err), &err);
    CHECK(!flag);
    CHECK_FAILS(cof_yaml_bool_field(root, "text", &flag, &err), &err, FILE_INVALID);
    CHECK_OK(cof_yaml_list_field(root, "list", &count, &found, &err), &err);
    CHECK_INT(count, 2);
    CHECK_OK(cof_yaml_list_field(root, "none", &count, &found, &err), &err);
    CHECK_INT(count, 0);
    CHECK_FAILS(cof_yaml_list_field(root, "text", &count, &found, &err), &err, FILE_INVALID);
    CHECK_OK(cof_yaml_check_fields(root, "an entry", keys, 4, &err), &err);
    CHECK_FAILS(cof_yaml_check_fields(root, "an entry", keys, 3, &err), &err, FILE_INVALID);
    CHECK_CONTAINS(err.message, "line 4, column 7: an entry has no field \"none\"");
    cof_arena_reset(&arena);
}

TEST_MAIN(TEST(everything_says_where_it_stands), TEST(file_of_nothing_has_no_root),
          TEST(what_means_something_else_than_stands_there_is_refused), TEST(depth_and_memory_have_limits),
          TEST(fields_are_what_they_have_to_be))
