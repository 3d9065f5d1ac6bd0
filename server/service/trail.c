#include "server/service/trail.h"

#include <stddef.h>

#include <coffer/v1/connection.pb-c.h>
#include <coffer/v1/environment.pb-c.h>
#include <coffer/v1/identity.pb-c.h>
#include <coffer/v1/integration.pb-c.h>
#include <coffer/v1/provider.pb-c.h>
#include <coffer/v1/resolve.pb-c.h>
#include <coffer/v1/secret.pb-c.h>
#include <coffer/v1/workspace.pb-c.h>

#include "common/name.h"
#include "common/wire.h"
#include "server/service/caller.h"
#include "server/service/outcome.h"

enum {
    REVISION = 1,
    OBJECTS_MAX = 40,   /* in one record, so that it has at most 32 KiB */
    OBJECTS_SMALL = 12, /* in one that needs no memory of the call */
    KEYS_MAX = 128,     /* of all objects of a record: a secret has at most 100 */
    SMALL = 3072,       /* records up to this size need no memory of the call */
    RUN_FIELD_MAX = 256,
    SECOND_US = 1000000,
};

/* The record under way. */
struct trail {
    struct audit *audit;
    const struct trail_event *event;
    uint64_t sequence;
    Coffer__Audit__V1__Record record;
    Google__Protobuf__Timestamp time;
    size_t room; /* for objects */
    Coffer__Audit__V1__Object **pointers;
    Coffer__Audit__V1__Object *objects;
    Coffer__Audit__V1__Object *small_pointers[OBJECTS_SMALL];
    Coffer__Audit__V1__Object small_objects[OBJECTS_SMALL];
    char *keys[KEYS_MAX];
    size_t key_count;
    struct cof_error *err;
};

/* protobuf-c's texts have no const; packing only reads. */
static char *text(const char *constant)
{
    char *same;
    memcpy(&same, &constant, sizeof same);
    return same;
}

/* --- Actor ---------------------------------------------------------------------------------------------------- */

void trail_fill_actor(const struct call *call, const struct cof_token *token, struct trail_actor *actor)
{
    coffer__audit__v1__actor__init(&actor->message);
    actor->message.peer = text(call->peer == NULL ? "" : call->peer);
    if (token != NULL) {
        cof_uuid_format(&token->id, actor->token);
        actor->message.token = actor->token;
        actor->message.narrowed = token->narrowed.len > 0;
    }
    if (call->caller == NULL) {
        return;
    }
    const struct cof_slice name = call->caller->account.name;
    cof_uuid_format(&call->caller->principal, actor->principal);
    cof_uuid_format(&call->caller->token.token_id, actor->token);
    cof_uuid_format(&call->caller->workspace, actor->workspace);
    const size_t length = name.len < sizeof actor->name ? name.len : sizeof actor->name - 1;
    memcpy(actor->name, name.data, length);
    actor->name[length] = '\0';
    actor->message.principal = actor->principal;
    actor->message.token = actor->token;
    actor->message.workspace = actor->workspace;
    actor->message.name = actor->name;
}

/* --- Records -------------------------------------------------------------------------------------------------- */

static cof_code append(struct trail *trail, struct cof_slice packed)
{
    TRY(audit_append(trail->audit, packed, &trail->sequence, trail->err));
    trail->record.n_objects = 0;
    trail->key_count = 0;
    return COF_OK;
}

/* Writes what there is and begins anew. */
static cof_code emit(struct trail *trail)
{
    uint8_t small[SMALL];
    struct cof_slice packed;
    if (!cof_wire_pack_at_end(&trail->record.base, small, sizeof small, &packed)) {
        TRY(cof_wire_pack(&trail->record.base, trail->event->call->arena, &packed, trail->err));
    }
    return append(trail, packed);
}

static cof_code add_object(struct trail *trail, const char *kind, Coffer__Audit__V1__Object **ret_object)
{
    if (trail->record.n_objects == trail->room) {
        TRY(emit(trail));
    }
    Coffer__Audit__V1__Object *object = &trail->objects[trail->record.n_objects];
    coffer__audit__v1__object__init(object);
    object->kind = text(kind);
    object->keys = &trail->keys[trail->key_count];
    trail->pointers[trail->record.n_objects++] = object;
    *ret_object = object;
    return COF_OK;
}

