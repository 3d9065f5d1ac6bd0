#include "client/cli/variables.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/mount.h"
#include "client/cli/resolve.h"
#include "client/cli/secret.h"

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

/* Keeps a copy of the text, in which names of variables and secrets go on to stand; what was given stays whole. */
static cli_exit keep_text(struct variables *variables, const char *text, char **ret_copy)
{
    char **texts = realloc(variables->texts, (variables->text_count + 1) * sizeof *texts);
    if (texts == NULL) {
        return cli_no_memory();
    }
    variables->texts = texts;
    texts[variables->text_count] = strdup(text);
    *ret_copy = texts[variables->text_count];
    if (*ret_copy == NULL) {
        return cli_no_memory();
    }
    variables->text_count++;
    return CLI_OK;
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
                             "the variable %s would come from %s.%s and from %s.%s", one->name, other->from.name,
                             other->from.key, one->from.name, one->from.key);
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

static cli_exit add_reference(const char *text, size_t i, struct variables *variables)
{
    char what[WHAT_TEXT];
    char *copy = NULL;
    struct variable one = {.mounted = false};
    (void) snprintf(what, sizeof what, "--ref, the %zuth", i + 1);
    cli_exit code = keep_text(variables, text, &copy);
    if (code == CLI_OK) {
        code = reference_read(copy, i == 0 ? "--ref" : what, &one.from);
    }
    if (code == CLI_OK) {
        one.name = one.from.key;
        code = check_key(&one);
    }
    return code == CLI_OK ? add_one(variables, &one) : code;
}

/* VARIABLE=NAME.KEY in a text that is kept; `what` says where it stands. */
static cli_exit add_kept(char *text, const char *what, bool mounted, struct variables *variables)
{
    assert(text != NULL);
    char *equals = strchr(text, '=');
    struct variable one = {.name = text, .mounted = mounted};
    if (equals != NULL) {
        *equals = '\0';
    }
    if (equals == NULL || !cli_is_variable(text)) {
        return cli_usage("TOKEN=slack.SLACK_BOT_TOKEN", "%s is not of the form VARIABLE=NAME.KEY", what);
    }
    const cli_exit code = reference_read(equals + 1, what, &one.from);
    return code == CLI_OK ? add_one(variables, &one) : code;
}

static cli_exit add_set(const char *text, const char *what, bool mounted, struct variables *variables)
{
    char *copy = NULL;
    const cli_exit code = keep_text(variables, text, &copy);
    return code == CLI_OK ? add_kept(copy, what, mounted, variables) : code;
}

/* --- Whole secrets ---------------------------------------------------------------------------------------------- */

/* `variable` is the name for the only key, or NULL. */
static cli_exit add_keys(struct variables *variables, const Coffer__V1__Secret *secret, const char *variable)
{
    cli_exit code = CLI_OK;
    if (variable != NULL && secret->n_keys != 1) {
        return cli_usage("--set VARIABLE=NAME.KEY for each of them",
                         "--secret NAME=VARIABLE is for a secret with one key; %s has %zu", secret->name,
                         secret->n_keys);
    }
    for (size_t i = 0; code == CLI_OK && i < secret->n_keys; i++) {
        const char *key = secret->keys[i]->name;
        const struct variable one = {.name = variable == NULL ? key : variable,
                                     .from = {NULL, NULL, secret->name, key}};
        code = variable == NULL ? check_key(&one) : CLI_OK;
        if (code == CLI_OK) {
            code = add_one(variables, &one);
        }
    }
    return code;
}

/* The answer is kept, for its names go on to be used. */
static cli_exit keep_answer(struct variables *variables, ProtobufCMessage *answer)
{
    ProtobufCMessage **answers = realloc(variables->answers, (variables->answer_count + 1) * sizeof(void *));
    if (answers == NULL) {
        cli_free_message(answer);
        return cli_no_memory();
    }
    variables->answers = answers;
    answers[variables->answer_count++] = answer;
    return CLI_OK;
}

