#include <stdlib.h>

#include <coffer/template.h>

#include "client/libcoffer/failure.h"
#include "client/libcoffer/result.h"
#include "common/document.h"

enum {
    /* Memory to read a text in: lists and faults, and some times the text. Pages that nobody touches cost nothing. */
    READING_ROOM = 4 << 20,
    READING_TIMES = 4,
};

struct coffer_template {
    struct cof_pool *pool; /* holds nothing secret, so it is not locked */
    struct cof_arena arena;
    struct cof_document document;
    struct cof_references *references;
};

struct coffer_text {
    struct memory *memory;
    struct cof_arena arena;
    struct cof_value value;
};

/* --- Reading -------------------------------------------------------------------------------------------------- */

static void template_cleanup(coffer_template **parsed)
{
    coffer_template_free(*parsed);
}

/* Patterns are kept as parts of their texts, so they are copied. */
static cof_code add_patterns(coffer_template *parsed, const char *const *patterns, size_t count, cof_path_rule rule,
                             struct cof_path_rules *rules, struct cof_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct cof_slice pattern = cof_slice_text(patterns[i]);
        const char *copy = cof_arena_text(&parsed->arena, pattern);
        if (copy == NULL) {
            return cof_arena_exhausted(err);
        }
        TRY(cof_path_rules_add(rules, rule, cof_slice_of(copy, pattern.len), err));
    }
    return COF_OK;
}

/* `given` may come from a program that was built with fewer fields. */
static cof_code read_options(coffer_template *parsed, const coffer_template_options *given, struct cof_error *err)
{
    coffer_template_options options = COFFER_TEMPLATE_OPTIONS_INIT;
    struct cof_path_rules *rules = NULL;
    if (given == NULL) {
        return COF_OK;
    }
    memcpy(&options, given, given->struct_size < sizeof options ? given->struct_size : sizeof options);
    TRY(cof_path_rules_new(&parsed->arena, &rules, err));
    TRY(add_patterns(parsed, options.exclude, options.exclude_count, COF_PATH_EXCLUDED, rules, err));
    TRY(add_patterns(parsed, options.redact, options.redact_count, COF_PATH_REDACTED, rules, err));
    parsed->document.rules = rules;
    return COF_OK;
}

static cof_code check_kind(coffer_template_kind kind, cof_document_kind *ret_kind, struct cof_error *err)
{
    switch (kind) {
    case COFFER_TEMPLATE_TEXT:
        *ret_kind = COF_DOCUMENT_TEXT;
        return COF_OK;
    case COFFER_TEMPLATE_JSON:
        *ret_kind = COF_DOCUMENT_JSON;
        return COF_OK;
    case COFFER_TEMPLATE_YAML:
        *ret_kind = COF_DOCUMENT_YAML;
        return COF_OK;
    }
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, "kind",
                          "there is no kind of text with the number %d; use one of coffer_template_kind",
                          (int) kind);
}

