#include "server/jobs/authorizer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/jobs/refresh_work.h"
#include "server/providers/device.h"
#include "server/service/device_authorization.h"
#include "server/service/fault.h"

enum {
    ACTION_TIMEOUT_MS = 10000,
    LEAST_PAUSE_MS = 1,
    AGAIN_US = 1000000,       /* between two tries to reach the database */
    SENT_WITHIN_US = 5000000, /* a code that would leave later does not: it lives for a minute or so */
    ANSWER_LATE_US = 5000000,
    PAGE_WAITS_US = 20000000, /* then a page says that it is not over yet */
};

typedef enum exchange_state {
    EXCHANGE_BEGINS, /* the code is to be sent */
    EXCHANGE_SENT,
    EXCHANGE_STORES, /* the tokens are there */
    EXCHANGE_FAILED, /* that is to be written down */
    EXCHANGE_WAITS,  /* of a device: the same, that nothing has come of it yet */
    EXCHANGE_OVER,
} exchange_state;

/* A page that somebody waits for. */
struct page {
    struct authorizer_visit visit;
    int64_t until_us; /* monotonic */
};

struct exchange {
    struct exchange *next;
    uint64_t ticket;
    exchange_state state;
    int64_t wake_us; /* monotonic; SENT: no answer will come any more */
    struct cof_uuid workspace;
    struct cof_uuid authorization;
    struct cof_arena arena; /* the code, later the answer */
    struct cof_slice code;
    struct refresher_entry entry;
    struct refresher_answer answer;
    int64_t obtained;
    bool device; /* the code is a device's */
    bool slower; /* WAITS */
    bool has_page;
    struct page page;
    struct cof_arena shown; /* what the page says */
    struct authorization_answer says;
    cof_reason reason; /* FAILED */
};

/* What other threads have said. */
typedef enum word_kind { WORD_VISIT, WORD_EXCHANGE, WORD_ANSWER } word_kind;

struct word {
    struct word *next;
    word_kind kind;
    struct page page;          /* VISIT */
    char *query;               /* VISIT */
    struct exchange *exchange; /* EXCHANGE */
    uint64_t ticket;           /* ANSWER */
    struct cof_arena arena;    /* ANSWER */
    struct refresher_answer answer;
};

struct authorizer {
    struct authorizer_options options;
    struct job *job;
    struct exchange *exchanges; /* of its thread */
    uint64_t tickets;
    atomic_size_t awaited;
    pthread_mutex_t lock;
    struct word *first;
    struct word *last;
    uint32_t visits;
    bool stopped;
};

static int64_t now_us(const struct authorizer *authorizer)
{
    return cof_clock_monotonic(authorizer->options.session.clock);
}

/* --- Words ---------------------------------------------------------------------------------------------------- */

static void say(struct authorizer *authorizer, struct word *word)
{
    (void) pthread_mutex_lock(&authorizer->lock);
    *(authorizer->last == NULL ? &authorizer->first : &authorizer->last->next) = word;
    authorizer->last = word;
    authorizer->visits += word->kind == WORD_VISIT ? 1 : 0;
    if (authorizer->job != NULL) {
        job_wake(authorizer->job);
    }
    (void) pthread_mutex_unlock(&authorizer->lock);
}

static struct word *take_words(struct authorizer *authorizer)
{
    (void) pthread_mutex_lock(&authorizer->lock);
    struct word *words = authorizer->first;
    authorizer->first = NULL;
    authorizer->last = NULL;
    authorizer->visits = 0;
    (void) pthread_mutex_unlock(&authorizer->lock);
    return words;
}

static void free_exchange(struct exchange *exchange)
{
    if (exchange != NULL) {
        cof_arena_reset(&exchange->arena);
        cof_arena_reset(&exchange->shown);
        free(exchange);
    }
}

static void free_word(struct word *word)
{
    if (word->kind == WORD_ANSWER) {
        cof_arena_reset(&word->arena);
    }
    free_exchange(word->exchange);
    free(word->query);
    free(word);
}

static void answer_page(const struct page *page, const struct authorization_answer *answer)
{
    page->visit.answer(page->visit.context, answer);
}

