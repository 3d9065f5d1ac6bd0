#include "server/aws/sessions.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/attr.h"
#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/xaes.h"

enum {
    MICROSECONDS = 1000000,
    MILLISECONDS = 1000,
    LENGTHS = 3 * 4, /* in front of the texts that are sealed */
    SEAL = CRYPTO_NONCE + CRYPTO_TAG,
};

struct entry {
    struct entry *next; /* with the same hash */
    struct entry *newer;
    struct entry *older;
    uint8_t key[SESSIONS_KEY];
    struct sessions_owner owner;
    sessions_found found;
    int64_t until_us; /* since 1970 */
    int64_t expire_us;
    struct sessions_failure failure;
    struct sessions_test test;
    uint8_t *sealed; /* nonce, texts, tag */
    size_t sealed_size;
};

struct sessions {
    pthread_mutex_t lock;
    const struct cof_clock *clock;
    struct xaes_key *sealing;
    uint32_t capacity;
    uint32_t count;
    struct entry *newest;
    struct entry *oldest;
    size_t place_count; /* a power of two */
    struct entry **places;
};

/* --- The table ------------------------------------------------------------------------------------------------ */

/* Keys are hashes already. */
static struct entry **place_of(const struct sessions *sessions, const uint8_t key[SESSIONS_KEY])
{
    return &sessions->places[cof_get_u64(key) & (sessions->place_count - 1)];
}

static struct entry *look_up(const struct sessions *sessions, const uint8_t key[SESSIONS_KEY])
{
    struct entry *entry = *place_of(sessions, key);
    while (entry != NULL && memcmp(entry->key, key, SESSIONS_KEY) != 0) {
        entry = entry->next;
    }
    return entry;
}

static void unlink_age(struct sessions *sessions, const struct entry *entry)
{
    *(entry->newer == NULL ? &sessions->newest : &entry->newer->older) = entry->older;
    *(entry->older == NULL ? &sessions->oldest : &entry->older->newer) = entry->newer;
}

static void make_newest(struct sessions *sessions, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = sessions->newest;
    *(sessions->newest == NULL ? &sessions->oldest : &sessions->newest->newer) = entry;
    sessions->newest = entry;
}

static void entry_free(struct entry *entry)
{
    if (entry->sealed != NULL) {
        cof_wipe(entry->sealed, entry->sealed_size);
    }
    free(entry->sealed);
    free(entry);
}

static void remove_entry(struct sessions *sessions, struct entry *entry)
{
    struct entry **place = place_of(sessions, entry->key);
    while (*place != entry) {
        place = &(*place)->next;
    }
    *place = entry->next;
    unlink_age(sessions, entry);
    sessions->count--;
    entry_free(entry);
}

/* Takes the entry over. */
static void put(struct sessions *sessions, struct entry *entry)
{
    (void) pthread_mutex_lock(&sessions->lock);
    struct entry *before = look_up(sessions, entry->key);
    if (before != NULL) {
        remove_entry(sessions, before);
    }
    if (sessions->count == sessions->capacity) {
        assert(sessions->oldest != NULL);
        remove_entry(sessions, sessions->oldest);
    }
    struct entry **place = place_of(sessions, entry->key);
    entry->next = *place;
    *place = entry;
    make_newest(sessions, entry);
    sessions->count++;
    (void) pthread_mutex_unlock(&sessions->lock);
}

static struct entry *entry_new(const uint8_t key[SESSIONS_KEY], const struct sessions_owner *owner,
                               sessions_found found)
{
    struct entry *entry = calloc(1, sizeof *entry);
    if (entry != NULL) {
        memcpy(entry->key, key, SESSIONS_KEY);
        entry->owner = *owner;
        entry->found = found;
    }
    return entry;
}

/* --- Sealing -------------------------------------------------------------------------------------------------- */

