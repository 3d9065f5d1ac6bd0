#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/name.h"
#include "common/uuid.h"

/* Settings of a client, from its text and the environment (include/coffer/coffer.h, coffer_client_open). */

enum {
    SETTINGS_TEXT_MAX = 8192,
    SETTINGS_ADDRESSES = 16,
    SETTINGS_APPLICATION = 64,
    SETTINGS_PATH = 4096,
    SETTINGS_HOST = 253,
    SETTINGS_TIMEOUT_MS = 10000,
    SETTINGS_TIMEOUT_MAX_MS = 3600000,
    SETTINGS_CONNECT_TIMEOUT_MS = 3000,
    SETTINGS_COALESCE_REQUESTS = 4,
    SETTINGS_COALESCE_REQUESTS_MAX = 64,
    SETTINGS_COALESCE_WAIT_MS = 20,
};

struct settings {
    char *addresses[SETTINGS_ADDRESSES];
    size_t address_count;
    char *token_file;  /* NULL: none */
    char *cacert;      /* NULL: the CAs of the system */
    char *client_cert; /* NULL: none */
    char *client_key;
    char *tls_server_name;    /* NULL: the host of the address */
    const char *token;        /* the environment's COFFER_TOKEN, not copied; NULL: none */
    const char *address_from; /* where they were given, for messages */
    char workspace[COF_UUID_TEXT];
    char environment[COF_ENVIRONMENT_MAX + 1];
    char application_name[SETTINGS_APPLICATION + 1];
    uint32_t timeout_ms;
    uint32_t connect_timeout_ms;
    bool insecure_transport;
    bool coalesce;
    uint32_t coalesce_requests;
    uint32_t coalesce_wait_ms;
    size_t memory; /* bytes; 0: the default */
};

/* Looks a variable of the environment up; NULL if it is not set. Replaced by tests. */
typedef const char *(*settings_variable)(const char *name);

/* Reads `text`, which may be NULL, then the environment. Fails with CONFIG_INVALID, naming the setting. */
COF_CODE settings_read(const char *text, settings_variable variable, struct settings *ret_settings,
                       struct cof_error *err);
void settings_done(struct settings *settings);
