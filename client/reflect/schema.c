#include "client/reflect/schema.h"

#include <stdlib.h>

#include <google/protobuf/descriptor.pb-c.h>

#include "common/name.h"
#include "common/wire.h"

typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__FieldDescriptorProto field_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__ServiceDescriptorProto service_proto;
typedef Google__Protobuf__MethodDescriptorProto method_proto;
typedef Google__Protobuf__SourceCodeInfo__Location location_proto;

/* Numbers of the fields that paths in source information name. */
enum { FILE_MESSAGE = 4, FILE_ENUM = 5, FILE_SERVICE = 6 };
enum { MESSAGE_FIELD = 2, MESSAGE_NESTED = 3, MESSAGE_ENUM = 4, MESSAGE_ONEOF = 8 };
enum { ENUM_VALUE = 2, SERVICE_METHOD = 2 };

enum { PATH_MAX_PARTS = 2 * COF_WIRE_DEPTH, FIELD_NUMBER_MAX = 536870911, NEAR = 3 };

/* A schema that is being read: where in which file, and the entries so far. Names of types are linked at the end. */
struct build {
    struct cof_arena *arena;
    struct cof_error *err;
    struct schema_entry *entries;
    size_t count;
    const file_proto *file;
    int32_t path[PATH_MAX_PARTS];
    size_t depth;
};

static const char *const type_names[] = {
#define TYPE(id, number, name, wire) [number] = (name),
#include "client/reflect/type.def"
#undef TYPE
};

static const wire_type type_wires[] = {
#define TYPE(id, number, name, wire) [number] = WIRE_##wire,
#include "client/reflect/type.def"
#undef TYPE
};

wire_type schema_wire(schema_type type)
{
    return type_wires[type];
}

const char *schema_type_name(const struct schema_field *field)
{
    return field->of == NULL ? type_names[field->type] : field->of->name;
}

/* --- Names and comments --------------------------------------------------------------------------------------- */

static bool is_word(const char *text, bool dots)
{
    bool begins = true;
    for (; text != NULL && *text != '\0'; text++) {
        const char letter = (char) (*text | 0x20);
        const bool digit = *text >= '0' && *text <= '9';
        const bool allowed = (letter >= 'a' && letter <= 'z') || *text == '_' || (digit && !begins);
        if (!allowed && !(dots && !begins && *text == '.')) {
            return false;
        }
        begins = *text == '.';
    }
    return text != NULL && !begins;
}

static cof_code refuse(const struct build *build, const char *problem)
{
    return cof_fail(build->err, COF_REASON_REPLY_INVALID,
                    "the server's descriptors cannot be used: %s; a newer coffer may understand them", problem);
}

static cof_code check_name(const struct build *build, const char *name)
{
    return is_word(name, false) ? COF_OK : refuse(build, "something has a name that is none");
}

static void enter(struct build *build, int32_t field, size_t index)
{
    build->path[build->depth++] = field;
    build->path[build->depth++] = (int32_t) index;
}

static void leave(struct build *build)
{
    build->depth -= 2;
}

/* The comment before what the path names; one of the descriptors' own strings, or "". */
static const char *comment_here(const struct build *build)
{
    const Google__Protobuf__SourceCodeInfo *info = build->file->source_code_info;
    for (size_t i = 0; info != NULL && i < info->n_location; i++) {
        const location_proto *location = info->location[i];
        if (location->leading_comments != NULL && location->n_path == build->depth &&
            memcmp(location->path, build->path, build->depth * sizeof build->path[0]) == 0) {
            return location->leading_comments;
        }
    }
    return "";
}

static const char *comment_of(struct build *build, int32_t field, size_t index)
{
    enter(build, field, index);
    const char *comment = comment_here(build);
    leave(build);
    return comment;
}

