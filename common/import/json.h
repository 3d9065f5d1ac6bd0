#pragma once

#include "common/import/list.h"
#include "common/import/source.h"
#include "common/json.h"

/* JSON of which keys and values are wanted, read event by event. Failures are FILE_INVALID at their place. */

struct cof_import_json {
    struct cof_json_scan scan;
    struct cof_arena *arena;
    struct cof_error *err;
    struct cof_import_builder *builder;
};

void cof_import_json_init(struct cof_import_json *json, const struct cof_import_source *source,
                          struct cof_import_builder *builder);

COF_CODE cof_import_json_next(struct cof_import_json *json, struct cof_json_event *ret_event);

/* The next event, which must be of this kind; another is refused. */
COF_CODE cof_import_json_expect(struct cof_import_json *json, cof_json_kind kind, struct cof_json_event *ret_event);

/* The decoded text of a key or a string, in the arena; any other event is refused. */
COF_CODE cof_import_json_text(struct cof_import_json *json, const struct cof_json_event *event,
                              struct cof_slice *ret_text);

/* Passes over the value that begins with the next event. */
COF_CODE cof_import_json_skip(struct cof_import_json *json);
