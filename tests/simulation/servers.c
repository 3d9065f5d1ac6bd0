#include <string.h>

#include "tests/simulation/world.h"

#define SECOND INT64_C(1000000)
#define MILLISECOND INT64_C(1000)

static int64_t moment(struct world *world, int64_t most)
{
    return (int64_t) world_random(world, (uint64_t) most) + 1;
}

/* Monotonic clocks begin somewhere. */
int64_t server_mono(const struct world *world, int server)
{
    return world->now - world->servers[server].started + 1000 * SECOND;
}

static int64_t when_mono(const struct world *world, int server, int64_t mono)
{
    return mono + world->servers[server].started - 1000 * SECOND;
}

bool server_absent(struct world *world, const struct happening *happening)
{
    const struct server_model *server = &world->servers[happening->server];
    if (!server->up || (happening->life != 0 && happening->life != server->life)) {
        return true;
    }
    if (server->frozen_until > world->now) {
        (void) world_follow(world, happening, happening->kind, server->frozen_until);
        return true;
    }
    return false;
}

static int64_t server_time(const struct world *world, int server)
{
    return world->lie == LIE_OWN_CLOCK
               ? world->now + world->servers[server].wall_jump
               : refresh_clock_time(&world->servers[server].clock, server_mono(world, server));
}

void server_freeze(struct world *world, int server)
{
    const int64_t longest = (int64_t) world_random(world, 80) * SECOND;
    if (!world->servers[server].up || world->quiet || world->servers[server].frozen_until > world->now) {
        return;
    }
    world->servers[server].frozen_until = world->now + longest;
    for (int i = 0; i < WORLD_CONNECTIONS; i++) {
        world->connections[i].excused = world->connections[i].excused || model_holds(world, server, i);
    }
    world_trace(world, "server %d is frozen for %lld s", server, (long long) (longest / SECOND));
}

/* --- Machines ------------------------------------------------------------------------------------------------- */

static void give(struct world *world, int server, int connection, const struct refresh_action *action)
{
    struct slot *slot = &world->servers[server].slots[connection];
    struct happening *happening = world_add(world, HAPPENS_PERFORM, world->now + moment(world, 2 * MILLISECOND));
    if (world_chance(world, world->freezes)) {
        server_freeze(world, server);
    }
    if (world_chance(world, world->crashes)) {
        world_add(world, HAPPENS_CRASH, world->now + moment(world, 5 * MILLISECOND))->server = server;
    }
    slot->turn++;
    happening->server = server;
    happening->connection = connection;
    happening->life = world->servers[server].life;
    happening->turn = slot->turn;
    happening->action = *action;
    happening->exchange = slot->exchange;
}

static void wants(struct world *world, int server, int connection, const struct refresh_wish *wish, int64_t until)
{
    struct slot *slot = &world->servers[server].slots[connection];
    slot->until = until > slot->until ? until : slot->until;
    if (slot->busy) {
        refresh_join(&slot->machine, wish);
        return;
    }
    slot->busy = true;
    slot->since = world->now;
    const struct refresh_action action = refresh_begin(&slot->machine, &refresh_default_rules, wish);
    give(world, server, connection, &action);
}

void server_start(struct world *world, int server)
{
    struct server_model *model = &world->servers[server];
    model->up = true;
    model->life++;
    model->started = world->now - moment(world, 50 * SECOND);
    model->frozen_until = 0;
    model->ahead = world->ahead;
    model->clock =
        (struct refresh_clock){.known = true, .offset = world_token_time(world) - server_mono(world, server)};
    memset(model->slots, 0, sizeof model->slots);
    model->begun = world->now;
    for (int i = 0; i < WORLD_CONNECTIONS; i++) {
        struct slot *slot = &model->slots[i];
        slot->exchange = -1;
        if (model->journal[i].kind != REFRESH_DO_STORE || world->lie == LIE_NO_RECOVERY) {
            continue;
        }
        slot->busy = true;
        slot->since = world->now;
        slot->exchange = model->journal_exchange[i];
        world->recovered++;
        const struct refresh_action action =
            refresh_recover(&slot->machine, &refresh_default_rules, &model->journal[i]);
        give(world, server, i, &action);
    }
}

/* What it had in memory is gone, and sometimes its disk. */
void server_crash(struct world *world, int server)
{
    struct server_model *model = &world->servers[server];
    const bool disk_lost = world_chance(world, 200);
    model->up = false;
    for (int i = 0; i < WORLD_CONNECTIONS; i++) {
        world->connections[i].excused = world->connections[i].excused || model_holds(world, server, i);
    }
    for (int i = 0; i < world->exchange_count; i++) {
        struct exchange *exchange = &world->exchanges[i];
        if (exchange->server != server) {
            continue;
        }
        const bool gone =
            exchange->open || exchange->fate == FATE_ARRIVED || (exchange->fate == FATE_JOURNALED && disk_lost);
        exchange->unanswered = exchange->unanswered || exchange->open;
        exchange->open = false;
        if (gone) {
            exchange->fate = FATE_EXCUSED;
            world->connections[exchange->connection].excused = true;
        }
    }
    if (disk_lost) {
        memset(model->journal, 0, sizeof model->journal);
    }
    world_trace(world, "server %d crashed%s", server, disk_lost ? ", its disk is lost" : "");
}