/* The next entry: "SCOPE.NAME". Its comment is that of the path. */
static cof_code add_entry(struct build *build, schema_kind kind, const char *scope, const char *name,
                          struct schema_entry **ret_entry)
{
    TRY(check_name(build, name));
    struct schema_entry *entry = &build->entries[build->count];
    const char *between = kind == SCHEMA_METHOD ? "/" : ".";
    *entry = (struct schema_entry){.kind = kind, .comment = comment_here(build)};
    entry->name = cof_arena_format(build->arena, "%s%s%s", scope, scope[0] == '\0' ? "" : between, name);
    if (entry->name == NULL) {
        return cof_arena_exhausted(build->err);
    }
    build->count++;
    *ret_entry = entry;
    return COF_OK;
}

/* --- Fields --------------------------------------------------------------------------------------------------- */

static bool is_proto3(const struct build *build)
{
    return build->file->syntax != NULL && strcmp(build->file->syntax, "proto3") == 0;
}

static bool is_packed(const struct build *build, const field_proto *proto, const struct schema_field *field)
{
    if (!field->repeated || schema_wire(field->type) == WIRE_BYTES) {
        return false;
    }
    return proto->options != NULL && proto->options->has_packed ? proto->options->packed : is_proto3(build);
}

/* json_name is any text that its author wants: here one that can be shown and put in quotes as it is. */
static bool is_json_name(const char *name)
{
    for (const char *at = name; at != NULL && *at != '\0'; at++) {
        if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\') {
            return false;
        }
    }
    return name != NULL && name[0] != '\0';
}

static cof_code check_field(const struct build *build, const message_proto *message, const field_proto *proto)
{
    TRY(check_name(build, proto->name));
    if (!is_json_name(proto->json_name)) {
        return refuse(build, "a field has no name for JSON");
    }
    if (!proto->has_number || proto->number < 1 || proto->number > FIELD_NUMBER_MAX) {
        return refuse(build, "a field has no number");
    }
    if (!proto->has_type || proto->type < 1 || (size_t) proto->type >= COF_COUNT(type_names) ||
        type_names[proto->type] == NULL) {
        return refuse(build, "a field has a type that is not known");
    }
    if (proto->has_oneof_index &&
        (proto->oneof_index < 0 || (size_t) proto->oneof_index >= message->n_oneof_decl)) {
        return refuse(build, "a field is of a oneof that is not there");
    }
    return COF_OK;
}

static cof_code fill_field(struct build *build, const message_proto *message, const field_proto *proto,
                           struct schema_field *field)
{
    TRY(check_field(build, message, proto));
    *field = (struct schema_field){
        .name = proto->name,
        .json_name = proto->json_name,
        .number = (uint32_t) proto->number,
        .type = (schema_type) proto->type,
        .oneof = proto->has_oneof_index && !proto->proto3_optional ? proto->oneof_index : SCHEMA_NO_ONEOF,
        .repeated = proto->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED,
        .optional = proto->proto3_optional,
    };
    field->packed = is_packed(build, proto, field);
    field->presence =
        !field->repeated && (proto->has_oneof_index || field->type == SCHEMA_TYPE_MESSAGE || !is_proto3(build));
    return COF_OK;
}

static cof_code fill_fields(struct build *build, const message_proto *proto, struct schema_entry *entry)
{
    struct schema_field *fields = cof_arena_array(build->arena, proto->n_field, sizeof *fields);
    struct schema_oneof *oneofs = cof_arena_array(build->arena, proto->n_oneof_decl, sizeof *oneofs);
    if (fields == NULL || oneofs == NULL) {
        return cof_arena_exhausted(build->err);
    }
    for (size_t i = 0; i < proto->n_oneof_decl; i++) {
        TRY(check_name(build, proto->oneof_decl[i]->name));
        oneofs[i] = (struct schema_oneof){proto->oneof_decl[i]->name, comment_of(build, MESSAGE_ONEOF, i)};
    }
    for (size_t i = 0; i < proto->n_field; i++) {
        TRY(fill_field(build, proto, proto->field[i], &fields[i]));
        fields[i].comment = comment_of(build, MESSAGE_FIELD, i);
    }
    entry->descriptor = &proto->base;
    entry->fields = fields;
    entry->field_count = proto->n_field;
    entry->oneofs = oneofs;
    entry->oneof_count = proto->n_oneof_decl;
    return COF_OK;
}

