#pragma once

#include "client/cli/cli.h"

/* Lists that come in pages: all of them go into one table, or into one list of JSON. */

/* Adds the cells of one row. */
typedef void list_row(struct cli_table *table, const ProtobufCMessage *item);

struct list {
    const char *method;
    const ProtobufCMessageDescriptor *response;
    const char *items; /* the repeated field of the response */
    const char *const *headers;
    size_t columns;
    list_row *row;
    const char *none; /* what is said on a terminal where there are no items */
};

/* Asks for all pages, with the fields `page_size` and `page_token` of the request, and prints what came. */
cli_exit list_all(struct cli *cli, const struct list *list, ProtobufCMessage *request);