static cof_code template_new(cof_document_kind kind, struct cof_slice text, coffer_template **ret_template,
                             struct cof_error *err)
{
    /* A text that is too large is refused before it is copied. */
    const size_t kept = text.len <= COF_TEXT_MAX ? text.len : 0;
    AUTO(template_cleanup) coffer_template *parsed = calloc(1, sizeof *parsed);
    if (parsed == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(cof_pool_new(READING_ROOM + READING_TIMES * kept, COF_LOCK_NONE, &parsed->pool, err));
    cof_arena_init(&parsed->arena, parsed->pool, SIZE_MAX);
    const char *copy = cof_arena_text(&parsed->arena, cof_slice_of(text.data, kept));
    if (copy == NULL) {
        return cof_arena_exhausted(err);
    }
    parsed->document = (struct cof_document){.kind = kind, .text = cof_slice_of(copy, text.len)};
    TRY(cof_references_new(&parsed->arena, &parsed->references, err));
    *ret_template = TAKE(parsed);
    return COF_OK;
}

static cof_code read_template(coffer_template *parsed, const coffer_template_options *options,
                              struct cof_fault_list *faults, struct cof_error *err)
{
    cof_fault_list_init(faults, &parsed->arena);
    TRY(read_options(parsed, options, err));
    return cof_document_references(&parsed->document, parsed->references, faults, &parsed->arena, err);
}

coffer_status coffer_template_new(coffer_template_kind kind, const void *text, size_t length,
                                  const coffer_template_options *options, coffer_template **ret_template,
                                  coffer_error **ret_error)
{
    AUTO(template_cleanup) coffer_template *parsed = NULL;
    cof_document_kind document_kind = COF_DOCUMENT_TEXT;
    struct cof_fault_list faults;
    struct cof_error err;
    cof_error_clear(&err);
    cof_fault_list_init(&faults, NULL);
    if (check_kind(kind, &document_kind, &err) == COF_OK &&
        template_new(document_kind, cof_slice_of(text, length), &parsed, &err) == COF_OK && parsed != NULL &&
        read_template(parsed, options, &faults, &err) == COF_OK) {
        *ret_template = TAKE(parsed);
    }
    return failure_tell_faults(&err, &faults, ret_error);
}

void coffer_template_free(coffer_template *parsed)
{
    if (parsed != NULL) {
        if (parsed->pool != NULL) {
            cof_arena_reset(&parsed->arena);
            cof_pool_free(parsed->pool);
        }
        free(parsed);
    }
}

size_t coffer_template_reference_count(const coffer_template *parsed)
{
    return cof_references_count(parsed->references);
}

static const struct cof_reference *reference_at(const coffer_template *parsed, size_t index)
{
    return index < cof_references_count(parsed->references) ? cof_references_at(parsed->references, index) : NULL;
}

/* Names lie in the arena with a NUL behind them. */
const char *coffer_template_reference_secret(const coffer_template *parsed, size_t index)
{
    const struct cof_reference *reference = reference_at(parsed, index);
    return reference == NULL ? NULL : (const char *) reference->name.data;
}

const char *coffer_template_reference_key(const coffer_template *parsed, size_t index)
{
    const struct cof_reference *reference = reference_at(parsed, index);
    return reference == NULL ? NULL : (const char *) reference->key.data;
}

bool coffer_template_reference_required(const coffer_template *parsed, size_t index)
{
    const struct cof_reference *reference = reference_at(parsed, index);
    return reference != NULL && reference->required;
}

/* What stands alone is asked for as it is; what has an alternative by its choice, which the server decides. */
void coffer_request_add_template(coffer_request *request, const coffer_template *parsed)
{
    for (size_t i = 0; i < coffer_template_reference_count(parsed); i++) {
        const char *secret = coffer_template_reference_secret(parsed, i);
        const char *key = coffer_template_reference_key(parsed, i);
        if (cof_references_at(parsed->references, i)->unconditional &&
            !request_asks_for_reference(request, secret, key)) {
            coffer_request_add_reference(request, secret, key);
        }
    }
    for (size_t i = 0; i < cof_references_choice_count(parsed->references); i++) {
        const char *choice = (const char *) cof_references_choice_at(parsed->references, i).data;
        if (!request_asks_for_expression(request, choice)) {
            coffer_request_add_expression(request, choice);
        }
    }
}

/* --- What became of the references ----------------------------------------------------------------------------- */

/* The reason of each outcome; NONE: it is no error. */
static const cof_reason reasons[] = {
    [COFFER_OUTCOME_SECRET_NOT_FOUND] = COF_REASON_SECRET_NOT_FOUND,
    [COFFER_OUTCOME_KEY_NOT_FOUND] = COF_REASON_KEY_NOT_FOUND,
    [COFFER_OUTCOME_CONNECTION_NOT_FOUND] = COF_REASON_CONNECTION_NOT_FOUND,
    [COFFER_OUTCOME_REAUTH_REQUIRED] = COF_REASON_REAUTH_REQUIRED,
    [COFFER_OUTCOME_PROVIDER_UNAVAILABLE] = COF_REASON_PROVIDER_UNAVAILABLE,
    [COFFER_OUTCOME_PERMISSION_DENIED] = COF_REASON_PERMISSION_DENIED,
    [COFFER_OUTCOME_CORRUPTED] = COF_REASON_CORRUPTED,
    [COFFER_OUTCOME_AWS_ROLE_REFUSED] = COF_REASON_AWS_ROLE_REFUSED,
    [COFFER_OUTCOME_EXPRESSION_INVALID] = COF_REASON_EXPRESSION_INVALID,
    [COFFER_OUTCOME_PENDING] = COF_REASON_PROVIDER_UNAVAILABLE,
    [COFFER_OUTCOME_DEFERRED] = COF_REASON_ANSWER_TOO_LARGE,
    [COFFER_OUTCOME_DECLARATION_NOT_SATISFIED] = COF_REASON_DECLARATION_NOT_SATISFIED,
    [COFFER_OUTCOME_ENVIRONMENT_VIEW_CONFLICT] = COF_REASON_ENVIRONMENT_VIEW_CONFLICT,
    [COFFER_OUTCOME_TOO_LARGE] = COF_REASON_ANSWER_TOO_LARGE,
    [COFFER_OUTCOME_DEADLINE_EXCEEDED] = COF_REASON_DEADLINE_EXCEEDED,
    [COFFER_OUTCOME_STORE_UNAVAILABLE] = COF_REASON_DATABASE_UNAVAILABLE,
    [COFFER_OUTCOME_INCOMPLETE_AWS_KEYS] = COF_REASON_INCOMPLETE_AWS_KEYS,
    [COFFER_OUTCOME_KEY_EMPTY] = COF_REASON_KEY_EMPTY,
    [COFFER_OUTCOME_CONSISTENCY_TOKEN_UNKNOWN] = COF_REASON_CONSISTENCY_TOKEN_UNKNOWN,
    [COFFER_OUTCOME_CONSISTENCY_NOT_REACHED] = COF_REASON_CONSISTENCY_NOT_REACHED,
    [COFFER_OUTCOME_SECRET_EXPIRED] = COF_REASON_SECRET_EXPIRED,
    [COFFER_OUTCOME_NOT_AVAILABLE] = COF_REASON_NOT_AVAILABLE,
    [COFFER_OUTCOME_WORKSPACE_DISABLED] = COF_REASON_WORKSPACE_DISABLED,
    [COFFER_OUTCOME_ITEM_INVALID] = COF_REASON_FIELD_INVALID,
    [COFFER_OUTCOME_ACTION_NOT_FOUND] = COF_REASON_ACTION_NOT_FOUND,
    [COFFER_OUTCOME_AWS_ROLE_ARN_INVALID] = COF_REASON_AWS_ROLE_ARN_INVALID,
    [COFFER_OUTCOME_AWS_REGION_INVALID] = COF_REASON_AWS_REGION_INVALID,
    [COFFER_OUTCOME_AWS_IDENTITY_MISSING] = COF_REASON_AWS_IDENTITY_MISSING,
    [COFFER_OUTCOME_AWS_IDENTITY_REFUSED] = COF_REASON_AWS_IDENTITY_REFUSED,
    [COFFER_OUTCOME_AWS_SESSION_REFUSED] = COF_REASON_AWS_SESSION_REFUSED,
    [COFFER_OUTCOME_AWS_THROTTLED] = COF_REASON_AWS_THROTTLED,
    [COFFER_OUTCOME_AWS_UNAVAILABLE] = COF_REASON_AWS_UNAVAILABLE,
};

/* An outcome that this library does not know is an error, too. */
static cof_reason reason_of(coffer_outcome outcome)
{
    const cof_reason reason = (size_t) outcome < COF_COUNT(reasons) ? reasons[outcome] : COF_REASON_NONE;
    return reason == COF_REASON_NONE ? COF_REASON_REPLY_INVALID : reason;
}

static cof_found_kind kind_of(coffer_outcome outcome)
{
    return item_outcome_missing(outcome) ? COF_FOUND_MISSING : COF_FOUND_FAILED;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool find_fault(const coffer_item *item, const char *name, const char *key, struct cof_found *ret_found)
{
    for (size_t i = 0; i < coffer_item_fault_count(item); i++) {
        const coffer_fault *fault = coffer_item_fault(item, i);
        if (same_text(coffer_fault_secret(fault), name) && same_text(coffer_fault_key(fault), key)) {
            const coffer_outcome outcome = coffer_fault_outcome(fault);
            *ret_found = (struct cof_found){
                .kind = kind_of(outcome), .reason = reason_of(outcome), .message = coffer_fault_message(fault)};
            return true;
        }
    }
    return false;
}

static bool is_absent(const coffer_item *item, struct cof_slice secret, struct cof_slice key)
{
    for (size_t i = 0; item->asked != NULL && i < item->asked->count; i++) {
        const struct asked_name *name = &item->asked->names[i];
        if (cof_slice_equal(name->secret, secret) && cof_slice_equal(name->key, key) &&
            coffer_item_reference_outcome(item, i) == COFFER_OUTCOME_ABSENT) {
            return true;
        }
    }
    return false;
}

static void find_in_item(const coffer_item *item, const struct cof_reference *reference,
                         struct cof_found *ret_found)
{
    const char *secret = (const char *) reference->name.data;
    const char *key = (const char *) reference->key.data;
    const coffer_bytes value = coffer_item_value(item, secret, key);
    if (value.data != NULL) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_of(value.data, value.length)};
    } else if (find_fault(item, secret, key, ret_found)) {
        return;
    } else if (coffer_item_status(item) != COFFER_OK) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_WITHHELD,
                                        .reason = reason_of(coffer_item_outcome(item)),
                                        .message = coffer_item_message(item)};
    } else if (is_absent(item, reference->name, reference->key)) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_ABSENT};
    } else {
        *ret_found = (struct cof_found){.kind = COF_FOUND_FAILED,
                                        .reason = COF_REASON_FIELD_INVALID,
                                        .message = "it was not asked for; call coffer_request_add_template before "
                                                   "the request is sent"};
    }
}

