#include "server/service/outcome.h"

struct outcome_row {
    outcome value;
    cof_code code;
    cof_reason reason;
    const char *name;
};

#define ROW(name, code, reason)                               \
    {                                                         \
        OUTCOME(name), COF_##code, COF_REASON_##reason, #name \
    }

/* The better ones first: the rank of an outcome is its place. */
static const struct outcome_row outcomes[] = {
    ROW(UNSPECIFIED, INTERNAL, INTERNAL),
    ROW(RESOLVED, OK, NONE),
    ROW(NOT_NEEDED, OK, NONE),
    ROW(ABSENT, OK, NONE),
    ROW(PENDING, UNAVAILABLE, IN_PROGRESS),
    ROW(DEFERRED, RESOURCE_EXHAUSTED, MESSAGE_TOO_LARGE),
    ROW(KEY_EMPTY, FAILED_PRECONDITION, KEY_EMPTY),
    ROW(KEY_NOT_FOUND, NOT_FOUND, KEY_NOT_FOUND),
    ROW(SECRET_NOT_FOUND, NOT_FOUND, SECRET_NOT_FOUND),
    ROW(CONNECTION_NOT_FOUND, NOT_FOUND, CONNECTION_NOT_FOUND),
    ROW(DECLARATION_NOT_SATISFIED, FAILED_PRECONDITION, DECLARATION_NOT_SATISFIED),
    ROW(INCOMPLETE_AWS_KEYS, FAILED_PRECONDITION, INCOMPLETE_AWS_KEYS),
    ROW(SECRET_EXPIRED, FAILED_PRECONDITION, SECRET_EXPIRED),
    ROW(REAUTH_REQUIRED, FAILED_PRECONDITION, REAUTH_REQUIRED),
    ROW(AWS_ROLE_ARN_INVALID, FAILED_PRECONDITION, AWS_ROLE_ARN_INVALID),
    ROW(AWS_REGION_INVALID, FAILED_PRECONDITION, AWS_REGION_INVALID),
    ROW(AWS_SESSION_REFUSED, FAILED_PRECONDITION, AWS_SESSION_REFUSED),
    ROW(AWS_ROLE_REFUSED, FAILED_PRECONDITION, AWS_ROLE_REFUSED),
    ROW(EXPRESSION_INVALID, INVALID_ARGUMENT, EXPRESSION_INVALID),
    ROW(ENVIRONMENT_VIEW_CONFLICT, FAILED_PRECONDITION, ENVIRONMENT_VIEW_CONFLICT),
    ROW(TOO_LARGE, RESOURCE_EXHAUSTED, ANSWER_TOO_LARGE),
    ROW(ITEM_INVALID, INVALID_ARGUMENT, FIELD_INVALID),
    ROW(NOT_AVAILABLE, UNIMPLEMENTED, NOT_AVAILABLE),
    ROW(PERMISSION_DENIED, PERMISSION_DENIED, PERMISSION_DENIED),
    ROW(CONSISTENCY_TOKEN_UNKNOWN, FAILED_PRECONDITION, CONSISTENCY_TOKEN_UNKNOWN),
    ROW(CONSISTENCY_NOT_REACHED, UNAVAILABLE, CONSISTENCY_NOT_REACHED),
    ROW(PROVIDER_UNAVAILABLE, UNAVAILABLE, PROVIDER_UNAVAILABLE),
    ROW(AWS_THROTTLED, UNAVAILABLE, AWS_THROTTLED),
    ROW(AWS_UNAVAILABLE, UNAVAILABLE, AWS_UNAVAILABLE),
    ROW(AWS_IDENTITY_MISSING, FAILED_PRECONDITION, AWS_IDENTITY_MISSING),
    ROW(AWS_IDENTITY_REFUSED, FAILED_PRECONDITION, AWS_IDENTITY_REFUSED),
    ROW(DEADLINE_EXCEEDED, DEADLINE_EXCEEDED, DEADLINE_EXCEEDED),
    ROW(STORE_UNAVAILABLE, UNAVAILABLE, DATABASE_UNAVAILABLE),
    ROW(WORKSPACE_DISABLED, FAILED_PRECONDITION, WORKSPACE_DISABLED),
    ROW(ACTION_NOT_FOUND, NOT_FOUND, ACTION_NOT_FOUND),
    ROW(CORRUPTED, DATA_LOSS, CORRUPTED),
};

static size_t rank_of(outcome value)
{
    for (size_t i = 0; i < COF_COUNT(outcomes); i++) {
        if (outcomes[i].value == value) {
            return i;
        }
    }
    return 0;
}

cof_code outcome_code(outcome value)
{
    return outcomes[rank_of(value)].code;
}

cof_reason outcome_reason(outcome value)
{
    return outcomes[rank_of(value)].reason;
}

const char *outcome_name(outcome value)
{
    return outcomes[rank_of(value)].name;
}

outcome outcome_worse(outcome a, outcome b)
{
    return rank_of(b) > rank_of(a) ? b : a;
}

bool outcome_is_fault(outcome value)
{
    return outcome_code(value) != COF_OK;
}

outcome outcome_of_reason(cof_reason reason)
{
    for (size_t i = 1; i < COF_COUNT(outcomes); i++) {
        if (outcomes[i].reason == reason && reason != COF_REASON_NONE) {
            return outcomes[i].value;
        }
    }
    switch (cof_reason_code(reason)) {
    case COF_INVALID_ARGUMENT:
        return OUTCOME(ITEM_INVALID);
    case COF_RESOURCE_EXHAUSTED:
        return OUTCOME(TOO_LARGE);
    case COF_PERMISSION_DENIED:
    case COF_NOT_FOUND:
        return OUTCOME(PERMISSION_DENIED);
    case COF_OK:
    case COF_CANCELLED:
    case COF_UNKNOWN:
    case COF_DEADLINE_EXCEEDED:
    case COF_ALREADY_EXISTS:
    case COF_FAILED_PRECONDITION:
    case COF_ABORTED:
    case COF_OUT_OF_RANGE:
    case COF_UNIMPLEMENTED:
    case COF_INTERNAL:
    case COF_UNAVAILABLE:
    case COF_DATA_LOSS:
    case COF_UNAUTHENTICATED:
        break;
    }
    return OUTCOME(STORE_UNAVAILABLE);
}
