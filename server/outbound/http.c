#include "server/outbound/http.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "common/attr.h"
#include "common/uuid.h"
#include "server/outbound/address.h"
#include "server/outbound/transfer.h"

enum {
    GROUPS_MAX = 16384,
    GROUP_BUCKETS = 1024,
    POLL_MS = 1000,
    POLL_QUEUED_MS = 50, /* while some wait for their turn, and may wait too long */
};

TAILQ_HEAD(answer_list, outbound_answer);

/* What is counted together. It lives while it has requests, or its breaker something to remember. */
struct group {
    struct group *chain;      /* in its bucket */
    TAILQ_ENTRY(group) turns; /* among those that wait for a turn */
    bool in_turns;
    uint32_t under_way;
    struct answer_list waiting;
    struct breaker breaker;
    char name[OUTBOUND_GROUP_MAX + 1];
};

TAILQ_HEAD(group_list, group);

struct outbound {
    struct outbound_options options;
    CURLM *multi;
    pthread_t thread;
    bool started;
    /* Under the lock. */
    pthread_mutex_t lock;
    struct answer_list inbox;
    bool draining;
    bool stopping;
    struct outbound_load load; /* `queued` counts those of the inbox, too */
    /* Of the thread alone. */
    struct answer_list under_way;
    struct group *groups[GROUP_BUCKETS];
    uint32_t group_count;
    struct group_list turns;
    uint64_t seed;
};

/* --- Counting ------------------------------------------------------------------------------------------------- */

/* Its end, whatever it was. */
static void give(struct outbound *outbound, struct outbound_answer *answer)
{
    (void) pthread_mutex_lock(&outbound->lock);
    outbound->load.ended[answer->end]++;
    (void) pthread_mutex_unlock(&outbound->lock);
    answer->done(answer->context, answer);
}

static void refuse(struct outbound *outbound, struct outbound_answer *answer, outbound_end end, const char *what)
{
    transfer_refuse(answer, end, what);
    give(outbound, answer);
}

static void count_waiting(struct outbound *outbound, int change)
{
    (void) pthread_mutex_lock(&outbound->lock);
    outbound->load.queued += (uint32_t) change;
    (void) pthread_mutex_unlock(&outbound->lock);
}

static void count_under_way(struct outbound *outbound, int change)
{
    (void) pthread_mutex_lock(&outbound->lock);
    outbound->load.under_way += (uint32_t) change;
    (void) pthread_mutex_unlock(&outbound->lock);
}

static uint32_t under_way(struct outbound *outbound)
{
    return outbound_load_now(outbound).under_way;
}

/* --- Groups --------------------------------------------------------------------------------------------------- */

static struct group **group_of(struct outbound *outbound, const char *name)
{
    uint32_t hash = 2166136261U; /* FNV-1a; names are providers', of which nobody makes many */
    for (const char *at = name; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t) *at) * 16777619U;
    }
    struct group **link = &outbound->groups[hash % GROUP_BUCKETS];
    while (*link != NULL && strcmp((*link)->name, name) != 0) {
        link = &(*link)->chain;
    }
    return link;
}

static bool is_idle(const struct group *group)
{
    return group->under_way == 0 && TAILQ_EMPTY(&group->waiting);
}

/* What a breaker remembers for longer than its longest pause is worth nothing. */
static bool is_forgettable(const struct group *group, int64_t now_us)
{
    const int64_t age_us = now_us - group->breaker.until_us;
    return is_idle(group) &&
           (breaker_is_new(&group->breaker) || age_us > (int64_t) BREAKER_PAUSE_MOST_MS * 2 * 1000);
}

static void forget(struct outbound *outbound, struct group **link)
{
    struct group *group = *link;
    assert(group != NULL && !group->in_turns);
    *link = group->chain;
    outbound->group_count--;
    free(group);
}

static void forget_old(struct outbound *outbound, int64_t now_us)
{
    for (size_t i = 0; i < GROUP_BUCKETS; i++) {
        struct group **link = &outbound->groups[i];
        while (*link != NULL) {
            if (is_forgettable(*link, now_us)) {
                forget(outbound, link);
            } else {
                link = &(*link)->chain;
            }
        }
    }
}

