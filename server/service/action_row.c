#include "server/service/action_row.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/encode.h"
#include "common/name.h"
#include "common/wire.h"
#include "server/crypto/crypto.h"
#include "server/service/text.h"

/* --- What was sent -------------------------------------------------------------------------------------------- */

static cof_code too_many(struct call *call, const char *field, size_t count, size_t limit)
{
    return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, field,
                          "%s has %zu entries; at most %zu are allowed", field, count, limit);
}

static cof_code check_keys(struct call *call, const char *field, const char *list, char *const *keys, size_t count)
{
    char place[COF_ERROR_FIELD_SIZE];
    (void) snprintf(place, sizeof place, "%s.%s", field, list);
    if (count > ACTION_KEYS_MAX) {
        return too_many(call, place, count, ACTION_KEYS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        (void) snprintf(place, sizeof place, "%s.%s[%zu]", field, list, i);
        TRY(cof_name_check(COF_NAME_KEY, cof_slice_text(keys[i]), place, call->err));
    }
    return COF_OK;
}

static bool known_type(Coffer__V1__SecretType type)
{
    return protobuf_c_enum_descriptor_get_value(&coffer__v1__secret_type__descriptor, (int) type) != NULL;
}

static cof_code check_secret(struct call *call, const Coffer__V1__SecretDeclaration *declaration, size_t index)
{
    char field[COF_ERROR_FIELD_SIZE / 2];
    char place[COF_ERROR_FIELD_SIZE];
    (void) snprintf(field, sizeof field, "declarations.secrets[%zu]", index);
    (void) snprintf(place, sizeof place, "%s.name", field);
    TRY(cof_name_check(COF_NAME_SECRET, cof_slice_text(declaration->name), place, call->err));
    if (cof_name_reserved(cof_slice_text(declaration->name))) {
        return cof_fail_field(call->err, COF_REASON_NAME_RESERVED, place,
                              "the name \"%s\" is reserved: names that end in _oauth belong to OAuth connections; "
                              "declare the provider under oauth",
                              declaration->name);
    }
    TRY(check_keys(call, field, "keys", declaration->keys, declaration->n_keys));
    TRY(check_keys(call, field, "optional_keys", declaration->optional_keys, declaration->n_optional_keys));
    (void) snprintf(place, sizeof place, "%s.type", field);
    return known_type(declaration->type) ? COF_OK
                                         : cof_fail_field(call->err, COF_REASON_FIELD_INVALID, place,
                                                          "%s is no SecretType of this server", place);
}

cof_code action_check_oauth(struct call *call, const Coffer__V1__OAuthDeclaration *declaration, const char *field)
{
    char place[COF_ERROR_FIELD_SIZE];
    (void) snprintf(place, sizeof place, "%s.provider", field);
    TRY(cof_name_check(COF_NAME_SECRET, cof_slice_text(declaration->provider), place, call->err));
    if (strlen(declaration->provider) + strlen("_oauth") > COF_SECRET_NAME_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, place,
                              "%s has %zu characters; with _oauth behind it, it must be a name of at most %d",
                              place, strlen(declaration->provider), COF_SECRET_NAME_MAX);
    }
    (void) snprintf(place, sizeof place, "%s.grant", field);
    if (declaration->grant != COFFER__V1__OAUTH_GRANT__OAUTH_GRANT_AUTHORIZATION_CODE &&
        declaration->grant != COFFER__V1__OAUTH_GRANT__OAUTH_GRANT_CLIENT_CREDENTIALS) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, place,
                              "%s is neither authorization_code nor client_credentials; give one of them", place);
    }
    return COF_OK;
}

static cof_code check_declarations(struct call *call, const Coffer__V1__ActionDeclarations *declarations)
{
    char field[COF_ERROR_FIELD_SIZE / 2];
    if (declarations->n_secrets > ACTION_DECLARATIONS_MAX) {
        return too_many(call, "declarations.secrets", declarations->n_secrets, ACTION_DECLARATIONS_MAX);
    }
    if (declarations->n_oauth > ACTION_DECLARATIONS_MAX) {
        return too_many(call, "declarations.oauth", declarations->n_oauth, ACTION_DECLARATIONS_MAX);
    }
    for (size_t i = 0; i < declarations->n_secrets; i++) {
        TRY(check_secret(call, declarations->secrets[i], i));
    }
    for (size_t i = 0; i < declarations->n_oauth; i++) {
        (void) snprintf(field, sizeof field, "declarations.oauth[%zu]", i);
        TRY(action_check_oauth(call, declarations->oauth[i], field));
    }
    return COF_OK;
}

