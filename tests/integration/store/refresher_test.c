/* The refresher (server/jobs/refresher.h): several servers, one real database, and a provider that rotates strictly. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/jobs/refresher.h"
#include "tests/integration/store/connections.h"
#include "tests/support/test.h"

#define SECOND INT64_C(1000000)

enum { SERVERS = 3, CONNECTIONS = 40, CALLERS = 5, PATIENCE_S = 120 };

static struct connections fixture;

/* A provider whose refresh tokens are "<connection>-<use>": one that is used again ends everything. */
static struct {
    pthread_mutex_t lock;
    int uses[CONNECTIONS];
    int calls[CONNECTIONS];
    int loses; /* answers that are lost, beginning with the next one */
    int reused;
} provider_model = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct server {
    struct refresher *refresher;
    struct token_clock *clock;
    pthread_mutex_t lock;
    int landed[CONNECTIONS];
    int journaled;
    int forgotten;
} servers[SERVERS];

static const struct provider strict = {
    .id = "p", .refresh_rotates = true, .refresh_rotates_strictly = true, .token_life_s = 3600};

static cof_code provider_of(struct call *call, const struct refresh_rows *rows,
                            const struct provider **ret_provider)
{
    (void) call;
    (void) rows;
    *ret_provider = &strict;
    return COF_OK;
}

static void answer_granted(struct refresher *refresher, uint64_t ticket, int connection, int use)
{
    char access[32];
    char refresh[32];
    (void) snprintf(access, sizeof access, "access-%d-%d", connection, use);
    (void) snprintf(refresh, sizeof refresh, "%d-%d", connection, use);
    const struct refresher_answer answer = {
        .meaning = {.verdict = TOKEN_GRANTED, .life = 3600 * SECOND},
        .tokens = {.access_token = cof_slice_text(access), .refresh_token = cof_slice_text(refresh)},
    };
    refresher_answered(refresher, ticket, &answer);
}

static void answer_lost(struct refresher *refresher, uint64_t ticket)
{
    const struct refresher_answer answer = {
        .meaning = {.verdict = TOKEN_UNAVAILABLE, .lost = true, .may_be_spent = true},
        .failure = {COF_REASON_PROVIDER_UNAVAILABLE, cof_slice_text("")},
    };
    refresher_answered(refresher, ticket, &answer);
}

/* Losing an answer here means that the request did not arrive either, so the second try succeeds. */
static void ask_provider(void *context, const struct refresher_request *request)
{
    struct server *server = context;
    char text[32] = "";
    memcpy(text, request->refresh_token.data,
           request->refresh_token.len < sizeof text - 1 ? request->refresh_token.len : sizeof text - 1);
    char *dash = text;
    const long connection = strtol(text, &dash, 10);
    int use = *dash == '-' ? (int) strtol(dash + 1, NULL, 10) : -1;
    const bool known = use >= 0 && connection >= 0 && connection < CONNECTIONS;
    (void) pthread_mutex_lock(&provider_model.lock);
    const bool loses = known && provider_model.loses > 0 && provider_model.loses-- > 0;
    if (known) {
        provider_model.calls[connection]++;
        provider_model.reused += provider_model.uses[connection] != use;
        provider_model.uses[connection] += !loses;
        use = provider_model.uses[connection];
    }
    (void) pthread_mutex_unlock(&provider_model.lock);
    if (loses || !known) {
        answer_lost(server->refresher, request->ticket);
    } else {
        answer_granted(server->refresher, request->ticket, (int) connection, use);
    }
}

static bool journal_put(void *context, const struct refresher_entry *entry)
{
    struct server *server = context;
    (void) pthread_mutex_lock(&server->lock);
    server->journaled += entry->tokens.access_token.len > 0;
    (void) pthread_mutex_unlock(&server->lock);
    return true;
}

