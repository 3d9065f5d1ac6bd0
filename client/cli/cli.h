#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include <coffer/coffer.h>
#include <coffer/rpc.h>

#include "common/attr.h"

/* What the commands of `coffer` share: options, the connection, calls, values from people, and output. */

/* Exit codes: the same for every command (coffer help exit-codes). */
typedef enum cli_exit {
#define EXIT(id, number, meaning) CLI_##id = (number),
#include "client/cli/exits.def"
#undef EXIT
} cli_exit;

/* Counts: the values of an option that may be given again, and the arguments of a command. */
enum { CLI_LIST_MAX = 256, CLI_KEYS_MAX = 100, CLI_REFERENCES_MAX = 1000 };

struct cli_list {
    char *items[CLI_LIST_MAX];
    size_t count;
};

/* Options of all commands, and the arguments that are none. */
struct cli {
    char *address;
    char *token_file;
    char *workspace;
    char *description;
    char *kind;
    char *out;
    char *overlap;
    char *output;
    bool no_newline;
    bool yes;
    bool self;
    bool disable;
    bool enable;
    bool help;
    struct cli_list environments;
    struct cli_list environment_patterns;
    struct cli_list names;
    struct cli_list networks;
    struct cli_list permissions;
    struct cli_list workspaces;
    char **arguments;
    size_t argument_count;
    coffer_client *client;
};

/* The workspace and the environment of a request: the option, the variable, or "". */
char *cli_workspace(const struct cli *cli);
char *cli_environment(const struct cli *cli);

/* --- Calls ---- */

/* Connects if that was not done yet; says what is wrong. */
cli_exit cli_connect(struct cli *cli);

/* Calls a method and unpacks its answer, which is freed with cli_free_message. Says what is wrong. */
cli_exit cli_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *response, ProtobufCMessage **ret_response);

/* The same, but a failure with the reason `expected` is returned without a word, as CLI_OK and NULL. */
cli_exit cli_try(struct cli *cli, const char *method, const ProtobufCMessage *request,
                 const ProtobufCMessageDescriptor *response, coffer_reason expected,
                 ProtobufCMessage **ret_response);

/* NULL is allowed. */
void cli_free_message(ProtobufCMessage *message);

/* --- Failures ---- */

/* Prints a failure of a call and returns its exit code. */
cli_exit cli_fail(const coffer_error *error);

/* Prints the line that names a request for the operator: its ID and why it failed. */
void cli_print_request(const char *request_id, const char *reason);

cli_exit cli_exit_of(coffer_status status);

/*
 * Prints "coffer: ..." and a hint, if there is one, and returns `code`. An argument where a value may stand must not
 * be among what is printed: messages end up in logs.
 */
cli_exit cli_refuse(cli_exit code, const char *hint, const char *format, ...) COF_PRINTF(3, 4);

/* The same with CLI_USAGE. */
#define cli_usage(...) cli_refuse(CLI_USAGE, __VA_ARGS__)

/* --- Values ---- */

/* A value that somebody gave. Wiped by cli_value_done. */
struct cli_value {
    char *key;
    uint8_t *data;
    size_t length;
};

/*
 * Reads KEY=@FILE, KEY=- (standard input, by one argument only) or KEY (asks without echo). KEY=text is refused.
 * `place` counts the command's arguments from 1, for messages.
 */
cli_exit cli_read_value(char *argument, size_t place, struct cli_value *ret_value);
void cli_value_done(struct cli_value *value);

/* Splits "name.KEY" at its last dot, in place. Also takes "${{ SECRETS.name.KEY }}". */
bool cli_split_reference(char *text, char **ret_name, char **ret_key);

/* The longest line of a terminal, with its newline. */
enum { CLI_LINE_MAX = 4096 };

/* Reads a line from the terminal without showing it, into CLI_LINE_MAX bytes; the newline is not part of it. */
cli_exit cli_prompt_hidden(const char *prompt, uint8_t *line, size_t *ret_length);

/* Asks for `name` to be typed, unless --yes was given. CLI_USAGE if it was not, or if nobody can be asked. */
cli_exit cli_confirm(const struct cli *cli, const char *question, const char *name);

/* --- Output ---- */

/*
 * A table: columns with headers on a terminal; elsewhere tab-separated, without headers. Control characters are
 * shown as "?", for descriptions are what anybody wrote.
 */
struct cli_table;
struct cli_table *cli_table_new(const char *const *headers, size_t columns);
void cli_table_add(struct cli_table *table, const char *text); /* the next cell; copies */
void cli_table_print(struct cli_table *table);                 /* and frees */
void cli_table_free(struct cli_table *table);

/* "name         value" with the value made harmless as in a table. */
void cli_print_field(const char *name, const char *text);

/* On a terminal "12 d ago" or "in 3 h", elsewhere the time as RFC 3339; "-" for none. In a static buffer of four. */
const char *cli_time(const void *timestamp);

/* --- Commands ---- */

typedef cli_exit cli_command(struct cli *cli);

#define COMMAND(group, verb, arguments, least, most, options, help, example, run) cli_command run;
#include "client/cli/commands.def"
#undef COMMAND
