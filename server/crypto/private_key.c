#include "server/crypto/private_key.h"

#include <stdbool.h>
#include <stdlib.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "server/crypto/contexts.h"
#include "server/crypto/key_handle.h"
#include "server/crypto/pem.h"
#include "server/crypto/ssh_key.h"

struct private_key {
    EVP_PKEY *key;
    struct cof_slice ssh_public; /* in the arena of whoever read the key; empty if SSH has no such keys */
};

/* --- One block ------------------------------------------------------------------------------------------------ */

static cof_code encrypted(const char *field, struct cof_error *err)
{
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: the private key is encrypted; store it without a passphrase: openssl pkey -in KEY "
                          "-out KEY.plain",
                          field);
}

static cof_code not_readable(const char *field, struct cof_error *err)
{
    ERR_clear_error();
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: the private key cannot be read; copy the whole block again", field);
}

/* What is there instead of a private key; NULL for a name that tells nothing. */
static const char *kind_of(struct cof_slice label)
{
    static const struct {
        const char *label;
        const char *kind;
    } kinds[] = {
        {"CERTIFICATE", "a certificate"},      {"TRUSTED CERTIFICATE", "a certificate"},
        {"X509 CERTIFICATE", "a certificate"}, {"CERTIFICATE REQUEST", "a certificate request"},
        {"PUBLIC KEY", "a public key"},        {"RSA PUBLIC KEY", "a public key"},
        {"SSH2 PUBLIC KEY", "a public key"},   {"DSA PRIVATE KEY", "a DSA key, which is not supported any more,"},
        {"X509 CRL", "a revocation list"},     {"PKCS7", "a PKCS #7 container"},
    };
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        if (cof_slice_equal(label, cof_slice_text(kinds[i].label))) {
            return kinds[i].kind;
        }
    }
    return NULL;
}

static cof_code wrong_kind(struct cof_slice label, const char *field, struct cof_error *err)
{
    const char *kind = kind_of(label);
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: it holds %s instead of a private key; store the key", field,
                          kind == NULL ? "a PEM block of an unknown kind" : kind);
}

static EVP_PKEY *read_pkcs8(const uint8_t **at, size_t length)
{
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, at, (long) length);
    EVP_PKEY *key = info == NULL ? NULL : EVP_PKCS82PKEY(info);
    PKCS8_PRIV_KEY_INFO_free(info);
    return key;
}

