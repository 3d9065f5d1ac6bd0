#include "common/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

enum { FILE_MAX = 1 << 20, NAME_MAX_LENGTH = 64, LIST_MAX = 64 };

struct cof_config {
    char **texts; /* everything that the struct borrows */
    size_t count;
};

/* Where a value comes from, for messages. */
struct origin {
    const char *file; /* or the name of the variable */
    size_t line;      /* 0: the environment or a default */
};

struct reader {
    const struct cof_config_table *table;
    struct cof_config *config;
    void *target;
    struct cof_error *err;
    struct origin origin;
    bool *seen;
};

/* --- Values --------------------------------------------------------------------------------------------------- */

static cof_code refuse(struct reader *reader, const struct cof_config_setting *setting, const char *problem)
{
    char where[256];
    if (reader->origin.line > 0) {
        (void) snprintf(where, sizeof where, "%.200s:%zu: ", reader->origin.file, reader->origin.line);
    } else {
        (void) snprintf(where, sizeof where, "%.200s: ", reader->origin.file);
    }
    return cof_fail(reader->err, COF_REASON_CONFIG_INVALID, "%s%s.%s: %s", where, setting->section, setting->key,
                    problem);
}

static char *remember(struct reader *reader, const char *text)
{
    struct cof_config *config = reader->config;
    char **grown = realloc(config->texts, (config->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return NULL;
    }
    config->texts = grown;
    config->texts[config->count] = strdup(text);
    return config->texts[config->count] == NULL ? NULL : config->texts[config->count++];
}

static cof_code no_memory(struct reader *reader)
{
    return cof_fail(reader->err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the settings");
}

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit plain_units[] = {{"", 1}};
static const struct unit size_units[] = {{"", 1}, {"KiB", 1U << 10}, {"MiB", 1U << 20}, {"GiB", 1U << 30}};
static const struct unit duration_units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};

static bool read_amount(const char *text, const struct unit *units, size_t count, uint64_t *ret_amount)
{
    char *end;
    if (!isdigit((unsigned char) text[0])) {
        return false;
    }
    errno = 0;
    const unsigned long long amount = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(end, units[i].suffix) == 0) {
            return !__builtin_mul_overflow((uint64_t) amount, units[i].factor, ret_amount);
        }
    }
    return false;
}

static cof_code read_number(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                            uint64_t *ret_amount)
{
    char problem[160];
    bool read = false;
    const char *form = "a whole number";
    if (setting->type == COF_CONFIG_SIZE) {
        read = read_amount(text, size_units, COF_COUNT(size_units), ret_amount);
        form = "a size such as 4096, 64KiB or 16MiB";
    } else if (setting->type == COF_CONFIG_DURATION) {
        read = read_amount(text, duration_units, COF_COUNT(duration_units), ret_amount);
        form = "a duration such as 250ms, 10s, 5min or 1h";
    } else {
        read = read_amount(text, plain_units, COF_COUNT(plain_units), ret_amount);
    }
    if (read && *ret_amount >= setting->min && *ret_amount <= setting->max) {
        return COF_OK;
    }
    (void) snprintf(problem, sizeof problem, "\"%.40s\" is %s; allowed: %s between %llu and %llu%s", text,
                    read ? "out of range" : "not understood", form, (unsigned long long) setting->min,
                    (unsigned long long) setting->max, setting->type == COF_CONFIG_DURATION ? " ms" : "");
    return refuse(reader, setting, problem);
}

static cof_code read_choice(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                            uint32_t *ret_index)
{
    char problem[160];
    const char *choice = setting->choices;
    for (uint32_t i = 0; choice != NULL; i++) {
        const char *comma = strchr(choice, ',');
        const size_t length = comma == NULL ? strlen(choice) : (size_t) (comma - choice);
        if (strlen(text) == length && strncmp(choice, text, length) == 0) {
            *ret_index = i;
            return COF_OK;
        }
        choice = comma == NULL ? NULL : comma + 1;
    }
    (void) snprintf(problem, sizeof problem, "\"%.40s\" is not allowed; allowed: %s", text, setting->choices);
    return refuse(reader, setting, problem);
}

static cof_code read_bool(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                          bool *ret_value)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        return refuse(reader, setting, "is neither true nor false");
    }
    *ret_value = text[0] == 't';
    return COF_OK;
}