static size_t put_text(uint8_t *to, struct cof_slice text)
{
    cof_put_u32(to, (uint32_t) text.len);
    if (text.len > 0) {
        memcpy(to + 4, text.data, text.len);
    }
    return 4 + text.len;
}

static size_t take_text(const uint8_t *from, struct cof_slice *ret_text)
{
    *ret_text = cof_slice_of(from + 4, cof_get_u32(from));
    return 4 + ret_text->len;
}

static size_t texts_size(const struct aws_credentials *credentials)
{
    return LENGTHS + credentials->access_key_id.len + credentials->secret_access_key.len +
           credentials->session_token.len;
}

/* Sealed where it lies, so that the plain texts are nowhere else. */
static cof_code seal(const struct sessions *sessions, const struct aws_credentials *credentials,
                     struct entry *entry)
{
    struct cof_error err;
    const size_t size = texts_size(credentials);
    entry->sealed = malloc(size + SEAL);
    if (entry->sealed == NULL) {
        return COF_RESOURCE_EXHAUSTED;
    }
    entry->sealed_size = size + SEAL;
    uint8_t *to = entry->sealed + CRYPTO_NONCE;
    size_t at = put_text(to, credentials->access_key_id);
    at += put_text(to + at, credentials->secret_access_key);
    (void) put_text(to + at, credentials->session_token);
    TRY(crypto_random(entry->sealed, CRYPTO_NONCE, &err));
    return xaes_seal(sessions->sealing, entry->sealed, cof_slice_of(entry->key, SESSIONS_KEY),
                     cof_slice_of(to, size), to, &err);
}