/* A record that is full goes on in another one, with the same object in it again. */
static cof_code add_key(struct trail *trail, Coffer__Audit__V1__Object **object, char *key)
{
    if (trail->key_count == KEYS_MAX) {
        const Coffer__Audit__V1__Object same = **object;
        TRY(emit(trail));
        TRY(add_object(trail, same.kind, object));
        (*object)->uid = same.uid;
        (*object)->environment = same.environment;
        (*object)->name = same.name;
        (*object)->version = same.version;
    }
    trail->keys[trail->key_count++] = key;
    (*object)->n_keys++;
    return COF_OK;
}

/* --- Answers of other methods than Resolve: the things in them ------------------------------------------------ */

/* Where the messages of things have what a record tells of them; 0: they do not have it. */
static const struct resource {
    const ProtobufCMessageDescriptor *descriptor;
    const char *kind;
    size_t uid;
    size_t environment;
    size_t name;
} resources[] = {
    {&coffer__v1__secret__descriptor, "secret", offsetof(Coffer__V1__Secret, uid),
     offsetof(Coffer__V1__Secret, environment), offsetof(Coffer__V1__Secret, name)},
    {&coffer__v1__secret_change__descriptor, "secret", offsetof(Coffer__V1__SecretChange, uid),
     offsetof(Coffer__V1__SecretChange, environment), offsetof(Coffer__V1__SecretChange, name)},
    {&coffer__v1__environment__descriptor, "environment", offsetof(Coffer__V1__Environment, uid),
     offsetof(Coffer__V1__Environment, name), offsetof(Coffer__V1__Environment, name)},
    {&coffer__v1__workspace__descriptor, "workspace", offsetof(Coffer__V1__Workspace, uid), 0,
     offsetof(Coffer__V1__Workspace, name)},
    {&coffer__v1__service_account__descriptor, "service_account", offsetof(Coffer__V1__ServiceAccount, uid), 0,
     offsetof(Coffer__V1__ServiceAccount, name)},
    {&coffer__v1__action__descriptor, "action", offsetof(Coffer__V1__Action, uid), 0,
     offsetof(Coffer__V1__Action, name)},
    {&coffer__v1__connection__descriptor, "connection", offsetof(Coffer__V1__Connection, uid), 0,
     offsetof(Coffer__V1__Connection, provider)},
    {&coffer__v1__provider__descriptor, "provider", offsetof(Coffer__V1__Provider, uid), 0,
     offsetof(Coffer__V1__Provider, id)},
    {&coffer__v1__token__descriptor, "token", offsetof(Coffer__V1__Token, uid), 0,
     offsetof(Coffer__V1__Token, service_account)},
};

static const struct resource *resource_of(const void *descriptor)
{
    for (size_t i = 0; i < COF_COUNT(resources); i++) {
        if (resources[i].descriptor == descriptor) {
            return &resources[i];
        }
    }
    return NULL;
}

static char *text_at(const ProtobufCMessage *message, size_t offset)
{
    const uint8_t *bytes = (const uint8_t *) message;
    return offset == 0 ? text("") : *(char *const *) (const void *) (bytes + offset);
}

static cof_code add_secret_parts(struct trail *trail, Coffer__Audit__V1__Object *object,
                                 const Coffer__V1__Secret *secret)
{
    object->version = secret->version;
    for (size_t i = 0; i < secret->n_keys; i++) {
        TRY(add_key(trail, &object, secret->keys[i]->name));
    }
    return COF_OK;
}

/* As in the records of writes. */
static char *connection_environment(const Coffer__V1__Connection *connection)
{
    return connection->scope_case == COFFER__V1__CONNECTION__SCOPE_ENVIRONMENT ? connection->environment
                                                                               : text("*");
}

static cof_code add_resource(struct trail *trail, const struct resource *resource, const ProtobufCMessage *message)
{
    Coffer__Audit__V1__Object *object;
    if (message == NULL) {
        return COF_OK;
    }
    TRY(add_object(trail, resource->kind, &object));
    object->uid = text_at(message, resource->uid);
    object->environment = text_at(message, resource->environment);
    object->name = text_at(message, resource->name);
    if (resource->descriptor == &coffer__v1__connection__descriptor) {
        object->environment = connection_environment((const Coffer__V1__Connection *) (const void *) message);
    }
    if (resource->descriptor != &coffer__v1__secret__descriptor) {
        return COF_OK;
    }
    return add_secret_parts(trail, object, (const Coffer__V1__Secret *) (const void *) message);
}

