#include "tests/support/pg.h"

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/dev_cluster.h"
#include "server/store/migrate.h"
#include "server/store/session.h"

enum { CONNECT_MS = 10000, START_MS = 60000, DIRECTORY_SIZE = 256 };

static struct dev_cluster *cluster;
static const char *admin;
static char directory[DIRECTORY_SIZE];
static struct test_database template_database;
static pid_t starter;

_Noreturn static void give_up(const char *what, const struct cof_error *err)
{
    (void) fprintf(stderr, "%s: %s (%s)\n", what, err->message, err->trail);
    exit(1);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void) info;
    (void) type;
    (void) walk;
    return remove(path);
}

/* Runs in the process that started the server, not in its forked children. */
static void stop(void)
{
    if (getpid() != starter) {
        return;
    }
    if (cluster == NULL) {
        test_database_done(&template_database);
    }
    dev_cluster_stop(cluster);
    if (directory[0] != '\0') {
        test_directory_done(directory);
    }
}

static void start_private(void)
{
    struct cof_error err;
    test_directory_init(directory);
    const struct dev_cluster_options options = {
        .directory = directory, .clock = &cof_system_clock, .start_timeout_ms = START_MS};
    if (dev_cluster_start(&options, &cluster, &err) != COF_OK) {
        give_up("starting PostgreSQL", &err);
    }
    admin = dev_cluster_conninfo(cluster);
}

static void create(struct test_database *database, const char *origin)
{
    static unsigned number;
    char sql[256];
    (void) snprintf(database->name, sizeof database->name, "coffer_test_%d_%u", (int) starter, number++);
    (void) snprintf(database->conninfo, sizeof database->conninfo, "%s dbname=%s", admin, database->name);
    (void) snprintf(sql, sizeof sql, "create database %s template %s", database->name, origin);
    test_database_run(admin, sql);
}

static void make_template(void)
{
    struct cof_error err;
    size_t applied = 0;
    create(&template_database, "template0");
    const struct migrate_options options = {
        .conninfo = template_database.conninfo,
        .schema = &schema_embedded,
        .clock = &cof_system_clock,
        .connect_timeout_ms = CONNECT_MS,
        .lock_timeout_ms = CONNECT_MS,
    };
    if (migrate_up(&options, &applied, &err) != COF_OK) {
        give_up("migrating the template", &err);
    }
}

const char *test_pg_admin(void)
{
    if (admin != NULL) {
        return admin;
    }
    starter = getpid();
    admin = getenv("COFFER_TEST_PG");
    if (admin == NULL) {
        start_private();
    }
    if (atexit(stop) != 0) {
        abort();
    }
    return admin;
}

void test_database_init(struct test_database *database)
{
    (void) test_pg_admin();
    if (template_database.name[0] == '\0') {
        make_template();
    }
    create(database, template_database.name);
}

void test_database_init_empty(struct test_database *database)
{
    (void) test_pg_admin();
    create(database, "template0");
}

void test_database_done(struct test_database *database)
{
    char sql[256];
    if (database->name[0] == '\0') {
        return;
    }
    (void) snprintf(sql, sizeof sql, "drop database if exists %s with (force)", database->name);
    test_database_run(admin, sql);
    database->name[0] = '\0';
}

void test_database_run(const char *conninfo, const char *sql)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = NULL;
    const struct session_options options = {
        .conninfo = conninfo, .clock = &cof_system_clock, .connect_timeout_ms = CONNECT_MS, .backoff_max_ms = 100};
    if (session_new(&options, &session, &err) != COF_OK || session_script(session, sql, &err) != COF_OK) {
        give_up(sql, &err);
    }
}

void test_directory_init(char path[DIRECTORY_SIZE])
{
    const char *base = getenv("TMPDIR");
    (void) snprintf(path, DIRECTORY_SIZE, "%s/coffer-test-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(path) == NULL || chmod(path, 0711) != 0) {
        perror(path);
        exit(1);
    }
}

void test_directory_done(const char *path)
{
    (void) nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
