#ifndef COFFER_PREFLIGHT_H
#define COFFER_PREFLIGHT_H

/*
 * What would be missing, before anything runs: the same request as for the values, answered without one.
 *
 *     coffer_preflight *preflight = NULL;
 *     const coffer_item *item = NULL;
 *     coffer_status status = coffer_preflight_new(client, request, &preflight, &error);
 *     while (status == COFFER_OK && (status = coffer_preflight_next(preflight, &item, &error)) == COFFER_OK &&
 *            item != NULL) {
 *         printf("%s: %s\n", coffer_item_environment(item), coffer_item_message(item));
 *     }
 *     coffer_preflight_free(preflight);
 */

#include <coffer/coffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A walk through the items x environments that would fail. It belongs to one thread at a time. */
typedef struct coffer_preflight coffer_preflight;

/*
 * Asks, and waits for the first page of the answer. The request is copied; whether values are wanted in it and which
 * page does not matter. There may be more items x environments in it than in one that asks for values. The client must
 * not be closed before the preflight is freed.
 *
 * Errors are those of coffer_resolve. The time for a call is that for each page. Not in a callback.
 */
COFFER_API coffer_status coffer_preflight_new(coffer_client *client, const coffer_request *request,
                                              coffer_preflight **ret_preflight,
                                              coffer_error **ret_error) COFFER_MUST_USE;

/* NULL is allowed. */
COFFER_API void coffer_preflight_free(coffer_preflight *preflight);

/* How many items x environments would be resolved and would fail, as the last page told it. */
COFFER_API uint32_t coffer_preflight_would_resolve(const coffer_preflight *preflight);
COFFER_API uint32_t coffer_preflight_would_fail(const coffer_preflight *preflight);

/*
 * The next item that would fail, with its outcomes and faults; NULL behind the last one. It is valid until the next
 * call. Asks for further pages when they are needed, and waits for them; after a failure the same page can be asked for
 * again. The errors are those of coffer_resolve.
 */
COFFER_API coffer_status coffer_preflight_next(coffer_preflight *preflight, const coffer_item **ret_item,
                                               coffer_error **ret_error) COFFER_MUST_USE;

#ifdef __cplusplus
}
#endif

#endif
