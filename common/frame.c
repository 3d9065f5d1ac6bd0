#include "common/frame.h"

#include <stddef.h>
#include <stdio.h>

#include <google/rpc/error_details.pb-c.h>

#include "common/name.h"
#include "common/varint.h"

/* Fields of the frames, by their numbers in proto/coffer/rpc/v1/frame.proto. */
enum {
    REQUEST_REVISION = 1,
    REQUEST_METHOD = 2,
    REQUEST_PAYLOAD = 3,
    REQUEST_TIMEOUT = 4,
    REQUEST_ID = 5,
    REQUEST_ATTEMPT = 6,
    REQUEST_METADATA = 7,
    RESPONSE_REVISION = 1,
    RESPONSE_CODE = 2,
    RESPONSE_MESSAGE = 3,
    RESPONSE_PAYLOAD = 4,
    RESPONSE_DETAILS = 5,
    RESPONSE_ID = 6,
    RESPONSE_SERVER_TIME = 7,
    RESPONSE_METADATA = 8,
    ENTRY_KEY = 1,
    ENTRY_VALUE = 2,
    ANY_TYPE_URL = 1,
    ANY_VALUE = 2,
};

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* What a frame's decoder knows of one of its fields. */
struct frame_field {
    uint32_t number;
    wire_type type;
    bool text;
    void *place; /* uint32_t for numbers, struct cof_slice for bytes; NULL: repeated */
};

static cof_code invalid(struct cof_error *err, const char *what)
{
    return cof_fail(err, COF_REASON_FRAME_INVALID, "the request frame cannot be decoded: %s; %s", what,
                    cof_reason_next_step(COF_REASON_FRAME_INVALID));
}

static cof_code bad_metadata(struct cof_error *err, const char *what)
{
    return cof_fail(err, COF_REASON_METADATA_INVALID, "the frame's metadata: %s; %s", what,
                    cof_reason_next_step(COF_REASON_METADATA_INVALID));
}

static bool key_valid(struct cof_slice key)
{
    if (key.len == 0 || key.len > COF_FRAME_METADATA_KEY) {
        return false;
    }
    for (size_t i = 0; i < key.len; i++) {
        const uint8_t byte = key.data[i];
        const bool alnum = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9');
        if (!alnum && byte != '.' && byte != '_' && byte != '-') {
            return false;
        }
    }
    return true;
}

static bool read_entry(struct cof_slice bytes, struct cof_metadata_entry *entry)
{
    bool seen[3] = {false};
    *entry = (struct cof_metadata_entry){0};
    while (bytes.len > 0) {
        struct wire_field field;
        if (!wire_take(&bytes, &field)) {
            return false;
        }
        if (field.number > ENTRY_VALUE) {
            continue;
        }
        if (field.type != WIRE_BYTES || seen[field.number]) {
            return false;
        }
        seen[field.number] = true;
        *(field.number == ENTRY_KEY ? &entry->key : &entry->value) = field.bytes;
    }
    return true;
}

static cof_code add_entry(struct cof_slice bytes, struct cof_metadata *metadata, struct cof_error *err)
{
    size_t total = 0;
    if (metadata->count == COF_FRAME_METADATA_MAX) {
        return bad_metadata(err, "it has more than 32 entries");
    }
    struct cof_metadata_entry *entry = &metadata->entries[metadata->count];
    if (!read_entry(bytes, entry)) {
        return invalid(err, "a metadata entry is cut or has a field twice");
    }
    if (!key_valid(entry->key)) {
        return bad_metadata(err, "a key is empty, too long or has a character that is not allowed");
    }
    metadata->count++;
    for (uint32_t i = 0; i < metadata->count; i++) {
        total += metadata->entries[i].key.len + metadata->entries[i].value.len;
    }
    return total <= COF_FRAME_METADATA_BYTES ? COF_OK : bad_metadata(err, "it has more than 8 KiB");
}

