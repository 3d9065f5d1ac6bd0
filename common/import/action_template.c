#include "common/import/action_template.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/name.h"
#include "common/yaml_tree.h"

struct reader {
    struct cof_arena *arena;
    struct cof_error *err;
    const struct cof_yaml_node *root;
    struct cof_action_template *template;
};

static cof_code refuse(const struct reader *reader, struct cof_place place, const char *problem)
{
    return cof_yaml_refuse(reader->err, place, "%s", problem);
}

static cof_code refuse_field(const struct reader *reader, const struct cof_yaml_node *node, const char *key,
                             const char *problem)
{
    return cof_yaml_refuse(reader->err, node->place, "%s %s", key, problem);
}

static cof_code check_name(const struct reader *reader, cof_name_kind kind, const struct cof_yaml_node *node,
                           struct cof_slice name, const char *what)
{
    struct cof_error problem = {0};
    return cof_name_check(kind, name, what, &problem) == COF_OK ? COF_OK
                                                                : refuse(reader, node->place, problem.message);
}

static cof_code read_names(const struct reader *reader, const struct cof_yaml_node *node, const char *key,
                           struct cof_action_texts *ret_names)
{
    size_t count;
    const struct cof_yaml_node *item;
    TRY(cof_yaml_list_field(node, key, &count, &item, reader->err));
    ret_names->items = cof_arena_array(reader->arena, count, sizeof *ret_names->items);
    if (ret_names->items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        if (item->kind != COF_YAML_TEXT) {
            return refuse_field(reader, item, key, "holds something else than texts");
        }
        TRY(check_name(reader, COF_NAME_KEY, item, item->text, key));
        ret_names->items[ret_names->count++] = item->text;
    }
    return COF_OK;
}

/* --- Declarations --------------------------------------------------------------------------------------------- */

static cof_code read_secret(const struct reader *reader, const struct cof_yaml_node *node)
{
    static const char *const types[] = {"custom", "ssh_key", "mtls", "ca_cert", "github_app"};
    const struct cof_yaml_node *name;
    const struct cof_yaml_node *type = cof_yaml_field(node, "type");
    struct cof_action_secret secret = {.optional = false};
    bool known = cof_yaml_is_null(type);
    TRY(cof_yaml_text_field(node, "name", &name, reader->err));
    TRY(check_name(reader, COF_NAME_SECRET, name, name->text, "name"));
    if (cof_name_reserved(name->text)) {
        return refuse(reader, name->place,
                      "a secret whose name ends in _oauth must be declared as OAuth: type: oauth, provider_id and "
                      "grant_type");
    }
    for (size_t i = 0; i < COF_COUNT(types) && !known; i++) {
        known = cof_yaml_is_text(type, types[i]);
    }
    if (!known) {
        return refuse(reader, type->place, "type is none of custom, ssh_key, mtls, ca_cert, github_app and oauth");
    }
    secret.name = name->text;
    secret.type = cof_yaml_is_null(type) ? cof_slice_of(NULL, 0) : type->text;
    TRY(read_names(reader, node, "keys", &secret.keys));
    TRY(read_names(reader, node, "optional_keys", &secret.optional_keys));
    TRY(cof_yaml_bool_field(node, "optional", &secret.optional, reader->err));
    reader->template->secrets[reader->template->secret_count++] = secret;
    return COF_OK;
}

static cof_code read_oauth(const struct reader *reader, const struct cof_yaml_node *node)
{
    const struct cof_yaml_node *provider;
    const struct cof_yaml_node *grant;
    struct cof_action_oauth oauth = {.optional = false};
    TRY(cof_yaml_text_field(node, "provider_id", &provider, reader->err));
    TRY(check_name(reader, COF_NAME_SECRET, provider, provider->text, "provider_id"));
    TRY(cof_yaml_text_field(node, "grant_type", &grant, reader->err));
    oauth.provider = provider->text;
    oauth.service = cof_yaml_is_text(grant, "client_credentials");
    if (!oauth.service && !cof_yaml_is_text(grant, "authorization_code")) {
        return refuse(reader, grant->place, "grant_type is neither authorization_code nor client_credentials");
    }
    TRY(cof_yaml_bool_field(node, "optional", &oauth.optional, reader->err));
    reader->template->oauth[reader->template->oauth_count++] = oauth;
    return COF_OK;
}

