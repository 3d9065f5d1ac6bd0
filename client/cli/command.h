#pragma once

#include "client/cli/cli.h"

/* The tables of commands and options, how a command line is read by them, and the help that is made from them. */

typedef enum option_kind {
    OPTION_TEXT,
    OPTION_LIST,
    OPTION_FLAG,
} option_kind;

struct option_row {
    const char *name;
    const char *argument;
    const char *help;
    size_t field; /* offset in struct cli */
    option_kind kind;
    char letter;
};

extern const struct option_row option_rows[];
extern const size_t option_count;

/* What a command may allow beside options: -e given again, and forms of output that only some have. */
typedef enum command_form {
    FORM_SEVERAL, /* environments */
    FORM_RAW,
    FORM_PROCESS, /* credential_process */
    FORM_SHELL,   /* env */
    FORM_COUNT,
} command_form;

enum { OPTION_ROOM = 96 };

/* The options that a command line has, by their row. */
struct options_given {
    bool row[OPTION_ROOM];
};

struct command {
    const char *group;
    const char *verb;
    const char *arguments;
    size_t least;
    size_t most;
    const char *help;
    const char *example;
    cli_command *run;
};

extern const struct command commands[];
extern const size_t command_count;

/* Whether the command takes the option of that row; NULL stands for what belongs to every command. */
bool command_takes(const struct command *command, size_t option);
bool command_allows(const struct command *command, command_form form);

/* Whether the command works with wrong settings, too, or reads them itself. */
bool command_is_local(const struct command *command);

/* Finds the command that the first words name; NULL if there is none. */
const struct command *command_find(char *const *words, size_t count);

/* Fills `cli` with options and arguments, and tells which options were given; who is wrong is sent to the help of `meant`, the
 * command that the first words name, or NULL. */
cli_exit options_read(struct cli *cli, const struct command *meant, int argc, char **argv,
                      struct options_given *given);

/* Takes the form of the output from --output, or from COFFER_OUTPUT, which counts only where the command has that form. */
cli_exit output_apply(const struct command *command, struct cli *cli);

/* Refuses options that the command does not take, and a wrong number of arguments. */
cli_exit command_check(const struct command *command, const struct cli *cli, const struct options_given *given);

/* Says that the words name no command, with those that are near. */
cli_exit command_unknown(char *const *words, size_t count);

/* Whether the command, NULL for what is none, may call this method (calls.def). */
bool command_may_call(const struct command *command, const char *method);

/* --show-permission: which permission each method needs that the command may call. */
cli_exit command_show_permissions(const struct command *command, const struct cli *cli);

/* The permissions without more, for help; nothing where there are none. */
void help_permissions(const struct command *command);

/* What the option does for this command, or NULL for any: of a help with several meanings that one, in `text`. */
enum { OPTION_HELP = 400 };
const char *option_help(const struct command *command, const struct option_row *row, char text[OPTION_HELP]);

/* How a command is called, and what it does. */
void help_command(const struct command *command);

/* Tells about a topic; false if there is no such. */
bool help_topic(const char *name);

/* The topics, one a line. */
void help_topics(void);
void help_each_topic(void (*each)(const char *name, const char *about, const char *text));

/* A text behind what stands on the line already, on a terminal broken at blanks; its further lines begin at `indent`. */
void help_wrapped(const char *text, size_t indent);

/* The man page, on standard output. */
void help_man(void);

/* Answers a shell: what may stand in place of the last of the words. */
void complete_words(char *const *words, size_t count);
