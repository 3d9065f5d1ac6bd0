#include "client/cli/page.h"

#include <stdlib.h>
#include <string.h>

void page_next(struct page *page, const char *token)
{
    char *next = strdup(token == NULL ? "" : token);
    free(page->token);
    page->token = next;
    page->more = next != NULL && next[0] != '\0';
}

cli_exit page_all(struct cli *cli, const char *const *headers, size_t columns, page_function *one)
{
    struct page page = {.more = true};
    cli_exit code = CLI_OK;
    page_next(&page, "");
    page.more = page.token != NULL;
    struct cli_table *table = cli_table_new(headers, columns);
    while (code == CLI_OK && page.more) {
        code = one(cli, table, &page);
    }
    free(page.token);
    if (code == CLI_OK) {
        cli_table_print(table);
    } else {
        cli_table_free(table);
    }
    return code;
}
