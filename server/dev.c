#include "server/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/bootstrap.h"
#include "server/store/dev_cluster.h"
#include "server/store/migrate.h"

enum {
    START_TIMEOUT_MS = 60000,
    CONNECT_TIMEOUT_MS = 5000,
    LOCK_TIMEOUT_MS = 30000,
    CONNINFO_SIZE = 1400,
    PATH_SIZE = 1024,
    OPEN_DIRECTORIES = 16,
};

#define DEV_TCP "tcp://127.0.0.1:7480"

struct dev {
    char directory[PATH_SIZE];
    char root_key[PATH_SIZE];
    char socket[PATH_SIZE];
    char state[PATH_SIZE];
    char conninfo[CONNINFO_SIZE];
    char workspace[BOOTSTRAP_UUID_TEXT];
    const char *addresses[2];
    struct dev_cluster *cluster;
    struct settings settings;
    bool temporary;
};

/* --- The directory -------------------------------------------------------------------------------------------- */

/* Puts two texts together with a slash between them. */
static cof_code join(const char *first, const char *second, char path[PATH_SIZE], struct cof_error *err)
{
    const size_t length = strlen(first);
    const size_t rest = strlen(second);
    if (length + 1 + rest >= PATH_SIZE) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the path of the directory is too long; choose a shorter one");
    }
    memmove(path, first, length);
    path[length] = '/';
    memcpy(path + length + 1, second, rest + 1);
    return COF_OK;
}

static cof_code path_of(const struct dev *dev, const char *name, char path[PATH_SIZE], struct cof_error *err)
{
    return join(dev->directory, name, path, err);
}

static cof_code default_directory(struct dev *dev, struct cof_error *err)
{
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    if (geteuid() == 0) {
        /* PostgreSQL runs as another user then, who cannot enter root's home. */
        return join("/var/lib", "coffer-dev", dev->directory, err);
    }
    if (data != NULL && data[0] == '/') {
        return join(data, "coffer/dev", dev->directory, err);
    }
    if (home != NULL && home[0] == '/') {
        return join(home, ".local/share/coffer/dev", dev->directory, err);
    }
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "HOME is not set, so there is no place for the data; name one with --dev-dir");
}

static cof_code make_parents(char *path, struct cof_error *err)
{
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(path, S_IRWXU) != 0 && errno != EEXIST) {
            const int number = errno;
            return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: the directory cannot be made: %s", path,
                            strerror(number));
        }
        if (slash == NULL) {
            return COF_OK;
        }
        *slash = '/';
    }
}

/* A relative name is made absolute, because PostgreSQL is started from another directory. */
static cof_code given_directory(struct dev *dev, const char *directory, struct cof_error *err)
{
    char current[PATH_SIZE] = "";
    if (directory[0] != '/' && getcwd(current, sizeof current) == NULL) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "the current directory cannot be read");
    }
    return join(current, directory[0] == '/' ? directory + 1 : directory, dev->directory, err);
}

/* Root's PostgreSQL runs as another user, who must be able to pass through; the files in it are for their owner
 * only. */
static cof_code let_postgres_in(const struct dev *dev, struct cof_error *err)
{
    if (geteuid() == 0 && chmod(dev->directory, S_IRWXU | S_IXGRP | S_IXOTH) != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: its mode cannot be changed", dev->directory);
    }
    return COF_OK;
}

static cof_code choose_directory(struct dev *dev, const struct dev_options *options, struct cof_error *err)
{
    if (options->temporary) {
        (void) snprintf(dev->directory, sizeof dev->directory, "/tmp/coffer-dev-XXXXXX");
        if (mkdtemp(dev->directory) == NULL) {
            return cof_fail(err, COF_REASON_CONFIG_INVALID, "a directory below /tmp cannot be made");
        }
        return let_postgres_in(dev, err);
    }
    TRY(options->directory == NULL ? default_directory(dev, err) : given_directory(dev, options->directory, err));
    TRY(make_parents(dev->directory, err));
    return let_postgres_in(dev, err);
}

/* --- Preparing ------------------------------------------------------------------------------------------------ */

static cof_code start_cluster(struct dev *dev, bool temporary, struct cof_error *err)
{
    const struct dev_cluster_options options = {
        .directory = dev->directory,
        .clock = &cof_system_clock,
        .start_timeout_ms = START_TIMEOUT_MS,
        .fsync = !temporary,
    };
    TRY(dev_cluster_start(&options, &dev->cluster, err));
    (void) snprintf(dev->conninfo, sizeof dev->conninfo, "%s", dev_cluster_conninfo(dev->cluster));
    return COF_OK;
}

static cof_code migrate(const struct dev *dev, struct cof_error *err)
{
    size_t applied;
    const struct migrate_options options = {
        .conninfo = dev->conninfo,
        .schema = &schema_embedded,
        .clock = &cof_system_clock,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .lock_timeout_ms = LOCK_TIMEOUT_MS,
    };
    return migrate_up(&options, &applied, err);
}

static cof_code fill_settings(struct dev *dev, const struct dev_options *options, struct cof_error *err)
{
    bool made = false;
    TRY(path_of(dev, "root.key", dev->root_key, err));
    TRY(path_of(dev, "coffer.sock", dev->socket, err));
    TRY(path_of(dev, "state", dev->state, err));
    static char ipc[PATH_SIZE + 8];
    (void) snprintf(ipc, sizeof ipc, "ipc://%s", dev->socket);
    dev->addresses[0] = options->tcp == NULL ? DEV_TCP : options->tcp;
    dev->addresses[1] = ipc;
    TRY(settings_read(NULL, &dev->settings, err));
    dev->settings.database_conninfo = dev->conninfo;
    dev->settings.keys_root_key_file = dev->root_key;
    dev->settings.server_state_dir = dev->state;
    dev->settings.transport_listen.items = dev->addresses;
    dev->settings.transport_listen.count = COF_COUNT(dev->addresses);
    TRY(server_start(&dev->settings, err));
    return server_make_root_key(&dev->settings, &made, err);
}

