#include "server/keys.h"

#include "server/crypto/root_key.h"

struct roots {
    struct root_key *keys[KEYRING_ROOTS_MAX];
    size_t count;
};

static void roots_cleanup(struct roots *roots)
{
    for (size_t i = 0; i < roots->count; i++) {
        root_key_free(roots->keys[i]);
    }
}

static cof_code read_others(const struct settings *settings, struct roots *roots, struct cof_error *err)
{
    const struct cof_config_list *others = &settings->keys_other_root_keys;
    if (others->count >= KEYRING_ROOTS_MAX) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "keys.other_root_keys: %zu are too many, the most is %d",
                        others->count, KEYRING_ROOTS_MAX - 1);
    }
    for (size_t i = 0; i < others->count; i++) {
        const cof_code code = root_key_read(others->items[i], &roots->keys[roots->count], err);
        if (code != COF_OK) {
            return cof_note(err, "keys.other_root_keys, number %zu", i + 1);
        }
        roots->count++;
    }
    return COF_OK;
}

cof_code keys_open(const struct settings *settings, size_t capacity, struct keyring **ret_keyring,
                   struct cof_error *err)
{
    AUTO(roots_cleanup) struct roots roots = {.count = 0};
    TRY(root_key_read(settings->keys_root_key_file, &roots.keys[0], err));
    roots.count = 1;
    TRY(read_others(settings, &roots, err));
    const cof_code code = keyring_new(roots.keys, roots.count, capacity, ret_keyring, err);
    if (code != COF_OK) {
        return cof_note(err, "keys.root_key_file is number 1, those of keys.other_root_keys follow");
    }
    roots.count = 0; /* the keyring's now */
    return COF_OK;
}
