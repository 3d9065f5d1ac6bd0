#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include <coffer/rpc/v1/server.pb-c.h>
#include <coffer/v1/aws.pb-c.h>
#include <coffer/v1/environment.pb-c.h>
#include <coffer/v1/identity.pb-c.h>
#include <coffer/v1/integration.pb-c.h>
#include <coffer/v1/resolve.pb-c.h>
#include <coffer/v1/secret.pb-c.h>
#include <coffer/v1/workspace.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>

#include "common/encode.h"
#include "common/frame.h"
#include "common/narrowed.h"
#include "common/token.h"
#include "server/audit/audit.h"
#include "server/audit/state.h"
#include "server/aws/roles.h"
#include "server/bootstrap.h"
#include "server/dispatch/dispatch.h"
#include "server/routes.h"
#include "server/service/flights.h"
#include "server/service/instance.h"
#include "server/service/watch_position.h"
#include "server/transport/transport.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

/*
 * Memory that runs out, at every place where a call asks for some: our code's calls of the allocating functions are
 * bound to those below (--wrap), which refuse one. A call is made again and again, the first request for memory is
 * refused, then the second, until it gets through with none refused. Each time the answer must be a clear one, all
 * memory must be given back, a write must have left nothing, and the next call must be answered.
 */

enum {
    PATIENCE_S = 60,
    PAYLOAD_MAX = 4096,
    PATH_SIZE = 512,
    CALL_MEMORY = 1 << 20,
    ROLES_MEMORY = 4 << 20,
    SESSION_S = 3600,
    ROUNDS_MAX = 2000,
    EACH_ROUNDS = 300,
    STARTS_MAX = 100000,
    TIMEOUT_MS = 60000,
};

/* --- Refusing ------------------------------------------------------------------------------------------------- */

/* Requests for memory until the one that is refused; 0 or less: none is. */
static _Atomic long until_refusal;

static bool refused(void)
{
    return atomic_load(&until_refusal) > 0 && atomic_fetch_sub(&until_refusal, 1) == 1;
}

void *__real_calloc(size_t count, size_t size);
void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__real_cof_arena_alloc(struct cof_arena *arena, size_t size);
void *__real_cof_arena_array(struct cof_arena *arena, size_t count, size_t size);
char *__real_cof_arena_text(struct cof_arena *arena, struct cof_slice text);
void __real_cof_arena_init(struct cof_arena *arena, struct cof_pool *pool, size_t limit_bytes);

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
void *__wrap_cof_arena_alloc(struct cof_arena *arena, size_t size);
void *__wrap_cof_arena_array(struct cof_arena *arena, size_t count, size_t size);
char *__wrap_cof_arena_text(struct cof_arena *arena, struct cof_slice text);
char *__wrap_cof_arena_format(struct cof_arena *arena, const char *format, ...) COF_PRINTF(2, 3);
void __wrap_cof_arena_init(struct cof_arena *arena, struct cof_pool *pool, size_t limit_bytes);
int __wrap_CRYPTO_set_mem_functions(CRYPTO_malloc_fn allocate, CRYPTO_realloc_fn reallocate,
                                    CRYPTO_free_fn release);

/* OpenSSL allocates for itself here: where it is refused memory within an audit record the log begins anew, so the call
 * after that one may be told so, too. */
int __wrap_CRYPTO_set_mem_functions(CRYPTO_malloc_fn allocate, CRYPTO_realloc_fn reallocate, CRYPTO_free_fn release)
{
    (void) allocate;
    (void) reallocate;
    (void) release;
    return 0;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_malloc(size_t size)
{
    return refused() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return refused() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return refused() ? NULL : __real_strdup(text);
}

void *__wrap_cof_arena_alloc(struct cof_arena *arena, size_t size)
{
    return refused() ? NULL : __real_cof_arena_alloc(arena, size);
}

void *__wrap_cof_arena_array(struct cof_arena *arena, size_t count, size_t size)
{
    return refused() ? NULL : __real_cof_arena_array(arena, count, size);
}

char *__wrap_cof_arena_text(struct cof_arena *arena, struct cof_slice text)
{
    return refused() ? NULL : __real_cof_arena_text(arena, text);
}

char *__wrap_cof_arena_format(struct cof_arena *arena, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = __wrap_cof_arena_alloc(arena, (size_t) length + 1);
    if (text != NULL) {
        va_start(arguments, format);
        (void) vsnprintf(text, (size_t) length + 1, format, arguments);
        va_end(arguments);
    }
    return text;
}

static void *unpacker_alloc(void *arena, size_t size)
{
    return __wrap_cof_arena_alloc(arena, size);
}

void __wrap_cof_arena_init(struct cof_arena *arena, struct cof_pool *pool, size_t limit_bytes)
{
    __real_cof_arena_init(arena, pool, limit_bytes);
    arena->allocator.alloc = unpacker_alloc;
}

/* --- A server without sockets --------------------------------------------------------------------------------- */

static struct test_database database;
static char directory[256];
static struct settings settings;
static struct server_core *core;
static struct dispatch *dispatch;
static struct state *state;
static struct audit *audit;
static struct cof_log log_sink;
static char workspace[BOOTSTRAP_UUID_TEXT];
static char admin_token[COF_TOKEN_TEXT];
static char system_token[COF_TOKEN_TEXT];

static void give_up(const char *what, const struct cof_error *err)
{
    fprintf(stderr, "%s: %s (%s)\n", what, err->message, err->trail);
    exit(1);
}

static void read_token(const char *name, char text[COF_TOKEN_TEXT])
{
    char path[PATH_SIZE];
    (void) snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(text, COF_TOKEN_TEXT, file) == NULL) {
        perror(path);
        exit(1);
    }
    (void) fclose(file);
}

static struct dispatch_options dispatch_settings(void)
{
    return (struct dispatch_options){
        .service = server_core_service(core),
        .pool = server_core_pool(core),
        .log = &log_sink,
        .log_requests = DISPATCH_LOG_ALL,
        .workers = 1,
        .queue = 16,
        .max_parked = 16,
        .max_parked_workspace = 16,
        .max_parked_bytes = 1U << 20,
        .call_memory = CALL_MEMORY,
        .reply_timeout_ms = TIMEOUT_MS,
        .session =
            {
                .conninfo = database.conninfo,
                .clock = &cof_system_clock,
                .connect_timeout_ms = TIMEOUT_MS,
                .backoff_max_ms = 100,
                .on_connect = instance_on_connect,
                .context = server_core_service(core),
            },
    };
}

static cof_code start_audit(struct cof_error *err)
{
    char path[PATH_SIZE];
    (void) snprintf(path, sizeof path, "%s/state", directory);
    TRY(state_open(path, &state, err));
    const struct audit_options options = {
        .folder = state_audit_folder(state),
        .server = *state_server(state),
        .keyring = server_core_service(core)->keyring,
        .clock = &cof_system_clock,
        .log = &log_sink,
        .segment_bytes = settings.audit_segment,
        .refusals_per_second = settings.audit_refusals_per_second,
    };
    TRY(audit_open(&options, &audit, err));
    server_core_service(core)->audit = audit;
    return COF_OK;
}

/* --- AWS, which grants every session at once -------------------------------------------------------------------- */

struct outbound_answer {
    struct outbound_answer_view view;
};

static struct flights *flights;
static struct roles *roles;
static struct cof_pool *roles_pool;
static char granted[PAYLOAD_MAX];

static void grant(struct outbound *outbound, const struct outbound_request *request)
{
    static struct outbound_answer answer;
    (void) outbound;
    answer.view = (struct outbound_answer_view){
        .end = OUTBOUND_ANSWERED, .sent = true, .status = 200, .body = cof_slice_text(granted), .what = ""};
    request->done(request->context, &answer);
}

static struct outbound_answer_view view_of(const struct outbound_answer *answer)
{
    return answer->view;
}

static void keep_answer(struct outbound_answer *answer)
{
    (void) answer;
}

static const struct aws_outside outside = {grant, view_of, keep_answer};
static const struct aws_identity_config identity = {
    .source = AWS_SOURCE_ENVIRONMENT,
    .credentials = {{(const uint8_t *) "AKIAOWN", 7}, {(const uint8_t *) "secret", 6}, {NULL, 0}, AWS_NEVER}};

