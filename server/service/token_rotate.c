#include <google/protobuf/duration.pb-c.h>

#include "server/service/accounts.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/text.h"
#include "server/service/token_new.h"
#include "server/service/tokens.h"
#include "server/service/write.h"

/* Rotating: a new token takes the place of another one, which goes on for a while. */

enum {
    OVERLAP_MAX_S = 30 * 24 * 3600,
    OWN_OVERLAP_MIN_S = 60,
    NANOS = 1000000000,
    SECOND_US = 1000000,
};

struct rotation {
    struct write write;
    const Coffer__V1__RotateTokenRequest *request;
    Coffer__V1__RotateTokenResponse *response;
    struct cof_uuid workspace;
    struct cof_uuid token_id;
    int64_t overlap_us;
    int64_t expire_time; /* as asked for */
    struct principal_row account;
    struct token_row before;
    struct token_row row;
};

static cof_code look(struct call *call, void *context)
{
    const struct rotation *rotation = context;
    const struct param params[] = {param_uuid(&rotation->workspace), param_uuid(&rotation->token_id)};
    return session_queue(call->session, STATEMENT_TOKEN_LOCK, params, COF_COUNT(params), call->err);
}

static cof_code ended(struct call *call, const char *why)
{
    return cof_fail(call->err, COF_REASON_TOKEN_ENDED, "%s; %s", why, cof_reason_next_step(COF_REASON_TOKEN_ENDED));
}

/* A second rotation would make a second successor, of which nobody knows which one is in use. */
static cof_code check_living(struct call *call, const struct token_row *before)
{
    if (before->revoke_time != ROW_NO_TIME) {
        return ended(call, "the token was revoked");
    }
    if (before->expire_time != ROW_NO_TIME && before->expire_time <= call_now(call)) {
        return ended(call, "the token has expired");
    }
    return cof_uuid_equal(&before->successor_id, &cof_uuid_zero) ? COF_OK
                                                                 : ended(call, "the token was rotated before");
}

static int64_t earlier(int64_t a, int64_t b)
{
    if (a == ROW_NO_TIME || b == ROW_NO_TIME) {
        return a == ROW_NO_TIME ? b : a;
    }
    return a < b ? a : b;
}

/* When the new token ends, if the request does not say: after as long as the one before was to live. */
static int64_t end_of(struct call *call, const struct rotation *rotation)
{
    const struct token_row *before = &rotation->before;
    if (rotation->expire_time != ROW_NO_TIME) {
        return rotation->expire_time;
    }
    const int64_t end = before->expire_time == ROW_NO_TIME
                            ? ROW_NO_TIME
                            : call_now(call) + (before->expire_time - before->create_time);
    return earlier(end, token_issuer_end(call, &rotation->account));
}

static cof_code take_token(struct call *call, struct rotation *rotation)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct rule_set restrictions;
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return token_not_found(call);
    }
    TRY(row_read(&token_row_type, rows, 0, 0, call->arena, &rotation->before, call->err));
    TRY(row_read(&principal_row_type, rows, 0, token_row_type.count, call->arena, &rotation->account, call->err));
    TRY(guard_check_row(call, &token_row_type, &rotation->workspace, &rotation->before));
    TRY(guard_check_row(call, &principal_row_type, &rotation->workspace, &rotation->account));
    TRY(row_keep(&token_row_type, call->arena, &rotation->before, call->err));
    TRY(row_keep(&principal_row_type, call->arena, &rotation->account, call->err));
    if (rotation->account.delete_time != ROW_NO_TIME) {
        return token_not_found(call);
    }
    TRY(rights_unpack(rotation->before.restrictions, (cof_token_kind) rotation->account.token_kind, call->arena,
                      &restrictions, call->err));
    return token_check_issuer(call, &rotation->account, &restrictions, end_of(call, rotation));
}

static cof_code build_successor(struct call *call, struct rotation *rotation)
{
    struct token_row *row = &rotation->row;
    struct cof_slice text;
    *row = rotation->before;
    row->issuer_id = call->caller->principal;
    row->create_time = call_now(call);
    row->expire_time = end_of(call, rotation);
    TRY(token_new(call, (cof_token_kind) rotation->account.token_kind, row, &text));
    TRY(guard_seal_row(call, &token_row_type, &rotation->workspace, row));
    TRY(token_show(call, text, &rotation->response->secret_text));
    return token_message(call, row, &rotation->account, ROW_NO_TIME, &rotation->response->token);
}

