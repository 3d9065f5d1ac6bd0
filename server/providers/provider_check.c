#include <string.h>

#include "common/attr.h"
#include "common/name.h"
#include "server/providers/provider.h"

enum { USED_NAMES = 64, PARAMETER_NAME_MAX = 32, EXTRA_NAME_MAX = 64, EXTRA_VALUE_MAX = 512, HELP_MAX = 300 };

const struct provider provider_defaults = {
#define URL(field) .field = "",
#include "server/providers/provider_url.def"
#undef URL
    .id = "",
    .name = "",
    .documentation = "",
    .sides = {{.scope_parameter = "scope", .token_member = ""}, {.scope_parameter = "scope", .token_member = ""}},
    .scope_separator = " ",
    .pkce = PROVIDER_PKCE_USED,
    .client_auths = PROVIDER_AUTH_BASIC,
    .client_auth = PROVIDER_AUTH_BASIC,
    .token_life_s = 3600,
};

static const char *const side_names[PROVIDER_CLASSES] = {"user", "service"};

struct url_field {
    const char *name;
    size_t offset;
};

static const struct url_field url_fields[] = {
#define URL(field) {#field, offsetof(struct provider, field)},
#include "server/providers/provider_url.def"
#undef URL
};

static const char *url_of(const struct provider *provider, const struct url_field *field)
{
    const char *url = NULL;
    memcpy(&url, (const uint8_t *) provider + field->offset, sizeof url);
    return url;
}

/* --- Texts ---------------------------------------------------------------------------------------------------- */

static bool consists_of(const char *text, const char *bytes)
{
    return text[0] != '\0' && text[strspn(text, bytes)] == '\0';
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

static bool is_id(const char *text, size_t max)
{
    return consists_of(text, LOWER DIGITS "_") && strlen(text) <= max && text[0] != '_';
}

static bool is_printable(const char *text, size_t max)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            return false;
        }
    }
    return strlen(text) <= max;
}

/* UTF-8 without control characters. */
static bool is_line(const char *text, size_t max)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char) *c < ' ' || *c == '\x7f') {
            return false;
        }
    }
    return strlen(text) <= max && cof_text_valid(cof_slice_text(text));
}

static cof_code check_names(const struct provider *provider, struct cof_error *err)
{
    if (!is_id(provider->id, PROVIDER_ID_MAX)) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "id: 1 to %d of a-z, 0-9 and \"_\", the first one no \"_\"",
                        PROVIDER_ID_MAX);
    }
    if (provider->name[0] == '\0') {
        return cof_fail(err, COF_REASON_FIELD_REQUIRED, "name: say what people call it");
    }
    if (!is_line(provider->name, PROVIDER_NAME_MAX)) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "name: at most %d bytes of UTF-8 in one line",
                        PROVIDER_NAME_MAX);
    }
    return COF_OK;
}

/* --- URLs ----------------------------------------------------------------------------------------------------- */

/* Which parameters the URLs use. */
struct used {
    bool parameter[PROVIDER_PARAMETERS_MAX];
};

static cof_code use_parameter(const struct provider *provider, const char *field, struct cof_slice name,
                              bool in_host, struct used *used, struct cof_error *err)
{
    for (size_t i = 0; i < provider->parameter_count; i++) {
        const struct provider_parameter *parameter = &provider->parameters[i];
        if (!cof_slice_equal(cof_slice_text(parameter->name), name)) {
            continue;
        }
        if (in_host && parameter->form == PROVIDER_FORM_SEGMENT) {
            return cof_fail(err, COF_REASON_FIELD_INVALID,
                            "%s: the parameter %s stands in the host's name, so its form must be label or host",
                            field, parameter->name);
        }
        used->parameter[i] = true;
        return COF_OK;
    }
    return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: {%.*s} is not among the parameters", field,
                    (int) (name.len < USED_NAMES ? name.len : USED_NAMES), (const char *) name.data);
}

/* Goes past one parameter or one byte of a URL. */
static cof_code pass(const struct provider *provider, const char *field, const char **at, const char *bytes,
                     bool in_host, struct used *used, struct cof_error *err)
{
    if (**at != '{') {
        if (strchr(bytes, **at) == NULL) {
            return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: this is no https URL%s", field,
                            in_host ? " with a host's name in lower case, perhaps a port, and no user" : "");
        }
        (*at)++;
        return COF_OK;
    }
    const struct cof_slice name = cof_slice_of(*at + 1, strcspn(*at + 1, "}"));
    if ((*at)[name.len + 1] != '}') {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: a parameter that does not end; write {name}", field);
    }
    *at += name.len + 2;
    return use_parameter(provider, field, name, in_host, used, err);
}

