#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "common/slice.h"

/* What may be a name, and what a pattern of names matches. */

enum {
    COF_ENVIRONMENT_MAX = 100,
    COF_SECRET_NAME_MAX = 100,
    COF_KEY_NAME_MAX = 128,
    COF_WORKSPACE_NAME_MAX = 100,
    COF_ACCOUNT_NAME_MAX = 100,
    COF_ACTION_NAME_MAX = 200,
};

#define COF_DEFAULT_ENVIRONMENT "default"

/* What a secret may hold (product.md, Terms). */
enum { COF_VALUE_MAX = 65536, COF_SECRET_KEYS_MAX = 100, COF_SECRET_SIZE_MAX = 262144 };

/* The kinds of names and their rules (product.md, Terms). */
typedef enum cof_name_kind {
    COF_NAME_ENVIRONMENT, /* 1-100 of A-Za-z0-9._- , first alphanumeric */
    COF_NAME_SECRET,      /* 1-100 of A-Za-z0-9_.- , first alphanumeric or _ */
    COF_NAME_KEY,         /* 1-128 of A-Za-z0-9_.- , first a letter or _ */
    COF_NAME_WORKSPACE,   /* 1-100 of a-z0-9- , first and last alphanumeric */
    COF_NAME_ACCOUNT,     /* as an environment */
    COF_NAME_ACTION,      /* 1-200 of A-Za-z0-9_.- , first a letter or _ */
} cof_name_kind;

/* Checks a name; the failure (FIELD_REQUIRED, FIELD_INVALID) names the field, the rule and the first wrong byte. */
COF_CODE cof_name_check(cof_name_kind kind, struct cof_slice name, const char *field, struct cof_error *err);

/* The same rule without a message. */
bool cof_name_valid(cof_name_kind kind, struct cof_slice name);

/* Ends in "_oauth": belongs to OAuth connections. */
bool cof_name_reserved(struct cof_slice name);

/* Whether a pattern is well-formed: a name's exact bytes, or a prefix (possibly empty) that ends in `*`. */
bool cof_pattern_valid(cof_name_kind kind, struct cof_slice pattern);

/* Whether the pattern matches: exact bytes, or a prefix that ends in `*`. */
bool cof_pattern_matches(struct cof_slice pattern, struct cof_slice name);

/* Whether everything that `inner` matches is matched by `outer`. */
bool cof_pattern_covers(struct cof_slice outer, struct cof_slice inner);

/* Valid UTF-8 (RFC 3629: no surrogates, no overlong forms) without a NUL byte. */
bool cof_text_valid(struct cof_slice text);

/* How many bytes from the front on are valid in this way. */
size_t cof_text_valid_length(struct cof_slice text);

/* The number of single-byte edits from one to the other, or `limit` + 1 if there are more; names up to 128 bytes.
 */
unsigned cof_name_distance(struct cof_slice a, struct cof_slice b, unsigned limit);
