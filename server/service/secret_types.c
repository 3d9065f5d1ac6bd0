#include "server/service/secret_types.h"

#include <stdio.h>
#include <time.h>

#include "server/crypto/certificate.h"
#include "server/crypto/pem.h"

enum {
    KEYS_MAX = 4,
    FIELD_SIZE = 48,
    KEY_LIST_SIZE = 256,
    APP_ID_MAX = 20,
    WARNINGS_PER_CERTIFICATE = 2, /* one of its time, one of what it is for */
};

/* One check, with what it works on and what it fills. */
struct checking {
    struct cof_arena *arena;
    struct cof_error *err;
    int64_t now;
    struct values *values; /* what will be stored */
    struct secret_facts *facts;
};

struct type_key {
    const char *name;
    bool optional;
};

struct type {
    Coffer__V1__SecretType type;
    const char *name;
    struct type_key keys[KEYS_MAX];
    cof_code (*check)(struct checking *checking);
};

/* --- Values --------------------------------------------------------------------------------------------------- */

static struct value *find(const struct checking *checking, const char *key)
{
    for (size_t i = 0; i < checking->values->count; i++) {
        if (cof_slice_equal(checking->values->items[i].key, cof_slice_text(key))) {
            return &checking->values->items[i];
        }
    }
    return NULL;
}

static cof_code fail(const struct checking *checking, cof_reason reason, const char *field, const char *what)
{
    return cof_fail_field(checking->err, reason, field, "%s: %s", field, what);
}

/* Replaces a PEM value by its normalised form. */
static cof_code normalize(struct checking *checking, struct value *value)
{
    return pem_normalize(value->bytes, checking->arena, &value->bytes, checking->err);
}

static struct cof_slice trimmed(struct cof_slice bytes)
{
    while (bytes.len > 0 && values_blank(cof_slice_of(bytes.data, 1))) {
        bytes = cof_slice_of(bytes.data + 1, bytes.len - 1);
    }
    while (bytes.len > 0 && values_blank(cof_slice_of(bytes.data + bytes.len - 1, 1))) {
        bytes.len--;
    }
    return bytes;
}

/* --- Facts ---------------------------------------------------------------------------------------------------- */

static void warn(struct checking *checking, const char *warning)
{
    checking->facts->warnings[checking->facts->warning_count++] = warning;
}

static cof_code warn_of_time(struct checking *checking, const struct certificate *certificate, int64_t time,
                             const char *what)
{
    char text[64];
    struct tm parts;
    const time_t seconds = (time_t) time;
    if (gmtime_r(&seconds, &parts) == NULL || strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
        (void) snprintf(text, sizeof text, "an unknown time");
    }
    char *warning =
        cof_arena_format(checking->arena, "the certificate of \"%s\" %s %s", certificate->subject, what, text);
    if (warning == NULL) {
        return cof_arena_exhausted(checking->err);
    }
    warn(checking, warning);
    return COF_OK;
}

static cof_code look_at_times(struct checking *checking, const struct certificate *certificate)
{
    struct secret_facts *facts = checking->facts;
    if (facts->not_after == 0 || certificate->not_after < facts->not_after) {
        facts->not_after = certificate->not_after;
    }
    if (certificate->not_after < checking->now) {
        return warn_of_time(checking, certificate, certificate->not_after, "expired on");
    }
    if (certificate->not_before > checking->now) {
        return warn_of_time(checking, certificate, certificate->not_before, "is not valid before");
    }
    return COF_OK;
}

static cof_code tell_certificates(struct checking *checking, const struct certificates *certificates)
{
    struct secret_facts *facts = checking->facts;
    const struct certificate *first = &certificates->items[0];
    const size_t most = certificates->count * WARNINGS_PER_CERTIFICATE;
    facts->warnings = cof_arena_array(checking->arena, most, sizeof *facts->warnings);
    facts->fingerprint = cof_arena_text(checking->arena, cof_slice_text(first->fingerprint));
    if (facts->warnings == NULL || facts->fingerprint == NULL) {
        return cof_arena_exhausted(checking->err);
    }
    facts->certificates = (uint32_t) certificates->count;
    facts->subject = first->subject;
    facts->issuer = first->issuer;
    for (size_t i = 0; i < certificates->count; i++) {
        TRY(look_at_times(checking, &certificates->items[i]));
    }
    return COF_OK;
}

