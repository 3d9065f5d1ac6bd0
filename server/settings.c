#include "server/settings.h"

#include <stddef.h>
#include <string.h>

#include "common/attr.h"

#define ROW(section, key, type, value, min, max, choices, help) \
    {#section, #key, COF_CONFIG_##type, value, min, max, choices, help, offsetof(struct settings, section##_##key)},

#define TEXT(section, key, value, help) ROW(section, key, TEXT, value, 0, 0, NULL, help)
#define LIST(section, key, value, help) ROW(section, key, LIST, value, 0, 0, NULL, help)
#define BOOL(section, key, value, help) ROW(section, key, BOOL, value, 0, 0, NULL, help)
#define NUMBER(section, key, value, min, max, help) ROW(section, key, NUMBER, value, min, max, NULL, help)
#define SIZE(section, key, value, min, max, help) ROW(section, key, SIZE, value, min, max, NULL, help)
#define DURATION(section, key, value, min, max, help) ROW(section, key, DURATION, value, min, max, NULL, help)
#define CHOICE(section, key, value, choices, help) ROW(section, key, CHOICE, value, 0, 0, choices, help)

static const struct cof_config_setting rows[] = {
#include "server/settings.def"
};

static const struct cof_config_table table = {rows, COF_COUNT(rows), "COFFERD"};

cof_code settings_read(const char *path, struct settings *ret_settings, struct cof_error *err)
{
    return cof_config_read(&table, path, ret_settings, &ret_settings->owner, err);
}

enum { LOCK_REQUIRED = 1 /* of the choices of memory.lock */ };

cof_lock_mode settings_lock_mode(const struct settings *settings)
{
    return settings->memory_lock == LOCK_REQUIRED ? COF_LOCK_REQUIRED : COF_LOCK_BEST_EFFORT;
}

void settings_done(struct settings *settings)
{
    cof_config_free(settings->owner);
    settings->owner = NULL;
}

struct live {
    const char *section;
    const char *key;
};

#define LIVE(section, key) {#section, #key},
static const struct live live[] = {
#include "server/live.def"
};

static bool is_live(const struct cof_config_setting *setting)
{
    for (size_t i = 0; i < COF_COUNT(live); i++) {
        if (strcmp(live[i].section, setting->section) == 0 && strcmp(live[i].key, setting->key) == 0) {
            return true;
        }
    }
    return false;
}

static bool same_list(const struct cof_config_list *a, const struct cof_config_list *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++) {
        same = strcmp(a->items[i], b->items[i]) == 0;
    }
    return same;
}

static bool same(cof_config_type type, const void *a, const void *b)
{
    switch (type) {
    case COF_CONFIG_TEXT:
        return strcmp(*(const char *const *) a, *(const char *const *) b) == 0;
    case COF_CONFIG_LIST:
        return same_list(a, b);
    case COF_CONFIG_BOOL:
        return *(const bool *) a == *(const bool *) b;
    case COF_CONFIG_SIZE:
        return *(const uint64_t *) a == *(const uint64_t *) b;
    case COF_CONFIG_NUMBER:
    case COF_CONFIG_DURATION:
    case COF_CONFIG_CHOICE:
        return *(const uint32_t *) a == *(const uint32_t *) b;
    }
    return false;
}

void settings_compare(const struct settings *before, const struct settings *after,
                      void (*changed)(const char *section, const char *key, bool live, void *context),
                      void *context)
{
    for (size_t i = 0; i < table.count; i++) {
        const struct cof_config_setting *setting = &table.settings[i];
        const void *was = (const uint8_t *) (const void *) before + setting->offset;
        const void *is = (const uint8_t *) (const void *) after + setting->offset;
        if (!same(setting->type, was, is)) {
            changed(setting->section, setting->key, is_live(setting), context);
        }
    }
}

void settings_print_reference(void)
{
    cof_config_print_reference(&table);
}
