#include "client/libcoffer/request.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/libcoffer/settings.h"
#include "common/expression.h"
#include "common/name.h"
#include "common/uuid.h"

enum { FIELD_SIZE = 96 };

static void no_memory(coffer_request *request)
{
    cof_ignore(request_without_memory(&request->err));
}

/* Whether there is something to build on; after the first failure nothing else is done. */
static bool usable(const coffer_request *request)
{
    return request != NULL && request->err.code == COF_OK;
}

static Coffer__V1__ResolveItem *last_item(const coffer_request *request)
{
    return request->message->items[request->message->n_items - 1];
}

/* "items[3].<name>" */
static void field_of(const coffer_request *request, const char *name, char field[FIELD_SIZE])
{
    (void) snprintf(field, FIELD_SIZE, "items[%zu].%s", request->message->n_items - 1, name);
}

/* Room for one more pointer: arrays grow when their count is a power of two. NULL if there is no memory. */
static void *with_room(void *array, size_t count)
{
    if (count == 0) {
        return malloc(sizeof(void *));
    }
    return (count & (count - 1)) == 0 ? realloc(array, 2 * count * sizeof(void *)) : array;
}

static void set_text(coffer_request *request, const char *field, const char *text, size_t max, char **to)
{
    const size_t len = text == NULL ? 0 : strlen(text);
    if (len > max || !cof_text_valid(cof_slice_of(text, len))) {
        cof_ignore(cof_fail_field(&request->err, COF_REASON_FIELD_INVALID, field,
                                  "%s must be UTF-8 of at most %zu bytes; correct it", field, max));
        return;
    }
    char *copy = strndup(text == NULL ? "" : text, len);
    if (copy == NULL) {
        no_memory(request);
        return;
    }
    if (*to != protobuf_c_empty_string) {
        free(*to);
    }
    *to = copy;
}

static bool check_name(coffer_request *request, cof_name_kind kind, const char *name, const char *field)
{
    const struct cof_slice text = name == NULL ? cof_slice_of(NULL, 0) : cof_slice_text(name);
    return cof_name_check(kind, text, field, &request->err) == COF_OK;
}

coffer_request *coffer_request_new(void)
{
    coffer_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return NULL;
    }
    cof_error_clear(&request->err);
    request->message = malloc(sizeof *request->message);
    if (request->message == NULL) {
        free(request);
        return NULL;
    }
    coffer__v1__resolve_request__init(request->message);
    coffer_request_next_item(request);
    return request;
}

void coffer_request_free(coffer_request *request)
{
    if (request != NULL) {
        coffer__v1__resolve_request__free_unpacked(request->message, NULL);
        free(request);
    }
}

void coffer_request_next_item(coffer_request *request)
{
    if (!usable(request)) {
        return;
    }
    Coffer__V1__ResolveRequest *message = request->message;
    Coffer__V1__ResolveItem *item = malloc(sizeof *item);
    void *items = with_room(message->items, message->n_items);
    if (items != NULL) {
        message->items = items;
    }
    if (item == NULL || items == NULL) {
        free(item);
        no_memory(request);
        return;
    }
    coffer__v1__resolve_item__init(item);
    message->items[message->n_items++] = item;
}

void coffer_request_set_id(coffer_request *request, const char *id)
{
    char field[FIELD_SIZE];
    if (usable(request)) {
        field_of(request, "id", field);
        set_text(request, field, id, REQUEST_ID_MAX, &last_item(request)->id);
    }
}

void coffer_request_set_workspace(coffer_request *request, const char *workspace)
{
    char field[FIELD_SIZE];
    struct cof_uuid uuid;
    if (!usable(request)) {
        return;
    }
    field_of(request, "workspace", field);
    if (workspace == NULL || !cof_uuid_parse(cof_slice_text(workspace), &uuid)) {
        cof_ignore(cof_fail_field(&request->err, COF_REASON_FIELD_INVALID, field,
                                  "%s must be the UUID of a workspace, 36 characters in lower case; correct it",
                                  field));
        return;
    }
    set_text(request, field, workspace, COF_UUID_TEXT, &last_item(request)->workspace);
}

