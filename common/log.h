#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/clock.h"
#include "common/slice.h"

/*
 * One line per event on standard error: text where that is a terminal, JSON where it is not. A line is written with
 * one write(2). Values of secrets have no field type, so they cannot be logged. Thread-safe.
 */

typedef enum cof_log_level {
    COF_LOG_DEBUG,
    COF_LOG_INFO,
    COF_LOG_WARN,
    COF_LOG_ERROR,
} cof_log_level;

typedef enum cof_log_format {
    COF_LOG_AUTO,
    COF_LOG_TEXT,
    COF_LOG_JSON,
} cof_log_format;

struct cof_log {
    int fd;
    cof_log_level level;
    bool json;
    bool journal; /* prefix lines with <priority>, as journald reads them */
    bool colour;
    const struct cof_clock *clock;
};

typedef enum cof_log_type {
    COF_LOG_STRING,
    COF_LOG_NUMBER,
    COF_LOG_BOOL,
} cof_log_type;

struct cof_log_field {
    const char *key;
    cof_log_type type;
    struct cof_slice text; /* COF_LOG_STRING; an empty one is left out */
    int64_t number;        /* the others */
};

/* Decides by the descriptor and the environment (JOURNAL_STREAM, NO_COLOR) where the format is COF_LOG_AUTO. */
void cof_log_init(struct cof_log *log, int fd, cof_log_format format, cof_log_level level,
                  const struct cof_clock *clock);

/* May be called while others log. */
void cof_log_set_level(struct cof_log *log, cof_log_level level);

/*
 * The calling thread's lines gather until it lets them go, at most 4,096 bytes of them, which also a pipe takes as one
 * piece. For a thread that answers several calls before it sends what it has for them: one write(2) for all of their
 * lines. Without effect on other threads.
 */
void cof_log_hold(void);
void cof_log_let_go(void);

/* `event` is a stable name for machines ("request", "listening"), `message` is for people. A line is cut after
 * about 3,800 bytes, at a field, and says so: "cut":true. */
void cof_log_event(const struct cof_log *log, cof_log_level level, const char *event, const char *message,
                   const struct cof_log_field *fields, uint32_t count);

static inline struct cof_log_field cof_log_text(const char *key, const char *text)
{
    return (struct cof_log_field){key, COF_LOG_STRING, cof_slice_text(text), 0};
}

static inline struct cof_log_field cof_log_slice(const char *key, struct cof_slice text)
{
    return (struct cof_log_field){key, COF_LOG_STRING, text, 0};
}

static inline struct cof_log_field cof_log_number(const char *key, int64_t number)
{
    return (struct cof_log_field){key, COF_LOG_NUMBER, {NULL, 0}, number};
}

/* The usual form: cof_log(log, COF_LOG_INFO, "event", "message", fields...). */
#define COF_LOG(log, level, event, message, ...)                                                   \
    do {                                                                                           \
        const struct cof_log_field fields_[] = {__VA_ARGS__};                                      \
        cof_log_event((log), (level), (event), (message), fields_, (uint32_t) COF_COUNT(fields_)); \
    } while (0)
