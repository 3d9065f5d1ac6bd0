#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"

/*
 * The head of an HTTP/1.1 request or response (RFC 9112), read strictly: lines end with CRLF, nothing is folded, no
 * control byte is taken. What two readers could understand in two ways is refused. Slices point into the bytes given.
 */

enum {
    COF_HEAD_MOST = 8192, /* bytes of a head */
    COF_HEAD_FIELDS = 64,
};

struct cof_head_field {
    struct cof_slice name;
    struct cof_slice value; /* without the space around it */
};

struct cof_head {
    struct cof_slice method; /* of a request */
    struct cof_slice path;   /* from the slash on, without the query */
    struct cof_slice query;  /* behind the question mark; empty if there is none */
    unsigned status;         /* of a response */
    uint32_t field_count;
    struct cof_head_field fields[COF_HEAD_FIELDS];
    size_t size; /* bytes of the head, with the empty line at its end */
};

typedef enum cof_head_step {
    COF_HEAD_DONE,
    COF_HEAD_SHORT, /* more bytes are needed */
    COF_HEAD_BAD,
    COF_HEAD_LARGE, /* more bytes or fields than a head may have */
} cof_head_step;

cof_head_step cof_head_request(struct cof_slice bytes, struct cof_head *ret_head);
cof_head_step cof_head_response(struct cof_slice bytes, struct cof_head *ret_head);

/* The fields with this name, whatever its case: how many, and the value of the first. */
uint32_t cof_head_find(const struct cof_head *head, const char *name, struct cof_slice *ret_value);

/* Whether the lists in the fields with this name have the token, whatever its case. */
bool cof_head_lists(const struct cof_head *head, const char *name, const char *token);

/* Compares ASCII without regard to its case. */
bool cof_head_same(struct cof_slice text, struct cof_slice other);
