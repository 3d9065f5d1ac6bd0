#include "client/cli/command.h"

#include <assert.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/name.h"

/* Option numbers. Those before ENV belong to every command; behind the last one stand the forms. */
enum option_id {
#define OPTION(id, letter, name, argument, kind, field, help) ID_##id,
#include "client/cli/options.def"
#undef OPTION
    ID_COUNT,
    ID_END = (int) ID_COUNT + (int) FORM_COUNT,
};

/*
 * What a command takes is written in commands.def as names joined by "|". A name stands for a bit, and they are more than any
 * integer has; so the table is read once for each word, in which the names of the other words are 0.
 */
enum { WORD_BITS = 64, WORD_COUNT = 2 };

static_assert((int) ID_END - (int) ID_ENV <= WORD_COUNT * WORD_BITS && (int) ID_COUNT <= (int) OPTION_ROOM,
              "what a command may take has a bit in one of the words");

#define BIT_IN(word, number)                                                                      \
    ((int) (number) < (int) ID_ENV || ((int) (number) - (int) ID_ENV) / (int) WORD_BITS != (word) \
         ? UINT64_C(0)                                                                            \
         : UINT64_C(1) << (((int) (number) - (int) ID_ENV + (int) WORD_BITS) % (int) WORD_BITS))

#define FORM_IN(word, form) BIT_IN(word, (int) ID_COUNT + (int) (form))

enum {
    KEYS_MAX = CLI_KEYS_MAX,
    REFERENCES_MAX = CLI_REFERENCES_MAX,
    ARGUMENTS_MAX = INT32_MAX,
    LIST_MAX = CLI_LIST_MAX,
};

enum { LONG_ONLY = 256, LETTERS = 2 * ID_COUNT + 3, NEAR = 2, HINT_TEXT = 80 };

const struct option_row option_rows[] = {
#define OPTION(id, letter, name, argument, kind, field, help) \
    {name, argument, help, offsetof(struct cli, field), OPTION_##kind, letter},
#include "client/cli/options.def"
#undef OPTION
};

const size_t option_count = COF_COUNT(option_rows);

const struct command commands[] = {
#define COMMAND(group, verb, arguments, least, most, options, help, example, run) \
    {group, verb, arguments, least, most, help, example, run},
#include "client/cli/commands.def"
#undef COMMAND
};

const size_t command_count = COF_COUNT(commands);

/* --- What a command takes ------------------------------------------------------------------------------------- */

static uint64_t first_word(size_t command)
{
    /* They are more than an int has bits, which ISO C allows from C23 on. */
    __extension__ enum {
#define OPTION(id, letter, name, argument, kind, field, help) id = BIT_IN(0, ID_##id),
#include "client/cli/options.def"
#undef OPTION
        SEVERAL = FORM_IN(0, FORM_SEVERAL),
        RAW = FORM_IN(0, FORM_RAW),
        PROCESS = FORM_IN(0, FORM_PROCESS),
        SHELL = FORM_IN(0, FORM_SHELL),
    };
    static const uint64_t words[] = {
#define COMMAND(group, verb, arguments, least, most, options, help, example, run) options,
#include "client/cli/commands.def"
#undef COMMAND
    };
    return words[command];
}

static uint64_t second_word(size_t command)
{
    /* They are more than an int has bits, which ISO C allows from C23 on. */
    __extension__ enum {
#define OPTION(id, letter, name, argument, kind, field, help) id = BIT_IN(1, ID_##id),
#include "client/cli/options.def"
#undef OPTION
        SEVERAL = FORM_IN(1, FORM_SEVERAL),
        RAW = FORM_IN(1, FORM_RAW),
        PROCESS = FORM_IN(1, FORM_PROCESS),
        SHELL = FORM_IN(1, FORM_SHELL),
    };
    static const uint64_t words[] = {
#define COMMAND(group, verb, arguments, least, most, options, help, example, run) options,
#include "client/cli/commands.def"
#undef COMMAND
    };
    return words[command];
}

static bool has_bit(const struct command *command, size_t number)
{
    static uint64_t (*const words[WORD_COUNT])(size_t) = {first_word, second_word};
    const size_t bit = number - (size_t) ID_ENV;
    const uint64_t word = words[bit / WORD_BITS]((size_t) (command - commands));
    return (word >> (bit % WORD_BITS) & 1) != 0;
}

bool command_takes(const struct command *command, size_t option)
{
    return option < (size_t) ID_ENV || (command != NULL && has_bit(command, option));
}

bool command_allows(const struct command *command, command_form form)
{
    return has_bit(command, (size_t) ID_COUNT + (size_t) form);
}

bool command_is_local(const struct command *command)
{
    static cli_command *const local[] = {cmd_help,         cmd_version,         cmd_completion, cmd_doctor,
                                         cmd_login,        cmd_logout,          cmd_config_set, cmd_config_use,
                                         cmd_config_unset, cmd_config_profiles, cmd_config_path};
    for (size_t i = 0; i < COF_COUNT(local); i++) {
        if (command->run == local[i]) {
            return true;
        }
    }
    return false;
}

const struct command *command_find(char *const *words, size_t count)
{
    for (size_t i = 0; i < command_count; i++) {
        const char *verb = commands[i].verb;
        if (count > 0 && strcmp(commands[i].group, words[0]) == 0 &&
            (verb[0] == '\0' || (count > 1 && strcmp(verb, words[1]) == 0))) {
            return &commands[i];
        }
    }
    return NULL;
}

/* Whether the first word of the command is among those before the colon. */
static bool is_meant(const struct command *command, const char *text, size_t length)
{
    const char *colon = memchr(text, ':', length);
    const size_t size = command == NULL ? 0 : strlen(command->group);
    for (const char *word = text; command != NULL && colon != NULL && word < colon;) {
        const size_t span = strcspn(word, ",:");
        if (span == size && strncmp(word, command->group, span) == 0) {
            return true;
        }
        word += span + strspn(word + span, ", ");
    }
    return false;
}

const char *option_help(const struct command *command, const struct option_row *row, char text[OPTION_HELP])
{
    static const char bar[] = " | ";
    const char *meaning = row->help;
    const char *end = strstr(meaning, bar);
    while (end != NULL && !is_meant(command, meaning, (size_t) (end - meaning))) {
        meaning = end + strlen(bar);
        end = strstr(meaning, bar);
    }
    meaning += end == NULL ? 0 : strcspn(meaning, ":") + 2;
    const size_t length = end == NULL ? strlen(meaning) : (size_t) (end - meaning);
    assert(length < OPTION_HELP);
    (void) snprintf(text, OPTION_HELP, "%.*s", (int) length, meaning);
    return text;
}

/* --- Options -------------------------------------------------------------------------------------------------- */

static void fill_getopt(struct option *names, char *letters)
{
    *letters++ = ':';
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *row = &option_rows[i];
        names[i] = (struct option){row->name, row->argument != NULL, NULL, LONG_ONLY + (int) i};
        if (row->letter != '\0') {
            *letters++ = row->letter;
            *letters = ':';
            letters += row->argument != NULL;
        }
    }
    *letters = '\0';
}

