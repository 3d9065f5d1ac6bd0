#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/audit_command.h"
#include "server/backup_command.h"
#include "server/bootstrap.h"
#include "server/command.h"
#include "server/dev.h"
#include "server/hardening.h"
#include "server/key_command.h"
#include "server/server.h"
#include "server/settings.h"
#include "server/store/migrate.h"

enum { LOCK_TIMEOUT_MS = 30000, NAME_ROOM = 64 };

struct command {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(int argc, char **argv);
};

/* --- Shared --------------------------------------------------------------------------------------------------- */

static int usage_error(const char *text)
{
    fprintf(stderr, "cofferd: %s\n  hint: cofferd help\n", text);
    return COMMAND_WRONG_USE;
}

static const struct option config_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"token-file", required_argument, NULL, 't'},
    {"dev", no_argument, NULL, 'd'},
    {"dev-dir", required_argument, NULL, 'D'},
    {"dev-temporary", no_argument, NULL, 'T'},
    {"dev-tcp", required_argument, NULL, 'P'},
    {NULL, 0, NULL, 0},
};

struct arguments {
    const char *config;
    const char *token_file;
    bool dev;
    struct dev_options dev_options;
    const char *rest; /* the first argument that is no option */
};

static bool take_option(int option, struct arguments *arguments)
{
    switch (option) {
    case 'c':
        arguments->config = optarg;
        return true;
    case 't':
        arguments->token_file = optarg;
        return true;
    case 'd':
        arguments->dev = true;
        return true;
    case 'D':
        arguments->dev_options.directory = optarg;
        return true;
    case 'T':
        arguments->dev = true;
        arguments->dev_options.temporary = true;
        return true;
    case 'P':
        arguments->dev_options.tcp = optarg;
        return true;
    default:
        return false;
    }
}

static bool read_arguments(int argc, char **argv, struct arguments *arguments)
{
    int option;
    *arguments = (struct arguments){0};
    while ((option = getopt_long(argc, argv, "c:", config_options, NULL)) != -1) {
        if (!take_option(option, arguments)) {
            fprintf(stderr, "  hint: cofferd help\n");
            return false;
        }
    }
    if (optind < argc) {
        arguments->rest = argv[optind++];
    }
    if (optind < argc) {
        (void) usage_error("too many arguments");
        return false;
    }
    return true;
}

static struct migrate_options migration_of(const struct settings *settings)
{
    return (struct migrate_options){
        .conninfo = settings->database_conninfo,
        .schema = &schema_embedded,
        .clock = &cof_system_clock,
        .connect_timeout_ms = settings->database_connect_timeout,
        .lock_timeout_ms = LOCK_TIMEOUT_MS,
    };
}

/* --- Commands ------------------------------------------------------------------------------------------------- */

static int serve_dev(const struct arguments *arguments)
{
    struct cof_error err;
    if (arguments->config != NULL) {
        return usage_error("--dev needs no configuration file; leave --config out");
    }
    return dev_run(&arguments->dev_options, &err) == COF_OK ? EXIT_SUCCESS : command_failed(&err);
}

static cof_code reread(struct settings *ret_settings, void *context, struct cof_error *err)
{
    const struct arguments *arguments = context;
    return settings_read(arguments->config, ret_settings, err);
}

static int serve(int argc, char **argv)
{
    struct arguments arguments;
    struct settings settings;
    struct cof_error err;
    const struct server_hooks hooks = {.reread = reread, .context = &arguments};
    if (!read_arguments(argc, argv, &arguments)) {
        return COMMAND_WRONG_USE;
    }
    if (hardening_start(&err) != COF_OK) {
        return command_failed(&err);
    }
    server_block_signals();
    if (arguments.dev) {
        return serve_dev(&arguments);
    }
    if (settings_read(arguments.config, &settings, &err) != COF_OK) {
        return command_failed(&err);
    }
    cof_code code = server_start(&settings, &err);
    if (code == COF_OK) {
        code = server_run(&settings, &hooks, &err);
    }
    settings_done(&settings);
    return code == COF_OK ? EXIT_SUCCESS : command_failed(&err);
}

