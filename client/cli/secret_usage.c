#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/integration.pb-c.h>

#include "client/cli/registry.h"

/* `coffer secret usage`: which registered actions need a secret, by themselves or by what their steps call. */

enum { KEYS_TEXT = 400, NAME_TEXT = 256, PAGE = 1000 };

/* An action, and why it needs the secret: its own declaration, or a step. */
struct user {
    const Coffer__V1__Action *action;
    const Coffer__V1__SecretDeclaration *declares;
    const Coffer__V1__OAuthDeclaration *connects;
    const char *through;
};

struct users {
    ProtobufCMessage **pages; /* that the actions belong to */
    size_t page_count;
    struct user *items;
    size_t count;
};

/* --- All actions ------------------------------------------------------------------------------------------------ */

static cli_exit keep_page(struct users *users, ProtobufCMessage *answer)
{
    const Coffer__V1__ListActionsResponse *page = (const Coffer__V1__ListActionsResponse *) (const void *) answer;
    ProtobufCMessage **pages = realloc(users->pages, (users->page_count + 1) * sizeof(void *));
    if (pages == NULL) {
        cli_free_message(answer);
        return cli_no_memory();
    }
    users->pages = pages;
    pages[users->page_count++] = answer;
    struct user *items = realloc(users->items, (users->count + page->n_actions + 1) * sizeof *items);
    if (items == NULL) {
        return cli_no_memory();
    }
    users->items = items;
    for (size_t i = 0; i < page->n_actions; i++) {
        items[users->count++] = (struct user){.action = page->actions[i]};
    }
    return CLI_OK;
}

static cli_exit read_actions(struct cli *cli, struct users *users)
{
    Coffer__V1__ListActionsRequest request;
    cli_exit code = CLI_OK;
    bool more = true;
    coffer__v1__list_actions_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.page_size = PAGE;
    while (code == CLI_OK && more) {
        ProtobufCMessage *answer = NULL;
        code = cli_call(cli, INTEGRATION_SERVICE "ListActions", &request.base,
                        &coffer__v1__list_actions_response__descriptor, &answer);
        if (code == CLI_OK) {
            request.page_token = ((Coffer__V1__ListActionsResponse *) (void *) answer)->next_page_token;
            more = request.page_token[0] != '\0';
            code = keep_page(users, answer);
        }
    }
    return code;
}

static void users_done(struct users *users)
{
    for (size_t i = 0; i < users->page_count; i++) {
        cli_free_message(users->pages[i]);
    }
    free(users->pages);
    free(users->items);
}

/* --- Who needs it ----------------------------------------------------------------------------------------------- */

static bool needs(const struct user *user)
{
    return user->declares != NULL || user->connects != NULL || user->through != NULL;
}

/* The name of a connection's tokens is that of its provider with "_oauth" behind it. */
static bool is_connection(const char *provider, const char *name)
{
    const size_t length = strlen(provider);
    return strncmp(provider, name, length) == 0 && strcmp(name + length, "_oauth") == 0;
}

static bool same_name(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static void look_at_declarations(struct user *user, const char *name)
{
    const Coffer__V1__ActionDeclarations *all = user->action->declarations;
    for (size_t i = 0; all != NULL && i < all->n_secrets; i++) {
        if (same_name(all->secrets[i]->name, name)) {
            user->declares = all->secrets[i];
        }
    }
    for (size_t i = 0; all != NULL && i < all->n_oauth; i++) {
        if (is_connection(all->oauth[i]->provider, name)) {
            user->connects = all->oauth[i];
        }
    }
}

static int by_name(const void *key, const void *item)
{
    return strcmp(key, ((const struct user *) item)->action->name);
}

static int in_order(const void *a, const void *b)
{
    return by_name(((const struct user *) a)->action->name, b);
}

/* Whether a step of the action needs it, which is found out from the bottom up, round by round. */
static bool look_at_steps(const struct users *users, struct user *user)
{
    const Coffer__V1__Action *action = user->action;
    for (size_t i = 0; !needs(user) && i < action->n_steps; i++) {
        const struct user *step =
            bsearch(action->steps[i], users->items, users->count, sizeof *users->items, by_name);
        if (step != NULL && step != user && needs(step)) {
            user->through = step->action->name;
            return true;
        }
    }
    return false;
}

static void find_users(struct users *users, const char *name)
{
    bool found = users->count > 0;
    if (found) {
        qsort(users->items, users->count, sizeof *users->items, in_order);
    }
    for (size_t i = 0; i < users->count; i++) {
        look_at_declarations(&users->items[i], name);
    }
    while (found) {
        found = false;
        for (size_t i = 0; i < users->count; i++) {
            found = look_at_steps(users, &users->items[i]) || found;
        }
    }
}

/* --- What is told ----------------------------------------------------------------------------------------------- */

static void add_key(char text[KEYS_TEXT], const char *key, const char *mark)
{
    const size_t length = strlen(text);
    (void) snprintf(text + length, KEYS_TEXT - length, "%s%s%s", length == 0 ? "" : ", ", key, mark);
}

/* "TOKEN, REGION?"; a question mark for what may be missing. */
static const char *keys_text(const Coffer__V1__SecretDeclaration *secret, char text[KEYS_TEXT])
{
    text[0] = '\0';
    for (size_t i = 0; secret != NULL && i < secret->n_keys; i++) {
        add_key(text, secret->keys[i], "");
    }
    for (size_t i = 0; secret != NULL && i < secret->n_optional_keys; i++) {
        add_key(text, secret->optional_keys[i], "?");
    }
    return text;
}

static void add_user(struct cli_table *table, const struct user *user)
{
    char text[KEYS_TEXT];
    const bool optional =
        user->declares != NULL ? user->declares->optional : user->connects != NULL && user->connects->optional;
    cli_table_add(table, user->action->name);
    cli_table_add(table, keys_text(user->declares, text));
    cli_table_add(table, user->through != NULL ? "" : optional ? "may be missing" : "required");
    cli_table_add(table, user->through == NULL ? "" : user->through);
}

static size_t print_users(const struct cli *cli, const struct users *users)
{
    static const char *const headers[] = {"ACTION", "KEYS", "NEED", "THROUGH"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    size_t count = 0;
    cli_table_none(table, "");
    for (size_t i = 0; i < users->count; i++) {
        if (needs(&users->items[i])) {
            add_user(table, &users->items[i]);
            count++;
        }
    }
    if (cli->json) {
        cli_table_print_json(table, "actions");
    } else {
        cli_table_print(table);
    }
    return count;
}

static void note_count(const char *name, size_t count, size_t of)
{
    if (of == 0) {
        cli_note("%s: no action is registered that could need it; coffer registry import PATH registers those of "
                 "template "
                 "files",
                 name);
    } else {
        cli_note("%s: needed by %zu of %zu registered action%s; who has read it stands in the audit trail "
                 "(cofferd audit export)",
                 name, count, of, of == 1 ? "" : "s");
    }
}

cli_exit cmd_secret_usage(struct cli *cli)
{
    struct users users = {.count = 0};
    const char *name = cli->arguments[0];
    cli_exit code = read_actions(cli, &users);
    if (code == CLI_OK) {
        find_users(&users, name);
        note_count(name, print_users(cli, &users), users.count);
    }
    users_done(&users);
    return code;
}
