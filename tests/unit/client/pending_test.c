#include <pthread.h>
#include <stdlib.h>

#include "tests/support/test.h"
#include "tests/unit/client/stage.h"

/* Values that have to be fetched first: PENDING, in each of the ways in which a caller can treat it. */

/* The first item in the first environment is pending in as many answers. */
struct fetching {
    unsigned answers;
    unsigned allowed; /* requests whose items allowed it */
    uint32_t advice_ms;
};

static void be_pending(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                       Coffer__V1__ResolveResponse *answer)
{
    static char message[] = "the token is being fetched; ask again";
    static Google__Protobuf__Duration wait;
    struct fetching *fetching = script->context;
    Coffer__V1__ResolveResult *result = answer->results[0];
    fetching->allowed += asked->items[0]->allow_pending != 0;
    if (number >= fetching->answers) {
        return;
    }
    google__protobuf__duration__init(&wait);
    wait.seconds = fetching->advice_ms / 1000;
    wait.nanos = (int32_t) (fetching->advice_ms % 1000) * 1000000;
    result->status->code = COFFER_UNAVAILABLE;
    result->status->outcome = COFFER__V1__OUTCOME__OUTCOME_PENDING;
    result->status->message = message;
    result->status->retry_delay = &wait;
    result->n_secrets = 0;
}

static void ask(struct stage *stage)
{
    coffer_request_add_environment(stage->request, "a");
    coffer_request_add_environment(stage->request, "b");
    coffer_request_add_reference(stage->request, "slack", "KEY");
}

static void library_asks_again_until_it_is_there(void)
{
    struct fetching fetching = {.answers = 3, .advice_ms = 1};
    STAGE_WITH(be_pending, &fetching, "timeout=60s");
    ask(&stage);
    coffer_request_set_pending(stage.request, COFFER_PENDING_POLL);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(scripted_server_requests(stage.server), 4);
    CHECK_INT(fetching.allowed, 4);
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_INT(coffer_item_value_count(coffer_result_item(stage.result, 0)), 1);
    CHECK_INT(coffer_item_value_count(coffer_result_item(stage.result, 1)), 1);
}

static void advice_that_is_longer_than_the_time_ends_it_at_once(void)
{
    struct fetching fetching = {.answers = 1000, .advice_ms = 3600000};
    STAGE_WITH(be_pending, &fetching, "timeout=60s");
    ask(&stage);
    coffer_request_set_pending(stage.request, COFFER_PENDING_POLL);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(scripted_server_requests(stage.server), 1);
    CHECK_INT(coffer_result_failed(stage.result), 1);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_outcome(item), COFFER_OUTCOME_PENDING);
    CHECK_INT(coffer_item_status(item), COFFER_UNAVAILABLE);
    CHECK_INT(coffer_item_retry_after_ms(item), 3600000);
    CHECK_INT(coffer_item_value_count(coffer_result_item(stage.result, 1)), 1);
}

static void what_is_never_there_is_asked_for_until_the_time_is_over(void)
{
    struct fetching fetching = {.answers = 1000000, .advice_ms = 1};
    STAGE_WITH(be_pending, &fetching, "timeout=2s");
    ask(&stage);
    coffer_request_set_pending(stage.request, COFFER_PENDING_POLL);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK(scripted_server_requests(stage.server) > 1);
    CHECK_INT(coffer_item_outcome(coffer_result_item(stage.result, 0)), COFFER_OUTCOME_PENDING);
    CHECK(coffer_item_status(coffer_result_item(stage.result, 0)) != COFFER_OK);
    CHECK_INT(coffer_item_status(coffer_result_item(stage.result, 1)), COFFER_OK);
}

static void caller_who_wants_it_gets_it_at_once(void)
{
    struct fetching fetching = {.answers = 1000, .advice_ms = 1};
    STAGE_WITH(be_pending, &fetching, "");
    ask(&stage);
    coffer_request_set_pending(stage.request, COFFER_PENDING_RETURN);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(scripted_server_requests(stage.server), 1);
    CHECK_INT(fetching.allowed, 1);
    CHECK_INT(coffer_item_outcome(coffer_result_item(stage.result, 0)), COFFER_OUTCOME_PENDING);
    CHECK_INT(coffer_item_value_count(coffer_result_item(stage.result, 1)), 1);
}

static void server_waits_unless_it_is_told_otherwise(void)
{
    struct fetching fetching = {.answers = 0};
    STAGE_WITH(be_pending, &fetching, "coalesce=no");
    ask(&stage);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(fetching.allowed, 0);
}

/* The end of a resolve that was started. */
struct end {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over;
    coffer_result *result;
    coffer_error *error;
};

static void keep_end(coffer_result *result, coffer_error *error, void *context)
{
    struct end *end = context;
    (void) pthread_mutex_lock(&end->lock);
    end->over = true;
    end->result = result;
    end->error = error;
    (void) pthread_cond_broadcast(&end->changed);
    (void) pthread_mutex_unlock(&end->lock);
}

static void callback_comes_when_it_is_there(void)
{
    struct fetching fetching = {.answers = 2, .advice_ms = 1};
    struct end end = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    STAGE_WITH(be_pending, &fetching, "timeout=60s");
    ask(&stage);
    coffer_request_set_pending(stage.request, COFFER_PENDING_POLL);
    CHECK_INT(coffer_resolve_start(stage.client, stage.request, keep_end, &end, NULL), COFFER_OK);
    (void) pthread_mutex_lock(&end.lock);
    while (!end.over) {
        (void) pthread_cond_wait(&end.changed, &end.lock);
    }
    (void) pthread_mutex_unlock(&end.lock);
    stage.result = end.result;
    CHECK(end.error == NULL);
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_INT(scripted_server_requests(stage.server), 3);
}

static void closing_the_client_ends_the_wait(void)
{
    struct fetching fetching = {.answers = 1000, .advice_ms = 600000};
    struct end end = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    STAGE_WITH(be_pending, &fetching, "timeout=1h");
    ask(&stage);
    coffer_request_set_pending(stage.request, COFFER_PENDING_POLL);
    CHECK_INT(coffer_resolve_start(stage.client, stage.request, keep_end, &end, NULL), COFFER_OK);
    coffer_client_close(TAKE(stage.client));
    CHECK(end.over);
    stage.result = end.result;
    stage.error = end.error;
    if (stage.result != NULL) {
        CHECK_INT(coffer_item_status(coffer_result_item(stage.result, 0)), COFFER_CANCELLED);
    } else {
        CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_CLIENT_CLOSED);
    }
}

TEST_MAIN(TEST(library_asks_again_until_it_is_there), TEST(advice_that_is_longer_than_the_time_ends_it_at_once),
          TEST(what_is_never_there_is_asked_for_until_the_time_is_over), TEST(caller_who_wants_it_gets_it_at_once),
          TEST(server_waits_unless_it_is_told_otherwise), TEST(callback_comes_when_it_is_there),
          TEST(closing_the_client_ends_the_wait))
