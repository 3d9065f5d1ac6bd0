#include "server/crypto/ssh_key.h"

#include <assert.h>
#include <stdbool.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/contexts.h"
#include "server/crypto/private_key.h"

#define MAGIC "openssh-key-v1" /* with its NUL */

enum {
    ED25519_KEY = 32,
    ED25519_PRIVATE = 64, /* seed and public key */
    BLOCK = 8,            /* the private part is filled up to a multiple of that */
    POINT_MAX = 1 + 2 * 66,
    NUMBER_MAX = PRIVATE_KEY_RSA_MAX / 8,
};

static const struct curve {
    const char *openssl;
    const char *name; /* as SSH calls it */
    const char *type;
    size_t field; /* bytes of a coordinate */
} curves[] = {
    {"prime256v1", "nistp256", "ecdsa-sha2-nistp256", 32},
    {"secp384r1", "nistp384", "ecdsa-sha2-nistp384", 48},
    {"secp521r1", "nistp521", "ecdsa-sha2-nistp521", 66},
};

#define AUTO_NUMBER AUTO(number_done)
#define AUTO_KEY AUTO(key_done)

static void number_done(BIGNUM **number)
{
    BN_clear_free(*number);
}

static void key_done(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static void key_context_done(EVP_PKEY_CTX **context)
{
    EVP_PKEY_CTX_free(*context);
}

static void builder_done(OSSL_PARAM_BLD **builder)
{
    OSSL_PARAM_BLD_free(*builder);
}

/* OpenSSL wipes what was pushed as secret itself; the others are public, but cost nothing to wipe. */
static void params_done(OSSL_PARAM **params)
{
    for (OSSL_PARAM *param = *params; param != NULL && param->key != NULL; param++) {
        cof_wipe(param->data, param->data_size);
    }
    OSSL_PARAM_free(*params);
}

/* --- Public part ---------------------------------------------------------------------------------------------- */

/* Writes into the arena's memory; what has no room is a mistake of ours. */
struct writer {
    uint8_t *to;
    size_t used;
    size_t room;
};

static void put_string(struct writer *writer, struct cof_slice bytes)
{
    assert(writer->room - writer->used >= bytes.len + 4);
    cof_put_u32(writer->to + writer->used, (uint32_t) bytes.len);
    if (bytes.len > 0) {
        memcpy(writer->to + writer->used + 4, bytes.data, bytes.len);
    }
    writer->used += 4 + bytes.len;
}

/* A zero byte stands before a number whose first bit is set, since mpints have a sign. */
static void put_number(struct writer *writer, const BIGNUM *number)
{
    const size_t length = (size_t) BN_num_bytes(number);
    const size_t sign = BN_num_bits(number) % 8 == 0 && length > 0;
    assert(writer->room - writer->used >= 4 + sign + length);
    cof_put_u32(writer->to + writer->used, (uint32_t) (sign + length));
    writer->to[writer->used + 4] = 0;
    (void) BN_bn2bin(number, writer->to + writer->used + 4 + sign);
    writer->used += 4 + sign + length;
}

static cof_code get_number(const EVP_PKEY *key, const char *name, BIGNUM **ret_number, struct cof_error *err)
{
    return EVP_PKEY_get_bn_param(key, name, ret_number) == 1 ? COF_OK : crypto_fail(err, "reading a part of a key");
}

static cof_code put_rsa(const EVP_PKEY *key, struct writer *writer, struct cof_error *err)
{
    AUTO_NUMBER BIGNUM *n = NULL;
    AUTO_NUMBER BIGNUM *e = NULL;
    TRY(get_number(key, OSSL_PKEY_PARAM_RSA_N, &n, err));
    TRY(get_number(key, OSSL_PKEY_PARAM_RSA_E, &e, err));
    put_string(writer, cof_slice_text("ssh-rsa"));
    put_number(writer, e);
    put_number(writer, n);
    return COF_OK;
}

static const struct curve *curve_of(const EVP_PKEY *key)
{
    char name[64];
    if (EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, name, sizeof name, NULL) != 1) {
        ERR_clear_error();
        return NULL;
    }
    for (size_t i = 0; i < COF_COUNT(curves); i++) {
        if (strcmp(curves[i].openssl, name) == 0) {
            return &curves[i];
        }
    }
    return NULL;
}

