/*
 * Given to clang-tidy before every file: what its analyzer cannot see by itself, since it looks at one file at a
 * time. A failure that was just set is never COF_OK.
 */
#include "common/arena.h"
#include "common/error.h"

#define FAILURE_OF(call)                         \
    __extension__({                              \
        const cof_code failure_of_ = (call);     \
        __builtin_assume(failure_of_ != COF_OK); \
        failure_of_;                             \
    })
#define cof_fail(...) FAILURE_OF(cof_fail(__VA_ARGS__))
#define cof_fail_field(...) FAILURE_OF(cof_fail_field(__VA_ARGS__))
#define cof_fail_internal(...) FAILURE_OF(cof_fail_internal(__VA_ARGS__))
#define cof_note(...) FAILURE_OF(cof_note(__VA_ARGS__))
#define cof_error_fact(...) FAILURE_OF(cof_error_fact(__VA_ARGS__))
#define cof_error_retry_after(...) FAILURE_OF(cof_error_retry_after(__VA_ARGS__))
#define cof_arena_exhausted(err) FAILURE_OF(cof_arena_exhausted(err))
