#include "server/service/rights.h"

#include <assert.h>
#include <stdio.h>

#include "common/name.h"
#include "common/wire.h"

/* What a check of containment may cost: rules that need more are treated as not contained. */
enum { WITHIN_BUDGET = 4 * 1000 * 1000, NEAR = 2, PROBLEM_TEXT = 120 };

static const struct cof_slice anything = {(const uint8_t *) "*", 1};

/* --- Reading ------------------------------------------------------------------------------------------------- */

struct reader {
    struct cof_arena *arena;
    struct cof_error *err;
    const char *path;
    size_t rule;
    cof_token_kind kind;
    size_t bytes;
};

static cof_code field_failure(struct reader *reader, const char *list, size_t index, const char *problem)
{
    char field[COF_ERROR_FIELD_SIZE];
    (void) snprintf(field, sizeof field, "%s[%zu].%s[%zu]", reader->path, reader->rule, list, index);
    return cof_fail_field(reader->err, COF_REASON_FIELD_INVALID, field, "%s %s", field, problem);
}

static cof_code check_count(struct reader *reader, const char *list, size_t count)
{
    char field[COF_ERROR_FIELD_SIZE];
    if (count <= RIGHTS_PATTERNS_MAX) {
        return COF_OK;
    }
    (void) snprintf(field, sizeof field, "%s[%zu].%s", reader->path, reader->rule, list);
    return cof_fail_field(reader->err, COF_REASON_LIMIT_EXCEEDED, field,
                          "%s has %zu entries; at most %d are allowed", field, count, RIGHTS_PATTERNS_MAX);
}

/* The table is closed, so there is one that was meant, perhaps. */
static cof_code unknown_permission(struct reader *reader, size_t index, const char *name)
{
    char problem[PROBLEM_TEXT];
    const char *near = NULL;
    unsigned best = NEAR + 1;
    for (int i = 0; i < COF_PERMISSION_COUNT && strlen(name) <= COF_KEY_NAME_MAX; i++) {
        const char *other = cof_permission_name((cof_permission) i);
        const unsigned far = cof_name_distance(cof_slice_text(name), cof_slice_text(other), NEAR);
        near = far < best ? other : near;
        best = far < best ? far : best;
    }
    (void) snprintf(problem, sizeof problem, "is no permission; %s%s%sdocs/permissions.md lists them all",
                    near == NULL ? "" : "did you mean ", near == NULL ? "" : near, near == NULL ? "" : "? ");
    return field_failure(reader, "permissions", index, problem);
}

static cof_code read_permissions(struct reader *reader, char **names, size_t count, cof_permission_set *ret_set)
{
    const cof_permission_set usable = cof_permission_usable(reader->kind);
    cof_permission_set set = 0;
    if (count == 0) {
        return field_failure(reader, "permissions", 0, "is missing: a rule without a permission permits nothing");
    }
    TRY(check_count(reader, "permissions", count));
    for (size_t i = 0; i < count; i++) {
        const int permission = cof_permission_parse(cof_slice_text(names[i]));
        if (permission < 0) {
            return unknown_permission(reader, i, names[i]);
        }
        if ((usable & COF_PERMISSION_BIT(permission)) == 0) {
            return field_failure(reader, "permissions", i,
                                 "is a permission that accounts of this kind cannot have");
        }
        set |= COF_PERMISSION_BIT(permission);
    }
    *ret_set = set;
    return COF_OK;
}

