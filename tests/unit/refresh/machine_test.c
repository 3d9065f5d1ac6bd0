#include "server/refresh/machine.h"
#include "tests/support/test.h"

/* What the simulator (tests/simulation) does not say: the exact figures of the rules. */

#define SECOND INT64_C(1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define NOW (1000 * HOUR)

/* A token that was obtained now. */
static struct refresh_facts token(int64_t life)
{
    return (struct refresh_facts){
        .exists = true,
        .obtainable = true,
        .generation = 1,
        .status = REFRESH_CONNECTED,
        .obtained = NOW,
        .expires = NOW + life,
    };
}

static refresh_need need(const struct refresh_facts *facts, int64_t validity, int64_t time)
{
    const struct refresh_wish wish = {.want = REFRESH_WANT_TOKEN, .validity = validity};
    return refresh_need_of(facts, &wish, time);
}

static void a_token_is_wanted_for_five_minutes_or_a_fifth_of_its_life(void)
{
    const struct refresh_facts hour = token(HOUR);
    const struct refresh_facts short_one = token(5 * MINUTE);
    CHECK_INT(refresh_validity(&hour, 0), 5 * MINUTE);
    CHECK_INT(refresh_validity(&short_one, 0), MINUTE);
    CHECK_INT(need(&hour, 0, NOW + 55 * MINUTE), REFRESH_USE);
    CHECK_INT(need(&hour, 0, NOW + 55 * MINUTE + 1), REFRESH_FETCH);
}

static void a_caller_may_ask_for_half_of_its_life_at_most(void)
{
    const struct refresh_facts facts = token(HOUR);
    CHECK_INT(refresh_validity(&facts, 10 * MINUTE), 10 * MINUTE);
    CHECK_INT(refresh_validity(&facts, 24 * HOUR), 30 * MINUTE);
    CHECK_INT(need(&facts, 24 * HOUR, NOW + 30 * MINUTE), REFRESH_USE);
    CHECK_INT(need(&facts, 24 * HOUR, NOW + 30 * MINUTE + 1), REFRESH_FETCH);
}

static void a_caller_has_a_good_token_refreshed_once_in_thirty_seconds(void)
{
    struct refresh_facts facts = token(40 * SECOND);
    const int64_t time = NOW + 25 * SECOND;
    CHECK_INT(need(&facts, 20 * SECOND, time), REFRESH_USE); /* it is 25 s old */
    CHECK_INT(need(&facts, 20 * SECOND, NOW + 30 * SECOND), REFRESH_FETCH);
    facts.forced = NOW + 10 * SECOND;
    CHECK_INT(need(&facts, 20 * SECOND, NOW + 30 * SECOND), REFRESH_USE);
    /* One that is good for nobody is refreshed whoever had it refreshed when. */
    CHECK_INT(need(&facts, 20 * SECOND, NOW + 33 * SECOND), REFRESH_FETCH);
}

static void a_person_may_refresh_once_in_thirty_seconds_whatever_the_state(void)
{
    const struct refresh_wish now = {.want = REFRESH_WANT_NOW};
    struct refresh_facts facts = token(HOUR);
    facts.status = REFRESH_REAUTHORIZE;
    facts.tries = REFRESH_TRIES_MOST;
    CHECK_INT(refresh_need_of(&facts, &now, NOW), REFRESH_FETCH);
    facts.forced = NOW - 29 * SECOND;
    CHECK_INT(refresh_need_of(&facts, &now, NOW), REFRESH_FORCED_OFTEN);
    facts.forced = NOW - 30 * SECOND;
    CHECK_INT(refresh_need_of(&facts, &now, NOW), REFRESH_FETCH);
}

static void a_token_is_handed_out_while_it_lives(void)
{
    const struct refresh_facts facts = token(HOUR);
    CHECK(refresh_alive(&facts, NOW + HOUR - 5 * SECOND - 1));
    CHECK(!refresh_alive(&facts, NOW + HOUR - 5 * SECOND));
    const struct refresh_facts endless = {.exists = true, .obtained = NOW, .expires = REFRESH_NEVER};
    CHECK(refresh_alive(&endless, NOW + 100000 * HOUR));
    const struct refresh_facts none = {.exists = true};
    CHECK(!refresh_alive(&none, NOW));
}

