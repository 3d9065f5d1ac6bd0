#include "client/reflect/special.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Of google.protobuf.Timestamp and Duration. */
#define TIME_LEAST (-INT64_C(62135596800))
#define TIME_MOST INT64_C(253402300799)
#define DURATION_MOST INT64_C(315576000000)

enum { NANO_DIGITS = 9, NANOS = 1000000000, MINUTE = 60, HOUR = 3600, DAY_HOURS = 24 };

/* --- Reading -------------------------------------------------------------------------------------------------- */

static bool take_byte(struct cof_slice *rest, char wanted)
{
    if (rest->len == 0 || rest->data[0] != (uint8_t) wanted) {
        return false;
    }
    *rest = cof_slice_of(rest->data + 1, rest->len - 1);
    return true;
}

/* From `least` to `most` digits. */
static bool take_digits(struct cof_slice *rest, size_t least, size_t most, int64_t *ret_number)
{
    size_t count = 0;
    int64_t number = 0;
    while (count < most && count < rest->len && rest->data[count] >= '0' && rest->data[count] <= '9') {
        number = number * 10 + (rest->data[count++] - '0');
    }
    *rest = cof_slice_of(rest->data + count, rest->len - count);
    *ret_number = number;
    return count >= least;
}

/* ".5" as nanoseconds; nothing is 0. */
static bool take_fraction(struct cof_slice *rest, int32_t *ret_nanos)
{
    int64_t number = 0;
    *ret_nanos = 0;
    if (!take_byte(rest, '.')) {
        return true;
    }
    const size_t before = rest->len;
    if (!take_digits(rest, 1, NANO_DIGITS, &number)) {
        return false;
    }
    for (size_t i = before - rest->len; i < NANO_DIGITS; i++) {
        number *= 10;
    }
    *ret_nanos = (int32_t) number;
    return true;
}

/* "Z", or "+02:00" as seconds. */
static bool take_offset(struct cof_slice *rest, int64_t *ret_seconds)
{
    int64_t hours = 0;
    int64_t minutes = 0;
    *ret_seconds = 0;
    if (take_byte(rest, 'Z')) {
        return true;
    }
    const bool behind = take_byte(rest, '-');
    if ((!behind && !take_byte(rest, '+')) || !take_digits(rest, 2, 2, &hours) || !take_byte(rest, ':') ||
        !take_digits(rest, 2, 2, &minutes) || hours >= DAY_HOURS || minutes >= MINUTE) {
        return false;
    }
    *ret_seconds = (behind ? -1 : 1) * (hours * HOUR + minutes * MINUTE);
    return true;
}

/* The six numbers of "2027-01-31T12:00:00". */
static bool take_moment(struct cof_slice *rest, int64_t numbers[6])
{
    static const char between[] = "--T::";
    for (size_t i = 0; i < 6; i++) {
        const size_t digits = i == 0 ? 4 : 2;
        if (!take_digits(rest, digits, digits, &numbers[i]) || (i < 5 && !take_byte(rest, between[i]))) {
            return false;
        }
    }
    return true;
}

bool special_read_time(struct cof_slice text, struct special_span *ret_span)
{
    int64_t numbers[6];
    int64_t offset = 0;
    struct special_span span;
    if (!take_moment(&text, numbers) || !take_fraction(&text, &span.nanos) || !take_offset(&text, &offset) ||
        text.len > 0) {
        return false;
    }
    struct tm parts = {.tm_year = (int) numbers[0] - 1900,
                       .tm_mon = (int) numbers[1] - 1,
                       .tm_mday = (int) numbers[2],
                       .tm_hour = (int) numbers[3],
                       .tm_min = (int) numbers[4],
                       .tm_sec = (int) numbers[5]};
    const struct tm given = parts;
    span.seconds = timegm(&parts) - offset;
    /* timegm makes the 1st of March of the 30th of February: then the parts are others than those given. */
    if (parts.tm_mon != given.tm_mon || parts.tm_mday != given.tm_mday || parts.tm_hour != given.tm_hour ||
        parts.tm_min != given.tm_min || parts.tm_sec != given.tm_sec) {
        return false;
    }
    *ret_span = span;
    return span.seconds >= TIME_LEAST && span.seconds <= TIME_MOST;
}

