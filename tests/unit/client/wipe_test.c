#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <coffer/mask.h>
#include <coffer/rpc.h>
#include <coffer/template.h>
#include <coffer/v1/resolve.pb-c.h>

#include "common/secret.h"
#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

/*
 * Whether values are found in this process after they were freed. The server runs in a process of its own and makes
 * the canary; here it is known only in a masked form, so that the search does not find itself.
 */

enum {
    CANARY = 48,
    MASK = 0xA5,
    WINDOW = 1 << 16,
    MAPPING_MAX = 1 << 28, /* larger ones are a sanitizer's own */
};

static pid_t server_process;
static uint8_t masked[CANARY];
static uint8_t window[WINDOW];

static void make_canary(uint8_t mask, uint8_t to[CANARY])
{
    uint64_t state = 0xC0FFE5;
    for (size_t i = 0; i < CANARY; i++) {
        to[i] = (uint8_t) test_random(&state) ^ mask;
    }
}

static void stop_server(void)
{
    if (server_process > 0) {
        (void) kill(server_process, SIGTERM);
        (void) waitpid(server_process, NULL, 0);
    }
}

static void put_canary(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                       Coffer__V1__ResolveResponse *answer)
{
    static uint8_t canary[CANARY];
    (void) script;
    (void) asked;
    (void) number;
    make_canary(0, canary);
    for (size_t i = 0; i < answer->n_results; i++) {
        answer->results[i]->secrets[0]->values[0]->value = (ProtobufCBinaryData){CANARY, canary};
    }
}

static void serve(int to)
{
    struct resolve_script edited = {put_canary, NULL};
    struct scripted_server *server = scripted_server_new(NULL, 1, script_resolve, &edited);
    const char *address = scripted_server_address(server);
    if (write(to, address, strlen(address)) < 0) {
        _exit(1);
    }
    (void) close(to);
    for (;;) {
        (void) pause();
    }
}

/* The server's address. It is started before this process first uses nng, whose threads a fork would lose. */
static const char *server_address(void)
{
    static char address[64];
    int ends[2];
    if (server_process != 0) {
        return address;
    }
    make_canary(MASK, masked);
    if (pipe(ends) != 0) {
        abort();
    }
    server_process = fork();
    if (server_process == 0) {
        (void) close(ends[0]);
        serve(ends[1]);
    }
    (void) close(ends[1]);
    (void) atexit(stop_server);
    if (read(ends[0], address, sizeof address - 1) <= 0) {
        abort();
    }
    (void) close(ends[0]);
    return address;
}

static bool is_canary(const uint8_t *bytes)
{
    size_t k = 0;
    while (k < CANARY && (bytes[k] ^ MASK) == masked[k]) {
        k++;
    }
    return k == CANARY;
}

/* The first byte may stand here as it is. */
static size_t count_in(const uint8_t *bytes, size_t len)
{
    const uint8_t *end = bytes + len;
    size_t found = 0;
    const uint8_t *at = bytes;
    while (at + CANARY <= end && (at = memchr(at, masked[0] ^ MASK, (size_t) (end - at) - CANARY + 1)) != NULL) {
        found += is_canary(at);
        at++;
    }
    return found;
}

/* What overlaps two windows is read in both, so that nothing is missed. */
static size_t count_in_mapping(int memory, uint64_t begin, uint64_t end)
{
    size_t found = 0;
    for (uint64_t at = begin; at < end; at += WINDOW - CANARY) {
        const size_t len = end - at < WINDOW ? (size_t) (end - at) : WINDOW;
        const ssize_t got = pread(memory, window, len, (off_t) at);
        if (got > 0) {
            found += count_in(window, (size_t) got);
        }
        cof_wipe(window, sizeof window);
    }
    return found;
}