/* The point is written whole, however the key's own file had it. */
static cof_code put_ecdsa(const EVP_PKEY *key, struct writer *writer, struct cof_error *err)
{
    const struct curve *curve = curve_of(key);
    uint8_t point[POINT_MAX] = {4};
    AUTO_NUMBER BIGNUM *x = NULL;
    AUTO_NUMBER BIGNUM *y = NULL;
    if (curve == NULL) {
        return COF_OK;
    }
    TRY(get_number(key, OSSL_PKEY_PARAM_EC_PUB_X, &x, err));
    TRY(get_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y, err));
    if (BN_bn2binpad(x, point + 1, (int) curve->field) < 0 ||
        BN_bn2binpad(y, point + 1 + curve->field, (int) curve->field) < 0) {
        return crypto_fail(err, "writing a point of a curve");
    }
    put_string(writer, cof_slice_text(curve->type));
    put_string(writer, cof_slice_text(curve->name));
    put_string(writer, cof_slice_of(point, 1 + 2 * curve->field));
    return COF_OK;
}

static cof_code put_ed25519(const EVP_PKEY *key, struct writer *writer, struct cof_error *err)
{
    uint8_t public[ED25519_KEY];
    size_t length = sizeof public;
    if (EVP_PKEY_get_raw_public_key(key, public, &length) != 1) {
        return crypto_fail(err, "reading a part of a key");
    }
    put_string(writer, cof_slice_text("ssh-ed25519"));
    put_string(writer, cof_slice_of(public, length));
    return COF_OK;
}

cof_code ssh_public_part(const EVP_PKEY *key, struct cof_arena *arena, struct cof_slice *ret_public,
                         struct cof_error *err)
{
    struct writer writer = {.room = (size_t) EVP_PKEY_get_bits(key) / 8 + 256};
    writer.to = cof_arena_alloc(arena, writer.room);
    if (writer.to == NULL) {
        return cof_arena_exhausted(err);
    }
    if (EVP_PKEY_is_a(key, "RSA")) {
        TRY(put_rsa(key, &writer, err));
    } else if (EVP_PKEY_is_a(key, "EC")) {
        TRY(put_ecdsa(key, &writer, err));
    } else if (EVP_PKEY_is_a(key, "ED25519")) {
        TRY(put_ed25519(key, &writer, err));
    }
    *ret_public = cof_slice_of(writer.to, writer.used);
    return COF_OK;
}

/* --- Private format ------------------------------------------------------------------------------------------- */

static cof_code damaged(const char *field, const char *what, struct cof_error *err)
{
    ERR_clear_error();
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: the OpenSSH private key is damaged: %s; copy the whole file again", field, what);
}

static bool take_u32(struct cof_slice *from, uint32_t *ret_number)
{
    if (from->len < 4) {
        return false;
    }
    *ret_number = cof_get_u32(from->data);
    *from = cof_slice_of(from->data + 4, from->len - 4);
    return true;
}

static bool take_string(struct cof_slice *from, struct cof_slice *ret_string)
{
    uint32_t length = 0;
    if (!take_u32(from, &length) || length > from->len) {
        return false;
    }
    *ret_string = cof_slice_of(from->data, length);
    *from = cof_slice_of(from->data + length, from->len - length);
    return true;
}

static bool is(struct cof_slice string, const char *text)
{
    return cof_slice_equal(string, cof_slice_text(text));
}

/* A number of any sign bit set would be negative; those of keys are not. */
static bool take_number(struct cof_slice *from, BIGNUM **ret_number)
{
    struct cof_slice string;
    if (!take_string(from, &string) || string.len > NUMBER_MAX + 1 || (string.len > 0 && string.data[0] >= 0x80)) {
        return false;
    }
    *ret_number = BN_bin2bn(string.data, (int) string.len, NULL);
    return *ret_number != NULL;
}

static bool make_key(const char *type, OSSL_PARAM_BLD *builder, EVP_PKEY **ret_key)
{
    AUTO(params_done) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    AUTO(key_context_done) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    return params != NULL && context != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
           EVP_PKEY_fromdata(context, ret_key, EVP_PKEY_KEYPAIR, params) == 1;
}

enum { RSA_N, RSA_E, RSA_D, RSA_IQMP, RSA_P, RSA_Q, RSA_DP, RSA_DQ, RSA_NUMBERS };

