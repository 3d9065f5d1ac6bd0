#include <stdlib.h>

#include "client/libcoffer/address.h"
#include "client/libcoffer/settings.h"
#include "tests/support/test.h"

/* The environment of a test: name and value by turns. */
static const char *const *variables;

static const char *variable(const char *name)
{
    for (size_t i = 0; variables != NULL && variables[i] != NULL; i += 2) {
        if (strcmp(variables[i], name) == 0) {
            return variables[i + 1];
        }
    }
    return NULL;
}

static cof_code read_with(const char *const *environment, const char *text, struct settings *settings,
                          struct cof_error *err)
{
    variables = environment;
    cof_error_clear(err);
    return settings_read(text, variable, settings, err);
}

/* Reads what must fail; what was said is in the error, whose reason is NONE if it did not. */
static const struct cof_error *refusal_of(const char *text)
{
    static struct cof_error err;
    struct settings settings;
    if (read_with(NULL, text, &settings, &err) == COF_OK) {
        settings_done(&settings);
    }
    return &err;
}

#define CHECK_REFUSED(text, named_field, part)              \
    do {                                                    \
        const struct cof_error *err_ = refusal_of(text);    \
        CHECK_INT(err_->reason, COF_REASON_CONFIG_INVALID); \
        CHECK_TEXT(err_->field, named_field);               \
        CHECK_CONTAINS(err_->message, part);                \
    } while (0)

static void everything_has_a_default(void)
{
    struct settings settings;
    struct cof_error err;
    CHECK_OK(read_with(NULL, NULL, &settings, &err), &err);
    CHECK_INT(settings.address_count, 1);
    CHECK_TEXT(settings.addresses[0], "ipc:///run/coffer/coffer.sock");
    CHECK(settings.token_file == NULL && settings.token == NULL);
    CHECK_TEXT(settings.workspace, "");
    CHECK_TEXT(settings.environment, "");
    CHECK_INT(settings.timeout_ms, 10000);
    CHECK_INT(settings.connect_timeout_ms, 3000);
    CHECK_INT(settings.memory, 0);
    CHECK(!settings.insecure_transport);
    CHECK(settings.coalesce);
    CHECK_INT(settings.coalesce_requests, SETTINGS_COALESCE_REQUESTS);
    CHECK_INT(settings.coalesce_wait_ms, 20);
    settings_done(&settings);
}

static void all_settings_are_read_from_the_text(void)
{
    struct settings settings;
    struct cof_error err;
    CHECK_OK(read_with(NULL,
                       " addr=tcp://127.0.0.1:7480,ipc:///run/c.sock\ttoken_file='/a b/\\'t' \n"
                       "workspace=6f1c2d1e-8d5b-4a55-9f5c-1c2d3e4f5a6b environment = 012345678901 timeout=90s "
                       "connect_timeout=250ms insecure_transport=no application_name='my app' memory=512KiB "
                       "coalesce=no coalesce_requests=7 coalesce_wait=5ms",
                       &settings, &err),
             &err);
    CHECK_INT(settings.address_count, 2);
    CHECK_TEXT(settings.addresses[0], "tcp://127.0.0.1:7480");
    CHECK_TEXT(settings.addresses[1], "ipc:///run/c.sock");
    CHECK_TEXT(settings.token_file, "/a b/'t");
    CHECK_TEXT(settings.workspace, "6f1c2d1e-8d5b-4a55-9f5c-1c2d3e4f5a6b");
    CHECK_TEXT(settings.environment, "012345678901");
    CHECK_INT(settings.timeout_ms, 90000);
    CHECK_INT(settings.connect_timeout_ms, 250);
    CHECK_TEXT(settings.application_name, "my app");
    CHECK_INT(settings.memory, 512 * 1024);
    CHECK(!settings.coalesce);
    CHECK_INT(settings.coalesce_requests, 7);
    CHECK_INT(settings.coalesce_wait_ms, 5);
    settings_done(&settings);
}

