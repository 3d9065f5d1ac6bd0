#include <stdlib.h>

#include <coffer/token.h>

#include "common/narrowed.h"
#include "tests/support/json_tree.h"
#include "tests/support/test.h"

/* Runs the cases of narrowed_tokens.json, which README.md beside it describes. */

enum { LIST_MAX = 300 };

struct run {
    const struct json_node *item;
    coffer_narrowing narrowing;
    const char *environments[LIST_MAX];
    const char *names[LIST_MAX];
    char *copies[2 * LIST_MAX + 3];
    size_t copy_count;
};

static void complain(const struct run *run, const char *what)
{
    const struct cof_slice name = json_member(run->item, "name")->text;
    fprintf(stderr, "%.*s: %s\n", (int) name.len, (const char *) name.data, what);
    test_failures++;
}

static const char *copy_of(struct run *run, const struct json_node *node)
{
    if (node == NULL) {
        return NULL;
    }
    char *copy = calloc(node->text.len + 1, 1);
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, node->text.data, node->text.len);
    run->copies[run->copy_count++] = copy;
    return copy;
}

static size_t read_list(struct run *run, const struct json_node *list, const char **items)
{
    size_t count = 0;
    for (const struct json_node *node = list == NULL ? NULL : list->first; node != NULL; node = node->next) {
        items[count++] = copy_of(run, node);
    }
    return count;
}

static void begin(struct run *run)
{
    const struct json_node *wishes = json_member(run->item, "narrowing");
    const coffer_narrowing none = COFFER_NARROWING_INIT;
    run->copy_count = 0;
    run->narrowing = none;
    run->narrowing.workspace = copy_of(run, json_member(wishes, "workspace"));
    run->narrowing.environments = run->environments;
    run->narrowing.environment_count = read_list(run, json_member(wishes, "environments"), run->environments);
    run->narrowing.names = run->names;
    run->narrowing.name_count = read_list(run, json_member(wishes, "names"), run->names);
    run->narrowing.workflow_id = copy_of(run, json_member(wishes, "workflow_id"));
    run->narrowing.run_id = copy_of(run, json_member(wishes, "run_id"));
    if (json_member(wishes, "expire_ms") != NULL) {
        run->narrowing.expire_time_ms = (int64_t) json_number(json_member(wishes, "expire_ms"));
    }
}

static void end(struct run *run)
{
    for (size_t i = 0; i < run->copy_count; i++) {
        free(run->copies[i]);
    }
}

/* What was made can be read again, and has the issued token's IDs. */
static void check_read(const struct run *run, const char *narrowed)
{
    struct cof_narrowed read;
    struct cof_error err;
    if (cof_narrowed_parse(cof_slice_text(narrowed), &read, &err) != COF_OK) {
        complain(run, err.message);
    }
}

static void check_case(struct run *run)
{
    const struct cof_slice token = json_member(run->item, "token")->text;
    const struct json_node *narrowed = json_member(run->item, "narrowed");
    const struct json_node *reason = json_member(run->item, "reason");
    char text[COFFER_NARROWED_SIZE] = "before";
    coffer_error *error = NULL;
    const coffer_status status = coffer_token_narrow(token.data, token.len, &run->narrowing, text, &error);
    if (narrowed == NULL) {
        const char *given = coffer_reason_name(coffer_error_reason(error));
        if (status == COFFER_OK || !cof_slice_equal(cof_slice_text(given), reason->text) || text[0] != '\0') {
            complain(run, status == COFFER_OK ? "is not refused" : given);
        }
    } else if (status != COFFER_OK || !cof_slice_equal(cof_slice_text(text), narrowed->text)) {
        complain(run, status == COFFER_OK ? "another token" : coffer_error_message(error));
    } else {
        check_read(run, text);
    }
    coffer_error_free(error);
}

static void every_token_is_narrowed_to_the_bytes_of_the_case_or_refused_as_it_says(void)
{
    const struct json_node *root = json_tree_read(CASES);
    size_t count = 0;
    for (const struct json_node *item = json_member(root, "cases")->first; item != NULL; item = item->next) {
        static struct run run;
        run.item = item;
        begin(&run);
        check_case(&run);
        end(&run);
        count++;
    }
    printf("%zu cases\n", count);
    CHECK(count >= 75);
}

TEST_MAIN(TEST(every_token_is_narrowed_to_the_bytes_of_the_case_or_refused_as_it_says))
