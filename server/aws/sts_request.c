#include "server/aws/sts_request.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "common/encode.h"
#include "server/crypto/crypto.h"

enum {
    TAG_VALUE_MAX = 256,
    FIXED_ROOM = 512,    /* names of parameters and what is always there */
    ESCAPED = 3,         /* bytes of an escaped one */
    NAME_PART = 4,       /* bytes of a hash in a session's name */
    PARAMETER_NAME = 40, /* "Tags.member.8.Value" */
};

/* --- The session's name --------------------------------------------------------------------------------------- */

static cof_code hash_part(struct cof_slice text, char to[2 * NAME_PART + 1], struct cof_error *err)
{
    uint8_t digest[CRYPTO_DIGEST];
    TRY(crypto_sha256(text, digest, err));
    cof_hex_encode(cof_slice_of(digest, NAME_PART), to);
    return COF_OK;
}

cof_code sts_session_name(const struct cof_uuid *workspace, struct cof_slice run, char to[STS_SESSION_NAME],
                          struct cof_error *err)
{
    char uuid[COF_UUID_TEXT];
    char of_workspace[2 * NAME_PART + 1];
    char of_run[2 * NAME_PART + 1];
    cof_uuid_format(workspace, uuid);
    TRY(hash_part(cof_slice_text(uuid), of_workspace, err));
    TRY(hash_part(run, of_run, err));
    (void) snprintf(to, STS_SESSION_NAME, "coffer-ws-%s-run-%s", of_workspace, of_run);
    return COF_OK;
}

/* --- Bodies --------------------------------------------------------------------------------------------------- */

struct body {
    char *bytes;
    size_t length;
};

static bool is_unreserved(uint8_t byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
           byte == '-' || byte == '_' || byte == '.' || byte == '~';
}

static void add_raw(struct body *body, const char *text)
{
    const size_t length = strlen(text);
    memcpy(body->bytes + body->length, text, length);
    body->length += length;
}

static void add_escaped(struct body *body, struct cof_slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t byte = text.data[i];
        if (is_unreserved(byte)) {
            body->bytes[body->length++] = (char) byte;
        } else {
            body->bytes[body->length++] = '%';
            body->bytes[body->length++] = digits[byte >> 4];
            body->bytes[body->length++] = digits[byte & 15];
        }
    }
}

static void add(struct body *body, const char *name, struct cof_slice value)
{
    if (value.len > 0) {
        add_raw(body, "&");
        add_raw(body, name);
        add_raw(body, "=");
        add_escaped(body, value);
    }
}

/* Letters, digits, spaces and _.:/=+-@ are what a tag's value may have; of others there is one `_` each. */
static struct cof_slice tag_value(struct cof_slice value, uint8_t to[TAG_VALUE_MAX])
{
    const size_t length = value.len < TAG_VALUE_MAX ? value.len : TAG_VALUE_MAX;
    for (size_t i = 0; i < length; i++) {
        const uint8_t byte = value.data[i];
        const bool allowed =
            (is_unreserved(byte) && byte != '~') || (byte != '\0' && strchr(" :/=+@", byte) != NULL);
        to[i] = allowed ? byte : '_';
    }
    return cof_slice_of(to, length);
}

static void add_tags(struct body *body, const struct sts_role *role)
{
    char name[PARAMETER_NAME];
    uint8_t value[TAG_VALUE_MAX];
    size_t number = 0;
    for (size_t i = 0; i < role->tag_count; i++) {
        if (role->tags[i].value.len == 0) {
            continue;
        }
        number++;
        (void) snprintf(name, sizeof name, "Tags.member.%zu.Key", number);
        add(body, name, cof_slice_text(role->tags[i].key));
        (void) snprintf(name, sizeof name, "Tags.member.%zu.Value", number);
        add(body, name, tag_value(role->tags[i].value, value));
    }
}

static size_t room_for(const struct sts_role *role, struct cof_slice token)
{
    size_t room = role->arn.len + role->session_name.len + role->external_id.len + role->policy.len + token.len;
    for (size_t i = 0; i < role->tag_count; i++) {
        room += strlen(role->tags[i].key) + TAG_VALUE_MAX + PARAMETER_NAME;
    }
    return ESCAPED * room + FIXED_ROOM;
}

static cof_code begin(const struct sts_role *role, const char *action, struct cof_slice token,
                      struct cof_arena *arena, struct body *ret_body, struct cof_error *err)
{
    char duration[16];
    *ret_body = (struct body){.bytes = cof_arena_alloc(arena, room_for(role, token))};
    if (ret_body->bytes == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) snprintf(duration, sizeof duration, "%" PRIu32, role->duration_s);
    add_raw(ret_body, "Action=");
    add_raw(ret_body, action);
    add_raw(ret_body, "&Version=2011-06-15");
    add(ret_body, "RoleArn", role->arn);
    add(ret_body, "RoleSessionName", role->session_name);
    add(ret_body, "DurationSeconds", cof_slice_text(duration));
    return COF_OK;
}

cof_code sts_assume_role(const struct sts_role *role, struct cof_arena *arena, struct cof_slice *ret_body,
                         struct cof_error *err)
{
    struct body body;
    TRY(begin(role, "AssumeRole", (struct cof_slice){NULL, 0}, arena, &body, err));
    add(&body, "ExternalId", role->external_id);
    add(&body, "Policy", role->policy);
    add_tags(&body, role);
    *ret_body = cof_slice_of(body.bytes, body.length);
    return COF_OK;
}

cof_code sts_assume_role_with_token(const struct sts_role *role, struct cof_slice token, struct cof_arena *arena,
                                    struct cof_slice *ret_body, struct cof_error *err)
{
    struct body body;
    TRY(begin(role, "AssumeRoleWithWebIdentity", token, arena, &body, err));
    add(&body, "WebIdentityToken", token);
    *ret_body = cof_slice_of(body.bytes, body.length);
    return COF_OK;
}
