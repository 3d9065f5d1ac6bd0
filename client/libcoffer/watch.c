#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/secret.pb-c.h>
#include <coffer/watch.h>

#include "client/libcoffer/client.h"
#include "client/libcoffer/failure.h"
#include "common/wire.h"

enum {
    WAIT_MS = 20000,
    WAIT_MAX_MS = 60000,
    /* Beyond the wait: how long a server may take to answer, and the whole call with its repeats. */
    PATIENCE_MS = 5000,
    BEYOND_MS = 10000,
    TEXT_MAX = 4096,
    MS = 1000,
    NS_IN_MS = 1000000,
};

#define METHOD "coffer.v1.SecretService/WatchSecrets"

struct coffer_watch {
    coffer_client *client;
    char *workspace;
    char *prefix;
    char *token; /* NULL: from now */
    char **environments;
    size_t environment_count;
    uint32_t wait_ms;
    struct cof_error err; /* the first failure of what was set */
    atomic_bool waiting;
    /* Of the wait under way. */
    coffer_watch_done done;
    void *context;
};

/* Its messages lie in the arena. */
struct coffer_changes {
    struct memory *memory;
    struct cof_arena arena;
    const Coffer__V1__WatchSecretsResponse *response;
};

/* --- What is watched ------------------------------------------------------------------------------------------ */

