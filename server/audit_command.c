#include "server/audit_command.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/encode.h"
#include "server/audit/json.h"
#include "server/audit/walk.h"
#include "server/backup/writes_check.h"
#include "server/command.h"
#include "server/hardening.h"
#include "server/service/instance.h"

enum { PATH_SIZE = 1100 };

struct request {
    bool export;
    bool writes; /* those in the database, too; of export, those instead */
    const char *config;
    const char *directory; /* NULL: of the settings */
    const char *head;      /* NULL: none */
};

/* --- Arguments ------------------------------------------------------------------------------------------------ */

static cof_code read_options(int argc, char **argv, struct request *request, struct cof_error *err)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"head", required_argument, NULL, 'H'},
                                            {"writes", no_argument, NULL, 'w'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) { /* NOLINT(concurrency-mt-unsafe) */
        if (option == 'c') {
            request->config = optarg;
        } else if (option == 'H') {
            request->head = optarg;
        } else if (option == 'w') {
            request->writes = true;
        } else {
            return command_usage(err, "there is no such option");
        }
    }
    return COF_OK;
}

static cof_code read_arguments(int argc, char **argv, struct request *request, struct cof_error *err)
{
    TRY(read_options(argc, argv, request, err));
    const char *action = optind < argc ? argv[optind++] : "";
    request->export = strcmp(action, "export") == 0;
    if (!request->export && strcmp(action, "verify") != 0) {
        return command_usage(err, "audit takes one of verify, export");
    }
    request->directory = optind < argc ? argv[optind++] : NULL;
    return optind < argc ? command_usage(err, "too many arguments") : COF_OK;
}

static cof_code read_head(const char *text, struct audit_walk *walk, struct cof_error *err)
{
    char *end = NULL;
    if (text == NULL) {
        return COF_OK;
    }
    errno = 0;
    walk->has_head = true;
    walk->head = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != ':' || strlen(end + 1) != 2 * (size_t) CRYPTO_DIGEST ||
        !cof_hex_decode(cof_slice_text(end + 1), walk->head_chain, CRYPTO_DIGEST)) {
        return command_usage(err, "--head takes NUMBER:HASH as it stands in the server's log");
    }
    return COF_OK;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code export_record(uint64_t segment, uint64_t sequence, struct cof_slice text, void *context,
                              struct cof_error *err)
{
    (void) context;
    return audit_json(stdout, segment, sequence, text, err);
}

static cof_code take_ends(uint64_t segment, uint64_t sequence, struct cof_slice text, void *context,
                          struct cof_error *err)
{
    (void) segment;
    (void) sequence;
    return chain_ends_take(context, text, err);
}

static void tell(bool damage, const char *text, void *context)
{
    (void) context;
    fprintf(stderr, "%s: %s\n", damage ? "DAMAGED" : "note", text);
}

/* What is open while a command runs. */
struct opened {
    struct command_access access;
    struct chain_ends *ends;
};

static void opened_cleanup(struct opened *opened)
{
    chain_ends_free(opened->ends);
    command_access_cleanup(&opened->access);
}

static cof_code open_database(const struct settings *settings, struct command_access *access, struct cof_error *err)
{
    bool exists = false;
    TRY(command_open_session(settings, "the records of writes are in the database", access, err));
    return instance_check_keys(access->session, access->keyring, &exists, err);
}

static void tell_writes(const struct writes_damage *damage, void *context)
{
    char workspace[COF_UUID_TEXT];
    (void) context;
    cof_uuid_format(damage->workspace, workspace);
    fprintf(stderr, "DAMAGED: workspace %s, revisions %" PRIu64 " to %" PRIu64 ": %s\n", workspace, damage->first,
            damage->last, damage->what);
}

