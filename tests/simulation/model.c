#include "tests/simulation/world.h"

#define SECOND INT64_C(1000000)

/* --- The database --------------------------------------------------------------------------------------------- */

static refresh_rotation told(const struct world *world, const struct provider_model *provider)
{
    if (world->lie == LIE_NEVER_ROTATES) {
        return REFRESH_ROTATES_NEVER;
    }
    return world->lie == LIE_NOT_STRICT && provider->told == REFRESH_ROTATES_STRICTLY ? REFRESH_ROTATES_PERHAPS
                                                                                      : provider->told;
}

struct refresh_facts model_facts(const struct world *world, int connection)
{
    const struct row *row = &world->connections[connection].row;
    const struct provider_model *provider = &world->connections[connection].provider;
    return (struct refresh_facts){
        .exists = true,
        .obtainable = true,
        .generation = row->generation,
        .status = row->status,
        .rotation = told(world, provider),
        .own_grant = provider->own_grant,
        .ends_old_access = provider->ends_old_access,
        .obtained = row->obtained,
        .expires = row->present ? row->expires : 0,
        .tries = world->lie == LIE_NO_TRIES ? 0 : row->tries,
        .failures = row->failures,
        .next = row->next,
        .forced = row->forced,
        .spread = (uint64_t) connection,
    };
}

/* A lease that begins when the happening happens. */
static int64_t begins(const struct world *world, const struct happening *happening)
{
    const int64_t time = world_database_time(world) + happening->ahead;
    return time > happening->carried ? time : happening->carried;
}

static refresh_event_kind claim(struct world *world, const struct happening *happening,
                                struct refresh_claim *ret_claim)
{
    struct row *row = &world->connections[happening->connection].row;
    const int64_t time = world_database_time(world) + happening->ahead;
    const bool free = !row->leased || row->lease_until <= time || row->holder == happening->server;
    ret_claim->asked = happening->asked;
    if (!free && world->lie != LIE_TAKE_ANYWAY) {
        ret_claim->facts = model_facts(world, happening->connection);
        return REFRESH_HELD;
    }
    ret_claim->lapsed = world->lie != LIE_NO_SETTLING && row->leased;
    row->fence++;
    row->holder = happening->server;
    row->leased = true;
    row->lease_until = begins(world, happening) + refresh_default_rules.lease_us;
    ret_claim->fence = row->fence;
    ret_claim->facts = model_facts(world, happening->connection);
    return REFRESH_CLAIMED;
}

/* A person says that it may be tried again: what was lost before counts no more, from the record on, whatever becomes of
 * the server that wrote it. */
static void forgive(struct world *world, int connection)
{
    for (int i = 0; i < world->exchange_count; i++) {
        world->exchanges[i].forgiven = world->exchanges[i].forgiven || world->exchanges[i].connection == connection;
    }
}

static refresh_event_kind record(struct world *world, const struct happening *happening)
{
    struct row *row = &world->connections[happening->connection].row;
    const struct refresh_action *action = &happening->action;
    const bool mine = row->fence == action->fence && row->lease_generation <= action->generation;
    if (!mine && world->lie != LIE_RECORD_ANYWAY) {
        return REFRESH_LOST;
    }
    row->tries = action->tries;
    row->lease_until = begins(world, happening) + refresh_default_rules.lease_us;
    row->forced = action->forced ? begins(world, happening) : row->forced;
    if (happening->by_person) {
        forgive(world, happening->connection);
    }
    return REFRESH_DONE;
}

static void put_tokens(struct world *world, struct row *row, const struct refresh_action *action,
                       const struct exchange *exchange)
{
    row->generation = action->generation + 1;
    row->lease_generation = row->generation;
    row->status = action->status;
    row->present = true;
    row->refresh = world->lie == LIE_KEEP_OLD_REFRESH ? row->refresh : exchange->refresh;
    row->ends = exchange->ends;
    row->obtained = action->obtained;
    row->expires = action->expires;
    row->tries = action->tries;
    row->failures = 0;
    row->next = action->next;
    row->leased = row->leased && row->fence != action->fence;
}

static refresh_event_kind store(struct world *world, const struct happening *happening)
{
    struct connection_model *connection = &world->connections[happening->connection];
    struct exchange *exchange = &world->exchanges[happening->exchange];
    const struct refresh_action *action = &happening->action;
    if (connection->row.generation != action->generation && world->lie != LIE_STORE_ANYWAY) {
        exchange->fate = exchange->fate == FATE_STORED ? FATE_STORED : FATE_OUTRUN;
        return REFRESH_OUTRUN;
    }
    if (exchange->fate == FATE_OUTRUN || connection->row.generation > action->generation) {
        world_fault(world, happening->connection, "a token was stored over a newer one");
    }
    put_tokens(world, &connection->row, action, exchange);
    exchange->fate = FATE_STORED;
    world->stored++;
    return REFRESH_STORED;
}