/* --- Entries -------------------------------------------------------------------------------------------------- */

static cof_code add_enum(struct build *build, const char *scope, const enum_proto *proto)
{
    struct schema_entry *entry = NULL;
    TRY(add_entry(build, SCHEMA_ENUM, scope, proto->name, &entry));
    struct schema_value *values = cof_arena_array(build->arena, proto->n_value, sizeof *values);
    if (values == NULL) {
        return cof_arena_exhausted(build->err);
    }
    for (size_t i = 0; i < proto->n_value; i++) {
        TRY(check_name(build, proto->value[i]->name));
        values[i] =
            (struct schema_value){proto->value[i]->name, comment_of(build, ENUM_VALUE, i), proto->value[i]->number};
    }
    entry->values = values;
    entry->value_count = proto->n_value;
    return COF_OK;
}

static cof_code add_enums(struct build *build, const char *scope, int32_t field, enum_proto *const *protos,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enter(build, field, i);
        TRY(add_enum(build, scope, protos[i]));
        leave(build);
    }
    return COF_OK;
}

static schema_special special_of(const char *name)
{
    static const struct {
        const char *name;
        schema_special special;
    } rows[] = {{"google.protobuf.Timestamp", SCHEMA_TIMESTAMP},
                {"google.protobuf.Duration", SCHEMA_DURATION},
                {"google.protobuf.FieldMask", SCHEMA_FIELD_MASK}};
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return rows[i].special;
        }
    }
    return SCHEMA_PLAIN;
}

/* The scan of the descriptors has bounded how deep messages nest. */
static cof_code add_messages(struct build *build, const char *scope, int32_t field, message_proto *const *protos,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const message_proto *proto = protos[i];
        struct schema_entry *entry = NULL;
        enter(build, field, i);
        TRY(add_entry(build, SCHEMA_MESSAGE, scope, proto->name, &entry));
        entry->special = special_of(entry->name);
        entry->is_map = proto->options != NULL && proto->options->map_entry;
        TRY(fill_fields(build, proto, entry));
        TRY(add_messages(build, entry->name, MESSAGE_NESTED, proto->nested_type, proto->n_nested_type));
        TRY(add_enums(build, entry->name, MESSAGE_ENUM, proto->enum_type, proto->n_enum_type));
        leave(build);
    }
    return COF_OK;
}

static cof_code add_service(struct build *build, const char *scope, const service_proto *proto)
{
    struct schema_entry *service = NULL;
    struct schema_entry *method = NULL;
    TRY(add_entry(build, SCHEMA_SERVICE, scope, proto->name, &service));
    for (size_t i = 0; i < proto->n_method; i++) {
        enter(build, SERVICE_METHOD, i);
        TRY(add_entry(build, SCHEMA_METHOD, service->name, proto->method[i]->name, &method));
        method->descriptor = &proto->method[i]->base;
        method->streams = proto->method[i]->client_streaming || proto->method[i]->server_streaming;
        leave(build);
    }
    return COF_OK;
}

static cof_code add_file(struct build *build, const file_proto *file)
{
    const char *package = file->package == NULL ? "" : file->package;
    build->file = file;
    build->depth = 0;
    if (package[0] != '\0' && !is_word(package, true)) {
        return refuse(build, "a package has a name that is none");
    }
    if (file->syntax != NULL && strcmp(file->syntax, "proto2") != 0 && !is_proto3(build)) {
        return refuse(build, "a file is written in a syntax that is not known");
    }
    TRY(add_messages(build, package, FILE_MESSAGE, file->message_type, file->n_message_type));
    TRY(add_enums(build, package, FILE_ENUM, file->enum_type, file->n_enum_type));
    for (size_t i = 0; i < file->n_service; i++) {
        enter(build, FILE_SERVICE, i);
        TRY(add_service(build, package, file->service[i]));
        leave(build);
    }
    return COF_OK;
}

