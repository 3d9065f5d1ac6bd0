#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <google/protobuf/timestamp.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/message.h"
#include "client/cli/text.h"

enum {
    GAP = 2,
    NARROWEST = 8,
    BROKEN_LEAST = 24,
    TIME_BUFFERS = 4,
    TIME_SIZE = 40,
    MINUTE = 60,
    HOUR = 3600,
    DAY = 86400,
    FIELD_COLUMN = 13
};

struct cli_table {
    size_t columns;
    const char *none;
    bool colour;
    bool whole;
    char **cells;
    size_t count;
    size_t room;
};

static bool always;

/* What --color says. */
typedef enum colour_choice {
    COLOURS_AUTO, /* what the environment says */
    COLOURS_ALWAYS,
    COLOURS_NEVER,
} colour_choice;

static colour_choice colours_wanted;

void cli_table_always(void)
{
    always = true;
}

bool cli_on_terminal(void)
{
    return isatty(STDOUT_FILENO) == 1;
}

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

/* A terminal obeys control characters, among them the C1 ones (U+0080 to U+009F), and a tab would begin a column. */
char *cli_harmless(const char *text)
{
    char *copy = strdup(text[0] == '\0' ? "-" : text);
    for (char *at = copy; at != NULL && *at != '\0'; at++) {
        const unsigned char byte = (unsigned char) *at;
        if (byte < ' ' || byte == 0x7f) {
            *at = '?';
        } else if (byte == 0xc2 && (unsigned char) at[1] >= 0x80 && (unsigned char) at[1] < 0xa0) {
            at[0] = '?';
            at[1] = '?';
        }
    }
    return copy;
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
    table->cells[table->count++] = cli_harmless(text);
}

/* 0 for a column that is empty below its header; the first one never is. */
static size_t width_of(const struct cli_table *table, size_t column)
{
    size_t width = 0;
    bool empty = column > 0 && table->count > table->columns;
    for (size_t i = column; i < table->count; i += table->columns) {
        const size_t length = text_width(table->cells[i]);
        width = length > width ? length : width;
        empty = empty && (i == column || (table->cells[i] != NULL && strcmp(table->cells[i], "-") == 0));
    }
    return empty ? 0 : width;
}

/* What a column needs to be of use: its header, and the beginning of what is below. */
static size_t least_of(const struct cli_table *table, const size_t *widths, size_t column)
{
    const size_t header = text_width(table->cells[column]);
    const size_t least = header > NARROWEST ? header : NARROWEST;
    return widths[column] < least ? widths[column] : least;
}

/* The widest of the columns that can be narrower; 0 if there is none, since names, in the first one, stay whole. */
static size_t widest_of(const struct cli_table *table, const size_t *widths)
{
    size_t widest = 0;
    for (size_t i = 1; i < table->columns; i++) {
        if (widths[i] > least_of(table, widths, i) && (widest == 0 || widths[i] > widths[widest])) {
            widest = i;
        }
    }
    return widest;
}

/* Takes from the widest columns until the rows have room; false if they have none. */
static bool fit(const struct cli_table *table, size_t *widths)
{
    const size_t room = text_room(stdout);
    size_t total = 0;
    for (size_t i = 0; i < table->columns; i++) {
        total += widths[i] + (widths[i] > 0 && i > 0 ? GAP : 0);
    }
    while (room > 0 && total > room) {
        const size_t widest = table->whole ? 0 : widest_of(table, widths);
        if (widest == 0) {
            return false;
        }
        widths[widest]--;
        total--;
    }
    return true;
}

/* A cell that has no room ends in "..", at a whole character. Returns the columns that it took. */
static size_t print_cell(const char *cell, size_t width)
{
    const size_t whole = text_width(cell);
    if (whole <= width) {
        fputs(cell, stdout);
        return whole;
    }
    const char *end = text_end(cell, width < 2 ? 0 : width - 2);
    char *begin = strndup(cell, (size_t) (end - cell));
    printf("%s..", begin == NULL ? "" : begin);
    const size_t taken = begin == NULL ? 0 : text_width(begin);
    free(begin);
    return taken + 2;
}

cli_exit cli_table_colours(const char *when)
{
    static const char *const words[] = {"auto", "always", "never"};
    for (size_t i = 0; when != NULL; i++) {
        if (i == COF_COUNT(words)) {
            return cli_usage("auto, always or never", "--color names no time for colours");
        }
        if (strcmp(when, words[i]) == 0) {
            colours_wanted = (colour_choice) i;
            break;
        }
    }
    return CLI_OK;
}

