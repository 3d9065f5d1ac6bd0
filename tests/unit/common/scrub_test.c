#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scrub.h"
#include "tests/support/test.h"

/* Behind what the allocator itself writes into a freed chunk. */
enum { SMALL = 256, LARGE = 60000, HEAD = 32 };

/* Whether the byte lies there, also where the memory is not ours any more. What cannot be read holds everything. */
static bool holds(uintptr_t address, size_t size, uint8_t byte)
{
    static uint8_t bytes[LARGE];
    const int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    const ssize_t got = pread(fd, bytes, size, (off_t) address);
    (void) close(fd);
    return got != (ssize_t) size || memchr(bytes, byte, size) != NULL;
}

static uint8_t *filled(size_t size)
{
    uint8_t *memory = malloc(size);
    if (memory != NULL) {
        memset(memory, 'x', size);
    }
    return memory;
}

static void freed_memory_holds_nothing_of_what_it_held(void)
{
    for (size_t size = SMALL; size <= LARGE; size += LARGE - SMALL) {
        uint8_t *memory = filled(size);
        CHECK(memory != NULL);
        volatile uintptr_t address = (uintptr_t) memory;
        CHECK(holds(address + HEAD, size - HEAD, 'x'));
        free(memory);
        CHECK(!holds(address + HEAD, size - HEAD, 'x'));
    }
}

static void growing_moves_the_contents_and_wipes_the_old_place(void)
{
    uint8_t *memory = filled(SMALL);
    CHECK(memory != NULL);
    volatile uintptr_t address = (uintptr_t) memory;
    uint8_t *grown = realloc(memory, LARGE);
    CHECK(grown != NULL);
    for (size_t i = 0; i < SMALL; i++) {
        CHECK_INT(grown[i], 'x');
    }
    CHECK((uintptr_t) grown != address);
    CHECK(!holds(address + HEAD, SMALL - HEAD, 'x'));
    free(grown);
}

static void shrinking_keeps_what_stays_and_wipes_the_rest(void)
{
    uint8_t *memory = filled(LARGE);
    CHECK(memory != NULL);
    volatile uintptr_t address = (uintptr_t) memory;
    uint8_t *shrunk = realloc(memory, SMALL);
    CHECK_INT((intptr_t) shrunk, (intptr_t) address);
    for (size_t i = 0; i < SMALL; i++) {
        CHECK_INT(shrunk[i], 'x');
    }
    CHECK(!holds(address + SMALL + HEAD, LARGE - SMALL - HEAD, 'x'));
    free(shrunk);
}

static void libraries_of_the_process_wipe_what_they_free_too(void)
{
    char *line = NULL;
    size_t room = 0;
    FILE *file = tmpfile();
    CHECK(file != NULL);
    for (size_t i = 0; i < LARGE / 2; i++) {
        CHECK(fputc(i < SMALL ? 'a' : 'x', file) != EOF);
    }
    rewind(file);
    /* getline() grows its buffer in libc. */
    CHECK_INT(getline(&line, &room, file), LARGE / 2);
    volatile uintptr_t address = (uintptr_t) line;
    free(line);
    CHECK(!holds(address + HEAD, LARGE / 2 - HEAD, 'x'));
    (void) fclose(file);
}

static void edges_are_those_of_the_standard(void)
{
    free(NULL);
    void *memory = realloc(NULL, SMALL);
    CHECK(memory != NULL);
    volatile size_t none = 0;
    /* NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI) */
    void *nothing = realloc(memory, none);
    CHECK(nothing == NULL);
    /* What cannot be had leaves the memory as it is. */
    volatile size_t too_much = PTRDIFF_MAX;
    uint8_t *kept = filled(SMALL);
    CHECK(kept != NULL);
    nothing = realloc(kept, too_much);
    CHECK(nothing == NULL);
    CHECK_INT(kept[SMALL - 1], 'x');
    free(kept);
}

TEST_MAIN(TEST(freed_memory_holds_nothing_of_what_it_held),
          TEST(growing_moves_the_contents_and_wipes_the_old_place),
          TEST(shrinking_keeps_what_stays_and_wipes_the_rest),
          TEST(libraries_of_the_process_wipe_what_they_free_too), TEST(edges_are_those_of_the_standard))