static cof_code open_entry(const struct sessions *sessions, const struct entry *entry, struct cof_arena *arena,
                           struct aws_credentials *ret_credentials, struct cof_error *err)
{
    const size_t size = entry->sealed_size - SEAL;
    uint8_t *texts = cof_arena_alloc(arena, size);
    if (texts == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(xaes_open(sessions->sealing, entry->sealed, cof_slice_of(entry->key, SESSIONS_KEY),
                  cof_slice_of(entry->sealed + CRYPTO_NONCE, size + CRYPTO_TAG), texts, err));
    size_t at = take_text(texts, &ret_credentials->access_key_id);
    at += take_text(texts + at, &ret_credentials->secret_access_key);
    (void) take_text(texts + at, &ret_credentials->session_token);
    ret_credentials->expire_us = entry->expire_us;
    return COF_OK;
}

/* --- What is kept --------------------------------------------------------------------------------------------- */

static int64_t margin_of(int64_t life_us)
{
    const int64_t margin = (int64_t) SESSIONS_MARGIN_S * MICROSECONDS;
    return life_us / 2 < margin ? life_us / 2 : margin;
}

void sessions_keep(struct sessions *sessions, const uint8_t key[SESSIONS_KEY], const struct sessions_owner *owner,
                   const struct aws_credentials *credentials)
{
    const int64_t now = cof_clock_wall(sessions->clock);
    struct entry *entry = entry_new(key, owner, SESSIONS_CREDENTIALS);
    if (entry == NULL) {
        return;
    }
    entry->expire_us = credentials->expire_us;
    entry->until_us = credentials->expire_us - margin_of(credentials->expire_us - now);
    if (seal(sessions, credentials, entry) == COF_OK) {
        put(sessions, entry);
    } else {
        entry_free(entry);
    }
}

void sessions_keep_failure(struct sessions *sessions, const uint8_t key[SESSIONS_KEY],
                           const struct sessions_owner *owner, const struct sessions_failure *failure,
                           uint32_t for_ms)
{
    struct entry *entry = entry_new(key, owner, SESSIONS_FAILURE);
    if (entry != NULL) {
        entry->failure = *failure;
        entry->until_us = cof_clock_wall(sessions->clock) + (int64_t) for_ms * MILLISECONDS;
        put(sessions, entry);
    }
}

void sessions_keep_test(struct sessions *sessions, const uint8_t key[SESSIONS_KEY],
                        const struct sessions_owner *owner, const struct sessions_test *test, uint32_t for_ms)
{
    struct entry *entry = entry_new(key, owner, SESSIONS_TEST);
    if (entry != NULL) {
        entry->test = *test;
        entry->until_us = cof_clock_wall(sessions->clock) + (int64_t) for_ms * MILLISECONDS;
        put(sessions, entry);
    }
}

static cof_code take(struct sessions *sessions, struct entry *entry, struct cof_arena *arena,
                     struct sessions_result *ret_result, struct cof_error *err)
{
    unlink_age(sessions, entry);
    make_newest(sessions, entry);
    ret_result->found = entry->found;
    ret_result->failure = entry->failure;
    ret_result->test = entry->test;
    return entry->found == SESSIONS_CREDENTIALS ? open_entry(sessions, entry, arena, &ret_result->credentials, err)
                                                : COF_OK;
}

cof_code sessions_find(struct sessions *sessions, const uint8_t key[SESSIONS_KEY], struct cof_arena *arena,
                       struct sessions_result *ret_result, struct cof_error *err)
{
    cof_code code = COF_OK;
    *ret_result = (struct sessions_result){.found = SESSIONS_NOTHING};
    (void) pthread_mutex_lock(&sessions->lock);
    struct entry *entry = look_up(sessions, key);
    if (entry != NULL && entry->until_us <= cof_clock_wall(sessions->clock)) {
        remove_entry(sessions, entry);
        entry = NULL;
    }
    if (entry != NULL) {
        code = take(sessions, entry, arena, ret_result, err);
    }
    (void) pthread_mutex_unlock(&sessions->lock);
    return code;
}

void sessions_evict(struct sessions *sessions, const struct cof_uuid *workspace, const struct cof_uuid *secret)
{
    (void) pthread_mutex_lock(&sessions->lock);
    struct entry *entry = sessions->newest;
    while (entry != NULL) {
        struct entry *older = entry->older;
        if (cof_uuid_equal(&entry->owner.workspace, workspace) &&
            (secret == NULL || cof_uuid_equal(&entry->owner.secret, secret))) {
            remove_entry(sessions, entry);
        }
        entry = older;
    }
    (void) pthread_mutex_unlock(&sessions->lock);
}

uint32_t sessions_count(struct sessions *sessions)
{
    (void) pthread_mutex_lock(&sessions->lock);
    const uint32_t count = sessions->count;
    (void) pthread_mutex_unlock(&sessions->lock);
    return count;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void sessions_cleanup(struct sessions **sessions)
{
    sessions_free(*sessions);
}

static cof_code make_key(struct sessions *sessions, struct cof_error *err)
{
    uint8_t key[CRYPTO_KEY];
    TRY(crypto_random(key, sizeof key, err));
    const cof_code code = xaes_key_new(key, &sessions->sealing, err);
    cof_wipe(key, sizeof key);
    return code;
}

cof_code sessions_new(uint32_t capacity, const struct cof_clock *clock, struct sessions **ret_sessions,
                      struct cof_error *err)
{
    AUTO(sessions_cleanup) struct sessions *sessions = calloc(1, sizeof *sessions);
    assert(capacity > 0);
    if (sessions == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) pthread_mutex_init(&sessions->lock, NULL);
    sessions->clock = clock;
    sessions->capacity = capacity;
    sessions->place_count = 16;
    while (sessions->place_count < capacity) {
        sessions->place_count *= 2;
    }
    sessions->places = calloc(sessions->place_count, sizeof(struct entry *));
    if (sessions->places == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(make_key(sessions, err));
    *ret_sessions = TAKE(sessions);
    return COF_OK;
}

void sessions_free(struct sessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    while (sessions->newest != NULL) {
        remove_entry(sessions, sessions->newest);
    }
    xaes_key_free(sessions->sealing);
    free((void *) sessions->places);
    (void) pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}