void coffer_request_add_environment(coffer_request *request, const char *environment)
{
    char name[FIELD_SIZE];
    char field[FIELD_SIZE];
    if (!usable(request)) {
        return;
    }
    Coffer__V1__ResolveItem *item = last_item(request);
    (void) snprintf(name, sizeof name, "environments[%zu]", item->n_environments);
    field_of(request, name, field);
    if (!check_name(request, COF_NAME_ENVIRONMENT, environment, field)) {
        return;
    }
    char *copy = strdup(environment);
    void *environments = with_room(item->environments, item->n_environments);
    if (environments != NULL) {
        item->environments = environments;
    }
    if (copy == NULL || environments == NULL) {
        free(copy);
        no_memory(request);
        return;
    }
    item->environments[item->n_environments++] = copy;
}

/* Both names were checked. */
static Coffer__V1__SecretReference *reference_new(const char *secret, const char *key)
{
    Coffer__V1__SecretReference *reference = malloc(sizeof *reference);
    if (reference == NULL) {
        return NULL;
    }
    coffer__v1__secret_reference__init(reference);
    reference->name = strdup(secret);
    reference->key = strdup(key);
    if (reference->name == NULL || reference->key == NULL) {
        coffer__v1__secret_reference__free_unpacked(reference, NULL);
        return NULL;
    }
    return reference;
}

static bool check_reference(coffer_request *request, const char *secret, const char *key)
{
    char name[FIELD_SIZE];
    char field[FIELD_SIZE];
    (void) snprintf(name, sizeof name, "references[%zu].name", last_item(request)->n_references);
    field_of(request, name, field);
    if (!check_name(request, COF_NAME_SECRET, secret, field)) {
        return false;
    }
    (void) snprintf(name, sizeof name, "references[%zu].key", last_item(request)->n_references);
    field_of(request, name, field);
    return check_name(request, COF_NAME_KEY, key, field);
}

void coffer_request_add_reference(coffer_request *request, const char *secret, const char *key)
{
    if (!usable(request) || !check_reference(request, secret, key)) {
        return;
    }
    Coffer__V1__ResolveItem *item = last_item(request);
    Coffer__V1__SecretReference *reference = reference_new(secret, key);
    void *references = with_room(item->references, item->n_references);
    if (references != NULL) {
        item->references = references;
    }
    if (reference == NULL || references == NULL) {
        if (reference != NULL) {
            coffer__v1__secret_reference__free_unpacked(reference, NULL);
        }
        no_memory(request);
        return;
    }
    item->references[item->n_references++] = reference;
}

/* --- Declarations --------------------------------------------------------------------------------------------- */

/* Copies of names; the list belongs to the message. False: no memory is left. */
static bool copy_names(const char *const *names, size_t count, char ***ret_copies, size_t *ret_count)
{
    char **copies = count == 0 ? NULL : calloc(count, sizeof *copies);
    *ret_copies = copies;
    for (size_t i = 0; copies != NULL && i < count; i++) {
        copies[i] = strdup(names[i]);
        if (copies[i] == NULL) {
            return false;
        }
        *ret_count = i + 1;
    }
    return count == 0 || copies != NULL;
}

static Coffer__V1__SecretDeclaration *declaration_new(const coffer_declaration *given)
{
    Coffer__V1__SecretDeclaration *declaration = malloc(sizeof *declaration);
    if (declaration == NULL) {
        return NULL;
    }
    coffer__v1__secret_declaration__init(declaration);
    declaration->optional = given->optional;
    declaration->type = (Coffer__V1__SecretType) given->type;
    declaration->name = strdup(given->secret);
    if (declaration->name == NULL ||
        !copy_names(given->keys, given->key_count, &declaration->keys, &declaration->n_keys) ||
        !copy_names(given->optional_keys, given->optional_key_count, &declaration->optional_keys,
                    &declaration->n_optional_keys)) {
        coffer__v1__secret_declaration__free_unpacked(declaration, NULL);
        return NULL;
    }
    return declaration;
}

