#include "server/providers/registration.h"

#include <stdio.h>
#include <string.h>

#include "common/attr.h"
#include "common/sink.h"
#include "server/providers/members.h"
#include "server/providers/metadata.h"

enum { SCOPES_TEXT_MAX = 16 * 1024 };

static const struct {
    const char *name;
    provider_client_auth auth;
} auths[] = {
    {"client_secret_basic", PROVIDER_AUTH_BASIC},
    {"client_secret_post", PROVIDER_AUTH_POST},
    {"none", PROVIDER_AUTH_NONE},
};

/* --- The request ---------------------------------------------------------------------------------------------- */

static void put(struct cof_sink *sink, const char *text)
{
    cof_sink_put_raw(sink, cof_slice_text(text));
}

static void put_string(struct cof_sink *sink, const char *text)
{
    put(sink, "\"");
    cof_sink_put(sink, COF_ENCODING_JSON, cof_slice_text(text));
    put(sink, "\"");
}

static void put_text(struct cof_sink *sink, const char *name, const char *text)
{
    if (text[0] != '\0') {
        put(sink, ",");
        put_string(sink, name);
        put(sink, ":");
        put_string(sink, text);
    }
}

static void put_list(struct cof_sink *sink, const char *name, struct provider_texts list)
{
    if (list.count == 0) {
        return;
    }
    put(sink, ",");
    put_string(sink, name);
    put(sink, ":[");
    for (size_t i = 0; i < list.count; i++) {
        put(sink, i == 0 ? "" : ",");
        put_string(sink, list.items[i]);
    }
    put(sink, "]");
}

static void put_scopes(struct cof_sink *sink, struct provider_texts scopes)
{
    if (scopes.count == 0) {
        return;
    }
    put(sink, ",\"scope\":\"");
    for (size_t i = 0; i < scopes.count; i++) {
        put(sink, i == 0 ? "" : " ");
        cof_sink_put(sink, COF_ENCODING_JSON, cof_slice_text(scopes.items[i]));
    }
    put(sink, "\"");
}

static const char *auth_name(provider_client_auth auth)
{
    size_t i = 0;
    while (i + 1 < COF_COUNT(auths) && auths[i].auth != auth) {
        i++;
    }
    return auths[i].name;
}

/* What a code comes back as; other grants have no use of it (RFC 7591, 2.1). */
static struct provider_texts response_types(const struct registration_wish *wish)
{
    static const char *const code[] = {"code"};
    const bool codes = members_list_has(wish->grants, "authorization_code");
    return codes ? (struct provider_texts){code, COF_COUNT(code)} : (struct provider_texts){NULL, 0};
}

static void write_body(const struct registration_wish *wish, struct cof_sink *sink)
{
    put(sink, "{\"token_endpoint_auth_method\":");
    put_string(sink, auth_name(wish->auth));
    put_text(sink, "client_name", wish->name);
    put_list(sink, "redirect_uris", wish->redirect_uris);
    put_list(sink, "grant_types", wish->grants);
    put_list(sink, "response_types", response_types(wish));
    put_scopes(sink, wish->scopes);
    put_text(sink, "software_id", wish->software_id);
    put_text(sink, "software_version", wish->software_version);
    put(sink, "}");
}

cof_code registration_write(const struct registration_wish *wish, struct cof_arena *arena,
                            struct cof_slice *ret_body, struct cof_error *err)
{
    struct cof_sink sink = {.to = NULL};
    write_body(wish, &sink);
    sink = (struct cof_sink){.to = cof_arena_alloc(arena, sink.used), .room = sink.used};
    if (sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    write_body(wish, &sink);
    *ret_body = cof_slice_of(sink.to, sink.used);
    return COF_OK;
}

/* --- The answer ----------------------------------------------------------------------------------------------- */

enum answer_member { ID, SECRET, EXPIRES, AUTH, TOKEN, URI, REDIRECTS, ANSWER_MEMBERS };

static cof_code refuse(struct cof_error *err, const char *problem)
{
    return cof_fail(err, COF_REASON_FILE_INVALID, "the registered client %s", problem);
}

/* Printable ASCII, which goes into requests as it is. */
static bool is_printable(const char *text, size_t max)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            return false;
        }
    }
    return strlen(text) <= max;
}

