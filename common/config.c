#include "common/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <yaml.h>

enum { FILE_MAX = 1 << 20, NAME_MAX_LENGTH = 64, LIST_MAX = 64, ITEM_MAX = 512, SHOWN = 41, PROBLEM = 320 };

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
    bool *seen;         /* settings that stood in the file */
    bool *section_seen; /* the same for sections, by their first setting */
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

/* What is echoed of a wrong text: its beginning, with nothing in it that a terminal would obey. */
static const char *show(const char *text, char shown[SHOWN])
{
    size_t length = 0;
    for (; length + 1 < SHOWN && text[length] != '\0'; length++) {
        shown[length] = text[length] >= ' ' && text[length] <= '~' ? text[length] : '?';
    }
    shown[length] = '\0';
    return shown;
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

/* How the numbers of a type are written. */
struct amount_form {
    const struct unit *units;
    size_t unit_count;
    const char *form;
    const char *unit; /* of the limits in messages */
};

static const struct amount_form number_form = {plain_units, COF_COUNT(plain_units), "a whole number", ""};
static const struct amount_form size_form = {size_units, COF_COUNT(size_units),
                                             "a size such as 4096, 64KiB or 16MiB", " bytes"};
static const struct amount_form duration_form = {duration_units, COF_COUNT(duration_units),
                                                 "a duration such as 250ms, 10s, 5min or 1h", " ms"};

static cof_code read_number(struct reader *reader, const struct cof_config_setting *setting,
                            const struct amount_form *form, const char *text, uint64_t *ret_amount)
{
    char problem[PROBLEM];
    char shown[SHOWN];
    const bool read = read_amount(text, form->units, form->unit_count, ret_amount);
    if (read && *ret_amount >= setting->min && *ret_amount <= setting->max) {
        return COF_OK;
    }
    (void) snprintf(problem, sizeof problem, "\"%s\" is %s; allowed: %s between %" PRIu64 " and %" PRIu64 "%s",
                    show(text, shown), read ? "out of range" : "not understood", form->form, setting->min,
                    setting->max, form->unit);
    return refuse(reader, setting, problem);
}

/* Numbers and durations have 32 bits, whatever the table's limit is. */
static cof_code read_u32(struct reader *reader, const struct cof_config_setting *setting,
                         const struct amount_form *form, const char *text, uint32_t *ret_amount)
{
    uint64_t amount = 0;
    struct cof_config_setting bounded = *setting;
    bounded.max = setting->max < UINT32_MAX ? setting->max : UINT32_MAX;
    TRY(read_number(reader, &bounded, form, text, &amount));
    *ret_amount = (uint32_t) amount;
    return COF_OK;
}

static cof_code read_choice(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                            uint32_t *ret_index)
{
    char problem[PROBLEM];
    char shown[SHOWN];
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
    (void) snprintf(problem, sizeof problem, "\"%s\" is not understood; allowed: %s", show(text, shown),
                    setting->choices);
    return refuse(reader, setting, problem);
}

static cof_code read_bool(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                          bool *ret_value)
{
    char problem[PROBLEM];
    char shown[SHOWN];
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        *ret_value = text[0] == 't';
        return COF_OK;
    }
    (void) snprintf(problem, sizeof problem, "\"%s\" is not understood; allowed: true, false", show(text, shown));
    return refuse(reader, setting, problem);
}

static cof_code read_text(struct reader *reader, const char *text, const char **ret_text)
{
    const char *copy = remember(reader, text);
    if (copy == NULL) {
        return no_memory(reader);
    }
    *ret_text = copy;
    return COF_OK;
}

