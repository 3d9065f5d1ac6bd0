#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <coffer/v1/secret.pb-c.h>
#include <coffer/watch.h>

#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

enum { TOKEN_TEXT = 32, LAST = 5 };

/* A server with the changes of revisions 1 to LAST, one in an answer. Its resume tokens are "at<revision>". */
struct journal {
    unsigned drop_at;       /* the request whose connection is closed; 0: none */
    char asked[TOKEN_TEXT]; /* the last token that it was asked with */
    char prefix[TOKEN_TEXT];
    char environment[TOKEN_TEXT];
    uint32_t wait_ms;
    uint32_t timeout_ms;
};

static void note_request(struct journal *journal, const struct cof_request_frame *frame)
{
    Coffer__V1__WatchSecretsRequest *request =
        coffer__v1__watch_secrets_request__unpack(NULL, frame->payload.len, frame->payload.data);
    if (request == NULL) {
        abort();
    }
    (void) snprintf(journal->asked, sizeof journal->asked, "%s", request->resume_token);
    (void) snprintf(journal->prefix, sizeof journal->prefix, "%s", request->name_prefix);
    (void) snprintf(journal->environment, sizeof journal->environment, "%s",
                    request->n_environments > 0 ? request->environments[0] : "");
    journal->wait_ms = request->wait_ms;
    journal->timeout_ms = frame->timeout_ms;
    coffer__v1__watch_secrets_request__free_unpacked(request, NULL);
}

static void tell(unsigned long revision, struct script_reply *reply)
{
    char token[TOKEN_TEXT];
    char name[] = "name";
    Coffer__V1__SecretChange change;
    Coffer__V1__SecretChange *changes[] = {&change};
    Google__Protobuf__Timestamp time;
    Coffer__V1__WatchSecretsResponse response;
    coffer__v1__secret_change__init(&change);
    google__protobuf__timestamp__init(&time);
    coffer__v1__watch_secrets_response__init(&response);
    (void) snprintf(token, sizeof token, "at%lu", revision);
    time.seconds = 7;
    time.nanos = 9000000;
    change.revision = revision;
    change.kind = COFFER__V1__SECRET_CHANGE_KIND__SECRET_CHANGE_KIND_VALUES_CHANGED;
    change.name = name;
    change.version = 10 + revision;
    change.time = &time;
    response.changes = changes;
    response.n_changes = revision == 0 ? 0 : 1;
    response.resume_token = token;
    response.more = revision < LAST;
    script_reply_message(reply, &response.base);
}

static void answer(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                   void *context)
{
    struct journal *journal = context;
    note_request(journal, request);
    if (journal->drop_at != 0 && number == journal->drop_at) {
        reply->action = SCRIPT_DROP;
        return;
    }
    const bool begins = journal->asked[0] == '\0';
    tell(begins ? 0 : strtoul(journal->asked + 2, NULL, 10) + 1, reply);
}

static void watch_cleanup(coffer_watch **watch)
{
    coffer_watch_free(*watch);
}

/* The revision of the one change; 0: there is none, or the call failed. */
static unsigned long next(coffer_watch *watch)
{
    coffer_changes *changes = NULL;
    if (coffer_watch_next(watch, &changes, NULL) != COFFER_OK) {
        return 0;
    }
    const coffer_change *change = coffer_changes_at(changes, 0);
    const unsigned long revision = change == NULL ? 0 : (unsigned long) coffer_change_revision(change);
    coffer_changes_free(changes);
    return revision;
}

static void watch_begins_now_and_goes_on_behind_each_answer(void)
{
    struct journal journal = {0};
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, answer, &journal);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(watch_cleanup) coffer_watch *watch = coffer_watch_new(client);
    for (unsigned long i = 0; i < 3; i++) {
        CHECK_INT(next(watch), i);
    }
    CHECK_TEXT(journal.asked, "at1");
}

