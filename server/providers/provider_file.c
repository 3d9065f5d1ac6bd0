#include "server/providers/provider_file.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/attr.h"
#include "common/yaml_tree.h"

enum { LIFE_MAX_S = 10 * 366 * 24 * 60 * 60 };

struct reader {
    struct cof_arena *arena;
    struct cof_error *err;
    struct provider *provider;
};

/* --- Values --------------------------------------------------------------------------------------------------- */

static cof_code refuse(const struct reader *reader, const struct cof_yaml_node *node, const char *problem)
{
    return cof_yaml_refuse(reader->err, node->place, "%.*s: %s", (int) node->key.len, (const char *) node->key.data,
                           problem);
}

static cof_code read_text(const struct reader *reader, const struct cof_yaml_node *node, const char **ret_text)
{
    const bool is_text = node->kind == COF_YAML_TEXT && memchr(node->text.data, '\0', node->text.len) == NULL;
    if (!is_text || node->text.len == 0) {
        return refuse(reader, node, "a text is wanted here");
    }
    *ret_text = (const char *) node->text.data;
    return COF_OK;
}

/* The same where it may be missing; then it stays as it is. */
static cof_code read_optional(const struct reader *reader, const struct cof_yaml_node *parent, const char *key,
                              const char **ret_text)
{
    const struct cof_yaml_node *node = cof_yaml_field(parent, key);
    return node == NULL ? COF_OK : read_text(reader, node, ret_text);
}

static size_t count_of(const struct cof_yaml_node *node)
{
    size_t count = 0;
    for (const struct cof_yaml_node *item = node->first; item != NULL; item = item->next) {
        count++;
    }
    return count;
}

