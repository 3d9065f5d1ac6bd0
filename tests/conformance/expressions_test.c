#include <stdlib.h>

#include "common/expand.h"
#include "common/references.h"
#include "tests/conformance/given.h"
#include "tests/support/json_tree.h"
#include "tests/support/test.h"

/* Runs the cases of expressions.json, which README.md beside it describes, against the library's own scanner; or those
 * of the file that EXPRESSION_CASES names. */

enum { POOL = 64 << 20, SHOWN = 300 };

struct run {
    const struct json_node *item;
    struct cof_slice text;
    struct cof_arena arena;
    bool failed;
};

static bool text_is(struct cof_slice text, const struct json_node *node)
{
    return node != NULL && cof_slice_equal(text, node->text);
}

/* Says once which case it is. */
static void complain(struct run *run, const char *what)
{
    const struct cof_slice name = json_member(run->item, "name")->text;
    if (!run->failed) {
        fprintf(stderr, "%.*s: %s\n", (int) name.len, (const char *) name.data, what);
    }
    run->failed = true;
    test_failures++;
}

static struct cof_slice read_text(struct run *run)
{
    const struct json_node *node = json_member(run->item, "text");
    size_t length = 0;
    if (node->kind == JSON_TEXT) {
        return node->text;
    }
    for (const struct json_node *piece = node->first; piece != NULL; piece = piece->next) {
        length += piece->first->text.len * json_number(piece->last);
    }
    uint8_t *text = cof_arena_alloc(&run->arena, length);
    size_t used = 0;
    for (const struct json_node *piece = node->first; text != NULL && piece != NULL; piece = piece->next) {
        for (size_t i = 0; i < json_number(piece->last); i++) {
            memcpy(text + used, piece->first->text.data, piece->first->text.len);
            used += piece->first->text.len;
        }
    }
    return cof_slice_of(text, used);
}

/* --- What the scanner says ------------------------------------------------------------------------------------- */

static void compare_template(struct run *run, const struct json_node *expected, const struct cof_template *template)
{
    if (expected == NULL || json_number(expected->first) != template->place.offset ||
        json_number(expected->first->next) != template->text.len ||
        cof_slice_equal(expected->last->text, cof_slice_text("true")) != template->evaluated ||
        template->text.data != run->text.data + template->place.offset) {
        complain(run, "another template");
    }
}

static void compare_fault(struct run *run, const struct json_node *expected, cof_reason reason,
                          const struct cof_place *place, const char *message)
{
    if (expected == NULL || !text_is(cof_slice_text(cof_reason_name(reason)), expected->first) ||
        json_number(json_element(expected, 1)) != place->offset ||
        json_number(json_element(expected, 2)) != place->line ||
        json_number(json_element(expected, 3)) != place->column) {
        fprintf(stderr, "%s at %zu, %u:%u (%s)\n", cof_reason_name(reason), place->offset, place->line,
                place->column, message);
        complain(run, "another fault");
    }
}

static void check_scan(struct run *run, struct cof_references *references)
{
    const struct json_node *template_node = json_member(run->item, "templates")->first;
    const struct json_node *error_node = json_member(run->item, "errors")->first;
    struct cof_template_scan scan;
    struct cof_template template;
    struct cof_error err;
    bool found = true;
    cof_template_scan_init(&scan, run->text);
    while (found && !run->failed) {
        if (cof_template_next(&scan, &template, &found, &err) != COF_OK) {
            compare_fault(run, error_node, err.reason, &scan.fault, err.message);
            error_node = error_node == NULL ? NULL : error_node->next;
            found = true;
        } else if (found) {
            compare_template(run, template_node, &template);
            template_node = template_node == NULL ? NULL : template_node->next;
            cof_ignore(cof_references_add_template(references, &template, &err));
        }
    }
    if (template_node != NULL || error_node != NULL) {
        complain(run, "a template or a fault was not found");
    }
}

static void check_references(struct run *run)
{
    const struct json_node *expected = json_member(run->item, "references");
    struct cof_references *references = NULL;
    struct cof_error err;
    if (cof_references_new(&run->arena, &references, &err) != COF_OK) {
        complain(run, err.message);
        return;
    }
    check_scan(run, references);
    if (json_count(expected) != cof_references_count(references)) {
        complain(run, "more or fewer references");
        return;
    }
    for (size_t i = 0; i < cof_references_count(references); i++) {
        const struct json_node *node = json_element(expected, i);
        const struct cof_reference *reference = cof_references_at(references, i);
        if (!text_is(reference->name, node->first) || !text_is(reference->key, node->first->next) ||
            cof_slice_equal(node->last->text, cof_slice_text("true")) != reference->required) {
            complain(run, "another reference");
        }
    }
}

/* --- Values ---------------------------------------------------------------------------------------------------- */

static void check_faults(struct run *run, const struct cof_fault_list *faults)
{
    const struct json_node *expected = json_member(run->item, "faults");
    const struct json_node *node = expected == NULL ? NULL : expected->first;
    for (size_t i = 0; i < faults->count; i++) {
        compare_fault(run, node, faults->items[i].reason, &faults->items[i].place, faults->items[i].message);
        node = node == NULL ? NULL : node->next;
    }
    if (node != NULL) {
        complain(run, "a fault is missing");
    }
}

static void check_value(struct run *run)
{
    const struct json_node *given = json_member(run->item, "given");
    const struct json_node *expected = json_member(run->item, "value");
    struct cof_lookup lookup = {given_find, (void *) (uintptr_t) given};
    struct cof_fault_list faults;
    struct cof_value value;
    struct cof_error err;
    if (given == NULL) {
        return;
    }
    cof_fault_list_init(&faults, &run->arena);
    if (cof_text_expand(run->text, &lookup, &faults, &run->arena, &value, &err) != COF_OK) {
        check_faults(run, &faults);
        if (expected != NULL) {
            complain(run, err.message);
        }
        return;
    }
    if (expected == NULL || value.null != (expected->kind == JSON_WORD) ||
        (!value.null && !cof_slice_equal(value.bytes, expected->text))) {
        fprintf(stderr, "it became %.*s\n", value.bytes.len > SHOWN ? SHOWN : (int) value.bytes.len,
                (const char *) value.bytes.data);
        complain(run, "another value");
    }
}

static void every_case_is_read_and_evaluated_as_written(void)
{
    const char *path = getenv("EXPRESSION_CASES");
    const struct json_node *cases = json_member(json_tree_read(path == NULL ? CASES : path), "cases");
    struct cof_pool *pool = NULL;
    struct cof_error err;
    size_t count = 0;
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    for (const struct json_node *item = cases->first; item != NULL; item = item->next) {
        struct run run = {.item = item};
        cof_arena_init(&run.arena, pool, SIZE_MAX);
        run.text = read_text(&run);
        check_references(&run);
        check_value(&run);
        cof_arena_reset(&run.arena);
        count++;
    }
    cof_pool_free(pool);
    printf("%zu cases\n", count);
    CHECK(count >= 300);
}

TEST_MAIN(TEST(every_case_is_read_and_evaluated_as_written))
