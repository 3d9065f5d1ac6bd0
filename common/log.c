#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/encode.h"
#include "common/name.h"

enum { LINE_SIZE = 3800, US_PER_S = 1000000 };

struct level_row {
    const char *name;
    const char *colour;
    int priority; /* of syslog, for journald */
};

static const struct level_row levels[] = {
    [COF_LOG_DEBUG] = {"debug", "\033[2m", 7},
    [COF_LOG_INFO] = {"info", "", 6},
    [COF_LOG_WARN] = {"warn", "\033[33m", 4},
    [COF_LOG_ERROR] = {"error", "\033[31m", 3},
};

/* A line under construction. What does not fit is cut, and so is everything behind it. */
struct line {
    char text[LINE_SIZE];
    size_t used;
    bool full;
};

/* Room that is kept for the end of a line: a quote, the mark of a cut line, a colour's end or a brace, a line feed.
 */
enum { END_SIZE = 20 };

/* Where the next bytes of the line go; NULL: there is no room for them. */
static inline char *take(struct line *line, size_t length)
{
    line->full = line->full || line->used + length + END_SIZE > sizeof line->text;
    char *to = line->full ? NULL : line->text + line->used;
    line->used += line->full ? 0 : length;
    return to;
}

static inline void put(struct line *line, const char *text, size_t length)
{
    char *to = take(line, length);
    if (to != NULL) {
        memcpy(to, text, length);
    }
}

static inline void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

static void put_end(struct line *line, const char *text)
{
    const size_t length = strlen(text);
    if (line->used + length <= sizeof line->text) {
        memcpy(line->text + line->used, text, length);
        line->used += length;
    }
}

static void put_number(struct line *line, int64_t number)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t left = number < 0 ? 0 - (uint64_t) number : (uint64_t) number;
    do {
        *--at = (char) ('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (number < 0) {
        *--at = '-';
    }
    put(line, at, (size_t) (digits + sizeof digits - at));
}

/* The second is formatted once for all lines of a thread that fall into it. */
static void put_time(struct line *line, int64_t unix_us)
{
    static _Thread_local time_t last = -1;
    static _Thread_local char text[40];
    const time_t seconds = (time_t) (unix_us / US_PER_S);
    const int ms = (int) (unix_us % US_PER_S / 1000);
    if (seconds != last) {
        struct tm parts;
        (void) gmtime_r(&seconds, &parts);
        (void) strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
        last = seconds;
    }
    const char fraction[] = {'.', (char) ('0' + ms / 100), (char) ('0' + ms / 10 % 10), (char) ('0' + ms % 10),
                             'Z'};
    put_text(line, text);
    put(line, fraction, sizeof fraction);
}

/* The bytes of the character at the front; 0 if it is not valid UTF-8. */
static size_t character_length(struct cof_slice text)
{
    for (size_t length = 1; length <= 4 && length <= text.len; length++) {
        if (cof_text_valid(cof_slice_of(text.data, length))) {
            return length;
        }
    }
    return 0;
}

static void put_character(struct line *line, struct cof_slice text, size_t length)
{
    const uint8_t byte = text.data[0];
    char escaped[8];
    if (length == 0 && byte != 0) {
        put_text(line, "\xEF\xBF\xBD"); /* U+FFFD */
    } else if (length == 2 && byte == 0xC2 && text.data[1] < 0xA0) {
        /* Some terminals obey these as they obey escape sequences. */
        (void) snprintf(escaped, sizeof escaped, "\\u%04x", text.data[1]);
        put_text(line, escaped);
    } else if (byte == '"' || byte == '\\') {
        (void) snprintf(escaped, sizeof escaped, "\\%c", byte);
        put_text(line, escaped);
    } else if (byte < ' ' || byte == 127) {
        (void) snprintf(escaped, sizeof escaped, "\\u%04x", byte);
        put_text(line, escaped);
    } else {
        put(line, (const char *) text.data, length);
    }
}

