/*
 * Connections as nobody means well makes them, for endurance_test.py.
 *
 *     broken HOST:PORT|PATH COUNT
 *
 * Makes so many connections, each of which does one of the things in `deeds`, by TEST_SEED, and ends in the middle of
 * it; most are reset, so that no port is kept. Every 1,000th stays open and silent until 200 of them are; then the oldest
 * goes. Prints "MADE REFUSED": connections that were made, and that the server did not take.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { THREADS = 4, SILENT = 50, SILENT_EVERY = 1000, JUNK = 2000, NOISE = 512 };

static const uint8_t greeting[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
static const char *address;
static atomic_ulong made_count;
static atomic_ulong refused_count;

struct attacker {
    pthread_t thread;
    unsigned long count;
    uint64_t random;
    int silent[SILENT];
    size_t silent_at;
};

/* SplitMix64. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static int connect_tcp(const char *host, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t) strtoul(port, NULL, 10))};
    const int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void) inet_pton(AF_INET, host, &to.sin_addr);
    if (made >= 0 && connect(made, (const struct sockaddr *) &to, sizeof to) == 0) {
        return made;
    }
    (void) close(made);
    return -1;
}

static int connect_path(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void) snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    if (made >= 0 && connect(made, (const struct sockaddr *) &to, sizeof to) == 0) {
        return made;
    }
    (void) close(made);
    return -1;
}

static int connect_somehow(void)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    if (colon == NULL) {
        return connect_path(address);
    }
    const size_t length = (size_t) (colon - address);
    if (length >= sizeof host) {
        return -1;
    }
    memcpy(host, address, length);
    host[length] = '\0';
    return connect_tcp(host, colon + 1);
}

/* The peer may be gone already; that is what it is about. */
static void put(int to, const void *bytes, size_t size)
{
    (void) send(to, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void put_length(int to, uint64_t length)
{
    uint8_t bytes[9] = {1};
    for (unsigned i = 0; i < 8; i++) {
        bytes[1 + i] = (uint8_t) (length >> (56 - 8 * i));
    }
    const bool tcp = strchr(address, ':') != NULL;
    put(to, bytes + (tcp ? 1 : 0), tcp ? 8 : 9);
}

static void put_noise(int to, uint64_t *random, size_t size)
{
    uint64_t noise[NOISE / 8];
    for (size_t i = 0; i < NOISE / 8; i++) {
        noise[i] = random_next(random);
    }
    put(to, noise, size < NOISE ? size : NOISE);
}

/* --- Deeds ---------------------------------------------------------------------------------------------------- */

static void say_nothing(int to, uint64_t *random)
{
    (void) to;
    (void) random_next(random); /* as others take one */
}

static void greet_in_part(int to, uint64_t *random)
{
    put(to, greeting, random_next(random) % sizeof greeting);
}

static void speak_another_language(int to, uint64_t *random)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "SSH-2.0-OpenSSH_9.2\r\n",
                                        "*1\r\n$4\r\nPING\r\n"};
    const char *text = texts[random_next(random) % (sizeof texts / sizeof texts[0])];
    put(to, text, strlen(text));
}

static void announce_too_much(int to, uint64_t *random)
{
    put(to, greeting, sizeof greeting);
    put_length(to, random_next(random) | UINT64_C(1) << (21 + random_next(random) % 42));
    put_noise(to, random, 64);
}

static void announce_too_little(int to, uint64_t *random)
{
    put(to, greeting, sizeof greeting);
    put_length(to, random_next(random) % 4);
    put_noise(to, random, 4);
}

static void end_in_a_message(int to, uint64_t *random)
{
    const uint64_t size = 5 + random_next(random) % JUNK;
    put(to, greeting, sizeof greeting);
    put_length(to, size + NOISE);
    put_noise(to, random, (size_t) size);
}

/* Whole messages that are no frames; every third one ends the connection. */
static void send_bad_frames(int to, uint64_t *random)
{
    static const uint8_t id[4] = {0x80, 0, 0, 1};
    put(to, greeting, sizeof greeting);
    for (unsigned i = 0; i < 4; i++) {
        const size_t size = (size_t) (random_next(random) % 200);
        put_length(to, sizeof id + size);
        put(to, id, sizeof id);
        put_noise(to, random, size);
    }
}

static void make_noise(int to, uint64_t *random)
{
    put_noise(to, random, (size_t) (random_next(random) % NOISE));
}

static void (*const deeds[])(int to, uint64_t *random) = {
    say_nothing,         greet_in_part,    speak_another_language, announce_too_much,
    announce_too_little, end_in_a_message, send_bad_frames,        make_noise,
};

/* --- Running -------------------------------------------------------------------------------------------------- */

static void reset(int to)
{
    const struct linger at_once = {1, 0};
    (void) setsockopt(to, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    (void) close(to);
}

static void keep_silent(struct attacker *attacker, int to)
{
    int *place = &attacker->silent[attacker->silent_at++ % SILENT];
    if (*place > 0) {
        reset(*place);
    }
    *place = to;
}

static void attack(struct attacker *attacker, unsigned long number)
{
    const int to = connect_somehow();
    if (to < 0) {
        (void) atomic_fetch_add(&refused_count, 1);
        return;
    }
    (void) atomic_fetch_add(&made_count, 1);
    deeds[random_next(&attacker->random) % (sizeof deeds / sizeof deeds[0])](to, &attacker->random);
    if (number % SILENT_EVERY == 0) {
        keep_silent(attacker, to);
    } else if (random_next(&attacker->random) % 64 == 0) {
        (void) shutdown(to, SHUT_WR);
        (void) close(to);
    } else {
        reset(to);
    }
}

static void *run(void *context)
{
    struct attacker *attacker = context;
    for (unsigned long i = 0; i < attacker->count; i++) {
        attack(attacker, i);
    }
    for (size_t i = 0; i < SILENT; i++) {
        if (attacker->silent[i] > 0) {
            reset(attacker->silent[i]);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct attacker attackers[THREADS];
    const char *given = getenv("TEST_SEED");
    if (argc != 3) {
        fprintf(stderr, "usage: broken HOST:PORT|PATH COUNT\n");
        return 2;
    }
    address = argv[1];
    for (unsigned i = 0; i < THREADS; i++) {
        attackers[i].count = strtoul(argv[2], NULL, 10) / THREADS;
        attackers[i].random = (given == NULL ? 0 : strtoull(given, NULL, 10)) + i;
        if (pthread_create(&attackers[i].thread, NULL, run, &attackers[i]) != 0) {
            abort();
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void) pthread_join(attackers[i].thread, NULL);
    }
    printf("%lu %lu\n", atomic_load(&made_count), atomic_load(&refused_count));
    return 0;
}