static void journal_forget(void *context, const struct cof_uuid *connection)
{
    struct server *server = context;
    (void) connection;
    (void) pthread_mutex_lock(&server->lock);
    server->forgotten++;
    (void) pthread_mutex_unlock(&server->lock);
}

static void landed(void *context, const struct cof_uuid *connection, refresh_outcome outcome)
{
    struct server *server = context;
    (void) pthread_mutex_lock(&server->lock);
    server->landed[connection->bytes[15]] += outcome == REFRESH_FRESH;
    (void) pthread_mutex_unlock(&server->lock);
}

static cof_code start_server(size_t number)
{
    struct server *server = &servers[number];
    static const struct cof_log silent = {0};
    *server = (struct server){0};
    (void) pthread_mutex_init(&server->lock, NULL);
    TRY(token_clock_new(&server->clock, &fixture.err));
    const struct refresher_options options = {
        .log = &silent,
        .session = connections_session_options(&fixture),
        .service = &fixture.service,
        .clock = server->clock,
        .pool = fixture.pool,
        .server = {.bytes = {[15] = (uint8_t) (100 + number)}},
        .rules = &refresh_default_rules,
        .interval_ms = 1000,
        .at_once = 64,
        .memory = 1 << 18,
        .provider = provider_of,
        .send = ask_provider,
        .journal_put = journal_put,
        .journal_forget = journal_forget,
        .landed = landed,
        .context = server,
    };
    TRY(refresher_new(&options, &server->refresher, &fixture.err));
    return refresher_start(server->refresher, &fixture.err);
}

static void stop_server(size_t number)
{
    refresher_stop(servers[number].refresher);
    token_clock_free(servers[number].clock);
    (void) pthread_mutex_destroy(&servers[number].lock);
}

static int landed_on(size_t server, size_t connection)
{
    (void) pthread_mutex_lock(&servers[server].lock);
    const int count = servers[server].landed[connection];
    (void) pthread_mutex_unlock(&servers[server].lock);
    return count;
}

/* Everybody who waited has been told. */
static bool all_landed(size_t server_count, size_t connection_count)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    const int64_t end = cof_clock_monotonic(&cof_system_clock) + PATIENCE_S * SECOND;
    for (size_t i = 0; i < server_count * connection_count;) {
        if (landed_on(i / connection_count, i % connection_count) > 0) {
            i++;
        } else if (cof_clock_monotonic(&cof_system_clock) > end) {
            return false;
        } else {
            (void) nanosleep(&pause, NULL);
        }
    }
    return true;
}

static void reset_provider(int loses)
{
    memset(provider_model.uses, 0, sizeof provider_model.uses);
    memset(provider_model.calls, 0, sizeof provider_model.calls);
    provider_model.loses = loses;
    provider_model.reused = 0;
}

static void want(size_t server, size_t connection)
{
    const struct refresh_wish wish = {.want = REFRESH_WANT_TOKEN};
    const struct cof_uuid uuid = connections_uuid(connection);
    while (!refresher_want(servers[server].refresher, &connections_workspace, &uuid, &wish,
                           cof_clock_monotonic(&cof_system_clock) + PATIENCE_S * SECOND)) {
        const struct timespec pause = {.tv_nsec = 1000000};
        (void) nanosleep(&pause, NULL);
    }
}

static cof_code read_rows(size_t connection, struct refresh_rows *ret_rows)
{
    const struct cof_uuid uuid = connections_uuid(connection);
    return refresh_rows_read(connections_call(&fixture), &connections_workspace, &uuid, ret_rows);
}

