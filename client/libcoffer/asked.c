#include "client/libcoffer/asked.h"

#include <assert.h>
#include <stdlib.h>

#include "common/expression.h"

/* The lists are gone through twice: to learn how much there is, and to write it down. */
struct listing {
    bool writes;
    struct asked_name *names;
    struct asked_span *spans;
    uint8_t *text;
    size_t name_count;
    size_t span_count;
    size_t text_length;
};

static struct cof_slice keep(struct listing *listing, struct cof_slice text)
{
    uint8_t *copy = listing->writes ? listing->text + listing->text_length : NULL;
    listing->text_length += text.len;
    if (copy != NULL && text.len > 0) {
        memcpy(copy, text.data, text.len);
    }
    return cof_slice_of(copy, text.len);
}

static void add(struct listing *listing, struct cof_slice secret, struct cof_slice key)
{
    const struct asked_name name = {keep(listing, secret), keep(listing, key)};
    if (listing->writes) {
        listing->names[listing->name_count] = name;
    }
    listing->name_count++;
}

static void add_keys(struct listing *listing, const char *secret, char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        add(listing, cof_slice_text(secret), cof_slice_text(keys[i]));
    }
}

static void add_declaration(struct listing *listing, const Coffer__V1__SecretDeclaration *declaration)
{
    if (declaration->n_keys + declaration->n_optional_keys == 0) {
        add(listing, cof_slice_text(declaration->name), cof_slice_of(NULL, 0));
    }
    add_keys(listing, declaration->name, declaration->keys, declaration->n_keys);
    add_keys(listing, declaration->name, declaration->optional_keys, declaration->n_optional_keys);
}

static void add_expression(struct listing *listing, const char *expression)
{
    struct cof_template template;
    struct cof_operand_scan scan;
    struct cof_operand operand;
    struct cof_error flaw;
    bool found = false;
    if (cof_template_read(cof_slice_text(expression), &template, &found, &flaw) != COF_OK) {
        add(listing, cof_slice_of(NULL, 0), cof_slice_of(NULL, 0));
        return;
    }
    if (!found) {
        return;
    }
    cof_operand_scan_init(&scan, &template);
    while (cof_operand_next(&scan, &operand)) {
        if (operand.kind == COF_OPERAND_REFERENCE) {
            add(listing, operand.name, operand.key);
        }
    }
}

/* Ends the span that began with the entry `first`, counted over all items. */
static void end_span(struct listing *listing, size_t first, size_t of_item)
{
    if (listing->writes) {
        listing->spans[listing->span_count] = (struct asked_span){first - of_item, listing->name_count - first};
    }
    listing->span_count++;
}

static void list_declarations(struct listing *listing, const Coffer__V1__ResolveItem *item, size_t of_item)
{
    for (size_t i = 0; i < item->n_declarations; i++) {
        const size_t first = listing->name_count;
        add_declaration(listing, item->declarations[i]);
        end_span(listing, first, of_item);
    }
}

static void list_expressions(struct listing *listing, const Coffer__V1__ResolveItem *item, size_t of_item)
{
    for (size_t i = 0; i < item->n_expressions; i++) {
        const size_t first = listing->name_count;
        add_expression(listing, item->expressions[i]);
        end_span(listing, first, of_item);
    }
}

static void list_item(struct listing *listing, const Coffer__V1__ResolveItem *item, struct asked_item *to)
{
    const size_t first = listing->name_count;
    const size_t first_span = listing->span_count;
    for (size_t i = 0; i < item->n_references; i++) {
        add(listing, cof_slice_text(item->references[i]->name), cof_slice_text(item->references[i]->key));
    }
    list_declarations(listing, item, first);
    for (size_t i = 0; i < item->n_oauth_declarations; i++) {
        /* Only the server needs their names. */
        add(listing, cof_slice_of(NULL, 0), cof_slice_of(NULL, 0));
    }
    const size_t before = listing->name_count - first;
    list_expressions(listing, item, first);
    if (listing->writes) {
        assert(to != NULL);
        *to = (struct asked_item){
            .names = listing->names + first,
            .count = listing->name_count - first,
            .declarations = listing->spans + first_span,
            .declaration_count = item->n_declarations,
            .expressions = listing->spans + first_span + item->n_declarations,
            .expression_count = item->n_expressions,
            .before_expressions = before,
            .more = item->action[0] != '\0',
        };
    }
}

size_t asked_count(const Coffer__V1__ResolveItem *item)
{
    struct listing listing = {.writes = false};
    if (!asked_more(item)) {
        return item->n_references;
    }
    list_item(&listing, item, NULL);
    return listing.name_count;
}

bool asked_more(const Coffer__V1__ResolveItem *item)
{
    return item->n_declarations + item->n_oauth_declarations + item->n_expressions > 0 || item->action[0] != '\0';
}

/* The block has the items, behind them the names, the spans, and the bytes of the names. */
cof_code asked_new(const Coffer__V1__ResolveRequest *request, struct asked **ret_asked, struct cof_error *err)
{
    struct listing measured = {.writes = false};
    for (size_t i = 0; i < request->n_items; i++) {
        list_item(&measured, request->items[i], NULL);
    }
    const size_t items = sizeof(struct asked) + request->n_items * sizeof(struct asked_item);
    const size_t names = measured.name_count * sizeof(struct asked_name);
    const size_t spans = measured.span_count * sizeof(struct asked_span);
    uint8_t *block = malloc(items + names + spans + measured.text_length);
    if (block == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a request");
    }
    struct asked *asked = (struct asked *) (void *) block;
    struct listing listing = {
        .writes = true,
        .names = (struct asked_name *) (void *) (block + items),
        .spans = (struct asked_span *) (void *) (block + items + names),
        .text = block + items + names + spans,
    };
    asked->count = request->n_items;
    for (size_t i = 0; i < request->n_items; i++) {
        list_item(&listing, request->items[i], &asked->items[i]);
    }
    assert(listing.text_length == measured.text_length && listing.name_count == measured.name_count);
    *ret_asked = asked;
    return COF_OK;
}
