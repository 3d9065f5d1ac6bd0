#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/environment.pb-c.h>

#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "client/cli/secret.h"

/* `coffer secret matrix`: which secret is where, and what is missing where. */

enum { PAGE_SIZE = 1000, CELL_TEXT = 64, ENVIRONMENTS_MAX = 1000 };

/* A growing array of pointers. */
struct row {
    const void **items;
    size_t count;
    size_t room;
};

struct matrix {
    struct row pages;        /* ProtobufCMessage, which hold everything */
    struct row secrets;      /* Coffer__V1__Secret, by name */
    struct row environments; /* char, by name */
};

typedef enum cell_state {
    CELL_OK,
    CELL_MISSING,
    CELL_PARTLY, /* other environments have keys that it has not */
    CELL_EXPIRED,
    CELL_DAMAGED,
} cell_state;

static const char *const state_names[] = {"ok", "missing", "incomplete", "expired", "damaged"};

/* All environments' secrets with one name. */
struct family {
    const Coffer__V1__Secret *const *members;
    size_t count;
    struct row keys; /* char: those that any of them has */
};

struct cell {
    cell_state state;
    const Coffer__V1__Secret *secret; /* NULL: it is missing */
};

/* --- Rows ------------------------------------------------------------------------------------------------------- */

static bool add(struct row *row, const void *item)
{
    if (row->count == row->room) {
        const size_t room = row->room == 0 ? 64 : row->room * 2;
        const void **grown = realloc(row->items, room * sizeof(void *));
        if (grown == NULL) {
            return false;
        }
        row->items = grown;
        row->room = room;
    }
    row->items[row->count++] = item;
    return true;
}

static bool add_text(struct row *row, const char *text)
{
    for (size_t i = 0; i < row->count; i++) {
        if (strcmp(row->items[i], text) == 0) {
            return true;
        }
    }
    return add(row, text);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const Coffer__V1__Secret *const *) a)->name, (*(const Coffer__V1__Secret *const *) b)->name);
}

/* An empty row has no items to sort. */
static void sort(struct row *row, int (*compare)(const void *, const void *))
{
    if (row->count > 1) {
        qsort(row->items, row->count, sizeof(void *), compare);
    }
}

static void matrix_done(struct matrix *matrix)
{
    for (size_t i = 0; i < matrix->pages.count; i++) {
        cli_free_message((ProtobufCMessage *) (uintptr_t) matrix->pages.items[i]);
    }
    free(matrix->pages.items);
    free(matrix->secrets.items);
    free(matrix->environments.items);
}

/* --- What there is ---------------------------------------------------------------------------------------------- */

static bool keep(struct matrix *matrix, ProtobufCMessage *message)
{
    if (add(&matrix->pages, message)) {
        return true;
    }
    cli_free_message(message);
    return false;
}

static cli_exit take_secrets(struct matrix *matrix, const Coffer__V1__ListSecretsResponse *page)
{
    for (size_t i = 0; i < page->n_secrets; i++) {
        if (!add(&matrix->secrets, page->secrets[i]) ||
            !add_text(&matrix->environments, page->secrets[i]->environment)) {
            return cli_no_memory();
        }
    }
    return CLI_OK;
}

static cli_exit ask_secrets(struct cli *cli, struct matrix *matrix)
{
    Coffer__V1__ListSecretsRequest request;
    cli_exit code = CLI_OK;
    coffer__v1__list_secrets_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.page_size = PAGE_SIZE;
    request.environments = cli->environments.items;
    request.n_environments = cli->environments.count;
    if (cli->prefix != NULL) {
        request.name_prefix = cli->prefix;
    }
    size_t pages = 0;
    progress_begin("reading secrets");
    do {
        ProtobufCMessage *answer = NULL;
        code = cli_call(cli, SECRET_SERVICE "ListSecrets", &request.base,
                        &coffer__v1__list_secrets_response__descriptor, &answer);
        if (code == CLI_OK && !keep(matrix, answer)) {
            code = cli_no_memory();
        }
        if (code == CLI_OK) {
            progress_count(++pages * PAGE_SIZE, 0);
            request.page_token = ((Coffer__V1__ListSecretsResponse *) (void *) answer)->next_page_token;
            code = take_secrets(matrix, (const Coffer__V1__ListSecretsResponse *) (const void *) answer);
        }
    } while (code == CLI_OK && request.page_token[0] != '\0');
    progress_end();
    return code;
}

/* Environments without any secret count, too, where the caller may list them. */
static cli_exit ask_environments(struct cli *cli, struct matrix *matrix)
{
    Coffer__V1__ListEnvironmentsRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_environments_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.page_size = ENVIRONMENTS_MAX;
    cli_catch(true);
    const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/ListEnvironments", &request.base,
                                   &coffer__v1__list_environments_response__descriptor, &answer);
    cli_catch(false);
    if (code != CLI_OK) {
        return CLI_OK;
    }
    if (!keep(matrix, answer)) {
        return cli_no_memory();
    }
    const Coffer__V1__ListEnvironmentsResponse *page =
        (const Coffer__V1__ListEnvironmentsResponse *) (const void *) answer;
    for (size_t i = 0; i < page->n_environments; i++) {
        if (!add_text(&matrix->environments, page->environments[i]->name)) {
            return cli_no_memory();
        }
    }
    return CLI_OK;
}

