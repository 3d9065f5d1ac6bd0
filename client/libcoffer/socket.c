#include "client/libcoffer/socket.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { CLOSE_SECONDS = 3 };

/* Whoever is the last to look at it frees it. */
struct closing {
    pthread_mutex_t lock;
    pthread_cond_t done;
    nng_socket socket;
    bool closed;
    bool abandoned;
};

static void closing_free(struct closing *closing)
{
    (void) pthread_cond_destroy(&closing->done);
    (void) pthread_mutex_destroy(&closing->lock);
    free(closing);
}

static void *close_in_thread(void *context)
{
    struct closing *closing = context;
    (void) nng_close(closing->socket);
    (void) pthread_mutex_lock(&closing->lock);
    closing->closed = true;
    const bool abandoned = closing->abandoned;
    (void) pthread_cond_signal(&closing->done);
    (void) pthread_mutex_unlock(&closing->lock);
    if (abandoned) {
        closing_free(closing);
    }
    return NULL;
}

static bool wait_for_close(struct closing *closing)
{
    struct timespec until;
    (void) clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_SECONDS;
    (void) pthread_mutex_lock(&closing->lock);
    int result = 0;
    while (!closing->closed && result == 0) {
        result = pthread_cond_timedwait(&closing->done, &closing->lock, &until);
    }
    const bool closed = closing->closed;
    closing->abandoned = !closed;
    (void) pthread_mutex_unlock(&closing->lock);
    return closed;
}

bool socket_close(nng_socket socket)
{
    pthread_t thread;
    struct closing *closing = calloc(1, sizeof *closing);
    if (closing == NULL) {
        return false;
    }
    closing->socket = socket;
    (void) pthread_mutex_init(&closing->lock, NULL);
    (void) pthread_cond_init(&closing->done, NULL);
    if (pthread_create(&thread, NULL, close_in_thread, closing) != 0) {
        closing_free(closing);
        return false;
    }
    (void) pthread_detach(thread);
    if (!wait_for_close(closing)) {
        return false;
    }
    closing_free(closing);
    return true;
}
