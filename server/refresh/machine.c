#include "server/refresh/machine.h"

#include <assert.h>
#include <stddef.h>

enum { SECOND = 1000000, MINUTE = 60 * SECOND };

/* Of a token's life. */
enum {
    VALIDITY_PART = 5,       /* what is left when resolves want another one */
    VALIDITY_LATE_PART = 10, /* the same where a new token ends the old one */
    ASKED_PART = 2,          /* the most that a caller may ask for */
    MARGIN_PART = 20,        /* what must be left of one that is handed out */
    SPREAD_PART = 10,
    SPREAD_LATE_PART = 40,
};
#define VALIDITY_MOST (5 * (int64_t) MINUTE)
#define VALIDITY_LATE_MOST (30 * (int64_t) SECOND)
#define MARGIN_MOST (5 * (int64_t) SECOND)
/* Tokens that live shorter are refreshed for those only who ask. */
#define LIFE_AHEAD_LEAST ((int64_t) MINUTE)
#define FORCED_PAUSE (30 * (int64_t) SECOND)
/* How far ahead of this server's idea of the time another one's may be. */
#define CLOCKS_DIFFER ((int64_t) MINUTE)

/* By how much the database's clock may go back at once and still be followed; less than MARGIN_MOST. */
#define CLOCK_DRIFT ((int64_t) SECOND)

#define BACKOFF_FIRST ((int64_t) SECOND)
#define BACKOFF_MOST (5 * (int64_t) MINUTE)
#define BACKOFF_CONFIGURATION_FIRST ((int64_t) MINUTE)
#define BACKOFF_CONFIGURATION_MOST (60 * (int64_t) MINUTE)

const struct refresh_rules refresh_default_rules = {
    .call_us = 20 * (int64_t) SECOND,
    .lease_us = 30 * (int64_t) SECOND,
    .settle_us = 3 * (int64_t) SECOND,
    .again_us = SECOND / 4,
    .held_us = SECOND / 5,
    .held_most_us = SECOND,
};

/* --- What is needed ------------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool has_token(const struct refresh_facts *facts)
{
    return facts->expires != 0;
}

/* Of a token that expires. */
static int64_t life_of(const struct refresh_facts *facts)
{
    return most(facts->expires - facts->obtained, 0);
}

static int64_t margin_of(const struct refresh_facts *facts)
{
    return least(MARGIN_MOST, life_of(facts) / MARGIN_PART);
}

static int64_t left_of(const struct refresh_facts *facts, int64_t time)
{
    return facts->expires == REFRESH_NEVER ? REFRESH_NEVER : facts->expires - time;
}

bool refresh_alive(const struct refresh_facts *facts, int64_t time)
{
    return has_token(facts) && (facts->expires == REFRESH_NEVER || left_of(facts, time) > margin_of(facts));
}

int64_t refresh_validity(const struct refresh_facts *facts, int64_t asked)
{
    const int64_t life = life_of(facts);
    if (asked > 0) {
        return most(least(asked, life / ASKED_PART), margin_of(facts));
    }
    return facts->ends_old_access ? least(VALIDITY_LATE_MOST, life / VALIDITY_LATE_PART)
                                  : least(VALIDITY_MOST, life / VALIDITY_PART);
}

/* splitmix64: numbers that are near each other become ones that are not. */
static uint64_t mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15U;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
    return value ^ (value >> 31);
}

int64_t refresh_due(const struct refresh_facts *facts)
{
    const int64_t life = life_of(facts);
    if (!has_token(facts) || !facts->obtainable || facts->expires == REFRESH_NEVER || life < LIFE_AHEAD_LEAST) {
        return REFRESH_NEVER;
    }
    const uint64_t range = (uint64_t) (life / (facts->ends_old_access ? SPREAD_LATE_PART : SPREAD_PART));
    const uint64_t spread = mix(facts->spread + (uint64_t) facts->generation) % range;
    return facts->expires - refresh_validity(facts, 0) - (int64_t) spread;
}

static bool within(int64_t since, int64_t time, int64_t pause)
{
    return since != 0 && time >= since && time - since < pause;
}

/* Whether the token is good enough for a caller who wants it for longer than others do: he cannot have one every moment. */
static bool good_if_forced(const struct refresh_facts *facts, int64_t time)
{
    return left_of(facts, time) >= refresh_validity(facts, 0) && refresh_alive(facts, time) &&
           (within(facts->obtained, time, FORCED_PAUSE) || within(facts->forced, time, FORCED_PAUSE));
}

