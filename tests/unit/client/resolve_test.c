#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/libcoffer/settings.h"
#include "tests/support/test.h"
#include "tests/unit/client/stage.h"

#define WORKSPACE "6f1c2d1e-8d5b-4a55-9f5c-1c2d3e4f5a6b"
#define OTHER_WORKSPACE "7f1c2d1e-8d5b-4a55-9f5c-1c2d3e4f5a6b"

/* The request of most tests: two references in as many environments as are given. */
static void ask(struct stage *stage, size_t environments)
{
    for (size_t i = 0; i < environments; i++) {
        char name[32];
        (void) snprintf(name, sizeof name, "env-%zu", i);
        coffer_request_add_environment(stage->request, name);
    }
    coffer_request_add_reference(stage->request, "slack", "BOT_TOKEN");
    coffer_request_add_reference(stage->request, "github", "KEY");
}

#define CHECK_VALUE(item, secret, key, expected)                                \
    do {                                                                        \
        const coffer_bytes value_ = coffer_item_value((item), (secret), (key)); \
        CHECK(value_.data != NULL);                                             \
        CHECK_INT(value_.length, strlen(expected));                             \
        CHECK_BYTES(value_.data, expected, value_.length);                      \
    } while (0)

static void values_come_by_item_environment_secret_and_key(void)
{
    STAGE_WITH(NULL, NULL, "");
    coffer_request_set_id(stage.request, "first");
    ask(&stage, 2);
    coffer_request_next_item(stage.request);
    coffer_request_set_workspace(stage.request, WORKSPACE);
    coffer_request_add_reference(stage.request, "aws", "KEY");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK(stage.error == NULL);
    CHECK_INT(coffer_result_count(stage.result), 3);
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_INT(strlen(coffer_result_request_id(stage.result)), 36);
    const coffer_item *item = coffer_result_item(stage.result, 1);
    CHECK_INT(coffer_item_index(item), 0);
    CHECK_TEXT(coffer_item_id(item), "first");
    CHECK_TEXT(coffer_item_environment(item), "env-1");
    CHECK_INT(coffer_item_status(item), COFFER_OK);
    CHECK_INT(coffer_item_outcome(item), COFFER_OUTCOME_RESOLVED);
    CHECK_TEXT(coffer_item_message(item), "");
    CHECK_VALUE(item, "slack", "BOT_TOKEN", "env-1/slack/BOT_TOKEN");
    CHECK_VALUE(item, "github", "KEY", "env-1/github/KEY");
    CHECK_INT(coffer_item_version(item, "github"), 7);
    CHECK_INT(coffer_item_version(item, "gitlab"), 0);
    CHECK_TEXT(coffer_item_consistency_token(item), "state-1");
    CHECK_INT(coffer_item_reference_count(item), 2);
    CHECK_INT(coffer_item_reference_outcome(item, 1), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_reference_outcome(item, 2), COFFER_OUTCOME_UNSPECIFIED);
    CHECK_INT(coffer_item_expires_ms(item), 0);
    CHECK_INT(coffer_item_stale_since_ms(item), 0);
    item = coffer_result_item(stage.result, 2);
    CHECK_INT(coffer_item_index(item), 1);
    CHECK_TEXT(coffer_item_id(item), "");
    CHECK_TEXT(coffer_item_workspace(item), WORKSPACE);
    CHECK_TEXT(coffer_item_environment(item), "default");
    CHECK_VALUE(item, "aws", "KEY", "default/aws/KEY");
    CHECK(coffer_item_value(item, "slack", "BOT_TOKEN").data == NULL);
    CHECK(coffer_item_value(item, "aws", "key").data == NULL);
    CHECK(coffer_result_item(stage.result, 3) == NULL);
}

static void values_can_be_listed(void)
{
    STAGE_WITH(NULL, NULL, "");
    ask(&stage, 1);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    const char *secret = NULL;
    const char *key = NULL;
    CHECK_INT(coffer_item_value_count(item), 2);
    const coffer_bytes value = coffer_item_value_at(item, 1, &secret, &key);
    CHECK_TEXT(secret, "github");
    CHECK_TEXT(key, "KEY");
    CHECK_BYTES(value.data, "env-0/github/KEY", value.length);
    CHECK(coffer_item_value_at(item, 0, NULL, NULL).data != NULL);
    CHECK(coffer_item_value_at(item, 2, &secret, &key).data == NULL);
    CHECK(secret == NULL && key == NULL);
}

