#include <inttypes.h>
#include <stdio.h>

#include <coffer/audit/v1/record.pb-c.h>

#include "common/secret.h"
#include "server/backup/verify_state.h"
#include "server/service/guard.h"
#include "server/service/rights.h"
#include "server/service/values.h"

#define EFFECT(name) COFFER__AUDIT__V1__EFFECT__EFFECT_##name

enum { PAGE = 128, PAGE_SEALED = 8, NAME = 201 };

/* Where a table's walk has come: the columns of its primary key behind the workspace. */
struct place {
    struct cof_uuid first;
    struct cof_uuid second;
    int64_t number;
    char name[NAME];
};

typedef enum key_form {
    KEY_UUID,
    KEY_UUID_NUMBER,
    KEY_UUID_UUID,
    KEY_NAME,
    KEY_NAME_PREFIX, /* and a beginning that all names have: none */
} key_form;

struct table_walk {
    verify_table table;
    statement statement;
    key_form key;
    int32_t page;
    /* Checks row `i` and sets the place to it. */
    cof_code (*check)(struct verify *verify, const struct rows *rows, size_t i, struct place *place);
};

static void about(struct verify *verify, const struct cof_uuid *id)
{
    char text[COF_UUID_TEXT];
    cof_uuid_format(id, text);
    (void) snprintf(verify->object, sizeof verify->object, "%s", text);
}

/* --- Secrets -------------------------------------------------------------------------------------------------- */

enum { SECRET_KEYS = 18, SECRET_BLOB, SECRET_FROM, SECRET_PLACE };

static cof_code judge_opened(struct verify *verify, verify_table table, cof_code code)
{
    verify->summary->blobs += code == COF_OK;
    if (code != COF_OK && verify->err->reason == COF_REASON_CORRUPTED) {
        verify_fault(verify, table,
                     "what is sealed in it does not open here, or does not fit what stands beside it");
        return COF_OK;
    }
    return verify_judge(verify, table, code, NULL);
}

static cof_code open_values(struct verify *verify, verify_table table, const struct secret_row *row,
                            const struct rows *rows, size_t i, size_t keys)
{
    struct values values;
    const struct sealed_version sealed = {rows_bytes(rows, i, keys), rows_bytes(rows, i, keys + 1)};
    return judge_opened(verify, table, values_open(&verify->call, row, &sealed, &values));
}

static void compare_secret(struct verify *verify, const struct secret_row *row)
{
    struct history_entry *entry = history_find(verify->history, &row->secret_id, 0);
    if (entry == NULL || entry->metadata_version == 0) {
        return;
    }
    entry->seen = true;
    if (entry->version != (uint64_t) row->version || entry->metadata_version != (uint64_t) row->metadata_version ||
        (entry->effect == EFFECT(DELETED)) != (row->state == SECRET_DELETED)) {
        verify_fault(verify, VERIFY_secret, "it is not as its last write left it: an older row was put back");
    }
}

static cof_code check_secret(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    struct secret_row row;
    bool whole;
    TRY(row_read(&secret_row_type, rows, i, 0, &verify->arena, &row, verify->err));
    place->first = row.secret_id;
    about(verify, &row.secret_id);
    TRY(verify_judge(verify, VERIFY_secret,
                     guard_check_row(&verify->call, &secret_row_type, &verify->workspace, &row), &whole));
    TRY(open_values(verify, VERIFY_secret, &row, rows, i, SECRET_KEYS));
    if ((uint64_t) rows_i64(rows, i, SECRET_FROM) > verify->revision) {
        verify_fault(verify, VERIFY_secret, "its values are of a revision that the workspace has not reached");
    }
    if (row.state == SECRET_ACTIVE && !rows_bool(rows, i, SECRET_PLACE)) {
        verify_fault(verify, VERIFY_secret, "its environment is not there");
    }
    if (whole) {
        compare_secret(verify, &row);
    }
    return COF_OK;
}

/* --- Former versions ------------------------------------------------------------------------------------------ */

enum { VERSION_SECRET, VERSION_NUMBER, VERSION_FROM, VERSION_TO, VERSION_KEYS, VERSION_BLOB, VERSION_CURRENT };

static void compare_version(struct verify *verify, const struct secret_row *row, const struct rows *rows, size_t i)
{
    const int64_t from = rows_i64(rows, i, VERSION_FROM);
    const int64_t to = rows_i64(rows, i, VERSION_TO);
    if (from >= to || (uint64_t) to > verify->revision) {
        verify_fault(verify, VERIFY_secret_version,
                     "the revisions from which and to which it was current cannot be");
    }
    if (rows_null(rows, i, VERSION_CURRENT)) {
        verify_fault(verify, VERIFY_secret_version, "its secret is not there");
    } else if (rows_i64(rows, i, VERSION_CURRENT) <= row->version) {
        verify_fault(verify, VERIFY_secret_version, "its secret has not come further than it");
    }
    const bool destroyed = history_find(verify->history, &row->secret_id, (uint64_t) row->version) != NULL;
    if (rows_null(rows, i, VERSION_BLOB) != destroyed) {
        verify_fault(verify, VERIFY_secret_version,
                     destroyed ? "its values were destroyed, and were put back"
                               : "its values are gone, and no record says that they were destroyed");
    }
}

