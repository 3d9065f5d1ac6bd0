#include "server/service/resolve_asked.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "server/service/action_row.h"
#include "server/service/resolve_need.h"

enum { REFERENCE_LEAST = sizeof "SECRETS.a.K" - 1 };

cof_code asked_too_many(struct call *call, const char *field, const char *what, uint64_t count, uint32_t limit)
{
    return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, field,
                          "%s: %" PRIu64 " %s, at most %u are allowed; "
                          "split the request",
                          field, count, what, limit);
}

static size_t declared_count(const Coffer__V1__SecretDeclaration *declaration)
{
    const size_t keys = declaration->n_keys + declaration->n_optional_keys;
    return keys == 0 ? 1 : keys;
}

size_t asked_least(const Coffer__V1__ResolveItem *item)
{
    size_t count = item->n_references + item->n_expressions + item->n_oauth_declarations;
    for (size_t i = 0; i < item->n_declarations; i++) {
        count += declared_count(item->declarations[i]);
    }
    return count;
}

/* --- The list ------------------------------------------------------------------------------------------------- */

/* An item that is being read. */
struct reading {
    struct call *call;
    const Coffer__V1__ResolveItem *item;
    size_t index;
    const Coffer__V1__ActionDeclarations *needs; /* of its action */
    struct asked *asked;
    size_t room;
};

