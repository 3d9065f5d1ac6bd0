/*
 * The role test. It asks the outside first, as a flight that belongs to the request, and then writes what was found; both in
 * one call, which waits between them and begins anew.
 */
#include "common/wire.h"
#include "server/service/aws_roles.h"
#include "server/service/flights.h"
#include "server/service/guard.h"
#include "server/service/resolve_aws.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

enum { UUID_BYTES = 16 };

enum { RIGHT, WITHOUT, WRONG, RIGHT_AGAIN };

#define VERDICT(name) COFFER__V1__AWS_ROLE_VERDICT__AWS_ROLE_VERDICT_##name

struct testing {
    struct secret_change change; /* first */
    const struct address *address;
    const Coffer__V1__TestRoleRequest *request;
    Coffer__V1__TestRoleResponse *response;
    uint8_t key[SESSIONS_KEY];
    struct sessions_test found;
};

/* --- What was found ------------------------------------------------------------------------------------------- */

static bool granted(const struct sessions_test *found, int at)
{
    return found->tries[at] == COF_REASON_NONE;
}

static bool refused(const struct sessions_test *found, int at)
{
    return found->tries[at] == COF_REASON_AWS_ROLE_REFUSED;
}

/* A refusal says something only if the right External ID was granted just before and after it. */
static Coffer__V1__AwsRoleVerdict verdict_of(const struct sessions_test *found)
{
    if (granted(found, WITHOUT) || granted(found, WRONG)) {
        return VERDICT(OPEN);
    }
    if (refused(found, RIGHT) && refused(found, RIGHT_AGAIN)) {
        return VERDICT(NOT_ASSUMED);
    }
    return granted(found, RIGHT) && granted(found, RIGHT_AGAIN) && refused(found, WITHOUT) && refused(found, WRONG)
               ? VERDICT(REFUSES)
               : VERDICT(INCONCLUSIVE);
}

static const char *warning_of(Coffer__V1__AwsRoleVerdict verdict)
{
    if (verdict == VERDICT(OPEN)) {
        return "the role can be assumed without this workspace's External ID: whoever else uses this server and "
               "knows its ARN "
               "could use it (the confused-deputy problem); demand sts:ExternalId in its trust policy";
    }
    if (verdict == VERDICT(NOT_ASSUMED)) {
        return "the role cannot be assumed; check the principal and the External ID in its trust policy";
    }
    return verdict == VERDICT(INCONCLUSIVE) ? "AWS did not answer as it must for a result; test the role again"
                                            : NULL;
}

static const char *first_reason(const struct sessions_test *found)
{
    return granted(found, RIGHT) ? "" : cof_reason_name(found->tries[RIGHT]);
}

static cof_code pack(struct call *call, const struct sessions_test *found, struct secret_row *row)
{
    ProtobufCMessage *unpacked = NULL;
    Coffer__V1__SecretFacts fresh;
    Coffer__V1__SecretFacts *facts = &fresh;
    Coffer__V1__AwsRoleTest test;
    coffer__v1__secret_facts__init(&fresh);
    coffer__v1__aws_role_test__init(&test);
    if (row->facts.len > 0) {
        TRY(cof_wire_unpack(&coffer__v1__secret_facts__descriptor, row->facts, call->arena, &unpacked, call->err));
        facts = (Coffer__V1__SecretFacts *) (void *) unpacked;
    }
    test.verdict = verdict_of(found);
    test.granted_with_external_id = granted(found, RIGHT);
    test.granted_without = granted(found, WITHOUT);
    test.granted_with_wrong_one = granted(found, WRONG);
    test.reason = text_of(call->arena, cof_slice_text(first_reason(found)));
    test.test_time = time_of(call->arena, found->time_us);
    if (test.reason == NULL || test.test_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    facts->aws_role_test = &test;
    const size_t size = protobuf_c_message_get_packed_size(&facts->base);
    uint8_t *packed = cof_arena_alloc(call->arena, size);
    if (packed == NULL) {
        return cof_arena_exhausted(call->err);
    }
    row->facts = cof_slice_of(packed, protobuf_c_message_pack(&facts->base, packed));
    return COF_OK;
}

static cof_code add_warning(struct call *call, const struct testing *testing)
{
    const char *warning = warning_of(verdict_of(&testing->found));
    if (warning == NULL) {
        return COF_OK;
    }
    testing->response->warnings = cof_arena_alloc(call->arena, sizeof *testing->response->warnings);
    if (testing->response->warnings == NULL) {
        return cof_arena_exhausted(call->err);
    }
    testing->response->warnings[0] = text_of(call->arena, cof_slice_text(warning));
    testing->response->n_warnings = 1;
    return testing->response->warnings[0] == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code decide(struct call *call, void *context)
{
    struct testing *testing = context;
    struct secret_change *change = &testing->change;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(secret_change_take_whole(call, change, &rows));
    if (change->row.version != testing->found.version) {
        return cof_fail(call->err, COF_REASON_VERSION_MISMATCH,
                        "the secret was given new values while its role was tested; test it again");
    }
    TRY(pack(call, &testing->found, &change->row));
    TRY(add_warning(call, testing));
    return secret_change_metadata(call, change, EFFECT(METADATA_CHANGED), secret_sealed_of(rows, 0).keys);
}

static cof_code keep(struct call *call, struct testing *testing)
{
    struct secret_change *change = &testing->change;
    change->address = testing->address;
    change->answer = &testing->response->secret;
    secret_change_init(change, decide, &testing->response->base);
    return write_run(call, &change->write);
}

/* --- Asking --------------------------------------------------------------------------------------------------- */

static cof_code no_role(struct call *call, const struct testing *testing)
{
    const struct cof_slice environment = address_environment(testing->address);
    return cof_fail(call->err, COF_REASON_AWS_ROLE_MISSING,
                    "the secret \"%s\" in the environment \"%.*s\" has no AWS_ROLE_ARN, or is none for AWS; %s",
                    testing->request->name, (int) environment.len, (const char *) environment.data,
                    cof_reason_next_step(COF_REASON_AWS_ROLE_MISSING));
}

/* The stored secret, checked and opened. */
static cof_code read_secret(struct call *call, const struct testing *testing, struct found *ret_found)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    *ret_found = (struct found){0};
    TRY(guard_load_keys(call, address_workspace(testing->address)));
    TRY(secret_queue(call, testing->address, STATEMENT_SECRET_GET));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return secret_not_found(call, testing->address);
    }
    TRY(row_read(&secret_row_type, rows, 0, 0, call->arena, &ret_found->row, call->err));
    TRY(row_keep(&secret_row_type, call->arena, &ret_found->row, call->err));
    TRY(guard_check_row(call, &secret_row_type, &ret_found->row.workspace_id, &ret_found->row));
    const struct sealed_version sealed = secret_sealed_of(rows, 0);
    TRY(values_open(call, &ret_found->row, &sealed, &ret_found->values));
    return aws_open(call, ret_found);
}