/* Of a short word half must be right: nobody who types "bad" means "tag". */
static unsigned distance(const char *word, size_t length, const char *name)
{
    const unsigned most = length / 2 < NEAR ? (unsigned) length / 2 : NEAR;
    const unsigned far = length > COF_KEY_NAME_MAX ? NEAR + 1
                                                   : cof_name_distance(cof_slice_of((const uint8_t *) word, length),
                                                                       cof_slice_text(name), most);
    return far > most ? NEAR + 1 : far;
}

/* The option that looks like the word, of which only the name is looked at. */
static const char *near_option(const char *word)
{
    const char *found = NULL;
    unsigned best = NEAR + 1;
    for (size_t i = 0; i < option_count; i++) {
        const unsigned far = distance(word, strcspn(word, "="), option_rows[i].name);
        found = far < best ? option_rows[i].name : found;
        best = far < best ? far : best;
    }
    return found;
}

static const char *space(const struct command *command)
{
    return command->verb[0] == '\0' ? "" : " ";
}

/* Only the option's name is told: what stands behind its "=" could be a value. */
static cli_exit refuse_option(const struct command *command, int problem, const char *argument)
{
    char hint[HINT_TEXT];
    (void) snprintf(hint, sizeof hint, "coffer help%s%s%s%s", command == NULL ? "" : " ",
                    command == NULL ? "" : command->group, command == NULL ? "" : space(command),
                    command == NULL ? "" : command->verb);
    const char *what = "is no option";
    const char *near = strncmp(argument, "--", 2) == 0 ? near_option(argument + 2) : NULL;
    if (problem == ':') {
        what = "needs an argument";
    } else if (optopt >= LONG_ONLY) {
        what = "takes no argument";
    } else if (optopt == 0) {
        what = "is no option, or the beginning of several";
    }
    if (problem == '?' && optopt == 0 && near != NULL) {
        return cli_usage(hint, "%.*s is no option; did you mean --%s?", (int) strcspn(argument, "="), argument,
                         near);
    }
    if (strncmp(argument, "--", 2) == 0) {
        return cli_usage(hint, "%.*s %s", (int) strcspn(argument, "="), argument, what);
    }
    return cli_usage(hint, "-%c %s", optopt, what);
}

