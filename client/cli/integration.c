#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/environment.pb-c.h>

#include "client/cli/message.h"
#include "client/cli/page.h"
#include "client/cli/registry.h"

/* `coffer integration`: what integrations need, and in which environments it is complete. */

enum { PAGE_SIZE = 1000, ENVIRONMENTS_MAX = 1000, CELL_TEXT = 160 };

#define STATE(name) COFFER__V1__DEFINITION_STATE__DEFINITION_STATE_##name

typedef Coffer__V1__Definition definition;
typedef Coffer__V1__DefinitionCoverage coverage;

/* Growing texts: NULL is empty. */
static void join(char **text, const char *between, const char *what)
{
    char *longer = NULL;
    if (asprintf(&longer, "%s%s%s", *text == NULL ? "" : *text, *text == NULL ? "" : between, what) >= 0) {
        free(*text);
        *text = longer;
    }
}

static void free_text(char **text)
{
    free(*text);
}

static char *join_all(char *const *items, size_t count)
{
    char *text = NULL;
    for (size_t i = 0; i < count; i++) {
        join(&text, ", ", items[i]);
    }
    return text;
}

/* --- list ------------------------------------------------------------------------------------------------------- */

static const char *type_text(Coffer__V1__SecretType type)
{
    switch ((int) type) {
    case COFFER__V1__SECRET_TYPE__SECRET_TYPE_SSH_KEY:
        return "ssh_key";
    case COFFER__V1__SECRET_TYPE__SECRET_TYPE_MTLS:
        return "mtls";
    case COFFER__V1__SECRET_TYPE__SECRET_TYPE_CA_CERT:
        return "ca_cert";
    case COFFER__V1__SECRET_TYPE__SECRET_TYPE_GITHUB_APP:
        return "github_app";
    default:
        return "";
    }
}

/* "required", "optional", or "one key" where any one of them does. */
static const char *need_text(const definition *shown)
{
    if (shown->optional) {
        return "optional";
    }
    return shown->n_keys > 0 ? "required" : "one key";
}

static void definition_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const definition *shown = (const definition *) (const void *) item;
    AUTO(free_text) char *keys = join_all(shown->keys, shown->n_keys);
    AUTO(free_text) char *optional_keys = join_all(shown->optional_keys, shown->n_optional_keys);
    char actions[16];
    (void) snprintf(actions, sizeof actions, "%u", shown->actions);
    cli_table_add(table, shown->name);
    cli_table_add(table, type_text(shown->type));
    cli_table_add(table, need_text(shown));
    cli_table_add(table, shown->in_catalogue || shown->actions > 0 ? actions : "");
    cli_table_add(table, keys == NULL ? "" : keys);
    cli_table_add(table, optional_keys == NULL ? "" : optional_keys);
}

static cli_exit list_definitions(struct cli *cli, Coffer__V1__ListDefinitionsRequest *request)
{
    static const char *const headers[] = {"SECRET", "TYPE", "IS", "ACTIONS", "KEYS", "OPTIONAL KEYS"};
    static const struct list list = {
        .method = INTEGRATION_SERVICE "ListDefinitions",
        .response = &coffer__v1__list_definitions_response__descriptor,
        .items = "definitions",
        .headers = headers,
        .columns = COF_COUNT(headers),
        .row = definition_row,
        .none = "there is nothing like that in the catalogue, nor does an action of the workspace declare it"};
    return list_all(cli, &list, &request->base);
}

static void begin_request(const struct cli *cli, Coffer__V1__ListDefinitionsRequest *request)
{
    coffer__v1__list_definitions_request__init(request);
    request->workspace = cli_workspace(cli);
    request->page_size = PAGE_SIZE;
    if (cli->prefix != NULL) {
        request->name_prefix = cli->prefix;
    }
}

cli_exit cmd_integration_list(struct cli *cli)
{
    Coffer__V1__ListDefinitionsRequest request;
    begin_request(cli, &request);
    return list_definitions(cli, &request);
}

/* --- What there is ---------------------------------------------------------------------------------------------- */

struct collected {
    Coffer__V1__ListEnvironmentsResponse *listed; /* the environments, if none was named */
    char **environments;
    size_t environment_count;
    Coffer__V1__ListDefinitionsResponse **pages;
    size_t page_count;
};

static void collected_done(struct collected *collected)
{
    for (size_t i = 0; i < collected->page_count; i++) {
        cli_free_message(&collected->pages[i]->base);
    }
    free(collected->pages);
    free(collected->environments);
    cli_free_message(collected->listed == NULL ? NULL : &collected->listed->base);
}