static void see_all_fields(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                           Coffer__V1__ResolveResponse *answer)
{
    char *seen = script->context;
    const Coffer__V1__ResolveItem *first = asked->items[0];
    const Coffer__V1__ResolveItem *second = asked->items[1];
    (void) number;
    (void) answer;
    (void) snprintf(seen, 512, "%zu %s %s %s %s %s %s %lld %s|%zu %s %s %d %u %s", asked->n_items, first->id,
                    first->workspace, first->environments[0], first->run->workflow_id, first->run->run_id,
                    first->run->action, (long long) first->min_remaining_validity->seconds,
                    first->consistency_token, second->n_environments, second->workspace, second->environments[0],
                    asked->validate_only, asked->page_size, asked->page_token);
}

static void request_carries_all_that_was_set_and_the_clients_defaults(void)
{
    char seen[512] = "";
    STAGE_WITH(see_all_fields, seen, "workspace=" WORKSPACE " environment=prod");
    coffer_request_set_id(stage.request, "replaced");
    coffer_request_set_id(stage.request, "a1");
    coffer_request_set_workspace(stage.request, OTHER_WORKSPACE);
    coffer_request_add_environment(stage.request, "customer-a");
    coffer_request_add_reference(stage.request, "slack", "KEY");
    coffer_request_set_run(stage.request, "wf", "run", "old");
    coffer_request_set_run(stage.request, "wf", "run", "act");
    coffer_request_set_min_remaining_validity(stage.request, 120);
    coffer_request_set_consistency_token(stage.request, "s1");
    coffer_request_next_item(stage.request);
    coffer_request_add_reference(stage.request, "aws", "KEY");
    coffer_request_set_validate_only(stage.request, 5, "p1");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "2 a1 " OTHER_WORKSPACE " customer-a wf run act 120 s1|1 " WORKSPACE " prod 1 5 p1");
}

static void same_request_can_be_used_again(void)
{
    STAGE_WITH(NULL, NULL, "environment=prod");
    ask(&stage, 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(stage_resolve(&stage), COFFER_OK);
        CHECK_TEXT(coffer_item_environment(coffer_result_item(stage.result, 0)), "prod");
        coffer_result_free(TAKE(stage.result));
    }
}

typedef void (*build)(coffer_request *request);

static void wrong_secret(coffer_request *request)
{
    coffer_request_add_reference(request, "good", "KEY");
    coffer_request_add_reference(request, "no/slash", "KEY");
    coffer_request_add_reference(request, NULL, "KEY");
}

static void wrong_key(coffer_request *request)
{
    coffer_request_add_reference(request, "good", "1KEY");
}

static void missing_key(coffer_request *request)
{
    coffer_request_add_reference(request, "good", NULL);
}

static void wrong_environment(coffer_request *request)
{
    coffer_request_add_environment(request, "prod");
    coffer_request_add_environment(request, "");
}

static void wrong_workspace(coffer_request *request)
{
    coffer_request_next_item(request);
    coffer_request_set_workspace(request, "acme");
}

static void wrong_run(coffer_request *request)
{
    coffer_request_set_run(request, "w", "\xff", NULL);
}

static void long_id(coffer_request *request)
{
    char id[130];
    (void) snprintf(id, sizeof id, "%0129d", 0);
    coffer_request_set_id(request, id);
}

static void long_timeout(coffer_request *request)
{
    coffer_request_set_timeout(request, 3600001);
}

static void long_traceparent(coffer_request *request)
{
    char text[130];
    (void) snprintf(text, sizeof text, "%0129d", 0);
    coffer_request_set_traceparent(request, text);
}

static void nothing_asked(coffer_request *request)
{
    coffer_request_add_reference(request, "good", "KEY");
    coffer_request_next_item(request);
}

