#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/slice.h"

/* Files of backups and anchors: mode 0600, whole or not there. */

/* CONFIG_INVALID with errno: "PATH: cannot be WHAT: ...". */
cof_code files_failed(struct cof_error *err, const char *path, const char *what);

/* For AUTO. */
void files_close(int *fd);

/* A piece of a file that is read, in the heap; for AUTO. */
enum { FILES_PIECE = 1 << 16 };
void files_piece_free(uint8_t **piece);

/* Writes all bytes; false with errno. */
bool files_write_all(int fd, struct cof_slice bytes);

/* Writes a file under a temporary name beside it, syncs it, renames it and syncs the directory. */
COF_CODE files_write(const char *path, struct cof_slice bytes, struct cof_error *err);

/* Syncs the directory that a path lies in. */
COF_CODE files_sync_folder(const char *path, struct cof_error *err);
