#pragma once

#include <coffer/v1/identity.pb-c.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/flat.h"
#include "common/permission.h"
#include "common/slice.h"
#include "common/token.h"
#include "common/uuid.h"

/*
 * What an account may do: pure functions over rules, with an independent model in the tests.
 *
 * A caller may do something if one rule of its account permits it and, where its token has restrictions, one of
 * those permits it too. Rules are joined by "or", nothing denies. Of a narrowed token's caveats each is a rule that must
 * permit it as well.
 */

enum {
    RIGHTS_RULES_MAX = 64,
    RIGHTS_PATTERNS_MAX = 256, /* in one list of one rule */
    RIGHTS_BYTES_MAX = 64 * 1024,
};

struct rule {
    cof_permission_set permissions;
    struct cof_slice *environments; /* none: all */
    size_t environment_count;
    struct cof_slice *names; /* none: all */
    size_t name_count;
    const struct cof_uuid *workspaces; /* none: all; fleet accounts only */
    size_t workspace_count;
};

struct rule_set {
    struct rule *rules;
    size_t count;
};

/* What a rule is asked about. An empty environment or name means that the question is not about one. */
struct right {
    cof_permission permission;
    struct cof_uuid workspace;
    struct cof_slice environment;
    struct cof_slice name;
};

/* Reads rules from a request, checking every name and pattern; failures name the field below `path`. */
COF_CODE rights_read(Coffer__V1__Rule *const *rules, size_t count, cof_token_kind kind, const char *path,
                     struct cof_arena *arena, struct rule_set *ret_set, struct cof_error *err);

/* The stored form of rules, and back; reading back fails with CORRUPTED. */
COF_CODE rights_pack(Coffer__V1__Rule *const *rules, size_t count, struct cof_arena *arena,
                     struct cof_slice *ret_bytes, struct cof_error *err);
COF_CODE rights_unpack(struct cof_slice bytes, cof_token_kind kind, struct cof_arena *arena,
                       struct rule_set *ret_set, struct cof_error *err);
/* The same as messages, for answers. */
COF_CODE rights_messages(struct cof_slice bytes, struct cof_arena *arena, Coffer__V1__Rule ***ret_rules,
                         size_t *ret_count, struct cof_error *err);

/* Copies what the set points at behind it (common/flat.h). */
void rights_flatten(struct rule_set *set, struct cof_flat *flat);

/* Says in every rule that names no workspace that it is about this one: what the rules of a workspace's account are,
 * compared with those of a fleet account. Borrows the UUID. */
void rights_confine(const struct rule_set *set, const struct cof_uuid *workspace);

/* Whether one rule of the set permits it. */
bool rights_permit(const struct rule_set *set, const struct right *right);

/* Whether a rule of the set gives the permission in this workspace (NULL: in some), for some environment and name.
 */
bool rights_permit_somewhere(const struct rule_set *set, cof_permission permission,
                             const struct cof_uuid *workspace);

/* The same two questions to every rule of the set: yes if it has none. */
bool rights_all_permit(const struct rule_set *set, const struct right *right);
bool rights_all_permit_somewhere(const struct rule_set *set, cof_permission permission,
                                 const struct cof_uuid *workspace);

/*
 * Whether everything that `grants` (and, if not empty, `restrictions`) permit is permitted by one rule each of
 * `outer_grants` and `outer_restrictions`. Never says yes wrongly; a union of outer rules that only together cover
 * one inner rule counts as no.
 */
bool rights_within(const struct rule_set *grants, const struct rule_set *restrictions,
                   const struct rule_set *outer_grants, const struct rule_set *outer_restrictions);
