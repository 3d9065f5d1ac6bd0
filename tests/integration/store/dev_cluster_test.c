/* Does a private PostgreSQL start anywhere, stay private, and end with whoever started it? */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/error.h"
#include "server/store/dev_cluster.h"
#include "server/store/session.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

static struct dev_cluster_options options_for(const char *directory)
{
    return (struct dev_cluster_options){
        .directory = directory, .clock = &cof_system_clock, .start_timeout_ms = 60000};
}

static void directory_cleanup(char (*path)[256])
{
    test_directory_done(*path);
}

static cof_code run_in(const struct dev_cluster *cluster, const char *sql, struct cof_error *err)
{
    AUTO(session_cleanup) struct session *session = NULL;
    const struct session_options options = {
        .conninfo = dev_cluster_conninfo(cluster), .clock = &cof_system_clock, .connect_timeout_ms = 10000};
    TRY(session_new(&options, &session, err));
    return session_script(session, sql, err);
}

static long mode_of(const char *directory, const char *name)
{
    char path[512];
    struct stat info;
    (void) snprintf(path, sizeof path, "%s/%s", directory, name);
    return stat(path, &info) == 0 ? (long) (info.st_mode & 0777) : -1;
}

static void data_outlives_a_restart_and_the_socket_is_private(void)
{
    struct cof_error err;
    AUTO(directory_cleanup) char directory[256];
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = NULL;
    test_directory_init(directory);
    const struct dev_cluster_options options = options_for(directory);
    CHECK_OK(dev_cluster_start(&options, &cluster, &err), &err);
    CHECK(dev_cluster_started(cluster));
    CHECK_OK(run_in(cluster, "create table kept (id int)", &err), &err);
    CHECK_INT(mode_of(directory, "run"), 0700);
    CHECK_INT(mode_of(directory, "postgresql"), 0700);
    CHECK_INT(mode_of(directory, "postgresql.log"), 0600);
    dev_cluster_stop(TAKE(cluster));
    CHECK_OK(dev_cluster_start(&options, &cluster, &err), &err);
    CHECK_OK(run_in(cluster, "select * from kept", &err), &err);
    CHECK_OK(run_in(cluster,
                    "do $$ begin if current_setting('listen_addresses') <> '' or current_setting('fsync') <> 'off'"
                    " or current_setting('server_encoding') <> 'UTF8' then raise 'no'; end if; end $$",
                    &err),
             &err);
}

static void running_instance_is_found_and_left_running(void)
{
    struct cof_error err;
    AUTO(directory_cleanup) char directory[256];
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = NULL;
    AUTO(dev_cluster_cleanup) struct dev_cluster *second = NULL;
    test_directory_init(directory);
    const struct dev_cluster_options options = options_for(directory);
    CHECK_OK(dev_cluster_start(&options, &cluster, &err), &err);
    CHECK_OK(dev_cluster_start(&options, &second, &err), &err);
    CHECK(!dev_cluster_started(second));
    CHECK_TEXT(dev_cluster_conninfo(second), dev_cluster_conninfo(cluster));
    CHECK_OK(run_in(second, "select 1", &err), &err);
    dev_cluster_stop(TAKE(second));
    CHECK_OK(run_in(cluster, "select 1", &err), &err);
}

static void path_too_long_for_a_socket_gets_a_short_directory_that_is_removed(void)
{
    struct cof_error err;
    struct stat info;
    AUTO(directory_cleanup) char directory[256];
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = NULL;
    AUTO(dev_cluster_cleanup) struct dev_cluster *second = NULL;
    char deep[512];
    char run[128] = "";
    test_directory_init(directory);
    (void) snprintf(deep, sizeof deep, "%s/%0120d", directory, 0);
    const struct dev_cluster_options options = options_for(deep);
    CHECK_OK(dev_cluster_start(&options, &cluster, &err), &err);
    CHECK_OK(run_in(cluster, "select 1", &err), &err);
    CHECK_OK(dev_cluster_start(&options, &second, &err), &err);
    CHECK(!dev_cluster_started(second));
    CHECK_TEXT(dev_cluster_conninfo(second), dev_cluster_conninfo(cluster));
    CHECK_INT(sscanf(dev_cluster_conninfo(cluster), "host='%127[^']'", run), 1);
    CHECK(stat(run, &info) == 0 && (info.st_mode & 0777) == 0700);
    dev_cluster_stop(TAKE(second));
    CHECK(stat(run, &info) == 0);
    dev_cluster_stop(TAKE(cluster));
    CHECK(stat(run, &info) != 0 && errno == ENOENT);
}

static void awkward_characters_in_the_path_do_no_harm(void)
{
    struct cof_error err;
    AUTO(directory_cleanup) char directory[256];
    static const char *const names[] = {"it's a \\ place", "a,b", "with \"quotes\""};
    test_directory_init(directory);
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = NULL;
        char path[512];
        (void) snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        const struct dev_cluster_options options = options_for(path);
        CHECK_OK(dev_cluster_start(&options, &cluster, &err), &err);
        CHECK_OK(run_in(cluster, "select 1", &err), &err);
    }
}