static bool needs_no_escape(uint8_t byte)
{
    return byte >= ' ' && byte < 127 && byte != '"' && byte != '\\';
}

/* The same of eight bytes: of bytes below 128, one that is less than what is taken from all of them leaves a high bit. */
static bool need_no_escape(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    const uint64_t fault = word | (word - COF_EACH_BYTE(' ')) | ((word ^ COF_EACH_BYTE('"')) - COF_EACH_BYTE(1)) |
                           ((word ^ COF_EACH_BYTE('\\')) - COF_EACH_BYTE(1)) |
                           ((word ^ COF_EACH_BYTE(127U)) - COF_EACH_BYTE(1));
    return (fault & COF_EACH_BYTE(128U)) == 0;
}

/* Nearly all text is ASCII without anything to escape: how much of it stands at the front and fits into the line. */
static size_t plain_length(const struct line *line, struct cof_slice text)
{
    const size_t room = line->used + END_SIZE < sizeof line->text ? sizeof line->text - END_SIZE - line->used : 0;
    const size_t most = text.len < room ? text.len : room;
    size_t length = 0;
    while (most - length >= sizeof(uint64_t) && need_no_escape(text.data + length)) {
        length += sizeof(uint64_t);
    }
    while (length < most && needs_no_escape(text.data[length])) {
        length++;
    }
    return length;
}

static void put_escaped(struct line *line, struct cof_slice text)
{
    while (text.len > 0) {
        const size_t plain = plain_length(line, text);
        put(line, (const char *) text.data, plain);
        text = cof_slice_of(text.data + plain, text.len - plain);
        if (text.len == 0) {
            return;
        }
        const size_t length = character_length(text);
        put_character(line, text, length);
        const size_t step = length == 0 ? 1 : length;
        text = cof_slice_of(text.data + step, text.len - step);
    }
}

static void put_quoted(struct line *line, struct cof_slice text)
{
    put_text(line, "\"");
    put_escaped(line, text);
    put_end(line, "\"");
}

static bool is_plain(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!needs_no_escape(text.data[i]) || text.data[i] == ' ' || text.data[i] == '=') {
            return false;
        }
    }
    return text.len > 0;
}

static bool left_out(const struct cof_log_field *field)
{
    return field->type == COF_LOG_STRING && field->text.len == 0;
}

static void put_json_key(struct line *line, const char *key)
{
    const size_t length = strlen(key);
    char *to = take(line, length + 4);
    if (to != NULL) {
        to[0] = ',';
        to[1] = '"';
        memcpy(to + 2, key, length);
        to[length + 2] = '"';
        to[length + 3] = ':';
    }
}

static void put_json_field(struct line *line, const struct cof_log_field *field)
{
    put_json_key(line, field->key);
    switch (field->type) {
    case COF_LOG_STRING:
        put_quoted(line, field->text);
        return;
    case COF_LOG_NUMBER:
        put_number(line, field->number);
        return;
    case COF_LOG_BOOL:
        put_text(line, field->number != 0 ? "true" : "false");
        return;
    }
}

static void put_text_field(struct line *line, const struct cof_log_field *field)
{
    put_text(line, " ");
    put_text(line, field->key);
    put_text(line, "=");
    if (field->type == COF_LOG_BOOL) {
        put_text(line, field->number != 0 ? "true" : "false");
    } else if (field->type == COF_LOG_NUMBER) {
        put_number(line, field->number);
    } else if (is_plain(field->text)) {
        put(line, (const char *) field->text.data, field->text.len);
    } else {
        put_quoted(line, field->text);
    }
}

typedef void put_field_fn(struct line *line, const struct cof_log_field *field);

/* A field that does not fit as a whole is left out with all behind it, so that the line stays well-formed. */
static void put_fields(struct line *line, put_field_fn *put_field, const struct cof_log_field *fields,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count && !line->full; i++) {
        const size_t before = line->used;
        if (!left_out(&fields[i])) {
            put_field(line, &fields[i]);
        }
        line->used = line->full ? before : line->used;
    }
}

