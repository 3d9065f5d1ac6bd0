#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "client/cli/command.h"
#include "client/cli/profile.h"
#include "client/cli/progress.h"
#include "client/cli/trace.h"

/* Values pass through this process: no core, and no other process of the user looks inside. */
static void harden(void)
{
    const struct rlimit none = {0, 0};
    (void) setrlimit(RLIMIT_CORE, &none);
    (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static cli_exit apply(const struct cli *cli)
{
    const char *silent = getenv("COFFER_NO_INPUT");
    cli_report_as(cli->json, cli->quiet);
    progress_allow(!cli->json && !cli->quiet);
    if (cli->show_rpc) {
        trace_show();
    }
    if (cli->aligned) {
        cli_table_always();
    }
    if (cli->no_input || (silent != NULL && silent[0] != '\0' && strcmp(silent, "0") != 0)) {
        cli_never_ask();
    }
    return cli_table_colours(cli->color);
}

/* A command that runs a program has the program's exit code, so it says with its own that the program did not run. */
static cli_exit refused(const struct command *command, cli_exit code)
{
    return code != CLI_OK && command != NULL && command->run == cmd_run ? CLI_NOT_RUN : code;
}

static cli_exit run_command(const struct command *command, struct cli *cli, const struct options_given *given)
{
    const size_t words = command->verb[0] == '\0' ? 1 : 2;
    cli->arguments += words;
    cli->argument_count -= words;
    if (cli->help) {
        help_command(command);
        return CLI_OK;
    }
    cli_exit code = command_check(command, cli, given);
    if (code == CLI_OK && cli->show_permission) {
        return command_show_permissions(command, cli);
    }
    cli->command = command;
    if (code == CLI_OK && !command_is_local(command)) {
        code = profile_apply(cli);
    }
    return code == CLI_OK ? command->run(cli) : refused(command, code);
}

static cli_exit run(struct cli *cli, const struct options_given *given)
{
    const struct command *command = command_find(cli->arguments, cli->argument_count);
    cli_exit code = output_apply(cli->help ? NULL : command, cli);
    const cli_exit applied = apply(cli);
    code = code == CLI_OK ? applied : code;
    if (code != CLI_OK) {
        return refused(command, code);
    }
    if (cli->argument_count == 0 || (command == NULL && cli->help)) {
        return cmd_help(cli);
    }
    return command == NULL ? command_unknown(cli->arguments, cli->argument_count)
                           : run_command(command, cli, given);
}

/* What was printed must have arrived: a value that is cut is worse than none. */
static cli_exit flush(cli_exit code)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return code;
    }
    const char *why = strerror(errno);
    return code == CLI_OK ? cli_refuse(CLI_ERROR, NULL, "standard output cannot be written: %s", why) : code;
}

int main(int argc, char **argv)
{
    static struct cli cli;
    static struct options_given given;
    harden();
    if (argc > 1 && strcmp(argv[1], "__complete") == 0) {
        complete_words(argv + 2, (size_t) argc - 2);
        const cli_exit told = flush(CLI_OK);
        return (int) told;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        const cli_exit told = flush(cmd_version(&cli));
        return (int) told;
    }
    const struct command *meant = argc > 1 ? command_find(argv + 1, (size_t) argc - 1) : NULL;
    cli_exit code = refused(meant, options_read(&cli, meant, argc, argv, &given));
    cli_report_as(cli.json, cli.quiet);
    if (code == CLI_OK) {
        code = flush(run(&cli, &given));
    }
    coffer_client_close(cli.client);
    return (int) code;
}