/* Starts a cluster in a child process, which is then killed without a chance to stop it. */
static pid_t start_in_child(const char *directory, char *conninfo, size_t size)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return -1;
    }
    const pid_t child = fork();
    if (child == 0) {
        struct cof_error err;
        struct dev_cluster *cluster = NULL;
        const struct dev_cluster_options options = options_for(directory);
        const cof_code code = dev_cluster_start(&options, &cluster, &err);
        const char *text = code == COF_OK ? dev_cluster_conninfo(cluster) : "";
        (void) !write(ends[1], text, strlen(text));
        (void) close(ends[1]);
        for (;;) {
            (void) pause();
        }
    }
    (void) close(ends[1]);
    const ssize_t len = read(ends[0], conninfo, size - 1);
    conninfo[len > 0 ? len : 0] = '\0';
    (void) close(ends[0]);
    return child;
}

static void killed_owner_takes_the_cluster_with_it_and_it_starts_again(void)
{
    struct cof_error err;
    AUTO(directory_cleanup) char directory[256];
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = NULL;
    char conninfo[512];
    const struct timespec pause_time = {.tv_nsec = 20000000};
    test_directory_init(directory);
    const pid_t owner = start_in_child(directory, conninfo, sizeof conninfo);
    CHECK(owner > 0);
    CHECK(session_ping(conninfo));
    (void) kill(owner, SIGKILL);
    CHECK_INT(waitpid(owner, NULL, 0), owner);
    for (int i = 0; i < 500 && session_ping(conninfo); i++) {
        (void) nanosleep(&pause_time, NULL);
    }
    CHECK(!session_ping(conninfo));
    const struct dev_cluster_options options = options_for(directory);
    CHECK_OK(dev_cluster_start(&options, &cluster, &err), &err);
    CHECK(dev_cluster_started(cluster));
    CHECK_OK(run_in(cluster, "select 1", &err), &err);
}

static void write_file(const char *directory, const char *name, const char *text)
{
    char path[512];
    (void) snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        fputs(text, file);
        (void) fclose(file);
    }
}

static void interrupted_initdb_is_begun_anew(void)
{
    struct cof_error err;
    AUTO(directory_cleanup) char directory[256];
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = NULL;
    char half[512];
    test_directory_init(directory);
    (void) snprintf(half, sizeof half, "%s/postgresql.new", directory);
    CHECK(mkdir(half, 0700) == 0);
    write_file(half, "PG_VERSION", "15\n");
    const struct dev_cluster_options options = options_for(directory);
    CHECK_OK(dev_cluster_start(&options, &cluster, &err), &err);
    CHECK_INT(mode_of(directory, "postgresql.new"), -1);
}

static void data_of_a_version_that_is_not_installed_is_refused_with_advice(void)
{
    struct cof_error err;
    AUTO(directory_cleanup) char directory[256];
    struct dev_cluster *cluster = NULL;
    char data[512];
    test_directory_init(directory);
    (void) snprintf(data, sizeof data, "%s/postgresql", directory);
    CHECK(mkdir(data, 0700) == 0);
    write_file(data, "PG_VERSION", "9\n");
    CHECK_INT(setenv("PATH", "/nowhere", 1), 0);
    const struct dev_cluster_options options = options_for(directory);
    CHECK_FAILS(dev_cluster_start(&options, &cluster, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "postgresql-9");
}

static void directory_that_postgresqls_user_cannot_enter_is_refused_with_advice(void)
{
    struct cof_error err;
    AUTO(directory_cleanup) char directory[256];
    struct dev_cluster *cluster = NULL;
    if (geteuid() != 0) {
        return;
    }
    test_directory_init(directory);
    CHECK(chmod(directory, 0700) == 0);
    const struct dev_cluster_options options = options_for(directory);
    CHECK_FAILS(dev_cluster_start(&options, &cluster, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "cannot enter");
}

static void directory_without_a_parent_is_named(void)
{
    struct cof_error err;
    struct dev_cluster *cluster = NULL;
    const struct dev_cluster_options options = options_for("/nowhere/at/all");
    CHECK_FAILS(dev_cluster_start(&options, &cluster, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "/nowhere/at/all");
}

TEST_MAIN(TEST(data_outlives_a_restart_and_the_socket_is_private), TEST(running_instance_is_found_and_left_running),
          TEST(path_too_long_for_a_socket_gets_a_short_directory_that_is_removed),
          TEST(awkward_characters_in_the_path_do_no_harm),
          TEST(killed_owner_takes_the_cluster_with_it_and_it_starts_again), TEST(interrupted_initdb_is_begun_anew),
          TEST(directory_that_postgresqls_user_cannot_enter_is_refused_with_advice),
          TEST(directory_without_a_parent_is_named),
          TEST(data_of_a_version_that_is_not_installed_is_refused_with_advice))
