#include "common/import/action_template.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "common/import/source.h"
#include "common/name.h"

/* --- A document as a tree ------------------------------------------------------------------------------------- */

typedef enum node_kind { NODE_TEXT, NODE_MAPPING, NODE_LIST } node_kind;

struct node {
    node_kind kind;
    struct cof_slice key;  /* in a mapping */
    struct cof_slice text; /* of NODE_TEXT */
    bool plain;            /* without quotes, so it may be a number, true or null */
    struct cof_place place;
    struct node *first; /* what it holds */
    struct node *last;
    struct node *next; /* beside it */
    struct node *above;
};

struct reader {
    yaml_parser_t parser;
    struct cof_arena *arena;
    struct cof_error *err;
    struct node *root;
    struct node *open; /* the innermost one that has not ended */
    size_t depth;
    struct cof_slice key; /* of a mapping, whose value comes next */
    bool has_key;
    struct cof_action_template *template;
};

static struct cof_place place_of(yaml_mark_t mark)
{
    return (struct cof_place){mark.index, (uint32_t) mark.line + 1, (uint32_t) mark.column + 1};
}

static cof_code refuse(const struct reader *reader, struct cof_place place, const char *problem)
{
    return cof_import_refuse(reader->err, place, "%s", problem);
}

static cof_code check_key(const struct reader *reader, struct cof_place place)
{
    for (const struct node *node = reader->open->first; node != NULL; node = node->next) {
        if (cof_slice_equal(node->key, reader->key)) {
            return refuse(reader, place, "a key that stands twice; leave one of them");
        }
    }
    return COF_OK;
}

static cof_code add_node(struct reader *reader, node_kind kind, struct cof_place place, struct node **ret_node)
{
    struct node *node = cof_arena_alloc(reader->arena, sizeof *node);
    struct node *open = reader->open;
    if (node == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    *node = (struct node){.kind = kind, .place = place, .above = open};
    if (open == NULL) {
        if (reader->root != NULL) {
            return refuse(reader, place, "a second document; write one in a file");
        }
        reader->root = node;
    } else {
        if (open->kind == NODE_MAPPING) {
            TRY(check_key(reader, place));
            node->key = reader->key;
            reader->has_key = false;
        }
        *(open->last == NULL ? &open->first : &open->last->next) = node;
        open->last = node;
    }
    *ret_node = node;
    return COF_OK;
}

static bool wants_key(const struct reader *reader)
{
    return reader->open != NULL && reader->open->kind == NODE_MAPPING && !reader->has_key;
}

static cof_code keep_text(struct reader *reader, const yaml_event_t *event, struct cof_slice *ret_text)
{
    const char *copy =
        cof_arena_text(reader->arena, cof_slice_of(event->data.scalar.value, event->data.scalar.length));
    if (copy == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    *ret_text = cof_slice_of(copy, event->data.scalar.length);
    return COF_OK;
}

static cof_code take_scalar(struct reader *reader, const yaml_event_t *event)
{
    struct node *node = NULL;
    if (wants_key(reader)) {
        reader->has_key = true;
        return keep_text(reader, event, &reader->key);
    }
    TRY(add_node(reader, NODE_TEXT, place_of(event->start_mark), &node));
    assert(node != NULL);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return keep_text(reader, event, &node->text);
}

static cof_code begin(struct reader *reader, const yaml_event_t *event, node_kind kind)
{
    struct node *node = NULL;
    const struct cof_place place = place_of(event->start_mark);
    if (wants_key(reader)) {
        return refuse(reader, place, "a key that is no text");
    }
    if (++reader->depth > COF_ACTION_DEPTH_MAX) {
        return refuse(reader, place, "this is nested too deep");
    }
    TRY(add_node(reader, kind, place, &node));
    reader->open = node;
    return COF_OK;
}

static void end(struct reader *reader)
{
    reader->open = reader->open->above;
    reader->depth--;
}

static const char *anchor_of(const yaml_event_t *event)
{
    const yaml_char_t *anchor = event->type == YAML_SCALAR_EVENT           ? event->data.scalar.anchor
                                : event->type == YAML_MAPPING_START_EVENT  ? event->data.mapping_start.anchor
                                : event->type == YAML_SEQUENCE_START_EVENT ? event->data.sequence_start.anchor
                                                                           : NULL;
    return (const char *) anchor;
}

static cof_code take_event(struct reader *reader, const yaml_event_t *event)
{
    if (event->type == YAML_ALIAS_EVENT || anchor_of(event) != NULL) {
        return refuse(reader, place_of(event->start_mark), "an anchor or an alias; write out what is meant");
    }
    switch ((int) event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, event);
    case YAML_MAPPING_START_EVENT:
        return begin(reader, event, NODE_MAPPING);
    case YAML_SEQUENCE_START_EVENT:
        return begin(reader, event, NODE_LIST);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        end(reader);
        return COF_OK;
    default:
        return COF_OK;
    }
}

static cof_code refuse_syntax(const struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        return cof_arena_exhausted(reader->err);
    }
    return refuse(reader, place_of(parser->problem_mark),
                  parser->problem == NULL ? "this is not YAML" : parser->problem);
}

