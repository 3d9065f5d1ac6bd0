#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"

struct command {
    const char *group;
    const char *verb;
    const char *arguments;
    const char *help;
    cli_command *run;
};

static const struct command commands[] = {
#define COMMAND(group, verb, arguments, help, run) {group, verb, arguments, help, run},
#include "client/cli/commands.def"
#undef COMMAND
};

enum {
    OPT_ADDR = 256,
    OPT_TOKEN_FILE,
    OPT_DESCRIPTION,
    OPT_KIND,
    OPT_OUT,
    OPT_PERMISSION,
    OPT_ENV_PATTERN,
    OPT_NAME_PATTERN,
    OPT_FOR_WORKSPACE
};

static const struct option options[] = {
    {"addr", required_argument, NULL, OPT_ADDR},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"workspace", required_argument, NULL, 'w'},
    {"environment", required_argument, NULL, 'e'},
    {"env", required_argument, NULL, 'e'},
    {"description", required_argument, NULL, OPT_DESCRIPTION},
    {"kind", required_argument, NULL, OPT_KIND},
    {"out", required_argument, NULL, OPT_OUT},
    {"permission", required_argument, NULL, OPT_PERMISSION},
    {"env-pattern", required_argument, NULL, OPT_ENV_PATTERN},
    {"name-pattern", required_argument, NULL, OPT_NAME_PATTERN},
    {"for-workspace", required_argument, NULL, OPT_FOR_WORKSPACE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static bool append(struct cli_list *list, char *item)
{
    if (list->count == CLI_LIST_MAX) {
        return false;
    }
    list->items[list->count++] = item;
    return true;
}

/* The option's place in the struct; NULL for those that are no single text. */
static char **text_option(struct cli *cli, int option)
{
    switch (option) {
    case OPT_ADDR:
        return &cli->address;
    case OPT_TOKEN_FILE:
        return &cli->token_file;
    case 'w':
        return &cli->workspace;
    case OPT_DESCRIPTION:
        return &cli->description;
    case OPT_KIND:
        return &cli->kind;
    case OPT_OUT:
        return &cli->out;
    default:
        return NULL;
    }
}

static struct cli_list *list_option(struct cli *cli, int option)
{
    switch (option) {
    case 'e':
        return &cli->environments;
    case OPT_PERMISSION:
        return &cli->permissions;
    case OPT_ENV_PATTERN:
        return &cli->environments;
    case OPT_NAME_PATTERN:
        return &cli->names;
    case OPT_FOR_WORKSPACE:
        return &cli->workspaces;
    default:
        return NULL;
    }
}

static bool take_option(struct cli *cli, int option, bool *ret_help)
{
    char **text = text_option(cli, option);
    struct cli_list *list = list_option(cli, option);
    if (text != NULL) {
        *text = optarg;
        return true;
    }
    if (list != NULL) {
        return append(list, optarg);
    }
    cli->no_newline = cli->no_newline || option == 'n';
    *ret_help = *ret_help || option == 'h';
    return option == 'n' || option == 'h';
}

static const struct command *find_command(const struct cli *cli)
{
    const char *group = cli->argument_count > 0 ? cli->arguments[0] : "help";
    const char *verb = cli->argument_count > 1 ? cli->arguments[1] : "";
    for (size_t i = 0; i < COF_COUNT(commands); i++) {
        if (strcmp(commands[i].group, group) == 0 &&
            (commands[i].verb[0] == '\0' || strcmp(commands[i].verb, verb) == 0)) {
            return &commands[i];
        }
    }
    return NULL;
}

static void print_command(const struct command *command)
{
    printf("  coffer %s%s%s%s%s\n      %s\n", command->group, command->verb[0] == '\0' ? "" : " ", command->verb,
           command->arguments[0] == '\0' ? "" : " ", command->arguments, command->help);
}

static cli_exit print_group(const struct cli *cli)
{
    const char *group = cli->arguments[0];
    bool known = false;
    for (size_t i = 0; i < COF_COUNT(commands); i++) {
        if (strcmp(commands[i].group, group) == 0) {
            if (!known) {
                fprintf(stderr, "coffer: \"%s\" needs one of these:\n", group);
            }
            known = true;
            fprintf(stderr, "  coffer %s %s %s\n", group, commands[i].verb, commands[i].arguments);
        }
    }
    return known ? CLI_USAGE : cli_usage("coffer help", "there is no command \"%s\"", group);
}

static const char exit_codes[] = "Exit codes:\n"
                                 "  0   done\n"
                                 "  1   another error\n"
                                 "  2   wrong arguments\n"
                                 "  3   not found\n"
                                 "  4   no token, or one that does not work\n"
                                 "  5   permission denied\n"
                                 "  6   conflict: exists already, or has changed meanwhile\n"
                                 "  7   server or database unavailable, or out of time; safe to repeat\n"
                                 "  8   the server rejected the input\n"
                                 "  9   a limit is reached\n"
                                 "  10  partly done\n";

cli_exit cmd_help(struct cli *cli)
{
    if (cli->argument_count > 1 && strcmp(cli->arguments[1], "exit-codes") == 0) {
        fputs(exit_codes, stdout);
        return CLI_OK;
    }
    puts("coffer: credentials for workflow actions\n");
    for (size_t i = 0; i < COF_COUNT(commands); i++) {
        print_command(&commands[i]);
    }
    puts("\nOptions of every command:\n"
         "  --addr ADDRESS        tcp://HOST:PORT or ipc://PATH       (COFFER_ADDR)\n"
         "  --token-file FILE     file with the token                 (COFFER_TOKEN_FILE, COFFER_TOKEN)\n"
         "  -w, --workspace UUID  needed with fleet and system tokens (COFFER_WORKSPACE)\n"
         "  -e, --env NAME        environment; \"default\" without it   (COFFER_ENVIRONMENT)\n\n"
         "Values come from a prompt without echo, from a file (KEY=@FILE) or from standard input (KEY=-),\n"
         "never from the command line. coffer help exit-codes lists the exit codes.");
    return CLI_OK;
}

cli_exit cmd_version(struct cli *cli)
{
    (void) cli;
    printf("coffer %s\n", coffer_version());
    return CLI_OK;
}

static cli_exit run(struct cli *cli)
{
    const struct command *command = find_command(cli);
    if (command == NULL) {
        return print_group(cli);
    }
    const size_t words = command->verb[0] == '\0' ? 1 : 2;
    if (command->run != cmd_help && cli->argument_count >= words) {
        cli->arguments += words;
        cli->argument_count -= words;
    }
    return command->run(cli);
}

int main(int argc, char **argv)
{
    static char nothing[] = "";
    static struct cli cli;
    bool help = false;
    int option;
    cli.environment = nothing;
    while ((option = getopt_long(argc, argv, "w:e:nh", options, NULL)) != -1) {
        if (!take_option(&cli, option, &help)) {
            fputs("  hint: coffer help\n", stderr);
            return CLI_USAGE;
        }
    }
    cli.arguments = argv + optind;
    cli.argument_count = (size_t) (argc - optind);
    if (cli.environments.count > 0) {
        cli.environment = cli.environments.items[0];
    }
    const cli_exit code = help ? cmd_help(&cli) : run(&cli);
    coffer_client_close(cli.client);
    return (int) code;
}
