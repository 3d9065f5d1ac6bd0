#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "server/refresh/machine.h"

/*
 * A world in which tokens are refreshed: servers that crash, freeze and lose their disks, a database that goes away and
 * whose clock jumps, providers of all makes whose answers get lost. The servers are driven by the real machine
 * (server/refresh/machine.h); everything else is a model. What happens follows from the seed alone.
 */

enum {
    WORLD_SERVERS = 3,
    WORLD_CONNECTIONS = 2,
    WORLD_HAPPENINGS = 512,
    WORLD_EXCHANGES = 1024,
    WORLD_FAULT_TEXT = 160
};

/* What a broken server would do: the simulator must find each of them. */
#define WORLD_LIES(LIE)                                                           \
    LIE(NOTHING, "nothing is broken")                                             \
    LIE(STORE_ANYWAY, "a store does not compare the generation")                  \
    LIE(TAKE_ANYWAY, "a lease is taken although another server has it")           \
    LIE(RECORD_ANYWAY, "a record compares neither fence nor generation")          \
    LIE(NO_JOURNAL, "what is to be journaled is not")                             \
    LIE(NO_RECOVERY, "a journal is not read at the start")                        \
    LIE(FORGET_EARLY, "a journal's entry is removed before its answer is stored") \
    LIE(NO_TRIES, "tries are not remembered")                                     \
    LIE(NEVER_ROTATES, "a provider that rotates is said not to")                  \
    LIE(NOT_STRICT, "one that rotates strictly is said to have a grace")          \
    LIE(SEND_LATE, "what should not leave any more leaves")                       \
    LIE(NO_SETTLING, "a lease that ran out is said to have been given back")      \
    LIE(NOTHING_SPENT, "a lost answer is said to have spent nothing")             \
    LIE(LONGER_LIFE, "tokens are said to live a minute longer")                   \
    LIE(OWN_CLOCK, "the servers' own clocks are used")                            \
    LIE(NO_AHEAD, "a clock that goes back is believed")                           \
    LIE(NO_WAKING, "who waits for another server's lease is not woken")           \
    LIE(NEVER_REFUSED, "refusals are said to be outages")                         \
    LIE(HAND_OUT_OLD, "a token is handed out whatever its age")                   \
    LIE(KEEP_OLD_REFRESH, "a new refresh token is not stored")

typedef enum world_lie {
#define LIE(name, text) LIE_##name,
    WORLD_LIES(LIE)
#undef LIE
        LIES
} world_lie;

const char *world_lie_text(world_lie lie);

/* What became of an answer with tokens. */
typedef enum fate { FATE_NONE, FATE_ARRIVED, FATE_JOURNALED, FATE_STORED, FATE_OUTRUN, FATE_EXCUSED } fate;

/* One request to a provider. */
struct exchange {
    int connection;
    int server;
    int64_t generation;
    int64_t sent;    /* true time */
    bool open;       /* the server still awaits the answer */
    bool unanswered; /* it was lost, or the server with it */
    bool forgiven;   /* a person has begun to count anew since */
    fate fate;
    int refresh;  /* the refresh token that came: its number at the provider */
    int64_t ends; /* true time: of the access token that came */
};

/* Rows of one connection. */
struct row {
    int64_t generation;
    refresh_status status;
    bool present; /* there is an access token */
    int refresh;
    int64_t ends;     /* true time: of the access token */
    int64_t obtained; /* by the database's clock */
    int64_t expires;
    int64_t lease_generation;
    int64_t fence;
    int holder;
    bool leased;
    int64_t lease_until;
    int32_t tries;
    int32_t failures;
    int64_t next;
    int64_t forced;
};

struct provider_model {
    refresh_rotation rotation; /* as it is */
    refresh_rotation told;     /* as the server knows it */
    bool own_grant;
    bool ends_old_access;
    int64_t grace;
    int64_t life;
    int first; /* refresh token of the session */
    int current;
    int64_t rotated; /* true time */
    bool dead;
    /* Of what it does in the wild, a thousandth each. */
    uint32_t lost;
    uint32_t unavailable;
    uint32_t unsent;
};

struct connection_model {
    struct row row;
    struct provider_model provider;
    bool excused; /* an answer was lost on the way, or with a server */
    bool revoked; /* the provider ended it by itself */
};

struct slot {
    struct refresh machine;
    bool busy;
    uint32_t turn; /* of its actions; what belongs to an earlier one is late */
    int64_t since;
    int64_t until; /* true time: until when somebody waits */
    int exchange;  /* -1: none yet */
    int refresh;   /* the refresh token that was read with the lease */
};