static void a_token_without_an_end_is_never_due(void)
{
    struct refresh_facts facts = token(HOUR);
    facts.expires = REFRESH_NEVER;
    CHECK_INT(need(&facts, HOUR, NOW + 100000 * HOUR), REFRESH_USE);
    CHECK(refresh_due(&facts) == REFRESH_NEVER);
}

static void tokens_that_came_together_are_not_due_together(void)
{
    int64_t first = INT64_MAX;
    int64_t last = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        struct refresh_facts facts = token(HOUR);
        facts.spread = i;
        const int64_t due = refresh_due(&facts);
        CHECK(due <= NOW + 55 * MINUTE && due > NOW + 49 * MINUTE);
        first = due < first ? due : first;
        last = due > last ? due : last;
    }
    CHECK(last - first > 5 * MINUTE);
}

static void where_a_new_token_ends_the_old_one_it_is_refreshed_late(void)
{
    struct refresh_facts facts = token(HOUR);
    facts.ends_old_access = true;
    CHECK_INT(refresh_validity(&facts, 0), 30 * SECOND);
    CHECK(refresh_due(&facts) >= NOW + 58 * MINUTE);
}

static void a_token_from_the_future_is_refreshed(void)
{
    const struct refresh_facts facts = token(HOUR);
    CHECK_INT(need(&facts, 0, NOW - 30 * SECOND), REFRESH_USE);
    CHECK_INT(need(&facts, 0, NOW - 61 * SECOND), REFRESH_FETCH);
}

static void after_a_lost_answer_a_strict_provider_is_asked_when_the_token_has_expired(void)
{
    struct refresh_facts facts = token(HOUR);
    facts.rotation = REFRESH_ROTATES_STRICTLY;
    facts.tries = 1;
    CHECK_INT(need(&facts, 0, NOW + 58 * MINUTE), REFRESH_LATER);
    CHECK_INT(need(&facts, 0, NOW + HOUR), REFRESH_FETCH);
    facts.rotation = REFRESH_ROTATES_PERHAPS;
    CHECK_INT(need(&facts, 0, NOW + 58 * MINUTE), REFRESH_FETCH);
    facts.tries = 2;
    CHECK_INT(need(&facts, 0, NOW + 58 * MINUTE), REFRESH_IN_DOUBT);
    facts.rotation = REFRESH_ROTATES_NEVER;
    CHECK_INT(need(&facts, 0, NOW + 58 * MINUTE), REFRESH_FETCH);
}

static void a_failure_is_not_tried_again_before_its_time(void)
{
    struct refresh_facts facts = token(HOUR);
    facts.failures = 3;
    facts.next = NOW + 58 * MINUTE;
    CHECK_INT(need(&facts, 0, NOW + 57 * MINUTE), REFRESH_LATER);
    CHECK_INT(need(&facts, 0, NOW + 58 * MINUTE), REFRESH_FETCH);
}

/* --- One refresh ---------------------------------------------------------------------------------------------- */

struct run {
    struct refresh machine;
    struct refresh_event event;
    struct refresh_claim claim;
    struct refresh_answer answer;
};

static struct refresh_action step(struct run *run, refresh_event_kind kind)
{
    run->event.kind = kind;
    run->event.mono += SECOND / 100;
    run->event.time += SECOND / 100;
    run->event.claim = &run->claim;
    run->event.answer = &run->answer;
    return refresh_step(&run->machine, &run->event);
}

/* Up to the request that is to be sent. */
static struct refresh_action begin(struct run *run, const struct refresh_facts *facts)
{
    const struct refresh_wish wish = {.want = REFRESH_WANT_TOKEN};
    *run = (struct run){.event = {.mono = HOUR, .time = NOW + HOUR}};
    run->claim = (struct refresh_claim){.facts = *facts, .fence = 7, .asked = HOUR};
    (void) refresh_begin(&run->machine, &refresh_default_rules, &wish);
    (void) step(run, REFRESH_CLAIMED);
    return step(run, REFRESH_DONE);
}

