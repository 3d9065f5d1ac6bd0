#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/config.h"
#include "tests/support/test.h"

struct values {
    const char *name;
    struct cof_config_list listen;
    bool strict;
    uint32_t workers;
    uint64_t memory;
    uint32_t timeout;
    uint32_t level;
    uint32_t boundless;
};

#define AT(member) offsetof(struct values, member)

static const struct cof_config_setting rows[] = {
    {"server", "name", COF_CONFIG_TEXT, "coffer", 0, 0, NULL, "name of the server", AT(name)},
    {"server", "listen", COF_CONFIG_LIST, "a,b", 0, 0, NULL, "addresses", AT(listen)},
    {"server", "strict", COF_CONFIG_BOOL, "false", 0, 0, NULL, "whether", AT(strict)},
    {"limits", "workers", COF_CONFIG_NUMBER, "8", 1, 256, NULL, "threads", AT(workers)},
    {"limits", "memory", COF_CONFIG_SIZE, "16MiB", 4096, 1U << 31, NULL, "memory", AT(memory)},
    {"limits", "timeout", COF_CONFIG_DURATION, "10s", 10, 3600000, NULL, "time", AT(timeout)},
    {"limits", "boundless", COF_CONFIG_NUMBER, "0", 0, UINT64_MAX, NULL, "number", AT(boundless)},
    {"log", "level", COF_CONFIG_CHOICE, "info", 0, 0, "debug,info,warn", "least level", AT(level)},
};

static const struct cof_config_table table = {rows, COF_COUNT(rows), "CONFIGTEST"};

/* A file in memory; its path names the descriptor. */
struct file {
    int fd;
    char path[64];
};

static void file_done(struct file *file)
{
    (void) close(file->fd);
}

static struct file new_file(const char *text, size_t len)
{
    struct file file = {memfd_create("config", MFD_CLOEXEC), ""};
    if (file.fd < 0 || write(file.fd, text, len) != (ssize_t) len) {
        abort();
    }
    (void) snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.fd);
    return file;
}

static void config_done(struct cof_config **config)
{
    cof_config_free(*config);
}

static cof_code read_text(const char *text, struct values *values, struct cof_config **config,
                          struct cof_error *err)
{
    AUTO(file_done) struct file file = new_file(text, strlen(text));
    cof_error_clear(err);
    return cof_config_read(&table, file.path, values, config, err);
}

/* The message without the path in front of it. */
static const char *behind_path(const struct cof_error *err)
{
    const char *colon = strchr(err->message, ':');
    return colon == NULL ? err->message : colon + 1;
}

static void defaults_hold_where_nothing_is_said(void)
{
    AUTO(config_done) struct cof_config *config = NULL;
    struct values values;
    struct cof_error err;
    CHECK_OK(cof_config_read(&table, NULL, &values, &config, &err), &err);
    CHECK_TEXT(values.name, "coffer");
    CHECK_INT(values.listen.count, 2);
    CHECK_TEXT(values.listen.items[1], "b");
    CHECK(!values.strict);
    CHECK_INT(values.workers, 8);
    CHECK_INT(values.memory, 16 << 20);
    CHECK_INT(values.timeout, 10000);
    CHECK_INT(values.level, 1);
}

static void file_wins_over_the_defaults(void)
{
    AUTO(config_done) struct cof_config *config = NULL;
    struct values values;
    struct cof_error err;
    CHECK_OK(read_text(
                 "# a comment\n"
                 "server:\n  name: \"my: server\"\n  strict: true\n  listen:\n    - tcp://*:1\n    - 'ipc:///x,y'\n"
                 "    - c\n"
                 "limits:\n  workers: 256\n  memory: 2GiB\n  timeout: 1h\n  boundless: 4294967295\n"
                 "log:\n",
                 &values, &config, &err),
             &err);
    CHECK_TEXT(values.name, "my: server");
    CHECK(values.strict);
    CHECK_INT(values.listen.count, 3);
    CHECK_TEXT(values.listen.items[0], "tcp://*:1");
    CHECK_TEXT(values.listen.items[1], "ipc:///x,y");
    CHECK_INT(values.workers, 256);
    CHECK_INT(values.memory, (int64_t) 1 << 31);
    CHECK_INT(values.timeout, 3600000);
    CHECK_INT(values.boundless, UINT32_MAX);
    CHECK_INT(values.level, 1);
}