struct rsa {
    BIGNUM *numbers[RSA_NUMBERS];
};

static void rsa_done(struct rsa *rsa)
{
    for (size_t i = 0; i < RSA_NUMBERS; i++) {
        BN_clear_free(rsa->numbers[i]);
    }
}

static void context_done(BN_CTX **context)
{
    BN_CTX_free(*context);
}

/* The exponents modulo p - 1 and q - 1, which the file does not have. */
static bool derive_exponents(struct rsa *rsa)
{
    AUTO(context_done) BN_CTX *context = BN_CTX_new();
    for (size_t i = 0; i < 2; i++) {
        AUTO_NUMBER BIGNUM *less = BN_dup(rsa->numbers[RSA_P + i]);
        BIGNUM *exponent = BN_new();
        rsa->numbers[RSA_DP + i] = exponent;
        if (context == NULL || less == NULL || exponent == NULL || BN_sub_word(less, 1) != 1 || BN_is_zero(less) ||
            BN_mod(exponent, rsa->numbers[RSA_D], less, context) != 1) {
            return false;
        }
    }
    return true;
}

static bool read_rsa(struct cof_slice *from, EVP_PKEY **ret_key)
{
    static const char *const names[RSA_NUMBERS] = {
        [RSA_N] = OSSL_PKEY_PARAM_RSA_N,          [RSA_E] = OSSL_PKEY_PARAM_RSA_E,
        [RSA_D] = OSSL_PKEY_PARAM_RSA_D,          [RSA_IQMP] = OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
        [RSA_P] = OSSL_PKEY_PARAM_RSA_FACTOR1,    [RSA_Q] = OSSL_PKEY_PARAM_RSA_FACTOR2,
        [RSA_DP] = OSSL_PKEY_PARAM_RSA_EXPONENT1, [RSA_DQ] = OSSL_PKEY_PARAM_RSA_EXPONENT2,
    };
    AUTO(rsa_done) struct rsa rsa = {{NULL}};
    AUTO(builder_done) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    for (size_t i = RSA_N; i <= RSA_Q; i++) {
        if (!take_number(from, &rsa.numbers[i]) || BN_is_zero(rsa.numbers[i])) {
            return false;
        }
    }
    if (builder == NULL || !derive_exponents(&rsa)) {
        return false;
    }
    for (size_t i = 0; i < RSA_NUMBERS; i++) {
        if (OSSL_PARAM_BLD_push_BN(builder, names[i], rsa.numbers[i]) != 1) {
            return false;
        }
    }
    return make_key("RSA", builder, ret_key);
}

static bool read_ecdsa(struct cof_slice *from, const struct curve *curve, EVP_PKEY **ret_key)
{
    struct cof_slice name;
    struct cof_slice point;
    AUTO_NUMBER BIGNUM *scalar = NULL;
    AUTO(builder_done) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    return builder != NULL && take_string(from, &name) && is(name, curve->name) && take_string(from, &point) &&
           point.len == 1 + 2 * curve->field && take_number(from, &scalar) &&
           OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve->openssl, 0) == 1 &&
           OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point.data, point.len) == 1 &&
           OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, scalar) == 1 &&
           make_key("EC", builder, ret_key);
}

/* The private string is the seed and the public key once more; OpenSSL derives that from the seed. */
static bool read_ed25519(struct cof_slice *from, EVP_PKEY **ret_key)
{
    struct cof_slice public;
    struct cof_slice private;
    uint8_t derived[ED25519_KEY];
    size_t length = sizeof derived;
    if (!take_string(from, &public) || public.len != ED25519_KEY || !take_string(from, &private) ||
        private.len != ED25519_PRIVATE) {
        return false;
    }
    const struct cof_slice again = cof_slice_of(private.data + ED25519_KEY, ED25519_KEY);
    *ret_key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private.data, ED25519_KEY);
    return *ret_key != NULL && cof_slice_equal(public, again) &&
           EVP_PKEY_get_raw_public_key(*ret_key, derived, &length) == 1 &&
           cof_slice_equal(public, cof_slice_of(derived, length));
}

