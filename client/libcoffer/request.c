#include "client/libcoffer/request.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/libcoffer/settings.h"
#include "common/name.h"
#include "common/uuid.h"
#include "common/varint.h"

enum {
    FIELD_SIZE = 96,
    /* Numbers of fields of ResolveItem. */
    ITEM_ID = 1,
    ITEM_ENVIRONMENTS = 3,
};

static void no_memory(struct cof_error *err)
{
    cof_ignore(cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a request"));
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
        no_memory(&request->err);
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
        for (size_t i = 0; i < request->fallback_count; i++) {
            coffer__v1__secret_reference__free_unpacked(request->fallbacks[i].reference, NULL);
        }
        free(request->fallbacks);
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
        no_memory(&request->err);
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
        no_memory(&request->err);
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
        no_memory(&request->err);
        return;
    }
    item->references[item->n_references++] = reference;
}

void request_add_fallback(coffer_request *request, const char *secret, const char *key)
{
    enum { FIRST_ROOM = 8 };
    if (!usable(request) || !check_reference(request, secret, key)) {
        return;
    }
    const size_t count = request->fallback_count;
    const bool full = count == 0 || (count >= FIRST_ROOM && (count & (count - 1)) == 0);
    const size_t room = count == 0 ? FIRST_ROOM : 2 * count;
    struct fallback *fallbacks = full ? realloc(request->fallbacks, room * sizeof *fallbacks) : request->fallbacks;
    if (fallbacks != NULL) {
        request->fallbacks = fallbacks;
    }
    Coffer__V1__SecretReference *reference = fallbacks == NULL ? NULL : reference_new(secret, key);
    if (reference == NULL) {
        no_memory(&request->err);
        return;
    }
    fallbacks[request->fallback_count++] = (struct fallback){request->message->n_items - 1, reference};
}

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
            no_memory(&request->err);
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
        no_memory(&request->err);
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

static size_t pairs_of(const Coffer__V1__ResolveItem *item)
{
    return item->n_environments == 0 ? 1 : item->n_environments;
}

static cof_code pack(const Coffer__V1__ResolveRequest *message, struct packed_request *ret_packed,
                     struct cof_error *err)
{
    struct packed_request packed = {.len = coffer__v1__resolve_request__get_packed_size(message),
                                    .items = message->n_items,
                                    .validate_only = message->validate_only != 0};
    packed.bytes = malloc(packed.len + 1);
    if (packed.bytes == NULL) {
        no_memory(err);
        return err->code;
    }
    (void) coffer__v1__resolve_request__pack(message, packed.bytes);
    for (size_t i = 0; i < message->n_items; i++) {
        packed.pairs += pairs_of(message->items[i]);
        packed.values += pairs_of(message->items[i]) * message->items[i]->n_references;
    }
    *ret_packed = packed;
    return COF_OK;
}

static bool has_fallback(const coffer_request *request, size_t item)
{
    for (size_t i = 0; i < request->fallback_count; i++) {
        if (request->fallbacks[i].item == item) {
            return true;
        }
    }
    return false;
}

static cof_code check(const coffer_request *request, struct cof_error *err)
{
    if (request->err.code != COF_OK) {
        *err = request->err;
        return err->code;
    }
    for (size_t i = 0; i < request->message->n_items; i++) {
        if (request->message->items[i]->n_references == 0 && !has_fallback(request, i)) {
            char field[FIELD_SIZE];
            (void) snprintf(field, sizeof field, "items[%zu].references", i);
            return cof_fail_field(err, COF_REASON_FIELD_REQUIRED, field,
                                  "items[%zu] asks for nothing; add a reference with coffer_request_add_reference",
                                  i);
        }
    }
    return COF_OK;
}

/* A flat copy of the items, in which the client's defaults can stand without touching the caller's request; behind
 * them there is room for one more for each reference that may be missing. */
struct flat_copy {
    Coffer__V1__ResolveRequest message;
    Coffer__V1__ResolveItem *items;
    Coffer__V1__ResolveItem **pointers;
    Coffer__V1__SecretReference **references; /* of the items that are added, one each */
    struct packed_item *origins;
};

static void flat_copy_done(struct flat_copy *copy)
{
    free(copy->items);
    free(copy->pointers);
    free(copy->references);
    free(copy->origins);
}

static cof_code flat_copy_init(const coffer_request *request, struct flat_copy *copy, struct cof_error *err)
{
    const size_t most = request->message->n_items + request->fallback_count;
    copy->message = *request->message;
    copy->items = calloc(most, sizeof *copy->items);
    copy->pointers = calloc(most, sizeof *copy->pointers);
    copy->references = calloc(request->fallback_count + 1, sizeof *copy->references);
    copy->origins = calloc(most, sizeof *copy->origins);
    if (copy->items == NULL || copy->pointers == NULL || copy->references == NULL || copy->origins == NULL) {
        no_memory(err);
        return err->code;
    }
    for (size_t i = 0; i < request->message->n_items; i++) {
        copy->origins[i].owner = i;
    }
    for (size_t i = 0; i < most; i++) {
        copy->pointers[i] = &copy->items[i];
    }
    copy->message.items = copy->pointers;
    return COF_OK;
}

static bool same_reference(const Coffer__V1__SecretReference *a, const Coffer__V1__SecretReference *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->key, b->key) == 0;
}

