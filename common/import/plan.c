#include "common/import/plan.h"

#include <stdlib.h>
#include <string.h>

#include "common/import/rename.h"
#include "common/import/source.h"
#include "common/name.h"
#include "common/secret.h"

struct planner {
    struct cof_arena *arena;
    struct cof_error *err;
    struct cof_import_held *held; /* sorted by name */
    size_t held_count;
};

/* --- Refusals ------------------------------------------------------------------------------------------------- */

/* Keeps the failure that is in the planner's error as a sentence; the first one of a row or step stays. */
static cof_code keep(struct planner *planner, cof_reason *reason, const char **problem)
{
    if (*problem != NULL) {
        return COF_OK;
    }
    *reason = planner->err->reason;
    *problem = cof_arena_text(planner->arena, cof_slice_text(planner->err->message));
    return *problem == NULL ? cof_arena_exhausted(planner->err) : COF_OK;
}

static cof_code refuse_row(struct planner *planner, struct cof_import_row *row)
{
    row->action = COF_IMPORT_REFUSED;
    return keep(planner, &row->reason, &row->problem);
}

static cof_code refuse_step(struct planner *planner, struct cof_import_step *step)
{
    step->action = COF_IMPORT_REFUSED;
    return keep(planner, &step->reason, &step->problem);
}

static void fail_at(struct planner *planner, cof_reason reason, struct cof_place place, const char *problem)
{
    (void) cof_fail(planner->err, reason, "line %u, column %u: %s", place.line, place.column, problem);
}

/* --- Names ---------------------------------------------------------------------------------------------------- */

static cof_code rename_to(struct planner *planner, cof_name_kind kind, struct cof_slice name,
                          struct cof_slice *ret_name, bool *ret_renamed)
{
    *ret_name = cof_import_rename(kind, name, planner->arena);
    *ret_renamed = !cof_slice_equal(*ret_name, name);
    return ret_name->data == NULL ? cof_arena_exhausted(planner->err) : COF_OK;
}

/* After renaming only the length can be wrong. */
static cof_code name_step(struct planner *planner, struct cof_import_step *step)
{
    const struct cof_import_entry *entry = step->rows[0].entry;
    TRY(rename_to(planner, COF_NAME_SECRET, entry->secret, &step->secret, &step->renamed));
    if (!cof_name_valid(COF_NAME_SECRET, step->secret)) {
        fail_at(planner, COF_REASON_FIELD_INVALID, entry->place,
                "the secret's name is empty or longer than 100 characters");
        return refuse_step(planner, step);
    }
    if (cof_name_reserved(step->secret)) {
        fail_at(planner, COF_REASON_NAME_RESERVED, entry->place,
                "the secret's name ends in _oauth, which belongs to OAuth connections; choose another name");
        return refuse_step(planner, step);
    }
    return COF_OK;
}

static cof_code name_row(struct planner *planner, struct cof_import_row *row)
{
    TRY(rename_to(planner, COF_NAME_KEY, row->entry->key, &row->key, &row->renamed));
    if (!cof_name_valid(COF_NAME_KEY, row->key)) {
        fail_at(planner, COF_REASON_FIELD_INVALID, row->entry->place,
                "the key's name is empty or longer than 128 characters");
        return refuse_row(planner, row);
    }
    if (row->entry->value.len > COF_VALUE_MAX) {
        fail_at(planner, COF_REASON_LIMIT_EXCEEDED, row->entry->place,
                "the value is longer than 64 KiB, the most that a value may have");
        return refuse_row(planner, row);
    }
    return COF_OK;
}

static int compare_rows(const void *a, const void *b)
{
    const struct cof_import_row *const *left = a;
    const struct cof_import_row *const *right = b;
    return cof_slice_compare((*left)->key, (*right)->key);
}

static int compare_steps(const void *a, const void *b)
{
    const struct cof_import_step *const *left = a;
    const struct cof_import_step *const *right = b;
    return cof_slice_compare((*left)->secret, (*right)->secret);
}

/* Says that two names of the file become one; `entry` and `other` are where they stand. */
static void fail_collision(struct planner *planner, const struct cof_import_entry *entry,
                           const struct cof_import_entry *other, struct cof_slice name)
{
    char shown[COF_IMPORT_SHOWN];
    (void) cof_fail(
        planner->err, COF_REASON_FIELD_INVALID,
        "line %u, column %u: the name becomes \"%s\", as does the one in line %u, column %u; rename one "
        "of them",
        entry->place.line, entry->place.column, cof_import_show(name, shown), other->place.line,
        other->place.column);
}

