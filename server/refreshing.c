#include "server/refreshing.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "server/jobs/authorizer.h"
#include "server/jobs/refresh_exchange.h"
#include "server/jobs/refresh_keep.h"
#include "server/service/connection_exchange.h"

enum {
    LOOK_MS = 1000, /* between two looks for what is due */
    AT_ONCE = 512,
    VISITS = 256,        /* of this server's own pages, that may wait */
    MEMORY = 512 * 1024, /* of one refresh, most of which it does not take */
    JOURNAL_MEMORY = 2 * JOURNAL_ENTRY_MAX,
    JOURNAL_ENTRIES = 65536,
    JOURNAL_BYTES = 256 * 1024 * 1024,
};

struct refreshing {
    struct refreshing_options options;
    struct refresh_exchange_options exchange;
    struct refresh_keep *keep;
    struct token_clock *clock;
    struct refresher *refresher;
    struct authorizer *authorizer;
    struct token_source source;
    struct authorization_source authorizations;
    atomic_ulong ended[REFRESHING_OUTCOMES];
};

/* --- What the refresher asks for ------------------------------------------------------------------------------ */

static void tell_refresher(void *context, uint64_t ticket, const struct refresher_answer *answer)
{
    refresher_answered(context, ticket, answer);
}

static void send_grant(void *context, const struct refresher_request *request)
{
    const struct refreshing *refreshing = context;
    refresh_exchange_send(&refreshing->exchange, &(struct refresh_exchange_order){
                                                     .call = request->call,
                                                     .rows = request->rows,
                                                     .provider = request->provider,
                                                     .refresh_token = request->refresh_token,
                                                     .not_after = request->not_after,
                                                     .ticket = request->ticket,
                                                     .answered = tell_refresher,
                                                     .context = refreshing->refresher,
                                                 });
}

static bool put(void *context, const struct refresher_entry *entry)
{
    const struct refreshing *refreshing = context;
    return refresh_keep_put(refreshing->keep, entry);
}

static void forget(void *context, const struct cof_uuid *connection)
{
    const struct refreshing *refreshing = context;
    refresh_keep_forget(refreshing->keep, connection, &cof_uuid_zero);
}

/* Many refreshes nobody waits for. */
static void landed(void *context, const struct cof_uuid *connection, refresh_outcome outcome)
{
    struct refreshing *refreshing = context;
    struct flight_key key;
    struct cof_error err;
    atomic_fetch_add(&refreshing->ended[outcome], 1);
    if (token_flight_key(connection, &key, &err) == COF_OK) {
        flights_land_if_any(refreshing->options.service->flights, &key);
    }
}

void refreshing_counts(const struct refreshing *refreshing, uint64_t counts[REFRESHING_OUTCOMES])
{
    for (size_t i = 0; i < REFRESHING_OUTCOMES; i++) {
        counts[i] = atomic_load(&refreshing->ended[i]);
    }
}

const char *refreshing_outcome_name(refresh_outcome outcome)
{
    static const char *const names[REFRESHING_OUTCOMES] = {
        [REFRESH_FRESH] = "FRESH", [REFRESH_REFUSED] = "REFUSED", [REFRESH_UNAVAILABLE] = "UNAVAILABLE",
        [REFRESH_GONE] = "GONE",   [REFRESH_UNKNOWN] = "UNKNOWN", [REFRESH_TOO_OFTEN] = "TOO_OFTEN",
    };
    return names[outcome];
}

/* --- What calls ask for --------------------------------------------------------------------------------------- */

static bool want(void *context, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                 const struct refresh_wish *wish, int64_t until_us)
{
    const struct refreshing *refreshing = context;
    return refresher_want(refreshing->refresher, workspace, connection, wish, until_us);
}

static bool exchange(void *context, const struct cof_uuid *workspace, const struct cof_uuid *authorization,
                     struct cof_slice code)
{
    const struct refreshing *refreshing = context;
    return authorizer_exchange(refreshing->authorizer, workspace, authorization, code);
}

const struct authorization_source *refreshing_authorizations(const struct refreshing *refreshing)
{
    return &refreshing->authorizations;
}

void refreshing_visit(struct refreshing *refreshing, const struct authorizer_visit *visit)
{
    authorizer_visit(refreshing->authorizer, visit);
}

