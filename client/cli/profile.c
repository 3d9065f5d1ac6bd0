#include "client/cli/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 16384, FROM_TEXT = PATH_MAX + 160 };

/* A setting that a profile may have, as an option and a variable may. */
typedef enum setting {
    ADDR,
    TOKEN_FILE,
    WORKSPACE,
    ENVIRONMENT,
    SETTINGS,
} setting;

static const struct {
    const char *name;
    const char *variable;
    const char *option;
    const char *builtin;
} settings[SETTINGS] = {
    [ADDR] = {"addr", "COFFER_ADDR", "--addr", "ipc:///run/coffer/coffer.sock"},
    [TOKEN_FILE] = {"token-file", "COFFER_TOKEN_FILE", "--token-file", ""},
    [WORKSPACE] = {"workspace", "COFFER_WORKSPACE", "-w", "the token's own"},
    [ENVIRONMENT] = {"environment", "COFFER_ENVIRONMENT", "-e", "default"},
};

/* The profile in use; its texts lie in `text`. */
static struct {
    char path[PATH_MAX];
    char text[FILE_MAX + 1];
    const char *name;
    char *values[SETTINGS];
    bool found;
} profile;

static const char *variable(const char *name)
{
    const char *text = getenv(name);
    return text == NULL || text[0] == '\0' ? NULL : text;
}

/* --- The file --------------------------------------------------------------------------------------------------- */

/* False if there is no place for one. */
static bool find_path(void)
{
    const char *own = variable("COFFER_CONFIG_DIR");
    const char *config = variable("XDG_CONFIG_HOME");
    const char *home = variable("HOME");
    int length = 0;
    if (own != NULL) {
        length = snprintf(profile.path, sizeof profile.path, "%s/config", own);
    } else if (config != NULL) {
        length = snprintf(profile.path, sizeof profile.path, "%s/coffer/config", config);
    } else if (home != NULL) {
        length = snprintf(profile.path, sizeof profile.path, "%s/.config/coffer/config", home);
    }
    return length > 0 && (size_t) length < sizeof profile.path;
}

/* Whoever may write the file could have the token sent to himself. */
static cli_exit check_file(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", profile.path, strerror(errno));
    }
    if ((status.st_uid != geteuid() && status.st_uid != 0) || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return cli_usage("chown it to yourself, chmod 600", "%s could be written by others, who are not trusted",
                         profile.path);
    }
    return CLI_OK;
}

static cli_exit read_file(int fd)
{
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0 && length < FILE_MAX) {
        got = read(fd, profile.text + length, FILE_MAX - length);
        length += got > 0 ? (size_t) got : 0;
    }
    if (got < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", profile.path, strerror(errno));
    }
    if (length == FILE_MAX || memchr(profile.text, '\0', length) != NULL) {
        return cli_usage(NULL, "%s is too large, or no text", profile.path);
    }
    return CLI_OK;
}

/* Opens and reads it; `ret_there` is false if there is none. */
static cli_exit load(bool *ret_there)
{
    const int fd = find_path() ? open(profile.path, O_RDONLY | O_CLOEXEC) : -1;
    *ret_there = fd >= 0;
    if (fd < 0) {
        return errno == EACCES
                   ? cli_refuse(CLI_ERROR, NULL, "%s cannot be opened: %s", profile.path, strerror(errno))
                   : CLI_OK;
    }
    cli_exit code = check_file(fd);
    if (code == CLI_OK) {
        code = read_file(fd);
    }
    (void) close(fd);
    return code;
}

/* --- Its lines -------------------------------------------------------------------------------------------------- */

static char *trim(char *text)
{
    static const char blanks[] = " \t\r";
    text += strspn(text, blanks);
    size_t length = strlen(text);
    while (length > 0 && strchr(blanks, text[length - 1]) != NULL) {
        text[--length] = '\0';
    }
    return text;
}

static cli_exit wrong(size_t line, const char *what)
{
    return cli_usage("addr, token-file, workspace, environment under [NAME]; profile = NAME above", "%s:%zu: %s",
                     profile.path, line, what);
}

/* A setting of the section that is in use, or of another one, which is only checked. */
static cli_exit take(char *key, char *value, bool used, size_t line)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        if (strcmp(key, settings[i].name) != 0) {
            continue;
        }
        if (used && profile.values[i] != NULL) {
            return wrong(line, "this setting stands twice in its section");
        }
        profile.values[i] = used ? value : profile.values[i];
        return CLI_OK;
    }
    return wrong(line, "there is no such setting");
}

/* One line; `section` is the name of the section it is in, NULL above all of them. */
static cli_exit read_line(char *text, const char **section, size_t line)
{
    text = trim(text);
    char *equals = strchr(text, '=');
    const size_t length = strlen(text);
    if (length == 0 || text[0] == '#') {
        return CLI_OK;
    }
    if (text[0] == '[' && text[length - 1] == ']' && length > 2) {
        text[length - 1] = '\0';
        *section = text + 1;
        profile.found = profile.found || (profile.name != NULL && strcmp(*section, profile.name) == 0);
        return CLI_OK;
    }
    if (equals == NULL) {
        return wrong(line, "this is neither [NAME] nor SETTING = VALUE");
    }
    *equals = '\0';
    char *key = trim(text);
    char *value = trim(equals + 1);
    if (*section == NULL) {
        profile.name = profile.name == NULL ? value : profile.name;
        return strcmp(key, "profile") == 0 ? CLI_OK
                                           : wrong(line, "above the sections there is only profile = NAME");
    }
    return take(key, value, profile.name != NULL && strcmp(*section, profile.name) == 0, line);
}