static cof_code check_url(const struct provider *provider, const char *field, const char *url, struct used *used,
                          struct cof_error *err)
{
    static const char scheme[] = "https://";
    static const char host[] = LOWER DIGITS ".-:";
    static const char rest[] = LOWER DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ-._~:/?[]@!$&'()*+,;=%";
    if (strncmp(url, scheme, strlen(scheme)) != 0) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: must begin with https://", field);
    }
    if (strlen(url) > PROVIDER_URL_MAX) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: at most %d bytes", field, PROVIDER_URL_MAX);
    }
    const char *at = url + strlen(scheme);
    if (*at == '/' || *at == '?' || *at == ':' || *at == '\0') {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: has no host's name", field);
    }
    while (*at != '\0' && *at != '/' && *at != '?') {
        TRY(pass(provider, field, &at, host, true, used, err));
    }
    while (*at != '\0') {
        TRY(pass(provider, field, &at, rest, false, used, err));
    }
    return COF_OK;
}

static cof_code check_parameter(const struct provider *provider, size_t index, struct cof_error *err)
{
    const struct provider_parameter *parameter = &provider->parameters[index];
    if (!is_id(parameter->name, PARAMETER_NAME_MAX)) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "parameters: a name is 1 to %d of a-z, 0-9 and \"_\"",
                        PARAMETER_NAME_MAX);
    }
    for (size_t i = 0; i < index; i++) {
        if (strcmp(provider->parameters[i].name, parameter->name) == 0) {
            return cof_fail(err, COF_REASON_FIELD_INVALID, "parameters: %s stands there twice", parameter->name);
        }
    }
    if (parameter->value[0] != '\0' && !provider_parameter_fits(parameter, parameter->value)) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "parameters: the value of %s does not have its form",
                        parameter->name);
    }
    return is_line(parameter->help, HELP_MAX)
               ? COF_OK
               : cof_fail(err, COF_REASON_FIELD_INVALID,
                          "parameters: the help of %s must be one line of at most %d bytes", parameter->name,
                          HELP_MAX);
}

static cof_code check_urls(const struct provider *provider, struct cof_error *err)
{
    struct used used = {.parameter = {false}};
    if (provider->parameter_count > PROVIDER_PARAMETERS_MAX) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "parameters: at most %d", PROVIDER_PARAMETERS_MAX);
    }
    for (size_t i = 0; i < provider->parameter_count; i++) {
        TRY(check_parameter(provider, i, err));
    }
    for (size_t i = 0; i < COF_COUNT(url_fields); i++) {
        const char *url = url_of(provider, &url_fields[i]);
        if (url[0] != '\0') {
            TRY(check_url(provider, url_fields[i].name, url, &used, err));
        }
    }
    for (size_t i = 0; i < provider->parameter_count; i++) {
        if (!used.parameter[i]) {
            return cof_fail(err, COF_REASON_FIELD_INVALID, "parameters: %s is in no URL",
                            provider->parameters[i].name);
        }
    }
    struct used none = {.parameter = {false}};
    const struct provider bare = {.parameter_count = 0};
    return provider->documentation[0] == '\0'
               ? COF_OK
               : check_url(&bare, "documentation", provider->documentation, &none, err);
}

/* --- What is sent --------------------------------------------------------------------------------------------- */

/* What we send ourselves; nobody else may. */
static const char *const ours[] = {
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "redirect_uri",
    "state",
    "scope",
    "user_scope",
    "code",
    "code_challenge",
    "grant_type",
    "assertion",
    "refresh_token",
    "code_challenge_method",
    "code_verifier",
    "device_code",
    "resource",
    "request",
    "request_uri",
    "nonce",
};

static cof_code check_extras(const char *field, struct provider_pairs extras, struct cof_error *err)
{
    if (extras.count > PROVIDER_EXTRAS_MAX) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: at most %d", field, PROVIDER_EXTRAS_MAX);
    }
    for (size_t i = 0; i < extras.count; i++) {
        const struct provider_pair *pair = &extras.items[i];
        if (!consists_of(pair->name, LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "_-.") ||
            strlen(pair->name) > EXTRA_NAME_MAX || !is_printable(pair->value, EXTRA_VALUE_MAX)) {
            return cof_fail(
                err, COF_REASON_FIELD_INVALID,
                "%s: a name has at most %d letters, digits and \"_.-\", a value %d printable characters", field,
                EXTRA_NAME_MAX, EXTRA_VALUE_MAX);
        }
        for (size_t j = 0; j < COF_COUNT(ours); j++) {
            if (strcmp(pair->name, ours[j]) == 0) {
                return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: %s is sent by Coffer itself", field, ours[j]);
            }
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(pair->name, extras.items[j].name) == 0) {
                return cof_fail(err, COF_REASON_FIELD_INVALID, "%s: %s stands there twice", field, pair->name);
            }
        }
    }
    return COF_OK;
}

/* RFC 6749, 3.3; and the separator is what separates. */
static bool is_scope(const char *scope, const char *separator)
{
    for (const char *c = scope; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == '"' || *c == '\\' || *c == separator[0]) {
            return false;
        }
    }
    return scope[0] != '\0' && strlen(scope) <= PROVIDER_SCOPE_MAX;
}

