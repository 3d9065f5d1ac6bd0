#include "server/outbound/service_account.h"

#include "common/json.h"
#include "common/sink.h"
#include "server/crypto/pem.h"
#include "server/outbound/assertion.h"

enum { MEMBERS = 4, ID_MAX = 256 };

struct reader {
    const char *field;
    struct cof_arena *arena;
    struct cof_error *err;
    struct cof_slice found[MEMBERS];
};

enum { MEMBER_TYPE, MEMBER_EMAIL, MEMBER_KEY, MEMBER_KEY_ID };

static const char *const names[MEMBERS] = {
    [MEMBER_TYPE] = "type",
    [MEMBER_EMAIL] = "client_email",
    [MEMBER_KEY] = "private_key",
    [MEMBER_KEY_ID] = "private_key_id",
};

static cof_code invalid(struct reader *reader, const char *what)
{
    return cof_fail_field(reader->err, COF_REASON_FIELD_INVALID, reader->field,
                          "%s: %s; store the JSON file of the service account's key as it was downloaded",
                          reader->field, what);
}

static cof_code wrong_member(struct reader *reader, const char *name, const char *what)
{
    return cof_fail_field(reader->err, COF_REASON_FIELD_INVALID, reader->field,
                          "%s: its member \"%s\" %s; store the JSON file of the service account's key as it was "
                          "downloaded",
                          reader->field, name, what);
}

/* A member that is no text, or stands twice, is left to whoever uses it to be missed. */
static cof_code decoded(struct reader *reader, struct cof_slice raw, struct cof_slice *ret_text)
{
    size_t length = 0;
    uint8_t *to = cof_arena_alloc(reader->arena, raw.len);
    if (to == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    if (!cof_json_decode(raw, to, &length) || !cof_sink_accepts(cof_slice_of(to, length)) ||
        (length > 0 && memchr(to, '\0', length) != NULL)) {
        return invalid(reader, "a text in it has half a character or a NUL");
    }
    *ret_text = cof_slice_of(to, length);
    return COF_OK;
}

static size_t member_of(struct cof_slice name)
{
    size_t i = 0;
    while (i < MEMBERS && !cof_slice_equal(name, cof_slice_text(names[i]))) {
        i++;
    }
    return i;
}

static cof_code next(struct reader *reader, struct cof_json_scan *scan, struct cof_json_event *ret_event)
{
    if (cof_json_next(scan, ret_event, reader->err) == COF_OK) {
        return COF_OK;
    }
    cof_error_clear(reader->err);
    return invalid(reader, "it is no JSON");
}

/* The value behind a key of the object. */
static cof_code take_value(struct reader *reader, size_t member, const struct cof_json_event *event)
{
    if (member == MEMBERS) {
        return COF_OK;
    }
    if (event->kind != COF_JSON_STRING) {
        return wrong_member(reader, names[member], "is no text");
    }
    if (reader->found[member].data != NULL) {
        return wrong_member(reader, names[member], "stands twice");
    }
    return decoded(reader, event->raw, &reader->found[member]);
}

static bool opens(cof_json_kind kind)
{
    return kind == COF_JSON_OBJECT || kind == COF_JSON_ARRAY;
}

static cof_code read_members(struct reader *reader, struct cof_json_scan *scan)
{
    struct cof_json_event event;
    size_t member = MEMBERS;
    TRY(next(reader, scan, &event));
    if (event.kind != COF_JSON_OBJECT) {
        return invalid(reader, "it is no JSON object");
    }
    do {
        const size_t depth = scan->depth;
        TRY(next(reader, scan, &event));
        if (depth == 1 && event.kind == COF_JSON_KEY) {
            struct cof_slice name;
            TRY(decoded(reader, event.raw, &name));
            member = member_of(name);
        } else if (depth == 1 &&
                   (opens(event.kind) || event.kind == COF_JSON_STRING || event.kind == COF_JSON_WORD)) {
            TRY(take_value(reader, member, &event));
        }
    } while (event.kind != COF_JSON_END);
    return COF_OK;
}

static cof_code check(struct reader *reader)
{
    const struct cof_slice *found = reader->found;
    if (!cof_slice_equal(found[MEMBER_TYPE], cof_slice_text("service_account"))) {
        return wrong_member(reader, names[MEMBER_TYPE], "is not \"service_account\"");
    }
    for (size_t i = MEMBER_EMAIL; i <= MEMBER_KEY; i++) {
        if (found[i].len == 0) {
            return wrong_member(reader, names[i], "is missing");
        }
    }
    if (found[MEMBER_EMAIL].len > ID_MAX || found[MEMBER_KEY_ID].len > ID_MAX) {
        return wrong_member(reader, names[found[MEMBER_EMAIL].len > ID_MAX ? MEMBER_EMAIL : MEMBER_KEY_ID],
                            "is too long");
    }
    return COF_OK;
}

cof_code service_account_read(struct cof_slice json, const char *field, struct cof_arena *arena,
                              struct service_account *ret_account, struct cof_error *err)
{
    struct reader reader = {.field = field, .arena = arena, .err = err};
    struct cof_json_scan scan;
    if (json.len > SERVICE_ACCOUNT_MAX) {
        return invalid(&reader, "it is longer than 64 KiB");
    }
    cof_json_scan_init(&scan, json);
    TRY(read_members(&reader, &scan));
    TRY(check(&reader));
    struct cof_slice key;
    TRY(pem_normalize(reader.found[MEMBER_KEY], arena, &key, err));
    TRY(assertion_check_key(key, field, arena, err));
    *ret_account = (struct service_account){
        .client_email = reader.found[MEMBER_EMAIL],
        .private_key = key,
        .private_key_id = reader.found[MEMBER_KEY_ID],
    };
    return COF_OK;
}
