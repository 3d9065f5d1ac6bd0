#include "client/libcoffer/link_web.h"

#include <stdio.h>

#include <openssl/rand.h>

#include "common/attr.h"
#include "common/encode.h"

enum { KEY_BYTES = 16 };

bool link_web_init(struct link_web *web, const struct link_options *options, uint8_t *request, size_t room,
                   size_t *ret_size)
{
    uint8_t key[KEY_BYTES];
    if (RAND_bytes(key, sizeof key) != 1) {
        return false;
    }
    *web = (struct link_web){.reader = {.most = options->max_reply + PARCEL_ID}};
    cof_base64_encode(cof_slice_of(key, sizeof key), web->key);
    const int size = snprintf((char *) request, room,
                              "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Protocol: " COF_WEB_PROTOCOL "\r\n\r\n",
                              options->path, options->place, web->key);
    *ret_size = (size_t) size;
    return size > 0 && (size_t) size < room;
}

void link_web_done(struct link_web *web)
{
    parcel_free(TAKE(web->reply));
}

cof_head_step link_web_open(struct link_web *web, struct cof_slice bytes, size_t *ret_taken)
{
    struct cof_head head;
    const cof_head_step step = cof_head_response(bytes, &head);
    if (step != COF_HEAD_DONE) {
        return step;
    }
    if (!cof_web_accepted(&head, web->key)) {
        web->status = head.status;
        return COF_HEAD_BAD;
    }
    *ret_taken = head.size;
    return COF_HEAD_DONE;
}

/* Exactly what the message has, if its last fragment has begun; else twice as much each time. */
static bool make_room(struct link_web *web, const struct cof_web_event *event)
{
    const size_t needed = event->announced > PARCEL_ID ? (size_t) event->announced - PARCEL_ID : 0;
    const size_t most = (size_t) web->reader.most - PARCEL_ID;
    if (web->reply != NULL && web->reply->size >= needed) {
        return true;
    }
    size_t room = needed;
    if (!event->last) {
        room = needed > most / 2 ? most : needed * 2;
    }
    struct parcel *roomier = parcel_new(room);
    if (roomier == NULL) {
        return false;
    }
    if (web->reply != NULL) {
        memcpy(roomier->frame, web->reply->frame, web->filled > PARCEL_ID ? web->filled - PARCEL_ID : 0);
        parcel_free(web->reply);
    }
    web->reply = roomier;
    return true;
}

static void append(struct link_web *web, const uint8_t *bytes, size_t size)
{
    for (; size > 0 && web->filled < PARCEL_ID; size--) {
        web->id[web->filled++] = *bytes++;
    }
    if (size > 0) {
        memcpy(web->reply->frame + (web->filled - PARCEL_ID), bytes, size);
        web->filled += size;
    }
}

static bool take_part(struct link_web *web, const struct cof_web_event *event, struct parcel **ret_reply)
{
    if (!make_room(web, event)) {
        return false;
    }
    append(web, event->bytes, event->size);
    if (!event->end) {
        return true;
    }
    if (web->filled < PARCEL_ID) {
        return false;
    }
    struct parcel *reply = TAKE(web->reply);
    reply->id = cof_get_u32(web->id);
    reply->size = web->filled - PARCEL_ID;
    web->filled = 0;
    *ret_reply = reply;
    return true;
}

bool link_web_take(struct link_web *web, uint8_t *bytes, size_t size, size_t *at, struct parcel **ret_reply)
{
    struct cof_web_event event;
    cof_web_read(&web->reader, bytes, size, at, &event);
    switch (event.kind) {
    case COF_WEB_SHORT:
        return true;
    case COF_WEB_PART:
        return take_part(web, &event, ret_reply);
    case COF_WEB_PINGED:
        memcpy(web->pong, event.bytes, event.size);
        web->pong_size = (uint8_t) event.size;
        web->has_pong = true;
        return true;
    case COF_WEB_CLOSED:
    case COF_WEB_REFUSED:
        break;
    }
    return false;
}

size_t link_web_take_pong(struct link_web *web, uint8_t *to)
{
    /* Nothing in a pong could be mistaken for a message by whoever stands between, so any mask will do. */
    static const uint8_t mask[COF_WEB_MASK] = {0};
    const size_t header = cof_web_header(to, COF_WEB_PONG, web->pong_size, mask);
    memcpy(to + header, web->pong, web->pong_size);
    web->has_pong = false;
    return header + web->pong_size;
}
