#include "client/bench/operation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/bench/statistics.h"
#include "coffer/v1/resolve.pb-c.h"
#include "coffer/v1/secret.pb-c.h"
#include "common/secret.h"

enum { REFERENCES_MAX = 32, PAGE = 50, WEIGHT_MAX = 1000 };

static const struct operation_kind kinds[] = {
#define OPERATION(name, method, needs_data, references, help) {#name, method, needs_data, references, help},
#include "client/bench/operation.def"
#undef OPERATION
};

enum kind_index {
#define OPERATION(name, method, needs_data, references, help) KIND_##name,
#include "client/bench/operation.def"
#undef OPERATION
};

size_t operation_kind_count(void)
{
    return COF_COUNT(kinds);
}

const struct operation_kind *operation_kind_at(size_t index)
{
    return &kinds[index];
}

/* --- Requests ------------------------------------------------------------------------------------------------- */

static char environment[] = DATA_ENVIRONMENT;
static char key[] = DATA_KEY;

/* Neighbours of one workspace, as a workflow's step would ask for them. */
static struct cof_slice pack_resolve(const struct data *data, size_t secret, size_t count)
{
    char names[REFERENCES_MAX][DATA_NAME];
    char *environments[] = {environment};
    Coffer__V1__SecretReference references[REFERENCES_MAX];
    Coffer__V1__SecretReference *list[REFERENCES_MAX];
    Coffer__V1__ResolveItem item;
    Coffer__V1__ResolveItem *items[] = {&item};
    Coffer__V1__ResolveRequest request;
    const size_t first = secret / data->per_workspace * data->per_workspace;
    coffer__v1__resolve_item__init(&item);
    coffer__v1__resolve_request__init(&request);
    for (size_t i = 0; i < count; i++) {
        coffer__v1__secret_reference__init(&references[i]);
        data_name(data, first + (secret + i) % data->per_workspace, names[i]);
        references[i].name = names[i];
        references[i].key = key;
        list[i] = &references[i];
    }
    item.workspace = data_workspace(data, secret);
    item.environments = environments;
    item.n_environments = 1;
    item.references = list;
    item.n_references = count;
    request.items = items;
    request.n_items = 1;
    return data_pack(&request.base);
}

static struct cof_slice pack_get(const struct data *data, size_t secret)
{
    char name[DATA_NAME];
    Coffer__V1__GetSecretRequest request;
    coffer__v1__get_secret_request__init(&request);
    data_name(data, secret, name);
    request.workspace = data_workspace(data, secret);
    request.environment = environment;
    request.name = name;
    return data_pack(&request.base);
}

static struct cof_slice pack_list(const struct data *data, size_t secret)
{
    char *environments[] = {environment};
    Coffer__V1__ListSecretsRequest request;
    coffer__v1__list_secrets_request__init(&request);
    request.workspace = data_workspace(data, secret);
    request.environments = environments;
    request.n_environments = 1;
    request.page_size = PAGE;
    return data_pack(&request.base);
}

static struct cof_slice pack_write(const struct data *data, size_t secret)
{
    char name[DATA_NAME];
    Coffer__V1__KeyValue value;
    Coffer__V1__KeyValue *values[] = {&value};
    Coffer__V1__ReplaceValues replace;
    Coffer__V1__UpdateSecretValuesRequest request;
    coffer__v1__key_value__init(&value);
    coffer__v1__replace_values__init(&replace);
    coffer__v1__update_secret_values_request__init(&request);
    data_name(data, secret, name);
    value.key = key;
    value.value = (ProtobufCBinaryData){data->value_size, (uint8_t *) data->value};
    replace.values = values;
    replace.n_values = 1;
    request.workspace = data_workspace(data, secret);
    request.environment = environment;
    request.name = name;
    request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE;
    request.replace = &replace;
    return data_pack(&request.base);
}

static struct cof_slice pack_nothing(void)
{
    return cof_slice_of(calloc(1, 1), 0);
}

static struct cof_slice pack_request(const struct operation_kind *kind, const struct data *data, size_t secret)
{
    switch ((enum kind_index)(kind - kinds)) {
    case KIND_info:
        return pack_nothing();
    case KIND_resolve:
    case KIND_resolve32:
        return pack_resolve(data, secret, kind->references);
    case KIND_get:
        return pack_get(data, secret);
    case KIND_list:
        return pack_list(data, secret);
    case KIND_write:
        return pack_write(data, secret);
    }
    return (struct cof_slice){NULL, 0};
}

static bool make_payloads(struct operation *operation, const struct data *data)
{
    const size_t count = operation->kind->needs_data ? data->count : 1;
    operation->payloads = calloc(count, sizeof *operation->payloads);
    if (operation->payloads == NULL) {
        return false;
    }
    for (; operation->count < count; operation->count++) {
        operation->payloads[operation->count] = pack_request(operation->kind, data, operation->count);
        if (operation->payloads[operation->count].data == NULL) {
            return false;
        }
    }
    return true;
}

/* --- The first answer ----------------------------------------------------------------------------------------- */

