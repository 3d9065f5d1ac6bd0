#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/evp.h>

#include "common/attr.h"
#include "server/crypto/keyring.h"
#include "server/crypto/xaes.h"

/*
 * What sealing, opening and a row MAC cost, as a ratio to bare AES-256-GCM of OpenSSL that sets a new key for each
 * message in a context that it keeps. All are measured in turn, several times, in one run; the best time counts, as
 * noise only ever adds.
 */

enum { SIZE = 256, CALLS = 20000, ROUNDS = 15 };

struct bench {
    EVP_CIPHER_CTX *gcm;
    struct xaes_key *key;
    struct keyring *keyring;
    struct blob_address address;
    uint8_t raw[CRYPTO_KEY];
    uint8_t nonce[CRYPTO_NONCE];
    uint8_t text[SIZE];
    uint8_t sealed[SIZE + CRYPTO_TAG];
    uint8_t blob[SIZE + BLOB_OVERHEAD];
    uint8_t out[SIZE + BLOB_OVERHEAD];
};

static COF_CODE bare_gcm(struct bench *bench, struct cof_error *err)
{
    int written = 0;
    const bool done = EVP_EncryptInit_ex2(bench->gcm, NULL, bench->raw, bench->nonce, NULL) == 1 &&
                      EVP_EncryptUpdate(bench->gcm, bench->out, &written, bench->text, SIZE) == 1 &&
                      EVP_EncryptFinal_ex(bench->gcm, bench->out + SIZE, &written) == 1 &&
                      EVP_CIPHER_CTX_ctrl(bench->gcm, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG, bench->out + SIZE) == 1;
    return done ? COF_OK : cof_fail_internal(err, COF_ORIGIN_OPENSSL, "", "bare AES-256-GCM");
}

static COF_CODE run_xaes_seal(struct bench *bench, struct cof_error *err)
{
    return xaes_seal(bench->key, bench->nonce, cof_slice_of(NULL, 0), cof_slice_of(bench->text, SIZE), bench->out,
                     err);
}

static COF_CODE run_xaes_open(struct bench *bench, struct cof_error *err)
{
    return xaes_open(bench->key, bench->nonce, cof_slice_of(NULL, 0),
                     cof_slice_of(bench->sealed, sizeof bench->sealed), bench->out, err);
}

static COF_CODE run_keyring_seal(struct bench *bench, struct cof_error *err)
{
    return keyring_seal(bench->keyring, &bench->address, cof_slice_of(bench->text, SIZE), bench->out, err);
}

static COF_CODE run_keyring_open(struct bench *bench, struct cof_error *err)
{
    return keyring_open(bench->keyring, &bench->address, cof_slice_of(bench->blob, sizeof bench->blob), bench->out,
                        err);
}

static COF_CODE run_row_mac(struct bench *bench, struct cof_error *err)
{
    return keyring_row_mac(bench->keyring, &bench->address.workspace, 1, cof_slice_of(bench->text, SIZE),
                           bench->out, err);
}

static COF_CODE run_sha256(struct bench *bench, struct cof_error *err)
{
    return crypto_sha256(cof_slice_of(bench->text, SIZE), bench->out, err);
}

static COF_CODE run_nonce(struct bench *bench, struct cof_error *err)
{
    return crypto_random(bench->out, CRYPTO_NONCE, err);
}

static const struct {
    const char *name;
    cof_code (*run)(struct bench *bench, struct cof_error *err);
} subjects[] = {
    {"bare AES-256-GCM, new key", bare_gcm},
    {"xaes_seal", run_xaes_seal},
    {"xaes_open", run_xaes_open},
    {"keyring_seal", run_keyring_seal},
    {"keyring_open", run_keyring_open},
    {"keyring_row_mac", run_row_mac},
    {"crypto_sha256", run_sha256},
    {"crypto_random, 24 bytes", run_nonce},
};

static double now_ns(void)
{
    struct timespec time;
    (void) clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec * 1e9 + (double) time.tv_nsec;
}

static COF_CODE measure(struct bench *bench, size_t subject, double *best, struct cof_error *err)
{
    const double start = now_ns();
    for (int i = 0; i < CALLS; i++) {
        TRY(subjects[subject].run(bench, err));
    }
    const double each = (now_ns() - start) / CALLS;
    *best = *best == 0 || each < *best ? each : *best;
    return COF_OK;
}

static COF_CODE prepare_keyring(struct bench *bench, struct cof_error *err)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    struct root_key *root = NULL;
    TRY(root_key_new(bench->raw, &root, err));
    const cof_code code = keyring_new(&root, 1, 100, &bench->keyring, err);
    if (code != COF_OK) {
        root_key_free(root);
        return code;
    }
    TRY(keyring_generate(bench->keyring, &bench->address.workspace, 1, wrapped, err));
    return keyring_install(bench->keyring, &bench->address.workspace, 1, cof_slice_of(wrapped, sizeof wrapped),
                           err);
}

static COF_CODE prepare(struct bench *bench, struct cof_error *err)
{
    TRY(crypto_start((size_t) 1 << 18, 0, err));
    TRY(crypto_random(bench->raw, sizeof bench->raw, err));
    TRY(crypto_random(bench->nonce, sizeof bench->nonce, err));
    TRY(crypto_random(bench->text, sizeof bench->text, err));
    bench->gcm = EVP_CIPHER_CTX_new();
    if (bench->gcm == NULL ||
        EVP_EncryptInit_ex2(bench->gcm, EVP_aes_256_gcm(), bench->raw, bench->nonce, NULL) != 1) {
        return cof_fail_internal(err, COF_ORIGIN_OPENSSL, "", "setting up AES-256-GCM");
    }
    TRY(xaes_key_new(bench->raw, &bench->key, err));
    TRY(prepare_keyring(bench, err));
    TRY(run_xaes_seal(bench, err));
    memcpy(bench->sealed, bench->out, sizeof bench->sealed);
    TRY(run_keyring_seal(bench, err));
    memcpy(bench->blob, bench->out, sizeof bench->blob);
    return COF_OK;
}

static void bench_done(struct bench *bench)
{
    EVP_CIPHER_CTX_free(bench->gcm);
    xaes_key_free(bench->key);
    keyring_free(bench->keyring);
    crypto_stop();
}

static COF_CODE run(struct cof_error *err)
{
    AUTO(bench_done) struct bench bench = {.address = {.kind = BLOB_ANSWER}};
    double best[COF_COUNT(subjects)] = {0};
    TRY(prepare(&bench, err));
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < COF_COUNT(subjects); i++) {
            TRY(measure(&bench, i, &best[i], err));
        }
    }
    printf("%d bytes, best of %d rounds\n", SIZE, ROUNDS);
    for (size_t i = 0; i < COF_COUNT(subjects); i++) {
        printf("%-28s %7.0f ns  %5.2f\n", subjects[i].name, best[i], best[i] / best[0]);
    }
    return COF_OK;
}

int main(void)
{
    struct cof_error err;
    if (run(&err) != COF_OK) {
        fprintf(stderr, "coffer_crypto_bench: %s (%s)\n", err.message, err.trail);
        return 1;
    }
    return 0;
}
