#include "server/service/discovery.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/attr.h"
#include "server/service/asks.h"

enum { ASKS_MOST = 8, PROBLEM = 160, STATUS_OK = 200, STATUS_REDIRECTS = 300, STATUS_REDIRECTS_END = 400 };

struct discovery {
    struct call *call;
    const struct discovery_wish *wish;
    unsigned asked;
    bool pending; /* an answer is awaited */
    bool told;    /* `problem` is of an answer that was meant as metadata */
    char problem[PROBLEM];
    struct discovered found;
};

/* --- One question --------------------------------------------------------------------------------------------- */

/* The same questions come in the same order whenever the handler runs, since the answers of before are the same. */
static cof_code make_ask(struct discovery *discovery, const char *url, struct ask *ret_ask)
{
    static const struct outbound_header headers[] = {{"Accept", {(const uint8_t *) "application/json", 16}}};
    struct call *call = discovery->call;
    assert(discovery->asked < ASKS_MOST);
    *ret_ask = (struct ask){
        .name = cof_arena_format(call->arena, "discover-%u", discovery->asked++),
        .workspace = discovery->wish->workspace,
        .group = asks_group(call, discovery->wish->workspace, url),
        .method = "GET",
        .url = url,
        .headers = headers,
        .header_count = COF_COUNT(headers),
    };
    return ret_ask->name == NULL || ret_ask->group == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* What is told in the end is the first answer that looked like metadata, else the last one that did not. */
static void note(struct discovery *discovery, bool told, const char *problem)
{
    if (!discovery->told) {
        (void) snprintf(discovery->problem, sizeof discovery->problem, "%s", problem);
        discovery->told = told;
    }
}

static void note_status(struct discovery *discovery, int status)
{
    char problem[PROBLEM];
    const bool redirect = status >= STATUS_REDIRECTS && status < STATUS_REDIRECTS_END;
    (void) snprintf(problem, sizeof problem, "it answers with the status %d%s", status,
                    redirect ? ", a redirect, which is not followed" : " where metadata would be");
    note(discovery, redirect, problem);
}

/* Nothing of `answer` if the place has no metadata; fails if there is no use in asking at other places of the host. */
static cof_code ask_place(struct discovery *discovery, const char *url, struct cof_slice *ret_body)
{
    struct ask ask;
    struct outbound_answer_view answer;
    *ret_body = cof_slice_of(NULL, 0);
    TRY(make_ask(discovery, url, &ask));
    discovery->pending = true;
    TRY(asks_ask(discovery->call, &ask, &answer));
    discovery->pending = false;
    if (answer.end == OUTBOUND_TOO_LARGE) {
        note(discovery, true, "the metadata is larger than it may be");
        return COF_OK;
    }
    TRY(asks_arrived(discovery->call, &answer, discovery->wish->url));
    if (answer.status == STATUS_OK && answer.body.len > 0) {
        *ret_body = answer.body;
    } else {
        note_status(discovery, answer.status);
    }
    return COF_OK;
}

/* A failure of reading is noted, and other places are looked at; but not one of memory. */
static cof_code read_failed(struct discovery *discovery, const struct cof_error *problem)
{
    if (problem->reason == COF_REASON_OUT_OF_MEMORY) {
        return cof_arena_exhausted(discovery->call->err);
    }
    note(discovery, true, problem->message);
    return COF_OK;
}

/* --- Servers and resources ------------------------------------------------------------------------------------ */

static cof_code failed(const struct discovery *discovery, const char *url)
{
    return cof_fail(discovery->call->err, COF_REASON_DISCOVERY_FAILED, "%s: %s; %s", url, discovery->problem,
                    cof_reason_next_step(COF_REASON_DISCOVERY_FAILED));
}

static cof_code invalid(struct discovery *discovery, const char *field, const struct cof_error *problem)
{
    return cof_fail_field(discovery->call->err, COF_REASON_FIELD_INVALID, field, "%s", problem->message);
}

static cof_code find_server(struct discovery *discovery, const char *issuer, bool *ret_found)
{
    struct call *call = discovery->call;
    struct metadata_places places;
    struct cof_error problem = {0};
    *ret_found = false;
    if (metadata_server_places(issuer, call->arena, &places, &problem) != COF_OK) {
        return invalid(discovery, "url", &problem);
    }
    for (size_t i = 0; i < places.count && !*ret_found; i++) {
        struct cof_slice body;
        TRY(ask_place(discovery, places.urls[i], &body));
        if (body.len == 0) {
            continue;
        }
        cof_error_clear(&problem);
        discovery->found.server_url = places.urls[i];
        *ret_found = metadata_server_read(body, issuer, call->arena, &discovery->found.server, &problem) == COF_OK;
        TRY(*ret_found ? COF_OK : read_failed(discovery, &problem));
    }
    return COF_OK;
}

static cof_code find_resource(struct discovery *discovery)
{
    struct call *call = discovery->call;
    const char *url = discovery->wish->url;
    struct discovered *found = &discovery->found;
    struct metadata_places places;
    struct cof_error problem = {0};
    if (metadata_resource_places(url, call->arena, &places, &problem) != COF_OK) {
        return invalid(discovery, "url", &problem);
    }
    for (size_t i = 0; i < places.count && !found->is_resource; i++) {
        struct cof_slice body;
        TRY(ask_place(discovery, places.urls[i], &body));
        if (body.len == 0) {
            continue;
        }
        cof_error_clear(&problem);
        found->resource_url = places.urls[i];
        found->is_resource = metadata_resource_read(body, url, call->arena, &found->resource, &problem) == COF_OK;
        TRY(found->is_resource ? COF_OK : read_failed(discovery, &problem));
    }
    return COF_OK;
}

/* One that the resource names, and nobody else. */
static cof_code choose_issuer(struct discovery *discovery, const char **ret_issuer)
{
    const struct provider_texts *servers = &discovery->found.resource.servers;
    const char *asked = discovery->wish->issuer;
    for (size_t i = 0; i < servers->count; i++) {
        if (asked[0] == '\0' || strcmp(asked, servers->items[i]) == 0) {
            *ret_issuer = servers->items[i];
            return COF_OK;
        }
    }
    return cof_fail_field(discovery->call->err, COF_REASON_FIELD_INVALID, "issuer",
                          "issuer is none of the authorization servers that the MCP server names");
}

static cof_code ask_issuer(struct discovery *discovery, const char *issuer)
{
    bool found = false;
    TRY(find_server(discovery, issuer, &found));
    return found ? COF_OK : failed(discovery, issuer);
}

static cof_code run(struct discovery *discovery)
{
    const struct discovery_wish *wish = discovery->wish;
    const char *issuer = wish->url;
    if (wish->kind != DISCOVERY_ISSUER) {
        TRY(find_resource(discovery));
    }
    if (discovery->found.is_resource) {
        TRY(choose_issuer(discovery, &issuer));
    } else if (wish->kind == DISCOVERY_RESOURCE) {
        return failed(discovery, wish->url);
    } else if (wish->issuer[0] != '\0') {
        return cof_fail_field(discovery->call->err, COF_REASON_FIELD_INVALID, "issuer",
                              "issuer chooses among the servers of an MCP server, and %s tells of none", wish->url);
    }
    return ask_issuer(discovery, issuer);
}

/* Answers to all that was asked are of no use once it is known what they mean. */
static void forget(struct discovery *discovery)
{
    const unsigned asked = discovery->asked;
    for (discovery->asked = 0; discovery->asked < asked;) {
        struct ask ask;
        if (make_ask(discovery, "", &ask) == COF_OK) {
            asks_forget(discovery->call, &ask);
        }
    }
}

cof_code discovery_run(struct call *call, const struct discovery_wish *wish, struct discovered *ret_discovered)
{
    struct discovery discovery = {.call = call, .wish = wish};
    const cof_code code = run(&discovery);
    if (code == COF_OK) {
        *ret_discovered = discovery.found;
    }
    if (!discovery.pending) {
        forget(&discovery);
    }
    return code;
}
