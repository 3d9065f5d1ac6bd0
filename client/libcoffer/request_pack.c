#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/libcoffer/request.h"
#include "common/name.h"
#include "common/varint.h"

enum {
    /* Numbers of fields of ResolveItem. */
    ITEM_ID = 1,
    ITEM_ENVIRONMENTS = 3,
};

cof_code request_without_memory(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a request");
}

static size_t pairs_of(const Coffer__V1__ResolveItem *item)
{
    return item->n_environments == 0 ? 1 : item->n_environments;
}

/* Whether results can only be read by somebody who knows what was asked for. */
static bool asks_for_more(const Coffer__V1__ResolveRequest *message)
{
    bool more = false;
    for (size_t i = 0; i < message->n_items; i++) {
        more |= asked_more(message->items[i]);
    }
    return more;
}

static cof_code pack(const Coffer__V1__ResolveRequest *message, struct packed_request *ret_packed,
                     struct cof_error *err)
{
    struct packed_request packed = {.len = coffer__v1__resolve_request__get_packed_size(message),
                                    .items = message->n_items,
                                    .validate_only = message->validate_only != 0};
    packed.bytes = malloc(packed.len + 1);
    if (packed.bytes == NULL) {
        return request_without_memory(err);
    }
    (void) coffer__v1__resolve_request__pack(message, packed.bytes);
    for (size_t i = 0; i < message->n_items; i++) {
        packed.pairs += pairs_of(message->items[i]);
        packed.values += pairs_of(message->items[i]) * asked_count(message->items[i]);
    }
    *ret_packed = packed;
    return COF_OK;
}

static bool asks_for_nothing(const Coffer__V1__ResolveItem *item)
{
    return item->n_references + item->n_declarations + item->n_expressions == 0 && item->action[0] == '\0';
}

static cof_code check(const coffer_request *request, struct cof_error *err)
{
    if (request->err.code != COF_OK) {
        *err = request->err;
        return err->code;
    }
    for (size_t i = 0; i < request->message->n_items; i++) {
        if (asks_for_nothing(request->message->items[i])) {
            char field[COF_ERROR_FIELD_SIZE];
            (void) snprintf(field, sizeof field, "items[%zu].references", i);
            return cof_fail_field(err, COF_REASON_FIELD_REQUIRED, field,
                                  "items[%zu] asks for nothing; add a reference with coffer_request_add_reference, "
                                  "a declaration, an expression or a template",
                                  i);
        }
    }
    return COF_OK;
}

/* A flat copy of the items, in which the client's defaults can stand without touching the caller's request. */
struct flat_copy {
    Coffer__V1__ResolveRequest message;
    Coffer__V1__ResolveItem *items;
    Coffer__V1__ResolveItem **pointers;
};

static void flat_copy_done(struct flat_copy *copy)
{
    free(copy->items);
    free(copy->pointers);
}

static cof_code flat_copy_init(const coffer_request *request, struct flat_copy *copy, struct cof_error *err)
{
    copy->message = *request->message;
    copy->items = calloc(copy->message.n_items, sizeof *copy->items);
    copy->pointers = calloc(copy->message.n_items, sizeof *copy->pointers);
    if (copy->items == NULL || copy->pointers == NULL) {
        return request_without_memory(err);
    }
    for (size_t i = 0; i < copy->message.n_items; i++) {
        copy->items[i] = *request->message->items[i];
        copy->pointers[i] = &copy->items[i];
    }
    copy->message.items = copy->pointers;
    return COF_OK;
}

static void fill_in(Coffer__V1__ResolveItem *item, char *workspace, char **environment)
{
    assert(item->workspace != NULL);
    if (item->workspace[0] == '\0') {
        item->workspace = workspace;
    }
    if (item->n_environments == 0 && (*environment)[0] != '\0') {
        item->environments = environment;
        item->n_environments = 1;
    }
}

cof_code request_pack(const coffer_request *request, char *workspace, char *environment,
                      struct packed_request *ret_packed, struct cof_error *err)
{
    TRY(check(request, err));
    AUTO(flat_copy_done) struct flat_copy copy = {.items = NULL};
    AUTO(packed_request_done) struct packed_request packed = {.bytes = NULL};
    TRY(flat_copy_init(request, &copy, err));
    for (size_t i = 0; i < copy.message.n_items; i++) {
        fill_in(&copy.items[i], workspace, &environment);
        copy.items[i].allow_pending = request->pending != COFFER_PENDING_WAIT;
    }
    TRY(pack(&copy.message, &packed, err));
    if (asks_for_more(&copy.message)) {
        TRY(asked_new(&copy.message, &packed.asked, err));
    }
    packed.pending = request->pending;
    *ret_packed = packed;
    packed = (struct packed_request){.bytes = NULL};
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
        return request_without_memory(err);
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

cof_code request_copy(const coffer_request *request, coffer_request **ret_copy, struct cof_error *err)
{
    AUTO(packed_request_done) struct packed_request packed = {.bytes = NULL};
    if (request->err.code != COF_OK) {
        *err = request->err;
        return err->code;
    }
    TRY(pack(request->message, &packed, err));
    coffer_request *copy = malloc(sizeof *copy);
    Coffer__V1__ResolveRequest *message = coffer__v1__resolve_request__unpack(NULL, packed.len, packed.bytes);
    if (copy == NULL || message == NULL) {
        message_cleanup(&message);
        free(copy);
        return request_without_memory(err);
    }
    *copy = *request;
    copy->message = message;
    *ret_copy = copy;
    return COF_OK;
}

void packed_request_done(struct packed_request *packed)
{
    free(packed->bytes);
    free(packed->asked);
    packed->bytes = NULL;
    packed->asked = NULL;
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
