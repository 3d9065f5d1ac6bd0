#include "server/service/narrowed.h"

#include "common/secret.h"
#include "server/service/guard.h"

_Static_assert((int) CRYPTO_KEY == (int) COF_NARROWED_KEY && (int) CRYPTO_DIGEST == (int) COF_NARROWED_TAG,
               "HMACs of another size");

/* --- The tag -------------------------------------------------------------------------------------------------- */

/* The row's MAC comes first: a key that somebody moved here from another row must open nothing. */
static cof_code open_key(struct call *call, const struct token_row *row, uint8_t key[CRYPTO_KEY])
{
    const struct blob_address address = {BLOB_NARROWING_KEY, row->workspace_id, row->token_id, 0};
    TRY(guard_load_keys(call, &row->workspace_id));
    TRY(guard_check_row(call, &token_row_type, &row->workspace_id, row));
    if (row->narrowing_key.len != CRYPTO_KEY + BLOB_OVERHEAD) {
        return cof_fail_internal(call->err, COF_ORIGIN_OWN, "", "a narrowing key of another size");
    }
    return guard_open(call, &address, row->narrowing_key, key);
}

cof_code narrowed_check(struct call *call, const struct cof_narrowed *narrowed, const struct token_row *row,
                        bool *ret_fits)
{
    uint8_t key[CRYPTO_KEY] = {0};
    uint8_t tag[CRYPTO_DIGEST];
    cof_code code = row == NULL ? COF_OK : open_key(call, row, key);
    if (code == COF_OK) {
        code = cof_narrowed_compute(narrowed, key, crypto_hmac, tag, call->err);
    }
    if (code == COF_OK) {
        *ret_fits = cof_secret_equal(cof_slice_of(tag, sizeof tag), cof_narrowed_tag(narrowed)) && row != NULL;
    }
    cof_wipe(key, sizeof key);
    cof_wipe(tag, sizeof tag);
    return code;
}

/* --- The caveats ---------------------------------------------------------------------------------------------- */

cof_code narrowed_check_expiry(struct call *call, const struct cof_narrowed *narrowed)
{
    const uint64_t now_ms = (uint64_t) (call_now(call) / 1000);
    struct cof_caveat caveat;
    size_t at = 0;
    while (cof_narrowed_next(narrowed, &at, &caveat)) {
        if (caveat.kind == COF_CAVEAT_EXPIRY && caveat.expire_ms <= now_ms) {
            return cof_fail(call->err, COF_REASON_TOKEN_EXPIRED, "the narrowed token has expired; %s",
                            cof_reason_next_step(COF_REASON_TOKEN_EXPIRED));
        }
    }
    return COF_OK;
}

static cof_code read_patterns(struct call *call, const struct cof_caveat *caveat, struct cof_slice **ret_patterns,
                              size_t *ret_count)
{
    struct cof_slice pattern;
    size_t count = 0;
    for (size_t at = 0; cof_caveat_next_pattern(caveat, &at, &pattern);) {
        count++;
    }
    struct cof_slice *patterns = cof_arena_array(call->arena, count, sizeof *patterns);
    if (patterns == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t at = 0, i = 0; cof_caveat_next_pattern(caveat, &at, &pattern); i++) {
        patterns[i] = pattern;
    }
    *ret_patterns = patterns;
    *ret_count = count;
    return COF_OK;
}

static cof_code read_workspace(struct call *call, const struct cof_caveat *caveat, struct rule *rule)
{
    struct cof_uuid *workspace = cof_arena_alloc(call->arena, sizeof *workspace);
    if (workspace == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *workspace = caveat->workspace;
    rule->workspaces = workspace;
    rule->workspace_count = 1;
    return COF_OK;
}

/* What a caveat says of places; one of a run or a time says nothing of them. */
static cof_code read_rule(struct call *call, const struct cof_caveat *caveat, struct rule *rule)
{
    switch (caveat->kind) {
    case COF_CAVEAT_WORKSPACE:
        return read_workspace(call, caveat, rule);
    case COF_CAVEAT_ENVIRONMENTS:
        return read_patterns(call, caveat, &rule->environments, &rule->environment_count);
    case COF_CAVEAT_NAMES:
        return read_patterns(call, caveat, &rule->names, &rule->name_count);
    case COF_CAVEAT_WORKFLOW:
    case COF_CAVEAT_RUN:
    case COF_CAVEAT_EXPIRY:
        break;
    }
    return COF_OK;
}

cof_code narrowed_rules(struct call *call, const struct cof_narrowed *narrowed, struct rule_set *ret_set)
{
    struct cof_caveat caveat;
    size_t at = 0;
    size_t count = 0;
    struct rule *rules = cof_arena_array(call->arena, 1 + COF_CAVEATS_MAX, sizeof *rules);
    if (rules == NULL) {
        return cof_arena_exhausted(call->err);
    }
    rules[count++] = (struct rule){.permissions = COF_PERMISSION_BIT(COF_PERMISSION_RESOLVE)};
    while (cof_narrowed_next(narrowed, &at, &caveat)) {
        rules[count] = (struct rule){.permissions = COF_PERMISSION_BIT(COF_PERMISSION_RESOLVE)};
        TRY(read_rule(call, &caveat, &rules[count++]));
    }
    *ret_set = (struct rule_set){rules, count};
    return COF_OK;
}

bool narrowed_permits_run(const struct cof_narrowed *narrowed, struct cof_slice workflow_id,
                          struct cof_slice run_id)
{
    struct cof_caveat caveat;
    size_t at = 0;
    while (cof_narrowed_next(narrowed, &at, &caveat)) {
        if ((caveat.kind == COF_CAVEAT_WORKFLOW && !cof_slice_equal(caveat.value, workflow_id)) ||
            (caveat.kind == COF_CAVEAT_RUN && !cof_slice_equal(caveat.value, run_id))) {
            return false;
        }
    }
    return true;
}