/* --- Steps ---------------------------------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b)
{
    return cof_slice_compare(*(const struct cof_slice *) a, *(const struct cof_slice *) b);
}

static size_t sort_unique(struct cof_slice *items, size_t count)
{
    size_t kept = 0;
    if (count > 1) {
        qsort(items, count, sizeof *items, by_bytes);
    }
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || !cof_slice_equal(items[kept - 1], items[i])) {
            items[kept++] = items[i];
        }
    }
    return kept;
}

/* Whoever calls an action many times needs it once. */
static cof_code read_steps(struct call *call, const Coffer__V1__NewAction *action, struct row_texts *ret_steps)
{
    char field[COF_ERROR_FIELD_SIZE];
    ret_steps->items = cof_arena_array(call->arena, action->n_steps, sizeof *ret_steps->items);
    if (ret_steps->items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < action->n_steps; i++) {
        (void) snprintf(field, sizeof field, "steps[%zu]", i);
        ret_steps->items[i] = cof_slice_text(action->steps[i]);
        TRY(cof_name_check(COF_NAME_ACTION, ret_steps->items[i], field, call->err));
    }
    ret_steps->count = sort_unique(ret_steps->items, action->n_steps);
    return ret_steps->count > ACTION_STEPS_MAX ? too_many(call, "steps", ret_steps->count, ACTION_STEPS_MAX)
                                               : COF_OK;
}

/* --- Into the row --------------------------------------------------------------------------------------------- */

/* Over the steps, each with its length, and then the declarations. */
static cof_code make_digest(struct call *call, struct action_row *row)
{
    size_t size = row->declarations.len;
    for (size_t i = 0; i < row->steps.count; i++) {
        size += 2 + row->steps.items[i].len;
    }
    uint8_t *digest = cof_arena_alloc(call->arena, CRYPTO_DIGEST);
    uint8_t *text = cof_arena_alloc(call->arena, size + 2);
    if (digest == NULL || text == NULL) {
        return cof_arena_exhausted(call->err);
    }
    size_t at = 2;
    cof_put_u16(text, (uint16_t) row->steps.count);
    for (size_t i = 0; i < row->steps.count; i++) {
        cof_put_u16(text + at, (uint16_t) row->steps.items[i].len);
        memcpy(text + at + 2, row->steps.items[i].data, row->steps.items[i].len);
        at += 2 + row->steps.items[i].len;
    }
    if (row->declarations.len > 0) {
        memcpy(text + at, row->declarations.data, row->declarations.len);
    }
    TRY(crypto_sha256(cof_slice_of(text, size + 2), digest, call->err));
    row->digest = cof_slice_of(digest, CRYPTO_DIGEST);
    return COF_OK;
}