static cof_code read_texts(const struct reader *reader, const struct cof_yaml_node *parent, const char *key,
                           struct provider_texts *ret_texts)
{
    const struct cof_yaml_node *node = cof_yaml_field(parent, key);
    size_t count = 0;
    if (node == NULL) {
        return COF_OK;
    }
    if (node->kind != COF_YAML_LIST) {
        return refuse(reader, node, "a list is wanted here");
    }
    const char **items = cof_arena_array(reader->arena, count_of(node), sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (const struct cof_yaml_node *item = node->first; item != NULL; item = item->next) {
        TRY(read_text(reader, item, &items[count++]));
    }
    *ret_texts = (struct provider_texts){items, count};
    return COF_OK;
}

static cof_code read_pairs(const struct reader *reader, const struct cof_yaml_node *parent, const char *key,
                           struct provider_pairs *ret_pairs)
{
    const struct cof_yaml_node *node = cof_yaml_field(parent, key);
    size_t count = 0;
    if (node == NULL) {
        return COF_OK;
    }
    if (node->kind != COF_YAML_MAPPING) {
        return refuse(reader, node, "names with their values are wanted here");
    }
    struct provider_pair *pairs = cof_arena_array(reader->arena, count_of(node), sizeof *pairs);
    if (pairs == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (const struct cof_yaml_node *item = node->first; item != NULL; item = item->next) {
        pairs[count].name = (const char *) item->key.data;
        TRY(read_text(reader, item, &pairs[count++].value));
    }
    *ret_pairs = (struct provider_pairs){pairs, count};
    return COF_OK;
}

static cof_code read_bool(const struct reader *reader, const struct cof_yaml_node *parent, const char *key,
                          bool *ret_value)
{
    return cof_yaml_field(parent, key) == NULL ? COF_OK : cof_yaml_bool_field(parent, key, ret_value, reader->err);
}

struct choice {
    const char *word;
    unsigned value;
};

static cof_code read_choice(const struct reader *reader, const struct cof_yaml_node *node,
                            const struct choice *choices, size_t count, unsigned *ret_value)
{
    for (size_t i = 0; i < count; i++) {
        if (cof_yaml_is_text(node, choices[i].word)) {
            *ret_value = choices[i].value;
            return COF_OK;
        }
    }
    return refuse(reader, node, "this is none of the words that may stand here; see docs/reference/providers.md");
}

/* A number and its unit: 90d. */
static cof_code read_life(const struct reader *reader, const struct cof_yaml_node *parent, const char *key,
                          uint32_t *ret_s)
{
    static const struct choice units[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
    const struct cof_yaml_node *node = cof_yaml_field(parent, key);
    const char *text = NULL;
    char *end = NULL;
    if (node == NULL) {
        return COF_OK;
    }
    TRY(read_text(reader, node, &text));
    assert(text != NULL);
    errno = 0;
    const unsigned long amount = isdigit((unsigned char) text[0]) ? strtoul(text, &end, 10) : 0;
    for (size_t i = 0; i < COF_COUNT(units) && errno == 0 && amount > 0; i++) {
        if (strcmp(end, units[i].word) == 0 && amount <= LIFE_MAX_S / units[i].value) {
            *ret_s = (uint32_t) amount * units[i].value;
            return COF_OK;
        }
    }
    return refuse(reader, node, "a time is wanted here, such as 30s, 10min, 8h or 90d");
}

/* --- Parts of an entry ---------------------------------------------------------------------------------------- */

static cof_code read_parameter(const struct reader *reader, const struct cof_yaml_node *node)
{
    static const char *const fields[] = {"name", "form", "value", "help"};
    static const struct choice forms[] = {
        {"label", PROVIDER_FORM_LABEL}, {"host", PROVIDER_FORM_HOST}, {"segment", PROVIDER_FORM_SEGMENT}};
    struct provider *provider = reader->provider;
    struct provider_parameter parameter = {.name = "", .value = "", .help = ""};
    const struct cof_yaml_node *found = NULL;
    unsigned form = 0;
    TRY(cof_yaml_check_fields(node, "a parameter", fields, COF_COUNT(fields), reader->err));
    if (provider->parameter_count == PROVIDER_PARAMETERS_MAX) {
        return cof_yaml_refuse(reader->err, node->place, "parameters: at most %d", PROVIDER_PARAMETERS_MAX);
    }
    TRY(cof_yaml_text_field(node, "name", &found, reader->err));
    TRY(read_text(reader, found, &parameter.name));
    TRY(cof_yaml_text_field(node, "form", &found, reader->err));
    TRY(read_choice(reader, found, forms, COF_COUNT(forms), &form));
    parameter.form = (provider_parameter_form) form;
    TRY(read_optional(reader, node, "value", &parameter.value));
    TRY(read_optional(reader, node, "help", &parameter.help));
    provider->parameters[provider->parameter_count++] = parameter;
    return COF_OK;
}

static cof_code read_parameters(const struct reader *reader, const struct cof_yaml_node *entry)
{
    const struct cof_yaml_node *item = NULL;
    size_t count = 0;
    TRY(cof_yaml_list_field(entry, "parameters", &count, &item, reader->err));
    for (; item != NULL; item = item->next) {
        TRY(read_parameter(reader, item));
    }
    return COF_OK;
}

static cof_code read_side(const struct reader *reader, const struct cof_yaml_node *entry, const char *key,
                          struct provider_side *side)
{
    static const char *const fields[] = {"scopes", "scope_parameter", "token_member", "token", "jwt_bearer"};
    const struct cof_yaml_node *node = cof_yaml_field(entry, key);
    const bool service = side == &reader->provider->sides[PROVIDER_SERVICE];
    if (node == NULL) {
        return COF_OK;
    }
    TRY(cof_yaml_check_fields(node, key, fields, COF_COUNT(fields) - (service ? 0 : 1), reader->err));
    side->offered = true;
    TRY(read_texts(reader, node, "scopes", &side->scopes));
    TRY(read_optional(reader, node, "scope_parameter", &side->scope_parameter));
    TRY(read_optional(reader, node, "token_member", &side->token_member));
    TRY(read_pairs(reader, node, "token", &side->token_extras));
    return read_bool(reader, node, "jwt_bearer", &side->jwt_bearer);
}

static cof_code read_client(const struct reader *reader, const struct cof_yaml_node *entry)
{
    static const struct choice auths[] = {{"client_secret_basic", PROVIDER_AUTH_BASIC},
                                          {"client_secret_post", PROVIDER_AUTH_POST},
                                          {"none", PROVIDER_AUTH_NONE},
                                          {"private_key_jwt", PROVIDER_AUTH_PRIVATE_KEY_JWT}};
    struct provider *provider = reader->provider;
    const struct cof_yaml_node *item = NULL;
    size_t count = 0;
    TRY(cof_yaml_list_field(entry, "client_authentication", &count, &item, reader->err));
    if (cof_yaml_field(entry, "client_authentication") == NULL) {
        return COF_OK;
    }
    provider->client_auths = 0;
    for (; item != NULL; item = item->next) {
        unsigned auth = 0;
        TRY(read_choice(reader, item, auths, COF_COUNT(auths), &auth));
        if ((provider->client_auths & auth) != 0) {
            return refuse(reader, item, "it stands there twice");
        }
        if (provider->client_auths == 0) {
            provider->client_auth = (provider_client_auth) auth;
        }
        provider->client_auths |= auth;
    }
    return COF_OK;
}

static cof_code read_tokens(const struct reader *reader, const struct cof_yaml_node *entry)
{
    static const char *const fields[] = {"life", "refresh", "refresh_life", "refresh_grace",
                                         "refresh_ends_old_access"};
    static const struct choice ways[] = {{"keeps", 0}, {"rotates", 1}, {"rotates_strictly", 2}};
    struct provider *provider = reader->provider;
    const struct cof_yaml_node *node = cof_yaml_field(entry, "tokens");
    unsigned way = 0;
    if (node == NULL) {
        return COF_OK;
    }
    TRY(cof_yaml_check_fields(node, "tokens", fields, COF_COUNT(fields), reader->err));
    provider->token_never_expires = cof_yaml_is_text(cof_yaml_field(node, "life"), "never");
    if (!provider->token_never_expires) {
        TRY(read_life(reader, node, "life", &provider->token_life_s));
    }
    if (cof_yaml_field(node, "refresh") != NULL) {
        TRY(read_choice(reader, cof_yaml_field(node, "refresh"), ways, COF_COUNT(ways), &way));
    }
    provider->refresh_rotates = way > 0;
    provider->refresh_rotates_strictly = way > 1;
    TRY(read_life(reader, node, "refresh_life", &provider->refresh_life_s));
    TRY(read_life(reader, node, "refresh_grace", &provider->refresh_grace_s));
    return read_bool(reader, node, "refresh_ends_old_access", &provider->refresh_ends_old_access);
}

static cof_code read_audience(const struct reader *reader, const struct cof_yaml_node *entry)
{
    static const struct choice audiences[] = {{"token_endpoint", 0}, {"issuer", 1}};
    const struct cof_yaml_node *node = cof_yaml_field(entry, "assertion_audience");
    unsigned issuer = 0;
    if (node != NULL) {
        TRY(read_choice(reader, node, audiences, COF_COUNT(audiences), &issuer));
    }
    reader->provider->assertion_audience_issuer = issuer == 1;
    return COF_OK;
}

static cof_code read_flags(const struct reader *reader, const struct cof_yaml_node *entry)
{
    struct provider *provider = reader->provider;
    bool pkce = true;
    TRY(read_bool(reader, entry, "pkce", &pkce));
    provider->pkce = pkce ? PROVIDER_PKCE_USED : PROVIDER_PKCE_REFUSED;
    TRY(read_bool(reader, entry, "discovery", &provider->discovery));
    TRY(read_bool(reader, entry, "sends_issuer", &provider->sends_issuer));
    return read_bool(reader, entry, "accept_json", &provider->accept_json);
}

/* --- The file ------------------------------------------------------------------------------------------------- */

static const char *const entry_fields[] = {
#define URL(field) #field,
#include "server/providers/provider_url.def"
#undef URL
    "id",
    "name",
    "documentation",
    "discovery",
    "parameters",
    "scope_separator",
    "user",
    "service",
    "pkce",
    "sends_issuer",
    "authorize",
    "client_authentication",
    "accept_json",
    "assertion_audience",
    "tokens",
    "replaces",
};

static cof_code read_urls(const struct reader *reader, const struct cof_yaml_node *entry)
{
    struct provider *provider = reader->provider;
#define URL(field) TRY(read_optional(reader, entry, #field, &provider->field));
#include "server/providers/provider_url.def"
#undef URL
    return read_optional(reader, entry, "documentation", &provider->documentation);
}

static cof_code read_fields(const struct reader *reader, const struct cof_yaml_node *entry)
{
    struct provider *provider = reader->provider;
    const struct cof_yaml_node *found = NULL;
    TRY(cof_yaml_text_field(entry, "id", &found, reader->err));
    TRY(read_text(reader, found, &provider->id));
    TRY(cof_yaml_text_field(entry, "name", &found, reader->err));
    TRY(read_text(reader, found, &provider->name));
    TRY(read_urls(reader, entry));
    TRY(read_parameters(reader, entry));
    TRY(read_optional(reader, entry, "scope_separator", &provider->scope_separator));
    TRY(read_side(reader, entry, "user", &provider->sides[PROVIDER_USER]));
    TRY(read_side(reader, entry, "service", &provider->sides[PROVIDER_SERVICE]));
    TRY(read_pairs(reader, entry, "authorize", &provider->authorize_extras));
    TRY(read_client(reader, entry));
    TRY(read_audience(reader, entry));
    TRY(read_tokens(reader, entry));
    return read_flags(reader, entry);
}

static cof_code read_entry(struct reader *reader, const struct cof_yaml_node *node, struct provider_entry *entry)
{
    struct cof_error problem = {0};
    *entry = (struct provider_entry){.provider = provider_defaults, .line = node->place.line};
    reader->provider = &entry->provider;
    TRY(cof_yaml_check_fields(node, "a provider", entry_fields, COF_COUNT(entry_fields), reader->err));
    TRY(read_fields(reader, node));
    TRY(read_bool(reader, node, "replaces", &entry->replaces));
    if (strncmp(entry->provider.id, "custom_", strlen("custom_")) == 0) {
        return cof_yaml_refuse(reader->err, node->place, "id: custom_ is for providers of workspaces");
    }
    return provider_check(&entry->provider, &problem) == COF_OK
               ? COF_OK
               : cof_yaml_refuse(reader->err, node->place, "%s", problem.message);
}

static cof_code check_twice(const struct reader *reader, const struct provider_entries *entries,
                            struct cof_place place)
{
    const char *id = entries->items[entries->count].provider.id;
    for (size_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->items[i].provider.id, id) == 0) {
            return cof_yaml_refuse(reader->err, place, "%s stands in line %u already", id, entries->items[i].line);
        }
    }
    return COF_OK;
}

static cof_code read_entries(struct reader *reader, const struct cof_yaml_node *root,
                             struct provider_entries *ret_entries)
{
    static const char *const fields[] = {"providers"};
    const struct cof_yaml_node *item = NULL;
    struct provider_entries entries = {0};
    size_t count = 0;
    if (root == NULL) {
        return cof_yaml_refuse(reader->err, COF_PLACE_START, "the file is empty; it has a list, providers");
    }
    TRY(cof_yaml_check_fields(root, "the file", fields, COF_COUNT(fields), reader->err));
    TRY(cof_yaml_list_field(root, "providers", &count, &item, reader->err));
    entries.items = cof_arena_array(reader->arena, count, sizeof *entries.items);
    if (entries.items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        TRY(read_entry(reader, item, &entries.items[entries.count]));
        TRY(check_twice(reader, &entries, item->place));
        entries.count++;
    }
    *ret_entries = entries;
    return COF_OK;
}

cof_code provider_file_read(struct cof_slice file, struct cof_arena *arena, struct provider_entries *ret_entries,
                            struct cof_error *err)
{
    struct reader reader = {.arena = arena, .err = err};
    const struct cof_yaml_node *root = NULL;
    if (file.len > PROVIDER_FILE_MAX) {
        return cof_fail(err, COF_REASON_FILE_INVALID, "the file has %zu bytes; at most %d are read", file.len,
                        PROVIDER_FILE_MAX);
    }
    TRY(cof_yaml_tree_read(file, arena, &root, err));
    return read_entries(&reader, root, ret_entries);
}
