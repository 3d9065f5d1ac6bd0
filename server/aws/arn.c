#include "server/aws/arn.h"

#include <stdbool.h>
#include <stdio.h>

#include "common/attr.h"

enum {
    ARN_LEAST = 20,
    ARN_MOST = 2048,
    NAME_MOST = 64,
    PATH_MOST = 512,
};

/* --- Partitions ----------------------------------------------------------------------------------------------- */

struct partition {
    const char *name;
    const char *regions;
    const char *own_region;
    const char *domain;
};

static const struct partition partitions[] = {
#define PARTITION(name, regions, own_region, domain) {name, regions, own_region, domain},
#include "server/aws/partition.def"
#undef PARTITION
};

static const struct partition *partition_named(struct cof_slice name)
{
    for (size_t i = 0; i < COF_COUNT(partitions); i++) {
        if (cof_slice_equal(name, cof_slice_text(partitions[i].name))) {
            return &partitions[i];
        }
    }
    return NULL;
}

static const struct partition *partition_of_region(struct cof_slice region)
{
    for (size_t i = 1; i < COF_COUNT(partitions); i++) {
        if (cof_slice_starts_with(region, cof_slice_text(partitions[i].regions))) {
            return &partitions[i];
        }
    }
    return &partitions[0];
}

/* --- Characters ----------------------------------------------------------------------------------------------- */

