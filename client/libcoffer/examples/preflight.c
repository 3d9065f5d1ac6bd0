/*
 * Says what an action would miss in each environment, before anything runs. No value is asked for.
 *
 *     export COFFER_ADDR=ipc:///run/coffer/coffer.sock COFFER_TOKEN_FILE=/run/credentials/token
 *     preflight crowdstrike CROWDSTRIKE_CLIENT_ID CROWDSTRIKE_CLIENT_SECRET CROWDSTRIKE_BASE_URL? -- prod customer-a
 *
 * A key with a question mark behind it is optional. The exit code is 0 if nothing would be missing.
 *
 *     cc preflight.c $(pkg-config --cflags --libs coffer) -o preflight
 */

#include <stdio.h>
#include <string.h>

#include <coffer/coffer.h>
#include <coffer/preflight.h>

#define KEYS_MAX 100

/* The keys of the command line up to `--`, as a declaration; returns how many there are, or -1. */
static int read_keys(char **words, const char **required, const char **optional, coffer_declaration *declaration)
{
    int i;
    for (i = 0; words[i] != NULL && strcmp(words[i], "--") != 0; i++) {
        const size_t length = strlen(words[i]);
        if (i == KEYS_MAX) {
            return -1;
        }
        if (length > 0 && words[i][length - 1] == '?') {
            words[i][length - 1] = '\0';
            optional[declaration->optional_key_count++] = words[i];
        } else {
            required[declaration->key_count++] = words[i];
        }
    }
    declaration->keys = required;
    declaration->optional_keys = optional;
    return words[i] == NULL ? -1 : i;
}

static void print_item(const coffer_item *item)
{
    size_t i;
    printf("%s\n", coffer_item_environment(item));
    for (i = 0; i < coffer_item_fault_count(item); i++) {
        printf("  %s\n", coffer_fault_message(coffer_item_fault(item, i)));
    }
    if (i == 0) {
        printf("  %s\n", coffer_item_message(item));
    }
}

/* How many environments would fail; -1: it could not be found out. */
static long check(coffer_client *client, const coffer_request *request)
{
    coffer_preflight *preflight = NULL;
    coffer_error *error = NULL;
    const coffer_item *item = NULL;
    long failures = -1;
    coffer_status status = coffer_preflight_new(client, request, &preflight, &error);
    while (status == COFFER_OK && (status = coffer_preflight_next(preflight, &item, &error)) == COFFER_OK &&
           item != NULL) {
        print_item(item);
    }
    if (status == COFFER_OK) {
        failures = (long) coffer_preflight_would_fail(preflight);
        printf("%lu environments are ready, %ld are not\n",
               (unsigned long) coffer_preflight_would_resolve(preflight), failures);
    } else {
        fprintf(stderr, "preflight: %s\n", coffer_error_message(error));
    }
    coffer_error_free(error);
    coffer_preflight_free(preflight);
    return failures;
}

int main(int argc, char **argv)
{
    const char *required[KEYS_MAX];
    const char *optional[KEYS_MAX];
    coffer_declaration declaration = COFFER_DECLARATION_INIT;
    coffer_client *client = NULL;
    coffer_error *error = NULL;
    coffer_request *request;
    long failures = -1;
    int at = argc < 4 ? -1 : read_keys(argv + 2, required, optional, &declaration);
    if (at < 0) {
        fprintf(stderr, "usage: preflight SECRET KEY... -- ENVIRONMENT...\n");
        return 2;
    }
    declaration.secret = argv[1];
    request = coffer_request_new();
    coffer_request_add_declaration(request, &declaration);
    for (at += 3; at < argc; at++) {
        coffer_request_add_environment(request, argv[at]);
    }
    if (coffer_client_open(NULL, &client, &error) == COFFER_OK) {
        failures = check(client, request);
    } else {
        fprintf(stderr, "preflight: %s\n", coffer_error_message(error));
    }
    coffer_error_free(error);
    coffer_client_close(client);
    coffer_request_free(request);
    return failures == 0 ? 0 : 1;
}
