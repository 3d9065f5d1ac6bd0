#include "client/cli/project.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "/.coffer.yaml"

enum { TEXT_MAX = 4096 };

static char path[PATH_MAX + sizeof NAME];
static char text[TEXT_MAX + 1];

/* Opens the nearest one, from the folder of the process upwards; -1 if there is none. */
static int open_nearest(void)
{
    static char folder[PATH_MAX];
    if (getcwd(folder, sizeof folder) == NULL || folder[0] != '/') {
        return -1;
    }
    for (;;) {
        (void) snprintf(path, sizeof path, "%s%s", strcmp(folder, "/") == 0 ? "" : folder, NAME);
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd >= 0 || folder[1] == '\0') {
            return fd;
        }
        char *slash = strrchr(folder, '/');
        slash[slash == folder ? 1 : 0] = '\0';
    }
}

/* One that somebody else put into a folder of all, such as /tmp, must not choose where a write goes. */
static cli_exit check(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        return cli_usage(NULL, "%s is no file", path);
    }
    if ((status.st_uid != geteuid() && status.st_uid != 0) || (status.st_mode & S_IWOTH) != 0) {
        return cli_usage("remove it, or make it yours", "%s belongs to somebody else, or everybody may write it",
                         path);
    }
    return CLI_OK;
}

static cli_exit wrong(size_t line, const char *what)
{
    return cli_usage("workspace: UUID, environment: NAME and profile: NAME may stand there", "%s:%zu: %s", path,
                     line, what);
}

static char *trim(char *at)
{
    static const char blanks[] = " \t\r";
    at += strspn(at, blanks);
    size_t length = strlen(at);
    while (length > 0 && strchr(blanks, at[length - 1]) != NULL) {
        at[--length] = '\0';
    }
    return at;
}

/* A text, perhaps in quotes, in which nothing is escaped; what stands behind a blank and "#" is a comment. NULL for another
 * kind of value. */
static char *scalar(char *value)
{
    const char quote = value[0];
    if (quote != '"' && quote != '\'') {
        char *comment = strstr(value, " #");
        if (comment != NULL) {
            *comment = '\0';
        }
        value = trim(value);
        return value[0] == '\0' || strchr("[{&*!|>%@`#-", value[0]) != NULL ? NULL : value;
    }
    char *end = strchr(value + 1, quote);
    if (end == NULL || strchr(value, '\\') != NULL || (end[1] != '\0' && *trim(end + 1) != '#')) {
        return NULL;
    }
    *end = '\0';
    return value + 1;
}

static cli_exit take(struct project *project, const char *name, char *value, size_t line)
{
    const struct {
        const char *name;
        char **to;
    } known[] = {
        {"workspace", &project->workspace}, {"environment", &project->environment}, {"profile", &project->profile}};
    for (size_t i = 0; i < COF_COUNT(known); i++) {
        if (strcmp(known[i].name, name) == 0) {
            if (*known[i].to != NULL) {
                return wrong(line, "this stands twice");
            }
            *known[i].to = scalar(value);
            return *known[i].to == NULL ? wrong(line, "this is no text on one line") : CLI_OK;
        }
    }
    return wrong(line, "a project chooses no server and no token, and nothing else than what may stand there");
}

static cli_exit read_lines(struct project *project)
{
    cli_exit code = CLI_OK;
    char *next = text;
    for (size_t line = 1; code == CLI_OK && next != NULL; line++) {
        char *at = strsep(&next, "\n");
        const bool indented = at[0] == ' ' || at[0] == '\t';
        at = trim(at);
        char *colon = strchr(at, ':');
        if (at[0] == '\0' || at[0] == '#' || (line == 1 && strcmp(at, "---") == 0)) {
            continue;
        }
        if (indented || colon == NULL || (colon[1] != ' ' && colon[1] != '\0')) {
            return wrong(line, "this is not NAME: VALUE");
        }
        *colon = '\0';
        code = take(project, trim(at), trim(colon + 1), line);
    }
    return code;
}

cli_exit project_read(struct project *ret_project)
{
    *ret_project = (struct project){.path = NULL};
    const int fd = open_nearest();
    if (fd < 0) {
        return CLI_OK;
    }
    cli_exit code = check(fd);
    const ssize_t got = code == CLI_OK ? read(fd, text, TEXT_MAX) : 0;
    (void) close(fd);
    if (code != CLI_OK) {
        return code;
    }
    if (got < 0 || got == TEXT_MAX || memchr(text, '\0', (size_t) got) != NULL) {
        return cli_usage(NULL, "%s cannot be read, is too large, or no text", path);
    }
    text[got] = '\0';
    ret_project->path = path;
    return read_lines(ret_project);
}
