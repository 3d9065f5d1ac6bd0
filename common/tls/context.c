#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "common/tls/context_state.h"
#include "common/tls/file.h"

enum { SECURITY_LEAST = 2 /* of OpenSSL's levels: 112 bits, so RSA of 2048 bits, and no SHA-1 */ };

/* --- Cleanup -------------------------------------------------------------------------------------------------- */

static void bio_cleanup(BIO **bio)
{
    BIO_free(*bio);
}

static void certificate_cleanup(X509 **certificate)
{
    X509_free(*certificate);
}

static void key_cleanup(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

/* --- Failures ------------------------------------------------------------------------------------------------- */

static COF_CODE out_of_memory(struct cof_error *err)
{
    ERR_clear_error();
    return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for TLS");
}

static COF_CODE wrong(const struct cof_tls_file *file, const char *problem, struct cof_error *err)
{
    ERR_clear_error();
    return cof_fail_field(err, COF_REASON_CONFIG_INVALID, file->setting, "%s: \"%.160s\" %s", file->setting,
                          file->path, problem);
}

/* What OpenSSL says of a certificate or key that it does not take. */
static COF_CODE refused(const struct cof_tls_file *file, struct cof_error *err)
{
    const char *why = ERR_reason_error_string(ERR_peek_error());
    char problem[160];
    (void) snprintf(problem, sizeof problem,
                    "is refused: %s; use a certificate with an ECDSA key, or RSA of 2048 bits",
                    why == NULL ? "no reason given" : why);
    return wrong(file, problem, err);
}

/* --- Certificates --------------------------------------------------------------------------------------------- */

static bool given(const struct cof_tls_file *file)
{
    return file->path != NULL && file->path[0] != '\0';
}

static BIO *source_of(const struct cof_tls_text *text)
{
    return BIO_new_mem_buf(text->bytes, (int) text->size);
}

/* True at the end of the blocks; false if the text goes on with something that cannot be read. */
static bool at_end(void)
{
    const unsigned long error = ERR_peek_last_error();
    const bool end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return end;
}

/* Gives each certificate of a file to `take`, which returns whether OpenSSL took it. */
static COF_CODE each_certificate(const struct cof_tls_file *file, SSL_CTX *ctx,
                                 int (*take)(SSL_CTX *ctx, X509 *certificate, size_t index), struct cof_error *err)
{
    AUTO(cof_tls_text_done) struct cof_tls_text text = {0};
    TRY(cof_tls_file_read(file, &text, err));
    AUTO(bio_cleanup) BIO *source = source_of(&text);
    size_t count = 0;
    if (source == NULL) {
        return out_of_memory(err);
    }
    for (;;) {
        AUTO(certificate_cleanup) X509 *certificate = PEM_read_bio_X509(source, NULL, NULL, NULL);
        if (certificate == NULL) {
            break;
        }
        if (take(ctx, certificate, count++) != 1) {
            return refused(file, err);
        }
    }
    if (!at_end()) {
        return wrong(file, "holds a certificate that cannot be read; check it with: openssl x509 -noout -text",
                     err);
    }
    return count > 0 ? COF_OK : wrong(file, "holds no certificate in PEM form (BEGIN CERTIFICATE)", err);
}

static int take_own(SSL_CTX *ctx, X509 *certificate, size_t index)
{
    return index == 0 ? SSL_CTX_use_certificate(ctx, certificate) : (int) SSL_CTX_add1_chain_cert(ctx, certificate);
}

/* Its name is told to clients, so that they can choose among their certificates. */
static int take_trusted(SSL_CTX *ctx, X509 *certificate, size_t index)
{
    (void) index;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate) == 1 &&
           SSL_CTX_add_client_CA(ctx, certificate) == 1;
}

/* No question on a terminal: a key that is encrypted is refused. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the type is OpenSSL's */
static int no_password(char *to, int size, int writing, void *context)
{
    bool *asked = context;
    (void) to;
    (void) size;
    (void) writing;
    *asked = true;
    return -1;
}

