/*
 * Asks the server's own functions what a caller may do: one question on each line of standard input, one answer on
 * each line of standard output. rights_test.py asks, and compares with a model of its own.
 *
 *   may     kind  caller's workspace  grants  restrictions  permission  workspace  environment  name  narrowed token
 *   within  kind  grants  restrictions  outer grants  outer restrictions
 *   from    networks  peer: 32 hexadecimal digits of an IPv6 address, "unix", or "unix:" and a UID
 *   inside  networks  outer networks
 *
 * Columns are separated by tabs. Rules are joined by ";", each is permissions|environments|names|workspaces, each of
 * these a list joined by ",". A narrowed token counts by its caveats alone; none is written "-". The answer is OK or a reason, for the last three also NO.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/service/authorize.h"
#include "server/service/networks.h"
#include "server/service/workspace_state.h"

enum { COLUMNS_MAX = 10, ITEMS_MAX = 64, LINE_MAX_BYTES = 65536, CALL_BYTES = 1 << 20, POOL_BYTES = 1 << 21 };

struct driver {
    struct cof_arena arena;
    struct cof_error err;
};

cof_code __wrap_workspace_state_read(struct call *call, const struct cof_uuid *workspace,
                                     struct workspace_state_row *ret_state);

/* The questions are about rights: in the database, which is not here, every workspace is active. */
cof_code __wrap_workspace_state_read(struct call *call, const struct cof_uuid *workspace,
                                     struct workspace_state_row *ret_state)
{
    (void) call;
    *ret_state = (struct workspace_state_row){
        .workspace_id = *workspace, .state = WORKSPACE_ACTIVE, .delete_time = ROW_NO_TIME};
    return COF_OK;
}

static cof_token_kind kind_of(const char *text)
{
    const long number = strtol(text, NULL, 10);
    return (cof_token_kind) number;
}

/* Splits in place; an empty text has no items. */
static size_t split(char *text, char separator, char **items)
{
    size_t count = 0;
    if (*text == '\0') {
        return 0;
    }
    for (char *at = text; at != NULL && count < ITEMS_MAX; count++) {
        char *end = strchr(at, separator);
        items[count] = at;
        if (end != NULL) {
            *end++ = '\0';
        }
        at = end;
    }
    return count;
}

static char **list(struct driver *driver, char *text, size_t *ret_count)
{
    char **items = cof_arena_array(&driver->arena, ITEMS_MAX, sizeof *items);
    if (items == NULL) {
        abort();
    }
    *ret_count = split(text, ',', items);
    return items;
}

static Coffer__V1__Rule *read_rule(struct driver *driver, char *text)
{
    char empty[] = "";
    char *parts[ITEMS_MAX] = {empty, empty, empty, empty};
    Coffer__V1__Rule *rule = cof_arena_alloc(&driver->arena, sizeof *rule);
    if (rule == NULL) {
        abort();
    }
    (void) split(text, '|', parts);
    coffer__v1__rule__init(rule);
    rule->permissions = list(driver, parts[0], &rule->n_permissions);
    rule->environments = list(driver, parts[1], &rule->n_environments);
    rule->names = list(driver, parts[2], &rule->n_names);
    rule->workspaces = list(driver, parts[3], &rule->n_workspaces);
    return rule;
}

static cof_code read_rules(struct driver *driver, cof_token_kind kind, char *text, struct rule_set *ret_set)
{
    char *texts[ITEMS_MAX];
    Coffer__V1__Rule *rules[ITEMS_MAX];
    const size_t count = split(text, ';', texts);
    for (size_t i = 0; i < count; i++) {
        rules[i] = read_rule(driver, texts[i]);
    }
    return rights_read(rules, count, kind, "grants", &driver->arena, ret_set, &driver->err);
}

/* Lays the caveats of a narrowed token over the caller's rights, as caller_read does. */
static cof_code read_narrowed(struct call *call, const char *text, struct caller *caller)
{
    struct cof_token token;
    struct cof_narrowed *narrowed = cof_arena_alloc(call->arena, sizeof *narrowed);
    if (strcmp(text, "-") == 0) {
        caller_set_home(caller, &caller->workspace);
        return COF_OK;
    }
    if (narrowed == NULL || cof_narrowed_parse(cof_slice_text(text), narrowed, call->err) != COF_OK ||
        cof_narrowed_or_whole(cof_slice_text(text), &token, call->err) != COF_OK) {
        abort();
    }
    caller_set_home(caller, &token.home);
    caller->narrowed = narrowed;
    return narrowed_rules(call, narrowed, &caller->caveats);
}

