#include "client/cli/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/libcoffer/settings.h"

/* `coffer config`: what is in force and why, and changes of the file of profiles. */

enum { NAMES_MAX = 64 };

/* Where a changed file lies. */
static struct settings_file file;

/* --- What is in force ------------------------------------------------------------------------------------------- */

static void add_row(struct cli_table *table, const char *name, const char *value, const char *from)
{
    cli_table_add(table, name);
    cli_table_add(table, value);
    cli_table_add(table, from);
}

static bool is_token_variable(setting which)
{
    return which == SETTING_TOKEN_FILE && profile_value(which).source != PROFILE_OPTION &&
           setting_variable("COFFER_TOKEN") != NULL;
}

static void add_setting(struct cli_table *table, setting which)
{
    const struct profile_value value = profile_value(which);
    if (is_token_variable(which)) {
        add_row(table, "token", "(not shown)", "COFFER_TOKEN");
        return;
    }
    add_row(table, setting_rows[which].name, value.text == NULL ? setting_rows[which].builtin : value.text,
            profile_origin(which, value.source));
}

cli_exit cmd_config(struct cli *cli)
{
    static const char *const headers[] = {"SETTING", "VALUE", "FROM"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    bool found = false;
    const char *name = profile_name(&found);
    if (table == NULL) {
        return cli_no_memory();
    }
    add_row(table, "profile", name == NULL ? "none" : name, name == NULL ? "built in" : profile_named_by());
    for (size_t i = 0; i < SETTINGS; i++) {
        add_setting(table, (setting) i);
    }
    if (cli->json) {
        cli_table_print_json(table, "settings");
    } else {
        cli_table_whole(table);
        cli_table_print(table);
    }
    return CLI_OK;
}

cli_exit cmd_config_list(struct cli *cli)
{
    return cmd_config(cli);
}

static cli_exit find_setting(const char *name, setting *ret_setting)
{
    if (setting_find(name, ret_setting)) {
        return CLI_OK;
    }
    return strcmp(name, "token") == 0
               ? cli_usage("coffer login stores one in a file of its own", "the configuration holds no token")
               : cli_usage("coffer config lists them", "there is no setting %s", name);
}

/* What holds without any is no value: a script that asks for one is told that there is none. */
cli_exit cmd_config_get(struct cli *cli)
{
    setting which = SETTINGS;
    const cli_exit code = find_setting(cli->arguments[0], &which);
    if (code != CLI_OK) {
        return code;
    }
    const struct profile_value value = profile_value(which);
    const char *text = value.text == NULL && which == SETTING_ADDR ? setting_rows[which].builtin : value.text;
    if (text == NULL) {
        return cli_refuse(CLI_NOT_FOUND, "coffer config set NAME VALUE", "nothing is said of %s",
                          setting_rows[which].name);
    }
    if (cli->json) {
        struct cli_table *table = cli_table_new((const char *const[]){"VALUE", "FROM"}, 2);
        cli_table_add(table, text);
        cli_table_add(table, profile_origin(which, value.source));
        cli_table_print_json(table, setting_rows[which].name);
        return CLI_OK;
    }
    puts(text);
    return CLI_OK;
}

cli_exit cmd_config_path(struct cli *cli)
{
    (void) cli;
    const cli_exit code = settings_file_load(&file);
    if (code == CLI_OK && file.path[0] == '\0') {
        return cli_usage("COFFER_CONFIG_DIR", "there is no place for a configuration file: HOME is not set");
    }
    if (code == CLI_OK) {
        puts(file.path);
    }
    return code;
}

/* --- Profiles --------------------------------------------------------------------------------------------------- */

struct profiles {
    struct cli_table *table;
    const char *first; /* the one that the file uses without a word */
    const char *section;
    const char *values[SETTINGS];
};

static void add_profile(struct profiles *profiles)
{
    static const setting shown[] = {SETTING_ADDR, SETTING_WORKSPACE, SETTING_ENVIRONMENT, SETTING_TOKEN_FILE};
    if (profiles->section == NULL) {
        return;
    }
    const bool used = profiles->first != NULL && strcmp(profiles->first, profiles->section) == 0;
    cli_table_add(profiles->table, profiles->section);
    cli_table_add(profiles->table, used ? "yes" : "");
    for (size_t i = 0; i < COF_COUNT(shown); i++) {
        const char *value = profiles->values[shown[i]];
        cli_table_add(profiles->table, value == NULL ? "" : value);
    }
    memset(profiles->values, 0, sizeof profiles->values);
}

static cli_exit collect(const struct settings_line *line, void *context)
{
    struct profiles *profiles = context;
    setting which = SETTINGS;
    if (line->section == NULL) {
        profiles->first = line->value;
    } else if (line->name == NULL) {
        add_profile(profiles);
        profiles->section = line->section;
    } else if (setting_find(line->name, &which)) {
        profiles->values[which] = line->value;
    }
    return CLI_OK;
}

cli_exit cmd_config_profiles(struct cli *cli)
{
    static const char *const headers[] = {"PROFILE", "DEFAULT", "ADDR", "WORKSPACE", "ENVIRONMENT", "TOKEN FILE"};
    struct profiles profiles = {.table = cli_table_new(headers, COF_COUNT(headers))};
    cli_exit code = profiles.table == NULL ? cli_no_memory() : settings_file_load(&file);
    if (code == CLI_OK) {
        code = settings_file_each(&file, collect, &profiles);
    }
    if (code != CLI_OK) {
        cli_table_free(profiles.table);
        return code;
    }
    add_profile(&profiles);
    cli_table_none(profiles.table, "there is no profile; coffer login makes one");
    if (cli->json) {
        cli_table_print_json(profiles.table, "profiles");
    } else {
        cli_table_whole(profiles.table);
        cli_table_print(profiles.table);
    }
    return CLI_OK;
}

/* --- Changes ---------------------------------------------------------------------------------------------------- */

static const char *no_variable(const char *name)
{
    (void) name;
    return NULL;
}

/* What the library would say of the value; it has other names for the same settings. */
static cli_exit check_value(setting which, const char *value)
{
    static const char *const names[SETTINGS] = {
        [SETTING_ADDR] = "addr",           [SETTING_ENVIRONMENT] = "environment",
        [SETTING_WORKSPACE] = "workspace", [SETTING_TLS_SERVER_NAME] = "tls_server_name",
        [SETTING_TIMEOUT] = "timeout",
    };
    char *text = NULL;
    struct settings settings = {0};
    struct cof_error err = {0};
    if (names[which] == NULL || (which == SETTING_WORKSPACE && strcmp(value, "system") == 0)) {
        return CLI_OK;
    }
    if (strpbrk(value, "'\\") != NULL) {
        return cli_usage(NULL, "the value of %s holds characters that it cannot have", setting_rows[which].name);
    }
    if (asprintf(&text, "%s='%s'", names[which], value) < 0) {
        return cli_no_memory();
    }
    const cof_code code = settings_read(text, no_variable, &settings, &err);
    free(text);
    if (code != COF_OK) {
        return cli_usage(NULL, "%s", err.message);
    }
    settings_done(&settings);
    return CLI_OK;
}

cli_exit config_check_name(const char *name)
{
    const size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return length > 0 && length <= NAMES_MAX && name[length] == '\0' && name[0] != '.'
               ? CLI_OK
               : cli_usage(NULL, "a profile's name has 1 to 64 of A-Z a-z 0-9 _ . - and begins with no dot");
}

const char *config_profile(void)
{
    bool found = false;
    const char *name = profile_name(&found);
    return name == NULL ? "default" : name;
}

cli_exit config_change(const char *name, const struct config_change *changes, size_t count)
{
    cli_exit code = config_check_name(name);
    if (code == CLI_OK) {
        code = settings_file_load(&file);
    }
    /* The first profile is the one in use. */
    if (code == CLI_OK && !profile_has_default()) {
        code = settings_file_set(&file, NULL, "profile", name);
    }
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        if (changes[i].value != NULL) {
            code = check_value(changes[i].which, changes[i].value);
        }
        if (code == CLI_OK) {
            code = settings_file_set(&file, name, setting_rows[changes[i].which].name, changes[i].value);
        }
    }
    return code == CLI_OK ? settings_file_save(&file) : code;
}

