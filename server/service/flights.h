#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * What this server is asking the outside for (docs/decisions/0021-outside-calls.md): a flight is one such piece of work,
 * a token that is being refreshed or a role that is being taken, under a key that all who need its result make the same
 * way. It has no result: what it brought lies in the database or in a cache of whoever flies it, where calls look for it
 * before they begin to wait, and again afterwards.
 *
 * A handler that finds nothing begins the flight or joins it, says call_wait_for_flight, and fails. Whoever flies it
 * first puts the result where it is looked for, then calls flights_land. No wake-up is lost whatever the order of threads:
 * parking asks, under its lock, whether the flight is still under way, and it ends here before parking is told.
 *
 * Thread-safe; nothing here blocks.
 */

/* SHA-256 of what makes the work the same, with the name of its kind in front. */
struct flight_key {
    uint8_t bytes[32];
};

/* What a limit of waiting calls counts: the provider or the role, whatever the flight. Short, and need not be random. */
struct flight_group {
    uint8_t bytes[16];
};

struct flight {
    struct flight_key key;
    struct flight_group group;
};

typedef enum flight_start {
    FLIGHT_BEGUN,  /* the caller must see to it that it flies, and lands */
    FLIGHT_JOINED, /* somebody does already */
    FLIGHT_FULL,   /* there are too many: the caller answers with what there is */
} flight_start;

struct flights;

/* NULL if there is no memory. `capacity`: how many may be under way. */
struct flights *flights_new(uint32_t capacity);
/* NULL is allowed. */
void flights_free(struct flights *flights);

/* Who is told that a flight has landed: parking. Before the first flight begins. */
void flights_on_landing(struct flights *flights, void (*landed)(void *context, const struct flight_key *key),
                        void *context);

flight_start flights_begin(struct flights *flights, const struct flight_key *key);

/* It is over, well or not; exactly once for each that was begun. */
void flights_land(struct flights *flights, const struct flight_key *key);

/* The same for whoever does not know whether one is under way: if none is, nothing is done. */
void flights_land_if_any(struct flights *flights, const struct flight_key *key);

bool flights_under_way(struct flights *flights, const struct flight_key *key);
uint32_t flights_count(struct flights *flights);