/* With -e the environments are those, in that order; else all, by name. */
static cli_exit collect(struct cli *cli, struct matrix *matrix)
{
    for (size_t i = 0; i < cli->environments.count; i++) {
        if (!add_text(&matrix->environments, cli->environments.items[i])) {
            return cli_no_memory();
        }
    }
    cli_exit code = ask_secrets(cli, matrix);
    if (code == CLI_OK && cli->environments.count == 0) {
        code = ask_environments(cli, matrix);
        sort(&matrix->environments, by_text);
    }
    sort(&matrix->secrets, by_name);
    return code;
}

/* --- Cells ------------------------------------------------------------------------------------------------------ */

/* The secrets that have the name of the one at `first`. */
static cli_exit family_at(const struct matrix *matrix, size_t first, struct family *ret_family)
{
    const Coffer__V1__Secret *const *members = (const Coffer__V1__Secret *const *) matrix->secrets.items + first;
    *ret_family = (struct family){.members = members};
    while (first + ret_family->count < matrix->secrets.count &&
           strcmp(members[ret_family->count]->name, members[0]->name) == 0) {
        const Coffer__V1__Secret *member = members[ret_family->count++];
        for (size_t k = 0; k < member->n_keys; k++) {
            if (!add_text(&ret_family->keys, member->keys[k]->name)) {
                return cli_no_memory();
            }
        }
    }
    sort(&ret_family->keys, by_text);
    return CLI_OK;
}

static struct cell cell_of(const struct family *family, const char *environment)
{
    for (size_t i = 0; i < family->count; i++) {
        const Coffer__V1__Secret *member = family->members[i];
        if (strcmp(member->environment, environment) != 0) {
            continue;
        }
        if (member->state == COFFER__V1__SECRET_STATE__SECRET_STATE_CORRUPTED) {
            return (struct cell){CELL_DAMAGED, member};
        }
        if (member->expire_time != NULL && cli_is_past(member->expire_time)) {
            return (struct cell){CELL_EXPIRED, member};
        }
        return (struct cell){member->n_keys < family->keys.count ? CELL_PARTLY : CELL_OK, member};
    }
    return (struct cell){CELL_MISSING, NULL};
}

