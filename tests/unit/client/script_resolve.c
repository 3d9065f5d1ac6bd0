#include <stdio.h>
#include <stdlib.h>

#include <coffer/coffer.h>
#include <coffer/v1/resolve.pb-c.h>

#include "common/expression.h"
#include "tests/unit/client/scripted_server.h"

/* The answers of script_resolve. What they are made of lies in one block for each result. */

enum { VALUE_SIZE = 400, ENTRIES_MAX = 16, NAME_SIZE = 104 };

/* One entry of what an item asks for, as a secret of its own. */
struct entry {
    Coffer__V1__ResolvedSecret secret;
    Coffer__V1__KeyValue value;
    Coffer__V1__KeyValue *values[1];
    Coffer__V1__ReferenceFault fault;
    Coffer__V1__SecretReference reference;
    char name[NAME_SIZE];
    char key[NAME_SIZE];
    char text[VALUE_SIZE];
};

struct answered {
    Coffer__V1__ResolveResult result;
    Coffer__V1__ResultStatus status;
    Coffer__V1__ResolvedSecret *secrets[ENTRIES_MAX];
    Coffer__V1__ReferenceFault *faults[ENTRIES_MAX];
    Coffer__V1__Outcome outcomes[ENTRIES_MAX];
    Coffer__V1__ExpressionResult expressions[ENTRIES_MAX];
    Coffer__V1__ExpressionResult *pointers[ENTRIES_MAX];
    char literals[ENTRIES_MAX][NAME_SIZE];
    struct entry entries[ENTRIES_MAX];
};

void script_value(const char *environment, const char *name, const char *key, char *to)
{
    (void) snprintf(to, VALUE_SIZE, "%s/%s/%s", environment, name, key);
}

/* `to` has NAME_SIZE bytes. */
static void copy_text(char *to, struct cof_slice text)
{
    const size_t length = text.len < NAME_SIZE ? text.len : NAME_SIZE - 1;
    memcpy(to, text.data, length);
    to[length] = '\0';
}

static Coffer__V1__Outcome outcome_of(const char *name)
{
    if (strncmp(name, "missing", 7) == 0) {
        return COFFER__V1__OUTCOME__OUTCOME_SECRET_NOT_FOUND;
    }
    if (strncmp(name, "absent", 6) == 0) {
        return COFFER__V1__OUTCOME__OUTCOME_ABSENT;
    }
    return strcmp(name, "denied") == 0 ? COFFER__V1__OUTCOME__OUTCOME_PERMISSION_DENIED
                                       : COFFER__V1__OUTCOME__OUTCOME_RESOLVED;
}

static bool is_fault(Coffer__V1__Outcome outcome)
{
    return !coffer_outcome_ok((coffer_outcome) outcome);
}

/* Writes down the next entry; NULL: there are as many as a script can answer. */
static struct entry *next_entry(struct answered *to, const char *name, const char *key, Coffer__V1__Outcome outcome)
{
    const size_t index = to->result.n_outcomes;
    if (index == ENTRIES_MAX) {
        return NULL;
    }
    struct entry *entry = &to->entries[index];
    to->outcomes[index] = outcome;
    to->result.n_outcomes++;
    (void) snprintf(entry->name, sizeof entry->name, "%s", name);
    (void) snprintf(entry->key, sizeof entry->key, "%s", key);
    coffer__v1__secret_reference__init(&entry->reference);
    entry->reference.name = entry->name;
    entry->reference.key = entry->key;
    return entry;
}

static void add_value(struct answered *to, struct entry *entry)
{
    coffer__v1__resolved_secret__init(&entry->secret);
    coffer__v1__key_value__init(&entry->value);
    script_value(to->result.environment, entry->name, entry->key, entry->text);
    entry->value.key = entry->key;
    entry->value.value.data = (uint8_t *) entry->text;
    entry->value.value.len = strlen(entry->text);
    entry->values[0] = &entry->value;
    entry->secret.name = entry->name;
    entry->secret.version = 7;
    entry->secret.n_values = 1;
    entry->secret.values = entry->values;
    to->secrets[to->result.n_secrets++] = &entry->secret;
}

