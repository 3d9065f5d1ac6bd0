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

struct command;

/* Options of all commands, and the arguments that are none. */
struct cli {
    const struct command *command; /* that runs; NULL: what is none, such as completion */
    const char *state;             /* a consistency token of what values are at least to be of; NULL: any */
    char *address;
    char *token_file;
    char *workspace;
    char *profile;
    char *description;
    char *kind;
    char *out;
    char *overlap;
    char *output;
    char *color;
    char *fields;
    char *display_name;
    char *serve_lost;
    char *cacert;
    char *client_cert;
    char *client_key;
    char *tls_server_name;
    char *timeout;
    char *expires;
    char *workflow;
    char *run;
    char *expiring;
    char *type;
    char *format;
    char *prefix;
    char *from;
    char *uid;
    char *version;
    char *if_version;
    char *if_etag;
    char *to_env;
    char *to_name;
    char *on_conflict;
    char *data;
    char *client_id;
    char *port;
    char *action;
    char *grace;
    bool json;
    bool lines;   /* -o jsonl, and then json as well */
    bool aligned; /* -o table */
    bool raw;     /* -o raw */
    bool shell;   /* -o env */
    bool process; /* -o credential_process */
    bool no_input;
    bool quiet;
    bool insecure_transport;
    bool show_rpc;
    bool show_permission;
    bool no_newline;
    bool yes;
    bool self;
    bool replace;
    bool no_mask;
    bool watch;
    bool overwrite;
    bool missing;
    bool strict;
    bool no_strict;
    bool no_tags;
    bool block;
    bool no_block;
    bool deleted;
    bool active;
    bool dry_run;
    bool force;
    bool own;
    bool no_browser;
    bool page;
    bool device;
    bool disable;
    bool enable;
    bool help;
    struct cli_list environments;
    struct cli_list environment_patterns;
    struct cli_list grants;
    struct cli_list tags;
    struct cli_list files;
    struct cli_list removed;
    struct cli_list references;
    struct cli_list variables;
    struct cli_list mounts;
    struct cli_list secrets;
    struct cli_list env_files;
    struct cli_list templates;
    struct cli_list renamed;
    struct cli_list names;
    struct cli_list networks;
    struct cli_list permissions;
    struct cli_list workspaces;
    struct cli_list scopes;
    struct cli_list redirect_uris;
    char **arguments;
    size_t argument_count;
    struct {
        char *workspace; /* for want of an option and a variable */
        char *environment;
    } from_profile;
    coffer_client *client;
};

/* The workspace and the environment of a request: the option, the variable, the profile, or "". */
char *cli_workspace(const struct cli *cli);
char *cli_environment(const struct cli *cli);

/* The settings of the client as text, to be freed; NULL if there is no memory. */
char *cli_settings(const struct cli *cli);

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

/* Prints the answer, which is the method's response, for people. */
typedef void cli_show(const struct cli *cli, const ProtobufCMessage *answer);

struct cli_method {
    const char *name;
    const ProtobufCMessageDescriptor *response;
    cli_show *show;
};

/* Calls a method and shows its answer: as JSON, or by `show`. Says what is wrong. */
cli_exit cli_do(struct cli *cli, const struct cli_method *method, const ProtobufCMessage *request);

/* The same, but a failure with the reason `expected` is CLI_OK without a word; `ret_done` says whether it was done. */
cli_exit cli_do_try(struct cli *cli, const struct cli_method *method, const ProtobufCMessage *request,
                    coffer_reason expected, bool *ret_done);

/* NULL is allowed. */
void cli_free_message(ProtobufCMessage *message);

/* --- Failures ---- */

/* How failures are told: as JSON, one object a line on standard error; and whether notes are left out. */
void cli_report_as(bool json, bool quiet);

/* A failure: what failed, where and what to do; NULL for what there is not. Texts must not hold values. */
struct cli_report {
    const char *message;
    const char *hint;
    const char *reason;
    const char *request_id;
    cli_exit code;
};

/* Prints it, and returns its code. */
cli_exit cli_report(const struct cli_report *report);

/* From now on failures are not printed but kept, the last one, for who looks for faults; `false` ends that. */
void cli_catch(bool on);

enum { CLI_CAUGHT_TEXT = 1024 };

struct cli_caught {
    char message[CLI_CAUGHT_TEXT];
    char hint[CLI_CAUGHT_TEXT];
};

const struct cli_caught *cli_caught(void);

/* What to do at the command line about a failure with this reason, or outcome; NULL if there is nothing to add. */
const char *cli_hint(const char *reason);

/* Prints a failure of a call and returns its exit code. */
cli_exit cli_fail(const coffer_error *error);

cli_exit cli_exit_of(coffer_status status);

/*
 * Prints "coffer: ..." and a hint, if there is one, and returns `code`. An argument where a value may stand must not
 * be among what is printed: messages end up in logs.
 */
cli_exit cli_refuse(cli_exit code, const char *hint, const char *format, ...) COF_PRINTF(3, 4);

/* The same with CLI_USAGE. */
#define cli_usage(...) cli_refuse(CLI_USAGE, __VA_ARGS__)

cli_exit cli_no_memory(void);

/* The line that names a request, behind failures that came of its answer; not as JSON. */
void cli_report_request(const char *request_id);

/* A line on standard error about what was done, which --quiet and --json leave out. */
void cli_note(const char *format, ...) COF_PRINTF(1, 2);

