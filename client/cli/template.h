#pragma once

#include <coffer/template.h>

#include "client/cli/cli.h"

/* Texts and documents with references, as commands take them. */

struct template
{
    const char *from; /* names it in messages */
    const char *text;
    size_t length;
    char *owned; /* the text, if it was read from a file */
    coffer_template *parsed;
};

/*
 * Reads standard input if `path` is NULL; "text", "json" or "yaml" in `format`, or NULL: by the path's ending. Says all
 * that is wrong. To be given to template_done in any case.
 */
cli_exit template_read(const char *path, const char *format, struct template *ret_template);

/* Parses the text, which is there. */
cli_exit template_parse(struct template *template, coffer_template_kind kind);

void template_done(struct template *template);

/* Says all that is wrong with a text, where it stands, and returns the exit code. `from` names the text. */
cli_exit template_fail(const char *from, const coffer_error *error);

/* Resolves the references in the only environment, puts the values in, and prints the text or writes it to --out. */
cli_exit template_print(struct cli *cli, const struct template *template);
