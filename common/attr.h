#pragma once

/* Attributes and the few macros that stand for them. */

#define COF_MUST_USE __attribute__((warn_unused_result))
#define COF_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* AUTO(f): calls f(&variable) when the variable goes out of scope. */
#define AUTO(function) __attribute__((cleanup(function)))

/* TAKE(p): hands the pointer on and leaves NULL behind, so that the scope's cleanup finds nothing. */
#define TAKE(pointer)                           \
    __extension__({                             \
        __typeof__(pointer) taken_ = (pointer); \
        (pointer) = NULL;                       \
        taken_;                                 \
    })

#define COF_COUNT(array) (sizeof(array) / sizeof((array)[0]))
