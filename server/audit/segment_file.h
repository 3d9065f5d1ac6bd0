#pragma once

#include "server/audit/segment.h"

/* The files of an audit folder: segments that are written through a map, and those that are read. */

enum { SEGMENT_PATH = 1100 };

/* A segment that is written. Belongs to one thread at a time; the log's lock says which. */
struct segment_file {
    struct segment_file *next; /* in the list of those that are retired */
    char path[SEGMENT_PATH];
    int fd;
    uint8_t *map;
    size_t size;
    size_t offset;   /* where the next record begins; 0: not begun */
    size_t prepared; /* bytes whose pages were had in advance */
    uint64_t number;
    bool closed; /* the closing record is written */
    bool lost;   /* nobody counts on its being on the disk any more */
    struct log_key *key;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
};

/* Makes a file of `size` bytes, on the disk with its folder, mapped, with a key of its own. INTERNAL with errno. */
COF_CODE segment_file_new(const char *folder, uint64_t number, size_t size, const struct keyring *keyring,
                          const struct cof_uuid *server, struct segment_file **ret_file, struct cof_error *err);

/* Has the pages up to `ahead` bytes behind the offset, so that writing there cannot fail. Fails with INTERNAL if they
 * cannot be had, if the file is gone from its folder, or if the disk has become read-only. */
COF_CODE segment_file_check(struct segment_file *file, size_t offset, size_t ahead, struct cof_error *err);

/* Waits until everything in it is on the disk. */
COF_CODE segment_file_sync(struct segment_file *file, struct cof_error *err);

/* Unmaps it; a closed one is cut to its length, one that was never begun is removed. NULL is allowed. */
void segment_file_free(struct segment_file *file);
static inline void segment_file_cleanup(struct segment_file **file)
{
    segment_file_free(*file);
}

/* A segment that is read, mapped. */
struct segment_map {
    int fd; /* writable if it was asked for */
    struct cof_slice bytes;
};

COF_CODE segment_map_init(struct segment_map *map, const char *folder, uint64_t number, bool writable,
                          struct cof_error *err);
void segment_map_done(struct segment_map *map);
static inline void segment_map_cleanup(struct segment_map *map)
{
    segment_map_done(map);
}

/* The numbers of the segments in a folder, in order; an array to be freed, NULL if there are none. */
COF_CODE segment_list(const char *folder, uint64_t **ret_numbers, size_t *ret_count, struct cof_error *err);

COF_CODE segment_remove(const char *folder, uint64_t number, struct cof_error *err);
