#include <stdlib.h>

#include <coffer/preflight.h>

#include "client/libcoffer/client.h"
#include "client/libcoffer/failure.h"
#include "client/libcoffer/request.h"

enum { PAGE_ITEMS = 500 };

struct coffer_preflight {
    coffer_client *client;
    coffer_request *request; /* asks for the page that comes next */
    coffer_result *page;
    size_t next; /* item of the page */
};

void coffer_preflight_free(coffer_preflight *preflight)
{
    if (preflight != NULL) {
        coffer_result_free(preflight->page);
        coffer_request_free(preflight->request);
        free(preflight);
    }
}

static void preflight_free_cleanup(coffer_preflight **preflight)
{
    coffer_preflight_free(*preflight);
}

/* The page that the request asks for takes the place of the one before. */
static coffer_status turn(coffer_preflight *preflight, coffer_error **ret_error)
{
    coffer_result *page = NULL;
    const coffer_status status = coffer_resolve(preflight->client, preflight->request, &page, ret_error);
    if (status == COFFER_OK) {
        coffer_result_free(preflight->page);
        preflight->page = page;
        preflight->next = 0;
    }
    return status;
}

coffer_status coffer_preflight_new(coffer_client *client, const coffer_request *request,
                                   coffer_preflight **ret_preflight, coffer_error **ret_error)
{
    AUTO(preflight_free_cleanup) coffer_preflight *preflight = NULL;
    struct cof_error err;
    if (client == NULL || request == NULL) {
        return client_missing(client == NULL ? "the client" : "the request", ret_error);
    }
    cof_error_clear(&err);
    preflight = calloc(1, sizeof *preflight);
    if (preflight == NULL) {
        cof_ignore(request_without_memory(&err));
        return failure_tell(&err, NULL, ret_error);
    }
    preflight->client = client;
    if (request_copy(request, &preflight->request, &err) != COF_OK) {
        return failure_tell(&err, NULL, ret_error);
    }
    coffer_request_set_validate_only(preflight->request, PAGE_ITEMS, NULL);
    const coffer_status status = turn(preflight, ret_error);
    if (status == COFFER_OK) {
        *ret_preflight = TAKE(preflight);
    }
    return status;
}

uint32_t coffer_preflight_would_resolve(const coffer_preflight *preflight)
{
    return coffer_result_would_resolve(preflight->page);
}

uint32_t coffer_preflight_would_fail(const coffer_preflight *preflight)
{
    return coffer_result_would_fail(preflight->page);
}

coffer_status coffer_preflight_next(coffer_preflight *preflight, const coffer_item **ret_item,
                                    coffer_error **ret_error)
{
    struct cof_error err;
    cof_error_clear(&err);
    while (preflight->next == coffer_result_count(preflight->page)) {
        const char *token = coffer_result_next_page_token(preflight->page);
        if (token[0] == '\0') {
            *ret_item = NULL;
            return failure_tell(&err, NULL, ret_error);
        }
        coffer_request_set_validate_only(preflight->request, PAGE_ITEMS, token);
        const coffer_status status = turn(preflight, ret_error);
        if (status != COFFER_OK) {
            return status;
        }
    }
    *ret_item = coffer_result_item(preflight->page, preflight->next++);
    return failure_tell(&err, NULL, ret_error);
}
