#include "server/service/resolve_expression.h"

#include <assert.h>

#include "common/expand.h"

/* An expression that is evaluated. Its operands are asked for in the order in which they stand in the list. */
struct evaluation {
    struct call *call;
    struct plan *plan;
    struct cof_slice environment;
    struct lookup *lookups;
    size_t next; /* the reference that is asked for next */
    cof_code code;
};

static cof_found_kind kind_of(outcome value)
{
    if (value == OUTCOME(RESOLVED)) {
        return COF_FOUND_VALUE;
    }
    if (value == OUTCOME(ABSENT)) {
        return COF_FOUND_ABSENT;
    }
    return value == OUTCOME(SECRET_NOT_FOUND) || value == OUTCOME(KEY_NOT_FOUND) ||
                   value == OUTCOME(CONNECTION_NOT_FOUND)
               ? COF_FOUND_MISSING
               : COF_FOUND_FAILED;
}

static void find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found)
{
    struct evaluation *evaluation = context;
    const size_t index = evaluation->next++;
    struct lookup *lookup = &evaluation->lookups[index];
    evaluation->code = lookup_find(evaluation->call, evaluation->plan, evaluation->environment, index, lookup);
    if (evaluation->code != COF_OK) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_FAILED, .message = ""};
        return;
    }
    assert(cof_slice_equal(lookup->name, name) && cof_slice_equal(lookup->key, key));
    *ret_found = (struct cof_found){
        .kind = kind_of(lookup->outcome), .reason = outcome_reason(lookup->outcome), .message = ""};
    if (lookup->value != NULL) {
        ret_found->value = lookup->value->bytes;
    }
}

/* Those behind the one that was taken are not looked up, so nothing of them is opened or told. */
static void skip(struct evaluation *evaluation, size_t end)
{
    const struct asked *asked = &evaluation->plan->asked;
    for (size_t i = evaluation->next; i < end; i++) {
        evaluation->lookups[i] = (struct lookup){.reference = asked->references[i], .outcome = OUTCOME(NOT_NEEDED)};
    }
}

/* Of the references that were asked for only the last one can have failed the expression. */
static void tolerate(struct evaluation *evaluation, size_t first, bool has_value)
{
    const size_t end = has_value ? evaluation->next : evaluation->next - 1;
    for (size_t i = first; i < end; i++) {
        evaluation->lookups[i].tolerated = outcome_is_fault(evaluation->lookups[i].outcome);
    }
}

static void set_value(const struct asked_expression *expression, const struct cof_value *value,
                      Coffer__V1__ExpressionResult *result)
{
    /* Null is the value of the last operand only. */
    if (value->null) {
        const struct cof_operand *last = &expression->operands[expression->operand_count - 1];
        const bool of_reference = last->kind == COF_OPERAND_REFERENCE;
        result->outcome = of_reference ? OUTCOME(ABSENT) : OUTCOME(RESOLVED);
        result->result_case = COFFER__V1__EXPRESSION_RESULT__RESULT_NULL_VALUE;
        result->null_value = 1;
        return;
    }
    result->outcome = OUTCOME(RESOLVED);
    result->result_case = COFFER__V1__EXPRESSION_RESULT__RESULT_VALUE;
    /* protobuf-c's type has no const; packing only reads. */
    memcpy(&result->value.data, &value->bytes.data, sizeof result->value.data);
    result->value.len = value->bytes.len;
}

static cof_code evaluate(struct evaluation *evaluation, const struct asked_expression *expression,
                         Coffer__V1__ExpressionResult *result)
{
    const struct cof_lookup lookup = {.find = find, .context = evaluation};
    const struct cof_expansion expansion = {.lookup = &lookup};
    struct cof_value value;
    const bool has_value = cof_operands_value(&expansion, &expression->template, expression->operands,
                                              expression->operand_count, &value);
    TRY(evaluation->code);
    skip(evaluation, expression->first + expression->count);
    tolerate(evaluation, expression->first, has_value);
    if (has_value) {
        set_value(expression, &value, result);
    } else {
        result->outcome = evaluation->lookups[evaluation->next - 1].outcome;
    }
    return COF_OK;
}

/* The workflow engine will need every one of them. */
static cof_code find_all(struct evaluation *evaluation, const struct asked_expression *expression,
                         Coffer__V1__ExpressionResult *result)
{
    outcome worst = OUTCOME(RESOLVED);
    for (size_t i = expression->first; i < expression->first + expression->count; i++) {
        TRY(lookup_find(evaluation->call, evaluation->plan, evaluation->environment, i, &evaluation->lookups[i]));
        worst = outcome_worse(worst, evaluation->lookups[i].outcome);
    }
    result->outcome = outcome_is_fault(worst) ? worst : OUTCOME(RESOLVED);
    result->result_case = COFFER__V1__EXPRESSION_RESULT__RESULT_NOT_EVALUATED;
    result->not_evaluated = 1;
    return COF_OK;
}

static cof_code add_result(struct evaluation *evaluation, const struct asked_expression *expression,
                           Coffer__V1__ExpressionResult *result)
{
    if (expression->problem != NULL) {
        evaluation->lookups[expression->first] = (struct lookup){
            .outcome = OUTCOME(EXPRESSION_INVALID),
            .problem = expression->problem,
        };
        result->outcome = OUTCOME(EXPRESSION_INVALID);
        return COF_OK;
    }
    evaluation->next = expression->first;
    return expression->count > 0 && expression->template.evaluated ? evaluate(evaluation, expression, result)
                                                                   : find_all(evaluation, expression, result);
}

cof_code expression_results(struct call *call, struct plan *plan, struct cof_slice environment,
                            struct lookup *lookups, Coffer__V1__ResolveResult *result)
{
    const struct asked *asked = &plan->asked;
    struct evaluation evaluation = {
        .call = call, .plan = plan, .environment = environment, .lookups = lookups, .code = COF_OK};
    if (asked->expression_count == 0) {
        return COF_OK;
    }
    result->expressions =
        cof_arena_array(call->arena, asked->expression_count, sizeof(Coffer__V1__ExpressionResult *));
    if (result->expressions == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < asked->expression_count; i++) {
        Coffer__V1__ExpressionResult *one = cof_arena_alloc(call->arena, sizeof *one);
        if (one == NULL) {
            return cof_arena_exhausted(call->err);
        }
        coffer__v1__expression_result__init(one);
        TRY(add_result(&evaluation, &asked->expressions[i], one));
        result->expressions[result->n_expressions++] = one;
    }
    return COF_OK;
}

void expression_withhold(Coffer__V1__ResolveResult *result)
{
    for (size_t i = 0; i < result->n_expressions; i++) {
        if (result->expressions[i]->result_case != COFFER__V1__EXPRESSION_RESULT__RESULT_NOT_EVALUATED) {
            result->expressions[i]->result_case = COFFER__V1__EXPRESSION_RESULT__RESULT__NOT_SET;
        }
    }
}