/* By the conventions of NO_COLOR, CLICOLOR and CLICOLOR_FORCE. */
static bool environment_has_colours(void)
{
    const char *none = getenv("NO_COLOR");
    const char *force = getenv("CLICOLOR_FORCE");
    const char *wanted = getenv("CLICOLOR");
    const char *terminal = getenv("TERM");
    if (none != NULL && none[0] != '\0') {
        return false;
    }
    if (force != NULL && force[0] != '\0' && strcmp(force, "0") != 0) {
        return true;
    }
    if (wanted != NULL && strcmp(wanted, "0") == 0) {
        return false;
    }
    return cli_on_terminal() && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

static bool has_colours(void)
{
    return colours_wanted == COLOURS_ALWAYS || (colours_wanted == COLOURS_AUTO && environment_has_colours());
}

static const char *colour_of(const char *cell)
{
    static const struct {
        const char *word;
        const char *colour;
    } colours[] = {{"ok", "32"},      {"FAILED", "31"},  {"MISSING", "31"},
                   {"damaged", "31"}, {"expired", "33"}, {"warning", "33"}};
    for (size_t i = 0; i < COF_COUNT(colours); i++) {
        if (strcmp(cell, colours[i].word) == 0) {
            return colours[i].colour;
        }
    }
    return strstr(cell, " of ") == NULL ? NULL : "33";
}

static size_t print_coloured(const struct cli_table *table, const char *cell, size_t width)
{
    const char *colour = table->colour ? colour_of(cell) : NULL;
    if (colour != NULL) {
        printf("\033[%sm", colour);
    }
    const size_t taken = print_cell(cell, width);
    fputs(colour == NULL ? "" : "\033[0m", stdout);
    return taken;
}

void cli_table_colour(struct cli_table *table)
{
    if (table != NULL) {
        table->colour = has_colours();
    }
}

bool cli_table_is_aligned(void)
{
    return always || cli_on_terminal();
}

bool cli_table_fits(const struct cli_table *table)
{
    const size_t room = text_room(stdout);
    size_t total = 0;
    for (size_t i = 0; table != NULL && i < table->columns; i++) {
        total += width_of(table, i) + (i > 0 ? GAP : 0);
    }
    return room == 0 || total <= room;
}

static const char *cell_at(const struct cli_table *table, size_t i)
{
    return table->cells[i] == NULL ? "" : table->cells[i];
}

/* The gap before a cell fills up the one before it, so that no line ends in blanks. */
static void print_aligned(const struct cli_table *table, const size_t *widths, size_t first)
{
    size_t missing = 0;
    for (size_t column = 0; column < table->columns; column++) {
        const char *cell = cell_at(table, first + column);
        if (widths[column] > 0) {
            printf("%*s", (int) missing, "");
            const size_t taken =
                column > 0 ? print_coloured(table, cell, widths[column]) : print_cell(cell, widths[column]);
            missing = widths[column] - taken + GAP;
        }
    }
    (void) putchar('\n');
}

static void print_tabbed(const struct cli_table *table, size_t first)
{
    for (size_t column = 0; column < table->columns; column++) {
        printf("%s%s", cell_at(table, first + column), column + 1 == table->columns ? "\n" : "\t");
    }
}

/* For people, where a row has no room on a line: each cell that says something on a line of its own. */
static void print_records(const struct cli_table *table, const size_t *widths)
{
    const size_t room = text_room(stdout);
    size_t label = 0;
    for (size_t i = 0; i < table->columns; i++) {
        const size_t width = widths[i] == 0 ? 0 : text_width(table->cells[i]) + GAP;
        label = width > label ? width : label;
    }
    for (size_t at = table->columns; at < table->count; at++) {
        const size_t column = at % table->columns;
        fputs(column == 0 && at > table->columns ? "\n" : "", stdout);
        if (widths[column] > 0 && (column == 0 || strcmp(cell_at(table, at), "-") != 0)) {
            printf("%-*s", (int) label, table->cells[column]);
            text_wrap(stdout, cell_at(table, at), label, label, room);
            (void) putchar('\n');
        }
    }
}

static void print_tabs(const struct cli_table *table)
{
    for (size_t first = table->columns; first + table->columns <= table->count; first += table->columns) {
        print_tabbed(table, first);
    }
}

static void print_columns(const struct cli_table *table, size_t *widths)
{
    for (size_t i = 0; i < table->columns; i++) {
        widths[i] = width_of(table, i);
    }
    const bool fits = fit(table, widths);
    if (!fits && table->count > table->columns) {
        print_records(table, widths);
        return;
    }
    for (size_t first = 0; first + table->columns <= table->count; first += table->columns) {
        print_aligned(table, widths, first);
    }
}

static void print_rows(const struct cli_table *table)
{
    size_t *widths = cli_table_is_aligned() ? calloc(table->columns, sizeof *widths) : NULL;
    if (table->none != NULL && table->count <= table->columns && cli_on_terminal()) {
        if (table->none[0] != '\0') {
            cli_note("%s", table->none);
        }
    } else if (widths != NULL) {
        print_columns(table, widths);
    } else {
        print_tabs(table);
    }
    free(widths);
}

void cli_table_whole(struct cli_table *table)
{
    if (table != NULL) {
        table->whole = true;
    }
}

void cli_table_none(struct cli_table *table, const char *none)
{
    if (table != NULL) {
        table->none = none;
    }
}

void cli_table_free(struct cli_table *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    free(table);
}

void cli_table_choose(struct cli_table *table, const size_t *columns, size_t count)
{
    const size_t rows = table == NULL ? 0 : table->count / table->columns;
    char **cells = calloc(rows * count + 1, sizeof *cells);
    if (table == NULL || cells == NULL) {
        free(cells);
        return;
    }
    for (size_t i = 0; i < rows * count; i++) {
        const char *cell = table->cells[i / count * table->columns + columns[i % count]];
        cells[i] = cell == NULL ? NULL : strdup(cell);
    }
    for (size_t i = 0; i < table->count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    table->cells = cells;
    table->columns = count;
    table->count = rows * count;
    table->room = table->count;
}

void cli_table_print(struct cli_table *table)
{
    if (table != NULL) {
        print_rows(table);
    }
    cli_table_free(table);
}

/* However narrow the terminal is, some room is left for the text. */
static void print_broken(const char *text, size_t indent)
{
    const size_t known = text_room(stdout);
    const size_t least = indent + BROKEN_LEAST;
    text_wrap(stdout, text, indent, indent, known == 0 || known > least ? known : least);
    (void) putchar('\n');
}

static void print_list_row(const struct cli_table *table, const size_t *widths, size_t first, const char *label)
{
    size_t indent = 0;
    for (size_t column = 0; column + 2 < table->columns; column++) {
        const char *cell = cell_at(table, first + column);
        const size_t taken = print_coloured(table, cell, widths[column]);
        printf("%*s", (int) (widths[column] - taken + GAP), "");
        indent += widths[column] + GAP;
    }
    print_broken(cell_at(table, first + table->columns - 2), indent);
    const char *next = cell_at(table, first + table->columns - 1);
    if (strcmp(next, "-") != 0) {
        printf("%*s%s", (int) indent, "", label);
        print_broken(next, indent + strlen(label));
    }
}

void cli_table_print_list(struct cli_table *table, const char *label)
{
    size_t *widths = always || cli_on_terminal() ? calloc(table->columns, sizeof *widths) : NULL;
    if (widths == NULL) {
        cli_table_print(table);
        return;
    }
    for (size_t i = 0; i < table->columns; i++) {
        for (size_t at = table->columns + i; at < table->count; at += table->columns) {
            const size_t length = text_width(cell_at(table, at));
            widths[i] = length > widths[i] ? length : widths[i];
        }
    }
    for (size_t first = table->columns; first + table->columns <= table->count; first += table->columns) {
        print_list_row(table, widths, first, label);
    }
    free(widths);
    cli_table_free(table);
}

/* "LAST USE" as "lastUse". */
static void print_member(const char *header)
{
    bool upper = false;
    (void) putchar('"');
    for (; *header != '\0'; header++) {
        if (*header != ' ') {
            (void) putchar(upper ? *header : *header - 'A' + 'a');
        }
        upper = *header == ' ';
    }
    fputs("\": ", stdout);
}

void cli_table_print_json(struct cli_table *table, const char *name)
{
    printf("{\n  \"%s\": [", name);
    for (size_t i = table->columns; i < table->count; i++) {
        const size_t column = i % table->columns;
        fputs(column > 0 ? ", " : (i == table->columns ? "\n    {" : ",\n    {"), stdout);
        print_member(cell_at(table, column));
        cli_json_text(stdout, cell_at(table, i));
        fputs(column + 1 == table->columns ? "}" : "", stdout);
    }
    fputs("\n  ]\n}\n", stdout);
    cli_table_free(table);
}

void cli_print_field(const char *name, const char *text)
{
    char *shown = cli_harmless(text);
    printf("%-*s ", FIELD_COLUMN, name);
    print_broken(shown == NULL ? "" : shown, FIELD_COLUMN + 1);
    free(shown);
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

bool cli_is_past(const void *timestamp)
{
    const Google__Protobuf__Timestamp *at = timestamp;
    return at->seconds <= (int64_t) time(NULL);
}

const char *cli_time(const void *timestamp)
{
    static char buffers[TIME_BUFFERS][TIME_SIZE];
    static unsigned next;
    const Google__Protobuf__Timestamp *at = timestamp;
    struct tm parts;
    if (at == NULL) {
        return "-";
    }
    char *text = buffers[next++ % TIME_BUFFERS];
    const time_t seconds = (time_t) at->seconds;
    if (cli_on_terminal() || gmtime_r(&seconds, &parts) == NULL ||
        strftime(text, TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        write_span(text, (int64_t) time(NULL) - at->seconds);
    }
    return text;
}