static cof_code check_version(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    const struct secret_row row = {
        .workspace_id = verify->workspace,
        .secret_id = rows_uuid(rows, i, VERSION_SECRET),
        .version = rows_i64(rows, i, VERSION_NUMBER),
    };
    char id[COF_UUID_TEXT];
    place->first = row.secret_id;
    place->number = row.version;
    cof_uuid_format(&row.secret_id, id);
    (void) snprintf(verify->object, sizeof verify->object, "%s version %" PRId64, id, row.version);
    compare_version(verify, &row, rows, i);
    return rows_null(rows, i, VERSION_BLOB)
               ? COF_OK
               : open_values(verify, VERIFY_secret_version, &row, rows, i, VERSION_KEYS);
}

/* --- Accounts and tokens -------------------------------------------------------------------------------------- */

static void compare_account(struct verify *verify, const struct principal_row *row)
{
    struct history_entry *entry = history_find(verify->history, &row->principal_id, 0);
    if (entry == NULL || entry->metadata_version == 0) {
        return;
    }
    entry->seen = true;
    if (entry->metadata_version != (uint64_t) row->metadata_version) {
        verify_fault(verify, VERIFY_principal, "it is not as its last write left it: an older row was put back");
    }
}

static cof_code check_account(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    struct principal_row row;
    struct rule_set rules;
    bool whole;
    TRY(row_read(&principal_row_type, rows, i, 0, &verify->arena, &row, verify->err));
    place->first = row.principal_id;
    about(verify, &row.principal_id);
    TRY(verify_judge(verify, VERIFY_principal,
                     guard_check_row(&verify->call, &principal_row_type, &verify->workspace, &row), &whole));
    if (!whole) {
        return COF_OK;
    }
    compare_account(verify, &row);
    return verify_judge(
        verify, VERIFY_principal,
        rights_unpack(row.grants, (cof_token_kind) row.token_kind, &verify->arena, &rules, verify->err), NULL);
}

static void compare_token(struct verify *verify, const struct token_row *row)
{
    struct history_entry *entry = history_find(verify->history, &row->token_id, 0);
    if (entry == NULL || entry->effect == EFFECT(UNSPECIFIED)) {
        return;
    }
    entry->seen = true;
    const bool revoked = row->revoke_time != ROW_NO_TIME;
    const bool rotated = !cof_uuid_equal(&row->successor_id, &cof_uuid_zero);
    if (revoked != (entry->effect == EFFECT(DELETED)) ||
        (!revoked && rotated != (entry->effect == EFFECT(METADATA_CHANGED)))) {
        verify_fault(verify, VERIFY_token, "it is not as its last write left it: an older row was put back");
    }
}

static cof_code open_sealed(struct verify *verify, verify_table table, const struct blob_address *address,
                            struct cof_slice blob)
{
    struct keyring *keyring = verify->options->keyring;
    uint8_t *opened = cof_arena_alloc(&verify->arena, blob.len);
    if (opened == NULL) {
        return cof_arena_exhausted(verify->err);
    }
    if (blob.len < BLOB_OVERHEAD || !keyring_has(keyring, &address->workspace, blob_generation(blob))) {
        verify_fault(verify, table, "what is sealed in it is cut, or names a key that does not exist");
        return COF_OK;
    }
    return judge_opened(verify, table, keyring_open(keyring, address, blob, opened, verify->err));
}

static cof_code check_token(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    struct token_row row;
    struct rule_set rules;
    bool whole;
    TRY(row_read(&token_row_type, rows, i, 0, &verify->arena, &row, verify->err));
    place->first = row.token_id;
    about(verify, &row.token_id);
    TRY(verify_judge(verify, VERIFY_token,
                     guard_check_row(&verify->call, &token_row_type, &verify->workspace, &row), &whole));
    const struct blob_address address = {BLOB_NARROWING_KEY, verify->workspace, row.token_id, 0};
    TRY(open_sealed(verify, VERIFY_token, &address, row.narrowing_key));
    if (rows_null(rows, i, token_row_type.count)) {
        verify_fault(verify, VERIFY_token, "its account is not there");
        return COF_OK;
    }
    if (!whole) {
        return COF_OK;
    }
    compare_token(verify, &row);
    const int32_t kind = rows_i32(rows, i, token_row_type.count);
    return verify_judge(verify, VERIFY_token,
                        rights_unpack(row.restrictions, (cof_token_kind) kind, &verify->arena, &rules, verify->err),
                        NULL);
}

