#include "server/aws/trust.h"

#define ROLE "coffer"
#define BUCKET "amzn-s3-demo-bucket"

static const char policy_text[] = "{\n"
                                  "  \"Version\": \"2012-10-17\",\n"
                                  "  \"Statement\": [\n"
                                  "    {\n"
                                  "      \"Effect\": \"Allow\",\n"
                                  "      \"Principal\": { \"AWS\": \"%.*s\" },\n"
                                  "      \"Action\": \"sts:AssumeRole\",\n"
                                  "      \"Condition\": { \"StringEquals\": { \"sts:ExternalId\": \"%.*s\" } }\n"
                                  "    }\n"
                                  "  ]\n"
                                  "}\n";

static const char permissions_text[] = "{\n"
                                       "  \"Version\": \"2012-10-17\",\n"
                                       "  \"Statement\": [\n"
                                       "    {\n"
                                       "      \"Effect\": \"Allow\",\n"
                                       "      \"Action\": \"s3:ListBucket\",\n"
                                       "      \"Resource\": \"arn:%.*s:s3:::" BUCKET "\"\n"
                                       "    },\n"
                                       "    {\n"
                                       "      \"Effect\": \"Allow\",\n"
                                       "      \"Action\": \"s3:GetObject\",\n"
                                       "      \"Resource\": \"arn:%.*s:s3:::" BUCKET "/*\"\n"
                                       "    }\n"
                                       "  ]\n"
                                       "}\n";

static const char cli_text[] =
    "cat >coffer-trust.json <<'END'\n"
    "%sEND\n"
    "cat >coffer-permissions.json <<'END'\n"
    "%sEND\n"
    "aws iam create-role --role-name " ROLE " --assume-role-policy-document file://coffer-trust.json\n"
    "aws iam put-role-policy --role-name " ROLE " --policy-name read-one-bucket"
    " --policy-document file://coffer-permissions.json\n"
    "aws iam get-role --role-name " ROLE " --query Role.Arn --output text\n";

static const char cloudformation_text[] = "AWSTemplateFormatVersion: \"2010-09-09\"\n"
                                          "Resources:\n"
                                          "  CofferRole:\n"
                                          "    Type: AWS::IAM::Role\n"
                                          "    Properties:\n"
                                          "      RoleName: " ROLE "\n"
                                          "      AssumeRolePolicyDocument:\n"
                                          "        Version: \"2012-10-17\"\n"
                                          "        Statement:\n"
                                          "          - Effect: Allow\n"
                                          "            Principal:\n"
                                          "              AWS: \"%.*s\"\n"
                                          "            Action: sts:AssumeRole\n"
                                          "            Condition:\n"
                                          "              StringEquals:\n"
                                          "                sts:ExternalId: \"%.*s\"\n"
                                          "      Policies:\n"
                                          "        - PolicyName: read-one-bucket\n"
                                          "          PolicyDocument:\n"
                                          "            Version: \"2012-10-17\"\n"
                                          "            Statement:\n"
                                          "              - Effect: Allow\n"
                                          "                Action: s3:ListBucket\n"
                                          "                Resource: \"arn:%.*s:s3:::" BUCKET "\"\n"
                                          "              - Effect: Allow\n"
                                          "                Action: s3:GetObject\n"
                                          "                Resource: \"arn:%.*s:s3:::" BUCKET "/*\"\n"
                                          "Outputs:\n"
                                          "  RoleArn:\n"
                                          "    Value: !GetAtt CofferRole.Arn\n";

static const char terraform_text[] = "resource \"aws_iam_role\" \"" ROLE "\" {\n"
                                     "  name = \"" ROLE "\"\n"
                                     "  assume_role_policy = jsonencode({\n"
                                     "    Version = \"2012-10-17\"\n"
                                     "    Statement = [{\n"
                                     "      Effect    = \"Allow\"\n"
                                     "      Principal = { AWS = \"%.*s\" }\n"
                                     "      Action    = \"sts:AssumeRole\"\n"
                                     "      Condition = { StringEquals = { \"sts:ExternalId\" = \"%.*s\" } }\n"
                                     "    }]\n"
                                     "  })\n"
                                     "}\n"
                                     "\n"
                                     "resource \"aws_iam_role_policy\" \"read_one_bucket\" {\n"
                                     "  name = \"read-one-bucket\"\n"
                                     "  role = aws_iam_role." ROLE ".id\n"
                                     "  policy = jsonencode({\n"
                                     "    Version = \"2012-10-17\"\n"
                                     "    Statement = [\n"
                                     "      { Effect = \"Allow\", Action = \"s3:ListBucket\", Resource = "
                                     "\"arn:%.*s:s3:::" BUCKET "\" },\n"
                                     "      { Effect = \"Allow\", Action = \"s3:GetObject\", Resource = "
                                     "\"arn:%.*s:s3:::" BUCKET "/*\" },\n"
                                     "    ]\n"
                                     "  })\n"
                                     "}\n"
                                     "\n"
                                     "output \"" ROLE "_role_arn\" {\n"
                                     "  value = aws_iam_role." ROLE ".arn\n"
                                     "}\n";

/* What stands between the first two colons of an ARN. */
static struct cof_slice partition_of(struct cof_slice arn)
{
    const uint8_t *first = memchr(arn.data, ':', arn.len);
    if (first == NULL) {
        return cof_slice_text("aws");
    }
    const size_t left = arn.len - (size_t) (first + 1 - arn.data);
    const uint8_t *second = memchr(first + 1, ':', left);
    return cof_slice_of(first + 1, second == NULL ? left : (size_t) (second - first - 1));
}

#define TEXT_ARGUMENTS(slice) (int) (slice).len, (const char *) (slice).data

cof_code trust_write(const struct trust *trust, struct cof_arena *arena, struct trust_texts *ret_texts,
                     struct cof_error *err)
{
    const struct cof_slice arn = trust->principal_arn;
    const struct cof_slice id = trust->external_id;
    const struct cof_slice in = partition_of(arn);
    struct trust_texts *texts = ret_texts;
    texts->policy = cof_arena_format(arena, policy_text, TEXT_ARGUMENTS(arn), TEXT_ARGUMENTS(id));
    texts->example_permissions = cof_arena_format(arena, permissions_text, TEXT_ARGUMENTS(in), TEXT_ARGUMENTS(in));
    if (texts->policy == NULL || texts->example_permissions == NULL) {
        return cof_arena_exhausted(err);
    }
    texts->aws_cli = cof_arena_format(arena, cli_text, texts->policy, texts->example_permissions);
    texts->cloudformation = cof_arena_format(arena, cloudformation_text, TEXT_ARGUMENTS(arn), TEXT_ARGUMENTS(id),
                                             TEXT_ARGUMENTS(in), TEXT_ARGUMENTS(in));
    texts->terraform = cof_arena_format(arena, terraform_text, TEXT_ARGUMENTS(arn), TEXT_ARGUMENTS(id),
                                        TEXT_ARGUMENTS(in), TEXT_ARGUMENTS(in));
    const bool whole = texts->aws_cli != NULL && texts->cloudformation != NULL && texts->terraform != NULL;
    return whole ? COF_OK : cof_arena_exhausted(err);
}