/* --- What a machine has done ---------------------------------------------------------------------------------- */

static struct happening *reply(struct world *world, const struct happening *happening, int64_t after,
                               refresh_event_kind result)
{
    struct happening *told = world_follow(world, happening, HAPPENS_DELIVER, world->now + after);
    told->result = result;
    return told;
}

/* At the database's clock, with what it has gone back by as others have noticed; what it has gone back by since. */
static int64_t look(struct world *world, int server)
{
    struct server_model *model = &world->servers[server];
    const int64_t mono = server_mono(world, server);
    model->ahead = world->ahead;
    return refresh_clock_look(&model->clock, mono - 2 * MILLISECOND, mono, world_token_time(world) - MILLISECOND);
}

static void ask_database(struct world *world, const struct happening *happening)
{
    if (!world->database_up) {
        reply(world, happening, moment(world, 50 * MILLISECOND), REFRESH_NO_STORE);
        return;
    }
    struct happening *commit =
        world_follow(world, happening, HAPPENS_COMMIT, world->now + moment(world, 20 * MILLISECOND));
    commit->asked = server_mono(world, happening->server);
    if (happening->action.kind == REFRESH_DO_CLAIM) {
        (void) look(world, happening->server);
    }
    commit->ahead = world->servers[happening->server].ahead;
    commit->carried = server_time(world, happening->server);
    commit->by_person =
        world->servers[happening->server].slots[happening->connection].machine.wish.want == REFRESH_WANT_NOW;
}

static void send(struct world *world, const struct happening *happening)
{
    struct slot *slot = &world->servers[happening->server].slots[happening->connection];
    const bool late = server_mono(world, happening->server) > happening->action.not_after;
    const bool unsent =
        !world->quiet && world_chance(world, world->connections[happening->connection].provider.unsent);
    if ((late && world->lie != LIE_SEND_LATE) || unsent || world->exchange_count == WORLD_EXCHANGES) {
        reply(world, happening, moment(world, SECOND), REFRESH_ANSWERED)->answer =
            (struct refresh_answer){.verdict = TOKEN_UNAVAILABLE};
        return;
    }
    model_check_send(world, happening->connection, &happening->action);
    slot->exchange = world->exchange_count;
    world->exchanges[world->exchange_count++] = (struct exchange){
        .connection = happening->connection,
        .server = happening->server,
        .generation = happening->action.generation,
        .sent = world->now,
        .open = true,
        .refresh = slot->refresh,
    };
    world->sends++;
    struct happening *arrival =
        world_follow(world, happening, HAPPENS_PROVIDER, world->now + moment(world, 200 * MILLISECOND));
    arrival->exchange = slot->exchange;
}

static void keep_journal(struct world *world, const struct happening *happening)
{
    struct server_model *server = &world->servers[happening->server];
    struct slot *slot = &server->slots[happening->connection];
    if (!world->quiet && world_chance(world, 20)) {
        reply(world, happening, moment(world, 5 * MILLISECOND), REFRESH_FAILED);
        return;
    }
    if (world->lie != LIE_NO_JOURNAL) {
        server->journal[happening->connection] = happening->action;
        server->journal[happening->connection].kind = REFRESH_DO_STORE;
        server->journal_exchange[happening->connection] = slot->exchange;
    }
    world->exchanges[slot->exchange].fate = FATE_JOURNALED;
    if (world->lie == LIE_FORGET_EARLY) {
        server->journal[happening->connection].kind = REFRESH_DO_FORGET;
    }
    reply(world, happening, moment(world, 5 * MILLISECOND), REFRESH_DONE);
}

/* Those who waited look again. */
static void land(struct world *world, const struct happening *happening)
{
    struct slot *slot = &world->servers[happening->server].slots[happening->connection];
    const int64_t until = slot->until;
    slot->busy = false;
    slot->until = 0;
    if (until > world->now) {
        struct happening *again = world_add(world, HAPPENS_RESOLVE, world->now + MILLISECOND);
        again->server = happening->server;
        again->connection = happening->connection;
        again->life = happening->life;
        again->asked = until;
    }
}

static void wait(struct world *world, const struct happening *happening)
{
    const int64_t at = when_mono(world, happening->server, happening->action.not_before);
    if (world->lie != LIE_NO_WAKING) {
        reply(world, happening, at > world->now ? at - world->now : 1, REFRESH_DONE);
    }
}

