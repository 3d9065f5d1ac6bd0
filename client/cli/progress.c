#include "client/cli/progress.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/condition.h"

enum { FIRST_US = 1000000, PAUSE_US = 200000 };

/* A thread tells, for whoever works may be within a call that ends when it ends. It lives as long as what was begun first. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t ending;
    pthread_t thread;
    const char *what;
    size_t done;
    size_t total;
    size_t depth; /* of the main thread alone */
    struct timespec begun;
    bool allowed;
    bool running; /* the thread */
    bool over;
    bool shown;
} progress = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void clear(void)
{
    if (progress.shown) {
        (void) fputs("\r\033[K", stderr);
        (void) fflush(stderr);
    }
    progress.shown = false;
}

static void show(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    const long seconds = (long) (now.tv_sec - progress.begun.tv_sec);
    (void) fprintf(stderr, "\r\033[K%s", progress.what);
    if (progress.total > 0) {
        (void) fprintf(stderr, " %zu of %zu", progress.done, progress.total);
    } else if (progress.done > 0) {
        (void) fprintf(stderr, " %zu", progress.done);
    }
    (void) fprintf(stderr, " ... %ld s", seconds);
    (void) fflush(stderr);
    progress.shown = true;
}

static void *tell(void *context)
{
    struct timespec next = cof_condition_in(FIRST_US);
    (void) context;
    (void) pthread_mutex_lock(&progress.lock);
    while (!progress.over) {
        if (pthread_cond_timedwait(&progress.ending, &progress.lock, &next) != 0 && !progress.over) {
            show();
            next = cof_condition_in(PAUSE_US);
        }
    }
    clear();
    (void) pthread_mutex_unlock(&progress.lock);
    return NULL;
}

/* Signals are for the main thread, which may be asking for a value. */
static void start(void)
{
    sigset_t all;
    sigset_t before;
    cof_condition_init(&progress.ending);
    (void) clock_gettime(CLOCK_MONOTONIC, &progress.begun);
    progress.over = false;
    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &before);
    progress.running = pthread_create(&progress.thread, NULL, tell, NULL) == 0;
    (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void stop(void)
{
    if (!progress.running) {
        return;
    }
    (void) pthread_mutex_lock(&progress.lock);
    progress.over = true;
    (void) pthread_cond_signal(&progress.ending);
    (void) pthread_mutex_unlock(&progress.lock);
    (void) pthread_join(progress.thread, NULL);
    (void) pthread_cond_destroy(&progress.ending);
    progress.running = false;
}

void progress_allow(bool allowed)
{
    const char *terminal = getenv("TERM");
    progress.allowed = allowed && isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1 && terminal != NULL &&
                       strcmp(terminal, "dumb") != 0;
}

void progress_begin(const char *what)
{
    if (!progress.allowed || progress.depth++ > 0) {
        return;
    }
    progress.what = what;
    progress.done = 0;
    progress.total = 0;
    start();
}

void progress_end(void)
{
    if (!progress.allowed) {
        return;
    }
    assert(progress.depth > 0);
    if (--progress.depth == 0) {
        stop();
    }
}

void progress_say(const char *what)
{
    (void) pthread_mutex_lock(&progress.lock);
    progress.what = what;
    (void) pthread_mutex_unlock(&progress.lock);
}

void progress_count(size_t done, size_t total)
{
    if (progress.depth != 1) {
        return;
    }
    (void) pthread_mutex_lock(&progress.lock);
    progress.done = done;
    progress.total = total;
    (void) pthread_mutex_unlock(&progress.lock);
}

void progress_clear(void)
{
    (void) pthread_mutex_lock(&progress.lock);
    clear();
    (void) pthread_mutex_unlock(&progress.lock);
}
