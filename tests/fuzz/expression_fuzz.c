#include "common/expand.h"
#include "common/name.h"
#include "common/references.h"
#include "tests/fuzz/fuzz.h"

/*
 * Any bytes as a text: templates lie within it, in order and apart from each other; every operand lies within its
 * template; a text without templates is its own value; and the value of another one is what stands between the
 * templates with their values, whatever those hold. The choice that a server is asked for is no longer than its template,
 * has its references in their order, and nothing else of it.
 */

enum { POOL = 32 << 20 };

static struct cof_pool *pool;

static const char value[] = "${{ SECRETS.a.K }}";

static void find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found)
{
    (void) context;
    MUST(cof_name_valid(COF_NAME_SECRET, name) && cof_name_valid(COF_NAME_KEY, key));
    *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_text(value)};
}

static const struct cof_lookup lookup = {find, NULL};

/* How much of the output has been seen to be right. */
struct comparison {
    struct cof_slice text;
    struct cof_slice output;
    size_t read;
    size_t written;
};

static void compare(struct comparison *comparison, struct cof_slice expected)
{
    MUST(comparison->output.len - comparison->written >= expected.len);
    MUST(expected.len == 0 ||
         memcmp(comparison->output.data + comparison->written, expected.data, expected.len) == 0);
    comparison->written += expected.len;
}

static void check_operands(const struct cof_template *template)
{
    struct cof_operand_scan scan;
    struct cof_operand operand = {.last = false};
    size_t count = 0;
    cof_operand_scan_init(&scan, template);
    while (cof_operand_next(&scan, &operand)) {
        MUST(operand.offset >= 3 && operand.offset < template->text.len - 2);
        MUST(operand.kind == COF_OPERAND_REFERENCE || template->evaluated);
        count++;
    }
    MUST(count > 0 && operand.last);
}

static bool next_reference(struct cof_operand_scan *scan, struct cof_operand *ret_reference)
{
    bool found = cof_operand_next(scan, ret_reference);
    while (found && ret_reference->kind != COF_OPERAND_REFERENCE) {
        MUST(ret_reference->literal.len == 0 || cof_slice_equal(ret_reference->literal, cof_slice_text("-")));
        found = cof_operand_next(scan, ret_reference);
    }
    return found;
}

/* The next reference of the template itself, whose literals are its author's. */
static struct cof_operand written_reference(struct cof_operand_scan *scan)
{
    struct cof_operand operand;
    do {
        MUST(cof_operand_next(scan, &operand));
    } while (operand.kind != COF_OPERAND_REFERENCE);
    return operand;
}

static void check_choice(const struct cof_template *template, struct cof_slice choice)
{
    struct cof_template read;
    struct cof_operand_scan scan;
    struct cof_operand_scan original;
    struct cof_operand reference;
    struct cof_error err;
    bool found = false;
    size_t count = 0;
    MUST(choice.len <= template->text.len);
    MUST(cof_template_read(choice, &read, &found, &err) == COF_OK && found && read.evaluated);
    cof_operand_scan_init(&scan, &read);
    cof_operand_scan_init(&original, template);
    for (; next_reference(&scan, &reference); count++) {
        const struct cof_operand written = written_reference(&original);
        MUST(cof_slice_equal(reference.name, written.name) && cof_slice_equal(reference.key, written.key));
    }
    MUST(count > 0);
}

static void check_references(const struct cof_template *template)
{
    struct cof_arena arena;
    struct cof_references *references = NULL;
    struct cof_error err;
    cof_arena_init(&arena, pool, SIZE_MAX);
    MUST(cof_references_new(&arena, &references, &err) == COF_OK);
    if (cof_references_add_template(references, template, &err) == COF_OK) {
        MUST(cof_references_choice_count(references) <= template->evaluated);
        for (size_t i = 0; i < cof_references_choice_count(references); i++) {
            check_choice(template, cof_references_choice_at(references, i));
        }
    }
    cof_arena_reset(&arena);
}

static void check_template(struct cof_slice text, size_t from, const struct cof_template *template)
{
    const struct cof_place place = cof_place_behind(text, COF_PLACE_START, template->place.offset);
    MUST(template->place.offset >= from && template->text.data == text.data + template->place.offset);
    MUST(template->place.offset + template->text.len <= text.len && template->text.len <= COF_EXPRESSION_MAX);
    MUST(place.line == template->place.line && place.column == template->place.column);
    MUST(cof_slice_starts_with(template->text, cof_slice_text("${{")));
    MUST(memcmp(template->text.data + template->text.len - 2, "}}", 2) == 0);
    check_operands(template);
    check_references(template);
}

static void compare_template(struct comparison *comparison, const struct cof_template *template)
{
    const struct cof_expansion expansion = {.lookup = &lookup};
    struct cof_value worth;
    if (!template->evaluated) {
        return;
    }
    MUST(cof_template_value(&expansion, template, &worth) && !worth.null);
    if (cof_template_is_whole(comparison->text, template)) {
        comparison->read = comparison->text.len;
    } else {
        compare(comparison,
                cof_slice_of(comparison->text.data + comparison->read, template->place.offset - comparison->read));
        comparison->read = template->place.offset + template->text.len;
    }
    compare(comparison, worth.bytes);
}

static void check_scan(struct comparison *comparison, bool expanded)
{
    struct cof_template_scan scan;
    struct cof_template template;
    struct cof_error err;
    bool found = true;
    size_t from = 0;
    cof_template_scan_init(&scan, comparison->text);
    while (found) {
        if (cof_template_next(&scan, &template, &found, &err) != COF_OK) {
            MUST(!expanded && scan.fault.offset >= from && scan.fault.offset <= comparison->text.len);
            found = true;
        } else if (found) {
            check_template(comparison->text, from, &template);
            from = template.place.offset + template.text.len;
            if (expanded) {
                compare_template(comparison, &template);
            }
        }
    }
    if (expanded) {
        compare(comparison,
                cof_slice_of(comparison->text.data + comparison->read, comparison->text.len - comparison->read));
        MUST(comparison->written == comparison->output.len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cof_arena arena;
    struct cof_fault_list faults;
    struct cof_error err;
    struct cof_value output;
    MUST(pool != NULL || cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    cof_arena_init(&arena, pool, SIZE_MAX);
    cof_fault_list_init(&faults, &arena);
    struct comparison comparison = {.text = cof_slice_of(size == 0 ? (const uint8_t *) "" : data, size)};
    const bool expanded =
        cof_text_expand(comparison.text, &lookup, &faults, &arena, &output, &err) == COF_OK && !output.null;
    MUST(expanded || faults.total > 0);
    if (expanded) {
        comparison.output = output.bytes;
    }
    check_scan(&comparison, expanded);
    cof_arena_reset(&arena);
    return 0;
}
