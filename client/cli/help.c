#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/text.h"

enum {
    USAGE_TEXT = 200,
    USAGE_INDENT = 8,
    OPTION_COLUMN = 26,
    WIDE_INDENT = 6,
    NAME_INDENT = 14,
    TOPIC_INDENT = 18
};

void help_wrapped(const char *text, size_t indent)
{
    text_wrap(stdout, text, indent, indent, text_room(stdout));
    (void) putchar('\n');
}

static void print_option(const struct command *command, const struct option_row *row)
{
    char text[64];
    char meaning[OPTION_HELP];
    const char letter[] = {'-', row->letter, ',', ' ', '\0'};
    (void) snprintf(text, sizeof text, "%s--%s%s%s", row->letter == '\0' ? "" : letter, row->name,
                    row->argument == NULL ? "" : " ", row->argument == NULL ? "" : row->argument);
    printf("  %-*s", OPTION_COLUMN, text);
    help_wrapped(option_help(command, row, meaning), OPTION_COLUMN + 2);
}

static void print_usage(const struct command *command)
{
    char text[USAGE_TEXT];
    (void) snprintf(text, sizeof text, "coffer %s%s%s%s%s", command->group, command->verb[0] == '\0' ? "" : " ",
                    command->verb, command->arguments[0] == '\0' ? "" : " ", command->arguments);
    text_wrap(stdout, text, 0, USAGE_INDENT, text_room(stdout));
    (void) putchar('\n');
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
        (void) putchar('\n');
        help_wrapped("Options of every command, of which coffer help all tells more:", 0);
        fputs("  ", stdout);
        help_wrapped(text, 2);
    }
    free(text);
}

/* Its own, and of those that every command has only the names: coffer help all tells more. */
static void print_options(const struct command *command)
{
    bool begun = false;
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(command, i) && !command_takes(NULL, i)) {
            fputs(begun ? "" : "\nOptions:\n", stdout);
            print_option(command, &option_rows[i]);
            begun = true;
        }
    }
    print_names(NULL);
}

/* Of the forms of output those that only some commands have. */
static void print_forms(const struct command *command)
{
    static const struct {
        command_form form;
        const char *name;
    } forms[] = {{FORM_RAW, "raw"}, {FORM_SHELL, "env"}, {FORM_PROCESS, "credential_process"}};
    bool begun = false;
    for (size_t i = 0; i < COF_COUNT(forms); i++) {
        if (command_allows(command, forms[i].form)) {
            printf("%s%s", begun ? ", " : "\nForms of -o besides json and table:\n  ", forms[i].name);
            begun = true;
        }
    }
    fputs(begun ? "\n" : "", stdout);
}

static bool has_verbs(const char *group)
{
    bool found = false;
    for (size_t i = 0; i < command_count; i++) {
        found = found || (strcmp(commands[i].group, group) == 0 && commands[i].verb[0] != '\0');
    }
    return found;
}

/* The commands of a group with what they do, but for that without a verb, which is `besides`; false if it has none. */
static bool help_group(const char *group, const struct command *besides)
{
    if (!has_verbs(group)) {
        return false;
    }
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].group, group) == 0 && &commands[i] != besides) {
            print_usage(&commands[i]);
            fputs("  ", stdout);
            help_wrapped(commands[i].help, 2);
        }
    }
    printf("\ncoffer help %s VERB tells more about one of them.\n", group);
    return true;
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
    print_forms(command);
    help_permissions(command);
    printf("\nExample:\n  %s\n", command->example);
    if (command->verb[0] == '\0' && has_verbs(command->group)) {
        (void) putchar('\n');
        (void) help_group(command->group, command);
    }
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

static void print_topics(void)
{
    puts("\nTopics, for coffer help TOPIC:");
    help_topics();
    printf("  %-*s%s\n  %-*s%s\n\n", TOPIC_INDENT - 2, "exit-codes", "what the exit codes mean", TOPIC_INDENT - 2,
           "man", "the man page");
}

static void print_verbs(const char *group)
{
    char *text = NULL;
    size_t length = 0;
    FILE *verbs = open_memstream(&text, &length);
    for (size_t i = 0; verbs != NULL && i < command_count; i++) {
        if (strcmp(commands[i].group, group) == 0 && commands[i].verb[0] != '\0') {
            fprintf(verbs, "%s%s", ftell(verbs) == 0 ? "" : ", ", commands[i].verb);
        }
    }
    if (verbs != NULL && fclose(verbs) == 0) {
        help_wrapped(text, NAME_INDENT);
    }
    free(text);
}

/* Whether a command before this one is of its group. */
static bool is_listed(size_t command)
{
    bool listed = false;
    for (size_t i = 0; i < command; i++) {
        listed = listed || strcmp(commands[i].group, commands[command].group) == 0;
    }
    return listed;
}

/* A line for each command, or for each group of them. */
static void help_overview(void)
{
    puts("coffer: credentials for workflow actions\n");
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].verb[0] == '\0' && !has_verbs(commands[i].group)) {
            printf("  %-*s", NAME_INDENT - 2, commands[i].group);
            help_wrapped(commands[i].help, NAME_INDENT);
        }
    }
    (void) putchar('\n');
    for (size_t i = 0; i < command_count; i++) {
        if (has_verbs(commands[i].group) && !is_listed(i)) {
            printf("  %-*s", NAME_INDENT - 2, commands[i].group);
            print_verbs(commands[i].group);
        }
    }
    print_names(NULL);
    print_topics();
    help_wrapped(
        "coffer help COMMAND [VERB] tells more about a command, coffer help all about all of them. New here: "
        "coffer login stores a token, coffer doctor says what is wrong.",
        0);
}

static void help_all(void)
{
    for (size_t i = 0; i < command_count; i++) {
        print_usage(&commands[i]);
        fputs("    ", stdout);
        help_wrapped(commands[i].help, 4);
    }
    puts("\nOptions of every command:");
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(NULL, i)) {
            print_option(NULL, &option_rows[i]);
        }
    }
}

/* What is no command: a topic, or a group of commands. */
static bool help_word(const char *word)
{
    if (strcmp(word, "all") == 0) {
        help_all();
    } else if (strcmp(word, "exit-codes") == 0) {
        help_exits();
    } else if (strcmp(word, "man") == 0) {
        help_man();
    } else {
        return help_topic(word);
    }
    return true;
}

/* Some topics are groups of commands as well. */
static bool help_name(const char *name)
{
    const bool topic = help_word(name);
    if (topic && has_verbs(name)) {
        (void) putchar('\n');
    }
    return help_group(name, NULL) || topic;
}

cli_exit cmd_help(struct cli *cli)
{
    if (cli->argument_count == 0) {
        help_overview();
        return CLI_OK;
    }
    const struct command *command = command_find(cli->arguments, cli->argument_count);
    if (command != NULL) {
        help_command(command);
        return CLI_OK;
    }
    return cli->argument_count == 1 && help_name(cli->arguments[0])
               ? CLI_OK
               : command_unknown(cli->arguments, cli->argument_count);
}

cli_exit cmd_version(struct cli *cli)
{
    printf(cli->json ? "{\"version\": \"%s\"}\n" : "coffer %s\n", coffer_version());
    return CLI_OK;
}
