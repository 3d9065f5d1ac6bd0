/* The scenario of libcoffer; clients_test.py gives the steps. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/coffer.h>
#include <coffer/mask.h>
#include <coffer/rpc.h>
#include <coffer/v1/secret.pb-c.h>

#include "common/attr.h"
#include "common/encode.h"
#include "tests/support/json_tree.h"

enum { TEXT = 2048, KEYS_MAX = 8, TOGETHER_MAX = 64 };

static struct {
    coffer_client *client;
    coffer_error *refused; /* the token that was given is none, which libcoffer says before a call is made */
    coffer_result *result;
} program;

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static char *text_of(const struct json_node *step, const char *key)
{
    const struct json_node *node = json_member(step, key);
    return node == NULL ? NULL : strndup((const char *) node->text.data, node->text.len);
}

static double number_of(const struct json_node *step, const char *key, double otherwise)
{
    const char *text = text_of(step, key);
    return text == NULL || strcmp(text, "null") == 0 ? otherwise : strtod(text, NULL);
}

static void put_text(const char *text, size_t length)
{
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        const unsigned char byte = (unsigned char) text[i];
        if (byte < ' ' || byte == '"' || byte == '\\' || byte == 0x7f) {
            printf("\\u%04x", (unsigned) byte);
        } else {
            putchar(byte);
        }
    }
    putchar('"');
}

static void put_base64(coffer_bytes value)
{
    char *text = malloc(COF_BASE64_SIZE(value.length));
    if (text != NULL) {
        cof_base64_encode(cof_slice_of(value.data, value.length), text);
        put_text(text, strlen(text));
    }
    free(text);
}

/* --- Failures ----------------------------------------------------------------------------------------------------- */

static const char *status_name(coffer_status status)
{
    static const char *const names[] = {
        "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED"};
    return names[status];
}

static void put_error_head(coffer_status status, const char *reason, const char *message)
{
    printf("{\"error\": {\"code\": \"%s\", \"reason\": \"%s\", \"message\": ", status_name(status), reason);
    put_text(message, strlen(message));
}

static void put_error(const coffer_error *error)
{
    const char *field = coffer_error_field(error);
    put_error_head(coffer_error_status(error), coffer_reason_name(coffer_error_reason(error)),
                   coffer_error_message(error));
    printf(", \"faults\": [], \"fields\": [");
    if (field[0] != '\0') {
        put_text(field, strlen(field));
    }
    puts("]}}");
}

static void put_failed_item(const coffer_item *item)
{
    put_error_head(coffer_item_status(item), coffer_outcome_name(coffer_item_outcome(item)),
                   coffer_item_message(item));
    printf(", \"fields\": [], \"faults\": [");
    for (size_t i = 0; i < coffer_item_fault_count(item); i++) {
        const coffer_fault *fault = coffer_item_fault(item, i);
        printf("%s[\"%s.%s\", \"%s\"]", i == 0 ? "" : ", ", coffer_fault_secret(fault), coffer_fault_key(fault),
               coffer_outcome_name(coffer_fault_outcome(fault)));
    }
    puts("]}}");
}

/* --- Steps -------------------------------------------------------------------------------------------------------- */

static void open_client(const struct json_node *step)
{
    char settings[TEXT];
    coffer_error *error = NULL;
    const char *ca = text_of(step, "ca");
    const char *token = text_of(step, "token");
    (void) unsetenv("COFFER_TOKEN_FILE");
    (void) snprintf(settings, sizeof settings, "addr='%s' timeout=%.0fms connect_timeout=%.0fms %s%s%s",
                    text_of(step, "addresses"), number_of(step, "timeout", 1) * 1000,
                    number_of(step, "timeout", 1) * 300, ca == NULL ? "" : "cacert='", ca == NULL ? "" : ca,
                    ca == NULL ? "" : "'");
    coffer_client_close(program.client);
    coffer_error_free(program.refused);
    program.refused = NULL;
    if (coffer_client_open(settings, &program.client, &error) != COFFER_OK) {
        put_error(error);
        exit(1);
    }
    if (coffer_client_set_token(program.client, token, strlen(token), &program.refused) == COFFER_OK) {
        program.refused = NULL;
    }
    puts("{}");
}

static void add_text(coffer_request *request, char *text)
{
    char *dot = strrchr(text, '.');
    if (strstr(text, "${{") != NULL) {
        coffer_request_add_expression(request, text);
    } else if (dot != NULL) {
        *dot = '\0';
        coffer_request_add_reference(request, text, dot + 1);
        *dot = '.';
    }
}

static coffer_pending pending_of(const struct json_node *step)
{
    const char *pending = text_of(step, "pending");
    if (pending == NULL || strcmp(pending, "wait") == 0) {
        return COFFER_PENDING_WAIT;
    }
    return strcmp(pending, "poll") == 0 ? COFFER_PENDING_POLL : COFFER_PENDING_RETURN;
}