/* NAME, or NAME=VARIABLE. */
static cli_exit add_secret(struct cli *cli, const char *text, struct variables *variables)
{
    Coffer__V1__GetSecretRequest request;
    ProtobufCMessage *answer = NULL;
    char *name = NULL;
    cli_exit code = keep_text(variables, text, &name);
    if (code != CLI_OK) {
        return code;
    }
    assert(name != NULL);
    char *variable = strchr(name, '=');
    if (variable != NULL) {
        *variable++ = '\0';
    }
    if (variable != NULL && !cli_is_variable(variable)) {
        return cli_usage("--secret tls_ca=CA_BUNDLE", "--secret is not of the form NAME or NAME=VARIABLE");
    }
    coffer__v1__get_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = name;
    code = cli_call(cli, SECRET_SERVICE "GetSecret", &request.base, &coffer__v1__get_secret_response__descriptor,
                    &answer);
    if (code == CLI_OK) {
        code = keep_answer(variables, answer);
    }
    return code == CLI_OK
               ? add_keys(variables, ((const Coffer__V1__GetSecretResponse *) (const void *) answer)->secret,
                          variable)
               : code;
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

static bool is_lone_reference(const char *value)
{
    return reference_is_full(cof_slice_text(value)) || (strchr(value, '.') != NULL && cli_is_reference(value));
}

/* The value is not told: who writes one into such a file has written a secret. */
static cli_exit add_line(char *line, const char *what, struct variables *variables)
{
    char *text = bare(line);
    if (text[0] == '\0' || text[0] == '#') {
        return CLI_OK;
    }
    text += strncmp(text, "export ", 7) == 0 ? 7 : 0;
    char *equals = strchr(text, '=');
    char *value = equals == NULL ? text : bare(equals + 1);
    const bool blanks = strncmp(value, "${{", 3) != 0 && strpbrk(value, " \t") != NULL;
    if (equals != NULL && (blanks || !is_lone_reference(value))) {
        return cli_usage(
            "TOKEN=slack.SLACK_BOT_TOKEN, or TOKEN=${{ SECRETS.slack.SLACK_BOT_TOKEN }}",
            "%s gives a variable something else than a reference, which is all that stands in such a file", what);
    }
    if (equals != NULL) {
        memmove(equals + 1, value, strlen(value) + 1);
    }
    return add_kept(text, what, false, variables);
}

static cli_exit add_file(const char *path, struct variables *variables)
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
        code = keep_text(variables, line, &copy);
        if (code == CLI_OK) {
            code = add_line(copy, what, variables);
        }
    }
    free(line);
    (void) fclose(file);
    return code;
}

/* --- Variables of this process ---------------------------------------------------------------------------------- */

static bool is_set(const struct variables *variables, const char *text, size_t length)
{
    for (size_t i = 0; i < variables->count; i++) {
        const char *name = variables->items[i].name;
        if (strlen(name) == length && strncmp(text, name, length) == 0) {
            return true;
        }
    }
    return false;
}

/* Those that hold a coffer:// reference and that no option sets. */
static cli_exit add_inherited(struct variables *variables)
{
    char what[WHAT_TEXT + PATH_TEXT];
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && environ[i] != NULL; i++) {
        const size_t length = strcspn(environ[i], "=");
        if (environ[i][length] == '\0' || !reference_is_full(cof_slice_text(environ[i] + length + 1)) ||
            is_set(variables, environ[i], length)) {
            continue;
        }
        (void) snprintf(what, sizeof what, "the variable %.*s", (int) (length < PATH_TEXT ? length : PATH_TEXT),
                        environ[i]);
        code = add_set(environ[i], what, false, variables);
    }
    return code;
}

/* --- All of them ------------------------------------------------------------------------------------------------ */

static cli_exit add_all(struct cli *cli, struct variables *variables)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < cli->references.count; i++) {
        code = add_reference(cli->references.items[i], i, variables);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->variables.count; i++) {
        code = add_set(cli->variables.items[i], "--set", false, variables);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->mounts.count; i++) {
        code = add_set(cli->mounts.items[i], "--mount", true, variables);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->env_files.count; i++) {
        code = add_file(cli->env_files.items[i], variables);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->secrets.count; i++) {
        code = add_secret(cli, cli->secrets.items[i], variables);
    }
    return code == CLI_OK ? add_inherited(variables) : code;
}

cli_exit variables_read(struct cli *cli, struct variables *variables)
{
    *variables = (struct variables){.count = 0};
    const cli_exit code = add_all(cli, variables);
    if (code == CLI_OK && variables->count == 0 && cli->action == NULL) {
        return cli_usage("coffer run --ref slack.SLACK_BOT_TOKEN -- env",
                         "run needs --ref, --set, --mount, --secret, --env-file or --action; nothing is given to a "
                         "program by itself");
    }
    return code;
}

cli_exit variables_ask(const struct cli *cli, coffer_request *request, struct variables *variables)
{
    struct reference *references = calloc(variables->count + 1, sizeof *references);
    free(variables->places);
    variables->places = calloc(variables->count + 1, sizeof *variables->places);
    if (references == NULL || variables->places == NULL) {
        free(references);
        return cli_no_memory();
    }
    for (size_t i = 0; i < variables->count; i++) {
        references[i] = variables->items[i].from;
    }
    coffer_request_set_action(request, cli->action);
    reference_ask(cli, request, references, variables->count, cli->action != NULL, variables->places);
    free(references);
    return CLI_OK;
}

