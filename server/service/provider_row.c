#include "server/service/provider_row.h"

#include <assert.h>

#include "common/attr.h"
#include "common/wire.h"
#include "server/service/text.h"

enum { SECONDS_MAX = 10 * 366 * 24 * 60 * 60 };

/* The bits of the struct and the enum of the contract. */
static const struct {
    provider_client_auth bit;
    Coffer__V1__ClientAuthentication value;
} auths[] = {
    {PROVIDER_AUTH_BASIC, COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_SECRET_BASIC},
    {PROVIDER_AUTH_POST, COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_SECRET_POST},
    {PROVIDER_AUTH_NONE, COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_NONE},
    {PROVIDER_AUTH_PRIVATE_KEY_JWT, COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_PRIVATE_KEY_JWT},
};

static const struct {
    provider_parameter_form form;
    Coffer__V1__ProviderParameterForm value;
} forms[] = {
    {PROVIDER_FORM_LABEL, COFFER__V1__PROVIDER_PARAMETER_FORM__PROVIDER_PARAMETER_FORM_LABEL},
    {PROVIDER_FORM_HOST, COFFER__V1__PROVIDER_PARAMETER_FORM__PROVIDER_PARAMETER_FORM_HOST},
    {PROVIDER_FORM_SEGMENT, COFFER__V1__PROVIDER_PARAMETER_FORM__PROVIDER_PARAMETER_FORM_SEGMENT},
};

static cof_code refuse(struct call *call, const char *problem)
{
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "definition", "definition: %s", problem);
}

/* --- What was sent -------------------------------------------------------------------------------------------- */

static cof_code read_pairs(struct call *call, Coffer__V1__ProviderPair *const *pairs, size_t count,
                           struct provider_pairs *ret_pairs)
{
    struct provider_pair *items = cof_arena_array(call->arena, count, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct provider_pair){pairs[i]->name, pairs[i]->value};
    }
    *ret_pairs = (struct provider_pairs){items, count};
    return COF_OK;
}

static cof_code read_side(struct call *call, const Coffer__V1__ProviderSide *from, struct provider_side *side)
{
    if (from == NULL) {
        return COF_OK;
    }
    side->offered = true;
    side->jwt_bearer = from->jwt_bearer;
    side->scopes = (struct provider_texts){(const char *const *) from->scopes, from->n_scopes};
    side->scope_parameter = from->scope_parameter[0] == '\0' ? side->scope_parameter : from->scope_parameter;
    side->token_member = from->token_member;
    return read_pairs(call, from->token, from->n_token, &side->token_extras);
}

static cof_code read_parameters(struct call *call, const Coffer__V1__ProviderDefinition *from,
                                struct provider *provider)
{
    if (from->n_parameters > PROVIDER_PARAMETERS_MAX) {
        return refuse(call, "parameters: there are too many");
    }
    for (size_t i = 0; i < from->n_parameters; i++) {
        const Coffer__V1__ProviderParameter *parameter = from->parameters[i];
        size_t form = 0;
        while (form < COF_COUNT(forms) && forms[form].value != parameter->form) {
            form++;
        }
        if (form == COF_COUNT(forms)) {
            return refuse(call, "parameters: a form is label, host or segment");
        }
        provider->parameters[i] =
            (struct provider_parameter){parameter->name, forms[form].form, parameter->value, parameter->help};
    }
    provider->parameter_count = from->n_parameters;
    return COF_OK;
}

static cof_code read_client(struct call *call, const Coffer__V1__ProviderDefinition *from,
                            struct provider *provider)
{
    for (size_t i = 0; i < from->n_client_authentications; i++) {
        size_t auth = 0;
        while (auth < COF_COUNT(auths) && auths[auth].value != from->client_authentications[i]) {
            auth++;
        }
        if (auth == COF_COUNT(auths)) {
            return refuse(call, "client_authentications: one is not known to this server");
        }
        if (i == 0) {
            provider->client_auths = 0;
            provider->client_auth = auths[auth].bit;
        }
        provider->client_auths |= (unsigned) auths[auth].bit;
    }
    return COF_OK;
}

static cof_code read_seconds(struct call *call, const Google__Protobuf__Duration *from, const char *problem,
                             uint32_t *ret_seconds)
{
    if (from == NULL) {
        return COF_OK;
    }
    if (from->nanos != 0 || from->seconds < 0 || from->seconds > SECONDS_MAX) {
        return refuse(call, problem);
    }
    *ret_seconds = (uint32_t) from->seconds;
    return COF_OK;
}