static cof_code read_tree(struct reader *reader)
{
    bool ended = false;
    while (!ended) {
        yaml_event_t event;
        if (yaml_parser_parse(&reader->parser, &event) != 1) {
            return refuse_syntax(reader);
        }
        ended = event.type == YAML_STREAM_END_EVENT;
        const cof_code code = take_event(reader, &event);
        yaml_event_delete(&event);
        TRY(code);
    }
    return COF_OK;
}

/* --- Fields --------------------------------------------------------------------------------------------------- */

static const struct node *field(const struct node *node, const char *key)
{
    const struct node *found = node == NULL || node->kind != NODE_MAPPING ? NULL : node->first;
    while (found != NULL && !cof_slice_equal(found->key, cof_slice_text(key))) {
        found = found->next;
    }
    return found;
}

static bool is_null(const struct node *node)
{
    return node == NULL || (node->kind == NODE_TEXT && node->plain &&
                            (node->text.len == 0 || cof_slice_equal(node->text, cof_slice_text("null")) ||
                             cof_slice_equal(node->text, cof_slice_text("~"))));
}

static bool is_text(const struct node *node, const char *text)
{
    return node != NULL && node->kind == NODE_TEXT && cof_slice_equal(node->text, cof_slice_text(text));
}

static cof_code refuse_field(const struct reader *reader, const struct node *node, const char *key,
                             const char *problem)
{
    return cof_import_refuse(reader->err, node->place, "%s %s", key, problem);
}

static cof_code text_field(const struct reader *reader, const struct node *node, const char *key,
                           const struct node **ret_found)
{
    *ret_found = field(node, key);
    if (is_null(*ret_found)) {
        return refuse_field(reader, node, key, "is missing");
    }
    return (*ret_found)->kind == NODE_TEXT ? COF_OK : refuse_field(reader, *ret_found, key, "is no text");
}

static cof_code bool_field(const struct reader *reader, const struct node *node, const char *key, bool *ret_value)
{
    const struct node *found = field(node, key);
    *ret_value = is_text(found, "true");
    return is_null(found) || *ret_value || is_text(found, "false")
               ? COF_OK
               : refuse_field(reader, found, key, "is neither true nor false");
}

/* What a list has to be; one that is missing is empty. */
static cof_code list_field(const struct reader *reader, const struct node *node, const char *key, size_t *ret_count,
                           const struct node **ret_first)
{
    const struct node *found = field(node, key);
    *ret_count = 0;
    *ret_first = NULL;
    if (is_null(found)) {
        return COF_OK;
    }
    if (found->kind != NODE_LIST) {
        return refuse_field(reader, found, key, "is no list");
    }
    *ret_first = found->first;
    for (const struct node *item = found->first; item != NULL; item = item->next) {
        (*ret_count)++;
    }
    return COF_OK;
}

static cof_code check_name(const struct reader *reader, cof_name_kind kind, const struct node *node,
                           struct cof_slice name, const char *what)
{
    struct cof_error problem = {0};
    return cof_name_check(kind, name, what, &problem) == COF_OK ? COF_OK
                                                                : refuse(reader, node->place, problem.message);
}

static cof_code read_names(const struct reader *reader, const struct node *node, const char *key,
                           struct cof_action_texts *ret_names)
{
    size_t count;
    const struct node *item;
    TRY(list_field(reader, node, key, &count, &item));
    ret_names->items = cof_arena_array(reader->arena, count, sizeof *ret_names->items);
    if (ret_names->items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        if (item->kind != NODE_TEXT) {
            return refuse_field(reader, item, key, "holds something else than texts");
        }
        TRY(check_name(reader, COF_NAME_KEY, item, item->text, key));
        ret_names->items[ret_names->count++] = item->text;
    }
    return COF_OK;
}

/* --- Declarations --------------------------------------------------------------------------------------------- */