/* NULL: there are too many, or there is no memory. */
static struct group *enter_group(struct outbound *outbound, const char *name, int64_t now_us)
{
    struct group **link = group_of(outbound, name);
    if (*link != NULL) {
        return *link;
    }
    if (outbound->group_count >= GROUPS_MAX) {
        forget_old(outbound, now_us);
        link = group_of(outbound, name);
    }
    struct group *group = outbound->group_count < GROUPS_MAX ? calloc(1, sizeof *group) : NULL;
    if (group == NULL) {
        return NULL;
    }
    TAILQ_INIT(&group->waiting);
    memcpy(group->name, name, strlen(name));
    *link = group;
    outbound->group_count++;
    return group;
}

/* A group is in turns exactly while one of its requests could be sent if there were room on the server. */
static void settle(struct outbound *outbound, struct group *group)
{
    const bool wants = !TAILQ_EMPTY(&group->waiting) && group->under_way < outbound->options.concurrent_per_group;
    if (wants && !group->in_turns) {
        TAILQ_INSERT_TAIL(&outbound->turns, group, turns);
    } else if (!wants && group->in_turns) {
        TAILQ_REMOVE(&outbound->turns, group, turns);
    }
    group->in_turns = wants;
    if (is_idle(group) && breaker_is_new(&group->breaker)) {
        forget(outbound, group_of(outbound, group->name));
    }
}

/* --- Waiting for a turn --------------------------------------------------------------------------------------- */

static void leave_waiting(struct outbound *outbound, struct outbound_answer *answer)
{
    TAILQ_REMOVE(&answer->group->waiting, answer, siblings);
    count_waiting(outbound, -1);
}

/* An open breaker keeps nobody waiting. */
static void refuse_waiting(struct outbound *outbound, struct group *group, int64_t now_us)
{
    struct outbound_answer *answer;
    while ((answer = TAILQ_FIRST(&group->waiting)) != NULL) {
        leave_waiting(outbound, answer);
        answer->retry_after_ms = breaker_wait_ms(&group->breaker, now_us);
        refuse(outbound, answer, OUTBOUND_BREAKER_OPEN, "it has failed too often just now");
    }
}

static void enter_waiting(struct outbound *outbound, struct outbound_answer *answer, int64_t now_us)
{
    struct group *group = enter_group(outbound, answer->group_name, now_us);
    if (group == NULL) {
        count_waiting(outbound, -1);
        refuse(outbound, answer, OUTBOUND_QUEUE_FULL, "too many providers are asked at once");
        return;
    }
    answer->group = group;
    TAILQ_INSERT_TAIL(&group->waiting, answer, siblings);
    if (!breaker_would_go(&group->breaker, now_us)) {
        refuse_waiting(outbound, group, now_us);
    }
    settle(outbound, group);
}

static void take_inbox(struct outbound *outbound, int64_t now_us)
{
    struct answer_list taken = TAILQ_HEAD_INITIALIZER(taken);
    (void) pthread_mutex_lock(&outbound->lock);
    TAILQ_CONCAT(&taken, &outbound->inbox, siblings);
    (void) pthread_mutex_unlock(&outbound->lock);
    struct outbound_answer *answer;
    while ((answer = TAILQ_FIRST(&taken)) != NULL) {
        TAILQ_REMOVE(&taken, answer, siblings);
        enter_waiting(outbound, answer, now_us);
    }
}

static bool is_over(const struct outbound_answer *answer, int64_t now_us)
{
    return answer->send_until_us != 0 && now_us > answer->send_until_us;
}

static void refuse_late(struct outbound *outbound, struct group *group, int64_t now_us)
{
    struct outbound_answer *answer = TAILQ_FIRST(&group->waiting);
    while (answer != NULL) {
        struct outbound_answer *after = TAILQ_NEXT(answer, siblings);
        if (is_over(answer, now_us)) {
            leave_waiting(outbound, answer);
            refuse(outbound, answer, OUTBOUND_NOT_SENT, "its turn did not come in time");
        }
        answer = after;
    }
}

