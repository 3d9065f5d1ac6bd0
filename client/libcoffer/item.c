#include "client/libcoffer/result.h"

static const char *const outcome_names[] = {
    [COFFER_OUTCOME_UNSPECIFIED] = "UNSPECIFIED",
    [COFFER_OUTCOME_RESOLVED] = "RESOLVED",
    [COFFER_OUTCOME_ABSENT] = "ABSENT",
    [COFFER_OUTCOME_NOT_NEEDED] = "NOT_NEEDED",
    [COFFER_OUTCOME_SECRET_NOT_FOUND] = "SECRET_NOT_FOUND",
    [COFFER_OUTCOME_KEY_NOT_FOUND] = "KEY_NOT_FOUND",
    [COFFER_OUTCOME_CONNECTION_NOT_FOUND] = "CONNECTION_NOT_FOUND",
    [COFFER_OUTCOME_REAUTH_REQUIRED] = "REAUTH_REQUIRED",
    [COFFER_OUTCOME_PROVIDER_UNAVAILABLE] = "PROVIDER_UNAVAILABLE",
    [COFFER_OUTCOME_PERMISSION_DENIED] = "PERMISSION_DENIED",
    [COFFER_OUTCOME_CORRUPTED] = "CORRUPTED",
    [COFFER_OUTCOME_AWS_ROLE_REFUSED] = "AWS_ROLE_REFUSED",
    [COFFER_OUTCOME_EXPRESSION_INVALID] = "EXPRESSION_INVALID",
    [COFFER_OUTCOME_PENDING] = "PENDING",
    [COFFER_OUTCOME_DEFERRED] = "DEFERRED",
    [COFFER_OUTCOME_DECLARATION_NOT_SATISFIED] = "DECLARATION_NOT_SATISFIED",
    [COFFER_OUTCOME_ENVIRONMENT_VIEW_CONFLICT] = "ENVIRONMENT_VIEW_CONFLICT",
    [COFFER_OUTCOME_TOO_LARGE] = "TOO_LARGE",
    [COFFER_OUTCOME_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [COFFER_OUTCOME_STORE_UNAVAILABLE] = "STORE_UNAVAILABLE",
    [COFFER_OUTCOME_INCOMPLETE_AWS_KEYS] = "INCOMPLETE_AWS_KEYS",
    [COFFER_OUTCOME_KEY_EMPTY] = "KEY_EMPTY",
    [COFFER_OUTCOME_CONSISTENCY_TOKEN_UNKNOWN] = "CONSISTENCY_TOKEN_UNKNOWN",
    [COFFER_OUTCOME_CONSISTENCY_NOT_REACHED] = "CONSISTENCY_NOT_REACHED",
    [COFFER_OUTCOME_SECRET_EXPIRED] = "SECRET_EXPIRED",
    [COFFER_OUTCOME_NOT_AVAILABLE] = "NOT_AVAILABLE",
    [COFFER_OUTCOME_WORKSPACE_DISABLED] = "WORKSPACE_DISABLED",
    [COFFER_OUTCOME_ITEM_INVALID] = "ITEM_INVALID",
    [COFFER_OUTCOME_ACTION_NOT_FOUND] = "ACTION_NOT_FOUND",
    [COFFER_OUTCOME_AWS_ROLE_ARN_INVALID] = "AWS_ROLE_ARN_INVALID",
    [COFFER_OUTCOME_AWS_REGION_INVALID] = "AWS_REGION_INVALID",
    [COFFER_OUTCOME_AWS_IDENTITY_MISSING] = "AWS_IDENTITY_MISSING",
    [COFFER_OUTCOME_AWS_IDENTITY_REFUSED] = "AWS_IDENTITY_REFUSED",
    [COFFER_OUTCOME_AWS_SESSION_REFUSED] = "AWS_SESSION_REFUSED",
    [COFFER_OUTCOME_AWS_THROTTLED] = "AWS_THROTTLED",
    [COFFER_OUTCOME_AWS_UNAVAILABLE] = "AWS_UNAVAILABLE",
};

_Static_assert(COF_COUNT(outcome_names) == COFFER__V1__OUTCOME__OUTCOME_AWS_UNAVAILABLE + 1,
               "the public enum has the outcomes of resolve.proto");

const char *coffer_outcome_name(coffer_outcome outcome)
{
    return (size_t) outcome < COF_COUNT(outcome_names) ? outcome_names[outcome] : "UNKNOWN";
}

bool coffer_outcome_ok(coffer_outcome outcome)
{
    return outcome >= COFFER_OUTCOME_RESOLVED && outcome <= COFFER_OUTCOME_NOT_NEEDED;
}

bool item_outcome_missing(coffer_outcome outcome)
{
    return outcome == COFFER_OUTCOME_SECRET_NOT_FOUND || outcome == COFFER_OUTCOME_KEY_NOT_FOUND ||
           outcome == COFFER_OUTCOME_CONNECTION_NOT_FOUND;
}

size_t item_value_count(const Coffer__V1__ResolveResult *wire)
{
    size_t count = 0;
    for (size_t i = 0; i < wire->n_secrets; i++) {
        count += wire->secrets[i]->n_values;
    }
    return count;
}

uint32_t item_milliseconds(const Google__Protobuf__Duration *duration)
{
    if (duration == NULL || duration->seconds < 0 || duration->nanos < 0) {
        return 0;
    }
    if (duration->seconds >= UINT32_MAX / 1000) {
        return UINT32_MAX;
    }
    return (uint32_t) duration->seconds * 1000 + (uint32_t) duration->nanos / 1000000;
}

static int64_t milliseconds_since_1970(const Google__Protobuf__Timestamp *time)
{
    if (time == NULL || time->seconds < 0 || time->seconds > INT64_MAX / 1000 - 1) {
        return 0;
    }
    return time->seconds * 1000 + time->nanos / 1000000;
}

size_t coffer_item_index(const coffer_item *item)
{
    return item->index;
}

const char *coffer_item_id(const coffer_item *item)
{
    return item->wire->item_id;
}

const char *coffer_item_workspace(const coffer_item *item)
{
    return item->wire->workspace;
}

const char *coffer_item_environment(const coffer_item *item)
{
    return item->wire->environment;
}

coffer_status coffer_item_status(const coffer_item *item)
{
    return item->status;
}

coffer_outcome coffer_item_outcome(const coffer_item *item)
{
    return item->outcome;
}

const char *coffer_item_message(const coffer_item *item)
{
    return item->message;
}

uint32_t coffer_item_retry_after_ms(const coffer_item *item)
{
    return item->retry_after_ms;
}

/* protobuf-c gives an empty value no bytes; the caller must be able to tell it from none. */
static coffer_bytes bytes_of(const ProtobufCBinaryData *value)
{
    static const uint8_t empty;
    return (coffer_bytes){value->data == NULL ? &empty : value->data, value->len};
}

/* A secret of an item that was resolved; NULL if there is none of that name. */
static const Coffer__V1__ResolvedSecret *find_secret(const coffer_item *item, const char *name)
{
    for (size_t i = 0; item->status == COFFER_OK && i < item->wire->n_secrets; i++) {
        if (strcmp(item->wire->secrets[i]->name, name) == 0) {
            return item->wire->secrets[i];
        }
    }
    return NULL;
}

coffer_bytes coffer_item_value(const coffer_item *item, const char *secret, const char *key)
{
    const Coffer__V1__ResolvedSecret *found = find_secret(item, secret);
    for (size_t i = 0; found != NULL && i < found->n_values; i++) {
        if (strcmp(found->values[i]->key, key) == 0) {
            return bytes_of(&found->values[i]->value);
        }
    }
    return (coffer_bytes){NULL, 0};
}

size_t coffer_item_value_count(const coffer_item *item)
{
    return item->status == COFFER_OK ? item_value_count(item->wire) : 0;
}

static void tell_names(const char *secret, const char *key, const char **ret_secret, const char **ret_key)
{
    if (ret_secret != NULL) {
        *ret_secret = secret;
    }
    if (ret_key != NULL) {
        *ret_key = key;
    }
}

coffer_bytes coffer_item_value_at(const coffer_item *item, size_t index, const char **ret_secret,
                                  const char **ret_key)
{
    size_t left = index;
    for (size_t i = 0; item->status == COFFER_OK && i < item->wire->n_secrets; i++) {
        const Coffer__V1__ResolvedSecret *secret = item->wire->secrets[i];
        if (left < secret->n_values) {
            tell_names(secret->name, secret->values[left]->key, ret_secret, ret_key);
            return bytes_of(&secret->values[left]->value);
        }
        left -= secret->n_values;
    }
    tell_names(NULL, NULL, ret_secret, ret_key);
    return (coffer_bytes){NULL, 0};
}

uint64_t coffer_item_version(const coffer_item *item, const char *secret)
{
    const Coffer__V1__ResolvedSecret *found = find_secret(item, secret);
    return found == NULL ? 0 : found->version;
}

int64_t coffer_item_expires_ms(const coffer_item *item)
{
    return milliseconds_since_1970(item->wire->expire_time);
}

int64_t coffer_item_stale_since_ms(const coffer_item *item)
{
    return milliseconds_since_1970(item->wire->stale_since);
}

const char *coffer_item_consistency_token(const coffer_item *item)
{
    return item->wire->consistency_token;
}

size_t coffer_item_reference_count(const coffer_item *item)
{
    return item->wire->n_outcomes;
}

coffer_outcome coffer_item_reference_outcome(const coffer_item *item, size_t index)
{
    return index < item->wire->n_outcomes ? (coffer_outcome) item->wire->outcomes[index]
                                          : COFFER_OUTCOME_UNSPECIFIED;
}

/* The message of the last fault of this kind within a part of the list; empty if there is none. */
static const char *message_within(const coffer_item *item, const struct asked_span *span, coffer_outcome outcome)
{
    const char *message = "";
    for (size_t i = 0; i < item->wire->n_faults; i++) {
        const Coffer__V1__ReferenceFault *fault = item->wire->faults[i];
        const bool within =
            fault->reference_index >= span->first && fault->reference_index - span->first < span->count;
        if (within && (coffer_outcome) fault->outcome == outcome) {
            message = fault->message;
        }
    }
    return message;
}

/* The message of a part of the list that failed; where nothing is told of the part, that of the item. */
static const char *message_of(const coffer_item *item, const struct asked_span *span, coffer_outcome outcome)
{
    if (coffer_outcome_ok(outcome)) {
        return "";
    }
    const char *message = message_within(item, span, outcome);
    return message[0] == '\0' ? item->message : message;
}

size_t coffer_item_declaration_count(const coffer_item *item)
{
    return item->asked == NULL ? 0 : item->asked->declaration_count;
}

/* An item that failed as a whole tells nothing of its parts. */
coffer_outcome coffer_item_declaration_outcome(const coffer_item *item, size_t index)
{
    coffer_outcome outcome = COFFER_OUTCOME_ABSENT;
    if (index >= coffer_item_declaration_count(item)) {
        return COFFER_OUTCOME_UNSPECIFIED;
    }
    const struct asked_span *span = &item->asked->declarations[index];
    if (item->wire->n_outcomes < span->first + span->count) {
        return item->outcome;
    }
    for (size_t i = span->first; i < span->first + span->count; i++) {
        const coffer_outcome one = (coffer_outcome) item->wire->outcomes[i];
        if (!coffer_outcome_ok(one)) {
            return one;
        }
        outcome = one == COFFER_OUTCOME_RESOLVED ? one : outcome;
    }
    return outcome;
}

const char *coffer_item_declaration_message(const coffer_item *item, size_t index)
{
    return index < coffer_item_declaration_count(item)
               ? message_of(item, &item->asked->declarations[index], coffer_item_declaration_outcome(item, index))
               : "";
}

size_t coffer_item_expression_count(const coffer_item *item)
{
    return item->asked == NULL ? 0 : item->asked->expression_count;
}

/* NULL: nothing is told of it. */
static const Coffer__V1__ExpressionResult *expression_at(const coffer_item *item, size_t index)
{
    return index < coffer_item_expression_count(item) && index < item->wire->n_expressions
               ? item->wire->expressions[index]
               : NULL;
}

coffer_outcome coffer_item_expression_outcome(const coffer_item *item, size_t index)
{
    const Coffer__V1__ExpressionResult *expression = expression_at(item, index);
    if (expression != NULL) {
        return (coffer_outcome) expression->outcome;
    }
    return index < coffer_item_expression_count(item) ? item->outcome : COFFER_OUTCOME_UNSPECIFIED;
}

const char *coffer_item_expression_message(const coffer_item *item, size_t index)
{
    return index < coffer_item_expression_count(item)
               ? message_of(item, &item->asked->expressions[index], coffer_item_expression_outcome(item, index))
               : "";
}

coffer_expression_kind item_expression_kind(const Coffer__V1__ExpressionResult *expression)
{
    switch (expression->result_case) {
    case COFFER__V1__EXPRESSION_RESULT__RESULT_VALUE:
        return COFFER_EXPRESSION_VALUE;
    case COFFER__V1__EXPRESSION_RESULT__RESULT_NULL_VALUE:
        return COFFER_EXPRESSION_NULL;
    case COFFER__V1__EXPRESSION_RESULT__RESULT_NOT_EVALUATED:
        return COFFER_EXPRESSION_NOT_EVALUATED;
    case COFFER__V1__EXPRESSION_RESULT__RESULT__NOT_SET:
    case _COFFER__V1__EXPRESSION_RESULT__RESULT__CASE_IS_INT_SIZE:
        break;
    }
    return COFFER_EXPRESSION_NONE;
}

coffer_expression_kind coffer_item_expression_kind(const coffer_item *item, size_t index)
{
    const Coffer__V1__ExpressionResult *expression = item->status == COFFER_OK ? expression_at(item, index) : NULL;
    return expression == NULL ? COFFER_EXPRESSION_NONE : item_expression_kind(expression);
}

coffer_bytes coffer_item_expression_value(const coffer_item *item, size_t index)
{
    return coffer_item_expression_kind(item, index) == COFFER_EXPRESSION_VALUE
               ? bytes_of(&expression_at(item, index)->value)
               : (coffer_bytes){NULL, 0};
}

/* A fault is the message itself; only its name differs. */
static const Coffer__V1__ReferenceFault *wire_of(const coffer_fault *fault)
{
    return (const Coffer__V1__ReferenceFault *) (const void *) fault;
}

size_t coffer_item_fault_count(const coffer_item *item)
{
    return item->wire->n_faults;
}

const coffer_fault *coffer_item_fault(const coffer_item *item, size_t index)
{
    return index < item->wire->n_faults ? (const coffer_fault *) (const void *) item->wire->faults[index] : NULL;
}

size_t coffer_fault_reference(const coffer_fault *fault)
{
    return wire_of(fault)->reference_index;
}

const char *coffer_fault_secret(const coffer_fault *fault)
{
    return wire_of(fault)->reference == NULL ? "" : wire_of(fault)->reference->name;
}

const char *coffer_fault_key(const coffer_fault *fault)
{
    return wire_of(fault)->reference == NULL ? "" : wire_of(fault)->reference->key;
}

coffer_outcome coffer_fault_outcome(const coffer_fault *fault)
{
    return (coffer_outcome) wire_of(fault)->outcome;
}

const char *coffer_fault_message(const coffer_fault *fault)
{
    return wire_of(fault)->message;
}

uint32_t coffer_fault_retry_after_ms(const coffer_fault *fault)
{
    return item_milliseconds(wire_of(fault)->retry_delay);
}

size_t coffer_fault_near_miss_count(const coffer_fault *fault)
{
    return wire_of(fault)->n_near_misses;
}

const char *coffer_fault_near_miss(const coffer_fault *fault, size_t index)
{
    return index < wire_of(fault)->n_near_misses ? wire_of(fault)->near_misses[index] : "";
}