static cof_code check_rows(struct planner *planner, struct cof_import_step *step)
{
    struct cof_import_row **sorted =
        cof_arena_array(planner->arena, step->row_count, sizeof(struct cof_import_row *));
    if (sorted == NULL) {
        return cof_arena_exhausted(planner->err);
    }
    for (size_t i = 0; i < step->row_count; i++) {
        sorted[i] = &step->rows[i];
    }
    qsort(sorted, step->row_count, sizeof(struct cof_import_row *), compare_rows);
    for (size_t i = 1; i < step->row_count; i++) {
        if (cof_slice_equal(sorted[i - 1]->key, sorted[i]->key)) {
            fail_collision(planner, sorted[i]->entry, sorted[i - 1]->entry, sorted[i]->key);
            TRY(refuse_row(planner, sorted[i]));
            fail_collision(planner, sorted[i - 1]->entry, sorted[i]->entry, sorted[i]->key);
            TRY(refuse_row(planner, sorted[i - 1]));
        }
    }
    return COF_OK;
}

static cof_code check_steps(struct planner *planner, struct cof_import_plan *plan)
{
    struct cof_import_step **sorted =
        cof_arena_array(planner->arena, plan->step_count, sizeof(struct cof_import_step *));
    if (sorted == NULL) {
        return cof_arena_exhausted(planner->err);
    }
    for (size_t i = 0; i < plan->step_count; i++) {
        sorted[i] = &plan->steps[i];
    }
    qsort(sorted, plan->step_count, sizeof(struct cof_import_step *), compare_steps);
    for (size_t i = 1; i < plan->step_count; i++) {
        if (cof_slice_equal(sorted[i - 1]->secret, sorted[i]->secret)) {
            fail_collision(planner, sorted[i]->rows->entry, sorted[i - 1]->rows->entry, sorted[i]->secret);
            TRY(refuse_step(planner, sorted[i]));
            fail_collision(planner, sorted[i - 1]->rows->entry, sorted[i]->rows->entry, sorted[i]->secret);
            TRY(refuse_step(planner, sorted[i - 1]));
        }
    }
    return COF_OK;
}

/* --- Against what is stored ----------------------------------------------------------------------------------- */

static int compare_held(const void *a, const void *b)
{
    const struct cof_import_held *left = a;
    const struct cof_import_held *right = b;
    return cof_slice_compare(left->name, right->name);
}

static const struct cof_import_held *find_held(const struct planner *planner, struct cof_slice name)
{
    const struct cof_import_held wanted = {.name = name};
    return planner->held_count == 0
               ? NULL
               : bsearch(&wanted, planner->held, planner->held_count, sizeof wanted, compare_held);
}

/* A secret has at most a hundred keys. */
static const struct cof_import_held_key *find_key(const struct cof_import_held *held, struct cof_slice name)
{
    for (size_t i = 0; held != NULL && i < held->key_count; i++) {
        if (cof_slice_equal(held->keys[i].name, name)) {
            return &held->keys[i];
        }
    }
    return NULL;
}

static void compare_row(const struct cof_import_held *held, struct cof_import_row *row)
{
    const struct cof_import_held_key *key = find_key(held, row->key);
    if (row->action == COF_IMPORT_REFUSED) {
        return;
    }
    row->compared = key == NULL || key->has_value;
    if (key == NULL) {
        row->action = COF_IMPORT_CREATE;
    } else if (key->has_value && cof_secret_equal(key->value, row->entry->value)) {
        row->action = COF_IMPORT_UNCHANGED;
    } else {
        row->action = COF_IMPORT_CHANGE;
    }
}

