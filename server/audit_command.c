#include "server/audit_command.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/encode.h"
#include "server/audit/json.h"
#include "server/audit/walk.h"
#include "server/crypto/root_key.h"
#include "server/hardening.h"
#include "server/server.h"

enum { EXIT_USAGE = 2, KEYRING = 16, PATH_SIZE = 1100 };

struct request {
    bool export;
    const char *config;
    const char *directory; /* NULL: of the settings */
    const char *head;      /* NULL: none */
};

/* --- Arguments ------------------------------------------------------------------------------------------------ */

static cof_code usage(struct cof_error *err, const char *what)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s; see cofferd help", what);
}

static cof_code read_options(int argc, char **argv, struct request *request, struct cof_error *err)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"head", required_argument, NULL, 'H'}, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) { /* NOLINT(concurrency-mt-unsafe) */
        if (option == 'c') {
            request->config = optarg;
        } else if (option == 'H') {
            request->head = optarg;
        } else {
            return usage(err, "there is no such option");
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
        return usage(err, "audit takes one of verify, export");
    }
    request->directory = optind < argc ? argv[optind++] : NULL;
    return optind < argc ? usage(err, "too many arguments") : COF_OK;
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
        return usage(err, "--head takes NUMBER:HASH as it stands in the server's log");
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

static void tell(bool damage, const char *text, void *context)
{
    (void) context;
    fprintf(stderr, "%s: %s\n", damage ? "DAMAGED" : "note", text);
}

static void keyring_cleanup(struct keyring **keyring)
{
    keyring_free(*keyring);
}

static cof_code open_keyring(const struct settings *settings, struct keyring **ret_keyring, struct cof_error *err)
{
    struct root_key *root = NULL;
    TRY(server_start(settings, err));
    TRY(root_key_read(settings->keys_root_key_file, &root, err));
    const cof_code code = keyring_new(&root, 1, KEYRING, ret_keyring, err);
    if (code != COF_OK) {
        root_key_free(root);
    }
    return code;
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

static cof_code walk_log(const struct request *request, const struct settings *settings,
                         struct audit_summary *summary, struct cof_error *err)
{
    AUTO(keyring_cleanup) struct keyring *keyring = NULL;
    char folder[PATH_SIZE];
    struct audit_walk walk = {
        .folder = folder,
        .from_first = settings->audit_keep_segments == 0 && settings->audit_keep_days == 0,
        .record = request->export ? export_record : NULL,
        .tell = tell,
    };
    const char *directory = request->directory != NULL ? request->directory : settings->server_state_dir;
    if (snprintf(folder, sizeof folder, "%s/audit", directory) >= (int) sizeof folder) {
        return usage(err, "the directory's path is too long");
    }
    TRY(read_head(request->head, &walk, err));
    TRY(open_keyring(settings, &keyring, err));
    walk.keyring = keyring;
    TRY(audit_walk(&walk, summary, err));
    return request->export && (fflush(stdout) != 0 || ferror(stdout) != 0)
               ? cof_fail(err, COF_REASON_INTERNAL, "the records cannot be written to standard output")
               : COF_OK;
}

static cof_code run(int argc, char **argv, struct audit_summary *summary, struct cof_error *err)
{
    struct request request = {.config = NULL};
    struct settings settings;
    TRY(read_arguments(argc, argv, &request, err));
    TRY(hardening_start(err));
    TRY(settings_read(request.config, &settings, err));
    const cof_code code = walk_log(&request, &settings, summary, err);
    settings_done(&settings);
    if (code == COF_OK && !request.export) {
        print_summary(summary);
    }
    return code;
}

int audit_command(int argc, char **argv)
{
    struct audit_summary summary;
    struct cof_error err;
    if (run(argc, argv, &summary, &err) != COF_OK) {
        fprintf(stderr, "cofferd: %s\n", err.message);
        if (err.trail[0] != '\0') {
            fprintf(stderr, "  cause: %s %s\n", err.trail, err.native);
        }
        return err.reason == COF_REASON_CONFIG_INVALID ? EXIT_USAGE : EXIT_FAILURE;
    }
    return summary.damages == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