static void flight_landed(void *context, const struct flight_key *key)
{
    (void) context;
    dispatch_landed(dispatch, key);
}

static void role_landed(void *context, const uint8_t key[SESSIONS_KEY])
{
    struct flight_key landed;
    (void) context;
    memcpy(landed.bytes, key, sizeof landed.bytes);
    flights_land(flights, &landed);
}

static void write_grant(void)
{
    char until[32];
    struct tm parts;
    const time_t end = time(NULL) + SESSION_S;
    (void) strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &parts));
    (void) snprintf(granted, sizeof granted,
                    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIASESSION</AccessKeyId>"
                    "<SecretAccessKey>session</SecretAccessKey><SessionToken>token</SessionToken><Expiration>%s"
                    "</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
                    until);
}

static cof_code start_roles(struct cof_error *err)
{
    write_grant();
    flights = flights_new(16);
    if (flights == NULL) {
        return cof_arena_exhausted(err);
    }
    flights_on_landing(flights, flight_landed, NULL);
    TRY(cof_pool_new(ROLES_MEMORY, COF_LOCK_BEST_EFFORT, &roles_pool, err));
    const struct roles_options options = {.clock = &cof_system_clock,
                                          .log = &log_sink,
                                          .outside = &outside,
                                          .pool = roles_pool,
                                          .config = &identity,
                                          .sts_endpoint = "",
                                          .principal_arn = "arn:aws:iam::123456789012:role/coffer",
                                          .duration_s = SESSION_S,
                                          .sessions = 8,
                                          .landed = role_landed};
    TRY(roles_new(&options, &roles, err));
    server_core_service(core)->flights = flights;
    server_core_service(core)->roles = roles;
    return COF_OK;
}

static void start(void)
{
    static char root_key[PATH_SIZE];
    static char token[PATH_SIZE];
    struct cof_error err;
    bool made;
    test_database_init(&database);
    test_directory_init(directory);
    (void) snprintf(root_key, sizeof root_key, "%s/root.key", directory);
    (void) snprintf(token, sizeof token, "%s/%s", directory, BOOTSTRAP_SYSTEM_TOKEN);
    cof_log_init(&log_sink, STDERR_FILENO, COF_LOG_TEXT, COF_LOG_ERROR, &cof_system_clock);
    cof_code code = settings_read(NULL, &settings, &err);
    settings.database_conninfo = database.conninfo;
    settings.keys_root_key_file = root_key;
    code = code == COF_OK ? server_start(&settings, &err) : code;
    code = code == COF_OK ? server_make_root_key(&settings, &made, &err) : code;
    code = code == COF_OK ? server_core_new(&settings, &core, &err) : code;
    code = code == COF_OK ? bootstrap_instance(core, token, &err) : code;
    code = code == COF_OK ? bootstrap_development(core, directory, workspace, &err) : code;
    code = code == COF_OK ? start_audit(&err) : code;
    code = code == COF_OK ? start_roles(&err) : code;
    const struct dispatch_options options = dispatch_settings();
    code = code == COF_OK ? dispatch_start(&options, &dispatch, &err) : code;
    if (code != COF_OK) {
        give_up("starting", &err);
    }
    read_token(BOOTSTRAP_ADMIN_TOKEN, admin_token);
    read_token(BOOTSTRAP_SYSTEM_TOKEN, system_token);
}

static void stop(void)
{
    dispatch_stop(dispatch);
    audit_stop(audit);
    audit_free(audit);
    dispatch_free(dispatch);
    roles_free(roles);
    flights_free(flights);
    cof_pool_free(roles_pool);
    state_close(state);
    server_core_free(core);
    settings_done(&settings);
    test_directory_done(directory);
    test_database_done(&database);
}

/* --- Calls ---------------------------------------------------------------------------------------------------- */

/* An exchange that keeps its reply. */
struct sink {
    struct exchange exchange; /* first */
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool answered;
    uint8_t *reply;
    size_t size;
};

static struct sink *sink_of(struct exchange *exchange)
{
    return (struct sink *) (void *) exchange;
}

/* Like nng's, this memory can be refused, too. */
static uint8_t *make_buffer(struct exchange *exchange, size_t size)
{
    struct sink *sink = sink_of(exchange);
    free(sink->reply);
    sink->reply = __wrap_malloc(size);
    sink->size = size;
    return sink->reply;
}

static void take_reply(struct exchange *exchange, uint32_t send_timeout_ms, bool malformed, bool more)
{
    struct sink *sink = sink_of(exchange);
    (void) send_timeout_ms;
    (void) malformed;
    (void) more;
    (void) pthread_mutex_lock(&sink->lock);
    sink->answered = true;
    (void) pthread_cond_signal(&sink->done);
    (void) pthread_mutex_unlock(&sink->lock);
}

static const struct exchange_ops sink_operations = {make_buffer, take_reply};

static void wait_for_reply(struct sink *sink)
{
    struct timespec until;
    (void) clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    (void) pthread_mutex_lock(&sink->lock);
    while (!sink->answered) {
        if (pthread_cond_timedwait(&sink->done, &sink->lock, &until) != 0) {
            fprintf(stderr, "there is no answer\n");
            abort();
        }
    }
    (void) pthread_mutex_unlock(&sink->lock);
}

/* A ticket is given back after its reply is out. */
static void wait_until_idle(void)
{
    const struct timespec pause = {.tv_nsec = 100000};
    while (dispatch_in_flight(dispatch) > 0) {
        (void) nanosleep(&pause, NULL);
    }
}

struct answer {
    cof_code code;
    cof_reason reason;
    bool dropped; /* not even an error could be sent */
    char message[COF_ERROR_MESSAGE_SIZE];
};

struct step {
    const char *method;
    size_t (*build)(unsigned round, uint8_t *to);
    bool as_system;
};

/* UUIDs of what the last successful calls made, for the steps that act on it. */
static char made_workspace[COF_UUID_TEXT];
static char made_token[COF_UUID_TEXT];

static struct answer answer_of(struct sink *sink)
{
    static struct cof_response_frame frame;
    struct cof_error err;
    struct answer answer = {.dropped = sink->reply == NULL};
    if (answer.dropped ||
        cof_response_frame_decode(cof_slice_of(sink->reply, sink->size), &frame, &err) != COF_OK) {
        answer.dropped = true;
        return answer;
    }
    answer.code = (cof_code) frame.code;
    if (answer.code != COF_OK) {
        cof_error_from_frame(&frame, &err);
        answer.reason = err.reason;
        (void) snprintf(answer.message, sizeof answer.message, "%s", err.message);
    }
    return answer;
}

/* The step that calls with a narrowed token, while there is one. */
static const struct step *narrowed_step;
static char narrowed_token[COF_NARROWED_TEXT];

static const char *token_of(const struct step *step)
{
    if (step == narrowed_step) {
        return narrowed_token;
    }
    return step->as_system ? system_token : admin_token;
}

static void note_workspace(struct cof_slice payload)
{
    Coffer__V1__CreateWorkspaceResponse *made =
        coffer__v1__create_workspace_response__unpack(NULL, payload.len, payload.data);
    (void) snprintf(made_workspace, sizeof made_workspace, "%s", made->workspace->uid);
    coffer__v1__create_workspace_response__free_unpacked(made, NULL);
}

static void note_token(struct cof_slice payload)
{
    Coffer__V1__IssueTokenResponse *made =
        coffer__v1__issue_token_response__unpack(NULL, payload.len, payload.data);
    (void) snprintf(made_token, sizeof made_token, "%s", made->token->uid);
    coffer__v1__issue_token_response__free_unpacked(made, NULL);
}

static void note_made(const struct step *step, const struct sink *sink)
{
    static struct cof_response_frame frame;
    struct cof_error err;
    if (sink->reply == NULL ||
        cof_response_frame_decode(cof_slice_of(sink->reply, sink->size), &frame, &err) != COF_OK ||
        frame.code != 0) {
        return;
    }
    if (strcmp(step->method, "coffer.v1.WorkspaceService/CreateWorkspace") == 0) {
        note_workspace(frame.payload);
    } else if (strcmp(step->method, "coffer.v1.TokenService/IssueToken") == 0) {
        note_token(frame.payload);
    }
}

