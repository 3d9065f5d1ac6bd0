#include "client/cli/variables.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/resolve.h"

enum { WHAT_TEXT = 40, PATH_TEXT = 200 };

/* --- Names ------------------------------------------------------------------------------------------------------ */

/* Variables that change what a program runs. A key of a secret does not become one by itself. */
static const char *const dangerous[] = {
    "BASHOPTS",   "BASH_ENV",   "DYLD_*",        "ENV",     "GCONV_PATH", "GIT_SSH_COMMAND",
    "IFS",        "LD_*",       "NODE_OPTIONS",  "PATH",    "PERL5OPT",   "PROMPT_COMMAND",
    "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "RUBYOPT", "SHELLOPTS"};

static bool is_dangerous(const char *name)
{
    for (size_t i = 0; i < COF_COUNT(dangerous); i++) {
        const size_t length = strlen(dangerous[i]);
        const bool prefix = dangerous[i][length - 1] == '*';
        if (prefix ? strncmp(name, dangerous[i], length - 1) == 0 : strcmp(name, dangerous[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool cli_is_variable(const char *name)
{
    static const char digits[] = "0123456789";
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    return name[0] != '\0' && strchr(digits, name[0]) == NULL && name[strspn(name, allowed)] == '\0';
}

/* --- Options ---------------------------------------------------------------------------------------------------- */

/* A key that names the variable itself must be fit for that. */
static cli_exit check_key(const struct variable *one)
{
    if (!cli_is_variable(one->name)) {
        return cli_usage("--set NAME=SECRET.KEY gives it another name",
                         "the key \"%s\" cannot be the name of a variable", one->name);
    }
    if (is_dangerous(one->name)) {
        return cli_usage("--set NAME=SECRET.KEY sets it all the same",
                         "the variable %s changes what a program runs; it is not set from a key by itself",
                         one->name);
    }
    return CLI_OK;
}

static cli_exit check_twice(const struct variable *before, size_t count, const struct variable *one)
{
    for (size_t i = 0; i < count; i++) {
        const struct variable *other = &before[i];
        if (strcmp(other->name, one->name) == 0) {
            return cli_usage("--set NAME=SECRET.KEY gives one of them another name",
                             "the variable %s would come from %s.%s and from %s.%s", one->name, other->secret,
                             other->key, one->secret, one->key);
        }
    }
    return CLI_OK;
}

/* Takes the variable, unless another has its name. */
static cli_exit add_one(struct variables *variables, const struct variable *one)
{
    const cli_exit code = check_twice(variables->items, variables->count, one);
    if (code != CLI_OK) {
        return code;
    }
    struct variable *items = realloc(variables->items, (variables->count + 1) * sizeof *items);
    if (items == NULL) {
        return cli_no_memory();
    }
    variables->items = items;
    items[variables->count++] = *one;
    return CLI_OK;
}

static cli_exit add_reference(coffer_request *request, char *text, size_t i, struct variables *variables)
{
    char what[WHAT_TEXT];
    char *secret = text;
    char *key = text;
    (void) snprintf(what, sizeof what, "--ref, the %zuth", i + 1);
    cli_exit code = resolve_add(request, text, i == 0 ? "--ref" : what, &secret, &key);
    const struct variable one = {key, secret, key};
    if (code == CLI_OK) {
        code = check_key(&one);
    }
    return code == CLI_OK ? add_one(variables, &one) : code;
}

/* VARIABLE=NAME.KEY; `what` says where it stands. */
static cli_exit add_set(coffer_request *request, char *text, const char *what, struct variables *variables)
{
    char *equals = strchr(text, '=');
    char *secret = text;
    char *key = text;
    if (equals != NULL) {
        *equals = '\0';
    }
    if (equals == NULL || !cli_is_variable(text)) {
        return cli_usage("TOKEN=slack.SLACK_BOT_TOKEN", "%s is not of the form VARIABLE=NAME.KEY", what);
    }
    const cli_exit code = resolve_add(request, equals + 1, what, &secret, &key);
    return code == CLI_OK ? add_one(variables, &(struct variable){text, secret, key}) : code;
}

/* --- Files of variables ----------------------------------------------------------------------------------------- */

/* Without blanks and quotes around it. */
static char *bare(char *text)
{
    assert(text != NULL);
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL) {
        text[--length] = '\0';
    }
    if (length > 1 && (text[0] == '"' || text[0] == '\'') && text[length - 1] == text[0]) {
        text[length - 1] = '\0';
        text++;
    }
    return text;
}

/* The value is not told: who writes one into such a file has written a secret. */
static cli_exit add_line(coffer_request *request, char *line, const char *what, struct variables *variables)
{
    char *text = bare(line);
    if (text[0] == '\0' || text[0] == '#') {
        return CLI_OK;
    }
    text += strncmp(text, "export ", 7) == 0 ? 7 : 0;
    char *equals = strchr(text, '=');
    char *value = equals == NULL ? text : bare(equals + 1);
    const bool blanks = strncmp(value, "${{", 3) != 0 && strpbrk(value, " \t") != NULL;
    if (equals != NULL && (blanks || strchr(value, '.') == NULL || !cli_is_reference(value))) {
        return cli_usage(
            "TOKEN=slack.SLACK_BOT_TOKEN, or TOKEN=${{ SECRETS.slack.SLACK_BOT_TOKEN }}",
            "%s gives a variable something else than a reference, which is all that stands in such a file", what);
    }
    if (equals != NULL) {
        memmove(equals + 1, value, strlen(value) + 1);
    }
    return add_set(request, text, what, variables);
}

/* Keeps a copy of the line, in which names of variables and secrets go on to stand. */
static cli_exit keep_line(struct variables *variables, const char *line, char **ret_copy)
{
    char **lines = realloc(variables->lines, (variables->line_count + 1) * sizeof *lines);
    if (lines == NULL) {
        return cli_no_memory();
    }
    variables->lines = lines;
    lines[variables->line_count] = strdup(line);
    *ret_copy = lines[variables->line_count];
    if (*ret_copy == NULL) {
        return cli_no_memory();
    }
    variables->line_count++;
    return CLI_OK;
}

static cli_exit add_file(coffer_request *request, const char *path, struct variables *variables)
{
    char what[WHAT_TEXT + PATH_TEXT];
    char *line = NULL;
    size_t room = 0;
    size_t number = 0;
    cli_exit code = CLI_OK;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", path, strerror(errno));
    }
    while (code == CLI_OK && getline(&line, &room, file) > 0) {
        char *copy = NULL;
        (void) snprintf(what, sizeof what, "line %zu of %.*s", ++number, (int) PATH_TEXT, path);
        code = keep_line(variables, line, &copy);
        if (code == CLI_OK) {
            code = add_line(request, copy, what, variables);
        }
    }
    free(line);
    (void) fclose(file);
    return code;
}

static cli_exit add_all(const struct cli *cli, coffer_request *request, struct variables *variables)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < cli->references.count; i++) {
        code = add_reference(request, cli->references.items[i], i, variables);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->variables.count; i++) {
        code = add_set(request, cli->variables.items[i], "--set", variables);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->env_files.count; i++) {
        code = add_file(request, cli->env_files.items[i], variables);
    }
    return code;
}

cli_exit variables_read(struct cli *cli, coffer_request *request, struct variables *variables)
{
    *variables = (struct variables){.count = 0};
    coffer_request_set_action(request, cli->action);
    const cli_exit code = add_all(cli, request, variables);
    if (code == CLI_OK && variables->count == 0 && cli->action == NULL) {
        return cli_usage("coffer run --ref slack.SLACK_BOT_TOKEN -- env",
                         "run needs --ref, --set, --env-file or --action; nothing is given to a program by itself");
    }
    return code;
}

static bool same_name(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* A value that an option names already has its variable. */
static bool is_named(const struct variables *variables, const struct variable *one)
{
    for (size_t i = 0; i < variables->count; i++) {
        const struct variable *other = &variables->items[i];
        if (same_name(other->key, one->key) && same_name(other->secret, one->secret)) {
            return true;
        }
    }
    return false;
}

cli_exit variables_add_action(struct variables *variables, const coffer_item *item)
{
    const size_t count = coffer_item_value_count(item);
    for (size_t i = 0; i < count; i++) {
        struct variable one = {"", "", ""};
        (void) coffer_item_value_at(item, i, &one.secret, &one.key);
        one.name = one.key;
        if (is_named(variables, &one)) {
            continue;
        }
        cli_exit code = check_key(&one);
        if (code == CLI_OK) {
            code = add_one(variables, &one);
        }
        if (code != CLI_OK) {
            return code;
        }
    }
    return CLI_OK;
}

/* --- Environment ------------------------------------------------------------------------------------------------ */

/* The token is for this process, and what is set anew is not there twice. */
static bool is_kept(const struct variables *variables, const char *text)
{
    static const char *const own[] = {"COFFER_TOKEN", "COFFER_TOKEN_FILE"};
    const size_t length = strcspn(text, "=");
    for (size_t i = 0; i < COF_COUNT(own); i++) {
        if (strlen(own[i]) == length && strncmp(text, own[i], length) == 0) {
            return false;
        }
    }
    for (size_t i = 0; i < variables->count; i++) {
        const char *name = variables->items[i].name;
        if (strlen(name) == length && strncmp(text, name, length) == 0) {
            return false;
        }
    }
    return true;
}

static cli_exit make(struct variables *variables, const struct variable *one, const coffer_item *item)
{
    const coffer_bytes value = coffer_item_value(item, one->secret, one->key);
    const size_t name = strlen(one->name);
    if (value.length > 0 && memchr(value.data, '\0', value.length) != NULL) {
        return cli_refuse(CLI_REJECTED, "coffer get writes it into a file",
                          "the value of %s.%s holds a NUL byte, which a variable cannot", one->secret, one->key);
    }
    char *text = malloc(name + value.length + 2);
    if (text == NULL) {
        return cli_no_memory();
    }
    memcpy(text, one->name, name);
    text[name] = '=';
    if (value.length > 0) {
        memcpy(text + name + 1, value.data, value.length);
    }
    text[name + 1 + value.length] = '\0';
    variables->made[variables->made_count++] = text;
    return CLI_OK;
}

cli_exit variables_fill(struct variables *variables, const coffer_item *item)
{
    size_t inherited = 0;
    size_t count = 0;
    while (environ[inherited] != NULL) {
        inherited++;
    }
    variables->made = calloc(variables->count + 1, sizeof *variables->made);
    variables->environment = calloc(inherited + variables->count + 1, sizeof *variables->environment);
    if (variables->made == NULL || variables->environment == NULL) {
        return cli_no_memory();
    }
    for (size_t i = 0; i < inherited; i++) {
        if (is_kept(variables, environ[i])) {
            variables->environment[count++] = environ[i];
        }
    }
    for (size_t i = 0; i < variables->count; i++) {
        const cli_exit code = make(variables, &variables->items[i], item);
        if (code != CLI_OK) {
            return code;
        }
        variables->environment[count++] = variables->made[i];
    }
    return CLI_OK;
}

void variables_done(struct variables *variables)
{
    for (size_t i = 0; i < variables->made_count; i++) {
        explicit_bzero(variables->made[i], strlen(variables->made[i]));
        free(variables->made[i]);
    }
    for (size_t i = 0; i < variables->line_count; i++) {
        free(variables->lines[i]);
    }
    free(variables->lines);
    free(variables->made);
    free(variables->environment);
    free(variables->items);
}