static cof_code read_tokens(struct call *call, const Coffer__V1__ProviderTokens *from, struct provider *provider)
{
    if (from == NULL) {
        return COF_OK;
    }
    provider->token_never_expires = from->never_expires;
    provider->refresh_rotates_strictly =
        from->refresh == COFFER__V1__PROVIDER_REFRESH__PROVIDER_REFRESH_ROTATES_STRICTLY;
    provider->refresh_rotates = provider->refresh_rotates_strictly ||
                                from->refresh == COFFER__V1__PROVIDER_REFRESH__PROVIDER_REFRESH_ROTATES;
    provider->refresh_ends_old_access = from->refresh_ends_old_access;
    if (protobuf_c_enum_descriptor_get_value(&coffer__v1__provider_refresh__descriptor, (int) from->refresh) ==
        NULL) {
        return refuse(call, "tokens.refresh: it is not known to this server");
    }
    TRY(read_seconds(call, from->life, "tokens.life: whole seconds, at most ten years", &provider->token_life_s));
    TRY(read_seconds(call, from->refresh_life, "tokens.refresh_life: whole seconds, at most ten years",
                     &provider->refresh_life_s));
    return read_seconds(call, from->refresh_grace, "tokens.refresh_grace: whole seconds, at most ten years",
                        &provider->refresh_grace_s);
}

static cof_code read_definition(struct call *call, const Coffer__V1__ProviderDefinition *from,
                                struct provider *provider)
{
#define URL(field) provider->field = from->field;
#include "server/providers/provider_url.def"
#undef URL
    provider->documentation = from->documentation;
    provider->discovery = from->discovery;
    provider->sends_issuer = from->sends_issuer;
    provider->accept_json = from->accept_json;
    provider->assertion_audience_issuer = from->assertion_audience_issuer;
    provider->pkce = from->pkce_refused ? PROVIDER_PKCE_REFUSED : PROVIDER_PKCE_USED;
    provider->scope_separator =
        from->scope_separator[0] == '\0' ? provider->scope_separator : from->scope_separator;
    TRY(read_parameters(call, from, provider));
    TRY(read_side(call, from->user, &provider->sides[PROVIDER_USER]));
    TRY(read_side(call, from->service, &provider->sides[PROVIDER_SERVICE]));
    TRY(read_pairs(call, from->authorize, from->n_authorize, &provider->authorize_extras));
    TRY(read_client(call, from, provider));
    return read_tokens(call, from->tokens, provider);
}

cof_code provider_read(struct call *call, const char *id, const char *name,
                       const Coffer__V1__ProviderDefinition *definition, struct provider *ret_provider)
{
    struct cof_error problem = {0};
    *ret_provider = provider_defaults;
    ret_provider->id = id;
    ret_provider->name = name;
    ret_provider->custom = true;
    if (definition == NULL) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "definition",
                              "definition is missing; say at least where the token endpoint is");
    }
    TRY(read_definition(call, definition, ret_provider));
    if (provider_check(ret_provider, &problem) == COF_OK) {
        return COF_OK;
    }
    const char *field = strncmp(problem.message, "name:", strlen("name:")) == 0 ? "name" : "definition";
    return cof_fail_field(call->err, problem.reason, field, "%s", problem.message);
}

/* --- As a message --------------------------------------------------------------------------------------------- */

/* Everything of a definition lies together, so that there is one allocation that can fail. */
struct message {
    Coffer__V1__ProviderDefinition definition;
    Coffer__V1__ProviderSide sides[PROVIDER_CLASSES];
    Coffer__V1__ProviderTokens tokens;
    Google__Protobuf__Duration times[3];
    Coffer__V1__ProviderParameter parameters[PROVIDER_PARAMETERS_MAX];
    Coffer__V1__ProviderParameter *parameter_list[PROVIDER_PARAMETERS_MAX];
    Coffer__V1__ProviderPair pairs[PROVIDER_CLASSES + 1][PROVIDER_EXTRAS_MAX];
    Coffer__V1__ProviderPair *pair_lists[PROVIDER_CLASSES + 1][PROVIDER_EXTRAS_MAX];
    Coffer__V1__ClientAuthentication client_authentications[COF_COUNT(auths)];
};

static size_t fill_pairs(struct message *message, size_t list, struct provider_pairs pairs)
{
    assert(pairs.count <= PROVIDER_EXTRAS_MAX);
    for (size_t i = 0; i < pairs.count; i++) {
        Coffer__V1__ProviderPair *pair = &message->pairs[list][i];
        coffer__v1__provider_pair__init(pair);
        pair->name = text_borrow(pairs.items[i].name);
        pair->value = text_borrow(pairs.items[i].value);
        message->pair_lists[list][i] = pair;
    }
    return pairs.count;
}

