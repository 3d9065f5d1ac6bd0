#include "server/jobs/refresher.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/jobs/refresh_work.h"

enum { ROUND_TIMEOUT_MS = 10000, LEAST_PAUSE_MS = 1, DUE_AT_ONCE = 64 };

/* What other threads have said: somebody wants a token, or an answer has come. */
struct word {
    struct word *next;
    struct work *work; /* a new one; NULL: an answer */
    uint64_t ticket;
    bool answered;
    struct work holder; /* of the answer and its texts */
};

struct refresher {
    struct refresher_options options;
    struct job *job;
    /* Of the refresher's thread. */
    struct work *works;
    size_t count;
    uint64_t tickets;
    int64_t next_look_us;
    uint64_t random;
    /* Of all threads. */
    atomic_size_t awaited; /* answers */
    pthread_mutex_t lock;
    struct word *first;
    struct word *last;
    size_t words;
    size_t most_words;
};

static int64_t now_us(const struct refresher *refresher)
{
    return cof_clock_monotonic(refresher->options.session.clock);
}

/* --- Words ---------------------------------------------------------------------------------------------------- */

static void free_work(struct work *work)
{
    if (work != NULL) {
        cof_arena_reset(&work->arena);
        cof_arena_reset(&work->kept);
        free(work);
    }
}

static void free_word(struct word *word)
{
    free_work(word->work);
    if (word->answered) {
        cof_arena_reset(&word->holder.kept);
    }
    free(word);
}

static bool say(struct refresher *refresher, struct word *word, bool always)
{
    (void) pthread_mutex_lock(&refresher->lock);
    const bool room = always || refresher->words < refresher->most_words;
    if (room) {
        *(refresher->last == NULL ? &refresher->first : &refresher->last->next) = word;
        refresher->last = word;
        refresher->words++;
        if (refresher->job != NULL) {
            job_wake(refresher->job);
        }
    }
    (void) pthread_mutex_unlock(&refresher->lock);
    return room;
}

static struct word *take_words(struct refresher *refresher)
{
    (void) pthread_mutex_lock(&refresher->lock);
    struct word *words = refresher->first;
    refresher->first = NULL;
    refresher->last = NULL;
    refresher->words = 0;
    (void) pthread_mutex_unlock(&refresher->lock);
    return words;
}

static struct work *new_work(struct refresher *refresher, const struct cof_uuid *workspace,
                             const struct cof_uuid *connection)
{
    struct work *work = calloc(1, sizeof *work);
    if (work != NULL) {
        work->workspace = *workspace;
        work->connection = *connection;
        cof_arena_init(&work->arena, refresher->options.pool, refresher->options.memory);
        cof_arena_init(&work->kept, refresher->options.pool, refresher->options.memory);
    }
    return work;
}

static bool say_work(struct refresher *refresher, struct work *work, bool always)
{
    struct word *word = calloc(1, sizeof *word);
    if (word == NULL) {
        free_work(work);
        return false;
    }
    word->work = work;
    if (say(refresher, word, always)) {
        return true;
    }
    free_word(word);
    return false;
}

bool refresher_want(struct refresher *refresher, const struct cof_uuid *workspace,
                    const struct cof_uuid *connection, const struct refresh_wish *wish, int64_t until_us)
{
    struct work *work = new_work(refresher, workspace, connection);
    if (work == NULL) {
        return false;
    }
    work->until_us = until_us;
    work->action = refresh_begin(&work->machine, refresher->options.rules, wish);
    return say_work(refresher, work, false);
}

bool refresher_recover(struct refresher *refresher, const struct refresher_entry *entry)
{
    struct work *work = new_work(refresher, &entry->workspace, &entry->connection);
    const struct refresher_answer answer = {.meaning = {.verdict = TOKEN_GRANTED}, .tokens = entry->tokens};
    if (work == NULL) {
        return false;
    }
    work_take_answer(work, &answer);
    if (work->answer.meaning.verdict != TOKEN_GRANTED) {
        free_work(work);
        return false;
    }
    work->action = refresh_recover(&work->machine, refresher->options.rules, &entry->store);
    return say_work(refresher, work, true);
}

/* What cannot be told is found out by the lease: it runs out, and the try counts as one whose answer was lost. */
void refresher_answered(struct refresher *refresher, uint64_t ticket, const struct refresher_answer *answer)
{
    struct word *word = calloc(1, sizeof *word);
    if (word == NULL) {
        return;
    }
    word->ticket = ticket;
    word->answered = true;
    cof_arena_init(&word->holder.kept, refresher->options.pool, refresher->options.memory);
    work_take_answer(&word->holder, answer);
    (void) say(refresher, word, true);
}