static cof_code append(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                       struct cof_config_list *list)
{
    if (list->items == NULL) {
        /* The room is remembered as one of the texts, so that it is freed with them. */
        char **grown = realloc(reader->config->texts, (reader->config->count + 1) * sizeof *grown);
        list->items = calloc(LIST_MAX, sizeof *list->items);
        if (grown != NULL) {
            reader->config->texts = grown;
        }
        if (grown == NULL || list->items == NULL) {
            free(list->items);
            list->items = NULL;
            return no_memory(reader);
        }
        reader->config->texts[reader->config->count++] = (char *) (void *) list->items;
    }
    if (list->count == LIST_MAX) {
        return refuse(reader, setting, "has more than 64 entries");
    }
    list->items[list->count] = remember(reader, text);
    return list->items[list->count++] == NULL ? no_memory(reader) : COF_OK;
}

static cof_code read_list(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                          struct cof_config_list *ret_list)
{
    struct cof_config_list list = {0};
    while (*text != '\0') {
        char item[512];
        const size_t length = strcspn(text, ",");
        if (length >= sizeof item) {
            return refuse(reader, setting, "has an entry that is too long");
        }
        memcpy(item, text, length);
        item[length] = '\0';
        TRY(append(reader, setting, item, &list));
        text += length + (text[length] == ',');
    }
    *ret_list = list;
    return COF_OK;
}

static void *place_of(struct reader *reader, const struct cof_config_setting *setting)
{
    return (uint8_t *) reader->target + setting->offset;
}

static cof_code set(struct reader *reader, const struct cof_config_setting *setting, const char *text)
{
    uint64_t amount = 0;
    void *place = place_of(reader, setting);
    switch (setting->type) {
    case COF_CONFIG_TEXT:
        *(const char **) place = remember(reader, text);
        return *(const char **) place == NULL ? no_memory(reader) : COF_OK;
    case COF_CONFIG_LIST:
        return read_list(reader, setting, text, place);
    case COF_CONFIG_BOOL:
        return read_bool(reader, setting, text, place);
    case COF_CONFIG_CHOICE:
        return read_choice(reader, setting, text, place);
    case COF_CONFIG_NUMBER:
    case COF_CONFIG_DURATION:
        TRY(read_number(reader, setting, text, &amount));
        *(uint32_t *) place = (uint32_t) amount;
        return COF_OK;
    case COF_CONFIG_SIZE:
        TRY(read_number(reader, setting, text, &amount));
        *(uint64_t *) place = amount;
        return COF_OK;
    }
    return refuse(reader, setting, "has no type");
}

/* --- The file ------------------------------------------------------------------------------------------------- */

typedef enum depth {
    AT_FILE,    /* before the outer mapping */
    AT_SECTION, /* expects the name of a section */
    AT_INNER,   /* expects the mapping below it */
    AT_KEY,
    AT_VALUE,
    AT_ITEM, /* inside a list */
    AT_END,
} depth;

struct document {
    struct reader *reader;
    depth depth;
    char section[NAME_MAX_LENGTH];
    const struct cof_config_setting *setting;
    struct cof_config_list list;
};

static cof_code refuse_line(struct reader *reader, const char *problem)
{
    return cof_fail(reader->err, COF_REASON_CONFIG_INVALID, "%.200s:%zu: %s", reader->origin.file,
                    reader->origin.line, problem);
}

static const struct cof_config_setting *find(const struct cof_config_table *table, const char *section,
                                             const char *key)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct cof_config_setting *setting = &table->settings[i];
        if (strcmp(setting->section, section) == 0 && (key == NULL || strcmp(setting->key, key) == 0)) {
            return setting;
        }
    }
    return NULL;
}

static cof_code take_section(struct document *document, const char *name)
{
    char problem[160];
    if (find(document->reader->table, name, NULL) == NULL) {
        (void) snprintf(problem, sizeof problem,
                        "there is no section \"%.40s\"; cofferd config-reference shows all of them", name);
        return refuse_line(document->reader, problem);
    }
    (void) snprintf(document->section, sizeof document->section, "%s", name);
    document->depth = AT_INNER;
    return COF_OK;
}

