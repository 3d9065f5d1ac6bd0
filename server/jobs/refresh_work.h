#pragma once

#include "server/jobs/refresher.h"

/* One connection that is being refreshed: its machine, and what its actions do. Internal to the refresher. */

typedef enum work_state {
    WORK_READY,   /* `action` is to be done */
    WORK_SENT,    /* an answer is awaited */
    WORK_WAITING, /* for a time */
    WORK_OVER,
} work_state;

struct work {
    struct work *next;
    struct cof_uuid workspace;
    struct cof_uuid connection;
    uint64_t ticket;
    work_state state;
    int64_t wake_us;  /* monotonic: the end of WAITING; SENT: no answer will come any more */
    int64_t until_us; /* monotonic: somebody waits until then */
    struct refresh machine;
    struct refresh_action action;
    refresh_outcome outcome; /* OVER */
    struct cof_arena arena;  /* of the rows */
    struct cof_arena kept;   /* of the answer */
    bool read;               /* `rows` are there */
    struct refresh_rows rows;
    const struct provider *provider; /* with the rows, once they were claimed */
    struct refresh_claim claim;
    struct refresher_answer answer;
};

/* What all of them share. */
struct work_context {
    const struct refresher_options *options;
    struct session *session;
    uint64_t random;
};

/* A copy of an answer, with its texts in the arena. What does not fit is lost, and told so. */
struct refresher_answer refresher_answer_copy(struct cof_arena *arena, const struct refresher_answer *answer);

/* Takes over such a copy. */
void work_take_answer(struct work *work, const struct refresher_answer *answer);

/* Does what is to be done until it has to wait for something; the database may be asked several times. */
void work_run(struct work_context *context, struct work *work);

/* Tells the machine that a wait is over, or that its answer is there. */
void work_wake(struct work_context *context, struct work *work, refresh_event_kind kind);
