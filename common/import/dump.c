#include "common/import/format.h"
#include "common/import/json.h"

/* What other products print: objects of theirs, in which keys and values are looked for and the rest passed over. */

/* Reads the value that comes next. */
typedef cof_code visitor(struct cof_import_json *json);

/* Calls `visit` at the member `wanted` of the object that comes next. */
static cof_code visit_member(struct cof_import_json *json, const char *wanted, visitor *visit)
{
    struct cof_json_event object;
    struct cof_json_event event;
    size_t found = 0;
    TRY(cof_import_json_expect(json, COF_JSON_OBJECT, &object));
    TRY(cof_import_json_next(json, &event));
    while (event.kind == COF_JSON_KEY) {
        struct cof_slice name = {NULL, 0};
        TRY(cof_import_json_text(json, &event, &name));
        const bool here = cof_slice_equal(name, cof_slice_text(wanted));
        TRY(here ? visit(json) : cof_import_json_skip(json));
        TRY(cof_import_json_next(json, &event));
        found += here;
    }
    return found == 1 ? COF_OK
                      : cof_import_refuse(json->err, object.place,
                                          "the object that begins here must have \"%s\", once", wanted);
}

/* --- Vault ---------------------------------------------------------------------------------------------------- */

static cof_code read_vault_keys(struct cof_import_json *json)
{
    struct cof_json_event event;
    TRY(cof_import_json_expect(json, COF_JSON_OBJECT, &event));
    TRY(cof_import_json_next(json, &event));
    while (event.kind == COF_JSON_KEY) {
        struct cof_json_event behind;
        struct cof_slice key = {NULL, 0};
        struct cof_slice value = {NULL, 0};
        TRY(cof_import_json_text(json, &event, &key));
        TRY(cof_import_json_next(json, &behind));
        TRY(cof_import_json_text(json, &behind, &value));
        TRY(cof_import_add_flat(json->builder, key, value, event.place));
        TRY(cof_import_json_next(json, &event));
    }
    return COF_OK;
}

static cof_code read_vault_data(struct cof_import_json *json)
{
    return visit_member(json, "data", read_vault_keys);
}

/* The second version of its key-value store: {"data": {"data": {KEY: text}, "metadata": ...}, ...}. */
cof_code cof_import_vault_read(const struct cof_import_source *source, struct cof_import_builder *builder)
{
    struct cof_import_json json;
    struct cof_json_event end;
    cof_import_json_init(&json, source, builder);
    TRY(visit_member(&json, "data", read_vault_data));
    return cof_import_json_next(&json, &end);
}

/* --- Infisical ------------------------------------------------------------------------------------------------ */

struct infisical_row {
    struct cof_slice key;
    struct cof_slice value;
    bool has_key;
    bool has_value;
};

static cof_code read_infisical_member(struct cof_import_json *json, const struct cof_json_event *event,
                                      struct infisical_row *row)
{
    struct cof_json_event behind;
    struct cof_slice name = {NULL, 0};
    TRY(cof_import_json_text(json, event, &name));
    const bool is_key = cof_slice_equal(name, cof_slice_text("key"));
    const bool is_value = cof_slice_equal(name, cof_slice_text("value"));
    if ((is_key && row->has_key) || (is_value && row->has_value)) {
        return cof_import_refuse(json->err, event->place, "this name stands twice in its object; keep one of them");
    }
    row->has_key = row->has_key || is_key;
    row->has_value = row->has_value || is_value;
    if (!is_key && !is_value) {
        return cof_import_json_skip(json);
    }
    TRY(cof_import_json_next(json, &behind));
    return cof_import_json_text(json, &behind, is_key ? &row->key : &row->value);
}

/* `object` is the event that begins it. */
static cof_code read_infisical_row(struct cof_import_json *json, const struct cof_json_event *object)
{
    struct infisical_row row = {0};
    struct cof_json_event event;
    TRY(cof_import_json_next(json, &event));
    while (event.kind == COF_JSON_KEY) {
        TRY(read_infisical_member(json, &event, &row));
        TRY(cof_import_json_next(json, &event));
    }
    if (!row.has_key || !row.has_value) {
        return cof_import_refuse(json->err, object->place,
                                 "an object with a \"key\" and a \"value\" is expected here");
    }
    return cof_import_add_flat(json->builder, row.key, row.value, object->place);
}

/* [{"key": text, "value": text, ...}, ...] */
cof_code cof_import_infisical_read(const struct cof_import_source *source, struct cof_import_builder *builder)
{
    struct cof_import_json json;
    struct cof_json_event event;
    cof_import_json_init(&json, source, builder);
    TRY(cof_import_json_expect(&json, COF_JSON_ARRAY, &event));
    TRY(cof_import_json_next(&json, &event));
    while (event.kind != COF_JSON_ARRAY_END) {
        if (event.kind != COF_JSON_OBJECT) {
            return cof_import_refuse(json.err, event.place,
                                     "an object with a \"key\" and a \"value\" is expected here");
        }
        TRY(read_infisical_row(&json, &event));
        TRY(cof_import_json_next(&json, &event));
    }
    return cof_import_json_next(&json, &event);
}