static void add_fault(struct answered *to, struct entry *entry, Coffer__V1__Outcome outcome)
{
    static char missing[] = "there is no such secret; check the name";
    static char refusal[] = "it is not permitted; ask for a grant";
    coffer__v1__reference_fault__init(&entry->fault);
    entry->fault.reference_index = (uint32_t) to->result.n_outcomes - 1;
    entry->fault.outcome = outcome;
    entry->fault.message = outcome == COFFER__V1__OUTCOME__OUTCOME_PERMISSION_DENIED ? refusal : missing;
    entry->fault.reference = &entry->reference;
    to->faults[to->result.n_faults++] = &entry->fault;
}

/* A server answers an item all or nothing. */
static void fail(struct answered *to, const struct entry *entry)
{
    to->status.code = entry->fault.outcome == COFFER__V1__OUTCOME__OUTCOME_PERMISSION_DENIED
                          ? COFFER_PERMISSION_DENIED
                          : COFFER_NOT_FOUND;
    to->status.outcome = entry->fault.outcome;
    to->status.message = entry->fault.message;
}

static struct entry *add_entry(struct answered *to, const char *name, const char *key)
{
    const Coffer__V1__Outcome outcome = outcome_of(name);
    struct entry *entry = next_entry(to, name, key, outcome);
    if (entry != NULL && outcome == COFFER__V1__OUTCOME__OUTCOME_RESOLVED) {
        add_value(to, entry);
    } else if (entry != NULL && is_fault(outcome)) {
        add_fault(to, entry, outcome);
    }
    return entry;
}

static void add_needed(struct answered *to, const char *name, const char *key)
{
    const struct entry *entry = add_entry(to, name, key);
    if (entry != NULL && is_fault(outcome_of(name))) {
        fail(to, entry);
    }
}

static void add_declaration(struct answered *to, const Coffer__V1__SecretDeclaration *declaration)
{
    if (declaration->n_keys + declaration->n_optional_keys == 0) {
        (void) next_entry(to, declaration->name, "", outcome_of(declaration->name));
    }
    for (size_t i = 0; i < declaration->n_keys; i++) {
        add_needed(to, declaration->name, declaration->keys[i]);
    }
    for (size_t i = 0; i < declaration->n_optional_keys; i++) {
        add_needed(to, declaration->name, declaration->optional_keys[i]);
    }
}

static void set_value(Coffer__V1__ExpressionResult *result, char *text)
{
    result->outcome = COFFER__V1__OUTCOME__OUTCOME_RESOLVED;
    result->result_case = COFFER__V1__EXPRESSION_RESULT__RESULT_VALUE;
    result->value = (ProtobufCBinaryData){strlen(text), (uint8_t *) text};
}

static void set_null(Coffer__V1__ExpressionResult *result, Coffer__V1__Outcome outcome)
{
    result->outcome = outcome;
    result->result_case = COFFER__V1__EXPRESSION_RESULT__RESULT_NULL_VALUE;
    result->null_value = 1;
}

/* An operand that is asked for. Returns whether the expression ends with it. */
static bool take_reference(struct answered *to, const struct cof_operand *operand,
                           Coffer__V1__ExpressionResult *result)
{
    char name[NAME_SIZE];
    char key[NAME_SIZE];
    copy_text(name, operand->name);
    copy_text(key, operand->key);
    struct entry *entry = add_entry(to, name, key);
    const Coffer__V1__Outcome outcome = outcome_of(name);
    if (entry != NULL && outcome == COFFER__V1__OUTCOME__OUTCOME_RESOLVED) {
        set_value(result, entry->text);
        return true;
    }
    const bool stays = operand->last || outcome == COFFER__V1__OUTCOME__OUTCOME_PERMISSION_DENIED;
    if (stays && outcome == COFFER__V1__OUTCOME__OUTCOME_ABSENT) {
        set_null(result, outcome);
    } else if (stays && entry != NULL) {
        result->outcome = outcome;
        fail(to, entry);
    }
    return stays;
}

static bool take_operand(struct answered *to, const struct cof_operand *operand,
                         Coffer__V1__ExpressionResult *result)
{
    if (operand->kind == COF_OPERAND_REFERENCE) {
        return take_reference(to, operand, result);
    }
    if (operand->kind == COF_OPERAND_LITERAL && (operand->literal.len > 0 || operand->last)) {
        char *text = to->literals[to->result.n_expressions];
        copy_text(text, operand->literal);
        set_value(result, text);
        return true;
    }
    if (operand->last) {
        set_null(result, COFFER__V1__OUTCOME__OUTCOME_RESOLVED);
    }
    return operand->last;
}

