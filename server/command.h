#pragma once

#include "server/crypto/keyring.h"
#include "server/settings.h"
#include "server/store/session.h"

/* What the commands of cofferd share: exit statuses, the keys and the database they work on, lines of progress. */

enum { COMMAND_WRONG_USE = 2, COMMAND_FAULTS = 3 };

/* Fails with CONFIG_INVALID: what is wrong with the arguments, and where they are listed. */
COF_CODE command_usage(struct cof_error *err, const char *what);

/* Prints a failure with its cause. Returns the exit status for it. */
int command_failed(const struct cof_error *err);

/* --- Keys and database ---------------------------------------------------------------------------------------- */

struct command_access {
    struct keyring *keyring; /* NULL until opened */
    struct session *session; /* NULL until opened */
};

/* Starts logging and the secure heap, and reads the root keys. */
COF_CODE command_open_keyring(const struct settings *settings, struct command_access *access,
                              struct cof_error *err);

/* Connects to the database. Fails with CONFIG_INVALID if the settings name none, saying why the command needs one. */
COF_CODE command_open_session(const struct settings *settings, const char *why, struct command_access *access,
                              struct cof_error *err);

void command_access_cleanup(struct command_access *access);

/* --- Progress ------------------------------------------------------------------------------------------------- */

/* On a terminal a line of standard error that is written again every second, of what takes longer than one; else
 * nothing. */
struct command_progress {
    bool terminal;
    bool line; /* one stands there */
    int64_t told_us;
};

struct command_progress command_progress_begin(void);

/* Whether a line is to be written now, over the one that stands there. */
bool command_progress_due(struct command_progress *progress);

/* Removes the line. */
void command_progress_end(struct command_progress *progress);