static bool same_name(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* A value that an option names already has its variable. */
static bool is_named(const struct variables *variables, const struct variable *one)
{
    for (size_t i = 0; i < variables->count; i++) {
        const struct reference *other = &variables->items[i].from;
        if (other->environment == NULL && same_name(other->key, one->from.key) &&
            same_name(other->name, one->from.name)) {
            return true;
        }
    }
    return false;
}

cli_exit variables_add_action(struct variables *variables, const coffer_result *result)
{
    const coffer_item *item = coffer_result_item(result, 0);
    const size_t count = coffer_item_value_count(item);
    const size_t named = variables->count;
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        struct variable one = {.name = ""};
        (void) coffer_item_value_at(item, i, &one.from.name, &one.from.key);
        one.name = one.from.key;
        if (is_named(variables, &one)) {
            continue;
        }
        code = check_key(&one);
        if (code == CLI_OK) {
            code = add_one(variables, &one);
        }
    }
    size_t *places = code == CLI_OK ? realloc(variables->places, (variables->count + 1) * sizeof *places) : NULL;
    if (code == CLI_OK && places == NULL) {
        return cli_no_memory();
    }
    for (size_t i = named; places != NULL && i < variables->count; i++) {
        places[i] = 0;
    }
    variables->places = places == NULL ? variables->places : places;
    return code;
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
    return !is_set(variables, text, length);
}

/* NAME=VALUE, which takes the value's bytes. */
static cli_exit make_text(struct variables *variables, const char *name, coffer_bytes value)
{
    const size_t length = strlen(name);
    char *text = malloc(length + value.length + 2);
    if (text == NULL) {
        return cli_no_memory();
    }
    memcpy(text, name, length);
    text[length] = '=';
    if (value.length > 0) {
        memcpy(text + length + 1, value.data, value.length);
    }
    text[length + 1 + value.length] = '\0';
    variables->made[variables->made_count++] = text;
    return CLI_OK;
}

static cli_exit make_file(struct variables *variables, const char *name, coffer_bytes value)
{
    char path[MOUNT_PATH];
    int fd = -1;
    const cli_exit code = mount_make(value, &fd);
    if (code != CLI_OK) {
        return code;
    }
    variables->files[variables->file_count++] = fd;
    mount_path(fd, path);
    return make_text(variables, name, (coffer_bytes){(const uint8_t *) path, strlen(path)});
}

static cli_exit make(struct variables *variables, const struct variable *one, const coffer_item *item)
{
    const coffer_bytes value = coffer_item_value(item, one->from.name, one->from.key);
    if (one->mounted) {
        return make_file(variables, one->name, value);
    }
    if (value.length > 0 && memchr(value.data, '\0', value.length) != NULL) {
        return cli_refuse(CLI_REJECTED, "--mount VARIABLE=NAME.KEY gives the program a file",
                          "the value of %s.%s holds a NUL byte, which a variable cannot", one->from.name,
                          one->from.key);
    }
    return make_text(variables, one->name, value);
}

static cli_exit make_room(struct variables *variables, size_t inherited)
{
    variables->made = calloc(variables->count + 1, sizeof *variables->made);
    variables->files = calloc(variables->count + 1, sizeof *variables->files);
    variables->environment = calloc(inherited + variables->count + 1, sizeof *variables->environment);
    return variables->made == NULL || variables->files == NULL || variables->environment == NULL ? cli_no_memory()
                                                                                                 : CLI_OK;
}

cli_exit variables_fill(struct variables *variables, const coffer_result *result)
{
    size_t inherited = 0;
    size_t count = 0;
    while (environ[inherited] != NULL) {
        inherited++;
    }
    cli_exit code = make_room(variables, inherited);
    for (size_t i = 0; code == CLI_OK && i < inherited; i++) {
        if (is_kept(variables, environ[i])) {
            variables->environment[count++] = environ[i];
        }
    }
    for (size_t i = 0; code == CLI_OK && i < variables->count; i++) {
        code = make(variables, &variables->items[i], coffer_result_item(result, variables->places[i]));
        if (code == CLI_OK) {
            variables->environment[count++] = variables->made[i];
        }
    }
    return code;
}

/* What was made of values; the variables themselves stay. */
static void wipe_values(struct variables *variables)
{
    for (size_t i = 0; i < variables->made_count; i++) {
        explicit_bzero(variables->made[i], strlen(variables->made[i]));
        free(variables->made[i]);
    }
    for (size_t i = 0; i < variables->file_count; i++) {
        (void) close(variables->files[i]);
    }
    free(variables->made);
    free(variables->files);
    free(variables->environment);
}

void variables_done(struct variables *variables)
{
    wipe_values(variables);
    for (size_t i = 0; i < variables->text_count; i++) {
        free(variables->texts[i]);
    }
    for (size_t i = 0; i < variables->answer_count; i++) {
        cli_free_message(variables->answers[i]);
    }
    free(variables->answers);
    free(variables->texts);
    free(variables->places);
    free(variables->items);
}