static void tls_is_for_any_host_and_its_files_come_from_text_or_environment(void)
{
    static const char *const environment[] = {"COFFER_CACERT",
                                              "/ca.pem",
                                              "COFFER_CLIENT_CERT",
                                              "/c.pem",
                                              "COFFER_CLIENT_KEY",
                                              "/c.key",
                                              "COFFER_TLS_SERVER_NAME",
                                              "vault.example",
                                              NULL};
    static const char *const hosts[][2] = {{"tls+tcp://vault.example:7443", "vault.example"},
                                           {"tls+tcp://10.1.2.3:1", "10.1.2.3"},
                                           {"wss://[2001:db8::1]:7443/coffer", "2001:db8::1"},
                                           {"wss://vault.example:443", "vault.example"}};
    struct settings settings;
    struct cof_error err;
    CHECK_OK(read_with(environment, "addr=tls+tcp://10.1.2.3:1,tls+tcp://vault.example:7443 client_key=/own.key",
                       &settings, &err),
             &err);
    CHECK_INT(settings.address_count, 2);
    CHECK_TEXT(settings.cacert, "/ca.pem");
    CHECK_TEXT(settings.client_cert, "/c.pem");
    CHECK_TEXT(settings.client_key, "/own.key");
    CHECK_TEXT(settings.tls_server_name, "vault.example");
    settings_done(&settings);
    for (size_t i = 0; i < COF_COUNT(hosts); i++) {
        char host[ADDRESS_MAX];
        CHECK(address_is_tls(hosts[i][0]));
        address_host(hosts[i][0], host);
        CHECK_TEXT(host, hosts[i][1]);
    }
    CHECK(!address_is_tls("tcp://localhost:1"));
}

static void text_wins_over_environment(void)
{
    static const char *const environment[] = {"COFFER_ADDR",
                                              "tcp://localhost:1",
                                              "COFFER_TIMEOUT",
                                              "1min",
                                              "COFFER_TOKEN",
                                              "cof_ws_x",
                                              "COFFER_ENVIRONMENT",
                                              "prod",
                                              "COFFER_WORKSPACE",
                                              "",
                                              NULL};
    struct settings settings;
    struct cof_error err;
    CHECK_OK(read_with(environment, "timeout=2s token_file=/t", &settings, &err), &err);
    CHECK_TEXT(settings.addresses[0], "tcp://localhost:1");
    CHECK_INT(settings.timeout_ms, 2000);
    CHECK_TEXT(settings.environment, "prod");
    CHECK_TEXT(settings.token_file, "/t");
    CHECK(settings.token == NULL);
    settings_done(&settings);
    CHECK_OK(read_with(environment, "", &settings, &err), &err);
    CHECK_INT(settings.timeout_ms, 60000);
    CHECK_TEXT(settings.token, "cof_ws_x");
    settings_done(&settings);
}

static void failure_in_the_environment_names_the_variable(void)
{
    static const char *const environment[] = {"COFFER_TIMEOUT", "10", NULL};
    struct settings settings;
    struct cof_error err;
    CHECK_FAILS(read_with(environment, NULL, &settings, &err), &err, CONFIG_INVALID);
    CHECK_TEXT(err.field, "timeout");
    CHECK_CONTAINS(err.message, "COFFER_TIMEOUT: write a time");
}

