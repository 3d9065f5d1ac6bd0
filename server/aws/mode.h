#pragma once

#include <stdbool.h>

#include "common/slice.h"

/*
 * What the keys of a secret for AWS mean (product.md, Resolve, rule 6; docs/decisions/0026-aws.md). Pure.
 *
 * Secrets of three names are for AWS: `aws`, `amazon_s3`, `amazon_bedrock`. In any other one these keys are keys like all
 * others.
 */

typedef enum aws_key {
    AWS_KEY_ROLE_ARN,
    AWS_KEY_PROFILE,
    AWS_KEY_ROLE_SESSION_NAME,
    AWS_KEY_ACCESS_KEY_ID,
    AWS_KEY_SECRET_ACCESS_KEY,
    AWS_KEY_SESSION_TOKEN,
    AWS_KEY_REGION,
    AWS_KEY_BEARER_TOKEN_BEDROCK,
    AWS_KEYS,
} aws_key;

/* "AWS_ROLE_ARN" */
const char *aws_key_name(aws_key key);

/* AWS_KEYS if the key is none of them. */
aws_key aws_key_of(struct cof_slice name);

typedef enum aws_kind {
    AWS_KIND_NONE, /* no secret for AWS */
    AWS_KIND_GENERAL,
    AWS_KIND_BEDROCK, /* which has bearer tokens as well */
} aws_kind;

aws_kind aws_kind_of(struct cof_slice secret);

/* What is stored, without the white space around it; what is not stored, or blank, is empty. */
struct aws_stored {
    struct cof_slice values[AWS_KEYS];
};

/* Without the ASCII white space around it. */
struct cof_slice aws_trimmed(struct cof_slice value);

typedef enum aws_mode {
    AWS_MODE_DIRECT,
    AWS_MODE_PROFILE,
    AWS_MODE_ROLE,
} aws_mode;

aws_mode aws_mode_of(const struct aws_stored *stored);

/* What an executor is given for a key. */
typedef enum aws_fate {
    AWS_FATE_STORED,     /* what is stored */
    AWS_FATE_WITHHELD,   /* nothing, though it may be stored */
    AWS_FATE_TEMPORARY,  /* what the role's session has */
    AWS_FATE_INCOMPLETE, /* nothing: an access key stands without its secret key, or the reverse */
} aws_fate;

/* AWS_KEYS, which is any other key, is given as it is stored. */
aws_fate aws_fate_of(aws_kind kind, const struct aws_stored *stored, aws_key key);

/* Whether the key is stored and does not count, since a role or a profile comes before it. */
bool aws_ignored(const struct aws_stored *stored, aws_key key);

/* Whether somebody who needs the key needs the credentials of the role's session. */
bool aws_stands_for_role(aws_key key);
