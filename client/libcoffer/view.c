#include <stdlib.h>
#include <string.h>

#include <coffer/view.h>

#include "client/libcoffer/failure.h"
#include "client/libcoffer/result.h"
#include "common/name.h"

/* One variable, in the view's memory. */
struct variable {
    const char *owner; /* name of the secret that it comes from; borrowed while the view is made */
    const char *name;
    coffer_bytes value;
    char *string; /* "name=value" */
};

struct coffer_view {
    struct memory *memory;
    struct cof_arena arena; /* everything below lies in it */
    struct variable *variables;
    char **strings;
    size_t count;
};

const char *coffer_environment_choose(const char *action, const char *workflow)
{
    if (action != NULL && action[0] != '\0') {
        return action;
    }
    return workflow != NULL && workflow[0] != '\0' ? workflow : COF_DEFAULT_ENVIRONMENT;
}

static cof_code find_item(const coffer_result *result, size_t index, const coffer_item **ret_item,
                          struct cof_error *err)
{
    const coffer_item *item = coffer_result_item(result, index);
    if (item == NULL) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, "index",
                              "the result has %zu items, so there is none with the index %zu; stay below "
                              "coffer_result_count",
                              coffer_result_count(result), index);
    }
    if (coffer_item_status(item) != COFFER_OK) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, "index",
                              "the item with the index %zu was not resolved, so it has no values; look at "
                              "coffer_item_status first",
                              index);
    }
    *ret_item = item;
    return COF_OK;
}

/* An environment variable ends at its first NUL; the rest of the value would be lost. */
static cof_code check_value(const char *secret, const char *name, coffer_bytes value, struct cof_error *err)
{
    if (memchr(value.data, '\0', value.length) == NULL) {
        return COF_OK;
    }
    return cof_fail(err, COF_REASON_FIELD_INVALID,
                    "the value of %s.%s holds a NUL byte, which an environment variable cannot; hand it over in "
                    "another way, such as a file",
                    secret, name);
}

static cof_code add_variable(coffer_view *view, const coffer_item *item, size_t i, struct cof_error *err)
{
    struct variable *variable = &view->variables[i];
    const char *key = NULL;
    const coffer_bytes value = coffer_item_value_at(item, i, &variable->owner, &key);
    TRY(check_value(variable->owner, key, value, err));
    const size_t length = strlen(key);
    char *name = cof_arena_text(&view->arena, cof_slice_text(key));
    char *string = cof_arena_alloc(&view->arena, length + value.length + 2);
    if (name == NULL || string == NULL) {
        return memory_exhausted(err);
    }
    memcpy(string, key, length);
    string[length] = '=';
    memcpy(string + length + 1, value.data, value.length);
    variable->name = name;
    variable->value = (coffer_bytes){(const uint8_t *) string + length + 1, value.length};
    variable->string = string;
    return COF_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct variable *left = a;
    const struct variable *right = b;
    const int order = strcmp(left->name, right->name);
    return order != 0 ? order : strcmp(left->owner, right->owner);
}

static cof_code check_names(const coffer_view *view, struct cof_error *err)
{
    for (size_t i = 1; i < view->count; i++) {
        const struct variable *one = &view->variables[i - 1];
        const struct variable *other = &view->variables[i];
        if (strcmp(one->name, other->name) == 0) {
            cof_ignore(cof_fail(err, COF_REASON_ENVIRONMENT_VIEW_CONFLICT,
                                "the secrets \"%s\" and \"%s\" both have the key \"%s\"; %s", one->owner,
                                other->owner, one->name,
                                cof_reason_next_step(COF_REASON_ENVIRONMENT_VIEW_CONFLICT)));
            cof_ignore(cof_error_fact(err, "secret", "%s", one->owner));
            cof_ignore(cof_error_fact(err, "other_secret", "%s", other->owner));
            return cof_error_fact(err, "key", "%s", one->name);
        }
    }
    return COF_OK;
}

static cof_code fill(coffer_view *view, const coffer_item *item, struct cof_error *err)
{
    const size_t count = coffer_item_value_count(item);
    view->variables = cof_arena_array(&view->arena, count, sizeof *view->variables);
    view->strings = cof_arena_array(&view->arena, count + 1, sizeof *view->strings);
    if (view->variables == NULL || view->strings == NULL) {
        return memory_exhausted(err);
    }
    for (; view->count < count; view->count++) {
        TRY(add_variable(view, item, view->count, err));
    }
    if (count > 0) {
        qsort(view->variables, count, sizeof *view->variables, by_name);
    }
    for (size_t i = 0; i < count; i++) {
        view->strings[i] = view->variables[i].string;
    }
    return check_names(view, err);
}

static void view_free_cleanup(coffer_view **view)
{
    coffer_view_free(*view);
}

static cof_code view_new(const coffer_result *result, size_t index, coffer_view **ret_view, struct cof_error *err)
{
    const coffer_item *item = NULL;
    AUTO(view_free_cleanup) coffer_view *view = calloc(1, sizeof *view);
    if (view == NULL) {
        return memory_exhausted(err);
    }
    view->memory = memory_hold(result->memory);
    cof_arena_init(&view->arena, memory_pool(view->memory), SIZE_MAX);
    TRY(find_item(result, index, &item, err));
    TRY(fill(view, item, err));
    *ret_view = TAKE(view);
    return COF_OK;
}

coffer_status coffer_view_new(const coffer_result *result, size_t index, coffer_view **ret_view,
                              coffer_error **ret_error)
{
    struct cof_error err;
    cof_error_clear(&err);
    cof_ignore(view_new(result, index, ret_view, &err));
    return failure_tell(&err, NULL, ret_error);
}

void coffer_view_free(coffer_view *view)
{
    if (view != NULL) {
        cof_arena_reset(&view->arena);
        memory_drop(view->memory);
        free(view);
    }
}

size_t coffer_view_count(const coffer_view *view)
{
    return view->count;
}

coffer_bytes coffer_view_at(const coffer_view *view, size_t index, const char **ret_name)
{
    const bool there = index < view->count;
    if (ret_name != NULL) {
        *ret_name = there ? view->variables[index].name : NULL;
    }
    return there ? view->variables[index].value : (coffer_bytes){NULL, 0};
}

coffer_bytes coffer_view_get(const coffer_view *view, const char *name)
{
    for (size_t i = 0; i < view->count; i++) {
        if (strcmp(view->variables[i].name, name) == 0) {
            return view->variables[i].value;
        }
    }
    return (coffer_bytes){NULL, 0};
}

char *const *coffer_view_strings(const coffer_view *view)
{
    return view->strings;
}
