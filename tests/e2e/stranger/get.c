/*
 * A program of somebody who has the installed library and nothing of its source: C99 and C++ at once. Prints the value
 * of SECRET.KEY in an environment, as a test of the library; a real program never prints one.
 *
 *     get ENVIRONMENT SECRET KEY
 */

#include <stdio.h>
#include <string.h>

#include <coffer/coffer.h>
#include <coffer/version.h>

static int fail(coffer_error *error)
{
    printf("%s\n", coffer_reason_name(coffer_error_reason(error)));
    coffer_error_free(error);
    return 2;
}

static int show(const coffer_item *item, const char *secret, const char *key)
{
    const coffer_bytes value = coffer_item_value(item, secret, key);
    if (coffer_item_status(item) != COFFER_OK) {
        printf("%s\n", coffer_outcome_name(coffer_item_outcome(item)));
        return 1;
    }
    printf("%.*s\n", (int) value.length, (const char *) value.data);
    return 0;
}

static int run(coffer_request *request, char **argv)
{
    coffer_client *client = NULL;
    coffer_result *result = NULL;
    coffer_error *error = NULL;
    int status;
    if (coffer_client_open(NULL, &client, &error) != COFFER_OK) {
        return fail(error);
    }
    if (coffer_resolve(client, request, &result, &error) == COFFER_OK) {
        status = show(coffer_result_item(result, 0), argv[2], argv[3]);
    } else {
        status = fail(error);
    }
    coffer_result_free(result);
    coffer_client_close(client);
    return status;
}

int main(int argc, char **argv)
{
    coffer_request *request;
    int status;
    if (argc != 4 || strcmp(coffer_version(), COFFER_VERSION) != 0 || !COFFER_VERSION_AT_LEAST(0, 1, 0)) {
        fprintf(stderr, "usage: get ENVIRONMENT SECRET KEY, with library %s and headers %s\n", coffer_version(),
                COFFER_VERSION);
        return 3;
    }
    request = coffer_request_new();
    coffer_request_add_environment(request, argv[1]);
    coffer_request_add_reference(request, argv[2], argv[3]);
    status = run(request, argv);
    coffer_request_free(request);
    return status;
}
