#include "tests/unit/tls/certificates.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { DAY_S = 86400, CAS = 2 };

struct authority {
    X509 *certificate;
    EVP_PKEY *key;
    char path[CERTIFICATES_PATH];
};

static char folder[] = "/tmp/coffer-tls-XXXXXX";
static struct authority authorities[CAS];
static long serial;

static void must(bool condition, const char *what)
{
    if (!condition) {
        (void) fprintf(stderr, "certificates: %s failed\n", what);
        abort();
    }
}

void certificates_path(const char *name, char path[CERTIFICATES_PATH])
{
    must(snprintf(path, CERTIFICATES_PATH, "%s/%s", folder, name) < CERTIFICATES_PATH, "a path");
}

static void remove_folder(void)
{
    char path[CERTIFICATES_PATH];
    DIR *files = opendir(folder);
    must(files != NULL, "opendir");
    for (const struct dirent *file = readdir(files); file != NULL; file = readdir(files)) {
        if (file->d_name[0] != '.') {
            certificates_path(file->d_name, path);
            (void) unlink(path);
        }
    }
    (void) closedir(files);
    must(rmdir(folder) == 0, "rmdir");
    for (size_t i = 0; i < CAS; i++) {
        X509_free(authorities[i].certificate);
        EVP_PKEY_free(authorities[i].key);
    }
}

static void add_extension(X509 *certificate, int id, const char *text)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, id, text);
    must(extension != NULL && X509_add_ext(certificate, extension, -1) == 1, "an extension");
    X509_EXTENSION_free(extension);
}

static X509 *make(const char *name, EVP_PKEY *key, int since_s, int until_s)
{
    X509 *certificate = X509_new();
    must(certificate != NULL, "X509_new");
    X509_NAME *subject = X509_get_subject_name(certificate);
    must(X509_set_version(certificate, X509_VERSION_3) == 1 &&
             ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial) == 1 &&
             X509_gmtime_adj(X509_getm_notBefore(certificate), since_s) != NULL &&
             X509_gmtime_adj(X509_getm_notAfter(certificate), until_s) != NULL &&
             X509_set_pubkey(certificate, key) == 1 &&
             X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0) == 1,
         "a certificate");
    return certificate;
}

static void write_certificate(const char *path, X509 *certificate)
{
    FILE *file = fopen(path, "w");
    must(file != NULL && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0, "writing a certificate");
}

static void write_key(const char *path, EVP_PKEY *key)
{
    FILE *file = fopen(path, "w");
    must(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0 &&
             chmod(path, S_IRUSR | S_IWUSR) == 0,
         "writing a key");
}

static void make_authority(struct authority *authority, const char *name)
{
    authority->key = EVP_EC_gen("P-256");
    must(authority->key != NULL, "a key");
    authority->certificate = make(name, authority->key, -DAY_S, 10 * DAY_S);
    add_extension(authority->certificate, NID_basic_constraints, "critical,CA:TRUE");
    must(X509_set_issuer_name(authority->certificate, X509_get_subject_name(authority->certificate)) == 1 &&
             X509_sign(authority->certificate, authority->key, EVP_sha256()) > 0,
         "signing");
    certificates_path(name, authority->path);
    write_certificate(authority->path, authority->certificate);
}

void certificates_start(void)
{
    if (authorities[0].key == NULL) {
        must(mkdtemp(folder) != NULL, "mkdtemp");
        make_authority(&authorities[0], "ca.pem");
        make_authority(&authorities[1], "other-ca.pem");
        (void) atexit(remove_folder);
    }
}

const char *certificates_ca(bool other)
{
    return authorities[other].path;
}

static void name_pair(const char *name, struct pair *pair)
{
    char file[CERTIFICATES_PATH / 2];
    (void) snprintf(file, sizeof file, "%s.pem", name);
    certificates_path(file, pair->certificate);
    (void) snprintf(file, sizeof file, "%s.key", name);
    certificates_path(file, pair->key);
}

struct pair certificates_issue(const struct certificate_wish *wish, bool other)
{
    struct pair pair;
    const struct authority *authority = &authorities[other];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    must(key != NULL, "a key");
    X509 *certificate = make(wish->name, key, wish->since_s, wish->until_s);
    add_extension(certificate, NID_ext_key_usage, wish->purpose);
    if (wish->names != NULL) {
        add_extension(certificate, NID_subject_alt_name, wish->names);
    }
    must(X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate)) == 1 &&
             X509_sign(certificate, authority->key, EVP_sha256()) > 0,
         "signing");
    name_pair(wish->name, &pair);
    write_certificate(pair.certificate, certificate);
    write_key(pair.key, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return pair;
}

struct pair certificates_server(void)
{
    const struct certificate_wish wish = {"server", "DNS:localhost,IP:127.0.0.1", "serverAuth", -DAY_S, DAY_S};
    return certificates_issue(&wish, false);
}

struct pair certificates_client(void)
{
    const struct certificate_wish wish = {"client", NULL, "clientAuth", -DAY_S, DAY_S};
    return certificates_issue(&wish, false);
}
