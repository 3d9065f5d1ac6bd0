#pragma once

#include <stdbool.h>

/* A CA and certificates for a test, in a folder of its own that the end of the process removes. */

enum { CERTIFICATES_PATH = 128 };

/* A certificate and its key, as files. */
struct pair {
    char certificate[CERTIFICATES_PATH];
    char key[CERTIFICATES_PATH];
};

struct certificate_wish {
    const char *name;     /* of the files, and the subject */
    const char *names;    /* such as "DNS:localhost,IP:127.0.0.1"; NULL: none */
    const char *purpose;  /* "serverAuth", "clientAuth" */
    int since_s, until_s; /* from now */
};

/* Ends the process where it fails, as does what follows. */
void certificates_start(void);

/* The CA's certificate; `other` is one that nobody trusts. */
const char *certificates_ca(bool other);

/* Makes a certificate that the CA has signed. */
struct pair certificates_issue(const struct certificate_wish *wish, bool other);

/* One that is right for a server on this host, and one for a client. */
struct pair certificates_server(void);
struct pair certificates_client(void);

/* A path in the folder. */
void certificates_path(const char *name, char path[CERTIFICATES_PATH]);