/* --- Values ---- */

/* A value that somebody gave. Wiped by cli_value_done. */
struct cli_value {
    char *key;
    uint8_t *data;
    size_t length;
    bool line; /* a newline at its end is no part of it */
};

/*
 * Reads KEY=@FILE, KEY=- (standard input, by one argument only) or KEY (asks without echo). KEY=text is refused.
 * `place` counts the command's arguments from 1, for messages.
 */
cli_exit cli_read_value(char *argument, size_t place, struct cli_value *ret_value);

/* The same for what is one line, or ends as lines do: a newline at its end is no part of it. */
cli_exit cli_read_line_value(char *argument, size_t place, struct cli_value *ret_value);

/* Reads KEY=PATH, or KEY=- for standard input: the form of --file. */
cli_exit cli_read_file_value(char *argument, struct cli_value *ret_value);

void cli_value_done(struct cli_value *value);

/*
 * Prints a value to standard output: its exact bytes, with --json as {"value": ...}, and on a terminal a newline behind
 * it. A terminal gets no bytes that it would obey, unless -o raw was given.
 */
cli_exit cli_print_value(const struct cli *cli, coffer_bytes value);

/* Whether the text is one reference and nothing else, of either form that cli_split_reference takes. */
bool cli_is_reference(const char *text);

/* For -o env: the value as an assignment that a shell reads, NAME='value'. Refuses what no variable can hold. */
cli_exit cli_print_variable(const char *name, coffer_bytes value);

/* Whether the text may name a variable. */
bool cli_is_variable(const char *text);

/* Splits "name.KEY" at its last dot, in place. Also takes "${{ SECRETS.name.KEY }}". */
bool cli_split_reference(char *text, char **ret_name, char **ret_key);

/* The longest line of a terminal, with its newline. */
enum { CLI_LINE_MAX = 4096 };

/* Reads a line from the terminal without showing it, into CLI_LINE_MAX bytes; the newline is not part of it. `otherwise` says what
 * to do where nobody can be asked. */
cli_exit cli_prompt_hidden(const char *prompt, const char *otherwise, uint8_t *line, size_t *ret_length);

/* A positive whole number; `what` names it. */
cli_exit cli_read_number(const char *what, const char *text, uint64_t *ret_number);

/* From now on nobody is asked, as if there were no terminal. */
void cli_never_ask(void);

/* Asks for `name` to be typed, unless --yes was given. CLI_USAGE if it was not, or if nobody can be asked. */
cli_exit cli_confirm(const struct cli *cli, const char *question, const char *name);

/* --- Output ---- */

/*
 * A table. On a terminal its columns have headers, those that are empty are left out, and cells that have no room are
 * cut, but for those of the first column; where even that does not do, each cell has a line of its own. Elsewhere all of
 * them are separated by tabs, without headers. Control characters are shown as "?", for descriptions are what anybody
 * wrote.
 */
struct cli_table;
struct cli_table *cli_table_new(const char *const *headers, size_t columns);
void cli_table_add(struct cli_table *table, const char *text); /* the next cell; copies */
void cli_table_print(struct cli_table *table);                 /* and frees */

/* No cell is cut: each is one that somebody copies. */
void cli_table_whole(struct cli_table *table);

/* What is said on a terminal in place of a table without rows: what to do next, or "". Borrowed. */
void cli_table_none(struct cli_table *table, const char *none);

/* Leaves these columns, in this order. */
void cli_table_choose(struct cli_table *table, const size_t *columns, size_t count);

/*
 * Rows that end with two long cells, of which the last may be empty, as lists for people: these two are not cut but broken, and
 * the last stands on lines of its own, behind `label`. Elsewhere than on a terminal the same as cli_table_print. Frees.
 */
void cli_table_print_list(struct cli_table *table, const char *label);

/* Words that say how something is (ok, MISSING, FAILED, ...) get a colour on a terminal that has colours. */
void cli_table_colour(struct cli_table *table);

/* The value of --color, auto, always or never; NULL is auto. CLI_USAGE for anything else. */
cli_exit cli_table_colours(const char *when);

/* Whether tables are aligned here, and whether this one has room on the terminal without a cell being cut. */
bool cli_table_is_aligned(void);
bool cli_table_fits(const struct cli_table *table);

/* The same as {"name": [{...}]}, the members named by the headers, and frees. */
void cli_table_print_json(struct cli_table *table, const char *name);

void cli_table_free(struct cli_table *table);

/* From now on tables are aligned and have headers wherever they go. */
void cli_table_always(void);

/* A copy without control characters; "-" for an empty text. NULL if there is no memory. */
char *cli_harmless(const char *text);

/* "name         value" with the value made harmless as in a table, and on a terminal broken at blanks. */
void cli_print_field(const char *name, const char *text);

/* Whether standard output is a terminal. */
bool cli_on_terminal(void);

/* On a terminal "12 d ago" or "in 3 h", elsewhere the time as RFC 3339; "-" for none. In a static buffer of four. */
const char *cli_time(const void *timestamp);

/* Whether the time, which is given, is past. */
bool cli_is_past(const void *timestamp);

/* --- Commands ---- */

typedef cli_exit cli_command(struct cli *cli);

#define COMMAND(group, verb, arguments, least, most, options, help, example, run) cli_command run;
#include "client/cli/commands.def"
#undef COMMAND