/* A look for what is due finds nothing to do by itself where no token is there yet, and says never. */
static void a_failure_that_is_not_tried_by_itself_any_more_is_tried_for_who_asks(void)
{
    struct refresh_facts facts = {
        .exists = true, .obtainable = true, .failures = 3, .next = NOW + MINUTE, .status = REFRESH_CONNECTED};
    const struct refresh_wish due = {.want = REFRESH_WANT_DUE};
    CHECK_INT(need(&facts, 0, NOW), REFRESH_LATER);
    CHECK_INT(refresh_need_of(&facts, &due, NOW + MINUTE), REFRESH_NOT_AT_ALL);
    facts.next = REFRESH_NEVER;
    CHECK_INT(need(&facts, 0, NOW + MINUTE), REFRESH_FETCH);
}

static void a_request_leaves_only_if_its_answer_comes_within_the_lease(void)
{
    struct run run;
    const struct refresh_facts facts = token(HOUR);
    const struct refresh_action send = begin(&run, &facts);
    CHECK_INT(send.kind, REFRESH_DO_SEND);
    CHECK(send.not_after - run.event.mono <= refresh_default_rules.lease_us - refresh_default_rules.call_us);
    CHECK(send.not_after - run.event.mono > 9 * SECOND);
}

static void a_lost_answer_is_tried_once_more_at_once_and_recorded_before(void)
{
    struct run run;
    const struct refresh_facts facts = token(HOUR);
    (void) begin(&run, &facts);
    run.answer = (struct refresh_answer){.verdict = TOKEN_UNAVAILABLE, .lost = true, .may_be_spent = true};
    const struct refresh_action record = step(&run, REFRESH_ANSWERED);
    CHECK_INT(record.kind, REFRESH_DO_RECORD);
    CHECK_INT(record.tries, 2);
    CHECK_INT(step(&run, REFRESH_DONE).kind, REFRESH_DO_SEND);
    const struct refresh_action release = step(&run, REFRESH_ANSWERED);
    CHECK_INT(release.kind, REFRESH_DO_RELEASE);
    CHECK_INT(release.status, REFRESH_REAUTHORIZE);
    CHECK_INT(release.tries, 2);
    CHECK(release.next == REFRESH_NEVER);
}

static void a_dead_grant_keeps_its_tokens_and_needs_a_person(void)
{
    struct run run;
    const struct refresh_facts facts = token(HOUR);
    (void) begin(&run, &facts);
    run.answer = (struct refresh_answer){.verdict = TOKEN_REFUSED};
    const struct refresh_action release = step(&run, REFRESH_ANSWERED);
    CHECK_INT(release.kind, REFRESH_DO_RELEASE);
    CHECK_INT(release.status, REFRESH_REAUTHORIZE);
    CHECK_INT(release.tries, 0);
    CHECK(release.next == REFRESH_NEVER);
    const struct refresh_action finish = step(&run, REFRESH_DONE);
    CHECK_INT(finish.kind, REFRESH_DO_FINISH);
    CHECK_INT(finish.outcome, REFRESH_REFUSED);
}

static void a_refused_client_is_configuration_and_tried_again_later(void)
{
    struct run run;
    const struct refresh_facts facts = token(HOUR);
    (void) begin(&run, &facts);
    run.answer = (struct refresh_answer){.verdict = TOKEN_MISCONFIGURED};
    const struct refresh_action release = step(&run, REFRESH_ANSWERED);
    CHECK_INT(release.status, REFRESH_MISCONFIGURED);
    CHECK(release.next >= run.event.time + 30 * SECOND && release.next <= run.event.time + MINUTE);
}

static void a_provider_that_fails_is_asked_again_after_a_pause_that_grows(void)
{
    struct refresh_facts facts = token(HOUR);
    int64_t least_before = 0;
    for (int32_t failures = 0; failures < 12; failures++) {
        struct run run;
        facts.failures = failures;
        (void) begin(&run, &facts);
        run.answer = (struct refresh_answer){.verdict = TOKEN_UNAVAILABLE};
        const int64_t pause = step(&run, REFRESH_ANSWERED).next - run.event.time;
        CHECK(pause >= least_before && pause <= 5 * MINUTE);
        least_before = pause;
    }
    CHECK(least_before == 150 * SECOND);
}

static void what_a_provider_says_to_wait_is_waited(void)
{
    struct run run;
    const struct refresh_facts facts = token(HOUR);
    (void) begin(&run, &facts);
    run.answer = (struct refresh_answer){.verdict = TOKEN_UNAVAILABLE, .retry_after = HOUR};
    CHECK(step(&run, REFRESH_ANSWERED).next == run.event.time + HOUR);
}