static refresh_event_kind release(struct world *world, const struct happening *happening)
{
    struct row *row = &world->connections[happening->connection].row;
    const struct refresh_action *action = &happening->action;
    if (row->fence != action->fence) {
        return REFRESH_LOST;
    }
    row->leased = false;
    if (row->lease_generation <= action->generation) {
        row->tries = action->tries;
        row->failures = action->failures;
        row->next = action->next;
        row->status = row->generation == action->generation ? action->status : row->status;
    }
    return REFRESH_DONE;
}

refresh_event_kind model_commit(struct world *world, const struct happening *happening,
                                struct refresh_claim *ret_claim)
{
    switch (happening->action.kind) {
    case REFRESH_DO_CLAIM:
        return claim(world, happening, ret_claim);
    case REFRESH_DO_RECORD:
        return record(world, happening);
    case REFRESH_DO_STORE:
        return store(world, happening);
    default:
        return release(world, happening);
    }
}

/* Somebody authorises anew, or for the first time. */
void model_reconnect(struct world *world, int connection)
{
    struct row *row = &world->connections[connection].row;
    struct provider_model *provider = &world->connections[connection].provider;
    provider->dead = false;
    provider->current += 10;
    provider->first = provider->current;
    provider->rotated = 0;
    world->connections[connection].revoked = false;
    row->generation++;
    row->lease_generation = row->generation;
    row->status = REFRESH_CONNECTED;
    row->present = true;
    row->refresh = provider->current;
    row->ends = world->now + provider->life;
    row->obtained = world_token_time(world);
    row->expires = row->obtained + provider->life;
    row->tries = 0;
    row->failures = 0;
    const struct refresh_facts facts = model_facts(world, connection);
    row->next = refresh_due(&facts);
}

/* --- Providers ------------------------------------------------------------------------------------------------ */

static bool accepts(const struct world *world, const struct provider_model *provider, int refresh)
{
    if (provider->dead || refresh < provider->first) {
        return false;
    }
    return provider->own_grant || provider->rotation == REFRESH_ROTATES_NEVER || refresh == provider->current ||
           (provider->rotation == REFRESH_ROTATES_PERHAPS && refresh == provider->current - 1 &&
            world->now - provider->rotated <= provider->grace);
}

static struct refresh_answer granted(struct world *world, struct provider_model *provider,
                                     struct exchange *exchange)
{
    if (provider->rotation != REFRESH_ROTATES_NEVER && !provider->own_grant) {
        provider->current++;
        provider->rotated = world->now;
    }
    exchange->refresh = provider->current;
    exchange->ends = world->now + provider->life;
    return (struct refresh_answer){
        .verdict = TOKEN_GRANTED,
        .life = provider->life + (world->lie == LIE_LONGER_LIFE ? 60 * SECOND : 0),
    };
}

static struct refresh_answer outage(struct world *world)
{
    const bool server_error = world_chance(world, 500);
    return (struct refresh_answer){
        .verdict = TOKEN_UNAVAILABLE,
        .may_be_spent = server_error,
        .retry_after = server_error ? 0 : (int64_t) world_random(world, 20) * SECOND,
    };
}

/* Using a refresh token that was replaced ends its session. */
static struct refresh_answer refused(const struct world *world, struct provider_model *provider, int refresh)
{
    provider->dead = provider->dead || refresh >= provider->first;
    return (struct refresh_answer){
        .verdict = world->lie == LIE_NEVER_REFUSED ? TOKEN_UNAVAILABLE : TOKEN_REFUSED,
    };
}

static bool in_the_wild(struct world *world, uint32_t thousandth)
{
    return !world->quiet && world_chance(world, thousandth);
}

void model_answer(struct world *world, struct exchange *exchange, struct refresh_answer *ret_answer, bool *ret_lost)
{
    struct provider_model *provider = &world->connections[exchange->connection].provider;
    *ret_lost = in_the_wild(world, provider->lost);
    if (in_the_wild(world, provider->unavailable)) {
        *ret_answer = outage(world);
    } else if (accepts(world, provider, exchange->refresh)) {
        *ret_answer = granted(world, provider, exchange);
    } else {
        *ret_answer = refused(world, provider, exchange->refresh);
    }
    if (*ret_lost) {
        *ret_answer = (struct refresh_answer){
            .verdict = TOKEN_UNAVAILABLE, .lost = true, .may_be_spent = world->lie != LIE_NOTHING_SPENT};
    }
}

/* --- What must never happen ----------------------------------------------------------------------------------- */

static bool may_be_spent(const struct provider_model *provider)
{
    return !provider->own_grant && provider->told != REFRESH_ROTATES_NEVER;
}

