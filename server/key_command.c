#include "server/key_command.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/encode.h"
#include "server/command.h"
#include "server/hardening.h"
#include "server/server.h"
#include "server/service/instance.h"
#include "server/service/key_rotation.h"
#include "server/service/reseal.h"
#include "server/service/root_rotation.h"

enum { PAGE = 100, STEP_TIME_US = 60 * 1000000 };

typedef enum key_action { KEY_STATUS, KEY_ROTATE_ROOT, KEY_ROTATE_WORKSPACE } key_action;

static const char *const actions[] = {
    [KEY_STATUS] = "status",
    [KEY_ROTATE_ROOT] = "rotate-root",
    [KEY_ROTATE_WORKSPACE] = "rotate-workspace",
};

struct request {
    key_action action;
    bool all;
    const char *config;
    const char *workspace; /* name or UUID */
};

/* --- Arguments ------------------------------------------------------------------------------------------------ */

static cof_code read_options(int argc, char **argv, struct request *request, struct cof_error *err)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"all", no_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) { /* NOLINT(concurrency-mt-unsafe) */
        if (option == 'c') {
            request->config = optarg;
        } else if (option == 'a') {
            request->all = true;
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
    size_t i = 0;
    while (i < COF_COUNT(actions) && strcmp(action, actions[i]) != 0) {
        i++;
    }
    if (i == COF_COUNT(actions)) {
        return command_usage(err, "key takes one of status, rotate-root, rotate-workspace");
    }
    request->action = (key_action) i;
    request->workspace = optind < argc ? argv[optind++] : NULL;
    const bool names = request->workspace != NULL;
    if (request->action == KEY_ROTATE_WORKSPACE && names == request->all) {
        return command_usage(err, "rotate-workspace takes the name or UUID of a workspace, or --all");
    }
    if (optind < argc || (request->action != KEY_ROTATE_WORKSPACE && (names || request->all))) {
        return command_usage(err, "too many arguments");
    }
    return COF_OK;
}

/* --- Calls of the command's own ------------------------------------------------------------------------------- */

struct own_call {
    struct cof_arena arena;
    struct call call;
};

static void own_begin(struct server_core *core, struct own_call *own, struct cof_error *err)
{
    cof_arena_init(&own->arena, server_core_pool(core), RESEAL_CALL_MEMORY);
    own->call = (struct call){
        .service = server_core_service(core),
        .session = server_core_session(core),
        .arena = &own->arena,
        .err = err,
        .method = "cofferd/RotateWorkspaceKey",
        .peer = "cofferd key",
        .request_id = cof_uuid_time(&cof_system_clock),
        .received_us = cof_clock_monotonic(&cof_system_clock),
        .deadline_us = cof_clock_monotonic(&cof_system_clock) + STEP_TIME_US,
    };
}

static void own_end(struct own_call *own)
{
    session_reset(own->call.session);
    cof_arena_reset(&own->arena);
}

/* --- Root keys ------------------------------------------------------------------------------------------------ */

static cof_code count_root(struct server_core *core, size_t index, uint64_t *ret_under, uint64_t *ret_all,
                           struct cof_error *err)
{
    const struct root_key *root = keyring_root(server_core_service(core)->keyring, index);
    return root_rotation_count(server_core_session(core), cof_slice_of(root_key_id(root), ROOT_KEY_ID), ret_under,
                               ret_all, err);
}

static cof_code rotate_root(struct server_core *core, struct cof_error *err)
{
    struct keyring *keyring = server_core_service(core)->keyring;
    struct root_rotation walk = {.generation = 0};
    struct command_progress progress = command_progress_begin();
    bool done = false;
    uint64_t under = 0;
    uint64_t all = 0;
    TRY(instance_set_root(server_core_session(core), keyring, err));
    while (!done) {
        TRY(root_rotation_some(server_core_session(core), keyring, &walk, &done, err));
        if (command_progress_due(&progress)) {
            TRY(count_root(core, 0, &under, &all, err));
            fprintf(stderr, "keys wrapped by the root key: %" PRIu64 " of %" PRIu64, under, all);
        }
    }
    command_progress_end(&progress);
    TRY(count_root(core, 0, &under, &all, err));
    printf("%" PRIu64 " keys wrapped anew, %" PRIu64 " of %" PRIu64
           " are under the root key of keys.root_key_file.\n",
           walk.rewrapped, under, all);
    if (walk.damaged > 0) {
        return cof_fail(err, COF_REASON_CORRUPTED, "%" PRIu64 " keys do not open and stay as they are; %s",
                        walk.damaged, cof_reason_next_step(COF_REASON_CORRUPTED));
    }
    return COF_OK;
}

static const char *meaning_of(bool wraps, uint64_t under)
{
    if (wraps) {
        return "wraps new keys";
    }
    return under == 0 ? "nothing is under it" : "to be rotated: cofferd key rotate-root";
}

static cof_code show_roots(struct server_core *core, struct cof_error *err)
{
    const struct keyring *keyring = server_core_service(core)->keyring;
    printf("%-18s  %10s\n", "ROOT KEY", "KEYS");
    for (size_t i = 0; i < keyring_root_count(keyring); i++) {
        char text[2 * ROOT_KEY_ID + 1];
        uint64_t under;
        uint64_t all;
        const struct root_key *root = keyring_root(keyring, i);
        cof_hex_encode(cof_slice_of(root_key_id(root), ROOT_KEY_ID), text);
        TRY(count_root(core, i, &under, &all, err));
        printf("%-18s  %10" PRIu64 "  %s\n", text, under,
               meaning_of(root == keyring_wrapping_root(keyring), under));
    }
    return COF_OK;
}

/* --- Workspace keys ------------------------------------------------------------------------------------------- */

static cof_code show_counts(struct server_core *core, struct cof_error *err)
{
    static const char *const names[] = {
        [GENERATION_CURRENT] = "current",
        [GENERATION_OLD] = "replaced, rows are under them",
        [GENERATION_UNUSED] = "replaced, nothing is under them",
        [GENERATION_RETIRED] = "destroyed, check the records of writes",
    };
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct session *session = server_core_session(core);
    TRY(session_queue(session, STATEMENT_GENERATIONS_COUNT, NULL, 0, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    printf("\n%-40s  %10s\n", "WORKSPACE KEYS", "KEYS");
    for (size_t i = 0; i < rows_count(rows); i++) {
        const size_t state = (size_t) rows_i32(rows, i, 0);
        if (state > 0 && state < COF_COUNT(names)) {
            printf("%-40s  %10" PRId64 "\n", names[state], rows_i64(rows, i, 1));
        }
    }
    return COF_OK;
}

static cof_code show_rotation(struct server_core *core, const struct cof_uuid *workspace, struct cof_error *err)
{
    struct own_call own;
    uint64_t rows = 0;
    uint64_t old = 0;
    uint32_t generation = 0;
    key_rotation_need need;
    char text[COF_UUID_TEXT];
    cof_uuid_format(workspace, text);
    own_begin(core, &own, err);
    cof_code code = key_rotation_look(&own.call, workspace, INT64_MAX, &need, &generation);
    if (code == COF_OK && generation != 0) {
        code = reseal_count(&own.call, workspace, generation, &rows, &old);
    }
    own_end(&own);
    TRY(code);
    printf("%s  %10" PRIu32 "  %10" PRIu64 "  %10" PRIu64 "\n", text, generation, rows - old, rows);
    return COF_OK;
}

static cof_code show_rotations(struct server_core *core, struct cof_error *err)
{
    struct cof_uuid from = cof_uuid_zero;
    struct session *session = server_core_session(core);
    size_t count = PAGE;
    bool any = false;
    while (count == PAGE) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        const struct param params[] = {param_uuid(&from), param_i64(PAGE)};
        TRY(session_queue(session, STATEMENT_GENERATIONS_OLD, params, COF_COUNT(params), err));
        TRY(session_sync(session, err));
        TRY(session_next(session, &rows, err));
        count = rows_count(rows);
        for (size_t i = 0; i < count; i++) {
            const struct cof_uuid workspace = rows_uuid(rows, i, 0);
            if (!any) {
                printf("\n%-36s  %10s  %10s  %10s\n", "ROTATION OF WORKSPACE", "GENERATION", "ROWS DONE", "OF");
            }
            any = true;
            TRY(show_rotation(core, &workspace, err));
            from = cof_uuid_next(&workspace);
        }
    }
    return COF_OK;
}

static cof_code status(struct server_core *core, struct cof_error *err)
{
    TRY(show_roots(core, err));
    TRY(show_counts(core, err));
    return show_rotations(core, err);
}

/* One page of rows, in memory of its own. */
static cof_code walk_step(struct server_core *core, struct reseal *walk, bool count, uint64_t counts[2],
                          bool *ret_done, struct cof_error *err)
{
    struct own_call own;
    own_begin(core, &own, err);
    cof_code code = reseal_some(&own.call, walk, ret_done);
    if (code == COF_OK && *ret_done) {
        code = key_rotation_unused(&own.call, &walk->workspace, walk->generation);
    } else if (code == COF_OK && count) {
        code = reseal_count(&own.call, &walk->workspace, walk->generation, &counts[0], &counts[1]);
    }
    own_end(&own);
    return code;
}

static cof_code begin_rotation(struct server_core *core, const struct cof_uuid *workspace, uint32_t *ret_generation,
                               struct cof_error *err)
{
    struct own_call own;
    own_begin(core, &own, err);
    const cof_code code = key_rotation_begin(&own.call, workspace, ret_generation);
    own_end(&own);
    return code;
}

/* Servers would go on with it by themselves; here it is watched. */
static cof_code rotate_one(struct server_core *core, const struct cof_uuid *workspace, struct cof_error *err)
{
    char text[COF_UUID_TEXT];
    uint32_t generation = 0;
    uint64_t counts[2];
    bool done = false;
    cof_uuid_format(workspace, text);
    struct command_progress progress = command_progress_begin();
    TRY(begin_rotation(core, workspace, &generation, err));
    struct reseal walk = reseal_from_start(workspace, generation);
    while (!done) {
        const bool due = command_progress_due(&progress);
        TRY(walk_step(core, &walk, due, counts, &done, err));
        if (due && !done) {
            fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " rows", text, counts[0] - counts[1], counts[0]);
        }
    }
    command_progress_end(&progress);
    printf("%s  generation %" PRIu32 "  %" PRIu64 " rows sealed anew", text, generation, walk.resealed);
    printf(walk.damaged == 0 ? "\n" : ", %" PRIu64 " damaged ones left alone\n", walk.damaged);
    return COF_OK;
}

static cof_code read_directory(struct server_core *core, struct cof_slice name, const struct cof_uuid *after,
                               struct rows **ret_rows, struct cof_error *err)
{
    struct session *session = server_core_session(core);
    const struct param params[] = {param_text(name), param_uuid(after), param_text(cof_slice_text("")),
                                   param_bool(false), param_i64(PAGE)};
    TRY(session_queue(session, STATEMENT_DIRECTORY_LIST, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    return session_next(session, ret_rows, err);
}

static cof_code rotate_page(struct server_core *core, const struct rows *rows, struct cof_error *err)
{
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct cof_uuid workspace = rows_uuid(rows, i, 0);
        const cof_code code = rotate_one(core, &workspace, err);
        if (code != COF_NOT_FOUND) { /* deleted since the directory was read */
            TRY(code);
        }
    }
    return COF_OK;
}

static cof_code rotate_all(struct server_core *core, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct cof_uuid last = cof_uuid_zero;
    TRY(read_directory(core, cof_slice_text(""), &last, &rows, err));
    while (rows_count(rows) > 0) {
        AUTO(rows_cleanup) struct rows *page = TAKE(rows);
        TRY(rotate_page(core, page, err));
        last = rows_uuid(page, rows_count(page) - 1, 0);
        TRY(read_directory(core, rows_bytes(page, rows_count(page) - 1, 1), &last, &rows, err));
    }
    return COF_OK;
}

static cof_code find_workspace(struct server_core *core, const char *name, struct cof_uuid *ret_workspace,
                               struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    if (cof_uuid_parse(cof_slice_text(name), ret_workspace)) {
        return COF_OK;
    }
    struct session *session = server_core_session(core);
    const struct param params[] = {param_text(cof_slice_text(name))};
    TRY(session_queue(session, STATEMENT_DIRECTORY_FIND, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    if (rows_count(rows) == 0) {
        return cof_fail(err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no workspace \"%s\"", name);
    }
    *ret_workspace = rows_uuid(rows, 0, 0);
    return COF_OK;
}

/* --- The command ---------------------------------------------------------------------------------------------- */

static cof_code act(const struct request *request, const struct settings *settings, struct cof_error *err)
{
    AUTO(server_core_cleanup) struct server_core *core = NULL;
    struct cof_uuid workspace;
    TRY(server_start(settings, err));
    TRY(server_core_new(settings, &core, err));
    if (!server_core_has_instance(core)) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the database holds no instance of Coffer yet; run cofferd init once");
    }
    if (request->action == KEY_STATUS) {
        return status(core, err);
    }
    if (request->action == KEY_ROTATE_ROOT) {
        return rotate_root(core, err);
    }
    if (request->workspace == NULL) {
        return rotate_all(core, err);
    }
    TRY(find_workspace(core, request->workspace, &workspace, err));
    return rotate_one(core, &workspace, err);
}

static cof_code run(int argc, char **argv, struct cof_error *err)
{
    struct request request = {.config = NULL};
    struct settings settings;
    cof_error_clear(err);
    TRY(read_arguments(argc, argv, &request, err));
    TRY(hardening_start(err));
    TRY(settings_read(request.config, &settings, err));
    const cof_code code = act(&request, &settings, err);
    settings_done(&settings);
    return code;
}

int key_command(int argc, char **argv)
{
    struct cof_error err;
    return run(argc, argv, &err) == COF_OK ? EXIT_SUCCESS : command_failed(&err);
}