static cli_exit keep_page(struct collected *collected, ProtobufCMessage *answer)
{
    Coffer__V1__ListDefinitionsResponse **grown =
        realloc(collected->pages, (collected->page_count + 1) * sizeof *grown);
    if (grown == NULL) {
        cli_free_message(answer);
        return cli_no_memory();
    }
    collected->pages = grown;
    collected->pages[collected->page_count++] = (Coffer__V1__ListDefinitionsResponse *) (void *) answer;
    return CLI_OK;
}

/* Those of -e, or all that there are. */
static cli_exit ask_environments(struct cli *cli, struct collected *collected)
{
    Coffer__V1__ListEnvironmentsRequest request;
    ProtobufCMessage *answer = NULL;
    const size_t named = cli->environments.count;
    coffer__v1__list_environments_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.page_size = ENVIRONMENTS_MAX;
    if (named == 0) {
        const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/ListEnvironments", &request.base,
                                       &coffer__v1__list_environments_response__descriptor, &answer);
        if (code != CLI_OK) {
            return code;
        }
        collected->listed = (Coffer__V1__ListEnvironmentsResponse *) (void *) answer;
        if (collected->listed->next_page_token[0] != '\0') {
            cli_note("coffer: note: these are the first %d environments; name others with -e", ENVIRONMENTS_MAX);
        }
    }
    collected->environment_count = named > 0 ? named : collected->listed->n_environments;
    collected->environments = calloc(collected->environment_count + 1, sizeof(char *));
    if (collected->environments == NULL) {
        return cli_no_memory();
    }
    for (size_t i = 0; i < collected->environment_count; i++) {
        collected->environments[i] =
            named > 0 ? cli->environments.items[i] : collected->listed->environments[i]->name;
    }
    return CLI_OK;
}

static cli_exit ask_definitions(struct cli *cli, Coffer__V1__ListDefinitionsRequest *request,
                                struct collected *collected)
{
    cli_exit code = CLI_OK;
    do {
        ProtobufCMessage *answer = NULL;
        code = cli_call(cli, INTEGRATION_SERVICE "ListDefinitions", &request->base,
                        &coffer__v1__list_definitions_response__descriptor, &answer);
        code = code == CLI_OK ? keep_page(collected, answer) : code;
        if (code == CLI_OK) {
            assert(collected->pages != NULL);
            request->page_token = collected->pages[collected->page_count - 1]->next_page_token;
        }
    } while (code == CLI_OK && request->page_token[0] != '\0');
    return code;
}

/* Something that is done with a definition. */
typedef void definition_taker(const struct collected *collected, const definition *shown, void *to);

static void each_definition(const struct collected *collected, definition_taker *take, void *to)
{
    for (size_t i = 0; i < collected->page_count; i++) {
        for (size_t k = 0; k < collected->pages[i]->n_definitions; k++) {
            take(collected, collected->pages[i]->definitions[k], to);
        }
    }
}

/* --- Cells ------------------------------------------------------------------------------------------------------ */

static const char *state_text(Coffer__V1__DefinitionState state)
{
    switch ((int) state) {
    case STATE(COMPLETE):
        return "ok";
    case STATE(INCOMPLETE):
        return "incomplete";
    case STATE(ABSENT):
        return "missing";
    case STATE(CORRUPTED):
        return "damaged";
    case STATE(WRONG_TYPE):
        return "wrong type";
    case STATE(EXPIRED):
        return "expired";
    case STATE(HIDDEN):
        return "hidden";
    default:
        return "unknown";
    }
}

/* What an action would not get. What may not be seen is nobody's fault. */
static bool is_gap(const definition *shown, const coverage *cell)
{
    return cell->state != STATE(COMPLETE) && cell->state != STATE(HIDDEN) &&
           !(cell->state == STATE(ABSENT) && shown->optional);
}

static const char *cell_text(const definition *shown, const coverage *cell, char *text, size_t room)
{
    if (cell->state == STATE(INCOMPLETE) && cell->n_missing_keys == 1) {
        (void) snprintf(text, room, "lacks %s", cell->missing_keys[0]);
    } else if (cell->state == STATE(INCOMPLETE) && shown->n_keys == 0) {
        (void) snprintf(text, room, "lacks any key");
    } else if (cell->state == STATE(INCOMPLETE)) {
        (void) snprintf(text, room, "lacks %zu of %zu keys", cell->n_missing_keys, shown->n_keys);
    } else if (cell->state == STATE(ABSENT) && !shown->optional) {
        (void) snprintf(text, room, "MISSING");
    } else {
        (void) snprintf(text, room, "%s", cell->state == STATE(ABSENT) ? "-" : state_text(cell->state));
    }
    return text;
}