static void an_answer_is_journaled_then_stored_until_it_is(void)
{
    struct run run;
    const struct refresh_facts facts = token(HOUR);
    const struct refresh_action send = begin(&run, &facts);
    run.answer = (struct refresh_answer){.verdict = TOKEN_GRANTED, .life = 2 * HOUR};
    CHECK_INT(step(&run, REFRESH_ANSWERED).kind, REFRESH_DO_JOURNAL);
    const struct refresh_action store = step(&run, REFRESH_DONE);
    CHECK_INT(store.kind, REFRESH_DO_STORE);
    CHECK(store.obtained == send.obtained && store.expires == store.obtained + 2 * HOUR);
    for (int i = 0; i < 10000; i++) {
        CHECK_INT(step(&run, REFRESH_NO_STORE).kind, REFRESH_DO_WAIT);
        CHECK_INT(step(&run, REFRESH_DONE).kind, REFRESH_DO_STORE);
    }
    CHECK_INT(step(&run, REFRESH_STORED).kind, REFRESH_DO_FORGET);
    CHECK_INT(step(&run, REFRESH_DONE).kind, REFRESH_DO_FINISH);
}

static void a_clock_goes_with_the_database_and_not_back(void)
{
    struct refresh_clock clock = {0};
    CHECK(refresh_clock_look(&clock, 100, 200, NOW) == 0);
    CHECK(refresh_clock_time(&clock, 200) == NOW + 100);
    CHECK(refresh_clock_look(&clock, 300, 310, NOW + 150) == 0); /* a quicker look knows better */
    CHECK(refresh_clock_time(&clock, 310) == NOW + 160);
    CHECK(refresh_clock_look(&clock, 400, 410, NOW + HOUR) == 0);
    CHECK(refresh_clock_time(&clock, 410) == NOW + HOUR + 10);
    const int64_t behind = refresh_clock_look(&clock, 500, 510, NOW);
    CHECK(behind == HOUR + 90);
    CHECK(refresh_clock_time(&clock, 510) == NOW + HOUR + 110);
    /* When that has been added, what the database says fits again; half a second is followed. */
    CHECK(refresh_clock_look(&clock, 600, 610, NOW + 100 + behind) == 0);
    CHECK(refresh_clock_time(&clock, 610) == NOW + HOUR + 200);
    CHECK(refresh_clock_look(&clock, 700, 710, NOW + 200 + behind - SECOND / 2) == 0);
    CHECK(refresh_clock_time(&clock, 710) == NOW + HOUR + 300 - SECOND / 2);
}

TEST_MAIN(TEST(a_token_is_wanted_for_five_minutes_or_a_fifth_of_its_life),
          TEST(a_caller_may_ask_for_half_of_its_life_at_most),
          TEST(a_caller_has_a_good_token_refreshed_once_in_thirty_seconds),
          TEST(a_person_may_refresh_once_in_thirty_seconds_whatever_the_state),
          TEST(a_token_is_handed_out_while_it_lives), TEST(a_token_without_an_end_is_never_due),
          TEST(tokens_that_came_together_are_not_due_together),
          TEST(where_a_new_token_ends_the_old_one_it_is_refreshed_late), TEST(a_token_from_the_future_is_refreshed),
          TEST(after_a_lost_answer_a_strict_provider_is_asked_when_the_token_has_expired),
          TEST(a_failure_is_not_tried_again_before_its_time),
          TEST(a_failure_that_is_not_tried_by_itself_any_more_is_tried_for_who_asks),
          TEST(a_request_leaves_only_if_its_answer_comes_within_the_lease),
          TEST(a_lost_answer_is_tried_once_more_at_once_and_recorded_before),
          TEST(a_dead_grant_keeps_its_tokens_and_needs_a_person),
          TEST(a_refused_client_is_configuration_and_tried_again_later),
          TEST(a_provider_that_fails_is_asked_again_after_a_pause_that_grows),
          TEST(what_a_provider_says_to_wait_is_waited), TEST(an_answer_is_journaled_then_stored_until_it_is),
          TEST(a_clock_goes_with_the_database_and_not_back))
