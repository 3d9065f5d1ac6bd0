#include "server/aws/credentials.h"

#include <time.h>

#include "common/attr.h"
#include "common/json.h"

enum {
    MICROSECONDS = 1000000,
    DATE_LENGTH = sizeof "2026-11-26T05:00:00" - 1,
};

/* --- What can be used ----------------------------------------------------------------------------------------- */

static bool is_plain(struct cof_slice text, size_t most)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return text.len <= most;
}

bool aws_credentials_are_usable(const struct aws_credentials *credentials)
{
    return credentials->access_key_id.len > 0 && is_plain(credentials->access_key_id, AWS_ACCESS_KEY_MAX) &&
           credentials->secret_access_key.len > 0 && is_plain(credentials->secret_access_key, AWS_SECRET_KEY_MAX) &&
           is_plain(credentials->session_token, AWS_SESSION_TOKEN_MAX);
}

/* --- Times ---------------------------------------------------------------------------------------------------- */

static bool read_digits(const uint8_t *from, size_t count, int *ret_number)
{
    *ret_number = 0;
    for (size_t i = 0; i < count; i++) {
        if (from[i] < '0' || from[i] > '9') {
            return false;
        }
        *ret_number = *ret_number * 10 + (from[i] - '0');
    }
    return true;
}

static bool read_date(const uint8_t *from, struct tm *ret_tm)
{
    int year;
    int month;
    *ret_tm = (struct tm){0};
    if (from[4] != '-' || from[7] != '-' || from[10] != 'T' || from[13] != ':' || from[16] != ':' ||
        !read_digits(from, 4, &year) || !read_digits(from + 5, 2, &month) ||
        !read_digits(from + 8, 2, &ret_tm->tm_mday) || !read_digits(from + 11, 2, &ret_tm->tm_hour) ||
        !read_digits(from + 14, 2, &ret_tm->tm_min) || !read_digits(from + 17, 2, &ret_tm->tm_sec)) {
        return false;
    }
    ret_tm->tm_year = year - 1900;
    ret_tm->tm_mon = month - 1;
    return month >= 1 && month <= 12 && ret_tm->tm_mday >= 1 && ret_tm->tm_mday <= 31 && ret_tm->tm_hour < 24 &&
           ret_tm->tm_min < 60 && ret_tm->tm_sec <= 60;
}

/* ".123456Z", or "Z". */
static bool is_rest(struct cof_slice rest)
{
    size_t at = 0;
    if (rest.len > 1 && rest.data[0] == '.') {
        at = 1;
        while (at < rest.len && rest.data[at] >= '0' && rest.data[at] <= '9') {
            at++;
        }
    }
    return at != 1 && at + 1 == rest.len && rest.data[at] == 'Z';
}

/* Fractions are left out: a moment too early is on the safe side. */
bool aws_time_read(struct cof_slice text, int64_t *ret_us)
{
    struct tm tm;
    if (text.len <= DATE_LENGTH || !read_date(text.data, &tm) ||
        !is_rest(cof_slice_of(text.data + DATE_LENGTH, text.len - DATE_LENGTH))) {
        return false;
    }
    *ret_us = (int64_t) timegm(&tm) * MICROSECONDS;
    return true;
}

/* --- JSON ----------------------------------------------------------------------------------------------------- */

struct json_fields {
    struct aws_credentials credentials;
    struct cof_slice expiration;
    struct cof_slice code;
};

static struct cof_slice *field_of(struct json_fields *fields, struct cof_slice key)
{
    const struct {
        const char *name;
        struct cof_slice *to;
    } known[] = {
        {"\"AccessKeyId\"", &fields->credentials.access_key_id},
        {"\"SecretAccessKey\"", &fields->credentials.secret_access_key},
        {"\"Token\"", &fields->credentials.session_token},
        {"\"Expiration\"", &fields->expiration},
        {"\"Code\"", &fields->code},
    };
    for (size_t i = 0; i < COF_COUNT(known); i++) {
        if (cof_slice_equal(key, cof_slice_text(known[i].name))) {
            return known[i].to;
        }
    }
    return NULL;
}

static struct cof_slice decode(struct cof_slice raw, struct cof_arena *arena)
{
    size_t length = 0;
    uint8_t *to = cof_arena_alloc(arena, raw.len);
    return to != NULL && cof_json_decode(raw, to, &length) ? cof_slice_of(to, length) : (struct cof_slice){NULL, 0};
}

/* Takes the texts of the outermost object; false if the body is not JSON. */
static bool read_fields(struct cof_slice body, struct cof_arena *arena, struct json_fields *fields)
{
    struct cof_json_scan scan;
    struct cof_json_event event = {.kind = COF_JSON_OBJECT};
    struct cof_error err;
    struct cof_slice key = {NULL, 0};
    cof_json_scan_init(&scan, body);
    while (event.kind != COF_JSON_END) {
        if (cof_json_next(&scan, &event, &err) != COF_OK) {
            return false;
        }
        struct cof_slice *to = scan.depth == 1 && event.kind == COF_JSON_STRING ? field_of(fields, key) : NULL;
        if (to != NULL) {
            *to = decode(event.raw, arena);
        }
        key = event.kind == COF_JSON_KEY ? event.raw : key;
    }
    return true;
}

const char *aws_credentials_read_json(struct cof_slice body, struct cof_arena *arena,
                                      struct aws_credentials *ret_credentials)
{
    struct json_fields fields = {.credentials = {.expire_us = AWS_NEVER}};
    if (!read_fields(body, arena, &fields)) {
        return "the answer is not JSON";
    }
    if (fields.code.len > 0 && !cof_slice_equal(fields.code, cof_slice_text("Success"))) {
        return "the answer says that there are none";
    }
    if (fields.expiration.len > 0 && !aws_time_read(fields.expiration, &fields.credentials.expire_us)) {
        return "the answer has an expiry that is no time";
    }
    if (!aws_credentials_are_usable(&fields.credentials)) {
        return "the answer has no credentials that could be used";
    }
    *ret_credentials = fields.credentials;
    return NULL;
}