static cof_code read_patterns(struct reader *reader, const char *list, cof_name_kind kind, char **texts,
                              size_t count, struct cof_slice **ret_patterns)
{
    TRY(check_count(reader, list, count));
    struct cof_slice *patterns = cof_arena_array(reader->arena, count, sizeof *patterns);
    if (patterns == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    for (size_t i = 0; i < count; i++) {
        patterns[i] = cof_slice_text(texts[i]);
        reader->bytes += patterns[i].len;
        if (!cof_pattern_valid(kind, patterns[i])) {
            return field_failure(reader, list, i, "is neither a name nor the beginning of a name followed by *");
        }
    }
    *ret_patterns = patterns;
    return COF_OK;
}

static cof_code read_workspaces(struct reader *reader, char **texts, size_t count,
                                const struct cof_uuid **ret_workspaces)
{
    TRY(check_count(reader, "workspaces", count));
    struct cof_uuid *workspaces = cof_arena_array(reader->arena, count, sizeof *workspaces);
    if (workspaces == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    if (count > 0 && reader->kind != COF_TOKEN_FLEET) {
        return field_failure(reader, "workspaces", 0, "is only allowed for fleet accounts");
    }
    for (size_t i = 0; i < count; i++) {
        if (!cof_uuid_parse(cof_slice_text(texts[i]), &workspaces[i])) {
            return field_failure(reader, "workspaces", i, "is no UUID in lower case");
        }
        reader->bytes += sizeof workspaces[i];
    }
    *ret_workspaces = workspaces;
    return COF_OK;
}

static cof_code read_rule(struct reader *reader, const Coffer__V1__Rule *from, struct rule *rule)
{
    TRY(read_permissions(reader, from->permissions, from->n_permissions, &rule->permissions));
    TRY(read_patterns(reader, "environments", COF_NAME_ENVIRONMENT, from->environments, from->n_environments,
                      &rule->environments));
    TRY(read_patterns(reader, "names", COF_NAME_SECRET, from->names, from->n_names, &rule->names));
    TRY(read_workspaces(reader, from->workspaces, from->n_workspaces, &rule->workspaces));
    rule->environment_count = from->n_environments;
    rule->name_count = from->n_names;
    rule->workspace_count = from->n_workspaces;
    return COF_OK;
}

cof_code rights_read(Coffer__V1__Rule *const *rules, size_t count, cof_token_kind kind, const char *path,
                     struct cof_arena *arena, struct rule_set *ret_set, struct cof_error *err)
{
    struct reader reader = {.arena = arena, .err = err, .path = path, .kind = kind};
    if (count > RIGHTS_RULES_MAX) {
        return cof_fail_field(err, COF_REASON_LIMIT_EXCEEDED, path, "%s has %zu rules; at most %d are allowed",
                              path, count, RIGHTS_RULES_MAX);
    }
    struct rule *list = cof_arena_array(arena, count, sizeof *list);
    if (list == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < count; i++) {
        reader.rule = i;
        TRY(read_rule(&reader, rules[i], &list[i]));
    }
    if (reader.bytes > RIGHTS_BYTES_MAX) {
        return cof_fail_field(err, COF_REASON_LIMIT_EXCEEDED, path,
                              "the patterns in %s have %zu bytes; at most %d are "
                              "allowed",
                              path, reader.bytes, RIGHTS_BYTES_MAX);
    }
    *ret_set = (struct rule_set){list, count};
    return COF_OK;
}

/* --- The stored form: a ServiceAccount message that holds nothing but its grants -------------------------------
 */

cof_code rights_pack(Coffer__V1__Rule *const *rules, size_t count, struct cof_arena *arena,
                     struct cof_slice *ret_bytes, struct cof_error *err)
{
    Coffer__V1__ServiceAccount message;
    Coffer__V1__Rule **list = cof_arena_array(arena, count, sizeof *list);
    if (list == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = rules[i];
    }
    coffer__v1__service_account__init(&message);
    message.grants = list;
    message.n_grants = count;
    return cof_wire_pack(&message.base, arena, ret_bytes, err);
}

/* What a damaged row holds is no fault of the caller's; that memory ran out is no fault of the row's. */
static cof_code unreadable(struct cof_error *err)
{
    if (err->reason == COF_REASON_OUT_OF_MEMORY) {
        return err->code;
    }
    return cof_fail(err, COF_REASON_CORRUPTED, "stored grants cannot be read; %s",
                    cof_reason_next_step(COF_REASON_CORRUPTED));
}

cof_code rights_messages(struct cof_slice bytes, struct cof_arena *arena, Coffer__V1__Rule ***ret_rules,
                         size_t *ret_count, struct cof_error *err)
{
    ProtobufCMessage *message = NULL;
    if (cof_wire_unpack(&coffer__v1__service_account__descriptor, bytes, arena, &message, err) != COF_OK) {
        return unreadable(err);
    }
    Coffer__V1__ServiceAccount *account = (Coffer__V1__ServiceAccount *) message;
    *ret_rules = account->grants;
    *ret_count = account->n_grants;
    return COF_OK;
}

cof_code rights_unpack(struct cof_slice bytes, cof_token_kind kind, struct cof_arena *arena,
                       struct rule_set *ret_set, struct cof_error *err)
{
    Coffer__V1__Rule **rules = NULL;
    size_t count = 0;
    TRY(rights_messages(bytes, arena, &rules, &count, err));
    if (rights_read(rules, count, kind, "grants", arena, ret_set, err) != COF_OK) {
        return unreadable(err);
    }
    return COF_OK;
}

static void flatten_patterns(struct cof_slice **patterns, size_t count, struct cof_flat *flat)
{
    struct cof_slice *items = cof_flat_items(flat, *patterns, count * sizeof *items);
    *patterns = items;
    for (size_t i = 0; i < count; i++) {
        cof_flat_slice(flat, &items[i]);
    }
}

void rights_flatten(struct rule_set *set, struct cof_flat *flat)
{
    struct rule *rules = cof_flat_items(flat, set->rules, set->count * sizeof *rules);
    set->rules = rules;
    for (size_t i = 0; i < set->count; i++) {
        struct rule *rule = &rules[i];
        flatten_patterns(&rule->environments, rule->environment_count, flat);
        flatten_patterns(&rule->names, rule->name_count, flat);
        /* Only read through the pointer, here and later. */
        struct cof_uuid *workspaces = (struct cof_uuid *) (uintptr_t) rule->workspaces;
        rule->workspaces = cof_flat_items(flat, workspaces, rule->workspace_count * sizeof *workspaces);
    }
}

void rights_confine(const struct rule_set *set, const struct cof_uuid *workspace)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->rules[i].workspace_count == 0) {
            set->rules[i].workspaces = workspace;
            set->rules[i].workspace_count = 1;
        }
    }
}

