#include <pthread.h>
#include <stdlib.h>

#include "server/dispatch/line_limit.h"
#include "tests/support/test.h"

enum { THREADS = 4, LINES_EACH = 5000, MANY = 250, OF_EACH = 200 };

static const int64_t second_us = 1000000;
static const int64_t window_us = LINE_LIMIT_WINDOW_US;

static void limit_cleanup(struct line_limit **limit)
{
    line_limit_free(*limit);
}

static struct exchange_peer ipv4(uint8_t last)
{
    return (struct exchange_peer){.has_ip = true, .ip = {[10] = 0xff, 0xff, 192, 0, 2, last}};
}

static struct exchange_peer ipv6(uint8_t network, uint8_t host)
{
    return (struct exchange_peer){.has_ip = true, .ip = {0x20, 0x01, 0x0d, 0xb8, [7] = network, [15] = host}};
}

static struct exchange_peer user(uint32_t uid)
{
    return (struct exchange_peer){.has_uid = true, .uid = uid};
}

/* How many of so many lines may be written. */
static unsigned take(struct line_limit *limit, struct exchange_peer peer, unsigned count, int64_t now_us)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < count; i++) {
        taken += line_limit_take(limit, &peer, now_us) ? 1 : 0;
    }
    return taken;
}

static void a_peer_has_so_many_lines_in_a_window_and_the_rest_is_told_once(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    struct line_limit_rest rest;
    CHECK_INT(take(limit, ipv4(1), LINE_LIMIT_LINES + 7, 5), LINE_LIMIT_LINES);
    CHECK(!line_limit_rest(limit, window_us + 4, &rest));
    CHECK(line_limit_rest(limit, window_us + 5, &rest));
    CHECK_TEXT(rest.peer, "192.0.2.1");
    CHECK_INT(rest.lines, 7);
    CHECK_INT(rest.window_us, window_us);
    CHECK(!line_limit_rest(limit, window_us + 5, &rest));
    CHECK_INT(take(limit, ipv4(1), LINE_LIMIT_LINES + 1, window_us + 5), LINE_LIMIT_LINES);
}

static void nothing_is_told_of_a_peer_that_had_all_of_its_lines(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    struct line_limit_rest rest;
    CHECK_INT(take(limit, ipv4(1), LINE_LIMIT_LINES, 0), LINE_LIMIT_LINES);
    CHECK(!line_limit_rest(limit, 3 * window_us, &rest));
    CHECK_INT(take(limit, ipv4(1), 1, 3 * window_us), 1);
}

static void one_peer_takes_no_lines_of_another(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    CHECK_INT(take(limit, ipv4(1), 1000, 0), LINE_LIMIT_LINES);
    CHECK_INT(take(limit, ipv4(2), 1000, 0), LINE_LIMIT_LINES);
    CHECK_INT(take(limit, ipv6(1, 1), 1000, 0), LINE_LIMIT_LINES);
    CHECK_INT(take(limit, user(1000), 1000, 0), LINE_LIMIT_LINES);
    CHECK_INT(take(limit, user(1001), 1000, 0), LINE_LIMIT_LINES);
}

static void addresses_of_one_ipv6_network_are_one_peer(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    struct line_limit_rest rest;
    unsigned taken = 0;
    for (unsigned i = 0; i < 200; i++) {
        taken += take(limit, ipv6(7, (uint8_t) i), 1, 0);
    }
    CHECK_INT(taken, LINE_LIMIT_LINES);
    CHECK_INT(take(limit, ipv6(8, 0), 1, 0), 1);
    CHECK(line_limit_rest(limit, window_us, &rest));
    CHECK_TEXT(rest.peer, "2001:db8:0:7::/64");
}