static cof_code add_field(struct trail *trail, const ProtobufCMessage *message,
                          const ProtobufCFieldDescriptor *field)
{
    const struct resource *resource =
        field->type == PROTOBUF_C_TYPE_MESSAGE ? resource_of(field->descriptor) : NULL;
    const uint8_t *bytes = (const uint8_t *) message;
    if (resource == NULL) {
        return COF_OK;
    }
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        return add_resource(trail, resource, *(ProtobufCMessage *const *) (const void *) (bytes + field->offset));
    }
    const size_t count = *(const size_t *) (const void *) (bytes + field->quantifier_offset);
    ProtobufCMessage *const *items = *(ProtobufCMessage *const *const *) (const void *) (bytes + field->offset);
    for (size_t i = 0; i < count; i++) {
        TRY(add_resource(trail, resource, items[i]));
    }
    return COF_OK;
}

static cof_code write_things(struct trail *trail)
{
    const ProtobufCMessage *message = trail->event->response;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        TRY(add_field(trail, message, &message->descriptor->fields[i]));
    }
    return emit(trail);
}

/* --- Export and import ---------------------------------------------------------------------------------------- */

static cof_code write_export(struct trail *trail)
{
    const Coffer__V1__ExportSecretsResponse *response =
        (const Coffer__V1__ExportSecretsResponse *) (const void *) trail->event->response;
    const struct resource *resource = resource_of(&coffer__v1__secret__descriptor);
    for (size_t i = 0; i < response->n_secrets; i++) {
        const Coffer__V1__Secret *secret = response->secrets[i]->secret;
        TRY(add_resource(trail, resource, &secret->base));
        if (secret->state == COFFER__V1__SECRET_STATE__SECRET_STATE_CORRUPTED) {
            trail->objects[trail->record.n_objects - 1].reason = text(cof_reason_name(COF_REASON_CORRUPTED));
        }
    }
    return emit(trail);
}

static const char *import_reason(const Coffer__V1__ImportedSecret *secret)
{
    switch (secret->action) {
    case COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_UNCHANGED:
        return "UNCHANGED";
    case COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_SKIPPED:
        return "SKIPPED";
    case COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_UNSPECIFIED:
    case COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_CREATED:
    case COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_CHANGED:
    case COFFER__V1__IMPORT_ACTION__IMPORT_ACTION_REFUSED:
    case _COFFER__V1__IMPORT_ACTION_IS_INT_SIZE:
        break;
    }
    return secret->reason;
}

/* Of an import that wrote nothing: what it told. Its record says that it was only asked, refused or not. */
static cof_code write_import(struct trail *trail)
{
    const Coffer__V1__ImportSecretsResponse *response =
        (const Coffer__V1__ImportSecretsResponse *) (const void *) trail->event->response;
    Coffer__Audit__V1__Object *object;
    trail->record.validate_only = !response->written;
    for (size_t i = 0; i < response->n_secrets; i++) {
        const Coffer__V1__ImportedSecret *secret = response->secrets[i];
        TRY(add_object(trail, "secret", &object));
        object->uid = secret->uid;
        object->environment = secret->environment;
        object->name = secret->name;
        object->version = secret->version;
        object->reason = text(import_reason(secret));
        for (size_t k = 0; k < secret->n_keys; k++) {
            TRY(add_key(trail, &object, secret->keys[k]->key));
        }
    }
    return emit(trail);
}

/* --- Refusals: what was asked for ----------------------------------------------------------------------------- */

static const struct asked {
    const char *service;
    const char *kind;
    const char *field;
    cof_name_kind rule;
} asked[] = {
    {"coffer.v1.SecretService/", "secret", "name", COF_NAME_SECRET},
    {"coffer.v1.EnvironmentService/", "environment", "name", COF_NAME_ENVIRONMENT},
    {"coffer.v1.WorkspaceService/", "workspace", "name", COF_NAME_WORKSPACE},
    {"coffer.v1.ServiceAccountService/", "service_account", "name", COF_NAME_ACCOUNT},
    {"coffer.v1.IntegrationService/", "action", "name", COF_NAME_ACTION},
    {"coffer.v1.ConnectionService/", "connection", "provider", COF_NAME_SECRET},
    {"coffer.v1.ProviderService/", "provider", "id", COF_NAME_SECRET},
    {"coffer.v1.TokenService/", "service_account", "service_account", COF_NAME_ACCOUNT},
};

/* Whether a field that is one of several is the one that was sent. */
static bool is_set(const ProtobufCMessage *request, const ProtobufCFieldDescriptor *field)
{
    uint32_t sent = 0;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) {
        return true;
    }
    memcpy(&sent, (const uint8_t *) request + field->quantifier_offset, sizeof sent);
    return sent == field->id;
}