static cof_code foreign_type(struct cof_slice type, const char *field, struct cof_error *err)
{
    if (cof_slice_starts_with(type, cof_slice_text("sk-"))) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                              "%s: the key needs its security token, so nothing else can use it; make another key: "
                              "ssh-keygen -t ed25519 -N ''",
                              field);
    }
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: the key is not of a type that is supported (ed25519, rsa, ecdsa); make another key: "
                          "ssh-keygen -t ed25519 -N ''",
                          field);
}

static cof_code read_key(struct cof_slice *from, struct cof_slice type, const char *field, EVP_PKEY **ret_key,
                         struct cof_error *err)
{
    const struct curve *curve = NULL;
    for (size_t i = 0; i < COF_COUNT(curves); i++) {
        curve = is(type, curves[i].type) ? &curves[i] : curve;
    }
    if (curve == NULL && !is(type, "ssh-rsa") && !is(type, "ssh-ed25519")) {
        return foreign_type(type, field, err);
    }
    const bool read = curve != NULL         ? read_ecdsa(from, curve, ret_key)
                      : is(type, "ssh-rsa") ? read_rsa(from, ret_key)
                                            : read_ed25519(from, ret_key);
    return read ? COF_OK : damaged(field, "its private part cannot be read", err);
}

/* Behind the comment stand 1, 2, 3, ... */
static bool padding_right(struct cof_slice rest, size_t whole)
{
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.data[i] != (uint8_t) (i + 1)) {
            return false;
        }
    }
    return rest.len <= UINT8_MAX && whole % BLOCK == 0;
}

static cof_code read_private(struct cof_slice part, const char *field, EVP_PKEY **ret_key, struct cof_error *err)
{
    struct cof_slice rest = part;
    struct cof_slice type;
    struct cof_slice comment;
    uint32_t check = 0;
    uint32_t again = 1;
    if (!take_u32(&rest, &check) || !take_u32(&rest, &again) || check != again || !take_string(&rest, &type)) {
        return damaged(field, "its check numbers differ", err);
    }
    TRY(read_key(&rest, type, field, ret_key, err));
    if (!take_string(&rest, &comment) || !padding_right(rest, part.len)) {
        return damaged(field, "its end is not right", err);
    }
    return COF_OK;
}

/* The parts of a file before the private one, which must be there and not be encrypted. */
static cof_code read_envelope(struct cof_slice bytes, const char *field, struct cof_slice *ret_public,
                              struct cof_slice *ret_private, struct cof_error *err)
{
    const struct cof_slice magic = cof_slice_of(MAGIC, sizeof MAGIC);
    struct cof_slice rest = bytes;
    struct cof_slice cipher;
    struct cof_slice kdf;
    struct cof_slice options;
    uint32_t count = 0;
    if (!cof_slice_starts_with(bytes, magic)) {
        return damaged(field, "it does not begin as one", err);
    }
    rest = cof_slice_of(rest.data + magic.len, rest.len - magic.len);
    if (!take_string(&rest, &cipher) || !take_string(&rest, &kdf) || !take_string(&rest, &options) ||
        !take_u32(&rest, &count)) {
        return damaged(field, "it is cut off", err);
    }
    if (!is(cipher, "none") || !is(kdf, "none")) {
        return cof_fail_field(
            err, COF_REASON_FIELD_INVALID, field,
            "%s: the private key is encrypted; store it without a passphrase: ssh-keygen -p -N '' "
            "-f KEY",
            field);
    }
    if (count != 1) {
        return damaged(field, "it has not exactly one key", err);
    }
    if (!take_string(&rest, ret_public) || !take_string(&rest, ret_private) || rest.len > 0) {
        return damaged(field, "it is cut off, or something stands behind it", err);
    }
    return COF_OK;
}

cof_code ssh_private_read(struct cof_slice bytes, const char *field, struct cof_arena *arena, EVP_PKEY **ret_key,
                          struct cof_error *err)
{
    AUTO_KEY EVP_PKEY *key = NULL;
    struct cof_slice public;
    struct cof_slice private;
    struct cof_slice own;
    TRY(read_envelope(bytes, field, &public, &private, err));
    TRY(read_private(private, field, &key, err));
    TRY(ssh_public_part(key, arena, &own, err));
    if (!cof_slice_equal(own, public)) {
        return damaged(field, "its public part does not belong to its private part", err);
    }
    *ret_key = TAKE(key);
    return COF_OK;
}
