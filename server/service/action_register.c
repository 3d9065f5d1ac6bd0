/* Many actions written at once: all of them, or none. */
#include <stdlib.h>

#include "server/service/action_graph.h"
#include "server/service/action_row.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/integrations.h"
#include "server/service/registry_write.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

enum { CIRCLE_SHOWN = 16, ANSWER_RESERVE = 1024 };

/* An action of the request. */
struct sent {
    struct action_row row;
    bool refused;
    bool circular; /* refused for what its steps call; another attempt may see that otherwise */
    bool written;  /* it is new, or other than what is stored */
    bool made;     /* it is new */
};

struct registration {
    struct write write;
    const Coffer__V1__RegisterActionsRequest *request;
    Coffer__V1__RegisterActionsResponse *response;
    struct sent *sent;
    struct graph names; /* of what was sent, by name; the tag is the index */
    uint64_t generation;
    struct action_row *gone;
    size_t gone_count;
    Coffer__V1__RefusedAction **refused_as_sent; /* whatever is stored */
    size_t refused_count;
};

/* --- The request ---------------------------------------------------------------------------------------------- */

/* Refuses an action for the call's failure, which is cleared; a failure that is not about one action is passed on. */
static cof_code refuse(struct call *call, struct registration *registration, size_t index, cof_code code)
{
    Coffer__V1__RegisterActionsResponse *response = registration->response;
    if (code == COF_OK || code == COF_INTERNAL || call->err->reason == COF_REASON_OUT_OF_MEMORY) {
        return code;
    }
    Coffer__V1__RefusedAction *refused = cof_arena_alloc(call->arena, sizeof *refused);
    if (refused == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__refused_action__init(refused);
    refused->index = (uint32_t) index;
    refused->name = registration->request->actions[index]->name;
    refused->reason = text_of(call->arena, cof_slice_text(cof_reason_name(call->err->reason)));
    refused->message = text_of(call->arena, cof_slice_text(call->err->message));
    if (refused->reason == NULL || refused->message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    response->refused[response->n_refused++] = refused;
    registration->sent[index].refused = true;
    cof_error_clear(call->err);
    return COF_OK;
}

static cof_code check_request(struct call *call, const Coffer__V1__RegisterActionsRequest *request)
{
    const uint32_t limit = call->service->limits.actions_per_workspace;
    if (request->n_actions == 0 && !request->replace_all) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "actions",
                              "actions is empty; name what is registered, or replace the registry by nothing");
    }
    if (request->n_actions > limit) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "actions",
                              "a registry has at most %u actions, not %zu; register fewer", limit,
                              request->n_actions);
    }
    return COF_OK;
}

static cof_code read_sent(struct call *call, struct registration *registration)
{
    const Coffer__V1__RegisterActionsRequest *request = registration->request;
    registration->sent = cof_arena_array(call->arena, request->n_actions, sizeof *registration->sent);
    registration->names.nodes = cof_arena_array(call->arena, request->n_actions, sizeof(struct graph_node));
    registration->response->refused =
        cof_arena_array(call->arena, request->n_actions, sizeof *registration->response->refused);
    if (registration->sent == NULL || registration->names.nodes == NULL ||
        registration->response->refused == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < request->n_actions; i++) {
        TRY(refuse(call, registration, i, action_read(call, request->actions[i], &registration->sent[i].row)));
        if (!registration->sent[i].refused) {
            registration->names.nodes[registration->names.count++] =
                (struct graph_node){.name = registration->sent[i].row.name, .tag = i};
        }
    }
    graph_sort(&registration->names);
    return COF_OK;
}

/* Of several with one name all are refused: nobody knows which one was meant. */
static cof_code refuse_twins(struct call *call, struct registration *registration)
{
    const struct graph *names = &registration->names;
    for (size_t i = 0; i < names->count; i++) {
        const bool before = i > 0 && cof_slice_equal(names->nodes[i - 1].name, names->nodes[i].name);
        const bool behind = i + 1 < names->count && cof_slice_equal(names->nodes[i + 1].name, names->nodes[i].name);
        if (before || behind) {
            TRY(refuse(call, registration, names->nodes[i].tag,
                       cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "name",
                                      "the request has this action twice; send each name once")));
        }
    }
    return COF_OK;
}