/* Of a kind for which label_known holds. */
static EVP_PKEY *read_der(struct cof_slice label, struct cof_slice bytes)
{
    const uint8_t *at = bytes.data;
    EVP_PKEY *key;
    if (cof_slice_equal(label, cof_slice_text("PRIVATE KEY"))) {
        key = read_pkcs8(&at, bytes.len);
    } else {
        const bool rsa = cof_slice_equal(label, cof_slice_text("RSA PRIVATE KEY"));
        key = d2i_PrivateKey(rsa ? EVP_PKEY_RSA : EVP_PKEY_EC, NULL, &at, (long) bytes.len);
    }
    if (key != NULL && at != bytes.data + bytes.len) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

static bool label_known(struct cof_slice label)
{
    return cof_slice_equal(label, cof_slice_text("PRIVATE KEY")) ||
           cof_slice_equal(label, cof_slice_text("RSA PRIVATE KEY")) ||
           cof_slice_equal(label, cof_slice_text("EC PRIVATE KEY"));
}

static cof_code read_block(const struct pem_block *block, private_key_use use, const char *field,
                           struct cof_arena *arena, EVP_PKEY **ret_key, struct cof_error *err)
{
    if (block->encrypted || cof_slice_equal(block->label, cof_slice_text("ENCRYPTED PRIVATE KEY"))) {
        return encrypted(field, err);
    }
    if (cof_slice_equal(block->label, cof_slice_text("OPENSSH PRIVATE KEY"))) {
        if (use == PRIVATE_KEY_FOR_SSH) {
            return ssh_private_read(block->bytes, field, arena, ret_key, err);
        }
        return cof_fail_field(
            err, COF_REASON_FIELD_INVALID, field,
            "%s: the key is in OpenSSH's format, which is used for SSH only; convert it: ssh-keygen "
            "-p -m PEM -N '' -f KEY",
            field);
    }
    if (!label_known(block->label)) {
        return wrong_kind(block->label, field, err);
    }
    *ret_key = read_der(block->label, block->bytes);
    return *ret_key == NULL ? not_readable(field, err) : COF_OK;
}

/* --- Checks --------------------------------------------------------------------------------------------------- */

static void numbers_done(BN_CTX **numbers)
{
    BN_CTX_free(*numbers);
}

enum { RSA_N, RSA_E, RSA_D, RSA_P, RSA_Q, RSA_DP, RSA_DQ, RSA_IQMP, RSA_PARTS };

struct rsa_parts {
    BIGNUM *numbers[RSA_PARTS];
};

static void rsa_parts_done(struct rsa_parts *parts)
{
    for (size_t i = 0; i < RSA_PARTS; i++) {
        BN_clear_free(parts->numbers[i]);
    }
}

static bool rsa_parts_read(const EVP_PKEY *key, struct rsa_parts *parts)
{
    static const char *const names[RSA_PARTS] = {
        [RSA_N] = OSSL_PKEY_PARAM_RSA_N,          [RSA_E] = OSSL_PKEY_PARAM_RSA_E,
        [RSA_D] = OSSL_PKEY_PARAM_RSA_D,          [RSA_P] = OSSL_PKEY_PARAM_RSA_FACTOR1,
        [RSA_Q] = OSSL_PKEY_PARAM_RSA_FACTOR2,    [RSA_DP] = OSSL_PKEY_PARAM_RSA_EXPONENT1,
        [RSA_DQ] = OSSL_PKEY_PARAM_RSA_EXPONENT2, [RSA_IQMP] = OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
    };
    for (size_t i = 0; i < RSA_PARTS; i++) {
        if (EVP_PKEY_get_bn_param(key, names[i], &parts->numbers[i]) != 1) {
            return false;
        }
    }
    return true;
}

/* Whether e x d = 1 modulo the prime less one, and the exponent for it is d modulo that. */
static bool exponents_fit(const struct rsa_parts *parts, size_t prime, size_t exponent, BN_CTX *context)
{
    BIGNUM *less = BN_CTX_get(context);
    BIGNUM *result = BN_CTX_get(context);
    return result != NULL && BN_copy(less, parts->numbers[prime]) != NULL && BN_sub_word(less, 1) == 1 &&
           !BN_is_zero(less) &&
           BN_mod_mul(result, parts->numbers[RSA_E], parts->numbers[RSA_D], less, context) == 1 &&
           BN_is_one(result) && BN_mod(result, parts->numbers[RSA_D], less, context) == 1 &&
           BN_cmp(result, parts->numbers[exponent]) == 0;
}

static bool numbers_fit(const struct rsa_parts *parts, BN_CTX *context)
{
    BIGNUM *const *numbers = parts->numbers;
    BIGNUM *result = BN_CTX_get(context);
    return result != NULL && BN_is_odd(numbers[RSA_N]) && BN_is_odd(numbers[RSA_E]) && !BN_is_one(numbers[RSA_E]) &&
           BN_mul(result, numbers[RSA_P], numbers[RSA_Q], context) == 1 && BN_cmp(result, numbers[RSA_N]) == 0 &&
           BN_mod_mul(result, numbers[RSA_IQMP], numbers[RSA_Q], numbers[RSA_P], context) == 1 &&
           BN_is_one(result) && exponents_fit(parts, RSA_P, RSA_DP, context) &&
           exponents_fit(parts, RSA_Q, RSA_DQ, context);
}

/*
 * OpenSSL's own check asks whether the primes are prime, which takes seconds for the largest keys. A damaged key is
 * found by this as well.
 */
static bool rsa_fits(const EVP_PKEY *key)
{
    AUTO(numbers_done) BN_CTX *context = BN_CTX_new();
    AUTO(rsa_parts_done) struct rsa_parts parts = {{NULL}};
    if (context == NULL || !rsa_parts_read(key, &parts)) {
        return false;
    }
    BN_CTX_start(context);
    const bool fits = numbers_fit(&parts, context);
    BN_CTX_end(context);
    return fits;
}

static void context_done(EVP_PKEY_CTX **context)
{
    EVP_PKEY_CTX_free(*context);
}

static bool ec_fits(EVP_PKEY *key)
{
    AUTO(context_done) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    return context != NULL && EVP_PKEY_check(context) == 1;
}

static bool named_curve(const EVP_PKEY *key)
{
    char name[64];
    return EVP_PKEY_get_group_name(key, name, sizeof name, NULL) == 1;
}

static cof_code check_size(const EVP_PKEY *key, const char *field, struct cof_error *err)
{
    const int bits = EVP_PKEY_get_bits(key);
    if (bits >= PRIVATE_KEY_RSA_MIN && bits <= PRIVATE_KEY_RSA_MAX) {
        return COF_OK;
    }
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field, "%s: the RSA key has %d bits; %d to %d are allowed",
                          field, bits, PRIVATE_KEY_RSA_MIN, PRIVATE_KEY_RSA_MAX);
}

static cof_code check_parts(EVP_PKEY *key, const char *field, struct cof_error *err)
{
    const bool rsa = EVP_PKEY_is_a(key, "RSA");
    const bool ec = EVP_PKEY_is_a(key, "EC");
    if (rsa) {
        TRY(check_size(key, field, err));
    }
    if ((rsa && !rsa_fits(key)) || (ec && !ec_fits(key))) {
        ERR_clear_error();
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                              "%s: the parts of the private key do not belong together; copy the whole block again",
                              field);
    }
    return COF_OK;
}

