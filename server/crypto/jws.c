#include "server/crypto/jws.h"

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/contexts.h"
#include "server/crypto/key_handle.h"

enum {
    ES256_NUMBER = 32,    /* r and s, big-endian */
    SIGNATURE_MAX = 2048, /* RSA of 16,384 bits */
    ES256_SIGNATURE = 2 * ES256_NUMBER,
};

static bool on_p256(const EVP_PKEY *key)
{
    char name[64];
    size_t length = 0;
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, name, sizeof name, &length) == 1 &&
           cof_slice_equal(cof_slice_of(name, length), cof_slice_text("prime256v1"));
}

cof_code jws_algorithm_of(const struct private_key *key, const char *field, jws_algorithm *ret_algorithm,
                          struct cof_error *err)
{
    const EVP_PKEY *pkey = private_key_view(key);
    if (EVP_PKEY_is_a(pkey, "RSA") && EVP_PKEY_get_bits(pkey) >= JWS_RSA_MIN) {
        *ret_algorithm = JWS_RS256;
        return COF_OK;
    }
    if (on_p256(pkey)) {
        *ret_algorithm = JWS_ES256;
        return COF_OK;
    }
    return cof_fail_field(
        err, COF_REASON_FIELD_INVALID, field,
        "%s: assertions are signed by RSA keys of %d bits or more and by ECDSA keys on P-256; this key "
        "is another one",
        field, JWS_RSA_MIN);
}

const char *jws_algorithm_name(jws_algorithm algorithm)
{
    switch (algorithm) {
    case JWS_RS256:
        return "RS256";
    case JWS_ES256:
        return "ES256";
    }
    return "none";
}

static void digest_done(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
}

static void signature_done(ECDSA_SIG **signature)
{
    ECDSA_SIG_free(*signature);
}

/* OpenSSL writes r and s of an ECDSA signature in DER, JWS has them side by side (RFC 7518, 3.4). */
static cof_code flatten(uint8_t *signature, size_t *length, struct cof_error *err)
{
    const uint8_t *at = signature;
    AUTO(signature_done) ECDSA_SIG *parts = d2i_ECDSA_SIG(NULL, &at, (long) *length);
    if (parts == NULL || BN_bn2binpad(ECDSA_SIG_get0_r(parts), signature, ES256_NUMBER) != ES256_NUMBER ||
        BN_bn2binpad(ECDSA_SIG_get0_s(parts), signature + ES256_NUMBER, ES256_NUMBER) != ES256_NUMBER) {
        return crypto_fail(err, "an ECDSA signature");
    }
    *length = ES256_SIGNATURE;
    return COF_OK;
}

static cof_code sign(const struct private_key *key, jws_algorithm algorithm, struct cof_slice input,
                     uint8_t *signature, size_t *length, struct cof_error *err)
{
    AUTO(digest_done) EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL ||
        EVP_DigestSignInit_ex(context, NULL, "SHA256", NULL, NULL, private_key_view(key), NULL) != 1 ||
        EVP_DigestSign(context, signature, length, input.data, input.len) != 1) {
        return crypto_fail(err, "signing an assertion");
    }
    return algorithm == JWS_ES256 ? flatten(signature, length, err) : COF_OK;
}

cof_code jws_sign(const struct private_key *key, jws_algorithm algorithm, struct cof_slice header,
                  struct cof_slice payload, struct cof_arena *arena, struct cof_slice *ret_text,
                  struct cof_error *err)
{
    uint8_t signature[SIGNATURE_MAX];
    size_t length = sizeof signature;
    const size_t input = COF_BASE64URL_SIZE(header.len) + COF_BASE64URL_SIZE(payload.len) - 1;
    char *text = cof_arena_alloc(arena, input + 1 + COF_BASE64URL_SIZE(sizeof signature));
    if (text == NULL) {
        return cof_arena_exhausted(err);
    }
    cof_base64url_encode(header, text);
    const size_t dot = strlen(text);
    text[dot] = '.';
    cof_base64url_encode(payload, text + dot + 1);
    TRY(sign(key, algorithm, cof_slice_of(text, strlen(text)), signature, &length, err));
    text[input] = '.';
    cof_base64url_encode(cof_slice_of(signature, length), text + input + 1);
    *ret_text = cof_slice_text(text);
    return COF_OK;
}