/* The size is known of what comes from the file only; the server counts what is stored besides. */
static cof_code check_limits(struct planner *planner, struct cof_import_step *step,
                             const struct cof_import_held *held)
{
    size_t keys = held == NULL ? 0 : held->key_count;
    size_t size = 0;
    for (size_t i = 0; i < step->row_count; i++) {
        keys += step->rows[i].action == COF_IMPORT_CREATE;
        size += step->rows[i].entry->value.len;
    }
    if (keys > COF_SECRET_KEYS_MAX) {
        fail_at(planner, COF_REASON_LIMIT_EXCEEDED, step->rows->entry->place,
                "the secret would have more than 100 keys, the most that a secret may have");
        return refuse_step(planner, step);
    }
    if (size > COF_SECRET_SIZE_MAX) {
        fail_at(planner, COF_REASON_LIMIT_EXCEEDED, step->rows->entry->place,
                "the secret's values would have more than 256 KiB, the most that a secret may have");
        return refuse_step(planner, step);
    }
    return COF_OK;
}

static cof_import_action action_of(const struct cof_import_step *step, const struct cof_import_held *held)
{
    bool changes = false;
    for (size_t i = 0; i < step->row_count; i++) {
        if (step->rows[i].action == COF_IMPORT_REFUSED) {
            return COF_IMPORT_REFUSED;
        }
        changes = changes || step->rows[i].action != COF_IMPORT_UNCHANGED;
    }
    if (held == NULL) {
        return COF_IMPORT_CREATE;
    }
    return changes ? COF_IMPORT_CHANGE : COF_IMPORT_UNCHANGED;
}

static cof_code compare_step(struct planner *planner, struct cof_import_step *step)
{
    const struct cof_import_held *held = find_held(planner, step->secret);
    for (size_t i = 0; i < step->row_count; i++) {
        compare_row(held, &step->rows[i]);
    }
    TRY(check_limits(planner, step, held));
    if (step->action != COF_IMPORT_REFUSED) {
        step->action = action_of(step, held);
    }
    return COF_OK;
}

/* --- The plan ------------------------------------------------------------------------------------------------- */

/* Entries of one secret stand together. */
static size_t count_steps(const struct cof_import_list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        count += i == 0 || !cof_slice_equal(list->entries[i].secret, list->entries[i - 1].secret);
    }
    return count;
}

static cof_code make_steps(struct planner *planner, const struct cof_import_list *list,
                           struct cof_import_plan *plan)
{
    struct cof_import_row *rows = cof_arena_array(planner->arena, list->count, sizeof *rows);
    plan->steps = cof_arena_array(planner->arena, count_steps(list), sizeof *plan->steps);
    if (rows == NULL || plan->steps == NULL) {
        return cof_arena_exhausted(planner->err);
    }
    for (size_t i = 0; i < list->count; i++) {
        rows[i] = (struct cof_import_row){.entry = &list->entries[i]};
        if (i == 0 || !cof_slice_equal(list->entries[i].secret, list->entries[i - 1].secret)) {
            plan->steps[plan->step_count++] = (struct cof_import_step){.rows = &rows[i]};
        }
        plan->steps[plan->step_count - 1].row_count++;
    }
    return COF_OK;
}

static cof_code name_all(struct planner *planner, struct cof_import_step *step)
{
    TRY(name_step(planner, step));
    for (size_t i = 0; i < step->row_count; i++) {
        TRY(name_row(planner, &step->rows[i]));
    }
    return check_rows(planner, step);
}

static cof_code sort_held(struct planner *planner, const struct cof_import_held *held, size_t count)
{
    planner->held = cof_arena_array(planner->arena, count, sizeof *held);
    if (planner->held == NULL) {
        return cof_arena_exhausted(planner->err);
    }
    if (count > 0) {
        memcpy(planner->held, held, count * sizeof *held);
        qsort(planner->held, count, sizeof *held, compare_held);
    }
    planner->held_count = count;
    return COF_OK;
}

cof_code cof_import_plan(const struct cof_import_list *list, const struct cof_import_held *held, size_t held_count,
                         struct cof_arena *arena, struct cof_import_plan *ret_plan, struct cof_error *err)
{
    struct planner planner = {.arena = arena, .err = err};
    struct cof_import_plan plan = {0};
    TRY(sort_held(&planner, held, held_count));
    TRY(make_steps(&planner, list, &plan));
    for (size_t i = 0; i < plan.step_count; i++) {
        TRY(name_all(&planner, &plan.steps[i]));
    }
    TRY(check_steps(&planner, &plan));
    for (size_t i = 0; i < plan.step_count; i++) {
        TRY(compare_step(&planner, &plan.steps[i]));
        plan.counts[plan.steps[i].action]++;
    }
    cof_error_clear(err);
    *ret_plan = plan;
    return COF_OK;
}