/* Whether the answer has each reference's value. */
static bool resolved(const struct operation *operation, const struct data *data, coffer_bytes payload)
{
    const struct cof_slice value = cof_slice_of(data->value, data->value_size);
    Coffer__V1__ResolveResponse *response =
        coffer__v1__resolve_response__unpack(NULL, payload.length, payload.data);
    size_t right = 0;
    if (response == NULL) {
        return false;
    }
    for (size_t i = 0; response->n_results == 1 && i < response->results[0]->n_secrets; i++) {
        const Coffer__V1__ResolvedSecret *secret = response->results[0]->secrets[i];
        const struct cof_slice got =
            secret->n_values != 1 ? (struct cof_slice){NULL, 0}
                                  : cof_slice_of(secret->values[0]->value.data, secret->values[0]->value.len);
        right += cof_secret_equal(got, value);
    }
    coffer__v1__resolve_response__free_unpacked(response, NULL);
    return right == operation->kind->references;
}

static bool try_out(struct operation *operation, const struct data *data, coffer_client *client)
{
    const struct remote_call call = {.method = operation->kind->method, .payload = operation->payloads[0]};
    coffer_reply *reply = remote_wait(client, &call);
    if (reply == NULL) {
        return false;
    }
    const coffer_bytes payload = coffer_reply_payload(reply);
    const size_t references = operation->kind->references;
    const bool right = references == 0 || resolved(operation, data, payload);
    /* The text of a version or a time may be shorter another time. */
    operation->least = references > 0 ? references * data->value_size : payload.length / 2;
    operation->sizes.request = remote_request_size(&call, true);
    operation->sizes.reply = remote_reply_size(payload.length);
    coffer_reply_free(reply);
    if (!right) {
        (void) fprintf(stderr, "coffer-bench: %s: the answer does not hold what was stored\n",
                       operation->kind->name);
    }
    return right;
}

static bool prepare(struct operation *operation, const struct data *data, coffer_client *client)
{
    if (operation->kind->references > data->per_workspace) {
        (void) fprintf(stderr, "coffer-bench: %s needs %zu secrets in each workspace; there are %zu (--secrets)\n",
                       operation->kind->name, operation->kind->references, data->per_workspace);
        return false;
    }
    if (!make_payloads(operation, data)) {
        (void) fprintf(stderr, "coffer-bench: there is no memory left\n");
        return false;
    }
    return try_out(operation, data, client);
}

struct cof_slice operation_payload(const struct operation *operation, const struct data *data,
                                   struct load_slot *slot)
{
    size_t index = statistics_random(&slot->random) % operation->count;
    if (operation->kind == &kinds[KIND_write]) {
        index = index / data->per_workspace * data->per_workspace + slot->index % data->per_workspace;
    }
    return operation->payloads[index];
}

/* --- Mixes ---------------------------------------------------------------------------------------------------- */

static const struct operation_kind *find_kind(const char *name, size_t length)
{
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        if (strlen(kinds[i].name) == length && strncmp(kinds[i].name, name, length) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

/* Reads "name" or "name=weight" and goes behind it. */
static bool read_part(const char **text, struct mix_part *part)
{
    const size_t length = strcspn(*text, "=,");
    char *end = NULL;
    *part = (struct mix_part){.weight = 1};
    part->operation.kind = find_kind(*text, length);
    *text += length;
    if (**text == '=') {
        const unsigned long weight = strtoul(*text + 1, &end, 10);
        if (end == *text + 1 || weight == 0 || weight > WEIGHT_MAX) {
            return false;
        }
        part->weight = (uint32_t) weight;
        *text = end;
    }
    return part->operation.kind != NULL && (**text == ',' || **text == '\0');
}

bool mix_read(const char *text, struct mix *ret_mix)
{
    struct mix mix = {.count = 0};
    if ((size_t) snprintf(mix.name, sizeof mix.name, "%s", text) >= sizeof mix.name) {
        return false;
    }
    for (;;) {
        if (mix.count == MIX_PARTS || !read_part(&text, &mix.parts[mix.count])) {
            return false;
        }
        mix.weights += mix.parts[mix.count++].weight;
        if (*text == '\0') {
            *ret_mix = mix;
            return true;
        }
        text++;
    }
}

bool mix_prepare(struct mix *mix, const struct data *data, coffer_client *client)
{
    for (size_t i = 0; i < mix->count; i++) {
        if (!prepare(&mix->parts[i].operation, data, client)) {
            return false;
        }
    }
    return true;
}

void mix_done(struct mix *mix)
{
    for (size_t i = 0; i < mix->count; i++) {
        struct operation *operation = &mix->parts[i].operation;
        for (size_t k = 0; k < operation->count; k++) {
            data_free(&operation->payloads[k]);
        }
        free(operation->payloads);
        operation->payloads = NULL;
        operation->count = 0;
    }
}

bool mix_needs_data(const struct mix *mix)
{
    bool needs = false;
    for (size_t i = 0; i < mix->count; i++) {
        needs = needs || mix->parts[i].operation.kind->needs_data;
    }
    return needs;
}

const struct operation *mix_choose(const struct mix *mix, struct load_slot *slot)
{
    uint64_t place = mix->count == 1 ? 0 : statistics_random(&slot->random) % mix->weights;
    size_t i = 0;
    while (place >= mix->parts[i].weight) {
        place -= mix->parts[i++].weight;
    }
    return &mix->parts[i].operation;
}