/* For each group with the one that follows on it, since a group may be forgotten. */
static void for_each_group(struct outbound *outbound, int64_t now_us,
                           void (*act)(struct outbound *outbound, struct group *group, int64_t now_us))
{
    for (size_t i = 0; i < GROUP_BUCKETS; i++) {
        struct group *group = outbound->groups[i];
        while (group != NULL) {
            struct group *after = group->chain;
            act(outbound, group, now_us);
            settle(outbound, group);
            group = after;
        }
    }
}

static void stop_waiting(struct outbound *outbound, struct group *group, int64_t now_us)
{
    struct outbound_answer *answer;
    (void) now_us;
    while ((answer = TAILQ_FIRST(&group->waiting)) != NULL) {
        leave_waiting(outbound, answer);
        refuse(outbound, answer, OUTBOUND_STOPPED, "the server ends");
    }
}

/* --- Under way ------------------------------------------------------------------------------------------------ */

static uint32_t random_of(struct outbound *outbound)
{
    outbound->seed = outbound->seed * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t) (outbound->seed >> 33);
}

static void tell_breaker(struct outbound *outbound, const struct outbound_answer *answer, int64_t now_us)
{
    struct breaker *breaker = &answer->group->breaker;
    switch (transfer_health_of(answer)) {
    case TRANSFER_HEALTHY:
        breaker_succeeded(breaker);
        break;
    case TRANSFER_ILL:
        breaker_failed(breaker, answer->word, now_us, random_of(outbound));
        break;
    case TRANSFER_UNKNOWN:
        breaker_unknown(breaker, answer->word);
        break;
    }
}

/* The answer has its end; its group goes on without it. */
static void land(struct outbound *outbound, struct outbound_answer *answer)
{
    struct group *group = answer->group;
    const int64_t now_us = cof_clock_monotonic(outbound->options.clock);
    TAILQ_REMOVE(&outbound->under_way, answer, siblings);
    count_under_way(outbound, -1);
    group->under_way--;
    tell_breaker(outbound, answer, now_us);
    if (!breaker_would_go(&group->breaker, now_us)) {
        refuse_waiting(outbound, group, now_us);
    }
    give(outbound, answer);
    settle(outbound, group);
}

static void start(struct outbound *outbound, struct outbound_answer *answer)
{
    leave_waiting(outbound, answer);
    TAILQ_INSERT_TAIL(&outbound->under_way, answer, siblings);
    count_under_way(outbound, 1);
    answer->group->under_way++;
    if (transfer_prepare(answer) && curl_multi_add_handle(outbound->multi, answer->curl) == CURLM_OK) {
        return;
    }
    transfer_refuse(answer, OUTBOUND_QUEUE_FULL, "there is no memory");
    land(outbound, answer);
}

/* Group by group, one request in each turn. */
static void start_some(struct outbound *outbound, int64_t now_us)
{
    struct group *group;
    while ((group = TAILQ_FIRST(&outbound->turns)) != NULL && under_way(outbound) < outbound->options.concurrent) {
        struct outbound_answer *answer = TAILQ_FIRST(&group->waiting);
        assert(answer != NULL);
        answer->word = breaker_ask(&group->breaker, now_us);
        TAILQ_REMOVE(&outbound->turns, group, turns);
        group->in_turns = false;
        if (answer->word == BREAKER_NO) {
            refuse_waiting(outbound, group, now_us);
        } else {
            group->under_way++; /* so that it is not forgotten if the request ends at once */
            start(outbound, answer);
            group->under_way--;
        }
        settle(outbound, group);
    }
}

