#include <stdlib.h>

#include <openssl/ssl.h>

#include "common/tls/context.h"
#include "common/tls/session.h"
#include "tests/support/test.h"
#include "tests/unit/tls/certificates.h"

/* Two ends in memory: who is let in, what each side is told, and what happens to bytes that are cut or wrong. */

enum { HOUR_S = 3600, WIRE = 20000, PLAIN = 3 << 20 };

struct two {
    struct cof_tls *server_tls;
    struct cof_tls *client_tls;
    struct cof_tls_session *server;
    struct cof_tls_session *client;
    cof_tls_step server_step;
    cof_tls_step client_step;
};

/* What a test changes of the right thing. */
struct wish {
    const struct pair *server; /* NULL: the right one */
    const struct pair *client; /* NULL: none */
    const char *server_ca;     /* NULL: no certificates of clients are asked for */
    const char *client_ca;     /* NULL: the right one */
    const char *name;          /* NULL: localhost */
    bool optional;
};

static void done(struct two *two)
{
    cof_tls_session_free(two->server);
    cof_tls_session_free(two->client);
    cof_tls_drop(two->server_tls);
    cof_tls_drop(two->client_tls);
}

#define TWO AUTO(done) struct two

static bool open_two(const struct wish *wish, struct two *two)
{
    struct cof_error err;
    certificates_start();
    const struct pair right = certificates_server();
    const struct pair *server = wish->server == NULL ? &right : wish->server;
    const struct cof_tls_options server_options = {
        .role = COF_TLS_SERVER,
        .certificate = {server->certificate, "tls.certificate"},
        .key = {server->key, "tls.key"},
        .ca = {wish->server_ca, "tls.client_ca"},
        .optional = wish->optional,
    };
    const struct cof_tls_options client_options = {
        .role = COF_TLS_CLIENT,
        .certificate = {wish->client == NULL ? NULL : wish->client->certificate, "client_cert"},
        .key = {wish->client == NULL ? NULL : wish->client->key, "client_key"},
        .ca = {wish->client_ca == NULL ? certificates_ca(false) : wish->client_ca, "cacert"},
    };
    *two = (struct two){0};
    if (cof_tls_new(&server_options, &two->server_tls, &err) != COF_OK ||
        cof_tls_new(&client_options, &two->client_tls, &err) != COF_OK) {
        (void) fprintf(stderr, "%s\n", err.message);
        return false;
    }
    two->server = cof_tls_session_new(two->server_tls, NULL);
    two->client = cof_tls_session_new(two->client_tls, wish->name == NULL ? "localhost" : wish->name);
    return two->server != NULL && two->client != NULL;
}

/* Carries up to `most` bytes; returns how many. */
static size_t carry(struct cof_tls_session *from, struct cof_tls_session *to, size_t most)
{
    static uint8_t wire[WIRE];
    const size_t size = cof_tls_session_take(from, wire, most < WIRE ? most : WIRE);
    if (size > 0 && !cof_tls_session_feed(to, cof_slice_of(wire, size))) {
        abort();
    }
    return size;
}

/* Until nothing moves; a client that has finished reads, as its refusal comes then. */
static void shake(struct two *two, size_t most)
{
    uint8_t byte;
    size_t size = 0;
    bool moved = true;
    two->server_step = two->client_step = COF_TLS_WANTS;
    while (moved) {
        two->client_step = cof_tls_session_handshake(two->client);
        moved = carry(two->client, two->server, most) > 0;
        two->server_step = cof_tls_session_handshake(two->server);
        moved = carry(two->server, two->client, most) > 0 || moved;
    }
    if (two->client_step == COF_TLS_DONE && two->server_step == COF_TLS_FAILED) {
        two->client_step = cof_tls_session_read(two->client, &byte, 1, &size);
    }
}

static bool open_and_shake(const struct wish *wish, struct two *two)
{
    if (!open_two(wish, two)) {
        return false;
    }
    shake(two, WIRE);
    return true;
}

#define CHECK_SHAKEN(two)                           \
    do {                                            \
        CHECK_INT((two).client_step, COF_TLS_DONE); \
        CHECK_INT((two).server_step, COF_TLS_DONE); \
    } while (0)

/* --- Who is let in -------------------------------------------------------------------------------------------- */

