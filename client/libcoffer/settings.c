#include "client/libcoffer/settings.h"

#include <stdlib.h>
#include <string.h>

#include "client/libcoffer/address.h"

#define DEFAULT_ADDRESS "ipc:///run/coffer/coffer.sock"

enum {
    NUMBER_DIGITS = 9,
    SUGGESTION_DISTANCE = 3,
    MEMORY_SMALLEST = 64 << 10,
    MEMORY_LARGEST = 1 << 30,
};

/* One setting as it was given. */
struct given {
    const char *name;
    const char *from; /* the setting or the variable, for messages */
    const char *value;
    struct cof_error *err;
};

struct unit {
    const char *name;
    uint64_t factor;
};

static cof_code wrong(const struct given *given, const char *rule)
{
    return cof_fail_field(given->err, COF_REASON_CONFIG_INVALID, given->name, "%s: %s", given->from, rule);
}

static cof_code no_memory(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for the client's settings");
}

static cof_code copy(const struct given *given, size_t size, char *to, const char *rule)
{
    const size_t len = strlen(given->value);
    if (len >= size) {
        return wrong(given, rule);
    }
    memcpy(to, given->value, len + 1);
    return COF_OK;
}

/* Digits and one of the units; false for anything else, also for a number without a unit. */
static bool read_quantity(const char *text, const struct unit *units, size_t count, uint64_t *ret_number)
{
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > NUMBER_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text + digits, units[i].name) == 0) {
            *ret_number = strtoull(text, NULL, 10) * units[i].factor;
            return true;
        }
    }
    return false;
}

static cof_code read_duration(const struct given *given, uint32_t *ret_ms)
{
    static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};
    uint64_t ms = 0;
    if (!read_quantity(given->value, units, COF_COUNT(units), &ms) || ms == 0 || ms > SETTINGS_TIMEOUT_MAX_MS) {
        return wrong(given, "write a time of at most 1h with its unit, such as 500ms, 10s or 1min");
    }
    *ret_ms = (uint32_t) ms;
    return COF_OK;
}

static cof_code add_address(struct settings *settings, struct cof_slice address, const struct given *given)
{
    if (settings->address_count == SETTINGS_ADDRESSES) {
        return wrong(given, "more than 16 addresses; leave some out");
    }
    char *text = strndup((const char *) address.data, address.len);
    if (text == NULL) {
        return no_memory(given->err);
    }
    settings->addresses[settings->address_count++] = text;
    return COF_OK;
}

/* The addresses are checked at the end, when insecure_transport is known. */
static cof_code apply_addr(struct settings *settings, const struct given *given)
{
    const char *at = given->value;
    settings->address_from = given->from;
    for (;;) {
        const size_t len = strcspn(at, ",");
        TRY(add_address(settings, cof_slice_of(at, len), given));
        if (at[len] == '\0') {
            return COF_OK;
        }
        at += len + 1;
    }
}

static cof_code copy_path(const struct given *given, char **ret_path)
{
    if (given->value[0] == '\0' || strlen(given->value) >= SETTINGS_PATH) {
        return wrong(given, "write the path of a file");
    }
    *ret_path = strdup(given->value);
    return *ret_path == NULL ? no_memory(given->err) : COF_OK;
}

static cof_code apply_token_file(struct settings *settings, const struct given *given)
{
    return copy_path(given, &settings->token_file);
}

static cof_code apply_cacert(struct settings *settings, const struct given *given)
{
    return copy_path(given, &settings->cacert);
}

static cof_code apply_client_cert(struct settings *settings, const struct given *given)
{
    return copy_path(given, &settings->client_cert);
}

static cof_code apply_client_key(struct settings *settings, const struct given *given)
{
    return copy_path(given, &settings->client_key);
}

