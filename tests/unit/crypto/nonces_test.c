/*
 * T19: nonces of seals by several threads and by forked children, none twice. 2,000 seals for each of a few children and
 * threads, or 50 million in all with TEST_FULL.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/crypto/keyring.h"
#include "tests/unit/crypto/started.h"

enum { PARENTS = 4, CHILDREN = 4, SEALS = 2000, SEALS_FULL = 2500000, NONCE_AT = BLOB_HEADER - CRYPTO_NONCE };

/* A part is what one thread or one child seals. Each parent thread seals a half of its part before it forks its children,
 * so that block of random bytes which the child inherits is one that the parent goes on with. */
enum { PARTS = PARENTS * (1 + CHILDREN) };

struct nonce {
    uint8_t bytes[CRYPTO_NONCE];
};

struct run {
    struct keyring *keyring;
    size_t seals; /* of each part */
    struct nonce *nonces;
};

struct parent {
    struct run *run;
    size_t number;
    bool failed;
};

static bool seal(const struct run *run, size_t part, size_t first, size_t last)
{
    struct cof_error err;
    uint8_t blob[4 + BLOB_OVERHEAD];
    const struct blob_address address = {.kind = BLOB_SECRET_VERSION, .version = part};
    for (size_t i = first; i < last; i++) {
        if (keyring_seal(run->keyring, &address, cof_slice_text("text"), blob, &err) != COF_OK) {
            fprintf(stderr, "sealing failed: %s\n", err.message);
            return false;
        }
        memcpy(run->nonces[part * run->seals + i].bytes, blob + NONCE_AT, CRYPTO_NONCE);
    }
    return true;
}

static pid_t fork_child(const struct run *run, size_t part)
{
    const pid_t child = fork();
    if (child == 0) {
        _exit(seal(run, part, 0, run->seals) ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    return child;
}

static void *work(void *context)
{
    struct parent *parent = context;
    const struct run *run = parent->run;
    const size_t part = parent->number * (1 + CHILDREN);
    pid_t children[CHILDREN];
    parent->failed = !seal(run, part, 0, run->seals / 2);
    for (size_t i = 0; i < CHILDREN; i++) {
        children[i] = fork_child(run, part + 1 + i);
    }
    parent->failed = !seal(run, part, run->seals / 2, run->seals) || parent->failed;
    for (size_t i = 0; i < CHILDREN; i++) {
        int status = -1;
        parent->failed =
            children[i] < 0 || waitpid(children[i], &status, 0) != children[i] || status != 0 || parent->failed;
    }
    return NULL;
}

static int compare(const void *one, const void *other)
{
    return memcmp(one, other, CRYPTO_NONCE);
}

static size_t repeated(struct nonce *nonces, size_t count)
{
    size_t found = 0;
    qsort(nonces, count, sizeof *nonces, compare);
    for (size_t i = 1; i < count; i++) {
        found += compare(&nonces[i - 1], &nonces[i]) == 0;
    }
    return found;
}

static struct keyring *keyring_of_one_key(void)
{
    struct cof_error err;
    struct root_key *root = NULL;
    struct keyring *keyring = NULL;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    const uint8_t key[CRYPTO_KEY] = {1};
    const struct cof_uuid workspace = cof_uuid_zero;
    started();
    if (root_key_new(key, &root, &err) != COF_OK || keyring_new(&root, 1, 1, &keyring, &err) != COF_OK ||
        keyring_generate(keyring, &workspace, 1, wrapped, &err) != COF_OK ||
        keyring_install(keyring, &workspace, 1, cof_slice_of(wrapped, sizeof wrapped), &err) != COF_OK) {
        abort();
    }
    return keyring;
}

/* One key for all: a nonce must not repeat under it, whoever seals. */
static void seals_of_threads_and_of_their_forked_children_never_share_a_nonce(void)
{
    struct run run = {.keyring = keyring_of_one_key(), .seals = getenv("TEST_FULL") == NULL ? SEALS : SEALS_FULL};
    struct parent parents[PARENTS];
    pthread_t threads[PARENTS];
    const size_t count = PARTS * run.seals;
    bool failed = false;
    void *memory =
        mmap(NULL, count * sizeof(struct nonce), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    run.nonces = memory;
    for (size_t i = 0; i < PARENTS; i++) {
        parents[i] = (struct parent){.run = &run, .number = i};
        CHECK_INT(pthread_create(&threads[i], NULL, work, &parents[i]), 0);
    }
    for (size_t i = 0; i < PARENTS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
        failed = failed || parents[i].failed;
    }
    CHECK(!failed);
    const size_t found = repeated(run.nonces, count);
    printf("%zu seals by %d threads and %d forked children: %zu nonces repeated\n", count, PARENTS,
           PARENTS * CHILDREN, found);
    CHECK_INT(found, 0);
    (void) munmap(memory, count * sizeof(struct nonce));
    keyring_free(run.keyring);
}

/* The count finds what it looks for. */
static void nonce_that_is_there_twice_is_found(void)
{
    struct nonce nonces[100];
    for (size_t i = 0; i < COF_COUNT(nonces); i++) {
        memset(&nonces[i], (int) (i * 7 % 100), sizeof nonces[i]);
    }
    CHECK_INT(repeated(nonces, COF_COUNT(nonces)), 0);
    nonces[3] = nonces[90];
    CHECK_INT(repeated(nonces, COF_COUNT(nonces)), 1);
}

TEST_MAIN(TEST(seals_of_threads_and_of_their_forked_children_never_share_a_nonce),
          TEST(nonce_that_is_there_twice_is_found))