static void certificate_of_the_name_or_address_is_taken(void)
{
    static const char *const names[] = {"localhost", "127.0.0.1"};
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        TWO two;
        const struct wish wish = {.name = names[i]};
        CHECK(open_and_shake(&wish, &two));
        CHECK_SHAKEN(two);
        CHECK_TEXT(cof_tls_session_problem(two.client), "");
    }
}

static void certificate_of_another_host_is_named_and_refused(void)
{
    static const char *const names[] = {"vault.example", "127.0.0.2", "::1", "localhost.example", "ocalhost"};
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        TWO two;
        const struct wish wish = {.name = names[i]};
        CHECK(open_and_shake(&wish, &two));
        CHECK_INT(two.client_step, COF_TLS_FAILED);
        CHECK_CONTAINS(cof_tls_session_problem(two.client), names[i]);
        CHECK_CONTAINS(cof_tls_session_problem(two.client), "localhost, 127.0.0.1");
        CHECK_INT(two.server_step, COF_TLS_FAILED);
    }
}

static void subject_is_no_name_of_a_host(void)
{
    certificates_start();
    const struct certificate_wish made = {"localhost", NULL, "serverAuth", -HOUR_S, HOUR_S};
    const struct pair server = certificates_issue(&made, false);
    TWO two;
    CHECK(open_and_shake(&(struct wish){.server = &server}, &two));
    CHECK_INT(two.client_step, COF_TLS_FAILED);
    CHECK_CONTAINS(cof_tls_session_problem(two.client), "no name");
}

static void names_of_certificates_reach_terminals_as_printable_text(void)
{
    certificates_start();
    const struct certificate_wish made = {"\x1b[31mred", "DNS:\x1b[31mred", "serverAuth", -HOUR_S, HOUR_S};
    const struct certificate_wish unknown = {"evil\x1b[31m", "DNS:localhost", "serverAuth", -HOUR_S, HOUR_S};
    const struct pair pairs[] = {certificates_issue(&made, false), certificates_issue(&unknown, true)};
    for (size_t i = 0; i < COF_COUNT(pairs); i++) {
        TWO two;
        CHECK(open_and_shake(&(struct wish){.server = &pairs[i]}, &two));
        CHECK_INT(two.client_step, COF_TLS_FAILED);
        for (const char *at = cof_tls_session_problem(two.client); *at != '\0'; at++) {
            CHECK(*at >= ' ' && *at <= '~');
        }
    }
}

static void certificates_out_of_their_time_are_refused(void)
{
    certificates_start();
    const struct certificate_wish old = {"old", "DNS:localhost", "serverAuth", -2 * HOUR_S, -HOUR_S};
    const struct certificate_wish early = {"early", "DNS:localhost", "serverAuth", HOUR_S, 2 * HOUR_S};
    const struct pair pairs[] = {certificates_issue(&old, false), certificates_issue(&early, false)};
    static const char *const words[] = {"the server's certificate expired at 20", "valid from 20"};
    for (size_t i = 0; i < COF_COUNT(pairs); i++) {
        TWO two;
        CHECK(open_and_shake(&(struct wish){.server = &pairs[i]}, &two));
        CHECK_INT(two.client_step, COF_TLS_FAILED);
        CHECK_CONTAINS(cof_tls_session_problem(two.client), words[i]);
    }
}

static void unknown_ca_is_refused_and_both_are_told(void)
{
    certificates_start();
    TWO two;
    CHECK(open_and_shake(&(struct wish){.client_ca = certificates_ca(true)}, &two));
    CHECK_INT(two.client_step, COF_TLS_FAILED);
    CHECK_CONTAINS(cof_tls_session_problem(two.client), "leads to no CA that is trusted here");
    CHECK_INT(two.server_step, COF_TLS_FAILED);
    CHECK_CONTAINS(cof_tls_session_problem(two.server), "the client does not take the server's certificate");
}

