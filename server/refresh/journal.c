#include "server/refresh/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/attr.h"
#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/log_key.h"

/*
 * The file: magic, file number, wrapped key; then records: u32 length of what follows behind the kind, kind, u64 number,
 * sealed text. Numbers rise from record to record and are nonces, so none is used twice under one key. A record of kind DONE
 * has the number of the entry that is done as its text.
 */

enum {
    MAGIC_SIZE = 8,
    FILE_HEAD = MAGIC_SIZE + 8 + WRAPPED_KEY_SIZE,
    RECORD_HEAD = 4 + 1 + 8,
    RECORD_DONE_TEXT = 8,
    RECORD_MAX = RECORD_HEAD + JOURNAL_ENTRY_MAX + CRYPTO_TAG,
    COMPACT_BYTES = 1 << 20, /* a file with nothing in it that is left to do is begun anew from this size on */
    PATH_SIZE = 1100,
};

static const uint8_t magic[MAGIC_SIZE] = {'c', 'o', 'f', 'j', 'r', 'n', 'l', 1};

typedef enum record_kind {
    RECORD_ENTRY = 1,
    RECORD_DONE = 2,
} record_kind;

/* An entry that is not done. */
struct live {
    TAILQ_ENTRY(live) siblings;
    uint64_t number;
    uint64_t offset; /* of its record in the file */
    uint32_t len;    /* of the record */
};

TAILQ_HEAD(live_list, live);

struct journal {
    struct journal_options options;
    char path[PATH_SIZE];
    char new_path[PATH_SIZE];
    int folder;
    pthread_mutex_t lock;
    pthread_cond_t synced_more;
    int fd;
    uint64_t file; /* its number */
    struct log_key *key;
    uint64_t next;    /* number of the next record */
    uint64_t end;     /* where it begins */
    uint64_t synced;  /* bytes that are on the disk */
    uint64_t rewrote; /* files that were begun: offsets of another one mean nothing */
    bool syncing;     /* a thread waits for the disk, for all */
    bool broken;      /* the file cannot be trusted any more: the next entry begins a new one */
    struct live_list lives;
    uint32_t count;
    uint64_t live_bytes; /* of their records */
};

static cof_code fails(struct cof_error *err, int number, const char *what)
{
    return cof_fail_internal(err, COF_ORIGIN_ERRNO, strerrorname_np(number), "%s the refresh journal", what);
}

static void fd_cleanup(const int *fd)
{
    if (*fd >= 0) {
        (void) close(*fd);
    }
}

static void bytes_cleanup(uint8_t **bytes)
{
    free(*bytes);
}

/* --- Bytes ---------------------------------------------------------------------------------------------------- */

static cof_code write_at(int fd, uint64_t offset, struct cof_slice bytes, struct cof_error *err)
{
    while (bytes.len > 0) {
        const ssize_t written = pwrite(fd, bytes.data, bytes.len, (off_t) offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return fails(err, written == 0 ? ENOSPC : errno, "writing to");
        }
        offset += (uint64_t) written;
        bytes = cof_slice_of(bytes.data + written, bytes.len - (size_t) written);
    }
    return COF_OK;
}

