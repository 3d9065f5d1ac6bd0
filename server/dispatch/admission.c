#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#include "common/narrowed.h"
#include "server/dispatch/ticket.h"

enum { BUSY_RETRY_MS = 100, DRAIN_RETRY_MS = 20, UUID_VERSION_TIME = 7 };

static cof_code refuse(struct ticket *ticket, cof_reason reason)
{
    return cof_fail(&ticket->err, reason, "%s; %s", cof_reason_meaning(reason), cof_reason_next_step(reason));
}

static cof_code find_method(struct ticket *ticket)
{
    const struct cof_slice name = ticket->frame.method;
    ticket->method = method_find(name);
    if (ticket->method != NULL) {
        return COF_OK;
    }
    return cof_fail(&ticket->err, COF_REASON_METHOD_UNKNOWN, "there is no method \"%.*s\"; %s",
                    (int) (name.len < 100 ? name.len : 100), (const char *) name.data,
                    cof_reason_next_step(COF_REASON_METHOD_UNKNOWN));
}

static void set_deadline(struct ticket *ticket, const struct service_limits *limits)
{
    uint32_t timeout = ticket->frame.timeout_ms == 0 ? limits->default_timeout_ms : ticket->frame.timeout_ms;
    if (timeout > limits->max_timeout_ms) {
        timeout = limits->max_timeout_ms;
    }
    ticket->call.received_us = ticket->exchange->received_us;
    ticket->call.deadline_us = ticket->exchange->received_us + (int64_t) timeout * 1000;
}

static cof_code check_age(struct ticket *ticket, const struct service *service)
{
    const int64_t age_ms = cof_clock_wall(service->clock) / 1000 - cof_uuid_time_ms(&ticket->call.request_id);
    if (age_ms <= (int64_t) service->limits.request_age_max_s * 1000 &&
        age_ms >= -(int64_t) service->limits.request_ahead_max_s * 1000) {
        return COF_OK;
    }
    cof_ignore(cof_fail(&ticket->err, COF_REASON_REQUEST_ID_EXPIRED,
                        "the request ID was made %" PRId64 " s %s by the server's clock; %s",
                        (age_ms < 0 ? -age_ms : age_ms) / 1000, age_ms < 0 ? "in the future" : "ago",
                        cof_reason_next_step(COF_REASON_REQUEST_ID_EXPIRED)));
    return cof_error_fact(&ticket->err, "age_ms", "%" PRId64, age_ms);
}

/* A read may come without an ID; then it gets one for the log. A write may not. */
static cof_code check_request_id(struct ticket *ticket, const struct service *service)
{
    const bool write = ticket->method->class == METHOD_WRITE;
    if (ticket->frame.request_id.len == 0) {
        ticket->call.request_id = cof_uuid_time(service->clock);
        return write ? cof_fail(&ticket->err, COF_REASON_REQUEST_ID_INVALID,
                                "the call writes, so it needs a request ID; %s",
                                cof_reason_next_step(COF_REASON_REQUEST_ID_INVALID))
                     : COF_OK;
    }
    if (!write) {
        return COF_OK;
    }
    if (cof_uuid_version(&ticket->call.request_id) != UUID_VERSION_TIME) {
        return refuse(ticket, COF_REASON_REQUEST_ID_INVALID);
    }
    return check_age(ticket, service);
}

static cof_code read_token(struct ticket *ticket)
{
    static const char scheme[] = "Bearer ";
    struct cof_slice header;
    if (!cof_metadata_find(&ticket->frame.metadata, "authorization", &header)) {
        return refuse(ticket, COF_REASON_TOKEN_MISSING);
    }
    if (header.len < sizeof scheme - 1 || strncasecmp((const char *) header.data, scheme, sizeof scheme - 1) != 0) {
        return cof_fail(&ticket->err, COF_REASON_TOKEN_MALFORMED,
                        "the metadata authorization does not begin with \"Bearer \"; write Bearer and the token");
    }
    const struct cof_slice text = {header.data + sizeof scheme - 1, header.len - (sizeof scheme - 1)};
    TRY(cof_narrowed_or_whole(text, &ticket->token, &ticket->err));
    ticket->has_token = true;
    return COF_OK;
}

static cof_code check_caller(struct dispatch *dispatch, struct ticket *ticket)
{
    if (ticket->method->access == COF_METHOD_OPEN) {
        return COF_OK;
    }
    TRY(read_token(ticket));
    if (!dispatch_enter_token(dispatch, ticket)) {
        cof_ignore(refuse(ticket, COF_REASON_TOO_MANY_IN_FLIGHT));
        return cof_error_retry_after(&ticket->err, BUSY_RETRY_MS);
    }
    return COF_OK;
}

static cof_code decode(struct ticket *ticket)
{
    const cof_code code = cof_request_frame_decode(ticket->exchange->frame, &ticket->frame, &ticket->err);
    if (ticket->frame.request_id.len == sizeof ticket->call.request_id.bytes) {
        memcpy(ticket->call.request_id.bytes, ticket->frame.request_id.data, sizeof ticket->call.request_id.bytes);
    }
    ticket->malformed = code == COF_INVALID_ARGUMENT && ticket->err.reason == COF_REASON_FRAME_INVALID;
    return code;
}

cof_code admission_check(struct dispatch *dispatch, struct ticket *ticket)
{
    struct service *service = dispatch_options_of(dispatch)->service;
    TRY(decode(ticket));
    TRY(find_method(ticket));
    set_deadline(ticket, &service->limits);
    TRY(check_request_id(ticket, service));
    if (atomic_load(&service->draining) && ticket->method->class != METHOD_INLINE) {
        return admission_draining(ticket);
    }
    return check_caller(dispatch, ticket);
}

cof_code admission_draining(struct ticket *ticket)
{
    cof_ignore(refuse(ticket, COF_REASON_SERVER_DRAINING));
    return cof_error_retry_after(&ticket->err, DRAIN_RETRY_MS);
}

/* It does not count against its token's limit any more: what a fleet's executors wait for takes nothing from them. */
cof_code admission_again(struct dispatch *dispatch, struct ticket *ticket)
{
    const struct parked *parked = ticket->parked;
    TRY(decode(ticket));
    TRY(find_method(ticket));
    set_deadline(ticket, &dispatch_options_of(dispatch)->service->limits);
    ticket->call.request_id = parked->request_id;
    ticket->call.waits = parked->waits;
    ticket->call.waited = parked->wait;
    return ticket->method->access == COF_METHOD_OPEN ? COF_OK : read_token(ticket);
}
