/*
 * A whole executor: asks for the credentials of an action in one environment or several, and says what it got. The
 * values go to where the action needs them; here nothing is done with them, and they are never printed.
 *
 *     export COFFER_ADDR=ipc:///run/coffer/coffer.sock COFFER_TOKEN_FILE=/run/credentials/token
 *     executor prod customer-a
 *     executor --wrong-key prod
 *
 *     cc executor.c $(pkg-config --cflags --libs coffer) -o executor
 */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <coffer/coffer.h>

#define SECRET "crowdstrike"

static coffer_request *ask_for(const char *const *keys, size_t key_count, char **environments, int count)
{
    coffer_request *request = coffer_request_new();
    size_t k;
    int i;
    coffer_request_set_run(request, "example", "run-1", "tools.crowdstrike.list_alerts");
    for (i = 0; i < count; i++) {
        coffer_request_add_environment(request, environments[i]);
    }
    for (k = 0; k < key_count; k++) {
        coffer_request_add_reference(request, SECRET, keys[k]);
    }
    return request;
}

static void print_values(const coffer_item *item)
{
    size_t i;
    for (i = 0; i < coffer_item_value_count(item); i++) {
        const char *secret = NULL;
        const char *key = NULL;
        coffer_bytes value = coffer_item_value_at(item, i, &secret, &key);
        printf("  ok   %s.%s: %zu bytes, version %llu\n", secret, key, value.length,
               (unsigned long long) coffer_item_version(item, secret));
    }
}

static void print_faults(const coffer_item *item)
{
    size_t i;
    if (coffer_item_fault_count(item) == 0) {
        printf("  FAIL %s: %s\n", coffer_outcome_name(coffer_item_outcome(item)), coffer_item_message(item));
    }
    for (i = 0; i < coffer_item_fault_count(item); i++) {
        const coffer_fault *fault = coffer_item_fault(item, i);
        size_t n;
        printf("  FAIL %s.%s: %s\n       %s\n", coffer_fault_secret(fault), coffer_fault_key(fault),
               coffer_outcome_name(coffer_fault_outcome(fault)), coffer_fault_message(fault));
        for (n = 0; n < coffer_fault_near_miss_count(fault); n++) {
            printf("%s%s", n == 0 ? "       did you mean " : ", ", coffer_fault_near_miss(fault, n));
        }
        if (n > 0) {
            printf("?\n");
        }
    }
}

static void print_result(const coffer_result *result)
{
    size_t i;
    for (i = 0; i < coffer_result_count(result); i++) {
        const coffer_item *item = coffer_result_item(result, i);
        printf("%s\n", coffer_item_environment(item));
        if (coffer_item_status(item) == COFFER_OK) {
            print_values(item);
        } else {
            print_faults(item);
        }
    }
    printf("%zu of %zu environments resolved\n", coffer_result_count(result) - coffer_result_failed(result),
           coffer_result_count(result));
}

static int fail(coffer_error *error)
{
    fprintf(stderr, "executor: %s: %s\n", coffer_reason_name(coffer_error_reason(error)),
            coffer_error_message(error));
    if (coffer_error_request_id(error)[0] != '\0') {
        fprintf(stderr, "executor: request %s\n", coffer_error_request_id(error));
    }
    coffer_error_free(error);
    return 2;
}

static int run(const coffer_request *request)
{
    coffer_client *client = NULL;
    coffer_result *result = NULL;
    coffer_error *error = NULL;
    int status = 0;
    if (coffer_client_open(NULL, &client, &error) != COFFER_OK) {
        return fail(error);
    }
    if (coffer_resolve(client, request, &result, &error) == COFFER_OK) {
        print_result(result);
        status = coffer_result_failed(result) > 0;
    } else {
        status = fail(error);
    }
    coffer_result_free(result);
    coffer_client_close(client);
    return status;
}

int main(int argc, char **argv)
{
    static const char *const right[] = {"CROWDSTRIKE_CLIENT_ID", "CROWDSTRIKE_CLIENT_SECRET"};
    static const char *const wrong[] = {"CROWDSTRIKE_CLIENT_ID", "CROWDSTRIKE_CLIENT_SECRT"};
    const bool mistake = argc > 1 && strcmp(argv[1], "--wrong-key") == 0;
    const int first = mistake ? 2 : 1;
    coffer_request *request;
    int status;
    if (argc <= first) {
        fprintf(stderr, "usage: executor [--wrong-key] ENVIRONMENT...\n");
        return 2;
    }
    request = ask_for(mistake ? wrong : right, 2, argv + first, argc - first);
    status = run(request);
    coffer_request_free(request);
    return status;
}
