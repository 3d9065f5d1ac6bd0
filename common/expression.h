#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "common/slice.h"

/*
 * Templates in texts, `${{ ... }}`, with references to secrets in them, `SECRETS.<name>.<KEY>`. docs/expressions.md
 * has the language; clients in other languages follow the cases in tests/conformance/expressions.json.
 *
 * The scanner takes no memory and does not recurse. It reads each byte of a text a bounded number of times, and
 * whatever it hands out borrows from the text. What templates are worth is common/expand.h's business.
 */

enum {
    COF_TEXT_MAX = 1 << 20,    /* bytes of a text or a document */
    COF_EXPRESSION_MAX = 8192, /* bytes of a template, from `${{` to `}}` */
};

/* Where in a text: bytes from 0, lines from 1, columns from 1 in characters. A line ends with LF, CR or CRLF. */
struct cof_place {
    size_t offset;
    uint32_t line;
    uint32_t column;
};

/* A template that holds at least one reference. */
struct cof_template {
    struct cof_slice text; /* from `${{` to `}}` */
    struct cof_place place;
    /* Operands joined by `||`, whose value is decided here. Otherwise the workflow engine evaluates the template,
     * and Coffer only resolves its references. */
    bool evaluated;
};

/* How far a text has been read. */
struct cof_template_scan {
    struct cof_slice text;
    struct cof_place at;
    struct cof_place fault; /* after a failure */
};

/* Begins at the start of the text. */
void cof_template_scan_init(struct cof_template_scan *scan, struct cof_slice text);

/*
 * Finds the next template that holds a reference; those without one are left alone, whatever they hold. `ret_found`
 * is false at the end.
 *
 * Fails with EXPRESSION_INVALID or EXPRESSION_TOO_LONG, with the place (scan->fault, and the facts `offset`, `line`
 * and `column`), what is wrong there and how to write it; calling again goes on behind what is wrong, so that all
 * faults of a text can be told at once. Fails with TEXT_TOO_LARGE at once, and calling again finds nothing.
 */
COF_CODE cof_template_next(struct cof_template_scan *scan, struct cof_template *ret_template, bool *ret_found,
                           struct cof_error *err);

typedef enum cof_operand_kind {
    COF_OPERAND_REFERENCE,
    COF_OPERAND_LITERAL,
    COF_OPERAND_NONE,
} cof_operand_kind;

struct cof_operand {
    struct cof_slice name;    /* of the secret */
    struct cof_slice key;     /* of the secret */
    struct cof_slice literal; /* as written, without its quotes */
    size_t offset;            /* in the template's text */
    cof_operand_kind kind;
    bool last;  /* nothing can take its place: the last of `||`, or not evaluated here */
    bool alone; /* it is needed whatever became of others: no other operand, or not evaluated here */
};

/* Goes through a template that cof_template_next has given. */
struct cof_operand_scan {
    struct cof_template template;
    size_t at;
};

void cof_operand_scan_init(struct cof_operand_scan *scan, const struct cof_template *template);

/* The next operand; of a template that is not evaluated here, its next reference. False behind the last one. */
bool cof_operand_next(struct cof_operand_scan *scan, struct cof_operand *ret_operand);

/* Whether the text is, but for white space around it, exactly this template, which borrows from it. */
bool cof_template_is_whole(struct cof_slice text, const struct cof_template *template);

/*
 * Reads a text that is one template by itself, but for white space around it: an expression, as servers are asked for
 * them. `ret_found` is false if it holds no reference. Fails with EXPRESSION_INVALID or EXPRESSION_TOO_LONG.
 */
COF_CODE cof_template_read(struct cof_slice text, struct cof_template *ret_template, bool *ret_found,
                           struct cof_error *err);

/* The place of a byte at or behind `from`. */
struct cof_place cof_place_behind(struct cof_slice text, struct cof_place from, size_t offset);

/* The start of any text. */
#define COF_PLACE_START ((struct cof_place){0, 1, 1})