static cof_code keep_refused(struct call *call, struct registration *registration)
{
    const Coffer__V1__RegisterActionsResponse *response = registration->response;
    const size_t size = response->n_refused * sizeof *response->refused;
    registration->refused_count = response->n_refused;
    registration->refused_as_sent = cof_arena_alloc(call->arena, size);
    if (registration->refused_as_sent == NULL) {
        return cof_arena_exhausted(call->err);
    }
    memcpy(registration->refused_as_sent, response->refused, size);
    return COF_OK;
}

/* --- Circles -------------------------------------------------------------------------------------------------- */

struct circles {
    struct call *call;
    struct registration *registration;
};

/* What was stored has none, so one of those that were sent is in each; the first of them is refused. */
static struct sent *first_sent(const struct registration *registration, struct graph_node *const *nodes,
                               size_t count, size_t *ret_index)
{
    *ret_index = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct graph_node *sent = graph_find(&registration->names, nodes[i]->name);
        if (sent != NULL && sent->tag < *ret_index) {
            *ret_index = sent->tag;
        }
    }
    return *ret_index == SIZE_MAX ? NULL : &registration->sent[*ret_index];
}

static char *circle_text(struct call *call, struct graph_node *const *nodes, size_t count)
{
    char *text = cof_arena_text(call->arena, cof_slice_text(""));
    for (size_t i = 0; i < count && i < CIRCLE_SHOWN && text != NULL; i++) {
        text = cof_arena_format(call->arena, "%s%.*s -> ", text, (int) nodes[i]->name.len,
                                (const char *) nodes[i]->name.data);
    }
    if (text != NULL && count > CIRCLE_SHOWN) {
        text = cof_arena_format(call->arena, "%s(%zu more) -> ", text, count - CIRCLE_SHOWN);
    }
    return text == NULL ? NULL
                        : cof_arena_format(call->arena, "%s%.*s", text, (int) nodes[0]->name.len,
                                           (const char *) nodes[0]->name.data);
}