static void land_ended(struct outbound *outbound)
{
    CURLMsg *message;
    int left = 0;
    while ((message = curl_multi_info_read(outbound->multi, &left)) != NULL) {
        struct outbound_answer *answer = NULL;
        if (message->msg != CURLMSG_DONE ||
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &answer) != CURLE_OK) {
            continue;
        }
        const CURLcode result = message->data.result;
        assert(answer != NULL && answer->curl == message->easy_handle);
        (void) curl_multi_remove_handle(outbound->multi, answer->curl);
        transfer_end(answer, result);
        land(outbound, answer);
    }
}

static void abort_all(struct outbound *outbound)
{
    struct outbound_answer *answer;
    while ((answer = TAILQ_FIRST(&outbound->under_way)) != NULL) {
        (void) curl_multi_remove_handle(outbound->multi, answer->curl);
        transfer_end(answer, CURLE_ABORTED_BY_CALLBACK);
        if (answer->end == OUTBOUND_NOT_SENT) {
            answer->end = OUTBOUND_STOPPED;
        }
        answer->what = "the server ends";
        land(outbound, answer);
    }
}

/* --- The thread ----------------------------------------------------------------------------------------------- */

static bool has_flag(struct outbound *outbound, const bool *flag)
{
    (void) pthread_mutex_lock(&outbound->lock);
    const bool set = *flag;
    (void) pthread_mutex_unlock(&outbound->lock);
    return set;
}

static void count_breakers(struct outbound *outbound, int64_t now_us)
{
    uint32_t open = 0;
    for (size_t i = 0; i < GROUP_BUCKETS; i++) {
        for (const struct group *group = outbound->groups[i]; group != NULL; group = group->chain) {
            open += breaker_would_go(&group->breaker, now_us) ? 0 : 1;
        }
    }
    (void) pthread_mutex_lock(&outbound->lock);
    outbound->load.open_breakers = open;
    (void) pthread_mutex_unlock(&outbound->lock);
}

static void turn(struct outbound *outbound)
{
    int running = 0;
    const int64_t now_us = cof_clock_monotonic(outbound->options.clock);
    take_inbox(outbound, now_us);
    if (has_flag(outbound, &outbound->draining)) {
        for_each_group(outbound, now_us, stop_waiting);
    }
    if (outbound_load_now(outbound).queued > 0) {
        for_each_group(outbound, now_us, refuse_late);
    }
    start_some(outbound, now_us);
    (void) curl_multi_perform(outbound->multi, &running);
    land_ended(outbound);
    count_breakers(outbound, now_us);
}

static void *run(void *context)
{
    struct outbound *outbound = context;
    sigset_t all;
    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!has_flag(outbound, &outbound->stopping)) {
        turn(outbound);
        const int pause_ms = outbound_load_now(outbound).queued > 0 ? POLL_QUEUED_MS : POLL_MS;
        (void) curl_multi_poll(outbound->multi, NULL, 0, pause_ms, NULL);
    }
    turn(outbound);
    abort_all(outbound);
    return NULL;
}

/* --- Sending -------------------------------------------------------------------------------------------------- */

/* NULL: it is in the inbox; else why not. */
static const char *post(struct outbound *outbound, struct outbound_answer *answer, outbound_end *ret_end)
{
    const char *what = NULL;
    (void) pthread_mutex_lock(&outbound->lock);
    if (outbound->draining) {
        *ret_end = OUTBOUND_STOPPED;
        what = "the server ends";
    } else if (outbound->load.queued >= outbound->options.queue) {
        *ret_end = OUTBOUND_QUEUE_FULL;
        what = "too many requests wait for their turn";
    } else {
        outbound->load.queued++;
        TAILQ_INSERT_TAIL(&outbound->inbox, answer, siblings);
    }
    (void) pthread_mutex_unlock(&outbound->lock);
    return what;
}

/* Where there is no memory for a request there is some for saying so. */
static struct outbound_answer *empty_answer(struct outbound *outbound, const struct outbound_request *request)
{
    struct outbound_answer *answer = calloc(1, sizeof *answer);
    assert(answer != NULL);
    cof_arena_init(&answer->arena, outbound->options.pool, 0);
    answer->options = &outbound->options;
    answer->done = request->done;
    answer->context = request->context;
    return answer;
}

