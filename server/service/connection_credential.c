#include "server/service/connection_credential.h"

#include "common/name.h"
#include "common/wire.h"
#include "server/crypto/pem.h"
#include "server/outbound/assertion.h"
#include "server/outbound/service_account.h"
#include "server/service/guard.h"
#include "server/service/text.h"

#define KIND(name) COFFER__V1__CREDENTIAL_KIND__CREDENTIAL_KIND_##name
#define GRANT(name) COFFER__V1__CONNECTION_GRANT__CONNECTION_GRANT_##name
#define AUTHENTICATION(name) COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_##name
#define SENT(name) COFFER__V1__CLIENT_CREDENTIAL__CREDENTIAL_##name

/* --- What is used --------------------------------------------------------------------------------------------- */

bool credential_needed(int grant, int client_authentication)
{
    return grant == GRANT(JWT_BEARER) || client_authentication != AUTHENTICATION(NONE);
}

static bool used(int grant, int client_authentication, uint32_t kind)
{
    if (grant == GRANT(JWT_BEARER)) {
        return kind == KIND(PRIVATE_KEY) || kind == KIND(SERVICE_ACCOUNT);
    }
    switch (client_authentication) {
    case AUTHENTICATION(SECRET_BASIC):
    case AUTHENTICATION(SECRET_POST):
        return kind == KIND(CLIENT_SECRET);
    case AUTHENTICATION(PRIVATE_KEY_JWT):
        return kind == KIND(PRIVATE_KEY);
    default:
        return false;
    }
}

static const char *wanted(int grant, int client_authentication)
{
    if (grant == GRANT(JWT_BEARER)) {
        return "a private_key or a service_account";
    }
    switch (client_authentication) {
    case AUTHENTICATION(NONE):
        return "none";
    case AUTHENTICATION(PRIVATE_KEY_JWT):
        return "a private_key";
    default:
        return "a client_secret";
    }
}

/* --- What was sent -------------------------------------------------------------------------------------------- */

static bool visible(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x20 || text.data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static cof_code read_secret(struct call *call, struct cof_slice secret, Coffer__Stored__V1__Credential *credential)
{
    const char *field = "credential.client_secret";
    if (secret.len == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, field, "%s is empty", field);
    }
    if (secret.len > CREDENTIAL_SECRET_MAX || !cof_text_valid(secret) || !visible(secret)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field,
                              "%s is no text of at most %d bytes on one line; copy it again, without a line end",
                              field, CREDENTIAL_SECRET_MAX);
    }
    credential->kind = KIND(CLIENT_SECRET);
    credential->secret = (ProtobufCBinaryData){secret.len, (uint8_t *) (uintptr_t) secret.data};
    return COF_OK;
}

static cof_code read_key(struct call *call, struct cof_slice text, const char *key_id,
                         Coffer__Stored__V1__Credential *credential)
{
    const char *field = "credential.private_key";
    struct cof_slice key;
    if (text.len > CREDENTIAL_KEY_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field, "%s is longer than %d bytes", field,
                              CREDENTIAL_KEY_MAX);
    }
    if (strlen(key_id) > CREDENTIAL_KEY_ID_MAX || !visible(cof_slice_text(key_id))) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "credential.key_id",
                              "credential.key_id is no text of at most %d bytes on one line",
                              CREDENTIAL_KEY_ID_MAX);
    }
    TRY(pem_normalize(text, call->arena, &key, call->err));
    TRY(assertion_check_key(key, field, call->arena, call->err));
    credential->kind = KIND(PRIVATE_KEY);
    credential->secret = (ProtobufCBinaryData){key.len, (uint8_t *) (uintptr_t) key.data};
    credential->key_id = text_of(call->arena, cof_slice_text(key_id));
    return credential->key_id == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code read_account(struct call *call, struct cof_slice file, Coffer__Stored__V1__Credential *credential)
{
    struct service_account account;
    TRY(service_account_read(file, "credential.service_account", call->arena, &account, call->err));
    credential->kind = KIND(SERVICE_ACCOUNT);
    credential->secret =
        (ProtobufCBinaryData){account.private_key.len, (uint8_t *) (uintptr_t) account.private_key.data};
    credential->key_id = text_of(call->arena, account.private_key_id);
    credential->service_account = text_of(call->arena, account.client_email);
    return credential->key_id == NULL || credential->service_account == NULL ? cof_arena_exhausted(call->err)
                                                                             : COF_OK;
}

static struct cof_slice bytes_of(const ProtobufCBinaryData *bytes)
{
    return cof_slice_of(bytes->data, bytes->len);
}

static cof_code read_kind(struct call *call, const Coffer__V1__ClientCredential *sent,
                          Coffer__Stored__V1__Credential *credential)
{
    switch (sent->credential_case) {
    case SENT(CLIENT_SECRET):
        return read_secret(call, bytes_of(&sent->client_secret), credential);
    case SENT(PRIVATE_KEY):
        return read_key(call, bytes_of(&sent->private_key), sent->key_id, credential);
    case SENT(SERVICE_ACCOUNT):
        return read_account(call, bytes_of(&sent->service_account), credential);
    default:
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "credential",
                              "credential has none in it that this server knows; give the client's secret or key");
    }
}

