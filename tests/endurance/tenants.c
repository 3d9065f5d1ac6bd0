/*
 * Reads of many tenants through libcoffer, for endurance_test.py: callbacks that each resolve the next thing when one is
 * done, over clients that are closed and opened again and again.
 *
 *     tenants WORKSPACES READS CLIENTS
 *
 * WORKSPACES is a file with a UUID on each line. Each of these workspaces has the secrets "s0" to "s3" with a key KEY
 * whose value is the workspace's UUID, a blank, and the secret's name. Where the server is and the fleet token come
 * from the environment. Nine of ten reads go to a tenth of the tenants. Prints "READS FOREIGN FAILED"; what was foreign or
 * failed is told on the standard error.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/coffer.h>

#include "common/uuid.h"

enum { SECRETS = 4, TENANTS_MAX = 100000, IN_FLIGHT = 256, READS_OF_A_CLIENT = 20000, TOLD_MOST = 20 };

static char (*tenants)[COF_UUID_TEXT];
static size_t tenant_count;
static uint64_t seed;
static atomic_ulong foreign_count;
static atomic_ulong failed_count;

/* SplitMix64. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* One client's life, again and again. */
struct reader {
    pthread_t thread;
    uint64_t random;
    unsigned long left;
    coffer_client *client;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned in_flight;
};

struct read {
    struct reader *reader;
    const char *workspace;
    char secret[4];
};

static void tell(const struct read *read, const char *what, const char *why)
{
    if (atomic_load(&foreign_count) + atomic_load(&failed_count) < TOLD_MOST) {
        fprintf(stderr, "tenants: %s of %s: %s: %s\n", read->secret, read->workspace, what, why);
    }
}

static void check(const struct read *read, const coffer_result *result)
{
    char expected[COF_UUID_TEXT + 4];
    const coffer_item *item = coffer_result_item(result, 0);
    if (coffer_item_status(item) != COFFER_OK) {
        tell(read, coffer_outcome_name(coffer_item_outcome(item)), coffer_item_message(item));
        (void) atomic_fetch_add(&failed_count, 1);
        return;
    }
    const coffer_bytes value = coffer_item_value(item, read->secret, "KEY");
    (void) snprintf(expected, sizeof expected, "%s %s", read->workspace, read->secret);
    if (value.length != strlen(expected) || memcmp(value.data, expected, value.length) != 0) {
        tell(read, "foreign bytes", "the value is not the tenant's");
        (void) atomic_fetch_add(&foreign_count, 1);
    }
}

static void on_resolved(coffer_result *result, coffer_error *error, void *context)
{
    struct read *read = context;
    struct reader *reader = read->reader;
    if (result != NULL) {
        check(read, result);
    } else {
        tell(read, coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
        (void) atomic_fetch_add(&failed_count, 1);
    }
    coffer_result_free(result);
    coffer_error_free(error);
    free(read);
    (void) pthread_mutex_lock(&reader->lock);
    reader->in_flight--;
    (void) pthread_cond_signal(&reader->changed);
    (void) pthread_mutex_unlock(&reader->lock);
}

static struct read *new_read(struct reader *reader)
{
    struct read *read = calloc(1, sizeof *read);
    if (read == NULL) {
        abort();
    }
    const uint64_t chance = random_next(&reader->random);
    const size_t among = chance % 10 == 0 ? tenant_count : (tenant_count + 9) / 10;
    read->reader = reader;
    read->workspace = tenants[(chance >> 8) % among];
    (void) snprintf(read->secret, sizeof read->secret, "s%u", (unsigned) (chance >> 40) % SECRETS);
    return read;
}

static void begin(struct reader *reader)
{
    coffer_error *error = NULL;
    struct read *read = new_read(reader);
    coffer_request *request = coffer_request_new();
    coffer_request_set_workspace(request, read->workspace);
    coffer_request_add_reference(request, read->secret, "KEY");
    (void) pthread_mutex_lock(&reader->lock);
    while (reader->in_flight >= IN_FLIGHT) {
        (void) pthread_cond_wait(&reader->changed, &reader->lock);
    }
    reader->in_flight++;
    (void) pthread_mutex_unlock(&reader->lock);
    if (coffer_resolve_start(reader->client, request, on_resolved, read, &error) != COFFER_OK) {
        on_resolved(NULL, error, read);
    }
    coffer_request_free(request);
}

static void live_once(struct reader *reader)
{
    coffer_error *error = NULL;
    if (coffer_client_open(NULL, &reader->client, &error) != COFFER_OK) {
        fprintf(stderr, "tenants: %s\n", coffer_error_message(error));
        exit(2);
    }
    for (unsigned i = 0; i < READS_OF_A_CLIENT && reader->left > 0; i++, reader->left--) {
        begin(reader);
    }
    (void) pthread_mutex_lock(&reader->lock);
    while (reader->in_flight > 0) {
        (void) pthread_cond_wait(&reader->changed, &reader->lock);
    }
    (void) pthread_mutex_unlock(&reader->lock);
    coffer_client_close(reader->client);
}

static void *live(void *context)
{
    struct reader *reader = context;
    while (reader->left > 0) {
        live_once(reader);
    }
    return NULL;
}

static void read_tenants(const char *path)
{
    char line[COF_UUID_TEXT + 1]; /* and the end of the line */
    FILE *file = fopen(path, "re");
    tenants = calloc(TENANTS_MAX, sizeof *tenants);
    if (file == NULL || tenants == NULL) {
        perror(path);
        exit(2);
    }
    while (tenant_count < TENANTS_MAX && fgets(line, sizeof line, file) != NULL) {
        memcpy(tenants[tenant_count++], line, COF_UUID_TEXT - 1);
    }
    (void) fclose(file);
}

static void run(unsigned long reads, size_t clients)
{
    struct reader *readers = calloc(clients, sizeof *readers);
    if (readers == NULL) {
        abort();
    }
    for (size_t i = 0; i < clients; i++) {
        readers[i].random = seed + i;
        readers[i].left = reads / clients;
        (void) pthread_mutex_init(&readers[i].lock, NULL);
        (void) pthread_cond_init(&readers[i].changed, NULL);
        if (pthread_create(&readers[i].thread, NULL, live, &readers[i]) != 0) {
            abort();
        }
    }
    for (size_t i = 0; i < clients; i++) {
        (void) pthread_join(readers[i].thread, NULL);
        (void) pthread_cond_destroy(&readers[i].changed);
        (void) pthread_mutex_destroy(&readers[i].lock);
    }
    free(readers);
}

int main(int argc, char **argv)
{
    const char *given = getenv("TEST_SEED");
    if (argc != 4) {
        fprintf(stderr, "usage: tenants WORKSPACES READS CLIENTS\n");
        return 2;
    }
    const unsigned long reads = strtoul(argv[2], NULL, 10);
    seed = given == NULL ? 0 : strtoull(given, NULL, 10);
    read_tenants(argv[1]);
    run(reads, strtoul(argv[3], NULL, 10));
    printf("%lu %lu %lu\n", reads, atomic_load(&foreign_count), atomic_load(&failed_count));
    free(tenants);
    return 0;
}
