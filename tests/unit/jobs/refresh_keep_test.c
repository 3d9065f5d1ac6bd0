#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/attr.h"
#include "server/jobs/refresh_keep.h"
#include "tests/support/test.h"
#include "tests/unit/crypto/started.h"

enum { FOLDER = 64, PATH = 128, LOG_TEXT = 2000, MEMORY = 1 << 20, POOL = 1 << 22 };
enum { MANY = 60, STRIDE = 7 /* has no factor in common with MANY */ };

static const char no_message[] = "\x0a\xff\xff\xff\xff\x0f these bytes are no message";

/* --- A journal in a folder of its own, and somebody who takes what it has kept -------------------------------- */

struct place {
    char folder[FOLDER];
    char text[LOG_TEXT];
    struct cof_log log;
    int log_file;
    struct keyring *keyring;
    struct cof_pool *pool;
    struct refresher *refresher;
    struct refresh_keep_options options;
    struct cof_error err;
};

static struct keyring *new_keyring(void)
{
    struct cof_error err;
    struct root_key *root = NULL;
    struct keyring *keyring = NULL;
    uint8_t key[CRYPTO_KEY] = {7};
    started();
    if (root_key_new(key, &root, &err) != COF_OK || keyring_new(&root, 1, 16, &keyring, &err) != COF_OK) {
        abort();
    }
    return keyring;
}

static void place_init(struct place *place)
{
    *place = (struct place){.folder = "/tmp/coffer-keep-XXXXXX", .keyring = new_keyring()};
    cof_error_clear(&place->err);
    place->log_file = memfd_create("log", MFD_CLOEXEC);
    cof_log_init(&place->log, place->log_file, COF_LOG_JSON, COF_LOG_INFO, &cof_system_clock);
    if (mkdtemp(place->folder) == NULL ||
        cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &place->pool, &place->err) != COF_OK) {
        abort();
    }
    const struct refresher_options refresher = {.session = {.clock = &cof_system_clock},
                                                .pool = place->pool,
                                                .rules = &refresh_default_rules,
                                                .at_once = 8,
                                                .memory = MEMORY};
    if (refresher_new(&refresher, &place->refresher, &place->err) != COF_OK) {
        abort();
    }
    place->options = (struct refresh_keep_options){
        .journal = {.folder = place->folder,
                    .server = {.bytes = {4}},
                    .keyring = place->keyring,
                    .entries = 64,
                    .bytes = 1 << 20},
        .log = &place->log,
        .pool = place->pool,
        .memory = MEMORY,
    };
}

static void place_done(struct place *place)
{
    char path[PATH];
    refresher_stop(place->refresher);
    cof_pool_free(place->pool);
    keyring_free(place->keyring);
    (void) close(place->log_file);
    (void) snprintf(path, sizeof path, "%s/journal", place->folder);
    (void) unlink(path);
    (void) rmdir(place->folder);
}

/* What was logged so far. */
static const char *logged(struct place *place)
{
    const ssize_t length = pread(place->log_file, place->text, sizeof place->text - 1, 0);
    place->text[length < 0 ? 0 : length] = '\0';
    return place->text;
}

static cof_code put_behind_its_back(struct place *place, const char *bytes, size_t length)
{
    struct journal *journal = NULL;
    struct journal_found found;
    uint64_t number;
    TRY(journal_open(&place->options.journal, &journal, &found, &place->err));
    const cof_code code = journal_put(journal, cof_slice_of((const uint8_t *) bytes, length), &number, &place->err);
    journal_close(journal);
    return code;
}

static uint32_t entries_in(struct place *place)
{
    struct journal *journal = NULL;
    struct journal_found found = {0};
    if (journal_open(&place->options.journal, &journal, &found, &place->err) == COF_OK) {
        journal_close(journal);
    }
    return found.entries;
}

static bool take(void *context, const struct refresher_entry *entry)
{
    return refresher_recover(context, entry);
}

static cof_code start(struct place *place, struct refresh_keep **ret_keep)
{
    TRY(refresh_keep_open(&place->options, ret_keep, &place->err));
    return refresh_keep_recover(*ret_keep, take, place->refresher, &place->err);
}

/* --- Tests ---------------------------------------------------------------------------------------------------- */