/* --- Requests and environments -------------------------------------------------------------------------------- */

enum { REQUEST_PRINCIPAL, REQUEST_ID, REQUEST_ANSWER, REQUEST_REVISION };

static cof_code check_request(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    place->first = rows_uuid(rows, i, REQUEST_PRINCIPAL);
    place->second = rows_uuid(rows, i, REQUEST_ID);
    about(verify, &place->second);
    if (rows_null(rows, i, REQUEST_ANSWER) || rows_null(rows, i, REQUEST_REVISION)) {
        verify_fault(verify, VERIFY_request, "it was committed without its answer");
        return COF_OK;
    }
    const struct blob_address address = {BLOB_ANSWER, verify->workspace, place->second, 0};
    return open_sealed(verify, VERIFY_request, &address, rows_bytes(rows, i, REQUEST_ANSWER));
}

static cof_code keep_name(struct verify *verify, struct cof_slice name, struct place *place)
{
    if (name.len >= sizeof place->name) {
        return cof_fail_internal(verify->err, COF_ORIGIN_OWN, NULL, "a name is too long");
    }
    memcpy(place->name, name.data, name.len);
    place->name[name.len] = '\0';
    return COF_OK;
}

static cof_code check_environment(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    return keep_name(verify, rows_bytes(rows, i, 1), place);
}

/* --- Actions -------------------------------------------------------------------------------------------------- */

/* Records of before say that it was written, and not when. */
static void compare_action(struct verify *verify, const struct action_row *row)
{
    struct history_entry *entry = history_find(verify->history, &row->action_id, 0);
    if (entry == NULL) {
        return;
    }
    entry->seen = true;
    const bool same = entry->metadata_version == 0 || entry->metadata_version == (uint64_t) row->update_time;
    if (entry->effect == EFFECT(DELETED) || !same) {
        verify_fault(verify, VERIFY_action, "it is not as its last write left it: an older row was put back");
    }
}

static cof_code check_action(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    struct action_row row;
    bool whole;
    TRY(row_read(&action_row_type, rows, i, 0, &verify->arena, &row, verify->err));
    TRY(keep_name(verify, row.name, place));
    about(verify, &row.action_id);
    TRY(verify_judge(verify, VERIFY_action,
                     guard_check_row(&verify->call, &action_row_type, &verify->workspace, &row), &whole));
    if (whole) {
        compare_action(verify, &row);
    }
    return COF_OK;
}

static cof_code check_provider(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    struct provider_row row;
    TRY(row_read(&provider_row_type, rows, i, 0, &verify->arena, &row, verify->err));
    TRY(keep_name(verify, row.provider, place));
    about(verify, &row.provider_id);
    return verify_judge(verify, VERIFY_provider,
                        guard_check_row(&verify->call, &provider_row_type, &verify->workspace, &row), NULL);
}

/* --- Connections ---------------------------------------------------------------------------------------------- */

static cof_code check_connection(struct verify *verify, const struct rows *rows, size_t i, struct place *place)
{
    struct connection_row row;
    TRY(row_read(&connection_row_type, rows, i, 0, &verify->arena, &row, verify->err));
    place->first = row.connection_id;
    about(verify, &row.connection_id);
    TRY(verify_judge(verify, VERIFY_connection,
                     guard_check_row(&verify->call, &connection_row_type, &verify->workspace, &row), NULL));
    const struct blob_address address = {BLOB_CONNECTION_CREDENTIALS, verify->workspace, row.connection_id,
                                         (uint64_t) row.credential_generation};
    return row.credentials.len == 0 ? COF_OK : open_sealed(verify, VERIFY_connection, &address, row.credentials);
}

enum { TOKEN_CONFIG = 16, TOKEN_FENCE };

static cof_code check_connection_token(struct verify *verify, const struct rows *rows, size_t i,
                                       struct place *place)
{
    struct connection_token_row row;
    TRY(row_read(&connection_token_row_type, rows, i, 0, &verify->arena, &row, verify->err));
    place->first = row.connection_id;
    about(verify, &row.connection_id);
    TRY(verify_judge(verify, VERIFY_connection_token,
                     guard_check_row(&verify->call, &connection_token_row_type, &verify->workspace, &row), NULL));
    if (rows_null(rows, i, TOKEN_CONFIG) || rows_null(rows, i, TOKEN_FENCE)) {
        verify_fault(verify, VERIFY_connection_token, "its connection, or the lease beside it, is not there");
    } else if (row.config_generation != rows_i64(rows, i, TOKEN_CONFIG)) {
        verify_fault(verify, VERIFY_connection_token,
                     "it is of another configuration than its connection: an older row was put back");
    }
    struct blob_address address = {BLOB_ACCESS_TOKEN, verify->workspace, row.connection_id,
                                   (uint64_t) row.generation};
    if (row.access_token.len > 0) {
        TRY(open_sealed(verify, VERIFY_connection_token, &address, row.access_token));
    }
    address.kind = BLOB_REFRESH_TOKEN;
    return row.refresh_token.len == 0 ? COF_OK
                                      : open_sealed(verify, VERIFY_connection_token, &address, row.refresh_token);
}

