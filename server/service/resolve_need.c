#include "server/service/resolve_need.h"

#include <stdlib.h>

/* --- What is declared ----------------------------------------------------------------------------------------- */

/* What all declarations together say of a key, or with an empty key of a secret. */
struct declared {
    struct cof_slice name;
    struct cof_slice key;
    bool required;
    bool connection;
};

struct table {
    struct declared *items;
    size_t count;
};

static int by_name_and_key(const void *a, const void *b)
{
    const struct declared *left = a;
    const struct declared *right = b;
    const int order = cof_slice_compare(left->name, right->name);
    return order != 0 ? order : cof_slice_compare(left->key, right->key);
}

static void add(struct table *table, const char *name, const char *key, bool required)
{
    table->items[table->count++] = (struct declared){cof_slice_text(name), cof_slice_text(key), required, false};
}

static void add_token(struct table *table, const Coffer__V1__SecretReference *reference, bool required)
{
    table->items[table->count++] =
        (struct declared){cof_slice_text(reference->name), cof_slice_text(reference->key), required, true};
}

static void add_declaration(struct table *table, const Coffer__V1__SecretDeclaration *declaration)
{
    add(table, declaration->name, "", !declaration->optional);
    for (size_t i = 0; i < declaration->n_keys; i++) {
        add(table, declaration->name, declaration->keys[i], true);
    }
    for (size_t i = 0; i < declaration->n_optional_keys; i++) {
        add(table, declaration->name, declaration->optional_keys[i], false);
    }
}

/* Sorts, and makes one of those that are about the same thing. */
static void merge(struct table *table)
{
    size_t kept = 0;
    qsort(table->items, table->count, sizeof *table->items, by_name_and_key);
    for (size_t i = 0; i < table->count; i++) {
        if (kept > 0 && by_name_and_key(&table->items[kept - 1], &table->items[i]) == 0) {
            table->items[kept - 1].required |= table->items[i].required;
            table->items[kept - 1].connection |= table->items[i].connection;
        } else {
            table->items[kept++] = table->items[i];
        }
    }
    table->count = kept;
}

static const struct declared *find(const struct table *table, const char *name, const char *key)
{
    const struct declared wanted = {.name = cof_slice_text(name), .key = cof_slice_text(key)};
    return bsearch(&wanted, table->items, table->count, sizeof *table->items, by_name_and_key);
}

static uint8_t needs_of(const struct table *table, const Coffer__V1__SecretReference *reference)
{
    const struct declared *secret = find(table, reference->name, "");
    const struct declared *key = reference->key[0] == '\0' ? NULL : find(table, reference->name, reference->key);
    uint8_t needs = 0;
    if (secret != NULL && !secret->required) {
        needs |= NEED_SECRET_OPTIONAL;
    }
    if (key != NULL) {
        needs |= key->required ? NEED_KEY_FILLED : NEED_KEY_OPTIONAL;
        needs |= key->connection ? NEED_CONNECTION : 0;
    }
    return needs;
}

cof_code need_read(struct call *call, struct asked *asked)
{
    struct table table = {0};
    if (asked->declaration_count + asked->token_count == 0) {
        return COF_OK;
    }
    table.items = cof_arena_array(call->arena, asked->declaration_count + asked->count, sizeof *table.items);
    asked->needs = cof_arena_alloc(call->arena, asked->count);
    if (table.items == NULL || asked->needs == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < asked->declaration_count; i++) {
        add_declaration(&table, asked->declarations[i].declaration);
    }
    for (size_t i = 0; i < asked->token_count; i++) {
        add_token(&table, asked->references[asked->tokens[i].place], !asked->tokens[i].declaration->optional);
    }
    merge(&table);
    for (size_t i = 0; i < asked->count; i++) {
        asked->needs[i] = needs_of(&table, asked->references[i]);
    }
    for (size_t i = 0; i < asked->declaration_count; i++) {
        const Coffer__V1__SecretDeclaration *declaration = asked->declarations[i].declaration;
        if (declaration->n_keys + declaration->n_optional_keys == 0) {
            asked->needs[asked->declarations[i].first] |= NEED_SECRET_ONLY;
        }
    }
    return COF_OK;
}

