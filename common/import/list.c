#include "common/import/list.h"

#include <stdlib.h>
#include <string.h>

#include "common/import/source.h"

enum { FIRST_ROOM = 32 };

static cof_code make_room(struct cof_import_builder *builder, struct cof_import_entry **entries, size_t count,
                          size_t *room)
{
    if (count < *room) {
        return COF_OK;
    }
    const size_t wider = *room == 0 ? FIRST_ROOM : *room * 2;
    struct cof_import_entry *grown = cof_arena_array(builder->arena, wider, sizeof *grown);
    if (grown == NULL) {
        return cof_arena_exhausted(builder->err);
    }
    if (count > 0) {
        memcpy(grown, *entries, count * sizeof *grown);
    }
    *entries = grown;
    *room = wider;
    return COF_OK;
}

static cof_code copy(struct cof_import_builder *builder, struct cof_slice bytes, struct cof_slice *ret_copy)
{
    const char *text = cof_arena_text(builder->arena, bytes);
    if (text == NULL) {
        return cof_arena_exhausted(builder->err);
    }
    *ret_copy = cof_slice_of(text, bytes.len);
    return COF_OK;
}

static cof_code check_name(struct cof_import_builder *builder, struct cof_slice name, struct cof_place place)
{
    return name.len <= COF_IMPORT_NAME_MAX
               ? COF_OK
               : cof_import_refuse(builder->err, place, "a name of %zu bytes; write a shorter one", name.len);
}

static cof_code append(struct cof_import_builder *builder, struct cof_slice secret, struct cof_slice key,
                       struct cof_slice value, struct cof_place place)
{
    struct cof_import_entry entry = {.secret = secret, .place = place};
    if (builder->count == COF_IMPORT_ENTRIES_MAX) {
        return cof_fail(builder->err, COF_REASON_LIMIT_EXCEEDED,
                        "line %u, column %u: more than %d values; split the file", place.line, place.column,
                        COF_IMPORT_ENTRIES_MAX);
    }
    TRY(check_name(builder, key, place));
    TRY(make_room(builder, &builder->entries, builder->count, &builder->room));
    TRY(copy(builder, key, &entry.key));
    TRY(copy(builder, value, &entry.value));
    builder->entries[builder->count++] = entry;
    return COF_OK;
}

static cof_code refuse_mixture(const struct cof_import_builder *builder, struct cof_place place,
                               struct cof_place other)
{
    return cof_import_refuse(builder->err, place,
                             "keys with a secret and keys without one (line %u, column %u) in one file; write "
                             "either secrets with keys below them, or keys only",
                             other.line, other.column);
}

/* A secret is used when its first key comes; one that got none is refused. */
static cof_code check_last_secret(const struct cof_import_builder *builder)
{
    if (builder->secret_count == 0) {
        return COF_OK;
    }
    const struct cof_import_entry *last = &builder->secrets[builder->secret_count - 1];
    const bool used = builder->count > 0 && builder->entries[builder->count - 1].secret.data == last->secret.data;
    return used ? COF_OK : cof_import_refuse(builder->err, last->place, "a secret without a key; give it one");
}

cof_code cof_import_begin_secret(struct cof_import_builder *builder, struct cof_slice name, struct cof_place place)
{
    struct cof_import_entry secret = {.place = place};
    if (builder->flat_place.line > 0) {
        return refuse_mixture(builder, place, builder->flat_place);
    }
    TRY(check_last_secret(builder));
    if (builder->secret_count == COF_IMPORT_ENTRIES_MAX) {
        return cof_fail(builder->err, COF_REASON_LIMIT_EXCEEDED,
                        "line %u, column %u: more than %d secrets; split the file", place.line, place.column,
                        COF_IMPORT_ENTRIES_MAX);
    }
    TRY(check_name(builder, name, place));
    TRY(make_room(builder, &builder->secrets, builder->secret_count, &builder->secret_room));
    TRY(copy(builder, name, &secret.secret));
    builder->secrets[builder->secret_count++] = secret;
    return COF_OK;
}