struct server_model {
    bool up;
    uint32_t life;   /* the how-manieth */
    int64_t begun;   /* true time */
    int64_t started; /* of its monotonic clock */
    int64_t frozen_until;
    int64_t wall_jump; /* of its own clock */
    int64_t ahead;     /* of the database's row, as it was read last */
    struct refresh_clock clock;
    struct slot slots[WORLD_CONNECTIONS];
    struct refresh_action journal[WORLD_CONNECTIONS]; /* kind STORE: there is an entry */
    int journal_exchange[WORLD_CONNECTIONS];
};

typedef enum happening_kind {
    HAPPENS_PERFORM,  /* the driver does what the machine said */
    HAPPENS_COMMIT,   /* a statement is run by the database */
    HAPPENS_PROVIDER, /* a request arrives at the provider */
    HAPPENS_DELIVER,  /* the machine is told */
    HAPPENS_RESOLVE,
    HAPPENS_SCAN,
    HAPPENS_CRASH,
    HAPPENS_START,
    HAPPENS_FREEZE,
    HAPPENS_DATABASE_DOWN,
    HAPPENS_DATABASE_UP,
    HAPPENS_CLOCK_JUMP,
    HAPPENS_REVOKE,
    HAPPENS_RECONNECT,
    HAPPENS_QUIET, /* nothing goes wrong any more */
    HAPPENS_END,
} happening_kind;

struct happening {
    int64_t at;
    uint32_t order;
    happening_kind kind;
    int server;
    int connection;
    uint32_t life;
    uint32_t turn;
    int64_t asked;   /* mono of the server */
    int64_t ahead;   /* as the server knew it then */
    int64_t carried; /* the time by its clock then */
    int exchange;
    int refresh;
    struct refresh_action action;
    bool by_person; /* the machine that asks the database was told to refresh now */
    refresh_event_kind result;
    struct refresh_claim claim;
    struct refresh_answer answer;
};

struct world {
    uint64_t random;
    world_lie lie;
    FILE *trace; /* NULL: none */
    int64_t now; /* true time */
    bool quiet;
    bool ended;
    bool database_up;
    bool jumped;
    uint32_t crashes; /* of a thousand actions, those around which a server crashes */
    uint32_t freezes; /* of a thousand actions, those before which a server freezes */
    int64_t database_jump;
    int64_t ahead; /* a row: what the database's clock has gone back by, as servers have noticed it */
    struct server_model servers[WORLD_SERVERS];
    struct connection_model connections[WORLD_CONNECTIONS];
    int exchange_count;
    int heap_count;
    uint32_t order;
    char fault[WORLD_FAULT_TEXT]; /* what must not have happened; empty: nothing */
    /* What was seen, so that a simulator that does nothing is noticed. */
    uint64_t sends;
    uint64_t stored;
    uint64_t recovered;
    uint64_t handed_out;
    uint64_t lost;
    /* What is not cleared for the next seed. */
    struct exchange exchanges[WORLD_EXCHANGES];
    struct happening pool[WORLD_HAPPENINGS];
    int heap[WORLD_HAPPENINGS]; /* places in the pool; those behind heap_count are free */
};

/* Lives through one seed. */
void world_run(struct world *world, uint64_t seed, world_lie lie, FILE *trace);

/* world.c, for model.c and servers.c. */
uint64_t world_random(struct world *world, uint64_t below);
bool world_chance(struct world *world, uint32_t thousandth);
struct happening *world_add(struct world *world, happening_kind kind, int64_t at);
/* With all else of what it follows from. */
struct happening *world_follow(struct world *world, const struct happening *from, happening_kind kind, int64_t at);
void world_fault(struct world *world, int connection, const char *text);
void world_trace(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
int64_t world_database_time(const struct world *world);
/* That which tokens and leases live by. */
int64_t world_token_time(const struct world *world);

/* model.c: what the database and the providers do. */
struct refresh_facts model_facts(const struct world *world, int connection);
refresh_event_kind model_commit(struct world *world, const struct happening *happening,
                                struct refresh_claim *ret_claim);
void model_answer(struct world *world, struct exchange *exchange, struct refresh_answer *ret_answer,
                  bool *ret_lost);
void model_check_send(struct world *world, int connection, const struct refresh_action *action);
void model_reconnect(struct world *world, int connection);
bool model_holds(const struct world *world, int server, int connection);
void model_check_end(struct world *world);

/* servers.c: what servers do. */
int64_t server_mono(const struct world *world, int server);
void server_start(struct world *world, int server);
void server_freeze(struct world *world, int server);
void server_crash(struct world *world, int server);
void server_look(struct world *world, int server);
void server_resolve(struct world *world, int server, int connection, int64_t until);
void server_scan(struct world *world, int server);
void server_perform(struct world *world, const struct happening *happening);
void server_deliver(struct world *world, const struct happening *happening);
/* True where the server can do nothing now: it is off, it is another life, or it is frozen and the happening comes again. */
bool server_absent(struct world *world, const struct happening *happening);
