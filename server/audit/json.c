#include "server/audit/json.h"

#include <inttypes.h>
#include <time.h>

#include "common/encode.h"
#include "common/name.h"
#include "common/uuid.h"

/* Protobuf's JSON mapping for the few types that a record has, but with snake_case names; IDs are UUIDs. */

static void put_text(FILE *to, const char *text)
{
    if (!cof_text_valid(cof_slice_text(text))) {
        (void) fputs("\"\\ufffd\"", to);
        return;
    }
    (void) fputc('"', to);
    for (const char *at = text; *at != '\0'; at++) {
        const unsigned char byte = (unsigned char) *at;
        if (byte < ' ') {
            (void) fprintf(to, "\\u%04x", byte);
        } else {
            (void) fprintf(to, byte == '"' || byte == '\\' ? "\\%c" : "%c", byte);
        }
    }
    (void) fputc('"', to);
}

static void put_bytes(FILE *to, const ProtobufCBinaryData *bytes)
{
    struct cof_uuid uuid;
    char text[COF_UUID_TEXT] = "";
    if (bytes->len == sizeof uuid.bytes) {
        memcpy(uuid.bytes, bytes->data, sizeof uuid.bytes);
        cof_uuid_format(&uuid, text);
    }
    put_text(to, text);
}

static void put_time(FILE *to, const Google__Protobuf__Timestamp *time)
{
    char text[32];
    struct tm parts;
    const time_t seconds = (time_t) time->seconds;
    if (gmtime_r(&seconds, &parts) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts) == 0) {
        (void) fputs("null", to);
        return;
    }
    (void) fprintf(to, "\"%s.%06" PRId32 "Z\"", text, time->nanos / 1000);
}

/* Its name; the number of one that a newer server wrote. */
static void put_enum(FILE *to, const ProtobufCFieldDescriptor *field, int number)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(field->descriptor, number);
    if (value == NULL) {
        (void) fprintf(to, "%d", number);
    } else {
        put_text(to, value->name);
    }
}

static void put_message(FILE *to, const ProtobufCMessage *message, bool *first);

static void put_value(FILE *to, const ProtobufCFieldDescriptor *field, const void *value)
{
    bool first = true;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        put_text(to, *(char *const *) value);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        put_bytes(to, value);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        (void) fputs(*(const protobuf_c_boolean *) value ? "true" : "false", to);
        return;
    case PROTOBUF_C_TYPE_UINT64:
        (void) fprintf(to, "%" PRIu64, *(const uint64_t *) value);
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT32:
        (void) fprintf(to, "%" PRIu32, *(const uint32_t *) value);
        return;
    case PROTOBUF_C_TYPE_ENUM:
        put_enum(to, field, *(const int *) value);
        return;
    default:
        break;
    }
    if (field->descriptor == &google__protobuf__timestamp__descriptor) {
        put_time(to, *(Google__Protobuf__Timestamp *const *) value);
        return;
    }
    (void) fputc('{', to);
    put_message(to, *(ProtobufCMessage *const *) value, &first);
    (void) fputc('}', to);
}

static void put_list(FILE *to, const ProtobufCFieldDescriptor *field, const void *const *items, size_t count)
{
    (void) fputc('[', to);
    for (size_t i = 0; i < count; i++) {
        (void) fputs(i == 0 ? "" : ",", to);
        put_value(to, field, &items[i]); /* texts and messages only: pointers */
    }
    (void) fputc(']', to);
}

/* As proto3 does, fields with their default value are left out. */
static bool is_set(const ProtobufCFieldDescriptor *field, const uint8_t *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return (*(char *const *) (const void *) at)[0] != '\0';
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *) (const void *) at)->len > 0;
    case PROTOBUF_C_TYPE_BOOL:
        return *(const protobuf_c_boolean *) (const void *) at != 0;
    case PROTOBUF_C_TYPE_UINT64:
        return *(const uint64_t *) (const void *) at != 0;
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(ProtobufCMessage *const *) (const void *) at != NULL;
    default:
        return *(const uint32_t *) (const void *) at != 0;
    }
}

static void put_name(FILE *to, const ProtobufCFieldDescriptor *field, bool *first)
{
    (void) fputs(*first ? "" : ",", to);
    put_text(to, field->name);
    (void) fputc(':', to);
    *first = false;
}

static void put_message(FILE *to, const ProtobufCMessage *message, bool *first)
{
    const uint8_t *bytes = (const uint8_t *) message;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const uint8_t *at = bytes + field->offset;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            const size_t count = *(const size_t *) (const void *) (bytes + field->quantifier_offset);
            if (count > 0) {
                put_name(to, field, first);
                put_list(to, field, *(const void *const *const *) (const void *) at, count);
            }
        } else if (is_set(field, at)) {
            put_name(to, field, first);
            put_value(to, field, at);
        }
    }
}

static cof_code unpack(struct cof_slice text, uint64_t number, Coffer__Audit__V1__Record **ret_record,
                       struct cof_error *err)
{
    *ret_record = coffer__audit__v1__record__unpack(NULL, text.len, text.data);
    return *ret_record != NULL
               ? COF_OK
               : cof_fail(err, COF_REASON_CORRUPTED, "record %" PRIu64 " is no message of coffer.audit.v1", number);
}

/* Behind what stands in front already. */
static void put_record(FILE *to, Coffer__Audit__V1__Record *record)
{
    bool first = false;
    put_message(to, &record->base, &first);
    (void) fputs("}\n", to);
    coffer__audit__v1__record__free_unpacked(record, NULL);
}

cof_code audit_json(FILE *to, uint64_t segment, uint64_t sequence, struct cof_slice text, struct cof_error *err)
{
    Coffer__Audit__V1__Record *record;
    TRY(unpack(text, sequence, &record, err));
    (void) fprintf(to, "{\"segment\":%" PRIu64 ",\"sequence\":%" PRIu64, segment, sequence);
    put_record(to, record);
    return COF_OK;
}

cof_code audit_json_write(FILE *to, uint64_t workspace_revision, struct cof_slice text, struct cof_error *err)
{
    Coffer__Audit__V1__Record *record;
    TRY(unpack(text, workspace_revision, &record, err));
    (void) fprintf(to, "{\"workspace_revision\":%" PRIu64, workspace_revision);
    put_record(to, record);
    return COF_OK;
}
