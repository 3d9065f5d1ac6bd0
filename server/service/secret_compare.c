/* What two environments have in common, name by name, and two versions of a secret, key by key. */
#include <stdio.h>

#include "common/name.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/secret_version.h"
#include "server/service/secrets.h"
#include "server/service/text.h"

#define SAME COFFER__V1__DIFFERENCE__DIFFERENCE_SAME
#define CHANGED COFFER__V1__DIFFERENCE__DIFFERENCE_CHANGED
#define ONLY_HERE COFFER__V1__DIFFERENCE__DIFFERENCE_ONLY_HERE
#define ONLY_THERE COFFER__V1__DIFFERENCE__DIFFERENCE_ONLY_THERE
#define PRESENT COFFER__V1__DIFFERENCE__DIFFERENCE_PRESENT
#define CORRUPTED COFFER__V1__DIFFERENCE__DIFFERENCE_CORRUPTED

struct comparison {
    const Coffer__V1__CompareEnvironmentsRequest *request;
    Coffer__V1__CompareEnvironmentsResponse *response;
    const struct address *here;
    const struct address *there;
    struct cof_slice after; /* the last name of the page before */
    uint32_t size;
};

/* One side of a name. */
struct side {
    bool there; /* and the caller may see it */
    bool whole;
    struct secret_row row;
    struct sealed_version sealed;
    Coffer__V1__SecretKey **keys; /* sorted */
    size_t key_count;
    struct values values; /* only where both sides may be revealed */
};

/* --- Two secrets ---------------------------------------------------------------------------------------------- */

static cof_code read_side(struct call *call, const struct rows *rows, size_t index, struct side *side)
{
    TRY(row_read(&secret_row_type, rows, index, 0, call->arena, &side->row, call->err));
    side->there = authorize_sees(call, &side->row.workspace_id, side->row.environment, side->row.name,
                                 COF_PERMISSION_SECRET_READ);
    if (!side->there) {
        return COF_OK;
    }
    side->sealed = secret_sealed_of(rows, index);
    cof_code code = guard_check_row(call, &secret_row_type, &side->row.workspace_id, &side->row);
    if (code == COF_OK) {
        code = values_keys(call, side->sealed.keys, &side->keys, &side->key_count);
    }
    side->whole = code == COF_OK && side->sealed.blob.len > 0;
    return code == COF_DATA_LOSS ? COF_OK : code;
}

static bool may_reveal(const struct call *call, const struct side *side)
{
    return authorize_sees(call, &side->row.workspace_id, side->row.environment, side->row.name,
                          COF_PERMISSION_SECRET_REVEAL);
}

static cof_code open_side(struct call *call, struct side *side)
{
    const cof_code code = values_open(call, &side->row, &side->sealed, &side->values);
    side->whole = code == COF_OK;
    return code == COF_DATA_LOSS ? COF_OK : code;
}

static Coffer__V1__Difference compare_values(const struct side *here, const struct side *there, const char *key)
{
    const struct value *mine = values_find(&here->values, cof_slice_text(key));
    const struct value *other = values_find(&there->values, cof_slice_text(key));
    return cof_slice_equal(mine->bytes, other->bytes) ? SAME : CHANGED;
}