static cof_code make_order(struct call *call, const struct testing *testing, struct roles_order *ret_order)
{
    struct found found;
    char *name = cof_arena_alloc(call->arena, STS_SESSION_NAME);
    TRY(read_secret(call, testing, &found));
    if (found.aws == NULL || found.aws->mode != AWS_MODE_ROLE) {
        return no_role(call, testing);
    }
    if (name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(aws_order_of(call, &found.aws->stored, ret_order));
    TRY(sts_session_name(&found.row.workspace_id, cof_slice_text("test"), name, call->err));
    TRY(aws_external_id(call, &found.row.workspace_id, &ret_order->role.external_id));
    memcpy(ret_order->key, testing->key, sizeof ret_order->key);
    ret_order->role.session_name = cof_slice_text(name);
    ret_order->role.duration_s = STS_DURATION_LEAST_S;
    ret_order->owner = (struct sessions_owner){found.row.workspace_id, found.row.secret_id};
    ret_order->version = found.row.version;
    ret_order->tests = true;
    return COF_OK;
}

/* One test for each request, whichever attempt of it begins it. */
static cof_code make_key(struct call *call, struct testing *testing)
{
    uint8_t input[sizeof "aws-test" - 1 + 3 * (size_t) UUID_BYTES];
    uint8_t *at = input;
    memcpy(at, "aws-test", sizeof "aws-test" - 1);
    at += sizeof "aws-test" - 1;
    memcpy(at, address_workspace(testing->address)->bytes, UUID_BYTES);
    memcpy(at + UUID_BYTES, call->request_id.bytes, UUID_BYTES);
    memcpy(at + 2 * (size_t) UUID_BYTES, call->token->id.bytes, UUID_BYTES);
    return crypto_sha256(cof_slice_of(input, sizeof input), testing->key, call->err);
}

static cof_code wait_for(struct call *call, const struct testing *testing)
{
    struct flight flight;
    memcpy(flight.key.bytes, testing->key, sizeof flight.key.bytes);
    memcpy(flight.group.bytes, testing->key, sizeof flight.group.bytes);
    const int64_t until_us = call_wait_end(call, call->deadline_us);
    if (call_may_wait(call, until_us)) {
        call_wait_for_flight(call, CALL_WAIT_ROLE, address_workspace(testing->address), &flight, until_us);
    }
    return cof_error_retry_after(call->err, 1000);
}

static cof_code ask(struct call *call, const struct testing *testing)
{
    struct roles_order order;
    struct flight_key key;
    memcpy(key.bytes, testing->key, sizeof key.bytes);
    TRY(make_order(call, testing, &order));
    if (flights_begin(call->service->flights, &key) == FLIGHT_BEGUN &&
        roles_fly(call->service->roles, &order, call->arena, call->err) != COF_OK) {
        flights_land(call->service->flights, &key);
        return call->err->code;
    }
    cof_ignore(cof_fail(call->err, COF_REASON_AWS_UNAVAILABLE, "AWS STS has not answered yet; repeat the call"));
    return wait_for(call, testing);
}

cof_code role_test(struct call *call, const Coffer__V1__TestRoleRequest *request,
                   Coffer__V1__TestRoleResponse *response)
{
    struct testing testing = {.request = request, .response = response};
    struct sessions_result result;
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_WRITE,
                         &testing.address));
    if (!roles_are_assumed(call->service->roles)) {
        return cof_fail(call->err, COF_REASON_NOT_AVAILABLE, "this server assumes no roles; %s",
                        cof_reason_next_step(COF_REASON_NOT_AVAILABLE));
    }
    TRY(make_key(call, &testing));
    TRY(sessions_find(roles_sessions(call->service->roles), testing.key, call->arena, &result, call->err));
    if (result.found != SESSIONS_TEST) {
        return ask(call, &testing);
    }
    testing.found = result.test;
    return keep(call, &testing);
}