/* The room for a list is remembered as one of the texts, so that it is freed with them. */
static cof_code make_room(struct reader *reader, struct cof_config_list *list)
{
    struct cof_config *config = reader->config;
    char **grown = realloc(config->texts, (config->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return no_memory(reader);
    }
    config->texts = grown;
    list->items = calloc(LIST_MAX, sizeof *list->items);
    if (list->items == NULL) {
        return no_memory(reader);
    }
    config->texts[config->count++] = (char *) (void *) list->items;
    return COF_OK;
}

static cof_code append(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                       struct cof_config_list *list)
{
    if (text[0] == '\0') {
        return refuse(reader, setting, "has an empty entry; allowed: up to 64 texts");
    }
    if (list->count == LIST_MAX) {
        return refuse(reader, setting, "has too many entries; allowed: up to 64 texts");
    }
    if (list->items == NULL) {
        TRY(make_room(reader, list));
    }
    TRY(read_text(reader, text, &list->items[list->count]));
    list->count++;
    return COF_OK;
}

/* The entry up to a comma, without the blanks around it. */
static size_t trimmed(const char **text, size_t length)
{
    while (length > 0 && **text == ' ') {
        (*text)++;
        length--;
    }
    while (length > 0 && (*text)[length - 1] == ' ') {
        length--;
    }
    return length;
}

static cof_code read_list(struct reader *reader, const struct cof_config_setting *setting, const char *text,
                          struct cof_config_list *ret_list)
{
    struct cof_config_list list = {0};
    while (*text != '\0') {
        char item[ITEM_MAX];
        const size_t length = strcspn(text, ",");
        const char *begin = text;
        const size_t kept = trimmed(&begin, length);
        if (kept >= sizeof item) {
            return refuse(reader, setting, "has an entry that is too long; allowed: 511 bytes");
        }
        memcpy(item, begin, kept);
        item[kept] = '\0';
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
    void *place = place_of(reader, setting);
    switch (setting->type) {
    case COF_CONFIG_TEXT:
        return read_text(reader, text, place);
    case COF_CONFIG_LIST:
        return read_list(reader, setting, text, place);
    case COF_CONFIG_BOOL:
        return read_bool(reader, setting, text, place);
    case COF_CONFIG_CHOICE:
        return read_choice(reader, setting, text, place);
    case COF_CONFIG_NUMBER:
        return read_u32(reader, setting, &number_form, text, place);
    case COF_CONFIG_DURATION:
        return read_u32(reader, setting, &duration_form, text, place);
    case COF_CONFIG_SIZE:
        return read_number(reader, setting, &size_form, text, place);
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
    const char *section;
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

/* The sections of the table, or the keys of one section, for a message. */
static void list_names(const struct cof_config_table *table, const char *section, char *to, size_t size)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < table->count && used < size; i++) {
        const struct cof_config_setting *setting = &table->settings[i];
        const bool listed = section == NULL ? find(table, setting->section, NULL) == setting
                                            : strcmp(setting->section, section) == 0;
        if (listed) {
            used += (size_t) snprintf(to + used, size - used, "%s%s", used == 0 ? "" : ", ",
                                      section == NULL ? setting->section : setting->key);
        }
    }
}

static cof_code refuse_name(struct document *document, const char *section, const char *name)
{
    char names[PROBLEM];
    char shown[SHOWN];
    list_names(document->reader->table, section, names, sizeof names);
    return cof_fail(document->reader->err, COF_REASON_CONFIG_INVALID,
                    "%.120s:%zu: %s%s%s: there is no such %s; allowed: %.280s", document->reader->origin.file,
                    document->reader->origin.line, section == NULL ? "" : section, section == NULL ? "" : ".",
                    show(name, shown), section == NULL ? "section" : "setting", names);
}

static cof_code take_section(struct document *document, const char *name)
{
    struct reader *reader = document->reader;
    const struct cof_config_setting *first = find(reader->table, name, NULL);
    if (first == NULL) {
        return refuse_name(document, NULL, name);
    }
    bool *seen = &reader->section_seen[first - reader->table->settings];
    if (*seen) {
        char problem[PROBLEM];
        (void) snprintf(problem, sizeof problem, "%.64s: stands twice in the file; allowed: once", first->section);
        return refuse_line(reader, problem);
    }
    *seen = true;
    document->section = first->section;
    document->depth = AT_INNER;
    return COF_OK;
}

static cof_code take_key(struct document *document, const char *name)
{
    struct reader *reader = document->reader;
    document->setting = find(reader->table, document->section, name);
    if (document->setting == NULL) {
        return refuse_name(document, document->section, name);
    }
    bool *seen = &reader->seen[document->setting - reader->table->settings];
    if (*seen) {
        return refuse(reader, document->setting, "stands twice in the file; allowed: once");
    }
    *seen = true;
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
            return refuse(document->reader, document->setting,
                          "is a list; allowed: each entry in a line of its own, with \"- \" before it");
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
    return refuse_line(
        document->reader,
        "a text stands where a section or a setting is expected; allowed: sections, and keys below them");
}

static cof_code begin_mapping(struct document *document)
{
    if (document->depth == AT_FILE) {
        document->depth = AT_SECTION;
    } else if (document->depth == AT_INNER) {
        document->depth = AT_KEY;
    } else {
        return refuse_line(document->reader,
                           "a mapping stands where none is expected; allowed: sections, and keys below them");
    }
    return COF_OK;
}

static cof_code begin_list(struct document *document)
{
    if (document->depth == AT_VALUE && document->setting->type != COF_CONFIG_LIST) {
        return refuse(document->reader, document->setting, "is no list; allowed: one value");
    }
    if (document->depth != AT_VALUE) {
        return refuse_line(document->reader, "a list stands where none is expected; allowed: as a setting's value");
    }
    document->list = (struct cof_config_list){0};
    document->depth = AT_ITEM;
    return COF_OK;
}

static cof_code take_node(struct document *document, const yaml_event_t *event)
{
    if (event->type == YAML_MAPPING_START_EVENT) {
        return begin_mapping(document);
    }
    if (event->type == YAML_SEQUENCE_START_EVENT) {
        return begin_list(document);
    }
    const char *text = (const char *) event->data.scalar.value;
    return strlen(text) == event->data.scalar.length
               ? take_scalar(document, text)
               : refuse_line(document->reader, "a text holds a NUL character; allowed: text without one");
}

/* What the reader would have to ignore is refused: the file must not seem to say more than it does. */
static bool is_decorated(const yaml_event_t *event)
{
    switch ((int) event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor != NULL || event->data.sequence_start.tag != NULL;
    default:
        return event->type == YAML_ALIAS_EVENT;
    }
}

static cof_code take_event(struct document *document, const yaml_event_t *event)
{
    if (is_decorated(event)) {
        return refuse_line(document->reader, "anchors, aliases and tags are refused; allowed: plain values");
    }
    switch ((int) event->type) {
    case YAML_SCALAR_EVENT:
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        return take_node(document, event);
    case YAML_MAPPING_END_EVENT:
        document->depth = document->depth == AT_KEY ? AT_SECTION : AT_END;
        return COF_OK;
    case YAML_SEQUENCE_END_EVENT:
        *(struct cof_config_list *) place_of(document->reader, document->setting) = document->list;
        document->depth = AT_KEY;
        return COF_OK;
    case YAML_DOCUMENT_START_EVENT:
        return document->depth == AT_FILE ? COF_OK
                                          : refuse_line(document->reader, "a second document begins; allowed: one");
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

static cof_code parse_text(struct reader *reader, const char *text, size_t size)
{
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) != 1) {
        return no_memory(reader);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *) text, size);
    const cof_code code = parse(reader, &parser);
    yaml_parser_delete(&parser);
    return code;
}

static cof_code read_file(struct reader *reader, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        const int number = errno;
        return cof_fail(reader->err, COF_REASON_CONFIG_INVALID, "%.200s: cannot be opened: %s", path,
                        strerror(number));
    }
    cof_code code = read_whole(reader, file, &text, &size);
    (void) fclose(file);
    if (code == COF_OK) {
        code = parse_text(reader, text, size);
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
            const cof_code code = set(reader, &reader->table->settings[i], value);
            reader->origin = (struct origin){"", 0};
            TRY(code);
        }
    }
    return COF_OK;
}

