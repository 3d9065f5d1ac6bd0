#include <assert.h>

#include "server/service/call.h"
#include "server/service/token_clock.h"

enum {
    WAITS_MAX = 16,           /* of one call: each costs another run of its handler */
    WAIT_RESERVE_US = 250000, /* most of what is kept of a call's time for its answer; a quarter of it at most */
    WAIT_RESERVE_PART = 4,
};

const struct service_limits service_default_limits = {
    .references_per_item = 1000,
    .environments_per_item = 1000,
    .pairs_per_resolve = 10000,
    .items_per_resolve = 1000,
    .response_bytes = 4U << 20,
    .value_bytes = 64U << 10,
    .secret_bytes = 256U << 10,
    .keys_per_secret = 100,
    .secrets_per_import = 1000,
    .actions_per_workspace = 5000,
    .providers_per_workspace = 200,
    .authorizations_per_workspace = 100,
    .versions_kept = 50,
    .page_size_max = 1000,
    .page_size_default = 100,
    .request_age_max_s = 23 * 3600,
    .request_ahead_max_s = 5 * 60,
    .request_bytes = 1U << 20,
    .max_timeout_ms = 60 * 1000,
    .default_timeout_ms = 10 * 1000,
    .in_flight_per_peer = 4096,
    .in_flight_per_token = 4096,
    .waiting_per_workspace = 1024,
    .watches = 1638,
    .watches_per_workspace = 512,
    .waiting_per_provider = 256,
    .waiting_per_role = 64,
    .changes_followed_ms = 3600 * 1000,
};

cof_code call_needs_database(struct call *call)
{
    if (call->session != NULL) {
        return COF_OK;
    }
    call->needs_database = true;
    if (call->outdated) {
        return cof_fail(
            call->err, COF_REASON_DATABASE_UNAVAILABLE,
            "the database cannot be reached, and what this server has kept of the workspace is older than "
            "its serve_when_database_lost permits; %s",
            cof_reason_next_step(COF_REASON_DATABASE_UNAVAILABLE));
    }
    return cof_fail(call->err, COF_REASON_DATABASE_UNAVAILABLE, "%s; %s",
                    cof_reason_meaning(COF_REASON_DATABASE_UNAVAILABLE),
                    cof_reason_next_step(COF_REASON_DATABASE_UNAVAILABLE));
}

cof_code call_check_deadline(struct call *call)
{
    if (cof_clock_monotonic(call->service->clock) < call->deadline_us) {
        return COF_OK;
    }
    return cof_fail(call->err, COF_REASON_DEADLINE_EXCEEDED, "the time for the call is over; %s",
                    cof_reason_next_step(COF_REASON_DEADLINE_EXCEEDED));
}

int64_t call_wait_end(const struct call *call, int64_t deadline_us)
{
    const int64_t part = (deadline_us - call->received_us) / WAIT_RESERVE_PART;
    return deadline_us - (part < WAIT_RESERVE_US ? part : WAIT_RESERVE_US);
}

bool call_may_wait(const struct call *call, int64_t until_us)
{
    return call->waits < WAITS_MAX && cof_clock_monotonic(call->service->clock) < until_us;
}

void call_wait_for_revision(struct call *call, const struct cof_uuid *workspace, uint64_t revision,
                            int64_t until_us)
{
    call->wait = (struct call_wait){
        .cause = CALL_WAIT_REVISION, .workspace = *workspace, .revision = revision, .until_us = until_us};
}

void call_wait_for_change(struct call *call, const struct cof_uuid *workspace, uint64_t revision, int64_t until_us)
{
    call->wait = (struct call_wait){
        .cause = CALL_WAIT_CHANGE, .workspace = *workspace, .revision = revision, .until_us = until_us};
}

void call_wait_for_flight(struct call *call, call_wait_cause cause, const struct cof_uuid *workspace,
                          const struct flight *flight, int64_t until_us)
{
    assert(cause == CALL_WAIT_PROVIDER || cause == CALL_WAIT_ROLE);
    call->wait =
        (struct call_wait){.cause = cause, .workspace = *workspace, .until_us = until_us, .flight = *flight};
}

int64_t call_now(const struct call *call)
{
    return cof_clock_wall(call->service->clock);
}

bool call_token_time(const struct call *call, int64_t *ret_time)
{
    return token_clock_read(call->service->token_clock, cof_clock_monotonic(call->service->clock), ret_time);
}