/* --- Forms ------------------------------------------------------------------------------------------------------ */

static void count_gaps(const struct collected *collected, const definition *shown, void *to)
{
    size_t *gaps = to;
    (void) collected;
    for (size_t i = 0; i < shown->n_environments; i++) {
        *gaps += is_gap(shown, shown->environments[i]);
    }
}

/* A column for each environment. */
static void add_line(const struct collected *collected, const definition *shown, void *to)
{
    struct cli_table *table = to;
    char text[CELL_TEXT];
    (void) collected;
    cli_table_add(table, shown->name);
    for (size_t i = 0; i < shown->n_environments; i++) {
        cli_table_add(table, cell_text(shown, shown->environments[i], text, sizeof text));
    }
}

/* A line for each secret, for terminals that have no room for a column of each environment. */
static void add_sentence(const struct collected *collected, const definition *shown, void *to)
{
    struct cli_table *table = to;
    AUTO(free_text) char *whole = NULL;
    AUTO(free_text) char *lacking = NULL;
    (void) collected;
    for (size_t i = 0; i < shown->n_environments; i++) {
        const coverage *cell = shown->environments[i];
        AUTO(free_text) char *word = NULL;
        char text[CELL_TEXT];
        const bool plain = cell->state == STATE(COMPLETE) || cell->state == STATE(ABSENT);
        if (cell->state == STATE(ABSENT) && shown->optional) {
            continue;
        }
        (void) cell_text(shown, cell, text, sizeof text);
        const int length =
            plain ? asprintf(&word, "%s", cell->environment) : asprintf(&word, "%s (%s)", cell->environment, text);
        if (length < 0) {
            word = NULL;
            return;
        }
        join(is_gap(shown, cell) ? &lacking : &whole, ", ", word);
    }
    cli_table_add(table, shown->name);
    cli_table_add(table, whole == NULL ? "" : whole);
    cli_table_add(table, lacking == NULL ? "" : lacking);
}

/* For programs: a line for each secret and environment. */
static void print_cells(const struct collected *collected, const definition *shown, void *to)
{
    (void) collected;
    (void) to;
    for (size_t i = 0; i < shown->n_environments; i++) {
        const coverage *cell = shown->environments[i];
        AUTO(free_text) char *keys = join_all(cell->missing_keys, cell->n_missing_keys);
        printf("%s\t%s\t%s\t%s\n", shown->name, cell->environment, state_text(cell->state),
               keys == NULL ? "-" : keys);
    }
}

static cli_exit show_matrix(const struct collected *collected)
{
    static const char *const sentence_headers[] = {"SECRET", "IN", "LACKING IN"};
    const char **headers = calloc(collected->environment_count + 1, sizeof *headers);
    if (headers == NULL) {
        return cli_no_memory();
    }
    headers[0] = "SECRET";
    for (size_t i = 0; i < collected->environment_count; i++) {
        headers[i + 1] = collected->environments[i];
    }
    struct cli_table *table = cli_table_new(headers, collected->environment_count + 1);
    each_definition(collected, add_line, table);
    free(headers);
    cli_table_colour(table);
    if (cli_table_fits(table)) {
        cli_table_none(table, "");
        cli_table_print(table);
        return CLI_OK;
    }
    cli_table_free(table);
    table = cli_table_new(sentence_headers, COF_COUNT(sentence_headers));
    each_definition(collected, add_sentence, table);
    cli_table_print_list(table, "lacking in ");
    return CLI_OK;
}

/* --- check ------------------------------------------------------------------------------------------------------ */

static bool is_asked(const struct cli *cli, const char *name)
{
    for (size_t i = 0; i < cli->argument_count; i++) {
        if (strcmp(cli->arguments[i], name) == 0) {
            return true;
        }
    }
    return cli->argument_count == 0;
}

