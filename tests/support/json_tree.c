#include "tests/support/json_tree.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"

static void give_up(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    exit(1);
}

/* Not freed, but still held at the end, so that no leak is reported. */
static struct json_node *held;

static struct cof_slice read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        give_up(path, "cannot be opened");
        abort();
    }
    (void) fseek(file, 0, SEEK_END);
    const size_t size = (size_t) ftell(file);
    uint8_t *bytes = malloc(size + 1);
    rewind(file);
    if (bytes == NULL || fread(bytes, 1, size, file) != size) {
        give_up(path, "cannot be read");
        abort();
    }
    (void) fclose(file);
    return cof_slice_of(bytes, size);
}

static struct cof_slice decoded(struct cof_slice raw)
{
    size_t length;
    uint8_t *bytes = malloc(raw.len + 1);
    if (bytes == NULL || !cof_json_decode(raw, bytes, &length)) {
        abort();
    }
    return cof_slice_of(bytes, length);
}

static struct json_node *add(struct json_node *parent, json_kind kind, struct cof_slice key)
{
    struct json_node *node = calloc(1, sizeof *node);
    if (node == NULL || parent == NULL) {
        abort();
    }
    node->kind = kind;
    node->key = key;
    node->parent = parent;
    if (parent->last == NULL) {
        parent->first = node;
    } else {
        parent->last->next = node;
    }
    parent->last = node;
    return node;
}

/* Where the reading is. */
struct reading {
    struct json_node *at;
    struct cof_slice key;
};

static void take(struct reading *reading, const struct cof_json_event *event)
{
    switch (event->kind) {
    case COF_JSON_OBJECT:
        reading->at = add(reading->at, JSON_OBJECT, reading->key);
        break;
    case COF_JSON_ARRAY:
        reading->at = add(reading->at, JSON_ARRAY, reading->key);
        break;
    case COF_JSON_OBJECT_END:
    case COF_JSON_ARRAY_END:
        reading->at = reading->at == NULL ? NULL : reading->at->parent;
        break;
    case COF_JSON_KEY:
        reading->key = decoded(event->raw);
        break;
    case COF_JSON_STRING:
        add(reading->at, JSON_TEXT, reading->key)->text = decoded(event->raw);
        break;
    case COF_JSON_WORD:
        add(reading->at, JSON_WORD, reading->key)->text = event->raw;
        break;
    case COF_JSON_END:
        break;
    }
}

const struct json_node *json_tree_parse(const char *name, struct cof_slice text)
{
    struct json_node *root = calloc(1, sizeof *root);
    struct reading reading = {.at = root};
    struct cof_json_event event = {.kind = COF_JSON_WORD};
    struct cof_json_scan scan;
    struct cof_error err;
    cof_json_scan_init(&scan, text);
    while (event.kind != COF_JSON_END) {
        if (root == NULL || cof_json_next(&scan, &event, &err) != COF_OK) {
            give_up(name, err.message);
            abort();
        }
        take(&reading, &event);
    }
    root->next = held;
    held = root;
    return root->first;
}

const struct json_node *json_tree_read(const char *path)
{
    return json_tree_parse(path, read_file(path));
}

const struct json_node *json_member(const struct json_node *object, const char *key)
{
    const struct json_node *node = object->first;
    while (node != NULL && !cof_slice_equal(node->key, cof_slice_text(key))) {
        node = node->next;
    }
    return node;
}

const struct json_node *json_element(const struct json_node *array, size_t index)
{
    const struct json_node *node = array->first;
    for (size_t i = 0; node != NULL && i < index; i++) {
        node = node->next;
    }
    if (node == NULL) {
        abort();
    }
    return node;
}

size_t json_count(const struct json_node *array)
{
    size_t count = 0;
    for (const struct json_node *node = array->first; node != NULL; node = node->next) {
        count++;
    }
    return count;
}

size_t json_number(const struct json_node *node)
{
    size_t number = 0;
    for (size_t i = 0; i < node->text.len; i++) {
        number = number * 10 + (size_t) (node->text.data[i] - '0');
    }
    return number;
}
