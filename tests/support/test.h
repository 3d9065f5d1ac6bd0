#pragma once

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * What a test program is made of. A test is a function named by the behaviour it shows; a failed CHECK prints both
 * sides and returns from the test. TEST_MAIN lists the tests; with an argument only the tests whose name contains
 * it run.
 */

extern int test_failures;

struct test_case {
    const char *name;
    void (*run)(void);
};

#define TEST(name)  \
    {               \
#name, name \
    }

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            test_failures++;                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            return;                                                                   \
        }                                                                             \
    } while (0)

#define CHECK_INT(actual, expected)                                                                          \
    do {                                                                                                     \
        const int64_t actual_ = (int64_t) + (actual); /* +: also the result of a function of enum type */    \
        const int64_t expected_ = (int64_t) + (expected);                                                    \
        if (actual_ != expected_) {                                                                          \
            test_failures++;                                                                                 \
            fprintf(stderr, "%s:%d: %s is %" PRId64 ", expected %" PRId64 "\n", __FILE__, __LINE__, #actual, \
                    actual_, expected_);                                                                     \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)

#define CHECK_TEXT(actual, expected)                                                               \
    do {                                                                                           \
        const char *actual_ = (actual);                                                            \
        const char *expected_ = (expected);                                                        \
        if (actual_ == NULL || strcmp(actual_, expected_) != 0) {                                  \
            test_failures++;                                                                       \
            fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #actual, \
                    actual_ == NULL ? "(null)" : actual_, expected_);                              \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define CHECK_CONTAINS(text, part)                                                                  \
    do {                                                                                            \
        const char *text_ = (text);                                                                 \
        if (text_ == NULL || strstr(text_, (part)) == NULL) {                                       \
            test_failures++;                                                                        \
            fprintf(stderr, "%s:%d: %s is \"%s\", which lacks \"%s\"\n", __FILE__, __LINE__, #text, \
                    text_ == NULL ? "(null)" : text_, (part));                                      \
            return;                                                                                 \
        }                                                                                           \
    } while (0)

#define CHECK_BYTES(actual, expected, length)                                                                   \
    do {                                                                                                        \
        if (memcmp((actual), (expected), (length)) != 0) {                                                      \
            test_failures++;                                                                                    \
            fprintf(stderr, "%s:%d: the bytes of %s differ from %s\n", __FILE__, __LINE__, #actual, #expected); \
            return;                                                                                             \
        }                                                                                                       \
    } while (0)

/* Success of a function that fills a struct cof_error; include common/error.h. */
#define CHECK_OK(call, err)                                                               \
    do {                                                                                  \
        if ((call) != COF_OK) {                                                           \
            test_failures++;                                                              \
            fprintf(stderr, "%s:%d: %s failed: %s: %s (%s)\n", __FILE__, __LINE__, #call, \
                    cof_reason_name((err)->reason), (err)->message, (err)->trail);        \
            return;                                                                       \
        }                                                                                 \
    } while (0)

/* Failure with this reason. */
#define CHECK_FAILS(call, err, expected)                                                           \
    do {                                                                                           \
        const cof_code code_ = (call);                                                             \
        if (code_ == COF_OK || (err)->reason != COF_REASON_##expected) {                           \
            test_failures++;                                                                       \
            fprintf(stderr, "%s:%d: %s gave %s/%s (%s), expected %s\n", __FILE__, __LINE__, #call, \
                    cof_code_name(code_), code_ == COF_OK ? "" : cof_reason_name((err)->reason),   \
                    code_ == COF_OK ? "" : (err)->message, #expected);                             \
            return;                                                                                \
        }                                                                                          \
    } while (0)

int test_main(int argc, char **argv, const struct test_case *cases, size_t count);

#define TEST_MAIN(...)                                                       \
    int main(int argc, char **argv)                                          \
    {                                                                        \
        static const struct test_case cases[] = {__VA_ARGS__};               \
        return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]); \
    }

/* The seed of this run: from the environment's TEST_SEED, else random; printed at the first call. */
uint64_t test_seed(void);
/* The next number of a sequence that depends on the seed only (SplitMix64). */
uint64_t test_random(uint64_t *state);