static bool good_for_caller(const struct refresh_facts *facts, int64_t validity, int64_t time)
{
    return (left_of(facts, time) >= refresh_validity(facts, validity) && refresh_alive(facts, time)) ||
           good_if_forced(facts, time);
}

/* What failed for a caller is tried again for those who come after him. */
static bool due(const struct refresh_facts *facts, int64_t time)
{
    return time >= refresh_due(facts) || (facts->failures > 0 && !good_for_caller(facts, 0, time));
}

/* A token from the future tells that the clock has been put back since: when it expires is not known. */
static bool good(const struct refresh_facts *facts, const struct refresh_wish *wish, int64_t time)
{
    if (facts->expires == REFRESH_NEVER) {
        return true;
    }
    if (!has_token(facts) || facts->obtained > time + CLOCKS_DIFFER) {
        return false;
    }
    return wish->want == REFRESH_WANT_DUE ? !due(facts, time) : good_for_caller(facts, wish->validity, time);
}

/* Whether a grant whose answer is lost may be used up. */
static bool can_be_spent(const struct refresh_facts *facts)
{
    return !facts->own_grant && facts->rotation != REFRESH_ROTATES_NEVER;
}

bool refresh_harmless(const struct refresh_facts *facts, int64_t time)
{
    return !refresh_alive(facts, time) || (!can_be_spent(facts) && !facts->ends_old_access);
}

/* Whether using a spent grant once more would end a token that works. */
static bool at_risk(const struct refresh_facts *facts, int64_t time)
{
    return can_be_spent(facts) && facts->rotation == REFRESH_ROTATES_STRICTLY && has_token(facts) &&
           time < facts->expires;
}

static refresh_need need_of_person(const struct refresh_facts *facts, int64_t time)
{
    if (!facts->obtainable) {
        return REFRESH_NOT_AT_ALL;
    }
    return within(facts->forced, time, FORCED_PAUSE) ? REFRESH_FORCED_OFTEN : REFRESH_FETCH;
}

/* What is not tried by itself any more is tried for whoever asks. */
static bool backs_off(const struct refresh_facts *facts, int64_t time)
{
    return facts->failures > 0 && facts->next != REFRESH_NEVER && facts->next > time;
}

static refresh_need need_of_grant(const struct refresh_facts *facts, int64_t time)
{
    if (!facts->obtainable || facts->status == REFRESH_REAUTHORIZE) {
        return REFRESH_PERSON;
    }
    if (can_be_spent(facts) && facts->tries >= REFRESH_TRIES_MOST) {
        return REFRESH_IN_DOUBT;
    }
    if ((facts->tries > 0 && at_risk(facts, time)) || backs_off(facts, time)) {
        return REFRESH_LATER;
    }
    return REFRESH_FETCH;
}

refresh_need refresh_need_of(const struct refresh_facts *facts, const struct refresh_wish *wish, int64_t time)
{
    if (!facts->exists) {
        return REFRESH_NOT_AT_ALL;
    }
    if (wish->want == REFRESH_WANT_NOW) {
        return need_of_person(facts, time);
    }
    if (!has_token(facts) && (!facts->obtainable || wish->want == REFRESH_WANT_DUE)) {
        return REFRESH_NOT_AT_ALL;
    }
    return good(facts, wish, time) ? REFRESH_USE : need_of_grant(facts, time);
}

/* Whether somebody wants another token although this one would do for everybody else. */
static bool forced(const struct refresh_facts *facts, const struct refresh_wish *wish, int64_t time)
{
    const struct refresh_wish usual = {.want = REFRESH_WANT_TOKEN};
    return wish->want == REFRESH_WANT_NOW || (wish->want == REFRESH_WANT_TOKEN && good(facts, &usual, time));
}

/* --- The clock ------------------------------------------------------------------------------------------------ */

/* The offset lies between what the two ends of the look say. Clocks that run a little slower do not go back. */
int64_t refresh_clock_look(struct refresh_clock *clock, int64_t mono_asked, int64_t mono_answered,
                           int64_t database_time)
{
    const int64_t high = database_time - mono_asked;
    const int64_t low = database_time - mono_answered;
    const int64_t least_offset = clock->offset - clock->error;
    if (clock->known && least_offset > high + CLOCK_DRIFT) {
        return least_offset - high;
    }
    if (!clock->known || clock->offset < low || clock->offset > high) {
        *clock = (struct refresh_clock){.known = true, .offset = high, .error = high - low};
    }
    return 0;
}