/* --- Deciding ------------------------------------------------------------------------------------------------- */

static bool matches_one(const struct cof_slice *patterns, size_t count, struct cof_slice name)
{
    if (count == 0 || name.len == 0) {
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (cof_pattern_matches(patterns[i], name)) {
            return true;
        }
    }
    return false;
}

static bool has_workspace(const struct rule *rule, const struct cof_uuid *workspace)
{
    if (rule->workspace_count == 0 || workspace == NULL) {
        return true;
    }
    for (size_t i = 0; i < rule->workspace_count; i++) {
        if (cof_uuid_equal(&rule->workspaces[i], workspace)) {
            return true;
        }
    }
    return false;
}

static bool rule_permits_somewhere(const struct rule *rule, cof_permission permission,
                                   const struct cof_uuid *workspace)
{
    return (rule->permissions & COF_PERMISSION_BIT(permission)) != 0 && has_workspace(rule, workspace);
}

static bool rule_permits(const struct rule *rule, const struct right *right)
{
    return rule_permits_somewhere(rule, right->permission, &right->workspace) &&
           matches_one(rule->environments, rule->environment_count, right->environment) &&
           matches_one(rule->names, rule->name_count, right->name);
}

bool rights_permit_somewhere(const struct rule_set *set, cof_permission permission,
                             const struct cof_uuid *workspace)
{
    for (size_t i = 0; i < set->count; i++) {
        if (rule_permits_somewhere(&set->rules[i], permission, workspace)) {
            return true;
        }
    }
    return false;
}

bool rights_permit(const struct rule_set *set, const struct right *right)
{
    for (size_t i = 0; i < set->count; i++) {
        if (rule_permits(&set->rules[i], right)) {
            return true;
        }
    }
    return false;
}

bool rights_all_permit_somewhere(const struct rule_set *set, cof_permission permission,
                                 const struct cof_uuid *workspace)
{
    for (size_t i = 0; i < set->count; i++) {
        if (!rule_permits_somewhere(&set->rules[i], permission, workspace)) {
            return false;
        }
    }
    return true;
}

bool rights_all_permit(const struct rule_set *set, const struct right *right)
{
    for (size_t i = 0; i < set->count; i++) {
        if (!rule_permits(&set->rules[i], right)) {
            return false;
        }
    }
    return true;
}

/* --- Containment ---------------------------------------------------------------------------------------------- */

/* Patterns are exact names or prefixes, so two of them are disjoint or one covers the other: what two rules permit
 * together is, for each pair of patterns, the narrower one or nothing. A piece is one such combination. */
struct piece {
    cof_permission_set permissions;
    struct cof_slice environment;
    struct cof_slice name;
    const struct cof_uuid *workspace; /* NULL: all */
};

struct within {
    const struct rule_set *grants;
    const struct rule_set *restrictions;
    long budget;
};

static bool covers_one(const struct cof_slice *patterns, size_t count, struct cof_slice inner)
{
    for (size_t i = 0; i < count; i++) {
        if (cof_pattern_covers(patterns[i], inner)) {
            return true;
        }
    }
    return count == 0;
}