/* --- Expanding ------------------------------------------------------------------------------------------------ */

/* What became of each reference, in their order: a text may mention one many times. */
struct answers {
    struct cof_references *references;
    struct cof_found *found;
};

static void find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found)
{
    const struct answers *answers = context;
    size_t index;
    if (cof_references_find(answers->references, name, key, &index)) {
        *ret_found = answers->found[index];
    } else {
        *ret_found = (struct cof_found){.kind = COF_FOUND_FAILED,
                                        .reason = COF_REASON_INTERNAL,
                                        .message = "the reference was not read before; tell the makers of Coffer"};
    }
}

static cof_code ask_all(const coffer_template *parsed, const coffer_item *item, coffer_text *text,
                        struct answers *answers)
{
    const size_t count = cof_references_count(parsed->references);
    answers->references = parsed->references;
    answers->found = cof_arena_array(&text->arena, count, sizeof *answers->found);
    for (size_t i = 0; answers->found != NULL && i < count; i++) {
        find_in_item(item, cof_references_at(parsed->references, i), &answers->found[i]);
    }
    return answers->found == NULL ? COF_RESOURCE_EXHAUSTED : COF_OK;
}

static void text_cleanup(coffer_text **text)
{
    coffer_text_free(*text);
}

static cof_code text_new(struct memory *memory, coffer_text **ret_text, struct cof_error *err)
{
    coffer_text *text = calloc(1, sizeof *text);
    if (text == NULL) {
        return memory_exhausted(err);
    }
    text->memory = memory_hold(memory);
    cof_arena_init(&text->arena, memory_pool(memory), SIZE_MAX);
    *ret_text = text;
    return COF_OK;
}