static cof_code store_field(const struct frame_field *known, const struct wire_field *field, struct cof_error *err)
{
    if (known->type == WIRE_VARINT) {
        if (field->value > UINT32_MAX) {
            return invalid(err, "a number is too large");
        }
        *(uint32_t *) known->place = (uint32_t) field->value;
        return COF_OK;
    }
    *(struct cof_slice *) known->place = field->bytes;
    if (known->text && !cof_text_valid(field->bytes)) {
        return cof_fail(err, COF_REASON_STRING_INVALID, "the frame: %s; %s",
                        cof_reason_meaning(COF_REASON_STRING_INVALID),
                        cof_reason_next_step(COF_REASON_STRING_INVALID));
    }
    return COF_OK;
}

static const struct frame_field *known_field(const struct frame_field *fields, size_t count, uint32_t number)
{
    for (size_t i = 0; i < count; i++) {
        if (fields[i].number == number) {
            return &fields[i];
        }
    }
    return NULL;
}

/* What is done with a repeated field. */
typedef cof_code repeated_fn(void *frame, const struct wire_field *field, struct cof_error *err);

static cof_code take_known(const struct frame_field *known, const struct wire_field *field, uint32_t *seen,
                           repeated_fn *repeated, void *frame, struct cof_error *err)
{
    if (field->type != known->type) {
        return invalid(err, "a field has the wrong wire type");
    }
    if (known->place == NULL) {
        return repeated(frame, field, err);
    }
    if ((*seen & 1U << known->number) != 0) {
        return invalid(err, "a field occurs twice");
    }
    *seen |= 1U << known->number;
    return store_field(known, field, err);
}

static cof_code read_fields(struct cof_slice bytes, const struct frame_field *fields, size_t count,
                            repeated_fn *repeated, void *frame, struct cof_error *err)
{
    uint32_t seen = 0;
    while (bytes.len > 0) {
        struct wire_field field;
        if (!wire_take(&bytes, &field)) {
            return invalid(err, "it is cut, or it is no protobuf message");
        }
        const struct frame_field *known = known_field(fields, count, field.number);
        if (known != NULL) {
            TRY(take_known(known, &field, &seen, repeated, frame, err));
        }
    }
    return COF_OK;
}

static cof_code take_request_repeated(void *frame, const struct wire_field *field, struct cof_error *err)
{
    struct cof_request_frame *request = frame;
    return add_entry(field->bytes, &request->metadata, err);
}

static cof_code check_request(const struct cof_request_frame *frame, struct cof_error *err)
{
    if (frame->revision != COF_FRAME_REVISION) {
        cof_ignore(cof_fail(err, COF_REASON_FRAME_REVISION_UNSUPPORTED,
                            "the frame has revision %u; this server speaks revision %d", frame->revision,
                            COF_FRAME_REVISION));
        cof_ignore(cof_error_fact(err, "min", "%d", COF_FRAME_REVISION));
        return cof_error_fact(err, "max", "%d", COF_FRAME_REVISION);
    }
    if (frame->method.len > COF_FRAME_METHOD_MAX) {
        return invalid(err, "the method's name is too long");
    }
    if (frame->request_id.len != 0 && frame->request_id.len != COF_FRAME_REQUEST_ID) {
        return cof_fail(err, COF_REASON_REQUEST_ID_INVALID, "the request ID has %zu bytes instead of 16; %s",
                        frame->request_id.len, cof_reason_next_step(COF_REASON_REQUEST_ID_INVALID));
    }
    return COF_OK;
}

cof_code cof_request_frame_decode(struct cof_slice bytes, struct cof_request_frame *ret_frame,
                                  struct cof_error *err)
{
    struct cof_request_frame *frame = ret_frame;
    memset(frame, 0, offsetof(struct cof_request_frame, metadata.entries));
    const struct frame_field fields[] = {
        {REQUEST_REVISION, WIRE_VARINT, false, &frame->revision},
        {REQUEST_METHOD, WIRE_BYTES, true, &frame->method},
        {REQUEST_PAYLOAD, WIRE_BYTES, false, &frame->payload},
        {REQUEST_TIMEOUT, WIRE_VARINT, false, &frame->timeout_ms},
        {REQUEST_ID, WIRE_BYTES, false, &frame->request_id},
        {REQUEST_ATTEMPT, WIRE_VARINT, false, &frame->attempt},
        {REQUEST_METADATA, WIRE_BYTES, false, NULL},
    };
    TRY(read_fields(bytes, fields, COF_COUNT(fields), take_request_repeated, frame, err));
    return check_request(frame, err);
}

