/* Providers that tell themselves where they are. */
#include <assert.h>
#include <string.h>

#include "common/attr.h"
#include "server/providers/provider_catalogue.h"
#include "server/service/authorize.h"
#include "server/service/discovery.h"
#include "server/service/expected_uid.h"
#include "server/service/guard.h"
#include "server/service/provider_row.h"
#include "server/service/provider_write.h"
#include "server/service/providers.h"
#include "server/service/registry_write.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

#define KIND(name) COFFER__V1__DISCOVERY_KIND__DISCOVERY_KIND_##name

struct finding {
    struct write write;
    const Coffer__V1__DiscoverProviderRequest *request;
    Coffer__V1__DiscoverProviderResponse *response;
    struct discovery_wish wish;
    struct discovered found;
    struct provider provider;
    struct provider_row row;
    bool created;
};

/* --- Who is asked --------------------------------------------------------------------------------------------- */

static cof_code read_kind(struct call *call, int kind, discovery_kind *ret_kind)
{
    if (protobuf_c_enum_descriptor_get_value(&coffer__v1__discovery_kind__descriptor, kind) == NULL) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "kind", "kind is not known to this server");
    }
    *ret_kind = kind == (int) KIND(ISSUER)       ? DISCOVERY_ISSUER
                : kind == (int) KIND(MCP_SERVER) ? DISCOVERY_RESOURCE
                                                 : DISCOVERY_EITHER;
    return COF_OK;
}

/* What a provider says of where its discovery begins. */
static void begin_at(const struct provider *provider, struct discovery_wish *wish)
{
    const bool resource = provider->mcp_server[0] != '\0';
    wish->url = resource ? provider->mcp_server : provider->issuer;
    wish->kind = resource ? DISCOVERY_RESOURCE : DISCOVERY_ISSUER;
}

static cof_code not_discoverable(struct call *call, const char *id)
{
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "id",
                          "the provider \"%s\" is built in and does not tell its endpoints itself; discover one of "
                          "your own",
                          id);
}

/* Its endpoints would be templates, which nobody tells. */
static cof_code check_found(struct call *call, const char *id, const struct provider_found *found)
{
    if (found->generation == 0 && !found->provider.discovery) {
        return not_discoverable(call, id);
    }
    return found->provider.parameter_count == 0
               ? COF_OK
               : cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "id",
                                "the provider \"%s\" has parameters, which no discovery can tell; update it", id);
}

static cof_code read_wish(struct call *call, struct finding *finding)
{
    const Coffer__V1__DiscoverProviderRequest *request = finding->request;
    struct discovery_wish *wish = &finding->wish;
    struct provider_found *found = cof_arena_alloc(call->arena, sizeof *found);
    if (found == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *wish = (struct discovery_wish){
        .workspace = &finding->write.workspace, .url = request->url, .issuer = request->issuer};
    TRY(read_kind(call, (int) request->kind, &wish->kind));
    if (request->id[0] != '\0') {
        TRY(provider_check_id(call, request->id));
        TRY(guard_load_keys(call, wish->workspace));
        TRY(provider_get(call, wish->workspace, request->id, found));
        TRY(check_found(call, request->id, found));
        if (request->url[0] == '\0') {
            begin_at(&found->provider, wish);
        }
    }
    return wish->url[0] != '\0' ? COF_OK
                                : cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "url",
                                                 "url is empty; give the issuer or the MCP server");
}

/* --- What becomes of it --------------------------------------------------------------------------------------- */

static cof_code refuse(struct call *call, const char *issuer, const char *problem)
{
    return cof_fail(call->err, COF_REASON_DISCOVERY_FAILED, "%s %s; %s", issuer, problem,
                    cof_reason_next_step(COF_REASON_DISCOVERY_FAILED));
}

static provider_client_auth usual_auth(unsigned auths)
{
    static const provider_client_auth order[] = {PROVIDER_AUTH_BASIC, PROVIDER_AUTH_POST, PROVIDER_AUTH_NONE};
    for (size_t i = 0; i < COF_COUNT(order); i++) {
        if ((auths & (unsigned) order[i]) != 0) {
            return order[i];
        }
    }
    return PROVIDER_AUTH_PRIVATE_KEY_JWT;
}