const struct token_source *refreshing_source(const struct refreshing *refreshing)
{
    return &refreshing->source;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static cof_code open_journal(struct refreshing *refreshing, struct cof_error *err)
{
    const struct refreshing_options *options = &refreshing->options;
    const struct refresh_keep_options keep = {
        .journal = {.folder = options->folder,
                    .server = options->server,
                    .keyring = options->service->keyring,
                    .entries = JOURNAL_ENTRIES,
                    .bytes = JOURNAL_BYTES},
        .log = options->log,
        .pool = options->pool,
        .memory = JOURNAL_MEMORY,
    };
    return refresh_keep_open(&keep, &refreshing->keep, err);
}

static cof_code make_refresher(struct refreshing *refreshing, struct cof_error *err)
{
    const struct refreshing_options *options = &refreshing->options;
    const struct refresher_options refresher = {
        .log = options->log,
        .session = options->session,
        .service = options->service,
        .clock = refreshing->clock,
        .pool = options->pool,
        .server = options->server,
        .rules = &refresh_default_rules,
        .interval_ms = LOOK_MS,
        .at_once = AT_ONCE,
        .memory = MEMORY,
        .provider = connection_exchange_provider,
        .send = send_grant,
        .journal_put = put,
        .journal_forget = forget,
        .landed = landed,
        .context = refreshing,
    };
    return refresher_new(&refresher, &refreshing->refresher, err);
}

static cof_code make_authorizer(struct refreshing *refreshing, struct cof_error *err)
{
    const struct refreshing_options *options = &refreshing->options;
    const struct authorizer_options authorizer = {
        .log = options->log,
        .session = options->session,
        .service = options->service,
        .pool = options->pool,
        .exchange = &refreshing->exchange,
        .keep = refreshing->keep,
        .visits = VISITS,
        .memory = MEMORY,
    };
    return authorizer_new(&authorizer, &refreshing->authorizer, err);
}

static bool recover(void *context, const struct refresher_entry *entry)
{
    const struct refreshing *refreshing = context;
    return entry->connects ? authorizer_recover(refreshing->authorizer, entry)
                           : refresher_recover(refreshing->refresher, entry);
}

static cof_code start(struct refreshing *refreshing, struct cof_error *err)
{
    TRY(open_journal(refreshing, err));
    TRY(token_clock_new(&refreshing->clock, err));
    refreshing->options.service->token_clock = refreshing->clock;
    TRY(make_refresher(refreshing, err));
    TRY(make_authorizer(refreshing, err));
    TRY(refresh_keep_recover(refreshing->keep, recover, refreshing, err));
    TRY(authorizer_start(refreshing->authorizer, err));
    return refresher_start(refreshing->refresher, err);
}

static void refreshing_cleanup(struct refreshing **refreshing)
{
    refreshing_stop(*refreshing);
}

cof_code refreshing_start(const struct refreshing_options *options, struct refreshing **ret_refreshing,
                          struct cof_error *err)
{
    AUTO(refreshing_cleanup) struct refreshing *refreshing = calloc(1, sizeof *refreshing);
    if (refreshing == NULL) {
        return cof_arena_exhausted(err);
    }
    refreshing->options = *options;
    refreshing->exchange = (struct refresh_exchange_options){
        .outbound = options->outbound,
        .pool = options->pool,
        .memory = MEMORY,
        .timeout_ms = (uint32_t) (refresh_default_rules.call_us / 1000),
    };
    refreshing->source = (struct token_source){want, refreshing};
    refreshing->authorizations = (struct authorization_source){exchange, refreshing};
    TRY(start(refreshing, err));
    *ret_refreshing = TAKE(refreshing);
    return COF_OK;
}

bool refreshing_settled(struct refreshing *refreshing)
{
    return refreshing == NULL ||
           (refresher_awaited(refreshing->refresher) == 0 && authorizer_awaited(refreshing->authorizer) == 0 &&
            refresh_keep_count(refreshing->keep) == 0);
}

void refreshing_stop(struct refreshing *refreshing)
{
    if (refreshing != NULL) {
        authorizer_stop(refreshing->authorizer);
        refresher_stop(refreshing->refresher);
        refreshing->options.service->token_clock = NULL;
        token_clock_free(refreshing->clock);
        refresh_keep_close(refreshing->keep);
        free(refreshing);
    }
}