static coffer_request *request_of(const struct json_node *step)
{
    coffer_request *request = coffer_request_new();
    const struct json_node *texts = json_member(step, "texts");
    coffer_request_add_environment(request, text_of(step, "environment"));
    coffer_request_set_pending(request, pending_of(step));
    coffer_request_set_timeout(request, (uint32_t) (number_of(step, "timeout", 0) * 1000));
    for (size_t i = 0; i < json_count(texts); i++) {
        const struct json_node *text = json_element(texts, i);
        add_text(request, strndup((const char *) text->text.data, text->text.len));
    }
    return request;
}

static void put_pair(struct cof_slice text, coffer_bytes value, bool null, const char **comma)
{
    printf("%s", *comma);
    put_text((const char *) text.data, text.len);
    printf(": ");
    if (null) {
        printf("null");
    } else {
        put_base64(value);
    }
    *comma = ", ";
}

static void put_values(const struct json_node *texts, const coffer_item *item)
{
    const char *comma = "";
    size_t expression = 0;
    printf("{\"values\": {");
    for (size_t i = 0; i < json_count(texts); i++) {
        const struct cof_slice text = json_element(texts, i)->text;
        char *copy = strndup((const char *) text.data, text.len);
        char *dot = strrchr(copy, '.');
        if (strstr(copy, "${{") == NULL) {
            *dot = '\0';
            put_pair(text, coffer_item_value(item, copy, dot + 1), false, &comma);
        } else if (coffer_item_expression_kind(item, expression) != COFFER_EXPRESSION_NOT_EVALUATED) {
            put_pair(text, coffer_item_expression_value(item, expression),
                     coffer_item_expression_kind(item, expression) == COFFER_EXPRESSION_NULL, &comma);
        }
        expression += strstr(copy, "${{") != NULL;
        free(copy);
    }
    puts("}}");
}

static void resolve(const struct json_node *step)
{
    coffer_error *error = NULL;
    coffer_request *request = request_of(step);
    coffer_result_free(program.result);
    program.result = NULL;
    if (coffer_resolve(program.client, request, &program.result, &error) != COFFER_OK) {
        put_error(error);
        coffer_error_free(error);
    } else if (coffer_item_status(coffer_result_item(program.result, 0)) != COFFER_OK) {
        put_failed_item(coffer_result_item(program.result, 0));
    } else {
        put_values(json_member(step, "texts"), coffer_result_item(program.result, 0));
    }
    coffer_request_free(request);
}

static bool add_output(const void *data, size_t length, void *context)
{
    return fwrite(data, 1, length, context) == length;
}

static void mask(const struct json_node *step)
{
    char *masked = NULL;
    size_t length = 0;
    coffer_masker *masker = NULL;
    coffer_mask_stream *stream = NULL;
    coffer_error *error = NULL;
    const char *text = text_of(step, "text");
    FILE *out = open_memstream(&masked, &length);
    if (coffer_masker_new(program.result, NULL, 0, &masker, &error) != COFFER_OK ||
        coffer_mask_stream_new(masker, add_output, out, &stream, &error) != COFFER_OK ||
        coffer_mask_stream_feed(stream, text, strlen(text)) != COFFER_OK ||
        coffer_mask_stream_flush(stream) != COFFER_OK) {
        exit(1);
    }
    coffer_mask_stream_free(stream);
    coffer_masker_free(masker);
    (void) fclose(out);
    printf("{\"text\": ");
    put_text(masked, length);
    puts("}");
    free(masked);
}

/* Nothing in C shows itself; these are all texts that a result has beside its values. */
static void shown(const struct json_node *step)
{
    const coffer_item *item = coffer_result_item(program.result, 0);
    (void) step;
    printf("{\"text\": \"%s %s %s %s\"}\n", coffer_item_message(item), coffer_item_consistency_token(item),
           coffer_item_environment(item), coffer_result_request_id(program.result));
}

static coffer_reply *call(const char *method, const ProtobufCMessage *request)
{
    uint8_t packed[TEXT];
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    if (program.refused != NULL) {
        put_error(program.refused);
        return NULL;
    }
    if (protobuf_c_message_get_packed_size(request) > sizeof packed) {
        exit(1);
    }
    if (coffer_call(program.client, method, packed, protobuf_c_message_pack(request, packed), NULL, &reply,
                    &error) != COFFER_OK) {
        put_error(error);
        coffer_error_free(error);
    }
    return reply;
}