static void first_mistake_of_a_request_is_told_and_nothing_is_sent(void)
{
    static const struct {
        build build;
        coffer_reason reason;
        const char *field;
    } cases[] = {
        {wrong_secret, COFFER_REASON_FIELD_INVALID, "items[0].references[1].name"},
        {wrong_key, COFFER_REASON_FIELD_INVALID, "items[0].references[0].key"},
        {missing_key, COFFER_REASON_FIELD_REQUIRED, "items[0].references[0].key"},
        {wrong_environment, COFFER_REASON_FIELD_REQUIRED, "items[0].environments[1]"},
        {wrong_workspace, COFFER_REASON_FIELD_INVALID, "items[1].workspace"},
        {wrong_run, COFFER_REASON_FIELD_INVALID, "items[0].run.run_id"},
        {long_id, COFFER_REASON_FIELD_INVALID, "items[0].id"},
        {long_timeout, COFFER_REASON_FIELD_INVALID, "timeout"},
        {long_traceparent, COFFER_REASON_FIELD_INVALID, "traceparent"},
        {nothing_asked, COFFER_REASON_FIELD_REQUIRED, "items[1].references"},
    };
    STAGE_WITH(NULL, NULL, "");
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        coffer_request *request = coffer_request_new();
        coffer_error *error = NULL;
        cases[i].build(request);
        const coffer_status status = coffer_resolve(stage.client, request, &stage.result, &error);
        const coffer_reason reason = coffer_error_reason(error);
        char field[64];
        (void) snprintf(field, sizeof field, "%s", coffer_error_field(error));
        coffer_error_free(error);
        coffer_request_free(request);
        CHECK_INT(status, COFFER_INVALID_ARGUMENT);
        CHECK_INT(reason, cases[i].reason);
        CHECK_TEXT(field, cases[i].field);
    }
    CHECK_INT(scripted_server_requests(stage.server), 0);
}