void server_perform(struct world *world, const struct happening *happening)
{
    world_trace(world, "server %d connection %d does %d: generation %lld fence %lld tries %d", happening->server,
                happening->connection, (int) happening->action.kind, (long long) happening->action.generation,
                (long long) happening->action.fence, happening->action.tries);
    switch (happening->action.kind) {
    case REFRESH_DO_CLAIM:
    case REFRESH_DO_RECORD:
    case REFRESH_DO_STORE:
    case REFRESH_DO_RELEASE:
        ask_database(world, happening);
        return;
    case REFRESH_DO_SEND:
        send(world, happening);
        return;
    case REFRESH_DO_JOURNAL:
        keep_journal(world, happening);
        return;
    case REFRESH_DO_FORGET:
        world->servers[happening->server].journal[happening->connection].kind = REFRESH_DO_FORGET;
        reply(world, happening, MILLISECOND, REFRESH_DONE);
        return;
    case REFRESH_DO_WAIT:
        wait(world, happening);
        return;
    case REFRESH_DO_FINISH:
        land(world, happening);
        return;
    }
}

static void take_answer(struct world *world, const struct happening *happening)
{
    struct slot *slot = &world->servers[happening->server].slots[happening->connection];
    if (slot->exchange < 0 || happening->exchange != slot->exchange) {
        return;
    }
    struct exchange *exchange = &world->exchanges[slot->exchange];
    if (exchange->open) {
        exchange->open = false;
        exchange->fate = happening->answer.verdict == TOKEN_GRANTED ? FATE_ARRIVED : FATE_NONE;
    }
}

void server_deliver(struct world *world, const struct happening *happening)
{
    struct server_model *server = &world->servers[happening->server];
    struct slot *slot = &server->slots[happening->connection];
    const int64_t mono = server_mono(world, happening->server);
    if (!slot->busy || slot->turn != happening->turn) {
        return;
    }
    if (happening->result == REFRESH_CLAIMED) {
        slot->refresh = happening->refresh;
    }
    if (happening->result == REFRESH_ANSWERED) {
        take_answer(world, happening);
    }
    const struct refresh_event event = {
        .kind = happening->result,
        .mono = mono,
        .time = server_time(world, happening->server),
        .until = slot->until == 0 ? 0 : mono + (slot->until - world->now),
        .random = world_random(world, UINT32_MAX),
        .claim = &happening->claim,
        .answer = &happening->answer,
    };
    const struct refresh_action action = refresh_step(&slot->machine, &event);
    give(world, happening->server, happening->connection, &action);
}

/* --- What is wanted of a server ------------------------------------------------------------------------------- */

static void hand_out(struct world *world, int connection)
{
    const struct row *row = &world->connections[connection].row;
    world->handed_out++;
    if (!row->present || row->ends <= world->now) {
        world_fault(world, connection, "an expired token was handed out");
    }
}

static struct refresh_wish random_wish(struct world *world)
{
    if (world_chance(world, 30)) {
        return (struct refresh_wish){.want = REFRESH_WANT_NOW};
    }
    return (struct refresh_wish){
        .want = REFRESH_WANT_TOKEN,
        .validity = world_chance(world, 200) ? (int64_t) world_random(world, 600) * SECOND : 0,
    };
}

void server_look(struct world *world, int server)
{
    const int64_t behind = look(world, server);
    if (behind > 0 && world->lie == LIE_NO_AHEAD) {
        world->servers[server].clock.known = false;
    } else {
        world->ahead += behind;
    }
    if (behind > 0) {
        server_look(world, server);
    }
}

/* Of what a statement says the server believes no time that is before what it knows. */
static int64_t time_of_rows(const struct world *world, int server)
{
    const int64_t carried = server_time(world, server);
    const int64_t told = world_database_time(world) - MILLISECOND + world->servers[server].ahead;
    return told > carried && world->lie != LIE_OWN_CLOCK ? told : carried;
}

void server_resolve(struct world *world, int server, int connection, int64_t until)
{
    if (!world->database_up) {
        return;
    }
    const struct refresh_facts facts = model_facts(world, connection);
    const struct refresh_wish wish = random_wish(world);
    const int64_t time = time_of_rows(world, server);
    const refresh_need need = refresh_need_of(&facts, &wish, time);
    if (need == REFRESH_FETCH) {
        wants(world, server, connection, &wish, until);
    } else if (need == REFRESH_USE || refresh_alive(&facts, time) || world->lie == LIE_HAND_OUT_OLD) {
        hand_out(world, connection);
    }
}

/* The job that looks for what is due. */
void server_scan(struct world *world, int server)
{
    struct server_model *model = &world->servers[server];
    const struct refresh_wish due = {.want = REFRESH_WANT_DUE};
    if (!world->database_up) {
        return;
    }
    server_look(world, server);
    const int64_t time = world_token_time(world);
    for (int i = 0; i < WORLD_CONNECTIONS; i++) {
        const struct row *row = &world->connections[i].row;
        if (!model->slots[i].busy && row->next <= time && (!row->leased || row->lease_until <= time)) {
            wants(world, server, i, &due, 0);
        }
    }
}
