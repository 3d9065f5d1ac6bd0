#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"

enum { OPTION_COLUMN = 26 };

static void print_option(const struct option_row *row)
{
    char text[64];
    const char letter[] = {'-', row->letter, ',', ' ', '\0'};
    (void) snprintf(text, sizeof text, "%s--%s%s%s", row->letter == '\0' ? "" : letter, row->name,
                    row->argument == NULL ? "" : " ", row->argument == NULL ? "" : row->argument);
    printf("  %-*s%s\n", OPTION_COLUMN, text, row->help);
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

void help_command(const struct command *command)
{
    print_usage(command);
    printf("  %s\n", command->help);
    if (reads_values(command)) {
        puts("\n  KEY        asks for the value without showing it\n"
             "  KEY=@FILE  takes the bytes of a file\n"
             "  KEY=-      takes the bytes of standard input\n"
             "  A value on the command line is refused: everybody on this machine could read it there.");
    }
    puts("\nOptions:");
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(command, i)) {
            print_option(&option_rows[i]);
        }
    }
    printf("\nExample:\n  %s\n", command->example);
}

/* The commands of a group; false if there is no such group. */
static bool help_group(const char *group)
{
    bool known = false;
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].group, group) == 0) {
            print_usage(&commands[i]);
            printf("  %s\n", commands[i].help);
            known = true;
        }
    }
    return known;
}

static void help_exits(void)
{
    puts("Exit codes:");
#define EXIT(id, number, meaning) printf("  %-4d%s\n", number, meaning);
#include "client/cli/exits.def"
#undef EXIT
}

static void help_all(void)
{
    static const struct command everywhere = {.group = ""};
    puts("coffer: credentials for workflow actions\n");
    for (size_t i = 0; i < command_count; i++) {
        fputs("  ", stdout);
        print_usage(&commands[i]);
        printf("      %s\n", commands[i].help);
    }
    puts("\nOptions of every command:");
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(&everywhere, i)) {
            print_option(&option_rows[i]);
        }
    }
    puts("\nValues come from a prompt without echo, from a file (KEY=@FILE) or from standard input (KEY=-), never\n"
         "from the command line. coffer help COMMAND tells more about a command, coffer help exit-codes the exit\n"
         "codes.");
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