static size_t encode_call(const struct step *step, unsigned round, uint8_t *to)
{
    static uint8_t payload[PAYLOAD_MAX];
    static struct cof_request_frame frame;
    static char bearer[COF_NARROWED_TEXT + 8];
    const struct cof_uuid id = cof_uuid_time(&cof_system_clock);
    (void) snprintf(bearer, sizeof bearer, "Bearer %s", token_of(step));
    frame = (struct cof_request_frame){
        .revision = COF_FRAME_REVISION,
        .timeout_ms = TIMEOUT_MS,
        .method = cof_slice_text(step->method),
        .request_id = cof_slice_of(id.bytes, sizeof id.bytes),
        .payload = cof_slice_of(payload, step->build(round, payload)),
    };
    frame.metadata.count = 1;
    frame.metadata.entries[0] =
        (struct cof_metadata_entry){cof_slice_text("authorization"), cof_slice_text(bearer)};
    return cof_request_frame_encode(&frame, to);
}

/* Makes one call; the `refuse`-th request for memory is refused, 0: none. */
static struct answer call(const struct step *step, unsigned round, long refuse)
{
    static uint8_t frame[2 * PAYLOAD_MAX];
    struct sink sink = {.exchange = {.ops = &sink_operations}};
    (void) pthread_mutex_init(&sink.lock, NULL);
    (void) pthread_cond_init(&sink.done, NULL);
    sink.exchange.frame = cof_slice_of(frame, encode_call(step, round, frame));
    sink.exchange.received_us = cof_clock_monotonic(&cof_system_clock);
    sink.exchange.peer.transport = "test";
    atomic_store(&until_refusal, refuse);
    dispatch_submit(&sink.exchange, dispatch);
    wait_for_reply(&sink);
    wait_until_idle();
    const struct answer answer = answer_of(&sink);
    if (refuse == 0) {
        note_made(step, &sink);
    }
    free(sink.reply);
    (void) pthread_cond_destroy(&sink.done);
    (void) pthread_mutex_destroy(&sink.lock);
    return answer;
}

/* --- Messages ------------------------------------------------------------------------------------------------- */

static size_t pack(ProtobufCMessage *message, uint8_t *to)
{
    return protobuf_c_message_pack(message, to);
}

#define BUILD(function, Type, type, ...)                  \
    static size_t function(unsigned round, uint8_t *to)   \
    {                                                     \
        Type request;                                     \
        char name[32];                                    \
        type##__init(&request);                           \
        (void) snprintf(name, sizeof name, "n%u", round); \
        __VA_ARGS__                                       \
        return pack(&request.base, to);                   \
    }

static char environment_text[] = "memory";
static char key_text[] = "KEY";
static char other_key_text[] = "OTHER";
static char account_text[] = "executor";
static char missing_text[] = "n00";
static uint8_t value_bytes[] = "a value";
static char *environments_texts[] = {environment_text, account_text};
static char permission_text[] = "resolve";
static char *permission_texts[] = {permission_text};

static Coffer__V1__KeyValue pair_of(char *key)
{
    Coffer__V1__KeyValue pair;
    coffer__v1__key_value__init(&pair);
    pair.key = key;
    pair.value = (ProtobufCBinaryData){sizeof value_bytes - 1, value_bytes};
    return pair;
}

BUILD(no_fields, Coffer__V1__GetCallerRequest, coffer__v1__get_caller_request, (void) name;)

BUILD(create_secret, Coffer__V1__CreateSecretRequest, coffer__v1__create_secret_request, {
    Coffer__V1__KeyValue pairs[] = {pair_of(key_text), pair_of(other_key_text)};
    Coffer__V1__KeyValue *values[] = {&pairs[0], &pairs[1]};
    request.environment = environment_text;
    request.name = name;
    request.values = values;
    request.n_values = 2;
    request.description = account_text;
    request.tags = environments_texts;
    request.n_tags = 2;
    return pack(&request.base, to);
})

BUILD(get_secret, Coffer__V1__GetSecretRequest, coffer__v1__get_secret_request, {
    request.environment = environment_text;
    request.name = name;
})

BUILD(list_secrets, Coffer__V1__ListSecretsRequest, coffer__v1__list_secrets_request, {
    request.environments = environments_texts;
    request.n_environments = 2;
    request.tags = environments_texts;
    request.n_tags = 1;
    request.page_size = 3;
    (void) name;
})

BUILD(patch_secret, Coffer__V1__UpdateSecretValuesRequest, coffer__v1__update_secret_values_request, {
    Coffer__V1__PatchValues patch;
    Coffer__V1__KeyValue pair = pair_of(key_text);
    Coffer__V1__KeyValue *set[] = {&pair};
    char *remove[] = {other_key_text};
    coffer__v1__patch_values__init(&patch);
    patch.set = set;
    patch.n_set = 1;
    patch.remove = remove;
    patch.n_remove = 1;
    request.environment = environment_text;
    request.name = name;
    request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_PATCH;
    request.patch = &patch;
    request.expected_version = 1;
    return pack(&request.base, to);
})

BUILD(replace_secret, Coffer__V1__UpdateSecretValuesRequest, coffer__v1__update_secret_values_request, {
    Coffer__V1__ReplaceValues replace;
    Coffer__V1__KeyValue pair = pair_of(key_text);
    Coffer__V1__KeyValue *values[] = {&pair};
    coffer__v1__replace_values__init(&replace);
    replace.values = values;
    replace.n_values = 1;
    request.environment = environment_text;
    request.name = name;
    request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE;
    request.replace = &replace;
    request.expected_version = 1;
    return pack(&request.base, to);
})

BUILD(delete_secret, Coffer__V1__DeleteSecretRequest, coffer__v1__delete_secret_request, {
    request.environment = environment_text;
    request.name = name;
})

BUILD(describe_secret, Coffer__V1__UpdateSecretRequest, coffer__v1__update_secret_request, {
    char description[] = "description";
    char tags[] = "tags";
    char *paths[] = {description, tags};
    Google__Protobuf__FieldMask mask;
    google__protobuf__field_mask__init(&mask);
    mask.paths = paths;
    mask.n_paths = 2;
    request.environment = environment_text;
    request.name = name;
    request.update_mask = &mask;
    request.description = account_text;
    request.tags = environments_texts;
    request.n_tags = 2;
    return pack(&request.base, to);
})

BUILD(rename_secret, Coffer__V1__RenameSecretRequest, coffer__v1__rename_secret_request, {
    char new_name[40];
    (void) snprintf(new_name, sizeof new_name, "renamed-%s", name);
    request.environment = environment_text;
    request.name = name;
    request.new_name = new_name;
    return pack(&request.base, to);
})

BUILD(restore_secret, Coffer__V1__RestoreSecretRequest, coffer__v1__restore_secret_request, {
    request.environment = environment_text;
    request.name = name;
})

BUILD(roll_back_secret, Coffer__V1__RollBackSecretRequest, coffer__v1__roll_back_secret_request, {
    request.environment = environment_text;
    request.name = name;
    request.version = 1;
})

BUILD(destroy_version, Coffer__V1__DestroySecretVersionRequest, coffer__v1__destroy_secret_version_request, {
    request.environment = environment_text;
    request.name = name;
    request.version = 1;
})

BUILD(list_versions, Coffer__V1__ListSecretVersionsRequest, coffer__v1__list_secret_versions_request, {
    request.environment = environment_text;
    request.name = name;
})

BUILD(reveal_secret, Coffer__V1__RevealSecretRequest, coffer__v1__reveal_secret_request, {
    char *keys[] = {key_text};
    request.environment = environment_text;
    request.name = name;
    request.keys = keys;
    request.n_keys = 1;
    return pack(&request.base, to);
})

BUILD(compare_versions, Coffer__V1__CompareVersionsRequest, coffer__v1__compare_versions_request, {
    request.environment = environment_text;
    request.name = name;
})

BUILD(copy_secret, Coffer__V1__CopySecretRequest, coffer__v1__copy_secret_request, {
    request.environment = environment_text;
    request.name = name;
    request.target_environment = account_text;
})

