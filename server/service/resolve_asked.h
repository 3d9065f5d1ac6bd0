#pragma once

#include <coffer/v1/integration.pb-c.h>
#include <coffer/v1/resolve.pb-c.h>

#include "common/expression.h"
#include "server/service/call.h"

/*
 * What an item asks for, as one list: its references, then the keys and OAuth tokens that it declares, then the references
 * of its expressions, then what its action declares. The outcomes of a result are in this order.
 *
 * A declaration has its keys and then its optional keys in the list; one without any stands there with an empty key,
 * for the secret itself. An expression has its references in the order in which they are written; one that is not
 * written as it must be stands there with empty names.
 */

/* What declarations say of a reference; several may say it, and required wins over optional. */
typedef enum need {
    NEED_SECRET_OPTIONAL = 1, /* the secret may be missing */
    NEED_KEY_OPTIONAL = 2,    /* the key may be missing */
    NEED_KEY_FILLED = 4,      /* the key must be there, and not blank */
    NEED_SECRET_ONLY = 8,     /* there is no key: the secret itself is meant */
    NEED_CONNECTION = 16,     /* it is the token of an OAuth connection */
} need;

/* Where a declaration's keys stand in the list. */
struct asked_declaration {
    const Coffer__V1__SecretDeclaration *declaration;
    size_t first;
    size_t count;
};

/*
 * Expressions are read once, and evaluated in each environment. Of one that is evaluated the operands are kept that can
 * decide its value: references, up to the first literal that is not empty, and the last one.
 */
struct asked_expression {
    char *problem;                /* NULL: it is written as it must be */
    struct cof_template template; /* of one that holds a reference */
    struct cof_operand *operands; /* of one that is evaluated */
    size_t operand_count;
    size_t first; /* its references in the list */
    size_t count;
};

/* An OAuth token, and where it stands in the list. */
struct asked_token {
    const Coffer__V1__OAuthDeclaration *declaration;
    size_t place;
};

/* Borrows from the item. */
struct asked {
    Coffer__V1__SecretReference **references;
    size_t count;
    uint8_t *needs; /* of each of them; NULL: nothing is declared */
    struct asked_declaration *declarations;
    size_t declaration_count;
    struct asked_token *tokens;
    size_t token_count;
    struct asked_expression *expressions;
    size_t expression_count;
    size_t before_expressions; /* how many stand before them */
    size_t behind_expressions; /* where what the action declares begins */
};

/* How many entries of the list are known before expressions are read: at least one for each expression. */
size_t asked_least(const Coffer__V1__ResolveItem *item);

/*
 * Reads an item; `needs` is what its action declares, NULL if it names none. Plain references are borrowed as they are. A
 * failure is the request's: LIMIT_EXCEEDED, which names the item by its index, or OUT_OF_MEMORY.
 */
COF_CODE asked_read(struct call *call, const Coffer__V1__ResolveItem *item, size_t index,
                    const Coffer__V1__ActionDeclarations *needs, struct asked *ret_asked);

/* The failure of a request that asks for too many things. */
COF_CODE asked_too_many(struct call *call, const char *field, const char *what, uint64_t count, uint32_t limit);