static size_t row_of(int option)
{
    size_t i = 0;
    if (option >= LONG_ONLY) {
        return (size_t) (option - LONG_ONLY);
    }
    while (i < option_count && option_rows[i].letter != option) {
        i++;
    }
    return i;
}

static cli_exit take(struct cli *cli, const struct option_row *row)
{
    void *field = (char *) cli + row->field;
    struct cli_list *list = field;
    switch (row->kind) {
    case OPTION_TEXT:
        memcpy(field, &optarg, sizeof optarg);
        break;
    case OPTION_FLAG:
        *(bool *) field = true;
        break;
    case OPTION_LIST:
        if (list->count == CLI_LIST_MAX) {
            return cli_usage(NULL, "--%s is given more than %d times", row->name, CLI_LIST_MAX);
        }
        list->items[list->count++] = optarg;
        break;
    }
    return CLI_OK;
}

cli_exit options_read(struct cli *cli, const struct command *meant, int argc, char **argv,
                      struct options_given *given)
{
    struct option names[COF_COUNT(option_rows) + 1] = {{NULL, 0, NULL, 0}};
    char letters[LETTERS];
    int option;
    fill_getopt(names, letters);
    opterr = 0;
    while ((option = getopt_long(argc, argv, letters, names, NULL)) != -1) {
        if (option == '?' || option == ':') {
            return refuse_option(meant, option, argv[optind - 1]);
        }
        const size_t row = row_of(option);
        const cli_exit code = take(cli, &option_rows[row]);
        if (code != CLI_OK) {
            return code;
        }
        given->row[row] = true;
    }
    cli->arguments = argv + optind;
    cli->argument_count = (size_t) (argc - optind);
    return CLI_OK;
}

/* --- Forms of output ------------------------------------------------------------------------------------------ */

static bool has_list(const struct command *command)
{
    return command != NULL && (strcmp(command->verb, "list") == 0 || strcmp(command->verb, "versions") == 0);
}

static bool takes_json(const struct command *command)
{
    (void) command;
    return true;
}

static bool takes_raw(const struct command *command)
{
    return command != NULL && command_allows(command, FORM_RAW);
}

static bool takes_shell(const struct command *command)
{
    return command != NULL && command_allows(command, FORM_SHELL);
}

static bool takes_process(const struct command *command)
{
    return command != NULL && command_allows(command, FORM_PROCESS);
}

static const struct form {
    const char *name;
    bool (*takes)(const struct command *command);
    const char *otherwise; /* of a command that does not take it */
    size_t field;          /* in struct cli */
} forms[] = {
    {"json", takes_json, NULL, offsetof(struct cli, json)},
    {"table", takes_json, NULL, offsetof(struct cli, aligned)},
    {"jsonl", has_list, "prints no list; --output is json or table", offsetof(struct cli, lines)},
    {"raw", takes_raw, "prints no value; --output is json or table", offsetof(struct cli, raw)},
    {"env", takes_shell, "prints no values as variables; --output is json or table", offsetof(struct cli, shell)},
    {"credential_process", takes_process, "has no credentials for a credential_process",
     offsetof(struct cli, process)},
};

static const struct form *find_form(const char *name)
{
    for (size_t i = 0; i < COF_COUNT(forms); i++) {
        if (strcmp(forms[i].name, name) == 0) {
            return &forms[i];
        }
    }
    return NULL;
}

cli_exit output_apply(const struct command *command, struct cli *cli)
{
    static const char hint[] = "-o json, -o table, -o jsonl for lists, or -o raw or env where values are printed";
    const char *variable = getenv("COFFER_OUTPUT");
    const bool given = cli->output != NULL || cli->json;
    const char *name = given || variable == NULL ? cli->output : variable;
    if (name == NULL || name[0] == '\0') {
        return CLI_OK;
    }
    const struct form *form = find_form(name);
    if (form == NULL) {
        return cli_usage(hint, "%s names no form of output that there is", given ? "--output" : "COFFER_OUTPUT");
    }
    if (cli->json && strcmp(name, "json") != 0 && strcmp(name, "jsonl") != 0) {
        return cli_usage(hint, "--json and --output %s contradict each other", name);
    }
    /* Failures are told as JSON, too. */
    cli->json = cli->json || strncmp(name, "json", 4) == 0;
    if (form->takes(command)) {
        *(bool *) ((char *) cli + form->field) = true;
    } else if (given && command != NULL) {
        return cli_usage(command->example, "%s%s%s %s", command->group, space(command), command->verb,
                         form->otherwise);
    }
    return CLI_OK;
}

/* --- Commands ------------------------------------------------------------------------------------------------- */

static cli_exit unknown_verb(char *const *words, size_t count);