static cof_code read_declarations(const struct reader *reader, const struct cof_yaml_node *definition)
{
    size_t count;
    const struct cof_yaml_node *item;
    struct cof_action_template *template = reader->template;
    TRY(cof_yaml_list_field(definition, "secrets", &count, &item, reader->err));
    template->secrets = cof_arena_array(reader->arena, count, sizeof *template->secrets);
    template->oauth = cof_arena_array(reader->arena, count, sizeof *template->oauth);
    if (template->secrets == NULL || template->oauth == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        if (item->kind != COF_YAML_MAPPING) {
            return refuse(reader, item->place, "a declaration that is no mapping");
        }
        TRY(cof_yaml_is_text(cof_yaml_field(item, "type"), "oauth") ? read_oauth(reader, item)
                                                                    : read_secret(reader, item));
    }
    return COF_OK;
}

/* --- Expressions ---------------------------------------------------------------------------------------------- */

static bool among(const struct cof_action_texts *texts, struct cof_slice text)
{
    for (size_t i = 0; i < texts->count; i++) {
        if (cof_slice_equal(texts->items[i], text)) {
            return true;
        }
    }
    return false;
}

static bool upper_equal(struct cof_slice provider, struct cof_slice key, const char *end)
{
    bool same = key.len == provider.len + strlen(end) && memcmp(key.data + provider.len, end, strlen(end)) == 0;
    for (size_t i = 0; same && i < provider.len; i++) {
        const uint8_t c = provider.data[i];
        same = key.data[i] == (c >= 'a' && c <= 'z' ? (uint8_t) (c - 'a' + 'A') : c);
    }
    return same;
}

static bool is_token(const struct cof_action_oauth *oauth, const struct cof_operand *reference)
{
    const struct cof_slice name = reference->name;
    return name.len == oauth->provider.len + strlen("_oauth") && cof_name_reserved(name) &&
           cof_slice_starts_with(name, oauth->provider) &&
           upper_equal(oauth->provider, reference->key, oauth->service ? "_SERVICE_TOKEN" : "_USER_TOKEN");
}

static bool is_declared(const struct cof_action_template *template, const struct cof_operand *reference)
{
    for (size_t i = 0; i < template->secret_count; i++) {
        const struct cof_action_secret *secret = &template->secrets[i];
        if (cof_slice_equal(secret->name, reference->name) &&
            (among(&secret->keys, reference->key) || among(&secret->optional_keys, reference->key))) {
            return true;
        }
    }
    for (size_t i = 0; i < template->oauth_count; i++) {
        if (is_token(&template->oauth[i], reference)) {
            return true;
        }
    }
    return false;
}

enum { UNDECLARED_MAX = 100 };