static void tell_key(struct checking *checking, const struct private_key *key)
{
    checking->facts->key_type = private_key_type(key);
    checking->facts->key_bits = private_key_bits(key);
}

/* For types that have no certificate. */
static cof_code tell_fingerprint(struct checking *checking, const struct private_key *key)
{
    char *fingerprint = cof_arena_alloc(checking->arena, PRIVATE_KEY_FINGERPRINT);
    if (fingerprint == NULL) {
        return cof_arena_exhausted(checking->err);
    }
    TRY(private_key_fingerprint(key, fingerprint, checking->err));
    checking->facts->fingerprint = fingerprint;
    return COF_OK;
}

/* --- Types ---------------------------------------------------------------------------------------------------- */

/* Keys without a certificate: both types describe them alike. */
static cof_code check_lone_key(struct checking *checking, const char *name, private_key_use use, const char *field)
{
    AUTO(private_key_cleanup) struct private_key *key = NULL;
    struct value *value = find(checking, name);
    TRY(normalize(checking, value));
    TRY(private_key_read(value->bytes, use, field, checking->arena, &key, checking->err));
    tell_key(checking, key);
    return tell_fingerprint(checking, key);
}

static cof_code check_ssh_key(struct checking *checking)
{
    return check_lone_key(checking, "PRIVATE_KEY", PRIVATE_KEY_FOR_SSH, "values.PRIVATE_KEY");
}

/* Whoever presents the chain presents its first certificate as its own (RFC 8446, 4.4.2). */
static cof_code check_pair(struct checking *checking, const struct certificates *chain,
                           const struct private_key *key)
{
    static const char field[] = "values.TLS_CERTIFICATE";
    if (certificate_matches(&chain->items[0], key)) {
        return COF_OK;
    }
    for (size_t i = 1; i < chain->count; i++) {
        if (certificate_matches(&chain->items[i], key)) {
            return cof_fail_field(checking->err, COF_REASON_FIELD_INVALID, field,
                                  "%s: the certificate that belongs to TLS_PRIVATE_KEY stands in place %zu; put it "
                                  "first, and those that issued it behind it",
                                  field, i + 1);
        }
    }
    return fail(
        checking, COF_REASON_FIELD_INVALID, field,
        "no certificate in it belongs to TLS_PRIVATE_KEY; store a certificate and the key that it was made for");
}

static cof_code check_chain_and_key(struct checking *checking, const struct certificates *chain,
                                    struct cof_slice key_text)
{
    AUTO(private_key_cleanup) struct private_key *key = NULL;
    TRY(private_key_read(key_text, PRIVATE_KEY_FOR_TLS, "values.TLS_PRIVATE_KEY", checking->arena, &key,
                         checking->err));
    TRY(check_pair(checking, chain, key));
    tell_key(checking, key);
    return tell_certificates(checking, chain);
}

static cof_code check_mtls(struct checking *checking)
{
    AUTO(certificates_done) struct certificates chain = {NULL, 0};
    struct value *certificate = find(checking, "TLS_CERTIFICATE");
    struct value *key = find(checking, "TLS_PRIVATE_KEY");
    TRY(normalize(checking, certificate));
    TRY(normalize(checking, key));
    TRY(certificates_read(certificate->bytes, "values.TLS_CERTIFICATE", checking->arena, &chain, checking->err));
    return check_chain_and_key(checking, &chain, key->bytes);
}