/* Requests of before with the same grant: how many may have used it up, and whether one is on its way. */
static int count_earlier(const struct world *world, int connection, int64_t generation, bool *ret_under_way)
{
    int unanswered = 0;
    *ret_under_way = false;
    for (int i = 0; i < world->exchange_count; i++) {
        const struct exchange *exchange = &world->exchanges[i];
        if (exchange->connection == connection && exchange->generation == generation && !exchange->forgiven) {
            const bool late = world->now >= exchange->sent + refresh_default_rules.call_us;
            unanswered += exchange->unanswered || (exchange->open && late);
            *ret_under_way = *ret_under_way || (exchange->open && !late);
        }
    }
    return unanswered;
}

/* Whether a server that can store it has what this generation's grant was exchanged for. */
static bool is_there(const struct world *world, int connection, int64_t generation)
{
    for (int i = 0; i < world->exchange_count; i++) {
        const struct exchange *exchange = &world->exchanges[i];
        const struct server_model *server = &world->servers[exchange->server];
        const int64_t awake = server->begun > server->frozen_until ? server->begun : server->frozen_until;
        if (exchange->connection == connection && exchange->generation == generation &&
            (exchange->fate == FATE_ARRIVED || exchange->fate == FATE_JOURNALED) && server->up &&
            world->now - awake > 2 * refresh_default_rules.settle_us) {
            return true;
        }
    }
    return false;
}

void model_check_send(struct world *world, int connection, const struct refresh_action *action)
{
    const struct connection_model *model = &world->connections[connection];
    bool under_way;
    const int unanswered = count_earlier(world, connection, action->generation, &under_way);
    if (under_way && !world->jumped) {
        world_fault(world, connection, "two requests with one grant are under way");
    }
    if (!may_be_spent(&model->provider)) {
        return;
    }
    if (is_there(world, connection, action->generation) && !world->jumped) {
        world_fault(world, connection, "a grant is sent although its answer is there");
    }
    if (unanswered > 1) {
        world_fault(world, connection, "a grant is sent a third time, although two answers were lost");
    }
    if (unanswered > 0 && model->provider.told == REFRESH_ROTATES_STRICTLY && model->row.present &&
        model->row.generation == action->generation && world_token_time(world) + SECOND < model->row.expires) {
        world_fault(world, connection, "a grant that may be spent is sent while its access token lives");
    }
}

/* Whether the server has the lease, so that it may have begun a try. */
bool model_holds(const struct world *world, int server, int connection)
{
    const struct row *row = &world->connections[connection].row;
    return row->leased && row->holder == server;
}

/* Whether a server is at it just now; that it comes to an end is checked elsewhere. */
static bool is_busy(const struct world *world, int connection)
{
    for (int i = 0; i < WORLD_SERVERS; i++) {
        if (world->servers[i].slots[connection].busy) {
            return true;
        }
    }
    return false;
}

static void check_connection(struct world *world, int connection)
{
    const struct connection_model *model = &world->connections[connection];
    const struct refresh_facts facts = model_facts(world, connection);
    const struct refresh_wish wish = {.want = REFRESH_WANT_TOKEN};
    const refresh_need need = refresh_need_of(&facts, &wish, world_token_time(world));
    const bool alive = model->row.present && model->row.ends > world->now;
    const bool excused = model->excused || model->revoked || world->jumped;
    world_trace(
        world,
        "connection %d ends: status %d need %d alive %d excused %d tries %d failures %d next %lld expires %lld",
        connection, (int) model->row.status, (int) need, alive, excused, facts.tries, facts.failures,
        (long long) facts.next, (long long) facts.expires);
    if (!excused && (model->row.status == REFRESH_REAUTHORIZE || need == REFRESH_IN_DOUBT)) {
        world_fault(world, connection, "somebody has to authorise anew for no reason");
    }
    const bool refused = model->revoked && model->row.status == REFRESH_MISCONFIGURED;
    if (need == REFRESH_PERSON || need == REFRESH_IN_DOUBT || alive || refused || is_busy(world, connection)) {
        return;
    }
    if ((need != REFRESH_USE && need != REFRESH_FETCH) || facts.failures > 5) {
        world_fault(world, connection, "nothing goes wrong any more, and there is no token");
    }
}

void model_check_end(struct world *world)
{
    for (int i = 0; i < WORLD_CONNECTIONS; i++) {
        check_connection(world, i);
    }
    for (int i = 0; i < world->exchange_count; i++) {
        const fate end = world->exchanges[i].fate;
        const bool long_ago = world->now - world->exchanges[i].sent > 60 * SECOND;
        if (long_ago && (end == FATE_ARRIVED || end == FATE_JOURNALED)) {
            world_fault(world, world->exchanges[i].connection, "a token that arrived was lost");
        }
    }
}