/* Whether the group has verbs besides the command without one. */
static bool has_verbs(const char *group)
{
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].verb[0] != '\0' && strcmp(commands[i].group, group) == 0) {
            return true;
        }
    }
    return false;
}

static cli_exit wrong_count(const struct command *command, const struct cli *cli)
{
    if (cli->argument_count < command->least) {
        return cli_usage(command->example, "%s%s%s needs %s", command->group, space(command), command->verb,
                         command->arguments);
    }
    if (command->most == 0 && has_verbs(command->group) && command->verb[0] == '\0') {
        char *const words[] = {(char *) (uintptr_t) command->group, cli->arguments[0]};
        return unknown_verb(words, COF_COUNT(words));
    }
    if (command->most == 0) {
        return cli_usage(command->example, "%s%s%s takes no argument", command->group, space(command),
                         command->verb);
    }
    return cli_usage(command->example, "%s%s%s takes %zu argument%s, not %zu", command->group, space(command),
                     command->verb, command->most, command->most == 1 ? "" : "s", cli->argument_count);
}

/* A connection may be one of all environments. */
static cli_exit check_environments(const struct command *command, const struct cli *cli)
{
    struct cof_error err = {0};
    const bool all = strcmp(command->group, "oauth") == 0;
    for (size_t i = 0; i < cli->environments.count; i++) {
        const char *name = cli->environments.items[i];
        if (!(all && strcmp(name, "*") == 0) &&
            cof_name_check(COF_NAME_ENVIRONMENT, cof_slice_text(name), "--env", &err) != COF_OK) {
            return cli_refuse(CLI_REJECTED, NULL, "%s", err.message);
        }
    }
    return CLI_OK;
}

cli_exit command_check(const struct command *command, const struct cli *cli, const struct options_given *given)
{
    for (size_t i = 0; i < option_count; i++) {
        if (given->row[i] && !command_takes(command, i)) {
            return cli_usage(command->example, "%s%s%s takes no --%s", command->group, space(command),
                             command->verb, option_rows[i].name);
        }
    }
    if (cli->environments.count > 1 && !command_allows(command, FORM_SEVERAL)) {
        return cli_usage(command->example, "%s%s%s takes one environment, not %zu", command->group, space(command),
                         command->verb, cli->environments.count);
    }
    if (cli->argument_count < command->least || cli->argument_count > command->most) {
        return wrong_count(command, cli);
    }
    return check_environments(command, cli);
}

/* The group that looks like the word, or the verb of `group` that does. */
static const char *nearest(const char *word, const char *group)
{
    const char *found = NULL;
    unsigned best = NEAR + 1;
    for (size_t i = 0; i < command_count; i++) {
        const bool other = group != NULL && strcmp(commands[i].group, group) != 0;
        const char *name = group == NULL ? commands[i].group : commands[i].verb;
        const unsigned far = other ? best : distance(word, strlen(word), name);
        found = far < best ? name : found;
        best = far < best ? far : best;
    }
    return found;
}

static cli_exit unknown_verb(char *const *words, size_t count)
{
    char hint[HINT_TEXT];
    const char *near = count > 1 ? nearest(words[1], words[0]) : NULL;
    if (near != NULL) {
        (void) snprintf(hint, sizeof hint, "coffer help %s", words[0]);
        return cli_usage(hint, "%s has no such verb; did you mean \"%s %s\"?", words[0], words[0], near);
    }
    const cli_exit code =
        cli_usage(NULL, count > 1 ? "%s has no such verb; it has these:" : "%s needs one of these:", words[0]);
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].group, words[0]) == 0) {
            cli_note("  coffer %s %s%s%s", words[0], commands[i].verb, commands[i].arguments[0] == '\0' ? "" : " ",
                     commands[i].arguments);
        }
    }
    return code;
}

/* The only command with this verb. */
static const struct command *owner_of(const char *verb)
{
    const struct command *found = NULL;
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].verb[0] != '\0' && strcmp(commands[i].verb, verb) == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = &commands[i];
        }
    }
    return found;
}

cli_exit command_unknown(char *const *words, size_t count)
{
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].group, words[0]) == 0) {
            return unknown_verb(words, count);
        }
    }
    const struct command *owner = owner_of(words[0]);
    if (owner != NULL) {
        char hint[HINT_TEXT];
        (void) snprintf(hint, sizeof hint, "coffer help %s %s", owner->group, owner->verb);
        return cli_usage(hint, "there is no such command; did you mean \"%s %s\"?", owner->group, owner->verb);
    }
    const char *near = nearest(words[0], NULL);
    return near == NULL
               ? cli_usage("coffer help lists them", "there is no such command")
               : cli_usage("coffer help lists them", "there is no such command; did you mean \"%s\"?", near);
}
