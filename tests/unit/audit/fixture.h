#pragma once

#include <fcntl.h>
#include <unistd.h>

#include "server/audit/audit.h"
#include "server/audit/segment_file.h"
#include "server/audit/walk.h"
#include "tests/unit/crypto/started.h"

/* A state directory of its own for each test, and what a log in it needs. */

enum { PLACE_PATH = 256, SMALL_SEGMENT = SEGMENT_SMALLEST };

struct place {
    char path[PLACE_PATH];
    struct keyring *keyring;
    struct state *state;
    struct audit *audit;
    struct cof_log log;
    struct audit_options options;
};

static inline struct keyring *keyring_of_byte(uint8_t byte)
{
    struct cof_error err;
    struct root_key *root = NULL;
    struct keyring *keyring = NULL;
    uint8_t key[CRYPTO_KEY];
    started();
    memset(key, byte, sizeof key);
    if (root_key_new(key, &root, &err) != COF_OK || keyring_new(&root, 1, 16, &keyring, &err) != COF_OK) {
        abort();
    }
    return keyring;
}

static inline void place_init(struct place *place)
{
    struct cof_error err;
    *place = (struct place){.keyring = keyring_of_byte(7)};
    /* In memory where that is possible: the tests sync thousands of times. */
    (void) snprintf(place->path, sizeof place->path, "%s/coffer-audit-XXXXXX",
                    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(place->path) == NULL || state_open(place->path, &place->state, &err) != COF_OK) {
        abort();
    }
    cof_log_init(&place->log, open("/dev/null", O_WRONLY | O_CLOEXEC), COF_LOG_JSON, COF_LOG_ERROR,
                 &cof_system_clock);
    place->options = (struct audit_options){
        .folder = state_audit_folder(place->state),
        .server = *state_server(place->state),
        .keyring = place->keyring,
        .clock = &cof_system_clock,
        .log = &place->log,
        .segment_bytes = SMALL_SEGMENT,
        .refusals_per_second = 10,
    };
}

static inline void place_open(struct place *place)
{
    struct cof_error err;
    if (audit_open(&place->options, &place->audit, &err) != COF_OK) {
        fprintf(stderr, "audit_open: %s (%s)\n", err.message, err.trail);
        abort();
    }
}

static inline void place_close(struct place *place)
{
    audit_free(TAKE(place->audit));
}

/* Removes the folder, too; everything in it is the test's own. */
static inline void place_done(struct place *place)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    struct cof_error err;
    static const char *const names[] = {"audit", "refresh", "lock", "server-id"};
    char path[PLACE_PATH + 16];
    place_close(place);
    if (segment_list(place->options.folder, &numbers, &count, &err) == COF_OK) {
        for (size_t i = 0; i < count; i++) {
            cof_ignore(segment_remove(place->options.folder, numbers[i], &err));
        }
    }
    free(numbers);
    state_close(place->state);
    keyring_free(place->keyring);
    (void) close(place->log.fd);
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        (void) snprintf(path, sizeof path, "%s/%s", place->path, names[i]);
        (void) (i <= 1 ? rmdir(path) : unlink(path));
    }
    (void) rmdir(place->path);
}

/* Appends a text; ends the test program if the log does not take it. */
static inline uint64_t place_append(struct place *place, const char *text)
{
    struct cof_error err;
    uint64_t sequence = 0;
    if (audit_append(place->audit, cof_slice_text(text), &sequence, &err) != COF_OK) {
        fprintf(stderr, "audit_append: %s (%s)\n", err.message, err.trail);
        abort();
    }
    return sequence;
}

/* What a walk over the folder found. */
struct findings {
    struct audit_summary summary;
    char damage[1024]; /* the first one */
    char last[256];    /* the last record's text */
};

static inline cof_code keep_record(uint64_t segment, uint64_t sequence, struct cof_slice text, void *context,
                                   struct cof_error *err)
{
    struct findings *findings = context;
    (void) segment;
    (void) sequence;
    (void) err;
    const size_t len = text.len < sizeof findings->last - 1 ? text.len : sizeof findings->last - 1;
    memcpy(findings->last, text.data, len);
    findings->last[len] = '\0';
    return COF_OK;
}

static inline void keep_damage(bool damage, const char *text, void *context)
{
    struct findings *findings = context;
    if (damage && findings->damage[0] == '\0') {
        (void) snprintf(findings->damage, sizeof findings->damage, "%s", text);
    }
}

static inline void place_walk_with(struct place *place, const struct audit_walk *how, struct findings *findings)
{
    struct cof_error err;
    struct audit_walk walk = *how;
    *findings = (struct findings){.damage = ""};
    walk.folder = place->options.folder;
    walk.keyring = walk.keyring == NULL ? place->keyring : walk.keyring;
    walk.record = keep_record;
    walk.tell = keep_damage;
    walk.context = findings;
    if (audit_walk(&walk, &findings->summary, &err) != COF_OK) {
        abort();
    }
}

static inline void place_walk(struct place *place, struct findings *findings)
{
    const struct audit_walk walk = {.from_first = true};
    place_walk_with(place, &walk, findings);
}

/* A segment's file in memory, and back; ends the test program if that fails. */
static inline uint8_t *segment_read(const struct place *place, uint64_t number, size_t *ret_size)
{
    struct segment_map map;
    struct cof_error err;
    if (segment_map_init(&map, place->options.folder, number, false, &err) != COF_OK) {
        abort();
    }
    uint8_t *copy = malloc(map.bytes.len);
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, map.bytes.data, map.bytes.len);
    *ret_size = map.bytes.len;
    segment_map_done(&map);
    return copy;
}

static inline void segment_write(const struct place *place, uint64_t number, const uint8_t *bytes, size_t size)
{
    char path[SEGMENT_PATH];
    (void) snprintf(path, sizeof path, "%s/segment-%08u", place->options.folder, (unsigned) number);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t) size || close(fd) != 0) {
        abort();
    }
}