static bool rule_covers(const struct rule *rule, const struct piece *piece, cof_permission_set permission)
{
    if ((rule->permissions & permission) == 0) {
        return false;
    }
    if (rule->workspace_count > 0 && (piece->workspace == NULL || !has_workspace(rule, piece->workspace))) {
        return false;
    }
    return covers_one(rule->environments, rule->environment_count, piece->environment) &&
           covers_one(rule->names, rule->name_count, piece->name);
}

static bool set_covers(struct within *outer, const struct rule_set *set, const struct piece *piece,
                       cof_permission_set permission)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct rule *rule = &set->rules[i];
        outer->budget -= (long) (1 + rule->environment_count + rule->name_count + rule->workspace_count);
        if (rule_covers(rule, piece, permission)) {
            return true;
        }
    }
    return false;
}

static bool piece_within(struct within *outer, const struct piece *piece)
{
    for (int bit = 0; bit < COF_PERMISSION_COUNT; bit++) {
        const cof_permission_set permission = COF_PERMISSION_BIT(bit);
        if ((piece->permissions & permission) == 0) {
            continue;
        }
        if (!set_covers(outer, outer->grants, piece, permission) ||
            (outer->restrictions->count > 0 && !set_covers(outer, outer->restrictions, piece, permission))) {
            return false;
        }
    }
    return outer->budget > 0;
}

/* The narrower of two patterns; false if no name matches both. */
static bool narrower(struct cof_slice a, struct cof_slice b, struct cof_slice *ret_pattern)
{
    if (cof_pattern_covers(a, b)) {
        *ret_pattern = b;
        return true;
    }
    *ret_pattern = a;
    return cof_pattern_covers(b, a);
}

struct pattern_list {
    const struct cof_slice *items;
    size_t count;
};

static struct pattern_list list_of(const struct cof_slice *items, size_t count)
{
    return count == 0 ? (struct pattern_list){&anything, 1} : (struct pattern_list){items, count};
}

static bool names_within(struct within *outer, struct piece *piece, struct pattern_list a, struct pattern_list b)
{
    for (size_t i = 0; i < a.count; i++) {
        for (size_t k = 0; k < b.count; k++) {
            if (narrower(a.items[i], b.items[k], &piece->name) && !piece_within(outer, piece)) {
                return false;
            }
        }
    }
    return true;
}

static bool patterns_within(struct within *outer, struct piece *piece, const struct rule *grant,
                            const struct rule *restriction)
{
    const struct pattern_list grants = list_of(grant->environments, grant->environment_count);
    const struct pattern_list limits = list_of(restriction->environments, restriction->environment_count);
    for (size_t i = 0; i < grants.count; i++) {
        for (size_t k = 0; k < limits.count; k++) {
            if (narrower(grants.items[i], limits.items[k], &piece->environment) &&
                !names_within(outer, piece, list_of(grant->names, grant->name_count),
                              list_of(restriction->names, restriction->name_count))) {
                return false;
            }
        }
    }
    return true;
}

static bool workspaces_within(struct within *outer, struct piece *piece, const struct rule *grant,
                              const struct rule *restriction)
{
    const struct rule *lists = grant->workspace_count > 0 ? grant : restriction;
    const struct rule *other = lists == grant ? restriction : grant;
    piece->workspace = NULL;
    if (lists->workspace_count == 0) {
        return patterns_within(outer, piece, grant, restriction);
    }
    for (size_t i = 0; i < lists->workspace_count; i++) {
        piece->workspace = &lists->workspaces[i];
        if (has_workspace(other, piece->workspace) && !patterns_within(outer, piece, grant, restriction)) {
            return false;
        }
    }
    return true;
}

static bool pair_within(struct within *outer, const struct rule *grant, const struct rule *restriction)
{
    struct piece piece = {.permissions = grant->permissions & restriction->permissions};
    return piece.permissions == 0 || workspaces_within(outer, &piece, grant, restriction);
}

bool rights_within(const struct rule_set *grants, const struct rule_set *restrictions,
                   const struct rule_set *outer_grants, const struct rule_set *outer_restrictions)
{
    static const struct rule all = {.permissions = ~(cof_permission_set) 0};
    const struct rule *limits = restrictions->count == 0 ? &all : restrictions->rules;
    const size_t limit_count = restrictions->count == 0 ? 1 : restrictions->count;
    struct within outer = {outer_grants, outer_restrictions, WITHIN_BUDGET};
    for (size_t i = 0; i < grants->count; i++) {
        for (size_t k = 0; k < limit_count; k++) {
            if (!pair_within(&outer, &grants->rules[i], &limits[k])) {
                return false;
            }
        }
    }
    return true;
}
