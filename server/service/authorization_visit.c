#include "server/service/authorization_visit.h"

#include <string.h>

#include "server/service/authorization_flow.h"
#include "server/service/caller.h"
#include "server/service/guard.h"
#include "server/service/text.h"
#include "server/service/workspace_state.h"

const struct authorization_answer authorization_no_answer = {
    .result = AUTHORIZATION_LATER,
    .workspace = "",
    .environment = "",
    .provider = "",
    .account = "",
    .url = "",
    .text = "",
};

struct visiting {
    struct call *call;
    const struct authorization_visit *visit;
    struct authorization_answer *answer;
    struct flow_return back;
    struct authorization authorization;
    struct refresh_rows rows;
    const struct provider *provider;
};

static cof_code ends(struct visiting *visiting, authorization_result result)
{
    visiting->answer->result = result;
    return COF_OK;
}

/* A failure that is an answer; every other one is given on. */
static cof_code ends_as(struct visiting *visiting, cof_code code, cof_reason reason, authorization_result result)
{
    if (code == COF_OK || visiting->call->err->reason != reason) {
        return code;
    }
    cof_error_clear(visiting->call->err);
    return ends(visiting, result);
}

static bool ended(const struct visiting *visiting)
{
    return visiting->answer->result != AUTHORIZATION_LATER;
}

/* --- Which start ---------------------------------------------------------------------------------------------- */

static cof_code find(struct visiting *visiting)
{
    struct call *call = visiting->call;
    struct cof_uuid workspace;
    uint8_t hash[AUTHORIZATION_HASH];
    const cof_code code = flow_return_read(visiting->visit->query, call->arena, &visiting->back, call->err);
    TRY(ends_as(visiting, code, COF_REASON_FIELD_INVALID, AUTHORIZATION_UNKNOWN));
    if (ended(visiting)) {
        return COF_OK;
    }
    if (!authorization_state(visiting->back.state, &workspace, hash)) {
        return ends(visiting, AUTHORIZATION_UNKNOWN);
    }
    TRY(ends_as(visiting, authorization_find(call, &workspace, hash, &visiting->authorization),
                COF_REASON_AUTHORIZATION_NOT_FOUND, AUTHORIZATION_UNKNOWN));
    if (ended(visiting)) {
        return COF_OK;
    }
    TRY(ends_as(visiting, authorization_check_pending(call, &visiting->authorization),
                COF_REASON_AUTHORIZATION_OVER, AUTHORIZATION_USED));
    return ended(visiting) || visiting->authorization.sealed->own_pages ? COF_OK
                                                                        : ends(visiting, AUTHORIZATION_UNKNOWN);
}

/* --- What it is for ------------------------------------------------------------------------------------------- */