/* Those that a resource names are those that it needs (RFC 9728); what somebody has chosen himself stays. */
static cof_code take_scopes(struct call *call, const struct discovered *found, struct provider_side *side)
{
    const struct provider_texts from = found->resource.scopes;
    const size_t room = from.count < PROVIDER_SCOPES_MAX ? from.count : PROVIDER_SCOPES_MAX;
    const char **items = cof_arena_array(call->arena, room, sizeof *items);
    size_t count = 0;
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < from.count && count < room; i++) {
        bool known = false;
        for (size_t j = 0; j < count; j++) {
            known = known || strcmp(items[j], from.items[i]) == 0;
        }
        if (!known) {
            items[count++] = from.items[i];
        }
    }
    if (side->scopes.count == 0) {
        side->scopes = (struct provider_texts){items, count};
    }
    return COF_OK;
}

static void take_endpoints(const struct discovered *found, const char *url, struct provider *provider)
{
    const struct metadata_server *server = &found->server;
    provider->custom = true;
    provider->discovery = false;
    provider->issuer = server->issuer;
    provider->authorization_endpoint = server->authorization_endpoint;
    provider->token_endpoint = server->token_endpoint;
    provider->revocation_endpoint = server->revocation_endpoint;
    provider->device_endpoint = server->device_endpoint;
    provider->registration_endpoint = server->registration_endpoint;
    provider->mcp_server = found->is_resource ? url : "";
    provider->resource = found->is_resource ? found->resource.resource : "";
    provider->sends_issuer = server->sends_issuer;
    provider->pkce = PROVIDER_PKCE_USED;
    provider->client_auths = server->client_auths;
    provider->client_auth = usual_auth(server->client_auths);
}

/* What was found, in the place of what the provider had. */
static cof_code take_found(struct call *call, struct finding *finding)
{
    const struct discovered *found = &finding->found;
    const struct metadata_server *server = &found->server;
    struct provider *provider = &finding->provider;
    struct cof_error problem = {0};
    if (!server->pkce_s256) {
        return refuse(call, server->issuer, "takes PKCE in ways that are no protection, and not S256");
    }
    if (server->client_auths == 0) {
        return refuse(call, server->issuer, "takes none of the client authentications that Coffer has");
    }
    take_endpoints(found, finding->wish.url, provider);
    const bool service = server->client_credentials && server->client_auths != (unsigned) PROVIDER_AUTH_NONE;
    provider->sides[PROVIDER_USER].offered =
        server->authorization_endpoint[0] != '\0' || server->device_endpoint[0] != '\0';
    provider->sides[PROVIDER_SERVICE].offered = service;
    provider->sides[PROVIDER_SERVICE].jwt_bearer = false;
    TRY(take_scopes(call, found, &provider->sides[PROVIDER_USER]));
    return provider_check(provider, &problem) == COF_OK ? COF_OK : refuse(call, server->issuer, problem.message);
}

/* --- The write ------------------------------------------------------------------------------------------------ */

static cof_code look(struct call *call, void *context)
{
    const struct finding *finding = context;
    const struct cof_uuid *workspace = &finding->write.workspace;
    const struct param params[] = {param_uuid(workspace)};
    TRY(registry_look(call, workspace));
    TRY(session_queue(call->session, STATEMENT_PROVIDER_IDS, params, COF_COUNT(params), call->err));
    return provider_queue(call, workspace, finding->request->id, STATEMENT_PROVIDER_LOCK);
}