static cof_code take_response_repeated(void *frame, const struct wire_field *field, struct cof_error *err)
{
    struct cof_response_frame *response = frame;
    if (field->number == RESPONSE_METADATA) {
        return add_entry(field->bytes, &response->metadata, err);
    }
    if (response->detail_count == COF_FRAME_DETAILS_MAX) {
        return invalid(err, "it has too many details");
    }
    response->details[response->detail_count++] = field->bytes;
    return COF_OK;
}

cof_code cof_response_frame_decode(struct cof_slice bytes, struct cof_response_frame *ret_frame,
                                   struct cof_error *err)
{
    struct cof_response_frame *frame = ret_frame;
    uint32_t code = 0;
    memset(frame, 0, sizeof *frame);
    const struct frame_field fields[] = {
        {RESPONSE_REVISION, WIRE_VARINT, false, &frame->revision},
        {RESPONSE_CODE, WIRE_VARINT, false, &code},
        {RESPONSE_MESSAGE, WIRE_BYTES, true, &frame->message},
        {RESPONSE_PAYLOAD, WIRE_BYTES, false, &frame->payload},
        {RESPONSE_DETAILS, WIRE_BYTES, false, NULL},
        {RESPONSE_ID, WIRE_BYTES, false, &frame->request_id},
        {RESPONSE_SERVER_TIME, WIRE_VARINT, false, &frame->server_time_us},
        {RESPONSE_METADATA, WIRE_BYTES, false, NULL},
    };
    const cof_code decoded = read_fields(bytes, fields, COF_COUNT(fields), take_response_repeated, frame, err);
    frame->code = (int32_t) code;
    if (decoded != COF_OK || frame->revision != COF_FRAME_REVISION) {
        return cof_fail(err, COF_REASON_REPLY_INVALID, "%s; %s", cof_reason_meaning(COF_REASON_REPLY_INVALID),
                        cof_reason_next_step(COF_REASON_REPLY_INVALID));
    }
    return COF_OK;
}