static cof_code take_key(struct document *document, const char *name)
{
    struct reader *reader = document->reader;
    char problem[200];
    document->setting = find(reader->table, document->section, name);
    if (document->setting == NULL) {
        (void) snprintf(problem, sizeof problem,
                        "there is no setting %s.%.40s; cofferd config-reference shows all of them",
                        document->section, name);
        return refuse_line(reader, problem);
    }
    const size_t index = (size_t) (document->setting - reader->table->settings);
    if (reader->seen[index]) {
        return refuse(reader, document->setting, "stands twice in the file; keep one");
    }
    reader->seen[index] = true;
    document->depth = AT_VALUE;
    return COF_OK;
}

static cof_code take_scalar(struct document *document, const char *text)
{
    switch (document->depth) {
    case AT_SECTION:
        return take_section(document, text);
    case AT_KEY:
        return take_key(document, text);
    case AT_VALUE:
        document->depth = AT_KEY;
        if (document->setting->type == COF_CONFIG_LIST) {
            return refuse(document->reader, document->setting, "is a list; write each entry in a line with \"- \"");
        }
        return set(document->reader, document->setting, text);
    case AT_ITEM:
        return append(document->reader, document->setting, text, &document->list);
    case AT_INNER:
        if (text[0] == '\0') {
            document->depth = AT_SECTION; /* an empty section */
            return COF_OK;
        }
        break;
    case AT_FILE:
    case AT_END:
        break;
    }
    return refuse_line(document->reader, "a text stands where a section or a setting is expected");
}

static cof_code begin_mapping(struct document *document)
{
    if (document->depth == AT_FILE) {
        document->depth = AT_SECTION;
    } else if (document->depth == AT_INNER) {
        document->depth = AT_KEY;
    } else {
        return refuse_line(document->reader, "settings have two levels: a section, and its keys");
    }
    return COF_OK;
}

static cof_code begin_list(struct document *document)
{
    if (document->depth != AT_VALUE || document->setting->type != COF_CONFIG_LIST) {
        return refuse_line(document->reader, "a list stands where none is expected");
    }
    document->list = (struct cof_config_list){0};
    document->depth = AT_ITEM;
    return COF_OK;
}

static cof_code take_event(struct document *document, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        if (event->data.scalar.anchor != NULL) {
            return refuse_line(document->reader, "anchors are not allowed");
        }
        return take_scalar(document, (const char *) event->data.scalar.value);
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor == NULL ? begin_mapping(document)
                                                        : refuse_line(document->reader, "anchors are not allowed");
    case YAML_MAPPING_END_EVENT:
        document->depth = document->depth == AT_KEY ? AT_SECTION : AT_END;
        return COF_OK;
    case YAML_SEQUENCE_START_EVENT:
        return begin_list(document);
    case YAML_SEQUENCE_END_EVENT:
        *(struct cof_config_list *) place_of(document->reader, document->setting) = document->list;
        document->depth = AT_KEY;
        return COF_OK;
    case YAML_ALIAS_EVENT:
        return refuse_line(document->reader, "aliases are not allowed");
    case YAML_DOCUMENT_START_EVENT:
        return document->depth == AT_END ? refuse_line(document->reader, "a second document is not allowed")
                                         : COF_OK;
    default:
        return COF_OK;
    }
}

static cof_code parse(struct reader *reader, yaml_parser_t *parser)
{
    struct document document = {.reader = reader, .depth = AT_FILE};
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            reader->origin.line = parser->problem_mark.line + 1;
            return refuse_line(reader, parser->problem == NULL ? "is not YAML" : parser->problem);
        }
        reader->origin.line = event.start_mark.line + 1;
        const bool last = event.type == YAML_STREAM_END_EVENT;
        const cof_code code = take_event(&document, &event);
        yaml_event_delete(&event);
        if (code != COF_OK || last) {
            return code;
        }
    }
}

static cof_code read_whole(struct reader *reader, FILE *file, char **ret_text, size_t *ret_size)
{
    char *text = malloc(FILE_MAX + 1);
    if (text == NULL) {
        return no_memory(reader);
    }
    *ret_size = fread(text, 1, FILE_MAX + 1, file);
    *ret_text = text;
    if (ferror(file) != 0) {
        return cof_fail(reader->err, COF_REASON_CONFIG_INVALID, "%.200s: cannot be read", reader->origin.file);
    }
    if (*ret_size > FILE_MAX) {
        return cof_fail(reader->err, COF_REASON_CONFIG_INVALID, "%.200s: is larger than 1 MiB",
                        reader->origin.file);
    }
    return COF_OK;
}

