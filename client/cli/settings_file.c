#include "client/cli/settings_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct setting_row setting_rows[SETTINGS] = {
#define SETTING(ID, name, variable, option, builtin) {name, variable, option, builtin},
#include "client/cli/settings.def"
#undef SETTING
};

bool setting_find(const char *name, setting *ret_setting)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        if (strcmp(setting_rows[i].name, name) == 0) {
            *ret_setting = (setting) i;
            return true;
        }
    }
    return false;
}

const char *setting_variable(const char *name)
{
    const char *text = getenv(name);
    return text == NULL || text[0] == '\0' ? NULL : text;
}

/* --- Reading ---------------------------------------------------------------------------------------------------- */

/* False if there is no place for one. */
static bool find_path(char path[PATH_MAX])
{
    const char *own = setting_variable("COFFER_CONFIG_DIR");
    const char *config = setting_variable("XDG_CONFIG_HOME");
    const char *home = setting_variable("HOME");
    int length = 0;
    if (own != NULL) {
        length = snprintf(path, PATH_MAX, "%s/config", own);
    } else if (config != NULL) {
        length = snprintf(path, PATH_MAX, "%s/coffer/config", config);
    } else if (home != NULL) {
        length = snprintf(path, PATH_MAX, "%s/.config/coffer/config", home);
    }
    return length > 0 && length < PATH_MAX;
}

/* Whoever may write the file could have the token sent to himself. */
static cli_exit check_file(const char *path, int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", path, strerror(errno));
    }
    if ((status.st_uid != geteuid() && status.st_uid != 0) || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return cli_usage("chown it to yourself, chmod 600", "%s could be written by others, who are not trusted",
                         path);
    }
    return CLI_OK;
}

static cli_exit read_text(int fd, struct settings_file *file)
{
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0 && length < SETTINGS_FILE_MAX) {
        got = read(fd, file->text + length, SETTINGS_FILE_MAX - length);
        length += got > 0 ? (size_t) got : 0;
    }
    file->text[length] = '\0';
    if (got < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", file->path, strerror(errno));
    }
    if (length == SETTINGS_FILE_MAX || memchr(file->text, '\0', length) != NULL) {
        return cli_usage(NULL, "%s is too large, or no text", file->path);
    }
    return CLI_OK;
}

