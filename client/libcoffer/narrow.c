#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <coffer/token.h>

#include "client/libcoffer/client.h"
#include "client/libcoffer/failure.h"
#include "common/narrowed.h"
#include "common/secret.h"

_Static_assert((int) COFFER_NARROWED_SIZE == (int) COF_NARROWED_TEXT, "the header says another size");

/* What is asked for, as common wants it. */
struct wish {
    coffer_narrowing given;
    struct cof_uuid workspace;
    struct cof_slice environments[COF_CAVEAT_PATTERNS_MAX];
    struct cof_slice names[COF_CAVEAT_PATTERNS_MAX];
    struct cof_narrowing narrowing;
};

static cof_code hmac(const uint8_t key[COF_NARROWED_KEY], struct cof_slice data, uint8_t mac[COF_NARROWED_TAG],
                     struct cof_error *err)
{
    unsigned len = COF_NARROWED_TAG;
    if (HMAC(EVP_sha256(), key, COF_NARROWED_KEY, data.data, data.len, mac, &len) == NULL) {
        return cof_fail_internal(err, COF_ORIGIN_OPENSSL, "", "computing an HMAC");
    }
    return COF_OK;
}

static cof_code read_patterns(const char *field, const char *const *patterns, size_t count,
                              struct cof_slice *slices, struct cof_error *err)
{
    if (count > COF_CAVEAT_PATTERNS_MAX) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, field, "%s has %zu patterns; at most %d are allowed",
                              field, count, COF_CAVEAT_PATTERNS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        if (patterns == NULL || patterns[i] == NULL) {
            return cof_fail_field(err, COF_REASON_FIELD_REQUIRED, field, "%s[%zu] is NULL; give it", field, i);
        }
        slices[i] = cof_slice_text(patterns[i]);
    }
    return COF_OK;
}

static cof_code read_workspace(struct wish *wish, struct cof_error *err)
{
    if (wish->given.workspace == NULL) {
        return COF_OK;
    }
    if (!cof_uuid_parse(cof_slice_text(wish->given.workspace), &wish->workspace)) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, "workspace",
                              "workspace is no UUID in lower case; coffer workspace list shows the UUIDs");
    }
    wish->narrowing.workspace = &wish->workspace;
    return COF_OK;
}

static cof_code read_text(const char *field, const char *text, struct cof_slice *ret_text, struct cof_error *err)
{
    if (text != NULL && text[0] == '\0') {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, field, "%s is empty; name it, or leave it out", field);
    }
    *ret_text = text == NULL ? cof_slice_of(NULL, 0) : cof_slice_text(text);
    return COF_OK;
}

/*
 * A program that was built with fewer fields asks for nothing of the others. One that asks for something that came
 * later must not get a token that is narrowed by less than it meant.
 */
static cof_code read_given(const coffer_narrowing *given, coffer_narrowing *ret_given, struct cof_error *err)
{
    const uint8_t *bytes = (const uint8_t *) given;
    const coffer_narrowing none = COFFER_NARROWING_INIT;
    for (size_t i = sizeof *given; i < given->struct_size; i++) {
        if (bytes[i] != 0) {
            return cof_fail_field(err, COF_REASON_NOT_AVAILABLE, "narrowing",
                                  "the token is to be narrowed by something that this library does not know; use a "
                                  "newer version of it");
        }
    }
    *ret_given = none;
    memcpy(ret_given, given, given->struct_size < sizeof *given ? given->struct_size : sizeof *given);
    return COF_OK;
}

static cof_code read_wish(const coffer_narrowing *from, struct wish *wish, struct cof_error *err)
{
    const coffer_narrowing *given = &wish->given;
    struct cof_narrowing *narrowing = &wish->narrowing;
    *narrowing = (struct cof_narrowing){.environments = wish->environments, .names = wish->names};
    TRY(read_given(from, &wish->given, err));
    TRY(read_workspace(wish, err));
    TRY(read_patterns("environments", given->environments, given->environment_count, wish->environments, err));
    TRY(read_patterns("names", given->names, given->name_count, wish->names, err));
    TRY(read_text("workflow_id", given->workflow_id, &narrowing->workflow_id, err));
    TRY(read_text("run_id", given->run_id, &narrowing->run_id, err));
    if (given->expire_time_ms < 0) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, "expire_time_ms", "expire_time_ms lies before 1970");
    }
    narrowing->environment_count = given->environment_count;
    narrowing->name_count = given->name_count;
    narrowing->expires = given->expire_time_ms != 0;
    narrowing->expire_ms = (uint64_t) given->expire_time_ms;
    return COF_OK;
}

static cof_code narrow(struct cof_slice token, const coffer_narrowing *narrowing, char *ret_narrowed,
                       struct cof_error *err)
{
    struct wish *wish = calloc(1, sizeof *wish);
    if (wish == NULL) {
        return memory_exhausted(err);
    }
    cof_code code = read_wish(narrowing, wish, err);
    if (code == COF_OK) {
        code = cof_narrow(token, &wish->narrowing, hmac, ret_narrowed, err);
    }
    free(wish);
    return code;
}

coffer_status coffer_token_narrow(const void *token, size_t length, const coffer_narrowing *narrowing,
                                  char ret_narrowed[COFFER_NARROWED_SIZE], coffer_error **ret_error)
{
    struct cof_error err;
    if (token == NULL || narrowing == NULL || ret_narrowed == NULL) {
        return client_missing(token == NULL ? "the token" : "the narrowing, or the place for the narrowed token",
                              ret_error);
    }
    cof_error_clear(&err);
    ret_narrowed[0] = '\0';
    cof_ignore(narrow(cof_slice_of(token, length), narrowing, ret_narrowed, &err));
    return failure_tell(&err, NULL, ret_error);
}

void coffer_token_wipe(void *token, size_t size)
{
    if (token != NULL) {
        cof_wipe(token, size);
    }
}