static void answer_later(const struct page *page)
{
    answer_page(page, &authorization_no_answer);
}

static bool room_for_visit(struct authorizer *authorizer)
{
    (void) pthread_mutex_lock(&authorizer->lock);
    const bool room = authorizer->visits < authorizer->options.visits && !authorizer->stopped;
    (void) pthread_mutex_unlock(&authorizer->lock);
    return room;
}

void authorizer_visit(struct authorizer *authorizer, const struct authorizer_visit *visit)
{
    const struct page page = {*visit, now_us(authorizer) + PAGE_WAITS_US};
    struct word *word = room_for_visit(authorizer) ? calloc(1, sizeof *word) : NULL;
    char *query = word == NULL ? NULL : malloc(visit->visit.query.len + 1);
    if (query == NULL) {
        free(word);
        answer_later(&page);
        return;
    }
    if (visit->visit.query.len > 0) {
        memcpy(query, visit->visit.query.data, visit->visit.query.len);
    }
    word->kind = WORD_VISIT;
    word->page = page;
    word->query = query;
    word->page.visit.visit.query = cof_slice_of((const uint8_t *) query, visit->visit.query.len);
    say(authorizer, word);
}

static struct exchange *new_exchange(struct authorizer *authorizer, const struct cof_uuid *workspace,
                                     const struct cof_uuid *authorization)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange != NULL) {
        exchange->workspace = *workspace;
        exchange->authorization = *authorization;
        exchange->says = authorization_no_answer;
        cof_arena_init(&exchange->arena, authorizer->options.pool, authorizer->options.memory);
        cof_arena_init(&exchange->shown, authorizer->options.pool, authorizer->options.memory);
    }
    return exchange;
}

/* False if there is no memory: the exchange is gone then. */
static bool say_exchange(struct authorizer *authorizer, struct exchange *exchange)
{
    struct word *word = calloc(1, sizeof *word);
    if (word == NULL) {
        free_exchange(exchange);
        return false;
    }
    word->kind = WORD_EXCHANGE;
    word->exchange = exchange;
    (void) atomic_fetch_add(&authorizer->awaited, 1);
    say(authorizer, word);
    return true;
}

bool authorizer_exchange(struct authorizer *authorizer, const struct cof_uuid *workspace,
                         const struct cof_uuid *authorization, struct cof_slice code)
{
    struct exchange *exchange = new_exchange(authorizer, workspace, authorization);
    const char *kept = exchange == NULL ? NULL : cof_arena_text(&exchange->arena, code);
    if (kept == NULL) {
        free_exchange(exchange);
        return false;
    }
    exchange->state = EXCHANGE_BEGINS;
    exchange->code = cof_slice_of((const uint8_t *) kept, code.len);
    return say_exchange(authorizer, exchange);
}

/* --- Calls of the server's own -------------------------------------------------------------------------------- */

static struct call own_call(const struct authorizer *authorizer, struct session *session, struct cof_arena *arena,
                            struct cof_error *err)
{
    const struct cof_clock *clock = authorizer->options.session.clock;
    const int64_t now = cof_clock_monotonic(clock);
    cof_error_clear(err);
    session_deadline(session, now + (int64_t) ACTION_TIMEOUT_MS * 1000);
    return (struct call){
        .service = authorizer->options.service,
        .session = session,
        .arena = arena,
        .err = err,
        .method = "cofferd/ConnectConnection",
        .peer = "cofferd",
        .request_id = cof_uuid_time(clock),
        .received_us = now,
        .deadline_us = now + (int64_t) ACTION_TIMEOUT_MS * 1000,
    };
}

static void log_end(const struct authorizer *authorizer, const struct exchange *exchange, const char *event,
                    const char *what)
{
    char id[COF_UUID_TEXT];
    char workspace[COF_UUID_TEXT];
    cof_uuid_format(&exchange->authorization, id);
    cof_uuid_format(&exchange->workspace, workspace);
    COF_LOG(authorizer->options.log, COF_LOG_INFO, event, what, cof_log_text("workspace", workspace),
            cof_log_text("authorization", id));
}

