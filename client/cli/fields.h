#pragma once

#include "client/cli/page.h"

/* --fields: which columns of a list are shown, in which order, or which members its items have as JSON. */

enum { FIELDS_MAX = 32 };

struct fields {
    size_t at[FIELDS_MAX]; /* columns, or fields of the item's message */
    size_t count;          /* 0: all of them */
};

/* Reads "name,version", of the columns or, with `json`, of the members. Says which there are if one is none of them. */
cli_exit fields_read(const char *text, const struct list *list, bool json, struct fields *ret_fields);

/* All that there are, one on a line. */
void fields_print(const struct list *list, bool json);

/* The message of an item of the list. */
const ProtobufCMessageDescriptor *fields_item(const struct list *list);