static cli_exit change_one(struct cli *cli, const char *value)
{
    struct config_change change = {.value = value};
    cli_exit code = profile_find(cli);
    if (code == CLI_OK) {
        code = find_setting(cli->arguments[0], &change.which);
    }
    if (code == CLI_OK) {
        code = config_change(config_profile(), &change, 1);
    }
    if (code == CLI_OK) {
        cli_note("%s of the profile %s: %s", cli->arguments[0], config_profile(),
                 value == NULL ? "removed" : value);
    }
    return code;
}

cli_exit cmd_config_set(struct cli *cli)
{
    return change_one(cli, cli->arguments[1]);
}

cli_exit cmd_config_unset(struct cli *cli)
{
    return change_one(cli, NULL);
}

static cli_exit look_for(const struct settings_line *line, void *context)
{
    const char **name = context;
    *name = line->section != NULL && *name != NULL && strcmp(line->section, *name) == 0 ? NULL : *name;
    return CLI_OK;
}

cli_exit cmd_config_use(struct cli *cli)
{
    const char *missing = cli->arguments[0];
    cli_exit code = settings_file_load(&file);
    if (code == CLI_OK) {
        code = settings_file_each(&file, look_for, &missing);
    }
    if (code == CLI_OK && missing != NULL) {
        return cli_refuse(CLI_NOT_FOUND, "coffer config profiles", "there is no profile %s", missing);
    }
    if (code == CLI_OK) {
        code = settings_file_load(&file);
    }
    if (code == CLI_OK) {
        code = settings_file_set(&file, NULL, "profile", cli->arguments[0]);
    }
    return code == CLI_OK ? settings_file_save(&file) : code;
}