cof_code credential_read(struct call *call, const Coffer__V1__ClientCredential *sent, int grant,
                         int client_authentication, Coffer__Stored__V1__Credential **ret_credential)
{
    *ret_credential = NULL;
    if (sent == NULL) {
        return COF_OK;
    }
    Coffer__Stored__V1__Credential *credential = cof_arena_alloc(call->arena, sizeof *credential);
    if (credential == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__stored__v1__credential__init(credential);
    TRY(read_kind(call, sent, credential));
    if (!used(grant, client_authentication, credential->kind)) {
        return cof_fail_field(
            call->err, COF_REASON_FIELD_INVALID, "credential",
            "the credential is of a kind that the connection does not use; with this grant and client "
            "authentication it is %s",
            wanted(grant, client_authentication));
    }
    credential->create_time = call_now(call);
    *ret_credential = credential;
    return COF_OK;
}

/* --- Sealed --------------------------------------------------------------------------------------------------- */

static struct blob_address address_of(const struct connection_row *row)
{
    return (struct blob_address){BLOB_CONNECTION_CREDENTIALS, row->workspace_id, row->connection_id,
                                 (uint64_t) row->credential_generation};
}

cof_code credential_open(struct call *call, const struct connection_row *row,
                         Coffer__Stored__V1__Credentials **ret_credentials)
{
    const struct blob_address address = address_of(row);
    ProtobufCMessage *message = NULL;
    struct cof_slice opened = {NULL, 0};
    if (row->credentials.len > 0) {
        uint8_t *to = cof_arena_alloc(call->arena, row->credentials.len);
        if (to == NULL) {
            return cof_arena_exhausted(call->err);
        }
        TRY(guard_open(call, &address, row->credentials, to));
        opened = cof_slice_of(to, row->credentials.len - BLOB_OVERHEAD);
    }
    TRY(cof_wire_unpack(&coffer__stored__v1__credentials__descriptor, opened, call->arena, &message, call->err));
    *ret_credentials = (Coffer__Stored__V1__Credentials *) (void *) message;
    return COF_OK;
}

cof_code credential_seal(struct call *call, struct connection_row *row,
                         const Coffer__Stored__V1__Credentials *credentials)
{
    struct cof_slice packed;
    row->credential_generation++;
    row->credentials = cof_slice_text("");
    if (credentials->n_credentials == 0 && credentials->registration == NULL) {
        return COF_OK;
    }
    const struct blob_address address = address_of(row);
    TRY(cof_wire_pack(&credentials->base, call->arena, &packed, call->err));
    uint8_t *sealed = cof_arena_alloc(call->arena, packed.len + BLOB_OVERHEAD);
    if (sealed == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_seal(call, &address, packed, sealed));
    row->credentials = cof_slice_of(sealed, packed.len + BLOB_OVERHEAD);
    return COF_OK;
}

static bool usable(const Coffer__Stored__V1__Credential *credential, int64_t now)
{
    return credential->retire_time == 0 || credential->retire_time > now;
}

cof_code credential_put_first(struct call *call, Coffer__Stored__V1__Credentials *credentials,
                              Coffer__Stored__V1__Credential *first, int64_t retire_time)
{
    const int64_t now = call_now(call);
    Coffer__Stored__V1__Credential **kept = cof_arena_array(call->arena, CREDENTIALS_MAX, sizeof *kept);
    size_t count = 1;
    if (kept == NULL) {
        return cof_arena_exhausted(call->err);
    }
    kept[0] = first;
    for (size_t i = 0; i < credentials->n_credentials && count < CREDENTIALS_MAX; i++) {
        Coffer__Stored__V1__Credential *old = credentials->credentials[i];
        if (old->retire_time == 0 || old->retire_time > retire_time) {
            old->retire_time = retire_time;
        }
        if (usable(old, now)) {
            kept[count++] = old;
        }
    }
    credentials->credentials = kept;
    credentials->n_credentials = count;
    return COF_OK;
}

/* --- Shown ---------------------------------------------------------------------------------------------------- */

static cof_code make_facts(struct call *call, const Coffer__Stored__V1__Credential *credential,
                           Coffer__V1__CredentialFacts **ret_facts)
{
    Coffer__V1__CredentialFacts *facts = cof_arena_alloc(call->arena, sizeof *facts);
    if (facts == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__credential_facts__init(facts);
    facts->kind = (Coffer__V1__CredentialKind) credential->kind;
    facts->key_id = credential->key_id;
    facts->service_account = credential->service_account;
    facts->create_time = time_of(call->arena, credential->create_time);
    facts->retire_time = time_of(call->arena, credential->retire_time == 0 ? ROW_NO_TIME : credential->retire_time);
    facts->expire_time = time_of(call->arena, credential->expire_time == 0 ? ROW_NO_TIME : credential->expire_time);
    *ret_facts = facts;
    return facts->create_time == NULL || (facts->retire_time == NULL && credential->retire_time != 0) ||
                   (facts->expire_time == NULL && credential->expire_time != 0)
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

cof_code credential_facts(struct call *call, const struct connection_row *row, Coffer__V1__Connection *message)
{
    Coffer__Stored__V1__Credentials *credentials;
    const int64_t now = call_now(call);
    TRY(credential_open(call, row, &credentials));
    message->client_registered = credentials->registration != NULL;
    message->credentials = cof_arena_array(call->arena, credentials->n_credentials, sizeof *message->credentials);
    if (message->credentials == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < credentials->n_credentials; i++) {
        if (usable(credentials->credentials[i], now)) {
            TRY(make_facts(call, credentials->credentials[i], &message->credentials[message->n_credentials]));
            message->n_credentials++;
        }
    }
    return COF_OK;
}