static cof_code check_scopes(const struct provider *provider, const char *side, struct provider_texts scopes,
                             struct cof_error *err)
{
    if (scopes.count > PROVIDER_SCOPES_MAX) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "%s.scopes: at most %d", side, PROVIDER_SCOPES_MAX);
    }
    for (size_t i = 0; i < scopes.count; i++) {
        if (!is_scope(scopes.items[i], provider->scope_separator)) {
            return cof_fail(
                err, COF_REASON_FIELD_INVALID,
                "%s.scopes: a scope has 1 to %d printable characters without space, quotes, backslash and "
                "separator",
                side, PROVIDER_SCOPE_MAX);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(scopes.items[i], scopes.items[j]) == 0) {
                return cof_fail(err, COF_REASON_FIELD_INVALID, "%s.scopes: one stands there twice", side);
            }
        }
    }
    return COF_OK;
}

static cof_code check_side(const struct provider *provider, provider_class class, struct cof_error *err)
{
    const struct provider_side *side = &provider->sides[class];
    const char *name = side_names[class];
    if (!side->offered) {
        return COF_OK;
    }
    if (!is_id(side->scope_parameter, PARAMETER_NAME_MAX) ||
        (side->token_member[0] != '\0' && !is_id(side->token_member, PARAMETER_NAME_MAX))) {
        return cof_fail(err, COF_REASON_FIELD_INVALID,
                        "%s: scope_parameter and token_member are 1 to %d of a-z, 0-9 and \"_\"", name,
                        PARAMETER_NAME_MAX);
    }
    TRY(check_scopes(provider, name, side->scopes, err));
    return check_extras(class == PROVIDER_USER ? "user.token" : "service.token", side->token_extras, err);
}

/* --- What fits together --------------------------------------------------------------------------------------- */

static cof_code check_endpoints(const struct provider *provider, struct cof_error *err)
{
    if (!provider->sides[PROVIDER_USER].offered && !provider->sides[PROVIDER_SERVICE].offered) {
        return cof_fail(err, COF_REASON_FIELD_REQUIRED, "user: say whose tokens there are: user, service or both");
    }
    if (provider->discovery) {
        return provider->issuer[0] != '\0' || provider->mcp_server[0] != '\0'
                   ? COF_OK
                   : cof_fail(err, COF_REASON_FIELD_REQUIRED, "issuer: discovery begins there, or at mcp_server");
    }
    if (provider->token_endpoint[0] == '\0') {
        return cof_fail(err, COF_REASON_FIELD_REQUIRED, "token_endpoint: it is needed, or discovery");
    }
    if (provider->sides[PROVIDER_USER].offered && provider->authorization_endpoint[0] == '\0' &&
        provider->device_endpoint[0] == '\0') {
        return cof_fail(err, COF_REASON_FIELD_REQUIRED,
                        "authorization_endpoint: tokens of users need it, or device_endpoint");
    }
    return provider->sends_issuer && provider->issuer[0] == '\0'
               ? cof_fail(err, COF_REASON_FIELD_REQUIRED, "issuer: sends_issuer compares with it")
               : COF_OK;
}

static cof_code check_client(const struct provider *provider, struct cof_error *err)
{
    const struct provider_side *service = &provider->sides[PROVIDER_SERVICE];
    if (provider->client_auths == 0 || (provider->client_auths & provider->client_auth) == 0) {
        return cof_fail(err, COF_REASON_FIELD_REQUIRED, "client_authentication: say at least one");
    }
    if (service->offered && !service->jwt_bearer && provider->client_auths == PROVIDER_AUTH_NONE) {
        return cof_fail(
            err, COF_REASON_FIELD_INVALID,
            "client_authentication: none, but tokens of a service are given to a client that proves who it is");
    }
    return provider->assertion_audience_issuer && provider->issuer[0] == '\0' && !provider->discovery
               ? cof_fail(err, COF_REASON_FIELD_REQUIRED, "issuer: assertion_audience is the issuer")
               : COF_OK;
}

static cof_code check_tokens(const struct provider *provider, struct cof_error *err)
{
    if (!provider->token_never_expires && provider->token_life_s == 0) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "tokens.life: at least a second, or never");
    }
    if (provider->refresh_grace_s > 0 && !provider->refresh_rotates) {
        return cof_fail(err, COF_REASON_FIELD_INVALID,
                        "tokens.refresh_grace: an old refresh token is one only where they rotate");
    }
    return COF_OK;
}

cof_code provider_check(const struct provider *provider, struct cof_error *err)
{
    TRY(check_names(provider, err));
    if (strcmp(provider->scope_separator, " ") != 0 && strcmp(provider->scope_separator, ",") != 0) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "scope_separator: a space or a comma");
    }
    TRY(check_urls(provider, err));
    for (int class = 0; class < PROVIDER_CLASSES; class ++) {
        TRY(check_side(provider, (provider_class) class, err));
    }
    TRY(check_extras("authorize", provider->authorize_extras, err));
    TRY(check_endpoints(provider, err));
    TRY(check_client(provider, err));
    return check_tokens(provider, err);
}