static size_t build_import(char *name, Coffer__V1__ImportMode mode, bool validate_only, uint8_t *to)
{
    Coffer__V1__ImportSecretsRequest request;
    Coffer__V1__ImportMetadata metadata;
    Coffer__V1__ImportSecret secrets[3];
    Coffer__V1__ImportSecret *all[] = {&secrets[0], &secrets[1], &secrets[2]};
    Coffer__V1__KeyValue pairs[] = {pair_of(key_text), pair_of(account_text)};
    Coffer__V1__KeyValue *values[] = {&pairs[0], &pairs[1]};
    char other_name[48];
    char bad_name[] = "no name";
    (void) snprintf(other_name, sizeof other_name, "%s-imported", name);
    char *names[] = {name, other_name, bad_name};
    coffer__v1__import_secrets_request__init(&request);
    coffer__v1__import_metadata__init(&metadata);
    metadata.description = account_text;
    metadata.tags = environments_texts;
    metadata.n_tags = 2;
    for (size_t i = 0; i < COF_COUNT(secrets); i++) {
        coffer__v1__import_secret__init(&secrets[i]);
        secrets[i].environment = environment_text;
        secrets[i].name = names[i];
        secrets[i].values = values;
        secrets[i].n_values = 2;
        secrets[i].metadata = i == 0 ? NULL : &metadata;
    }
    request.secrets = all;
    request.n_secrets = validate_only ? 3 : 2;
    request.mode = mode;
    request.validate_only = validate_only;
    return pack(&request.base, to);
}

static size_t import_secrets(unsigned round, uint8_t *to)
{
    char name[40];
    (void) snprintf(name, sizeof name, "n%u", round);
    return build_import(name, COFFER__V1__IMPORT_MODE__IMPORT_MODE_REPLACE, false, to);
}

static size_t patch_by_import(unsigned round, uint8_t *to)
{
    char name[40];
    (void) snprintf(name, sizeof name, "n%u", round);
    return build_import(name, COFFER__V1__IMPORT_MODE__IMPORT_MODE_PATCH, false, to);
}

static size_t check_import(unsigned round, uint8_t *to)
{
    char name[] = "n0";
    (void) round;
    return build_import(name, COFFER__V1__IMPORT_MODE__IMPORT_MODE_REPLACE, true, to);
}

BUILD(export_secrets, Coffer__V1__ExportSecretsRequest, coffer__v1__export_secrets_request, {
    char pattern[] = "n*";
    char *patterns[] = {name, pattern};
    request.environments = environments_texts;
    request.n_environments = 2;
    request.name_patterns = patterns;
    request.n_name_patterns = 2;
    request.page_size = 3;
    return pack(&request.base, to);
})

BUILD(compare_environments, Coffer__V1__CompareEnvironmentsRequest, coffer__v1__compare_environments_request, {
    request.environment = environment_text;
    request.other_environment = account_text;
    request.page_size = 3;
    (void) name;
})

BUILD(watch_from_now, Coffer__V1__WatchSecretsRequest, coffer__v1__watch_secrets_request, (void) name;)

static struct cof_uuid workspace_uuid(void)
{
    struct cof_uuid id;
    if (!cof_uuid_parse(cof_slice_text(workspace), &id)) {
        abort();
    }
    return id;
}

static size_t build_watch(uint64_t from, char *environment, uint8_t *to)
{
    const struct cof_uuid id = workspace_uuid();
    Coffer__V1__WatchSecretsRequest request;
    char position[WATCH_POSITION_TEXT];
    char *environments[] = {environment};
    coffer__v1__watch_secrets_request__init(&request);
    watch_position_format(server_core_service(core), &id, from, position);
    request.resume_token = position;
    request.environments = environments;
    request.n_environments = 1;
    request.page_size = 3;
    request.wait_ms = 20;
    return pack(&request.base, to);
}

static size_t watch_changes(unsigned round, uint8_t *to)
{
    (void) round;
    return build_watch(1, environment_text, to);
}

/* The workspace's revision before the write that nobody in `watch_in_vain` is told of. */
static uint64_t revision_before;

static size_t watch_in_vain(unsigned round, uint8_t *to)
{
    (void) round;
    return build_watch(revision_before, key_text, to);
}

static size_t build_resolve(char *name, char *key, size_t items, bool validate_only, uint8_t *to)
{
    Coffer__V1__ResolveRequest request;
    Coffer__V1__ResolveItem item;
    Coffer__V1__SecretReference reference;
    Coffer__V1__SecretReference *references[] = {&reference, &reference};
    Coffer__V1__ResolveItem *all[] = {&item, &item, &item};
    coffer__v1__resolve_request__init(&request);
    coffer__v1__resolve_item__init(&item);
    coffer__v1__secret_reference__init(&reference);
    reference.name = name;
    reference.key = key;
    item.environments = environments_texts;
    item.n_environments = 1;
    item.references = references;
    item.n_references = 2;
    request.items = all;
    request.n_items = items;
    request.validate_only = validate_only;
    request.page_size = 1;
    return pack(&request.base, to);
}

static size_t resolve_one(unsigned round, uint8_t *to)
{
    char name[] = "n0";
    (void) round;
    return build_resolve(name, key_text, 1, false, to);
}

static size_t resolve_many(unsigned round, uint8_t *to)
{
    char name[] = "n0";
    (void) round;
    return build_resolve(name, key_text, 3, false, to);
}

static size_t resolve_missing_secret(unsigned round, uint8_t *to)
{
    (void) round;
    return build_resolve(missing_text, key_text, 1, false, to);
}

static size_t resolve_missing_key(unsigned round, uint8_t *to)
{
    char name[] = "n0";
    char key[] = "KEYS";
    (void) round;
    return build_resolve(name, key, 1, false, to);
}

static Coffer__V1__SecretDeclaration declaration_of(char *name, char **keys, char **optional_keys)
{
    Coffer__V1__SecretDeclaration declaration;
    coffer__v1__secret_declaration__init(&declaration);
    declaration.name = name;
    declaration.keys = keys;
    declaration.n_keys = keys != NULL;
    declaration.optional_keys = optional_keys;
    declaration.n_optional_keys = optional_keys != NULL;
    return declaration;
}

/* With expressions that succeed, or with everything that can be wrong. */
static size_t build_declared(bool wrong, uint8_t *to)
{
    char name[] = "n0";
    char right_text[] = "${{ SECRETS.n00.KEY || SECRETS.n0.KEY || SECRETS.n0.OTHER }}";
    char engine_text[] = "${{ FN.x(SECRETS.n0.KEY) }}";
    char missing_expression[] = "${{ SECRETS.n00.KEY || SECRETS.n0.KEYS }}";
    char invalid_text[] = "${{ SECRETS.n0 }}";
    char *keys[] = {key_text};
    char *others[] = {missing_text};
    char *right[] = {right_text, engine_text};
    char *bad[] = {missing_expression, invalid_text};
    Coffer__V1__SecretDeclaration some[] = {
        declaration_of(name, keys, others), declaration_of(name, NULL, wrong ? others : keys),
        declaration_of(name, NULL, NULL), declaration_of(account_text, keys, NULL)};
    Coffer__V1__SecretDeclaration *declarations[] = {&some[0], &some[1], &some[2], &some[3]};
    Coffer__V1__ResolveRequest request;
    Coffer__V1__ResolveItem item;
    Coffer__V1__ResolveItem *items[] = {&item};
    coffer__v1__resolve_request__init(&request);
    coffer__v1__resolve_item__init(&item);
    item.environments = environments_texts;
    item.n_environments = 1;
    item.declarations = declarations;
    item.n_declarations = wrong ? 4 : 3;
    item.expressions = wrong ? bad : right;
    item.n_expressions = 2;
    item.environment_view = true;
    request.items = items;
    request.n_items = 1;
    return pack(&request.base, to);
}

static size_t resolve_declared(unsigned round, uint8_t *to)
{
    (void) round;
    return build_declared(false, to);
}

static size_t resolve_declared_wrong(unsigned round, uint8_t *to)
{
    (void) round;
    return build_declared(true, to);
}

static size_t resolve_check(unsigned round, uint8_t *to)
{
    (void) round;
    return build_resolve(missing_text, key_text, 3, true, to);
}

BUILD(create_environment, Coffer__V1__CreateEnvironmentRequest, coffer__v1__create_environment_request,
      { request.name = name; })
BUILD(delete_environment, Coffer__V1__DeleteEnvironmentRequest, coffer__v1__delete_environment_request,
      { request.name = name; })
BUILD(list_environments, Coffer__V1__ListEnvironmentsRequest, coffer__v1__list_environments_request, {
    request.page_size = 2;
    (void) name;
})