static void every_suffix_is_understood(void)
{
    static const struct {
        const char *text;
        int64_t memory;
        int64_t timeout;
    } rows_of_suffixes[] = {
        {"limits: {memory: 4096, timeout: 10ms}", 4096, 10},
        {"limits: {memory: 64KiB, timeout: 2s}", 65536, 2000},
        {"limits: {memory: 3MiB, timeout: 5min}", 3 << 20, 300000},
        {"limits: {memory: 1GiB, timeout: 1h}", 1 << 30, 3600000},
    };
    for (size_t i = 0; i < COF_COUNT(rows_of_suffixes); i++) {
        AUTO(config_done) struct cof_config *config = NULL;
        struct values values;
        struct cof_error err;
        CHECK_OK(read_text(rows_of_suffixes[i].text, &values, &config, &err), &err);
        CHECK_INT(values.memory, rows_of_suffixes[i].memory);
        CHECK_INT(values.timeout, rows_of_suffixes[i].timeout);
    }
}

static void environment_wins_over_the_file(void)
{
    AUTO(config_done) struct cof_config *config = NULL;
    struct values values;
    struct cof_error err;
    CHECK_INT(setenv("CONFIGTEST_LIMITS__WORKERS", "3", 1), 0);
    CHECK_INT(setenv("CONFIGTEST_SERVER__LISTEN", "one, two ,three", 1), 0);
    CHECK_INT(setenv("CONFIGTEST_HOME", "of no interest", 1), 0);
    const cof_code code = read_text("limits:\n  workers: 4\n  timeout: 1s\n", &values, &config, &err);
    (void) unsetenv("CONFIGTEST_LIMITS__WORKERS");
    (void) unsetenv("CONFIGTEST_SERVER__LISTEN");
    (void) unsetenv("CONFIGTEST_HOME");
    CHECK_OK(code, &err);
    CHECK_INT(values.workers, 3);
    CHECK_INT(values.timeout, 1000);
    CHECK_INT(values.listen.count, 3);
    CHECK_TEXT(values.listen.items[1], "two");
    CHECK_TEXT(values.listen.items[2], "three");
}

static cof_code read_with(const char *name, const char *value, struct cof_error *err)
{
    AUTO(config_done) struct cof_config *config = NULL;
    struct values values;
    (void) setenv(name, value, 1);
    const cof_code code = cof_config_read(&table, NULL, &values, &config, err);
    (void) unsetenv(name);
    return code;
}