/* Whether the item, or one that was added for it, asks for the reference already. */
static bool is_asked_for(const struct flat_copy *copy, const struct fallback *fallback)
{
    for (size_t i = 0; i < copy->message.n_items; i++) {
        const Coffer__V1__ResolveItem *item = &copy->items[i];
        for (size_t k = 0; copy->origins[i].owner == fallback->item && k < item->n_references; k++) {
            if (same_reference(item->references[k], fallback->reference)) {
                return true;
            }
        }
    }
    return false;
}

/* An item that asks for nothing else takes the first such reference itself. A preflight asks for no more, for it
 * would count as failures what may be missing. */
static void add_fallback(struct flat_copy *copy, const struct fallback *fallback, size_t index)
{
    size_t at = fallback->item;
    if (is_asked_for(copy, fallback) || (copy->message.validate_only && copy->items[at].n_references > 0)) {
        return;
    }
    if (copy->items[at].n_references > 0) {
        at = copy->message.n_items++;
        copy->items[at] = copy->items[fallback->item];
    }
    copy->references[index] = fallback->reference;
    copy->items[at].references = &copy->references[index];
    copy->items[at].n_references = 1;
    copy->origins[at] = (struct packed_item){fallback->item, true};
}

cof_code request_pack(const coffer_request *request, char *workspace, char *environment,
                      struct packed_request *ret_packed, struct cof_error *err)
{
    TRY(check(request, err));
    AUTO(flat_copy_done) struct flat_copy copy = {.items = NULL};
    TRY(flat_copy_init(request, &copy, err));
    for (size_t i = 0; i < request->message->n_items; i++) {
        Coffer__V1__ResolveItem *item = &copy.items[i];
        *item = *request->message->items[i];
        if (item->workspace[0] == '\0') {
            item->workspace = workspace;
        }
        if (item->n_environments == 0 && environment[0] != '\0') {
            item->environments = &environment;
            item->n_environments = 1;
        }
    }
    for (size_t i = 0; i < request->fallback_count; i++) {
        add_fallback(&copy, &request->fallbacks[i], i);
    }
    TRY(pack(&copy.message, ret_packed, err));
    ret_packed->origins = TAKE(copy.origins);
    return COF_OK;
}

/* Takes the unmarked environments out of an item; returns how many pairs are left. */
static size_t keep_marked(Coffer__V1__ResolveItem *item, const bool *marked)
{
    const size_t pairs = pairs_of(item);
    size_t kept = 0;
    for (size_t i = 0; i < pairs; i++) {
        if (!marked[i]) {
            continue;
        }
        if (item->n_environments > 0) {
            char *environment = item->environments[kept];
            item->environments[kept] = item->environments[i];
            item->environments[i] = environment;
        }
        kept++;
    }
    for (size_t i = kept; i < item->n_environments && kept > 0; i++) {
        free(item->environments[i]);
    }
    if (item->n_environments > 0 && kept > 0) {
        item->n_environments = kept;
    }
    return kept;
}

static void message_cleanup(Coffer__V1__ResolveRequest **message)
{
    if (*message != NULL) {
        coffer__v1__resolve_request__free_unpacked(*message, NULL);
    }
}

cof_code request_pack_part(const struct packed_request *whole, const bool *marked,
                           struct packed_request *ret_packed, struct cof_error *err)
{
    AUTO(message_cleanup)
    Coffer__V1__ResolveRequest *message = coffer__v1__resolve_request__unpack(NULL, whole->len, whole->bytes);
    if (message == NULL) {
        no_memory(err);
        return err->code;
    }
    const bool *at = marked;
    size_t kept = 0;
    for (size_t i = 0; i < message->n_items; i++) {
        Coffer__V1__ResolveItem *item = message->items[i];
        const size_t pairs = pairs_of(item);
        if (keep_marked(item, at) > 0) {
            message->items[kept++] = item;
        } else {
            coffer__v1__resolve_item__free_unpacked(item, NULL);
        }
        at += pairs;
    }
    message->n_items = kept;
    return pack(message, ret_packed, err);
}

void packed_request_done(struct packed_request *packed)
{
    free(packed->bytes);
    free(packed->origins);
    packed->bytes = NULL;
    packed->origins = NULL;
}

void pair_walk_init(struct pair_walk *walk, const struct packed_request *request)
{
    *walk = (struct pair_walk){.items = cof_slice_of(request->bytes, request->len), .answered = true};
}

/* Fields come in the order of their numbers, since the request was packed here. */
static bool next_environment(struct pair_walk *walk)
{
    struct wire_field field;
    while (walk->fields.len > 0 && wire_take(&walk->fields, &field)) {
        if (field.number == ITEM_ID) {
            walk->pair.id = field.bytes;
        }
        if (field.number == ITEM_ENVIRONMENTS) {
            walk->pair.environment = field.bytes;
            return true;
        }
    }
    return false;
}

static bool next_item(struct pair_walk *walk)
{
    struct wire_field field;
    if (walk->items.len == 0 || !wire_take(&walk->items, &field)) {
        return false;
    }
    walk->fields = field.bytes;
    walk->answered = false;
    walk->pair = (struct request_pair){.item = walk->items_begun++};
    return true;
}

bool pair_walk_next(struct pair_walk *walk, struct request_pair *ret_pair)
{
    while (!next_environment(walk)) {
        const bool by_default = !walk->answered;
        walk->answered = true;
        if (by_default) {
            walk->pair.environment = cof_slice_text(COF_DEFAULT_ENVIRONMENT);
            break;
        }
        if (!next_item(walk)) {
            return false;
        }
    }
    walk->answered = true;
    *ret_pair = walk->pair;
    return true;
}
