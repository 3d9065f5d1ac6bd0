/*
 * What executors and people do, without end, for endurance_test.py: threads that open a client, resolve, write, make and
 * revoke tokens, watch, ask nonsense, close the client while calls run, and begin again.
 *
 *     churn THREADS ACCOUNT PAUSE_MS ADDRESS...
 *
 * Each thread uses one of the addresses and pauses between two lives. The token, which may administer its workspace, and
 * the CA come from the environment; ACCOUNT is the one that tokens are made for, and the secret "steady" has the key KEY
 * with the value "steady". Each line on the standard input is answered with a line "LIVES FAILED"; the end of the input
 * ends it, after which that line is printed once more. What failed is told on the standard error.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <coffer/rpc.h>
#include <coffer/v1/identity.pb-c.h>
#include <coffer/v1/secret.pb-c.h>
#include <coffer/watch.h>

enum {
    THREADS_MAX = 32,
    PACKED_MAX = 1024,
    NAME = 32,
    SETTINGS_MAX = 256,
    RESOLVES = 8,
    CUT_OFF = 4,
    WATCH_MS = 20
};

#define SECRET "coffer.v1.SecretService/"
#define TOKEN "coffer.v1.TokenService/"

static atomic_bool stopping;
static atomic_uint life_count;
static atomic_uint failed_count;
static char *account;
static struct timespec pause_time;

struct actor {
    pthread_t thread;
    unsigned number;
    char settings[SETTINGS_MAX];
    coffer_client *client;
};

static void tell_failure(const char *what, const char *reason, const char *message)
{
    (void) atomic_fetch_add(&failed_count, 1);
    fprintf(stderr, "churn: %s: %s: %s\n", what, reason, message);
}

/* --- Calls ---------------------------------------------------------------------------------------------------- */

