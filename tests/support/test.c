#include "tests/support/test.h"

#include <stdlib.h>
#include <sys/random.h>

int test_failures;

int test_main(int argc, char **argv, const struct test_case *cases, size_t count)
{
    int failed = 0;
    int ran = 0;
    for (size_t i = 0; i < count; i++) {
        if (argc > 1 && strstr(cases[i].name, argv[1]) == NULL) {
            continue;
        }
        test_failures = 0;
        cases[i].run();
        ran++;
        failed += test_failures != 0;
        printf("%s %s\n", test_failures == 0 ? "ok  " : "FAIL", cases[i].name);
        fflush(stdout);
    }
    if (ran == 0) {
        fprintf(stderr, "no test ran\n");
        return 2;
    }
    return failed == 0 ? 0 : 1;
}

uint64_t test_seed(void)
{
    static uint64_t seed;
    if (seed == 0) {
        const char *given = getenv("TEST_SEED");
        if (given != NULL) {
            seed = strtoull(given, NULL, 10);
        } else if (getrandom(&seed, sizeof seed, 0) != (ssize_t) sizeof seed) {
            seed = 1;
        }
        seed |= 1;
        printf("TEST_SEED=%" PRIu64 "\n", seed);
    }
    return seed;
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}
