#include "server/crypto/certificate.h"

#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "common/encode.h"
#include "server/crypto/contexts.h"
#include "server/crypto/key_handle.h"
#include "server/crypto/pem.h"

static void bio_done(BIO **bio)
{
    (void) BIO_free(*bio);
}

/* The name as text; OpenSSL escapes all that is not ASCII. */
static cof_code name_text(const X509_NAME *name, struct cof_arena *arena, const char **ret_text,
                          struct cof_error *err)
{
    AUTO(bio_done) BIO *bio = BIO_new(BIO_s_mem());
    const char *data = NULL;
    if (bio == NULL || X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) < 0) {
        return crypto_fail(err, "writing the name of a certificate");
    }
    const long length = BIO_get_mem_data(bio, &data);
    const size_t taken = length < CERTIFICATE_NAME_MAX ? (size_t) length : CERTIFICATE_NAME_MAX;
    *ret_text = cof_arena_text(arena, cof_slice_of(data, taken));
    return *ret_text == NULL ? cof_arena_exhausted(err) : COF_OK;
}

static bool time_of(const ASN1_TIME *time, int64_t *ret_seconds)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(time, &parts) != 1) {
        return false;
    }
    *ret_seconds = timegm(&parts);
    return true;
}

static cof_code not_readable(const char *field, size_t number, struct cof_error *err)
{
    ERR_clear_error();
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, field,
                          "%s: certificate %zu cannot be read; copy the whole block again", field, number);
}

static cof_code describe(struct certificate *certificate, const char *field, size_t number, struct cof_arena *arena,
                         struct cof_error *err)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    X509 *x509 = certificate->x509;
    if (X509_get0_pubkey(x509) == NULL || !time_of(X509_get0_notBefore(x509), &certificate->not_before) ||
        !time_of(X509_get0_notAfter(x509), &certificate->not_after)) {
        return not_readable(field, number, err);
    }
    if (X509_digest(x509, EVP_sha256(), digest, &length) != 1) {
        return crypto_fail(err, "hashing a certificate");
    }
    cof_hex_encode(cof_slice_of(digest, length), certificate->fingerprint);
    certificate->ca = X509_check_ca(x509) > 0;
    TRY(name_text(X509_get_subject_name(x509), arena, &certificate->subject, err));
    TRY(name_text(X509_get_issuer_name(x509), arena, &certificate->issuer, err));
    /* A strange extension is not this certificate's end; what OpenSSL noted about it is nobody's. */
    ERR_clear_error();
    return COF_OK;
}

static bool is_certificate(struct cof_slice label)
{
    return cof_slice_equal(label, cof_slice_text("CERTIFICATE")) ||
           cof_slice_equal(label, cof_slice_text("X509 CERTIFICATE"));
}

/* Names nothing but kinds of blocks: somebody may have pasted the key into the wrong field. */
static cof_code wrong_kind(struct cof_slice label, const char *field, struct cof_error *err)
{
    const bool private = label.len >= 11 && memcmp(label.data + label.len - 11, "PRIVATE KEY", 11) == 0;
    return cof_fail_field(
        err, COF_REASON_FIELD_INVALID, field,
        "%s: it holds %s; store certificates only, each from its line -----BEGIN CERTIFICATE----- on", field,
        private ? "a private key" : "a PEM block that is no certificate");
}

static cof_code read_one(const struct pem_block *block, const char *field, size_t number, struct cof_arena *arena,
                         struct certificate *certificate, struct cof_error *err)
{
    const uint8_t *at = block->bytes.data;
    if (!is_certificate(block->label)) {
        return wrong_kind(block->label, field, err);
    }
    certificate->x509 = d2i_X509(NULL, &at, (long) block->bytes.len);
    if (certificate->x509 == NULL || at != block->bytes.data + block->bytes.len) {
        return not_readable(field, number, err);
    }
    return describe(certificate, field, number, arena, err);
}

static size_t count_lines(struct cof_slice text, const char *begin)
{
    const size_t length = strlen(begin);
    size_t count = 0;
    for (size_t i = 0; i + length <= text.len; i++) {
        count += memcmp(text.data + i, begin, length) == 0;
    }
    return count;
}

static cof_code read_all(struct cof_slice text, const char *field, struct cof_arena *arena,
                         struct certificates *certificates, struct cof_error *err)
{
    struct cof_slice rest = text;
    const size_t most = count_lines(text, "-----BEGIN ");
    certificates->items = cof_arena_array(arena, most, sizeof *certificates->items);
    if (certificates->items == NULL) {
        return cof_arena_exhausted(err);
    }
    for (;;) {
        struct pem_block block;
        bool found = false;
        TRY(pem_next(&rest, field, arena, &block, NULL, &found, err));
        if (!found) {
            break;
        }
        struct certificate *certificate = &certificates->items[certificates->count++];
        TRY(read_one(&block, field, certificates->count, arena, certificate, err));
    }
    return certificates->count == 0 ? pem_missing(text, field, "a certificate", err) : COF_OK;
}

void certificates_done(struct certificates *certificates)
{
    for (size_t i = 0; i < certificates->count; i++) {
        X509_free(certificates->items[i].x509);
    }
    certificates->count = 0;
}

cof_code certificates_read(struct cof_slice text, const char *field, struct cof_arena *arena,
                           struct certificates *ret_certificates, struct cof_error *err)
{
    struct certificates certificates = {NULL, 0};
    const cof_code code = read_all(text, field, arena, &certificates, err);
    if (code != COF_OK) {
        certificates_done(&certificates);
        return code;
    }
    *ret_certificates = certificates;
    return COF_OK;
}

bool certificate_matches(const struct certificate *certificate, const struct private_key *key)
{
    const bool matches = EVP_PKEY_eq(X509_get0_pubkey(certificate->x509), private_key_view(key)) == 1;
    ERR_clear_error();
    return matches;
}