static void changes_tell_everything_that_came(void)
{
    struct journal journal = {0};
    coffer_changes *changes = NULL;
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, answer, &journal);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(watch_cleanup) coffer_watch *watch = coffer_watch_new(client);
    coffer_watch_set_resume_token(watch, "at3");
    coffer_watch_add_environment(watch, "prod");
    coffer_watch_set_name_prefix(watch, "na");
    coffer_watch_set_wait(watch, 300);
    CHECK_INT(coffer_watch_next(watch, &changes, NULL), COFFER_OK);
    CHECK_INT(coffer_changes_count(changes), 1);
    CHECK_TEXT(coffer_changes_resume_token(changes), "at4");
    CHECK_TEXT(coffer_changes_consistency_token(changes), "");
    CHECK(coffer_changes_more(changes));
    CHECK(coffer_changes_at(changes, 1) == NULL);
    const coffer_change *change = coffer_changes_at(changes, 0);
    CHECK_INT(coffer_change_what(change), COFFER_CHANGE_VALUES_CHANGED);
    CHECK_TEXT(coffer_change_kind_name(coffer_change_what(change)), "VALUES_CHANGED");
    CHECK_TEXT(coffer_change_kind_name((coffer_change_kind) 99), "UNKNOWN");
    CHECK_TEXT(coffer_change_name(change), "name");
    CHECK_TEXT(coffer_change_old_name(change), "");
    CHECK_TEXT(coffer_change_environment(change), "");
    CHECK_TEXT(coffer_change_uid(change), "");
    CHECK_INT(coffer_change_version(change), 14);
    CHECK_INT(coffer_change_destroyed_version(change), 0);
    CHECK_INT(coffer_change_time_ms(change), 7009);
    coffer_changes_free(changes);
    CHECK_TEXT(journal.environment, "prod");
    CHECK_TEXT(journal.prefix, "na");
    CHECK_INT(journal.wait_ms, 300);
    CHECK(journal.timeout_ms > journal.wait_ms);
}

static void lost_connection_is_overcome_at_the_same_position(void)
{
    struct journal journal = {.drop_at = 1};
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, answer, &journal);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(watch_cleanup) coffer_watch *watch = coffer_watch_new(client);
    coffer_watch_set_resume_token(watch, "at1");
    CHECK_INT(next(watch), 2);
    CHECK_INT(next(watch), 3);
    CHECK_INT(scripted_server_requests(server), 3);
}

static void expire(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                   void *context)
{
    (void) request;
    (void) context;
    if (number == 0) {
        reply->reason = COF_REASON_WATCH_EXPIRED;
        reply->field = "resume_token";
        return;
    }
    tell(number, reply);
}

static void failure_leaves_the_watch_where_it_is_and_a_new_position_can_be_set(void)
{
    coffer_error *error = NULL;
    coffer_changes *changes = NULL;
    AUTO(scripted_server_cleanup) struct scripted_server *server = scripted_server_new(NULL, 1, expire, NULL);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(watch_cleanup) coffer_watch *watch = coffer_watch_new(client);
    coffer_watch_set_resume_token(watch, "old");
    CHECK_INT(coffer_watch_next(watch, &changes, &error), COFFER_FAILED_PRECONDITION);
    CHECK(changes == NULL);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_WATCH_EXPIRED);
    coffer_error_free(error);
    coffer_watch_set_resume_token(watch, NULL);
    CHECK_INT(next(watch), 1);
}

static void answer_nothing(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                           void *context)
{
    (void) request;
    (void) number;
    (void) reply;
    (void) context;
}

static void answer_without_a_position_is_none(void)
{
    coffer_error *error = NULL;
    coffer_changes *changes = NULL;
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, answer_nothing, NULL);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(watch_cleanup) coffer_watch *watch = coffer_watch_new(client);
    CHECK_INT(coffer_watch_next(watch, &changes, &error), COFFER_INTERNAL);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_REPLY_INVALID);
    coffer_error_free(error);
}

/* The first thing that was wrong is told, and nothing is sent. */
static void check_refused(coffer_watch *watch, const char *field)
{
    coffer_error *error = NULL;
    coffer_changes *changes = NULL;
    CHECK_INT(coffer_watch_next(watch, &changes, &error), COFFER_INVALID_ARGUMENT);
    CHECK_TEXT(coffer_error_field(error), field);
    coffer_error_free(error);
    coffer_watch_free(watch);
}

