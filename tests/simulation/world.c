#include "tests/simulation/world.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#define SECOND INT64_C(1000000)
#define MILLISECOND INT64_C(1000)

enum { WILD_S = 240, QUIET_S = 360, SCAN_S = 8, RESOLVE_S = 12, WAIT_S = 15, STUCK_S = 90 };

const char *world_lie_text(world_lie lie)
{
    static const char *const TEXTS[LIES] = {
#define LIE(name, text) [LIE_##name] = (text),
        WORLD_LIES(LIE)
#undef LIE
    };
    return TEXTS[lie];
}

/* splitmix64. */
uint64_t world_random(struct world *world, uint64_t below)
{
    world->random += 0x9e3779b97f4a7c15U;
    uint64_t value = world->random;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
    return (value ^ (value >> 31)) % below;
}

bool world_chance(struct world *world, uint32_t thousandth)
{
    return world_random(world, 1000) < thousandth;
}

int64_t world_database_time(const struct world *world)
{
    return world->now + world->database_jump;
}

int64_t world_token_time(const struct world *world)
{
    return world_database_time(world) + world->ahead;
}

void world_trace(struct world *world, const char *format, ...)
{
    va_list arguments;
    if (world->trace == NULL) {
        return;
    }
    (void) fprintf(world->trace, "%11.6f  ", (double) world->now / SECOND);
    va_start(arguments, format);
    (void) vfprintf(world->trace, format, arguments);
    va_end(arguments);
    (void) fputc('\n', world->trace);
}

void world_fault(struct world *world, int connection, const char *text)
{
    world_trace(world, "FAULT: connection %d: %s", connection, text);
    if (world->fault[0] == '\0') {
        (void) snprintf(world->fault, sizeof world->fault, "connection %d at %lld ms: %.80s", connection,
                        (long long) (world->now / MILLISECOND), text);
    }
}

/* --- The order of things -------------------------------------------------------------------------------------- */

