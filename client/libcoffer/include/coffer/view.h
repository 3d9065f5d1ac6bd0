#ifndef COFFER_VIEW_H
#define COFFER_VIEW_H

/*
 * The values of an item as environment variables, for an executor that starts programs.
 *
 *     const char *environment = coffer_environment_choose(action->environment, workflow->environment);
 *     ...
 *     coffer_view *view = NULL;
 *     if (coffer_view_new(result, 0, &view, &error) == COFFER_OK) {
 *         for (i = 0; i < coffer_view_count(view); i++) {
 *             coffer_bytes value = coffer_view_at(view, i, &name);
 *             ...
 *         }
 *     }
 *     coffer_view_free(view);
 */

#include <coffer/coffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The environment to resolve in: the action's if it has one, else the workflow's, else "default". NULL and an empty
 * text count as none. Returns one of its arguments, or a static text. The server never looks in another environment
 * than the one that it is asked for, so this choice is the caller's, made once, here.
 */
COFFER_API const char *coffer_environment_choose(const char *action, const char *workflow);

/* The values of one item in one environment, each under the name of its key. It belongs to one thread at a time. */
typedef struct coffer_view coffer_view;

/*
 * Makes the view of the result's item with this index. Everything is copied, into memory of the result's client: the
 * result may be freed first.
 *
 * Errors:
 *   ENVIRONMENT_VIEW_CONFLICT  two secrets of the item have the same key, even if with the same value; the message names
 *                              both and the key, which are also the facts "secret", "other_secret" and "key"
 *   FIELD_INVALID              a value holds a NUL byte, which an environment variable cannot; there is no such item, or
 *                              the item was not resolved
 *   OUT_OF_MEMORY
 */
COFFER_API coffer_status coffer_view_new(const coffer_result *result, size_t index, coffer_view **ret_view,
                                         coffer_error **ret_error) COFFER_MUST_USE;

/* Wipes and frees. NULL is allowed. */
COFFER_API void coffer_view_free(coffer_view *view);

/* How many variables there are. */
COFFER_API size_t coffer_view_count(const coffer_view *view);

/*
 * The variable with this index, in the order of the names' bytes; `ret_name` may be NULL. Both are valid until the
 * view is freed; behind the value stands a NUL. `data` is NULL if the index is not less than the count.
 *
 * Whatever the keys of the secrets are becomes names of variables, `PATH` and `LD_PRELOAD`, too: whoever may write a
 * secret can set them. A program that must not be told so leaves them out here.
 */
COFFER_API coffer_bytes coffer_view_at(const coffer_view *view, size_t index, const char **ret_name);

/* The value of this name; `data` is NULL if there is none. */
COFFER_API coffer_bytes coffer_view_get(const coffer_view *view, const char *name);

/*
 * All variables as `NAME=value`, in the same order, and NULL behind them: an environment for execve() or
 * posix_spawn() that has nothing else. Valid until the view is freed.
 */
COFFER_API char *const *coffer_view_strings(const coffer_view *view);

#ifdef __cplusplus
}
#endif

#endif
