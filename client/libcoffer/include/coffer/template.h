#ifndef COFFER_TEMPLATE_H
#define COFFER_TEMPLATE_H

/*
 * Texts and documents with references to secrets, `${{ SECRETS.<name>.<KEY> }}`: docs/expressions.md of the source has
 * the language. Three steps: read the text, resolve its references, put the values in.
 *
 *     coffer_template *parsed = NULL;
 *     coffer_text *text = NULL;
 *     if (coffer_template_new(COFFER_TEMPLATE_JSON, document, length, NULL, &parsed, &error) == COFFER_OK) {
 *         coffer_request_add_template(request, parsed);
 *         if (coffer_resolve(client, request, &result, &error) == COFFER_OK &&
 *             coffer_template_expand(parsed, result, 0, &text, &error) == COFFER_OK) {
 *             coffer_bytes bytes = coffer_text_bytes(text);
 *             ...
 *         }
 *     }
 *
 * The document itself is never sent to the server.
 */

#include <coffer/coffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A text that was read, with its references. It does not change, so threads may share it. */
typedef struct coffer_template coffer_template;

typedef enum coffer_template_kind {
    COFFER_TEMPLATE_TEXT = 0, /* any text; its values may be any bytes */
    COFFER_TEMPLATE_JSON = 1, /* the strings of a document, values and keys; all other bytes stay as they are */
    COFFER_TEMPLATE_YAML = 2  /* the same for YAML in UTF-8 */
} coffer_template_kind;

/*
 * Begin with COFFER_TEMPLATE_OPTIONS_INIT; a field that is 0 or NULL is not given. The patterns name parts of a
 * document, such as "actions.*.args.url" or "**.password"; of both kinds together at most 100.
 */
typedef struct coffer_template_options {
    size_t struct_size;
    const char *const *exclude; /* parts that are left alone, and whose references are not resolved */
    size_t exclude_count;
    const char *const *redact; /* parts in which `***` stands for every text with a reference */
    size_t redact_count;
} coffer_template_options;

#define COFFER_TEMPLATE_OPTIONS_INIT                      \
    {                                                     \
        sizeof(coffer_template_options), NULL, 0, NULL, 0 \
    }

/*
 * Reads a text or a document, which is copied. `options` may be NULL.
 *
 * Errors, of which coffer_error_fault_count and the functions below it have all that are in the text:
 *   EXPRESSION_INVALID    a reference or a template is not written as it must be
 *   EXPRESSION_TOO_LONG, TEXT_TOO_LARGE, TOO_MANY_REFERENCES, DOCUMENT_TOO_DEEP    limits
 *   DOCUMENT_INVALID      the document is not JSON or YAML, or a reference stands where none can
 *   FIELD_INVALID, LIMIT_EXCEEDED    a pattern is wrong or too long, or there are too many
 *   OUT_OF_MEMORY
 */
COFFER_API coffer_status coffer_template_new(coffer_template_kind kind, const void *text, size_t length,
                                             const coffer_template_options *options, coffer_template **ret_template,
                                             coffer_error **ret_error) COFFER_MUST_USE;
COFFER_API void coffer_template_free(coffer_template *parsed); /* NULL is allowed */

/* The different references, in the order of their first mention. */
COFFER_API size_t coffer_template_reference_count(const coffer_template *parsed);
/* Valid until the template is freed; NULL if the index is not less than the count. */
COFFER_API const char *coffer_template_reference_secret(const coffer_template *parsed, size_t index);
COFFER_API const char *coffer_template_reference_key(const coffer_template *parsed, size_t index);
/* False if it may be missing: wherever it stands, something follows behind a `||`. */
COFFER_API bool coffer_template_reference_required(const coffer_template *parsed, size_t index);

/*
 * Adds what the text needs to the last item of the request: its references, and the choices that it makes with `||`,
 * which the server decides by the rules of the language. Of the text nothing but the names of secrets and keys is sent.
 * Several templates may be added to one item, and other things with them; all values come from one state. A reference
 * counts towards the item's 1,000 once by itself, and once for each different choice that it stands in.
 */
COFFER_API void coffer_request_add_template(coffer_request *request, const coffer_template *parsed);

/* A text with its values. It belongs to one thread at a time. */
typedef struct coffer_text coffer_text;

/*
 * Puts the values of the result's item with this index into the text. They are copied, into memory of the result's
 * client: the result may be freed first.
 *
 * Errors, of which coffer_error_fault_count and the functions below it have all that are in the text:
 *   SECRET_NOT_FOUND, KEY_NOT_FOUND, PERMISSION_DENIED, ...    what became of a reference
 *   VALUE_ABSENT             null stands within other text
 *   VALUE_NOT_TEXT           a value that is not UTF-8 cannot stand in a document
 *   DOCUMENT_KEY_CONFLICT    two keys of a mapping would become equal, or one null
 *   FIELD_INVALID            there is no such item, or it was not asked for the references of this template
 *   OUT_OF_MEMORY
 */
COFFER_API coffer_status coffer_template_expand(const coffer_template *parsed, const coffer_result *result,
                                                size_t index, coffer_text **ret_text,
                                                coffer_error **ret_error) COFFER_MUST_USE;

/* Wipes and frees. NULL is allowed. */
COFFER_API void coffer_text_free(coffer_text *text);

/* The text, valid until it is freed; not NUL-terminated. `data` is NULL if it is null. */
COFFER_API coffer_bytes coffer_text_bytes(const coffer_text *text);

/* The whole text is one template, and its value is null. Only of COFFER_TEMPLATE_TEXT. */
COFFER_API bool coffer_text_is_null(const coffer_text *text);

/*
 * Everything that is wrong with the text, up to 1,000 faults; 0 for errors of another kind. Texts are valid until the
 * error is freed and have no value of a secret in them. What is returned past the end is COFFER_REASON_NONE, 0 or
 * empty.
 */
COFFER_API size_t coffer_error_fault_count(const coffer_error *error);
COFFER_API coffer_reason coffer_error_fault_reason(const coffer_error *error, size_t index);
/* From 1, columns in characters. In a document, of the string that the fault is in. */
COFFER_API uint32_t coffer_error_fault_line(const coffer_error *error, size_t index);
COFFER_API uint32_t coffer_error_fault_column(const coffer_error *error, size_t index);
/* In a document, as a pattern names it. */
COFFER_API const char *coffer_error_fault_path(const coffer_error *error, size_t index);
/* What is wrong, where, and what to do next. */
COFFER_API const char *coffer_error_fault_message(const coffer_error *error, size_t index);

#ifdef __cplusplus
}
#endif

#endif