static void write_json(const struct cof_log *log, struct line *line, cof_log_level level, const char *event,
                       const char *message, const struct cof_log_field *fields, uint32_t count)
{
    put_text(line, "{\"ts\":\"");
    put_time(line, cof_clock_wall(log->clock));
    put_text(line, "\",\"level\":\"");
    put_text(line, levels[level].name);
    put_text(line, "\",\"event\":\"");
    put_text(line, event);
    put_text(line, "\",\"msg\":");
    put_quoted(line, cof_slice_text(message));
    put_fields(line, put_json_field, fields, count);
    put_end(line, line->full ? ",\"cut\":true}\n" : "}\n");
}

static void write_text(const struct cof_log *log, struct line *line, cof_log_level level, const char *message,
                       const struct cof_log_field *fields, uint32_t count)
{
    if (log->colour) {
        put_text(line, levels[level].colour);
    }
    put_time(line, cof_clock_wall(log->clock));
    put_text(line, " ");
    put_text(line, levels[level].name);
    put_text(line, "  ");
    put_escaped(line, cof_slice_text(message));
    put_fields(line, put_text_field, fields, count);
    put_end(line, line->full ? "..." : "");
    put_end(line, log->colour && levels[level].colour[0] != '\0' ? "\033[0m" : "");
    put_end(line, "\n");
}

/* --- Lines that gather ---------------------------------------------------------------------------------------- */

enum { HELD_SIZE = 4096 }; /* PIPE_BUF */

static _Thread_local struct {
    bool holding;
    int fd;
    size_t used;
    char text[HELD_SIZE];
} held;

_Static_assert((int) LINE_SIZE <= (int) HELD_SIZE, "a line can be held");

/* A log that cannot be written has no place to say so. */
static void write_out(int fd, const char *text, size_t length)
{
    const ssize_t written = TEMP_FAILURE_RETRY(write(fd, text, length));
    (void) written;
}

static void write_held(void)
{
    if (held.used > 0) {
        write_out(held.fd, held.text, held.used);
        held.used = 0;
    }
}

static void hold(int fd, const struct line *line)
{
    if (held.fd != fd || held.used + line->used > sizeof held.text) {
        write_held();
    }
    held.fd = fd;
    memcpy(held.text + held.used, line->text, line->used);
    held.used += line->used;
}

void cof_log_init(struct cof_log *log, int fd, cof_log_format format, cof_log_level level,
                  const struct cof_clock *clock)
{
    const bool terminal = isatty(fd) == 1;
    *log = (struct cof_log){
        .fd = fd,
        .level = level,
        .json = format == COF_LOG_JSON || (format == COF_LOG_AUTO && !terminal),
        .journal = getenv("JOURNAL_STREAM") != NULL && !terminal,
        .colour = terminal && getenv("NO_COLOR") == NULL,
        .clock = clock,
    };
}

void cof_log_set_level(struct cof_log *log, cof_log_level level)
{
    __atomic_store_n(&log->level, level, __ATOMIC_RELAXED);
}

void cof_log_event(const struct cof_log *log, cof_log_level level, const char *event, const char *message,
                   const struct cof_log_field *fields, uint32_t count)
{
    struct line line;
    line.used = 0;
    line.full = false;
    if (level < __atomic_load_n(&log->level, __ATOMIC_RELAXED)) {
        return;
    }
    if (log->journal) {
        char priority[16];
        (void) snprintf(priority, sizeof priority, "<%d>", levels[level].priority);
        put_text(&line, priority);
    }
    if (log->json) {
        write_json(log, &line, level, event, message, fields, count);
    } else {
        write_text(log, &line, level, message, fields, count);
    }
    if (held.holding) {
        hold(log->fd, &line);
    } else {
        write_out(log->fd, line.text, line.used);
    }
}

void cof_log_hold(void)
{
    held.holding = true;
}

void cof_log_let_go(void)
{
    write_held();
    held.holding = false;
}