static cof_code may(struct driver *driver, char **columns)
{
    struct caller caller = {.kind = kind_of(columns[1])};
    struct call call = {.arena = &driver->arena, .err = &driver->err, .caller = &caller};
    const struct address *address;
    const int permission = cof_permission_parse(cof_slice_text(columns[5]));
    if (permission < 0 || !cof_uuid_parse(cof_slice_text(columns[2]), &caller.workspace)) {
        abort();
    }
    TRY(read_rules(driver, caller.kind, columns[3], &caller.grants));
    TRY(read_rules(driver, caller.kind, columns[4], &caller.restrictions));
    TRY(read_narrowed(&call, columns[9], &caller));
    return authorize_secret(&call, columns[6], columns[7], columns[8], (cof_permission) permission, &address);
}

static cof_code within(struct driver *driver, char **columns, bool *ret_within)
{
    struct rule_set sets[4];
    const cof_token_kind kind = kind_of(columns[1]);
    for (size_t i = 0; i < COF_COUNT(sets); i++) {
        TRY(read_rules(driver, kind, columns[2 + i], &sets[i]));
    }
    *ret_within = rights_within(&sets[0], &sets[1], &sets[2], &sets[3]);
    return COF_OK;
}

static cof_code read_networks(struct driver *driver, char *text, struct row_texts *ret_networks)
{
    size_t count;
    char **items = list(driver, text, &count);
    return networks_read(items, count, "networks", &driver->arena, ret_networks, &driver->err);
}

static struct call_peer read_peer(const char *text)
{
    struct call_peer peer = {.local = strncmp(text, "unix", 4) == 0};
    peer.has_uid = peer.local && text[4] == ':';
    peer.has_address = !peer.local;
    if (peer.has_uid) {
        peer.uid = (uint32_t) strtoul(text + 5, NULL, 10);
    }
    for (size_t i = 0; peer.has_address && i < sizeof peer.address; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], '\0'};
        peer.address[i] = (uint8_t) strtoul(digits, NULL, 16);
    }
    return peer;
}

static cof_code from(struct driver *driver, char **columns, bool *ret_permitted)
{
    struct row_texts networks;
    const struct call_peer peer = read_peer(columns[2]);
    TRY(read_networks(driver, columns[1], &networks));
    *ret_permitted = networks_permit(&networks, &peer);
    return COF_OK;
}

static cof_code inside(struct driver *driver, char **columns, bool *ret_inside)
{
    struct row_texts inner;
    struct row_texts outer;
    TRY(read_networks(driver, columns[1], &inner));
    TRY(read_networks(driver, columns[2], &outer));
    *ret_inside = networks_within(&inner, &outer);
    return COF_OK;
}

static const char *answer(struct driver *driver, char *line)
{
    char *columns[ITEMS_MAX];
    bool contained = true;
    cof_code code = COF_INTERNAL;
    const size_t count = split(line, '\t', columns);
    if (count == 10 && strcmp(columns[0], "may") == 0) {
        code = may(driver, columns);
    } else if (count == 6 && strcmp(columns[0], "within") == 0) {
        code = within(driver, columns, &contained);
    } else if (count == 3 && strcmp(columns[0], "from") == 0) {
        code = from(driver, columns, &contained);
    } else if (count == 3 && strcmp(columns[0], "inside") == 0) {
        code = inside(driver, columns, &contained);
    } else {
        abort();
    }
    if (code != COF_OK) {
        return cof_reason_name(driver->err.reason);
    }
    return contained ? "OK" : "NO";
}

int main(void)
{
    static char line[LINE_MAX_BYTES];
    struct driver driver;
    struct cof_pool *pool = NULL;
    if (cof_pool_new(POOL_BYTES, COF_LOCK_BEST_EFFORT, &pool, &driver.err) != COF_OK) {
        return 1;
    }
    cof_arena_init(&driver.arena, pool, CALL_BYTES);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        cof_error_clear(&driver.err);
        (void) puts(answer(&driver, line));
        cof_arena_reset(&driver.arena);
    }
    cof_pool_free(pool);
    return 0;
}
