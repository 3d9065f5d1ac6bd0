#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <google/protobuf/timestamp.pb-c.h>

#include "client/cli/cli.h"

enum { TIME_BUFFERS = 4, TIME_SIZE = 32, MINUTE = 60, HOUR = 3600, DAY = 86400 };

struct cli_table {
    size_t columns;
    char **cells;
    size_t count;
    size_t room;
};

struct cli_table *cli_table_new(const char *const *headers, size_t columns)
{
    struct cli_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    table->columns = columns;
    for (size_t i = 0; i < columns; i++) {
        cli_table_add(table, headers[i]);
    }
    return table;
}

void cli_table_add(struct cli_table *table, const char *text)
{
    if (table == NULL) {
        return;
    }
    if (table->count == table->room) {
        const size_t room = table->room == 0 ? 64 : table->room * 2;
        char **grown = realloc(table->cells, room * sizeof *grown);
        if (grown == NULL) {
            return;
        }
        table->cells = grown;
        table->room = room;
    }
    table->cells[table->count++] = strdup(text[0] == '\0' ? "-" : text);
}

static size_t width_of(const struct cli_table *table, size_t column)
{
    size_t width = 0;
    for (size_t i = column; i < table->count; i += table->columns) {
        const size_t length = table->cells[i] == NULL ? 0 : strlen(table->cells[i]);
        width = length > width ? length : width;
    }
    return width;
}

static void print_row(const struct cli_table *table, size_t first, bool aligned)
{
    for (size_t column = 0; column < table->columns; column++) {
        const char *cell = table->cells[first + column];
        const bool last = column + 1 == table->columns;
        if (aligned && !last) {
            printf("%-*s  ", (int) width_of(table, column), cell);
        } else {
            printf("%s%s", cell, last ? "\n" : "\t");
        }
    }
}

void cli_table_print(struct cli_table *table)
{
    if (table == NULL) {
        return;
    }
    const bool terminal = isatty(STDOUT_FILENO) == 1;
    for (size_t first = terminal ? 0 : table->columns; first + table->columns <= table->count;
         first += table->columns) {
        print_row(table, first, terminal);
    }
    for (size_t i = 0; i < table->count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    free(table);
}

static void write_span(char *text, int64_t seconds)
{
    const int64_t span = seconds < 0 ? -seconds : seconds;
    const int64_t units[] = {DAY, HOUR, MINUTE, 1};
    const char *const names[] = {"d", "h", "min", "s"};
    size_t i = 0;
    while (i + 1 < COF_COUNT(units) && span < units[i]) {
        i++;
    }
    (void) snprintf(text, TIME_SIZE, seconds < 0 ? "in %" PRId64 " %s" : "%" PRId64 " %s ago", span / units[i],
                    names[i]);
}

const char *cli_time(const void *timestamp)
{
    static char buffers[TIME_BUFFERS][TIME_SIZE];
    static unsigned next;
    const Google__Protobuf__Timestamp *at = timestamp;
    if (at == NULL) {
        return "-";
    }
    char *text = buffers[next++ % TIME_BUFFERS];
    write_span(text, (int64_t) time(NULL) - at->seconds);
    return text;
}