/* --- Ends ----------------------------------------------------------------------------------------------------- */

static void land(const struct authorizer *authorizer, const struct exchange *exchange)
{
    struct flight_key key;
    struct cof_error err;
    if (authorization_flight_key(&exchange->authorization, &key, &err) == COF_OK) {
        flights_land_if_any(authorizer->options.service->flights, &key);
    }
}

static void finish(struct authorizer *authorizer, struct exchange *exchange, authorization_result result)
{
    struct authorization_answer answer = exchange->says;
    char text[TOKEN_DESCRIPTION_MAX + TOKEN_CODE_MAX + 64];
    const struct cof_slice words = exchange->answer.failure.text;
    const size_t length = words.len < sizeof text ? words.len : sizeof text - 1;
    if (length > 0) {
        memcpy(text, words.data, length);
    }
    text[length] = '\0';
    answer.result = result;
    answer.text = text;
    exchange->state = EXCHANGE_OVER;
    land(authorizer, exchange);
    if (exchange->has_page) {
        answer_page(&exchange->page, &answer);
        exchange->has_page = false;
    }
}

static void fail(struct exchange *exchange, cof_reason reason, const char *text)
{
    exchange->state = EXCHANGE_FAILED;
    exchange->wake_us = 0;
    exchange->reason = reason;
    if (text != NULL) {
        exchange->answer.failure.text = cof_slice_text(text);
    }
}

/* That it failed is worth one try: a row that nobody writes tells the same two minutes later. */
static void write_failure(struct authorizer *authorizer, struct session *session, struct exchange *exchange)
{
    struct cof_error err;
    struct cof_arena arena;
    cof_arena_init(&arena, authorizer->options.pool, authorizer->options.memory);
    struct call call = own_call(authorizer, session, &arena, &err);
    if (authorization_fail(&call, &exchange->workspace, &exchange->authorization, exchange->reason,
                           exchange->answer.failure.text) != COF_OK) {
        session_reset(session);
    }
    cof_arena_reset(&arena);
    log_end(authorizer, exchange, "authorization_failed", "a connection was not made");
    finish(authorizer, exchange, AUTHORIZATION_UNFINISHED);
}

/* A claim that is not given back runs out. */
static void write_waiting(struct authorizer *authorizer, struct session *session, struct exchange *exchange)
{
    struct cof_error err;
    struct cof_arena arena;
    cof_arena_init(&arena, authorizer->options.pool, authorizer->options.memory);
    struct call call = own_call(authorizer, session, &arena, &err);
    if (device_authorization_wait(&call, &exchange->workspace, &exchange->authorization, exchange->slower) !=
        COF_OK) {
        session_reset(session);
    }
    cof_arena_reset(&arena);
    finish(authorizer, exchange, AUTHORIZATION_UNFINISHED);
}

/* --- Storing -------------------------------------------------------------------------------------------------- */

/* Whether an earlier try has stored it although its commit was not answered. */
static cof_code stored_before(struct call *call, const struct exchange *exchange, bool *ret_stored)
{
    struct authorization authorization;
    *ret_stored = false;
    const cof_code code = authorization_get(call, &exchange->workspace, &exchange->authorization, &authorization);
    if (code == COF_NOT_FOUND || code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        return COF_OK;
    }
    TRY(code);
    *ret_stored = authorization.row.state == AUTHORIZATION_CONNECTED;
    return COF_OK;
}

static cof_code store_tokens(struct call *call, const struct exchange *exchange, bool *ret_stored)
{
    struct refresh_rows rows;
    TRY(stored_before(call, exchange, ret_stored));
    if (*ret_stored) {
        return COF_OK;
    }
    TRY(refresh_rows_read(call, &exchange->workspace, &exchange->entry.connection, &rows));
    return refresh_rows_connect(call, &rows, &exchange->entry.connect, &exchange->entry.tokens, ret_stored);
}

static void forget(struct authorizer *authorizer, const struct exchange *exchange)
{
    refresh_keep_forget(authorizer->options.keep, &exchange->entry.connection, &exchange->authorization);
}

