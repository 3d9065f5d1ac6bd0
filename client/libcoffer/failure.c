#include "client/libcoffer/failure.h"

#include <stdlib.h>
#include <string.h>

#include <coffer/template.h>

struct coffer_error {
    struct cof_error err;
    char request_id[COF_UUID_TEXT];
    struct cof_fault *faults; /* from malloc, as their texts are */
    size_t fault_count;
};

/* Handed out where there is no memory for another; never freed and never written. */
static const struct coffer_error no_memory = {
    .err = {.code = COF_RESOURCE_EXHAUSTED,
            .reason = COF_REASON_OUT_OF_MEMORY,
            .message = "the process has no memory left; ask for less at once"},
};

coffer_error *failure_new(const struct cof_error *err, const struct cof_uuid *request_id)
{
    coffer_error *error = malloc(sizeof *error);
    if (error == NULL) {
        /* Nobody writes through the pointer, since the struct is opaque. */
        return (coffer_error *) (uintptr_t) &no_memory;
    }
    error->err = *err;
    error->request_id[0] = '\0';
    error->faults = NULL;
    error->fault_count = 0;
    if (request_id != NULL) {
        cof_uuid_format(request_id, error->request_id);
    }
    return error;
}

coffer_status failure_tell(const struct cof_error *err, const struct cof_uuid *request_id, coffer_error **ret_error)
{
    if (ret_error != NULL) {
        *ret_error = err->code == COF_OK ? NULL : failure_new(err, request_id);
    }
    return (coffer_status) err->code;
}

static void free_faults(coffer_error *error)
{
    for (size_t i = 0; i < error->fault_count; i++) {
        free((void *) (uintptr_t) error->faults[i].path);
        free((void *) (uintptr_t) error->faults[i].message);
    }
    free(error->faults);
}

/* As many as there is memory for: the error itself is told in any case. */
static void copy_faults(coffer_error *error, const struct cof_fault_list *list)
{
    error->faults = calloc(list->count + 1, sizeof *error->faults);
    for (size_t i = 0; error->faults != NULL && i < list->count; i++) {
        struct cof_fault *fault = &error->faults[i];
        *fault = list->items[i];
        fault->path = strdup(list->items[i].path);
        fault->message = strdup(list->items[i].message);
        error->fault_count++;
        if (fault->path == NULL || fault->message == NULL) {
            free_faults(error);
            error->faults = NULL;
            error->fault_count = 0;
        }
    }
}

coffer_status failure_tell_faults(const struct cof_error *err, const struct cof_fault_list *faults,
                                  coffer_error **ret_error)
{
    const coffer_status status = failure_tell(err, NULL, ret_error);
    if (ret_error != NULL && *ret_error != NULL && *ret_error != &no_memory) {
        copy_faults(*ret_error, faults);
    }
    return status;
}

void coffer_error_free(coffer_error *error)
{
    if (error != NULL && error != &no_memory) {
        free_faults(error);
        free(error);
    }
}

/* NULL if there is no such fault. */
static const struct cof_fault *fault_at(const coffer_error *error, size_t index)
{
    return error != NULL && index < error->fault_count ? &error->faults[index] : NULL;
}

size_t coffer_error_fault_count(const coffer_error *error)
{
    return error == NULL ? 0 : error->fault_count;
}

coffer_reason coffer_error_fault_reason(const coffer_error *error, size_t index)
{
    const struct cof_fault *fault = fault_at(error, index);
    return fault == NULL ? COFFER_REASON_NONE : (coffer_reason) fault->reason;
}

uint32_t coffer_error_fault_line(const coffer_error *error, size_t index)
{
    const struct cof_fault *fault = fault_at(error, index);
    return fault == NULL ? 0 : fault->place.line;
}

uint32_t coffer_error_fault_column(const coffer_error *error, size_t index)
{
    const struct cof_fault *fault = fault_at(error, index);
    return fault == NULL ? 0 : fault->place.column;
}

const char *coffer_error_fault_path(const coffer_error *error, size_t index)
{
    const struct cof_fault *fault = fault_at(error, index);
    return fault == NULL ? "" : fault->path;
}

const char *coffer_error_fault_message(const coffer_error *error, size_t index)
{
    const struct cof_fault *fault = fault_at(error, index);
    return fault == NULL ? "" : fault->message;
}

coffer_status coffer_error_status(const coffer_error *error)
{
    return error == NULL ? COFFER_OK : (coffer_status) error->err.code;
}

coffer_reason coffer_error_reason(const coffer_error *error)
{
    return error == NULL ? COFFER_REASON_NONE : (coffer_reason) error->err.reason;
}

const char *coffer_error_message(const coffer_error *error)
{
    return error == NULL ? "" : error->err.message;
}

const char *coffer_error_field(const coffer_error *error)
{
    return error == NULL ? "" : error->err.field;
}

const char *coffer_error_request_id(const coffer_error *error)
{
    return error == NULL ? "" : error->request_id;
}

uint32_t coffer_error_retry_after_ms(const coffer_error *error)
{
    return error == NULL ? 0 : error->err.retry_after_ms;
}

const char *coffer_error_fact(const coffer_error *error, const char *name)
{
    for (uint32_t i = 0; error != NULL && i < error->err.fact_count; i++) {
        if (strcmp(error->err.facts[i].key, name) == 0) {
            return error->err.facts[i].value;
        }
    }
    return NULL;
}

const char *coffer_status_name(coffer_status status)
{
    return cof_code_name((cof_code) status);
}

const char *coffer_reason_name(coffer_reason reason)
{
    return cof_reason_name((cof_reason) reason);
}