static void wrong_variable_is_named(void)
{
    struct cof_error err;
    CHECK_FAILS(read_with("CONFIGTEST_LIMITS__WORKERS", "many", &err), &err, CONFIG_INVALID);
    CHECK_TEXT(err.message, "CONFIGTEST_LIMITS__WORKERS: limits.workers: \"many\" is not understood; "
                            "allowed: a whole number between 1 and 256");
    CHECK_FAILS(read_with("CONFIGTEST_LIMITS__WORKER", "8", &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "CONFIGTEST_LIMITS__WORKER: there is no such setting");
    CHECK_OK(read_with("CONFIGTESTER_LIMITS__WORKER", "8", &err), &err);
    CHECK_OK(read_with("CONFIGTEST_PORT", "8", &err), &err);
    CHECK_OK(read_with("CONFIGTEST_PORT", "a__b", &err), &err);
}

/* The text of a file, and what the message must say behind the file's name. */
static const struct {
    const char *text;
    const char *message;
} wrong_files[] = {
    {"limits:\n  worker: 1\n",
     "2: limits.worker: there is no such setting; allowed: workers, memory, timeout, boundless"},
    {"limit:\n  workers: 1\n", "1: limit: there is no such section; allowed: server, limits, log"},
    {"limits:\n  workers: 1\n\n  workers: 1\n", "4: limits.workers: stands twice in the file; allowed: once"},
    {"limits:\n  workers: 1\nlog:\nlimits:\n  memory: 4096\n",
     "4: limits: stands twice in the file; allowed: once"},
    {"limits:\n  workers: 0\n",
     "2: limits.workers: \"0\" is out of range; allowed: a whole number between 1 and 256"},
    {"limits:\n  workers: 257\n", "is out of range"},
    {"limits:\n  workers: -1\n", "is not understood"},
    {"limits:\n  workers: 1.5\n", "is not understood"},
    {"limits:\n  workers: 0x10\n", "is not understood"},
    {"limits:\n  workers: ' 8'\n", "is not understood"},
    {"limits:\n  workers: 8s\n", "is not understood"},
    {"limits:\n  workers:\n", "\"\" is not understood"},
    {"limits:\n  workers: 99999999999999999999999\n", "is not understood"},
    {"limits:\n  boundless: 4294967296\n", "is out of range; allowed: a whole number between 0 and 4294967295"},
    {"limits:\n  memory: 4095\n",
     "2: limits.memory: \"4095\" is out of range; allowed: a size such as 4096, 64KiB or "
     "16MiB between 4096 and 2147483648 bytes"},
    {"limits:\n  memory: 64KB\n", "is not understood"},
    {"limits:\n  memory: 17179869184GiB\n", "is not understood"},
    {"limits:\n  memory: 64 KiB\n", "is not understood"},
    {"limits:\n  timeout: 10\n",
     "2: limits.timeout: \"10\" is not understood; allowed: a duration such as 250ms, 10s, "
     "5min or 1h between 10 and 3600000 ms"},
    {"limits:\n  timeout: 9ms\n", "is out of range"},
    {"limits:\n  timeout: 61min\n", "is out of range"},
    {"server:\n  strict: yes\n", "2: server.strict: \"yes\" is not understood; allowed: true, false"},
    {"log:\n  level: trace\n", "2: log.level: \"trace\" is not understood; allowed: debug,info,warn"},
    {"log:\n  level: debug,info\n", "is not understood"},
    {"log:\n  level: inf\n", "is not understood"},
    {"log:\n  level: \"a\\e[31mb\\u00e9\"\n", "\"a?[31mb??\" is not understood"},
    {"server:\n  listen: tcp://x\n", "2: server.listen: is a list; allowed:"},
    {"server:\n  name:\n    - a\n", "server.name: is no list; allowed: one value"},
    {"server:\n  listen:\n    - - a\n", "a list stands where none is expected"},
    {"server:\n  listen:\n    - a: b\n", "a mapping stands where none is expected"},
    {"server:\n  listen:\n    - \"\"\n", "server.listen: has an empty entry"},
    {"server:\n  name:\n    deeper: 1\n", "a mapping stands where none is expected"},
    {"server: text\n", "1: a text stands where a section or a setting is expected"},
    {"server:\n  - a\n", "a list stands where none is expected"},
    {"- a\n", "a list stands where none is expected"},
    {"text\n", "1: a text stands where a section or a setting is expected"},
    {"server:\n  name: &a x\n", "2: anchors, aliases and tags are refused"},
    {"server:\n  name: *a\n", "2: anchors, aliases and tags are refused"},
    {"server: &a\n  name: x\n", "anchors, aliases and tags are refused"},
    {"server:\n  listen: &a\n    - x\n", "anchors, aliases and tags are refused"},
    {"server:\n  name: !secret x\n", "2: anchors, aliases and tags are refused"},
    {"server:\n  listen: !!seq\n    - x\n", "anchors, aliases and tags are refused"},
    {"server:\n  name: \"a\\0b\"\n", "2: a text holds a NUL character"},
    {"server:\n  name: x\n---\nserver:\n  name: y\n", "a second document begins"},
    {"server:\n  name: [x\n", ": "},
    {"server:\n\tname: x\n", "2: "},
    {"\xFF\xFE\xFF", ": "},
};

static void every_mistake_in_a_file_is_named_with_its_line(void)
{
    for (size_t i = 0; i < COF_COUNT(wrong_files); i++) {
        AUTO(config_done) struct cof_config *config = NULL;
        struct values values;
        struct cof_error err;
        const cof_code code = read_text(wrong_files[i].text, &values, &config, &err);
        if (code == COF_OK) {
            fprintf(stderr, "was read: %s\n", wrong_files[i].text);
        }
        CHECK_FAILS(code, &err, CONFIG_INVALID);
        CHECK_INT(strncmp(err.message, "/proc/self/fd/", 14), 0);
        CHECK_CONTAINS(behind_path(&err), wrong_files[i].message);
        CHECK(config == NULL);
    }
}

static void long_wrong_value_is_echoed_at_most_40_bytes_long(void)
{
    AUTO(config_done) struct cof_config *config = NULL;
    struct values values;
    struct cof_error err;
    char text[300] = "limits:\n  workers: ";
    const size_t used = strlen(text);
    memset(text + used, 'x', 200);
    CHECK_FAILS(read_text(text, &values, &config, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"");
    CHECK_CONTAINS(err.message, "between 1 and 256");
}

static void empty_files_say_nothing(void)
{
    static const char *const texts[] = {"", "\n\n", "# only a comment\n", "server:\n", "server: {}\nlimits: {}\n"};
    for (size_t i = 0; i < COF_COUNT(texts); i++) {
        AUTO(config_done) struct cof_config *config = NULL;
        struct values values;
        struct cof_error err;
        CHECK_OK(read_text(texts[i], &values, &config, &err), &err);
        CHECK_INT(values.workers, 8);
    }
}

static void list_has_at_most_64_entries(void)
{
    for (size_t count = 0; count <= 65; count++) {
        AUTO(config_done) struct cof_config *config = NULL;
        struct values values;
        struct cof_error err;
        char text[1024] = "server:\n  listen: [";
        for (size_t i = 0; i < count; i++) {
            memcpy(text + strlen(text), "x, ", 4);
        }
        memcpy(text + strlen(text), "]\n", 3);
        const cof_code code = read_text(text, &values, &config, &err);
        CHECK_INT(code == COF_OK, count <= 64);
        CHECK(code != COF_OK || values.listen.count == count);
    }
}

static void missing_file_and_folder_are_named(void)
{
    AUTO(config_done) struct cof_config *config = NULL;
    struct values values;
    struct cof_error err;
    CHECK_FAILS(cof_config_read(&table, "/nowhere/coffer.yaml", &values, &config, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "/nowhere/coffer.yaml: cannot be opened: No such file");
    CHECK_FAILS(cof_config_read(&table, "/", &values, &config, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "/: cannot be read");
}

static void file_over_1_mib_is_refused(void)
{
    static char text[(1 << 20) + 1];
    struct values values;
    struct cof_error err;
    memset(text, '#', sizeof text);
    for (size_t extra = 0; extra <= 1; extra++) {
        AUTO(config_done) struct cof_config *config = NULL;
        AUTO(file_done) struct file file = new_file(text, sizeof text - 1 + extra);
        const cof_code code = cof_config_read(&table, file.path, &values, &config, &err);
        CHECK_INT(code == COF_OK, extra == 0);
        CHECK(code == COF_OK || strstr(err.message, "larger than 1 MiB") != NULL);
    }
}

/* What the reference prints, into `to`. */
static void capture_reference(char *to, size_t size)
{
    AUTO(file_done) struct file file = new_file("", 0);
    fflush(stdout);
    const int before = dup(STDOUT_FILENO);
    if (before < 0 || dup2(file.fd, STDOUT_FILENO) < 0) {
        abort();
    }
    cof_config_print_reference(&table);
    fflush(stdout);
    (void) dup2(before, STDOUT_FILENO);
    (void) close(before);
    const ssize_t got = pread(file.fd, to, size - 1, 0);
    to[got < 0 ? 0 : got] = '\0';
}

/* Takes the comment signs off the lines that are settings and entries. */
static void uncomment(char *text)
{
    for (char *at = text; (at = strstr(at, "  # ")) != NULL; at += 4) {
        const char *word = at + 4 + strspn(at + 4, " ");
        const size_t length = strspn(word, "abcdefghijklmnopqrstuvwxyz_");
        if (word[length] == ':' || word[0] == '-') {
            memmove(at + 2, at + 4, strlen(at + 4) + 1);
        }
    }
}

static void printed_reference_is_a_file_with_the_defaults(void)
{
    AUTO(config_done) struct cof_config *config = NULL;
    struct values values;
    struct cof_error err;
    static char text[4096];
    capture_reference(text, sizeof text);
    CHECK_CONTAINS(text, "limits:\n  # threads\n  # workers: 8\n");
    CHECK_CONTAINS(text, "  # listen:\n  #   - a\n  #   - b\n");
    CHECK_CONTAINS(text, "  # One of debug,info,warn.\n");
    CHECK_OK(read_text(text, &values, &config, &err), &err);
    cof_config_free(config);
    config = NULL;
    uncomment(text);
    CHECK_CONTAINS(text, "\n  workers: 8\n");
    CHECK_OK(read_text(text, &values, &config, &err), &err);
    CHECK_INT(values.listen.count, 2);
    CHECK_INT(values.timeout, 10000);
}

TEST_MAIN(TEST(defaults_hold_where_nothing_is_said), TEST(file_wins_over_the_defaults),
          TEST(every_suffix_is_understood), TEST(environment_wins_over_the_file), TEST(wrong_variable_is_named),
          TEST(every_mistake_in_a_file_is_named_with_its_line),
          TEST(long_wrong_value_is_echoed_at_most_40_bytes_long), TEST(empty_files_say_nothing),
          TEST(list_has_at_most_64_entries), TEST(missing_file_and_folder_are_named),
          TEST(file_over_1_mib_is_refused), TEST(printed_reference_is_a_file_with_the_defaults))
