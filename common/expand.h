#pragma once

#include "common/arena.h"
#include "common/expression.h"
#include "common/fault_list.h"
#include "common/references.h"
#include "common/sink.h"

/*
 * What templates are worth, given the outcomes of their references, and texts with the values in their places. A
 * value is never looked at again: a template in it stays what it is, text.
 */

typedef enum cof_found_kind {
    COF_FOUND_VALUE,
    COF_FOUND_ABSENT, /* declared optional, and missing: null */
    COF_FOUND_MISSING, /* there is no such secret, key or connection: an error, unless something stands behind `||` */
    COF_FOUND_FAILED,   /* any other outcome: always an error */
    COF_FOUND_WITHHELD, /* not told, because something else failed: an error that is worth telling if it is alone */
} cof_found_kind;

struct cof_found {
    cof_found_kind kind;
    struct cof_slice value; /* of COF_FOUND_VALUE; borrowed */
    cof_reason reason;      /* of the kinds that are errors */
    const char *message;    /* the same; borrowed until the next look-up */
};

/* Says what became of a reference: the same, however often it is asked. */
struct cof_lookup {
    void (*find)(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found);
    void *context;
};

/* Where a text stands in a document, for faults. */
struct cof_where {
    struct cof_place place;
    void (*write_path)(const void *context, char *to, size_t size); /* NUL-terminated, cut if it must be */
    const void *context;
};

struct cof_expansion {
    const struct cof_lookup *lookup;
    struct cof_fault_list *faults; /* NULL: the look-up knows all that is to be told */
    const struct cof_where *where; /* NULL: the text stands by itself, and values may be any bytes */
    cof_encoding encoding;
};

struct cof_value {
    bool null;
    struct cof_slice bytes; /* borrowed from the look-up or the template */
};

/*
 * The value of a template that is evaluated here. The first operand that is there and not empty is taken, and those
 * behind it are not looked up; if there is none, the last one's value, which may be empty or null. False: it has
 * none, and the fault was added.
 */
bool cof_template_value(const struct cof_expansion *expansion, const struct cof_template *template,
                        struct cof_value *ret_value);

/* The same for operands that were read before, of those that decide: the ones behind a literal that is not empty may be
 * left out, and so may `None` and empty literals that are not the last operand. */
bool cof_operands_value(const struct cof_expansion *expansion, const struct cof_template *template,
                        const struct cof_operand *operands, size_t count, struct cof_value *ret_value);

/* What became of a text. */
typedef enum cof_expanded {
    COF_EXPANDED_SAME, /* it holds nothing that is evaluated here */
    COF_EXPANDED_TEXT,
    COF_EXPANDED_NULL, /* the whole text is one template whose value is null; nothing was written */
} cof_expanded;

/*
 * Writes the text with its values. Templates that are not evaluated here stay as they are, but what is wrong with
 * their references is a fault. All faults of the text are added; with any of them what was written is of no use.
 */
cof_expanded cof_text_write(const struct cof_expansion *expansion, struct cof_slice text, struct cof_sink *sink);

/*
 * Adds the references of a text, before anything is resolved. What is wrong with the text is a fault, and not a
 * failure; the expansion needs no look-up. Fails with TOO_MANY_REFERENCES or OUT_OF_MEMORY.
 */
COF_CODE cof_text_references(const struct cof_expansion *expansion, struct cof_slice text,
                             struct cof_references *references, struct cof_error *err);

/* Whether the text holds a reference, or what should be one and is wrong. */
bool cof_text_refers(struct cof_slice text);

/* Adds a fault of the text at this place of its own, or of its whole if it stands in a document. */
void cof_text_fault(const struct cof_expansion *expansion, struct cof_place place, cof_reason reason,
                    const char *problem);

/*
 * A whole text, not part of a document: its value in the arena. Fails with the first of the faults, which all stand
 * in the list, with TEXT_TOO_LARGE or OUT_OF_MEMORY.
 */
COF_CODE cof_text_expand(struct cof_slice text, const struct cof_lookup *lookup, struct cof_fault_list *faults,
                         struct cof_arena *arena, struct cof_value *ret_value, struct cof_error *err);
