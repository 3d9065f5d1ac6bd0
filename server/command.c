#include "server/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/keys.h"
#include "server/server.h"

enum { KEYRING = 16, TELL_US = 1000000 };

cof_code command_usage(struct cof_error *err, const char *what)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s; see cofferd help", what);
}

int command_failed(const struct cof_error *err)
{
    fprintf(stderr, "cofferd: %s\n", err->message);
    if (err->trail[0] != '\0') {
        fprintf(stderr, "  cause: %s%s%s\n", err->trail, err->native[0] == '\0' ? "" : " ", err->native);
    }
    return err->reason == COF_REASON_CONFIG_INVALID ? COMMAND_WRONG_USE : EXIT_FAILURE;
}

/* --- Keys and database ---------------------------------------------------------------------------------------- */

cof_code command_open_keyring(const struct settings *settings, struct command_access *access, struct cof_error *err)
{
    TRY(server_start(settings, err));
    return keys_open(settings, KEYRING, &access->keyring, err);
}

cof_code command_open_session(const struct settings *settings, const char *why, struct command_access *access,
                              struct cof_error *err)
{
    if (settings->database_conninfo[0] == '\0') {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "database.conninfo is empty, and %s; set it", why);
    }
    const struct session_options options = {
        .conninfo = settings->database_conninfo,
        .clock = &cof_system_clock,
        .connect_timeout_ms = settings->database_connect_timeout,
        .backoff_max_ms = settings->database_backoff_max,
    };
    TRY(session_new(&options, &access->session, err));
    return session_ready(access->session, err);
}

void command_access_cleanup(struct command_access *access)
{
    session_free(access->session);
    keyring_free(access->keyring);
}

/* --- Progress ------------------------------------------------------------------------------------------------- */

struct command_progress command_progress_begin(void)
{
    return (struct command_progress){.terminal = isatty(STDERR_FILENO) == 1,
                                     .told_us = cof_clock_monotonic(&cof_system_clock)};
}

bool command_progress_due(struct command_progress *progress)
{
    const int64_t now = cof_clock_monotonic(&cof_system_clock);
    if (!progress->terminal || now - progress->told_us < TELL_US) {
        return false;
    }
    if (progress->line) {
        fprintf(stderr, "\r\033[K");
    }
    progress->told_us = now;
    progress->line = true;
    return true;
}

void command_progress_end(struct command_progress *progress)
{
    if (progress->line) {
        fprintf(stderr, "\r\033[K");
        progress->line = false;
    }
}
