#pragma once

#include <stdio.h>

#include "client/reflect/schema.h"

/* Writes an entry as it would stand in a proto file, with its comments; names of types are full. With a method come its
 * request and its response, with a service its methods. Nothing that a terminal would obey is written. */
void schema_print(FILE *out, const struct schema *schema, const struct schema_entry *entry);

/* The first sentence of a comment, on one line, into `size` bytes; a longer one is cut. */
void schema_summary(const char *comment, char *text, size_t size);
