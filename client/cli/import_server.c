#include "client/cli/import_server.h"

#include <string.h>

#include "client/cli/moment.h"
#include "common/encode.h"
#include "common/import/json.h"

enum { FIRST_ROOM = 16 };

struct reader {
    struct cof_import_json json;
    struct cof_arena *arena;
    struct cof_error *err;
    Coffer__V1__ImportSecret **secrets;
    size_t count;
    size_t room;
};

/* What is known of the secret that is being read. */
struct item {
    Coffer__V1__ImportSecret *secret;
    struct cof_place place;
    size_t value_room;
    bool damaged;
};

/* Reads the value of a member with this name, or passes over it. */
typedef cof_code member_reader(struct reader *reader, struct cof_slice name, void *to);

static bool is(struct cof_slice name, const char *text)
{
    return cof_slice_equal(name, cof_slice_text(text));
}

bool import_server_is(struct cof_slice text)
{
    struct cof_json_scan scan;
    struct cof_json_event event;
    struct cof_error err = {0};
    cof_json_scan_init(&scan, text);
    return cof_json_next(&scan, &event, &err) == COF_OK && event.kind == COF_JSON_OBJECT &&
           cof_json_next(&scan, &event, &err) == COF_OK && event.kind == COF_JSON_KEY &&
           is(event.raw, "\"secrets\"") && cof_json_next(&scan, &event, &err) == COF_OK &&
           event.kind == COF_JSON_ARRAY;
}

/* --- JSON ------------------------------------------------------------------------------------------------------- */

/* The members of an object whose beginning was read. */
static cof_code read_members(struct reader *reader, member_reader *member, void *to)
{
    struct cof_json_event event;
    TRY(cof_import_json_next(&reader->json, &event));
    while (event.kind == COF_JSON_KEY) {
        struct cof_slice name = {NULL, 0};
        TRY(cof_import_json_text(&reader->json, &event, &name));
        TRY(member(reader, name, to));
        TRY(cof_import_json_next(&reader->json, &event));
    }
    return COF_OK;
}

static cof_code read_text(struct reader *reader, struct cof_slice *ret_text, struct cof_place *ret_place)
{
    struct cof_json_event event;
    TRY(cof_import_json_next(&reader->json, &event));
    *ret_place = event.place;
    return cof_import_json_text(&reader->json, &event, ret_text);
}

static cof_code read_string(struct reader *reader, char **ret_text)
{
    struct cof_slice text = {NULL, 0};
    struct cof_place place;
    TRY(read_text(reader, &text, &place));
    *ret_text = cof_arena_text(reader->arena, text);
    return *ret_text == NULL ? cof_arena_exhausted(reader->err) : COF_OK;
}

