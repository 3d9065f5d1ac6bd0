#include "tests/unit/common/import/reading.h"

#include <stdlib.h>

enum { POOL = 16 << 20, SHOWN = 1 << 16 };

void reading_init(struct reading *reading)
{
    *reading = (struct reading){0};
    if (cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &reading->pool, &reading->err) != COF_OK) {
        abort();
    }
    cof_arena_init(&reading->arena, reading->pool, POOL);
}

void reading_done(struct reading *reading)
{
    cof_arena_reset(&reading->arena);
    cof_pool_free(reading->pool);
}

cof_code reading_read(struct reading *reading, cof_import_format format, struct cof_slice file)
{
    cof_arena_reset(&reading->arena);
    reading->list = (struct cof_import_list){0};
    return cof_import_read(format, file, cof_slice_text("app"), &reading->arena, &reading->list, &reading->err);
}

char *reading_put(char *to, const char *before, size_t count, const char *after)
{
    memcpy(to, before, strlen(before));
    to += strlen(before);
    memset(to, '7', count);
    to += count;
    memcpy(to, after, strlen(after) + 1);
    return to + strlen(after);
}

static void add(char *shown, const char *text)
{
    const size_t length = strlen(shown);
    (void) snprintf(shown + length, SHOWN - length, "%s", text);
}

static void add_bytes(char *shown, struct cof_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char byte[8];
        const bool printable = bytes.data[i] >= ' ' && bytes.data[i] <= '~';
        (void) snprintf(byte, sizeof byte, printable ? "%c" : "\\x%02x", bytes.data[i]);
        add(shown, byte);
    }
}

const char *reading_show(struct reading *reading)
{
    char *shown = cof_arena_alloc(&reading->arena, SHOWN);
    for (size_t i = 0; shown != NULL && i < reading->list.count; i++) {
        const struct cof_import_entry *entry = &reading->list.entries[i];
        char place[64];
        (void) snprintf(place, sizeof place, "%s%u:%u ", i == 0 ? "" : "|", entry->place.line, entry->place.column);
        add(shown, place);
        add_bytes(shown, entry->secret);
        add(shown, ".");
        add_bytes(shown, entry->key);
        add(shown, "=");
        add_bytes(shown, entry->value);
    }
    return shown;
}

static void check_read(struct reading *reading, cof_import_format format, const char *text, const char *expected)
{
    CHECK_OK(reading_read(reading, format, cof_slice_text(text)), &reading->err);
    CHECK_TEXT(reading_show(reading), expected);
}

void reading_gives(cof_import_format format, const char *text, const char *expected)
{
    struct reading reading;
    const int failures = test_failures;
    reading_init(&reading);
    check_read(&reading, format, text, expected);
    reading_done(&reading);
    if (test_failures > failures) {
        fprintf(stderr, "the text was: %s\n", text);
    }
}

static void check_refused(struct reading *reading, cof_import_format format, const char *text, const char *message)
{
    CHECK_FAILS(reading_read(reading, format, cof_slice_text(text)), &reading->err, FILE_INVALID);
    CHECK(reading->list.entries == NULL);
    CHECK_CONTAINS(reading->err.message, message);
    CHECK(strstr(reading->err.message, message) == reading->err.message);
}

void reading_refuses(cof_import_format format, const char *text, const char *message)
{
    struct reading reading;
    const int failures = test_failures;
    reading_init(&reading);
    check_refused(&reading, format, text, message);
    reading_done(&reading);
    if (test_failures > failures) {
        fprintf(stderr, "the text was: %s\n", text);
    }
}