/* --- What became of it ---------------------------------------------------------------------------------------- */

void need_apply(uint8_t needs, struct lookup *lookup)
{
    const bool absent =
        (lookup->outcome == OUTCOME(SECRET_NOT_FOUND) && (needs & NEED_SECRET_OPTIONAL) != 0) ||
        ((lookup->outcome == OUTCOME(KEY_NOT_FOUND) || lookup->outcome == OUTCOME(CONNECTION_NOT_FOUND)) &&
         (needs & NEED_KEY_OPTIONAL) != 0);
    if (absent) {
        lookup->outcome = OUTCOME(ABSENT);
    } else if (lookup->value != NULL && (needs & NEED_KEY_FILLED) != 0 && values_blank(lookup->value->bytes)) {
        lookup->outcome = OUTCOME(KEY_EMPTY);
        lookup->value = NULL;
    }
}

/* The secret of a declaration; NULL if there is none, or nothing may be told of it. */
static const struct found *secret_of(const struct lookup *lookups, const struct asked_declaration *place)
{
    for (size_t i = place->first; i < place->first + place->count; i++) {
        const struct found *found = lookups[i].found;
        if (found != NULL) {
            return found->state == OUTCOME(RESOLVED) ? found : NULL;
        }
    }
    return NULL;
}

static bool has_filled(const struct lookup *lookups, const struct asked_declaration *place)
{
    for (size_t i = place->first; i < place->first + place->count; i++) {
        const bool filled = lookups[i].value != NULL && !values_blank(lookups[i].value->bytes);
        if (filled || lookups[i].satisfied) {
            return true;
        }
    }
    return false;
}

/* What is wrong with the secret as a whole stands in the outcomes of all keys; one that is wrong by itself keeps
 * its own. */
static cof_code not_satisfied(struct call *call, const struct asked_declaration *place, struct lookup *lookups,
                              char *problem)
{
    if (problem == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = place->first; i < place->first + place->count; i++) {
        if (!outcome_is_fault(lookups[i].outcome)) {
            lookups[i].outcome = OUTCOME(DECLARATION_NOT_SATISFIED);
            lookups[i].value = NULL;
            lookups[i].problem = problem;
        }
    }
    return COF_OK;
}

static const char *type_name(int32_t type)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&coffer__v1__secret_type__descriptor, type);
    return value == NULL ? "one that this server does not know" : value->name;
}

static cof_code check_declaration(struct call *call, const struct asked_declaration *place,
                                  struct cof_slice environment, struct lookup *lookups)
{
    const Coffer__V1__SecretDeclaration *declaration = place->declaration;
    const struct found *found = secret_of(lookups, place);
    const int length = (int) environment.len;
    const char *where = (const char *) environment.data;
    if (found == NULL) {
        return COF_OK;
    }
    if (declaration->type != COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED &&
        (int32_t) declaration->type != found->row.type) {
        return not_satisfied(
            call, place, lookups,
            cof_arena_format(call->arena,
                             "the secret \"%s\" in the environment \"%.*s\" has the type %s, and %s is declared; "
                             "store it as a secret of that type",
                             declaration->name, length, where, type_name(found->row.type),
                             type_name((int32_t) declaration->type)));
    }
    if (declaration->optional || declaration->n_keys > 0 || declaration->n_optional_keys == 0 ||
        has_filled(lookups, place)) {
        return COF_OK;
    }
    return not_satisfied(
        call, place, lookups,
        cof_arena_format(call->arena,
                         "the secret \"%s\" in the environment \"%.*s\" has none of the %zu keys of which at least "
                         "one must be there and not blank, such as \"%s\"; store one of them",
                         declaration->name, length, where, declaration->n_optional_keys,
                         declaration->optional_keys[0]));
}

cof_code need_check(struct call *call, const struct asked *asked, struct cof_slice environment,
                    struct lookup *lookups)
{
    for (size_t i = 0; i < asked->declaration_count; i++) {
        TRY(check_declaration(call, &asked->declarations[i], environment, lookups));
    }
    return COF_OK;
}