/* The URL's host. */
static cof_code usual_name(struct call *call, const char *url, const char **ret_name)
{
    const char *host = strstr(url, "://");
    assert(host != NULL);
    host += strlen("://");
    *ret_name = cof_arena_format(call->arena, "%.*s", (int) strcspn(host, ":/"), host);
    return *ret_name == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code make_new(struct call *call, struct finding *finding, const struct rows *ids)
{
    finding->provider = provider_defaults;
    finding->provider.id = "custom_new";
    finding->provider.name = finding->request->name;
    if (finding->request->name[0] == '\0') {
        TRY(usual_name(call, finding->wish.url, &finding->provider.name));
    }
    TRY(provider_new_id(call, ids, finding->provider.name, &finding->provider.id));
    TRY(take_found(call, finding));
    return provider_new_row(call, &finding->write.workspace, ids, &finding->provider, &finding->row);
}

/* One that every workspace has becomes the workspace's own. */
static cof_code make_own(struct call *call, struct finding *finding, const struct rows *ids)
{
    const struct provider *builtin = provider_catalogue_find(call->service->providers, finding->request->id);
    if (builtin == NULL || !builtin->discovery) {
        return cof_fail(call->err, COF_REASON_PROVIDER_NOT_FOUND, "there is no provider \"%s\" any more; %s",
                        finding->request->id, cof_reason_next_step(COF_REASON_PROVIDER_NOT_FOUND));
    }
    finding->provider = *builtin;
    TRY(take_found(call, finding));
    return provider_new_row(call, &finding->write.workspace, ids, &finding->provider, &finding->row);
}

static cof_code change_own(struct call *call, struct finding *finding, const struct rows *rows)
{
    struct provider before;
    struct provider_row *row = &finding->row;
    TRY(row_read(&provider_row_type, rows, 0, 0, call->arena, row, call->err));
    TRY(row_keep(&provider_row_type, call->arena, row, call->err));
    TRY(guard_check_row(call, &provider_row_type, &row->workspace_id, row));
    TRY(expected_uid_check(call, finding->request->expected_uid, &row->provider_id));
    TRY(provider_of_row(call, row, &before));
    finding->provider = before;
    finding->provider.name = finding->request->name[0] == '\0' ? before.name : finding->request->name;
    TRY(take_found(call, finding));
    const int64_t generation = row->generation;
    TRY(provider_change_row(call, &before, &finding->provider, row));
    finding->response->moved = row->generation != generation;
    return COF_OK;
}

static cof_code decide(struct call *call, void *context)
{
    struct finding *finding = context;
    AUTO(rows_cleanup) struct rows *ids = NULL;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    uint64_t generation = 0;
    TRY(registry_take(call, 0, &generation));
    TRY(session_next(call->session, &ids, call->err));
    TRY(session_next(call->session, &rows, call->err));
    finding->created = rows_count(rows) == 0;
    finding->response->moved = false;
    if (!finding->created) {
        TRY(change_own(call, finding, rows));
    } else if (finding->request->id[0] != '\0') {
        TRY(make_own(call, finding, ids));
    } else {
        TRY(make_new(call, finding, ids));
    }
    finding->response->created = finding->created;
    finding->write.nothing = finding->request->validate_only;
    TRY(provider_message(call, &finding->provider, &finding->row, &finding->response->provider));
    return finding->write.nothing ? COF_OK
                                  : provider_record(call, &finding->write, &finding->row,
                                                    finding->created ? EFFECT(CREATED) : EFFECT(METADATA_CHANGED));
}

static cof_code apply(struct call *call, void *context)
{
    struct finding *finding = context;
    return write_queue_row(call, &finding->write,
                           finding->created ? STATEMENT_PROVIDER_INSERT : STATEMENT_PROVIDER_UPDATE,
                           &provider_row_type, &finding->row);
}

/* --- The answer ----------------------------------------------------------------------------------------------- */

static cof_code borrow_list(struct call *call, struct provider_texts from, char ***ret_items, size_t *ret_count)
{
    char **items = cof_arena_array(call->arena, from.count, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < from.count; i++) {
        items[i] = text_borrow(from.items[i]);
    }
    *ret_items = items;
    *ret_count = from.count;
    return COF_OK;
}

static cof_code tell_found(struct call *call, const struct discovered *found,
                           Coffer__V1__DiscoverProviderResponse *response)
{
    Coffer__V1__Discovery *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__discovery__init(message);
    message->issuer = text_borrow(found->server.issuer);
    message->metadata_url = text_borrow(found->server_url);
    if (found->is_resource) {
        message->resource = text_borrow(found->resource.resource);
        message->resource_metadata_url = text_borrow(found->resource_url);
        TRY(borrow_list(call, found->resource.servers, &message->authorization_servers,
                        &message->n_authorization_servers));
        TRY(borrow_list(call, found->resource.scopes, &message->scopes, &message->n_scopes));
    }
    response->discovery = message;
    return COF_OK;
}

cof_code provider_discover(struct call *call, const Coffer__V1__DiscoverProviderRequest *request,
                           Coffer__V1__DiscoverProviderResponse *response)
{
    struct finding finding = {.request = request, .response = response};
    const struct address *address = NULL;
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_CONNECTION_MANAGE_ALL, &address));
    finding.write.workspace = *address_workspace(address);
    TRY(read_wish(call, &finding));
    TRY(discovery_run(call, &finding.wish, &finding.found));
    TRY(tell_found(call, &finding.found, response));
    finding.write.look = look;
    finding.write.decide = decide;
    finding.write.apply = apply;
    finding.write.context = &finding;
    finding.write.answer = &response->base;
    return write_run(call, &finding.write);
}