static bool before(const struct world *world, int left, int right)
{
    const struct happening *a = &world->pool[world->heap[left]];
    const struct happening *b = &world->pool[world->heap[right]];
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void swap(struct world *world, int left, int right)
{
    const int place = world->heap[left];
    world->heap[left] = world->heap[right];
    world->heap[right] = place;
}

static void rise(struct world *world, int index)
{
    while (index > 0 && before(world, index, (index - 1) / 2)) {
        swap(world, index, (index - 1) / 2);
        index = (index - 1) / 2;
    }
}

static void sink(struct world *world, int index)
{
    for (;;) {
        int first = index;
        for (int child = 2 * index + 1; child <= 2 * index + 2 && child < world->heap_count; child++) {
            first = before(world, child, first) ? child : first;
        }
        if (first == index) {
            return;
        }
        swap(world, index, first);
        index = first;
    }
}

struct happening *world_add(struct world *world, happening_kind kind, int64_t at)
{
    assert(world->heap_count < WORLD_HAPPENINGS);
    struct happening *happening = &world->pool[world->heap[world->heap_count]];
    *happening = (struct happening){.kind = kind, .at = at, .order = world->order++};
    rise(world, world->heap_count++);
    return happening;
}

struct happening *world_follow(struct world *world, const struct happening *from, happening_kind kind, int64_t at)
{
    struct happening *happening = world_add(world, kind, at);
    const uint32_t order = happening->order;
    *happening = *from;
    happening->kind = kind;
    happening->at = at;
    happening->order = order;
    return happening;
}

static struct happening take_first(struct world *world)
{
    const struct happening first = world->pool[world->heap[0]];
    world->heap_count--;
    swap(world, 0, world->heap_count);
    sink(world, 0);
    return first;
}

/* --- What happens --------------------------------------------------------------------------------------------- */

static void again(struct world *world, const struct happening *happening, int64_t after)
{
    struct happening *next = world_add(world, happening->kind, world->now + after);
    next->server = happening->server;
    next->connection = happening->connection;
}

static void commit(struct world *world, const struct happening *happening)
{
    struct happening told = *happening;
    told.result = REFRESH_NO_STORE;
    if (world->database_up) {
        told.result = model_commit(world, happening, &told.claim);
        const bool unheard = !world->quiet && world_chance(world, 20);
        told.result = unheard ? REFRESH_NO_STORE : told.result;
    }
    told.refresh = world->connections[happening->connection].row.refresh;
    (void) world_follow(world, &told, HAPPENS_DELIVER,
                        world->now + 1 + (int64_t) world_random(world, 20 * MILLISECOND));
}

static void reach_provider(struct world *world, const struct happening *happening)
{
    struct exchange *exchange = &world->exchanges[happening->exchange];
    struct happening told = *happening;
    bool lost;
    model_answer(world, exchange, &told.answer, &lost);
    if (lost) {
        exchange->unanswered = true;
        world->connections[exchange->connection].excused = true;
        world->lost++;
    }
    const int64_t hang = exchange->sent + refresh_default_rules.call_us - world->now;
    const int64_t soon = 1 + (int64_t) world_random(world, (lost ? 20 : 5) * (uint64_t) SECOND);
    told.result = REFRESH_ANSWERED;
    (void) world_follow(world, &told, HAPPENS_DELIVER, world->now + (lost && soon > hang ? hang : soon));
}

static void crash(struct world *world, const struct happening *happening)
{
    if (world->quiet || !world->servers[happening->server].up) {
        return;
    }
    server_crash(world, happening->server);
    struct happening *start =
        world_add(world, HAPPENS_START, world->now + SECOND * (1 + (int64_t) world_random(world, 60)));
    start->server = happening->server;
}

static void start(struct world *world, int server)
{
    if (!world->servers[server].up) {
        world_trace(world, "server %d starts", server);
        server_start(world, server);
    }
}

/* Whoever has a lease may be unable to say what has become of his try. */
static void database_down(struct world *world)
{
    if (world->quiet) {
        return;
    }
    world->database_up = false;
    world_trace(world, "the database is down");
    for (int i = 0; i < WORLD_CONNECTIONS; i++) {
        struct connection_model *connection = &world->connections[i];
        connection->excused = connection->excused || connection->row.leased;
    }
}

static bool awake(const struct world *world, int server)
{
    return world->servers[server].up && world->servers[server].frozen_until <= world->now;
}

/* Whoever is there notices within a second; nobody knows if all are away. */
static void go_back(struct world *world)
{
    const int64_t by =
        world_chance(world, 300) ? SECOND / 2 : (int64_t) world_random(world, 7200) * SECOND + MILLISECOND;
    int server = 0;
    while (server < WORLD_SERVERS && !awake(world, server)) {
        server++;
    }
    if (server == WORLD_SERVERS || !world->database_up) {
        return;
    }
    world->database_jump -= by;
    world_trace(world, "the database's clock goes back by %lld ms", (long long) (by / MILLISECOND));
    server_look(world, server);
}

/* The database's clock goes ahead or back by any time; those of servers do what they like. */
static void jump(struct world *world)
{
    if (world->quiet) {
        return;
    }
    for (int i = 0; i < WORLD_SERVERS; i++) {
        world->servers[i].wall_jump = ((int64_t) world_random(world, 7200) - 3600) * SECOND;
    }
    if (world_chance(world, 500)) {
        go_back(world);
    } else {
        world->jumped = true;
        world->database_jump += (int64_t) world_random(world, 200) * SECOND;
        world_trace(world, "the database's clock jumps ahead");
    }
}

static void begin_quiet(struct world *world)
{
    world->quiet = true;
    world->database_up = true;
    world_trace(world, "nothing goes wrong any more");
    for (int i = 0; i < WORLD_SERVERS; i++) {
        start(world, i);
    }
}

static void check_stuck(struct world *world)
{
    for (int i = 0; i < WORLD_SERVERS * WORLD_CONNECTIONS; i++) {
        const struct slot *slot = &world->servers[i / WORLD_CONNECTIONS].slots[i % WORLD_CONNECTIONS];
        if (slot->busy && world->now - slot->since > STUCK_S * SECOND) {
            world_fault(world, i % WORLD_CONNECTIONS, "a refresh never ends");
        }
    }
}

static void end(struct world *world)
{
    check_stuck(world);
    model_check_end(world);
    world->ended = true;
}

/* Who comes anew, and who has waited and looks again. */
static void resolve(struct world *world, const struct happening *happening)
{
    if (happening->asked != 0) {
        if (!server_absent(world, happening)) {
            server_resolve(world, happening->server, happening->connection, happening->asked);
        }
        return;
    }
    again(world, happening, 1 + (int64_t) world_random(world, (uint64_t) (RESOLVE_S * SECOND * 2)));
    if (awake(world, happening->server)) {
        server_resolve(world, happening->server, happening->connection, world->now + WAIT_S * SECOND);
    }
}

static void scan(struct world *world, const struct happening *happening)
{
    again(world, happening, SCAN_S * SECOND);
    if (awake(world, happening->server)) {
        server_scan(world, happening->server);
    }
}

/* What the machines and their servers do. */
static bool happens_inside(struct world *world, const struct happening *happening)
{
    switch (happening->kind) {
    case HAPPENS_PERFORM:
        if (!server_absent(world, happening)) {
            server_perform(world, happening);
        }
        return true;
    case HAPPENS_DELIVER:
        if (!server_absent(world, happening)) {
            server_deliver(world, happening);
        }
        return true;
    case HAPPENS_COMMIT:
        commit(world, happening);
        return true;
    case HAPPENS_PROVIDER:
        reach_provider(world, happening);
        return true;
    case HAPPENS_RESOLVE:
        resolve(world, happening);
        return true;
    case HAPPENS_SCAN:
        scan(world, happening);
        return true;
    default:
        return false;
    }
}

/* What is done to them. */
static void happens_outside(struct world *world, const struct happening *happening)
{
    struct connection_model *connection = &world->connections[happening->connection];
    switch (happening->kind) {
    case HAPPENS_CRASH:
        crash(world, happening);
        return;
    case HAPPENS_START:
        start(world, happening->server);
        return;
    case HAPPENS_FREEZE:
        server_freeze(world, happening->server);
        return;
    case HAPPENS_DATABASE_DOWN:
        database_down(world);
        return;
    case HAPPENS_DATABASE_UP:
        world->database_up = true;
        world_trace(world, "the database is up");
        return;
    case HAPPENS_CLOCK_JUMP:
        jump(world);
        return;
    case HAPPENS_REVOKE:
        connection->provider.dead = true;
        connection->revoked = true;
        return;
    case HAPPENS_RECONNECT:
        model_reconnect(world, happening->connection);
        return;
    case HAPPENS_QUIET:
        begin_quiet(world);
        return;
    default:
        end(world);
        return;
    }
}

/* --- A world -------------------------------------------------------------------------------------------------- */

static void make_connection(struct world *world, int connection)
{
    static const refresh_rotation ROTATIONS[] = {REFRESH_ROTATES_PERHAPS, REFRESH_ROTATES_NEVER,
                                                 REFRESH_ROTATES_STRICTLY};
    struct provider_model *provider = &world->connections[connection].provider;
    provider->rotation = ROTATIONS[world_random(world, 3)];
    provider->told = world_chance(world, 300) ? REFRESH_ROTATES_PERHAPS : provider->rotation;
    provider->own_grant = world_chance(world, 150);
    provider->ends_old_access = world_chance(world, 150);
    provider->grace = (int64_t) world_random(world, 30) * SECOND;
    provider->life = (30 + (int64_t) world_random(world, 200)) * SECOND;
    provider->lost = world_chance(world, 500) ? (uint32_t) world_random(world, 400) : 0;
    provider->unavailable = world_chance(world, 500) ? (uint32_t) world_random(world, 400) : 0;
    provider->unsent = world_chance(world, 300) ? (uint32_t) world_random(world, 300) : 0;
    model_reconnect(world, connection);
}

static void plan_fault(struct world *world)
{
    static const happening_kind KINDS[] = {HAPPENS_CRASH,  HAPPENS_CRASH,         HAPPENS_FREEZE,
                                           HAPPENS_FREEZE, HAPPENS_DATABASE_DOWN, HAPPENS_CLOCK_JUMP,
                                           HAPPENS_REVOKE, HAPPENS_RECONNECT};
    const int64_t at = (int64_t) world_random(world, WILD_S * (uint64_t) SECOND);
    const happening_kind kind = KINDS[world_random(world, sizeof KINDS / sizeof KINDS[0])];
    struct happening *happening = world_add(world, kind, at);
    happening->server = (int) world_random(world, WORLD_SERVERS);
    happening->connection = (int) world_random(world, WORLD_CONNECTIONS);
    if (kind == HAPPENS_DATABASE_DOWN) {
        (void) world_add(world, HAPPENS_DATABASE_UP, at + SECOND * (1 + (int64_t) world_random(world, 60)));
    }
}

static void begin(struct world *world)
{
    for (int i = 0; i < WORLD_HAPPENINGS; i++) {
        world->heap[i] = i;
    }
    world->database_up = true;
    world->crashes = world_chance(world, 200) ? 20 : 0;
    world->freezes = world_chance(world, 200) ? 20 : 0;
    for (int i = 0; i < WORLD_CONNECTIONS; i++) {
        make_connection(world, i);
    }
    for (int i = 0; i < WORLD_SERVERS; i++) {
        server_start(world, i);
        world_add(world, HAPPENS_SCAN, (int64_t) world_random(world, SCAN_S * (uint64_t) SECOND))->server = i;
        for (int k = 0; k < WORLD_CONNECTIONS; k++) {
            struct happening *happening =
                world_add(world, HAPPENS_RESOLVE, (int64_t) world_random(world, RESOLVE_S * (uint64_t) SECOND));
            happening->server = i;
            happening->connection = k;
        }
    }
    for (uint64_t faults = world_random(world, 9); faults > 0; faults--) {
        plan_fault(world);
    }
    (void) world_add(world, HAPPENS_QUIET, WILD_S * SECOND);
    (void) world_add(world, HAPPENS_END, (WILD_S + QUIET_S) * SECOND);
}

void world_run(struct world *world, uint64_t seed, world_lie lie, FILE *trace)
{
    memset(world, 0, offsetof(struct world, exchanges));
    world->random = seed;
    world->lie = lie;
    world->trace = trace;
    begin(world);
    while (!world->ended && world->fault[0] == '\0') {
        const struct happening happening = take_first(world);
        world->now = happening.at;
        if (!happens_inside(world, &happening)) {
            happens_outside(world, &happening);
        }
    }
}
