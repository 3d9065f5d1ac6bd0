#include "common/document.h"
#include "tests/conformance/given.h"
#include "tests/support/json_tree.h"
#include "tests/support/test.h"

/* Runs the cases of documents.json, which README.md beside it describes. */

enum { POOL = 16 << 20 };

struct run {
    const struct json_node *item;
    struct cof_document document;
    struct cof_arena arena;
    struct cof_fault_list faults;
    struct cof_error err;
};

static bool text_is(const char *text, const struct json_node *node)
{
    return cof_slice_equal(cof_slice_text(text), node->text);
}

static void complain(const struct run *run, const char *what)
{
    const struct cof_slice name = json_member(run->item, "name")->text;
    fprintf(stderr, "%.*s: %s\n", (int) name.len, (const char *) name.data, what);
    test_failures++;
}

static cof_code add_rules(struct run *run, struct cof_path_rules *rules, const char *field, cof_path_rule rule)
{
    const struct json_node *patterns = json_member(run->item, field);
    const struct json_node *node = patterns == NULL ? NULL : patterns->first;
    for (; node != NULL; node = node->next) {
        TRY(cof_path_rules_add(rules, rule, node->text, &run->err));
    }
    return COF_OK;
}

static cof_code begin(struct run *run)
{
    struct cof_path_rules *rules = NULL;
    TRY(cof_path_rules_new(&run->arena, &rules, &run->err));
    TRY(add_rules(run, rules, "exclude", COF_PATH_EXCLUDED));
    TRY(add_rules(run, rules, "redact", COF_PATH_REDACTED));
    run->document = (struct cof_document){
        .kind = text_is("json", json_member(run->item, "kind")) ? COF_DOCUMENT_JSON : COF_DOCUMENT_YAML,
        .text = json_member(run->item, "text")->text,
        .rules = rules,
    };
    return COF_OK;
}

static void check_references(struct run *run)
{
    const struct json_node *expected = json_member(run->item, "references");
    struct cof_references *references = NULL;
    cof_fault_list_init(&run->faults, &run->arena);
    if (expected == NULL) {
        return;
    }
    if (cof_references_new(&run->arena, &references, &run->err) != COF_OK ||
        cof_document_references(&run->document, references, &run->faults, &run->arena, &run->err) != COF_OK) {
        complain(run, run->err.message);
        return;
    }
    if (json_count(expected) != cof_references_count(references)) {
        complain(run, "more or fewer references");
        return;
    }
    for (size_t i = 0; i < cof_references_count(references); i++) {
        const struct json_node *node = json_element(expected, i);
        if (!cof_slice_equal(cof_references_at(references, i)->name, node->first->text) ||
            !cof_slice_equal(cof_references_at(references, i)->key, node->last->text)) {
            complain(run, "another reference");
        }
    }
}

static void check_faults(const struct run *run)
{
    const struct json_node *expected = json_member(run->item, "faults");
    if (expected == NULL || json_count(expected) != run->faults.count) {
        complain(run, run->err.message);
        return;
    }
    for (size_t i = 0; i < run->faults.count; i++) {
        const struct cof_fault *fault = &run->faults.items[i];
        const struct json_node *node = json_element(expected, i);
        if (!text_is(cof_reason_name(fault->reason), node->first) ||
            json_number(json_element(node, 1)) != fault->place.line ||
            json_number(json_element(node, 2)) != fault->place.column || !text_is(fault->path, node->last)) {
            fprintf(stderr, "%s, path %s: %s\n", cof_reason_name(fault->reason), fault->path, fault->message);
            complain(run, "another fault");
        }
    }
}

static void check_value(struct run *run, const struct json_node *given)
{
    const struct cof_lookup lookup = {given_find, (void *) (uintptr_t) given};
    const struct json_node *expected = json_member(run->item, "value");
    struct cof_value value;
    cof_fault_list_init(&run->faults, &run->arena);
    if (cof_document_expand(&run->document, &lookup, &run->faults, &run->arena, &value, &run->err) != COF_OK) {
        check_faults(run);
    } else if (expected == NULL || !cof_slice_equal(value.bytes, expected->text)) {
        fprintf(stderr, "it became %.*s\n", (int) value.bytes.len, (const char *) value.bytes.data);
        complain(run, "another document");
    }
}

static void every_document_becomes_what_the_case_says(void)
{
    const struct json_node *root = json_tree_read(CASES);
    struct cof_pool *pool = NULL;
    struct cof_error err;
    size_t count = 0;
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    for (const struct json_node *item = json_member(root, "cases")->first; item != NULL; item = item->next) {
        static struct run run;
        run.item = item;
        cof_arena_init(&run.arena, pool, SIZE_MAX);
        if (begin(&run) == COF_OK) {
            check_references(&run);
            check_value(&run, json_member(root, "given"));
        } else {
            complain(&run, run.err.message);
        }
        cof_arena_reset(&run.arena);
        count++;
    }
    cof_pool_free(pool);
    printf("%zu cases\n", count);
    CHECK(count >= 50);
}

TEST_MAIN(TEST(every_document_becomes_what_the_case_says))