int64_t refresh_clock_time(const struct refresh_clock *clock, int64_t mono)
{
    assert(clock->known);
    return clock->offset + mono;
}

/* --- Actions -------------------------------------------------------------------------------------------------- */

/* What is awaited. Those that wait for the database's return are next to what they repeat. */
enum {
    CLAIMING,
    HELD,
    SETTLING,
    RECORDING,
    RECORDING_LATER,
    SENDING,
    JOURNALING,
    STORING,
    STORING_LATER,
    FORGETTING,
    RELEASING,
    RELEASING_LATER,
    FINISHED,
    STATES
};

static struct refresh_action does(struct refresh *machine, int state, struct refresh_action action)
{
    machine->state = state;
    action.fence = machine->fence;
    action.generation = machine->facts.generation;
    return action;
}

/* Work that the driver is given again where it is not known whether it was done. */
static struct refresh_action works(struct refresh *machine, int state, struct refresh_action action)
{
    machine->doing = does(machine, state, action);
    return machine->doing;
}

static struct refresh_action repeats(struct refresh *machine, int state)
{
    machine->state = state;
    return machine->doing;
}

static struct refresh_action waits(struct refresh *machine, int state, int64_t not_before)
{
    return does(machine, state, (struct refresh_action){.kind = REFRESH_DO_WAIT, .not_before = not_before});
}

static struct refresh_action claims(struct refresh *machine)
{
    return works(machine, CLAIMING, (struct refresh_action){.kind = REFRESH_DO_CLAIM});
}

static struct refresh_action finishes(struct refresh *machine, refresh_outcome outcome)
{
    return does(machine, FINISHED, (struct refresh_action){.kind = REFRESH_DO_FINISH, .outcome = outcome});
}

/* What the lease's row has already, for what changes some of it. */
static struct refresh_action row_of(const struct refresh *machine, refresh_action_kind kind)
{
    const struct refresh_facts *facts = &machine->facts;
    return (struct refresh_action){
        .kind = kind,
        .tries = facts->tries,
        .failures = facts->failures,
        .next = facts->next,
        .status = facts->status,
    };
}

/* The lease counts from before the statement that takes it is sent. */
static struct refresh_action records(struct refresh *machine, const struct refresh_event *event,
                                     int32_t tries_before)
{
    struct refresh_action action = row_of(machine, REFRESH_DO_RECORD);
    machine->tries_before = tries_before;
    action.tries = tries_before + 1;
    action.forced = forced(&machine->facts, &machine->wish, event->time);
    action.not_after = event->mono + machine->rules->lease_us;
    return works(machine, RECORDING, action);
}

static struct refresh_action releases(struct refresh *machine, struct refresh_action action,
                                      refresh_outcome outcome)
{
    action.outcome = outcome;
    return works(machine, RELEASING, action);
}

/* --- The lease is asked for ----------------------------------------------------------------------------------- */

static struct refresh_action gives_up(struct refresh *machine, refresh_need need, int64_t time)
{
    const struct refresh_facts *facts = &machine->facts;
    struct refresh_action action = row_of(machine, REFRESH_DO_RELEASE);
    switch (need) {
    case REFRESH_FETCH:
        break;
    case REFRESH_USE:
        if (facts->failures == 0 || facts->next <= time) {
            action.failures = 0;
            action.next = refresh_due(facts);
        }
        return releases(machine, action, REFRESH_FRESH);
    case REFRESH_LATER:
        action.next = facts->tries > 0 && at_risk(facts, time) ? most(facts->next, facts->expires) : facts->next;
        return releases(machine, action, REFRESH_UNAVAILABLE);
    case REFRESH_IN_DOUBT:
        action.status = REFRESH_REAUTHORIZE;
        action.next = REFRESH_NEVER;
        return releases(machine, action, REFRESH_REFUSED);
    case REFRESH_PERSON:
        action.next = REFRESH_NEVER;
        return releases(machine, action, REFRESH_REFUSED);
    case REFRESH_NOT_AT_ALL:
        action.next = REFRESH_NEVER;
        return releases(machine, action, REFRESH_GONE);
    case REFRESH_FORCED_OFTEN:
        return releases(machine, action, REFRESH_TOO_OFTEN);
    }
    assert(false);
    return finishes(machine, REFRESH_UNKNOWN);
}

