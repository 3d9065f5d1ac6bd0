#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"

/*
 * A private PostgreSQL for development and tests, with its data in one directory and reachable only through a Unix
 * socket in a directory of mode 0700, by whoever may enter that. It needs initdb and postgres of an installed
 * PostgreSQL package, but no running server.
 *
 *   DIRECTORY/postgresql       data
 *   DIRECTORY/postgresql.log   what PostgreSQL says
 *   DIRECTORY/run              socket; if that path is too long for a socket: a new directory below
 * $XDG_RUNTIME_DIR or /tmp, which is removed at the end
 *
 * PostgreSQL refuses to run as root: then it runs as the user postgres, or nobody, who must be able to reach the
 * directory.
 */

struct dev_cluster;

struct dev_cluster_options {
    const char *directory; /* made if it is missing, but not its parents */
    const struct cof_clock *clock;
    uint32_t start_timeout_ms;
    bool fsync; /* false loses data in a crash of the machine: for tests */
};

/*
 * Makes the cluster if it does not exist and starts it, or finds it running; returns when it accepts connections.
 * What it starts ends with this process, even if that is killed. Call it from the main thread and before any other
 * thread exists: it forks, and the end of the calling thread stops the cluster. Failures are CONFIG_INVALID and say
 * what to do.
 */
COF_CODE dev_cluster_start(const struct dev_cluster_options *options, struct dev_cluster **ret_cluster,
                           struct cof_error *err);

/* Stops what dev_cluster_start started, waits until it has ended, and frees. NULL does nothing. */
void dev_cluster_stop(struct dev_cluster *cluster);
static inline void dev_cluster_cleanup(struct dev_cluster **cluster)
{
    dev_cluster_stop(*cluster);
}

/* For session_new and migrate_up; a superuser's. */
const char *dev_cluster_conninfo(const struct dev_cluster *cluster);

/* Whether this process started it, rather than found it running. */
bool dev_cluster_started(const struct dev_cluster *cluster);