static cof_code make_instance(const struct settings *settings, const char *token_file, struct cof_error *err)
{
    AUTO(server_core_cleanup) struct server_core *core = NULL;
    bool made = false;
    TRY(server_start(settings, err));
    TRY(server_make_root_key(settings, &made, err));
    if (made) {
        printf("Root key made: %s\nKeep a copy where the database's backups are not: without it nothing can be "
               "read.\n",
               settings->keys_root_key_file);
    }
    TRY(server_core_new(settings, &core, err));
    if (server_core_has_instance(core)) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the database holds an instance already; nothing was changed");
    }
    return bootstrap_instance(core, token_file, err);
}

static int init(int argc, char **argv)
{
    struct arguments arguments;
    struct settings settings;
    struct cof_error err;
    if (!read_arguments(argc, argv, &arguments)) {
        return COMMAND_WRONG_USE;
    }
    if (arguments.token_file == NULL) {
        return usage_error("init needs --token-file FILE: the first token is written there and shown nowhere else");
    }
    if (hardening_start(&err) != COF_OK || settings_read(arguments.config, &settings, &err) != COF_OK) {
        return command_failed(&err);
    }
    const cof_code code = make_instance(&settings, arguments.token_file, &err);
    settings_done(&settings);
    if (code != COF_OK) {
        return command_failed(&err);
    }
    printf("Instance made. The administrator's token is in %s.\nNext: cofferd serve\n", arguments.token_file);
    return EXIT_SUCCESS;
}

static void print_report(const struct migration_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        printf("%04d  %-8s  %s\n", report->items[i].number, migration_state_name(report->items[i].state),
               report->items[i].name);
    }
}

static cof_code migrate_action(const struct migrate_options *options, const char *action, struct cof_error *err)
{
    AUTO(migration_report_cleanup) struct migration_report *report = NULL;
    size_t applied = 0;
    if (strcmp(action, "up") == 0) {
        TRY(migrate_up(options, &applied, err));
        printf("%zu file%s applied\n", applied, applied == 1 ? "" : "s");
        return COF_OK;
    }
    if (strcmp(action, "plan") == 0) {
        TRY(migrate_plan(options, &report, err));
        print_report(report);
        printf("%zu to apply\n", report->count);
        return COF_OK;
    }
    if (strcmp(action, "status") == 0) {
        TRY(migrate_status(options, &report, err));
        print_report(report);
        return COF_OK;
    }
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "migrate takes one of status, plan, up");
}

static int migrate(int argc, char **argv)
{
    struct arguments arguments;
    struct settings settings;
    struct cof_error err;
    if (!read_arguments(argc, argv, &arguments)) {
        return COMMAND_WRONG_USE;
    }
    if (arguments.rest == NULL) {
        return usage_error("migrate takes one of status, plan, up");
    }
    if (settings_read(arguments.config, &settings, &err) != COF_OK) {
        return command_failed(&err);
    }
    const struct migrate_options options = migration_of(&settings);
    const cof_code code = migrate_action(&options, arguments.rest, &err);
    settings_done(&settings);
    return code == COF_OK ? EXIT_SUCCESS : command_failed(&err);
}

static int check_config(int argc, char **argv)
{
    struct arguments arguments;
    struct settings settings;
    struct cof_error err;
    if (!read_arguments(argc, argv, &arguments)) {
        return COMMAND_WRONG_USE;
    }
    if (settings_read(arguments.rest != NULL ? arguments.rest : arguments.config, &settings, &err) != COF_OK) {
        return command_failed(&err);
    }
    settings_done(&settings);
    printf("the settings are valid\n");
    return EXIT_SUCCESS;
}

static int config_reference(int argc, char **argv)
{
    (void) argc;
    (void) argv;
    settings_print_reference();
    return EXIT_SUCCESS;
}

static int version(int argc, char **argv)
{
    (void) argc;
    (void) argv;
    printf("cofferd %s\n", COFFER_VERSION);
    return EXIT_SUCCESS;
}

static int help(int argc, char **argv);

