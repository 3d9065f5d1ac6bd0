#pragma once

#include "server/service/call.h"

/*
 * Pages of lists. A page token is opaque to clients: base64url of a format byte, the kind of list, and the position
 * behind which the next page begins. It holds names only that the caller has just been shown.
 */

typedef enum page_list {
    PAGE_SECRETS = 1,
    PAGE_ENVIRONMENTS = 2,
    PAGE_WORKSPACES = 3,
    PAGE_ACCOUNTS = 4,
    PAGE_TOKENS = 5,
    PAGE_RESOLVE = 6,
    PAGE_VERSIONS = 7,
    PAGE_COMPARISON = 8,
    PAGE_EXPORT = 9,
    PAGE_ACTIONS = 10,
    PAGE_DEFINITIONS = 11,
    PAGE_CONNECTIONS = 12,
    PAGE_PROVIDERS = 13,
} page_list;

enum { PAGE_PARTS = 3, PAGE_POSITION_MAX = 512 };

struct page_position {
    struct cof_slice parts[PAGE_PARTS]; /* empty at the beginning of the list */
};

/* The size in force: 0 is the default, more than the maximum is the maximum. */
uint32_t page_size(const struct call *call, uint32_t asked);

/* Reads a page token; empty text is the beginning. PAGE_TOKEN_INVALID for a token of another list. */
COF_CODE page_read(struct call *call, page_list list, const char *token, struct page_position *ret_position);

/* The failure PAGE_TOKEN_INVALID, for a position that a list cannot have. */
COF_CODE page_invalid(struct call *call);

/* Makes the token for what follows this position. */
COF_CODE page_make(struct call *call, page_list list, const struct page_position *position, char **ret_token);