bool cof_metadata_find(const struct cof_metadata *metadata, const char *key, struct cof_slice *ret_value)
{
    const struct cof_slice wanted = cof_slice_text(key);
    for (uint32_t i = 0; i < metadata->count; i++) {
        if (cof_slice_equal(metadata->entries[i].key, wanted)) {
            *ret_value = metadata->entries[i].value;
            return true;
        }
    }
    return false;
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

static size_t entry_size(const struct cof_metadata_entry *entry)
{
    return wire_bytes_size(entry->key.len) + wire_bytes_size(entry->value.len);
}

static size_t metadata_size(const struct cof_metadata *metadata)
{
    size_t size = 0;
    for (uint32_t i = 0; i < metadata->count; i++) {
        const size_t entry = entry_size(&metadata->entries[i]);
        size += 1 + varint_size(entry) + entry;
    }
    return size;
}

static uint8_t *put_metadata(uint8_t *to, uint32_t number, const struct cof_metadata *metadata)
{
    for (uint32_t i = 0; i < metadata->count; i++) {
        to = wire_put_header(to, number, entry_size(&metadata->entries[i]));
        to = wire_put_bytes(to, ENTRY_KEY, metadata->entries[i].key);
        to = wire_put_bytes(to, ENTRY_VALUE, metadata->entries[i].value);
    }
    return to;
}

size_t cof_request_frame_size(const struct cof_request_frame *frame)
{
    return wire_number_size(frame->revision) + wire_bytes_size(frame->method.len) +
           wire_bytes_size(frame->payload.len) + wire_number_size(frame->timeout_ms) +
           wire_bytes_size(frame->request_id.len) + wire_number_size(frame->attempt) +
           metadata_size(&frame->metadata);
}

size_t cof_request_frame_encode(const struct cof_request_frame *frame, uint8_t *to)
{
    const uint8_t *begin = to;
    to = wire_put_number(to, REQUEST_REVISION, frame->revision);
    to = wire_put_bytes(to, REQUEST_METHOD, frame->method);
    to = wire_put_bytes(to, REQUEST_PAYLOAD, frame->payload);
    to = wire_put_number(to, REQUEST_TIMEOUT, frame->timeout_ms);
    to = wire_put_bytes(to, REQUEST_ID, frame->request_id);
    to = wire_put_number(to, REQUEST_ATTEMPT, frame->attempt);
    to = put_metadata(to, REQUEST_METADATA, &frame->metadata);
    return (size_t) (to - begin);
}

/* protobuf writes a negative int32 as ten bytes. */
static uint64_t code_of(const struct cof_response_frame *frame)
{
    return (uint64_t) (int64_t) frame->code;
}

size_t cof_response_frame_size(const struct cof_response_frame *frame)
{
    size_t details = 0;
    for (uint32_t i = 0; i < frame->detail_count; i++) {
        details += 1 + varint_size(frame->details[i].len) + frame->details[i].len;
    }
    return wire_number_size(frame->revision) + wire_number_size(code_of(frame)) +
           wire_bytes_size(frame->message.len) + wire_bytes_size(frame->payload.len) + details +
           wire_bytes_size(frame->request_id.len) + wire_number_size(frame->server_time_us) +
           metadata_size(&frame->metadata);
}

static uint8_t *put_behind_payload(const struct cof_response_frame *frame, uint8_t *to)
{
    for (uint32_t i = 0; i < frame->detail_count; i++) {
        to = wire_put_header(to, RESPONSE_DETAILS, frame->details[i].len);
        memcpy(to, frame->details[i].data, frame->details[i].len);
        to += frame->details[i].len;
    }
    to = wire_put_bytes(to, RESPONSE_ID, frame->request_id);
    to = wire_put_number(to, RESPONSE_SERVER_TIME, frame->server_time_us);
    return put_metadata(to, RESPONSE_METADATA, &frame->metadata);
}

static uint8_t *put_before_payload(const struct cof_response_frame *frame, uint8_t *to)
{
    to = wire_put_number(to, RESPONSE_REVISION, frame->revision);
    to = wire_put_number(to, RESPONSE_CODE, code_of(frame));
    return wire_put_bytes(to, RESPONSE_MESSAGE, frame->message);
}

size_t cof_response_frame_encode(const struct cof_response_frame *frame, uint8_t *to)
{
    const uint8_t *begin = to;
    to = put_before_payload(frame, to);
    to = wire_put_bytes(to, RESPONSE_PAYLOAD, frame->payload);
    return (size_t) (put_behind_payload(frame, to) - begin);
}

uint8_t *cof_response_frame_encode_around(const struct cof_response_frame *frame, uint8_t *to)
{
    to = put_before_payload(frame, to);
    if (frame->payload.len > 0) {
        to = wire_put_header(to, RESPONSE_PAYLOAD, frame->payload.len);
    }
    uint8_t *payload = to;
    (void) put_behind_payload(frame, to + frame->payload.len);
    return payload;
}

/* --- Error details -------------------------------------------------------------------------------------------- */

struct detail_writer {
    struct cof_response_frame *frame;
    uint8_t *to;
    size_t left;
    size_t used;
};

/* Packs a message into an Any and adds it to the frame; leaves out what does not fit. */
static void add_detail(struct detail_writer *writer, const ProtobufCMessage *message)
{
    char type_url[96];
    (void) snprintf(type_url, sizeof type_url, "type.googleapis.com/%s", message->descriptor->name);
    const struct cof_slice url = cof_slice_text(type_url);
    const size_t length = protobuf_c_message_get_packed_size(message);
    const size_t size = wire_bytes_size(url.len) + 1 + varint_size(length) + length;
    if (size > writer->left || writer->frame->detail_count == COF_FRAME_DETAILS_MAX) {
        return;
    }
    uint8_t *at = wire_put_bytes(writer->to, ANY_TYPE_URL, url);
    at = wire_put_header(at, ANY_VALUE, length);
    (void) protobuf_c_message_pack(message, at);
    writer->frame->details[writer->frame->detail_count++] = cof_slice_of(writer->to, size);
    writer->to += size;
    writer->left -= size;
    writer->used += size;
}

/* protobuf-c's messages have no const; packing only reads. */
static char *borrowed(const char *text)
{
    char *result;
    memcpy(&result, &text, sizeof result);
    return result;
}

static void add_info(struct detail_writer *writer, const struct cof_error *err)
{
    Google__Rpc__ErrorInfo info;
    Google__Rpc__ErrorInfo__MetadataEntry entries[COF_ERROR_FACTS];
    Google__Rpc__ErrorInfo__MetadataEntry *list[COF_ERROR_FACTS];
    google__rpc__error_info__init(&info);
    info.reason = borrowed(cof_reason_name(err->reason));
    info.domain = borrowed("coffer");
    for (uint32_t i = 0; i < err->fact_count; i++) {
        google__rpc__error_info__metadata_entry__init(&entries[i]);
        entries[i].key = borrowed(err->facts[i].key);
        entries[i].value = borrowed(err->facts[i].value);
        list[i] = &entries[i];
    }
    info.metadata = list;
    info.n_metadata = err->fact_count;
    add_detail(writer, &info.base);
}

static void add_bad_request(struct detail_writer *writer, const struct cof_error *err)
{
    Google__Rpc__BadRequest message;
    Google__Rpc__BadRequest__FieldViolation violation;
    Google__Rpc__BadRequest__FieldViolation *list[] = {&violation};
    google__rpc__bad_request__init(&message);
    google__rpc__bad_request__field_violation__init(&violation);
    violation.field = borrowed(err->field);
    violation.description = borrowed(err->message);
    message.field_violations = list;
    message.n_field_violations = 1;
    add_detail(writer, &message.base);
}

static void add_retry(struct detail_writer *writer, const struct cof_error *err)
{
    Google__Rpc__RetryInfo message;
    Google__Protobuf__Duration delay;
    google__rpc__retry_info__init(&message);
    google__protobuf__duration__init(&delay);
    delay.seconds = err->retry_after_ms / 1000;
    delay.nanos = (int32_t) (err->retry_after_ms % 1000) * 1000000;
    message.retry_delay = &delay;
    add_detail(writer, &message.base);
}

static void add_precondition(struct detail_writer *writer, const struct cof_error *err)
{
    Google__Rpc__PreconditionFailure message;
    Google__Rpc__PreconditionFailure__Violation violation;
    Google__Rpc__PreconditionFailure__Violation *list[] = {&violation};
    google__rpc__precondition_failure__init(&message);
    google__rpc__precondition_failure__violation__init(&violation);
    violation.type = borrowed(cof_reason_name(err->reason));
    violation.subject = borrowed(err->fact_count > 0 ? err->facts[0].value : "");
    violation.description = borrowed(cof_reason_next_step(err->reason));
    message.violations = list;
    message.n_violations = 1;
    add_detail(writer, &message.base);
}

size_t cof_error_details(const struct cof_error *err, struct cof_response_frame *frame, uint8_t *to, size_t size)
{
    struct detail_writer writer = {.frame = frame, .left = size};
    writer.to = to;
    add_info(&writer, err);
    if (err->field[0] != '\0') {
        add_bad_request(&writer, err);
    }
    if (err->retry_after_ms != 0) {
        add_retry(&writer, err);
    }
    if (err->code == COF_FAILED_PRECONDITION) {
        add_precondition(&writer, err);
    }
    return writer.used;
}

/* --- Error details, as a client reads them -------------------------------------------------------------------- */

static bool ends_with(struct cof_slice text, const char *suffix)
{
    const size_t length = strlen(suffix);
    return text.len >= length && memcmp(text.data + text.len - length, suffix, length) == 0;
}

static void copy_text(char *to, size_t size, struct cof_slice text)
{
    size_t length = text.len < size - 1 ? text.len : size - 1;
    /* A cut text must still be valid UTF-8: the first byte left out may not continue a character. */
    while (length > 0 && length < text.len && (text.data[length] & 0xC0U) == 0x80U) {
        length--;
    }
    if (length > 0) {
        memcpy(to, text.data, length);
    }
    to[length] = '\0';
}

/* The first field of that number; empty if there is none or the message is cut. */
static struct wire_field find_field(struct cof_slice message, uint32_t number)
{
    struct wire_field field;
    while (message.len > 0 && wire_take(&message, &field)) {
        if (field.number == number) {
            return field;
        }
    }
    return (struct wire_field){0};
}

static cof_reason reason_of(struct cof_slice name)
{
    static const struct {
        const char *name;
        cof_reason reason;
    } reasons[] = {
#define REASON(symbol, number, code, meaning, next) {#symbol, COF_REASON_##symbol},
#include "common/reason.def"
#undef REASON
    };
    for (size_t i = 0; i < COF_COUNT(reasons); i++) {
        if (cof_slice_equal(cof_slice_text(reasons[i].name), name)) {
            return reasons[i].reason;
        }
    }
    return COF_REASON_NONE;
}

/* Keys of facts must be static: those that servers send are known. */
static const char *static_key(struct cof_slice key)
{
    static const char *const keys[] = {"secret", "environment", "permission", "version", "min", "max", "age_ms"};
    for (size_t i = 0; i < COF_COUNT(keys); i++) {
        if (cof_slice_equal(cof_slice_text(keys[i]), key)) {
            return keys[i];
        }
    }
    return NULL;
}

static void read_info(struct cof_slice message, struct cof_error *err)
{
    struct wire_field field;
    while (message.len > 0 && wire_take(&message, &field)) {
        if (field.number == 1) {
            err->reason = reason_of(field.bytes);
        }
        const char *key = field.number == 3 ? static_key(find_field(field.bytes, 1).bytes) : NULL;
        if (key != NULL && err->fact_count < COF_ERROR_FACTS) {
            struct cof_error_fact *fact = &err->facts[err->fact_count++];
            fact->key = key;
            copy_text(fact->value, sizeof fact->value, find_field(field.bytes, 2).bytes);
        }
    }
}

static void read_detail(struct cof_slice any, struct cof_error *err)
{
    const struct cof_slice url = find_field(any, ANY_TYPE_URL).bytes;
    const struct cof_slice value = find_field(any, ANY_VALUE).bytes;
    const struct cof_slice first = find_field(value, 1).bytes;
    if (ends_with(url, "/google.rpc.ErrorInfo")) {
        read_info(value, err);
    } else if (ends_with(url, "/google.rpc.BadRequest")) {
        copy_text(err->field, sizeof err->field, find_field(first, 1).bytes);
    } else if (ends_with(url, "/google.rpc.RetryInfo")) {
        const uint64_t ms = find_field(first, 1).value * 1000 + find_field(first, 2).value / 1000000;
        err->retry_after_ms = ms > UINT32_MAX ? UINT32_MAX : (uint32_t) ms;
    }
}

void cof_error_from_frame(const struct cof_response_frame *frame, struct cof_error *ret_err)
{
    cof_error_clear(ret_err);
    for (uint32_t i = 0; i < frame->detail_count; i++) {
        read_detail(frame->details[i], ret_err);
    }
    ret_err->code =
        frame->code >= COF_OK && frame->code <= COF_UNAUTHENTICATED ? (cof_code) frame->code : COF_UNKNOWN;
    copy_text(ret_err->message, sizeof ret_err->message, frame->message);
}