static void many_addresses_share_what_is_beyond_the_peers_that_are_told_apart(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    struct line_limit_rest rest;
    unsigned taken = 0;
    for (unsigned i = 0; i < MANY; i++) {
        taken += take(limit, ipv4((uint8_t) i), OF_EACH, 0);
    }
    CHECK_INT(taken, (LINE_LIMIT_PEERS + 1) * (int64_t) LINE_LIMIT_LINES);
    uint64_t told = 0;
    unsigned count = 0;
    while (line_limit_rest(limit, window_us, &rest)) {
        told += rest.lines;
        count++;
    }
    CHECK_INT(count, LINE_LIMIT_PEERS + 1);
    CHECK_TEXT(rest.peer, "others");
    CHECK_INT(told + taken, (uint64_t) MANY * OF_EACH);
}

static void windows_end_each_at_its_own_time(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    struct line_limit_rest rest;
    CHECK_INT(take(limit, user(1), LINE_LIMIT_LINES + 1, 0), LINE_LIMIT_LINES);
    CHECK_INT(take(limit, user(2), LINE_LIMIT_LINES + 2, 3 * second_us), LINE_LIMIT_LINES);
    CHECK(line_limit_rest(limit, window_us, &rest));
    CHECK_TEXT(rest.peer, "uid 1");
    CHECK(!line_limit_rest(limit, window_us + 2 * second_us, &rest));
    CHECK(line_limit_rest(limit, window_us + 4 * second_us, &rest));
    CHECK_TEXT(rest.peer, "uid 2");
    CHECK_INT(rest.window_us, window_us + second_us);
}

static void at_the_end_everything_is_told(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    struct line_limit_rest rest;
    CHECK_INT(take(limit, (struct exchange_peer){0}, LINE_LIMIT_LINES + 3, 0), LINE_LIMIT_LINES);
    CHECK(line_limit_rest(limit, INT64_MAX, &rest));
    CHECK_TEXT(rest.peer, "this host");
    CHECK_INT(rest.lines, 3);
    CHECK_INT(rest.window_us, window_us);
    CHECK(!line_limit_rest(limit, INT64_MAX, &rest));
}

struct taker {
    pthread_t thread;
    struct line_limit *limit;
    uint64_t taken;
    uint64_t told;
};

static void *take_and_tell(void *context)
{
    struct taker *taker = context;
    for (int64_t i = 0; i < LINES_EACH; i++) {
        struct line_limit_rest rest;
        const int64_t now_us = i * (window_us / 500);
        taker->taken += take(taker->limit, ipv4((uint8_t) (i % 3)), 1, now_us);
        taker->told += line_limit_rest(taker->limit, now_us, &rest) ? rest.lines : 0;
    }
    return NULL;
}

static void threads_lose_no_line_and_tell_none_twice(void)
{
    __attribute__((cleanup(limit_cleanup))) struct line_limit *limit = line_limit_new();
    struct taker takers[THREADS] = {{.limit = limit}, {.limit = limit}, {.limit = limit}, {.limit = limit}};
    struct line_limit_rest rest;
    uint64_t sum = 0;
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&takers[i].thread, NULL, take_and_tell, &takers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void) pthread_join(takers[i].thread, NULL);
        sum += takers[i].taken + takers[i].told;
    }
    while (line_limit_rest(limit, INT64_MAX, &rest)) {
        sum += rest.lines;
    }
    CHECK_INT(sum, (uint64_t) THREADS * LINES_EACH);
}

TEST_MAIN(TEST(a_peer_has_so_many_lines_in_a_window_and_the_rest_is_told_once),
          TEST(nothing_is_told_of_a_peer_that_had_all_of_its_lines), TEST(one_peer_takes_no_lines_of_another),
          TEST(addresses_of_one_ipv6_network_are_one_peer),
          TEST(many_addresses_share_what_is_beyond_the_peers_that_are_told_apart),
          TEST(windows_end_each_at_its_own_time), TEST(at_the_end_everything_is_told),
          TEST(threads_lose_no_line_and_tell_none_twice))
