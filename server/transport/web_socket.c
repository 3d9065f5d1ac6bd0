#include "server/transport/web_socket.h"

#include <string.h>

#include "common/attr.h"
#include "common/encode.h"

void web_input_init(struct web_input *input, struct connection *connection, const struct exchange_ops *ops,
                    uint32_t max_request)
{
    *input = (struct web_input){
        .connection = connection,
        .ops = ops,
        .reader = {.masked = true, .most = (uint64_t) max_request + SP_ID},
    };
}

void web_input_done(struct web_input *input)
{
    if (input->request != NULL) {
        request_free(input->request);
        input->request = NULL;
    }
}

bool web_input_begun(const struct web_input *input)
{
    return cof_web_begun(&input->reader);
}

/* --- Messages ------------------------------------------------------------------------------------------------- */

/*
 * Room for the frame: exactly what the message has, if its last fragment has begun; else twice as much each time, so
 * that a message in many small fragments is not copied for each of them.
 */
static bool make_room(struct web_input *input, const struct cof_web_event *event)
{
    const size_t needed = event->announced > SP_ID ? (size_t) event->announced - SP_ID : 0;
    const size_t most = (size_t) input->reader.most - SP_ID;
    if (input->request != NULL && input->request->frame_size >= needed) {
        return true;
    }
    size_t room = needed;
    if (!event->last) {
        room = needed > most / 2 ? most : needed * 2;
    }
    struct request *roomier = request_new(input->connection, input->ops, room);
    if (roomier == NULL) {
        return false;
    }
    if (input->request != NULL) {
        memcpy(roomier->frame, input->request->frame, input->filled > SP_ID ? input->filled - SP_ID : 0);
        request_free(input->request);
    }
    input->request = roomier;
    return true;
}

static void append(struct web_input *input, const uint8_t *bytes, size_t size)
{
    for (; size > 0 && input->filled < SP_ID; size--) {
        input->id[input->filled++] = *bytes++;
    }
    if (size > 0) {
        memcpy(input->request->frame + (input->filled - SP_ID), bytes, size);
        input->filled += size;
    }
}

/* The message is whole; false if it is none of a request. */
static bool seal(struct web_input *input, struct request **ret_request)
{
    /* Without the bit it would be an address of a device between us, of which there are none. */
    if (input->filled < SP_ID || (input->id[0] & 0x80U) == 0) {
        return false;
    }
    struct request *request = TAKE(input->request);
    memcpy(request->id, input->id, SP_ID);
    request->frame_size = input->filled - SP_ID;
    request->exchange.frame = cof_slice_of(request->frame, request->frame_size);
    input->filled = 0;
    *ret_request = request;
    return true;
}

static web_step take_part(struct web_input *input, struct cof_web_event *event, struct request **ret_request)
{
    if (!make_room(input, event)) {
        return WEB_FAILED;
    }
    append(input, event->bytes, event->size);
    if (!event->end) {
        return WEB_SHORT;
    }
    if (!seal(input, ret_request)) {
        event->code = COF_WEB_PROTOCOL_ERROR;
        return WEB_REFUSE;
    }
    return WEB_REQUEST;
}

web_step web_input_take(struct web_input *input, uint8_t *bytes, size_t size, size_t *at,
                        struct cof_web_event *ret_event, struct request **ret_request)
{
    cof_web_read(&input->reader, bytes, size, at, ret_event);
    switch (ret_event->kind) {
    case COF_WEB_SHORT:
        return WEB_SHORT;
    case COF_WEB_PART:
        return take_part(input, ret_event, ret_request);
    case COF_WEB_PINGED:
        return WEB_PING;
    case COF_WEB_CLOSED:
        return WEB_CLOSE;
    case COF_WEB_REFUSED:
        return WEB_REFUSE;
    }
    return WEB_FAILED;
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

size_t web_answers_take(struct web_answers *answers, uint8_t to[WEB_ANSWERS_MOST])
{
    size_t size = 0;
    if (answers->has_pong) {
        size = cof_web_header(to, COF_WEB_PONG, answers->pong_size, NULL);
        memcpy(to + size, answers->pong, answers->pong_size);
        size += answers->pong_size;
    }
    if (answers->has_close) {
        const bool has_code = answers->code != COF_WEB_NONE;
        size += cof_web_header(to + size, COF_WEB_CLOSE, has_code ? sizeof answers->code : 0, NULL);
        if (has_code) {
            cof_put_u16(to + size, answers->code);
            size += sizeof answers->code;
        }
    }
    answers->has_pong = answers->has_close = false;
    return size;
}
