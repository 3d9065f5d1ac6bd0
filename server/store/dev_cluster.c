#include "server/store/dev_cluster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server/store/session.h"

enum {
    PATH_SIZE = 1024,
    CONNINFO_SIZE = 2 * (PATH_SIZE + 16) + 64,
    ARGUMENTS_MAX = 24,
    PAUSE_MS = 20,
    RUNNING_WAIT_MS = 10000,
    STOP_WAIT_MS = 30000,
};

#define SOCKET_NAME "/.s.PGSQL.5432"

/* Who runs PostgreSQL. */
struct owner {
    uid_t uid;
    gid_t gid;
    bool other; /* than this process */
    char name[64];
};

struct dev_cluster {
    const struct cof_clock *clock;
    uint32_t start_timeout_ms;
    bool fsync;
    bool run_temporary;
    pid_t pid; /* 0: it was found running */
    struct owner owner;
    char directory[PATH_SIZE];
    char data[PATH_SIZE + 16];
    char run[PATH_SIZE + 16];
    char log[PATH_SIZE + 16];
    char programs[PATH_SIZE]; /* the directory of initdb and postgres */
    char conninfo[CONNINFO_SIZE];
};

/* Small things. */

static void text_cleanup(char **text)
{
    free(*text);
}

/* Copies what fits and ends it. */
static void copy_text(char *to, size_t size, const char *from, size_t len)
{
    const size_t kept = len < size ? len : size - 1;
    memcpy(to, from, kept);
    to[kept] = '\0';
}

static void pause_briefly(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    (void) nanosleep(&pause, NULL);
}

static int64_t moment(const struct dev_cluster *cluster, uint32_t milliseconds)
{
    return cof_clock_monotonic(cluster->clock) + (int64_t) milliseconds * 1000;
}

static bool reached(const struct dev_cluster *cluster, int64_t when_us)
{
    return cof_clock_monotonic(cluster->clock) >= when_us;
}

static cof_code fail_errno(struct cof_error *err, const char *what, const char *path)
{
    const int number = errno;
    cof_ignore(cof_fail(err, COF_REASON_CONFIG_INVALID, "cannot %s %s: %s", what, path, strerrordesc_np(number)));
    err->origin = COF_ORIGIN_ERRNO;
    (void) snprintf(err->native, sizeof err->native, "%d", number);
    return err->code;
}

/* Who runs PostgreSQL. */

static cof_code choose_owner(struct owner *ret_owner, struct cof_error *err)
{
    static const char *const names[] = {"postgres", "nobody"};
    *ret_owner = (struct owner){.uid = geteuid(), .gid = getegid()};
    if (ret_owner->uid != 0) {
        return COF_OK;
    }
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        const struct passwd *user = getpwnam(names[i]);
        if (user != NULL && user->pw_uid != 0) {
            *ret_owner = (struct owner){.uid = user->pw_uid, .gid = user->pw_gid, .other = true};
            (void) snprintf(ret_owner->name, sizeof ret_owner->name, "%s", user->pw_name);
            return COF_OK;
        }
    }
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "PostgreSQL does not run as root, and there is no user postgres or nobody: start cofferd as an "
                    "ordinary user");
}

/* Runs in a forked child: only calls that are safe there. */
static bool become(const struct owner *owner)
{
    return !owner->other || (setgroups(1, &owner->gid) == 0 && setgid(owner->gid) == 0 && setuid(owner->uid) == 0);
}

/* Whether the owner may enter the directory. */
static bool owner_enters(const struct owner *owner, const char *path)
{
    int status = 0;
    if (!owner->other) {
        return true;
    }
    const pid_t child = fork();
    if (child == 0) {
        _exit(become(owner) && access(path, X_OK) == 0 ? 0 : 1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Directories. */

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void) info;
    (void) type;
    (void) walk;
    return remove(path);
}

/* A directory that only the owner may enter. */
static cof_code make_private(const char *path, const struct owner *owner, struct cof_error *err)
{
    struct stat info;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return fail_errno(err, "make the directory", path);
    }
    if (lstat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s is not a directory: remove it", path);
    }
    if (info.st_uid != owner->uid && lchown(path, owner->uid, owner->gid) != 0) {
        return fail_errno(err, "take over the directory", path);
    }
    return chmod(path, 0700) == 0 ? COF_OK : fail_errno(err, "change the mode of", path);
}