static bool check_keys(coffer_request *request, const char *list, const char *const *keys, size_t count)
{
    char name[FIELD_SIZE];
    char field[FIELD_SIZE];
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        (void) snprintf(name, sizeof name, "declarations[%zu].%s[%zu]", last_item(request)->n_declarations, list,
                        i);
        field_of(request, name, field);
        good = check_name(request, COF_NAME_KEY, keys[i], field);
    }
    return good;
}

static bool check_declaration(coffer_request *request, const coffer_declaration *given)
{
    char name[FIELD_SIZE];
    char field[FIELD_SIZE];
    (void) snprintf(name, sizeof name, "declarations[%zu].name", last_item(request)->n_declarations);
    field_of(request, name, field);
    return check_name(request, COF_NAME_SECRET, given->secret, field) &&
           check_keys(request, "keys", given->keys, given->key_count) &&
           check_keys(request, "optional_keys", given->optional_keys, given->optional_key_count);
}

void coffer_request_add_declaration(coffer_request *request, const coffer_declaration *declaration)
{
    coffer_declaration given = COFFER_DECLARATION_INIT;
    if (!usable(request)) {
        return;
    }
    /* It may come from a program that was built with fewer fields. */
    memcpy(&given, declaration, declaration->struct_size < sizeof given ? declaration->struct_size : sizeof given);
    if (!check_declaration(request, &given)) {
        return;
    }
    Coffer__V1__ResolveItem *item = last_item(request);
    Coffer__V1__SecretDeclaration *copy = declaration_new(&given);
    void *declarations = with_room(item->declarations, item->n_declarations);
    if (declarations != NULL) {
        item->declarations = declarations;
    }
    if (copy == NULL || declarations == NULL) {
        if (copy != NULL) {
            coffer__v1__secret_declaration__free_unpacked(copy, NULL);
        }
        no_memory(request);
        return;
    }
    item->declarations[item->n_declarations++] = copy;
}

/* --- Actions -------------------------------------------------------------------------------------------------- */

void coffer_request_set_action(coffer_request *request, const char *action)
{
    char field[FIELD_SIZE];
    if (!usable(request)) {
        return;
    }
    field_of(request, "action", field);
    if (action == NULL || action[0] == '\0' || check_name(request, COF_NAME_ACTION, action, field)) {
        set_text(request, field, action, COF_ACTION_NAME_MAX, &last_item(request)->action);
    }
}

/* --- What else an item asks for ------------------------------------------------------------------------------- */

void coffer_request_add_expression(coffer_request *request, const char *expression)
{
    char name[FIELD_SIZE];
    char field[FIELD_SIZE];
    if (!usable(request)) {
        return;
    }
    Coffer__V1__ResolveItem *item = last_item(request);
    (void) snprintf(name, sizeof name, "expressions[%zu]", item->n_expressions);
    field_of(request, name, field);
    void *expressions = with_room(item->expressions, item->n_expressions);
    if (expressions == NULL) {
        no_memory(request);
        return;
    }
    item->expressions = expressions;
    char *copy = NULL;
    set_text(request, field, expression, COF_EXPRESSION_MAX, &copy);
    if (copy != NULL) {
        item->expressions[item->n_expressions++] = copy;
    }
}

bool request_asks_for_reference(const coffer_request *request, const char *name, const char *key)
{
    const Coffer__V1__ResolveItem *item = usable(request) ? last_item(request) : NULL;
    for (size_t i = 0; item != NULL && i < item->n_references; i++) {
        if (strcmp(item->references[i]->name, name) == 0 && strcmp(item->references[i]->key, key) == 0) {
            return true;
        }
    }
    return false;
}

bool request_asks_for_expression(const coffer_request *request, const char *expression)
{
    const Coffer__V1__ResolveItem *item = usable(request) ? last_item(request) : NULL;
    for (size_t i = 0; item != NULL && i < item->n_expressions; i++) {
        if (strcmp(item->expressions[i], expression) == 0) {
            return true;
        }
    }
    return false;
}