static cof_code read_file(struct reader *reader, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    yaml_parser_t parser;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        const int number = errno;
        return cof_fail(reader->err, COF_REASON_CONFIG_INVALID, "%.200s: cannot be opened: %s", path,
                        strerror(number));
    }
    cof_code code = read_whole(reader, file, &text, &size);
    (void) fclose(file);
    if (code == COF_OK && yaml_parser_initialize(&parser) == 1) {
        yaml_parser_set_input_string(&parser, (const unsigned char *) text, size);
        code = parse(reader, &parser);
        yaml_parser_delete(&parser);
    }
    free(text);
    return code;
}

/* --- Defaults and environment --------------------------------------------------------------------------------- */

static cof_code set_defaults(struct reader *reader)
{
    reader->origin = (struct origin){"built in", 0};
    for (size_t i = 0; i < reader->table->count; i++) {
        TRY(set(reader, &reader->table->settings[i], reader->table->settings[i].value));
    }
    return COF_OK;
}

static void variable_name(const struct cof_config_table *table, const struct cof_config_setting *setting,
                          char *name, size_t size)
{
    (void) snprintf(name, size, "%s_%s__%s", table->environment_prefix, setting->section, setting->key);
    for (char *at = name; *at != '\0'; at++) {
        *at = (char) toupper((unsigned char) *at);
    }
}

static cof_code read_environment(struct reader *reader)
{
    for (size_t i = 0; i < reader->table->count; i++) {
        char name[NAME_MAX_LENGTH * 3];
        variable_name(reader->table, &reader->table->settings[i], name, sizeof name);
        const char *value = getenv(name);
        if (value != NULL) {
            reader->origin = (struct origin){name, 0};
            TRY(set(reader, &reader->table->settings[i], value));
        }
    }
    return COF_OK;
}

static cof_code read_all(struct reader *reader, const char *path)
{
    TRY(set_defaults(reader));
    if (path != NULL) {
        reader->origin = (struct origin){path, 0};
        TRY(read_file(reader, path));
    }
    return read_environment(reader);
}

cof_code cof_config_read(const struct cof_config_table *table, const char *path, void *target,
                         struct cof_config **ret_config, struct cof_error *err)
{
    struct reader reader = {.table = table, .target = target, .err = err};
    reader.config = calloc(1, sizeof *reader.config);
    reader.seen = calloc(table->count, sizeof *reader.seen);
    cof_code code = COF_OK;
    if (reader.config == NULL || reader.seen == NULL) {
        code = no_memory(&reader);
    } else {
        code = read_all(&reader, path);
    }
    free(reader.seen);
    if (code != COF_OK) {
        cof_config_free(reader.config);
        return code;
    }
    *ret_config = reader.config;
    return COF_OK;
}

void cof_config_free(struct cof_config *config)
{
    if (config == NULL) {
        return;
    }
    for (size_t i = 0; i < config->count; i++) {
        free(config->texts[i]);
    }
    free(config->texts);
    free(config);
}

static void print_default(const struct cof_config_setting *setting)
{
    if (setting->type == COF_CONFIG_LIST) {
        printf("  # %s:\n  #   - %s\n", setting->key, setting->value);
    } else {
        printf("  # %s: %s\n", setting->key, setting->value[0] == '\0' ? "\"\"" : setting->value);
    }
}

void cof_config_print_reference(const struct cof_config_table *table)
{
    const char *section = "";
    for (size_t i = 0; i < table->count; i++) {
        const struct cof_config_setting *setting = &table->settings[i];
        if (strcmp(section, setting->section) != 0) {
            printf("%s%s:\n", i == 0 ? "" : "\n", setting->section);
            section = setting->section;
        }
        printf("  # %s\n", setting->help);
        if (setting->type == COF_CONFIG_CHOICE) {
            printf("  # One of %s.\n", setting->choices);
        }
        print_default(setting);
    }
}