cli_exit settings_file_load(struct settings_file *file)
{
    file->text[0] = '\0';
    file->path[0] = '\0';
    const int fd = find_path(file->path) ? open(file->path, O_RDONLY | O_CLOEXEC) : -1;
    file->there = fd >= 0;
    if (fd < 0) {
        return file->path[0] != '\0' && errno == EACCES
                   ? cli_refuse(CLI_ERROR, NULL, "%s cannot be opened: %s", file->path, strerror(errno))
                   : CLI_OK;
    }
    cli_exit code = check_file(file->path, fd);
    if (code == CLI_OK) {
        code = read_text(fd, file);
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

static cli_exit wrong(const struct settings_file *file, size_t line, const char *what)
{
    return cli_usage("coffer help configuration shows what may stand there", "%s:%zu: %s", file->path, line, what);
}

/* What stands on a line. A line that says nothing has neither a section of its own nor a name. */
static cli_exit parse(const struct settings_file *file, char *text, struct settings_line *line, bool *ret_says)
{
    text = trim(text);
    char *equals = strchr(text, '=');
    const size_t length = strlen(text);
    line->name = NULL;
    *ret_says = length > 0 && text[0] != '#';
    if (!*ret_says) {
        return CLI_OK;
    }
    if (text[0] == '[' && text[length - 1] == ']' && length > 2) {
        text[length - 1] = '\0';
        line->section = text + 1;
        return CLI_OK;
    }
    if (equals == NULL) {
        return wrong(file, line->number, "this is neither [NAME] nor SETTING = VALUE");
    }
    *equals = '\0';
    line->name = trim(text);
    line->value = trim(equals + 1);
    return CLI_OK;
}

static cli_exit check_name(const struct settings_file *file, const struct settings_line *line)
{
    setting known;
    if (line->name == NULL) {
        return CLI_OK;
    }
    if (line->section == NULL) {
        return strcmp(line->name, "profile") == 0
                   ? CLI_OK
                   : wrong(file, line->number, "above the sections there is only profile = NAME");
    }
    return setting_find(line->name, &known) ? CLI_OK : wrong(file, line->number, "there is no such setting");
}

cli_exit settings_file_each(struct settings_file *file, settings_reader *reader, void *context)
{
    struct settings_line line = {.section = NULL};
    cli_exit code = CLI_OK;
    char *next = file->text;
    while (code == CLI_OK && next != NULL) {
        bool says = false;
        char *text = strsep(&next, "\n");
        line.number++;
        code = parse(file, text, &line, &says);
        if (code == CLI_OK && says) {
            code = check_name(file, &line);
            code = code == CLI_OK ? reader(&line, context) : code;
        }
    }
    return code;
}

/* --- Changing --------------------------------------------------------------------------------------------------- */

/* Where something is in the text: where it begins, and where what follows it does. */
struct span {
    size_t begin;
    size_t end;
};

static bool begins_section(const char *line, size_t length, const char *name)
{
    line += strspn(line, " \t");
    return length > 0 && line[0] == '[' &&
           (name == NULL || (strncmp(line + 1, name, strlen(name)) == 0 && line[1 + strlen(name)] == ']'));
}

static bool sets(const char *line, const char *name)
{
    line += strspn(line, " \t");
    const size_t length = strlen(name);
    return strncmp(line, name, length) == 0 && line[length + strspn(line + length, " \t")] == '=';
}

/*
 * Finds the setting's line, or the place for one: behind the last line of its section that says something. `ret_section` tells
 * whether the section is there.
 */
static bool find_line(const char *text, const char *section, const char *name, struct span *ret, bool *ret_section)
{
    bool inside = section == NULL;
    *ret_section = inside;
    *ret = (struct span){0, 0};
    for (size_t at = 0; text[at] != '\0';) {
        const size_t length = strcspn(text + at, "\n");
        const size_t next = at + length + (text[at + length] == '\n');
        if (begins_section(text + at, length, NULL)) {
            inside = section != NULL && begins_section(text + at, length, section);
            *ret_section = *ret_section || inside;
        }
        if (inside && sets(text + at, name)) {
            *ret = (struct span){at, next};
            return true;
        }
        if (inside && strspn(text + at, " \t\r") < length) {
            *ret = (struct span){next, next};
        }
        at = next;
    }
    return false;
}

/* The text with something else in place of the span. */
static cli_exit replace_span(struct settings_file *file, struct span span, const char *with)
{
    static char whole[SETTINGS_FILE_MAX + 1];
    const int length =
        snprintf(whole, sizeof whole, "%.*s%s%s", (int) span.begin, file->text, with, file->text + span.end);
    if (length < 0 || length >= SETTINGS_FILE_MAX) {
        return cli_usage(NULL, "%s would become too large", file->path);
    }
    memcpy(file->text, whole, (size_t) length + 1);
    return CLI_OK;
}

cli_exit settings_file_set(struct settings_file *file, const char *section, const char *name, const char *value)
{
    static char line[2 * PATH_MAX];
    struct span span;
    bool there = false;
    const size_t length = strlen(file->text);
    const bool found = find_line(file->text, section, name, &span, &there);
    if (value == NULL) {
        return found ? replace_span(file, span, "") : CLI_OK;
    }
    if (value[0] == '\0' || strpbrk(value, "\n\r") != NULL || strspn(value, " \t") > 0 ||
        strlen(value) >= PATH_MAX) {
        return cli_usage(NULL, "the value of %s must be one line that begins with no blank", name);
    }
    const bool cut = span.begin > 0 && file->text[span.begin - 1] != '\n';
    if (there) {
        (void) snprintf(line, sizeof line, "%s%s = %s\n", cut ? "\n" : "", name, value);
        return replace_span(file, span, line);
    }
    const bool whole = length == 0 || file->text[length - 1] == '\n';
    (void) snprintf(line, sizeof line, "%s%s[%s]\n%s = %s\n", whole ? "" : "\n", length == 0 ? "" : "\n", section,
                    name, value);
    return replace_span(file, (struct span){length, length}, line);
}

/* --- Writing ---------------------------------------------------------------------------------------------------- */

bool settings_make_folder(const char *path)
{
    static char folder[PATH_MAX];
    (void) snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, S_IRWXU) != 0 && errno != EEXIST) {
            return false;
        }
        *slash = '/';
    }
    return true;
}

static bool write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        const ssize_t wrote = write(fd, data, length);
        if (wrote <= 0) {
            return false;
        }
        data += wrote;
        length -= (size_t) wrote;
    }
    return fsync(fd) == 0;
}

cli_exit settings_replace(const char *path, const void *data, size_t length)
{
    static char place[PATH_MAX];
    static char temporary[PATH_MAX + sizeof ".XXXXXX"];
    /* What a link points to is written, not the link. */
    const char *target = realpath(path, place) == NULL ? path : place;
    (void) snprintf(temporary, sizeof temporary, "%s.XXXXXX", target);
    const int fd = settings_make_folder(target) ? mkostemp(temporary, O_CLOEXEC) : -1; /* of mode 0600 */
    const bool written = fd >= 0 && write_all(fd, data, length);
    const bool closed = fd >= 0 && close(fd) == 0;
    if (written && closed && rename(temporary, target) == 0) {
        return CLI_OK;
    }
    const int why = errno;
    if (fd >= 0) {
        (void) unlink(temporary);
    }
    return cli_refuse(CLI_ERROR, NULL, "%s cannot be written: %s", path, strerror(why));
}

cli_exit settings_file_save(const struct settings_file *file)
{
    return file->path[0] == '\0'
               ? cli_usage("COFFER_CONFIG_DIR", "there is no place for a configuration file: HOME is not set")
               : settings_replace(file->path, file->text, strlen(file->text));
}