/* As many bytes as there are, up to `len`. */
static cof_code read_at(int fd, uint64_t offset, uint8_t *to, size_t len, size_t *ret_read, struct cof_error *err)
{
    size_t done = 0;
    while (done < len) {
        const ssize_t got = pread(fd, to + done, len - done, (off_t) (offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fails(err, errno, "reading");
        }
        if (got == 0) {
            break;
        }
        done += (size_t) got;
    }
    *ret_read = done;
    return COF_OK;
}

/* --- Records -------------------------------------------------------------------------------------------------- */

struct record {
    record_kind kind;
    uint64_t number;
    uint32_t len; /* of all of it */
};

static void put_head(const struct record *record, uint8_t head[RECORD_HEAD])
{
    cof_put_u32(head, record->len - RECORD_HEAD);
    head[4] = (uint8_t) record->kind;
    cof_put_u64(head + 5, record->number);
}

/* False: these bytes are no head of a record that can follow on the one before. */
static bool get_head(const uint8_t head[RECORD_HEAD], uint64_t least, struct record *ret_record)
{
    const uint32_t len = cof_get_u32(head);
    const struct record record = {(record_kind) head[4], cof_get_u64(head + 5), len + RECORD_HEAD};
    if (len < CRYPTO_TAG || len > JOURNAL_ENTRY_MAX + CRYPTO_TAG || record.number < least ||
        (record.kind != RECORD_ENTRY && record.kind != RECORD_DONE)) {
        return false;
    }
    *ret_record = record;
    return true;
}

/* Seals a text as a record behind the last one; not on the disk yet. The lock is held. */
static cof_code append(struct journal *journal, record_kind kind, struct cof_slice text, struct live *ret_place,
                       struct cof_error *err)
{
    const struct record record = {kind, journal->next, (uint32_t) (RECORD_HEAD + text.len + CRYPTO_TAG)};
    AUTO(bytes_cleanup) uint8_t *bytes = malloc(record.len);
    if (bytes == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    put_head(&record, bytes);
    journal->next++; /* also if it fails: a nonce is used once */
    TRY(log_key_seal(journal->key, record.number, cof_slice_of(bytes, RECORD_HEAD), text, bytes + RECORD_HEAD,
                     err));
    const cof_code code = write_at(journal->fd, journal->end, cof_slice_of(bytes, record.len), err);
    if (code != COF_OK) {
        /* Half a record in the middle would hide those behind it. */
        journal->broken = ftruncate(journal->fd, (off_t) journal->end) != 0;
        return code;
    }
    ret_place->number = record.number;
    ret_place->offset = journal->end;
    ret_place->len = record.len;
    journal->end += record.len;
    return COF_OK;
}

/* Opens the record at an offset: its text is the caller's, to be wiped. */
static cof_code open_record(int fd, const struct log_key *key, uint64_t offset, uint32_t len, uint8_t *buffer,
                            struct cof_slice *ret_text, struct cof_error *err)
{
    size_t got = 0;
    TRY(read_at(fd, offset, buffer, len, &got, err));
    if (got != len || len < RECORD_HEAD + CRYPTO_TAG) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a record of the refresh journal is cut off");
    }
    const struct cof_slice sealed = cof_slice_of(buffer + RECORD_HEAD, len - RECORD_HEAD);
    TRY(log_key_unseal(key, cof_get_u64(buffer + 5), cof_slice_of(buffer, RECORD_HEAD), sealed,
                       buffer + RECORD_HEAD, err));
    *ret_text = cof_slice_of(buffer + RECORD_HEAD, sealed.len - CRYPTO_TAG);
    return COF_OK;
}

/* --- What is not done ----------------------------------------------------------------------------------------- */

static cof_code remember(struct journal *journal, const struct live *place, struct cof_error *err)
{
    struct live *live = malloc(sizeof *live);
    if (live == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    *live = *place;
    TAILQ_INSERT_TAIL(&journal->lives, live, siblings);
    journal->count++;
    journal->live_bytes += place->len;
    return COF_OK;
}

/* From the end that is nearer: what is done was put just now, or is the oldest of what has waited for the database. */
static struct live *find(struct journal *journal, uint64_t number)
{
    struct live *first = TAILQ_FIRST(&journal->lives);
    struct live *last = TAILQ_LAST(&journal->lives, live_list);
    if (first == NULL || number < first->number || number > last->number) {
        return NULL;
    }
    const bool forward = number - first->number < last->number - number;
    struct live *live = forward ? first : last;
    while (live->number != number) {
        const bool beyond = forward ? live->number > number : live->number < number;
        live = beyond ? NULL : forward ? TAILQ_NEXT(live, siblings) : TAILQ_PREV(live, live_list, siblings);
        if (live == NULL) {
            break;
        }
    }
    return live;
}

static void forget(struct journal *journal, struct live *live)
{
    TAILQ_REMOVE(&journal->lives, live, siblings);
    journal->count--;
    journal->live_bytes -= live->len;
    free(live);
}

static void forget_all(struct journal *journal)
{
    while (!TAILQ_EMPTY(&journal->lives)) {
        forget(journal, TAILQ_FIRST(&journal->lives));
    }
}

/* --- A new file ----------------------------------------------------------------------------------------------- */

static cof_code sync_folder(const struct journal *journal, struct cof_error *err)
{
    return fsync(journal->folder) == 0 ? COF_OK : fails(err, errno, "syncing the folder of");
}

static cof_code write_head(int fd, const struct journal *journal, uint64_t file, struct log_key **ret_key,
                           struct cof_error *err)
{
    uint8_t head[FILE_HEAD];
    AUTO(log_key_cleanup) struct log_key *key = NULL;
    memcpy(head, magic, MAGIC_SIZE);
    cof_put_u64(head + MAGIC_SIZE, file);
    TRY(log_key_new(journal->options.keyring, &journal->options.server, file, head + MAGIC_SIZE + 8, &key, err));
    TRY(write_at(fd, 0, cof_slice_of(head, sizeof head), err));
    *ret_key = TAKE(key);
    return COF_OK;
}

/* What a new file is made of, until it has taken the old one's place. */
struct rewriting {
    struct journal fresh; /* only what append needs of it */
    uint8_t *buffer;
};

static void rewriting_done(struct rewriting *rewriting)
{
    if (rewriting->buffer != NULL) {
        cof_wipe(rewriting->buffer, RECORD_MAX);
        free(rewriting->buffer);
    }
    fd_cleanup(&rewriting->fresh.fd);
    log_key_free(rewriting->fresh.key);
    forget_all(&rewriting->fresh);
}

static cof_code copy_one(struct rewriting *rewriting, const struct journal *journal, const struct live *live,
                         struct cof_error *err)
{
    struct cof_slice text;
    struct live place;
    TRY(open_record(journal->fd, journal->key, live->offset, live->len, rewriting->buffer, &text, err));
    /* The number stays: whoever has it marks the entry as done by it. */
    rewriting->fresh.next = live->number;
    TRY(append(&rewriting->fresh, RECORD_ENTRY, text, &place, err));
    return remember(&rewriting->fresh, &place, err);
}

static cof_code fill_fresh(struct rewriting *rewriting, const struct journal *journal, struct cof_error *err)
{
    const struct live *live;
    struct journal *fresh = &rewriting->fresh;
    fresh->fd = open(journal->new_path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    rewriting->buffer = malloc(RECORD_MAX);
    if (fresh->fd < 0) {
        return fails(err, errno, "making");
    }
    if (rewriting->buffer == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    TRY(write_head(fresh->fd, journal, fresh->file, &fresh->key, err));
    TAILQ_FOREACH(live, &journal->lives, siblings)
    {
        TRY(copy_one(rewriting, journal, live, err));
    }
    return fdatasync(fresh->fd) == 0 ? COF_OK : fails(err, errno, "syncing");
}

static void take_over(struct journal *journal, struct rewriting *rewriting)
{
    struct journal *fresh = &rewriting->fresh;
    const int old_fd = journal->fd;
    struct log_key *old_key = journal->key;
    forget_all(journal);
    TAILQ_CONCAT(&journal->lives, &fresh->lives, siblings);
    journal->count = fresh->count;
    journal->live_bytes = fresh->live_bytes;
    journal->fd = fresh->fd;
    journal->key = fresh->key;
    journal->file = fresh->file;
    journal->next = journal->next > fresh->next ? journal->next : fresh->next;
    journal->end = fresh->end;
    journal->synced = fresh->end;
    journal->rewrote++;
    journal->broken = false;
    fresh->count = 0;
    fresh->live_bytes = 0;
    fresh->fd = old_fd;
    fresh->key = old_key;
}

/* All that is not done in a new file under a new key, which then takes the old one's place. The lock is held, and nobody
 * waits for the disk. */
static cof_code rewrite(struct journal *journal, struct cof_error *err)
{
    AUTO(rewriting_done)
    struct rewriting rewriting = {.fresh = {.fd = -1, .file = journal->file + 1, .end = FILE_HEAD, .next = 1}};
    TAILQ_INIT(&rewriting.fresh.lives);
    TRY(fill_fresh(&rewriting, journal, err));
    if (rename(journal->new_path, journal->path) != 0) {
        return fails(err, errno, "replacing");
    }
    take_over(journal, &rewriting);
    return sync_folder(journal, err);
}

/* --- Opening -------------------------------------------------------------------------------------------------- */

static cof_code read_entry(struct journal *journal, const struct record *record, uint64_t offset, uint8_t *buffer,
                           struct journal_found *found, struct cof_error *err)
{
    struct cof_slice text;
    struct cof_error ignored;
    const cof_code code = open_record(journal->fd, journal->key, offset, record->len, buffer, &text, &ignored);
    if (code != COF_OK) {
        found->damaged++;
        return COF_OK;
    }
    if (record->kind == RECORD_ENTRY) {
        const struct live place = {.number = record->number, .offset = offset, .len = record->len};
        return remember(journal, &place, err);
    }
    struct live *live = text.len == RECORD_DONE_TEXT ? find(journal, cof_get_u64(text.data)) : NULL;
    if (live != NULL) {
        forget(journal, live);
    }
    return COF_OK;
}

/* Record by record, as far as there are whole ones. One that does not open is passed over: those behind it are good. */
static cof_code read_records(struct journal *journal, uint64_t size, uint8_t *buffer, struct journal_found *found,
                             struct cof_error *err)
{
    uint8_t head[RECORD_HEAD];
    struct record record;
    size_t got = 0;
    journal->end = FILE_HEAD;
    while (journal->end + RECORD_HEAD <= size) {
        TRY(read_at(journal->fd, journal->end, head, sizeof head, &got, err));
        if (got != sizeof head || !get_head(head, journal->next, &record) || record.len > size - journal->end) {
            break;
        }
        TRY(read_entry(journal, &record, journal->end, buffer, found, err));
        journal->next = record.number + 1;
        journal->end += record.len;
    }
    found->torn = size - journal->end;
    return COF_OK;
}

static cof_code open_key(struct journal *journal, const uint8_t head[FILE_HEAD], struct cof_error *err)
{
    const struct cof_slice wrapped = cof_slice_of(head + MAGIC_SIZE + 8, WRAPPED_KEY_SIZE);
    journal->file = cof_get_u64(head + MAGIC_SIZE);
    if (memcmp(head, magic, MAGIC_SIZE) == 0 &&
        keyring_has_root(journal->options.keyring, wrapped_root_id(wrapped)) &&
        log_key_open(journal->options.keyring, &journal->options.server, journal->file, wrapped, &journal->key,
                     err) == COF_OK) {
        return COF_OK;
    }
    return cof_fail(
        err, COF_REASON_CORRUPTED,
        "the refresh journal in server.state_dir was written by another server or under another root key. "
        "Put that key into keys.other_root_keys; or, if tokens that are in it may be lost, move the file "
        "refresh/journal away");
}

static cof_code read_file(struct journal *journal, struct journal_found *found, struct cof_error *err)
{
    uint8_t head[FILE_HEAD] = {0}; /* a file may end within it */
    struct stat status;
    size_t got = 0;
    if (fstat(journal->fd, &status) != 0) {
        return fails(err, errno, "looking at");
    }
    TRY(read_at(journal->fd, 0, head, sizeof head, &got, err));
    TRY(open_key(journal, head, err));
    AUTO(bytes_cleanup) uint8_t *buffer = malloc(RECORD_MAX);
    if (buffer == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    const cof_code code = read_records(journal, (uint64_t) status.st_size, buffer, found, err);
    cof_wipe(buffer, RECORD_MAX);
    return code;
}

/* The file is whole, since it took its name when it was: there is one or there is none. */
static cof_code open_file(struct journal *journal, struct journal_found *found, struct cof_error *err)
{
    journal->fd = open(journal->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (journal->fd < 0 && errno != ENOENT) {
        return fails(err, errno, "opening");
    }
    if (journal->fd >= 0) {
        TRY(read_file(journal, found, err));
    }
    found->entries = journal->count;
    return rewrite(journal, err);
}

static cof_code fill(struct journal *journal, struct journal_found *found, struct cof_error *err)
{
    const char *folder = journal->options.folder;
    const int length = snprintf(journal->path, PATH_SIZE, "%s/journal", folder);
    const int new_length = snprintf(journal->new_path, PATH_SIZE, "%s/journal.new", folder);
    assert(length > 0 && new_length < PATH_SIZE);
    journal->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (journal->folder < 0) {
        return fails(err, errno, "opening the folder of");
    }
    return open_file(journal, found, err);
}

cof_code journal_open(const struct journal_options *options, struct journal **ret_journal,
                      struct journal_found *ret_found, struct cof_error *err)
{
    struct journal_found found = {0};
    AUTO(journal_cleanup) struct journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    journal->options = *options;
    journal->fd = journal->folder = -1;
    journal->next = 1;
    TAILQ_INIT(&journal->lives);
    (void) pthread_mutex_init(&journal->lock, NULL);
    (void) pthread_cond_init(&journal->synced_more, NULL);
    TRY(fill(journal, &found, err));
    journal->options.folder = NULL; /* the caller's */
    *ret_found = found;
    *ret_journal = TAKE(journal);
    return COF_OK;
}

void journal_close(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    forget_all(journal);
    log_key_free(journal->key);
    fd_cleanup(&journal->fd);
    fd_cleanup(&journal->folder);
    (void) pthread_cond_destroy(&journal->synced_more);
    (void) pthread_mutex_destroy(&journal->lock);
    free(journal);
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

static void await_syncer(struct journal *journal)
{
    while (journal->syncing) {
        (void) pthread_cond_wait(&journal->synced_more, &journal->lock);
    }
}

/* The disk for all that is written until now. The lock is given up meanwhile. */
static cof_code sync_once(struct journal *journal, struct cof_error *err)
{
    const uint64_t end = journal->end;
    journal->syncing = true;
    (void) pthread_mutex_unlock(&journal->lock);
    const int synced = fdatasync(journal->fd);
    const int number = errno;
    (void) pthread_mutex_lock(&journal->lock);
    journal->syncing = false;
    if (synced == 0) {
        journal->synced = end;
    } else {
        journal->broken = true; /* what is on the disk is unknown from now on */
    }
    (void) pthread_cond_broadcast(&journal->synced_more);
    return synced == 0 ? COF_OK : fails(err, number, "syncing");
}

/* One thread waits for the disk, the others for it: it may have been before their turn, or for them, too. */
static cof_code sync_until(struct journal *journal, uint64_t offset, struct cof_error *err)
{
    const uint64_t file = journal->rewrote;
    while (journal->rewrote == file && journal->synced < offset && !journal->broken) {
        if (journal->syncing) {
            (void) pthread_cond_wait(&journal->synced_more, &journal->lock);
        } else {
            TRY(sync_once(journal, err));
        }
    }
    /* A new file has all that was not done, on the disk. */
    if (journal->rewrote != file || journal->synced >= offset) {
        return COF_OK;
    }
    return fails(err, EIO, "syncing");
}

static bool has_grown(const struct journal *journal, size_t more)
{
    return journal->end + more > journal->options.bytes || (journal->count == 0 && journal->end > COMPACT_BYTES);
}

/* What is not done may fill half of the file, so each new one frees at least the other half. */
static cof_code make_room(struct journal *journal, size_t more, struct cof_error *err)
{
    if (journal->count >= journal->options.entries || journal->live_bytes + more > journal->options.bytes / 2) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED, "the refresh journal holds %u entries that are not done",
                        journal->count);
    }
    if (!journal->broken && !has_grown(journal, more)) {
        return COF_OK;
    }
    await_syncer(journal);
    return rewrite(journal, err);
}

static cof_code put(struct journal *journal, struct cof_slice entry, uint64_t *ret_number, struct cof_error *err)
{
    struct live place;
    TRY(make_room(journal, RECORD_HEAD + entry.len + CRYPTO_TAG, err));
    TRY(append(journal, RECORD_ENTRY, entry, &place, err));
    TRY(remember(journal, &place, err));
    const cof_code code = sync_until(journal, place.offset + place.len, err);
    if (code != COF_OK) {
        struct live *live = find(journal, place.number);
        assert(live != NULL);
        forget(journal, live);
        return code;
    }
    *ret_number = place.number;
    return COF_OK;
}

cof_code journal_put(struct journal *journal, struct cof_slice entry, uint64_t *ret_number, struct cof_error *err)
{
    if (entry.len > JOURNAL_ENTRY_MAX) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED, "an entry of the refresh journal has %zu bytes", entry.len);
    }
    (void) pthread_mutex_lock(&journal->lock);
    const cof_code code = put(journal, entry, ret_number, err);
    (void) pthread_mutex_unlock(&journal->lock);
    return code;
}

void journal_done(struct journal *journal, uint64_t number)
{
    uint8_t text[RECORD_DONE_TEXT];
    struct cof_error ignored;
    struct live place;
    cof_put_u64(text, number);
    (void) pthread_mutex_lock(&journal->lock);
    struct live *live = find(journal, number);
    if (live != NULL) {
        forget(journal, live);
        /* Without its mark the entry is found again after a crash, and is of no use then. */
        if (!journal->broken) {
            cof_ignore(append(journal, RECORD_DONE, cof_slice_of(text, sizeof text), &place, &ignored));
        }
    }
    (void) pthread_mutex_unlock(&journal->lock);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code walk(struct journal *journal, uint8_t *buffer,
                     cof_code (*each)(void *context, uint64_t number, struct cof_slice entry,
                                      struct cof_error *err),
                     void *context, struct cof_error *err)
{
    const struct live *live = NULL;
    TAILQ_FOREACH(live, &journal->lives, siblings)
    {
        struct cof_slice text;
        TRY(open_record(journal->fd, journal->key, live->offset, live->len, buffer, &text, err));
        TRY(each(context, live->number, text, err));
    }
    return COF_OK;
}

cof_code journal_walk(struct journal *journal,
                      cof_code (*each)(void *context, uint64_t number, struct cof_slice entry,
                                       struct cof_error *err),
                      void *context, struct cof_error *err)
{
    uint8_t *buffer = malloc(RECORD_MAX);
    if (buffer == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    (void) pthread_mutex_lock(&journal->lock);
    const cof_code code = walk(journal, buffer, each, context, err);
    (void) pthread_mutex_unlock(&journal->lock);
    cof_wipe(buffer, RECORD_MAX);
    free(buffer);
    return code;
}

uint32_t journal_count(struct journal *journal)
{
    (void) pthread_mutex_lock(&journal->lock);
    const uint32_t count = journal->count;
    (void) pthread_mutex_unlock(&journal->lock);
    return count;
}
