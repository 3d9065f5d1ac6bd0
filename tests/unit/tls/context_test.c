#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/tls/context.h"
#include "tests/support/test.h"
#include "tests/unit/tls/certificates.h"

/* Files that are not what they should be. */

enum { HOUR_S = 3600, DAY_S = 86400 };

static cof_code read_server(const char *certificate, const char *key, const char *ca, struct cof_error *err)
{
    AUTO(cof_tls_cleanup) struct cof_tls *tls = NULL;
    const struct cof_tls_options options = {
        .role = COF_TLS_SERVER,
        .certificate = {certificate, "tls.certificate"},
        .key = {key, "tls.key"},
        .ca = {ca, "tls.client_ca"},
    };
    return cof_tls_new(&options, &tls, err);
}

static void write_file(const char *name, const char *text, char path[CERTIFICATES_PATH])
{
    certificates_path(name, path);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0 || chmod(path, S_IRUSR | S_IWUSR) != 0) {
        abort();
    }
}

static void pair_that_belongs_together_is_taken(void)
{
    struct cof_error err;
    certificates_start();
    const struct pair pair = certificates_server();
    CHECK_OK(read_server(pair.certificate, pair.key, NULL, &err), &err);
    CHECK_OK(read_server(pair.certificate, pair.key, certificates_ca(false), &err), &err);
}

static void missing_file_or_half_of_the_pair_is_named(void)
{
    struct cof_error err;
    certificates_start();
    const struct pair pair = certificates_server();
    CHECK_FAILS(read_server(pair.certificate, "", NULL, &err), &err, CONFIG_INVALID);
    CHECK_TEXT(err.field, "tls.key");
    CHECK_FAILS(read_server(NULL, pair.key, NULL, &err), &err, CONFIG_INVALID);
    CHECK_TEXT(err.field, "tls.certificate");
    CHECK_FAILS(read_server("/nowhere/at.all", pair.key, NULL, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "No such file");
    CHECK_FAILS(read_server("/tmp", pair.key, NULL, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "no file");
    CHECK_FAILS(read_server(pair.certificate, pair.key, "/nowhere/at.all", &err), &err, CONFIG_INVALID);
    CHECK_TEXT(err.field, "tls.client_ca");
}

static void key_that_others_may_use_is_refused(void)
{
    struct cof_error err;
    certificates_start();
    const struct pair pair = certificates_server();
    static const mode_t modes[] = {0640, 0604, 0660, 0610};
    for (size_t i = 0; i < COF_COUNT(modes); i++) {
        CHECK(chmod(pair.key, modes[i]) == 0);
        CHECK_FAILS(read_server(pair.certificate, pair.key, NULL, &err), &err, CONFIG_INVALID);
        CHECK_CONTAINS(err.message, "chmod 600");
    }
    CHECK(chmod(pair.key, 0600) == 0);
}

static void key_behind_a_link_is_judged_by_its_file(void)
{
    struct cof_error err;
    char link[CERTIFICATES_PATH];
    certificates_start();
    const struct pair pair = certificates_server();
    certificates_path("link.key", link);
    (void) unlink(link);
    CHECK(symlink(pair.key, link) == 0);
    CHECK_OK(read_server(pair.certificate, link, NULL, &err), &err);
    CHECK(chmod(pair.key, 0640) == 0);
    CHECK_FAILS(read_server(pair.certificate, link, NULL, &err), &err, CONFIG_INVALID);
    CHECK(chmod(pair.key, 0600) == 0);
}

static void wrong_contents_are_told(void)
{
    struct cof_error err;
    char garbage[CERTIFICATES_PATH];
    char broken[CERTIFICATES_PATH];
    certificates_start();
    const struct pair pair = certificates_server();
    const struct pair other = certificates_client();
    write_file("garbage", "nothing of interest\n", garbage);
    write_file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", broken);
    CHECK_FAILS(read_server(pair.certificate, other.key, NULL, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "is not the key of the certificate");
    CHECK_FAILS(read_server(pair.certificate, garbage, NULL, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "no private key");
    CHECK_FAILS(read_server(garbage, pair.key, NULL, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "no certificate");
    CHECK_FAILS(read_server(broken, pair.key, NULL, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "cannot be read");
    CHECK_FAILS(read_server(pair.certificate, pair.key, broken, &err), &err, CONFIG_INVALID);
}

static void messages_hold_nothing_of_a_key(void)
{
    struct cof_error err;
    char path[CERTIFICATES_PATH];
    certificates_start();
    const struct pair pair = certificates_server();
    write_file("marked.key", "-----BEGIN PRIVATE KEY-----\nTWFya2VkTWFya2Vk\n-----END PRIVATE KEY-----\n", path);
    CHECK_FAILS(read_server(pair.certificate, path, NULL, &err), &err, CONFIG_INVALID);
    CHECK(strstr(err.message, "TWFya2Vk") == NULL && strstr(err.trail, "TWFya2Vk") == NULL);
}

static void days_are_counted_to_the_end(void)
{
    struct cof_error err;
    certificates_start();
    static const struct {
        int until_s;
        int32_t days;
    } cases[] = {{HOUR_S, 0}, {3 * DAY_S + HOUR_S, 3}, {-HOUR_S, -1}, {-3 * DAY_S - HOUR_S, -4}};
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        AUTO(cof_tls_cleanup) struct cof_tls *tls = NULL;
        const struct certificate_wish wish = {"days", "DNS:localhost", "serverAuth", -10 * DAY_S, cases[i].until_s};
        const struct pair pair = certificates_issue(&wish, false);
        const struct cof_tls_options options = {
            .role = COF_TLS_SERVER,
            .certificate = {pair.certificate, "tls.certificate"},
            .key = {pair.key, "tls.key"},
        };
        CHECK_OK(cof_tls_new(&options, &tls, &err), &err);
        CHECK_INT(cof_tls_days_left(tls), cases[i].days);
    }
    AUTO(cof_tls_cleanup) struct cof_tls *client = NULL;
    const struct cof_tls_options options = {.role = COF_TLS_CLIENT};
    CHECK_OK(cof_tls_new(&options, &client, &err), &err);
    CHECK_INT(cof_tls_days_left(client), INT32_MAX);
}

TEST_MAIN(TEST(pair_that_belongs_together_is_taken), TEST(missing_file_or_half_of_the_pair_is_named),
          TEST(key_that_others_may_use_is_refused), TEST(key_behind_a_link_is_judged_by_its_file),
          TEST(wrong_contents_are_told), TEST(messages_hold_nothing_of_a_key), TEST(days_are_counted_to_the_end))
