#include <string.h>

#include "common/import/import.h"
#include "common/import/list.h"
#include "common/import/plan.h"
#include "common/name.h"
#include "tests/fuzz/fuzz.h"

/*
 * The first byte chooses the format, the rest is the file. It is refused with words that name a place, or read; what
 * was read is planned, and what the plan takes is written in every format that can hold it, and comes back.
 */

enum { POOL = 32 << 20, FORMATS = COF_IMPORT_INFISICAL + 1 };

static void check_error(const struct cof_error *err)
{
    const bool known = err->reason == COF_REASON_FILE_INVALID || err->reason == COF_REASON_LIMIT_EXCEEDED ||
                       err->reason == COF_REASON_OUT_OF_MEMORY;
    MUST(known && strlen(err->message) > 10);
    MUST(err->reason != COF_REASON_FILE_INVALID || strncmp(err->message, "line ", 5) == 0);
    for (const char *at = err->message; *at != '\0'; at++) {
        MUST(*at >= ' ' && *at <= '~');
    }
}

static void check_same(const struct cof_import_list *a, const struct cof_import_list *b)
{
    MUST(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        MUST(cof_import_by_secret(&a->entries[i], &b->entries[i]) == 0);
        MUST(cof_slice_equal(a->entries[i].value, b->entries[i].value));
    }
}

/* What is written is read as what was to be written, and is written so again. */
static void check_round(cof_import_format format, const struct cof_import_list *list, struct cof_arena *arena)
{
    struct cof_import_list sorted;
    struct cof_import_list back;
    struct cof_slice file;
    struct cof_slice again;
    struct cof_error err;
    if (cof_import_write(format, list, arena, &file, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_OUT_OF_MEMORY ||
             (format == COF_IMPORT_DOTENV && err.reason == COF_REASON_FILE_INVALID));
        return;
    }
    if (cof_import_sorted(list, cof_import_by_secret, arena, &sorted, &err) != COF_OK ||
        cof_import_read(format, file, cof_slice_text("app"), arena, &back, &err) != COF_OK ||
        cof_import_write(format, &back, arena, &again, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_OUT_OF_MEMORY);
        return;
    }
    check_same(&sorted, &back);
    MUST(cof_slice_equal(file, again));
}

static void check_step(const struct cof_import_step *step)
{
    MUST(step->row_count > 0 && step->action <= COF_IMPORT_REFUSED);
    MUST(step->action == COF_IMPORT_REFUSED ||
         (cof_name_valid(COF_NAME_SECRET, step->secret) && !cof_name_reserved(step->secret)));
    for (size_t i = 0; i < step->row_count && step->action != COF_IMPORT_REFUSED; i++) {
        MUST(cof_name_valid(COF_NAME_KEY, step->rows[i].key) && step->rows[i].entry->value.len <= COF_VALUE_MAX);
    }
}

/* The entries that the plan takes, with the names that it gives them; all in one secret for a flat file. */
static struct cof_import_list taken(const struct cof_import_plan *plan, size_t room, bool flat,
                                    struct cof_arena *arena)
{
    struct cof_import_entry *entries = cof_arena_array(arena, room, sizeof *entries);
    size_t count = 0;
    for (size_t i = 0; entries != NULL && i < plan->step_count; i++) {
        const struct cof_import_step *step = &plan->steps[i];
        for (size_t k = 0; k < step->row_count && step->action != COF_IMPORT_REFUSED; k++) {
            entries[count] = *step->rows[k].entry;
            entries[count].secret = flat ? cof_slice_text("app") : step->secret;
            entries[count++].key = step->rows[k].key;
        }
    }
    return (struct cof_import_list){entries, count};
}

static void check_list(const struct cof_import_list *list, struct cof_arena *arena)
{
    struct cof_import_plan plan;
    struct cof_error err;
    if (cof_import_plan(list, NULL, 0, arena, &plan, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_OUT_OF_MEMORY);
        return;
    }
    for (size_t i = 0; i < plan.step_count; i++) {
        check_step(&plan.steps[i]);
    }
    const struct cof_import_list flat = taken(&plan, list->count, true, arena);
    const struct cof_import_list planned = taken(&plan, list->count, false, arena);
    check_round(COF_IMPORT_DOTENV, &flat, arena);
    check_round(COF_IMPORT_JSON, &planned, arena);
    check_round(COF_IMPORT_YAML, &planned, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_import_list list;
    struct cof_error err;
    MUST(pool != NULL || cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    if (size == 0) {
        return 0;
    }
    const cof_import_format format = (cof_import_format) (data[0] % FORMATS);
    cof_arena_init(&arena, pool, POOL);
    if (cof_import_read(format, cof_slice_of(data + 1, size - 1), cof_slice_text("app"), &arena, &list, &err) ==
        COF_OK) {
        check_list(&list, &arena);
    } else {
        check_error(&err);
    }
    cof_arena_reset(&arena);
    return 0;
}