static void add_expression(struct answered *to, const char *text)
{
    struct cof_template template;
    struct cof_operand_scan scan;
    struct cof_operand operand;
    struct cof_error err;
    bool found = false;
    bool over = false;
    Coffer__V1__ExpressionResult *result = &to->expressions[to->result.n_expressions];
    coffer__v1__expression_result__init(result);
    to->pointers[to->result.n_expressions] = result;
    if (cof_template_read(cof_slice_text(text), &template, &found, &err) != COF_OK || !found) {
        abort();
    }
    cof_operand_scan_init(&scan, &template);
    while (cof_operand_next(&scan, &operand)) {
        if (over && operand.kind == COF_OPERAND_REFERENCE) {
            (void) next_entry(to, "", "", COFFER__V1__OUTCOME__OUTCOME_NOT_NEEDED);
        } else if (!over) {
            over = take_operand(to, &operand, result);
        }
    }
    to->result.n_expressions++;
}

static void answer_item(const Coffer__V1__ResolveItem *item, uint32_t index, char *environment, struct answered *to)
{
    static char state[] = "state-1";
    coffer__v1__resolve_result__init(&to->result);
    coffer__v1__result_status__init(&to->status);
    to->status.outcome = COFFER__V1__OUTCOME__OUTCOME_RESOLVED;
    to->result.status = &to->status;
    to->result.item_index = index;
    to->result.item_id = item->id;
    to->result.workspace = item->workspace;
    to->result.environment = environment;
    to->result.consistency_token = state;
    to->result.secrets = to->secrets;
    to->result.faults = to->faults;
    to->result.outcomes = to->outcomes;
    to->result.expressions = to->pointers;
    for (size_t i = 0; i < item->n_references; i++) {
        add_needed(to, item->references[i]->name, item->references[i]->key);
    }
    for (size_t i = 0; i < item->n_declarations; i++) {
        add_declaration(to, item->declarations[i]);
    }
    for (size_t i = 0; i < item->n_expressions && i < ENTRIES_MAX; i++) {
        add_expression(to, item->expressions[i]);
    }
    if (to->status.code != COFFER_OK) {
        to->result.n_secrets = 0;
        for (size_t i = 0; i < to->result.n_expressions; i++) {
            to->expressions[i].result_case = COFFER__V1__EXPRESSION_RESULT__RESULT__NOT_SET;
        }
    }
}

static size_t answer_all(const Coffer__V1__ResolveRequest *request, struct answered *answers,
                         Coffer__V1__ResolveResult **results)
{
    static char by_default[] = "default";
    size_t count = 0;
    for (size_t i = 0; i < request->n_items; i++) {
        const Coffer__V1__ResolveItem *item = request->items[i];
        const size_t environments = item->n_environments == 0 ? 1 : item->n_environments;
        for (size_t e = 0; e < environments; e++) {
            answer_item(item, (uint32_t) i, item->n_environments == 0 ? by_default : item->environments[e],
                        &answers[count]);
            results[count] = &answers[count].result;
            count++;
        }
    }
    return count;
}

static size_t count_pairs(const Coffer__V1__ResolveRequest *request)
{
    size_t count = 0;
    for (size_t i = 0; i < request->n_items; i++) {
        count += request->items[i]->n_environments == 0 ? 1 : request->items[i]->n_environments;
    }
    return count;
}

void script_resolve(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                    void *context)
{
    Coffer__V1__ResolveResponse response;
    struct resolve_script *edited = context;
    Coffer__V1__ResolveRequest *asked =
        coffer__v1__resolve_request__unpack(NULL, request->payload.len, request->payload.data);
    const size_t pairs = asked == NULL ? 0 : count_pairs(asked);
    struct answered *answers = calloc(pairs + 1, sizeof *answers);
    Coffer__V1__ResolveResult **results = calloc(pairs + 1, sizeof *results);
    if (asked == NULL || answers == NULL || results == NULL) {
        fprintf(stderr, "scripted server: no memory\n");
        exit(2);
    }
    coffer__v1__resolve_response__init(&response);
    response.n_results = answer_all(asked, answers, results);
    response.results = results;
    if (edited != NULL && edited->edit != NULL) {
        edited->edit(edited, asked, number, &response);
    }
    script_reply_message(reply, &response.base);
    free(answers);
    free(results);
    coffer__v1__resolve_request__free_unpacked(asked, NULL);
}