/* Who started it, and may still connect it. */
static cof_code take_account(struct visiting *visiting)
{
    struct call *call = visiting->call;
    struct caller starter;
    TRY(ends_as(visiting,
                authorization_check_starter(call, &visiting->authorization, &visiting->rows.row, &starter),
                COF_REASON_AUTHORIZATION_REFUSED, AUTHORIZATION_CHANGED));
    if (ended(visiting)) {
        return COF_OK;
    }
    visiting->answer->account = text_of(call->arena, starter.account.name);
    return visiting->answer->account == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code take_workspace(struct visiting *visiting)
{
    struct call *call = visiting->call;
    const struct cof_uuid *id = &visiting->authorization.row.workspace_id;
    struct workspace_state_row state;
    struct workspace_row workspace;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(id)};
    TRY(workspace_state_read(call, id, &state));
    TRY(session_queue(call->session, STATEMENT_WORKSPACE_GET, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) != 1 || state.state != WORKSPACE_ACTIVE || state.disabled) {
        return ends(visiting, AUTHORIZATION_CHANGED);
    }
    TRY(row_read(&workspace_row_type, rows, 0, 0, call->arena, &workspace, call->err));
    TRY(guard_check_row(call, &workspace_row_type, id, &workspace));
    visiting->answer->workspace =
        text_of(call->arena, workspace.display_name.len > 0 ? workspace.display_name : workspace.name);
    return visiting->answer->workspace == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code take_connection(struct visiting *visiting)
{
    struct call *call = visiting->call;
    TRY(ends_as(visiting, authorization_rows(call, &visiting->authorization, &visiting->rows, &visiting->provider),
                COF_REASON_AUTHORIZATION_REFUSED, AUTHORIZATION_CHANGED));
    if (ended(visiting)) {
        return COF_OK;
    }
    visiting->answer->provider = text_of(call->arena, cof_slice_text(visiting->provider->name));
    visiting->answer->environment = text_of(call->arena, visiting->rows.row.environment);
    return visiting->answer->provider == NULL || visiting->answer->environment == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

/* What fails its check is as good as changed: nothing is done for it. */
static cof_code take_all(struct visiting *visiting)
{
    static cof_code (*const takes[])(struct visiting *) = {take_connection, take_account, take_workspace};
    for (size_t i = 0; i < COF_COUNT(takes) && !ended(visiting); i++) {
        TRY(ends_as(visiting, takes[i](visiting), COF_REASON_CORRUPTED, AUTHORIZATION_CHANGED));
    }
    return COF_OK;
}

/* --- Steps ---------------------------------------------------------------------------------------------------- */

static bool bound(const struct visiting *visiting)
{
    return visiting->authorization.sealed->browser.len > 0;
}

static bool same_browser(const struct visiting *visiting)
{
    const ProtobufCBinaryData *browser = &visiting->authorization.sealed->browser;
    return visiting->visit->has_browser && browser->len == AUTHORIZATION_HASH &&
           memcmp(browser->data, visiting->visit->browser, AUTHORIZATION_HASH) == 0;
}

static cof_code show(struct visiting *visiting)
{
    return ends(visiting,
                bound(visiting) && !same_browser(visiting) ? AUTHORIZATION_OTHER_BROWSER : AUTHORIZATION_ASKS);
}

/* The first browser that passes has it; one that was faster meanwhile keeps it. */
static cof_code bind(struct visiting *visiting, bool *ret_bound)
{
    struct call *call = visiting->call;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct authorization *authorization = &visiting->authorization;
    const struct cof_slice before = authorization->row.sealed;
    ProtobufCBinaryData *browser = &authorization->sealed->browser;
    browser->data = cof_arena_alloc(call->arena, AUTHORIZATION_HASH);
    if (browser->data == NULL) {
        return cof_arena_exhausted(call->err);
    }
    memcpy(browser->data, visiting->visit->browser, AUTHORIZATION_HASH);
    browser->len = AUTHORIZATION_HASH;
    TRY(authorization_seal(call, authorization));
    const struct param params[] = {
        param_uuid(&authorization->row.workspace_id),
        param_uuid(&authorization->row.authorization_id),
        param_text(authorization->row.sealed),
        param_text(before),
    };
    TRY(session_queue(call->session, STATEMENT_AUTHORIZATION_BIND, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    *ret_bound = rows_affected(rows) == 1;
    return COF_OK;
}

static cof_code pass(struct visiting *visiting)
{
    struct call *call = visiting->call;
    bool has = same_browser(visiting);
    if (!has && !bound(visiting) && visiting->visit->has_browser) {
        TRY(bind(visiting, &has));
    }
    if (!has) {
        return ends(visiting, AUTHORIZATION_OTHER_BROWSER);
    }
    const char *state = text_of(call->arena, visiting->back.state);
    if (state == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(authorization_url(call, &visiting->rows.row, visiting->provider, &visiting->authorization, state,
                          &visiting->answer->url));
    return ends(visiting, AUTHORIZATION_GOES);
}

static cof_code come_back(struct visiting *visiting)
{
    struct call *call = visiting->call;
    const struct connection_authorization_row *row = &visiting->authorization.row;
    flow_verdict verdict = FLOW_INCOMPLETE;
    struct cof_slice text = {NULL, 0};
    bool consumed = false;
    if (!same_browser(visiting)) {
        return ends(visiting, AUTHORIZATION_OTHER_BROWSER);
    }
    TRY(authorization_judge(call, &visiting->rows, visiting->provider, &visiting->back, &verdict, &text));
    TRY(authorization_consume(call, &visiting->authorization, &consumed));
    if (!consumed) {
        return ends(visiting, AUTHORIZATION_USED);
    }
    visiting->answer->code = visiting->back.code;
    visiting->answer->authorization = visiting->authorization;
    if (verdict == FLOW_CODE) {
        return ends(visiting, AUTHORIZATION_EXCHANGES);
    }
    visiting->answer->text = text_of(call->arena, text);
    if (visiting->answer->text == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(authorization_fail(call, &row->workspace_id, &row->authorization_id, COF_REASON_AUTHORIZATION_REFUSED,
                           text));
    return ends(visiting, AUTHORIZATION_REFUSED);
}

cof_code authorization_visit(struct call *call, const struct authorization_visit *visit,
                             struct authorization_answer *ret_answer)
{
    struct visiting visiting = {.call = call, .visit = visit, .answer = ret_answer};
    *ret_answer = authorization_no_answer;
    TRY(ends_as(&visiting, find(&visiting), COF_REASON_CORRUPTED, AUTHORIZATION_UNKNOWN));
    if (!ended(&visiting)) {
        TRY(take_all(&visiting));
    }
    if (ended(&visiting)) {
        return COF_OK;
    }
    switch (visit->step) {
    case AUTHORIZATION_SHOW:
        return show(&visiting);
    case AUTHORIZATION_PASS:
        return pass(&visiting);
    case AUTHORIZATION_RETURN:
        break;
    }
    return come_back(&visiting);
}