static cof_code warn_of_leaves(struct checking *checking, const struct certificates *certificates)
{
    for (size_t i = 0; i < certificates->count; i++) {
        const struct certificate *certificate = &certificates->items[i];
        if (certificate->ca) {
            continue;
        }
        char *warning = cof_arena_format(checking->arena, "the certificate of \"%s\" is not one of an authority",
                                         certificate->subject);
        if (warning == NULL) {
            return cof_arena_exhausted(checking->err);
        }
        warn(checking, warning);
    }
    return COF_OK;
}

static cof_code check_ca_cert(struct checking *checking)
{
    AUTO(certificates_done) struct certificates certificates = {NULL, 0};
    struct value *value = find(checking, "CA_CERTIFICATE");
    TRY(normalize(checking, value));
    TRY(certificates_read(value->bytes, "values.CA_CERTIFICATE", checking->arena, &certificates, checking->err));
    TRY(tell_certificates(checking, &certificates));
    return warn_of_leaves(checking, &certificates);
}

static cof_code check_app_id(struct checking *checking)
{
    static const char field[] = "values.GITHUB_APP_ID";
    struct value *value = find(checking, "GITHUB_APP_ID");
    value->bytes = trimmed(value->bytes);
    bool digits = value->bytes.len > 0 && value->bytes.len <= APP_ID_MAX;
    for (size_t i = 0; i < value->bytes.len; i++) {
        digits = digits && value->bytes.data[i] >= '0' && value->bytes.data[i] <= '9';
    }
    return digits ? COF_OK
                  : fail(checking, COF_REASON_FIELD_INVALID, field,
                         "the ID of a GitHub App has digits only; it stands as \"App ID\" on the App's page");
}

static cof_code check_client_id(struct checking *checking)
{
    struct value *value = find(checking, "GITHUB_APP_CLIENT_ID");
    if (value == NULL) {
        return COF_OK;
    }
    value->bytes = trimmed(value->bytes);
    return value->bytes.len > 0 ? COF_OK
                                : fail(checking, COF_REASON_FIELD_INVALID, "values.GITHUB_APP_CLIENT_ID",
                                       "it is empty; leave the key out, or store the App's client ID");
}

/* GitHub takes JWTs with RS256 only. */
static cof_code check_github_app(struct checking *checking)
{
    TRY(check_app_id(checking));
    TRY(check_client_id(checking));
    return check_lone_key(checking, "GITHUB_APP_PRIVATE_KEY", PRIVATE_KEY_FOR_RSA, "values.GITHUB_APP_PRIVATE_KEY");
}

static const struct type types[] = {
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_SSH_KEY, "ssh_key", {{"PRIVATE_KEY", false}}, check_ssh_key},
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_MTLS,
     "mtls",
     {{"TLS_CERTIFICATE", false}, {"TLS_PRIVATE_KEY", false}},
     check_mtls},
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_CA_CERT, "ca_cert", {{"CA_CERTIFICATE", false}}, check_ca_cert},
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_GITHUB_APP,
     "github_app",
     {{"GITHUB_APP_ID", false},
      {"GITHUB_APP_PRIVATE_KEY", false},
      {"GITHUB_APP_WEBHOOK_SECRET", true},
      {"GITHUB_APP_CLIENT_ID", true}},
     check_github_app},
};

/* --- Keys ----------------------------------------------------------------------------------------------------- */

static bool allowed(const struct type *type, struct cof_slice key)
{
    for (size_t i = 0; i < KEYS_MAX && type->keys[i].name != NULL; i++) {
        if (cof_slice_equal(key, cof_slice_text(type->keys[i].name))) {
            return true;
        }
    }
    return false;
}

/* "A, B, C (optional)": what the type has, for messages. */
static const char *key_list(const struct type *type, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < KEYS_MAX && type->keys[i].name != NULL; i++) {
        const int written = snprintf(to + used, size - used, "%s%s%s", i == 0 ? "" : ", ", type->keys[i].name,
                                     type->keys[i].optional ? " (optional)" : "");
        used += written < 0 ? 0 : (size_t) written;
        if (used >= size) {
            break;
        }
    }
    return to;
}

