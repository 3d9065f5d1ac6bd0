#include "server/settings.h"

#include <stddef.h>

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

void settings_done(struct settings *settings)
{
    cof_config_free(settings->owner);
    settings->owner = NULL;
}

void settings_print_reference(void)
{
    cof_config_print_reference(&table);
}
