#include "common/tls/session.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "common/tls/context_state.h"
#include "common/tls/problem.h"

enum {
    RECORD_ALERT = 0x15,
    RECORD_HANDSHAKE = 0x16,
    PEEK = 4,
};

struct cof_tls_session {
    struct cof_tls *tls;
    SSL *ssl;
    BIO *in; /* of `ssl`, as is `out` */
    BIO *out;
    char *name;
    bool web;    /* HTTP is spoken inside */
    bool looked; /* at the first bytes of the peer */
    bool failed;
    char problem[COF_TLS_PROBLEM];
};

/* --- Life ----------------------------------------------------------------------------------------------------- */

/* Keeps why a certificate is refused; the answer stays OpenSSL's. */
static int on_verified(int ok, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct cof_tls_session *session = SSL_get_app_data(ssl);
    if (ok == 0 && session->problem[0] == '\0') {
        cof_tls_problem_certificate(session->tls->role, X509_STORE_CTX_get_current_cert(store),
                                    X509_STORE_CTX_get_error(store), session->name, session->problem,
                                    sizeof session->problem);
    }
    return ok;
}

static bool is_address(const char *name)
{
    struct in6_addr address;
    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

/* An address is checked as one, and is not sent as a server's name (RFC 6066). */
static bool expect(SSL *ssl, char *name)
{
    if (is_address(name)) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static bool prepare(struct cof_tls_session *session, const char *name)
{
    session->ssl = SSL_new(session->tls->ctx);
    session->in = BIO_new(BIO_s_mem());
    session->out = BIO_new(BIO_s_mem());
    if (session->ssl == NULL || session->in == NULL || session->out == NULL) {
        BIO_free(session->in);
        BIO_free(session->out);
        return false;
    }
    SSL_set_bio(session->ssl, session->in, session->out);
    SSL_set_app_data(session->ssl, session);
    SSL_set_verify(session->ssl, SSL_get_verify_mode(session->ssl), on_verified);
    if (session->tls->role == COF_TLS_SERVER) {
        SSL_set_accept_state(session->ssl);
        return true;
    }
    SSL_set_connect_state(session->ssl);
    session->name = strdup(name);
    return session->name != NULL && expect(session->ssl, session->name);
}

int cof_tls_choose_protocol(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_size,
                            const unsigned char *offered, unsigned offered_size, void *context)
{
    static const unsigned char own[] = COF_TLS_ALPN;
    static const unsigned char web[] = COF_TLS_ALPN_WEB;
    const struct cof_tls_session *session = SSL_get_app_data(ssl);
    unsigned char *chosen = NULL;
    (void) context;
    if (SSL_select_next_proto(&chosen, ret_size, session->web ? web : own, sizeof own - 1, offered, offered_size) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *ret_name = chosen;
    return SSL_TLSEXT_ERR_OK;
}

bool cof_tls_session_speak_web(struct cof_tls_session *session)
{
    static const unsigned char web[] = COF_TLS_ALPN_WEB;
    _Static_assert(sizeof COF_TLS_ALPN == sizeof COF_TLS_ALPN_WEB, "cof_tls_choose_protocol has one size for both");
    session->web = true;
    return session->tls->role == COF_TLS_SERVER || SSL_set_alpn_protos(session->ssl, web, sizeof web - 1) == 0;
}

struct cof_tls_session *cof_tls_session_new(struct cof_tls *tls, const char *name)
{
    struct cof_tls_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    ERR_clear_error();
    session->tls = cof_tls_hold(tls);
    if (!prepare(session, name)) {
        ERR_clear_error();
        cof_tls_session_free(session);
        return NULL;
    }
    return session;
}

void cof_tls_session_free(struct cof_tls_session *session)
{
    if (session == NULL) {
        return;
    }
    SSL_free(session->ssl);
    free(session->name);
    cof_tls_drop(session->tls);
    free(session);
}

/* --- Bytes ---------------------------------------------------------------------------------------------------- */

bool cof_tls_session_feed(struct cof_tls_session *session, struct cof_slice bytes)
{
    size_t written = 0;
    return BIO_write_ex(session->in, bytes.data, bytes.len, &written) == 1 && written == bytes.len;
}

size_t cof_tls_session_waiting(const struct cof_tls_session *session)
{
    return BIO_ctrl_pending(session->out);
}

size_t cof_tls_session_take(struct cof_tls_session *session, uint8_t *to, size_t size)
{
    size_t taken = 0;
    return BIO_read_ex(session->out, to, size, &taken) == 1 ? taken : 0;
}

/* --- Steps ---------------------------------------------------------------------------------------------------- */

static cof_tls_step fail(struct cof_tls_session *session)
{
    session->failed = true;
    if (session->problem[0] == '\0') {
        cof_tls_problem_protocol(session->tls->role, session->problem, sizeof session->problem);
    }
    ERR_clear_error();
    return COF_TLS_FAILED;
}

static cof_tls_step step_of(struct cof_tls_session *session, int result)
{
    switch (SSL_get_error(session->ssl, result)) {
    case SSL_ERROR_NONE:
        return COF_TLS_DONE;
    case SSL_ERROR_WANT_READ:
        return COF_TLS_WANTS;
    case SSL_ERROR_ZERO_RETURN:
        return COF_TLS_ENDED;
    default:
        return fail(session);
    }
}

/*
 * OpenSSL answers bytes that are no TLS with silence. An alert lets a peer know whom it has met: a client without TLS
 * can say so.
 */
static cof_tls_step refuse_plain(struct cof_tls_session *session, const uint8_t *first, size_t count)
{
    static const uint8_t alert[] = {RECORD_ALERT, 3, 3, 0, 2, 2, SSL_AD_PROTOCOL_VERSION};
    size_t written = 0;
    cof_tls_problem_plain(session->tls->role, first, count, session->problem, sizeof session->problem);
    (void) BIO_write_ex(session->out, alert, sizeof alert, &written);
    return fail(session);
}

/* TLS begins with a record of the handshake, or with an alert. */
static cof_tls_step look(struct cof_tls_session *session)
{
    char *first = NULL;
    const long count = BIO_get_mem_data(session->in, &first);
    if (session->looked || count <= 0) {
        return COF_TLS_DONE;
    }
    if (first[0] == RECORD_HANDSHAKE || (first[0] == RECORD_ALERT && session->tls->role == COF_TLS_CLIENT)) {
        session->looked = true;
        return COF_TLS_DONE;
    }
    if (count < PEEK && first[0] == 0) {
        return COF_TLS_WANTS;
    }
    return refuse_plain(session, (const uint8_t *) first, (size_t) count);
}

cof_tls_step cof_tls_session_handshake(struct cof_tls_session *session)
{
    if (session->failed) {
        return COF_TLS_FAILED;
    }
    const cof_tls_step looked = look(session);
    if (looked != COF_TLS_DONE) {
        return looked;
    }
    ERR_clear_error();
    return step_of(session, SSL_do_handshake(session->ssl));
}

cof_tls_step cof_tls_session_read(struct cof_tls_session *session, uint8_t *to, size_t size, size_t *ret_size)
{
    if (session->failed) {
        return COF_TLS_FAILED;
    }
    ERR_clear_error();
    return step_of(session, SSL_read_ex(session->ssl, to, size, ret_size));
}

cof_tls_step cof_tls_session_write(struct cof_tls_session *session, struct cof_slice bytes)
{
    size_t written = 0;
    if (session->failed) {
        return COF_TLS_FAILED;
    }
    ERR_clear_error();
    const cof_tls_step step = step_of(session, SSL_write_ex(session->ssl, bytes.data, bytes.len, &written));
    return step == COF_TLS_DONE && written == bytes.len ? COF_TLS_DONE : fail(session);
}

void cof_tls_session_end(struct cof_tls_session *session)
{
    if (!session->failed && SSL_is_init_finished(session->ssl) == 1) {
        ERR_clear_error();
        (void) SSL_shutdown(session->ssl);
        ERR_clear_error();
    }
}

const char *cof_tls_session_problem(const struct cof_tls_session *session)
{
    return session->problem;
}

void cof_tls_session_cut(struct cof_tls_session *session)
{
    if (session->problem[0] != '\0') {
        return;
    }
    (void) snprintf(session->problem, sizeof session->problem, "%s",
                    SSL_is_init_finished(session->ssl) == 1
                        ? "the connection was cut without TLS's end"
                        : "the connection ended in the middle of the TLS handshake");
}