/* --- Counting and linking ------------------------------------------------------------------------------------- */

static size_t count_messages(message_proto *const *protos, size_t count)
{
    size_t total = count;
    for (size_t i = 0; i < count; i++) {
        total += protos[i]->n_enum_type + count_messages(protos[i]->nested_type, protos[i]->n_nested_type);
    }
    return total;
}

static size_t count_entries(const Google__Protobuf__FileDescriptorSet *set)
{
    size_t total = 0;
    for (size_t i = 0; i < set->n_file; i++) {
        const file_proto *file = set->file[i];
        total += count_messages(file->message_type, file->n_message_type) + file->n_enum_type + file->n_service;
        for (size_t s = 0; s < file->n_service; s++) {
            total += file->service[s]->n_method;
        }
    }
    return total;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct schema_entry *) a)->name, ((const struct schema_entry *) b)->name);
}

static struct schema_entry *entry_of(const struct build *build, const char *name)
{
    const struct schema_entry key = {.name = name};
    return bsearch(&key, build->entries, build->count, sizeof key, by_name);
}

/* The message or enum of ".package.Name", which is how protoc writes names of types. */
static cof_code link_type(const struct build *build, const char *type_name, schema_kind kind,
                          const struct schema_entry **ret_entry)
{
    const struct schema_entry *entry =
        type_name == NULL || type_name[0] != '.' ? NULL : entry_of(build, type_name + 1);
    if (entry == NULL || entry->kind != kind) {
        return refuse(build, "something is of a type that is not there");
    }
    *ret_entry = entry;
    return COF_OK;
}

static cof_code check_map(const struct build *build, const struct schema_entry *entry)
{
    const struct schema_field *fields = entry->fields;
    if (entry->field_count != 2 || fields[0].number != 1 || fields[1].number != 2 || fields[0].repeated ||
        fields[1].repeated || fields[0].of != NULL || fields[0].type == SCHEMA_TYPE_BYTES ||
        fields[0].type == SCHEMA_TYPE_DOUBLE || fields[0].type == SCHEMA_TYPE_FLOAT) {
        return refuse(build, "a map is none");
    }
    return COF_OK;
}

static cof_code link_fields(const struct build *build, const struct schema_entry *entry)
{
    const message_proto *proto = (const message_proto *) (const void *) entry->descriptor;
    for (size_t i = 0; i < entry->field_count; i++) {
        struct schema_field *field = &entry->fields[i];
        if (field->type == SCHEMA_TYPE_MESSAGE || field->type == SCHEMA_TYPE_ENUM) {
            const schema_kind kind = field->type == SCHEMA_TYPE_ENUM ? SCHEMA_ENUM : SCHEMA_MESSAGE;
            TRY(link_type(build, proto->field[i]->type_name, kind, &field->of));
        }
    }
    return entry->is_map ? check_map(build, entry) : COF_OK;
}

static cof_code link_method(const struct build *build, struct schema_entry *method)
{
    const method_proto *proto = (const method_proto *) (const void *) method->descriptor;
    TRY(link_type(build, proto->input_type, SCHEMA_MESSAGE, &method->input));
    return link_type(build, proto->output_type, SCHEMA_MESSAGE, &method->output);
}

static cof_code link_all(const struct build *build)
{
    for (size_t i = 0; i < build->count; i++) {
        struct schema_entry *entry = &build->entries[i];
        if (entry->kind == SCHEMA_MESSAGE) {
            TRY(link_fields(build, entry));
        } else if (entry->kind == SCHEMA_METHOD) {
            TRY(link_method(build, entry));
        }
    }
    return COF_OK;
}

