#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/slice.h"

/*
 * What a customer's administrator needs so that a role trusts this server: the trust policy, and the same for the AWS CLI,
 * CloudFormation and Terraform. Pure; the texts are the arena's.
 */

struct trust {
    struct cof_slice principal_arn;
    struct cof_slice external_id; /* letters and digits */
};

struct trust_texts {
    char *policy;              /* JSON */
    char *example_permissions; /* JSON: to read one S3 bucket */
    char *aws_cli;
    char *cloudformation; /* YAML */
    char *terraform;
};

COF_CODE trust_write(const struct trust *trust, struct cof_arena *arena, struct trust_texts *ret_texts,
                     struct cof_error *err);