/* The directory itself may hold more than PostgreSQL's things, so it stays with whoever made it. */
static cof_code make_directory(const char *path, struct dev_cluster *cluster, struct cof_error *err)
{
    const mode_t mode = cluster->owner.other ? 0711 : 0700;
    const bool made = mkdir(path, mode) == 0;
    if (!made && errno != EEXIST) {
        return fail_errno(err, "make the directory", path);
    }
    /* Whatever the umask says. */
    if (made && chmod(path, mode) != 0) {
        return fail_errno(err, "change the mode of", path);
    }
    AUTO(text_cleanup) char *resolved = realpath(path, NULL);
    if (resolved == NULL) {
        return fail_errno(err, "find the directory", path);
    }
    if (strlen(resolved) >= sizeof cluster->directory) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the path of the directory for PostgreSQL is longer than %zu",
                        sizeof cluster->directory - 1);
    }
    memcpy(cluster->directory, resolved, strlen(resolved) + 1);
    return COF_OK;
}

static cof_code check_reach(const struct dev_cluster *cluster, struct cof_error *err)
{
    if (owner_enters(&cluster->owner, cluster->directory)) {
        return COF_OK;
    }
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "PostgreSQL does not run as root, and the user %s cannot enter %s: start cofferd as an ordinary "
        "user, or name a directory that %s can reach, such as one in /var/lib",
        cluster->owner.name, cluster->directory, cluster->owner.name);
}

/* A socket's path is short, and PostgreSQL separates several directories by commas. */
static bool fits_socket(const char *run)
{
    return strlen(run) + strlen(SOCKET_NAME) < sizeof((struct sockaddr_un *) 0)->sun_path &&
           strpbrk(run, ",\"") == NULL;
}

static cof_code make_temporary_run(struct dev_cluster *cluster, struct cof_error *err)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    (void) snprintf(cluster->run, sizeof cluster->run, "%s/coffer-XXXXXX", base == NULL ? "" : base);
    if (base == NULL || base[0] != '/' || cluster->owner.other || !fits_socket(cluster->run)) {
        (void) snprintf(cluster->run, sizeof cluster->run, "/tmp/coffer-XXXXXX");
    }
    if (mkdtemp(cluster->run) == NULL) {
        return fail_errno(err, "make the directory", cluster->run);
    }
    cluster->run_temporary = true;
    return make_private(cluster->run, &cluster->owner, err);
}

static cof_code make_run(struct dev_cluster *cluster, struct cof_error *err)
{
    (void) snprintf(cluster->run, sizeof cluster->run, "%s/run", cluster->directory);
    return fits_socket(cluster->run) ? make_private(cluster->run, &cluster->owner, err)
                                     : make_temporary_run(cluster, err);
}

static void set_conninfo(struct dev_cluster *cluster)
{
    char quoted[2 * sizeof cluster->run];
    size_t used = 0;
    for (const char *c = cluster->run; *c != '\0'; c++) {
        if (*c == '\'' || *c == '\\') {
            quoted[used++] = '\\';
        }
        quoted[used++] = *c;
    }
    quoted[used] = '\0';
    (void) snprintf(cluster->conninfo, sizeof cluster->conninfo, "host='%s' user=coffer dbname=postgres", quoted);
}

/* Programs. */

static bool has_programs(const char *directory)
{
    char path[PATH_SIZE + 16];
    (void) snprintf(path, sizeof path, "%s/initdb", directory);
    if (access(path, X_OK) != 0) {
        return false;
    }
    (void) snprintf(path, sizeof path, "%s/postgres", directory);
    return access(path, X_OK) == 0;
}

/* The newest version below the directory of Debian's packages, or the one wanted. */
static bool find_packaged(long wanted, char programs[PATH_SIZE])
{
    long newest = 0;
    DIR *versions = opendir("/usr/lib/postgresql");
    if (versions == NULL) {
        return false;
    }
    for (const struct dirent *entry = readdir(versions); entry != NULL; entry = readdir(versions)) {
        char path[PATH_SIZE];
        const long version = strtol(entry->d_name, NULL, 10);
        (void) snprintf(path, sizeof path, "/usr/lib/postgresql/%s/bin", entry->d_name);
        if (version > newest && (wanted == 0 || version == wanted) && has_programs(path)) {
            newest = version;
            memcpy(programs, path, sizeof path);
        }
    }
    (void) closedir(versions);
    return newest > 0;
}

static bool find_in_path(char programs[PATH_SIZE])
{
    const char *rest = getenv("PATH");
    while (rest != NULL && *rest != '\0') {
        const size_t len = strcspn(rest, ":");
        copy_text(programs, PATH_SIZE, rest, len);
        if (programs[0] == '/' && has_programs(programs)) {
            return true;
        }
        rest += rest[len] == ':' ? len + 1 : len;
    }
    return false;
}