static cli_exit read_lines(void)
{
    const char *section = NULL;
    cli_exit code = CLI_OK;
    size_t line = 0;
    char *next = profile.text;
    while (code == CLI_OK && next != NULL) {
        char *text = strsep(&next, "\n");
        code = read_line(text, &section, ++line);
    }
    return code;
}

/* --- What comes of it ------------------------------------------------------------------------------------------- */

static cli_exit check_token_file(const char *path)
{
    struct stat status;
    if (stat(path, &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return cli_usage("chmod 600 FILE", "the token file %s of the profile %s can be read by others", path,
                         profile.name);
    }
    return CLI_OK;
}

/* The path with the home folder in place of "~". */
static char *expand(char *path)
{
    static char expanded[PATH_MAX];
    const char *home = variable("HOME");
    if (strncmp(path, "~/", 2) != 0 || home == NULL) {
        return path;
    }
    const int length = snprintf(expanded, sizeof expanded, "%s%s", home, path + 1);
    return length > 0 && (size_t) length < sizeof expanded ? expanded : path;
}

static cli_exit use_token(struct cli *cli)
{
    const char *elsewhere = cli->address != NULL ? cli->address : variable("COFFER_ADDR");
    const char *own = profile.values[ADDR] == NULL ? settings[ADDR].builtin : profile.values[ADDR];
    if (profile.values[TOKEN_FILE] == NULL || cli->token_file != NULL || variable("COFFER_TOKEN_FILE") != NULL ||
        variable("COFFER_TOKEN") != NULL) {
        return CLI_OK;
    }
    if (elsewhere != NULL && strcmp(elsewhere, own) != 0) {
        return cli_usage("--token-file FILE, or another --profile",
                         "the token of the profile %s is not sent to %s, which is not its server", profile.name,
                         elsewhere);
    }
    cli->token_file = expand(profile.values[TOKEN_FILE]);
    cli->from_profile.token_file = true;
    return check_token_file(cli->token_file);
}

static cli_exit use(struct cli *cli)
{
    const cli_exit code = use_token(cli);
    if (cli->address == NULL && variable("COFFER_ADDR") == NULL && profile.values[ADDR] != NULL) {
        cli->address = profile.values[ADDR];
        cli->from_profile.address = true;
    }
    cli->from_profile.workspace = profile.values[WORKSPACE];
    cli->from_profile.environment = profile.values[ENVIRONMENT];
    return code;
}

cli_exit profile_apply(struct cli *cli)
{
    bool there = false;
    profile.name = cli->profile != NULL ? cli->profile : variable("COFFER_PROFILE");
    cli_exit code = load(&there);
    if (code == CLI_OK && there) {
        code = read_lines();
    }
    if (code == CLI_OK && profile.name != NULL && !profile.found) {
        return cli_usage("coffer config", "there is no profile %s in %s", profile.name,
                         profile.path[0] == '\0' ? "any file: HOME is not set" : profile.path);
    }
    return code == CLI_OK && profile.found ? use(cli) : code;
}

/* --- config ----------------------------------------------------------------------------------------------------- */

static void add_row(struct cli_table *table, const char *name, const char *value, const char *from)
{
    cli_table_add(table, name);
    cli_table_add(table, value);
    cli_table_add(table, from);
}

/* The given value with its source: the option, the variable, the profile, or what holds without any. */
static void add_setting(struct cli_table *table, setting which, const char *option)
{
    static char from[FROM_TEXT];
    const char *value = variable(settings[which].variable);
    (void) snprintf(from, sizeof from, "profile %.100s in %s", profile.name == NULL ? "" : profile.name,
                    profile.path);
    if (option != NULL) {
        add_row(table, settings[which].name, option, settings[which].option);
    } else if (value != NULL) {
        add_row(table, settings[which].name, value, settings[which].variable);
    } else if (profile.values[which] != NULL) {
        add_row(table, settings[which].name, profile.values[which], from);
    } else {
        add_row(table, settings[which].name, settings[which].builtin, "built in");
    }
}

cli_exit cmd_config(struct cli *cli)
{
    static const char *const headers[] = {"SETTING", "VALUE", "FROM"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    const bool token = cli->token_file == NULL && variable("COFFER_TOKEN_FILE") == NULL;
    if (table == NULL) {
        return cli_no_memory();
    }
    add_setting(table, ADDR, cli->from_profile.address ? NULL : cli->address);
    if (token && variable("COFFER_TOKEN") != NULL) {
        add_row(table, "token", "(not shown)", "COFFER_TOKEN");
    } else {
        add_setting(table, TOKEN_FILE, cli->from_profile.token_file ? NULL : cli->token_file);
    }
    add_setting(table, WORKSPACE, cli->workspace);
    add_setting(table, ENVIRONMENT, cli->environments.count == 0 ? NULL : cli->environments.items[0]);
    if (cli->json) {
        cli_table_print_json(table, "settings");
    } else {
        cli_table_print(table);
    }
    return CLI_OK;
}