static bool is_there(const struct collected *collected, const char *name)
{
    for (size_t i = 0; i < collected->page_count; i++) {
        for (size_t k = 0; k < collected->pages[i]->n_definitions; k++) {
            if (strcmp(collected->pages[i]->definitions[k]->name, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Leaves those that the command names, each of which has to be there. */
static cli_exit choose(const struct cli *cli, struct collected *collected)
{
    for (size_t i = 0; i < cli->argument_count; i++) {
        if (!is_there(collected, cli->arguments[i])) {
            return cli_refuse(CLI_NOT_FOUND, "coffer integration list shows what there is",
                              "there is no integration \"%s\"", cli->arguments[i]);
        }
    }
    for (size_t i = 0; i < collected->page_count; i++) {
        Coffer__V1__ListDefinitionsResponse *page = collected->pages[i];
        size_t kept = 0;
        for (size_t k = 0; k < page->n_definitions; k++) {
            definition *one = page->definitions[k];
            if (is_asked(cli, one->name)) {
                page->definitions[k] = page->definitions[kept];
                page->definitions[kept++] = one;
            }
        }
        for (size_t k = kept; k < page->n_definitions; k++) {
            cli_free_message(&page->definitions[k]->base);
        }
        page->n_definitions = kept;
    }
    return CLI_OK;
}

static cli_exit collect(struct cli *cli, struct collected *collected)
{
    Coffer__V1__ListDefinitionsRequest request;
    begin_request(cli, &request);
    request.used_only = cli->argument_count == 0 && cli->prefix == NULL;
    if (cli->argument_count == 1) {
        request.name_prefix = cli->arguments[0];
    }
    cli_exit code = ask_environments(cli, collected);
    request.environments = collected->environments;
    request.n_environments = collected->environment_count;
    code = code == CLI_OK ? ask_definitions(cli, &request, collected) : code;
    return code == CLI_OK ? choose(cli, collected) : code;
}

static void print_json(const struct collected *collected)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(
        &coffer__v1__list_definitions_response__descriptor, "definitions");
    size_t count = 0;
    fputs("{\n  \"definitions\": [", stdout);
    for (size_t i = 0; i < collected->page_count; i++) {
        count = cli_json_items(stdout, &collected->pages[i]->base, field, count, 1);
    }
    fputs(count == 0 ? "]\n}\n" : "\n  ]\n}\n", stdout);
}

static cli_exit tell(const struct cli *cli, const struct collected *collected)
{
    size_t gaps = 0;
    cli_exit code = CLI_OK;
    each_definition(collected, count_gaps, &gaps);
    if (cli->json) {
        print_json(collected);
    } else if (cli_table_is_aligned()) {
        code = show_matrix(collected);
    } else {
        each_definition(collected, print_cells, NULL);
    }
    if (code != CLI_OK) {
        return code;
    }
    if (gaps == 0) {
        cli_note("nothing is missing");
    } else {
        cli_note("%zu %s something", gaps, gaps == 1 ? "place lacks" : "places lack");
    }
    return gaps == 0 ? CLI_OK : CLI_PARTIAL;
}

cli_exit cmd_integration_check(struct cli *cli)
{
    struct collected collected = {0};
    cli_exit code = collect(cli, &collected);
    if (code == CLI_OK) {
        code = tell(cli, &collected);
    }
    collected_done(&collected);
    return code;
}

/* --- show ------------------------------------------------------------------------------------------------------- */

static void add_environments(const struct collected *collected, const definition *shown, void *to)
{
    struct cli_table *table = to;
    (void) collected;
    for (size_t i = 0; i < shown->n_environments; i++) {
        const coverage *cell = shown->environments[i];
        AUTO(free_text) char *keys = join_all(cell->missing_keys, cell->n_missing_keys);
        cli_table_add(table, cell->environment);
        cli_table_add(table, state_text(cell->state));
        cli_table_add(table, keys == NULL ? "" : keys);
    }
}

static void note_needs(const struct collected *collected, const definition *shown, void *to)
{
    AUTO(free_text) char *keys = join_all(shown->keys, shown->n_keys);
    AUTO(free_text) char *optional_keys = join_all(shown->optional_keys, shown->n_optional_keys);
    const bool one_of = shown->n_keys == 0 && !shown->optional;
    (void) collected;
    (void) to;
    cli_note("%s %s", shown->name, shown->optional ? "may be missing" : "must be there");
    if (keys != NULL) {
        cli_note("  with %s", keys);
    }
    if (optional_keys != NULL) {
        cli_note("  %s %s", one_of ? "with one of" : "and may have", optional_keys);
    }
    cli_note("%u %s it%s%s", shown->actions, shown->actions == 1 ? "action declares" : "actions declare",
             shown->in_catalogue ? "; in the catalogue" : "",
             shown->type == COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED ? "; of any type" : "");
}

cli_exit cmd_integration_show(struct cli *cli)
{
    static const char *const headers[] = {"ENVIRONMENT", "STATE", "MISSING KEYS"};
    struct collected collected = {0};
    const cli_exit code = collect(cli, &collected);
    if (code == CLI_OK && cli->json) {
        print_json(&collected);
    } else if (code == CLI_OK) {
        struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
        each_definition(&collected, note_needs, NULL);
        each_definition(&collected, add_environments, table);
        cli_table_print(table);
    }
    collected_done(&collected);
    return code;
}