/* How often the canary stands in the writable memory of this process. */
static size_t count_canaries(void)
{
    char line[512];
    size_t found = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (maps == NULL || memory < 0) {
        abort();
    }
    while (fgets(line, sizeof line, maps) != NULL) {
        char *rest = NULL;
        const uint64_t begin = strtoull(line, &rest, 16);
        const uint64_t end = strtoull(rest + 1, &rest, 16);
        if (strncmp(rest, " rw", 3) == 0 && end - begin < MAPPING_MAX) {
            found += count_in_mapping(memory, begin, end);
        }
    }
    (void) fclose(maps);
    (void) close(memory);
    return found;
}

static void values_are_gone_after_the_result_is_freed(void)
{
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(server_address(), "");
    for (int i = 0; i < 3; i++) {
        coffer_request *request = coffer_request_new();
        coffer_result *result = NULL;
        coffer_request_add_environment(request, "a");
        coffer_request_add_environment(request, "b");
        coffer_request_add_reference(request, "slack", "KEY");
        const coffer_status status = coffer_resolve(client, request, &result, NULL);
        coffer_request_free(request);
        CHECK_INT(status, COFFER_OK);
        const size_t before = count_canaries();
        coffer_result_free(result);
        CHECK_INT(before, 2);
        CHECK_INT(count_canaries(), 0);
    }
}

static void values_are_gone_after_an_expanded_text_is_freed(void)
{
    static const char source[] = "x ${{ SECRETS.missing.KEY || SECRETS.slack.KEY }} y ${{ SECRETS.slack.KEY }}";
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(server_address(), "");
    coffer_request *request = coffer_request_new();
    coffer_template *parsed = NULL;
    coffer_result *result = NULL;
    coffer_text *text = NULL;
    CHECK_INT(coffer_template_new(COFFER_TEMPLATE_TEXT, source, strlen(source), NULL, &parsed, NULL), COFFER_OK);
    coffer_request_add_template(request, parsed);
    CHECK_INT(coffer_resolve(client, request, &result, NULL), COFFER_OK);
    CHECK_INT(coffer_template_expand(parsed, result, 0, &text, NULL), COFFER_OK);
    coffer_template_free(parsed);
    coffer_request_free(request);
    CHECK_INT(coffer_text_bytes(text).length, sizeof "x  y " - 1 + (size_t) 2 * CANARY);
    coffer_result_free(result);
    CHECK_INT(count_canaries(), 2);
    coffer_text_free(text);
    CHECK_INT(count_canaries(), 0);
}

static void *resolve_some(void *client)
{
    intptr_t failed = 0;
    for (int i = 0; i < 50; i++) {
        coffer_request *request = coffer_request_new();
        coffer_result *result = NULL;
        coffer_request_add_reference(request, "slack", "KEY");
        failed += coffer_resolve(client, request, &result, NULL) != COFFER_OK;
        coffer_request_free(request);
        coffer_result_free(result);
    }
    return (void *) failed;
}

static void values_of_calls_that_travelled_together_are_gone_when_all_are_freed(void)
{
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(server_address(), "timeout=1h");
    pthread_t threads[16];
    for (size_t i = 0; i < COF_COUNT(threads); i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, resolve_some, client), 0);
    }
    intptr_t failed = 0;
    for (size_t i = 0; i < COF_COUNT(threads); i++) {
        void *result = NULL;
        (void) pthread_join(threads[i], &result);
        failed += (intptr_t) result;
    }
    CHECK_INT(failed, 0);
    CHECK_INT(count_canaries(), 0);
}

static bool swallow(const void *data, size_t length, void *context)
{
    (void) data;
    *(size_t *) context += length;
    return true;
}

/* The canary, and longer ones of which it is only the beginning, so that a stream keeps it back. */
static coffer_status masker_with_canary(const coffer_result *result, coffer_masker **ret_masker)
{
    uint8_t longer[CANARY + 1] = {0};
    const coffer_bytes values[] = {{longer, sizeof longer}};
    make_canary(0, longer);
    const coffer_status status = coffer_masker_new(result, values, 1, ret_masker, NULL);
    cof_wipe(longer, sizeof longer);
    return status;
}