static cof_code apply_tls_server_name(struct settings *settings, const struct given *given)
{
    const size_t len = strlen(given->value);
    const size_t host = strspn(given->value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:");
    if (len == 0 || len > SETTINGS_HOST || host != len) {
        return wrong(given, "write a host's name or address as it stands in the server's certificate");
    }
    settings->tls_server_name = strdup(given->value);
    return settings->tls_server_name == NULL ? no_memory(given->err) : COF_OK;
}

static cof_code apply_workspace(struct settings *settings, const struct given *given)
{
    struct cof_uuid uuid;
    if (!cof_uuid_parse(cof_slice_text(given->value), &uuid)) {
        return wrong(given, "write the UUID of a workspace, 36 characters in lower case");
    }
    cof_uuid_format(&uuid, settings->workspace);
    return COF_OK;
}

static cof_code apply_environment(struct settings *settings, const struct given *given)
{
    if (!cof_name_valid(COF_NAME_ENVIRONMENT, cof_slice_text(given->value))) {
        return wrong(given, "write 1 to 100 of A-Z a-z 0-9 . _ - with a letter or digit first");
    }
    return copy(given, sizeof settings->environment, settings->environment, "");
}

static cof_code apply_timeout(struct settings *settings, const struct given *given)
{
    return read_duration(given, &settings->timeout_ms);
}

static cof_code apply_connect_timeout(struct settings *settings, const struct given *given)
{
    return read_duration(given, &settings->connect_timeout_ms);
}

static cof_code read_yes_or_no(const struct given *given, bool *ret_yes)
{
    *ret_yes = strcmp(given->value, "yes") == 0;
    return *ret_yes || strcmp(given->value, "no") == 0 ? COF_OK : wrong(given, "write yes or no");
}

static cof_code apply_insecure_transport(struct settings *settings, const struct given *given)
{
    return read_yes_or_no(given, &settings->insecure_transport);
}

static cof_code apply_coalesce(struct settings *settings, const struct given *given)
{
    return read_yes_or_no(given, &settings->coalesce);
}

static cof_code apply_coalesce_requests(struct settings *settings, const struct given *given)
{
    static const struct unit units[] = {{"", 1}};
    uint64_t number = 0;
    if (!read_quantity(given->value, units, COF_COUNT(units), &number) || number == 0 ||
        number > SETTINGS_COALESCE_REQUESTS_MAX) {
        return wrong(given, "write a number of 1 to 64");
    }
    settings->coalesce_requests = (uint32_t) number;
    return COF_OK;
}

static cof_code apply_application_name(struct settings *settings, const struct given *given)
{
    static const char rule[] = "write 1 to 64 characters of printable ASCII";
    const char *at = given->value;
    while (*at >= ' ' && *at <= '~') {
        at++;
    }
    if (given->value[0] == '\0' || *at != '\0') {
        return wrong(given, rule);
    }
    return copy(given, sizeof settings->application_name, settings->application_name, rule);
}

static cof_code apply_memory(struct settings *settings, const struct given *given)
{
    static const struct unit units[] = {{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    uint64_t bytes = 0;
    if (!read_quantity(given->value, units, COF_COUNT(units), &bytes) || bytes < MEMORY_SMALLEST ||
        bytes > MEMORY_LARGEST) {
        return wrong(given, "write a size of 64KiB to 1GiB with its unit, such as 512KiB or 64MiB");
    }
    settings->memory = (size_t) bytes;
    return COF_OK;
}

static cof_code apply_coalesce_wait(struct settings *settings, const struct given *given)
{
    return read_duration(given, &settings->coalesce_wait_ms);
}

struct setting {
    const char *name;
    const char *variable;
    cof_code (*apply)(struct settings *settings, const struct given *given);
};

static const struct setting table[] = {
#define SETTING(name, variable) {#name, variable, apply_##name},
#include "client/libcoffer/setting.def"
#undef SETTING
};

enum { SETTING_COUNT = COF_COUNT(table) };

struct reader {
    const char *at;
    char *to; /* room for the values without their quotes */
    bool seen[SETTING_COUNT];
    struct cof_error *err;
};

static cof_code malformed(struct reader *reader, const char *what)
{
    return cof_fail(
        reader->err, COF_REASON_CONFIG_INVALID,
        "the client's settings %s; write name=value, separated by spaces, a value with spaces in single "
        "quotes",
        what);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_space(struct reader *reader)
{
    while (is_space(*reader->at)) {
        reader->at++;
    }
}

static cof_code read_name(struct reader *reader, struct cof_slice *ret_name)
{
    const char *begin = reader->at;
    reader->at += strspn(begin, "abcdefghijklmnopqrstuvwxyz_");
    *ret_name = cof_slice_of(begin, (size_t) (reader->at - begin));
    skip_space(reader);
    if (ret_name->len == 0 || *reader->at != '=') {
        return malformed(reader, "have something that is not name=value");
    }
    reader->at++;
    skip_space(reader);
    return COF_OK;
}

/* Copies the value without its quotes and backslashes and ends it with a NUL. */
static cof_code read_value(struct reader *reader, const char **ret_value)
{
    const bool quoted = *reader->at == '\'';
    *ret_value = reader->to;
    reader->at += quoted;
    while (*reader->at != '\0' && (quoted ? *reader->at != '\'' : !is_space(*reader->at))) {
        if (*reader->at == '\\' && *++reader->at == '\0') {
            return malformed(reader, "end in a backslash");
        }
        *reader->to++ = *reader->at++;
    }
    if (quoted && *reader->at++ != '\'') {
        return malformed(reader, "have a quote that is not closed");
    }
    if (*reader->at != '\0' && !is_space(*reader->at)) {
        return malformed(reader, "have no space behind a closing quote");
    }
    *reader->to++ = '\0';
    return COF_OK;
}

static const char *nearest(struct cof_slice name)
{
    const char *found = NULL;
    unsigned best = SUGGESTION_DISTANCE + 1;
    for (size_t i = 0; i < COF_COUNT(table); i++) {
        const unsigned distance = cof_name_distance(name, cof_slice_text(table[i].name), SUGGESTION_DISTANCE);
        if (distance < best) {
            best = distance;
            found = table[i].name;
        }
    }
    return found;
}

static cof_code unknown(struct reader *reader, struct cof_slice name)
{
    if (cof_slice_equal(name, cof_slice_text("token"))) {
        return cof_fail_field(
            reader->err, COF_REASON_CONFIG_INVALID, "token",
            "token is not taken from the client's settings, which end up in argument lists and logs; "
            "use token_file, the variable COFFER_TOKEN or coffer_client_set_token");
    }
    const int len = name.len > COF_KEY_NAME_MAX ? COF_KEY_NAME_MAX : (int) name.len;
    const char *suggestion = nearest(name);
    return cof_fail(reader->err, COF_REASON_CONFIG_INVALID, "the client has no setting \"%.*s\"; %s%s", len,
                    (const char *) name.data, suggestion == NULL ? "see coffer_client_open" : "did you mean ",
                    suggestion == NULL ? "" : suggestion);
}

static cof_code find(struct reader *reader, struct cof_slice name, size_t *ret_index)
{
    for (size_t i = 0; i < COF_COUNT(table); i++) {
        if (!cof_slice_equal(cof_slice_text(table[i].name), name)) {
            continue;
        }
        if (reader->seen[i]) {
            return cof_fail_field(reader->err, COF_REASON_CONFIG_INVALID, table[i].name,
                                  "%s is given twice in the client's settings; leave one out", table[i].name);
        }
        reader->seen[i] = true;
        *ret_index = i;
        return COF_OK;
    }
    return unknown(reader, name);
}

static cof_code read_one(struct reader *reader, struct settings *settings)
{
    struct cof_slice name;
    struct given given = {.err = reader->err};
    size_t index = 0;
    TRY(read_name(reader, &name));
    TRY(find(reader, name, &index));
    TRY(read_value(reader, &given.value));
    given.name = table[index].name;
    given.from = table[index].name;
    return table[index].apply(settings, &given);
}

static void free_cleanup(char **text)
{
    free(*text);
}

static cof_code read_text(const char *text, struct reader *reader, struct settings *settings)
{
    const size_t len = strlen(text);
    if (len > SETTINGS_TEXT_MAX) {
        return malformed(reader, "are longer than 8192 bytes");
    }
    AUTO(free_cleanup) char *values = malloc(len + 2);
    if (values == NULL) {
        return no_memory(reader->err);
    }
    reader->at = text;
    reader->to = values;
    skip_space(reader);
    while (*reader->at != '\0') {
        TRY(read_one(reader, settings));
        skip_space(reader);
    }
    return COF_OK;
}

static const char *not_empty(settings_variable variable, const char *name)
{
    const char *value = variable(name);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

/* A token in the settings' text wins over both variables; two variables contradict each other. */
static cof_code read_token(struct settings *settings, settings_variable variable, bool given, struct cof_error *err)
{
    settings->token = given ? NULL : not_empty(variable, "COFFER_TOKEN");
    if (settings->token != NULL && not_empty(variable, "COFFER_TOKEN_FILE") != NULL) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, "token_file",
                              "COFFER_TOKEN and COFFER_TOKEN_FILE are both set; unset one of them");
    }
    return COF_OK;
}

static cof_code read_environment(settings_variable variable, const struct reader *reader, struct settings *settings)
{
    for (size_t i = 0; i < COF_COUNT(table); i++) {
        const char *value = table[i].variable == NULL ? NULL : not_empty(variable, table[i].variable);
        if (value != NULL && !reader->seen[i]) {
            const struct given given = {table[i].name, table[i].variable, value, reader->err};
            TRY(table[i].apply(settings, &given));
        }
    }
    return COF_OK;
}

static cof_code check_addresses(struct settings *settings, struct cof_error *err)
{
    if (settings->address_count == 0) {
        const struct given given = {"addr", "addr", DEFAULT_ADDRESS, err};
        TRY(apply_addr(settings, &given));
    }
    for (size_t i = 0; i < settings->address_count; i++) {
        TRY(address_check(cof_slice_text(settings->addresses[i]), settings->insecure_transport,
                          settings->address_from, err));
    }
    return COF_OK;
}

static cof_code read_all(const char *text, settings_variable variable, struct settings *settings,
                         struct cof_error *err)
{
    struct reader reader = {.err = err};
    settings->timeout_ms = SETTINGS_TIMEOUT_MS;
    settings->connect_timeout_ms = SETTINGS_CONNECT_TIMEOUT_MS;
    settings->coalesce = true;
    settings->coalesce_requests = SETTINGS_COALESCE_REQUESTS;
    settings->coalesce_wait_ms = SETTINGS_COALESCE_WAIT_MS;
    if (text != NULL) {
        TRY(read_text(text, &reader, settings));
    }
    TRY(read_token(settings, variable, settings->token_file != NULL, err));
    TRY(read_environment(variable, &reader, settings));
    return check_addresses(settings, err);
}

cof_code settings_read(const char *text, settings_variable variable, struct settings *ret_settings,
                       struct cof_error *err)
{
    struct settings settings = {0};
    const cof_code code = read_all(text, variable, &settings, err);
    if (code != COF_OK) {
        settings_done(&settings);
        return code;
    }
    *ret_settings = settings;
    return COF_OK;
}

void settings_done(struct settings *settings)
{
    for (size_t i = 0; i < settings->address_count; i++) {
        free(settings->addresses[i]);
    }
    settings->address_count = 0;
    char **texts[] = {&settings->token_file, &settings->cacert, &settings->client_cert, &settings->client_key,
                      &settings->tls_server_name};
    for (size_t i = 0; i < COF_COUNT(texts); i++) {
        free(*texts[i]);
        *texts[i] = NULL;
    }
}
