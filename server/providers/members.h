#pragma once

#include "server/providers/provider.h"

/*
 * Members of a JSON object that a provider wrote, read strictly: one that is looked for and stands twice refuses all of it,
 * so that a reader that takes the last of two cannot be played off against one that takes the first. Pure.
 */

enum { MEMBERS_ANSWER_MAX = 256 * 1024 };

typedef enum member_kind { MEMBER_TEXT, MEMBER_BOOL, MEMBER_LIST, MEMBER_NUMBER } member_kind;

/* One that is looked for; one of another type counts as none. */
struct member {
    const char *name;
    const char *text;           /* TEXT; "" */
    struct provider_texts list; /* LIST, of texts; whatever else it has is passed over */
    int64_t number;             /* NUMBER, whole, not negative */
    member_kind kind;
    bool seen;
    bool flag; /* BOOL */
};

/* Fails with FILE_INVALID, which begins with `what` and quotes nothing of the answer. */
COF_CODE members_read(const char *what, struct cof_slice answer, struct member *members, size_t count,
                      struct cof_arena *arena, struct cof_error *err);

bool members_list_has(struct provider_texts list, const char *text);
