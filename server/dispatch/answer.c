#include <stddef.h>

#include "common/secret.h"
#include "common/wire.h"
#include "server/dispatch/ticket.h"

enum {
    SEND_TIMEOUT_MIN_MS = 100,
    PACK_ROOM = 15 * 1024, /* fits into a chunk of the arena */
};

/* What is left of the call's time, but enough to send at all and never more than the setting. */
static uint32_t send_timeout(const struct dispatch *dispatch, const struct ticket *ticket)
{
    const struct dispatch_options *options = dispatch_options_of(dispatch);
    const int64_t left_ms = (ticket->call.deadline_us - cof_clock_monotonic(options->service->clock)) / 1000;
    if (left_ms < SEND_TIMEOUT_MIN_MS) {
        return SEND_TIMEOUT_MIN_MS;
    }
    return left_ms > options->reply_timeout_ms ? options->reply_timeout_ms : (uint32_t) left_ms;
}

static struct cof_response_frame frame_of(const struct dispatch *dispatch, const struct ticket *ticket)
{
    const int64_t spent =
        cof_clock_monotonic(dispatch_options_of(dispatch)->service->clock) - ticket->exchange->received_us;
    return (struct cof_response_frame){
        .revision = COF_FRAME_REVISION,
        .request_id = ticket->frame.request_id,
        .server_time_us = spent < 0 ? 0 : (uint32_t) (spent > UINT32_MAX ? UINT32_MAX : spent),
    };
}

static void send(struct dispatch *dispatch, struct ticket *ticket)
{
    ticket_set_state(ticket, TICKET_ANSWERED);
    const uint32_t timeout_ms = send_timeout(dispatch, ticket);
    if (ticket->outbox != NULL) {
        outbox_put(ticket->outbox, ticket->exchange, timeout_ms, ticket->malformed);
    } else {
        exchange_reply(ticket->exchange, timeout_ms, ticket->malformed, false);
    }
}

/* An internal failure is told with a neutral message; the log has the rest. */
static void send_error(struct dispatch *dispatch, struct ticket *ticket)
{
    uint8_t details[COF_ERROR_DETAILS_SIZE];
    struct cof_response_frame frame = frame_of(dispatch, ticket);
    frame.code = (int32_t) ticket->err.code;
    frame.message = cof_slice_text(ticket->err.message);
    (void) cof_error_details(&ticket->err, &frame, details, sizeof details);
    uint8_t *to = exchange_buffer(ticket->exchange, cof_response_frame_size(&frame));
    if (to != NULL) {
        (void) cof_response_frame_encode(&frame, to);
    }
    request_log(dispatch, ticket, ticket->err.code);
    send(dispatch, ticket);
}

void answer_error(struct dispatch *dispatch, struct ticket *ticket)
{
    record_refusal(dispatch, ticket);
    send_error(dispatch, ticket);
}

/* A write that was committed has not failed; asked for again its answer comes from the request's record. */
static cof_code no_room(struct ticket *ticket)
{
    if (ticket->call.packed_answer.data == NULL) {
        return cof_arena_exhausted(&ticket->err);
    }
    return cof_fail(&ticket->err, COF_REASON_OUTCOME_UNKNOWN,
                    "the write was committed, but there is no memory for its answer; repeat the call with the same "
                    "request ID to get it");
}

/* The message in one pass, to be wiped by who asks; without data if there is no room that it fits into. */
static struct cof_slice pack(struct cof_arena *arena, const ProtobufCMessage *response)
{
    struct cof_slice packed;
    size_t size;
    uint8_t *room = cof_arena_spare(arena, &size);
    if (room != NULL && cof_wire_pack_at_end(response, room, size, &packed)) {
        return packed;
    }
    if (room != NULL) {
        cof_wipe(room, size);
    }
    room = cof_arena_alloc(arena, PACK_ROOM);
    const bool fits = room != NULL && cof_wire_pack_at_end(response, room, PACK_ROOM, &packed);
    return fits ? packed : cof_slice_of(NULL, 0);
}

static cof_code put_frame(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response,
                          struct cof_slice packed)
{
    struct cof_response_frame frame = frame_of(dispatch, ticket);
    frame.payload.len = packed.data != NULL ? packed.len : protobuf_c_message_get_packed_size(response);
    const size_t size = cof_response_frame_size(&frame);
    if (size > dispatch_options_of(dispatch)->service->limits.response_bytes) {
        return cof_fail(&ticket->err, COF_REASON_MESSAGE_TOO_LARGE,
                        "the answer would be larger than a response frame may be; ask for less at once");
    }
    uint8_t *to = exchange_buffer(ticket->exchange, size);
    if (to == NULL) {
        return no_room(ticket);
    }
    uint8_t *payload = cof_response_frame_encode_around(&frame, to);
    if (packed.data == NULL) {
        (void) protobuf_c_message_pack(response, payload);
    } else if (packed.len > 0) {
        memcpy(payload, packed.data, packed.len);
    }
    return COF_OK;
}

static cof_code encode(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response)
{
    if (ticket->call.packed_answer.data != NULL) {
        return put_frame(dispatch, ticket, response, ticket->call.packed_answer);
    }
    const struct cof_slice packed = pack(&ticket->arena, response);
    const cof_code code = put_frame(dispatch, ticket, response, packed);
    if (packed.data != NULL) {
        cof_wipe((uint8_t *) (uintptr_t) packed.data, packed.len);
    }
    return code;
}

/* On the audit log's thread: the record is on the disk, or the disk has failed. */
static void answer_kept(struct audit_waiter *waiter, bool durable)
{
    struct ticket *ticket = (struct ticket *) (void *) ((uint8_t *) waiter - offsetof(struct ticket, waiter));
    struct dispatch *dispatch = ticket->dispatch;
    if (durable) {
        request_log(dispatch, ticket, COF_OK);
        send(dispatch, ticket);
    } else {
        cof_ignore(audit_unavailable(&ticket->err));
        answer_error(dispatch, ticket);
    }
    ticket_free(dispatch, ticket);
}

void answer_message(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response)
{
    bool durable = false;
    if (encode(dispatch, ticket, response) != COF_OK ||
        record_answer(dispatch, ticket, response, &durable) != COF_OK) {
        answer_error(dispatch, ticket);
        return;
    }
    if (durable) {
        ticket->outbox = NULL; /* it leaves from another thread */
        ticket->waiter.done = answer_kept;
        ticket_set_state(ticket, TICKET_KEPT);
        return;
    }
    request_log(dispatch, ticket, COF_OK);
    send(dispatch, ticket);
}