static bool is_setting(const struct cof_config_table *table, const char *variable, size_t length)
{
    for (size_t i = 0; i < table->count; i++) {
        char name[NAME_MAX_LENGTH * 3];
        variable_name(table, &table->settings[i], name, sizeof name);
        if (strlen(name) == length && strncmp(name, variable, length) == 0) {
            return true;
        }
    }
    return false;
}

/* PREFIX_ and two underscores make a setting's variable; others with the prefix may be anybody's. */
static bool looks_like_setting(const struct cof_config_table *table, const char *variable, size_t length)
{
    const size_t prefix = strlen(table->environment_prefix);
    if (length <= prefix || strncmp(variable, table->environment_prefix, prefix) != 0 || variable[prefix] != '_') {
        return false;
    }
    const char *separator = strstr(variable + prefix + 1, "__");
    return separator != NULL && separator < variable + length;
}

static cof_code refuse_strangers(struct reader *reader)
{
    for (char **at = environ; *at != NULL; at++) {
        const size_t length = strcspn(*at, "=");
        char shown[SHOWN];
        if (looks_like_setting(reader->table, *at, length) && !is_setting(reader->table, *at, length)) {
            char name[NAME_MAX_LENGTH * 3];
            (void) snprintf(name, sizeof name, "%.*s", (int) (length < sizeof name ? length : sizeof name - 1),
                            *at);
            return cof_fail(
                reader->err, COF_REASON_CONFIG_INVALID,
                "the environment variable %s: there is no such setting; allowed: %s_SECTION__KEY of the "
                "settings in the reference",
                show(name, shown), reader->table->environment_prefix);
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
    TRY(refuse_strangers(reader));
    return read_environment(reader);
}

static cof_code prepare(struct reader *reader)
{
    reader->config = calloc(1, sizeof *reader->config);
    reader->seen = calloc(reader->table->count, sizeof *reader->seen);
    reader->section_seen = calloc(reader->table->count, sizeof *reader->section_seen);
    return reader->config == NULL || reader->seen == NULL || reader->section_seen == NULL ? no_memory(reader)
                                                                                          : COF_OK;
}

cof_code cof_config_read(const struct cof_config_table *table, const char *path, void *target,
                         struct cof_config **ret_config, struct cof_error *err)
{
    struct reader reader = {.table = table, .target = target, .err = err};
    cof_code code = prepare(&reader);
    if (code == COF_OK) {
        code = read_all(&reader, path);
    }
    free(reader.seen);
    free(reader.section_seen);
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

static void print_list(const char *items)
{
    printf("%s\n", items[0] == '\0' ? " []" : "");
    while (*items != '\0') {
        const size_t length = strcspn(items, ",");
        printf("  #   - %.*s\n", (int) length, items);
        items += length + (items[length] == ',');
    }
}

static void print_default(const struct cof_config_setting *setting)
{
    printf("  # %s:", setting->key);
    if (setting->type == COF_CONFIG_LIST) {
        print_list(setting->value);
    } else {
        printf(" %s\n", setting->value[0] == '\0' ? "\"\"" : setting->value);
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
