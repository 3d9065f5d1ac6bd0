#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/secret.h"
#include "tests/unit/common/import/reading.h"

/* Looks for a value in all memory that the process can write, after a file with it was read and everything let go. */

enum { VALUE = 48, PIECE = 24, WINDOW = 1 << 16 };

/* The value's letters. It is known by this function only, so that the search itself leaves no copy of it. */
static char letter(size_t index, size_t number)
{
    return (char) ('a' + (index * 7 + index / 5 + number * 3) % 26);
}

/* Whether a piece out of the value's middle stands here. */
static bool stands_at(const char *text, size_t number)
{
    for (size_t i = 0; i < PIECE; i++) {
        if (text[i] != letter(i + VALUE / 4, number)) {
            return false;
        }
    }
    return true;
}

static bool stands_in(const char *text, size_t length, size_t number)
{
    for (size_t i = 0; i + PIECE <= length; i++) {
        if (stands_at(text + i, number)) {
            return true;
        }
    }
    return false;
}

/* Windows overlap by what a piece may reach over; the search's own window is passed over. */
static bool range_holds(int memory, uintptr_t begin, uintptr_t end, size_t number)
{
    static char window[WINDOW + PIECE];
    bool found = false;
    for (uintptr_t at = begin; at < end && !found; at += WINDOW) {
        const size_t wanted = end - at < sizeof window ? end - at : sizeof window;
        const uintptr_t own = (uintptr_t) window;
        const ssize_t got = pread(memory, window, wanted, (off_t) at);
        const bool overlaps = at < own + sizeof window && at + wanted > own;
        found = got > 0 && !overlaps && stands_in(window, (size_t) got, number);
        cof_wipe(window, sizeof window);
    }
    return found;
}

static bool memory_holds(size_t number)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[512];
    bool found = maps == NULL || memory < 0;
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        char *rest;
        const uintptr_t begin = strtoul(line, &rest, 16);
        const uintptr_t end = strtoul(rest + 1, &rest, 16);
        found = rest[1] == 'r' && rest[2] == 'w' && range_holds(memory, begin, end, number);
    }
    (void) close(memory);
    (void) fclose(maps);
    return found;
}

/* The file with the value where the form has an @. */
static char *make_file(const char *form, size_t number, size_t *ret_size)
{
    const char *at = strchr(form, '@');
    const size_t before = (size_t) (at - form);
    char *file = malloc(strlen(form) + VALUE);
    if (file != NULL) {
        memcpy(file, form, before);
        for (size_t i = 0; i < VALUE; i++) {
            file[before + i] = letter(i, number);
        }
        memcpy(file + before + VALUE, at + 1, strlen(at + 1));
        *ret_size = strlen(form) - 1 + VALUE;
    }
    return file;
}

static void check_format(cof_import_format format, const char *form)
{
    struct reading reading;
    size_t size = 0;
    char *file = make_file(form, (size_t) format, &size);
    CHECK(file != NULL);
    reading_init(&reading);
    CHECK_OK(reading_read(&reading, format, cof_slice_of(file, size)), &reading.err);
    free(file);
    CHECK_INT(reading.list.count, 1);
    CHECK(memory_holds((size_t) format));
    if (cof_import_format_written(format)) {
        struct cof_slice written;
        struct cof_import_entry entry = reading.list.entries[0];
        entry.secret = cof_slice_text("s");
        const struct cof_import_list list = {&entry, 1};
        CHECK_OK(cof_import_write(format, &list, &reading.arena, &written, &reading.err), &reading.err);
    }
    reading_done(&reading);
    CHECK(!memory_holds((size_t) format));
}

static void nothing_is_left_of_a_file_that_was_read_and_written(void)
{
    check_format(COF_IMPORT_DOTENV, "A=\"@\"\n");
    check_format(COF_IMPORT_JSON, "{\"s\": {\"A\": \"@\"}}");
    check_format(COF_IMPORT_YAML, "s:\n  A: \"@\"\n");
    check_format(COF_IMPORT_VAULT, "{\"data\": {\"data\": {\"A\": \"@\"}}}");
    check_format(COF_IMPORT_INFISICAL, "[{\"key\": \"A\", \"value\": \"@\"}]");
}

static void nothing_is_left_of_a_file_that_was_refused(void)
{
    static const struct {
        cof_import_format format;
        const char *form;
    } files[] = {{COF_IMPORT_DOTENV, "A=\"@\\q\"\n"},
                 {COF_IMPORT_JSON, "{\"s\": {\"A\": \"@\", \"B\": \"@"},
                 {COF_IMPORT_YAML, "s:\n  A: \"@\"\n  B: \"x"}};
    for (size_t i = 0; i < COF_COUNT(files); i++) {
        struct reading reading;
        size_t size = 0;
        const size_t number = 10 + i;
        char *file = make_file(files[i].form, number, &size);
        CHECK(file != NULL);
        reading_init(&reading);
        const cof_code code = reading_read(&reading, files[i].format, cof_slice_of(file, size));
        free(file);
        CHECK_FAILS(code, &reading.err, FILE_INVALID);
        reading_done(&reading);
        CHECK(!memory_holds(number));
    }
}

TEST_MAIN(TEST(nothing_is_left_of_a_file_that_was_read_and_written),
          TEST(nothing_is_left_of_a_file_that_was_refused))