static void missing_arguments_are_told(void)
{
    STAGE_WITH(NULL, NULL, "");
    CHECK_INT(coffer_resolve(NULL, stage.request, &stage.result, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_resolve(stage.client, NULL, &stage.result, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_resolve(stage.client, stage.request, NULL, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_resolve_start(stage.client, stage.request, NULL, NULL, NULL), COFFER_INVALID_ARGUMENT);
    coffer_request_free(NULL);
    coffer_result_free(NULL);
    coffer_request_next_item(NULL);
    coffer_request_set_id(NULL, "x");
    coffer_request_set_workspace(NULL, WORKSPACE);
    coffer_request_add_environment(NULL, "x");
    coffer_request_add_reference(NULL, "x", "y");
    coffer_request_set_run(NULL, "x", "y", "z");
    coffer_request_set_min_remaining_validity(NULL, 1);
    coffer_request_set_consistency_token(NULL, "x");
    coffer_request_set_timeout(NULL, 1);
    coffer_request_set_traceparent(NULL, "x");
    coffer_request_set_validate_only(NULL, 1, NULL);
}

static void fail_first(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                       Coffer__V1__ResolveResponse *answer)
{
    static char near[] = "BOT_TOKEN2";
    static char less_near[] = "TOKEN";
    static char *near_misses[] = {near, less_near};
    static char message[] = "the secret slack has no key BOT_TOKEN in env-0; did you mean BOT_TOKEN2?";
    static Coffer__V1__ReferenceFault fault;
    static Coffer__V1__ReferenceFault *faults[] = {&fault};
    static Google__Protobuf__Duration wait;
    Coffer__V1__ResolveResult *result = answer->results[0];
    (void) script;
    (void) number;
    google__protobuf__duration__init(&wait);
    wait.seconds = 2;
    wait.nanos = 500000000;
    coffer__v1__reference_fault__init(&fault);
    fault.outcome = COFFER__V1__OUTCOME__OUTCOME_KEY_NOT_FOUND;
    fault.message = message;
    fault.near_misses = near_misses;
    fault.n_near_misses = 2;
    fault.reference = asked->items[0]->references[0];
    fault.retry_delay = &wait;
    result->faults = faults;
    result->n_faults = 1;
    result->outcomes[0] = COFFER__V1__OUTCOME__OUTCOME_KEY_NOT_FOUND;
    result->status->code = COFFER_NOT_FOUND;
    result->status->outcome = COFFER__V1__OUTCOME__OUTCOME_KEY_NOT_FOUND;
    result->status->message = message;
    result->status->retry_delay = &wait;
}

static void failed_item_has_its_faults_and_no_values(void)
{
    STAGE_WITH(fail_first, NULL, "");
    ask(&stage, 2);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(coffer_result_failed(stage.result), 1);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_status(item), COFFER_NOT_FOUND);
    CHECK_INT(coffer_item_outcome(item), COFFER_OUTCOME_KEY_NOT_FOUND);
    CHECK_CONTAINS(coffer_item_message(item), "has no key");
    CHECK_INT(coffer_item_retry_after_ms(item), 2500);
    CHECK_INT(coffer_item_value_count(item), 0);
    CHECK(coffer_item_value(item, "github", "KEY").data == NULL);
    CHECK(coffer_item_value_at(item, 0, NULL, NULL).data == NULL);
    CHECK_INT(coffer_item_version(item, "github"), 0);
    CHECK_INT(coffer_item_reference_outcome(item, 0), COFFER_OUTCOME_KEY_NOT_FOUND);
    CHECK_INT(coffer_item_fault_count(item), 1);
    CHECK(coffer_item_fault(item, 1) == NULL);
    const coffer_fault *fault = coffer_item_fault(item, 0);
    CHECK_INT(coffer_fault_reference(fault), 0);
    CHECK_TEXT(coffer_fault_secret(fault), "slack");
    CHECK_TEXT(coffer_fault_key(fault), "BOT_TOKEN");
    CHECK_INT(coffer_fault_outcome(fault), COFFER_OUTCOME_KEY_NOT_FOUND);
    CHECK_CONTAINS(coffer_fault_message(fault), "did you mean");
    CHECK_INT(coffer_fault_retry_after_ms(fault), 2500);
    CHECK_INT(coffer_fault_near_miss_count(fault), 2);
    CHECK_TEXT(coffer_fault_near_miss(fault, 0), "BOT_TOKEN2");
    CHECK_TEXT(coffer_fault_near_miss(fault, 1), "TOKEN");
    CHECK_TEXT(coffer_fault_near_miss(fault, 2), "");
    CHECK_VALUE(coffer_result_item(stage.result, 1), "github", "KEY", "env-1/github/KEY");
}

/* Four results, each of which claims success and is none that the library knows. */
static void claim_success(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                          Coffer__V1__ResolveResponse *answer)
{
    const int unknown = 99;
    (void) script;
    (void) asked;
    (void) number;
    answer->results[0]->status->outcome = (Coffer__V1__Outcome) unknown;
    answer->results[1]->outcomes[1] = (Coffer__V1__Outcome) unknown;
    answer->results[2]->status->outcome = COFFER__V1__OUTCOME__OUTCOME_UNSPECIFIED;
    answer->results[3]->status = NULL;
    answer->results[4]->outcomes[0] = COFFER__V1__OUTCOME__OUTCOME_CORRUPTED;
    answer->results[5]->status->outcome = COFFER__V1__OUTCOME__OUTCOME_ABSENT;
    answer->results[6]->status->outcome = (Coffer__V1__Outcome) unknown;
    answer->results[6]->status->code = COFFER_NOT_FOUND;
    answer->results[7]->status->code = 55;
}

static void outcome_that_is_not_known_is_an_error(void)
{
    STAGE_WITH(claim_success, NULL, "");
    ask(&stage, 8);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    for (size_t i = 0; i < 8; i++) {
        const coffer_item *item = coffer_result_item(stage.result, i);
        CHECK_INT(coffer_item_status(item), i == 5 ? COFFER_OK : COFFER_UNKNOWN);
        CHECK_INT(coffer_item_value_count(item), i == 5 ? 2 : 0);
        CHECK((coffer_item_value(item, "github", "KEY").data != NULL) == (i == 5));
    }
    CHECK_INT(coffer_result_failed(stage.result), 7);
    CHECK_INT(coffer_item_outcome(coffer_result_item(stage.result, 1)), 99);
    CHECK_CONTAINS(coffer_item_message(coffer_result_item(stage.result, 1)), "outcome 99 (UNKNOWN)");
    CHECK_TEXT(coffer_outcome_name((coffer_outcome) 99), "UNKNOWN");
    CHECK_TEXT(coffer_outcome_name(COFFER_OUTCOME_ITEM_INVALID), "ITEM_INVALID");
    CHECK(!coffer_outcome_ok((coffer_outcome) 99));
    CHECK(!coffer_outcome_ok(COFFER_OUTCOME_UNSPECIFIED));
    CHECK(coffer_outcome_ok(COFFER_OUTCOME_NOT_NEEDED));
    CHECK(!coffer_outcome_ok(COFFER_OUTCOME_SECRET_NOT_FOUND));
}

static void drop_last(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                      Coffer__V1__ResolveResponse *answer)
{
    (void) script;
    (void) asked;
    (void) number;
    answer->n_results--;
}

static void answer_to_another_request_is_refused(void)
{
    STAGE_WITH(drop_last, NULL, "");
    ask(&stage, 3);
    CHECK_INT(stage_resolve(&stage), COFFER_INTERNAL);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_REPLY_INVALID);
    CHECK_CONTAINS(coffer_error_message(stage.error), "answered 2 items instead of 3");
    CHECK_INT(strlen(coffer_error_request_id(stage.error)), 36);
}

static void garbage(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                    void *context)
{
    (void) request;
    (void) number;
    (void) context;
    reply->payload = calloc(1, 8);
    reply->payload_len = 8;
}

static void payload_that_is_no_answer_is_refused(void)
{
    AUTO(scripted_server_cleanup) struct scripted_server *server = scripted_server_new(NULL, 1, garbage, NULL);
    AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(scripted_server_address(server), "");
    coffer_request *request = coffer_request_new();
    coffer_result *result = NULL;
    coffer_request_add_reference(request, "a", "b");
    const coffer_status status = coffer_resolve(client, request, &result, NULL);
    coffer_request_free(request);
    CHECK_INT(status, COFFER_INTERNAL);
    CHECK(result == NULL);
}

/* Each answer has room for one result that was not there before. */
static void defer_all_but_one(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked,
                              unsigned number, Coffer__V1__ResolveResponse *answer)
{
    const size_t last = answer->n_results - 1;
    (void) script;
    (void) asked;
    (void) number;
    for (size_t i = 0; i < last; i++) {
        answer->results[i]->status->code = COFFER_RESOURCE_EXHAUSTED;
        answer->results[i]->status->outcome = COFFER__V1__OUTCOME__OUTCOME_DEFERRED;
        answer->results[i]->n_secrets = 0;
    }
}

static void deferred_results_are_asked_for_again(void)
{
    STAGE_WITH(defer_all_but_one, NULL, "");
    ask(&stage, 3);
    coffer_request_next_item(stage.request);
    coffer_request_set_id(stage.request, "second");
    coffer_request_add_reference(stage.request, "aws", "KEY");
    coffer_request_next_item(stage.request);
    coffer_request_add_environment(stage.request, "x");
    coffer_request_add_environment(stage.request, "y");
    coffer_request_add_reference(stage.request, "gcp", "KEY");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(scripted_server_requests(stage.server), 6);
    CHECK_INT(coffer_result_count(stage.result), 6);
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_VALUE(coffer_result_item(stage.result, 0), "github", "KEY", "env-0/github/KEY");
    CHECK_VALUE(coffer_result_item(stage.result, 2), "slack", "BOT_TOKEN", "env-2/slack/BOT_TOKEN");
    CHECK_VALUE(coffer_result_item(stage.result, 3), "aws", "KEY", "default/aws/KEY");
    CHECK_TEXT(coffer_item_id(coffer_result_item(stage.result, 3)), "second");
    CHECK_VALUE(coffer_result_item(stage.result, 5), "gcp", "KEY", "y/gcp/KEY");
    for (size_t i = 0; i < 6; i++) {
        CHECK_INT(coffer_item_index(coffer_result_item(stage.result, i)), i < 3 ? 0 : i - 2 - (i == 5));
    }
}

static void defer_all(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                      Coffer__V1__ResolveResponse *answer)
{
    defer_all_but_one(script, asked, number, answer);
    answer->results[answer->n_results - 1]->status->code = COFFER_RESOURCE_EXHAUSTED;
    answer->results[answer->n_results - 1]->status->outcome = COFFER__V1__OUTCOME__OUTCOME_DEFERRED;
}

static void asking_again_ends_when_nothing_more_comes(void)
{
    STAGE_WITH(defer_all, NULL, "");
    ask(&stage, 3);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(scripted_server_requests(stage.server), 2);
    CHECK_INT(coffer_result_failed(stage.result), 3);
    CHECK_INT(coffer_item_status(coffer_result_item(stage.result, 0)), COFFER_RESOURCE_EXHAUSTED);
    CHECK_CONTAINS(coffer_item_message(coffer_result_item(stage.result, 0)), "asking again failed");
}

static void defer_then_fail(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                            Coffer__V1__ResolveResponse *answer)
{
    defer_all_but_one(script, asked, number, answer);
    answer->n_results -= number > 0;
}

static void failure_of_asking_again_spares_what_is_there(void)
{
    STAGE_WITH(defer_then_fail, NULL, "");
    ask(&stage, 3);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(coffer_result_failed(stage.result), 2);
    CHECK_INT(coffer_item_status(coffer_result_item(stage.result, 0)), COFFER_INTERNAL);
    CHECK_INT(coffer_item_status(coffer_result_item(stage.result, 1)), COFFER_INTERNAL);
    CHECK_VALUE(coffer_result_item(stage.result, 2), "github", "KEY", "env-2/github/KEY");
}

static void tell_preflight(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                           Coffer__V1__ResolveResponse *answer)
{
    static Coffer__V1__ResolveCounts counts;
    static char next[] = "next";
    fail_first(script, asked, number, answer);
    coffer__v1__resolve_counts__init(&counts);
    counts.resolved = 41;
    counts.failed = 2;
    answer->counts = &counts;
    answer->next_page_token = next;
    answer->n_results = 1;
    answer->results[0]->n_secrets = 0;
}

static void preflight_tells_only_what_would_fail(void)
{
    STAGE_WITH(tell_preflight, NULL, "");
    ask(&stage, 43);
    coffer_request_set_validate_only(stage.request, 0, NULL);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(coffer_result_count(stage.result), 1);
    CHECK_INT(coffer_result_would_resolve(stage.result), 41);
    CHECK_INT(coffer_result_would_fail(stage.result), 2);
    CHECK_TEXT(coffer_result_next_page_token(stage.result), "next");
}

static void add_odd_values(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                           Coffer__V1__ResolveResponse *answer)
{
    static uint8_t bytes[] = {0, 1, 0xff, 0, 7};
    static ProtobufCBinaryData masks[2];
    static Google__Protobuf__Timestamp time;
    Coffer__V1__ResolveResult *result = answer->results[0];
    (void) script;
    (void) asked;
    (void) number;
    result->secrets[0]->values[0]->value.len = 0;
    result->secrets[1]->values[0]->value = (ProtobufCBinaryData){sizeof bytes, bytes};
    masks[0] = (ProtobufCBinaryData){3, bytes};
    masks[1] = (ProtobufCBinaryData){4, bytes};
    result->additional_masks = masks;
    result->n_additional_masks = 2;
    result->unmasked_values = 1;
    google__protobuf__timestamp__init(&time);
    time.seconds = 1700000000;
    time.nanos = 250000000;
    result->expire_time = &time;
    result->stale_since = &time;
}

static void values_are_any_bytes_and_masks_come_longest_first(void)
{
    static const uint8_t bytes[] = {0, 1, 0xff, 0, 7};
    STAGE_WITH(add_odd_values, NULL, "");
    ask(&stage, 2);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    const coffer_bytes empty = coffer_item_value(item, "slack", "BOT_TOKEN");
    CHECK(empty.data != NULL);
    CHECK_INT(empty.length, 0);
    CHECK_INT(coffer_item_value(item, "github", "KEY").length, 5);
    CHECK_BYTES(coffer_item_value(item, "github", "KEY").data, bytes, 5);
    CHECK_INT(coffer_item_expires_ms(item), 1700000000250);
    CHECK_INT(coffer_item_stale_since_ms(item), 1700000000250);
    CHECK_INT(coffer_result_mask_count(stage.result), 4);
    CHECK_INT(coffer_result_mask(stage.result, 0).length, strlen("env-1/slack/BOT_TOKEN"));
    CHECK_INT(coffer_result_mask(stage.result, 1).length, strlen("env-1/github/KEY"));
    CHECK_INT(coffer_result_mask(stage.result, 2).length, 5);
    CHECK_INT(coffer_result_mask(stage.result, 3).length, 4);
    CHECK(coffer_result_mask(stage.result, 4).data == NULL);
    CHECK_INT(coffer_result_unmasked(stage.result), 1);
}

static void answer_larger_than_the_memory_is_told(void)
{
    STAGE_WITH(NULL, NULL, "memory=64KiB");
    char name[100];
    for (int i = 0; i < 60; i++) {
        (void) snprintf(name, sizeof name, "e%090d", i);
        coffer_request_add_environment(stage.request, name);
    }
    for (int i = 0; i < 8; i++) {
        (void) snprintf(name, sizeof name, "s%090d", i);
        coffer_request_add_reference(stage.request, name, "KEY");
    }
    CHECK_INT(stage_resolve(&stage), COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_OUT_OF_MEMORY);
    CHECK_CONTAINS(coffer_error_message(stage.error), "raise the setting memory");
}

/* The end of a resolve that was started. */
struct end {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned calls;
    coffer_result *result;
    coffer_error *error;
};

static void keep_end(coffer_result *result, coffer_error *error, void *context)
{
    struct end *end = context;
    (void) pthread_mutex_lock(&end->lock);
    end->calls++;
    end->result = result;
    end->error = error;
    (void) pthread_cond_broadcast(&end->changed);
    (void) pthread_mutex_unlock(&end->lock);
}

static void wait_for(struct end *end)
{
    (void) pthread_mutex_lock(&end->lock);
    while (end->calls == 0) {
        (void) pthread_cond_wait(&end->changed, &end->lock);
    }
    (void) pthread_mutex_unlock(&end->lock);
}

static void callback_gets_the_whole_result(void)
{
    STAGE_WITH(defer_all_but_one, NULL, "");
    struct end end = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    ask(&stage, 3);
    CHECK_INT(coffer_resolve_start(stage.client, stage.request, keep_end, &end, &stage.error), COFFER_OK);
    coffer_request_free(TAKE(stage.request));
    wait_for(&end);
    coffer_client_close(TAKE(stage.client));
    CHECK_INT(end.calls, 1);
    CHECK(end.error == NULL);
    stage.result = end.result;
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_VALUE(coffer_result_item(stage.result, 0), "github", "KEY", "env-0/github/KEY");
    CHECK_INT(scripted_server_requests(stage.server), 3);
}

static void callback_gets_the_failure(void)
{
    STAGE_WITH(drop_last, NULL, "");
    struct end end = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    ask(&stage, 2);
    CHECK_INT(coffer_resolve_start(stage.client, stage.request, keep_end, &end, NULL), COFFER_OK);
    wait_for(&end);
    stage.error = end.error;
    CHECK(end.result == NULL);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_REPLY_INVALID);
    CHECK_INT(strlen(coffer_error_request_id(stage.error)), 36);
}

