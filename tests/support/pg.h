#pragma once

#include "common/clock.h"

/*
 * A PostgreSQL for a test program: a private one, started at the first use and removed at exit, or the one that the
 * environment's COFFER_TEST_PG names (key=value form, of a superuser). Every database has a name of its own.
 *
 * Where that fails the program ends with a message: without PostgreSQL these tests prove nothing.
 */

struct test_database {
    char name[64];
    char conninfo[512];
};

/* Connection string of the database postgres. */
const char *test_pg_admin(void);

/* A database with the whole schema, copied from a template. */
void test_database_init(struct test_database *database);
/* An empty one. */
void test_database_init_empty(struct test_database *database);
/* Drops it, connections or not. */
void test_database_done(struct test_database *database);

/* Runs SQL in a database. */
void test_database_run(const char *conninfo, const char *sql);

/* A new directory below $TMPDIR or /tmp that another user may enter, and its removal with everything in it. */
void test_directory_init(char path[256]);
void test_directory_done(const char *path);