static cof_code sort(struct build *build)
{
    qsort(build->entries, build->count, sizeof *build->entries, by_name);
    for (size_t i = 1; i < build->count; i++) {
        if (by_name(&build->entries[i - 1], &build->entries[i]) == 0) {
            return refuse(build, "two things have the same name");
        }
    }
    return COF_OK;
}

static cof_code read_set(struct build *build, const Google__Protobuf__FileDescriptorSet *set)
{
    build->entries = cof_arena_array(build->arena, count_entries(set), sizeof *build->entries);
    if (build->entries == NULL) {
        return cof_arena_exhausted(build->err);
    }
    for (size_t i = 0; i < set->n_file; i++) {
        TRY(add_file(build, set->file[i]));
    }
    TRY(sort(build));
    return link_all(build);
}

cof_code schema_read(struct cof_slice set, struct cof_arena *arena, struct schema *ret_schema,
                     struct cof_error *err)
{
    struct build build = {.arena = arena, .err = err};
    ProtobufCMessage *message = NULL;
    struct cof_error why = {0};
    const cof_code code =
        cof_wire_unpack(&google__protobuf__file_descriptor_set__descriptor, set, arena, &message, &why);
    if (code == COF_RESOURCE_EXHAUSTED) {
        return cof_arena_exhausted(err);
    }
    if (code != COF_OK) {
        return refuse(&build, "they cannot be decoded");
    }
    TRY(read_set(&build, (const Google__Protobuf__FileDescriptorSet *) (const void *) message));
    *ret_schema = (struct schema){build.entries, build.count};
    return COF_OK;
}

/* --- Looking up ----------------------------------------------------------------------------------------------- */

/* Whether `name` is the end of the full name, behind a dot or a slash. */
static bool is_tail(const char *full, struct cof_slice name)
{
    const size_t length = strlen(full);
    const char before = length > name.len ? full[length - name.len - 1] : 0;
    return (before == '.' || before == '/') && memcmp(full + length - name.len, name.data, name.len) == 0;
}

const struct schema_entry *schema_find(const struct schema *schema, struct cof_slice name)
{
    const struct schema_entry *found = NULL;
    for (size_t i = 0; i < schema->count; i++) {
        const struct schema_entry *entry = &schema->entries[i];
        if (cof_slice_equal(cof_slice_text(entry->name), name)) {
            return entry;
        }
    }
    for (size_t i = 0; i < schema->count && name.len > 0; i++) {
        if (is_tail(schema->entries[i].name, name)) {
            if (found != NULL) {
                return NULL;
            }
            found = &schema->entries[i];
        }
    }
    return found;
}

/* Of a short name half must be right. */
static unsigned distance(const char *name, struct cof_slice given)
{
    const struct cof_slice text = cof_slice_text(name);
    const unsigned most = given.len / 2 < NEAR ? (unsigned) given.len / 2 : NEAR;
    const unsigned far = text.len > COF_KEY_NAME_MAX ? NEAR + 1 : cof_name_distance(text, given, most);
    return far > most ? NEAR + 1 : far;
}

/* How far it is to the name, or to an end of it, for people leave out what stands before. */
static unsigned distance_of(const char *full, struct cof_slice given)
{
    unsigned best = distance(full, given);
    for (const char *at = full; *at != '\0'; at++) {
        const unsigned far = *at == '.' || *at == '/' ? distance(at + 1, given) : best;
        best = far < best ? far : best;
    }
    return best;
}

const char *schema_near(const struct schema *schema, struct cof_slice name)
{
    const char *found = NULL;
    unsigned best = NEAR + 1;
    for (size_t i = 0; i < schema->count && name.len <= COF_KEY_NAME_MAX; i++) {
        const unsigned far = distance_of(schema->entries[i].name, name);
        found = far < best ? schema->entries[i].name : found;
        best = far < best ? far : best;
    }
    return found;
}