bool special_read_duration(struct cof_slice text, struct special_span *ret_span)
{
    struct special_span span = {0, 0};
    const bool negative = take_byte(&text, '-');
    if (!take_digits(&text, 1, 12, &span.seconds) || !take_fraction(&text, &span.nanos) || !take_byte(&text, 's') ||
        text.len > 0 || span.seconds > DURATION_MOST) {
        return false;
    }
    *ret_span = negative ? (struct special_span){-span.seconds, -span.nanos} : span;
    return true;
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

static void write_fraction(int32_t nanos, char text[SPECIAL_TEXT])
{
    if (nanos == 0) {
        text[0] = '\0';
    } else if (nanos % 1000000 == 0) {
        (void) snprintf(text, SPECIAL_TEXT, ".%03" PRId32, nanos / 1000000);
    } else if (nanos % 1000 == 0) {
        (void) snprintf(text, SPECIAL_TEXT, ".%06" PRId32, nanos / 1000);
    } else {
        (void) snprintf(text, SPECIAL_TEXT, ".%09" PRId32, nanos);
    }
}

bool special_write_time(struct special_span span, char text[SPECIAL_TEXT])
{
    char fraction[SPECIAL_TEXT];
    struct tm parts;
    const time_t seconds = (time_t) span.seconds;
    if (span.seconds < TIME_LEAST || span.seconds > TIME_MOST || span.nanos < 0 || span.nanos >= NANOS ||
        gmtime_r(&seconds, &parts) == NULL) {
        return false;
    }
    write_fraction(span.nanos, fraction);
    (void) snprintf(text, SPECIAL_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d%.10sZ", parts.tm_year + 1900,
                    parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, fraction);
    return true;
}

bool special_write_duration(struct special_span span, char text[SPECIAL_TEXT])
{
    char fraction[SPECIAL_TEXT];
    const bool contrary = (span.seconds > 0 && span.nanos < 0) || (span.seconds < 0 && span.nanos > 0);
    if (span.seconds < -DURATION_MOST || span.seconds > DURATION_MOST || span.nanos <= -NANOS ||
        span.nanos >= NANOS || contrary) {
        return false;
    }
    write_fraction(abs(span.nanos), fraction);
    (void) snprintf(text, SPECIAL_TEXT, "%s%" PRId64 "%.10ss", span.seconds < 0 || span.nanos < 0 ? "-" : "",
                    span.seconds < 0 ? -span.seconds : span.seconds, fraction);
    return true;
}

/* --- Field masks ---------------------------------------------------------------------------------------------- */

static bool is_upper(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z';
}

bool special_snake(struct cof_slice camel, uint8_t *to, size_t *ret_length)
{
    size_t length = 0;
    for (size_t i = 0; i < camel.len; i++) {
        const uint8_t byte = camel.data[i];
        if (byte == '_') {
            return false;
        }
        if (is_upper(byte)) {
            to[length++] = '_';
        }
        to[length++] = is_upper(byte) ? (uint8_t) (byte - 'A' + 'a') : byte;
    }
    *ret_length = length;
    return true;
}

bool special_camel(struct cof_slice snake, uint8_t *to, size_t *ret_length)
{
    size_t length = 0;
    bool begins = false;
    for (size_t i = 0; i < snake.len; i++) {
        const uint8_t byte = snake.data[i];
        const bool lower = byte >= 'a' && byte <= 'z';
        if (is_upper(byte) || (begins && !lower)) {
            return false;
        }
        if (byte != '_') {
            to[length++] = begins ? (uint8_t) (byte - 'a' + 'A') : byte;
        }
        begins = byte == '_';
    }
    *ret_length = length;
    return !begins;
}