static cof_code expand(const coffer_template *parsed, const coffer_item *item, coffer_text *text,
                       struct cof_fault_list *faults, struct cof_error *err)
{
    struct answers answers = {NULL, NULL};
    struct cof_lookup lookup = {find, &answers};
    cof_fault_list_init(faults, &text->arena);
    if (ask_all(parsed, item, text, &answers) != COF_OK) {
        return memory_exhausted(err);
    }
    const cof_code code = cof_document_expand(&parsed->document, &lookup, faults, &text->arena, &text->value, err);
    return code != COF_OK && err->reason == COF_REASON_OUT_OF_MEMORY ? memory_exhausted(err) : code;
}

coffer_status coffer_template_expand(const coffer_template *parsed, const coffer_result *result, size_t index,
                                     coffer_text **ret_text, coffer_error **ret_error)
{
    AUTO(text_cleanup) coffer_text *text = NULL;
    const coffer_item *item = coffer_result_item(result, index);
    struct cof_fault_list faults;
    struct cof_error err;
    cof_error_clear(&err);
    cof_fault_list_init(&faults, NULL);
    if (item == NULL) {
        cof_ignore(cof_fail_field(&err, COF_REASON_FIELD_INVALID, "index",
                                  "the result has %zu items, so there is none with the index %zu; stay below "
                                  "coffer_result_count",
                                  coffer_result_count(result), index));
    } else if (text_new(result->memory, &text, &err) == COF_OK &&
               expand(parsed, item, text, &faults, &err) == COF_OK) {
        *ret_text = TAKE(text);
    }
    return failure_tell_faults(&err, &faults, ret_error);
}

void coffer_text_free(coffer_text *text)
{
    if (text != NULL) {
        cof_arena_reset(&text->arena);
        memory_drop(text->memory);
        free(text);
    }
}

coffer_bytes coffer_text_bytes(const coffer_text *text)
{
    return text->value.null ? (coffer_bytes){NULL, 0}
                            : (coffer_bytes){text->value.bytes.data, text->value.bytes.len};
}

bool coffer_text_is_null(const coffer_text *text)
{
    return text->value.null;
}