BUILD(create_account, Coffer__V1__CreateServiceAccountRequest, coffer__v1__create_service_account_request, {
    Coffer__V1__Rule rule;
    Coffer__V1__Rule *rules[] = {&rule};
    coffer__v1__rule__init(&rule);
    rule.permissions = permission_texts;
    rule.n_permissions = 1;
    rule.environments = environments_texts;
    rule.n_environments = 2;
    request.name = name;
    request.grants = rules;
    request.n_grants = 1;
    return pack(&request.base, to);
})
BUILD(get_account, Coffer__V1__GetServiceAccountRequest, coffer__v1__get_service_account_request, {
    request.name = account_text;
    (void) name;
})
BUILD(list_accounts, Coffer__V1__ListServiceAccountsRequest, coffer__v1__list_service_accounts_request, {
    request.page_size = 1;
    (void) name;
})
BUILD(update_account, Coffer__V1__UpdateServiceAccountRequest, coffer__v1__update_service_account_request, {
    static char mask_texts[][16] = {"description", "grants", "networks", "expire_time"};
    static char network_texts[][24] = {"unix", "2001:db8::/32", "192.0.2.1", "unix:1000"};
    Google__Protobuf__FieldMask mask;
    Coffer__V1__Rule rule;
    Coffer__V1__Rule *rules[] = {&rule};
    char *paths[] = {mask_texts[0], mask_texts[1], mask_texts[2], mask_texts[3]};
    char *networks[] = {network_texts[0], network_texts[1], network_texts[2], network_texts[3]};
    google__protobuf__field_mask__init(&mask);
    coffer__v1__rule__init(&rule);
    mask.paths = paths;
    mask.n_paths = 4;
    rule.permissions = permission_texts;
    rule.n_permissions = 1;
    request.name = name;
    request.update_mask = &mask;
    request.description = name;
    request.grants = rules;
    request.n_grants = 1;
    request.networks = networks;
    request.n_networks = 4;
    return pack(&request.base, to);
})
BUILD(delete_account, Coffer__V1__DeleteServiceAccountRequest, coffer__v1__delete_service_account_request,
      { request.name = name; })
BUILD(issue_token, Coffer__V1__IssueTokenRequest, coffer__v1__issue_token_request, {
    request.service_account = account_text;
    request.description = name;
})
BUILD(list_tokens, Coffer__V1__ListTokensRequest, coffer__v1__list_tokens_request, {
    request.service_account = account_text;
    request.page_size = 1;
    (void) name;
})
BUILD(rotate_token, Coffer__V1__RotateTokenRequest, coffer__v1__rotate_token_request, {
    Google__Protobuf__Duration overlap;
    google__protobuf__duration__init(&overlap);
    overlap.seconds = TIMEOUT_MS;
    request.token_uid = made_token;
    request.overlap = &overlap;
    (void) name;
    return pack(&request.base, to);
})
BUILD(create_workspace, Coffer__V1__CreateWorkspaceRequest, coffer__v1__create_workspace_request,
      { request.name = name; })
BUILD(get_workspace, Coffer__V1__GetWorkspaceRequest, coffer__v1__get_workspace_request, (void) name;)
BUILD(update_workspace, Coffer__V1__UpdateWorkspaceRequest, coffer__v1__update_workspace_request, {
    char paths_text[][24] = {"display_name", "strict_environments", "disabled"};
    char *paths[] = {paths_text[0], paths_text[1], paths_text[2]};
    Google__Protobuf__FieldMask mask;
    google__protobuf__field_mask__init(&mask);
    mask.paths = paths;
    mask.n_paths = 3;
    request.workspace = made_workspace;
    request.update_mask = &mask;
    request.display_name = name;
    request.disabled = true;
    return pack(&request.base, to);
})
BUILD(delete_workspace, Coffer__V1__DeleteWorkspaceRequest, coffer__v1__delete_workspace_request, {
    request.workspace = made_workspace;
    (void) name;
})
BUILD(restore_workspace, Coffer__V1__RestoreWorkspaceRequest, coffer__v1__restore_workspace_request, {
    request.workspace = made_workspace;
    (void) name;
})
BUILD(list_workspaces, Coffer__V1__ListWorkspacesRequest, coffer__v1__list_workspaces_request, {
    request.page_size = 1;
    request.show_deleted = true;
    (void) name;
})

BUILD(register_action, Coffer__V1__RegisterActionsRequest, coffer__v1__register_actions_request, {
    Coffer__V1__NewAction action;
    Coffer__V1__NewAction *actions[] = {&action};
    coffer__v1__new_action__init(&action);
    char secret[] = "n0";
    char *keys[] = {key_text};
    Coffer__V1__SecretDeclaration declaration = declaration_of(secret, keys, NULL);
    Coffer__V1__SecretDeclaration *all[] = {&declaration};
    Coffer__V1__ActionDeclarations declarations;
    coffer__v1__action_declarations__init(&declarations);
    declarations.secrets = all;
    declarations.n_secrets = 1;
    action.name = name;
    action.declarations = &declarations;
    request.actions = actions;
    request.n_actions = 1;
    request.replace_all = true;
    return pack(&request.base, to);
    return pack(&request.base, to);
})
BUILD(get_action, Coffer__V1__GetActionRequest, coffer__v1__get_action_request, { request.name = name; })
BUILD(delete_action, Coffer__V1__DeleteActionRequest, coffer__v1__delete_action_request, { request.name = name; })
BUILD(list_definitions, Coffer__V1__ListDefinitionsRequest, coffer__v1__list_definitions_request, {
    request.environments = environments_texts;
    request.n_environments = 2;
    request.page_size = 5;
    (void) name;
})

static char role_name[] = "aws";
static char role_key[] = "AWS_ROLE_ARN";

BUILD(create_role, Coffer__V1__CreateSecretRequest, coffer__v1__create_secret_request, {
    static uint8_t arn[] = "arn:aws:iam::123456789012:role/reader";
    Coffer__V1__KeyValue pair = pair_of(role_key);
    Coffer__V1__KeyValue *values[] = {&pair};
    pair.value = (ProtobufCBinaryData){sizeof arn - 1, arn};
    request.environment = environment_text;
    request.name = role_name;
    request.values = values;
    request.n_values = 1;
    (void) name;
    return pack(&request.base, to);
})
/* Of a run of its own in each round, so that there is no session yet. */
BUILD(resolve_role, Coffer__V1__ResolveRequest, coffer__v1__resolve_request, {
    char *keys[] = {role_key};
    Coffer__V1__SecretDeclaration declaration = declaration_of(role_name, keys, NULL);
    Coffer__V1__SecretDeclaration *declarations[] = {&declaration};
    Coffer__V1__RunContext run;
    Coffer__V1__ResolveItem item;
    Coffer__V1__ResolveItem *items[] = {&item};
    coffer__v1__run_context__init(&run);
    coffer__v1__resolve_item__init(&item);
    run.run_id = name;
    item.run = &run;
    item.environments = environments_texts;
    item.n_environments = 1;
    item.declarations = declarations;
    item.n_declarations = 1;
    item.environment_view = true;
    request.items = items;
    request.n_items = 1;
    return pack(&request.base, to);
})
BUILD(test_role, Coffer__V1__TestRoleRequest, coffer__v1__test_role_request, {
    request.environment = environment_text;
    request.name = role_name;
    (void) name;
})
BUILD(get_role_access, Coffer__V1__GetAssumeRoleAccessRequest, coffer__v1__get_assume_role_access_request,
      (void) name;)

BUILD(list_actions, Coffer__V1__ListActionsRequest, coffer__v1__list_actions_request, {
    request.page_size = 2;
    (void) name;
})

#define SECRET "coffer.v1.SecretService/"
#define REGISTRY "coffer.v1.IntegrationService/"
#define ENVIRONMENT "coffer.v1.EnvironmentService/"
#define ACCOUNT "coffer.v1.ServiceAccountService/"
#define TOKEN "coffer.v1.TokenService/"
#define WORKSPACE "coffer.v1.WorkspaceService/"
#define AWS "coffer.v1.AwsService/"
#define RESOLVE "coffer.v1.ResolveService/Resolve"

static const struct step caller_step = {TOKEN "GetCaller", no_fields, false};
static const struct step make_secret = {SECRET "CreateSecret", create_secret, false};
static const struct step make_action = {REGISTRY "RegisterActions", register_action, false};
static const struct step make_environment = {ENVIRONMENT "CreateEnvironment", create_environment, false};