/* --- Works ---------------------------------------------------------------------------------------------------- */

static struct work *find(const struct refresher *refresher, const struct work *like)
{
    struct work *work = refresher->works;
    while (work != NULL && !(work->state != WORK_OVER && cof_uuid_equal(&work->workspace, &like->workspace) &&
                             cof_uuid_equal(&work->connection, &like->connection))) {
        work = work->next;
    }
    return work;
}

static void begin(struct refresher *refresher, struct work *work)
{
    work->ticket = ++refresher->tickets;
    work->next = refresher->works;
    refresher->works = work;
    refresher->count++;
}

/* Whoever wants a connection that is being refreshed waits for what comes of that. */
static void begin_or_join(struct refresher *refresher, struct work *work)
{
    struct work *present = find(refresher, work);
    if (present == NULL) {
        begin(refresher, work);
        return;
    }
    present->until_us = work->until_us > present->until_us ? work->until_us : present->until_us;
    refresh_join(&present->machine, &work->machine.wish);
    free_work(work);
}

static void hand_over(const struct refresher *refresher, struct work_context *context, struct word *word)
{
    struct work *work = refresher->works;
    while (work != NULL && work->ticket != word->ticket) {
        work = work->next;
    }
    if (work != NULL && work->state == WORK_SENT) {
        work_take_answer(work, &word->holder.answer);
        work_wake(context, work, REFRESH_ANSWERED);
    }
}

static void hear(struct refresher *refresher, struct work_context *context)
{
    struct word *word = take_words(refresher);
    while (word != NULL) {
        struct word *next = word->next;
        if (word->work == NULL) {
            hand_over(refresher, context, word);
        } else {
            begin_or_join(refresher, word->work);
            word->work = NULL;
        }
        free_word(word);
        word = next;
    }
}

/* An answer that should have come by now will not. */
static void give_up_answer(struct work_context *context, struct work *work)
{
    work->answer = (struct refresher_answer){
        .meaning = {.verdict = TOKEN_UNAVAILABLE, .lost = true, .may_be_spent = true},
        .failure = {COF_REASON_PROVIDER_UNAVAILABLE, cof_slice_text("")},
    };
    work_wake(context, work, REFRESH_ANSWERED);
}

static void run_work(struct refresher *refresher, struct work_context *context, struct work *work)
{
    const bool due = work->wake_us <= now_us(refresher);
    if (work->state == WORK_READY) {
        work_run(context, work);
    } else if (work->state == WORK_WAITING && due) {
        work_wake(context, work, REFRESH_DONE);
    } else if (work->state == WORK_SENT && due) {
        give_up_answer(context, work);
    }
}

/* Runs what is ready or has waited long enough; says when the next one will have. */
static int64_t run_works(struct refresher *refresher, struct work_context *context)
{
    int64_t next_us = INT64_MAX;
    for (struct work *work = refresher->works; work != NULL; work = work->next) {
        run_work(refresher, context, work);
        if (work->state != WORK_OVER && work->wake_us < next_us) {
            next_us = work->wake_us;
        }
    }
    return next_us;
}

static void remove_finished(struct refresher *refresher)
{
    size_t awaited = 0;
    struct work **place = &refresher->works;
    while (*place != NULL) {
        struct work *work = *place;
        if (work->state != WORK_OVER) {
            awaited += work->state == WORK_SENT;
            place = &work->next;
            continue;
        }
        *place = work->next;
        refresher->count--;
        free_work(work);
    }
    atomic_store(&refresher->awaited, awaited);
}

size_t refresher_awaited(struct refresher *refresher)
{
    return atomic_load(&refresher->awaited);
}

/* --- What is due ---------------------------------------------------------------------------------------------- */

/* A server that ends begins nothing. */
static void begin_due(struct refresher *refresher, const struct rows *due)
{
    const struct refresh_wish wish = {.want = REFRESH_WANT_DUE};
    const bool leaving = atomic_load(&refresher->options.service->draining);
    for (size_t i = 0; i < rows_count(due) && !rows_null(due, i, 2) && !leaving; i++) {
        const struct cof_uuid workspace = rows_uuid(due, i, 2);
        const struct cof_uuid connection = rows_uuid(due, i, 3);
        struct work *work = new_work(refresher, &workspace, &connection);
        if (work != NULL) {
            work->action = refresh_begin(&work->machine, refresher->options.rules, &wish);
            begin_or_join(refresher, work);
        }
    }
}