static void store(struct authorizer *authorizer, struct session *session, struct exchange *exchange)
{
    struct cof_error err;
    struct cof_arena arena;
    bool stored = false;
    cof_arena_init(&arena, authorizer->options.pool, authorizer->options.memory);
    struct call call = own_call(authorizer, session, &arena, &err);
    const cof_code code = store_tokens(&call, exchange, &stored);
    cof_arena_reset(&arena);
    if (code != COF_OK) {
        session_reset(session);
    }
    if (code != COF_OK && code != COF_NOT_FOUND && code != COF_DATA_LOSS) {
        exchange->wake_us = now_us(authorizer) + AGAIN_US;
        return;
    }
    FAULT_POINT("authorization.after_store");
    forget(authorizer, exchange);
    if (stored) {
        log_end(authorizer, exchange, "authorization_connected", "a connection has new tokens");
        finish(authorizer, exchange, AUTHORIZATION_DONE);
    } else {
        fail(exchange, COF_REASON_AUTHORIZATION_REFUSED,
             "the connection was changed, disconnected or connected by somebody else meanwhile");
    }
}

/* On the disk first: a code is spent once, and what came for it comes to nobody again. */
static void keep(struct authorizer *authorizer, struct exchange *exchange)
{
    exchange->entry.tokens = exchange->answer.tokens;
    FAULT_POINT("authorization.before_journal");
    (void) refresh_keep_put(authorizer->options.keep, &exchange->entry);
    FAULT_POINT("authorization.after_journal");
    exchange->state = EXCHANGE_STORES;
    exchange->wake_us = 0;
}

/* The provider's code stands before its words. */
static device_word device_word_in(struct cof_slice text)
{
    char code[TOKEN_CODE_MAX + 1];
    size_t length = 0;
    while (length < text.len && length < TOKEN_CODE_MAX && text.data[length] != ':') {
        code[length] = (char) text.data[length];
        length++;
    }
    code[length] = '\0';
    return device_word_of(code);
}

/* What is no end for a device: it is asked again, until its time is over. */
static bool goes_on(struct exchange *exchange)
{
    const device_word word = device_word_in(exchange->answer.failure.text);
    exchange->slower = word == DEVICE_SLOWER;
    return exchange->device && word != DEVICE_DENIED && word != DEVICE_EXPIRED &&
           (word != DEVICE_OTHER || exchange->answer.meaning.verdict == TOKEN_UNAVAILABLE);
}

static void take_answer(struct authorizer *authorizer, struct exchange *exchange, const struct word *word)
{
    const token_verdict verdict = word->answer.meaning.verdict;
    cof_arena_reset(&exchange->arena);
    exchange->answer = refresher_answer_copy(&exchange->arena, &word->answer);
    if (exchange->answer.meaning.verdict == TOKEN_GRANTED) {
        const int64_t life = exchange->answer.meaning.life;
        exchange->entry.connect.expires = life == REFRESH_NEVER ? REFRESH_NEVER : exchange->obtained + life;
        keep(authorizer, exchange);
        return;
    }
    if (goes_on(exchange)) {
        exchange->state = EXCHANGE_WAITS;
        exchange->wake_us = 0;
        return;
    }
    fail(exchange,
         verdict == TOKEN_UNAVAILABLE && !exchange->device ? COF_REASON_PROVIDER_UNAVAILABLE
                                                           : COF_REASON_AUTHORIZATION_REFUSED,
         NULL);
}

/* --- Sending -------------------------------------------------------------------------------------------------- */

static void answered(void *context, uint64_t ticket, const struct refresher_answer *answer)
{
    struct authorizer *authorizer = context;
    struct word *word = calloc(1, sizeof *word);
    if (word == NULL) {
        return; /* the exchange finds out by its time */
    }
    word->kind = WORD_ANSWER;
    word->ticket = ticket;
    cof_arena_init(&word->arena, authorizer->options.pool, authorizer->options.memory);
    word->answer = refresher_answer_copy(&word->arena, answer);
    say(authorizer, word);
}

