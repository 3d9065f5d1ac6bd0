#pragma once

#include <stdbool.h>

#include <coffer/v1/resolve.pb-c.h>

#include "common/error.h"

/* Outcomes of Resolve, as a table: code, reason and rank of each. */

typedef Coffer__V1__Outcome outcome;

#define OUTCOME(name) COFFER__V1__OUTCOME__OUTCOME_##name

cof_code outcome_code(outcome value);

/* The reason that says the same, for its next step; COF_REASON_NONE for outcomes that are no failure. */
cof_reason outcome_reason(outcome value);

/* "SECRET_NOT_FOUND" */
const char *outcome_name(outcome value);

/* The worse of two: failures over success, what needs an operator over what the caller can repair. */
outcome outcome_worse(outcome a, outcome b);

/* Neither resolved, absent nor not needed. */
bool outcome_is_fault(outcome value);

/* The outcome that a failure of a whole item stands for. */
outcome outcome_of_reason(cof_reason reason);
