#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"

/* The man page, from the tables of commands, options and exit codes: `coffer help man`. */

/* A text of roff: no letter of it is taken for a request, an escape or a hyphen where lines may break. */
static void put(const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '\\':
            fputs("\\e", stdout);
            break;
        case '-':
            fputs("\\-", stdout);
            break;
        case '\'':
            fputs("\\(aq", stdout);
            break;
        case '"':
            fputs("\\(dq", stdout);
            break;
        default:
            (void) putchar(*text);
        }
    }
}

/* A line, which begins with nothing that roff obeys. */
static void put_line(const char *text)
{
    fputs("\\&", stdout);
    put(text);
    (void) putchar('\n');
}

static void put_option(const struct command *command, const struct option_row *row)
{
    char meaning[OPTION_HELP];
    puts(".TP");
    fputs("\\fB", stdout);
    if (row->letter != '\0') {
        printf("\\-%c\\fR, \\fB", row->letter);
    }
    fputs("\\-\\-", stdout);
    put(row->name);
    fputs("\\fR", stdout);
    if (row->argument != NULL) {
        fputs(" \\fI", stdout);
        put(row->argument);
        fputs("\\fR", stdout);
    }
    (void) putchar('\n');
    put_line(option_help(command, row, meaning));
}

static void put_command(const struct command *command)
{
    fputs(".SS ", stdout);
    printf("\"coffer %s%s%s%s", command->group, command->verb[0] == '\0' ? "" : " ", command->verb,
           command->arguments[0] == '\0' ? "" : " ");
    put(command->arguments);
    puts("\"");
    put_line(command->help);
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(command, i) && !command_takes(NULL, i)) {
            put_option(command, &option_rows[i]);
        }
    }
    puts(".PP\n.RS\n.nf");
    put_line(command->example);
    puts(".fi\n.RE");
}

static void put_exits(void)
{
#define EXIT(id, number, meaning) printf(".TP\n%d\n", number), put_line(meaning);
#include "client/cli/exits.def"
#undef EXIT
}

static void put_topic(const char *name, const char *about, const char *text)
{
    bool as_it_is = false;
    printf(".SH \"%s\"\n", name);
    put_line(about);
    while (*text != '\0') {
        const size_t length = strcspn(text, "\n");
        char *line = strndup(text, length);
        const bool example = text[0] == ' ';
        if (example != as_it_is) {
            puts(example ? ".PP\n.nf" : ".fi");
        }
        as_it_is = example;
        if (length == 0) {
            puts(".PP");
        } else if (line != NULL) {
            put_line(line);
        }
        free(line);
        text += length + (text[length] == '\n');
    }
    puts(as_it_is ? ".fi" : ".PP");
}

void help_man(void)
{
    printf(".TH COFFER 1 \"\" \"coffer %s\" \"Coffer\"\n", coffer_version());
    puts(".SH NAME\ncoffer \\- credentials for workflow actions\n.SH SYNOPSIS\n\\fBcoffer\\fR \\fIcommand\\fR "
         "[\\fIoption\\fR]... [\\fIargument\\fR]...\n.SH DESCRIPTION");
    put_line("Talks to a server of Coffer, which keeps secrets for each workspace and environment. Data goes to "
             "standard "
             "output, everything else to standard error. On a terminal tables have headers and times are relative; "
             "elsewhere columns are separated by tabs, without headers, and times are RFC 3339.");
    puts(".PP");
    put_line(
        "Values never stand on the command line, where everybody on the machine can read them: KEY asks without "
        "showing what is typed, KEY=@FILE takes the bytes of a file, KEY=- those of standard input.");
    puts(".SH OPTIONS\nThese belong to every command.");
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(NULL, i)) {
            put_option(NULL, &option_rows[i]);
        }
    }
    puts(".SH COMMANDS");
    for (size_t i = 0; i < command_count; i++) {
        put_command(&commands[i]);
    }
    help_each_topic(put_topic);
    puts(".SH EXIT STATUS");
    put_exits();
}
