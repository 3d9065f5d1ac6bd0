#pragma once

#include "common/error.h"
#include "common/slice.h"

/*
 * ARNs and regions. Pure.
 *
 *   arn:PARTITION:iam::ACCOUNT:role/PATH/NAME
 */

enum {
    AWS_ACCOUNT_DIGITS = 12,
    AWS_REGION_MAX = 32,
    AWS_HOST_MAX = 96,
};

/* An ARN's parts; they borrow from it. */
struct aws_arn {
    struct cof_slice partition;
    struct cof_slice service;
    struct cof_slice region;
    struct cof_slice account;
    struct cof_slice resource; /* "role/team/name" */
};

/* Reads the ARN of a role. AWS_ROLE_ARN_INVALID says what it is instead, and never shows it. */
COF_CODE aws_role_arn_read(struct cof_slice text, struct aws_arn *ret_arn, struct cof_error *err);

/*
 * Reads the ARN of the principal that roles are to trust: a role or a user. An account's root is refused, since every
 * principal of the account would be trusted. CONFIG_INVALID.
 */
COF_CODE aws_principal_arn_read(struct cof_slice text, struct aws_arn *ret_arn, struct cof_error *err);

/* Where STS answers for a role, and what requests are signed for. */
struct aws_place {
    char region[AWS_REGION_MAX + 1];
    char host[AWS_HOST_MAX]; /* "sts.eu-central-1.amazonaws.com" */
};

/*
 * The regional endpoint of a partition; `region` empty: the partition's own choice. AWS_REGION_INVALID if it is none, or
 * one of another partition; AWS_ROLE_ARN_INVALID for a partition that is not known.
 */
COF_CODE aws_place_of(struct cof_slice partition, struct cof_slice region, struct aws_place *ret_place,
                      struct cof_error *err);

/* Whether the text is written like a region. */
int aws_region_is_valid(struct cof_slice region);
