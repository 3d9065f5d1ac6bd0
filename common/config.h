#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/*
 * The reader of a settings file: YAML of two levels, `section:` and below it `key: value`, read against a table.
 * Every key also comes from the environment, as PREFIX_SECTION__KEY, which wins. Strict: an unknown key, a
 * duplicate, a wrong type or a value out of range is CONFIG_INVALID with file, line, key, problem and what is
 * allowed; so is a variable of that form that names no setting. Files over 1 MiB, anchors, aliases and tags are
 * refused. The value of a text is never echoed.
 */

typedef enum cof_config_type {
    COF_CONFIG_TEXT,     /* const char * */
    COF_CONFIG_LIST,     /* struct cof_config_list; in the environment separated by commas */
    COF_CONFIG_BOOL,     /* bool: true or false */
    COF_CONFIG_NUMBER,   /* uint32_t */
    COF_CONFIG_SIZE,     /* uint64_t in bytes: 4096, 64KiB, 16MiB, 1GiB */
    COF_CONFIG_DURATION, /* uint32_t in ms: 250ms, 10s, 5min, 1h */
    COF_CONFIG_CHOICE,   /* uint32_t: index into `choices` */
} cof_config_type;

struct cof_config_list {
    const char **items;
    size_t count;
};

struct cof_config_setting {
    const char *section;
    const char *key;
    cof_config_type type;
    const char *value; /* the default, as it would be written */
    uint64_t min;
    uint64_t max;
    const char *choices; /* "a,b,c" */
    const char *help;
    size_t offset; /* into the struct that is filled */
};

struct cof_config_table {
    const struct cof_config_setting *settings;
    size_t count;
    const char *environment_prefix; /* "COFFERD" */
};

/* Owns the texts of what was read. */
struct cof_config;

/*
 * Fills `target` from the defaults, the file (NULL: none) and the environment, in this order. After a failure the
 * target's texts and lists must not be read. Reads the environment: to be called before threads change it.
 */
COF_CODE cof_config_read(const struct cof_config_table *table, const char *path, void *target,
                         struct cof_config **ret_config, struct cof_error *err);
void cof_config_free(struct cof_config *config);

/* Prints the commented default file. */
void cof_config_print_reference(const struct cof_config_table *table);
