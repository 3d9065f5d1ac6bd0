#include "common/import/import.h"

#include <string.h>

#include "common/import/format.h"
#include "common/name.h"

typedef cof_code read_function(const struct cof_import_source *source, struct cof_import_builder *builder);
typedef cof_code write_function(const struct cof_import_list *list, struct cof_sink *sink, struct cof_error *err);

struct format {
    const char *name;
    bool flat;
    read_function *read;
    write_function *write; /* NULL: only read */
};

static const struct format formats[] = {
#define FORMAT(NAME, name, flat, read, write) [COF_IMPORT_##NAME] = {name, flat, read, write},
#include "common/import/format.def"
#undef FORMAT
};

bool cof_import_format_find(const char *name, cof_import_format *ret_format)
{
    for (size_t i = 0; i < COF_COUNT(formats); i++) {
        if (strcmp(formats[i].name, name) == 0) {
            *ret_format = (cof_import_format) i;
            return true;
        }
    }
    return false;
}

const char *cof_import_format_name(cof_import_format format)
{
    return formats[format].name;
}

bool cof_import_format_written(cof_import_format format)
{
    return formats[format].write != NULL;
}

cof_code cof_import_read(cof_import_format format, struct cof_slice file, struct cof_slice secret,
                         struct cof_arena *arena, struct cof_import_list *ret_list, struct cof_error *err)
{
    struct cof_import_source source;
    struct cof_import_builder builder = {.arena = arena, .err = err, .flat_secret = secret};
    if (formats[format].flat && secret.len == 0) {
        return cof_fail(err, COF_REASON_FIELD_REQUIRED,
                        "a file of the format \"%s\" names no secret; say which secret it is for",
                        formats[format].name);
    }
    TRY(cof_import_source_open(file, arena, err, &source));
    TRY(formats[format].read(&source, &builder));
    return cof_import_finish(&builder, ret_list);
}

static cof_code refuse_twice(const struct cof_import_entry *entry, struct cof_error *err)
{
    return cof_fail(err, COF_REASON_FILE_INVALID, "the key \"%.*s\" of the secret \"%.*s\" stands twice",
                    (int) entry->key.len, (const char *) entry->key.data, (int) entry->secret.len,
                    (const char *) entry->secret.data);
}

/* What is written must be read by others, too, so only names that Coffer allows are written. */
static cof_code check_entries(const struct cof_import_list *sorted, struct cof_error *err)
{
    for (size_t i = 0; i < sorted->count; i++) {
        const struct cof_import_entry *entry = &sorted->entries[i];
        TRY(cof_name_check(COF_NAME_SECRET, entry->secret, "name", err));
        TRY(cof_name_check(COF_NAME_KEY, entry->key, "key", err));
        if (i > 0 && cof_import_by_secret(&entry[-1], entry) == 0) {
            return refuse_twice(entry, err);
        }
    }
    return COF_OK;
}

/* The first time only to see how much it is, so that no copies of values are left behind by a buffer that grows. */
static cof_code write_twice(write_function *write, const struct cof_import_list *list, struct cof_arena *arena,
                            struct cof_slice *ret_file, struct cof_error *err)
{
    struct cof_sink counted = {0};
    TRY(write(list, &counted, err));
    struct cof_sink sink = {.to = cof_arena_alloc(arena, counted.used), .room = counted.used};
    if (sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(write(list, &sink, err));
    *ret_file = cof_slice_of(sink.to, sink.used);
    return COF_OK;
}

cof_code cof_import_write(cof_import_format format, const struct cof_import_list *list, struct cof_arena *arena,
                          struct cof_slice *ret_file, struct cof_error *err)
{
    const struct format *written = &formats[format];
    struct cof_import_list sorted;
    if (written->write == NULL) {
        return cof_fail(err, COF_REASON_FIELD_INVALID, "the format \"%s\" is only read; write env, json or yaml",
                        written->name);
    }
    TRY(cof_import_sorted(list, cof_import_by_secret, arena, &sorted, err));
    TRY(check_entries(&sorted, err));
    if (written->flat) {
        TRY(cof_import_sorted(list, cof_import_by_key, arena, &sorted, err));
    }
    return write_twice(written->write, &sorted, arena, ret_file, err);
}
