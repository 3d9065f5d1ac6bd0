/*
 * Asks the server's own function what becomes of a structured secret: one on each line of standard input, one answer on
 * each line of standard output. secret_types_test.py asks, with keys that ssh-keygen and openssl made.
 *
 *   type  now  key  value  key  value ...
 *
 * Columns are separated by tabs, values are in hex, keys are sorted. The answer is
 *
 *   OK  key type  bits  fingerprint  subject  issuer  certificates  not after  warnings, joined by ";"  key  value ...
 *   FAIL  reason  field  message
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "server/crypto/crypto.h"
#include "server/service/secret_types.h"

enum { KEYS_MAX = 16, CALL_BYTES = 4 << 20 };

struct question {
    Coffer__V1__SecretType type;
    int64_t now;
    struct value items[KEYS_MAX];
    struct values values;
};

/* The text up to the next tab, which becomes a NUL; NULL at the end. */
static char *take_column(char **line)
{
    char *column = *line;
    char *end = column == NULL ? NULL : strchr(column, '\t');
    *line = end == NULL ? NULL : end + 1;
    if (end != NULL) {
        *end = '\0';
    }
    return column;
}

static void read_question(char *line, struct cof_arena *arena, struct question *question)
{
    const long type = strtol(take_column(&line), NULL, 10);
    question->type = (Coffer__V1__SecretType) type;
    question->now = strtoll(take_column(&line), NULL, 10);
    question->values.items = question->items;
    while (line != NULL && question->values.count < KEYS_MAX) {
        struct value *value = &question->items[question->values.count++];
        const char *key = take_column(&line);
        const char *hex = take_column(&line);
        const size_t length = hex == NULL ? 0 : strlen(hex) / 2;
        uint8_t *bytes = cof_arena_alloc(arena, length);
        if (hex == NULL || bytes == NULL || !cof_hex_decode(cof_slice_text(hex), bytes, length)) {
            abort();
        }
        *value = (struct value){cof_slice_text(key), cof_slice_of(bytes, length)};
    }
}

static void print_values(const struct values *values, struct cof_arena *arena)
{
    for (size_t i = 0; i < values->count; i++) {
        char *hex = cof_arena_alloc(arena, 2 * values->items[i].bytes.len + 1);
        if (hex == NULL) {
            abort();
        }
        cof_hex_encode(values->items[i].bytes, hex);
        printf("\t%.*s\t%s", (int) values->items[i].key.len, (const char *) values->items[i].key.data, hex);
    }
}

static void answer(char *line, struct cof_arena *arena)
{
    struct question question = {.now = 0};
    struct secret_facts facts;
    struct values checked;
    struct cof_error err;
    cof_error_clear(&err);
    read_question(line, arena, &question);
    if (secret_type_check(question.type, &question.values, question.now, arena, &checked, &facts, &err) != COF_OK) {
        printf("FAIL\t%s\t%s\t%s\n", cof_reason_name(err.reason), err.field, err.message);
        return;
    }
    printf("OK\t%s\t%u\t%s\t%s\t%s\t%u\t%lld\t", facts.key_type, facts.key_bits, facts.fingerprint, facts.subject,
           facts.issuer, facts.certificates, (long long) facts.not_after);
    for (size_t i = 0; i < facts.warning_count; i++) {
        printf("%s%s", i == 0 ? "" : ";", facts.warnings[i]);
    }
    print_values(&checked, arena);
    printf("\n");
}

int main(void)
{
    struct cof_error err;
    struct cof_pool *pool = NULL;
    struct cof_arena arena;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    if (crypto_start((size_t) 1 << 21, 0, &err) != COF_OK ||
        cof_pool_new(CALL_BYTES, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        fprintf(stderr, "%s (%s)\n", err.message, err.trail);
        return 1;
    }
    cof_arena_init(&arena, pool, CALL_BYTES);
    while ((length = getline(&line, &room, stdin)) > 0) {
        line[length - 1] = '\0';
        answer(line, &arena);
        cof_arena_reset(&arena);
    }
    free(line);
    cof_pool_free(pool);
    crypto_stop();
    return 0;
}
