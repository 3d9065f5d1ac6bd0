#include "server/backup/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/encode.h"

#define FIRST_LINE "coffer-backup 1"

enum { NAME = 64, HASH_TEXT = 2 * CRYPTO_DIGEST + 1 };

void manifest_done(struct manifest *manifest)
{
    outside_done(&manifest->file);
    anchor_done(&manifest->anchor);
}

cof_code manifest_write(const struct manifest *manifest, const struct root_key *root, const char *path,
                        struct cof_error *err)
{
    AUTO(outside_done) struct outside file = {.text = NULL};
    char hash[HASH_TEXT];
    cof_hex_encode(cof_slice_of(manifest->dump_sha256, CRYPTO_DIGEST), hash);
    outside_line(&file, FIRST_LINE);
    outside_line(&file, "schema %" PRIu64, manifest->schema);
    outside_line(&file, "dump-bytes %" PRIu64, manifest->dump_bytes);
    outside_line(&file, "dump-sha256 %s", hash);
    outside_line(&file, "instance %.*s", (int) manifest->instance.len, (const char *) manifest->instance.data);
    for (size_t i = 0; i < VERIFY_TABLE_COUNT; i++) {
        outside_line(&file, "rows-%s %" PRIu64, verify_table_name((verify_table) i), manifest->rows[i]);
    }
    anchor_lines(&manifest->anchor, root, &file);
    return outside_write(&file, root, path, err);
}

static uint64_t number_of(const struct outside *file, const char *key)
{
    const struct cof_slice value = outside_value(file, key);
    return value.len == 0 ? 0 : strtoull((const char *) value.data, NULL, 10);
}

static cof_code parse(struct manifest *manifest, struct cof_error *err)
{
    const struct outside *file = &manifest->file;
    manifest->schema = number_of(file, "schema");
    manifest->dump_bytes = number_of(file, "dump-bytes");
    manifest->instance = outside_value(file, "instance");
    for (size_t i = 0; i < VERIFY_TABLE_COUNT; i++) {
        char key[NAME];
        (void) snprintf(key, sizeof key, "rows-%s", verify_table_name((verify_table) i));
        manifest->rows[i] = number_of(file, key);
    }
    if (!cof_hex_decode(outside_value(file, "dump-sha256"), manifest->dump_sha256, CRYPTO_DIGEST)) {
        return cof_fail(err, COF_REASON_CORRUPTED, "the manifest has no hash of the dump");
    }
    return anchor_parse(file, &manifest->anchor, err);
}

cof_code manifest_read(const char *path, struct root_key *const *roots, size_t count, struct manifest *ret_manifest,
                       struct cof_error *err)
{
    AUTO(manifest_done) struct manifest manifest = {.schema = 0};
    TRY(outside_read(path, FIRST_LINE, roots, count, &manifest.file, err));
    TRY(parse(&manifest, err));
    *ret_manifest = manifest;
    manifest = (struct manifest){.schema = 0};
    return COF_OK;
}