static cof_code end_predecessor(struct call *call, struct rotation *rotation)
{
    struct token_row *before = &rotation->before;
    before->expire_time = earlier(before->expire_time, call_now(call) + rotation->overlap_us);
    before->successor_id = rotation->row.token_id;
    TRY(guard_seal_row(call, &token_row_type, &rotation->workspace, before));
    return token_message(call, before, &rotation->account, ROW_NO_TIME, &rotation->response->predecessor);
}

static cof_code decide(struct call *call, void *context)
{
    struct rotation *rotation = context;
    TRY(take_token(call, rotation));
    TRY(check_living(call, &rotation->before));
    TRY(build_successor(call, rotation));
    TRY(end_predecessor(call, rotation));
    TRY(token_record(call, &rotation->write, &rotation->row, &rotation->account));
    return token_record(call, &rotation->write, &rotation->before, &rotation->account);
}

/* A token that was issued once is not shown again to a caller who could not issue it. */
static cof_code recheck(struct call *call, void *context)
{
    struct rotation *rotation = context;
    return take_token(call, rotation);
}

static cof_code apply(struct call *call, void *context)
{
    struct rotation *rotation = context;
    const struct token_row *before = &rotation->before;
    const struct param params[] = {
        param_uuid(&before->workspace_id), param_uuid(&before->token_id),     param_time(before->expire_time),
        param_uuid(&before->successor_id), param_i32(before->mac_generation), param_text(before->mac),
    };
    TRY(write_queue_row(call, &rotation->write, STATEMENT_TOKEN_INSERT, &token_row_type, &rotation->row));
    return write_queue(call, &rotation->write, STATEMENT_TOKEN_ROTATE, params, COF_COUNT(params));
}

/* --- The request ---------------------------------------------------------------------------------------------- */

static cof_code wrong_overlap(struct call *call, const char *text)
{
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "overlap", "%s", text);
}

static cof_code read_overlap(struct call *call, struct rotation *rotation)
{
    const Google__Protobuf__Duration *overlap = rotation->request->overlap;
    if (overlap == NULL) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "overlap",
                              "overlap is missing; say how long the token goes on working, 0 s for no longer");
    }
    if (overlap->seconds < 0 || overlap->seconds > OVERLAP_MAX_S || overlap->nanos < 0 || overlap->nanos >= NANOS) {
        return wrong_overlap(call, "overlap is not between 0 s and 30 days");
    }
    if (cof_uuid_equal(&rotation->token_id, &call->caller->token.token_id) &&
        overlap->seconds < OWN_OVERLAP_MIN_S) {
        return wrong_overlap(call,
                             "overlap is less than 60 s; with the caller's own token a lost answer could not be "
                             "asked for again");
    }
    rotation->overlap_us = overlap->seconds * SECOND_US + overlap->nanos / 1000;
    return COF_OK;
}

static cof_code read_expire_time(struct call *call, struct rotation *rotation)
{
    if (time_read(rotation->request->expire_time, &rotation->expire_time) &&
        (rotation->expire_time == ROW_NO_TIME || rotation->expire_time > call_now(call))) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expire_time",
                          "expire_time is past, or outside the years 1 to 9999");
}

/* Which token is meant; the caller's own one without a word. */
static cof_code read_token(struct call *call, struct rotation *rotation)
{
    const Coffer__V1__RotateTokenRequest *request = rotation->request;
    const struct caller *caller = call->caller;
    const struct address *address;
    char own[COF_UUID_TEXT];
    cof_uuid_format(&caller->workspace, own);
    rotation->token_id = caller->token.token_id;
    const bool is_own = request->token_uid[0] == '\0';
    if (!is_own && !cof_uuid_parse(cof_slice_text(request->token_uid), &rotation->token_id)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "token_uid",
                              "token_uid is no UUID in lower case; coffer token list shows the UUIDs");
    }
    TRY(authorize_whole(call, is_own && request->workspace[0] == '\0' ? own : request->workspace,
                        COF_PERMISSION_TOKEN_WRITE, &address));
    rotation->workspace = *address_workspace(address);
    return COF_OK;
}

cof_code token_rotate(struct call *call, const Coffer__V1__RotateTokenRequest *request,
                      Coffer__V1__RotateTokenResponse *response)
{
    struct rotation rotation = {.request = request, .response = response};
    TRY(read_token(call, &rotation));
    TRY(read_overlap(call, &rotation));
    TRY(read_expire_time(call, &rotation));
    rotation.write.workspace = rotation.workspace;
    rotation.write.look = look;
    rotation.write.decide = decide;
    rotation.write.apply = apply;
    rotation.write.recheck = recheck;
    rotation.write.context = &rotation;
    rotation.write.answer = &response->base;
    return write_run(call, &rotation.write);
}