/* One more item behind `count` in the arena's array. */
static cof_code grow(struct reader *reader, void *items, size_t count, size_t *room)
{
    void *before = NULL;
    if (count < *room) {
        return COF_OK;
    }
    const size_t more = *room == 0 ? FIRST_ROOM : *room * 2;
    void *grown = cof_arena_array(reader->arena, more, sizeof(void *));
    if (grown == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    memcpy(&before, items, sizeof before);
    if (count > 0) {
        memcpy(grown, before, count * sizeof(void *));
    }
    memcpy(items, &grown, sizeof grown);
    *room = more;
    return COF_OK;
}

/* --- Values ----------------------------------------------------------------------------------------------------- */

static cof_code read_base64(struct reader *reader, Coffer__V1__KeyValue *pair)
{
    struct cof_slice text = {NULL, 0};
    struct cof_place place;
    TRY(read_text(reader, &text, &place));
    pair->value.data = cof_arena_alloc(reader->arena, text.len + 1);
    if (pair->value.data == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    return cof_base64_decode(text, pair->value.data, &pair->value.len)
               ? COF_OK
               : cof_import_refuse(reader->err, place, "this is not base64 with its padding (RFC 4648, section 4)");
}

static cof_code read_value_member(struct reader *reader, struct cof_slice name, void *to)
{
    Coffer__V1__KeyValue *pair = to;
    struct cof_slice text = {NULL, 0};
    struct cof_place place;
    if (is(name, "key")) {
        return read_string(reader, &pair->key);
    }
    if (is(name, "valueBase64")) {
        return read_base64(reader, pair);
    }
    if (!is(name, "value")) {
        return cof_import_json_skip(&reader->json);
    }
    TRY(read_text(reader, &text, &place));
    /* protobuf-c's bytes have no const; packing only reads. */
    memcpy(&pair->value.data, &text.data, sizeof pair->value.data);
    pair->value.len = text.len;
    return COF_OK;
}

static cof_code read_values(struct reader *reader, struct item *item)
{
    struct cof_json_event event;
    TRY(cof_import_json_expect(&reader->json, COF_JSON_ARRAY, &event));
    TRY(cof_import_json_next(&reader->json, &event));
    while (event.kind == COF_JSON_OBJECT) {
        Coffer__V1__KeyValue *pair = cof_arena_alloc(reader->arena, sizeof *pair);
        if (pair == NULL) {
            return cof_arena_exhausted(reader->err);
        }
        coffer__v1__key_value__init(pair);
        TRY(read_members(reader, read_value_member, pair));
        TRY(grow(reader, &item->secret->values, item->secret->n_values, &item->value_room));
        item->secret->values[item->secret->n_values++] = pair;
        TRY(cof_import_json_next(&reader->json, &event));
    }
    return event.kind == COF_JSON_ARRAY_END
               ? COF_OK
               : cof_import_refuse(reader->err, event.place, "an object with key and value must stand here");
}

/* --- Secrets ---------------------------------------------------------------------------------------------------- */

static cof_code read_type(struct reader *reader, Coffer__V1__SecretType *ret_type)
{
    char *name = NULL;
    TRY(read_string(reader, &name));
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value_by_name(&coffer__v1__secret_type__descriptor, name);
    if (value == NULL) {
        return cof_fail(reader->err, COF_REASON_FILE_INVALID, "there is no type %s of secrets; correct it", name);
    }
    *ret_type = (Coffer__V1__SecretType) value->value;
    return COF_OK;
}

static cof_code read_expiry(struct reader *reader, Coffer__V1__ImportMetadata *metadata)
{
    struct cof_slice text = {NULL, 0};
    struct cof_place place;
    TRY(read_text(reader, &text, &place));
    metadata->expire_time = cof_arena_alloc(reader->arena, sizeof *metadata->expire_time);
    char *copy = cof_arena_text(reader->arena, text);
    if (metadata->expire_time == NULL || copy == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    google__protobuf__timestamp__init(metadata->expire_time);
    return moment_parse(copy, &metadata->expire_time->seconds)
               ? COF_OK
               : cof_import_refuse(reader->err, place, "this is no time such as 2027-01-31T12:00:00Z");
}

static cof_code read_tags(struct reader *reader, Coffer__V1__ImportMetadata *metadata)
{
    struct cof_json_event event;
    size_t room = 0;
    TRY(cof_import_json_expect(&reader->json, COF_JSON_ARRAY, &event));
    TRY(cof_import_json_next(&reader->json, &event));
    while (event.kind != COF_JSON_ARRAY_END) {
        struct cof_slice tag = {NULL, 0};
        TRY(cof_import_json_text(&reader->json, &event, &tag));
        TRY(grow(reader, &metadata->tags, metadata->n_tags, &room));
        metadata->tags[metadata->n_tags] = cof_arena_text(reader->arena, tag);
        if (metadata->tags[metadata->n_tags++] == NULL) {
            return cof_arena_exhausted(reader->err);
        }
        TRY(cof_import_json_next(&reader->json, &event));
    }
    return COF_OK;
}

static cof_code read_flag(struct reader *reader, protobuf_c_boolean *ret_flag)
{
    struct cof_json_event event;
    TRY(cof_import_json_next(&reader->json, &event));
    *ret_flag = event.kind == COF_JSON_WORD && event.raw.data[0] == 't';
    return event.kind == COF_JSON_WORD
               ? COF_OK
               : cof_import_refuse(reader->err, event.place, "true or false must stand here");
}

static cof_code read_state(struct reader *reader, struct item *item)
{
    char *name = NULL;
    TRY(read_string(reader, &name));
    item->damaged = strcmp(name, "SECRET_STATE_CORRUPTED") == 0;
    return COF_OK;
}

/* What the server tells and does not take (UUID, version, times) is passed over. */
static cof_code read_secret_member(struct reader *reader, struct cof_slice name, void *to)
{
    struct item *item = to;
    Coffer__V1__ImportMetadata *metadata = item->secret->metadata;
    if (is(name, "environment")) {
        return read_string(reader, &item->secret->environment);
    }
    if (is(name, "name")) {
        return read_string(reader, &item->secret->name);
    }
    if (is(name, "type")) {
        return read_type(reader, &item->secret->type);
    }
    if (is(name, "state")) {
        return read_state(reader, item);
    }
    if (is(name, "description")) {
        return read_string(reader, &metadata->description);
    }
    if (is(name, "tags")) {
        return read_tags(reader, metadata);
    }
    if (is(name, "expireTime")) {
        return read_expiry(reader, metadata);
    }
    return is(name, "blockWhenExpired") ? read_flag(reader, &metadata->block_when_expired)
                                        : cof_import_json_skip(&reader->json);
}

static cof_code read_item_member(struct reader *reader, struct cof_slice name, void *to)
{
    struct item *item = to;
    struct cof_json_event event;
    if (is(name, "secret")) {
        TRY(cof_import_json_expect(&reader->json, COF_JSON_OBJECT, &event));
        return read_members(reader, read_secret_member, item);
    }
    return is(name, "values") ? read_values(reader, item) : cof_import_json_skip(&reader->json);
}

static cof_code check_item(struct reader *reader, const struct item *item)
{
    const Coffer__V1__ImportSecret *secret = item->secret;
    if (secret->name[0] == '\0' || secret->environment[0] == '\0') {
        return cof_import_refuse(reader->err, item->place, "this has no secret with its name and environment");
    }
    if (item->damaged || secret->n_values == 0) {
        return cof_import_refuse(
            reader->err, item->place, "the secret \"%s\" has no values; %s; take it out of the file", secret->name,
            item->damaged ? "it was damaged when it was exported" : "a secret has at least one");
    }
    return COF_OK;
}

static cof_code read_item(struct reader *reader, struct cof_place place)
{
    Coffer__V1__ImportMetadata *metadata = cof_arena_alloc(reader->arena, sizeof *metadata);
    struct item item = {.secret = cof_arena_alloc(reader->arena, sizeof *item.secret), .place = place};
    if (metadata == NULL || item.secret == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    coffer__v1__import_metadata__init(metadata);
    coffer__v1__import_secret__init(item.secret);
    item.secret->metadata = metadata;
    TRY(read_members(reader, read_item_member, &item));
    TRY(check_item(reader, &item));
    TRY(grow(reader, &reader->secrets, reader->count, &reader->room));
    reader->secrets[reader->count++] = item.secret;
    return COF_OK;
}

static cof_code read_top_member(struct reader *reader, struct cof_slice name, void *to)
{
    struct cof_json_event event;
    (void) to;
    if (!is(name, "secrets")) {
        return cof_import_json_skip(&reader->json);
    }
    TRY(cof_import_json_expect(&reader->json, COF_JSON_ARRAY, &event));
    TRY(cof_import_json_next(&reader->json, &event));
    while (event.kind == COF_JSON_OBJECT) {
        TRY(read_item(reader, event.place));
        TRY(cof_import_json_next(&reader->json, &event));
    }
    return event.kind == COF_JSON_ARRAY_END
               ? COF_OK
               : cof_import_refuse(reader->err, event.place, "an object with secret and values must stand here");
}

static cof_code read_all(struct reader *reader, struct cof_slice text)
{
    struct cof_import_source source;
    struct cof_json_event event;
    TRY(cof_import_source_open(text, reader->arena, reader->err, &source));
    cof_import_json_init(&reader->json, &source, NULL);
    TRY(cof_import_json_expect(&reader->json, COF_JSON_OBJECT, &event));
    TRY(read_members(reader, read_top_member, NULL));
    return cof_import_json_next(&reader->json, &event);
}

/* --- Where they go ---------------------------------------------------------------------------------------------- */

/* OLD=NEW for every environment. Names are compared with those of the file, so that two can be exchanged. */
static cli_exit rename_all(const struct cli *cli, const struct reader *reader)
{
    for (size_t i = 0; i < reader->count; i++) {
        char *before = reader->secrets[i]->name;
        for (size_t k = 0; k < cli->renamed.count; k++) {
            char *text = cli->renamed.items[k];
            char *equals = strrchr(text, '=');
            if (equals == NULL || equals == text || equals[1] == '\0') {
                return cli_usage("--rename 'my secret=my-secret'", "--rename wants OLD=NEW");
            }
            if (strlen(before) == (size_t) (equals - text) && strncmp(before, text, strlen(before)) == 0) {
                reader->secrets[i]->name = equals + 1;
            }
        }
    }
    return CLI_OK;
}

cli_exit import_server_read(const struct cli *cli, struct import_file *file, struct cof_slice text,
                            Coffer__V1__ImportSecretsRequest *request)
{
    struct cof_error err = {0};
    struct reader reader = {.arena = &file->arena, .err = &err};
    if (cli->secrets.count > 0) {
        return cli_usage(NULL, "the file names its secrets; --secret is for one that does not");
    }
    if (read_all(&reader, text) != COF_OK) {
        return import_fail(cli->arguments[0], &err);
    }
    for (size_t i = 0; cli->environments.count > 0 && i < reader.count; i++) {
        reader.secrets[i]->environment = cli->environments.items[0];
    }
    request->secrets = reader.secrets;
    request->n_secrets = reader.count;
    return rename_all(cli, &reader);
}
