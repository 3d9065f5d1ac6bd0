#include "client/bench/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "coffer/v1/environment.pb-c.h"
#include "coffer/v1/secret.pb-c.h"
#include "common/secret.h"

/* --- Bytes ---------------------------------------------------------------------------------------------------- */

struct cof_slice data_pack(const ProtobufCMessage *message)
{
    const size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(length + 1);
    if (packed == NULL) {
        return (struct cof_slice){NULL, 0};
    }
    (void) protobuf_c_message_pack(message, packed);
    return cof_slice_of(packed, length);
}

void data_free(struct cof_slice *bytes)
{
    void *memory;
    if (bytes->data == NULL) {
        return;
    }
    memcpy(&memory, &bytes->data, sizeof memory);
    cof_wipe(memory, bytes->len);
    free(memory);
    *bytes = (struct cof_slice){NULL, 0};
}

static bool fill_random(void *to, size_t size)
{
    uint8_t *at = to;
    while (size > 0) {
        const ssize_t got = getrandom(at, size < 256 ? size : 256, 0);
        if (got <= 0) {
            return false;
        }
        at += got;
        size -= (size_t) got;
    }
    return true;
}

static bool make_value(struct data *data)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    data->value = malloc(data->value_size + 1);
    if (data->value == NULL || !fill_random(data->value, data->value_size)) {
        return false;
    }
    for (size_t i = 0; i < data->value_size; i++) {
        data->value[i] = digits[(uint8_t) data->value[i] % (sizeof digits - 1)];
    }
    data->value[data->value_size] = '\0';
    return true;
}

/* --- What there is -------------------------------------------------------------------------------------------- */

bool data_init(struct data *data, const struct data_workspaces *workspaces, size_t secrets, size_t value_size)
{
    *data = (struct data){.workspaces = *workspaces, .value_size = value_size};
    data->per_workspace = (secrets + workspaces->count - 1) / workspaces->count;
    data->per_workspace = data->per_workspace == 0 ? 1 : data->per_workspace;
    data->count = data->per_workspace * workspaces->count;
    return fill_random(&data->run, sizeof data->run) && make_value(data);
}

void data_done(struct data *data)
{
    if (data->value != NULL) {
        cof_wipe(data->value, data->value_size);
        free(data->value);
        data->value = NULL;
    }
}

void data_name(const struct data *data, size_t secret, char name[DATA_NAME])
{
    (void) snprintf(name, DATA_NAME, "bench_%08x_%zu", data->run, secret % data->per_workspace);
}

char *data_workspace(const struct data *data, size_t secret)
{
    return data->workspaces.uuids[secret / data->per_workspace];
}

/* --- Making and removing -------------------------------------------------------------------------------------- */

static struct cof_slice pack_create(const struct data *data, size_t secret)
{
    static char environment[] = DATA_ENVIRONMENT;
    static char key[] = DATA_KEY;
    char name[DATA_NAME];
    Coffer__V1__KeyValue value;
    Coffer__V1__KeyValue *values[] = {&value};
    Coffer__V1__CreateSecretRequest request;
    coffer__v1__key_value__init(&value);
    coffer__v1__create_secret_request__init(&request);
    data_name(data, secret, name);
    value.key = key;
    value.value = (ProtobufCBinaryData){data->value_size, (uint8_t *) data->value};
    request.workspace = data_workspace(data, secret);
    request.environment = environment;
    request.name = name;
    request.values = values;
    request.n_values = 1;
    return data_pack(&request.base);
}

static struct cof_slice pack_delete(const struct data *data, size_t secret)
{
    static char environment[] = DATA_ENVIRONMENT;
    char name[DATA_NAME];
    Coffer__V1__DeleteSecretRequest request;
    coffer__v1__delete_secret_request__init(&request);
    data_name(data, secret, name);
    request.workspace = data_workspace(data, secret);
    request.environment = environment;
    request.name = name;
    return data_pack(&request.base);
}

static struct cof_slice pack_delete_environment(const struct data *data, size_t workspace)
{
    static char environment[] = DATA_ENVIRONMENT;
    Coffer__V1__DeleteEnvironmentRequest request;
    coffer__v1__delete_environment_request__init(&request);
    request.workspace = data->workspaces.uuids[workspace];
    request.name = environment;
    return data_pack(&request.base);
}

/* A list of calls, one for each index. */
struct work {
    const struct data *data;
    coffer_client *client;
    const char *method;
    struct cof_slice (*pack)(const struct data *data, size_t index);
    size_t count;
    _Atomic size_t next;
};

static void begin(struct load_slot *slot, void *context)
{
    struct work *work = context;
    struct cof_slice payload = work->pack(work->data, atomic_fetch_add(&work->next, 1));
    const struct remote_call call = {.method = work->method, .payload = payload};
    if (payload.data == NULL) {
        load_done(slot, "OUT_OF_MEMORY");
        return;
    }
    remote_begin(work->client, &call, slot);
    data_free(&payload);
}

/* Failures with the reason `forgiven` are none. */
static bool run(struct work *work, uint32_t in_flight, const char *what, const char *forgiven)
{
    struct load_result *result = malloc(sizeof *result);
    const struct load_options options = {
        .in_flight = in_flight, .calls = work->count, .begin = begin, .context = work};
    bool good = result != NULL && load_run(&options, result);
    for (size_t i = 0; good && i < LOAD_REASONS && result->reasons[i].name != NULL; i++) {
        if (strcmp(result->reasons[i].name, forgiven) != 0) {
            (void) fprintf(stderr, "coffer-bench: %s: %s, %llu times\n", what, result->reasons[i].name,
                           (unsigned long long) result->reasons[i].count);
            good = false;
        }
    }
    free(result);
    return good;
}

bool data_create(struct data *data, coffer_client *client, uint32_t in_flight)
{
    struct work work = {.data = data,
                        .client = client,
                        .method = "coffer.v1.SecretService/CreateSecret",
                        .pack = pack_create,
                        .count = data->count};
    return run(&work, in_flight, "making secrets in the environment " DATA_ENVIRONMENT, "");
}

bool data_remove(struct data *data, coffer_client *client, uint32_t in_flight)
{
    struct work secrets = {.data = data,
                           .client = client,
                           .method = "coffer.v1.SecretService/DeleteSecret",
                           .pack = pack_delete,
                           .count = data->count};
    struct work environments = {.data = data,
                                .client = client,
                                .method = "coffer.v1.EnvironmentService/DeleteEnvironment",
                                .pack = pack_delete_environment,
                                .count = data->workspaces.count};
    const bool removed = run(&secrets, in_flight, "removing the secrets", "SECRET_NOT_FOUND");
    return run(&environments, in_flight, "removing the environment " DATA_ENVIRONMENT, "ENVIRONMENT_NOT_EMPTY") &&
           removed;
}
