#include "server/providers/metadata.h"

#include <string.h>

#include "common/attr.h"
#include "server/providers/members.h"

static const char https[] = "https://";

static cof_code refuse(struct cof_error *err, const char *problem)
{
    return cof_fail(err, COF_REASON_FILE_INVALID, "the metadata %s", problem);
}

/* --- Where it is ---------------------------------------------------------------------------------------------- */

bool metadata_url_is_https(const char *url)
{
    bool plain = strncmp(url, https, strlen(https)) == 0 && strlen(url) <= PROVIDER_URL_MAX;
    for (const char *c = url; *c != '\0' && plain; c++) {
        plain = *c > ' ' && *c <= '~' && *c != '#' && *c != '"' && *c != '\\' && *c != '<' && *c != '>';
    }
    const char *host = plain ? url + strlen(https) : "";
    const size_t length = strcspn(host, "/?");
    return length > 0 && memchr(host, '@', length) == NULL && host[0] != ':';
}

/* The part before the path; the path comes without a slash at its end. */
static cof_code split(const char *url, const char *what, struct cof_slice *ret_host, struct cof_slice *ret_path,
                      struct cof_error *err)
{
    if (!metadata_url_is_https(url) || strchr(url, '?') != NULL) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: must be a URL with https, without query and fragment",
                        what);
    }
    const size_t host = strlen(https) + strcspn(url + strlen(https), "/");
    size_t length = strlen(url);
    while (length > host && url[length - 1] == '/') {
        length--;
    }
    *ret_host = cof_slice_of(url, host);
    *ret_path = cof_slice_of(url + host, length - host);
    return COF_OK;
}

static cof_code add_place(struct metadata_places *places, struct cof_arena *arena, struct cof_error *err,
                          const struct cof_slice parts[3])
{
    const char *url = cof_arena_format(arena, "%.*s%.*s%.*s", (int) parts[0].len, (const char *) parts[0].data,
                                       (int) parts[1].len, (const char *) parts[1].data, (int) parts[2].len,
                                       (const char *) parts[2].data);
    if (url == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < places->count; i++) {
        if (strcmp(places->urls[i], url) == 0) {
            return COF_OK;
        }
    }
    places->urls[places->count++] = url;
    return COF_OK;
}

cof_code metadata_server_places(const char *issuer, struct cof_arena *arena, struct metadata_places *ret_places,
                                struct cof_error *err)
{
    const struct cof_slice oauth = cof_slice_text("/.well-known/oauth-authorization-server");
    const struct cof_slice openid = cof_slice_text("/.well-known/openid-configuration");
    struct metadata_places places = {.count = 0};
    struct cof_slice host = {NULL, 0};
    struct cof_slice path = {NULL, 0};
    TRY(split(issuer, "issuer", &host, &path, err));
    TRY(add_place(&places, arena, err, (const struct cof_slice[]){host, oauth, path}));
    TRY(add_place(&places, arena, err, (const struct cof_slice[]){host, openid, path}));
    TRY(add_place(&places, arena, err, (const struct cof_slice[]){host, path, openid}));
    *ret_places = places;
    return COF_OK;
}

cof_code metadata_resource_places(const char *resource, struct cof_arena *arena, struct metadata_places *ret_places,
                                  struct cof_error *err)
{
    const struct cof_slice known = cof_slice_text("/.well-known/oauth-protected-resource");
    const struct cof_slice none = cof_slice_text("");
    struct metadata_places places = {.count = 0};
    struct cof_slice host = {NULL, 0};
    struct cof_slice path = {NULL, 0};
    TRY(split(resource, "mcp_server", &host, &path, err));
    TRY(add_place(&places, arena, err, (const struct cof_slice[]){host, known, path}));
    TRY(add_place(&places, arena, err, (const struct cof_slice[]){host, known, none}));
    *ret_places = places;
    return COF_OK;
}

/* --- Authorization servers ------------------------------------------------------------------------------------ */

static cof_code check_endpoints(const struct member *members, size_t count, struct cof_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].kind == MEMBER_TEXT && members[i].text[0] != '\0' &&
            !metadata_url_is_https(members[i].text)) {
            return cof_fail(err, COF_REASON_FILE_INVALID, "the metadata has a %s that is no URL with https",
                            members[i].name);
        }
    }
    return COF_OK;
}

static unsigned known_auths(const struct member *methods)
{
    static const struct {
        const char *name;
        provider_client_auth auth;
    } known[] = {{"client_secret_basic", PROVIDER_AUTH_BASIC},
                 {"client_secret_post", PROVIDER_AUTH_POST},
                 {"none", PROVIDER_AUTH_NONE},
                 {"private_key_jwt", PROVIDER_AUTH_PRIVATE_KEY_JWT}};
    unsigned auths = 0;
    for (size_t i = 0; i < COF_COUNT(known); i++) {
        auths |= members_list_has(methods->list, known[i].name) ? (unsigned) known[i].auth : 0;
    }
    return methods->seen ? auths : PROVIDER_AUTH_BASIC;
}

