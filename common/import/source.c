#include "common/import/source.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/name.h"
#include "common/yaml_tree.h"

enum { PROBLEM_SIZE = 400 };

cof_code cof_import_refuse(struct cof_error *err, struct cof_place place, const char *format, ...)
{
    char problem[PROBLEM_SIZE];
    va_list args;
    va_start(args, format);
    (void) vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    return cof_yaml_refuse(err, place, "%s", problem);
}

const char *cof_import_show(struct cof_slice name, char shown[COF_IMPORT_SHOWN])
{
    size_t length = 0;
    for (; length + 1 < COF_IMPORT_SHOWN && length < name.len; length++) {
        const uint8_t byte = name.data[length];
        shown[length] = byte >= ' ' && byte <= '~' ? (char) byte : '?';
    }
    shown[length] = '\0';
    return shown;
}

struct cof_slice cof_import_source_take(struct cof_import_source *source, size_t count)
{
    const struct cof_slice rest = cof_import_source_rest(source);
    const struct cof_slice taken = {rest.data, count < rest.len ? count : rest.len};
    source->at = cof_place_behind(source->text, source->at, source->at.offset + taken.len);
    return taken;
}

static cof_code check_text(struct cof_import_source source)
{
    const size_t valid = cof_text_valid_length(source.text);
    if (valid == source.text.len) {
        return COF_OK;
    }
    (void) cof_import_source_take(&source, valid);
    return cof_import_refuse(
        source.err, source.at,
        cof_import_source_peek(&source) == 0
            ? "a NUL byte; files of secrets are text (values of any bytes go into JSON or YAML)"
            : "this is not UTF-8; save the file as UTF-8");
}

cof_code cof_import_source_open(struct cof_slice file, struct cof_arena *arena, struct cof_error *err,
                                struct cof_import_source *ret_source)
{
    struct cof_import_source source = {.text = file, .at = COF_PLACE_START, .arena = arena, .err = err};
    if (file.len > COF_IMPORT_FILE_MAX) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED, "the file has %zu bytes; at most 16 MiB are read",
                        file.len);
    }
    if (cof_slice_starts_with(file, cof_slice_text("\xEF\xBB\xBF"))) {
        source.text = cof_slice_of(file.data + 3, file.len - 3);
    }
    TRY(check_text(source));
    *ret_source = source;
    return COF_OK;
}