static cof_code refuse_circle(void *context, struct graph_node *const *nodes, size_t count)
{
    const struct circles *circles = context;
    struct call *call = circles->call;
    size_t index;
    const struct sent *sent = first_sent(circles->registration, nodes, count, &index);
    char *shown = circle_text(call, nodes, count);
    if (shown == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (sent == NULL || sent->refused) {
        return COF_OK;
    }
    TRY(refuse(call, circles->registration, index,
               cof_fail_field(call->err, COF_REASON_ACTION_CYCLE, "steps", "%s",
                              cof_reason_meaning(COF_REASON_ACTION_CYCLE))));
    circles->registration->sent[index].circular = true;
    Coffer__V1__RegisterActionsResponse *response = circles->registration->response;
    Coffer__V1__RefusedAction *refused = response->refused[response->n_refused - 1];
    /* A circle may be longer than the message of an error. */
    refused->message = cof_arena_format(call->arena, "its steps end where they began: %s; %s", shown,
                                        cof_reason_next_step(COF_REASON_ACTION_CYCLE));
    return refused->message == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* --- What is stored ------------------------------------------------------------------------------------------- */

/* All of the registry as it would be. */
struct outlook {
    struct graph graph;
};

static cof_code look_registration(struct call *call, void *context)
{
    const struct registration *registration = context;
    const struct param params[] = {param_uuid(&registration->write.workspace)};
    TRY(registry_look(call, &registration->write.workspace));
    return session_queue(call->session, STATEMENT_ACTION_ALL, params, COF_COUNT(params), call->err);
}

static void add_node(struct outlook *outlook, const struct action_row *row)
{
    outlook->graph.nodes[outlook->graph.count++] = (struct graph_node){.name = row->name, .steps = row->steps};
}

/* A row that is damaged is written anew, under another UUID. */
static cof_code compare(struct call *call, const struct registration *registration, struct sent *sent,
                        const struct action_row *stored)
{
    Coffer__V1__RegisterActionsResponse *response = registration->response;
    const cof_code code = guard_check_row(call, &action_row_type, &registration->write.workspace, stored);
    if (code != COF_OK && code != COF_DATA_LOSS) {
        return code;
    }
    cof_error_clear(call->err);
    sent->made = false;
    sent->written = code == COF_DATA_LOSS || !cof_slice_equal(stored->digest, sent->row.digest);
    sent->row.action_id = code == COF_OK ? stored->action_id : cof_uuid_random();
    sent->row.create_time = code == COF_OK ? stored->create_time : call_now(call);
    response->changed += sent->written;
    response->unchanged += !sent->written;
    return COF_OK;
}

static cof_code take_stored(struct call *call, struct registration *registration, struct outlook *outlook,
                            const struct action_row *stored)
{
    const struct graph_node *node = graph_find(&registration->names, stored->name);
    struct sent *sent = node == NULL ? NULL : &registration->sent[node->tag];
    if (sent != NULL) {
        return sent->refused ? COF_OK : compare(call, registration, sent, stored);
    }
    if (registration->request->replace_all) {
        registration->gone[registration->gone_count++] = *stored;
        return row_keep(&action_row_type, call->arena, &registration->gone[registration->gone_count - 1],
                        call->err);
    }
    add_node(outlook, stored);
    return COF_OK;
}

static void begin_decision(struct registration *registration)
{
    Coffer__V1__RegisterActionsResponse *response = registration->response;
    response->created = response->changed = response->unchanged = response->deleted = 0;
    response->n_refused = registration->refused_count;
    memcpy(response->refused, registration->refused_as_sent, response->n_refused * sizeof *response->refused);
    registration->gone_count = 0;
    for (size_t i = 0; i < registration->request->n_actions; i++) {
        struct sent *sent = &registration->sent[i];
        sent->made = sent->written = true;
        sent->refused = sent->refused && !sent->circular;
        sent->circular = false;
    }
}

static cof_code take_all(struct call *call, struct registration *registration, const struct rows *rows,
                         struct outlook *outlook)
{
    const size_t count = rows_count(rows);
    outlook->graph.nodes =
        cof_arena_array(call->arena, count + registration->request->n_actions, sizeof(struct graph_node));
    registration->gone =
        cof_arena_array(call->arena, registration->request->replace_all ? count : 0, sizeof *registration->gone);
    if (outlook->graph.nodes == NULL || registration->gone == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        struct action_row row;
        TRY(row_read(&action_row_type, rows, i, 0, call->arena, &row, call->err));
        TRY(take_stored(call, registration, outlook, &row));
    }
    return COF_OK;
}

/* --- The write ------------------------------------------------------------------------------------------------ */

static cof_code add_sent(struct registration *registration, struct outlook *outlook)
{
    for (size_t i = 0; i < registration->request->n_actions; i++) {
        const struct sent *sent = &registration->sent[i];
        if (!sent->refused) {
            add_node(outlook, &sent->row);
            registration->response->created += sent->made;
        }
    }
    registration->response->deleted = (uint32_t) registration->gone_count;
    graph_sort(&outlook->graph);
    return COF_OK;
}

static cof_code check_circles(struct call *call, struct registration *registration, struct outlook *outlook)
{
    struct circles circles = {call, registration};
    struct graph_node **path = cof_arena_array(call->arena, outlook->graph.count, sizeof(struct graph_node *));
    if (path == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return graph_find_circles(&outlook->graph, path, refuse_circle, &circles);
}

static int by_index(const void *a, const void *b)
{
    const Coffer__V1__RefusedAction *const *left = a;
    const Coffer__V1__RefusedAction *const *right = b;
    return ((*left)->index > (*right)->index) - ((*left)->index < (*right)->index);
}

static cof_code check_count(struct call *call, const struct outlook *outlook)
{
    const uint32_t limit = call->service->limits.actions_per_workspace;
    if (outlook->graph.count <= limit) {
        return COF_OK;
    }
    return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "actions",
                          "the registry would have %zu actions, and at most %u are allowed; delete others first",
                          outlook->graph.count, limit);
}

static cof_code seal_sent(struct call *call, struct registration *registration)
{
    for (size_t i = 0; i < registration->request->n_actions; i++) {
        struct sent *sent = &registration->sent[i];
        if (!sent->written) {
            continue;
        }
        sent->row.workspace_id = registration->write.workspace;
        sent->row.update_time = call_now(call);
        if (sent->made) {
            sent->row.action_id = cof_uuid_random();
            sent->row.create_time = sent->row.update_time;
        }
        TRY(guard_seal_row(call, &action_row_type, &registration->write.workspace, &sent->row));
        TRY(registry_record(call, &registration->write, &sent->row,
                            sent->made ? EFFECT(CREATED) : EFFECT(METADATA_CHANGED)));
    }
    for (size_t i = 0; i < registration->gone_count; i++) {
        TRY(registry_record(call, &registration->write, &registration->gone[i], EFFECT(DELETED)));
    }
    return COF_OK;
}

static bool changes_something(const Coffer__V1__RegisterActionsResponse *response)
{
    return response->created + response->changed + response->deleted > 0;
}

static cof_code check_answer(struct call *call, const Coffer__V1__RegisterActionsResponse *response)
{
    const size_t size = protobuf_c_message_get_packed_size(&response->base);
    if (size + ANSWER_RESERVE <= call->service->limits.response_bytes) {
        return COF_OK;
    }
    return cof_fail(
        call->err, COF_REASON_MESSAGE_TOO_LARGE,
        "the answer would be larger than a response frame may be, and nothing was written; register fewer "
        "actions at once");
}

static cof_code decide_registration(struct call *call, void *context)
{
    struct registration *registration = context;
    Coffer__V1__RegisterActionsResponse *response = registration->response;
    struct outlook outlook = {{NULL, 0}};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    begin_decision(registration);
    TRY(registry_take(call, registration->request->expected_generation, &registration->generation));
    TRY(session_next(call->session, &rows, call->err));
    TRY(take_all(call, registration, rows, &outlook));
    TRY(add_sent(registration, &outlook));
    TRY(check_circles(call, registration, &outlook));
    TRY(check_count(call, &outlook));
    response->written =
        response->n_refused == 0 && !registration->request->validate_only && changes_something(response);
    response->generation = registration->generation + (response->written ? 1 : 0);
    registration->write.nothing = !response->written;
    if (response->n_refused > 1) {
        qsort(response->refused, response->n_refused, sizeof *response->refused, by_index);
    }
    TRY(check_answer(call, response));
    return response->written ? seal_sent(call, registration) : COF_OK;
}

static cof_code queue_gone(struct call *call, struct registration *registration)
{
    const size_t count = registration->gone_count;
    struct cof_slice *names = cof_arena_array(call->arena, count, sizeof *names);
    if (names == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        names[i] = registration->gone[i].name;
    }
    uint8_t *place = cof_arena_alloc(call->arena, array_text_size(names, count));
    if (place == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const struct param params[] = {param_uuid(&registration->write.workspace),
                                   param_text_array(names, count, place)};
    return write_queue(call, &registration->write, STATEMENT_ACTION_DELETE, params, COF_COUNT(params));
}

static cof_code apply_registration(struct call *call, void *context)
{
    struct registration *registration = context;
    TRY(registry_raise(call, &registration->write, registration->response->generation));
    for (size_t i = 0; i < registration->request->n_actions; i++) {
        struct sent *sent = &registration->sent[i];
        if (sent->written) {
            TRY(write_queue_row(call, &registration->write, STATEMENT_ACTION_PUT, &action_row_type, &sent->row));
        }
    }
    return registration->gone_count > 0 ? queue_gone(call, registration) : COF_OK;
}

cof_code action_register(struct call *call, const Coffer__V1__RegisterActionsRequest *request,
                         Coffer__V1__RegisterActionsResponse *response)
{
    struct registration registration = {.request = request, .response = response};
    const struct address *address;
    TRY(check_request(call, request));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_INTEGRATION_WRITE, &address));
    TRY(read_sent(call, &registration));
    TRY(refuse_twins(call, &registration));
    TRY(keep_refused(call, &registration));
    registration.write.workspace = *address_workspace(address);
    registration.write.look = look_registration;
    registration.write.decide = decide_registration;
    registration.write.apply = apply_registration;
    registration.write.context = &registration;
    registration.write.answer = &response->base;
    return write_run(call, &registration.write);
}
