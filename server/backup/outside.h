#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"
#include "common/error.h"
#include "common/slice.h"
#include "server/crypto/root_key.h"

/*
 * A text file that lies outside of the database and vouches for what is in it: lines of a key and its value. The first
 * line says what it is and its format, the last one is a MAC under the root key over all bytes before it (root_key.h).
 */

struct outside {
    char *text;
    size_t len;
    size_t capacity;
    bool exhausted; /* there was no memory for a line; outside_write fails */
};

void outside_done(struct outside *file);

/* Adds a line. */
void outside_line(struct outside *file, const char *format, ...) COF_PRINTF(2, 3);

/* Adds the MAC's line and writes the file: mode 0600, to a temporary name beside it, synced, and renamed. */
COF_CODE outside_write(struct outside *file, const struct root_key *root, const char *path, struct cof_error *err);

/* Reads a file whose first line is `first`. CONFIG_INVALID if it cannot be read, is no such file or was made with a root
 * key that is not among these; CORRUPTED if it was changed. */
COF_CODE outside_read(const char *path, const char *first, struct root_key *const *roots, size_t count,
                      struct outside *ret_file, struct cof_error *err);

/* The lines in their order: `*at` begins with 0. False at the end. */
bool outside_next(const struct outside *file, size_t *at, struct cof_slice *ret_key, struct cof_slice *ret_value);

/* The value of the first line with that key; empty if there is none. */
struct cof_slice outside_value(const struct outside *file, const char *key);
