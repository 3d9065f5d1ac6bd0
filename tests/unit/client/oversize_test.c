#include <coffer/rpc.h>

#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

static void answer_too_much(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                            void *context)
{
    (void) request;
    (void) number;
    (void) context;
    reply->action = SCRIPT_OVERSIZE;
}

static void answer_over_the_limit_does_not_go_on_for_ever(void)
{
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, answer_too_much, NULL);
    coffer_client *client = scripted_client(scripted_server_address(server), "");
    coffer_error *error = NULL;
    coffer_reply *reply = NULL;
    CHECK_INT(coffer_call(client, "test.v1.TestService/Echo", "x", 1, NULL, &reply, &error), COFFER_UNAVAILABLE);
    CHECK_CONTAINS(coffer_error_message(error), "in case the answer was too large");
    CHECK_INT(scripted_server_requests(server), 4);
    coffer_error_free(error);
    coffer_client_close(client);
}

TEST_MAIN(TEST(answer_over_the_limit_does_not_go_on_for_ever))