static void gate_lets_in_only_clients_of_its_ca(void)
{
    certificates_start();
    const struct pair right = certificates_client();
    const struct certificate_wish wishes[] = {
        {"stranger", NULL, "clientAuth", -HOUR_S, HOUR_S},
        {"late", NULL, "clientAuth", -2 * HOUR_S, -HOUR_S},
        {"no-client", NULL, "serverAuth", -HOUR_S, HOUR_S},
    };
    static const char *const words[] = {"leads to no CA", "the client's certificate expired", "is not taken"};
    struct wish wish = {.server_ca = certificates_ca(false), .client = &right};
    TWO let_in;
    CHECK(open_and_shake(&wish, &let_in));
    CHECK_SHAKEN(let_in);
    for (size_t i = 0; i < COF_COUNT(wishes); i++) {
        const struct pair wrong = certificates_issue(&wishes[i], i == 0);
        TWO two;
        wish.client = &wrong;
        CHECK(open_and_shake(&wish, &two));
        CHECK_INT(two.server_step, COF_TLS_FAILED);
        CHECK_INT(two.client_step, COF_TLS_FAILED);
        CHECK_CONTAINS(cof_tls_session_problem(two.server), words[i]);
        CHECK_CONTAINS(cof_tls_session_problem(two.client), "client_cert");
    }
}

static void gate_tells_a_client_without_certificate_what_it_lacks(void)
{
    certificates_start();
    TWO two;
    CHECK(open_and_shake(&(struct wish){.server_ca = certificates_ca(false)}, &two));
    CHECK_INT(two.server_step, COF_TLS_FAILED);
    CHECK_INT(two.client_step, COF_TLS_FAILED);
    CHECK_CONTAINS(cof_tls_session_problem(two.server), "the client has no certificate");
    CHECK_CONTAINS(cof_tls_session_problem(two.client), "set client_cert and client_key");
}

static void optional_gate_lets_in_without_but_not_with_a_wrong_certificate(void)
{
    certificates_start();
    const struct certificate_wish made = {"nobody", NULL, "clientAuth", -HOUR_S, HOUR_S};
    const struct pair wrong = certificates_issue(&made, true);
    struct wish wish = {.server_ca = certificates_ca(false), .optional = true};
    TWO without;
    CHECK(open_and_shake(&wish, &without));
    CHECK_SHAKEN(without);
    TWO with;
    wish.client = &wrong;
    CHECK(open_and_shake(&wish, &with));
    CHECK_INT(with.server_step, COF_TLS_FAILED);
}

/* --- Whom one has met ----------------------------------------------------------------------------------------- */

static void plain_peers_are_recognised_and_answered_with_an_alert(void)
{
    static const uint8_t greeting[] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    static uint8_t answer[WIRE];
    TWO two;
    CHECK(open_two(&(struct wish){0}, &two));
    /* Byte by byte, as they may come. */
    for (size_t i = 0; i < 4; i++) {
        CHECK_INT(cof_tls_session_handshake(two.server), COF_TLS_WANTS);
        CHECK(cof_tls_session_feed(two.server, cof_slice_of(greeting + i, 1)));
    }
    CHECK_INT(cof_tls_session_handshake(two.server), COF_TLS_FAILED);
    CHECK_CONTAINS(cof_tls_session_problem(two.server), "the client speaks without TLS");
    CHECK_INT(cof_tls_session_take(two.server, answer, sizeof answer), 7);
    CHECK_INT(answer[0], 0x15);
    CHECK_INT(cof_tls_session_handshake(two.client), COF_TLS_WANTS);
    CHECK(cof_tls_session_feed(two.client, cof_slice_of(greeting, sizeof greeting)));
    CHECK_INT(cof_tls_session_handshake(two.client), COF_TLS_FAILED);
    CHECK_CONTAINS(cof_tls_session_problem(two.client), "the server speaks here without TLS");
}

static void other_protocols_are_recognised(void)
{
    TWO two;
    CHECK(open_two(&(struct wish){0}, &two));
    CHECK(cof_tls_session_feed(two.server, cof_slice_text("GET / HTTP/1.1\r\n\r\n")));
    CHECK_INT(cof_tls_session_handshake(two.server), COF_TLS_FAILED);
    CHECK_TEXT(cof_tls_session_problem(two.server), "the client does not speak TLS");
    CHECK_INT(cof_tls_session_handshake(two.client), COF_TLS_WANTS);
    CHECK(cof_tls_session_feed(two.client, cof_slice_text("SSH-2.0-OpenSSH_9.2\r\n")));
    CHECK_INT(cof_tls_session_handshake(two.client), COF_TLS_FAILED);
    CHECK_CONTAINS(cof_tls_session_problem(two.client), "no server with TLS");
}

/* --- Bytes ---------------------------------------------------------------------------------------------------- */

