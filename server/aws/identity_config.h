#pragma once

#include <stdbool.h>

#include "server/aws/credentials.h"

/*
 * Where the server's own AWS credentials come from: the same places, in the same order, as AWS's SDKs look at, named by
 * the same variables of the environment. Pure: nothing is opened or asked here.
 *
 *   1. environment     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   2. web identity    AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME
 *   3. container       AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI,
 *                      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or _TOKEN
 *   4. instance        IMDSv2, unless AWS_EC2_METADATA_DISABLED is true; AWS_EC2_METADATA_SERVICE_ENDPOINT
 */

enum {
    AWS_URL_MAX = 1024,
    AWS_HEADER_TOKEN_MAX = 8192,
};

typedef enum aws_source {
    AWS_SOURCE_NONE,
    AWS_SOURCE_ENVIRONMENT,
    AWS_SOURCE_WEB_IDENTITY,
    AWS_SOURCE_CONTAINER,
    AWS_SOURCE_INSTANCE,
} aws_source;

/* Texts borrow from the environment, which nobody changes while the server runs. */
struct aws_identity_config {
    aws_source source;
    const char *fault;                  /* static: why the source cannot be used; NULL: it can */
    struct aws_credentials credentials; /* environment */
    const char *token_file;             /* web identity, container; NULL: none */
    const char *token;                  /* container; NULL: none */
    const char *role_arn;               /* web identity */
    const char *session_name;
    const char *region;    /* AWS_REGION, AWS_DEFAULT_REGION; NULL: none */
    char url[AWS_URL_MAX]; /* container; instance: what paths are put behind */
};

/* `get` returns a variable's value, NULL if it is not there. */
void aws_identity_configure(const char *(*get)(const char *name), struct aws_identity_config *ret_config);

/*
 * Whether a container's endpoint may be asked: by https any host, by http only this host and the addresses at which
 * containers have theirs, since the answer would be read by whoever listens.
 */
bool aws_container_url_is_allowed(const char *url);

/* "host:port" of a URL, the port of its scheme where it names none. False if it has no host, or no room. */
bool aws_authority_of(const char *url, char *to, size_t size);

/* What a token's file holds, without line ends at its end. Empty if it cannot stand in a header. */
struct cof_slice aws_header_token(struct cof_slice text);