/* Of the servers that see it one writes it down; then all see the same time again. */
static cof_code write_ahead(const struct refresher *refresher, struct session *session, int64_t behind,
                            int64_t ahead, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *done = NULL;
    const struct param params[] = {param_i64(behind), param_i64(ahead)};
    COF_LOG(refresher->options.log, COF_LOG_WARN, "clock_went_back",
            "the database's clock went back; tokens live by what it said before, and by the time since",
            cof_log_number("by_ms", behind / 1000));
    TRY(session_queue(session, STATEMENT_CLOCK_AHEAD, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    return session_next(session, &done, err);
}

static cof_code look(struct refresher *refresher, struct session *session, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *due = NULL;
    const size_t most = refresher->options.at_once;
    const size_t room = refresher->count < most ? most - refresher->count : 0;
    const struct param limit = param_i64((int64_t) (room < DUE_AT_ONCE ? room : DUE_AT_ONCE));
    const int64_t asked = now_us(refresher);
    TRY(session_ready(session, err));
    TRY(session_queue(session, STATEMENT_REFRESH_DUE, &limit, 1, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &due, err));
    const int64_t ahead = rows_i64(due, 0, 1);
    const int64_t behind =
        token_clock_look(refresher->options.clock, asked, now_us(refresher), rows_time(due, 0, 0), ahead);
    if (behind > 0) {
        return write_ahead(refresher, session, behind, ahead, err);
    }
    begin_due(refresher, due);
    refresher->next_look_us =
        rows_count(due) == DUE_AT_ONCE ? asked : asked + (int64_t) refresher->options.interval_ms * 1000;
    return COF_OK;
}

static cof_code look_if_due(struct refresher *refresher, struct session *session, struct cof_error *err)
{
    int64_t time = 0;
    const bool known = token_clock_read(refresher->options.clock, now_us(refresher), &time);
    const bool due = now_us(refresher) >= refresher->next_look_us && refresher->count < refresher->options.at_once;
    if (known && !due) {
        return COF_OK;
    }
    const cof_code code = look(refresher, session, err);
    if (code == COF_OK || !known || refresher->works == NULL) {
        return code;
    }
    /* What is under way goes on, for an answer may be waiting for the database. */
    session_reset(session);
    refresher->next_look_us = now_us(refresher) + (int64_t) refresher->options.interval_ms * 1000;
    return COF_OK;
}

/* Nothing is done before the time is known. */
static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct refresher *refresher = context;
    struct work_context work = {
        .options = &refresher->options,
        .session = session,
        .random = refresher->random + (uint64_t) now_us(refresher),
    };
    /* What a journal has kept is there before anybody looks what is due. */
    hear(refresher, &work);
    TRY(look_if_due(refresher, session, err));
    int64_t next_us = run_works(refresher, &work);
    remove_finished(refresher);
    refresher->random = work.random;
    next_us = refresher->next_look_us < next_us ? refresher->next_look_us : next_us;
    const int64_t pause_us = next_us - now_us(refresher);
    *ret_pause_ms = pause_us > 0 ? pause_us / 1000 + 1 : 0;
    return COF_OK;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

cof_code refresher_new(const struct refresher_options *options, struct refresher **ret_refresher,
                       struct cof_error *err)
{
    struct refresher *refresher = calloc(1, sizeof *refresher);
    if (refresher == NULL) {
        return cof_arena_exhausted(err);
    }
    refresher->options = *options;
    refresher->most_words = (size_t) options->at_once * 4;
    (void) pthread_mutex_init(&refresher->lock, NULL);
    *ret_refresher = refresher;
    return COF_OK;
}

cof_code refresher_start(struct refresher *refresher, struct cof_error *err)
{
    const struct job_options job = {
        .name = "refresh",
        .log = refresher->options.log,
        .session = refresher->options.session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = LEAST_PAUSE_MS,
        .round = run_round,
        .context = refresher,
    };
    /* The first round may have something to say before the job is known. */
    (void) pthread_mutex_lock(&refresher->lock);
    const cof_code code = job_start(&job, &refresher->job, err);
    (void) pthread_mutex_unlock(&refresher->lock);
    return code;
}

void refresher_stop(struct refresher *refresher)
{
    if (refresher == NULL) {
        return;
    }
    job_stop(refresher->job);
    for (struct word *word = take_words(refresher), *next; word != NULL; word = next) {
        next = word->next;
        free_word(word);
    }
    for (struct work *work = refresher->works, *next; work != NULL; work = next) {
        next = work->next;
        free_work(work);
    }
    (void) pthread_mutex_destroy(&refresher->lock);
    free(refresher);
}
