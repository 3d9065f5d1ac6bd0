#include "common/trace.h"
#include "server/dispatch/ticket.h"

enum { FIELDS_MAX = 24 };

struct line {
    struct cof_log_field fields[FIELDS_MAX];
    uint32_t count;
};

static void add(struct line *line, struct cof_log_field field)
{
    line->fields[line->count++] = field;
}

/* Everything that an operator needs to find the cause; nothing of it comes from a value. */
static void add_failure(struct line *line, const struct cof_error *err)
{
    add(line, cof_log_text("reason", cof_reason_name(err->reason)));
    add(line, cof_log_text("error", err->message));
    add(line, cof_log_text("field", err->field));
    add(line, cof_log_text("native", err->native));
    add(line, cof_log_text("trail", err->trail));
}

static cof_log_level level_of(cof_code code)
{
    if (code == COF_INTERNAL || code == COF_DATA_LOSS) {
        return COF_LOG_ERROR;
    }
    return code == COF_UNAVAILABLE || code == COF_RESOURCE_EXHAUSTED ? COF_LOG_WARN : COF_LOG_INFO;
}

static bool wanted(const struct dispatch_options *options, cof_code code)
{
    const dispatch_log which = __atomic_load_n(&options->log_requests, __ATOMIC_RELAXED);
    return which == DISPATCH_LOG_ALL || (which == DISPATCH_LOG_FAILED && code != COF_OK);
}

/* One count for each line, also for those that are not written. Returns how long the call has taken. */
static int64_t count(const struct dispatch_options *options, const struct exchange *exchange,
                     const struct method *method, const struct cof_error *err)
{
    const struct metrics_call call = {
        .method = method == NULL ? method_count() : method_index(method),
        .code = err == NULL ? COF_OK : err->code,
        .reason = err == NULL ? COF_REASON_NONE : err->reason,
        .transport = exchange->peer.transport,
        .duration_us = cof_clock_monotonic(options->service->clock) - exchange->received_us,
    };
    metrics_count_call(options->metrics, &call);
    return call.duration_us;
}

/* Callers who are known have a line for each call. */
static bool may_tell(struct dispatch *dispatch, const struct exchange *exchange)
{
    const int64_t now_us = cof_clock_monotonic(dispatch_options_of(dispatch)->service->clock);
    request_log_rest(dispatch, now_us);
    return line_limit_take(dispatch_line_limit(dispatch), &exchange->peer, now_us);
}

void request_log_rest(struct dispatch *dispatch, int64_t now_us)
{
    struct line_limit_rest rest;
    while (line_limit_rest(dispatch_line_limit(dispatch), now_us, &rest)) {
        COF_LOG(dispatch_options_of(dispatch)->log, COF_LOG_WARN, "requests_not_logged",
                "more requests of a peer whom nobody knows had no line of their own",
                cof_log_text("peer", rest.peer), cof_log_number("more", (int64_t) rest.lines),
                cof_log_number("seconds", rest.window_us / 1000000));
    }
}

static void add_peer(struct line *line, const struct exchange *exchange)
{
    add(line, cof_log_text("transport", exchange->peer.transport));
    add(line, cof_log_text("peer", exchange->peer.address));
}

/* What the caller's own spans are found by. */
static void add_trace(struct line *line, const struct cof_metadata *metadata)
{
    struct cof_slice header;
    struct cof_trace trace;
    if (cof_metadata_find(metadata, "traceparent", &header) && cof_trace_parse(header, &trace)) {
        add(line, cof_log_slice("trace_id", trace.trace_id));
        add(line, cof_log_slice("span_id", trace.span_id));
    }
}

void request_log_refused(struct dispatch *dispatch, const struct exchange *exchange, struct cof_slice request_id,
                         const struct cof_error *err)
{
    const struct dispatch_options *options = dispatch_options_of(dispatch);
    struct line line = {.count = 0};
    struct cof_uuid id = {{0}};
    char id_text[COF_UUID_TEXT];
    const int64_t duration_us = count(options, exchange, NULL, err);
    if (!wanted(options, err->code) || !may_tell(dispatch, exchange)) {
        return;
    }
    if (request_id.len == sizeof id.bytes) {
        memcpy(id.bytes, request_id.data, sizeof id.bytes);
    }
    cof_uuid_format(&id, id_text);
    add(&line, cof_log_text("request_id", id_text));
    add(&line, cof_log_text("code", cof_code_name(err->code)));
    add(&line, cof_log_number("dur_us", duration_us));
    add_peer(&line, exchange);
    add_failure(&line, err);
    cof_log_event(options->log, level_of(err->code), "request", "refused", line.fields, line.count);
}

void request_log(struct dispatch *dispatch, const struct ticket *ticket, cof_code code)
{
    const struct dispatch_options *options = dispatch_options_of(dispatch);
    struct line line = {.count = 0};
    char request_id[COF_UUID_TEXT];
    char principal[COF_UUID_TEXT];
    char workspace[COF_UUID_TEXT];
    const int64_t duration_us =
        count(options, ticket->exchange, ticket->method, code == COF_OK ? NULL : &ticket->err);
    if (!wanted(options, code) || (ticket->call.caller == NULL && !may_tell(dispatch, ticket->exchange))) {
        return;
    }
    cof_uuid_format(&ticket->call.request_id, request_id);
    add(&line, cof_log_text("request_id", request_id));
    add(&line, ticket->method == NULL ? cof_log_text("method", "") : cof_log_text("method", ticket->method->name));
    add(&line, cof_log_text("code", cof_code_name(code)));
    add(&line, cof_log_number("dur_us", duration_us));
    if (ticket->queued_us >= 0) {
        add(&line, cof_log_number("queued_us", ticket->queued_us));
    }
    if (ticket->call.caller != NULL) {
        cof_uuid_format(&ticket->caller.principal, principal);
        add(&line, cof_log_text("principal", principal));
        add(&line, cof_log_slice("account", ticket->caller.account.name));
    }
    if (ticket->call.has_workspace) {
        cof_uuid_format(&ticket->call.workspace, workspace);
        add(&line, cof_log_text("workspace", workspace));
    }
    add_peer(&line, ticket->exchange);
    add_trace(&line, &ticket->frame.metadata);
    add(&line, cof_log_number("attempt", ticket->frame.attempt));
    if (ticket->call.replayed) {
        add(&line, cof_log_number("replayed", 1));
    }
    if (ticket->call.waits > 0) {
        add(&line, cof_log_number("waits", ticket->call.waits));
    }
    if (code != COF_OK) {
        add_failure(&line, &ticket->err);
    }
    cof_log_event(options->log, level_of(code), "request", code == COF_OK ? "answered" : "refused", line.fields,
                  line.count);
}