static void handshake_in_single_bytes_succeeds(void)
{
    TWO two;
    CHECK(open_two(&(struct wish){0}, &two));
    shake(&two, 1);
    CHECK_SHAKEN(two);
}

/* Sends `len` bytes from one end, and counts those that arrive as they were. */
static size_t send_through(struct two *two, const uint8_t *bytes, size_t len)
{
    static uint8_t got[COF_TLS_RECORD];
    size_t sent = 0;
    size_t arrived = 0;
    while (sent < len) {
        const size_t part = len - sent < COF_TLS_RECORD ? len - sent : COF_TLS_RECORD;
        size_t size = 0;
        if (cof_tls_session_write(two->server, cof_slice_of(bytes + sent, part)) != COF_TLS_DONE) {
            return arrived;
        }
        sent += part;
        while (carry(two->server, two->client, 1000) > 0) {
            while (cof_tls_session_read(two->client, got, sizeof got, &size) == COF_TLS_DONE &&
                   memcmp(got, bytes + arrived, size) == 0) {
                arrived += size;
            }
        }
    }
    return arrived;
}

static void three_megabytes_arrive_whole(void)
{
    uint64_t state = test_seed();
    TWO two;
    CHECK(open_and_shake(&(struct wish){0}, &two));
    CHECK_SHAKEN(two);
    uint8_t *bytes = malloc(PLAIN);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < PLAIN; i++) {
        bytes[i] = (uint8_t) test_random(&state);
    }
    const size_t arrived = send_through(&two, bytes, PLAIN);
    free(bytes);
    CHECK_INT(arrived, PLAIN);
}

static void changed_byte_ends_the_session(void)
{
    static uint8_t wire[WIRE];
    uint8_t got[16];
    size_t size = 0;
    uint64_t state = test_seed();
    for (unsigned i = 0; i < 40; i++) {
        TWO two;
        CHECK(open_and_shake(&(struct wish){0}, &two));
        CHECK_SHAKEN(two);
        CHECK_INT(cof_tls_session_write(two.server, cof_slice_text("value")), COF_TLS_DONE);
        const size_t len = cof_tls_session_take(two.server, wire, sizeof wire);
        /* Not in the length: that would only make it wait. */
        const size_t at = 5 + test_random(&state) % (len - 5);
        wire[at] ^= (uint8_t) (1U << test_random(&state) % 8);
        CHECK(cof_tls_session_feed(two.client, cof_slice_of(wire, len)));
        CHECK_INT(cof_tls_session_read(two.client, got, sizeof got, &size), COF_TLS_FAILED);
        CHECK_INT(cof_tls_session_write(two.client, cof_slice_text("more")), COF_TLS_FAILED);
    }
}

static void announced_end_and_cut_are_told_apart(void)
{
    uint8_t got[16];
    size_t size = 0;
    TWO two;
    CHECK(open_and_shake(&(struct wish){0}, &two));
    CHECK_SHAKEN(two);
    cof_tls_session_cut(two.client);
    CHECK_CONTAINS(cof_tls_session_problem(two.client), "cut");
    cof_tls_session_end(two.server);
    CHECK(carry(two.server, two.client, WIRE) > 0);
    CHECK_INT(cof_tls_session_read(two.client, got, sizeof got, &size), COF_TLS_ENDED);
    TWO early;
    CHECK(open_two(&(struct wish){0}, &early));
    cof_tls_session_cut(early.server);
    CHECK_CONTAINS(cof_tls_session_problem(early.server), "in the middle of the TLS handshake");
}

TEST_MAIN(TEST(certificate_of_the_name_or_address_is_taken), TEST(certificate_of_another_host_is_named_and_refused),
          TEST(subject_is_no_name_of_a_host), TEST(names_of_certificates_reach_terminals_as_printable_text),
          TEST(certificates_out_of_their_time_are_refused), TEST(unknown_ca_is_refused_and_both_are_told),
          TEST(gate_lets_in_only_clients_of_its_ca), TEST(gate_tells_a_client_without_certificate_what_it_lacks),
          TEST(optional_gate_lets_in_without_but_not_with_a_wrong_certificate),
          TEST(plain_peers_are_recognised_and_answered_with_an_alert), TEST(other_protocols_are_recognised),
          TEST(handshake_in_single_bytes_succeeds), TEST(three_megabytes_arrive_whole),
          TEST(changed_byte_ends_the_session), TEST(announced_end_and_cut_are_told_apart))