/* --- All of them ---------------------------------------------------------------------------------------------- */

static const struct table_walk walks[] = {
    {VERIFY_environment, STATEMENT_ENVIRONMENT_LIST, KEY_NAME, PAGE, check_environment},
    {VERIFY_secret, STATEMENT_VERIFY_SECRETS, KEY_UUID, PAGE_SEALED, check_secret},
    {VERIFY_secret_version, STATEMENT_VERIFY_VERSIONS, KEY_UUID_NUMBER, PAGE_SEALED, check_version},
    {VERIFY_principal, STATEMENT_VERIFY_PRINCIPALS, KEY_UUID, PAGE, check_account},
    {VERIFY_token, STATEMENT_VERIFY_TOKENS, KEY_UUID, PAGE, check_token},
    {VERIFY_request, STATEMENT_VERIFY_REQUESTS, KEY_UUID_UUID, PAGE_SEALED, check_request},
    {VERIFY_action, STATEMENT_ACTION_LIST, KEY_NAME_PREFIX, PAGE, check_action},
    {VERIFY_provider, STATEMENT_PROVIDER_LIST, KEY_NAME, PAGE, check_provider},
    {VERIFY_connection, STATEMENT_VERIFY_CONNECTIONS, KEY_UUID, PAGE_SEALED, check_connection},
    {VERIFY_connection_token, STATEMENT_VERIFY_CONNECTION_TOKENS, KEY_UUID, PAGE_SEALED, check_connection_token},
};

static cof_code read_page(struct verify *verify, const struct table_walk *walk, const struct place *place,
                          struct rows **ret_rows)
{
    const struct param limit = param_i64(walk->page);
    struct param params[4] = {param_uuid(&verify->workspace)};
    size_t count = 1;
    const bool named = walk->key == KEY_NAME || walk->key == KEY_NAME_PREFIX;
    params[count++] = named ? param_text(cof_slice_text(place->name)) : param_uuid(&place->first);
    if (walk->key == KEY_NAME_PREFIX) {
        params[count++] = param_text(cof_slice_text(""));
    } else if (walk->key == KEY_UUID_NUMBER) {
        params[count++] = param_i64(place->number);
    } else if (walk->key == KEY_UUID_UUID) {
        params[count++] = param_uuid(&place->second);
    }
    params[count++] = limit;
    return verify_ask(verify, walk->statement, params, count, ret_rows);
}

static cof_code walk_table(struct verify *verify, const struct table_walk *walk)
{
    struct place place = {.number = 0};
    size_t count = (size_t) walk->page;
    while (count == (size_t) walk->page) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        TRY(read_page(verify, walk, &place, &rows));
        count = rows_count(rows);
        for (size_t i = 0; i < count; i++) {
            TRY(walk->check(verify, rows, i, &place));
            verify->summary->rows[walk->table]++;
        }
        cof_arena_reset(&verify->arena);
        verify->options->progress(verify->summary, verify->options->context);
    }
    return COF_OK;
}

/* What the records say was written and not deleted, and no row was met of. */
static void tell_missing(struct verify *verify)
{
    static const struct {
        history_kind kind;
        verify_table table;
    } kept[] = {{HISTORY_SECRET, VERIFY_secret},
                {HISTORY_ACCOUNT, VERIFY_principal},
                {HISTORY_TOKEN, VERIFY_token},
                {HISTORY_ACTION, VERIFY_action}};
    size_t place = 0;
    const struct history_entry *entry;
    while ((entry = history_next(verify->history, &place)) != NULL) {
        const bool goes = entry->kind == HISTORY_SECRET || entry->kind == HISTORY_ACTION;
        const bool purged = goes && entry->effect == EFFECT(DELETED);
        for (size_t i = 0; i < COF_COUNT(kept); i++) {
            const bool said = entry->metadata_version != 0 || entry->effect != EFFECT(UNSPECIFIED);
            if (entry->kind == kept[i].kind && said && entry->destroyed == 0 && !entry->seen && !purged) {
                about(verify, &entry->id);
                verify_fault(verify, kept[i].table, "the row is missing, or is not what was written");
            }
        }
    }
}

cof_code verify_tables(struct verify *verify)
{
    for (size_t i = 0; i < COF_COUNT(walks); i++) {
        TRY(walk_table(verify, &walks[i]));
    }
    tell_missing(verify);
    return COF_OK;
}
