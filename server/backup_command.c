#include "server/backup_command.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/backup/backup.h"
#include "server/command.h"
#include "server/crypto/root_key.h"
#include "server/hardening.h"
#include "server/service/instance.h"
#include "server/store/migrate.h"

enum { LOCK_TIMEOUT_MS = 30000 };

typedef enum command_kind {
    VERIFY,
    BACKUP,
    RESTORE,
} command_kind;

struct request {
    command_kind kind;
    const char *config;
    const char *anchor;       /* NULL: none */
    const char *write_anchor; /* NULL: none */
    const char *pg_folder;    /* NULL: on the PATH */
    const char *path;         /* of the backup */
    bool json;
    bool accept_faults;
};

/* --- Arguments ------------------------------------------------------------------------------------------------ */

static bool take_option(int option, struct request *request)
{
    switch (option) {
    case 'c':
        request->config = optarg;
        return true;
    case 'a':
        request->anchor = optarg;
        return request->kind == VERIFY;
    case 'w':
        request->write_anchor = optarg;
        return request->kind == VERIFY;
    case 'p':
        request->pg_folder = optarg;
        return request->kind != VERIFY;
    case 'f':
        request->accept_faults = true;
        return request->kind == RESTORE;
    case 'j':
        request->json = true;
        return true;
    default:
        return false;
    }
}

static cof_code read_arguments(int argc, char **argv, struct request *request, struct cof_error *err)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"anchor", required_argument, NULL, 'a'},
                                            {"write-anchor", required_argument, NULL, 'w'},
                                            {"pg-bin", required_argument, NULL, 'p'},
                                            {"accept-faults", no_argument, NULL, 'f'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) { /* NOLINT(concurrency-mt-unsafe) */
        if (!take_option(option, request)) {
            return command_usage(err, "there is no such option here");
        }
    }
    request->path = optind < argc ? argv[optind++] : NULL;
    if (optind < argc || (request->kind == VERIFY && request->path != NULL)) {
        return command_usage(err, "too many arguments");
    }
    if (request->kind != VERIFY && request->path == NULL) {
        return command_usage(err, "the backup's directory is missing");
    }
    return COF_OK;
}

/* --- What is told --------------------------------------------------------------------------------------------- */

struct teller {
    bool json;
    struct command_progress progress;
};

/* Nothing in a fault needs an escape but what PostgreSQL's identifiers and our own sentences cannot hold. */
static void tell_fault(const struct verify_fault *fault, void *context)
{
    struct teller *teller = context;
    char workspace[COF_UUID_TEXT];
    cof_uuid_format(fault->workspace, workspace);
    command_progress_end(&teller->progress);
    if (teller->json) {
        printf("{\"table\":\"%s\",\"workspace\":\"%s\",\"object\":\"%s\",\"fault\":\"%s\"}\n", fault->table,
               workspace, fault->object, fault->what);
    } else {
        fprintf(stderr, "FAULT: %s of workspace %s%s%s: %s\n", fault->table, workspace,
                fault->object[0] == '\0' ? "" : ", ", fault->object, fault->what);
    }
}

static void tell_rows(const struct verify_summary *summary, void *context)
{
    struct teller *teller = context;
    if (command_progress_due(&teller->progress)) {
        fprintf(stderr, "checked %" PRIu64 " workspaces, %" PRIu64 " rows, %" PRIu64 " faults", summary->workspaces,
                verify_rows(summary), summary->faults);
    }
}

static void tell_bytes(const char *what, uint64_t bytes, void *context)
{
    struct teller *teller = context;
    if (command_progress_due(&teller->progress)) {
        fprintf(stderr, "%s %" PRIu64 " MB", what, bytes >> 20);
    }
}

static void print_json(const struct verify_summary *summary)
{
    printf("{\"workspaces\":%" PRIu64 ",\"rows\":{", summary->workspaces);
    for (size_t i = 0; i < VERIFY_TABLE_COUNT; i++) {
        printf("%s\"%s\":%" PRIu64, i == 0 ? "" : ",", verify_table_name((verify_table) i), summary->rows[i]);
    }
    printf("},\"opened\":%" PRIu64 ",\"unchained\":%" PRIu64 ",\"faults\":%" PRIu64 "}\n", summary->blobs,
           summary->unchained, summary->faults);
}

static void print_summary(const struct verify_summary *summary)
{
    printf("workspaces  %" PRIu64 "\nrows        %" PRIu64 "\nopened      %" PRIu64 "\nunchained   %" PRIu64 "\n",
           summary->workspaces, verify_rows(summary), summary->blobs, summary->unchained);
    if (summary->faults == 0) {
        printf("The database holds.\n");
    } else {
        printf("The database has %" PRIu64 " faults.\n", summary->faults);
    }
}

/* --- Keys and database ---------------------------------------------------------------------------------------- */

struct opened {
    struct root_key *roots[KEYRING_ROOTS_MAX]; /* the keyring's; files are made with the first one */
    size_t root_count;
    struct command_access access;
    struct anchor anchor;
    struct anchor made;
};

