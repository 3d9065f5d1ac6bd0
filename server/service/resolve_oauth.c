#include "server/service/resolve_oauth.h"

#include "common/name.h"
#include "server/crypto/crypto.h"
#include "server/service/connection_exchange.h"
#include "server/service/resolve_wanted.h"
#include "server/service/token_clock.h"
#include "server/service/token_source.h"

enum {
    SECOND = 1000000,
    PENDING_MS = 200, /* after which a pending result is worth asking for again */
    LATER_MS = 1000,
    RETRY_MOST_MS = 3600000,
    VALIDITY_MOST_S = 1 << 30,
};

/* One token that is asked for. */
struct asking {
    struct call *call;
    struct plan *plan;
    struct wanted wanted;
    struct oauth_token *token;
    const struct provider *provider;
    struct refresh_rows rows;
    struct refresh_facts facts;
    struct refresh_wish wish;
};

/* --- Names ---------------------------------------------------------------------------------------------------- */

static cof_code wrong_key(struct call *call, const struct wanted *wanted, struct lookup *lookup)
{
    char *prefix = cof_arena_text(call->arena, wanted->provider);
    for (char *c = prefix; c != NULL && *c != '\0'; c++) {
        *c = (char) (*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    }
    lookup->outcome = OUTCOME(EXPRESSION_INVALID);
    lookup->problem =
        prefix == NULL
            ? NULL
            : cof_arena_format(call->arena,
                               "\"%s\" is an OAuth connection, which has no key \"%s\"; its token is %s_USER_TOKEN "
                               "for a user or %s_SERVICE_TOKEN for the application itself",
                               lookup->reference->name, lookup->reference->key, prefix, prefix);
    return lookup->problem == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* --- Outcomes ------------------------------------------------------------------------------------------------- */

static cof_code fails(struct asking *asking, outcome state, uint32_t retry_ms, const char *message)
{
    struct oauth_token *token = asking->token;
    token->state = state;
    token->retry_ms = retry_ms;
    token->problem =
        cof_arena_format(asking->call->arena, "the token of \"%.*s\" in the environment \"%.*s\": %s",
                         (int) token->name.len, (const char *) token->name.data, (int) token->environment.len,
                         (const char *) token->environment.data, message);
    return token->problem == NULL ? cof_arena_exhausted(asking->call->err) : COF_OK;
}

/* What the provider said last; the lease has no MAC, so it is taken for nothing but words. */
static const char *said(const struct asking *asking)
{
    const struct cof_slice text = asking->rows.lease.error_text;
    if (text.len == 0 || !cof_text_valid(text)) {
        return "";
    }
    const char *words = cof_arena_format(asking->call->arena, " (%.*s)", (int) text.len, (const char *) text.data);
    return words == NULL ? "" : words;
}

static cof_code fails_with(struct asking *asking, outcome state, uint32_t retry_ms, const char *what,
                           const char *next)
{
    const char *message = cof_arena_format(asking->call->arena, "%s%s; %s", what, said(asking), next);
    return message == NULL ? cof_arena_exhausted(asking->call->err) : fails(asking, state, retry_ms, message);
}

static void set_value(struct asking *asking, struct cof_slice bytes)
{
    struct oauth_token *token = asking->token;
    token->state = OUTCOME(RESOLVED);
    token->value = (struct value){.key = token->key, .bytes = bytes};
}

/* As a secret that has one key. */
static cof_code hand_out(struct asking *asking)
{
    struct cof_slice bytes = cof_slice_text("checked");
    if (asking->plan->check_only) {
        set_value(asking, bytes);
        return COF_OK;
    }
    TRY(refresh_rows_access_token(asking->call, &asking->rows, &bytes));
    set_value(asking, bytes);
    asking->token->expire_us = asking->facts.expires == REFRESH_NEVER
                                   ? 0
                                   : asking->facts.expires - token_clock_ahead(asking->call->service->token_clock);
    return COF_OK;
}

/* --- Waiting -------------------------------------------------------------------------------------------------- */

/* The old token, as long as it lives. */
static cof_code unavailable(struct asking *asking, uint32_t retry_ms, const char *what)
{
    return refresh_alive(&asking->facts, asking->rows.time)
               ? hand_out(asking)
               : fails_with(asking, OUTCOME(PROVIDER_UNAVAILABLE), retry_ms, what, "repeat the call");
}

static int64_t wait_end(const struct asking *asking)
{
    return call_wait_end(asking->call, plan_deadline(asking->call, asking->plan));
}

static cof_code pend(struct asking *asking, const struct flight *flight)
{
    struct plan *plan = asking->plan;
    const bool pending = plan->item->allow_pending;
    if (!pending && !call_may_wait(asking->call, wait_end(asking))) {
        return unavailable(asking, LATER_MS, "the provider has not answered yet");
    }
    plan->waits = plan->waits || !pending;
    plan->cause = CALL_WAIT_PROVIDER;
    plan->flight = *flight;
    return fails(asking, OUTCOME(PENDING), PENDING_MS, "it is being refreshed; repeat the call");
}

cof_code token_flight_key(const struct cof_uuid *connection, struct flight_key *ret_key, struct cof_error *err)
{
    uint8_t text[sizeof "oauth-token" + sizeof connection->bytes] = "oauth-token";
    memcpy(text + sizeof "oauth-token", connection->bytes, sizeof connection->bytes);
    return crypto_sha256(cof_slice_of(text, sizeof text), ret_key->bytes, err);
}

cof_code token_flight(struct call *call, const struct refresh_rows *rows, const struct provider *provider,
                      struct flight *ret_flight)
{
    uint8_t digest[CRYPTO_DIGEST];
    const char *group = connection_group(call, &rows->row.workspace_id, provider);
    if (group == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(crypto_sha256(cof_slice_text(group), digest, call->err));
    memcpy(ret_flight->group.bytes, digest, sizeof ret_flight->group.bytes);
    return token_flight_key(&rows->row.connection_id, &ret_flight->key, call->err);
}

/* Whoever joins says what he wants as well: it may be more. */
static cof_code fetch(struct asking *asking)
{
    struct call *call = asking->call;
    const struct token_source *source = call->service->tokens;
    struct flight flight;
    if (asking->plan->check_only) {
        return hand_out(asking);
    }
    if (source == NULL) {
        return unavailable(asking, LATER_MS, "this server refreshes no tokens");
    }
    TRY(token_flight(call, &asking->rows, asking->provider, &flight));
    const flight_start start = flights_begin(call->service->flights, &flight.key);
    if (start == FLIGHT_FULL) {
        return unavailable(asking, LATER_MS, "this server waits for too many things");
    }
    if (!source->want(source->context, &asking->plan->workspace, &asking->rows.row.connection_id, &asking->wish,
                      wait_end(asking))) {
        flights_land_if_any(call->service->flights, &flight.key);
        return unavailable(asking, LATER_MS, "this server refreshes too many tokens");
    }
    return pend(asking, &flight);
}

/* --- Deciding ------------------------------------------------------------------------------------------------- */

static uint32_t retry_of(const struct asking *asking)
{
    const int64_t left_us = asking->facts.next == REFRESH_NEVER ? 0 : asking->facts.next - asking->rows.time;
    const int64_t left_ms = left_us / 1000 + 1;
    if (left_us <= 0) {
        return LATER_MS;
    }
    return left_ms < RETRY_MOST_MS ? (uint32_t) left_ms : RETRY_MOST_MS;
}

static cof_code wait_for_provider(struct asking *asking)
{
    const bool configuration = asking->facts.status == REFRESH_MISCONFIGURED;
    return unavailable(asking, retry_of(asking),
                       configuration ? "the provider refuses what the connection is configured with"
                                     : "the provider gives no token");
}

/* One that cannot be refreshed is handed out while it lives. */
static cof_code wait_for_person(struct asking *asking)
{
    if (refresh_alive(&asking->facts, asking->rows.time)) {
        return hand_out(asking);
    }
    return asking->facts.generation == 0 || asking->facts.status == REFRESH_EMPTY
               ? fails(asking, OUTCOME(REAUTH_REQUIRED), 0, "the connection has no tokens yet; connect it")
               : fails_with(asking, OUTCOME(REAUTH_REQUIRED), 0, "the provider takes its tokens no more",
                            "connect it anew");
}

/* Before this server has looked at the clock it does not know whether the database's went back while it was off. */
static bool knows_time(const struct call *call)
{
    int64_t time = 0;
    return call->service->token_clock == NULL || call_token_time(call, &time);
}

static cof_code decide(struct asking *asking)
{
    refresh_rows_facts(&asking->rows, asking->provider, &asking->facts);
    if (!knows_time(asking->call)) {
        return fetch(asking);
    }
    switch (refresh_need_of(&asking->facts, &asking->wish, asking->rows.time)) {
    case REFRESH_USE:
        return hand_out(asking);
    case REFRESH_FETCH:
        return fetch(asking);
    case REFRESH_LATER:
        return wait_for_provider(asking);
    case REFRESH_PERSON:
    case REFRESH_IN_DOUBT:
    case REFRESH_NOT_AT_ALL:
    case REFRESH_FORCED_OFTEN:
        break;
    }
    return wait_for_person(asking);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* A damaged row fails what needs it, and nothing else. */
static cof_code read_failed(struct asking *asking, cof_code code)
{
    struct call *call = asking->call;
    if (code != COF_DATA_LOSS) {
        return code;
    }
    char message[COF_ERROR_MESSAGE_SIZE];
    memcpy(message, call->err->message, sizeof message);
    cof_error_clear(call->err);
    return fails(asking, OUTCOME(CORRUPTED), 0, message);
}

static cof_code read_provider(struct asking *asking, const struct wanted_place *place)
{
    struct oauth_token *token = asking->token;
    token->found.row.secret_id = asking->rows.row.connection_id;
    token->found.row.version = asking->rows.token.generation;
    TRY(connection_exchange_provider_read(asking->call, &asking->rows, place->rows, place->index,
                                          &asking->provider));
    return asking->provider != NULL ? decide(asking)
                                    : fails(asking, OUTCOME(CONNECTION_NOT_FOUND), 0,
                                            "the connection's provider has changed since it was configured, or is "
                                            "gone; configure it anew");
}

static cof_code read_connection(struct asking *asking, const struct wanted_place *place)
{
    bool found = false;
    TRY(refresh_rows_take(asking->call, place->rows, place->index, &found, &asking->rows));
    if (!found) {
        asking->token->state = OUTCOME(CONNECTION_NOT_FOUND);
        return COF_OK;
    }
    return read_provider(asking, place);
}

static cof_code look(struct asking *asking)
{
    struct wanted_connections *connections = asking->plan->connections;
    const struct cof_slice environment = asking->token->environment;
    struct wanted_place place;
    if (!wanted_known(connections, environment, &asking->wanted, &place)) {
        TRY(wanted_read(asking->call, connections, environment, &asking->wanted, &place));
    }
    if (place.token != NULL) {
        *place.token = asking->token;
    }
    const cof_code code = read_connection(asking, &place);
    return code == COF_OK ? COF_OK : read_failed(asking, code);
}

static struct refresh_wish wish_of(const struct plan *plan)
{
    const Google__Protobuf__Duration *asked = plan->item->min_remaining_validity;
    struct refresh_wish wish = {.want = REFRESH_WANT_TOKEN};
    if (asked != NULL) {
        const int64_t seconds = asked->seconds < VALIDITY_MOST_S ? asked->seconds : VALIDITY_MOST_S;
        const int64_t validity = seconds < 0 ? 0 : seconds * SECOND + asked->nanos / 1000;
        wish.validity = validity > 0 ? validity : 1; /* 0 is the default */
    }
    return wish;
}

/* Without the database there is nothing. What is only tried from memory begins anew on a worker. */
static cof_code ask(struct call *call, struct plan *plan, const struct wanted *wanted, struct oauth_token *token)
{
    struct asking asking = {.call = call, .plan = plan, .wanted = *wanted, .token = token, .wish = wish_of(plan)};
    if (call->session == NULL && call->lost && !call->hurried) {
        return fails(&asking, OUTCOME(STORE_UNAVAILABLE), LATER_MS,
                     "the database cannot be reached; repeat the call");
    }
    TRY(call_needs_database(call));
    return look(&asking);
}

/* --- Lookups -------------------------------------------------------------------------------------------------- */

/* What was made of the reference before; NULL: nothing. */
static struct oauth_token *known(const struct plan *plan, struct cof_slice environment, const struct wanted *wanted)
{
    struct wanted_place place;
    return wanted_known(plan->connections, environment, wanted, &place) && place.token != NULL ? *place.token
                                                                                               : NULL;
}

static cof_code add(struct call *call, struct cof_slice environment, const struct lookup *lookup,
                    struct oauth_token **ret_token)
{
    struct oauth_token *token = cof_arena_alloc(call->arena, sizeof *token);
    if (token == NULL) {
        return cof_arena_exhausted(call->err);
    }
    token->environment = environment;
    token->name = lookup->name;
    token->key = lookup->key;
    token->found = (struct found){
        .row = {.name = lookup->name, .environment = environment, .expire_time = ROW_NO_TIME},
        .opened = true,
        .state = OUTCOME(RESOLVED),
        .oauth = token,
    };
    *ret_token = token;
    return COF_OK;
}

static cof_code connections_of(struct call *call, struct plan *plan)
{
    const struct plan *const plans[] = {plan};
    return plan->connections != NULL
               ? COF_OK
               : wanted_new(call, plans, 1, plan->environments, plan->environment_count, &plan->connections);
}

static void take(struct lookup *lookup, struct oauth_token *token)
{
    lookup->outcome = token->state;
    lookup->problem = token->problem;
    lookup->retry_ms = token->retry_ms;
    if (token->state == OUTCOME(RESOLVED)) {
        lookup->found = &token->found;
        lookup->value = &token->value;
    }
}

cof_code oauth_find(struct call *call, struct plan *plan, struct cof_slice environment, struct lookup *lookup)
{
    struct wanted wanted;
    if (!wanted_of(lookup->name, lookup->key, &wanted)) {
        return wrong_key(call, &wanted, lookup);
    }
    TRY(connections_of(call, plan));
    struct oauth_token *token = known(plan, environment, &wanted);
    if (token == NULL) {
        TRY(add(call, environment, lookup, &token));
        TRY(ask(call, plan, &wanted, token));
    }
    take(lookup, token);
    return COF_OK;
}

cof_code oauth_describe(struct call *call, const struct found *found, Coffer__V1__ResolvedSecret *secret,
                        Coffer__V1__ResolveResult *result)
{
    return found->oauth == NULL || found->oauth->expire_us == 0
               ? COF_OK
               : lookup_expires(call, found->oauth->expire_us, secret, result);
}
