#pragma once

#include <google/protobuf/timestamp.pb-c.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/slice.h"
#include "common/uuid.h"

/* Texts and times of messages, made in the arena. Each gives NULL if the memory is exhausted. */

char *text_of(struct cof_arena *arena, struct cof_slice bytes) COF_MUST_USE;
char *text_of_uuid(struct cof_arena *arena, const struct cof_uuid *uuid) COF_MUST_USE;

/* As a slice, for positions in lists that outlive their rows. */
COF_CODE text_keep(struct cof_arena *arena, struct cof_slice bytes, struct cof_slice *ret_text,
                   struct cof_error *err);

/* A text that a message borrows and nobody changes: protobuf-c's messages have no const. */
char *text_borrow(const char *text);

/* NULL also for ROW_NO_TIME, which leaves the field unset; see time_set. */
Google__Protobuf__Timestamp *time_of(struct cof_arena *arena, int64_t unix_us) COF_MUST_USE;

/* Microseconds since 1970 of a field; ROW_NO_TIME if it is unset. False if it lies outside years 1 to 9999. */
bool time_read(const Google__Protobuf__Timestamp *time, int64_t *ret_unix_us);
