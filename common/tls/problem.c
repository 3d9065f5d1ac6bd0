#include "common/tls/problem.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum {
    NAMES_TEXT = 120,
    SUBJECT_TEXT = 80,
    IPV4 = 4,
    IPV6 = 16,
};

/* Names come from the peer, and end up on terminals. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~') {
            *text = '?';
        }
    }
}

/* --- Certificates --------------------------------------------------------------------------------------------- */

static void append(char *to, size_t size, const char *text, size_t len)
{
    const size_t used = strlen(to);
    (void) snprintf(to + used, size - used, "%s%.*s", used == 0 ? "" : ", ",
                    (int) (len < NAMES_TEXT ? len : NAMES_TEXT), text);
}

static void append_name(const GENERAL_NAME *name, char *to, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "";
    int type = 0;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    const int len = type == GEN_DNS || type == GEN_IPADD ? ASN1_STRING_length(value) : 0;
    if (type == GEN_DNS) {
        append(to, size, (const char *) ASN1_STRING_get0_data(value), (size_t) len);
    } else if (len == IPV4 || len == IPV6) {
        (void) inet_ntop(len == IPV4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), text, sizeof text);
        append(to, size, text, strlen(text));
    }
}

/* The names that a server's certificate is for; "no name" if there is none. */
static void names_of(const X509 *certificate, char *to, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    to[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        append_name(sk_GENERAL_NAME_value(names, i), to, size);
    }
    GENERAL_NAMES_free(names);
    if (to[0] == '\0') {
        (void) snprintf(to, size, "no name");
    }
    make_printable(to);
}

static void subject_of(const X509 *certificate, char *to, size_t size)
{
    (void) X509_NAME_oneline(X509_get_subject_name(certificate), to, (int) size);
    make_printable(to);
}

static void date_of(const ASN1_TIME *time, char *to, size_t size)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(time, &parts) != 1 || strftime(to, size, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
        (void) snprintf(to, size, "an unknown date");
    }
}

static void tell_names(const X509 *certificate, const char *name, char *to, size_t size)
{
    char names[NAMES_TEXT];
    names_of(certificate, names, sizeof names);
    (void) snprintf(
        to, size,
        "the server's certificate is not for \"%.60s\", but for %s; dial a name that it has, or name one as "
        "tls_server_name",
        name == NULL ? "" : name, names);
}

static void tell_dates(const char *whose, const X509 *certificate, bool expired, char *to, size_t size)
{
    char date[40];
    date_of(expired ? X509_get0_notAfter(certificate) : X509_get0_notBefore(certificate), date, sizeof date);
    (void) snprintf(to, size,
                    expired ? "%s certificate expired at %s; renew it"
                            : "%s certificate is valid from %s on; "
                              "check the clocks of both hosts",
                    whose, date);
}

static bool is_unknown_issuer(int error)
{
    return error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY || error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN || error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
           error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE || error == X509_V_ERR_CERT_SIGNATURE_FAILURE;
}

void cof_tls_problem_certificate(cof_tls_role role, const X509 *certificate, int error, const char *name, char *to,
                                 size_t size)
{
    const char *whose = role == COF_TLS_CLIENT ? "the server's" : "the client's";
    char subject[SUBJECT_TEXT] = "";
    if (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        tell_names(certificate, name, to, size);
        return;
    }
    if (error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID) {
        tell_dates(whose, certificate, error == X509_V_ERR_CERT_HAS_EXPIRED, to, size);
        return;
    }
    subject_of(certificate, subject, sizeof subject);
    if (is_unknown_issuer(error)) {
        (void) snprintf(to, size,
                        "%s certificate (%s) leads to no CA that is trusted here; add the CA that signed it to "
                        "%s",
                        whose, subject,
                        role == COF_TLS_CLIENT ? "the file of cacert" : "the file of tls.client_ca");
        return;
    }
    (void) snprintf(to, size, "%s certificate (%s) is not taken: %s; have another one made", whose, subject,
                    X509_verify_cert_error_string(error));
}

/* --- The protocol --------------------------------------------------------------------------------------------- */

struct known {
    int reason;
    const char *of_server; /* as a client tells it */
    const char *of_client; /* as a server tells it */
};

#define MINE_UNKNOWN_CLIENT \
    "the server does not take the client's certificate; check client_cert against the server's tls.client_ca"
#define MINE_UNKNOWN_SERVER "the client does not take the server's certificate; give it the CA that signed it"

static const struct known known_reasons[] = {
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED,
     "the server lets in only clients with a certificate; set client_cert and client_key", NULL},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, NULL, "the client has no certificate, which tls.client_ca asks for"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, MINE_UNKNOWN_CLIENT, MINE_UNKNOWN_SERVER},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, MINE_UNKNOWN_CLIENT, MINE_UNKNOWN_SERVER},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, MINE_UNKNOWN_CLIENT, MINE_UNKNOWN_SERVER},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, MINE_UNKNOWN_CLIENT, MINE_UNKNOWN_SERVER},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "the client's certificate (client_cert) has expired; renew it",
     "the client finds the server's certificate expired; renew it, or check the clocks"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the server does not speak TLS 1.3", "the client does not speak TLS 1.3"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "the server does not speak TLS 1.3", "the client does not speak TLS 1.3"},
    {SSL_R_WRONG_VERSION_NUMBER, "the server does not speak TLS", "the client does not speak TLS"},
    {SSL_R_NO_APPLICATION_PROTOCOL, NULL, "the client speaks another protocol over TLS (ALPN)"},
    {SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, "the server speaks another protocol over TLS (ALPN)", NULL},
};

static const char *text_of(cof_tls_role role, int reason)
{
    for (size_t i = 0; i < COF_COUNT(known_reasons); i++) {
        if (known_reasons[i].reason == reason) {
            return role == COF_TLS_CLIENT ? known_reasons[i].of_server : known_reasons[i].of_client;
        }
    }
    return NULL;
}

void cof_tls_problem_protocol(cof_tls_role role, char *to, size_t size)
{
    const unsigned long error = ERR_peek_error();
    const char *text = ERR_GET_LIB(error) == ERR_LIB_SSL ? text_of(role, ERR_GET_REASON(error)) : NULL;
    const char *reason = ERR_reason_error_string(error);
    if (text != NULL) {
        (void) snprintf(to, size, "%s", text);
    } else {
        (void) snprintf(to, size, "TLS failed: %s", reason == NULL ? "no reason given" : reason);
    }
    ERR_clear_error();
}

void cof_tls_problem_plain(cof_tls_role role, const uint8_t *first, size_t count, char *to, size_t size)
{
    static const uint8_t greeting[] = {0, 'S', 'P', 0};
    const bool nanomsg = count >= sizeof greeting && memcmp(first, greeting, sizeof greeting) == 0;
    const char *text = NULL;
    if (role == COF_TLS_CLIENT) {
        text = nanomsg ? "the server speaks here without TLS; dial tcp://, or have it listen on tls+tcp://"
                       : "what answers is no server with TLS; check the address";
    } else {
        text =
            nanomsg ? "the client speaks without TLS; it has to dial tls+tcp://" : "the client does not speak TLS";
    }
    (void) snprintf(to, size, "%s", text);
}