static const struct step patched_secret = {SECRET "UpdateSecretValues", patch_secret, false};
static const struct step deleted_secret = {SECRET "DeleteSecret", delete_secret, false};
static const struct step issued_token = {TOKEN "IssueToken", issue_token, false};
static const struct step made_tenant = {WORKSPACE "CreateWorkspace", create_workspace, true};
static const struct step deleted_tenant = {WORKSPACE "DeleteWorkspace", delete_workspace, true};
static const struct step make_account = {ACCOUNT "CreateServiceAccount", create_account, false};

/* --- Scenarios ------------------------------------------------------------------------------------------------ */

/* A failed write can be made again under another request ID as if it had never been tried. */
static void check_nothing_left(const struct step *step, unsigned round)
{
    const struct answer again = call(step, round, 0);
    if (again.code != COF_OK) {
        fprintf(stderr, "%s in round %u left something: %s\n", step->method, round, again.message);
        test_failures++;
    }
}

static void check_answer(const struct step *step, unsigned round, const struct answer *answer)
{
    const bool clear = answer->dropped || answer->code == COF_OK || answer->reason == COF_REASON_OUT_OF_MEMORY ||
                       answer->reason == COF_REASON_OUTCOME_UNKNOWN || answer->reason == COF_REASON_AWS_UNAVAILABLE;
    if (!clear) {
        fprintf(stderr, "%s in round %u: %s: %s\n", step->method, round, cof_reason_name(answer->reason),
                answer->message);
        test_failures++;
    }
    if (cof_pool_used(server_core_pool(core)) != 0) {
        fprintf(stderr, "%s in round %u keeps memory\n", step->method, round);
        test_failures++;
    }
}

/* What has to be there before a step that prepares another. */
static const struct {
    const struct step *step;
    const struct step *first;
} needs[] = {
    {&patched_secret, &make_secret},
    {&deleted_secret, &make_secret},
    {&deleted_tenant, &made_tenant},
};

static void prepare_all(const struct step *last, unsigned round)
{
    for (size_t i = 0; i < COF_COUNT(needs); i++) {
        if (needs[i].step == last) {
            CHECK_INT(call(needs[i].first, round, 0).code, COF_OK);
        }
    }
    CHECK_INT(call(last, round, 0).code, COF_OK);
}

/* Refuses the first request for memory of a call, the second and so on, until the call needs no more. */
static void sweep(const struct step *prepare, const struct step *step, bool write)
{
    static unsigned round = 1;
    unsigned clear_failures = 0;
    const unsigned first = round;
    for (bool spent = true; spent; round++) {
        CHECK(round - first < ROUNDS_MAX);
        if (prepare != NULL) {
            prepare_all(prepare, round);
        }
        const struct answer answer = call(step, round, (long) round - (long) first + 1);
        spent = atomic_exchange(&until_refusal, 0) <= 0;
        check_answer(step, round, &answer);
        clear_failures += answer.reason == COF_REASON_OUT_OF_MEMORY;
        if (write && answer.reason == COF_REASON_OUT_OF_MEMORY) {
            check_nothing_left(step, round);
        }
        CHECK_INT(call(&caller_step, round, 0).code, COF_OK);
        CHECK_INT(spent ? COF_OK : answer.code, COF_OK);
    }
    printf("  %u requests for memory, %u told as OUT_OF_MEMORY\n", round - first - 1, clear_failures);
    CHECK(round - first - 1 == 0 || clear_failures > 0);
}

#define SCENARIO(function, prepare, write, ...)      \
    static void function(void)                       \
    {                                                \
        static const struct step step = __VA_ARGS__; \
        sweep(prepare, &step, write);                \
    }

SCENARIO(health_without_memory, NULL, false, {"grpc.health.v1.Health/Check", no_fields, false})
SCENARIO(server_info_without_memory, NULL, false, {"coffer.rpc.v1.ServerService/GetServerInfo", no_fields, false})
SCENARIO(descriptors_without_memory, NULL, false,
         {"coffer.rpc.v1.ReflectionService/GetFileDescriptorSet", no_fields, false})
SCENARIO(caller_without_memory, NULL, false, {TOKEN "GetCaller", no_fields, false})
SCENARIO(registering_an_action_without_memory, NULL, true, {REGISTRY "RegisterActions", register_action, false})
SCENARIO(reading_an_action_without_memory, &make_action, false, {REGISTRY "GetAction", get_action, false})
SCENARIO(listing_actions_without_memory, NULL, false, {REGISTRY "ListActions", list_actions, false})
SCENARIO(deleting_an_action_without_memory, &make_action, true, {REGISTRY "DeleteAction", delete_action, false})
SCENARIO(listing_definitions_without_memory, NULL, false, {REGISTRY "ListDefinitions", list_definitions, false})
SCENARIO(creating_a_secret_without_memory, NULL, true, {SECRET "CreateSecret", create_secret, false})
SCENARIO(reading_a_secret_without_memory, &make_secret, false, {SECRET "GetSecret", get_secret, false})
SCENARIO(listing_secrets_without_memory, NULL, false, {SECRET "ListSecrets", list_secrets, false})
SCENARIO(patching_a_secret_without_memory, &make_secret, true, {SECRET "UpdateSecretValues", patch_secret, false})
SCENARIO(replacing_a_secret_without_memory, &make_secret, true,
         {SECRET "UpdateSecretValues", replace_secret, false})
SCENARIO(deleting_a_secret_without_memory, &make_secret, true, {SECRET "DeleteSecret", delete_secret, false})
SCENARIO(describing_a_secret_without_memory, &make_secret, true, {SECRET "UpdateSecret", describe_secret, false})
SCENARIO(renaming_a_secret_without_memory, &make_secret, true, {SECRET "RenameSecret", rename_secret, false})
SCENARIO(listing_versions_without_memory, &make_secret, false, {SECRET "ListSecretVersions", list_versions, false})
SCENARIO(revealing_a_secret_without_memory, &make_secret, false, {SECRET "RevealSecret", reveal_secret, false})
SCENARIO(comparing_versions_without_memory, &make_secret, false,
         {SECRET "CompareVersions", compare_versions, false})
SCENARIO(copying_a_secret_without_memory, &make_secret, true, {SECRET "CopySecret", copy_secret, false})
SCENARIO(beginning_a_watch_without_memory, NULL, false, {SECRET "WatchSecrets", watch_from_now, false})
SCENARIO(watch_that_tells_changes_without_memory, NULL, false, {SECRET "WatchSecrets", watch_changes, false})
static uint64_t read_revision(void)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct session *session = server_core_session(core);
    const struct cof_uuid id = workspace_uuid();
    const struct param param = param_uuid(&id);
    struct cof_error err = {0};
    session_deadline(session, cof_clock_monotonic(&cof_system_clock) + INT64_C(1000) * PATIENCE_S * 1000);
    if (session_queue(session, STATEMENT_REVISION_GET, &param, 1, &err) != COF_OK ||
        session_sync(session, &err) != COF_OK || session_next(session, &rows, &err) != COF_OK) {
        abort();
    }
    return (uint64_t) rows_i64(rows, 0, 0);
}

static void watch_that_waits_without_memory(void)
{
    static const struct step step = {SECRET "WatchSecrets", watch_in_vain, false};
    revision_before = read_revision();
    CHECK_INT(call(&make_secret, UINT_MAX, 0).code, COF_OK); /* no round has that number */
    sweep(NULL, &step, false);
}

SCENARIO(comparing_environments_without_memory, NULL, false,
         {SECRET "CompareEnvironments", compare_environments, false})
SCENARIO(importing_secrets_without_memory, &make_secret, true, {SECRET "ImportSecrets", import_secrets, false})
SCENARIO(patching_secrets_by_an_import_without_memory, &make_secret, true,
         {SECRET "ImportSecrets", patch_by_import, false})
