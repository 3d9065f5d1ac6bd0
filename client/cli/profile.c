#include "client/cli/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/cli/project.h"

enum { ORIGIN_TEXT = PATH_MAX + 160 };

/* Settings and the file that they come from lie here while the process runs. */
static struct {
    struct settings_file file;
    struct project project;
    const char *name;
    profile_source named_by;
    const char *first; /* the profile that the file names above its sections */
    char *values[SETTINGS];
    struct profile_value in_force[SETTINGS];
    bool found;
} profile;

const char *profile_name(bool *ret_found)
{
    *ret_found = profile.found;
    return profile.name;
}

struct profile_value profile_value(setting which)
{
    return profile.in_force[which];
}

/* --- The file --------------------------------------------------------------------------------------------------- */

/* The name that the file itself gives stands above all sections, so it is known before the first. */
static cli_exit take_line(const struct settings_line *line, void *context)
{
    setting which = SETTINGS;
    (void) context;
    if (line->section == NULL) {
        profile.first = line->value;
        profile.name = profile.name == NULL ? line->value : profile.name;
        return CLI_OK;
    }
    if (profile.name == NULL || strcmp(line->section, profile.name) != 0) {
        return CLI_OK;
    }
    profile.found = true;
    if (line->name == NULL || !setting_find(line->name, &which)) {
        return CLI_OK;
    }
    if (profile.values[which] != NULL) {
        return cli_usage("leave one of them out", "%s:%zu: this setting stands twice in its section",
                         profile.file.path, line->number);
    }
    /* It lies in the file's text, which is ours. */
    profile.values[which] = (char *) (uintptr_t) line->value;
    return CLI_OK;
}

static void find_name(const struct cli *cli)
{
    const char *variable = setting_variable("COFFER_PROFILE");
    profile.name = profile.project.profile;
    profile.named_by = profile.name != NULL ? PROFILE_PROJECT : PROFILE_PROFILE;
    if (cli->profile != NULL || variable != NULL) {
        profile.name = cli->profile != NULL ? cli->profile : variable;
        profile.named_by = cli->profile != NULL ? PROFILE_OPTION : PROFILE_VARIABLE;
    }
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

char *profile_expand(const char *path)
{
    char *expanded = NULL;
    const char *home = setting_variable("HOME");
    if (strncmp(path, "~/", 2) != 0 || home == NULL) {
        return strdup(path);
    }
    return asprintf(&expanded, "%s%s", home, path + 1) < 0 ? NULL : expanded;
}

/* The member of `cli` that the option fills; NULL for environments. */
static char **option_of(struct cli *cli, setting which)
{
    char **const fields[SETTINGS] = {
        &cli->address,    &cli->token_file,      NULL,         NULL, &cli->cacert, &cli->client_cert,
        &cli->client_key, &cli->tls_server_name, &cli->timeout};
    return which == SETTING_WORKSPACE ? &cli->workspace : fields[which];
}

static struct profile_value given(struct cli *cli, setting which)
{
    char **option = option_of(cli, which);
    const char *variable = setting_variable(setting_rows[which].variable);
    if (option != NULL && *option != NULL) {
        return (struct profile_value){*option, PROFILE_OPTION};
    }
    if (which == SETTING_ENVIRONMENT && cli->environments.count > 0) {
        return (struct profile_value){cli->environments.items[0], PROFILE_OPTION};
    }
    if (variable != NULL) {
        return (struct profile_value){variable, PROFILE_VARIABLE};
    }
    if (which == SETTING_WORKSPACE && profile.project.workspace != NULL) {
        return (struct profile_value){profile.project.workspace, PROFILE_PROJECT};
    }
    if (which == SETTING_ENVIRONMENT && profile.project.environment != NULL) {
        return (struct profile_value){profile.project.environment, PROFILE_PROJECT};
    }
    return (struct profile_value){profile.values[which],
                                  profile.values[which] == NULL ? PROFILE_BUILTIN : PROFILE_PROFILE};
}

static bool goes_with_the_address(setting which)
{
    return which == SETTING_TOKEN_FILE || which == SETTING_CACERT || which == SETTING_CLIENT_CERT ||
           which == SETTING_CLIENT_KEY || which == SETTING_TLS_SERVER_NAME;
}

/* Whether the address is the profile's own: what belongs to one server is not for another. */
static bool is_own_address(void)
{
    const char *own = profile.values[SETTING_ADDR];
    const struct profile_value address = profile.in_force[SETTING_ADDR];
    return address.text == NULL ||
           strcmp(address.text, own == NULL ? setting_rows[SETTING_ADDR].builtin : own) == 0;
}

static cli_exit refuse_token(void)
{
    return cli_usage("--token-file FILE, or another --profile",
                     "the token of the profile %s is not sent to %s (%s), which is not its server", profile.name,
                     profile.in_force[SETTING_ADDR].text,
                     profile_origin(SETTING_ADDR, profile.in_force[SETTING_ADDR].source));
}

/* Gives the profile's value to where the option would be. */
static cli_exit use(struct cli *cli, setting which)
{
    struct profile_value *value = &profile.in_force[which];
    char **option = option_of(cli, which);
    if (value->source != PROFILE_PROFILE || option == NULL || which == SETTING_WORKSPACE) {
        return CLI_OK;
    }
    if (goes_with_the_address(which) && !is_own_address()) {
        *value = (struct profile_value){NULL, PROFILE_BUILTIN};
        return which == SETTING_TOKEN_FILE && setting_variable("COFFER_TOKEN") == NULL ? refuse_token() : CLI_OK;
    }
    if (which == SETTING_TOKEN_FILE && setting_variable("COFFER_TOKEN") != NULL) {
        return CLI_OK;
    }
    *option = which == SETTING_ADDR || which == SETTING_TIMEOUT || which == SETTING_TLS_SERVER_NAME
                  ? strdup(value->text)
                  : profile_expand(value->text);
    if (*option == NULL) {
        return cli_no_memory();
    }
    return which == SETTING_TOKEN_FILE ? check_token_file(*option) : CLI_OK;
}

static cli_exit use_all(struct cli *cli)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < SETTINGS; i++) {
        profile.in_force[i] = given(cli, (setting) i);
    }
    for (size_t i = 0; code == CLI_OK && i < SETTINGS; i++) {
        code = use(cli, (setting) i);
    }
    const struct profile_value workspace = profile.in_force[SETTING_WORKSPACE];
    const struct profile_value environment = profile.in_force[SETTING_ENVIRONMENT];
    cli->from_profile.workspace = (char *) (uintptr_t) workspace.text;
    cli->from_profile.environment = (char *) (uintptr_t) environment.text;
    return code;
}

