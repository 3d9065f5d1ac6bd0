/* Compiled, never run: what a user's program can be, in C99 and in C++. */

#include <coffer/mask.h>
#include <coffer/preflight.h>
#include <coffer/rpc.h>
#include <coffer/template.h>
#include <coffer/token.h>
#include <coffer/version.h>
#include <coffer/view.h>
#include <coffer/watch.h>

#if !COFFER_VERSION_AT_LEAST(0, 1, 0) || COFFER_VERSION_AT_LEAST(1000, 0, 0)
#error "the version is wrong"
#endif

int main(void)
{
    coffer_client *client = NULL;
    coffer_error *error = NULL;
    coffer_reply *reply = NULL;
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    coffer_status status = coffer_client_open(NULL, &client, &error);
    coffer_request *request = coffer_request_new();
    coffer_declaration declaration = COFFER_DECLARATION_INIT;
    declaration.secret = "slack";
    coffer_request_add_declaration(request, &declaration);
    coffer_narrowing narrowing = COFFER_NARROWING_INIT;
    char narrowed[COFFER_NARROWED_SIZE];
    coffer_request_free(request);
    if (coffer_token_narrow("", 0, &narrowing, narrowed, NULL) != COFFER_OK) {
        coffer_token_wipe(narrowed, sizeof narrowed);
    }
    if (status == COFFER_OK) {
        status = coffer_call(client, "a.B/C", NULL, 0, &options, &reply, NULL);
    }
    coffer_reply_free(reply);
    coffer_error_free(error);
    coffer_client_close(client);
    return (int) status;
}
