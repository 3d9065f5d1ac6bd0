#pragma once

#include <stdio.h>

#include <coffer/audit/v1/record.pb-c.h>

#include "common/error.h"
#include "common/slice.h"

/* Writes a packed Record as one line of JSON, with the number of its segment and its own in front. CORRUPTED if the
 * bytes are no record. */
COF_CODE audit_json(FILE *to, uint64_t segment, uint64_t sequence, struct cof_slice text, struct cof_error *err);

/* The same for the record of a write, with the workspace's revision that it made in front. */
COF_CODE audit_json_write(FILE *to, uint64_t workspace_revision, struct cof_slice text, struct cof_error *err);