/* The major version that made the data; 0 if there is none. */
static long data_version(const struct dev_cluster *cluster)
{
    char path[sizeof cluster->data + 16];
    char line[16];
    (void) snprintf(path, sizeof path, "%s/PG_VERSION", cluster->data);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    const bool good = fgets(line, sizeof line, file) != NULL;
    (void) fclose(file);
    return good ? strtol(line, NULL, 10) : 0;
}

static cof_code find_programs(struct dev_cluster *cluster, struct cof_error *err)
{
    const long version = data_version(cluster);
    if (find_packaged(version, cluster->programs) || find_in_path(cluster->programs)) {
        return COF_OK;
    }
    if (version != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "%s was made by PostgreSQL %ld, which is not installed: install the package postgresql-%ld",
                        cluster->data, version, version);
    }
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "the programs initdb and postgres are neither in /usr/lib/postgresql/*/bin nor in PATH: install "
        "PostgreSQL, for example with apt install postgresql");
}

/* Processes. */

_Noreturn static void run_child(const char *program, char *const *arguments, const struct owner *owner, int log,
                                pid_t parent)
{
    /* PostgreSQL gets none of our environment, which can hold a root key. */
    static char path[] = "PATH=/usr/bin:/bin";
    static char locale[] = "LC_ALL=C";
    char *const environment[] = {path, locale, NULL};
    sigset_t none;
    (void) sigemptyset(&none);
    (void) sigprocmask(SIG_SETMASK, &none, NULL);
    (void) umask(077);
    /* A Ctrl-C in the terminal is for cofferd, which needs its database until it has drained. */
    (void) setpgid(0, 0);
    if (dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0 || chdir("/") != 0 || !become(owner)) {
        _exit(126);
    }
    /* A change of user clears the death signal, so it is set after that; the parent may be dead already. */
    if (prctl(PR_SET_PDEATHSIG, SIGINT) != 0 || getppid() != parent) {
        _exit(126);
    }
    (void) close_range(STDERR_FILENO + 1, UINT_MAX, 0);
    (void) execve(program, arguments, environment);
    _exit(127);
}

/* Starts a program of PostgreSQL; its words are `arguments`, ended by NULL. */
static cof_code start_program(const struct dev_cluster *cluster, const char *name, const char *const *arguments,
                              pid_t *ret_pid, struct cof_error *err)
{
    char program[PATH_SIZE + 16];
    char *words[ARGUMENTS_MAX] = {program};
    (void) snprintf(program, sizeof program, "%s/%s", cluster->programs, name);
    for (size_t i = 0; arguments[i] != NULL && i + 2 < COF_COUNT(words); i++) {
        memcpy(&words[i + 1], &arguments[i], sizeof words[0]); /* execve does not write to them */
    }
    const int log = open(cluster->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0) {
        return fail_errno(err, "write", cluster->log);
    }
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) {
        run_child(program, words, &cluster->owner, log, parent);
    }
    (void) close(log);
    if (child < 0) {
        return fail_errno(err, "start", program);
    }
    *ret_pid = child;
    return COF_OK;
}

/* Fills a directory beside the final one, so that an initdb that was interrupted leaves nothing half made behind.
 */
static cof_code initialise(const struct dev_cluster *cluster, struct cof_error *err)
{
    char fresh[sizeof cluster->data + 8];
    pid_t pid = 0;
    int status = 0;
    (void) snprintf(fresh, sizeof fresh, "%s.new", cluster->data);
    (void) nftw(fresh, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    TRY(make_private(fresh, &cluster->owner, err));
    const char *const arguments[] = {
        "-D", fresh, "-U", "coffer", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", NULL,
    };
    TRY(start_program(cluster, "initdb", arguments, &pid, err));
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "initdb failed: read %s", cluster->log);
    }
    return rename(fresh, cluster->data) == 0 ? COF_OK : fail_errno(err, "rename", fresh);
}

static cof_code start_postgres(struct dev_cluster *cluster, struct cof_error *err)
{
    char sockets[sizeof cluster->run + 32];
    (void) snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", cluster->run);
    /* Otherwise as the cluster's own settings say, which is on unless somebody changed it. */
    const char *const last = cluster->fsync ? NULL : "-c";
    const char *const arguments[] = {
        "-D", cluster->data,
        "-c", sockets,
        "-c", "listen_addresses=",
        "-c", "port=5432",
        "-c", "unix_socket_permissions=0700",
        "-c", "logging_collector=off",
        last, "fsync=off",
        NULL,
    };
    return start_program(cluster, "postgres", arguments, &cluster->pid, err);
}

static bool ended(pid_t pid)
{
    return waitpid(pid, NULL, WNOHANG) == pid;
}