static cof_code add_key(struct call *call, Coffer__V1__SecretDifference *message, char *key,
                        Coffer__V1__Difference difference)
{
    Coffer__V1__KeyDifference *one = cof_arena_alloc(call->arena, sizeof *one);
    if (one == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__key_difference__init(one);
    one->key = key;
    one->difference = difference;
    message->keys[message->n_keys++] = one;
    return COF_OK;
}

/* Both lists of keys are sorted by bytes. */
static cof_code merge_keys(struct call *call, const struct side *here, const struct side *there, bool reveal,
                           Coffer__V1__SecretDifference *message)
{
    size_t i = 0;
    size_t k = 0;
    while (i < here->key_count || k < there->key_count) {
        const int order = i == here->key_count    ? 1
                          : k == there->key_count ? -1
                                                  : strcmp(here->keys[i]->name, there->keys[k]->name);
        char *key = order <= 0 ? here->keys[i]->name : there->keys[k]->name;
        Coffer__V1__Difference difference = order < 0 ? ONLY_HERE : ONLY_THERE;
        if (order == 0) {
            difference = reveal ? compare_values(here, there, key) : PRESENT;
        }
        TRY(add_key(call, message, key, difference));
        i += order <= 0;
        k += order >= 0;
    }
    return COF_OK;
}

/* A secret is the same if all of its keys are; where values are not compared, a key that is missing still tells. */
static Coffer__V1__Difference sum_up(const Coffer__V1__SecretDifference *message, bool reveal)
{
    for (size_t i = 0; i < message->n_keys; i++) {
        const Coffer__V1__Difference difference = message->keys[i]->difference;
        if (difference != SAME && difference != PRESENT) {
            return CHANGED;
        }
    }
    return reveal ? SAME : PRESENT;
}

static cof_code compare_both(struct call *call, struct side *here, struct side *there,
                             Coffer__V1__SecretDifference *message)
{
    const bool reveal = may_reveal(call, here) && may_reveal(call, there);
    if (reveal && here->whole && there->whole) {
        TRY(open_side(call, here));
        TRY(open_side(call, there));
    }
    if (!here->whole || !there->whole) {
        message->difference = CORRUPTED;
        return COF_OK;
    }
    message->keys = cof_arena_array(call->arena, here->key_count + there->key_count, sizeof *message->keys);
    if (message->keys == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(merge_keys(call, here, there, reveal, message));
    message->difference = sum_up(message, reveal);
    return COF_OK;
}

static cof_code add_difference(struct call *call, struct comparison *comparison, struct side *here,
                               struct side *there)
{
    Coffer__V1__CompareEnvironmentsResponse *response = comparison->response;
    if (!here->there && !there->there) {
        return COF_OK; /* nothing that the caller may see */
    }
    Coffer__V1__SecretDifference *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__secret_difference__init(message);
    message->name = text_of(call->arena, here->there ? here->row.name : there->row.name);
    if (message->name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (here->there && there->there) {
        TRY(compare_both(call, here, there, message));
    } else {
        message->difference = here->there ? ONLY_HERE : ONLY_THERE;
    }
    response->differences[response->n_differences++] = message;
    return COF_OK;
}

/* --- Pages ---------------------------------------------------------------------------------------------------- */

static cof_code read_rows(struct call *call, const struct comparison *comparison, struct rows **ret_rows)
{
    const struct param params[] = {
        param_uuid(address_workspace(comparison->here)),
        param_text(address_environment(comparison->here)),
        param_text(address_environment(comparison->there)),
        param_text(comparison->after),
        param_text(cof_slice_text(comparison->request->name_prefix)),
        param_i64(2 * ((int64_t) comparison->size + 1)),
    };
    TRY(session_queue(call->session, STATEMENT_SECRET_COMPARE, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, ret_rows, call->err);
}

/* Takes the row, and the next one if it has the same name; returns how many it took. */
static cof_code take_name(struct call *call, struct comparison *comparison, const struct rows *rows, size_t index,
                          size_t *ret_taken)
{
    struct side sides[2] = {0};
    const struct cof_slice here = address_environment(comparison->here);
    size_t taken = 0;
    for (size_t i = index; i < rows_count(rows) && taken < COF_COUNT(sides); i++) {
        struct side side = {0};
        TRY(read_side(call, rows, i, &side));
        if (taken > 0 && !cof_slice_equal(side.row.name, comparison->after)) {
            break;
        }
        TRY(text_keep(call->arena, side.row.name, &comparison->after, call->err));
        sides[cof_slice_equal(side.row.environment, here) ? 0 : 1] = side;
        taken++;
    }
    *ret_taken = taken;
    return add_difference(call, comparison, &sides[0], &sides[1]);
}

/* Reads on until the page is full, because names that the caller may not see do not count. A name whose second row may
 * lie behind the end of what was read is read again. */
static cof_code fill(struct call *call, struct comparison *comparison)
{
    const Coffer__V1__CompareEnvironmentsResponse *response = comparison->response;
    const size_t limit = 2 * ((size_t) comparison->size + 1);
    bool more = true;
    while (more && response->n_differences < comparison->size) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        TRY(call_check_deadline(call));
        TRY(read_rows(call, comparison, &rows));
        more = rows_count(rows) == limit;
        const size_t end = more ? rows_count(rows) - 1 : rows_count(rows);
        size_t index = 0;
        while (index < end && response->n_differences < comparison->size) {
            size_t taken;
            TRY(take_name(call, comparison, rows, index, &taken));
            index += taken;
        }
        more = more || index < rows_count(rows);
    }
    if (!more) {
        return COF_OK;
    }
    const struct page_position position = {.parts = {comparison->after}};
    return page_make(call, PAGE_COMPARISON, &position, &comparison->response->next_page_token);
}

cof_code secret_compare(struct call *call, const Coffer__V1__CompareEnvironmentsRequest *request,
                        Coffer__V1__CompareEnvironmentsResponse *response)
{
    struct comparison comparison = {
        .request = request, .response = response, .size = page_size(call, request->page_size)};
    struct page_position position;
    TRY(authorize_environment(call, request->workspace, request->environment, COF_PERMISSION_SECRET_READ,
                              &comparison.here));
    TRY(authorize_environment(call, request->workspace, request->other_environment, COF_PERMISSION_SECRET_READ,
                              &comparison.there));
    if (cof_slice_equal(address_environment(comparison.here), address_environment(comparison.there))) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "other_environment",
                              "both environments are the same; name two");
    }
    TRY(page_read(call, PAGE_COMPARISON, request->page_token, &position));
    comparison.after = position.parts[0];
    TRY(guard_load_keys(call, address_workspace(comparison.here)));
    response->differences = cof_arena_array(call->arena, comparison.size, sizeof *response->differences);
    if (response->differences == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return fill(call, &comparison);
}

/* --- Versions of one secret ----------------------------------------------------------------------------------- */

/* The keys of a version, and its values if they are to be compared. What does not hold is an error: there is no other secret
 * that it would hide. */
static cof_code open_version(struct call *call, const struct secret_row *row, const struct sealed_version *sealed,
                             bool reveal, struct side *side)
{
    TRY(values_keys(call, sealed->keys, &side->keys, &side->key_count));
    return reveal ? values_open(call, row, sealed, &side->values) : COF_OK;
}

static cof_code read_former(struct call *call, const struct address *address, struct secret_row row, bool reveal,
                            struct side *side)
{
    AUTO(rows_cleanup) struct rows *former = NULL;
    const uint64_t version = (uint64_t) row.version;
    TRY(secret_version_queue(call, address, version));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &former, call->err));
    TRY(secret_version_present(call, version, former));
    const struct sealed_version sealed = {rows_bytes(former, 0, VERSION_KEYS), rows_bytes(former, 0, VERSION_BLOB)};
    return open_version(call, &row, &sealed, reveal, side);
}