static void fill_connect(struct exchange *exchange, const struct authorization *authorization,
                         const struct refresh_rows *rows)
{
    exchange->entry.workspace = exchange->workspace;
    exchange->entry.connection = rows->row.connection_id;
    exchange->entry.connects = true;
    exchange->entry.connect = (struct refresh_connect){
        .authorization = exchange->authorization,
        .principal = authorization->row.principal_id,
        .config_generation = authorization->sealed->config_generation,
        .generation = rows->token.generation,
        .connect_time = rows->token.connect_time,
        .obtained = rows->time,
    };
    exchange->obtained = rows->time;
}

static cof_code send_code(struct authorizer *authorizer, struct call *call, struct exchange *exchange)
{
    struct authorization authorization;
    struct refresh_rows rows;
    const struct provider *provider = NULL;
    TRY(authorization_get(call, &exchange->workspace, &exchange->authorization, &authorization));
    if (authorization.row.state != AUTHORIZATION_EXCHANGING) {
        return cof_fail(call->err, COF_REASON_AUTHORIZATION_OVER, "%s",
                        cof_reason_meaning(COF_REASON_AUTHORIZATION_OVER));
    }
    TRY(authorization_rows(call, &authorization, &rows, &provider));
    fill_connect(exchange, &authorization, &rows);
    const struct connection_code code = {
        .code = exchange->code,
        .redirect_uri = cof_slice_text(authorization.sealed->redirect_uri),
        .verifier = cof_slice_text(authorization.sealed->code_verifier),
        .device = authorization.row.flow == AUTHORIZATION_DEVICE,
    };
    exchange->device = code.device;
    exchange->state = EXCHANGE_SENT;
    exchange->wake_us = now_us(authorizer) + SENT_WITHIN_US +
                        (int64_t) authorizer->options.exchange->timeout_ms * 1000 + ANSWER_LATE_US;
    FAULT_POINT("authorization.before_send");
    refresh_exchange_send(authorizer->options.exchange, &(struct refresh_exchange_order){
                                                            .call = call,
                                                            .rows = &rows,
                                                            .provider = provider,
                                                            .code = &code,
                                                            .not_after = now_us(authorizer) + SENT_WITHIN_US,
                                                            .ticket = exchange->ticket,
                                                            .answered = answered,
                                                            .context = authorizer,
                                                        });
    return COF_OK;
}

static void begin(struct authorizer *authorizer, struct session *session, struct exchange *exchange)
{
    struct cof_error err;
    struct cof_arena arena;
    cof_arena_init(&arena, authorizer->options.pool, authorizer->options.memory);
    struct call call = own_call(authorizer, session, &arena, &err);
    const cof_code code = send_code(authorizer, &call, exchange);
    cof_arena_reset(&arena);
    if (code == COF_OK) {
        return;
    }
    session_reset(session);
    if (err.reason == COF_REASON_AUTHORIZATION_REFUSED || err.reason == COF_REASON_AUTHORIZATION_OVER) {
        fail(exchange, err.reason, "the connection was changed or deleted meanwhile");
    } else {
        fail(exchange, COF_REASON_PROVIDER_UNAVAILABLE, "the code could not be sent");
    }
}

/* --- Visits --------------------------------------------------------------------------------------------------- */

static void add(struct authorizer *authorizer, struct exchange *exchange)
{
    exchange->ticket = ++authorizer->tickets;
    exchange->next = authorizer->exchanges;
    authorizer->exchanges = exchange;
}

/* False if there is no memory. */
static bool keep_names(struct exchange *exchange, const struct authorization_answer *answer)
{
    struct authorization_answer *says = &exchange->says;
    says->workspace = cof_arena_text(&exchange->shown, cof_slice_text(answer->workspace));
    says->environment = cof_arena_text(&exchange->shown, cof_slice_text(answer->environment));
    says->provider = cof_arena_text(&exchange->shown, cof_slice_text(answer->provider));
    says->account = cof_arena_text(&exchange->shown, cof_slice_text(answer->account));
    return says->workspace != NULL && says->environment != NULL && says->provider != NULL && says->account != NULL;
}