static bool is_lower(uint8_t byte)
{
    return byte >= 'a' && byte <= 'z';
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_name(uint8_t byte)
{
    return is_lower(byte) || is_digit(byte) || (byte >= 'A' && byte <= 'Z') ||
           (byte != '\0' && strchr("+=,.@_-", byte) != NULL);
}

static bool is_path(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f;
}

static bool all(struct cof_slice text, bool (*allowed)(uint8_t byte))
{
    for (size_t i = 0; i < text.len; i++) {
        if (!allowed(text.data[i])) {
            return false;
        }
    }
    return true;
}

static bool is_account(struct cof_slice account)
{
    return account.len == AWS_ACCOUNT_DIGITS && all(account, is_digit);
}

/* Letters, then groups of letters, then digits, with dashes between them: no more than what a host name may have. */
int aws_region_is_valid(struct cof_slice region)
{
    size_t dashes = 0;
    if (region.len == 0 || region.len > AWS_REGION_MAX || !is_lower(region.data[0]) ||
        !is_digit(region.data[region.len - 1])) {
        return 0;
    }
    for (size_t i = 0; i < region.len; i++) {
        const uint8_t byte = region.data[i];
        const bool doubled = byte == '-' && region.data[i - 1] == '-';
        if ((!is_lower(byte) && !is_digit(byte) && byte != '-') || doubled) {
            return 0;
        }
        dashes += byte == '-';
    }
    return dashes >= 2;
}

/* --- ARNs ----------------------------------------------------------------------------------------------------- */

/* Cuts off what stands before the next colon. */
static bool next_part(struct cof_slice *rest, struct cof_slice *ret_part)
{
    const uint8_t *colon = rest->len == 0 ? NULL : memchr(rest->data, ':', rest->len);
    if (colon == NULL) {
        return false;
    }
    const size_t length = (size_t) (colon - rest->data);
    *ret_part = cof_slice_of(rest->data, length);
    *rest = cof_slice_of(colon + 1, rest->len - length - 1);
    return true;
}

static bool split(struct cof_slice text, struct aws_arn *ret_arn)
{
    struct cof_slice arn;
    struct cof_slice rest = text;
    *ret_arn = (struct aws_arn){0};
    if (!next_part(&rest, &arn) || !cof_slice_equal(arn, cof_slice_text("arn")) ||
        !next_part(&rest, &ret_arn->partition) || !next_part(&rest, &ret_arn->service) ||
        !next_part(&rest, &ret_arn->region) || !next_part(&rest, &ret_arn->account)) {
        return false;
    }
    ret_arn->resource = rest;
    return true;
}

/* What stands behind the last slash of a resource, and what before it and behind the first one. */
static bool name_is_valid(struct cof_slice resource)
{
    const uint8_t *last = memrchr(resource.data, '/', resource.len);
    const uint8_t *first = memchr(resource.data, '/', resource.len);
    if (first == NULL || last == NULL) {
        return false;
    }
    const struct cof_slice path = cof_slice_of(first, (size_t) (last - first) + 1);
    const struct cof_slice name = cof_slice_of(last + 1, resource.len - (size_t) (last + 1 - resource.data));
    return path.len <= PATH_MOST && all(path, is_path) && name.len > 0 && name.len <= NAME_MOST &&
           all(name, is_name);
}

static bool begins(struct cof_slice text, const char *with)
{
    return cof_slice_starts_with(text, cof_slice_text(with));
}

/* What is wrong with an ARN that should be that of a role; NULL: nothing. */
static const char *role_fault(struct cof_slice text, const struct aws_arn *arn)
{
    if (text.len < ARN_LEAST || text.len > ARN_MOST || arn->partition.len == 0) {
        return "it is no ARN; write arn:aws:iam::123456789012:role/NAME";
    }
    if (cof_slice_equal(arn->service, cof_slice_text("sts"))) {
        return "it is the ARN of a session, which ends; write that of the role, arn:aws:iam::ACCOUNT:role/NAME";
    }
    if (!cof_slice_equal(arn->service, cof_slice_text("iam"))) {
        return "it is the ARN of a resource of another service; write that of an IAM role";
    }
    if (arn->region.len > 0) {
        return "it names a region, and IAM has none; leave the part between the colons behind iam empty";
    }
    if (!is_account(arn->account)) {
        return "its account is not a number of 12 digits";
    }
    if (cof_slice_equal(arn->resource, cof_slice_text("root"))) {
        return "it is the ARN of a whole account; write that of a role in it";
    }
    if (begins(arn->resource, "user/")) {
        return "it is the ARN of a user, which nobody can assume; write that of a role";
    }
    if (!begins(arn->resource, "role/")) {
        return "it is the ARN of something else in IAM; write that of a role";
    }
    return name_is_valid(arn->resource) ? NULL
                                        : "the name or the path of its role has characters that none can have";
}

cof_code aws_role_arn_read(struct cof_slice text, struct aws_arn *ret_arn, struct cof_error *err)
{
    struct aws_arn arn;
    if (!split(text, &arn)) {
        arn.partition.len = 0;
    }
    const char *fault = role_fault(text, &arn);
    if (fault != NULL) {
        return cof_fail(err, COF_REASON_AWS_ROLE_ARN_INVALID, "AWS_ROLE_ARN cannot be used: %s", fault);
    }
    if (partition_named(arn.partition) == NULL) {
        return cof_fail(
            err, COF_REASON_AWS_ROLE_ARN_INVALID,
            "AWS_ROLE_ARN cannot be used: its partition is none that this server knows; most are \"aws\"");
    }
    *ret_arn = arn;
    return COF_OK;
}

static const char *principal_fault(struct cof_slice text, struct aws_arn *arn)
{
    if (text.len > ARN_MOST || !split(text, arn) || !cof_slice_equal(arn->service, cof_slice_text("iam")) ||
        arn->region.len > 0 || !is_account(arn->account) || partition_named(arn->partition) == NULL) {
        return "is not written arn:aws:iam::123456789012:role/NAME";
    }
    if (cof_slice_equal(arn->resource, cof_slice_text("root"))) {
        return "is a whole account, and then each of its principals could assume the roles; name the server's own "
               "role";
    }
    const bool known = begins(arn->resource, "role/") || begins(arn->resource, "user/");
    return known && name_is_valid(arn->resource) ? NULL : "is neither a role nor a user";
}

cof_code aws_principal_arn_read(struct cof_slice text, struct aws_arn *ret_arn, struct cof_error *err)
{
    struct aws_arn arn;
    const char *fault = principal_fault(text, &arn);
    if (fault != NULL) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, "aws.principal_arn", "aws.principal_arn %s", fault);
    }
    *ret_arn = arn;
    return COF_OK;
}

/* --- Regions -------------------------------------------------------------------------------------------------- */

cof_code aws_place_of(struct cof_slice partition, struct cof_slice region, struct aws_place *ret_place,
                      struct cof_error *err)
{
    const struct partition *of = partition_named(partition);
    if (of == NULL) {
        return cof_fail(err, COF_REASON_AWS_ROLE_ARN_INVALID,
                        "AWS_ROLE_ARN cannot be used: its partition is none that this server knows");
    }
    if (region.len == 0) {
        region = cof_slice_text(of->own_region);
    }
    if (!aws_region_is_valid(region)) {
        return cof_fail(err, COF_REASON_AWS_REGION_INVALID,
                        "AWS_REGION is not written like a region; write one such as %s, or none", of->own_region);
    }
    if (partition_of_region(region) != of) {
        return cof_fail(err, COF_REASON_AWS_REGION_INVALID,
                        "AWS_REGION is a region of %s, and the role is one of %s; write one such as %s",
                        partition_of_region(region)->name, of->name, of->own_region);
    }
    memcpy(ret_place->region, region.data, region.len);
    ret_place->region[region.len] = '\0';
    (void) snprintf(ret_place->host, sizeof ret_place->host, "sts.%s.%s", ret_place->region, of->domain);
    return COF_OK;
}