static void fill_values(const struct json_node *values, Coffer__V1__KeyValue *pairs,
                        Coffer__V1__CreateSecretRequest *request)
{
    for (const struct json_node *one = values->first; one != NULL && request->n_values < KEYS_MAX;
         one = one->next) {
        Coffer__V1__KeyValue *pair = &pairs[request->n_values];
        coffer__v1__key_value__init(pair);
        pair->key = strndup((const char *) one->key.data, one->key.len);
        pair->value.data = malloc(one->text.len + 1);
        if (pair->value.data == NULL || !cof_base64_decode(one->text, pair->value.data, &pair->value.len)) {
            exit(1);
        }
        request->values[request->n_values++] = pair;
    }
}

static void create(const struct json_node *step)
{
    Coffer__V1__KeyValue pairs[KEYS_MAX];
    Coffer__V1__KeyValue *list[KEYS_MAX];
    Coffer__V1__CreateSecretRequest request;
    coffer__v1__create_secret_request__init(&request);
    request.name = text_of(step, "name");
    request.environment = text_of(step, "environment");
    request.values = list;
    fill_values(json_member(step, "values"), pairs, &request);
    coffer_reply *reply = call("coffer.v1.SecretService/CreateSecret", &request.base);
    if (reply == NULL) {
        return;
    }
    const coffer_bytes payload = coffer_reply_payload(reply);
    Coffer__V1__CreateSecretResponse *made =
        coffer__v1__create_secret_response__unpack(NULL, payload.length, payload.data);
    printf("{\"version\": %llu}\n", made == NULL ? 0 : (unsigned long long) made->secret->version);
    coffer__v1__create_secret_response__free_unpacked(made, NULL);
    coffer_reply_free(reply);
}

static void get(const struct json_node *step)
{
    Coffer__V1__GetSecretRequest request;
    coffer__v1__get_secret_request__init(&request);
    request.name = text_of(step, "name");
    request.environment = text_of(step, "environment");
    coffer_reply *reply = call("coffer.v1.SecretService/GetSecret", &request.base);
    if (reply == NULL) {
        return;
    }
    const coffer_bytes payload = coffer_reply_payload(reply);
    Coffer__V1__GetSecretResponse *found =
        coffer__v1__get_secret_response__unpack(NULL, payload.length, payload.data);
    printf("{\"keys\": [");
    for (size_t i = 0; found != NULL && i < found->secret->n_keys; i++) {
        printf("%s\"%s\"", i == 0 ? "" : ", ", found->secret->keys[i]->name);
    }
    puts("]}");
    coffer__v1__get_secret_response__free_unpacked(found, NULL);
    coffer_reply_free(reply);
}

struct one {
    pthread_t thread;
    const struct json_node *step;
    coffer_result *result;
};

static void *resolve_one(void *context)
{
    struct one *one = context;
    coffer_error *error = NULL;
    coffer_request *request = coffer_request_new();
    coffer_request_add_environment(request, text_of(one->step, "environment"));
    add_text(request, text_of(one->step, "text"));
    if (coffer_resolve(program.client, request, &one->result, &error) != COFFER_OK) {
        coffer_error_free(error);
    }
    coffer_request_free(request);
    return NULL;
}

static void together(const struct json_node *step)
{
    struct one ones[TOGETHER_MAX];
    const size_t count = json_number(json_member(step, "count"));
    for (size_t i = 0; i < count; i++) {
        ones[i] = (struct one){.step = step};
        if (pthread_create(&ones[i].thread, NULL, resolve_one, &ones[i]) != 0) {
            exit(1);
        }
    }
    printf("{\"values\": [");
    for (size_t i = 0; i < count; i++) {
        (void) pthread_join(ones[i].thread, NULL);
        printf("%s", i == 0 ? "" : ", ");
        put_base64(coffer_item_value_at(coffer_result_item(ones[i].result, 0), 0, NULL, NULL));
        coffer_result_free(ones[i].result);
    }
    puts("]}");
}

static const struct {
    const char *name;
    void (*run)(const struct json_node *step);
} steps[] = {{"open", open_client}, {"resolve", resolve}, {"mask", mask},        {"shown", shown},
             {"create", create},    {"get", get},         {"together", together}};

static bool run(const struct json_node *step)
{
    const char *name = text_of(step, "do");
    for (size_t i = 0; name != NULL && i < COF_COUNT(steps); i++) {
        if (strcmp(steps[i].name, name) == 0) {
            steps[i].run(step);
            (void) fflush(stdout);
            return true;
        }
    }
    return false;
}

/* What steps are made of lives until the end, as in the tree that they are read into. */
int main(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    bool good = true;
    while (good && (length = getline(&line, &room, stdin)) > 0) {
        char *copy = strndup(line, (size_t) length);
        good = copy != NULL && run(json_tree_parse("the step", cof_slice_of(copy, (size_t) length)));
    }
    free(line);
    coffer_result_free(program.result);
    coffer_client_close(program.client);
    coffer_error_free(program.refused);
    return good ? 0 : 1;
}