/* The reply, or NULL if the call failed, which counts. Frees the packed request. */
static coffer_reply *succeed(coffer_client *client, const char *method, const ProtobufCMessage *request)
{
    uint8_t packed[PACKED_MAX];
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    if (protobuf_c_message_get_packed_size(request) > sizeof packed) {
        abort();
    }
    const size_t size = protobuf_c_message_pack(request, packed);
    if (coffer_call(client, method, packed, size, NULL, &reply, &error) != COFFER_OK) {
        tell_failure(method, coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
    }
    coffer_error_free(error);
    return reply;
}

static void create(coffer_client *client, char *name)
{
    char key[] = "KEY";
    char value[] = "value of churn";
    Coffer__V1__KeyValue pair;
    Coffer__V1__KeyValue *pairs[] = {&pair};
    Coffer__V1__CreateSecretRequest request;
    coffer__v1__key_value__init(&pair);
    coffer__v1__create_secret_request__init(&request);
    pair.key = key;
    pair.value = (ProtobufCBinaryData){sizeof value - 1, (uint8_t *) value};
    request.name = name;
    request.values = pairs;
    request.n_values = 1;
    coffer_reply_free(succeed(client, SECRET "CreateSecret", &request.base));
}

static void update(coffer_client *client, char *name)
{
    char key[] = "KEY";
    char value[] = "another value of churn";
    Coffer__V1__KeyValue pair;
    Coffer__V1__KeyValue *pairs[] = {&pair};
    Coffer__V1__ReplaceValues replace;
    Coffer__V1__UpdateSecretValuesRequest request;
    coffer__v1__key_value__init(&pair);
    coffer__v1__replace_values__init(&replace);
    coffer__v1__update_secret_values_request__init(&request);
    pair.key = key;
    pair.value = (ProtobufCBinaryData){sizeof value - 1, (uint8_t *) value};
    replace.values = pairs;
    replace.n_values = 1;
    request.name = name;
    request.replace = &replace;
    request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE;
    coffer_reply_free(succeed(client, SECRET "UpdateSecretValues", &request.base));
}

static void remove_secret(coffer_client *client, char *name)
{
    Coffer__V1__DeleteSecretRequest request;
    coffer__v1__delete_secret_request__init(&request);
    request.name = name;
    coffer_reply_free(succeed(client, SECRET "DeleteSecret", &request.base));
}

static void resolve(coffer_client *client)
{
    coffer_result *result = NULL;
    coffer_error *error = NULL;
    coffer_request *request = coffer_request_new();
    coffer_request_add_reference(request, "steady", "KEY");
    if (coffer_resolve(client, request, &result, &error) != COFFER_OK) {
        tell_failure("Resolve", coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
    } else {
        const coffer_item *item = coffer_result_item(result, 0);
        const coffer_bytes value = coffer_item_value(item, "steady", "KEY");
        if (value.length != strlen("steady") || memcmp(value.data, "steady", value.length) != 0) {
            tell_failure("Resolve", coffer_outcome_name(coffer_item_outcome(item)), coffer_item_message(item));
        }
    }
    coffer_request_free(request);
    coffer_result_free(result);
    coffer_error_free(error);
}

/* --- Deeds ---------------------------------------------------------------------------------------------------- */

static void write_and_forget(struct actor *actor)
{
    char name[NAME];
    (void) snprintf(name, sizeof name, "churn%u", actor->number);
    create(actor->client, name);
    update(actor->client, name);
    remove_secret(actor->client, name);
}

static void use_token(const struct actor *actor, const Coffer__V1__IssueTokenResponse *issued)
{
    coffer_client *client = NULL;
    coffer_error *error = NULL;
    if (coffer_client_open(actor->settings, &client, &error) != COFFER_OK ||
        coffer_client_set_token(client, issued->secret_text.data, issued->secret_text.len, &error) != COFFER_OK) {
        tell_failure("a client", coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
    } else {
        resolve(client);
    }
    coffer_error_free(error);
    coffer_client_close(client);
}

static void issue_use_and_revoke(struct actor *actor)
{
    Coffer__V1__IssueTokenRequest request;
    Coffer__V1__RevokeTokenRequest revoke;
    coffer__v1__issue_token_request__init(&request);
    coffer__v1__revoke_token_request__init(&revoke);
    request.service_account = account;
    coffer_reply *reply = succeed(actor->client, TOKEN "IssueToken", &request.base);
    if (reply == NULL) {
        return;
    }
    const coffer_bytes answer = coffer_reply_payload(reply);
    Coffer__V1__IssueTokenResponse *issued =
        coffer__v1__issue_token_response__unpack(NULL, answer.length, answer.data);
    coffer_reply_free(reply);
    if (issued == NULL) {
        abort();
    }
    use_token(actor, issued);
    revoke.token_uid = issued->token->uid;
    coffer_reply_free(succeed(actor->client, TOKEN "RevokeToken", &revoke.base));
    coffer__v1__issue_token_response__free_unpacked(issued, NULL);
}

static void watch(struct actor *actor)
{
    coffer_watch *watching = coffer_watch_new(actor->client);
    coffer_watch_set_wait(watching, WATCH_MS);
    for (unsigned i = 0; i < 2; i++) {
        coffer_changes *changes = NULL;
        coffer_error *error = NULL;
        if (coffer_watch_next(watching, &changes, &error) != COFFER_OK) {
            tell_failure("a watch", coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
        }
        coffer_changes_free(changes);
        coffer_error_free(error);
    }
    coffer_watch_free(watching);
}

/* Nonsense must fail, and in the way that is documented. */
static void ask_nonsense(struct actor *actor)
{
    static const struct nonsense {
        const char *method;
        const char *payload;
        coffer_status status;
    } asked[] = {
        {SECRET "CreateSecret", "\x0a\x7f", COFFER_INVALID_ARGUMENT},
        {"coffer.v1.NoService/Nothing", "x", COFFER_UNIMPLEMENTED},
        {SECRET "GetSecret", "\x1a\x02\xff\xfe", COFFER_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        coffer_reply *reply = NULL;
        coffer_error *error = NULL;
        const coffer_status status = coffer_call(actor->client, asked[i].method, asked[i].payload,
                                                 strlen(asked[i].payload), NULL, &reply, &error);
        if (status != asked[i].status) {
            tell_failure("nonsense", coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
        }
        coffer_reply_free(reply);
        coffer_error_free(error);
    }
}

static void ignore_reply(coffer_reply *reply, coffer_error *error, void *context)
{
    (void) context;
    coffer_reply_free(reply);
    coffer_error_free(error);
}

/* The client is closed while these run. */
static void leave_calls_behind(struct actor *actor)
{
    for (unsigned i = 0; i < CUT_OFF; i++) {
        coffer_error *error = NULL;
        if (coffer_call_start(actor->client, TOKEN "GetCaller", "", 0, NULL, ignore_reply, NULL, &error) !=
            COFFER_OK) {
            tell_failure("a call", coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
            coffer_error_free(error);
        }
    }
}

static void live_once(struct actor *actor)
{
    coffer_error *error = NULL;
    if (coffer_client_open(actor->settings, &actor->client, &error) != COFFER_OK) {
        tell_failure("a client", coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
        coffer_error_free(error);
        return;
    }
    for (unsigned i = 0; i < RESOLVES; i++) {
        resolve(actor->client);
    }
    write_and_forget(actor);
    issue_use_and_revoke(actor);
    watch(actor);
    ask_nonsense(actor);
    leave_calls_behind(actor);
    coffer_client_close(actor->client);
    (void) atomic_fetch_add(&life_count, 1);
}

static void *live(void *context)
{
    while (!atomic_load(&stopping)) {
        live_once(context);
        (void) nanosleep(&pause_time, NULL);
    }
    return NULL;
}

/* --- The program ---------------------------------------------------------------------------------------------- */

enum { ADDRESSES = 4 }; /* of the arguments, the first of them */

static struct timespec pause_of(long milliseconds)
{
    return (struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
}

static void print_counts(void)
{
    printf("%u %u\n", atomic_load(&life_count), atomic_load(&failed_count));
    (void) fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct actor actors[THREADS_MAX];
    char line[64];
    const unsigned long count = argc > ADDRESSES ? strtoul(argv[1], NULL, 10) : 0;
    if (count == 0 || count > THREADS_MAX) {
        fprintf(stderr, "usage: churn THREADS ACCOUNT PAUSE_MS ADDRESS...\n");
        return 2;
    }
    account = argv[2];
    pause_time = pause_of(strtol(argv[3], NULL, 10));
    for (unsigned i = 0; i < count; i++) {
        actors[i].number = i;
        (void) snprintf(actors[i].settings, sizeof actors[i].settings, "addr=%s timeout=2min connect_timeout=2min",
                        argv[ADDRESSES + i % (unsigned) (argc - ADDRESSES)]);
        if (pthread_create(&actors[i].thread, NULL, live, &actors[i]) != 0) {
            abort();
        }
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        print_counts();
    }
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < count; i++) {
        (void) pthread_join(actors[i].thread, NULL);
    }
    print_counts();
    return 0;
}
