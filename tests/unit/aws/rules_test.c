#include <stdlib.h>

#include "common/attr.h"
#include "server/aws/arn.h"
#include "server/aws/identity_config.h"
#include "server/aws/mode.h"
#include "server/aws/sts_request.h"
#include "server/aws/trust.h"
#include "server/crypto/crypto.h"
#include "tests/support/test.h"

enum { ARENA = 1 << 18, TEXT = 4096 };

#define SLICE(text) cof_slice_text(text)

static struct cof_arena *arena_of_test(void)
{
    static struct cof_pool *pool;
    static struct cof_arena arena;
    struct cof_error err;
    if (pool == NULL) {
        if (crypto_start(1 << 20, 0, &err) != COF_OK ||
            cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
            abort();
        }
        cof_arena_init(&arena, pool, ARENA);
    }
    cof_arena_reset(&arena);
    return &arena;
}

/* --- Modes ---------------------------------------------------------------------------------------------------- */

/* The keys that are stored, as letters: R role, P profile, N session name, A access key, S secret key, T session token,
 * B bearer; a small letter is one that is blank. And what becomes of all eight: s stored, w withheld, t temporary, i
 * incomplete. */
struct mode_row {
    const char *stored;
    aws_kind kind;
    aws_mode mode;
    const char *fates;
};

static const char letters[] = "RPNASTGB";

static struct aws_stored stored_of(const char *text)
{
    struct aws_stored stored = {0};
    for (size_t i = 0; i < AWS_KEYS; i++) {
        if (strchr(text, letters[i]) != NULL) {
            stored.values[i] = aws_trimmed(SLICE(" \t value\r\n"));
        } else if (strchr(text, letters[i] + ('a' - 'A')) != NULL) {
            stored.values[i] = aws_trimmed(SLICE(" \t\v\f\r\n"));
        }
    }
    return stored;
}

static void fates_of(aws_kind kind, const struct aws_stored *stored, char to[AWS_KEYS + 1])
{
    for (size_t i = 0; i < AWS_KEYS; i++) {
        to[i] = "swti"[aws_fate_of(kind, stored, (aws_key) i)];
    }
    to[AWS_KEYS] = '\0';
}