static void opened_cleanup(struct opened *opened)
{
    anchor_done(&opened->anchor);
    anchor_done(&opened->made);
    command_access_cleanup(&opened->access);
}

static cof_code open_all(const struct settings *settings, struct opened *opened, struct cof_error *err)
{
    TRY(command_open_keyring(settings, &opened->access, err));
    opened->root_count = keyring_root_count(opened->access.keyring);
    for (size_t i = 0; i < opened->root_count; i++) {
        const struct root_key *root = keyring_root(opened->access.keyring, i);
        opened->roots[i] = (struct root_key *) (uintptr_t) root;
    }
    return command_open_session(settings, "it is what this command works on", &opened->access, err);
}

/* A database that is checked or backed up has this binary's schema and an instance of this root key. */
static cof_code check_database(const struct settings *settings, struct opened *opened, struct cof_error *err)
{
    bool exists = false;
    const struct migrate_options migration = {
        .conninfo = settings->database_conninfo,
        .schema = &schema_embedded,
        .clock = &cof_system_clock,
        .connect_timeout_ms = settings->database_connect_timeout,
        .lock_timeout_ms = LOCK_TIMEOUT_MS,
    };
    TRY(migrate_check(&migration, err));
    TRY(instance_check_keys(opened->access.session, opened->access.keyring, &exists, err));
    return exists
               ? COF_OK
               : cof_fail(
                     err, COF_REASON_CONFIG_INVALID,
                     "the database holds no instance; cofferd init makes one, and cofferd restore brings one back");
}

/* --- The commands --------------------------------------------------------------------------------------------- */

static cof_code run_verify(const struct request *request, struct opened *opened, struct verify_options *verify,
                           struct verify_summary *summary, struct cof_error *err)
{
    if (request->anchor != NULL) {
        TRY(anchor_read(request->anchor, opened->roots, opened->root_count, &opened->anchor, err));
        verify->anchor = &opened->anchor;
    }
    if (request->write_anchor != NULL) {
        verify->collect = &opened->made;
    }
    TRY(verify_run(verify, summary, err));
    if (request->write_anchor == NULL) {
        return COF_OK;
    }
    if (summary->faults > 0) {
        return cof_fail(err, COF_REASON_CORRUPTED, "there are %" PRIu64 " faults, so no anchor was written",
                        summary->faults);
    }
    return anchor_write(&opened->made, opened->roots[0], request->write_anchor, err);
}

static cof_code run_opened(const struct request *request, const struct settings *settings, struct opened *opened,
                           struct teller *teller, struct verify_summary *summary, struct cof_error *err)
{
    struct backup_options options = {
        .conninfo = settings->database_conninfo,
        .path = request->path,
        .pg_folder = request->pg_folder,
        .roots = opened->roots,
        .root_count = opened->root_count,
        .verify = {.session = opened->access.session,
                   .keyring = opened->access.keyring,
                   .clock = &cof_system_clock,
                   .lock = settings_lock_mode(settings),
                   .fault = tell_fault,
                   .progress = tell_rows,
                   .context = teller},
        .progress = tell_bytes,
    };
    if (request->kind == RESTORE) {
        return backup_restore(&options, request->accept_faults, summary, err);
    }
    TRY(check_database(settings, opened, err));
    return request->kind == BACKUP ? backup_make(&options, summary, err)
                                   : run_verify(request, opened, &options.verify, summary, err);
}

static cof_code run_settled(const struct request *request, const struct settings *settings,
                            struct verify_summary *summary, struct cof_error *err)
{
    AUTO(opened_cleanup) struct opened opened = {.root_count = 0};
    struct teller teller = {.json = request->json, .progress = command_progress_begin()};
    TRY(open_all(settings, &opened, err));
    const cof_code code = run_opened(request, settings, &opened, &teller, summary, err);
    command_progress_end(&teller.progress);
    if (code != COF_OK) {
        return code;
    }
    if (request->json) {
        print_json(summary);
    } else {
        print_summary(summary);
    }
    return COF_OK;
}

static cof_code run(int argc, char **argv, struct request *request, struct verify_summary *summary,
                    struct cof_error *err)
{
    struct settings settings;
    TRY(read_arguments(argc, argv, request, err));
    TRY(hardening_start(err));
    TRY(settings_read(request->config, &settings, err));
    const cof_code code = run_settled(request, &settings, summary, err);
    settings_done(&settings);
    return code;
}

static int command(command_kind kind, int argc, char **argv)
{
    struct request request = {.kind = kind};
    struct verify_summary summary = {0};
    struct cof_error err;
    const cof_code code = run(argc, argv, &request, &summary, &err);
    if (code == COF_OK) {
        return summary.faults == 0 ? EXIT_SUCCESS : COMMAND_FAULTS;
    }
    const int status = command_failed(&err);
    return summary.faults > 0 ? COMMAND_FAULTS : status;
}

int verify_command(int argc, char **argv)
{
    return command(VERIFY, argc, argv);
}

int backup_command(int argc, char **argv)
{
    return command(BACKUP, argc, argv);
}

int restore_command(int argc, char **argv)
{
    return command(RESTORE, argc, argv);
}
