#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/config.h"
#include "common/error.h"

/* The server's settings: one table (settings.def), from which the file, the environment and the docs are read. */

struct settings {
    struct cof_config *owner; /* of the texts */

    /* The larger ones first, whatever their order in the table, so that there are no gaps. */
#define TEXT(section, key, value, help) const char *section##_##key;
#define LIST(section, key, value, help) struct cof_config_list section##_##key;
#define SIZE(section, key, value, min, max, help) uint64_t section##_##key;
#define BOOL(section, key, value, help)
#define NUMBER(section, key, value, min, max, help)
#define DURATION(section, key, value, min, max, help)
#define CHOICE(section, key, value, choices, help)
#include "server/settings.def"
#undef TEXT
#undef LIST
#undef SIZE
#undef NUMBER
#undef DURATION
#undef CHOICE

#define TEXT(section, key, value, help)
#define LIST(section, key, value, help)
#define SIZE(section, key, value, min, max, help)
#define NUMBER(section, key, value, min, max, help) uint32_t section##_##key;
#define DURATION(section, key, value, min, max, help) uint32_t section##_##key; /* ms */
#define CHOICE(section, key, value, choices, help) uint32_t section##_##key;    /* index into the choices */
#include "server/settings.def"
#undef BOOL
#undef NUMBER
#undef DURATION
#undef CHOICE

#define BOOL(section, key, value, help) bool section##_##key;
#define NUMBER(section, key, value, min, max, help)
#define DURATION(section, key, value, min, max, help)
#define CHOICE(section, key, value, choices, help)
#include "server/settings.def"
#undef TEXT
#undef LIST
#undef SIZE
#undef BOOL
#undef NUMBER
#undef DURATION
#undef CHOICE
};

/* Reads the file (NULL: none) and the environment variables COFFERD_SECTION__KEY, which win. CONFIG_INVALID. */
COF_CODE settings_read(const char *path, struct settings *ret_settings, struct cof_error *err);
void settings_done(struct settings *settings);

/* What memory.lock asks of a pool that secrets lie in. */
cof_lock_mode settings_lock_mode(const struct settings *settings);

/* Calls `changed` for each setting that differs; `live`: a running server takes it (server/live.def). */
void settings_compare(const struct settings *before, const struct settings *after,
                      void (*changed)(const char *section, const char *key, bool live, void *context),
                      void *context);

/* Writes the commented default file to standard output. */
void settings_print_reference(void);
