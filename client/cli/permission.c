#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"
#include "common/method.h"

/* Which permissions commands need: the methods that each may call, and what those ask for. */

static const struct call_row {
    cli_command *command;
    const char *method;
    const char *more;
} calls[] = {
#define CALL(command, method, more) {command, method, more},
#include "client/cli/calls.def"
#undef CALL
};

bool command_may_call(const struct command *command, const char *method)
{
    for (size_t i = 0; command != NULL && i < COF_COUNT(calls); i++) {
        if (calls[i].command == command->run && strcmp(calls[i].method, method) == 0) {
            return true;
        }
    }
    return command == NULL;
}

/* NULL for a method that is not known. */
static const struct cof_method *find(const char *method)
{
    size_t index = 0;
    return cof_method_find(cof_slice_text(method), &index) ? cof_method_at(index) : NULL;
}

/* A name, or what is asked for in place of one. */
static const char *permission_of(const char *method)
{
    const struct cof_method *row = find(method);
    if (row == NULL) {
        return "unknown";
    }
    switch (row->access) {
    case COF_METHOD_OPEN:
        return "none";
    case COF_METHOD_CALLER:
        return "any token";
    case COF_METHOD_PERMITTED:
        break;
    }
    return cof_permission_name(row->permission);
}

static bool is_permission(const char *method)
{
    const struct cof_method *row = find(method);
    return row != NULL && row->access == COF_METHOD_PERMITTED;
}

static void add_row(struct cli_table *table, const char *method, const char *more)
{
    cli_table_add(table, permission_of(method));
    cli_table_add(table, method);
    cli_table_add(table, more);
}

/* Of `rpc call` that of its method as well, which is its argument. */
cli_exit command_show_permissions(const struct command *command, const struct cli *cli)
{
    static const char *const headers[] = {"PERMISSION", "METHOD", "MORE"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    if (table == NULL) {
        return cli_no_memory();
    }
    for (size_t i = 0; i < COF_COUNT(calls); i++) {
        if (calls[i].command == command->run) {
            add_row(table, calls[i].method, calls[i].more);
        }
    }
    if (command->run == cmd_rpc_call) {
        add_row(table, cli->arguments[0], "");
    }
    cli_table_none(table, "it calls no method of the server");
    cli_table_whole(table);
    if (cli->json) {
        cli_table_print_json(table, "calls");
    } else {
        cli_table_print(table);
    }
    return CLI_OK;
}

/* Whether the permission of this call is that of one before it, of the same command. */
static bool is_listed(size_t call)
{
    const char *permission = permission_of(calls[call].method);
    for (size_t i = 0; i < call; i++) {
        if (calls[i].command == calls[call].command && strcmp(permission_of(calls[i].method), permission) == 0) {
            return true;
        }
    }
    return false;
}

void help_permissions(const struct command *command)
{
    bool begun = false;
    for (size_t i = 0; i < COF_COUNT(calls); i++) {
        if (calls[i].command == command->run && is_permission(calls[i].method) && !is_listed(i)) {
            printf("%s%s", begun ? ", " : "\nPermissions, of which --show-permission tells more:\n  ",
                   permission_of(calls[i].method));
            begun = true;
        }
    }
    fputs(begun ? "\n" : "", stdout);
}
