#include "server/backup/anchor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/arena.h"
#include "common/encode.h"

#define FIRST_LINE "coffer-anchor 1"

enum { FIRST_ROOM = 64, WORDS = 5, HASH_TEXT = 2 * CRYPTO_DIGEST + 1 };

void anchor_done(struct anchor *anchor)
{
    free(anchor->workspaces);
    *anchor = (struct anchor){.count = 0};
}

cof_code anchor_add(struct anchor *anchor, const struct anchor_workspace *workspace, struct cof_error *err)
{
    if (anchor->count == anchor->capacity) {
        const size_t capacity = anchor->capacity == 0 ? FIRST_ROOM : 2 * anchor->capacity;
        struct anchor_workspace *workspaces = realloc(anchor->workspaces, capacity * sizeof *workspaces);
        if (workspaces == NULL) {
            return cof_arena_exhausted(err);
        }
        anchor->workspaces = workspaces;
        anchor->capacity = capacity;
    }
    anchor->workspaces[anchor->count++] = *workspace;
    return COF_OK;
}

static int compare(const void *left, const void *right)
{
    return memcmp(&((const struct anchor_workspace *) left)->id, &((const struct anchor_workspace *) right)->id,
                  sizeof(struct cof_uuid));
}

struct anchor_workspace *anchor_find(struct anchor *anchor, const struct cof_uuid *id)
{
    const struct anchor_workspace key = {.id = *id};
    return anchor->count == 0
               ? NULL
               : bsearch(&key, anchor->workspaces, anchor->count, sizeof *anchor->workspaces, compare);
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

static void workspace_line(const struct anchor_workspace *workspace, struct outside *file)
{
    char id[COF_UUID_TEXT];
    char hash[HASH_TEXT];
    char settings[2 * ANCHOR_SETTINGS + 1];
    cof_uuid_format(&workspace->id, id);
    cof_hex_encode(cof_slice_of(workspace->chain.hash, CRYPTO_DIGEST), hash);
    cof_hex_encode(cof_slice_of(workspace->settings, ANCHOR_SETTINGS), settings);
    outside_line(file, "workspace %s %" PRIu64 " %" PRIu64 " %s %s", id, workspace->revision,
                 workspace->chain.revision, hash, settings);
}

void anchor_lines(const struct anchor *anchor, const struct root_key *root, struct outside *file)
{
    char hex[2 * ROOT_KEY_ID + 1];
    cof_hex_encode(cof_slice_of(root_key_id(root), ROOT_KEY_ID), hex);
    outside_line(file, "time %" PRId64, anchor->time_us);
    outside_line(file, "root-key %s", hex);
    outside_line(file, "epoch %016" PRIx64, anchor->epoch);
    for (size_t i = 0; i < anchor->count; i++) {
        workspace_line(&anchor->workspaces[i], file);
    }
}

cof_code anchor_write(const struct anchor *anchor, const struct root_key *root, const char *path,
                      struct cof_error *err)
{
    AUTO(outside_done) struct outside file = {.text = NULL};
    outside_line(&file, FIRST_LINE);
    anchor_lines(anchor, root, &file);
    return outside_write(&file, root, path, err);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* The lines stand in the text of a file, so behind each number and word there is a space or a line's end. */
static uint64_t number_of(struct cof_slice text, int base)
{
    return text.len == 0 ? 0 : strtoull((const char *) text.data, NULL, base);
}

static bool split(struct cof_slice text, struct cof_slice words[WORDS])
{
    size_t count = 0;
    while (text.len > 0 && count < WORDS) {
        const uint8_t *space = memchr(text.data, ' ', text.len);
        const size_t length = space == NULL ? text.len : (size_t) (space - text.data);
        words[count++] = cof_slice_of(text.data, length);
        text = space == NULL ? cof_slice_of(NULL, 0) : cof_slice_of(space + 1, text.len - length - 1);
    }
    return count == WORDS && text.len == 0;
}

static cof_code parse_workspace(struct cof_slice line, struct anchor *anchor, struct cof_error *err)
{
    struct cof_slice words[WORDS];
    struct anchor_workspace workspace = {.seen = false};
    if (!split(line, words) || !cof_uuid_parse(words[0], &workspace.id) ||
        !cof_hex_decode(words[3], workspace.chain.hash, CRYPTO_DIGEST) ||
        !cof_hex_decode(words[4], workspace.settings, ANCHOR_SETTINGS)) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a line about a workspace cannot be read");
    }
    workspace.revision = number_of(words[1], 10);
    workspace.chain.revision = number_of(words[2], 10);
    return anchor_add(anchor, &workspace, err);
}

cof_code anchor_parse(const struct outside *file, struct anchor *ret_anchor, struct cof_error *err)
{
    AUTO(anchor_done)
    struct anchor anchor = {
        .time_us = (int64_t) number_of(outside_value(file, "time"), 10),
        .epoch = number_of(outside_value(file, "epoch"), 16),
    };
    size_t at = 0;
    struct cof_slice key;
    struct cof_slice value;
    while (outside_next(file, &at, &key, &value)) {
        if (cof_slice_equal(key, cof_slice_text("workspace"))) {
            TRY(parse_workspace(value, &anchor, err));
        }
    }
    *ret_anchor = anchor;
    anchor = (struct anchor){.count = 0};
    return COF_OK;
}

cof_code anchor_read(const char *path, struct root_key *const *roots, size_t count, struct anchor *ret_anchor,
                     struct cof_error *err)
{
    AUTO(outside_done) struct outside file = {.text = NULL};
    TRY(outside_read(path, FIRST_LINE, roots, count, &file, err));
    return anchor_parse(&file, ret_anchor, err);
}
