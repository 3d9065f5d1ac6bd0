#include "server/jobs/write_use.h"

#include <stdlib.h>

#include "common/arena.h"

enum { AT_ONCE = 64, ROUND_TIMEOUT_MS = 10000, LEAST_PAUSE_MS = 50 };

struct write_use {
    struct write_use_options options;
    struct job *job;
};

/* Each in a transaction of its own, so that servers that write the same tokens never wait for each other in a circle. */
static cof_code write_some(struct session *session, const struct token_use_entry *entries, size_t count,
                           struct cof_error *err)
{
    TRY(session_ready(session, err));
    for (size_t i = 0; i < count; i++) {
        const struct param params[] = {
            param_uuid(&entries[i].workspace),
            param_uuid(&entries[i].token),
            param_time(entries[i].time),
        };
        TRY(session_queue(session, STATEMENT_TOKEN_USED, params, COF_COUNT(params), err));
        TRY(session_sync(session, err));
    }
    for (size_t i = 0; i < count; i++) {
        TRY(session_next(session, NULL, err));
    }
    return COF_OK;
}

/* What cannot be written now is noted again for the next round. */
static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct write_use *write_use = context;
    struct token_use *use = write_use->options.use;
    struct token_use_entry entries[AT_ONCE];
    size_t place = 0;
    size_t count;
    *ret_pause_ms = write_use->options.interval_ms;
    while ((count = token_use_take(use, &place, entries, AT_ONCE)) > 0) {
        const cof_code code = write_some(session, entries, count, err);
        for (size_t i = 0; code != COF_OK && i < count; i++) {
            token_use_note(use, &entries[i].workspace, &entries[i].token, entries[i].time);
        }
        TRY(code);
    }
    return COF_OK;
}

cof_code write_use_start(const struct write_use_options *options, struct write_use **ret_write_use,
                         struct cof_error *err)
{
    struct write_use *write_use = calloc(1, sizeof *write_use);
    if (write_use == NULL) {
        return cof_arena_exhausted(err);
    }
    write_use->options = *options;
    const struct job_options job = {
        .name = "write_use",
        .log = options->log,
        .session = options->session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = LEAST_PAUSE_MS,
        .round = run_round,
        .context = write_use,
    };
    const cof_code code = job_start(&job, &write_use->job, err);
    if (code != COF_OK) {
        free(write_use);
        return code;
    }
    *ret_write_use = write_use;
    return COF_OK;
}

void write_use_stop(struct write_use *write_use)
{
    if (write_use != NULL) {
        job_stop(write_use->job);
        free(write_use);
    }
}