/* A field of the request, if it has it and what stands there can be a name. */
static char *name_in(const ProtobufCMessage *request, const char *field_name, cof_name_kind rule)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(request->descriptor, field_name);
    if (field == NULL || field->type != PROTOBUF_C_TYPE_STRING || field->label == PROTOBUF_C_LABEL_REPEATED ||
        !is_set(request, field)) {
        return text("");
    }
    char *name = text_at(request, field->offset);
    return cof_name_valid(rule, cof_slice_text(name)) ? name : text("");
}

static cof_code write_asked(struct trail *trail)
{
    const char *method = trail->record.method;
    const ProtobufCMessage *request = trail->event->request;
    Coffer__Audit__V1__Object *object;
    for (size_t i = 0; request != NULL && i < COF_COUNT(asked); i++) {
        if (strncmp(method, asked[i].service, strlen(asked[i].service)) != 0) {
            continue;
        }
        TRY(add_object(trail, asked[i].kind, &object));
        object->environment = name_in(request, "environment", COF_NAME_ENVIRONMENT);
        object->name = name_in(request, asked[i].field, asked[i].rule);
    }
    return emit(trail);
}

/* --- Resolve -------------------------------------------------------------------------------------------------- */

static char *environment_of(const Coffer__V1__ResolveResult *result)
{
    return cof_name_valid(COF_NAME_ENVIRONMENT, cof_slice_text(result->environment)) ? result->environment
                                                                                     : text("");
}

static cof_code add_released(struct trail *trail, const Coffer__V1__ResolveResult *result,
                             const Coffer__V1__ResolvedSecret *secret)
{
    Coffer__Audit__V1__Object *object;
    TRY(add_object(trail, "secret", &object));
    object->uid = secret->uid;
    object->environment = result->environment;
    object->name = secret->name;
    object->version = secret->version;
    for (size_t i = 0; i < secret->n_values; i++) {
        TRY(add_key(trail, &object, secret->values[i]->key));
    }
    return COF_OK;
}

static cof_code add_fault(struct trail *trail, const Coffer__V1__ResolveResult *result,
                          const Coffer__V1__ReferenceFault *fault)
{
    Coffer__Audit__V1__Object *object;
    const Coffer__V1__SecretReference *reference = fault->reference;
    TRY(add_object(trail, "secret", &object));
    object->environment = environment_of(result);
    object->reason = text(outcome_name(fault->outcome));
    if (reference == NULL || !cof_name_valid(COF_NAME_SECRET, cof_slice_text(reference->name))) {
        return COF_OK;
    }
    object->name = reference->name;
    return cof_name_valid(COF_NAME_KEY, cof_slice_text(reference->key)) ? add_key(trail, &object, reference->key)
                                                                        : COF_OK;
}

/* What failed as a whole has no faults of its own. */
static cof_code add_failed(struct trail *trail, const Coffer__V1__ResolveResult *result)
{
    Coffer__Audit__V1__Object *object;
    if (result->status->code == COF_OK || result->n_faults > 0) {
        return COF_OK;
    }
    TRY(add_object(trail, "environment", &object));
    object->environment = environment_of(result);
    object->reason = text(outcome_name(result->status->outcome));
    return COF_OK;
}

static cof_code add_result(struct trail *trail, const Coffer__V1__ResolveResult *result)
{
    for (size_t i = 0; i < result->n_secrets; i++) {
        TRY(add_released(trail, result, result->secrets[i]));
    }
    for (size_t i = 0; i < result->n_faults; i++) {
        TRY(add_fault(trail, result, result->faults[i]));
    }
    return add_failed(trail, result);
}

static bool run_is_short(const Coffer__V1__RunContext *run)
{
    return strlen(run->workflow_id) <= RUN_FIELD_MAX && strlen(run->run_id) <= RUN_FIELD_MAX &&
           strlen(run->action) <= RUN_FIELD_MAX;
}

static void begin_item(struct trail *trail, const Coffer__V1__ResolveItem *item, uint32_t index)
{
    Coffer__Audit__V1__Record *record = &trail->record;
    struct cof_uuid uuid;
    const bool named = cof_uuid_parse(cof_slice_text(item->workspace), &uuid);
    record->item = index;
    record->run = item->run != NULL && run_is_short(item->run) ? item->run : NULL;
    record->workspace = named ? item->workspace : text("");
    record->code = COF_OK;
    record->reason = text("");
    record->stale_since = NULL;
}

/* Whose declarations were resolved. */
static cof_code add_action(struct trail *trail, const Coffer__V1__ResolveItem *item)
{
    Coffer__Audit__V1__Object *object;
    if (!cof_name_valid(COF_NAME_ACTION, cof_slice_text(item->action))) {
        return COF_OK;
    }
    TRY(add_object(trail, "action", &object));
    object->name = item->action;
    return COF_OK;
}

