#include "common/encode.h"
#include "common/import/format.h"
#include "common/name.h"
#include "common/secret.h"

/* Writes JSON and YAML: secrets with their keys, two levels deep, and all texts in double quotes. */

/* What differs between the two. */
struct form {
    cof_encoding encoding;
    const char *begin;        /* of the document */
    const char *secret;       /* before a secret's name */
    const char *next_secret;  /* the same for all but the first */
    const char *keys;         /* behind a secret's name */
    const char *key;          /* before a key */
    const char *next_key;     /* the same for all but the first */
    const char *begin_base64; /* around a value that is not text */
    const char *end_base64;
    const char *end_secret;
    const char *end;
    const char *empty; /* the document without a secret */
};

static const struct form json_form = {
    .encoding = COF_ENCODING_JSON,
    .begin = "{\n",
    .secret = "  ",
    .next_secret = ",\n  ",
    .keys = ": {\n",
    .key = "    ",
    .next_key = ",\n    ",
    .begin_base64 = "{\"$base64\": \"",
    .end_base64 = "\"}",
    .end_secret = "\n  }",
    .end = "\n}\n",
    .empty = "{}\n",
};

static const struct form yaml_form = {
    .encoding = COF_ENCODING_YAML,
    .begin = "",
    .secret = "",
    .next_secret = "",
    .keys = ":\n",
    .key = "  ",
    .next_key = "\n  ",
    .begin_base64 = "!!binary \"",
    .end_base64 = "\"",
    .end_secret = "\n",
    .end = "",
    .empty = "{}\n",
};

static void put(struct cof_sink *sink, const char *text)
{
    cof_sink_put_raw(sink, cof_slice_text(text));
}

static void put_text(struct cof_sink *sink, const struct form *form, struct cof_slice text)
{
    put(sink, "\"");
    cof_sink_put(sink, form->encoding, text);
    put(sink, "\"");
}

/* Three bytes give four digits. */
static void put_base64(struct cof_sink *sink, struct cof_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i += 3) {
        char digits[COF_BASE64_SIZE(3)];
        cof_base64_encode(cof_slice_of(bytes.data + i, bytes.len - i < 3 ? bytes.len - i : 3), digits);
        put(sink, digits);
        cof_wipe(digits, sizeof digits);
    }
}

static void put_value(struct cof_sink *sink, const struct form *form, struct cof_slice value)
{
    if (cof_text_valid(value)) {
        put_text(sink, form, value);
        return;
    }
    put(sink, form->begin_base64);
    put_base64(sink, value);
    put(sink, form->end_base64);
}

static void put_entry(struct cof_sink *sink, const struct form *form, const struct cof_import_entry *entry,
                      bool begins)
{
    if (begins) {
        put_text(sink, form, entry->secret);
        put(sink, form->keys);
    }
    put(sink, begins ? form->key : form->next_key);
    put_text(sink, form, entry->key);
    put(sink, ": ");
    put_value(sink, form, entry->value);
}

static void put_document(struct cof_sink *sink, const struct form *form, const struct cof_import_list *list)
{
    put(sink, list->count == 0 ? form->empty : form->begin);
    for (size_t i = 0; i < list->count; i++) {
        const struct cof_import_entry *entry = &list->entries[i];
        const bool begins = i == 0 || !cof_slice_equal(entry->secret, entry[-1].secret);
        if (begins) {
            put(sink, i == 0 ? "" : form->end_secret);
            put(sink, i == 0 ? form->secret : form->next_secret);
        }
        put_entry(sink, form, entry, begins);
    }
    put(sink, list->count == 0 ? "" : form->end_secret);
    put(sink, list->count == 0 ? "" : form->end);
}

cof_code cof_import_json_write(const struct cof_import_list *list, struct cof_sink *sink, struct cof_error *err)
{
    (void) err;
    put_document(sink, &json_form, list);
    return COF_OK;
}

cof_code cof_import_yaml_write(const struct cof_import_list *list, struct cof_sink *sink, struct cof_error *err)
{
    (void) err;
    put_document(sink, &yaml_form, list);
    return COF_OK;
}