static void print_summary(const struct audit_summary *summary)
{
    char hex[2 * CRYPTO_DIGEST + 1];
    char server[COF_UUID_TEXT];
    cof_hex_encode(cof_slice_of(summary->chain, sizeof summary->chain), hex);
    cof_uuid_format(&summary->server, server);
    printf("server    %s\nsegments  %" PRIu64 "\nrecords   %" PRIu64 "\nhead      %" PRIu64 ":%s\n", server,
           summary->segments, summary->records, summary->sequence, hex);
    printf(summary->damages == 0 ? "The log holds.\n" : "The log is damaged in %" PRIu64 " places.\n",
           summary->damages);
}

static void print_writes(const struct writes_summary *summary)
{
    printf("workspaces  %" PRIu64 "\nwrites      %" PRIu64 "\nlinks       %" PRIu64 "\nunchained   %" PRIu64
           "\nends        %" PRIu64 "\n",
           summary->workspaces, summary->writes, summary->links, summary->unchained, summary->ends);
    if (summary->damages == 0) {
        printf("The records of writes hold.\n");
    } else {
        printf("The records of writes are damaged in %" PRIu64 " places.\n", summary->damages);
    }
}

static cof_code walk_log(const struct request *request, const struct settings *settings, struct opened *opened,
                         struct audit_summary *summary, struct cof_error *err)
{
    char folder[PATH_SIZE];
    struct audit_walk walk = {
        .folder = folder,
        .keyring = opened->access.keyring,
        .from_first = settings->audit_keep_segments == 0 && settings->audit_keep_days == 0,
        .tell = tell,
        .context = opened->ends,
    };
    const char *directory = request->directory != NULL ? request->directory : settings->server_state_dir;
    if (snprintf(folder, sizeof folder, "%s/audit", directory) >= (int) sizeof folder) {
        return command_usage(err, "the directory's path is too long");
    }
    if (request->writes) {
        walk.record = take_ends;
    } else if (request->export) {
        walk.record = export_record;
    }
    TRY(read_head(request->head, &walk, err));
    return audit_walk(&walk, summary, err);
}

static cof_code check_writes(const struct request *request, const struct settings *settings, struct opened *opened,
                             struct writes_summary *summary, struct cof_error *err)
{
    if (!request->writes) {
        return COF_OK;
    }
    TRY(open_database(settings, &opened->access, err));
    const struct writes_check check = {
        .session = opened->access.session,
        .keyring = opened->access.keyring,
        .ends = opened->ends,
        .ends_from = "the server's log",
        .export = request->export ? stdout : NULL,
        .tell = tell_writes,
    };
    return writes_check_run(&check, summary, err);
}

static cof_code walk_all(const struct request *request, const struct settings *settings, uint64_t *ret_damages,
                         struct cof_error *err)
{
    AUTO(opened_cleanup) struct opened opened = {.ends = NULL};
    struct audit_summary log = {0};
    struct writes_summary writes = {0};
    TRY(command_open_keyring(settings, &opened.access, err));
    TRY(chain_ends_new(&opened.ends, err));
    TRY(walk_log(request, settings, &opened, &log, err));
    TRY(check_writes(request, settings, &opened, &writes, err));
    *ret_damages = log.damages + writes.damages;
    if (request->export) {
        return fflush(stdout) == 0 && !ferror(stdout)
                   ? COF_OK
                   : cof_fail(err, COF_REASON_INTERNAL, "the records cannot be written to standard output");
    }
    print_summary(&log);
    if (request->writes) {
        print_writes(&writes);
    }
    return COF_OK;
}

static cof_code run(int argc, char **argv, uint64_t *ret_damages, struct cof_error *err)
{
    struct request request = {.config = NULL};
    struct settings settings;
    TRY(read_arguments(argc, argv, &request, err));
    TRY(hardening_start(err));
    TRY(settings_read(request.config, &settings, err));
    const cof_code code = walk_all(&request, &settings, ret_damages, err);
    settings_done(&settings);
    return code;
}

int audit_command(int argc, char **argv)
{
    uint64_t damages = 0;
    struct cof_error err;
    if (run(argc, argv, &damages, &err) != COF_OK) {
        return command_failed(&err);
    }
    return damages == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