static void two_variables_for_the_token_contradict_each_other(void)
{
    static const char *const environment[] = {"COFFER_TOKEN", "a", "COFFER_TOKEN_FILE", "/b", NULL};
    struct settings settings;
    struct cof_error err;
    CHECK_FAILS(read_with(environment, NULL, &settings, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "COFFER_TOKEN and COFFER_TOKEN_FILE are both set");
    CHECK_OK(read_with(environment, "token_file=/c", &settings, &err), &err);
    CHECK_TEXT(settings.token_file, "/c");
    settings_done(&settings);
}

static void token_in_the_text_is_refused_without_showing_it(void)
{
    CHECK_REFUSED("token=cof_ws_topsecret", "token", "use token_file, the variable COFFER_TOKEN");
    CHECK(strstr(refusal_of("token=cof_ws_topsecret")->message, "topsecret") == NULL);
    CHECK(strstr(refusal_of("workspace=cof_ws_topsecret")->message, "topsecret") == NULL);
}

static void malformed_text_is_refused(void)
{
    CHECK_REFUSED("addr", "", "not name=value");
    CHECK_REFUSED("=x", "", "not name=value");
    CHECK_REFUSED("timeout=1s 7", "", "not name=value");
    CHECK_REFUSED("token_file='/a", "", "quote that is not closed");
    CHECK_REFUSED("token_file='/a'b", "", "no space behind a closing quote");
    CHECK_REFUSED("token_file=/a\\", "", "end in a backslash");
    CHECK_REFUSED("token_file='/a\\", "", "end in a backslash");
}

static void text_over_the_limit_is_refused(void)
{
    static char text[SETTINGS_TEXT_MAX + 2];
    memset(text, ' ', sizeof text - 1);
    CHECK_REFUSED(text, "", "longer than 8192 bytes");
    text[SETTINGS_TEXT_MAX] = '\0';
    CHECK_INT(refusal_of(text)->reason, COF_REASON_NONE);
}

static void unknown_setting_gets_a_suggestion(void)
{
    CHECK_REFUSED("adr=x", "", "no setting \"adr\"; did you mean addr");
    CHECK_REFUSED("tokenfile=x", "", "did you mean token_file");
    CHECK_REFUSED("something_else=x", "", "see coffer_client_open");
}

static void setting_given_twice_is_refused(void)
{
    CHECK_REFUSED("timeout=1s timeout=2s", "timeout", "given twice");
}

static void values_are_checked_one_by_one(void)
{
    static const char *const times[] = {"timeout=",    "timeout=10",           "timeout=s",
                                        "timeout=0s",  "timeout=2h",           "timeout=1d",
                                        "timeout=-1s", "timeout=9999999999ms", "timeout=1.5s"};
    for (size_t i = 0; i < COF_COUNT(times); i++) {
        CHECK_REFUSED(times[i], "timeout", "such as 500ms, 10s or 1min");
    }
    CHECK_REFUSED("connect_timeout=x", "connect_timeout", "connect_timeout: write a time");
    CHECK_REFUSED("coalesce=on", "coalesce", "write yes or no");
    CHECK_REFUSED("coalesce_requests=0", "coalesce_requests", "a number of 1 to 64");
    CHECK_REFUSED("coalesce_requests=65", "coalesce_requests", "a number of 1 to 64");
    CHECK_REFUSED("coalesce_wait=0ms", "coalesce_wait", "write a time");
    CHECK_REFUSED("insecure_transport=true", "insecure_transport", "write yes or no");
    CHECK_REFUSED("workspace=acme", "workspace", "UUID");
    CHECK_REFUSED("workspace=6F1C2D1E-8D5B-4A55-9F5C-1C2D3E4F5A6B", "workspace", "lower case");
    CHECK_REFUSED("environment=-x", "environment", "1 to 100 of");
    CHECK_REFUSED("environment=a/b", "environment", "1 to 100 of");
    CHECK_REFUSED("token_file=''", "token_file", "path of a file");
    CHECK_REFUSED("cacert=''", "cacert", "path of a file");
    CHECK_REFUSED("client_cert=''", "client_cert", "path of a file");
    CHECK_REFUSED("client_key=''", "client_key", "path of a file");
    CHECK_REFUSED("tls_server_name=a/b", "tls_server_name", "host's name or address");
    CHECK_REFUSED("application_name=''", "application_name", "1 to 64 characters");
    CHECK_REFUSED("application_name='a\x01'", "application_name", "1 to 64 characters");
    CHECK_REFUSED("application_name=01234567890123456789012345678901234567890123456789012345678901234",
                  "application_name", "1 to 64 characters");
    CHECK_REFUSED("memory=63KiB", "memory", "64KiB to 1GiB");
    CHECK_REFUSED("memory=2GiB", "memory", "64KiB to 1GiB");
    CHECK_REFUSED("memory=1000000", "memory", "with its unit");
}

static void addresses_of_websockets_have_a_place_and_a_path(void)
{
    static const char *const parts[][3] = {{"ws://localhost:80", "localhost:80", "/"},
                                           {"ws://127.0.0.1:80/", "127.0.0.1:80", "/"},
                                           {"wss://[::1]:443/a/b:c", "[::1]:443", "/a/b:c"}};
    for (size_t i = 0; i < COF_COUNT(parts); i++) {
        char place[ADDRESS_MAX];
        struct cof_error err;
        CHECK_OK(address_check(cof_slice_text(parts[i][0]), false, "test", &err), &err);
        CHECK(address_is_web(parts[i][0]));
        address_place(parts[i][0], place);
        CHECK_TEXT(place, parts[i][1]);
        CHECK_TEXT(address_path(parts[i][0]), parts[i][2]);
    }
    CHECK(!address_is_web("tls+tcp://localhost:1") && !address_is_tls("ws://localhost:1"));
}

static void addresses_are_checked_one_by_one(void)
{
    CHECK_REFUSED("addr=''", "addr", "an address is empty");
    CHECK_REFUSED("addr=ipc:///a,,ipc:///b", "addr", "an address is empty");
    CHECK_REFUSED("addr=ipc:///a,", "addr", "an address is empty");
    CHECK_REFUSED("addr=localhost:7480", "addr", "has no transport that is known");
    CHECK_REFUSED("addr=http://localhost", "addr", "has no transport that is known");
    CHECK_REFUSED("addr=wss://a", "addr", "not wss://HOST:PORT/PATH");
    CHECK_REFUSED("addr=wss:///a:1", "addr", "not wss://HOST:PORT/PATH");
    CHECK_REFUSED("addr=wss://a:1/b?c", "addr", "a query or a fragment");
    CHECK_REFUSED("addr=ws://localhost:0/", "addr", "port of 1 to 65535");
    CHECK_REFUSED("addr=ws://vault.example:80/", "addr", "in the clear");
    CHECK_REFUSED("addr=tls+tcp://a", "addr", "not tls+tcp://HOST:PORT");
    CHECK_REFUSED("addr=tls+tcp://a:0", "addr", "port of 1 to 65535");
    CHECK_REFUSED("addr=ipc://a", "addr", "no absolute path");
    CHECK_REFUSED("addr=ipc:///", "addr", "no absolute path");
    CHECK_REFUSED("addr=tcp://", "addr", "not tcp://HOST:PORT");
    CHECK_REFUSED("addr=tcp://localhost", "addr", "not tcp://HOST:PORT");
    CHECK_REFUSED("addr=tcp://:7480", "addr", "not tcp://HOST:PORT");
    CHECK_REFUSED("addr=tcp://localhost:0", "addr", "port of 1 to 65535");
    CHECK_REFUSED("addr=tcp://localhost:65536", "addr", "port of 1 to 65535");
    CHECK_REFUSED("addr=tcp://localhost:x", "addr", "port of 1 to 65535");
    CHECK_REFUSED("addr=ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,"
                  "ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a,ipc:///a",
                  "addr", "more than 16 addresses");
}

static void socket_path_longer_than_the_system_takes_is_refused(void)
{
    char text[200];
    (void) snprintf(text, sizeof text, "addr=ipc:///%0107d", 0);
    CHECK_REFUSED(text, "addr", "more than 107 bytes");
}

static void plain_tcp_is_for_this_host_unless_allowed(void)
{
    static const char *const here[] = {"addr=tcp://127.0.0.1:1",
                                       "addr=tcp://127.1.2.3:1",
                                       "addr=tcp://localhost:1",
                                       "addr=tcp://[::1]:1",
                                       "insecure_transport=yes addr=tcp://db.example:1",
                                       "addr=tcp://db.example:1 insecure_transport=yes"};
    for (size_t i = 0; i < COF_COUNT(here); i++) {
        struct settings settings;
        struct cof_error err;
        CHECK_OK(read_with(NULL, here[i], &settings, &err), &err);
        settings_done(&settings);
    }
    CHECK_REFUSED("addr=tcp://db.example:1", "addr", "in the clear");
    CHECK_REFUSED("addr=tcp://128.0.0.1:1", "addr", "in the clear");
    CHECK_REFUSED("addr=tcp://0.0.0.0:1", "addr", "in the clear");
    CHECK_REFUSED("addr=tcp://localhost.example:1", "addr", "in the clear");
    CHECK_REFUSED("addr=tcp://127.0.0.1.example:1", "addr", "in the clear");
    CHECK_REFUSED("addr=tcp://[fe80::1]:1", "addr", "in the clear");
    CHECK_REFUSED("addr=ipc:///a,tcp://10.0.0.1:1", "addr", "tcp://10.0.0.1:1");
}

static void random_text_never_does_more_than_fail(void)
{
    static const char alphabet[] = "adtokenfilw=='\\ \t,:/0123smn_-";
    uint64_t state = test_seed();
    for (int round = 0; round < 20000; round++) {
        char text[48];
        const size_t len = test_random(&state) % (sizeof text - 1);
        for (size_t i = 0; i < len; i++) {
            text[i] = alphabet[test_random(&state) % (sizeof alphabet - 1)];
        }
        text[len] = '\0';
        struct settings settings;
        struct cof_error err;
        if (read_with(NULL, text, &settings, &err) == COF_OK) {
            settings_done(&settings);
        } else {
            CHECK(err.message[0] != '\0');
        }
    }
}

TEST_MAIN(TEST(everything_has_a_default), TEST(all_settings_are_read_from_the_text),
          TEST(tls_is_for_any_host_and_its_files_come_from_text_or_environment), TEST(text_wins_over_environment),
          TEST(failure_in_the_environment_names_the_variable),
          TEST(two_variables_for_the_token_contradict_each_other),
          TEST(token_in_the_text_is_refused_without_showing_it), TEST(malformed_text_is_refused),
          TEST(text_over_the_limit_is_refused), TEST(unknown_setting_gets_a_suggestion),
          TEST(setting_given_twice_is_refused), TEST(values_are_checked_one_by_one),
          TEST(addresses_of_websockets_have_a_place_and_a_path), TEST(addresses_are_checked_one_by_one),
          TEST(socket_path_longer_than_the_system_takes_is_refused),
          TEST(plain_tcp_is_for_this_host_unless_allowed), TEST(random_text_never_does_more_than_fail))