static cof_code note_undeclared(const struct reader *reader, const struct cof_operand *reference)
{
    struct cof_action_texts *undeclared = &reader->template->undeclared;
    if (is_declared(reader->template, reference) || undeclared->count == UNDECLARED_MAX) {
        return COF_OK;
    }
    const char *text =
        cof_arena_format(reader->arena, "%.*s.%.*s", (int) reference->name.len, (const char *) reference->name.data,
                         (int) reference->key.len, (const char *) reference->key.data);
    if (text == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    if (!among(undeclared, cof_slice_text(text))) {
        undeclared->items[undeclared->count++] = cof_slice_text(text);
    }
    return COF_OK;
}

static cof_code read_template(const struct reader *reader, const struct cof_template *template)
{
    struct cof_operand_scan scan;
    struct cof_operand operand;
    cof_operand_scan_init(&scan, template);
    while (cof_operand_next(&scan, &operand)) {
        if (operand.kind == COF_OPERAND_REFERENCE) {
            TRY(note_undeclared(reader, &operand));
        }
    }
    return COF_OK;
}

static cof_code read_text(const struct reader *reader, const struct cof_yaml_node *node)
{
    struct cof_template_scan scan;
    struct cof_template template;
    struct cof_error problem = {0};
    bool found = true;
    cof_template_scan_init(&scan, node->text);
    while (found) {
        if (cof_template_next(&scan, &template, &found, &problem) != COF_OK) {
            return refuse(reader, node->place, problem.message);
        }
        if (found) {
            TRY(read_template(reader, &template));
        }
    }
    return COF_OK;
}

/* The next node on a walk through all that `root` holds. */
static const struct cof_yaml_node *behind(const struct cof_yaml_node *node, const struct cof_yaml_node *root)
{
    if (node->first != NULL) {
        return node->first;
    }
    while (node != root && node->next == NULL) {
        node = node->above;
    }
    return node == root ? NULL : node->next;
}

static cof_code read_expressions(const struct reader *reader, const struct cof_yaml_node *root)
{
    for (const struct cof_yaml_node *node = root; node != NULL; node = behind(node, root)) {
        if (node->kind == COF_YAML_TEXT) {
            TRY(read_text(reader, node));
        }
    }
    return COF_OK;
}

/* --- The template --------------------------------------------------------------------------------------------- */

static cof_code read_steps(const struct reader *reader, const struct cof_yaml_node *definition)
{
    size_t count;
    const struct cof_yaml_node *item;
    struct cof_action_texts *steps = &reader->template->steps;
    TRY(cof_yaml_list_field(definition, "steps", &count, &item, reader->err));
    steps->items = cof_arena_array(reader->arena, count, sizeof *steps->items);
    if (steps->items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        const struct cof_yaml_node *action = cof_yaml_field(item, "action");
        if (!cof_yaml_is_null(action)) {
            if (action->kind != COF_YAML_TEXT) {
                return refuse_field(reader, action, "action", "is no text");
            }
            TRY(check_name(reader, COF_NAME_ACTION, action, action->text, "action"));
            steps->items[steps->count++] = action->text;
        }
        TRY(read_expressions(reader, cof_yaml_field(item, "args")));
    }
    return COF_OK;
}

static cof_code read_name(const struct reader *reader, const struct cof_yaml_node *definition)
{
    const struct cof_yaml_node *space;
    const struct cof_yaml_node *name;
    TRY(cof_yaml_text_field(definition, "namespace", &space, reader->err));
    TRY(cof_yaml_text_field(definition, "name", &name, reader->err));
    const char *text =
        cof_arena_format(reader->arena, "%.*s.%.*s", (int) space->text.len, (const char *) space->text.data,
                         (int) name->text.len, (const char *) name->text.data);
    if (text == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    reader->template->name = cof_slice_text(text);
    return check_name(reader, COF_NAME_ACTION, name, reader->template->name, "namespace.name");
}

static cof_code read_action(const struct reader *reader, bool *ret_other)
{
    const struct cof_yaml_node *type = cof_yaml_field(reader->root, "type");
    const struct cof_yaml_node *definition = cof_yaml_field(reader->root, "definition");
    struct cof_action_texts *undeclared = &reader->template->undeclared;
    *ret_other = type != NULL && !cof_yaml_is_text(type, "action");
    if (*ret_other) {
        return COF_OK;
    }
    if (type == NULL || definition == NULL || definition->kind != COF_YAML_MAPPING) {
        return refuse(reader, reader->root == NULL ? COF_PLACE_START : reader->root->place,
                      "this is no template: it needs type: action, and a definition");
    }
    undeclared->items = cof_arena_array(reader->arena, UNDECLARED_MAX, sizeof *undeclared->items);
    if (undeclared->items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    TRY(read_name(reader, definition));
    TRY(read_declarations(reader, definition));
    TRY(read_steps(reader, definition));
    return read_expressions(reader, cof_yaml_field(definition, "returns"));
}

cof_code cof_action_template_read(struct cof_slice file, struct cof_arena *arena,
                                  struct cof_action_template *ret_template, bool *ret_other, struct cof_error *err)
{
    struct reader reader = {.arena = arena, .err = err, .template = ret_template};
    *ret_template = (struct cof_action_template){.secret_count = 0};
    if (file.len > COF_ACTION_FILE_MAX) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED, "the file has %zu bytes; a template has at most %d",
                        file.len, COF_ACTION_FILE_MAX);
    }
    TRY(cof_yaml_tree_read(file, arena, &reader.root, err));
    return read_action(&reader, ret_other);
}
