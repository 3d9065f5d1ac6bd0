#include "server/aws/mode.h"

#include "common/attr.h"

static const char *const key_names[] = {
    [AWS_KEY_ROLE_ARN] = "AWS_ROLE_ARN",
    [AWS_KEY_PROFILE] = "AWS_PROFILE",
    [AWS_KEY_ROLE_SESSION_NAME] = "AWS_ROLE_SESSION_NAME",
    [AWS_KEY_ACCESS_KEY_ID] = "AWS_ACCESS_KEY_ID",
    [AWS_KEY_SECRET_ACCESS_KEY] = "AWS_SECRET_ACCESS_KEY",
    [AWS_KEY_SESSION_TOKEN] = "AWS_SESSION_TOKEN",
    [AWS_KEY_REGION] = "AWS_REGION",
    [AWS_KEY_BEARER_TOKEN_BEDROCK] = "AWS_BEARER_TOKEN_BEDROCK",
};

/* What becomes of each key in each mode; direct keys may be incomplete besides. */
static const aws_fate fates[][AWS_KEYS] = {
    [AWS_MODE_DIRECT] = {[AWS_KEY_ROLE_ARN] = AWS_FATE_WITHHELD,
                         [AWS_KEY_PROFILE] = AWS_FATE_WITHHELD,
                         [AWS_KEY_ROLE_SESSION_NAME] = AWS_FATE_WITHHELD},
    [AWS_MODE_PROFILE] = {[AWS_KEY_ROLE_ARN] = AWS_FATE_WITHHELD,
                          [AWS_KEY_ROLE_SESSION_NAME] = AWS_FATE_WITHHELD,
                          [AWS_KEY_ACCESS_KEY_ID] = AWS_FATE_WITHHELD,
                          [AWS_KEY_SECRET_ACCESS_KEY] = AWS_FATE_WITHHELD,
                          [AWS_KEY_SESSION_TOKEN] = AWS_FATE_WITHHELD},
    [AWS_MODE_ROLE] = {[AWS_KEY_ROLE_ARN] = AWS_FATE_WITHHELD,
                       [AWS_KEY_PROFILE] = AWS_FATE_WITHHELD,
                       [AWS_KEY_ROLE_SESSION_NAME] = AWS_FATE_WITHHELD,
                       [AWS_KEY_ACCESS_KEY_ID] = AWS_FATE_TEMPORARY,
                       [AWS_KEY_SECRET_ACCESS_KEY] = AWS_FATE_TEMPORARY,
                       [AWS_KEY_SESSION_TOKEN] = AWS_FATE_TEMPORARY},
};

const char *aws_key_name(aws_key key)
{
    return key_names[key];
}

aws_key aws_key_of(struct cof_slice name)
{
    aws_key key = AWS_KEY_ROLE_ARN;
    while (key < AWS_KEYS && !cof_slice_equal(name, cof_slice_text(key_names[key]))) {
        key++;
    }
    return key;
}

aws_kind aws_kind_of(struct cof_slice secret)
{
    if (cof_slice_equal(secret, cof_slice_text("amazon_bedrock"))) {
        return AWS_KIND_BEDROCK;
    }
    return cof_slice_equal(secret, cof_slice_text("aws")) || cof_slice_equal(secret, cof_slice_text("amazon_s3"))
               ? AWS_KIND_GENERAL
               : AWS_KIND_NONE;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

struct cof_slice aws_trimmed(struct cof_slice value)
{
    while (value.len > 0 && is_space(value.data[0])) {
        value = cof_slice_of(value.data + 1, value.len - 1);
    }
    while (value.len > 0 && is_space(value.data[value.len - 1])) {
        value.len--;
    }
    return value;
}

static bool has(const struct aws_stored *stored, aws_key key)
{
    return stored->values[key].len > 0;
}

aws_mode aws_mode_of(const struct aws_stored *stored)
{
    if (has(stored, AWS_KEY_ROLE_ARN)) {
        return AWS_MODE_ROLE;
    }
    return has(stored, AWS_KEY_PROFILE) ? AWS_MODE_PROFILE : AWS_MODE_DIRECT;
}

static bool is_direct(aws_key key)
{
    return key == AWS_KEY_ACCESS_KEY_ID || key == AWS_KEY_SECRET_ACCESS_KEY || key == AWS_KEY_SESSION_TOKEN;
}

static bool incomplete(aws_kind kind, const struct aws_stored *stored)
{
    const bool bearer = kind == AWS_KIND_BEDROCK && has(stored, AWS_KEY_BEARER_TOKEN_BEDROCK);
    return !bearer && has(stored, AWS_KEY_ACCESS_KEY_ID) != has(stored, AWS_KEY_SECRET_ACCESS_KEY);
}

aws_fate aws_fate_of(aws_kind kind, const struct aws_stored *stored, aws_key key)
{
    const aws_mode mode = aws_mode_of(stored);
    if (key == AWS_KEYS) {
        return AWS_FATE_STORED;
    }
    if (mode == AWS_MODE_DIRECT && is_direct(key) && incomplete(kind, stored)) {
        return AWS_FATE_INCOMPLETE;
    }
    return fates[mode][key];
}

bool aws_ignored(const struct aws_stored *stored, aws_key key)
{
    const aws_mode mode = aws_mode_of(stored);
    const bool comes_after = is_direct(key) || (key == AWS_KEY_PROFILE && mode == AWS_MODE_ROLE);
    return has(stored, key) && (key == AWS_KEY_ROLE_SESSION_NAME || (mode != AWS_MODE_DIRECT && comes_after));
}

bool aws_stands_for_role(aws_key key)
{
    return key == AWS_KEY_ROLE_ARN || is_direct(key);
}