/* The record's code is that of the first environment that failed. */
static void note_status(struct trail *trail, const Coffer__V1__ResolveResult *result)
{
    Coffer__Audit__V1__Record *record = &trail->record;
    record->workspace = result->workspace;
    record->stale_since = result->stale_since;
    if (record->code == COF_OK && result->status->code != COF_OK) {
        record->code = result->status->code;
        record->reason = text(cof_reason_name(outcome_reason(result->status->outcome)));
    }
}

/* Makes room for more objects in a record, if the call's memory has it. */
static void make_room(struct trail *trail)
{
    struct cof_arena *arena = trail->event->call->arena;
    Coffer__Audit__V1__Object **pointers = cof_arena_array(arena, OBJECTS_MAX, sizeof *pointers);
    Coffer__Audit__V1__Object *objects = cof_arena_array(arena, OBJECTS_MAX, sizeof *objects);
    if (pointers != NULL && objects != NULL) {
        trail->room = OBJECTS_MAX;
        trail->pointers = pointers;
        trail->objects = objects;
        trail->record.objects = pointers;
    }
}

static cof_code write_resolve(struct trail *trail)
{
    const Coffer__V1__ResolveRequest *request =
        (const Coffer__V1__ResolveRequest *) (const void *) trail->event->request;
    const Coffer__V1__ResolveResponse *response =
        (const Coffer__V1__ResolveResponse *) (const void *) trail->event->response;
    size_t at = 0;
    trail->record.validate_only = request->validate_only;
    if (response->n_results > 0 && response->results[0]->n_secrets > OBJECTS_SMALL) {
        make_room(trail);
    }
    for (size_t i = 0; i < request->n_items; i++) {
        const size_t first = at;
        begin_item(trail, request->items[i], (uint32_t) i);
        TRY(add_action(trail, request->items[i]));
        for (; at < response->n_results && response->results[at]->item_index == i; at++) {
            note_status(trail, response->results[at]);
        }
        for (size_t k = first; k < at; k++) {
            TRY(add_result(trail, response->results[k]));
        }
        TRY(emit(trail));
    }
    return COF_OK;
}

/* --- The event ------------------------------------------------------------------------------------------------ */

static void begin(struct trail *trail, struct trail_actor *actor, char workspace[COF_UUID_TEXT])
{
    const struct trail_event *event = trail->event;
    const struct call *call = event->call;
    Coffer__Audit__V1__Record *record = &trail->record;
    const int64_t now = call_now(call);
    coffer__audit__v1__record__init(record);
    google__protobuf__timestamp__init(&trail->time);
    trail->time.seconds = now / SECOND_US;
    trail->time.nanos = (int32_t) (now % SECOND_US * 1000);
    record->revision = REVISION;
    record->time = &trail->time;
    record->request_id.len = sizeof call->request_id.bytes;
    record->request_id.data = (uint8_t *) (uintptr_t) call->request_id.bytes;
    record->method = text(call->method == NULL ? "" : call->method);
    trail_fill_actor(call, event->token, actor);
    record->actor = &actor->message;
    if (call->has_workspace) {
        cof_uuid_format(&call->workspace, workspace);
        record->workspace = workspace;
    }
    trail->room = OBJECTS_SMALL;
    trail->pointers = trail->small_pointers;
    trail->objects = trail->small_objects;
    record->objects = trail->pointers;
    record->code = (int32_t) event->code;
    record->reason = text(event->reason == COF_REASON_NONE ? "" : cof_reason_name(event->reason));
    record->replayed = call->replayed;
}

COF_CODE trail_write(struct audit *audit, const struct trail_event *event, uint64_t *ret_sequence,
                     struct cof_error *err)
{
    struct trail trail;
    struct trail_actor actor;
    char workspace[COF_UUID_TEXT];
    trail.audit = audit;
    trail.event = event;
    trail.key_count = 0;
    trail.err = err;
    begin(&trail, &actor, workspace);
    if (event->response == NULL || event->call->replayed) {
        TRY(write_asked(&trail));
    } else if (event->response->descriptor == &coffer__v1__resolve_response__descriptor) {
        TRY(write_resolve(&trail));
    } else if (event->response->descriptor == &coffer__v1__export_secrets_response__descriptor) {
        TRY(write_export(&trail));
    } else if (event->response->descriptor == &coffer__v1__import_secrets_response__descriptor) {
        TRY(write_import(&trail));
    } else {
        TRY(write_things(&trail));
    }
    *ret_sequence = trail.sequence;
    return COF_OK;
}