SCENARIO(dry_run_of_an_import_without_memory, NULL, false, {SECRET "ImportSecrets", check_import, false})
SCENARIO(exporting_secrets_without_memory, &make_secret, false, {SECRET "ExportSecrets", export_secrets, false})
SCENARIO(resolve_of_one_item_without_memory, NULL, false, {RESOLVE, resolve_one, false})
static void resolve_with_a_narrowed_token_without_memory(void)
{
    static const struct step step = {RESOLVE, resolve_one, false};
    const struct cof_slice any = cof_slice_text("*");
    const struct cof_narrowing narrowing = {
        .environments = &any, .environment_count = 1, .names = &any, .name_count = 1};
    struct cof_error err;
    CHECK_OK(cof_narrow(cof_slice_text(admin_token), &narrowing, crypto_hmac, narrowed_token, &err), &err);
    narrowed_step = &step;
    sweep(NULL, &step, false);
    narrowed_step = NULL;
}

SCENARIO(resolve_of_many_items_without_memory, NULL, false, {RESOLVE, resolve_many, false})
SCENARIO(resolve_of_a_missing_secret_without_memory, NULL, false, {RESOLVE, resolve_missing_secret, false})
SCENARIO(resolve_of_a_missing_key_without_memory, NULL, false, {RESOLVE, resolve_missing_key, false})
SCENARIO(resolve_of_declarations_and_expressions_without_memory, NULL, false, {RESOLVE, resolve_declared, false})
SCENARIO(resolve_of_what_is_declared_and_missing_without_memory, NULL, false,
         {RESOLVE, resolve_declared_wrong, false})
SCENARIO(preflight_without_memory, NULL, false, {RESOLVE, resolve_check, false})
SCENARIO(creating_an_environment_without_memory, NULL, true,
         {ENVIRONMENT "CreateEnvironment", create_environment, false})
SCENARIO(deleting_an_environment_without_memory, &make_environment, true,
         {ENVIRONMENT "DeleteEnvironment", delete_environment, false})
SCENARIO(listing_environments_without_memory, NULL, false,
         {ENVIRONMENT "ListEnvironments", list_environments, false})
SCENARIO(creating_an_account_without_memory, NULL, true, {ACCOUNT "CreateServiceAccount", create_account, false})
SCENARIO(reading_an_account_without_memory, NULL, false, {ACCOUNT "GetServiceAccount", get_account, false})
SCENARIO(listing_accounts_without_memory, NULL, false, {ACCOUNT "ListServiceAccounts", list_accounts, false})
SCENARIO(changing_an_account_without_memory, &make_account, true,
         {ACCOUNT "UpdateServiceAccount", update_account, false})
SCENARIO(deleting_an_account_without_memory, &make_account, true,
         {ACCOUNT "DeleteServiceAccount", delete_account, false})
SCENARIO(issuing_a_token_without_memory, NULL, true, {TOKEN "IssueToken", issue_token, false})
SCENARIO(listing_tokens_without_memory, NULL, false, {TOKEN "ListTokens", list_tokens, false})
SCENARIO(restoring_a_secret_without_memory, &deleted_secret, true, {SECRET "RestoreSecret", restore_secret, false})
SCENARIO(rolling_back_a_secret_without_memory, &patched_secret, true,
         {SECRET "RollBackSecret", roll_back_secret, false})
SCENARIO(destroying_a_version_without_memory, &patched_secret, true,
         {SECRET "DestroySecretVersion", destroy_version, false})
SCENARIO(rotating_a_token_without_memory, &issued_token, true, {TOKEN "RotateToken", rotate_token, false})
SCENARIO(changing_a_workspace_without_memory, &made_tenant, true,
         {WORKSPACE "UpdateWorkspace", update_workspace, true})
SCENARIO(deleting_a_workspace_without_memory, &made_tenant, true,
         {WORKSPACE "DeleteWorkspace", delete_workspace, true})
SCENARIO(restoring_a_workspace_without_memory, &deleted_tenant, true,
         {WORKSPACE "RestoreWorkspace", restore_workspace, true})
SCENARIO(creating_a_workspace_without_memory, NULL, true, {WORKSPACE "CreateWorkspace", create_workspace, true})
SCENARIO(reading_a_workspace_without_memory, NULL, false, {WORKSPACE "GetWorkspace", get_workspace, false})
SCENARIO(listing_workspaces_without_memory, NULL, false, {WORKSPACE "ListWorkspaces", list_workspaces, true})

/* --- Roles of AWS ------------------------------------------------------------------------------------------------- */

static const struct step make_role = {SECRET "CreateSecret", create_role, false};

SCENARIO(reading_what_a_role_has_to_trust_without_memory, NULL, false,
         {AWS "GetAssumeRoleAccess", get_role_access, false})

static void session_of_a_role_without_memory(void)
{
    static const struct step step = {RESOLVE, resolve_role, false};
    (void) call(&make_role, 0, 0);
    sweep(NULL, &step, false);
}

static void test_of_a_role_without_memory(void)
{
    static const struct step step = {AWS "TestRole", test_role, false};
    (void) call(&make_role, 0, 0);
    sweep(NULL, &step, false);
}

/* --- The cache -------------------------------------------------------------------------------------------------- */

static struct cache_options cache_settings(void)
{
    return (struct cache_options){
        .bytes = 1U << 20,
        .staleness_us = INT64_C(3600) * 1000000,
        .clock = &cof_system_clock,
        .epoch = &server_core_service(core)->epoch,
    };
}

/* The same with a cache, which no job confirms: what a call has read is fresh for all that come within the hour. */
static void sweep_with_cache(const struct step *prepare, const struct step *step)
{
    struct service *service = server_core_service(core);
    const struct cache_options options = cache_settings();
    struct cof_error err;
    CHECK_OK(cache_new(&options, &service->cache, &err), &err);
    service->keeps_secrets = true;
    sweep(prepare, step, false);
    CHECK(cache_bytes(service->cache) > 0);
    cache_free(service->cache);
    service->cache = NULL;
}

static void resolve_from_memory_without_memory(void)
{
    static const struct step step = {RESOLVE, resolve_one, false};
    sweep_with_cache(NULL, &step);
}

static void resolve_that_is_kept_without_memory(void)
{
    static const struct step step = {RESOLVE, resolve_one, false};
    sweep_with_cache(&make_secret, &step);
}

/* --- Starting ------------------------------------------------------------------------------------------------- */

static bool was_refused;

/* Nothing is refused from now on. */
static void disarm(void)
{
    was_refused = atomic_exchange(&until_refusal, 0) <= 0;
}

static cof_code start_core(struct cof_error *err)
{
    struct server_core *other = NULL;
    const cof_code code = server_core_new(&settings, &other, err);
    disarm();
    server_core_free(other);
    return code;
}

static cof_code start_dispatch(struct cof_error *err)
{
    const struct dispatch_options options = dispatch_settings();
    struct dispatch *other = NULL;
    const cof_code code = dispatch_start(&options, &other, err);
    disarm();
    dispatch_stop(other);
    dispatch_free(other);
    return code;
}

static cof_code read_settings(struct cof_error *err)
{
    struct settings read;
    const cof_code code = settings_read(NULL, &read, err);
    disarm();
    if (code == COF_OK) {
        settings_done(&read);
    }
    return code;
}

static cof_code make_session(struct cof_error *err)
{
    AUTO(session_cleanup) struct session *session = NULL;
    const struct dispatch_options options = dispatch_settings();
    cof_code code = session_new(&options.session, &session, err);
    if (code == COF_OK) {
        code = session_ready(session, err);
    }
    disarm();
    return code;
}

static void ignore_submit(struct exchange *exchange, void *context)
{
    (void) context;
    exchange_reply(exchange, 1, false, false);
}

static void ignore_refuse(struct exchange *exchange, cof_reason reason, void *context)
{
    (void) reason;
    (void) context;
    exchange_reply(exchange, 1, false, false);
}

static cof_code start_transport(struct cof_error *err)
{
    char address[PATH_SIZE];
    const char *const addresses[] = {address};
    struct transport *transport = NULL;
    (void) snprintf(address, sizeof address, "ipc://%s/sock", directory);
    const struct transport_options options = {
        .addresses = addresses,
        .address_count = 1,
        .ipc_mode = 0600,
        .max_waiting = 4,
        .max_request = 1 << 16,
        .max_per_peer = 4,
        .limits = {.max_peers = 4, .max_malformed = 3, .receive_timeout_ms = 1000},
        .clock = &cof_system_clock,
        .log = &log_sink,
        .submit = ignore_submit,
        .refuse = ignore_refuse,
    };
    const cof_code code = transport_start(&options, &transport, err);
    disarm();
    transport_free(code == COF_OK ? transport : NULL);
    return code;
}