/* The page waits for what comes of it. */
static void exchange_for_page(struct authorizer *authorizer, const struct page *page,
                              const struct authorization_answer *answer)
{
    const struct connection_authorization_row *row = &answer->authorization.row;
    struct exchange *exchange = new_exchange(authorizer, &row->workspace_id, &row->authorization_id);
    const char *code = exchange == NULL ? NULL : cof_arena_text(&exchange->arena, answer->code);
    if (code == NULL || !keep_names(exchange, answer)) {
        free_exchange(exchange);
        answer_later(page);
        return;
    }
    exchange->state = EXCHANGE_BEGINS;
    exchange->code = cof_slice_of((const uint8_t *) code, answer->code.len);
    exchange->has_page = true;
    exchange->page = *page;
    (void) atomic_fetch_add(&authorizer->awaited, 1);
    add(authorizer, exchange);
}

static void visit(struct authorizer *authorizer, struct session *session, const struct page *page)
{
    struct cof_error err;
    struct cof_arena arena;
    struct authorization_answer answer;
    cof_arena_init(&arena, authorizer->options.pool, authorizer->options.memory);
    struct call call = own_call(authorizer, session, &arena, &err);
    if (authorization_visit(&call, &page->visit.visit, &answer) != COF_OK) {
        session_reset(session);
        answer_later(page);
    } else if (answer.result == AUTHORIZATION_EXCHANGES) {
        exchange_for_page(authorizer, page, &answer);
    } else {
        answer_page(page, &answer);
    }
    cof_arena_reset(&arena);
}

/* --- Rounds --------------------------------------------------------------------------------------------------- */

static void hand_over(struct authorizer *authorizer, const struct word *word)
{
    struct exchange *exchange = authorizer->exchanges;
    while (exchange != NULL && exchange->ticket != word->ticket) {
        exchange = exchange->next;
    }
    if (exchange != NULL && exchange->state == EXCHANGE_SENT) {
        take_answer(authorizer, exchange, word);
    }
}

static void hear(struct authorizer *authorizer, struct session *session, bool up)
{
    for (struct word *word = take_words(authorizer), *next; word != NULL; word = next) {
        next = word->next;
        switch (word->kind) {
        case WORD_VISIT:
            if (up) {
                visit(authorizer, session, &word->page);
            } else {
                answer_later(&word->page);
            }
            break;
        case WORD_EXCHANGE:
            add(authorizer, word->exchange);
            word->exchange = NULL;
            break;
        case WORD_ANSWER:
            hand_over(authorizer, word);
            break;
        }
        free_word(word);
    }
}

static void run(struct authorizer *authorizer, struct session *session, struct exchange *exchange)
{
    while (exchange->state != EXCHANGE_OVER && exchange->wake_us <= now_us(authorizer)) {
        switch (exchange->state) {
        case EXCHANGE_BEGINS:
            begin(authorizer, session, exchange);
            break;
        case EXCHANGE_SENT:
            fail(exchange, COF_REASON_PROVIDER_UNAVAILABLE, "the provider's answer was lost");
            exchange->state = exchange->device ? EXCHANGE_WAITS : exchange->state;
            break;
        case EXCHANGE_STORES:
            store(authorizer, session, exchange);
            break;
        case EXCHANGE_FAILED:
            write_failure(authorizer, session, exchange);
            break;
        case EXCHANGE_WAITS:
            write_waiting(authorizer, session, exchange);
            break;
        case EXCHANGE_OVER:
            break;
        }
    }
}