static bool usable(const struct private_key *key, private_key_use use)
{
    switch (use) {
    case PRIVATE_KEY_FOR_SSH:
        return key->ssh_public.len > 0;
    case PRIVATE_KEY_FOR_TLS:
        return EVP_PKEY_is_a(key->key, "RSA") || EVP_PKEY_is_a(key->key, "ED25519") ||
               EVP_PKEY_is_a(key->key, "ED448") || (EVP_PKEY_is_a(key->key, "EC") && named_curve(key->key));
    case PRIVATE_KEY_FOR_RSA:
        return EVP_PKEY_is_a(key->key, "RSA");
    }
    return false;
}

static cof_code check_use(const struct private_key *key, private_key_use use, const char *field,
                          struct cof_error *err)
{
    static const char *const allowed[] = {
        [PRIVATE_KEY_FOR_SSH] = "ed25519, RSA, or ECDSA on P-256, P-384 or P-521",
        [PRIVATE_KEY_FOR_TLS] = "RSA, ECDSA on a named curve, ed25519 or ed448",
        [PRIVATE_KEY_FOR_RSA] = "RSA",
    };
    if (usable(key, use)) {
        return COF_OK;
    }
    ERR_clear_error();
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: the private key is of a type that cannot be used "
                          "here; store one that is %s",
                          field, allowed[use]);
}

/* --- Keys ----------------------------------------------------------------------------------------------------- */

static bool blank(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] > ' ') {
            return false;
        }
    }
    return true;
}

/* Old tools write the curve's parameters before the key. */
static cof_code next_block(struct cof_slice *text, const char *field, struct cof_arena *arena,
                           struct pem_block *ret_block, bool *ret_found, struct cof_error *err)
{
    struct cof_slice before;
    do {
        TRY(pem_next(text, field, arena, ret_block, &before, ret_found, err));
        if (*ret_found && !blank(before)) {
            return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                                  "%s: something stands before the private key; store the key alone", field);
        }
    } while (*ret_found && cof_slice_equal(ret_block->label, cof_slice_text("EC PARAMETERS")));
    return COF_OK;
}

static cof_code read_only_block(struct cof_slice text, const char *field, struct cof_arena *arena,
                                struct pem_block *ret_block, struct cof_error *err)
{
    struct cof_slice rest = text;
    struct pem_block second;
    bool found = false;
    TRY(next_block(&rest, field, arena, ret_block, &found, err));
    if (!found) {
        return pem_missing(text, field, "a private key", err);
    }
    TRY(next_block(&rest, field, arena, &second, &found, err));
    if (found || !blank(rest)) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                              "%s: something stands behind the private key; store the key alone", field);
    }
    return COF_OK;
}

void private_key_free(struct private_key *key)
{
    if (key != NULL) {
        EVP_PKEY_free(key->key);
        free(key);
    }
}

void private_key_cleanup(struct private_key **key)
{
    private_key_free(*key);
}

cof_code private_key_read(struct cof_slice text, private_key_use use, const char *field, struct cof_arena *arena,
                          struct private_key **ret_key, struct cof_error *err)
{
    struct pem_block block;
    AUTO(private_key_cleanup) struct private_key *key = calloc(1, sizeof *key);
    if (key == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(read_only_block(text, field, arena, &block, err));
    TRY(read_block(&block, use, field, arena, &key->key, err));
    TRY(check_parts(key->key, field, err));
    TRY(ssh_public_part(key->key, arena, &key->ssh_public, err));
    TRY(check_use(key, use, field, err));
    *ret_key = TAKE(key);
    return COF_OK;
}

const char *private_key_type(const struct private_key *key)
{
    static const struct {
        const char *openssl;
        const char *type;
    } types[] = {{"RSA", "rsa"}, {"EC", "ecdsa"}, {"ED25519", "ed25519"}, {"ED448", "ed448"}};
    for (size_t i = 0; i < COF_COUNT(types); i++) {
        if (EVP_PKEY_is_a(key->key, types[i].openssl)) {
            return types[i].type;
        }
    }
    return "";
}

uint32_t private_key_bits(const struct private_key *key)
{
    return (uint32_t) EVP_PKEY_get_bits(key->key);
}

cof_code private_key_fingerprint(const struct private_key *key, char to[PRIVATE_KEY_FINGERPRINT],
                                 struct cof_error *err)
{
    static const char prefix[] = "SHA256:";
    uint8_t digest[CRYPTO_DIGEST];
    uint8_t text[4 * ((CRYPTO_DIGEST + 2) / 3) + 1];
    TRY(crypto_sha256(key->ssh_public, digest, err));
    (void) EVP_EncodeBlock(text, digest, sizeof digest);
    memcpy(to, prefix, sizeof prefix - 1);
    memcpy(to + sizeof prefix - 1, text, PRIVATE_KEY_FINGERPRINT - sizeof prefix);
    to[PRIVATE_KEY_FINGERPRINT - 1] = '\0';
    return COF_OK;
}

EVP_PKEY *private_key_view(const struct private_key *key)
{
    return key->key;
}
