/*
 * A workflow that calls a child workflow in a loop, once for each account: the parent runs in one environment, each
 * child in that of its account, which the loop passes. One request asks for all of them, and one account that is not
 * set up costs the others nothing.
 *
 *     export COFFER_ADDR=ipc:///run/coffer/coffer.sock COFFER_TOKEN_FILE=/run/credentials/token
 *     loop prod account.ROLE_ARN 111111111111 222222222222 333333333333
 *
 *     cc loop.c $(pkg-config --cflags --libs coffer) -o loop
 */

#include <stdio.h>
#include <string.h>

#include <coffer/coffer.h>
#include <coffer/view.h>

#define PARENT 0 /* index of its item */

/* NAME.KEY: cut at the last dot, as names may have dots and these keys have none. */
static int split(char *reference, const char **ret_key)
{
    char *dot = strrchr(reference, '.');
    if (dot == NULL) {
        return 0;
    }
    *dot = '\0';
    *ret_key = dot + 1;
    return 1;
}

/* Two items, as the runs differ: that of the parent, and one for all of its children. */
static coffer_request *ask(const char *parent, const char *secret, const char *key, char **accounts, int count)
{
    coffer_request *request = coffer_request_new();
    int i;
    coffer_request_set_run(request, "nightly", "run-1", "core.loop");
    coffer_request_add_environment(request, coffer_environment_choose(NULL, parent));
    coffer_request_add_reference(request, secret, key);
    coffer_request_next_item(request);
    coffer_request_set_run(request, "check-account", "run-1", "tools.cloud.check");
    for (i = 0; i < count; i++) {
        coffer_request_add_environment(request, coffer_environment_choose(accounts[i], parent));
    }
    coffer_request_add_reference(request, secret, key);
    return request;
}

/* Runs the child, or says why it cannot run. Here it does nothing with its value. */
static int run_child(const coffer_item *item, const char *secret, const char *key)
{
    const coffer_bytes value = coffer_item_value(item, secret, key);
    const char *who = coffer_item_index(item) == PARENT ? "parent" : "child";
    if (coffer_item_status(item) != COFFER_OK) {
        printf("FAIL %s %s: %s: %s\n", who, coffer_item_environment(item),
               coffer_outcome_name(coffer_item_outcome(item)), coffer_item_message(item));
        return 0;
    }
    printf("ok   %s %s: %s.%s has %lu bytes\n", who, coffer_item_environment(item), secret, key,
           (unsigned long) value.length);
    return 1;
}

static int run_all(coffer_client *client, const coffer_request *request, const char *secret, const char *key)
{
    coffer_result *result = NULL;
    coffer_error *error = NULL;
    int good = 1;
    size_t i;
    if (coffer_resolve(client, request, &result, &error) != COFFER_OK) {
        fprintf(stderr, "loop: %s\n", coffer_error_message(error));
        coffer_error_free(error);
        return 0;
    }
    for (i = 0; i < coffer_result_count(result); i++) {
        good &= run_child(coffer_result_item(result, i), secret, key);
    }
    coffer_result_free(result);
    return good;
}

int main(int argc, char **argv)
{
    coffer_client *client = NULL;
    coffer_error *error = NULL;
    const char *key = NULL;
    int good = 0;
    if (argc < 4 || !split(argv[2], &key)) {
        fprintf(stderr, "usage: loop ENVIRONMENT NAME.KEY ACCOUNT...\n");
        return 2;
    }
    if (coffer_client_open(NULL, &client, &error) == COFFER_OK) {
        coffer_request *request = ask(argv[1], argv[2], key, argv + 3, argc - 3);
        good = run_all(client, request, argv[2], key);
        coffer_request_free(request);
    } else {
        fprintf(stderr, "loop: %s\n", coffer_error_message(error));
    }
    coffer_error_free(error);
    coffer_client_close(client);
    return good ? 0 : 1;
}
