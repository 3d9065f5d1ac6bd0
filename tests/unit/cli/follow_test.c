#include <pthread.h>
#include <stdlib.h>

#include <coffer/v1/secret.pb-c.h>

#include "client/cli/follow.h"
#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

/* --- What follow.c needs of the command line ------------------------------------------------------------------------- */

cli_exit cli_connect(struct cli *cli)
{
    return cli->client == NULL ? CLI_ERROR : CLI_OK;
}

char *cli_workspace(const struct cli *cli)
{
    static char none[] = "";
    (void) cli;
    return none;
}

/* --- A server whose watches end as a test says ----------------------------------------------------------------------- */

enum { STEPS = 6, NAME = 16 };

struct step {
    cof_reason reason;   /* NONE: an answer */
    const char *changed; /* the secret of `prod` that it tells of; NULL: none */
};

/* What is asked beyond the last step waits for ever. */
struct play {
    struct step steps[STEPS];
    unsigned count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned asked;
    unsigned renewed;
    char last_state[NAME];
};

static void fill(const struct step *step, unsigned number, struct script_reply *reply)
{
    char environment[] = "prod";
    char name[NAME];
    char token[NAME];
    char state[NAME];
    Coffer__V1__SecretChange change;
    Coffer__V1__SecretChange *changes[] = {&change};
    Coffer__V1__WatchSecretsResponse response;
    coffer__v1__secret_change__init(&change);
    coffer__v1__watch_secrets_response__init(&response);
    (void) snprintf(name, sizeof name, "%s", step->changed == NULL ? "" : step->changed);
    (void) snprintf(token, sizeof token, "at%u", number);
    (void) snprintf(state, sizeof state, "state%u", number);
    change.environment = environment;
    change.name = name;
    response.changes = changes;
    response.n_changes = step->changed == NULL ? 0 : 1;
    response.resume_token = token;
    response.consistency_token = state;
    script_reply_message(reply, &response.base);
}

static void answer(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                   void *context)
{
    struct play *play = context;
    (void) request;
    (void) pthread_mutex_lock(&play->lock);
    play->asked = number + 1;
    (void) pthread_cond_broadcast(&play->changed);
    (void) pthread_mutex_unlock(&play->lock);
    if (number >= play->count) {
        reply->action = SCRIPT_SILENT;
    } else if (play->steps[number].reason != COF_REASON_NONE) {
        reply->reason = play->steps[number].reason;
    } else {
        fill(&play->steps[number], number, reply);
    }
}

static cli_exit renew(const char *state, void *context)
{
    struct play *play = context;
    (void) pthread_mutex_lock(&play->lock);
    play->renewed++;
    (void) snprintf(play->last_state, sizeof play->last_state, "%s", state);
    (void) pthread_mutex_unlock(&play->lock);
    return CLI_OK;
}

/* Follows the secret `own` of `prod` until everything of the play was asked for, and what comes behind it. */
static cli_exit run(struct play *play)
{
    static struct cli cli;
    AUTO(scripted_server_cleanup) struct scripted_server *server = NULL;
    struct follow *follow = NULL;
    (void) pthread_mutex_init(&play->lock, NULL);
    (void) pthread_cond_init(&play->changed, NULL);
    server = scripted_server_new(NULL, 1, answer, play);
    cli.client = scripted_client(scripted_server_address(server), "");
    cli_exit code = follow_new(&cli, &follow);
    if (code == CLI_OK) {
        code = follow_add(follow, "prod", "own");
    }
    if (code == CLI_OK) {
        code = follow_start(follow, renew, play);
    }
    (void) pthread_mutex_lock(&play->lock);
    while (code == CLI_OK && play->asked <= play->count) {
        (void) pthread_cond_wait(&play->changed, &play->lock);
    }
    (void) pthread_mutex_unlock(&play->lock);
    follow_free(follow);
    return code;
}

static void changes_of_what_is_followed_are_told_with_the_state_that_they_lead_to(void)
{
    struct play play = {.count = 4,
                        .steps = {{.changed = NULL}, {.changed = "other"}, {.changed = "own"}, {.changed = NULL}}};
    CHECK_INT(run(&play), CLI_OK);
    CHECK_INT(play.renewed, 1);
    CHECK_TEXT(play.last_state, "state2");
}

static void what_was_missed_is_asked_for_however_often_the_watch_fails_before_it_goes_on(void)
{
    struct play play = {.count = 5,
                        .steps = {{.changed = NULL},
                                  {.reason = COF_REASON_WATCH_EXPIRED},
                                  {.reason = COF_REASON_LIMIT_EXCEEDED},
                                  {.changed = NULL},
                                  {.changed = NULL}}};
    CHECK_INT(run(&play), CLI_OK);
    CHECK_INT(play.renewed, 1);
    CHECK_TEXT(play.last_state, "state3");
}

TEST_MAIN(TEST(changes_of_what_is_followed_are_told_with_the_state_that_they_lead_to),
          TEST(what_was_missed_is_asked_for_however_often_the_watch_fails_before_it_goes_on))
