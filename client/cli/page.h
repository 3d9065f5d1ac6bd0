#pragma once

#include "client/cli/cli.h"

/* Lists that come in pages: all of them go into one table. */

enum { PAGE_SIZE = 1000 };

/* Where a list goes on. */
struct page {
    char *token; /* "" for the first page */
    bool more;
};

/* Remembers the token of the next page, which is copied; "" or NULL ends the list. */
void page_next(struct page *page, const char *token);

/* Asks for one page, adds its rows, and calls page_next. */
typedef cli_exit page_function(struct cli *cli, struct cli_table *table, struct page *page);

/* Prints all pages as one table. */
cli_exit page_all(struct cli *cli, const char *const *headers, size_t columns, page_function *one);