static coffer_status feed_canary(coffer_mask_stream *stream)
{
    uint8_t canary[CANARY];
    make_canary(0, canary);
    const coffer_status status = coffer_mask_stream_feed(stream, canary, sizeof canary);
    cof_wipe(canary, sizeof canary);
    return status;
}

static void forms_and_what_a_stream_kept_back_are_gone_when_they_are_freed(void)
{
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(server_address(), "");
    coffer_request *request = coffer_request_new();
    coffer_result *result = NULL;
    coffer_masker *masker = NULL;
    coffer_mask_stream *stream = NULL;
    size_t sent = 0;
    coffer_request_add_reference(request, "slack", "KEY");
    const coffer_status status = coffer_resolve(client, request, &result, NULL);
    coffer_request_free(request);
    CHECK_INT(status, COFFER_OK);
    CHECK_INT(masker_with_canary(result, &masker), COFFER_OK);
    CHECK_INT(count_canaries(), 1);
    coffer_result_free(result);
    CHECK_INT(count_canaries(), 0);
    CHECK_INT(coffer_mask_stream_new(masker, swallow, &sent, &stream, NULL), COFFER_OK);
    CHECK_INT(feed_canary(stream), COFFER_OK);
    CHECK_INT(sent, 0);
    CHECK_INT(count_canaries(), 1);
    coffer_mask_stream_free(stream);
    CHECK_INT(count_canaries(), 0);
    coffer_masker_free(masker);
}

static size_t pack_request(uint8_t *to)
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
    return coffer__v1__resolve_request__pack(&request, to);
}

static void payload_is_gone_after_the_reply_is_freed(void)
{
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(server_address(), "");
    uint8_t request[64];
    coffer_reply *reply = NULL;
    const size_t length = pack_request(request);
    CHECK_INT(coffer_call(client, "coffer.v1.ResolveService/Resolve", request, length, NULL, &reply, NULL),
              COFFER_OK);
    CHECK_INT(count_canaries(), 1);
    coffer_reply_free(reply);
    CHECK_INT(count_canaries(), 0);
}

static void look(const Coffer__V1__ResolveResponse *response, void *context)
{
    bool *seen = context;
    *seen = response != NULL && response->results[0]->secrets[0]->values[0]->value.len == CANARY;
}

static void message_is_gone_after_the_closure(void)
{
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(server_address(), "");
    ProtobufCService *service = coffer_service_new(client, &coffer__v1__resolve_service__descriptor);
    uint8_t packed[64];
    bool seen = false;
    Coffer__V1__ResolveRequest *request = coffer__v1__resolve_request__unpack(NULL, pack_request(packed), packed);
    coffer__v1__resolve_service__resolve(service, request, look, &seen);
    coffer__v1__resolve_request__free_unpacked(request, NULL);
    coffer_service_free(service);
    CHECK(seen);
    CHECK_INT(count_canaries(), 0);
}

static void sent_payload_of_a_call_is_gone_from_the_librarys_memory(void)
{
    AUTO(scripted_client_cleanup)
    coffer_client *client = scripted_client("ipc:///nonexistent/coffer.sock", "connect_timeout=50ms");
    uint8_t request[CANARY];
    coffer_reply *reply = NULL;
    make_canary(MASK, masked);
    make_canary(0, request);
    CHECK_INT(coffer_call(client, "a.B/C", request, sizeof request, NULL, &reply, NULL), COFFER_UNAVAILABLE);
    cof_wipe(request, sizeof request);
    CHECK_INT(count_canaries(), 0);
}

TEST_MAIN(TEST(values_are_gone_after_the_result_is_freed), TEST(values_are_gone_after_an_expanded_text_is_freed),
          TEST(values_of_calls_that_travelled_together_are_gone_when_all_are_freed),
          TEST(forms_and_what_a_stream_kept_back_are_gone_when_they_are_freed),
          TEST(payload_is_gone_after_the_reply_is_freed), TEST(message_is_gone_after_the_closure),
          TEST(sent_payload_of_a_call_is_gone_from_the_librarys_memory))