static const struct command commands[] = {
    {"serve", "[--config FILE]", "run the server", serve},
    {"serve --dev", "[--dev-dir DIR | --dev-temporary] [--dev-tcp ADDRESS]",
     "run a server to try things out, with a PostgreSQL of its own", NULL},
    {"init", "[--config FILE] --token-file FILE", "make the root key, if there is none, and the instance", init},
    {"migrate", "status|plan|up [--config FILE]", "show, plan or apply the database's schema", migrate},
    {"audit", "verify [--head NUMBER:HASH]|export [--writes] [--config FILE] [STATE_DIR]",
     "check the server's audit log, or print its records as lines of JSON; --writes: those of the database",
     audit_command},
    {"verify", "[--anchor FILE] [--write-anchor FILE] [--json] [--config FILE]",
     "check every row of the database with its keys, and against an anchor that was kept elsewhere",
     verify_command},
    {"backup", "[--json] [--pg-bin DIR] [--config FILE] DIR",
     "check the database and write a backup of it to a directory", backup_command},
    {"restore", "[--accept-faults] [--json] [--pg-bin DIR] [--config FILE] DIR",
     "bring a backup back into an empty database", restore_command},
    {"key", "status|rotate-root|rotate-workspace NAME|UUID|--all [--config FILE]",
     "show the keys and how far rotations are; replace the root key, or the keys of workspaces", key_command},
    {"check-config", "[FILE]", "check a configuration file", check_config},
    {"config-reference", "", "print every setting with its default", config_reference},
    {"version", "", "print the version", version},
    {"help", "[COMMAND]", "print this", help},
};

/* `name` is the first word of those that are told; NULL tells all. False if there is none. */
static bool print_commands(FILE *to, const char *name)
{
    bool found = false;
    for (size_t i = 0; i < COF_COUNT(commands); i++) {
        const struct command *command = &commands[i];
        const size_t length = strcspn(command->name, " ");
        if (name == NULL || (strlen(name) == length && strncmp(name, command->name, length) == 0)) {
            fprintf(to, "  cofferd %s%s%s\n      %s\n", command->name, command->arguments[0] == '\0' ? "" : " ",
                    command->arguments, command->help);
            found = true;
        }
    }
    return found;
}

static void print_all(FILE *to)
{
    fprintf(to, "cofferd: the server of Coffer\n\n");
    (void) print_commands(to, NULL);
    fprintf(to,
            "\nSettings also come from environment variables: COFFERD_DATABASE__CONNINFO is database.conninfo.\n"
            "Exit status: 0 done, 1 failed, 2 wrong arguments or settings, 3 faults were found.\n");
}

static int no_command(const char *name)
{
    fprintf(stderr, "cofferd: there is no command \"%s\"\n  hint: cofferd help\n", name);
    return COMMAND_WRONG_USE;
}

static int help(int argc, char **argv)
{
    if (argc > 1) {
        return print_commands(stdout, argv[1]) ? EXIT_SUCCESS : no_command(argv[1]);
    }
    print_all(stdout);
    return EXIT_SUCCESS;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* With --help among its arguments it is only told about. What getopt says begins with the first of them. */
static int run(const struct command *command, int argc, char **argv)
{
    char name[NAME_ROOM];
    (void) snprintf(name, sizeof name, "cofferd %s", command->name);
    for (int i = 1; i < argc; i++) {
        if (is_help(argv[i])) {
            (void) print_commands(stdout, command->name);
            return EXIT_SUCCESS;
        }
    }
    argv[0] = name;
    return command->run(argc, argv);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_all(stderr);
        return COMMAND_WRONG_USE;
    }
    hardening_bind(argv);
    for (size_t i = 0; i < COF_COUNT(commands); i++) {
        if (commands[i].run != NULL && strcmp(argv[1], commands[i].name) == 0) {
            return run(&commands[i], argc - 1, argv + 1);
        }
    }
    if (is_help(argv[1])) {
        print_all(stdout);
        return EXIT_SUCCESS;
    }
    return strcmp(argv[1], "--version") == 0 ? version(argc, argv) : no_command(argv[1]);
}