static void stop_postgres(const struct dev_cluster *cluster)
{
    const int64_t until = moment(cluster, STOP_WAIT_MS);
    (void) kill(cluster->pid, SIGINT);
    while (!ended(cluster->pid)) {
        if (reached(cluster, until)) {
            (void) kill(cluster->pid, SIGQUIT);
            (void) waitpid(cluster->pid, NULL, 0);
            return;
        }
        pause_briefly();
    }
}

static cof_code await_postgres(struct dev_cluster *cluster, struct cof_error *err)
{
    const int64_t until = moment(cluster, cluster->start_timeout_ms);
    while (!session_ping(cluster->conninfo)) {
        if (ended(cluster->pid)) {
            cluster->pid = 0;
            return cof_fail(err, COF_REASON_CONFIG_INVALID, "PostgreSQL ended while it started: read %s",
                            cluster->log);
        }
        if (reached(cluster, until)) {
            return cof_fail(err, COF_REASON_CONFIG_INVALID,
                            "PostgreSQL did not accept connections within %u ms: read %s",
                            cluster->start_timeout_ms, cluster->log);
        }
        pause_briefly();
    }
    return COF_OK;
}

/* An instance that is there already. */

/* Reads the process and the socket's directory from lines 1 and 5 of postmaster.pid. */
static bool read_pid_file(const struct dev_cluster *cluster, pid_t *ret_pid, char *run, size_t size)
{
    char path[sizeof cluster->data + 16];
    char line[PATH_SIZE + 16] = "";
    (void) snprintf(path, sizeof path, "%s/postmaster.pid", cluster->data);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool good = fgets(line, sizeof line, file) != NULL;
    const long pid = strtol(line, NULL, 10);
    for (int i = 0; i < 4 && good; i++) {
        good = fgets(line, sizeof line, file) != NULL;
    }
    (void) fclose(file);
    copy_text(run, size, line, strcspn(line, "\n"));
    *ret_pid = (pid_t) pid;
    return good && pid > 1 && run[0] == '/';
}

/* Waits for one that is still starting, or that stops because its cofferd was killed a moment ago. */
static bool find_running(struct dev_cluster *cluster)
{
    const int64_t until = moment(cluster, RUNNING_WAIT_MS);
    pid_t pid = 0;
    while (read_pid_file(cluster, &pid, cluster->run, sizeof cluster->run) &&
           (kill(pid, 0) == 0 || errno != ESRCH)) {
        set_conninfo(cluster);
        if (session_ping(cluster->conninfo)) {
            return true;
        }
        if (reached(cluster, until)) {
            return false;
        }
        pause_briefly();
    }
    return false;
}

/* Makes the data if there is none. */
static cof_code prepare_data(struct dev_cluster *cluster, struct cof_error *err)
{
    TRY(check_reach(cluster, err));
    TRY(find_programs(cluster, err));
    return data_version(cluster) == 0 ? initialise(cluster, err) : COF_OK;
}

static cof_code start_or_find(struct dev_cluster *cluster, struct cof_error *err)
{
    if (find_running(cluster)) {
        return COF_OK;
    }
    TRY(prepare_data(cluster, err));
    TRY(make_run(cluster, err));
    set_conninfo(cluster);
    TRY(start_postgres(cluster, err));
    return await_postgres(cluster, err);
}

cof_code dev_cluster_start(const struct dev_cluster_options *options, struct dev_cluster **ret_cluster,
                           struct cof_error *err)
{
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "no memory to start PostgreSQL");
    }
    cluster->clock = options->clock;
    cluster->start_timeout_ms = options->start_timeout_ms;
    cluster->fsync = options->fsync;
    TRY(choose_owner(&cluster->owner, err));
    TRY(make_directory(options->directory, cluster, err));
    (void) snprintf(cluster->data, sizeof cluster->data, "%s/postgresql", cluster->directory);
    (void) snprintf(cluster->log, sizeof cluster->log, "%s/postgresql.log", cluster->directory);
    TRY(start_or_find(cluster, err));
    *ret_cluster = TAKE(cluster);
    return COF_OK;
}

void dev_cluster_stop(struct dev_cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    if (cluster->pid > 0) {
        stop_postgres(cluster);
    }
    if (cluster->run_temporary) {
        (void) nftw(cluster->run, remove_one, 4, FTW_DEPTH | FTW_PHYS);
    }
    free(cluster);
}

const char *dev_cluster_conninfo(const struct dev_cluster *cluster)
{
    return cluster->conninfo;
}

bool dev_cluster_started(const struct dev_cluster *cluster)
{
    return cluster->pid > 0;
}
