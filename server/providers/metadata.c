#include "server/providers/metadata.h"

#include <string.h>

#include "common/attr.h"
#include "common/json.h"
#include "common/name.h"

enum { LIST_MAX = 256 };

static const char https[] = "https://";

static cof_code refuse(struct cof_error *err, const char *problem)
{
    return cof_fail(err, COF_REASON_FILE_INVALID, "the metadata %s", problem);
}

/* --- Where it is ---------------------------------------------------------------------------------------------- */

static bool is_https(const char *url)
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
    if (!is_https(url) || strchr(url, '?') != NULL) {
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

/* --- What it says --------------------------------------------------------------------------------------------- */

typedef enum member_kind { MEMBER_TEXT, MEMBER_BOOL, MEMBER_LIST } member_kind;

/* A member of the answer that is looked for. */
struct member {
    const char *name;
    const char *text; /* "" */
    struct provider_texts list;
    member_kind kind;
    bool seen;
    bool flag;
};

struct reader {
    struct cof_json_scan scan;
    struct cof_json_event event;
    struct cof_arena *arena;
    struct cof_error *err;
};

static cof_code next(struct reader *reader)
{
    struct cof_error problem = {0};
    return cof_json_next(&reader->scan, &reader->event, &problem) == COF_OK ? COF_OK
                                                                            : refuse(reader->err, "is no JSON");
}

static cof_code read_text(struct reader *reader, const char **ret_text)
{
    size_t length = 0;
    uint8_t *text = cof_arena_alloc(reader->arena, reader->event.raw.len + 1);
    if (text == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    if (!cof_json_decode(reader->event.raw, text, &length) || !cof_text_valid(cof_slice_of(text, length))) {
        return refuse(reader->err, "has a text that is none");
    }
    text[length] = '\0';
    *ret_text = (const char *) text;
    return COF_OK;
}

/* Past what the value that has just begun holds. */
static cof_code skip(struct reader *reader)
{
    size_t depth = 0;
    do {
        const cof_json_kind kind = reader->event.kind;
        depth += kind == COF_JSON_OBJECT || kind == COF_JSON_ARRAY;
        depth -= kind == COF_JSON_OBJECT_END || kind == COF_JSON_ARRAY_END;
        if (depth > 0) {
            TRY(next(reader));
        }
    } while (depth > 0);
    return COF_OK;
}

/* Of a list of texts; whatever else it has is passed over. */
static cof_code read_list(struct reader *reader, struct provider_texts *ret_list)
{
    const char **items = cof_arena_array(reader->arena, LIST_MAX, sizeof *items);
    size_t count = 0;
    if (items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    TRY(next(reader));
    while (reader->event.kind != COF_JSON_ARRAY_END) {
        if (reader->event.kind == COF_JSON_STRING && count < LIST_MAX) {
            TRY(read_text(reader, &items[count]));
            count++;
        } else {
            TRY(skip(reader));
        }
        TRY(next(reader));
    }
    *ret_list = (struct provider_texts){items, count};
    return COF_OK;
}

static cof_code read_value(struct reader *reader, struct member *member)
{
    if (member == NULL) {
        return skip(reader);
    }
    if (member->seen) {
        return refuse(reader->err, "says the same thing twice");
    }
    member->seen = true;
    if (member->kind == MEMBER_TEXT && reader->event.kind == COF_JSON_STRING) {
        return read_text(reader, &member->text);
    }
    if (member->kind == MEMBER_LIST && reader->event.kind == COF_JSON_ARRAY) {
        return read_list(reader, &member->list);
    }
    member->flag =
        reader->event.kind == COF_JSON_WORD && cof_slice_equal(reader->event.raw, cof_slice_text("true"));
    return skip(reader);
}

static struct member *find(struct member *members, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(members[i].name, name) == 0) {
            return &members[i];
        }
    }
    return NULL;
}

static cof_code read_members(struct cof_slice answer, struct member *members, size_t count, struct cof_arena *arena,
                             struct cof_error *err)
{
    struct reader reader = {.arena = arena, .err = err};
    if (answer.len > METADATA_MAX) {
        return refuse(err, "is larger than it may be");
    }
    cof_json_scan_init(&reader.scan, answer);
    TRY(next(&reader));
    if (reader.event.kind != COF_JSON_OBJECT) {
        return refuse(err, "is no object");
    }
    TRY(next(&reader));
    while (reader.event.kind == COF_JSON_KEY) {
        const char *name = "";
        TRY(read_text(&reader, &name));
        TRY(next(&reader));
        TRY(read_value(&reader, find(members, count, name)));
        TRY(next(&reader));
    }
    return next(&reader);
}

/* --- Authorization servers ------------------------------------------------------------------------------------ */

static cof_code check_endpoints(const struct member *members, size_t count, struct cof_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].kind == MEMBER_TEXT && members[i].text[0] != '\0' && !is_https(members[i].text)) {
            return cof_fail(err, COF_REASON_FILE_INVALID, "the metadata has a %s that is no URL with https",
                            members[i].name);
        }
    }
    return COF_OK;
}

static bool is_among(struct provider_texts texts, const char *text)
{
    for (size_t i = 0; i < texts.count; i++) {
        if (strcmp(texts.items[i], text) == 0) {
            return true;
        }
    }
    return false;
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
        auths |= is_among(methods->list, known[i].name) ? (unsigned) known[i].auth : 0;
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
    TRY(read_members(answer, members, SERVER_MEMBERS, arena, err));
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
        .pkce_s256 = !members[PKCE].seen || is_among(members[PKCE].list, "S256"),
        .client_credentials = is_among(members[GRANTS].list, "client_credentials"),
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
    TRY(read_members(answer, members, RESOURCE_MEMBERS, arena, err));
    if (strcmp(members[RESOURCE].text, resource) != 0) {
        return refuse(err, "is of another resource than the one that was asked");
    }
    const struct provider_texts servers = members[SERVERS].list;
    if (servers.count == 0 || servers.count > METADATA_SERVERS_MAX) {
        return refuse(err, "names no authorization server, or too many");
    }
    for (size_t i = 0; i < servers.count; i++) {
        if (!is_https(servers.items[i]) || strchr(servers.items[i], '?') != NULL) {
            return refuse(err, "names an authorization server that is no URL with https");
        }
    }
    *ret_resource = (struct metadata_resource){members[RESOURCE].text, servers, members[SCOPES].list};
    return COF_OK;
}