/* Where none is told it is the one that was asked for. */
static bool auth_of(const struct member *member, const struct registration_wish *wish,
                    provider_client_auth *ret_auth)
{
    *ret_auth = wish->auth;
    if (member->text[0] == '\0') {
        return true;
    }
    for (size_t i = 0; i < COF_COUNT(auths); i++) {
        if (strcmp(auths[i].name, member->text) == 0) {
            *ret_auth = auths[i].auth;
            return (wish->auths & (unsigned) auths[i].auth) != 0;
        }
    }
    return false;
}

/* A client that may be sent to other places than was asked for would hand somebody else its codes. */
static bool same_redirects(const struct member *member, const struct registration_wish *wish)
{
    bool same = !member->seen || member->list.count == wish->redirect_uris.count;
    for (size_t i = 0; same && member->seen && i < wish->redirect_uris.count; i++) {
        same = members_list_has(member->list, wish->redirect_uris.items[i]);
    }
    return same;
}

static cof_code check(const struct member *members, const struct registration_wish *wish,
                      struct registration_found *found, struct cof_error *err)
{
    const char *uri = members[URI].text;
    if (members[ID].text[0] == '\0' || !is_printable(members[ID].text, REGISTRATION_ID_MAX)) {
        return refuse(err, "has no ID, or one that cannot be sent");
    }
    if (!auth_of(&members[AUTH], wish, &found->auth)) {
        return refuse(err, "has to authenticate in a way that Coffer does not know, or the provider does not take");
    }
    if (found->auth != PROVIDER_AUTH_NONE && members[SECRET].text[0] == '\0') {
        return refuse(err, "has no secret, and its authentication needs one");
    }
    if (!is_printable(members[SECRET].text, REGISTRATION_SECRET_MAX) ||
        !is_printable(members[TOKEN].text, REGISTRATION_SECRET_MAX)) {
        return refuse(err, "has a secret that cannot be sent");
    }
    if (!same_redirects(&members[REDIRECTS], wish)) {
        return refuse(err, "has other redirect URIs than were asked for");
    }
    return uri[0] == '\0' || metadata_url_is_https(uri) ? COF_OK
                                                        : refuse(err, "has an address that is no URL with https");
}

cof_code registration_read(struct cof_slice answer, const struct registration_wish *wish, struct cof_arena *arena,
                           struct registration_found *ret_found, struct cof_error *err)
{
    struct registration_found found = {.auth = wish->auth};
    struct member members[ANSWER_MEMBERS] = {
        [ID] = {.name = "client_id", .kind = MEMBER_TEXT, .text = ""},
        [SECRET] = {.name = "client_secret", .kind = MEMBER_TEXT, .text = ""},
        [EXPIRES] = {.name = "client_secret_expires_at", .kind = MEMBER_NUMBER, .text = ""},
        [AUTH] = {.name = "token_endpoint_auth_method", .kind = MEMBER_TEXT, .text = ""},
        [TOKEN] = {.name = "registration_access_token", .kind = MEMBER_TEXT, .text = ""},
        [URI] = {.name = "registration_client_uri", .kind = MEMBER_TEXT, .text = ""},
        [REDIRECTS] = {.name = "redirect_uris", .kind = MEMBER_LIST, .text = ""},
    };
    TRY(members_read("the answer", answer, members, ANSWER_MEMBERS, arena, err));
    TRY(check(members, wish, &found, err));
    found.client_id = members[ID].text;
    found.client_secret = found.auth == PROVIDER_AUTH_NONE ? "" : members[SECRET].text;
    found.secret_expires_s = members[EXPIRES].number;
    found.access_token = members[TOKEN].text;
    found.client_uri = members[URI].text;
    *ret_found = found;
    return COF_OK;
}

void registration_refusal(struct cof_slice answer, struct cof_arena *arena,
                          char ret_words[REGISTRATION_WORDS_MAX + 1])
{
    struct cof_error ignored = {0};
    struct member members[] = {
        {.name = "error", .kind = MEMBER_TEXT, .text = ""},
        {.name = "error_description", .kind = MEMBER_TEXT, .text = ""},
    };
    ret_words[0] = '\0';
    if (members_read("the answer", answer, members, COF_COUNT(members), arena, &ignored) != COF_OK) {
        return;
    }
    const char *code = members[0].text;
    const char *words = members[1].text;
    (void) snprintf(ret_words, REGISTRATION_WORDS_MAX + 1, "%s%s%s", code,
                    code[0] != '\0' && words[0] != '\0' ? ": " : "", words);
    for (char *c = ret_words; *c != '\0'; c++) {
        *c = (char) (*c < ' ' || *c > '~' ? '?' : *c);
    }
}