/* The workspace's UUID is kept in a file of its own, so that later starts can print it. */
static cof_code keep_workspace(struct dev *dev, struct cof_error *err)
{
    char path[PATH_SIZE];
    TRY(path_of(dev, "workspace", path, err));
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(dev->workspace, file) == EOF || fclose(file) != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: cannot be written", path);
    }
    return COF_OK;
}

static cof_code read_workspace(struct dev *dev, struct cof_error *err)
{
    char path[PATH_SIZE];
    TRY(path_of(dev, "workspace", path, err));
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "%s: is missing, so the last start did not finish; remove %s and start again", path,
                        dev->directory);
    }
    const bool read = fgets(dev->workspace, sizeof dev->workspace, file) != NULL;
    (void) fclose(file);
    return read ? COF_OK
                : cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: is empty; remove %s and start again", path,
                           dev->directory);
}

static cof_code bootstrap(struct dev *dev, struct cof_error *err)
{
    AUTO(server_core_cleanup) struct server_core *core = NULL;
    char token[PATH_SIZE];
    TRY(path_of(dev, BOOTSTRAP_SYSTEM_TOKEN, token, err));
    TRY(server_core_new(&dev->settings, &core, err));
    if (server_core_has_instance(core)) {
        return read_workspace(dev, err);
    }
    TRY(bootstrap_instance(core, token, err));
    TRY(bootstrap_development(core, dev->directory, dev->workspace, err));
    return keep_workspace(dev, err);
}

/* --- Listening ------------------------------------------------------------------------------------------------ */

static void write_env(const struct dev *dev, const char *tcp)
{
    char path[PATH_SIZE];
    struct cof_error err;
    if (path_of(dev, "env", path, &err) != COF_OK) {
        return;
    }
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return;
    }
    fprintf(file, "export COFFER_ADDR='%s'\n", tcp);
    fprintf(file, "export COFFER_TOKEN_FILE='%s/" BOOTSTRAP_ADMIN_TOKEN "'\n", dev->directory);
    fprintf(file, "export COFFER_WORKSPACE='%s'\n", dev->workspace);
    (void) fclose(file);
}

static void mark_ready(const struct dev *dev)
{
    char path[PATH_SIZE];
    struct cof_error err;
    if (path_of(dev, "ready", path, &err) == COF_OK) {
        const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
        if (fd >= 0) {
            (void) close(fd);
        }
    }
}

static void clear_ready(const struct dev *dev)
{
    char path[PATH_SIZE];
    struct cof_error err;
    if (path_of(dev, "ready", path, &err) == COF_OK) {
        (void) unlink(path);
    }
}

static void listening(const char *const *addresses, size_t count, void *context)
{
    const struct dev *dev = context;
    write_env(dev, addresses[0]);
    printf("\nCoffer is ready. This server is for trying things out on one machine: no TLS.\n\n");
    for (size_t i = 0; i < count; i++) {
        printf("  address     %s\n", addresses[i]);
    }
    printf("  workspace   %s  (\"dev\")\n", dev->workspace);
    printf("  tokens      %s/" BOOTSTRAP_ADMIN_TOKEN "     may do everything in the workspace\n", dev->directory);
    printf("              %s/" BOOTSTRAP_EXECUTOR_TOKEN "  may resolve, nothing else\n", dev->directory);
    printf("              %s/" BOOTSTRAP_SYSTEM_TOKEN "    makes workspaces\n", dev->directory);
    printf("  data        %s\n", dev->directory);
    printf("\nNext, in another terminal:\n\n");
    printf("  . %s/env\n", dev->directory);
    printf("  coffer secret create slack -e prod SLACK_BOT_TOKEN      (asks for the value)\n");
    printf("  coffer secret list\n");
    printf("  coffer get slack.SLACK_BOT_TOKEN -e prod\n\n");
    printf("Ctrl-C stops the server; the data %s.\n\n", dev->temporary ? "is removed then" : "stays");
    (void) fflush(stdout);
    mark_ready(dev);
}

/* --- Running -------------------------------------------------------------------------------------------------- */

static cof_code run(struct dev *dev, const struct dev_options *options, struct cof_error *err)
{
    const struct server_hooks hooks = {.listening = listening, .context = dev};
    TRY(choose_directory(dev, options, err));
    clear_ready(dev);
    printf("Starting PostgreSQL in %s ...\n", dev->directory);
    (void) fflush(stdout);
    TRY(start_cluster(dev, options->temporary, err));
    TRY(migrate(dev, err));
    TRY(fill_settings(dev, options, err));
    TRY(bootstrap(dev, err));
    return server_run(&dev->settings, &hooks, err);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void) info;
    (void) type;
    (void) walk;
    return remove(path);
}

static void remove_directory(const struct dev *dev)
{
    if (nftw(dev->directory, remove_one, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS) != 0) {
        fprintf(stderr, "cofferd: %s: not all of the temporary data could be removed; remove it yourself\n",
                dev->directory);
    }
}

cof_code dev_run(const struct dev_options *options, struct cof_error *err)
{
    struct dev *dev = calloc(1, sizeof *dev);
    if (dev == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    dev->temporary = options->temporary;
    const cof_code code = run(dev, options, err);
    clear_ready(dev);
    dev_cluster_stop(dev->cluster);
    if (dev->temporary && dev->directory[0] != '\0') {
        remove_directory(dev);
    }
    settings_done(&dev->settings);
    free(dev);
    return code;
}