void coffer_request_set_environment_view(coffer_request *request)
{
    if (usable(request)) {
        last_item(request)->environment_view = 1;
    }
}

/* --- Whom an item is for, and how ----------------------------------------------------------------------------- */

void coffer_request_set_run(coffer_request *request, const char *workflow_id, const char *run_id,
                            const char *action)
{
    if (!usable(request)) {
        return;
    }
    Coffer__V1__ResolveItem *item = last_item(request);
    if (item->run == NULL) {
        item->run = malloc(sizeof *item->run);
        if (item->run == NULL) {
            no_memory(request);
            return;
        }
        coffer__v1__run_context__init(item->run);
    }
    const struct {
        const char *name;
        const char *text;
        char **to;
    } texts[] = {{"run.workflow_id", workflow_id, &item->run->workflow_id},
                 {"run.run_id", run_id, &item->run->run_id},
                 {"run.action", action, &item->run->action}};
    for (size_t i = 0; i < COF_COUNT(texts) && usable(request); i++) {
        char field[FIELD_SIZE];
        field_of(request, texts[i].name, field);
        set_text(request, field, texts[i].text, REQUEST_RUN_MAX, texts[i].to);
    }
}

void coffer_request_set_min_remaining_validity(coffer_request *request, uint32_t seconds)
{
    if (!usable(request)) {
        return;
    }
    Coffer__V1__ResolveItem *item = last_item(request);
    if (item->min_remaining_validity == NULL) {
        item->min_remaining_validity = malloc(sizeof *item->min_remaining_validity);
    }
    if (item->min_remaining_validity == NULL) {
        no_memory(request);
        return;
    }
    google__protobuf__duration__init(item->min_remaining_validity);
    item->min_remaining_validity->seconds = seconds;
}

void coffer_request_set_consistency_token(coffer_request *request, const char *token)
{
    char field[FIELD_SIZE];
    if (usable(request)) {
        field_of(request, "consistency_token", field);
        set_text(request, field, token, REQUEST_TOKEN_MAX, &last_item(request)->consistency_token);
    }
}

void coffer_request_set_timeout(coffer_request *request, uint32_t milliseconds)
{
    if (!usable(request)) {
        return;
    }
    if (milliseconds > SETTINGS_TIMEOUT_MAX_MS) {
        cof_ignore(cof_fail_field(&request->err, COF_REASON_FIELD_INVALID, "timeout",
                                  "the time for a call is at most %d ms", SETTINGS_TIMEOUT_MAX_MS));
        return;
    }
    request->timeout_ms = milliseconds;
}

void coffer_request_set_pending(coffer_request *request, coffer_pending pending)
{
    if (!usable(request)) {
        return;
    }
    if (pending != COFFER_PENDING_WAIT && pending != COFFER_PENDING_POLL && pending != COFFER_PENDING_RETURN) {
        cof_ignore(cof_fail_field(&request->err, COF_REASON_FIELD_INVALID, "pending",
                                  "there is no way to treat PENDING with the number %d; use one of coffer_pending",
                                  (int) pending));
        return;
    }
    request->pending = pending;
}

void coffer_request_set_traceparent(coffer_request *request, const char *traceparent)
{
    const size_t len = traceparent == NULL ? 0 : strlen(traceparent);
    if (!usable(request)) {
        return;
    }
    if (len > REQUEST_TRACEPARENT_MAX) {
        cof_ignore(cof_fail_field(&request->err, COF_REASON_FIELD_INVALID, "traceparent",
                                  "traceparent has %zu bytes, more than %d; see W3C Trace Context", len,
                                  REQUEST_TRACEPARENT_MAX));
        return;
    }
    (void) snprintf(request->traceparent, sizeof request->traceparent, "%s",
                    traceparent == NULL ? "" : traceparent);
}

void coffer_request_set_validate_only(coffer_request *request, uint32_t page_size, const char *page_token)
{
    if (usable(request)) {
        request->message->validate_only = 1;
        request->message->page_size = page_size;
        set_text(request, "page_token", page_token, REQUEST_TOKEN_MAX, &request->message->page_token);
    }
}
