/*
 * Turns messages into JSON and back, by the descriptors in the file that is the first argument. One question on each line of
 * standard input, one answer on each line of standard output; json_test.py asks.
 *
 *   pack TYPE HEX       the bytes of the message that the JSON stands for
 *   print TYPE HEX      the JSON of a message
 *   describe NAME       the entry as a proto file has it; "near" and a name if there is none
 *   schema HEX          whether the bytes are descriptors
 *
 * An answer is OK and hex, or FAIL with reason, field and message, separated by tabs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/reflect/message_pack.h"
#include "client/reflect/message_print.h"
#include "client/reflect/schema_print.h"
#include "common/encode.h"

enum { POOL = 64 << 20, LIMIT = 1 << 20 };

struct driver {
    struct schema schema;
    struct cof_arena arena; /* of one question */
};

static void must(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void answer(cof_code code, const struct cof_error *err, struct cof_slice bytes, struct cof_arena *arena)
{
    if (code != COF_OK) {
        printf("FAIL\t%s\t%s\t%s\n", cof_reason_name(err->reason), err->field, err->message);
        return;
    }
    char *hex = cof_arena_alloc(arena, 2 * bytes.len + 1);
    must(hex != NULL);
    cof_hex_encode(bytes, hex);
    printf("OK\t%s\n", hex);
}

static struct cof_slice bytes_of(const char *hex, struct cof_arena *arena)
{
    const size_t length = strlen(hex) / 2;
    uint8_t *bytes = cof_arena_alloc(arena, length);
    must(bytes != NULL && cof_hex_decode(cof_slice_text(hex), bytes, length));
    return cof_slice_of(bytes, length);
}

static void describe(struct driver *driver, const char *name)
{
    const struct schema_entry *entry = schema_find(&driver->schema, cof_slice_text(name));
    const char *near = entry == NULL ? schema_near(&driver->schema, cof_slice_text(name)) : NULL;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    must(out != NULL);
    if (entry == NULL) {
        fprintf(out, "near %s", near == NULL ? "" : near);
    } else {
        schema_print(out, &driver->schema, entry);
    }
    must(fclose(out) == 0);
    answer(COF_OK, NULL, cof_slice_of(text, length), &driver->arena);
    free(text);
}

static void convert(struct driver *driver, const char *verb, const char *type, const char *hex)
{
    const struct schema_entry *message = schema_find(&driver->schema, cof_slice_text(type));
    const struct cof_slice bytes = bytes_of(hex, &driver->arena);
    struct cof_slice made = {NULL, 0};
    struct cof_error err = {0};
    must(message != NULL && message->kind == SCHEMA_MESSAGE);
    const cof_code code = strcmp(verb, "pack") == 0
                              ? message_pack(message, bytes, LIMIT, &driver->arena, &made, &err)
                              : message_print(message, bytes, &driver->arena, &made, &err);
    answer(code, &err, made, &driver->arena);
}

static void ask(struct driver *driver, char *line)
{
    char *rest = NULL;
    struct cof_error err = {0};
    struct schema schema;
    const char *verb = strtok_r(line, " ", &rest);
    const char *name = strtok_r(NULL, " ", &rest);
    if (strcmp(verb, "describe") == 0) {
        describe(driver, name);
    } else if (strcmp(verb, "schema") == 0) {
        const struct cof_slice set = bytes_of(name == NULL ? "" : name, &driver->arena);
        answer(schema_read(set, &driver->arena, &schema, &err), &err, cof_slice_of(NULL, 0), &driver->arena);
    } else {
        const char *hex = strtok_r(NULL, " ", &rest);
        convert(driver, verb, name, hex == NULL ? "" : hex);
    }
}

static struct cof_slice read_file(const char *path, struct cof_arena *arena)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = cof_arena_alloc(arena, LIMIT);
    must(file != NULL && bytes != NULL);
    const size_t length = fread(bytes, 1, LIMIT, file);
    must(fclose(file) == 0);
    return cof_slice_of(bytes, length);
}

int main(int argc, char **argv)
{
    struct cof_error err = {0};
    struct cof_pool *pool = NULL;
    struct cof_arena arena;
    struct driver driver;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    must(argc == 2 && cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    cof_arena_init(&arena, pool, POOL / 2);
    cof_arena_init(&driver.arena, pool, POOL / 2);
    must(schema_read(read_file(argv[1], &arena), &arena, &driver.schema, &err) == COF_OK);
    while ((length = getline(&line, &room, stdin)) > 0) {
        line[length - 1] = '\0';
        ask(&driver, line);
        cof_arena_reset(&driver.arena);
    }
    free(line);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
    return 0;
}