/* A person counts anew. */
static int32_t tries_of(const struct refresh *machine)
{
    return machine->wish.want == REFRESH_WANT_NOW ? 0 : machine->facts.tries;
}

static struct refresh_action on_claimed(struct refresh *machine, const struct refresh_event *event)
{
    const struct refresh_claim *claim = event->claim;
    const bool moved = machine->held && claim->facts.generation > machine->facts.generation;
    machine->facts = claim->facts;
    machine->fence = claim->fence;
    machine->lease_end = claim->asked + machine->rules->lease_us;
    const refresh_need need = refresh_need_of(&machine->facts, &machine->wish, event->time);
    if (moved && machine->wish.want == REFRESH_WANT_NOW) {
        return gives_up(machine, REFRESH_USE, event->time);
    }
    if (need != REFRESH_FETCH) {
        return gives_up(machine, need, event->time);
    }
    if (claim->lapsed && claim->facts.tries > 0 && can_be_spent(&machine->facts)) {
        machine->settles = true;
        return waits(machine, SETTLING, event->mono + machine->rules->settle_us);
    }
    return records(machine, event, tries_of(machine));
}

/* Another server is at it. Who waits is told as soon as the rows say so; without anybody it is the other's business. */
static struct refresh_action on_held(struct refresh *machine, const struct refresh_event *event)
{
    const struct refresh_facts *facts = &event->claim->facts;
    const bool moved = machine->held && facts->generation > machine->facts.generation;
    const bool person = machine->wish.want == REFRESH_WANT_NOW;
    if (moved || (!person && refresh_need_of(facts, &machine->wish, event->time) == REFRESH_USE)) {
        return finishes(machine, REFRESH_FRESH);
    }
    if (event->until <= event->mono) {
        return finishes(machine, REFRESH_UNKNOWN);
    }
    if (!machine->held) {
        machine->facts = *facts;
        machine->held = true;
        machine->held_for = machine->rules->held_us;
    }
    const int64_t pause = machine->held_for;
    machine->held_for = least(2 * pause, machine->rules->held_most_us);
    return waits(machine, HELD, least(event->mono + pause, event->until));
}

static struct refresh_action after_claim(struct refresh *machine, const struct refresh_event *event)
{
    if (event->kind == REFRESH_CLAIMED) {
        return on_claimed(machine, event);
    }
    if (event->kind == REFRESH_HELD) {
        return on_held(machine, event);
    }
    assert(event->kind == REFRESH_NO_STORE || event->kind == REFRESH_OUTRUN);
    return finishes(machine, event->kind == REFRESH_OUTRUN ? REFRESH_GONE : REFRESH_UNKNOWN);
}

static struct refresh_action after_held(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_DONE);
    return claims(machine);
}

static struct refresh_action after_settling(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_DONE);
    return event->mono < machine->lease_end ? records(machine, event, tries_of(machine))
                                            : finishes(machine, REFRESH_UNKNOWN);
}

/* --- The grant is sent ---------------------------------------------------------------------------------------- */

/* What a failure leaves behind: `tries` is as before, unless this try may have used the grant up; a person's that did not
 * leaves what was before him. */
static struct refresh_action failed(const struct refresh *machine)
{
    struct refresh_action action = row_of(machine, REFRESH_DO_RELEASE);
    action.tries = machine->tries_before > action.tries ? machine->tries_before : action.tries;
    action.failures = machine->facts.failures < INT32_MAX ? machine->facts.failures + 1 : INT32_MAX;
    return action;
}

/* Half of it is fixed, half is random. */
static int64_t backoff(int32_t failures, int64_t first, int64_t longest, uint64_t random)
{
    int64_t pause = first;
    for (int32_t i = 1; i < failures && pause < longest; i++) {
        pause *= 2;
    }
    pause = least(pause, longest);
    return pause / 2 + (int64_t) (random % (uint64_t) (pause / 2 + 1));
}

static struct refresh_action after_misconfigured(struct refresh *machine, const struct refresh_event *event)
{
    struct refresh_action action = failed(machine);
    action.status = REFRESH_MISCONFIGURED;
    action.next = event->time + most(backoff(action.failures, BACKOFF_CONFIGURATION_FIRST,
                                             BACKOFF_CONFIGURATION_MOST, event->random),
                                     event->answer->retry_after);
    return releases(machine, action, REFRESH_UNAVAILABLE);
}