/* Field by field, since a message of the request may carry fields that are not known here. */
static cof_code copy_secret(struct call *call, const Coffer__V1__SecretDeclaration *from,
                            Coffer__V1__SecretDeclaration **ret_copy)
{
    Coffer__V1__SecretDeclaration *copy = cof_arena_alloc(call->arena, sizeof *copy);
    if (copy == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret_declaration__init(copy);
    copy->name = from->name;
    copy->n_keys = from->n_keys;
    copy->keys = from->keys;
    copy->n_optional_keys = from->n_optional_keys;
    copy->optional_keys = from->optional_keys;
    copy->optional = from->optional;
    copy->type = from->type;
    *ret_copy = copy;
    return COF_OK;
}

static cof_code copy_oauth(struct call *call, const Coffer__V1__OAuthDeclaration *from,
                           Coffer__V1__OAuthDeclaration **ret_copy)
{
    Coffer__V1__OAuthDeclaration *copy = cof_arena_alloc(call->arena, sizeof *copy);
    if (copy == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__oauth_declaration__init(copy);
    copy->provider = from->provider;
    copy->grant = from->grant;
    copy->optional = from->optional;
    *ret_copy = copy;
    return COF_OK;
}

static cof_code pack(struct call *call, const Coffer__V1__ActionDeclarations *from, struct cof_slice *ret_bytes)
{
    Coffer__V1__ActionDeclarations message;
    coffer__v1__action_declarations__init(&message);
    message.secrets = cof_arena_array(call->arena, from->n_secrets, sizeof *message.secrets);
    message.oauth = cof_arena_array(call->arena, from->n_oauth, sizeof *message.oauth);
    if (message.secrets == NULL || message.oauth == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < from->n_secrets; i++) {
        TRY(copy_secret(call, from->secrets[i], &message.secrets[message.n_secrets]));
        message.n_secrets++;
    }
    for (size_t i = 0; i < from->n_oauth; i++) {
        TRY(copy_oauth(call, from->oauth[i], &message.oauth[message.n_oauth]));
        message.n_oauth++;
    }
    return cof_wire_pack(&message.base, call->arena, ret_bytes, call->err);
}

cof_code action_read(struct call *call, const Coffer__V1__NewAction *action, struct action_row *row)
{
    TRY(cof_name_check(COF_NAME_ACTION, cof_slice_text(action->name), "name", call->err));
    TRY(read_steps(call, action, &row->steps));
    row->name = cof_slice_text(action->name);
    row->declarations = cof_slice_of(NULL, 0);
    if (action->declarations != NULL) {
        TRY(check_declarations(call, action->declarations));
        TRY(pack(call, action->declarations, &row->declarations));
    }
    return make_digest(call, row);
}

/* --- Out of the row ------------------------------------------------------------------------------------------- */

cof_code action_declarations(struct call *call, const struct action_row *row,
                             Coffer__V1__ActionDeclarations **ret_declarations)
{
    ProtobufCMessage *message = NULL;
    if (cof_wire_unpack(&coffer__v1__action_declarations__descriptor, row->declarations, call->arena, &message,
                        call->err) == COF_OK) {
        *ret_declarations = (Coffer__V1__ActionDeclarations *) (void *) message;
        return COF_OK;
    }
    /* That memory ran out is no fault of the row's. */
    if (call->err->reason == COF_REASON_OUT_OF_MEMORY) {
        return call->err->code;
    }
    return cof_fail(call->err, COF_REASON_CORRUPTED, "stored declarations cannot be read; %s",
                    cof_reason_next_step(COF_REASON_CORRUPTED));
}

static cof_code step_texts(struct call *call, const struct row_texts *steps, Coffer__V1__Action *message)
{
    message->steps = cof_arena_array(call->arena, steps->count, sizeof *message->steps);
    if (message->steps == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < steps->count; i++) {
        message->steps[i] = text_of(call->arena, steps->items[i]);
        if (message->steps[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
        message->n_steps++;
    }
    return COF_OK;
}

cof_code action_message(struct call *call, const struct action_row *row, Coffer__V1__Action **ret_message)
{
    Coffer__V1__Action *message = cof_arena_alloc(call->arena, sizeof *message);
    char *digest = cof_arena_alloc(call->arena, 2 * row->digest.len + 1);
    if (message == NULL || digest == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__action__init(message);
    cof_hex_encode(row->digest, digest);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->name = text_of(call->arena, row->name);
    message->uid = text_of_uuid(call->arena, &row->action_id);
    message->digest = digest;
    message->create_time = time_of(call->arena, row->create_time);
    message->update_time = time_of(call->arena, row->update_time);
    if (message->workspace == NULL || message->name == NULL || message->uid == NULL ||
        message->create_time == NULL || message->update_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(step_texts(call, &row->steps, message));
    *ret_message = message;
    return action_declarations(call, row, &message->declarations);
}

/* --- OAuth ---------------------------------------------------------------------------------------------------- */

char *action_oauth_name(struct cof_arena *arena, const Coffer__V1__OAuthDeclaration *declaration)
{
    return cof_arena_format(arena, "%s_oauth", declaration->provider);
}

char *action_oauth_key(struct cof_arena *arena, const Coffer__V1__OAuthDeclaration *declaration)
{
    const bool user = declaration->grant == COFFER__V1__OAUTH_GRANT__OAUTH_GRANT_AUTHORIZATION_CODE;
    char *key = cof_arena_format(arena, "%s_%s", declaration->provider, user ? "USER_TOKEN" : "SERVICE_TOKEN");
    for (char *c = key; c != NULL && *c != '\0'; c++) {
        *c = (char) (*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    }
    return key;
}

cof_code action_not_found(struct call *call, const char *name)
{
    return cof_fail(call->err, COF_REASON_ACTION_NOT_FOUND, "there is no action \"%s\" in the workspace; %s", name,
                    cof_reason_next_step(COF_REASON_ACTION_NOT_FOUND));
}
