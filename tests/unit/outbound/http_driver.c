#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/attr.h"
#include "server/outbound/http.h"

/*
 * Sends what http_test.py asks for, line by line on standard input, and prints what became of it:
 *
 *   send ID GROUP METHOD URL TIMEOUT_MS SEND_WITHIN_MS ANSWER_BYTES HEADERS BODY SIGN
 *   load, drain, stop
 *
 * Columns are separated by tabs; a header is NAME=VALUE and ends with a semicolon; the body is hexadecimal; SIGN is REGION,
 * SERVICE,KEY,SECRET,TOKEN or "-". The answer is "ID END SENT STATUS RETRY_MS WHAT RETRY-AFTER BODY".
 */

enum { COLUMNS = 11, LINE = 1 << 20, LISTED = 16, POOL = 16 << 20 };

static const char *const wanted[] = {"Retry-After", "WWW-Authenticate"};

struct driver {
    struct outbound *outbound;
    pthread_mutex_t lock; /* of standard output */
};

struct sent {
    struct driver *driver;
    char id[32];
};

static void print_text(struct cof_slice text)
{
    (void) putchar('\t');
    for (size_t i = 0; i < text.len; i++) {
        (void) printf("%02x", text.data[i]);
    }
}

static void on_done(void *context, struct outbound_answer *answer)
{
    struct sent *sent = context;
    struct driver *driver = sent->driver;
    const struct outbound_answer_view view = outbound_answer_view(answer);
    (void) pthread_mutex_lock(&driver->lock);
    (void) printf("%s\t%s\t%d\t%d\t%u\t%s", sent->id, outbound_end_name(view.end), view.sent, view.status,
                  view.retry_after_ms, view.what);
    print_text(outbound_answer_header(answer, "retry-after"));
    print_text(outbound_answer_header(answer, "WWW-AUTHENTICATE"));
    print_text(view.body);
    (void) putchar('\n');
    (void) fflush(stdout);
    (void) pthread_mutex_unlock(&driver->lock);
    outbound_answer_free(answer);
    free(sent);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static size_t split(char *line, const char *separator, char **parts, size_t max)
{
    size_t count = 0;
    for (char *part = strsep(&line, separator); part != NULL && count < max; part = strsep(&line, separator)) {
        parts[count++] = part;
    }
    return count;
}

static size_t unhex(char *text)
{
    size_t len = 0;
    for (const char *at = text; at[0] != '\0' && at[1] != '\0'; at += 2) {
        const char digits[] = {at[0], at[1], '\0'};
        text[len++] = (char) strtoul(digits, NULL, 16);
    }
    return len;
}

static size_t read_headers(char *text, struct outbound_header *headers)
{
    char *parts[OUTBOUND_HEADERS_MAX + 1];
    const size_t count = split(text, ";", parts, COF_COUNT(parts));
    for (size_t i = 0; i + 1 < count; i++) {
        char *value = strchr(parts[i], '=');
        assert(value != NULL);
        *value = '\0';
        headers[i] = (struct outbound_header){parts[i], cof_slice_text(value + 1)};
    }
    return count - 1;
}

static bool read_sign(char *text, struct outbound_sigv4 *sign)
{
    char *parts[5];
    if (split(text, ",", parts, COF_COUNT(parts)) != COF_COUNT(parts)) {
        return false;
    }
    *sign = (struct outbound_sigv4){parts[0], parts[1], cof_slice_text(parts[2]), cof_slice_text(parts[3]),
                                    cof_slice_text(parts[4])};
    return true;
}

static void send_one(struct driver *driver, char **columns)
{
    struct outbound_header headers[OUTBOUND_HEADERS_MAX];
    struct outbound_sigv4 sign;
    const long within_ms = strtol(columns[6], NULL, 10);
    struct sent *sent = calloc(1, sizeof *sent);
    assert(sent != NULL);
    sent->driver = driver;
    (void) snprintf(sent->id, sizeof sent->id, "%s", columns[1]);
    const size_t body_len = unhex(columns[9]);
    const struct outbound_request request = {
        .group = columns[2],
        .method = columns[3],
        .url = columns[4],
        .timeout_ms = (uint32_t) strtoul(columns[5], NULL, 10),
        .send_until_us = within_ms < 0 ? 0 : cof_clock_monotonic(&cof_system_clock) + within_ms * 1000,
        .answer_bytes = (uint32_t) strtoul(columns[7], NULL, 10),
        .headers = headers,
        .header_count = read_headers(columns[8], headers),
        .body = cof_slice_of(columns[9], body_len),
        .sign = read_sign(columns[10], &sign) ? &sign : NULL,
        .wanted = wanted,
        .wanted_count = COF_COUNT(wanted),
        .done = on_done,
        .context = sent,
    };
    outbound_send(driver->outbound, &request);
}

static void print_load(struct driver *driver)
{
    const struct outbound_load load = outbound_load_now(driver->outbound);
    (void) pthread_mutex_lock(&driver->lock);
    (void) printf("load\t%u\t%u\t%u\n", load.under_way, load.queued, load.open_breakers);
    (void) fflush(stdout);
    (void) pthread_mutex_unlock(&driver->lock);
}

static void obey(struct driver *driver, char *line)
{
    char *columns[COLUMNS];
    line[strcspn(line, "\n")] = '\0';
    const size_t count = split(line, "\t", columns, COLUMNS);
    if (strcmp(columns[0], "send") == 0 && count == COLUMNS) {
        send_one(driver, columns);
    } else if (strcmp(columns[0], "load") == 0) {
        print_load(driver);
    } else if (strcmp(columns[0], "drain") == 0) {
        outbound_drain(driver->outbound);
    } else {
        assert(strcmp(columns[0], "stop") == 0);
        outbound_stop(driver->outbound);
        (void) printf("stopped\n");
        (void) fflush(stdout);
    }
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

/* Arguments: ALLOWED (separated by spaces), PROXY, CA, CONCURRENT, PER_GROUP, QUEUE, CONNECT_MS, TIMEOUT_MS, ANSWER_BYTES. */
static cof_code start(char **arguments, struct driver *driver, struct cof_pool **ret_pool, struct cof_error *err)
{
    static char *allowed[LISTED];
    TRY(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, ret_pool, err));
    const size_t count = arguments[0][0] == '\0' ? 0 : split(arguments[0], " ", allowed, LISTED);
    const struct outbound_options options = {
        .pool = *ret_pool,
        .clock = &cof_system_clock,
        .allowed = (const char *const *) allowed,
        .allowed_count = count,
        .proxy = arguments[1],
        .ca_file = arguments[2],
        .concurrent = (uint32_t) strtoul(arguments[3], NULL, 10),
        .concurrent_per_group = (uint32_t) strtoul(arguments[4], NULL, 10),
        .queue = (uint32_t) strtoul(arguments[5], NULL, 10),
        .connect_timeout_ms = (uint32_t) strtoul(arguments[6], NULL, 10),
        .timeout_ms = (uint32_t) strtoul(arguments[7], NULL, 10),
        .answer_bytes = (uint32_t) strtoul(arguments[8], NULL, 10),
    };
    return outbound_start(&options, &driver->outbound, err);
}

int main(int argc, char **argv)
{
    static char line[LINE];
    static struct driver driver = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct cof_pool *pool = NULL;
    struct cof_error err;
    cof_error_clear(&err);
    assert(argc == 10);
    if (start(argv + 1, &driver, &pool, &err) != COF_OK) {
        (void) printf("error\t%s\n", err.message);
        cof_pool_free(pool);
        return 0;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        obey(&driver, line);
    }
    outbound_stop(driver.outbound);
    outbound_free(driver.outbound);
    const size_t left = cof_pool_used(pool);
    cof_pool_free(pool);
    return left == 0 ? 0 : 1;
}
