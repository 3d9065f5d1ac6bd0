#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"

enum { OPTION_COLUMN = 26, WIDE_INDENT = 6 };

void help_wrapped(const char *text, size_t indent)
{
    cli_print_wrapped(text, indent, cli_on_terminal() ? cli_terminal_columns() : 0);
}

static void print_option(const struct option_row *row)
{
    char text[64];
    const char letter[] = {'-', row->letter, ',', ' ', '\0'};
    (void) snprintf(text, sizeof text, "%s--%s%s%s", row->letter == '\0' ? "" : letter, row->name,
                    row->argument == NULL ? "" : " ", row->argument == NULL ? "" : row->argument);
    printf("  %-*s", OPTION_COLUMN, text);
    help_wrapped(row->help, OPTION_COLUMN + 2);
}

static void print_usage(const struct command *command)
{
    printf("coffer %s%s%s%s%s\n", command->group, command->verb[0] == '\0' ? "" : " ", command->verb,
           command->arguments[0] == '\0' ? "" : " ", command->arguments);
}

static bool reads_values(const struct command *command)
{
    return strstr(command->arguments, "=@FILE") != NULL;
}

static void print_names(const struct command *command)
{
    char *text = NULL;
    size_t length = 0;
    FILE *names = open_memstream(&text, &length);
    for (size_t i = 0; names != NULL && i < option_count; i++) {
        if (command_takes(command, i)) {
            fprintf(names, "%s--%s", i == 0 ? "" : " ", option_rows[i].name);
        }
    }
    if (names != NULL && fclose(names) == 0) {
        fputs("\nOptions of every command, of which coffer help tells more:\n  ", stdout);
        help_wrapped(text, 2);
    }
    free(text);
}

/* Its own, and of those that every command has only the names: coffer help tells more. */
static void print_options(const struct command *command)
{
    bool begun = false;
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(command, i) && !command_takes(NULL, i)) {
            fputs(begun ? "" : "\nOptions:\n", stdout);
            print_option(&option_rows[i]);
            begun = true;
        }
    }
    print_names(NULL);
}

void help_command(const struct command *command)
{
    print_usage(command);
    fputs("  ", stdout);
    help_wrapped(command->help, 2);
    if (reads_values(command)) {
        fputs("\n  KEY        asks for the value without showing it\n"
              "  KEY=@FILE  takes the bytes of a file\n"
              "  KEY=-      takes the bytes of standard input\n  ",
              stdout);
        help_wrapped("A value on the command line is refused: everybody on this machine could read it there.", 2);
    }
    print_options(command);
    printf("\nExample:\n  %s\n", command->example);
}

/* The commands of a group; false if there is no such group. */
static bool help_group(const char *group)
{
    bool known = false;
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].group, group) == 0) {
            print_usage(&commands[i]);
            fputs("  ", stdout);
            help_wrapped(commands[i].help, 2);
            known = true;
        }
    }
    return known;
}

static void help_exits(void)
{
    puts("Exit codes:");
#define EXIT(id, number, meaning) \
    printf("  %-4d", number);     \
    help_wrapped(meaning, WIDE_INDENT);
#include "client/cli/exits.def"
#undef EXIT
}

static void help_all(void)
{
    puts("coffer: credentials for workflow actions\n");
    for (size_t i = 0; i < command_count; i++) {
        fputs("  ", stdout);
        print_usage(&commands[i]);
        fputs("      ", stdout);
        help_wrapped(commands[i].help, WIDE_INDENT);
    }
    puts("\nOptions of every command:");
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(NULL, i)) {
            print_option(&option_rows[i]);
        }
    }
    puts("\nTopics, for coffer help TOPIC:");
    help_topics();
    puts("  exit-codes    what the exit codes mean\n  man           the man page");
    (void) putchar('\n');
    help_wrapped("New here: coffer login stores a token, coffer doctor says what is wrong, coffer help COMMAND "
                 "tells more about "
                 "a command.",
                 0);
}

cli_exit cmd_help(struct cli *cli)
{
    if (cli->argument_count == 0) {
        help_all();
        return CLI_OK;
    }
    if (strcmp(cli->arguments[0], "exit-codes") == 0) {
        help_exits();
        return CLI_OK;
    }
    if (strcmp(cli->arguments[0], "man") == 0) {
        help_man();
        return CLI_OK;
    }
    if (cli->argument_count == 1 && help_topic(cli->arguments[0])) {
        return CLI_OK;
    }
    const struct command *command = command_find(cli->arguments, cli->argument_count);
    if (command == NULL) {
        return cli->argument_count == 1 && help_group(cli->arguments[0])
                   ? CLI_OK
                   : command_unknown(cli->arguments, cli->argument_count);
    }
    help_command(command);
    return CLI_OK;
}

cli_exit cmd_version(struct cli *cli)
{
    (void) cli;
    printf("coffer %s\n", coffer_version());
    return CLI_OK;
}
