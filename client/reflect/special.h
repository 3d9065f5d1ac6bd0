#pragma once

#include <stdbool.h>

#include "client/reflect/schema.h"

/* Texts that stand in JSON for messages of two numbers: times (RFC 3339) and durations. */

struct special_span {
    int64_t seconds;
    int32_t nanos;
};

enum { SPECIAL_TEXT = 96 };

/* Reads "2027-01-31T12:00:00.5Z", also with an offset in place of Z; years 1 to 9999. */
bool special_read_time(struct cof_slice text, struct special_span *ret_span);

/* Reads "-1.5s"; up to 10,000 years. */
bool special_read_duration(struct cof_slice text, struct special_span *ret_span);

/* Writes them, with 0, 3, 6 or 9 digits behind the point. False: the numbers are no time or duration. */
bool special_write_time(struct special_span span, char text[SPECIAL_TEXT]);
bool special_write_duration(struct special_span span, char text[SPECIAL_TEXT]);

/* "update_mask" of "updateMask" and the reverse, into `to`, which has room for twice the length. False: it has no such
 * form. */
bool special_snake(struct cof_slice camel, uint8_t *to, size_t *ret_length);
bool special_camel(struct cof_slice snake, uint8_t *to, size_t *ret_length);
