#pragma once

#include <curl/curl.h>
#include <sys/queue.h>

#include "server/outbound/breaker.h"
#include "server/outbound/http.h"

/*
 * One request of outbound and its answer, from outbound_send to outbound_answer_free. It belongs to one thread at a time:
 * who sends, then outbound's, then who received the answer. Internal to outbound.
 */

struct group;

/* The memory for one: what is sent, and an answer's body, whose room doubles as it comes. */
enum { TRANSFER_MEMORY_PER_BYTE = 3, TRANSFER_MEMORY_BASE = 4 * COF_ARENA_CHUNK, TRANSFER_SENT_MAX = 256 * 1024 };

struct outbound_answer {
    TAILQ_ENTRY(outbound_answer) siblings; /* in outbound's inbox, its group's queue, or among those under way */
    const struct outbound_options *options;
    struct cof_arena arena;
    void (*done)(void *context, struct outbound_answer *answer);
    void *context;
    /* The request, copied. */
    struct group *group; /* once outbound's thread has it */
    const char *method;
    struct cof_slice body;
    struct curl_slist *headers;
    const char *const *wanted;
    size_t wanted_count;
    const char *sigv4; /* NULL: not signed */
    const char *access_key;
    const char *secret_key;
    size_t answer_bytes;
    int64_t send_until_us;
    CURLU *url;
    CURL *curl; /* while it is under way */
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms;
    breaker_word word;
    char group_name[OUTBOUND_GROUP_MAX + 1];
    bool allowed; /* host and port may be private and without TLS */
    /* What happens. */
    bool address_refused;
    bool too_late;
    bool too_large;
    bool sent;
    bool head_whole; /* of the final answer */
    int status;
    size_t head_bytes;
    uint8_t *received;
    size_t received_len;
    size_t received_room;
    struct cof_slice values[OUTBOUND_HEADERS_MAX]; /* of the headers that are wanted */
    /* How it ended. */
    outbound_end end;
    uint32_t retry_after_ms;
    const char *what;
    int64_t received_us;
};

/* Copies the request and checks it. NULL: there is no memory. If it is refused its end is not OUTBOUND_ANSWERED. */
struct outbound_answer *transfer_new(const struct outbound_options *options,
                                     const struct outbound_request *request);

/* Makes it ready for curl_multi_add_handle. False: there is no memory. */
bool transfer_prepare(struct outbound_answer *answer);

/* Fills in how it ended; `result` is libcurl's. */
void transfer_end(struct outbound_answer *answer, CURLcode result);
/* The same without libcurl: it was not sent. */
void transfer_refuse(struct outbound_answer *answer, outbound_end end, const char *what);

/* What the end says of the provider. */
typedef enum transfer_health {
    TRANSFER_HEALTHY,
    TRANSFER_ILL,
    TRANSFER_UNKNOWN,
} transfer_health;
transfer_health transfer_health_of(const struct outbound_answer *answer);
