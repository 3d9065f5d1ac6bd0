#pragma once

#include <coffer/audit/v1/record.pb-c.h>
#include <coffer/v1/secret.pb-c.h>

#include "server/service/call.h"

/*
 * The changes that one answer of a watch tells, made from the audit records of writes. Whoever watches is told of what
 * lies within his filter and his right to read, and of nothing else: a secret that gets a name beyond them is gone for
 * him, one that gets a name within them is new.
 */

struct watch_page {
    const Coffer__V1__WatchSecretsRequest *request;
    Coffer__V1__WatchSecretsResponse *response;
    struct cof_uuid workspace;
    size_t capacity; /* of the response's changes */
};

/* One committed write. */
struct watch_event {
    uint64_t revision;
    int64_t time; /* microseconds since 1970 */
    const Coffer__Audit__V1__Record *record;
};

/* Adds what the caller may see of the write; what is added lies in the call's arena and borrows nothing. */
COF_CODE watch_tell(struct call *call, struct watch_page *page, const struct watch_event *event);