static struct refresh_action after_unavailable(struct refresh *machine, const struct refresh_event *event)
{
    const struct refresh_answer *answer = event->answer;
    struct refresh_action action = failed(machine);
    action.next = event->time +
                  most(backoff(action.failures, BACKOFF_FIRST, BACKOFF_MOST, event->random), answer->retry_after);
    if (answer->may_be_spent && at_risk(&machine->facts, event->time)) {
        action.next = most(action.next, machine->facts.expires);
    }
    if (machine->facts.status == REFRESH_REAUTHORIZE) {
        action.next = REFRESH_NEVER;
    }
    return releases(machine, action, REFRESH_UNAVAILABLE);
}

static struct refresh_action after_refused(struct refresh *machine, const struct refresh_event *event)
{
    if (machine->facts.own_grant) {
        return after_misconfigured(machine, event);
    }
    struct refresh_action action = failed(machine);
    action.status = REFRESH_REAUTHORIZE;
    action.next = REFRESH_NEVER;
    return releases(machine, action, REFRESH_REFUSED);
}

/* The grant may be used up, and what it was exchanged for is lost: one more try, recorded. */
static struct refresh_action after_lost(struct refresh *machine, const struct refresh_event *event)
{
    const int32_t tries = machine->tries_before + 1;
    struct refresh_action action = failed(machine);
    action.tries = tries;
    if (tries >= REFRESH_TRIES_MOST) {
        action.status = REFRESH_REAUTHORIZE;
        action.next = REFRESH_NEVER;
        return releases(machine, action, REFRESH_REFUSED);
    }
    if (at_risk(&machine->facts, event->time)) {
        action.next = machine->facts.expires;
        return releases(machine, action, REFRESH_UNAVAILABLE);
    }
    return records(machine, event, tries);
}

static struct refresh_action after_granted(struct refresh *machine, const struct refresh_event *event)
{
    const struct refresh_answer *answer = event->answer;
    struct refresh_facts fresh = machine->facts;
    fresh.generation++;
    fresh.obtained = machine->doing.obtained;
    fresh.expires = answer->life == REFRESH_NEVER ? REFRESH_NEVER : fresh.obtained + answer->life;
    machine->doing = (struct refresh_action){
        .kind = REFRESH_DO_STORE,
        .fence = machine->fence,
        .generation = machine->facts.generation,
        .tries = answer->may_be_spent && can_be_spent(&fresh) ? 1 : 0,
        .next = refresh_due(&fresh),
        .status = REFRESH_CONNECTED,
        .obtained = fresh.obtained,
        .expires = fresh.expires,
    };
    struct refresh_action journal = machine->doing;
    journal.kind = REFRESH_DO_JOURNAL;
    machine->state = JOURNALING;
    return journal;
}

static struct refresh_action after_send(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_ANSWERED);
    const struct refresh_answer *answer = event->answer;
    switch (answer->verdict) {
    case TOKEN_GRANTED:
        return after_granted(machine, event);
    case TOKEN_REFUSED:
        return after_refused(machine, event);
    case TOKEN_MISCONFIGURED:
        return after_misconfigured(machine, event);
    case TOKEN_UNAVAILABLE:
        break;
    }
    const bool spent = answer->lost && answer->may_be_spent && can_be_spent(&machine->facts);
    return spent ? after_lost(machine, event) : after_unavailable(machine, event);
}

static struct refresh_action sends(struct refresh *machine, const struct refresh_event *event)
{
    struct refresh_action action = row_of(machine, REFRESH_DO_SEND);
    action.tries = machine->doing.tries;
    action.not_after = machine->lease_end - machine->rules->call_us;
    action.obtained = event->time;
    if (event->mono > action.not_after) {
        struct refresh_action late = failed(machine);
        late.failures = machine->facts.failures;
        late.next = event->time;
        return releases(machine, late, REFRESH_UNKNOWN);
    }
    return works(machine, SENDING, action);
}

