#include "server/service/token_clock.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/arena.h"

struct token_clock {
    pthread_mutex_t lock;
    struct refresh_clock clock;
    int64_t ahead;
};

cof_code token_clock_new(struct token_clock **ret_clock, struct cof_error *err)
{
    struct token_clock *clock = calloc(1, sizeof *clock);
    if (clock == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) pthread_mutex_init(&clock->lock, NULL);
    *ret_clock = clock;
    return COF_OK;
}

void token_clock_free(struct token_clock *clock)
{
    if (clock != NULL) {
        (void) pthread_mutex_destroy(&clock->lock);
        free(clock);
    }
}

int64_t token_clock_look(struct token_clock *clock, int64_t mono_asked, int64_t mono_answered,
                         int64_t database_time, int64_t ahead)
{
    if (clock == NULL) {
        return 0;
    }
    (void) pthread_mutex_lock(&clock->lock);
    clock->ahead = ahead;
    const int64_t behind = refresh_clock_look(&clock->clock, mono_asked, mono_answered, database_time + ahead);
    (void) pthread_mutex_unlock(&clock->lock);
    return behind;
}

bool token_clock_read(struct token_clock *clock, int64_t mono, int64_t *ret_time)
{
    if (clock == NULL) {
        return false;
    }
    (void) pthread_mutex_lock(&clock->lock);
    const bool known = clock->clock.known;
    *ret_time = known ? refresh_clock_time(&clock->clock, mono) : 0;
    (void) pthread_mutex_unlock(&clock->lock);
    return known;
}

int64_t token_clock_ahead(struct token_clock *clock)
{
    if (clock == NULL) {
        return 0;
    }
    (void) pthread_mutex_lock(&clock->lock);
    const int64_t ahead = clock->ahead;
    (void) pthread_mutex_unlock(&clock->lock);
    return ahead;
}

int64_t token_clock_time(struct token_clock *clock, int64_t mono, int64_t database_time)
{
    int64_t carried = 0;
    const bool known = token_clock_read(clock, mono, &carried);
    const int64_t told = database_time + token_clock_ahead(clock);
    return known && carried > told ? carried : told;
}