void outbound_send(struct outbound *outbound, const struct outbound_request *request)
{
    struct outbound_answer *answer = transfer_new(&outbound->options, request);
    if (answer == NULL) {
        refuse(outbound, empty_answer(outbound, request), OUTBOUND_QUEUE_FULL, "there is no memory");
        return;
    }
    if (answer->end != OUTBOUND_ANSWERED) {
        give(outbound, answer);
        return;
    }
    outbound_end end = OUTBOUND_STOPPED;
    const char *what = post(outbound, answer, &end);
    if (what != NULL) {
        refuse(outbound, answer, end, what);
        return;
    }
    (void) curl_multi_wakeup(outbound->multi);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static cof_code check_options(const struct outbound_options *options, struct cof_error *err)
{
    for (size_t i = 0; i < options->allowed_count; i++) {
        if (!address_entry_valid(options->allowed[i])) {
            return cof_fail(err, COF_REASON_CONFIG_INVALID,
                            "outbound.allow_private: \"%s\" is not HOST:PORT; name both, such as idp.internal:8443",
                            options->allowed[i]);
        }
    }
    return COF_OK;
}

static cof_code begin(struct outbound *outbound, struct cof_error *err)
{
    const struct cof_uuid random = cof_uuid_random();
    memcpy(&outbound->seed, random.bytes, sizeof outbound->seed);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, NULL, "libcurl does not start");
    }
    outbound->multi = curl_multi_init();
    if (outbound->multi == NULL) {
        return cof_arena_exhausted(err);
    }
    if (pthread_create(&outbound->thread, NULL, run, outbound) != 0) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, NULL, "a thread cannot be started");
    }
    outbound->started = true;
    return COF_OK;
}

cof_code outbound_start(const struct outbound_options *options, struct outbound **ret_outbound,
                        struct cof_error *err)
{
    TRY(check_options(options, err));
    struct outbound *outbound = calloc(1, sizeof *outbound);
    if (outbound == NULL) {
        return cof_arena_exhausted(err);
    }
    outbound->options = *options;
    (void) pthread_mutex_init(&outbound->lock, NULL);
    TAILQ_INIT(&outbound->inbox);
    TAILQ_INIT(&outbound->under_way);
    TAILQ_INIT(&outbound->turns);
    const cof_code code = begin(outbound, err);
    if (code != COF_OK) {
        outbound_free(outbound);
        return code;
    }
    *ret_outbound = outbound;
    return COF_OK;
}

void outbound_drain(struct outbound *outbound)
{
    if (outbound == NULL || !outbound->started) {
        return;
    }
    (void) pthread_mutex_lock(&outbound->lock);
    outbound->draining = true;
    (void) pthread_mutex_unlock(&outbound->lock);
    (void) curl_multi_wakeup(outbound->multi);
}

void outbound_stop(struct outbound *outbound)
{
    if (outbound == NULL || !outbound->started) {
        return;
    }
    (void) pthread_mutex_lock(&outbound->lock);
    outbound->draining = true;
    outbound->stopping = true;
    (void) pthread_mutex_unlock(&outbound->lock);
    (void) curl_multi_wakeup(outbound->multi);
    (void) pthread_join(outbound->thread, NULL);
    outbound->started = false;
}

void outbound_free(struct outbound *outbound)
{
    if (outbound == NULL) {
        return;
    }
    assert(!outbound->started && TAILQ_EMPTY(&outbound->inbox) && TAILQ_EMPTY(&outbound->under_way));
    for (size_t i = 0; i < GROUP_BUCKETS; i++) {
        while (outbound->groups[i] != NULL) {
            forget(outbound, &outbound->groups[i]);
        }
    }
    (void) curl_multi_cleanup(outbound->multi);
    (void) pthread_mutex_destroy(&outbound->lock);
    free(outbound);
}

struct outbound_load outbound_load_now(struct outbound *outbound)
{
    (void) pthread_mutex_lock(&outbound->lock);
    const struct outbound_load load = outbound->load;
    (void) pthread_mutex_unlock(&outbound->lock);
    return load;
}