enum server_member {
    ISSUER,
    AUTHORIZATION,
    TOKEN,
    REVOCATION,
    DEVICE,
    REGISTRATION,
    SENDS_ISSUER,
    PKCE,
    AUTHS,
    GRANTS,
    SERVER_MEMBERS,
};

cof_code metadata_server_read(struct cof_slice answer, const char *issuer, struct cof_arena *arena,
                              struct metadata_server *ret_server, struct cof_error *err)
{
    struct member members[SERVER_MEMBERS] = {
        [ISSUER] = {.name = "issuer", .kind = MEMBER_TEXT, .text = ""},
        [AUTHORIZATION] = {.name = "authorization_endpoint", .kind = MEMBER_TEXT, .text = ""},
        [TOKEN] = {.name = "token_endpoint", .kind = MEMBER_TEXT, .text = ""},
        [REVOCATION] = {.name = "revocation_endpoint", .kind = MEMBER_TEXT, .text = ""},
        [DEVICE] = {.name = "device_authorization_endpoint", .kind = MEMBER_TEXT, .text = ""},
        [REGISTRATION] = {.name = "registration_endpoint", .kind = MEMBER_TEXT, .text = ""},
        [SENDS_ISSUER] = {.name = "authorization_response_iss_parameter_supported",
                          .kind = MEMBER_BOOL,
                          .text = ""},
        [PKCE] = {.name = "code_challenge_methods_supported", .kind = MEMBER_LIST, .text = ""},
        [AUTHS] = {.name = "token_endpoint_auth_methods_supported", .kind = MEMBER_LIST, .text = ""},
        [GRANTS] = {.name = "grant_types_supported", .kind = MEMBER_LIST, .text = ""},
    };
    TRY(members_read("the metadata", answer, members, SERVER_MEMBERS, arena, err));
    if (strcmp(members[ISSUER].text, issuer) != 0) {
        return refuse(err, "is of another issuer than the one that was asked");
    }
    TRY(check_endpoints(members, SERVER_MEMBERS, err));
    if (members[TOKEN].text[0] == '\0') {
        return refuse(err, "has no token_endpoint");
    }
    *ret_server = (struct metadata_server){
        .issuer = members[ISSUER].text,
        .authorization_endpoint = members[AUTHORIZATION].text,
        .token_endpoint = members[TOKEN].text,
        .revocation_endpoint = members[REVOCATION].text,
        .device_endpoint = members[DEVICE].text,
        .registration_endpoint = members[REGISTRATION].text,
        .sends_issuer = members[SENDS_ISSUER].flag,
        .pkce_s256 = !members[PKCE].seen || members_list_has(members[PKCE].list, "S256"),
        .client_credentials = members_list_has(members[GRANTS].list, "client_credentials"),
        .client_auths = known_auths(&members[AUTHS]),
    };
    return COF_OK;
}

/* --- Protected resources -------------------------------------------------------------------------------------- */

enum resource_member { RESOURCE, SERVERS, SCOPES, RESOURCE_MEMBERS };

cof_code metadata_resource_read(struct cof_slice answer, const char *resource, struct cof_arena *arena,
                                struct metadata_resource *ret_resource, struct cof_error *err)
{
    struct member members[RESOURCE_MEMBERS] = {
        [RESOURCE] = {.name = "resource", .kind = MEMBER_TEXT, .text = ""},
        [SERVERS] = {.name = "authorization_servers", .kind = MEMBER_LIST, .text = ""},
        [SCOPES] = {.name = "scopes_supported", .kind = MEMBER_LIST, .text = ""},
    };
    TRY(members_read("the metadata", answer, members, RESOURCE_MEMBERS, arena, err));
    if (strcmp(members[RESOURCE].text, resource) != 0) {
        return refuse(err, "is of another resource than the one that was asked");
    }
    const struct provider_texts servers = members[SERVERS].list;
    if (servers.count == 0 || servers.count > METADATA_SERVERS_MAX) {
        return refuse(err, "names no authorization server, or too many");
    }
    for (size_t i = 0; i < servers.count; i++) {
        if (!metadata_url_is_https(servers.items[i]) || strchr(servers.items[i], '?') != NULL) {
            return refuse(err, "names an authorization server that is no URL with https");
        }
    }
    *ret_resource = (struct metadata_resource){members[RESOURCE].text, servers, members[SCOPES].list};
    return COF_OK;
}