static void entry_that_cannot_be_read_is_told_and_kept_and_stops_nothing(void)
{
    AUTO(place_done) struct place place;
    struct refresh_keep *keep = NULL;
    place_init(&place);
    CHECK_OK(put_behind_its_back(&place, no_message, sizeof no_message), &place.err);
    CHECK_OK(start(&place, &keep), &place.err);
    const uint32_t awaited = refresh_keep_count(keep);
    refresh_keep_close(keep);
    CHECK_INT(awaited, 0);
    CHECK_CONTAINS(logged(&place), "journal_entry_unread");
    CHECK_CONTAINS(logged(&place), "start the version that wrote it");
    CHECK(strstr(logged(&place), "these bytes") == NULL);
    CHECK_INT(entries_in(&place), 1);
}

static void entries_behind_one_that_cannot_be_read_are_taken(void)
{
    AUTO(place_done) struct place place;
    struct refresh_keep *keep = NULL;
    place_init(&place);
    const struct refresher_entry entry = {
        .workspace = {.bytes = {1}},
        .connection = {.bytes = {2}},
        .store = {.kind = REFRESH_DO_STORE, .status = REFRESH_CONNECTED, .generation = 3},
        .tokens = {.access_token = cof_slice_text("access"), .refresh_token = cof_slice_text("")},
    };
    CHECK_OK(put_behind_its_back(&place, no_message, sizeof no_message), &place.err);
    CHECK_OK(refresh_keep_open(&place.options, &keep, &place.err), &place.err);
    const bool kept = refresh_keep_put(keep, &entry);
    refresh_keep_close(keep);
    CHECK(kept);
    CHECK_OK(start(&place, &keep), &place.err);
    const uint32_t awaited = refresh_keep_count(keep);
    refresh_keep_forget(keep, &entry.connection, &cof_uuid_zero);
    const uint32_t left = refresh_keep_count(keep);
    refresh_keep_close(keep);
    CHECK_INT(awaited, 1);
    CHECK_INT(left, 0);
    CHECK_INT(entries_in(&place), 1);
}

/* The number of a connection, or of an authorization of it. */
static struct cof_uuid numbered(size_t number)
{
    return (struct cof_uuid){.bytes = {(uint8_t) (number + 1)}};
}

static bool put_numbered(struct refresh_keep *keep, size_t number)
{
    struct refresher_entry entry = {
        .workspace = {.bytes = {1}},
        .connection = numbered(number / 2),
        .connects = number % 2 == 1,
        .store = {.kind = REFRESH_DO_STORE, .status = REFRESH_CONNECTED, .generation = 3},
        .tokens = {.access_token = cof_slice_text("access"), .refresh_token = cof_slice_text("")},
    };
    entry.connect = (struct refresh_connect){.authorization = numbered(number), .principal = numbered(number)};
    return refresh_keep_put(keep, &entry);
}

static void forget_numbered(struct refresh_keep *keep, size_t number)
{
    const struct cof_uuid connection = numbered(number / 2);
    const struct cof_uuid authorization = number % 2 == 1 ? numbered(number) : cof_uuid_zero;
    refresh_keep_forget(keep, &connection, &authorization);
}

static void each_of_many_answers_is_forgotten_alone(void)
{
    AUTO(place_done) struct place place;
    struct refresh_keep *keep = NULL;
    size_t kept = 0;
    size_t right = 0;
    place_init(&place);
    CHECK_OK(refresh_keep_open(&place.options, &keep, &place.err), &place.err);
    for (size_t i = 0; i < MANY; i++) {
        kept += put_numbered(keep, i);
    }
    /* One after the other, in an order of its own, each twice. */
    for (size_t i = 0; i < MANY; i++) {
        forget_numbered(keep, i * STRIDE % MANY);
        forget_numbered(keep, i * STRIDE % MANY);
        right += refresh_keep_count(keep) == MANY - 1 - i;
    }
    refresh_keep_close(keep);
    CHECK_INT(kept, MANY);
    CHECK_INT(right, MANY);
    CHECK_INT(entries_in(&place), 0);
}

TEST_MAIN(TEST(each_of_many_answers_is_forgotten_alone),
          TEST(entry_that_cannot_be_read_is_told_and_kept_and_stops_nothing),
          TEST(entries_behind_one_that_cannot_be_read_are_taken))