static cof_code refuse_others(struct checking *checking, const struct type *type)
{
    char list[KEY_LIST_SIZE];
    for (size_t i = 0; i < checking->values->count; i++) {
        const struct cof_slice key = checking->values->items[i].key;
        if (!allowed(type, key)) {
            return cof_fail_field(checking->err, COF_REASON_FIELD_INVALID, "values",
                                  "values: a secret of the type %s has no key \"%.*s\"; its keys are %s",
                                  type->name, (int) key.len, (const char *) key.data,
                                  key_list(type, list, sizeof list));
        }
    }
    return COF_OK;
}

static cof_code check_key(struct checking *checking, const struct type *type, const struct type_key *key)
{
    char field[FIELD_SIZE];
    char list[KEY_LIST_SIZE];
    const struct value *value = find(checking, key->name);
    (void) snprintf(field, sizeof field, "values.%s", key->name);
    if (key->optional) {
        return COF_OK;
    }
    if (value == NULL) {
        return cof_fail_field(checking->err, COF_REASON_FIELD_REQUIRED, field,
                              "%s: a secret of the type %s needs this key; its keys are %s", field, type->name,
                              key_list(type, list, sizeof list));
    }
    return values_blank(value->bytes) ? fail(checking, COF_REASON_FIELD_REQUIRED, field, "it is empty") : COF_OK;
}

static cof_code check_keys(struct checking *checking, const struct type *type)
{
    TRY(refuse_others(checking, type));
    for (size_t i = 0; i < KEYS_MAX && type->keys[i].name != NULL; i++) {
        TRY(check_key(checking, type, &type->keys[i]));
    }
    return COF_OK;
}

static const struct type *find_type(Coffer__V1__SecretType type)
{
    for (size_t i = 0; i < COF_COUNT(types); i++) {
        if (types[i].type == type) {
            return &types[i];
        }
    }
    return NULL;
}

bool secret_type_of_name(struct cof_slice name, Coffer__V1__SecretType *ret_type)
{
    for (size_t i = 0; i < COF_COUNT(types); i++) {
        if (cof_slice_equal(name, cof_slice_text(types[i].name))) {
            *ret_type = types[i].type;
            return true;
        }
    }
    return false;
}

bool secret_type_may_have(Coffer__V1__SecretType type, const char *key)
{
    const struct type *found = find_type(type);
    for (size_t i = 0; found != NULL && i < KEYS_MAX && found->keys[i].name != NULL; i++) {
        if (strcmp(found->keys[i].name, key) == 0) {
            return true;
        }
    }
    return found == NULL;
}

static cof_code copy_values(const struct values *values, struct cof_arena *arena, struct values *ret_copy,
                            struct cof_error *err)
{
    struct values copy = {cof_arena_array(arena, values->count, sizeof *copy.items), values->count};
    if (copy.items == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < copy.count; i++) {
        copy.items[i] = values->items[i];
    }
    *ret_copy = copy;
    return COF_OK;
}

cof_code secret_type_check(Coffer__V1__SecretType type, const struct values *values, int64_t now,
                           struct cof_arena *arena, struct values *ret_values, struct secret_facts *ret_facts,
                           struct cof_error *err)
{
    struct secret_facts facts = {.key_type = "", .fingerprint = "", .subject = "", .issuer = ""};
    struct values checked = {NULL, 0};
    struct checking checking = {arena, err, now, &checked, &facts};
    const struct type *found = find_type(type);
    if (found == NULL && type != COFFER__V1__SECRET_TYPE__SECRET_TYPE_CUSTOM) {
        return cof_fail_field(err, COF_REASON_NOT_AVAILABLE, "type",
                              "this server knows no secrets of the type %d; use a newer one, or the type custom",
                              (int) type);
    }
    TRY(copy_values(values, arena, &checked, err));
    if (found != NULL) {
        TRY(check_keys(&checking, found));
        TRY(found->check(&checking));
    }
    *ret_values = checked;
    *ret_facts = facts;
    return COF_OK;
}
