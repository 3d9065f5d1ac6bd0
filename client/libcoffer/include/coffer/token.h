#ifndef COFFER_TOKEN_H
#define COFFER_TOKEN_H

/*
 * Narrows a token without asking a server: an orchestrator keeps its token, and gives each executor one for its run.
 *
 *     coffer_narrowing narrowing = COFFER_NARROWING_INIT;
 *     const char *const environments[] = {"prod"};
 *     char narrowed[COFFER_NARROWED_SIZE];
 *
 *     narrowing.workspace = "0f0e0d0c-0b0a-4908-8706-050403020100";
 *     narrowing.environments = environments;
 *     narrowing.environment_count = 1;
 *     narrowing.run_id = "run-4711";
 *     narrowing.expire_time_ms = now_ms + 3600 * 1000;
 *     if (coffer_token_narrow(token, token_length, &narrowing, narrowed, &error) == COFFER_OK)
 *         give_to_executor(narrowed);
 *     coffer_token_wipe(narrowed, sizeof narrowed);
 *
 * A narrowed token resolves, and does nothing else: what the token that it was made from may resolve, within
 * everything that it was narrowed to. Whoever holds it can narrow it further and never widen it. It cannot be revoked
 * by itself: it ends with the token that was issued, or at its own time.
 */

#include <coffer/coffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The longest narrowed token, with its NUL. */
enum { COFFER_NARROWED_SIZE = 2049 };

/*
 * What a token is narrowed to; at least one of these. Begin with COFFER_NARROWING_INIT; a field that is 0 or NULL is
 * not given. A pattern is a name, or the beginning of a name followed by `*`.
 */
typedef struct coffer_narrowing {
    size_t struct_size;
    const char *workspace;           /* UUID, lower case; requests that name no workspace then mean it */
    const char *const *environments; /* patterns, at most 256 */
    size_t environment_count;
    const char *const *names; /* patterns of names of secrets, at most 256 */
    size_t name_count;
    const char *workflow_id; /* items must come with this coffer_request_set_run; each at most 256 bytes */
    const char *run_id;
    int64_t expire_time_ms; /* milliseconds since 1970, by the server's clock */
} coffer_narrowing;

#define COFFER_NARROWING_INIT                                           \
    {                                                                   \
        sizeof(coffer_narrowing), NULL, NULL, 0, NULL, 0, NULL, NULL, 0 \
    }

/*
 * Narrows a token, whole or narrowed before; the same wishes always make the same text. Writes the text and a NUL to
 * `ret_narrowed`, or "" if it fails; it must not overlap the token. The buffer belongs to the caller, who wipes it when it is not needed any more; the
 * library keeps no copy of either token, and wipes what it computed with.
 *
 * Errors:
 *   COFFER_UNAUTHENTICATED     TOKEN_MALFORMED, TOKEN_UNSUPPORTED: the token is none, or comes from a newer version
 *   COFFER_INVALID_ARGUMENT    FIELD_INVALID: a field cannot be so, or a system token, which can resolve nothing;
 *                              FIELD_REQUIRED: something is NULL, or the token would not be narrowed by anything
 *   COFFER_UNIMPLEMENTED       NOT_AVAILABLE: a program that was built for a newer library narrows by what came later
 *   COFFER_RESOURCE_EXHAUSTED  LIMIT_EXCEEDED: it would have more than 2,048 characters, or 32 parts
 *
 * Thread-safe; asks nobody and does not wait.
 */
COFFER_API coffer_status coffer_token_narrow(const void *token, size_t length, const coffer_narrowing *narrowing,
                                             char ret_narrowed[COFFER_NARROWED_SIZE],
                                             coffer_error **ret_error) COFFER_MUST_USE;

/* Wipes bytes in a way that no compiler removes. NULL is allowed. */
COFFER_API void coffer_token_wipe(void *token, size_t size);

#ifdef __cplusplus
}
#endif

#endif
