#pragma once

#include "common/import/import.h"
#include "common/import/list.h"
#include "common/import/source.h"
#include "common/sink.h"

/* The readers and writers of the formats, called by import.c alone. */

/* A reader adds what the source holds. The source is text in UTF-8 without NUL. */
COF_CODE cof_import_dotenv_read(const struct cof_import_source *source, struct cof_import_builder *builder);
COF_CODE cof_import_json_read(const struct cof_import_source *source, struct cof_import_builder *builder);
COF_CODE cof_import_yaml_read(const struct cof_import_source *source, struct cof_import_builder *builder);
COF_CODE cof_import_vault_read(const struct cof_import_source *source, struct cof_import_builder *builder);
COF_CODE cof_import_infisical_read(const struct cof_import_source *source, struct cof_import_builder *builder);

/*
 * A writer gets entries in the order that it wants (sorted by secret and key, or for the flat format by key), each
 * once, all with names of Coffer's. It is called twice: to count, and to write.
 */
COF_CODE cof_import_dotenv_write(const struct cof_import_list *list, struct cof_sink *sink, struct cof_error *err);
COF_CODE cof_import_json_write(const struct cof_import_list *list, struct cof_sink *sink, struct cof_error *err);
COF_CODE cof_import_yaml_write(const struct cof_import_list *list, struct cof_sink *sink, struct cof_error *err);