static bool has_key(const Coffer__V1__Secret *member, const char *key)
{
    for (size_t i = 0; member != NULL && i < member->n_keys; i++) {
        if (strcmp(member->keys[i]->name, key) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_whole(const struct matrix *matrix, const struct family *family)
{
    for (size_t i = 0; i < matrix->environments.count; i++) {
        if (cell_of(family, matrix->environments.items[i]).state != CELL_OK) {
            return false;
        }
    }
    return true;
}

/* --- Forms ------------------------------------------------------------------------------------------------------ */

/* Something that shows one family; `before` others were shown. */
typedef cli_exit family_shower(const struct matrix *matrix, const struct family *family, size_t before, void *to);

static cli_exit each_family(const struct cli *cli, const struct matrix *matrix, family_shower *show, void *to)
{
    size_t shown = 0;
    bool gaps = false;
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < matrix->secrets.count;) {
        struct family family;
        code = family_at(matrix, i, &family);
        const bool whole = is_whole(matrix, &family);
        gaps = gaps || !whole;
        if (code == CLI_OK && !(cli->missing && whole)) {
            code = show(matrix, &family, shown++, to);
        }
        i += family.count;
        free(family.keys.items);
    }
    return code == CLI_OK && cli->missing && gaps ? CLI_PARTIAL : code;
}

/* A column for each environment. */
static cli_exit add_line(const struct matrix *matrix, const struct family *family, size_t before, void *to)
{
    struct cli_table *table = to;
    (void) before;
    cli_table_add(table, family->members[0]->name);
    for (size_t i = 0; i < matrix->environments.count; i++) {
        char text[CELL_TEXT];
        const struct cell cell = cell_of(family, matrix->environments.items[i]);
        (void) snprintf(text, sizeof text, "%s", cell.state == CELL_MISSING ? "MISSING" : state_names[cell.state]);
        if (cell.state == CELL_PARTLY) {
            (void) snprintf(text, sizeof text, "%zu of %zu keys", cell.secret->n_keys, family->keys.count);
        }
        cli_table_add(table, text);
    }
    return CLI_OK;
}

static void join(char **text, const char *between, const char *what)
{
    char *longer = NULL;
    if (asprintf(&longer, "%s%s%s", *text == NULL ? "" : *text, *text == NULL ? "" : between, what) >= 0) {
        free(*text);
        *text = longer;
    }
}

static char *missing_keys(const struct family *family, const struct cell *cell)
{
    char *text = NULL;
    for (size_t k = 0; cell->state == CELL_PARTLY && k < family->keys.count; k++) {
        if (!has_key(cell->secret, family->keys.items[k])) {
            join(&text, ", ", family->keys.items[k]);
        }
    }
    return text;
}

/* A line for each secret, for terminals that have no room for a column of each environment. */
static cli_exit add_sentence(const struct matrix *matrix, const struct family *family, size_t before, void *to)
{
    struct cli_table *table = to;
    char *has = NULL;
    char *lacks = NULL;
    (void) before;
    for (size_t i = 0; i < matrix->environments.count; i++) {
        const char *environment = matrix->environments.items[i];
        const struct cell cell = cell_of(family, environment);
        char *word = NULL;
        const int length = cell.state == CELL_MISSING || cell.state == CELL_OK
                               ? asprintf(&word, "%s", environment)
                               : asprintf(&word, "%s (%s)", environment, state_names[cell.state]);
        if (length < 0) {
            return cli_no_memory();
        }
        join(cell.state == CELL_MISSING ? &lacks : &has, ", ", word);
        free(word);
    }
    cli_table_add(table, family->members[0]->name);
    cli_table_add(table, has == NULL ? "" : has);
    cli_table_add(table, lacks == NULL ? "" : lacks);
    free(has);
    free(lacks);
    return CLI_OK;
}

/* For programs: a line for each secret and environment. */
static cli_exit print_cells(const struct matrix *matrix, const struct family *family, size_t before, void *to)
{
    (void) before;
    (void) to;
    for (size_t i = 0; i < matrix->environments.count; i++) {
        const char *environment = matrix->environments.items[i];
        const struct cell cell = cell_of(family, environment);
        char *keys = missing_keys(family, &cell);
        printf("%s\t%s\t%s\t%s\n", family->members[0]->name, environment, state_names[cell.state],
               keys == NULL ? "-" : keys);
        free(keys);
    }
    return CLI_OK;
}

static void print_missing(const struct family *family, const struct cell *cell)
{
    size_t count = 0;
    for (size_t k = 0; cell->state == CELL_PARTLY && k < family->keys.count; k++) {
        if (!has_key(cell->secret, family->keys.items[k])) {
            fputs(count++ == 0 ? "" : ", ", stdout);
            cli_json_text(stdout, family->keys.items[k]);
        }
    }
}

static cli_exit print_object(const struct matrix *matrix, const struct family *family, size_t before, void *to)
{
    (void) to;
    fputs(before == 0 ? "\n    {\"name\": " : ",\n    {\"name\": ", stdout);
    cli_json_text(stdout, family->members[0]->name);
    fputs(", \"environments\": [", stdout);
    for (size_t i = 0; i < matrix->environments.count; i++) {
        const struct cell cell = cell_of(family, matrix->environments.items[i]);
        fputs(i == 0 ? "\n      {\"environment\": " : ",\n      {\"environment\": ", stdout);
        cli_json_text(stdout, matrix->environments.items[i]);
        printf(", \"state\": \"%s\", \"missingKeys\": [", state_names[cell.state]);
        print_missing(family, &cell);
        fputs("]}", stdout);
    }
    fputs("]}", stdout);
    return CLI_OK;
}

static cli_exit show_json(const struct cli *cli, const struct matrix *matrix)
{
    fputs("{\n  \"secrets\": [", stdout);
    const cli_exit code = each_family(cli, matrix, print_object, NULL);
    fputs("]\n}\n", stdout);
    return code;
}

static cli_exit show_sentences(const struct cli *cli, const struct matrix *matrix)
{
    static const char *const headers[] = {"NAME", "IN", "MISSING IN"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    const cli_exit code = each_family(cli, matrix, add_sentence, table);
    cli_table_print_list(table, "missing in ");
    return code;
}

static cli_exit show_table(const struct cli *cli, const struct matrix *matrix)
{
    const char **headers = calloc(matrix->environments.count + 1, sizeof *headers);
    if (headers == NULL) {
        return cli_no_memory();
    }
    headers[0] = "NAME";
    for (size_t i = 0; i < matrix->environments.count; i++) {
        headers[i + 1] = matrix->environments.items[i];
    }
    struct cli_table *table = cli_table_new(headers, matrix->environments.count + 1);
    cli_exit code = each_family(cli, matrix, add_line, table);
    free(headers);
    cli_table_colour(table);
    if (cli_table_fits(table)) {
        cli_table_none(table, "there is no secret there; coffer set NAME.KEY -e ENVIRONMENT stores one");
        cli_table_print(table);
        return code;
    }
    cli_table_free(table);
    return show_sentences(cli, matrix);
}

cli_exit cmd_secret_matrix(struct cli *cli)
{
    struct matrix matrix = {.pages = {.count = 0}};
    cli_exit code = collect(cli, &matrix);
    if (code == CLI_OK && cli->json) {
        code = show_json(cli, &matrix);
    } else if (code == CLI_OK && cli_table_is_aligned()) {
        code = show_table(cli, &matrix);
    } else if (code == CLI_OK) {
        code = each_family(cli, &matrix, print_cells, NULL);
    }
    matrix_done(&matrix);
    return code;
}
