#pragma once

#include "common/expand.h"
#include "common/path.h"
#include "common/references.h"

/*
 * Documents whose strings are texts with templates: values, and keys of mappings. What is substituted stays a string
 * or becomes null, and every byte outside of the strings that change stays as it was. docs/expressions.md has the
 * rules.
 *
 * Two steps: the references of the document, then, when they are resolved, the document with its values. A plain text
 * is the simplest kind of document; values in it may be any bytes, and rules do not concern it.
 */

typedef enum cof_document_kind {
    COF_DOCUMENT_TEXT,
    COF_DOCUMENT_JSON,
    COF_DOCUMENT_YAML,
} cof_document_kind;

struct cof_document {
    cof_document_kind kind;
    struct cof_slice text;
    const struct cof_path_rules *rules; /* NULL: all of it is expanded */
};

/*
 * Adds the references of the parts that are neither excluded nor redacted. What is wrong with texts is added to the
 * faults, and the failure is the first of them. Fails also with DOCUMENT_INVALID, DOCUMENT_TOO_DEEP, TEXT_TOO_LARGE,
 * TOO_MANY_REFERENCES or OUT_OF_MEMORY.
 */
COF_CODE cof_document_references(const struct cof_document *document, struct cof_references *references,
                                 struct cof_fault_list *faults, struct cof_arena *arena, struct cof_error *err);

/*
 * The document with its values, in the arena; only a plain text can become null. Fails as above, with the reason of
 * the first fault, all of which are in the list.
 */
COF_CODE cof_document_expand(const struct cof_document *document, const struct cof_lookup *lookup,
                             struct cof_fault_list *faults, struct cof_arena *arena, struct cof_value *ret_value,
                             struct cof_error *err);