cof_code cof_import_add(struct cof_import_builder *builder, struct cof_slice key, struct cof_slice value,
                        struct cof_place place)
{
    return append(builder, builder->secrets[builder->secret_count - 1].secret, key, value, place);
}

cof_code cof_import_add_flat(struct cof_import_builder *builder, struct cof_slice key, struct cof_slice value,
                             struct cof_place place)
{
    if (builder->secret_count > 0) {
        return refuse_mixture(builder, place, builder->secrets[0].place);
    }
    if (builder->flat_secret.len == 0) {
        return cof_import_refuse(builder->err, place,
                                 "a key that stands below no secret; say which secret the file is for");
    }
    if (builder->flat_place.line == 0) {
        TRY(copy(builder, builder->flat_secret, &builder->flat_secret));
        builder->flat_place = place;
    }
    return append(builder, builder->flat_secret, key, value, place);
}

int cof_import_by_secret(const void *a, const void *b)
{
    const struct cof_import_entry *left = a;
    const struct cof_import_entry *right = b;
    const int order = cof_slice_compare(left->secret, right->secret);
    return order != 0 ? order : cof_slice_compare(left->key, right->key);
}

int cof_import_by_key(const void *a, const void *b)
{
    const struct cof_import_entry *left = a;
    const struct cof_import_entry *right = b;
    const int order = cof_slice_compare(left->key, right->key);
    return order != 0 ? order : cof_slice_compare(left->secret, right->secret);
}

cof_code cof_import_sorted(const struct cof_import_list *list, cof_import_order *order, struct cof_arena *arena,
                           struct cof_import_list *ret_list, struct cof_error *err)
{
    struct cof_import_entry *entries = cof_arena_array(arena, list->count, sizeof *entries);
    if (entries == NULL) {
        return cof_arena_exhausted(err);
    }
    if (list->count > 0) {
        memcpy(entries, list->entries, list->count * sizeof *entries);
        qsort(entries, list->count, sizeof *entries, order);
    }
    *ret_list = (struct cof_import_list){entries, list->count};
    return COF_OK;
}

static cof_code refuse_twice(const struct cof_import_builder *builder, const struct cof_import_entry *a,
                             const struct cof_import_entry *b, const char *kind)
{
    char shown[COF_IMPORT_SHOWN];
    const struct cof_import_entry *first = a->place.offset < b->place.offset ? a : b;
    const struct cof_import_entry *second = first == a ? b : a;
    const struct cof_slice name = kind[0] == 'k' ? first->key : first->secret;
    return cof_import_refuse(builder->err, second->place,
                             "the %s \"%s\" stands already in line %u, column %u; keep one of them", kind,
                             cof_import_show(name, shown), first->place.line, first->place.column);
}

/* `kind` is "key" or "secret". */
static cof_code check_twice(const struct cof_import_builder *builder, const struct cof_import_entry *entries,
                            size_t count, const char *kind)
{
    const struct cof_import_list list = {entries, count};
    struct cof_import_list sorted;
    TRY(cof_import_sorted(&list, cof_import_by_secret, builder->arena, &sorted, builder->err));
    for (size_t i = 1; i < sorted.count; i++) {
        if (cof_import_by_secret(&sorted.entries[i - 1], &sorted.entries[i]) == 0) {
            return refuse_twice(builder, &sorted.entries[i - 1], &sorted.entries[i], kind);
        }
    }
    return COF_OK;
}

cof_code cof_import_finish(struct cof_import_builder *builder, struct cof_import_list *ret_list)
{
    TRY(check_last_secret(builder));
    TRY(check_twice(builder, builder->secrets, builder->secret_count, "secret"));
    TRY(check_twice(builder, builder->entries, builder->count, "key"));
    *ret_list = (struct cof_import_list){builder->entries, builder->count};
    return COF_OK;
}