static cof_code append(struct reading *reading, char *name, char *key)
{
    struct call *call = reading->call;
    struct asked *asked = reading->asked;
    const uint32_t limit = call->service->limits.references_per_item;
    if (asked->count == limit) {
        char field[COF_ERROR_FIELD_SIZE];
        (void) snprintf(field, sizeof field, "items[%zu].%s", reading->index,
                        reading->item->action[0] == '\0' ? "expressions" : "action");
        return asked_too_many(call, field, "references or more", (uint64_t) limit + 1, limit);
    }
    assert(asked->count < reading->room);
    Coffer__V1__SecretReference *reference = cof_arena_alloc(call->arena, sizeof *reference);
    if (reference == NULL || name == NULL || key == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret_reference__init(reference);
    reference->name = name;
    reference->key = key;
    asked->references[asked->count++] = reference;
    return COF_OK;
}

/* No expression has more references than fit into it, and a wrong one has one entry. */
static size_t room_for(const struct reading *reading, size_t limit)
{
    const Coffer__V1__ResolveItem *item = reading->item;
    size_t room = asked_least(item) + reading->needs->n_oauth;
    for (size_t i = 0; i < item->n_expressions && room < limit; i++) {
        room += strlen(item->expressions[i]) / REFERENCE_LEAST;
    }
    for (size_t i = 0; i < reading->needs->n_secrets && room < limit; i++) {
        room += declared_count(reading->needs->secrets[i]);
    }
    return room < limit ? room : limit;
}

static cof_code begin(struct reading *reading)
{
    struct call *call = reading->call;
    struct asked *asked = reading->asked;
    const Coffer__V1__ResolveItem *item = reading->item;
    const size_t declarations = item->n_declarations + reading->needs->n_secrets;
    const size_t tokens = item->n_oauth_declarations + reading->needs->n_oauth;
    reading->room = room_for(reading, call->service->limits.references_per_item);
    asked->references = cof_arena_array(call->arena, reading->room, sizeof(Coffer__V1__SecretReference *));
    asked->declarations = cof_arena_array(call->arena, declarations, sizeof *asked->declarations);
    asked->tokens = cof_arena_array(call->arena, tokens, sizeof *asked->tokens);
    asked->expressions = cof_arena_array(call->arena, item->n_expressions, sizeof *asked->expressions);
    if (asked->references == NULL || asked->declarations == NULL || asked->tokens == NULL ||
        asked->expressions == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (item->n_references > 0) {
        memcpy(asked->references, item->references, item->n_references * sizeof *asked->references);
    }
    asked->count = item->n_references;
    return COF_OK;
}

/* --- Declarations --------------------------------------------------------------------------------------------- */

static cof_code append_keys(struct reading *reading, char *name, char **keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        TRY(append(reading, name, keys[i]));
    }
    return COF_OK;
}

static cof_code append_declaration(struct reading *reading, const Coffer__V1__SecretDeclaration *declaration)
{
    struct asked *asked = reading->asked;
    asked->declarations[asked->declaration_count++] =
        (struct asked_declaration){declaration, asked->count, declared_count(declaration)};
    if (declaration->n_keys + declaration->n_optional_keys == 0) {
        return append(reading, declaration->name, cof_arena_text(reading->call->arena, cof_slice_text("")));
    }
    TRY(append_keys(reading, declaration->name, declaration->keys, declaration->n_keys));
    return append_keys(reading, declaration->name, declaration->optional_keys, declaration->n_optional_keys);
}

static cof_code append_token(struct reading *reading, const Coffer__V1__OAuthDeclaration *declaration)
{
    struct cof_arena *arena = reading->call->arena;
    struct asked *asked = reading->asked;
    asked->tokens[asked->token_count++] = (struct asked_token){declaration, asked->count};
    return append(reading, action_oauth_name(arena, declaration), action_oauth_key(arena, declaration));
}

static cof_code append_declared(struct reading *reading, Coffer__V1__SecretDeclaration *const *secrets,
                                size_t count, Coffer__V1__OAuthDeclaration *const *tokens, size_t token_count)
{
    for (size_t i = 0; i < count; i++) {
        TRY(append_declaration(reading, secrets[i]));
    }
    for (size_t i = 0; i < token_count; i++) {
        TRY(append_token(reading, tokens[i]));
    }
    return COF_OK;
}

/* --- Expressions ---------------------------------------------------------------------------------------------- */

static cof_code refuse(struct reading *reading, struct asked_expression *expression, const char *problem)
{
    struct cof_arena *arena = reading->call->arena;
    const size_t number = (size_t) (expression - reading->asked->expressions);
    expression->problem = cof_arena_format(arena, "expressions[%zu]: %s", number, problem);
    expression->count = 1;
    if (expression->problem == NULL) {
        return cof_arena_exhausted(reading->call->err);
    }
    return append(reading, cof_arena_text(arena, cof_slice_text("")), cof_arena_text(arena, cof_slice_text("")));
}

/* Whether an operand can decide the value: it is looked up, or it is what is left. */
static bool decides(const struct cof_operand *operand)
{
    return operand->kind == COF_OPERAND_REFERENCE || operand->literal.len > 0 || operand->last;
}

static bool ends(const struct cof_operand *operand)
{
    return operand->last || (operand->kind == COF_OPERAND_LITERAL && operand->literal.len > 0);
}

static cof_code keep_operands(struct reading *reading, struct asked_expression *expression)
{
    struct cof_operand_scan scan;
    struct cof_operand operand;
    bool open = expression->template.evaluated;
    /* A literal at the end is one more than there are references. */
    expression->operands =
        cof_arena_array(reading->call->arena, expression->count + 1, sizeof *expression->operands);
    if (expression->operands == NULL) {
        return cof_arena_exhausted(reading->call->err);
    }
    cof_operand_scan_init(&scan, &expression->template);
    while (open && cof_operand_next(&scan, &operand)) {
        if (decides(&operand)) {
            expression->operands[expression->operand_count++] = operand;
        }
        open = !ends(&operand);
    }
    return COF_OK;
}

static cof_code append_operands(struct reading *reading, struct asked_expression *expression)
{
    struct cof_arena *arena = reading->call->arena;
    struct cof_operand_scan scan;
    struct cof_operand operand;
    cof_operand_scan_init(&scan, &expression->template);
    while (cof_operand_next(&scan, &operand)) {
        if (operand.kind == COF_OPERAND_REFERENCE) {
            TRY(append(reading, cof_arena_text(arena, operand.name), cof_arena_text(arena, operand.key)));
            expression->count++;
        }
    }
    return keep_operands(reading, expression);
}

static cof_code append_expression(struct reading *reading, const char *written)
{
    struct asked *asked = reading->asked;
    struct asked_expression *expression = &asked->expressions[asked->expression_count++];
    struct cof_error problem;
    bool found;
    *expression = (struct asked_expression){.first = asked->count};
    cof_error_clear(&problem);
    if (cof_template_read(cof_slice_text(written), &expression->template, &found, &problem) != COF_OK) {
        return refuse(reading, expression, problem.message);
    }
    return found ? append_operands(reading, expression) : COF_OK;
}

/* --- An item -------------------------------------------------------------------------------------------------- */

static bool references_only(const Coffer__V1__ResolveItem *item, const Coffer__V1__ActionDeclarations *needs)
{
    return item->n_declarations + item->n_oauth_declarations + item->n_expressions == 0 && needs == NULL;
}

cof_code asked_read(struct call *call, const Coffer__V1__ResolveItem *item, size_t index,
                    const Coffer__V1__ActionDeclarations *needs, struct asked *ret_asked)
{
    static const Coffer__V1__ActionDeclarations none = COFFER__V1__ACTION_DECLARATIONS__INIT;
    *ret_asked = (struct asked){
        .references = item->references,
        .count = item->n_references,
        .before_expressions = item->n_references,
        .behind_expressions = item->n_references,
    };
    if (references_only(item, needs)) {
        return COF_OK;
    }
    struct reading reading = {
        .call = call, .item = item, .index = index, .needs = needs == NULL ? &none : needs, .asked = ret_asked};
    TRY(begin(&reading));
    TRY(append_declared(&reading, item->declarations, item->n_declarations, item->oauth_declarations,
                        item->n_oauth_declarations));
    ret_asked->before_expressions = ret_asked->count;
    for (size_t i = 0; i < item->n_expressions; i++) {
        TRY(append_expression(&reading, item->expressions[i]));
    }
    ret_asked->behind_expressions = ret_asked->count;
    TRY(append_declared(&reading, reading.needs->secrets, reading.needs->n_secrets, reading.needs->oauth,
                        reading.needs->n_oauth));
    return need_read(call, ret_asked);
}