static cof_code fill_side(struct call *call, struct message *message, provider_class class,
                          const struct provider_side *side)
{
    Coffer__V1__ProviderSide *to = &message->sides[class];
    coffer__v1__provider_side__init(to);
    to->scopes = cof_arena_array(call->arena, side->scopes.count, sizeof *to->scopes);
    if (to->scopes == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < side->scopes.count; i++) {
        to->scopes[i] = text_borrow(side->scopes.items[i]);
    }
    to->n_scopes = side->scopes.count;
    to->scope_parameter = text_borrow(strcmp(side->scope_parameter, "scope") == 0 ? "" : side->scope_parameter);
    to->token_member = text_borrow(side->token_member);
    to->n_token = fill_pairs(message, (size_t) class, side->token_extras);
    to->token = message->pair_lists[class];
    to->jwt_bearer = side->jwt_bearer;
    return COF_OK;
}

static void fill_parameters(struct message *message, const struct provider *provider)
{
    for (size_t i = 0; i < provider->parameter_count; i++) {
        const struct provider_parameter *from = &provider->parameters[i];
        Coffer__V1__ProviderParameter *to = &message->parameters[i];
        coffer__v1__provider_parameter__init(to);
        to->name = text_borrow(from->name);
        to->value = text_borrow(from->value);
        to->help = text_borrow(from->help);
        for (size_t form = 0; form < COF_COUNT(forms); form++) {
            to->form = forms[form].form == from->form ? forms[form].value : to->form;
        }
        message->parameter_list[i] = to;
    }
    message->definition.n_parameters = provider->parameter_count;
    message->definition.parameters = message->parameter_list;
}

/* The one that is used unless a connection says otherwise comes first. */
static void fill_client(struct message *message, const struct provider *provider)
{
    size_t count = 0;
    for (int first = 1; first >= 0; first--) {
        for (size_t i = 0; i < COF_COUNT(auths); i++) {
            const bool taken = (provider->client_auths & (unsigned) auths[i].bit) != 0;
            if (taken && (auths[i].bit == provider->client_auth) == (first == 1)) {
                message->client_authentications[count++] = auths[i].value;
            }
        }
    }
    message->definition.n_client_authentications = count;
    message->definition.client_authentications = message->client_authentications;
}

static Google__Protobuf__Duration *duration(struct message *message, size_t index, uint32_t seconds)
{
    google__protobuf__duration__init(&message->times[index]);
    message->times[index].seconds = seconds;
    return seconds == 0 ? NULL : &message->times[index];
}

static void fill_tokens(struct message *message, const struct provider *provider)
{
    Coffer__V1__ProviderTokens *tokens = &message->tokens;
    coffer__v1__provider_tokens__init(tokens);
    tokens->never_expires = provider->token_never_expires;
    tokens->life = provider->token_never_expires ? NULL : duration(message, 0, provider->token_life_s);
    tokens->refresh = provider->refresh_rotates_strictly
                          ? COFFER__V1__PROVIDER_REFRESH__PROVIDER_REFRESH_ROTATES_STRICTLY
                      : provider->refresh_rotates ? COFFER__V1__PROVIDER_REFRESH__PROVIDER_REFRESH_ROTATES
                                                  : COFFER__V1__PROVIDER_REFRESH__PROVIDER_REFRESH_KEEPS;
    tokens->refresh_life = duration(message, 1, provider->refresh_life_s);
    tokens->refresh_grace = duration(message, 2, provider->refresh_grace_s);
    tokens->refresh_ends_old_access = provider->refresh_ends_old_access;
    message->definition.tokens = tokens;
}

static void fill_plain(Coffer__V1__ProviderDefinition *to, const struct provider *provider)
{
#define URL(field) to->field = text_borrow(provider->field);
#include "server/providers/provider_url.def"
#undef URL
    to->documentation = text_borrow(provider->documentation);
    to->discovery = provider->discovery;
    to->sends_issuer = provider->sends_issuer;
    to->accept_json = provider->accept_json;
    to->assertion_audience_issuer = provider->assertion_audience_issuer;
    to->pkce_refused = provider->pkce == PROVIDER_PKCE_REFUSED;
    to->scope_separator = text_borrow(provider->scope_separator);
}

static cof_code fill(struct call *call, const struct provider *provider, struct message **ret_message)
{
    struct message *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    Coffer__V1__ProviderDefinition *definition = &message->definition;
    coffer__v1__provider_definition__init(definition);
    fill_plain(definition, provider);
    fill_parameters(message, provider);
    fill_client(message, provider);
    fill_tokens(message, provider);
    definition->n_authorize = fill_pairs(message, PROVIDER_CLASSES, provider->authorize_extras);
    definition->authorize = message->pair_lists[PROVIDER_CLASSES];
    for (int class = 0; class < PROVIDER_CLASSES; class ++) {
        TRY(fill_side(call, message, (provider_class) class, &provider->sides[class]));
    }
    definition->user = provider->sides[PROVIDER_USER].offered ? &message->sides[PROVIDER_USER] : NULL;
    definition->service = provider->sides[PROVIDER_SERVICE].offered ? &message->sides[PROVIDER_SERVICE] : NULL;
    *ret_message = message;
    return COF_OK;
}

