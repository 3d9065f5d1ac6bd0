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
    CLI_OK = 0,
    CLI_ERROR = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_NOT_LOGGED_IN = 4,
    CLI_DENIED = 5,
    CLI_CONFLICT = 6,
    CLI_UNAVAILABLE = 7,
    CLI_REJECTED = 8,
    CLI_LIMIT = 9,
    CLI_PARTIAL = 10,
} cli_exit;

enum { CLI_LIST_MAX = 256 };

struct cli_list {
    char *items[CLI_LIST_MAX];
    size_t count;
};

/* Options of all commands, and the arguments that are none. */
struct cli {
    char *address;
    char *token_file;
    char *workspace;
    char *environment; /* the first of `environments`, or "" */
    char *description;
    char *kind;
    char *out;
    char *expires;
    bool no_newline;
    bool all;
    struct cli_list environments;
    struct cli_list names;
    struct cli_list permissions;
    struct cli_list workspaces;
    char **arguments;
    size_t argument_count;
    coffer_client *client;
};

/* Connects if that was not done yet; says what is wrong. */
cli_exit cli_connect(struct cli *cli);

/* Calls a method and unpacks its answer, which is freed with cli_free_message. Says what is wrong. */
cli_exit cli_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *response, ProtobufCMessage **ret_response);
void cli_free_message(ProtobufCMessage *message);

/* Prints a failure of a call and returns its exit code. */
cli_exit cli_fail(const coffer_error *error);

/* Prints "coffer: ..." and a hint, if there is one. */
cli_exit cli_usage(const char *hint, const char *format, ...) COF_PRINTF(2, 3);

/* --- Values ---- */

/* A value that somebody gave. Wiped when it is freed. */
struct cli_value {
    char *key;
    uint8_t *data;
    size_t length;
};

/* Reads KEY=@FILE, KEY=- (standard input) or KEY (asks without echo). KEY=text is refused. */
cli_exit cli_read_value(char *argument, struct cli_value *ret_value);
void cli_value_done(struct cli_value *value);

/* Splits "name.KEY" at its last dot, in place. Also takes "${{ SECRETS.name.KEY }}". */
bool cli_split_reference(char *text, char **ret_name, char **ret_key);

/* --- Output ---- */

/* A table: columns with headers on a terminal, tab-separated without them elsewhere. */
struct cli_table;
struct cli_table *cli_table_new(const char *const *headers, size_t columns);
void cli_table_add(struct cli_table *table, const char *text); /* the next cell; copies */
void cli_table_print(struct cli_table *table);                 /* and frees */

/* "12 d ago", "in 3 h"; "-" for 0. In a static buffer of four. */
const char *cli_time(const void *timestamp);

/* --- Commands ---- */

typedef cli_exit cli_command(struct cli *cli);

#define COMMAND(group, verb, arguments, help, run) cli_command run;
#include "client/cli/commands.def"
#undef COMMAND