static struct refresh_action after_record(struct refresh *machine, const struct refresh_event *event)
{
    switch (event->kind) {
    case REFRESH_DONE:
        machine->lease_end = machine->doing.not_after;
        if (machine->unsettled) {
            machine->unsettled = false;
            return waits(machine, SETTLING, event->mono + machine->rules->settle_us);
        }
        return sends(machine, event);
    case REFRESH_NO_STORE:
        machine->unsettled = machine->settles;
        return event->mono < machine->lease_end
                   ? waits(machine, RECORDING_LATER, event->mono + machine->rules->again_us)
                   : finishes(machine, REFRESH_UNKNOWN);
    default:
        assert(event->kind == REFRESH_LOST);
        return finishes(machine, REFRESH_FRESH);
    }
}

static struct refresh_action record_again(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_DONE);
    return event->mono < machine->lease_end ? records(machine, event, machine->tries_before)
                                            : finishes(machine, REFRESH_UNKNOWN);
}

/* --- The answer is kept --------------------------------------------------------------------------------------- */

static struct refresh_action after_journal(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_DONE || event->kind == REFRESH_FAILED);
    machine->journaled = event->kind == REFRESH_DONE;
    return repeats(machine, STORING);
}

static struct refresh_action after_store(struct refresh *machine, const struct refresh_event *event)
{
    if (event->kind == REFRESH_NO_STORE) {
        return waits(machine, STORING_LATER, event->mono + machine->rules->again_us);
    }
    assert(event->kind == REFRESH_STORED || event->kind == REFRESH_OUTRUN);
    return machine->journaled ? works(machine, FORGETTING, (struct refresh_action){.kind = REFRESH_DO_FORGET})
                              : finishes(machine, REFRESH_FRESH);
}

static struct refresh_action store_again(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_DONE);
    return repeats(machine, STORING);
}

static struct refresh_action after_forget(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_DONE || event->kind == REFRESH_FAILED);
    return finishes(machine, REFRESH_FRESH);
}

static struct refresh_action after_release(struct refresh *machine, const struct refresh_event *event)
{
    if (event->kind == REFRESH_NO_STORE && event->mono < machine->lease_end) {
        return waits(machine, RELEASING_LATER, event->mono + machine->rules->again_us);
    }
    assert(event->kind == REFRESH_DONE || event->kind == REFRESH_LOST || event->kind == REFRESH_NO_STORE);
    return finishes(machine, event->kind == REFRESH_NO_STORE ? REFRESH_UNKNOWN : machine->doing.outcome);
}

static struct refresh_action release_again(struct refresh *machine, const struct refresh_event *event)
{
    assert(event->kind == REFRESH_DONE);
    return repeats(machine, RELEASING);
}

/* --- The machine ---------------------------------------------------------------------------------------------- */

struct refresh_action refresh_step(struct refresh *machine, const struct refresh_event *event)
{
    static struct refresh_action (*const AFTER[STATES])(struct refresh *, const struct refresh_event *) = {
        [CLAIMING] = after_claim,         [HELD] = after_held,
        [SETTLING] = after_settling,      [RECORDING] = after_record,
        [RECORDING_LATER] = record_again, [SENDING] = after_send,
        [JOURNALING] = after_journal,     [STORING] = after_store,
        [STORING_LATER] = store_again,    [FORGETTING] = after_forget,
        [RELEASING] = after_release,      [RELEASING_LATER] = release_again,
    };
    assert(machine->state >= 0 && machine->state < STATES && AFTER[machine->state] != NULL);
    return AFTER[machine->state](machine, event);
}

struct refresh_action refresh_begin(struct refresh *machine, const struct refresh_rules *rules,
                                    const struct refresh_wish *wish)
{
    assert(rules->lease_us > rules->call_us);
    *machine = (struct refresh){.rules = rules, .wish = *wish};
    return claims(machine);
}

struct refresh_action refresh_recover(struct refresh *machine, const struct refresh_rules *rules,
                                      const struct refresh_action *store)
{
    assert(store->kind == REFRESH_DO_STORE);
    *machine = (struct refresh){.rules = rules, .journaled = true, .doing = *store, .fence = store->fence};
    machine->facts.generation = store->generation;
    return repeats(machine, STORING);
}

void refresh_join(struct refresh *machine, const struct refresh_wish *wish)
{
    if (machine->state != CLAIMING && machine->state != HELD) {
        return;
    }
    machine->wish.validity = most(machine->wish.validity, wish->validity);
    machine->wish.want = wish->want > machine->wish.want ? wish->want : machine->wish.want;
}
