#include <stdlib.h>

#include <coffer/rpc.h>
#include <coffer/v1/resolve.pb-c.h>

#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

/* What a closure was called with; the message itself is gone afterwards. */
struct seen {
    unsigned calls;
    bool message;
    size_t results;
    char value[64];
};

static void see(const Coffer__V1__ResolveResponse *response, void *context)
{
    struct seen *seen = context;
    seen->calls++;
    seen->message = response != NULL;
    if (response != NULL && response->n_results > 0) {
        const ProtobufCBinaryData *value = &response->results[0]->secrets[0]->values[0]->value;
        seen->results = response->n_results;
        memcpy(seen->value, value->data, value->len < 63 ? value->len : 63);
    }
}

static void service_cleanup(ProtobufCService **service)
{
    coffer_service_free(*service);
}

/* Calls the stub that protoc-c generated. */
static void call_stub(ProtobufCService *service, struct seen *seen)
{
    static char name[] = "slack";
    static char key[] = "KEY";
    Coffer__V1__SecretReference reference;
    Coffer__V1__SecretReference *references[] = {&reference};
    Coffer__V1__ResolveItem item;
    Coffer__V1__ResolveItem *items[] = {&item};
    Coffer__V1__ResolveRequest request;
    coffer__v1__secret_reference__init(&reference);
    coffer__v1__resolve_item__init(&item);
    coffer__v1__resolve_request__init(&request);
    reference.name = name;
    reference.key = key;
    item.references = references;
    item.n_references = 1;
    request.items = items;
    request.n_items = 1;
    coffer__v1__resolve_service__resolve(service, &request, see, seen);
}

static void generated_stub_calls_over_the_client(void)
{
    struct seen seen = {0};
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, script_resolve, NULL);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(service_cleanup)
    ProtobufCService *service = coffer_service_new(client, &coffer__v1__resolve_service__descriptor);
    call_stub(service, &seen);
    CHECK(coffer_service_error(service) == NULL);
    CHECK_INT(seen.calls, 1);
    CHECK_INT(seen.results, 1);
    CHECK_TEXT(seen.value, "default/slack/KEY");
}

static void fail_once(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                      void *context)
{
    if (number == 0) {
        reply->reason = COF_REASON_PERMISSION_DENIED;
        return;
    }
    script_resolve(request, number, reply, context);
}

static void failure_gives_the_closure_nothing_and_stays_until_the_next_call(void)
{
    struct seen seen = {0};
    AUTO(scripted_server_cleanup) struct scripted_server *server = scripted_server_new(NULL, 1, fail_once, NULL);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(service_cleanup)
    ProtobufCService *service = coffer_service_new(client, &coffer__v1__resolve_service__descriptor);
    call_stub(service, &seen);
    CHECK_INT(seen.calls, 1);
    CHECK(!seen.message);
    CHECK_INT(coffer_error_reason(coffer_service_error(service)), COFFER_REASON_PERMISSION_DENIED);
    CHECK_INT(strlen(coffer_error_request_id(coffer_service_error(service))), 36);
    call_stub(service, &seen);
    CHECK(coffer_service_error(service) == NULL);
    CHECK(seen.message);
}

static void answer_garbage(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                           void *context)
{
    (void) request;
    (void) number;
    (void) context;
    reply->payload = calloc(1, 8);
    reply->payload_len = 8;
}

static void answer_of_another_type_is_a_failure(void)
{
    struct seen seen = {0};
    AUTO(scripted_server_cleanup)
    struct scripted_server *server = scripted_server_new(NULL, 1, answer_garbage, NULL);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    AUTO(service_cleanup)
    ProtobufCService *service = coffer_service_new(client, &coffer__v1__resolve_service__descriptor);
    call_stub(service, &seen);
    CHECK(!seen.message);
    CHECK_INT(coffer_error_reason(coffer_service_error(service)), COFFER_REASON_REPLY_INVALID);
    CHECK_CONTAINS(coffer_error_message(coffer_service_error(service)), "no coffer.v1.ResolveResponse");
}

static void timeout_of_the_service_is_used(void)
{
    struct seen seen = {0};
    AUTO(scripted_client_cleanup)
    coffer_client *client = scripted_client("ipc:///nonexistent/coffer.sock", "timeout=1h connect_timeout=1h");
    AUTO(service_cleanup)
    ProtobufCService *service = coffer_service_new(client, &coffer__v1__resolve_service__descriptor);
    coffer_service_set_timeout(service, 50);
    call_stub(service, &seen);
    CHECK_INT(coffer_error_reason(coffer_service_error(service)), COFFER_REASON_NOT_CONNECTED);
}

static void protobuf_c_can_destroy_the_service(void)
{
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client("ipc:///nonexistent/coffer.sock", "");
    ProtobufCService *service = coffer_service_new(client, &coffer__v1__resolve_service__descriptor);
    CHECK(service != NULL);
    protobuf_c_service_destroy(service);
    CHECK(coffer_service_new(NULL, &coffer__v1__resolve_service__descriptor) == NULL);
    CHECK(coffer_service_new(client, NULL) == NULL);
    coffer_service_free(NULL);
}

TEST_MAIN(TEST(generated_stub_calls_over_the_client),
          TEST(failure_gives_the_closure_nothing_and_stays_until_the_next_call),
          TEST(answer_of_another_type_is_a_failure), TEST(timeout_of_the_service_is_used),
          TEST(protobuf_c_can_destroy_the_service))