cof_code provider_pack(struct call *call, const struct provider *provider, struct cof_slice *ret_definition)
{
    struct message *message = NULL;
    TRY(fill(call, provider, &message));
    assert(message != NULL);
    return cof_wire_pack(&message->definition.base, call->arena, ret_definition, call->err);
}

/* --- The row -------------------------------------------------------------------------------------------------- */

static cof_code corrupted(struct call *call)
{
    /* That memory ran out is no fault of the row's. */
    if (call->err->reason == COF_REASON_OUT_OF_MEMORY) {
        return call->err->code;
    }
    cof_error_clear(call->err);
    return cof_fail(call->err, COF_REASON_CORRUPTED, "a stored provider cannot be read; %s",
                    cof_reason_next_step(COF_REASON_CORRUPTED));
}

cof_code provider_of_row(struct call *call, const struct provider_row *row, struct provider *ret_provider)
{
    ProtobufCMessage *message = NULL;
    char *id = text_of(call->arena, row->provider);
    char *name = text_of(call->arena, row->name);
    if (id == NULL || name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (cof_wire_unpack(&coffer__v1__provider_definition__descriptor, row->definition, call->arena, &message,
                        call->err) != COF_OK ||
        provider_read(call, id, name, (Coffer__V1__ProviderDefinition *) (void *) message, ret_provider) !=
            COF_OK) {
        return corrupted(call);
    }
    return COF_OK;
}

static bool same_pairs(struct provider_pairs a, struct provider_pairs b)
{
    bool same = a.count == b.count;
    for (size_t i = 0; i < a.count && same; i++) {
        same = strcmp(a.items[i].name, b.items[i].name) == 0 && strcmp(a.items[i].value, b.items[i].value) == 0;
    }
    return same;
}

static bool same_parameters(const struct provider *a, const struct provider *b)
{
    bool same = a->parameter_count == b->parameter_count;
    for (size_t i = 0; i < a->parameter_count && same; i++) {
        same = strcmp(a->parameters[i].name, b->parameters[i].name) == 0 &&
               a->parameters[i].form == b->parameters[i].form &&
               strcmp(a->parameters[i].value, b->parameters[i].value) == 0;
    }
    return same;
}

static bool same_side(const struct provider_side *a, const struct provider_side *b)
{
    return a->offered == b->offered && a->jwt_bearer == b->jwt_bearer &&
           strcmp(a->token_member, b->token_member) == 0 && same_pairs(a->token_extras, b->token_extras);
}

bool provider_moves(const struct provider *before, const struct provider *after)
{
    bool same = same_parameters(before, after) && before->client_auths == after->client_auths &&
                before->client_auth == after->client_auth && before->discovery == after->discovery &&
                before->pkce == after->pkce && before->sends_issuer == after->sends_issuer &&
                before->assertion_audience_issuer == after->assertion_audience_issuer &&
                same_pairs(before->authorize_extras, after->authorize_extras);
#define URL(field) same = same && strcmp(before->field, after->field) == 0;
#include "server/providers/provider_url.def"
#undef URL
    for (int class = 0; class < PROVIDER_CLASSES; class ++) {
        same = same && same_side(&before->sides[class], &after->sides[class]);
    }
    return !same;
}

/* --- Shown ---------------------------------------------------------------------------------------------------- */

static cof_code add_row(struct call *call, const struct provider_row *row, Coffer__V1__Provider *message)
{
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->uid = text_of_uuid(call->arena, &row->provider_id);
    message->create_time = time_of(call->arena, row->create_time);
    message->update_time = time_of(call->arena, row->update_time);
    message->generation = (uint64_t) row->generation;
    return message->workspace == NULL || message->uid == NULL || message->create_time == NULL ||
                   message->update_time == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

cof_code provider_message(struct call *call, const struct provider *provider, const struct provider_row *row,
                          Coffer__V1__Provider **ret_message)
{
    Coffer__V1__Provider *message = cof_arena_alloc(call->arena, sizeof *message);
    struct message *definition = NULL;
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__provider__init(message);
    TRY(fill(call, provider, &definition));
    assert(definition != NULL);
    message->id = text_borrow(provider->id);
    message->name = text_borrow(provider->name);
    message->definition = &definition->definition;
    *ret_message = message;
    return row == NULL ? COF_OK : add_row(call, row, message);
}