/* `number` is 0 for the current version, and the number that it stands for afterwards. */
static cof_code read_version(struct call *call, const struct address *address, const struct side *secret,
                             uint64_t *number, struct side *side)
{
    const bool reveal = may_reveal(call, secret);
    struct secret_row row = secret->row;
    if (*number == 0 || *number == (uint64_t) row.version) {
        *number = (uint64_t) row.version;
        return open_version(call, &row, &secret->sealed, reveal, side);
    }
    TRY(secret_version_check(call, *number));
    row.version = (int64_t) *number;
    return read_former(call, address, row, reveal, side);
}

cof_code secret_compare_versions(struct call *call, const Coffer__V1__CompareVersionsRequest *request,
                                 Coffer__V1__CompareVersionsResponse *response)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct address *address;
    struct side secret = {0};
    struct side here = {0};
    struct side there = {0};
    Coffer__V1__SecretDifference message;
    coffer__v1__secret_difference__init(&message);
    TRY(authorize_secret(call, request->workspace, request->environment, request->name, COF_PERMISSION_SECRET_READ,
                         &address));
    response->version = request->version;
    response->other_version = request->other_version;
    TRY(secret_read_whole(call, address, &secret.row, &rows));
    TRY(row_keep(&secret_row_type, call->arena, &secret.row, call->err));
    secret.sealed = secret_sealed_of(rows, 0);
    TRY(read_version(call, address, &secret, &response->version, &here));
    TRY(read_version(call, address, &secret, &response->other_version, &there));
    message.keys = cof_arena_array(call->arena, here.key_count + there.key_count, sizeof *message.keys);
    if (message.keys == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const bool reveal = may_reveal(call, &secret);
    TRY(merge_keys(call, &here, &there, reveal, &message));
    response->difference = sum_up(&message, reveal);
    response->keys = message.keys;
    response->n_keys = message.n_keys;
    return secret_message(call, &secret.row, secret.sealed.keys, &response->secret);
}