static void no_memory(coffer_watch *watch)
{
    cof_ignore(cof_fail(&watch->err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a watch"));
}

static bool usable(const coffer_watch *watch)
{
    return watch != NULL && watch->err.code == COF_OK;
}

/* NULL and the failure if that cannot be. */
static char *copy_of(coffer_watch *watch, const char *field, const char *text)
{
    const size_t length = text == NULL ? 0 : strnlen(text, TEXT_MAX + 1);
    if (length > TEXT_MAX || !cof_text_valid(cof_slice_of(text, length))) {
        cof_ignore(cof_fail_field(&watch->err, COF_REASON_FIELD_INVALID, field,
                                  "%s must be UTF-8 of at most %d bytes; correct it", field, TEXT_MAX));
        return NULL;
    }
    char *copy = strndup(text == NULL ? "" : text, length);
    if (copy == NULL) {
        no_memory(watch);
    }
    return copy;
}

static void set_text(coffer_watch *watch, const char *field, const char *text, char **to)
{
    char *copy = copy_of(watch, field, text);
    if (copy != NULL) {
        free(*to);
        *to = copy;
    }
}

coffer_watch *coffer_watch_new(coffer_client *client)
{
    coffer_watch *watch = client == NULL ? NULL : calloc(1, sizeof *watch);
    if (watch == NULL) {
        return NULL;
    }
    watch->client = client;
    watch->wait_ms = WAIT_MS;
    cof_error_clear(&watch->err);
    return watch;
}

void coffer_watch_free(coffer_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    for (size_t i = 0; i < watch->environment_count; i++) {
        free(watch->environments[i]);
    }
    free(watch->environments);
    free(watch->workspace);
    free(watch->prefix);
    free(watch->token);
    free(watch);
}

void coffer_watch_set_workspace(coffer_watch *watch, const char *workspace)
{
    if (usable(watch)) {
        set_text(watch, "workspace", workspace, &watch->workspace);
    }
}

void coffer_watch_add_environment(coffer_watch *watch, const char *environment)
{
    char *copy = usable(watch) ? copy_of(watch, "environments", environment) : NULL;
    if (copy == NULL) {
        return;
    }
    char **longer = realloc(watch->environments, (watch->environment_count + 1) * sizeof *longer);
    if (longer == NULL) {
        free(copy);
        no_memory(watch);
        return;
    }
    longer[watch->environment_count++] = copy;
    watch->environments = longer;
}

void coffer_watch_set_name_prefix(coffer_watch *watch, const char *prefix)
{
    if (usable(watch)) {
        set_text(watch, "name_prefix", prefix, &watch->prefix);
    }
}

void coffer_watch_set_resume_token(coffer_watch *watch, const char *token)
{
    if (usable(watch)) {
        set_text(watch, "resume_token", token, &watch->token);
    }
}

void coffer_watch_set_wait(coffer_watch *watch, uint32_t milliseconds)
{
    if (!usable(watch)) {
        return;
    }
    if (milliseconds == 0 || milliseconds > WAIT_MAX_MS) {
        cof_ignore(cof_fail_field(&watch->err, COF_REASON_FIELD_INVALID, "wait_ms",
                                  "a watch waits 1 to %d ms; choose a time between them", WAIT_MAX_MS));
        return;
    }
    watch->wait_ms = milliseconds;
}

/* --- One answer ----------------------------------------------------------------------------------------------- */

static void changes_cleanup(coffer_changes **changes)
{
    coffer_changes_free(*changes);
}

static cof_code unpack(const struct call *call, coffer_changes *changes, struct cof_error *err)
{
    ProtobufCMessage *message = NULL;
    const cof_code code = cof_wire_unpack(&coffer__v1__watch_secrets_response__descriptor,
                                          call_reply(call)->payload, &changes->arena, &message, err);
    changes->response = (const Coffer__V1__WatchSecretsResponse *) (const void *) message;
    if (code == COF_RESOURCE_EXHAUSTED) {
        return memory_exhausted(err);
    }
    /* Without a position the next call would begin anew, and what lies between would be lost. */
    if (code != COF_OK || changes->response->resume_token[0] == '\0') {
        return cof_fail(err, COF_REASON_REPLY_INVALID, "the answer is none to a watch; %s",
                        cof_reason_next_step(COF_REASON_REPLY_INVALID));
    }
    return COF_OK;
}

/* The answer of a call that succeeded; the watch goes on behind it. */
static cof_code take_answer(coffer_watch *watch, const struct call *call, coffer_changes **ret_changes,
                            struct cof_error *err)
{
    AUTO(changes_cleanup) coffer_changes *changes = calloc(1, sizeof *changes);
    if (changes == NULL) {
        return memory_exhausted(err);
    }
    changes->memory = memory_hold(watch->client->memory);
    cof_arena_init(&changes->arena, memory_pool(changes->memory), SIZE_MAX);
    TRY(unpack(call, changes, err));
    char *token = strdup(changes->response->resume_token);
    if (token == NULL) {
        return memory_exhausted(err);
    }
    free(watch->token);
    watch->token = token;
    *ret_changes = TAKE(changes);
    return COF_OK;
}

/* --- One wait ------------------------------------------------------------------------------------------------- */

static char *or_empty(char *text)
{
    static char empty[] = "";
    return text == NULL ? empty : text;
}

static cof_code make_call(coffer_watch *watch, struct call **ret_call, struct cof_error *err)
{
    Coffer__V1__WatchSecretsRequest request;
    coffer__v1__watch_secrets_request__init(&request);
    request.workspace = or_empty(watch->workspace == NULL ? watch->client->settings.workspace : watch->workspace);
    request.environments = watch->environments;
    request.n_environments = watch->environment_count;
    request.name_prefix = or_empty(watch->prefix);
    request.resume_token = or_empty(watch->token);
    request.wait_ms = watch->wait_ms;
    const size_t size = coffer__v1__watch_secrets_request__get_packed_size(&request);
    uint8_t *payload = malloc(size + 1);
    if (payload == NULL) {
        return memory_exhausted(err);
    }
    (void) coffer__v1__watch_secrets_request__pack(&request, payload);
    const struct client_call plan = {
        .method = METHOD,
        .payload = cof_slice_of(payload, size),
        .timeout_ms = watch->wait_ms + BEYOND_MS,
        .patience_ms = watch->wait_ms + PATIENCE_MS,
    };
    const cof_code code = client_call_new_now(watch->client, &plan, ret_call, err);
    free(payload);
    return code;
}

static cof_code begin(coffer_watch *watch, struct call **ret_call, struct cof_error *err)
{
    if (watch == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no watch; coffer_watch_new had no client or no memory");
    }
    if (watch->err.code != COF_OK) {
        *err = watch->err;
        return err->code;
    }
    if (atomic_exchange(&watch->waiting, true)) {
        return cof_fail(err, COF_REASON_IN_PROGRESS, "the watch is waiting already; take that answer first");
    }
    const cof_code code = make_call(watch, ret_call, err);
    if (code != COF_OK) {
        atomic_store(&watch->waiting, false);
    }
    return code;
}

coffer_status coffer_watch_next(coffer_watch *watch, coffer_changes **ret_changes, coffer_error **ret_error)
{
    struct cof_error err;
    struct call *call = NULL;
    if (ret_changes == NULL) {
        return client_missing("the place for the changes", ret_error);
    }
    *ret_changes = NULL;
    cof_error_clear(&err);
    if (begin(watch, &call, &err) != COF_OK) {
        return failure_tell(&err, NULL, ret_error);
    }
    const struct cof_uuid id = *call_request_id(call);
    if (call_run(call) != COF_OK) {
        err = *call_error(call);
    } else {
        cof_ignore(take_answer(watch, call, ret_changes, &err));
    }
    call_free(call);
    atomic_store(&watch->waiting, false);
    return failure_tell(&err, &id, ret_error);
}

/* The callee may free the watch. */
static void tell(struct call *call, void *context)
{
    coffer_watch *watch = context;
    coffer_changes *changes = NULL;
    struct cof_error err = *call_error(call);
    const coffer_watch_done done = watch->done;
    void *const theirs = watch->context;
    if (err.code == COF_OK) {
        cof_ignore(take_answer(watch, call, &changes, &err));
    }
    atomic_store(&watch->waiting, false);
    done(changes, changes == NULL ? failure_new(&err, call_request_id(call)) : NULL, theirs);
    call_free(call);
}

coffer_status coffer_watch_start(coffer_watch *watch, coffer_watch_done done, void *context,
                                 coffer_error **ret_error)
{
    struct cof_error err;
    struct call *call = NULL;
    if (done == NULL) {
        return client_missing("the callback", ret_error);
    }
    cof_error_clear(&err);
    if (begin(watch, &call, &err) == COF_OK) {
        watch->done = done;
        watch->context = context;
        call_start(call, tell, watch);
    }
    return failure_tell(&err, NULL, ret_error);
}

/* --- Changes -------------------------------------------------------------------------------------------------- */

/* A change is its message. */
static const Coffer__V1__SecretChange *message_of(const coffer_change *change)
{
    return (const Coffer__V1__SecretChange *) (const void *) change;
}

void coffer_changes_free(coffer_changes *changes)
{
    if (changes == NULL) {
        return;
    }
    cof_arena_reset(&changes->arena);
    memory_drop(changes->memory);
    free(changes);
}

size_t coffer_changes_count(const coffer_changes *changes)
{
    return changes->response->n_changes;
}

const char *coffer_changes_resume_token(const coffer_changes *changes)
{
    return changes->response->resume_token;
}

const char *coffer_changes_consistency_token(const coffer_changes *changes)
{
    return changes->response->consistency_token;
}

bool coffer_changes_more(const coffer_changes *changes)
{
    return changes->response->more;
}

const coffer_change *coffer_changes_at(const coffer_changes *changes, size_t index)
{
    return index < changes->response->n_changes
               ? (const coffer_change *) (const void *) changes->response->changes[index]
               : NULL;
}

const char *coffer_change_kind_name(coffer_change_kind kind)
{
    static const char prefix[] = "SECRET_CHANGE_KIND_";
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&coffer__v1__secret_change_kind__descriptor, (int) kind);
    return value == NULL ? "UNKNOWN" : value->name + sizeof prefix - 1;
}

coffer_change_kind coffer_change_what(const coffer_change *change)
{
    return (coffer_change_kind) message_of(change)->kind;
}

const char *coffer_change_environment(const coffer_change *change)
{
    return message_of(change)->environment;
}

const char *coffer_change_name(const coffer_change *change)
{
    return message_of(change)->name;
}

const char *coffer_change_old_name(const coffer_change *change)
{
    return message_of(change)->old_name;
}

const char *coffer_change_uid(const coffer_change *change)
{
    return message_of(change)->uid;
}

uint64_t coffer_change_version(const coffer_change *change)
{
    return message_of(change)->version;
}

uint64_t coffer_change_destroyed_version(const coffer_change *change)
{
    return message_of(change)->destroyed_version;
}

uint64_t coffer_change_revision(const coffer_change *change)
{
    return message_of(change)->revision;
}

int64_t coffer_change_time_ms(const coffer_change *change)
{
    const Google__Protobuf__Timestamp *time = message_of(change)->time;
    return time == NULL ? 0 : time->seconds * MS + time->nanos / NS_IN_MS;
}