static void modes_are_chosen_and_decide_what_becomes_of_each_key(void)
{
    static const struct mode_row rows[] = {
        {"", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwsssss"},
        {"AS", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwsssss"},
        {"AST", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwsssss"},
        {"A", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwiiiss"},
        {"S", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwiiiss"},
        {"As", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwiiiss"},
        {"AB", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwiiiss"},
        {"AB", AWS_KIND_BEDROCK, AWS_MODE_DIRECT, "wwwsssss"},
        {"Ab", AWS_KIND_BEDROCK, AWS_MODE_DIRECT, "wwwiiiss"},
        {"B", AWS_KIND_BEDROCK, AWS_MODE_DIRECT, "wwwsssss"},
        {"P", AWS_KIND_GENERAL, AWS_MODE_PROFILE, "wswwwwss"},
        {"PA", AWS_KIND_GENERAL, AWS_MODE_PROFILE, "wswwwwss"},
        {"pAS", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwsssss"},
        {"R", AWS_KIND_GENERAL, AWS_MODE_ROLE, "wwwtttss"},
        {"RPNAST", AWS_KIND_GENERAL, AWS_MODE_ROLE, "wwwtttss"},
        {"RA", AWS_KIND_GENERAL, AWS_MODE_ROLE, "wwwtttss"},
        {"rP", AWS_KIND_GENERAL, AWS_MODE_PROFILE, "wswwwwss"},
        {"rpAS", AWS_KIND_GENERAL, AWS_MODE_DIRECT, "wwwsssss"},
        {"RB", AWS_KIND_BEDROCK, AWS_MODE_ROLE, "wwwtttss"},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        char fates[AWS_KEYS + 1];
        const struct aws_stored stored = stored_of(rows[i].stored);
        fates_of(rows[i].kind, &stored, fates);
        CHECK_INT(aws_mode_of(&stored), rows[i].mode);
        CHECK_TEXT(fates, rows[i].fates);
    }
}

static void keys_that_do_not_count_are_known(void)
{
    const struct aws_stored role = stored_of("RPNASTGB");
    const struct aws_stored profile = stored_of("PAs");
    const struct aws_stored direct = stored_of("ASNr");
    char ignored[AWS_KEYS + 1] = "";
    for (size_t i = 0; i < AWS_KEYS; i++) {
        ignored[i] = aws_ignored(&role, (aws_key) i) ? letters[i] : '-';
    }
    CHECK_TEXT(ignored, "-PNAST--");
    CHECK(aws_ignored(&profile, AWS_KEY_ACCESS_KEY_ID));
    CHECK(!aws_ignored(&profile, AWS_KEY_SECRET_ACCESS_KEY));
    CHECK(!aws_ignored(&profile, AWS_KEY_PROFILE));
    CHECK(aws_ignored(&direct, AWS_KEY_ROLE_SESSION_NAME));
    CHECK(!aws_ignored(&direct, AWS_KEY_ACCESS_KEY_ID));
}

static void three_secrets_are_for_aws(void)
{
    CHECK_INT(aws_kind_of(SLICE("aws")), AWS_KIND_GENERAL);
    CHECK_INT(aws_kind_of(SLICE("amazon_s3")), AWS_KIND_GENERAL);
    CHECK_INT(aws_kind_of(SLICE("amazon_bedrock")), AWS_KIND_BEDROCK);
    CHECK_INT(aws_kind_of(SLICE("AWS")), AWS_KIND_NONE);
    CHECK_INT(aws_kind_of(SLICE("aws_prod")), AWS_KIND_NONE);
    CHECK_INT(aws_key_of(SLICE("AWS_REGION")), AWS_KEY_REGION);
    CHECK_INT(aws_key_of(SLICE("AWS_MODEL_ID")), AWS_KEYS);
    CHECK_INT(aws_fate_of(AWS_KIND_GENERAL, &(struct aws_stored){0}, AWS_KEYS), AWS_FATE_STORED);
}

/* --- ARNs ----------------------------------------------------------------------------------------------------- */

static void roles_of_any_partition_and_path_are_read(void)
{
    static const char *const arns[] = {
        "arn:aws:iam::123456789012:role/a",
        "arn:aws-us-gov:iam::123456789012:role/team/sub/Name.with+=,@-_",
        "arn:aws-cn:iam::123456789012:role/x",
        "arn:aws-iso-b:iam::123456789012:role/x",
        "arn:aws-eusc:iam::123456789012:role/aws-reserved/sso.amazonaws.com/x",
    };
    for (size_t i = 0; i < COF_COUNT(arns); i++) {
        struct aws_arn arn;
        struct cof_error err;
        CHECK_OK(aws_role_arn_read(SLICE(arns[i]), &arn, &err), &err);
        CHECK(cof_slice_equal(arn.account, SLICE("123456789012")));
    }
}

static void arns_of_the_wrong_kind_say_what_they_are(void)
{
    static const struct {
        const char *arn;
        const char *says;
    } rows[] = {
        {"", "no ARN"},
        {"nonsense", "no ARN"},
        {"coffer-role-of-the-account", "no ARN"},
        {"arn:aws:iam::123456789012", "no ARN"},
        {"arn:aws:sts::123456789012:assumed-role/a/b", "session"},
        {"arn:aws:s3:::bucket-of-somebody", "another service"},
        {"arn:aws:iam:us-east-1:123456789012:role/a", "region"},
        {"arn:aws:iam::12345678901:role/a", "12 digits"},
        {"arn:aws:iam::12345678901x:role/a", "12 digits"},
        {"arn:aws:iam::123456789012:root", "whole account"},
        {"arn:aws:iam::123456789012:user/a", "user"},
        {"arn:aws:iam::123456789012:policy/a", "something else"},
        {"arn:aws:iam::123456789012:role/", "characters"},
        {"arn:aws:iam::123456789012:role/a b", "characters"},
        {"arn:aws:iam::123456789012:role/pa th/a", "characters"},
        {"arn:aws:iam::123456789012:role/a\n", "characters"},
        {"arn:aws:iam::123456789012:role/"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "characters"},
        {"arn:aws-mars:iam::123456789012:role/a", "partition"},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        struct aws_arn arn;
        struct cof_error err;
        CHECK_FAILS(aws_role_arn_read(SLICE(rows[i].arn), &arn, &err), &err, AWS_ROLE_ARN_INVALID);
        CHECK_CONTAINS(err.message, rows[i].says);
    }
}

static void principal_is_a_role_or_a_user_and_never_an_account(void)
{
    struct aws_arn arn;
    struct cof_error err;
    CHECK_OK(aws_principal_arn_read(SLICE("arn:aws:iam::123456789012:role/coffer"), &arn, &err), &err);
    CHECK_OK(aws_principal_arn_read(SLICE("arn:aws:iam::123456789012:user/team/coffer"), &arn, &err), &err);
    CHECK_FAILS(aws_principal_arn_read(SLICE("arn:aws:iam::123456789012:root"), &arn, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "whole account");
    CHECK_FAILS(aws_principal_arn_read(SLICE("123456789012"), &arn, &err), &err, CONFIG_INVALID);
    CHECK_FAILS(aws_principal_arn_read(SLICE("arn:aws:iam::123456789012:role/a\"b"), &arn, &err), &err,
                CONFIG_INVALID);
}

static void region_names_the_endpoint_of_its_partition(void)
{
    static const struct {
        const char *partition;
        const char *region;
        const char *host;
    } rows[] = {
        {"aws", "", "sts.us-east-1.amazonaws.com"},
        {"aws", "eu-central-1", "sts.eu-central-1.amazonaws.com"},
        {"aws", "ap-southeast-7", "sts.ap-southeast-7.amazonaws.com"},
        {"aws-us-gov", "", "sts.us-gov-west-1.amazonaws.com"},
        {"aws-us-gov", "us-gov-east-1", "sts.us-gov-east-1.amazonaws.com"},
        {"aws-cn", "cn-northwest-1", "sts.cn-northwest-1.amazonaws.com.cn"},
        {"aws-iso", "", "sts.us-iso-east-1.c2s.ic.gov"},
        {"aws-iso-b", "us-isob-east-1", "sts.us-isob-east-1.sc2s.sgov.gov"},
    };
    struct aws_place place;
    struct cof_error err;
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        CHECK_OK(aws_place_of(SLICE(rows[i].partition), SLICE(rows[i].region), &place, &err), &err);
        CHECK_TEXT(place.host, rows[i].host);
    }
}

static void region_that_is_none_or_of_another_partition_is_refused(void)
{
    static const char *const none[] = {"eu",
                                       "EU-CENTRAL-1",
                                       "eu-central-1.evil.example",
                                       "eu--central-1",
                                       "-eu-c-1",
                                       "eu-central-1/../",
                                       "1-2-3",
                                       "eu-central-",
                                       "eu-centraaaaaaaaaaaaaaaaaaaaaaaaaaal-1"};
    struct aws_place place;
    struct cof_error err;
    for (size_t i = 0; i < COF_COUNT(none); i++) {
        CHECK_FAILS(aws_place_of(SLICE("aws"), SLICE(none[i]), &place, &err), &err, AWS_REGION_INVALID);
    }
    CHECK_FAILS(aws_place_of(SLICE("aws"), SLICE("cn-north-1"), &place, &err), &err, AWS_REGION_INVALID);
    CHECK_CONTAINS(err.message, "aws-cn");
    CHECK_FAILS(aws_place_of(SLICE("aws-us-gov"), SLICE("us-east-1"), &place, &err), &err, AWS_REGION_INVALID);
}

/* --- Requests ------------------------------------------------------------------------------------------------- */

static void session_is_named_by_hashes_of_workspace_and_run(void)
{
    /* printf %s TEXT | sha256sum */
    struct cof_uuid workspace;
    char name[STS_SESSION_NAME];
    struct cof_error err;
    (void) arena_of_test();
    CHECK(cof_uuid_parse(SLICE("0b5f3c1e-8d4a-4c77-9e0f-2a6b1d3c4e5f"), &workspace));
    CHECK_OK(sts_session_name(&workspace, SLICE("run-1"), name, &err), &err);
    CHECK_TEXT(name, "coffer-ws-d29b8edd-run-4e65d3fb");
}

static void request_has_what_it_should_and_escapes_it(void)
{
    struct cof_slice body;
    struct cof_error err;
    const struct sts_role role = {
        .arn = SLICE("arn:aws:iam::123456789012:role/a+b"),
        .session_name = SLICE("coffer-ws-1-run-2"),
        .external_id = SLICE("0123abcd"),
        .policy = SLICE("{\"a\": 1}"),
        .duration_s = 900,
        .tags = {{"coffer:workspace", SLICE("w")}, {"coffer:workflow", SLICE("")}, {"coffer:run", SLICE("a&b=~")}},
        .tag_count = 3,
    };
    struct cof_arena *arena = arena_of_test();
    CHECK_OK(sts_assume_role(&role, arena, &body, &err), &err);
    CHECK_TEXT(cof_arena_text(arena, body),
               "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fa%2Bb"
               "&RoleSessionName=coffer-ws-1-run-2&DurationSeconds=900&ExternalId=0123abcd"
               "&Policy=%7B%22a%22%3A%201%7D&Tags.member.1.Key=coffer%3Aworkspace&Tags.member.1.Value=w"
               "&Tags.member.2.Key=coffer%3Arun&Tags.member.2.Value=a_b%3D_");
}

static void request_without_external_id_policy_and_tags_sends_none(void)
{
    struct cof_slice body;
    struct cof_error err;
    const struct sts_role role = {.arn = SLICE("a"), .session_name = SLICE("s"), .duration_s = 3600};
    CHECK_OK(sts_assume_role(&role, arena_of_test(), &body, &err), &err);
    CHECK(cof_slice_equal(body, SLICE("Action=AssumeRole&Version=2011-06-15&RoleArn=a&RoleSessionName=s"
                                      "&DurationSeconds=3600")));
    CHECK_OK(sts_assume_role_with_token(&role, SLICE("x.y"), arena_of_test(), &body, &err), &err);
    CHECK(cof_slice_equal(body,
                          SLICE("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=a&RoleSessionName=s"
                                "&DurationSeconds=3600&WebIdentityToken=x.y")));
}

/* --- The server's own identity -------------------------------------------------------------------------------- */

static const char *const *variables; /* "NAME=VALUE" */

static const char *variable(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; variables[i] != NULL; i++) {
        if (strncmp(variables[i], name, length) == 0 && variables[i][length] == '=') {
            return variables[i] + length + 1;
        }
    }
    return NULL;
}

static void source_of_the_identity_is_the_first_that_is_there(void)
{
    static const struct {
        const char *variables[6];
        aws_source source;
        bool fault;
    } rows[] = {
        {{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_WEB_IDENTITY_TOKEN_FILE=/f"},
         AWS_SOURCE_ENVIRONMENT,
         false},
        {{"AWS_ACCESS_KEY_ID=a"}, AWS_SOURCE_ENVIRONMENT, true},
        {{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b\nc"}, AWS_SOURCE_ENVIRONMENT, true},
        {{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true"},
         AWS_SOURCE_NONE,
         false},
        {{"AWS_WEB_IDENTITY_TOKEN_FILE=/f", "AWS_ROLE_ARN=r", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x"},
         AWS_SOURCE_WEB_IDENTITY,
         false},
        {{"AWS_WEB_IDENTITY_TOKEN_FILE=/f"}, AWS_SOURCE_WEB_IDENTITY, true},
        {{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x"}, AWS_SOURCE_CONTAINER, false},
        {{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://evil.example/x"}, AWS_SOURCE_CONTAINER, true},
        {{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=@evil.example/x"}, AWS_SOURCE_CONTAINER, false},
        {{NULL}, AWS_SOURCE_INSTANCE, false},
        {{"AWS_EC2_METADATA_DISABLED=TRUE"}, AWS_SOURCE_NONE, false},
        {{"AWS_EC2_METADATA_SERVICE_ENDPOINT=ftp://x"}, AWS_SOURCE_INSTANCE, true},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        struct aws_identity_config config;
        variables = rows[i].variables;
        aws_identity_configure(variable, &config);
        CHECK_INT(config.source, rows[i].source);
        CHECK_INT(config.fault != NULL, rows[i].fault);
    }
}

static void containers_endpoint_is_asked_plainly_only_where_containers_have_it(void)
{
    static const char *const allowed[] = {
        "http://169.254.170.2/v2/x", "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1",  "http://127.0.0.1:8080/x",
        "http://localhost/x",        "http://[::1]:9/x",
        "https://any.example/x",
    };
    static const char *const refused[] = {
        "http://any.example/x",
        "http://169.254.169.254/x",
        "http://127.0.0.1.evil.example/x",
        "http://127.0.0.1@evil/x",
        "http://localhost.evil.example",
        "ftp://localhost/x",
        "https://user@any.example/x",
        "http://169.254.170.2\\@evil/x",
        "http:///x",
        "https://a b/",
        "http://[::1].evil.example/x",
        "",
    };
    for (size_t i = 0; i < COF_COUNT(allowed); i++) {
        CHECK(aws_container_url_is_allowed(allowed[i]));
    }
    for (size_t i = 0; i < COF_COUNT(refused); i++) {
        CHECK(!aws_container_url_is_allowed(refused[i]));
    }
}

static void token_that_could_end_a_header_is_none(void)
{
    CHECK(cof_slice_equal(aws_header_token(SLICE("Bearer x\r\n")), SLICE("Bearer x")));
    CHECK_INT(aws_header_token(SLICE("a\r\nX-Other: b\n")).len, 0);
    CHECK_INT(aws_header_token(SLICE("")).len, 0);
}

/* --- Texts for the customer ----------------------------------------------------------------------------------- */

static void trust_names_the_principal_and_the_external_id(void)
{
    const struct trust trust = {SLICE("arn:aws-us-gov:iam::123456789012:role/coffer"), SLICE("0123456789abcdef")};
    struct trust_texts texts;
    struct cof_error err;
    CHECK_OK(trust_write(&trust, arena_of_test(), &texts, &err), &err);
    const char *const all[] = {texts.policy, texts.aws_cli, texts.cloudformation, texts.terraform};
    for (size_t i = 0; i < COF_COUNT(all); i++) {
        CHECK_CONTAINS(all[i], "arn:aws-us-gov:iam::123456789012:role/coffer");
        CHECK_CONTAINS(all[i], "0123456789abcdef");
        CHECK_CONTAINS(all[i], "sts:ExternalId");
        CHECK(strstr(all[i], ":root") == NULL);
    }
    CHECK_CONTAINS(texts.example_permissions, "s3:GetObject");
    CHECK_CONTAINS(texts.example_permissions, "s3:ListBucket");
    CHECK_CONTAINS(texts.example_permissions, "arn:aws-us-gov:s3:::");
}

TEST_MAIN(TEST(modes_are_chosen_and_decide_what_becomes_of_each_key), TEST(keys_that_do_not_count_are_known),
          TEST(three_secrets_are_for_aws), TEST(roles_of_any_partition_and_path_are_read),
          TEST(arns_of_the_wrong_kind_say_what_they_are), TEST(principal_is_a_role_or_a_user_and_never_an_account),
          TEST(region_names_the_endpoint_of_its_partition),
          TEST(region_that_is_none_or_of_another_partition_is_refused),
          TEST(session_is_named_by_hashes_of_workspace_and_run), TEST(request_has_what_it_should_and_escapes_it),
          TEST(request_without_external_id_policy_and_tags_sends_none),
          TEST(source_of_the_identity_is_the_first_that_is_there),
          TEST(containers_endpoint_is_asked_plainly_only_where_containers_have_it),
          TEST(token_that_could_end_a_header_is_none), TEST(trust_names_the_principal_and_the_external_id))