/* Nobody looks at a page that does not come. */
static void tire(struct authorizer *authorizer, struct exchange *exchange)
{
    struct authorization_answer answer = exchange->says;
    if (exchange->has_page && exchange->page.until_us <= now_us(authorizer)) {
        answer.result = AUTHORIZATION_STORING;
        answer_page(&exchange->page, &answer);
        exchange->has_page = false;
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Runs all that is due, and says when the next one will be. */
static int64_t run_all(struct authorizer *authorizer, struct session *session, bool up)
{
    int64_t next_us = INT64_MAX;
    struct exchange **place = &authorizer->exchanges;
    while (*place != NULL) {
        struct exchange *exchange = *place;
        if (up) {
            run(authorizer, session, exchange);
        }
        tire(authorizer, exchange);
        if (exchange->state == EXCHANGE_OVER) {
            *place = exchange->next;
            free_exchange(exchange);
            (void) atomic_fetch_sub(&authorizer->awaited, 1);
            continue;
        }
        next_us = earlier(next_us, exchange->wake_us);
        next_us = exchange->has_page ? earlier(next_us, exchange->page.until_us) : next_us;
        place = &exchange->next;
    }
    return next_us;
}

static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct authorizer *authorizer = context;
    const cof_code code = session_ready(session, err);
    hear(authorizer, session, code == COF_OK);
    const int64_t next_us = run_all(authorizer, session, code == COF_OK);
    const int64_t pause_us = next_us - now_us(authorizer);
    *ret_pause_ms = next_us == INT64_MAX ? JOB_UNTIL_WOKEN : pause_us > 0 ? pause_us / 1000 + 1 : 0;
    return code;
}

/* --- Recovery ------------------------------------------------------------------------------------------------- */

bool authorizer_recover(struct authorizer *authorizer, const struct refresher_entry *entry)
{
    const struct refresher_answer granted = {.meaning = {.verdict = TOKEN_GRANTED}, .tokens = entry->tokens};
    struct exchange *exchange = new_exchange(authorizer, &entry->workspace, &entry->connect.authorization);
    if (exchange == NULL) {
        return false;
    }
    exchange->answer = refresher_answer_copy(&exchange->arena, &granted);
    if (exchange->answer.meaning.verdict != TOKEN_GRANTED) {
        free_exchange(exchange);
        return false;
    }
    exchange->state = EXCHANGE_STORES;
    exchange->entry = *entry;
    exchange->entry.tokens = exchange->answer.tokens;
    return say_exchange(authorizer, exchange);
}

size_t authorizer_awaited(struct authorizer *authorizer)
{
    return atomic_load(&authorizer->awaited);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

cof_code authorizer_new(const struct authorizer_options *options, struct authorizer **ret_authorizer,
                        struct cof_error *err)
{
    struct authorizer *authorizer = calloc(1, sizeof *authorizer);
    if (authorizer == NULL) {
        return cof_arena_exhausted(err);
    }
    authorizer->options = *options;
    (void) pthread_mutex_init(&authorizer->lock, NULL);
    *ret_authorizer = authorizer;
    return COF_OK;
}

cof_code authorizer_start(struct authorizer *authorizer, struct cof_error *err)
{
    const struct job_options job = {
        .name = "authorize",
        .log = authorizer->options.log,
        .session = authorizer->options.session,
        .round_timeout_ms = ACTION_TIMEOUT_MS,
        .least_pause_ms = LEAST_PAUSE_MS,
        .round = run_round,
        .context = authorizer,
    };
    /* The first round may have something to say before the job is known. */
    (void) pthread_mutex_lock(&authorizer->lock);
    const cof_code code = job_start(&job, &authorizer->job, err);
    (void) pthread_mutex_unlock(&authorizer->lock);
    return code;
}

void authorizer_stop(struct authorizer *authorizer)
{
    if (authorizer == NULL) {
        return;
    }
    (void) pthread_mutex_lock(&authorizer->lock);
    authorizer->stopped = true;
    (void) pthread_mutex_unlock(&authorizer->lock);
    job_stop(authorizer->job);
    for (struct word *word = take_words(authorizer), *next; word != NULL; word = next) {
        next = word->next;
        if (word->kind == WORD_VISIT) {
            answer_later(&word->page);
        }
        free_word(word);
    }
    for (struct exchange *exchange = authorizer->exchanges, *next; exchange != NULL; exchange = next) {
        next = exchange->next;
        if (exchange->has_page) {
            answer_later(&exchange->page);
        }
        free_exchange(exchange);
    }
    (void) pthread_mutex_destroy(&authorizer->lock);
    free(authorizer);
}