static void many_callers_on_three_servers_cost_one_request_for_each_token(void)
{
    CHECK_OK(connections_start(&fixture, CONNECTIONS), &fixture.err);
    reset_provider(0);
    for (size_t i = 0; i < SERVERS; i++) {
        CHECK_OK(start_server(i), &fixture.err);
    }
    for (size_t i = 0; i < (size_t) SERVERS * CONNECTIONS * CALLERS; i++) {
        want(i % SERVERS, i / SERVERS % CONNECTIONS);
    }
    CHECK(all_landed(SERVERS, CONNECTIONS));
    for (size_t i = 0; i < CONNECTIONS; i++) {
        struct refresh_rows rows;
        CHECK_INT(provider_model.calls[i], 1);
        CHECK_OK(read_rows(i, &rows), &fixture.err);
        CHECK_INT(rows.token.generation, 2);
        CHECK_INT(rows.token.state, CONNECTION_CONNECTED);
    }
    CHECK_INT(provider_model.reused, 0);
    for (size_t i = 0; i < SERVERS; i++) {
        stop_server(i);
        CHECK_INT(servers[i].journaled, servers[i].forgotten);
    }
    connections_stop(&fixture);
}

static void a_lost_answer_costs_one_more_request_and_two_end_in_a_person(void)
{
    struct refresh_rows rows;
    CHECK_OK(connections_start(&fixture, 2), &fixture.err);
    reset_provider(1);
    CHECK_OK(start_server(0), &fixture.err);
    want(0, 0);
    CHECK(all_landed(1, 1));
    CHECK_INT(provider_model.calls[0], 2);
    CHECK_OK(read_rows(0, &rows), &fixture.err);
    CHECK_INT(rows.token.generation, 2);
    CHECK_INT(rows.lease.tries, 0);
    provider_model.loses = 10;
    want(0, 1);
    do {
        CHECK_OK(read_rows(1, &rows), &fixture.err);
    } while (rows.token.state == CONNECTION_CONNECTED);
    CHECK_INT(rows.token.state, CONNECTION_REAUTH_REQUIRED);
    CHECK_INT(rows.lease.tries, 2);
    CHECK_INT(provider_model.calls[1], 2);
    stop_server(0);
    connections_stop(&fixture);
}

static struct refresher_entry entry_of(size_t connection, const char *access)
{
    return (struct refresher_entry){
        .workspace = connections_workspace,
        .connection = connections_uuid(connection),
        .store = {.kind = REFRESH_DO_STORE,
                  .fence = 1,
                  .generation = 1,
                  .next = REFRESH_NEVER,
                  .status = REFRESH_CONNECTED,
                  .obtained = SECOND,
                  .expires = REFRESH_NEVER},
        .tokens = {.access_token = cof_slice_text(access), .refresh_token = cof_slice_text("later")},
    };
}

static void what_a_journal_kept_is_stored_unless_the_tokens_have_moved_on(void)
{
    struct refresh_rows rows;
    struct cof_slice token;
    CHECK_OK(connections_start(&fixture, 1), &fixture.err);
    reset_provider(0);
    CHECK_OK(start_server(0), &fixture.err);
    const struct refresher_entry first = entry_of(0, "recovered");
    CHECK(refresher_recover(servers[0].refresher, &first));
    CHECK(all_landed(1, 1));
    const struct refresher_entry stale = entry_of(0, "stale");
    CHECK(refresher_recover(servers[0].refresher, &stale));
    while (landed_on(0, 0) < 2) {
        const struct timespec pause = {.tv_nsec = 10000000};
        (void) nanosleep(&pause, NULL);
    }
    CHECK_OK(read_rows(0, &rows), &fixture.err);
    CHECK_INT(rows.token.generation, 2);
    CHECK_OK(refresh_rows_access_token(&fixture.call, &rows, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("recovered")));
    stop_server(0);
    CHECK_INT(servers[0].forgotten, 2);
    connections_stop(&fixture);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(many_callers_on_three_servers_cost_one_request_for_each_token),
        TEST(a_lost_answer_costs_one_more_request_and_two_end_in_a_person),
        TEST(what_a_journal_kept_is_stored_unless_the_tokens_have_moved_on),
    };
    struct cof_error err;
    if (crypto_start(1 << 19, 0, &err) != COF_OK) {
        return 1;
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
