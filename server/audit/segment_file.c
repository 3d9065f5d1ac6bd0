#include "server/audit/segment_file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAME_PREFIX "segment-"

enum { NAME_DIGITS = 8, NAME_SIZE = sizeof NAME_PREFIX - 1 + 20 + 1, BUCKET = 64, PAGE = 4096 };

static cof_code fails(struct cof_error *err, int number, const char *what)
{
    return cof_fail_internal(err, COF_ORIGIN_ERRNO, strerrorname_np(number), "%s a segment of the audit log", what);
}

static void path_of(const char *folder, uint64_t number, char path[SEGMENT_PATH])
{
    const int length = snprintf(path, SEGMENT_PATH, "%s/" NAME_PREFIX "%0*" PRIu64, folder, NAME_DIGITS, number);
    assert(length > 0 && length < SEGMENT_PATH);
}

static COF_CODE sync_folder(const char *folder, struct cof_error *err)
{
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int synced = fd < 0 ? -1 : fsync(fd);
    const int number = errno;
    if (fd >= 0) {
        (void) close(fd);
    }
    return synced == 0 ? COF_OK : fails(err, number, "syncing the folder of");
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

/* Has pages in advance where the system can (Linux 5.14); elsewhere a page that cannot be had ends the process. */
static COF_CODE have_pages(struct segment_file *file, size_t end, struct cof_error *err)
{
    end = end > file->size ? file->size : end / PAGE * PAGE;
    if (end <= file->prepared) {
        return COF_OK;
    }
    if (madvise(file->map + file->prepared, end - file->prepared, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
        return fails(err, errno, "having pages of");
    }
    file->prepared = end;
    return COF_OK;
}

static COF_CODE make(struct segment_file *file, struct cof_error *err)
{
    file->fd = open(file->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (file->fd < 0) {
        return fails(err, errno, "making");
    }
    const int failed = posix_fallocate(file->fd, 0, (off_t) file->size);
    if (failed != 0) {
        return fails(err, failed, "finding room for");
    }
    void *map = mmap(NULL, file->size, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
    if (map == MAP_FAILED) {
        return fails(err, errno, "mapping");
    }
    file->map = map;
    return segment_file_sync(file, err);
}

COF_CODE segment_file_new(const char *folder, uint64_t number, size_t size, const struct keyring *keyring,
                          const struct cof_uuid *server, struct segment_file **ret_file, struct cof_error *err)
{
    AUTO(segment_file_cleanup) struct segment_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return fails(err, ENOMEM, "making");
    }
    path_of(folder, number, file->path);
    file->fd = -1;
    file->number = number;
    file->size = size;
    TRY(make(file, err));
    TRY(sync_folder(folder, err));
    TRY(log_key_new(keyring, server, number, file->wrapped, &file->key, err));
    *ret_file = TAKE(file);
    return COF_OK;
}

COF_CODE segment_file_check(struct segment_file *file, size_t offset, size_t ahead, struct cof_error *err)
{
    struct stat status;
    struct statvfs disk;
    if (fstat(file->fd, &status) != 0 || fstatvfs(file->fd, &disk) != 0) {
        return fails(err, errno, "looking at");
    }
    if (status.st_nlink == 0 || status.st_size != (off_t) file->size) {
        return fails(err, ENOENT, "finding");
    }
    if ((disk.f_flag & ST_RDONLY) != 0) {
        return fails(err, EROFS, "writing");
    }
    return have_pages(file, offset + ahead, err);
}

COF_CODE segment_file_sync(struct segment_file *file, struct cof_error *err)
{
    return fdatasync(file->fd) == 0 ? COF_OK : fails(err, errno, "syncing");
}

/* Cutting is for the disk's sake; a file that keeps its zeros reads the same. */
void segment_file_free(struct segment_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->map != NULL) {
        (void) munmap(file->map, file->size);
    }
    if (file->fd >= 0 && file->offset == 0) {
        (void) unlink(file->path);
    } else if (file->closed && ftruncate(file->fd, (off_t) file->offset) == 0) {
        (void) fdatasync(file->fd);
    }
    if (file->fd >= 0) {
        (void) close(file->fd);
    }
    log_key_free(file->key);
    free(file);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static COF_CODE map_bytes(struct segment_map *map, struct cof_error *err)
{
    struct stat status;
    if (fstat(map->fd, &status) != 0) {
        return fails(err, errno, "looking at");
    }
    if (status.st_size == 0) {
        return COF_OK;
    }
    void *bytes = mmap(NULL, (size_t) status.st_size, PROT_READ, MAP_SHARED, map->fd, 0);
    if (bytes == MAP_FAILED) {
        return fails(err, errno, "mapping");
    }
    map->bytes = cof_slice_of(bytes, (size_t) status.st_size);
    return COF_OK;
}

COF_CODE segment_map_init(struct segment_map *map, const char *folder, uint64_t number, bool writable,
                          struct cof_error *err)
{
    char path[SEGMENT_PATH];
    *map = (struct segment_map){.fd = -1};
    path_of(folder, number, path);
    map->fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC);
    if (map->fd < 0) {
        return fails(err, errno, "opening");
    }
    const cof_code code = map_bytes(map, err);
    if (code != COF_OK) {
        segment_map_done(map);
    }
    return code;
}

void segment_map_done(struct segment_map *map)
{
    if (map->bytes.data != NULL) {
        (void) munmap((void *) (uintptr_t) map->bytes.data, map->bytes.len);
        map->bytes = cof_slice_of(NULL, 0);
    }
    if (map->fd >= 0) {
        (void) close(map->fd);
        map->fd = -1;
    }
}

/* --- The folder ----------------------------------------------------------------------------------------------- */

static bool number_of(const char *name, uint64_t *ret_number)
{
    const size_t prefix = sizeof NAME_PREFIX - 1;
    char *end = NULL;
    if (strncmp(name, NAME_PREFIX, prefix) != 0 || strlen(name) < prefix + NAME_DIGITS) {
        return false;
    }
    *ret_number = strtoull(name + prefix, &end, 10);
    return *end == '\0' && *ret_number > 0;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *) a;
    const uint64_t right = *(const uint64_t *) b;
    return left < right ? -1 : left > right;
}

static COF_CODE add_number(uint64_t **numbers, size_t *count, uint64_t number, struct cof_error *err)
{
    if (*count % BUCKET == 0) {
        uint64_t *grown = reallocarray(*numbers, *count + BUCKET, sizeof **numbers);
        if (grown == NULL) {
            return fails(err, ENOMEM, "listing");
        }
        *numbers = grown;
    }
    (*numbers)[(*count)++] = number;
    return COF_OK;
}

static COF_CODE read_folder(DIR *folder, uint64_t **numbers, size_t *count, struct cof_error *err)
{
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
        uint64_t number;
        if (number_of(entry->d_name, &number)) {
            TRY(add_number(numbers, count, number, err));
        }
    }
    return COF_OK;
}

COF_CODE segment_list(const char *folder, uint64_t **ret_numbers, size_t *ret_count, struct cof_error *err)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    DIR *stream = opendir(folder);
    if (stream == NULL) {
        return fails(err, errno, "listing the folder of");
    }
    const cof_code code = read_folder(stream, &numbers, &count, err);
    (void) closedir(stream);
    if (code != COF_OK) {
        free(numbers);
        return code;
    }
    if (count > 1) {
        qsort(numbers, count, sizeof *numbers, by_number);
    }
    *ret_numbers = numbers;
    *ret_count = count;
    return COF_OK;
}

COF_CODE segment_remove(const char *folder, uint64_t number, struct cof_error *err)
{
    char path[SEGMENT_PATH];
    path_of(folder, number, path);
    if (unlink(path) != 0 && errno != ENOENT) {
        return fails(err, errno, "removing");
    }
    return sync_folder(folder, err);
}