static void wrong_request_is_told_before_the_callback(void)
{
    STAGE_WITH(NULL, NULL, "");
    struct end end = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    coffer_request_add_reference(stage.request, "a b", "KEY");
    CHECK_INT(coffer_resolve_start(stage.client, stage.request, keep_end, &end, &stage.error),
              COFFER_INVALID_ARGUMENT);
    CHECK_TEXT(coffer_error_field(stage.error), "items[0].references[0].name");
    CHECK_INT(end.calls, 0);
}

TEST_MAIN(TEST(values_come_by_item_environment_secret_and_key), TEST(values_can_be_listed),
          TEST(request_carries_all_that_was_set_and_the_clients_defaults), TEST(same_request_can_be_used_again),
          TEST(first_mistake_of_a_request_is_told_and_nothing_is_sent), TEST(missing_arguments_are_told),
          TEST(failed_item_has_its_faults_and_no_values), TEST(outcome_that_is_not_known_is_an_error),
          TEST(answer_to_another_request_is_refused), TEST(payload_that_is_no_answer_is_refused),
          TEST(deferred_results_are_asked_for_again), TEST(asking_again_ends_when_nothing_more_comes),
          TEST(failure_of_asking_again_spares_what_is_there), TEST(preflight_tells_only_what_would_fail),
          TEST(values_are_any_bytes_and_masks_come_longest_first), TEST(answer_larger_than_the_memory_is_told),
          TEST(callback_gets_the_whole_result), TEST(callback_gets_the_failure),
          TEST(wrong_request_is_told_before_the_callback))