static COF_CODE use_key(const struct cof_tls_file *file, SSL_CTX *ctx, struct cof_error *err)
{
    AUTO(cof_tls_text_done) struct cof_tls_text text = {0};
    bool encrypted = false;
    TRY(cof_tls_file_read_key(file, &text, err));
    AUTO(bio_cleanup) BIO *source = source_of(&text);
    if (source == NULL) {
        return out_of_memory(err);
    }
    AUTO(key_cleanup) EVP_PKEY *key = PEM_read_bio_PrivateKey(source, NULL, no_password, &encrypted);
    if (encrypted) {
        return wrong(file, "is encrypted; decrypt it with: openssl pkey -in FILE -out FILE, and guard the file",
                     err);
    }
    if (key == NULL) {
        return wrong(file, "holds no private key in PEM form (BEGIN PRIVATE KEY)", err);
    }
    if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        return wrong(file, "is not the key of the certificate; name the pair that belongs together", err);
    }
    return COF_OK;
}

static COF_CODE use_own(const struct cof_tls_options *options, SSL_CTX *ctx, struct cof_error *err)
{
    const bool certificate = given(&options->certificate);
    const bool key = given(&options->key);
    if (!certificate && !key && options->role == COF_TLS_CLIENT) {
        return COF_OK;
    }
    if (!certificate || !key) {
        const char *missing = certificate ? options->key.setting : options->certificate.setting;
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, missing,
                              "%s is not set; TLS needs both a certificate (%s) and its key (%s)", missing,
                              options->certificate.setting, options->key.setting);
    }
    TRY(each_certificate(&options->certificate, ctx, take_own, err));
    return use_key(&options->key, ctx, err);
}

/* --- Trust ---------------------------------------------------------------------------------------------------- */

static int verify_mode(const struct cof_tls_options *options)
{
    if (options->role == COF_TLS_CLIENT) {
        return SSL_VERIFY_PEER;
    }
    if (!given(&options->ca)) {
        return SSL_VERIFY_NONE;
    }
    return options->optional ? SSL_VERIFY_PEER : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

static COF_CODE use_trust(const struct cof_tls_options *options, SSL_CTX *ctx, struct cof_error *err)
{
    SSL_CTX_set_verify(ctx, verify_mode(options), NULL);
    if (given(&options->ca)) {
        return each_certificate(&options->ca, ctx, take_trusted, err);
    }
    if (options->role == COF_TLS_CLIENT && SSL_CTX_set_default_verify_paths(ctx) != 1) {
        return out_of_memory(err);
    }
    return COF_OK;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

/* Whatever OpenSSL's configuration on this machine permits. */
static void refuse_weak_keys(SSL_CTX *ctx)
{
    if (SSL_CTX_get_security_level(ctx) < SECURITY_LEAST) {
        SSL_CTX_set_security_level(ctx, SECURITY_LEAST);
    }
}

static bool configure(SSL_CTX *ctx, cof_tls_role role)
{
    static const unsigned char own[] = COF_TLS_ALPN;
    refuse_weak_keys(ctx);
    (void) SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    (void) SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void) SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    if (role == COF_TLS_SERVER) {
        SSL_CTX_set_alpn_select_cb(ctx, cof_tls_choose_protocol, NULL);
    } else if (SSL_CTX_set_alpn_protos(ctx, own, sizeof own - 1) != 0) {
        return false;
    }
    return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 && SSL_CTX_set_num_tickets(ctx, 0) == 1;
}

cof_code cof_tls_new(const struct cof_tls_options *options, struct cof_tls **ret_tls, struct cof_error *err)
{
    AUTO(cof_tls_cleanup) struct cof_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL) {
        return out_of_memory(err);
    }
    tls->role = options->role;
    atomic_init(&tls->holders, 1);
    ERR_clear_error();
    tls->ctx = SSL_CTX_new(options->role == COF_TLS_SERVER ? TLS_server_method() : TLS_client_method());
    if (tls->ctx == NULL || !configure(tls->ctx, options->role)) {
        return out_of_memory(err);
    }
    TRY(use_own(options, tls->ctx, err));
    TRY(use_trust(options, tls->ctx, err));
    *ret_tls = TAKE(tls);
    return COF_OK;
}

struct cof_tls *cof_tls_hold(struct cof_tls *tls)
{
    (void) atomic_fetch_add(&tls->holders, 1);
    return tls;
}

void cof_tls_drop(struct cof_tls *tls)
{
    if (tls == NULL || atomic_fetch_sub(&tls->holders, 1) != 1) {
        return;
    }
    SSL_CTX_free(tls->ctx);
    free(tls);
}

int32_t cof_tls_days_left(const struct cof_tls *tls)
{
    const X509 *certificate = SSL_CTX_get0_certificate(tls->ctx);
    int days = 0;
    int seconds = 0;
    if (certificate == NULL || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1) {
        return INT32_MAX;
    }
    return seconds < 0 ? days - 1 : days;
}