cli_exit profile_find(struct cli *cli)
{
    cli_exit code = project_read(&profile.project);
    if (code == CLI_OK) {
        find_name(cli);
        code = settings_file_load(&profile.file);
    }
    if (code == CLI_OK && profile.file.there) {
        code = settings_file_each(&profile.file, take_line, NULL);
    }
    return code;
}

cli_exit profile_apply_new(struct cli *cli)
{
    const cli_exit code = profile_find(cli);
    return code == CLI_OK ? use_all(cli) : code;
}

cli_exit profile_apply(struct cli *cli)
{
    const cli_exit code = profile_apply_new(cli);
    if (code == CLI_OK && profile.name != NULL && !profile.found) {
        return cli_usage("coffer config profiles", "there is no profile %s in %s", profile.name,
                         profile.file.path[0] == '\0' ? "any file: HOME is not set" : profile.file.path);
    }
    return code;
}

const char *profile_file(void)
{
    return profile.file.path;
}

bool profile_has_default(void)
{
    return profile.first != NULL;
}

/* --- Where it comes from ---------------------------------------------------------------------------------------- */

const char *profile_origin(setting which, profile_source source)
{
    static char text[ORIGIN_TEXT];
    switch (source) {
    case PROFILE_OPTION:
        return which == SETTINGS ? "--profile" : setting_rows[which].option;
    case PROFILE_VARIABLE:
        return which == SETTINGS ? "COFFER_PROFILE" : setting_rows[which].variable;
    case PROFILE_PROJECT:
        return profile.project.path;
    case PROFILE_PROFILE:
        (void) snprintf(text, sizeof text, "profile %.100s in %s", profile.name == NULL ? "" : profile.name,
                        profile.file.path);
        return text;
    case PROFILE_BUILTIN:
        break;
    }
    return "built in";
}

const char *profile_named_by(void)
{
    return profile.named_by == PROFILE_PROFILE ? profile.file.path : profile_origin(SETTINGS, profile.named_by);
}