static cof_code start_web(struct cof_error *err)
{
    static const char *const addresses[] = {"ws://127.0.0.1:0/coffer"};
    struct routes routes;
    struct transport *transport = NULL;
    routes_init(&routes, &settings, server_core_service(core));
    const struct transport_options options = {
        .addresses = addresses,
        .address_count = 1,
        .max_waiting = 4,
        .max_request = 1 << 16,
        .max_per_peer = 4,
        .limits = {.max_peers = 4, .max_strangers = 4, .receive_timeout_ms = 1000, .http_timeout_ms = 1000},
        .site = &routes.site,
        .clock = &cof_system_clock,
        .log = &log_sink,
        .submit = ignore_submit,
        .refuse = ignore_refuse,
    };
    const cof_code code = transport_start(&options, &transport, err);
    disarm();
    transport_free(code == COF_OK ? transport : NULL);
    routes_done(&routes);
    return code;
}

/* An answer is whole, or there is none. */
static void http_is_answered_whole_or_not_at_all_without_memory(void)
{
    static const char request[] = "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    struct routes routes;
    routes_init(&routes, &settings, server_core_service(core));
    was_refused = true;
    for (long refuse = 1; was_refused; refuse++) {
        struct http_outcome outcome;
        atomic_store(&until_refusal, refuse);
        http_serve(&routes.site, "/coffer", true, cof_slice_text(request), NULL, &outcome);
        disarm();
        const struct cof_slice bytes = cof_slice_of(outcome.bytes.data, outcome.bytes.size);
        CHECK(outcome.step == HTTP_ANSWER);
        CHECK(outcome.bytes.data == NULL || outcome.bytes.failed ||
              cof_slice_starts_with(bytes, cof_slice_text("HTTP/1.1 ")));
        CHECK(was_refused || (outcome.bytes.size > 0 && outcome.bytes.data[outcome.bytes.size - 1] == '\n'));
        http_text_done(&outcome.bytes);
    }
    routes_done(&routes);
}

/* Starts again and again, each time without another piece of memory; the last time with all of it. Of a start that takes
 * thousands, most of them for one list, the later ones are sampled. */
static void sweep_start(cof_code (*begin)(struct cof_error *err))
{
    struct cof_error err = {0};
    for (long refuse = 1;; refuse += 1 + refuse / EACH_ROUNDS) {
        CHECK(refuse < STARTS_MAX);
        atomic_store(&until_refusal, refuse);
        const cof_code code = begin(&err);
        if (!was_refused) {
            CHECK_OK(code, &err);
            break;
        }
        if (code == COF_OK) {
            continue; /* it did without */
        }
        CHECK_FAILS(code, &err, OUT_OF_MEMORY);
    }
    CHECK_INT(call(&caller_step, 0, 0).code, COF_OK);
}

static void core_that_starts_without_memory_says_so(void)
{
    sweep_start(start_core);
}

static void dispatch_that_starts_without_memory_says_so(void)
{
    sweep_start(start_dispatch);
}

static cof_code start_cache(struct cof_error *err)
{
    struct cache *cache = NULL;
    const struct cache_options options = cache_settings();
    const cof_code code = cache_new(&options, &cache, err);
    disarm();
    cache_free(code == COF_OK ? cache : NULL);
    return code;
}

static void cache_that_starts_without_memory_says_so(void)
{
    sweep_start(start_cache);
}

static void settings_that_are_read_without_memory_say_so(void)
{
    sweep_start(read_settings);
}

static void session_that_is_made_without_memory_says_so(void)
{
    sweep_start(make_session);
}

static void transport_that_starts_without_memory_says_so(void)
{
    sweep_start(start_transport);
}

static void transport_that_opens_websockets_without_memory_says_so(void)
{
    sweep_start(start_web);
}

static void pool_that_is_used_up_is_told_and_is_whole_again(void)
{
    static struct cof_arena hoarder;
    struct cof_pool *pool = server_core_pool(core);
    cof_arena_init(&hoarder, pool, SIZE_MAX / 2);
    while (__real_cof_arena_alloc(&hoarder, COF_ARENA_CHUNK / 2) != NULL) {
    }
    const struct answer answer = call(&caller_step, 0, 0);
    cof_arena_reset(&hoarder);
    CHECK_INT(answer.reason, COF_REASON_OUT_OF_MEMORY);
    CHECK_INT(call(&caller_step, 0, 0).code, COF_OK);
    CHECK_INT(cof_pool_used(pool), 0);
}

static const struct test_case cases[] = {
    TEST(health_without_memory),
    TEST(server_info_without_memory),
    TEST(descriptors_without_memory),
    TEST(caller_without_memory),
    TEST(creating_a_secret_without_memory),
    TEST(reading_a_secret_without_memory),
    TEST(listing_secrets_without_memory),
    TEST(patching_a_secret_without_memory),
    TEST(replacing_a_secret_without_memory),
    TEST(deleting_a_secret_without_memory),
    TEST(describing_a_secret_without_memory),
    TEST(renaming_a_secret_without_memory),
    TEST(listing_versions_without_memory),
    TEST(revealing_a_secret_without_memory),
    TEST(comparing_versions_without_memory),
    TEST(copying_a_secret_without_memory),
    TEST(beginning_a_watch_without_memory),
    TEST(watch_that_tells_changes_without_memory),
    TEST(watch_that_waits_without_memory),
    TEST(comparing_environments_without_memory),
    TEST(importing_secrets_without_memory),
    TEST(patching_secrets_by_an_import_without_memory),
    TEST(dry_run_of_an_import_without_memory),
    TEST(exporting_secrets_without_memory),
    TEST(resolve_of_one_item_without_memory),
    TEST(resolve_with_a_narrowed_token_without_memory),
    TEST(resolve_of_many_items_without_memory),
    TEST(resolve_of_a_missing_secret_without_memory),
    TEST(resolve_of_a_missing_key_without_memory),
    TEST(resolve_of_declarations_and_expressions_without_memory),
    TEST(resolve_of_what_is_declared_and_missing_without_memory),
    TEST(preflight_without_memory),
    TEST(resolve_from_memory_without_memory),
    TEST(resolve_that_is_kept_without_memory),
    TEST(creating_an_environment_without_memory),
    TEST(deleting_an_environment_without_memory),
    TEST(listing_environments_without_memory),
    TEST(creating_an_account_without_memory),
    TEST(reading_an_account_without_memory),
    TEST(listing_accounts_without_memory),
    TEST(changing_an_account_without_memory),
    TEST(deleting_an_account_without_memory),
    TEST(issuing_a_token_without_memory),
    TEST(listing_tokens_without_memory),
    TEST(restoring_a_secret_without_memory),
    TEST(rolling_back_a_secret_without_memory),
    TEST(destroying_a_version_without_memory),
    TEST(rotating_a_token_without_memory),
    TEST(changing_a_workspace_without_memory),
    TEST(deleting_a_workspace_without_memory),
    TEST(restoring_a_workspace_without_memory),
    TEST(creating_a_workspace_without_memory),
    TEST(reading_a_workspace_without_memory),
    TEST(listing_workspaces_without_memory),
    TEST(registering_an_action_without_memory),
    TEST(reading_an_action_without_memory),
    TEST(listing_actions_without_memory),
    TEST(deleting_an_action_without_memory),
    TEST(listing_definitions_without_memory),
    TEST(reading_what_a_role_has_to_trust_without_memory),
    TEST(session_of_a_role_without_memory),
    TEST(test_of_a_role_without_memory),
    TEST(core_that_starts_without_memory_says_so),
    TEST(dispatch_that_starts_without_memory_says_so),
    TEST(cache_that_starts_without_memory_says_so),
    TEST(settings_that_are_read_without_memory_say_so),
    TEST(session_that_is_made_without_memory_says_so),
    TEST(transport_that_starts_without_memory_says_so),
    TEST(transport_that_opens_websockets_without_memory_says_so),
    TEST(http_is_answered_whole_or_not_at_all_without_memory),
    TEST(pool_that_is_used_up_is_told_and_is_whole_again),
};

int main(int argc, char **argv)
{
    start();
    (void) call(&make_secret, 0, 0);
    const int result = test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
    stop();
    return result;
}
