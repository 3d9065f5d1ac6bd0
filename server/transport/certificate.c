#include "server/transport/certificate.h"

#include <pthread.h>
#include <stdlib.h>

enum { WARN_DAYS = 14 };

struct certificate {
    pthread_mutex_t lock; /* of `now` */
    struct cof_tls *now;
};

static COF_CODE read_files(const struct certificate_options *options, struct cof_tls **ret_tls,
                           struct cof_error *err)
{
    const struct cof_tls_options files = {
        .role = COF_TLS_SERVER,
        .certificate = {options->certificate, "tls.certificate"},
        .key = {options->key, "tls.key"},
        .ca = {options->client_ca, "tls.client_ca"},
        .optional = options->client_optional,
    };
    TRY(cof_tls_new(&files, ret_tls, err));
    const int32_t days = cof_tls_days_left(*ret_tls);
    if (days < WARN_DAYS) {
        COF_LOG(options->log, COF_LOG_WARN, "certificate_expires",
                days < 0 ? "the certificate of tls.certificate has expired" : "tls.certificate is to be renewed",
                cof_log_number("days_left", days));
    }
    return COF_OK;
}

cof_code certificate_new(const struct certificate_options *options, struct certificate **ret_certificate,
                         struct cof_error *err)
{
    AUTO(cof_tls_cleanup) struct cof_tls *tls = NULL;
    TRY(read_files(options, &tls, err));
    struct certificate *certificate = calloc(1, sizeof *certificate);
    if (certificate == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the certificate");
    }
    certificate->now = TAKE(tls);
    (void) pthread_mutex_init(&certificate->lock, NULL);
    *ret_certificate = certificate;
    return COF_OK;
}

void certificate_free(struct certificate *certificate)
{
    if (certificate == NULL) {
        return;
    }
    cof_tls_drop(certificate->now);
    (void) pthread_mutex_destroy(&certificate->lock);
    free(certificate);
}

cof_code certificate_reload(struct certificate *certificate, const struct certificate_options *options,
                            struct cof_error *err)
{
    AUTO(cof_tls_cleanup) struct cof_tls *tls = NULL;
    TRY(read_files(options, &tls, err));
    (void) pthread_mutex_lock(&certificate->lock);
    struct cof_tls *old = certificate->now;
    certificate->now = TAKE(tls);
    tls = old;
    (void) pthread_mutex_unlock(&certificate->lock);
    return COF_OK;
}

struct cof_tls *certificate_now(struct certificate *certificate)
{
    (void) pthread_mutex_lock(&certificate->lock);
    struct cof_tls *now = cof_tls_hold(certificate->now);
    (void) pthread_mutex_unlock(&certificate->lock);
    return now;
}
