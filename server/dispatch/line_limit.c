#include "server/dispatch/line_limit.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/attr.h"

/* Bytes of an IPv6 address that are its network, or say that it is one of IPv4. */
enum { NETWORK = 8, MAPPED = 12 };

typedef enum peer_kind {
    PEER_OTHERS,
    PEER_IPV4,
    PEER_IPV6,
    PEER_UID,
    PEER_LOCAL, /* a user of this host whom the kernel did not tell */
} peer_kind;

struct peer {
    peer_kind kind;
    uint32_t uid;
    uint8_t ip[16];
};

struct window {
    struct peer peer;
    bool open;
    int64_t begun_us;
    uint64_t lines; /* written or not */
};

struct line_limit {
    pthread_mutex_t lock;
    _Atomic int64_t first_end_us;                /* of the windows that are open */
    struct window windows[LINE_LIMIT_PEERS + 1]; /* the last one is of all others */
};

struct line_limit *line_limit_new(void)
{
    struct line_limit *limit = calloc(1, sizeof *limit);
    if (limit != NULL) {
        (void) pthread_mutex_init(&limit->lock, NULL);
        atomic_init(&limit->first_end_us, INT64_MAX);
    }
    return limit;
}

void line_limit_free(struct line_limit *limit)
{
    if (limit != NULL) {
        (void) pthread_mutex_destroy(&limit->lock);
        free(limit);
    }
}

/* All bytes of a peer that do not tell it from others are zero. */
static struct peer peer_of(const struct exchange_peer *from)
{
    static const uint8_t mapped[MAPPED] = {[10] = 0xff, [11] = 0xff};
    struct peer peer;
    memset(&peer, 0, sizeof peer);
    if (from->has_ip) {
        peer.kind = memcmp(from->ip, mapped, sizeof mapped) == 0 ? PEER_IPV4 : PEER_IPV6;
        memcpy(peer.ip, from->ip, peer.kind == PEER_IPV4 ? sizeof peer.ip : NETWORK);
    } else {
        peer.kind = from->has_uid ? PEER_UID : PEER_LOCAL;
        peer.uid = from->has_uid ? from->uid : 0;
    }
    return peer;
}

static bool is_same(const struct peer *one, const struct peer *other)
{
    return one->kind == other->kind && one->uid == other->uid && memcmp(one->ip, other->ip, sizeof one->ip) == 0;
}

/* The peer's open window, or else one that is free, or that of the others. */
static struct window *window_of(struct line_limit *limit, const struct peer *peer)
{
    struct window *found = &limit->windows[LINE_LIMIT_PEERS];
    for (size_t i = 0; i < LINE_LIMIT_PEERS; i++) {
        struct window *window = &limit->windows[i];
        if (window->open && is_same(&window->peer, peer)) {
            return window;
        }
        if (!window->open) {
            found = window;
        }
    }
    return found;
}

static void open_window(struct line_limit *limit, struct window *window, const struct peer *peer, int64_t now_us)
{
    *window = (struct window){.open = true, .begun_us = now_us};
    if (window != &limit->windows[LINE_LIMIT_PEERS]) {
        window->peer = *peer;
    }
    if (now_us + LINE_LIMIT_WINDOW_US < atomic_load(&limit->first_end_us)) {
        atomic_store(&limit->first_end_us, now_us + LINE_LIMIT_WINDOW_US);
    }
}

/* A window that is over stays what it is until it was told, which is soon. */
bool line_limit_take(struct line_limit *limit, const struct exchange_peer *from, int64_t now_us)
{
    const struct peer peer = peer_of(from);
    (void) pthread_mutex_lock(&limit->lock);
    struct window *window = window_of(limit, &peer);
    if (!window->open) {
        open_window(limit, window, &peer, now_us);
    }
    const bool may = window->lines++ < LINE_LIMIT_LINES;
    (void) pthread_mutex_unlock(&limit->lock);
    return may;
}

static void describe(const struct peer *peer, char *ret_text)
{
    static const char *const names[] = {[PEER_OTHERS] = "others", [PEER_LOCAL] = "this host"};
    char address[INET6_ADDRSTRLEN] = "";
    switch (peer->kind) {
    case PEER_IPV4:
        (void) inet_ntop(AF_INET, peer->ip + MAPPED, ret_text, LINE_LIMIT_PEER_TEXT);
        break;
    case PEER_IPV6:
        (void) inet_ntop(AF_INET6, peer->ip, address, sizeof address);
        (void) snprintf(ret_text, LINE_LIMIT_PEER_TEXT, "%s/%d", address, 8 * NETWORK);
        break;
    case PEER_UID:
        (void) snprintf(ret_text, LINE_LIMIT_PEER_TEXT, "uid %u", peer->uid);
        break;
    case PEER_OTHERS:
    case PEER_LOCAL:
        (void) snprintf(ret_text, LINE_LIMIT_PEER_TEXT, "%s", names[peer->kind]);
        break;
    }
}

/* Closes windows that are over until one of them has something to tell; false: none has. */
static bool close_windows(struct line_limit *limit, int64_t now_us, struct line_limit_rest *ret_rest)
{
    int64_t first_end_us = INT64_MAX;
    for (size_t i = 0; i < COF_COUNT(limit->windows); i++) {
        struct window *window = &limit->windows[i];
        const int64_t end_us = window->begun_us + LINE_LIMIT_WINDOW_US;
        if (window->open && end_us > now_us) {
            first_end_us = end_us < first_end_us ? end_us : first_end_us;
        } else if (window->open) {
            window->open = false;
            if (window->lines > LINE_LIMIT_LINES) {
                describe(&window->peer, ret_rest->peer);
                ret_rest->lines = window->lines - LINE_LIMIT_LINES;
                ret_rest->window_us = now_us == INT64_MAX ? LINE_LIMIT_WINDOW_US : now_us - window->begun_us;
                return true; /* what comes first may still be what was told last: the next call looks again */
            }
        }
    }
    atomic_store(&limit->first_end_us, first_end_us);
    return false;
}

bool line_limit_rest(struct line_limit *limit, int64_t now_us, struct line_limit_rest *ret_rest)
{
    if (now_us < atomic_load(&limit->first_end_us)) {
        return false;
    }
    (void) pthread_mutex_lock(&limit->lock);
    const bool found = close_windows(limit, now_us, ret_rest);
    (void) pthread_mutex_unlock(&limit->lock);
    return found;
}