static cof_code read_secret(const struct reader *reader, const struct node *node)
{
    static const char *const types[] = {"custom", "ssh_key", "mtls", "ca_cert", "github_app"};
    const struct node *name;
    const struct node *type = field(node, "type");
    struct cof_action_secret secret = {.optional = false};
    bool known = is_null(type);
    TRY(text_field(reader, node, "name", &name));
    TRY(check_name(reader, COF_NAME_SECRET, name, name->text, "name"));
    if (cof_name_reserved(name->text)) {
        return refuse(reader, name->place,
                      "a secret whose name ends in _oauth must be declared as OAuth: type: oauth, provider_id and "
                      "grant_type");
    }
    for (size_t i = 0; i < COF_COUNT(types) && !known; i++) {
        known = is_text(type, types[i]);
    }
    if (!known) {
        return refuse(reader, type->place, "type is none of custom, ssh_key, mtls, ca_cert, github_app and oauth");
    }
    secret.name = name->text;
    secret.type = is_null(type) ? cof_slice_of(NULL, 0) : type->text;
    TRY(read_names(reader, node, "keys", &secret.keys));
    TRY(read_names(reader, node, "optional_keys", &secret.optional_keys));
    TRY(bool_field(reader, node, "optional", &secret.optional));
    reader->template->secrets[reader->template->secret_count++] = secret;
    return COF_OK;
}

static cof_code read_oauth(const struct reader *reader, const struct node *node)
{
    const struct node *provider;
    const struct node *grant;
    struct cof_action_oauth oauth = {.optional = false};
    TRY(text_field(reader, node, "provider_id", &provider));
    TRY(check_name(reader, COF_NAME_SECRET, provider, provider->text, "provider_id"));
    TRY(text_field(reader, node, "grant_type", &grant));
    oauth.provider = provider->text;
    oauth.service = is_text(grant, "client_credentials");
    if (!oauth.service && !is_text(grant, "authorization_code")) {
        return refuse(reader, grant->place, "grant_type is neither authorization_code nor client_credentials");
    }
    TRY(bool_field(reader, node, "optional", &oauth.optional));
    reader->template->oauth[reader->template->oauth_count++] = oauth;
    return COF_OK;
}

static cof_code read_declarations(const struct reader *reader, const struct node *definition)
{
    size_t count;
    const struct node *item;
    struct cof_action_template *template = reader->template;
    TRY(list_field(reader, definition, "secrets", &count, &item));
    template->secrets = cof_arena_array(reader->arena, count, sizeof *template->secrets);
    template->oauth = cof_arena_array(reader->arena, count, sizeof *template->oauth);
    if (template->secrets == NULL || template->oauth == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        if (item->kind != NODE_MAPPING) {
            return refuse(reader, item->place, "a declaration that is no mapping");
        }
        TRY(is_text(field(item, "type"), "oauth") ? read_oauth(reader, item) : read_secret(reader, item));
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

static cof_code read_text(const struct reader *reader, const struct node *node)
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
static const struct node *behind(const struct node *node, const struct node *root)
{
    if (node->first != NULL) {
        return node->first;
    }
    while (node != root && node->next == NULL) {
        node = node->above;
    }
    return node == root ? NULL : node->next;
}

static cof_code read_expressions(const struct reader *reader, const struct node *root)
{
    for (const struct node *node = root; node != NULL; node = behind(node, root)) {
        if (node->kind == NODE_TEXT) {
            TRY(read_text(reader, node));
        }
    }
    return COF_OK;
}

/* --- The template --------------------------------------------------------------------------------------------- */

static cof_code read_steps(const struct reader *reader, const struct node *definition)
{
    size_t count;
    const struct node *item;
    struct cof_action_texts *steps = &reader->template->steps;
    TRY(list_field(reader, definition, "steps", &count, &item));
    steps->items = cof_arena_array(reader->arena, count, sizeof *steps->items);
    if (steps->items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (; item != NULL; item = item->next) {
        const struct node *action = field(item, "action");
        if (!is_null(action)) {
            if (action->kind != NODE_TEXT) {
                return refuse_field(reader, action, "action", "is no text");
            }
            TRY(check_name(reader, COF_NAME_ACTION, action, action->text, "action"));
            steps->items[steps->count++] = action->text;
        }
        TRY(read_expressions(reader, field(item, "args")));
    }
    return COF_OK;
}

static cof_code read_name(const struct reader *reader, const struct node *definition)
{
    const struct node *space;
    const struct node *name;
    TRY(text_field(reader, definition, "namespace", &space));
    TRY(text_field(reader, definition, "name", &name));
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
    const struct node *type = field(reader->root, "type");
    const struct node *definition = field(reader->root, "definition");
    struct cof_action_texts *undeclared = &reader->template->undeclared;
    *ret_other = type != NULL && !is_text(type, "action");
    if (*ret_other) {
        return COF_OK;
    }
    if (type == NULL || definition == NULL || definition->kind != NODE_MAPPING) {
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
    return read_expressions(reader, field(definition, "returns"));
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
    if (yaml_parser_initialize(&reader.parser) != 1) {
        return cof_arena_exhausted(err);
    }
    yaml_parser_set_input_string(&reader.parser, file.data, file.len);
    cof_code code = read_tree(&reader);
    if (code == COF_OK) {
        code = read_action(&reader, ret_other);
    }
    yaml_parser_delete(&reader.parser);
    return code;
}
