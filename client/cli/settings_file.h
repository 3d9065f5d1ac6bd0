#pragma once

#include <limits.h>

#include "client/cli/cli.h"

/*
 * The file of profiles:
 *
 *     profile = work
 *
 *     [work]
 *     addr = ipc:///run/coffer/coffer.sock
 *     token-file = ~/.local/state/coffer/work.token
 *     environment = prod
 *
 * in $COFFER_CONFIG_DIR/config, $XDG_CONFIG_HOME/coffer/config or ~/.config/coffer/config. It names files of tokens and holds
 * none. It is refused where others could write it, for they could have the token sent to themselves.
 */

typedef enum setting {
#define SETTING(ID, name, variable, option, builtin) SETTING_##ID,
#include "client/cli/settings.def"
#undef SETTING
    SETTINGS,
} setting;

struct setting_row {
    const char *name;
    const char *variable;
    const char *option;
    const char *builtin;
};

extern const struct setting_row setting_rows[SETTINGS];

/* The setting with this name; false if there is none. */
bool setting_find(const char *name, setting *ret_setting);

/* A variable of the environment; NULL for one that is empty, too. */
const char *setting_variable(const char *name);

enum { SETTINGS_FILE_MAX = 16384 };

/* A file as it stands, cut into lines, of which each is whole again when it is written. */
struct settings_file {
    char path[PATH_MAX];
    char text[SETTINGS_FILE_MAX + 1];
    bool there;
};

/* One line of it, trimmed: a section begins, or a setting of `section` (NULL above all of them) stands there. */
struct settings_line {
    const char *section;
    const char *name; /* NULL: the line begins the section */
    const char *value;
    size_t number;
};

typedef cli_exit settings_reader(const struct settings_line *line, void *context);

/* Reads it; that there is none is no failure. Says what is wrong. */
cli_exit settings_file_load(struct settings_file *file);

/*
 * Calls `reader` for each line that says something, in order; what it gets lies in `file`, whose text is used up by this.
 * Says what is wrong.
 */
cli_exit settings_file_each(struct settings_file *file, settings_reader *reader, void *context);

/*
 * Sets `name` in the section, which is NULL for what stands above all sections and made if it is not there; NULL for `value`
 * takes the setting away. Everything else, comments too, stays. Only the text changes. Says what is wrong.
 */
cli_exit settings_file_set(struct settings_file *file, const char *section, const char *name, const char *value);

/* Writes it as a whole, readable by its owner alone, with its folder. Says what is wrong. */
cli_exit settings_file_save(const struct settings_file *file);

/* Makes the folders above `path`, for their owner alone. */
bool settings_make_folder(const char *path);

/* Writes `data` into a file of mode 0600 that takes the place of another at once. Says what is wrong. */
cli_exit settings_replace(const char *path, const void *data, size_t length);