static void wrong_settings_are_told_by_the_next_call(void)
{
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client("ipc:///nonexistent/coffer.sock", "");
    coffer_watch *watch = coffer_watch_new(client);
    coffer_watch_set_wait(watch, 60001);
    coffer_watch_add_environment(watch, "\xff");
    check_refused(watch, "wait_ms");
    watch = coffer_watch_new(client);
    coffer_watch_add_environment(watch, "\xff");
    check_refused(watch, "environments");
    watch = coffer_watch_new(client);
    coffer_watch_set_workspace(watch, "\xc3");
    check_refused(watch, "workspace");
    CHECK(coffer_watch_new(NULL) == NULL);
    coffer_watch_set_wait(NULL, 1);
    coffer_watch_free(NULL);
    coffer_changes *changes = NULL;
    CHECK_INT(coffer_watch_next(NULL, &changes, NULL), COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_watch_next(NULL, NULL, NULL), COFFER_INVALID_ARGUMENT);
}

/* --- Without waiting ------------------------------------------------------------------------------------------ */

struct following {
    pthread_mutex_t lock;
    pthread_cond_t over;
    coffer_watch *watch;
    unsigned long last;
    bool done;
    bool failed;
};

static void take(coffer_changes *changes, coffer_error *error, void *context)
{
    struct following *following = context;
    (void) pthread_mutex_lock(&following->lock);
    following->failed = changes == NULL;
    if (changes != NULL && coffer_changes_count(changes) > 0) {
        following->last = (unsigned long) coffer_change_revision(coffer_changes_at(changes, 0));
    }
    const bool more = changes != NULL && coffer_changes_more(changes);
    following->done = !more || coffer_watch_start(following->watch, take, following, NULL) != COFFER_OK;
    (void) pthread_cond_signal(&following->over);
    (void) pthread_mutex_unlock(&following->lock);
    coffer_changes_free(changes);
    coffer_error_free(error);
}

static void callback_starts_the_next_wait_until_there_is_no_more(void)
{
    struct journal journal = {0};
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, answer, &journal);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(watch_cleanup) coffer_watch *watch = coffer_watch_new(client);
    struct following following = {.watch = watch};
    (void) pthread_mutex_init(&following.lock, NULL);
    (void) pthread_cond_init(&following.over, NULL);
    (void) pthread_mutex_lock(&following.lock);
    CHECK_INT(coffer_watch_start(watch, take, &following, NULL), COFFER_OK);
    while (!following.done) {
        (void) pthread_cond_wait(&following.over, &following.lock);
    }
    (void) pthread_mutex_unlock(&following.lock);
    CHECK(!following.failed);
    CHECK_INT(following.last, LAST);
    CHECK_INT(coffer_watch_start(watch, NULL, NULL, NULL), COFFER_INVALID_ARGUMENT);
    (void) pthread_cond_destroy(&following.over);
    (void) pthread_mutex_destroy(&following.lock);
}

static void keep_silent(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                        void *context)
{
    (void) request;
    (void) number;
    (void) context;
    reply->action = SCRIPT_SILENT;
}

static void watch_waits_once_at_a_time_and_ends_with_its_client(void)
{
    coffer_error *error = NULL;
    coffer_changes *changes = NULL;
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, keep_silent, NULL);
    coffer_client *client = scripted_client(scripted_server_address(server), "");
    struct following following = {.watch = coffer_watch_new(client)};
    (void) pthread_mutex_init(&following.lock, NULL);
    (void) pthread_cond_init(&following.over, NULL);
    CHECK_INT(coffer_watch_start(following.watch, take, &following, NULL), COFFER_OK);
    CHECK_INT(coffer_watch_next(following.watch, &changes, &error), COFFER_UNAVAILABLE);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_IN_PROGRESS);
    coffer_error_free(error);
    coffer_client_close(client);
    CHECK(following.done && following.failed);
    coffer_watch_free(following.watch);
    (void) pthread_cond_destroy(&following.over);
    (void) pthread_mutex_destroy(&following.lock);
}

TEST_MAIN(TEST(watch_begins_now_and_goes_on_behind_each_answer), TEST(changes_tell_everything_that_came),
          TEST(lost_connection_is_overcome_at_the_same_position),
          TEST(failure_leaves_the_watch_where_it_is_and_a_new_position_can_be_set),
          TEST(answer_without_a_position_is_none), TEST(wrong_settings_are_told_by_the_next_call),
          TEST(callback_starts_the_next_wait_until_there_is_no_more),
          TEST(watch_waits_once_at_a_time_and_ends_with_its_client))
