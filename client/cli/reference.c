#include "client/cli/reference.h"

#include <stdio.h>
#include <string.h>

#include "client/cli/resolve.h"
#include "common/uuid.h"

#define SCHEME "coffer://"

enum { PLACE_TEXT = 64, PARTS = 4 };

bool reference_is_full(struct cof_slice text)
{
    return cof_slice_starts_with(text, cof_slice_text(SCHEME));
}

/* --- Reading ---------------------------------------------------------------------------------------------------- */

cli_exit reference_check_name(cof_name_kind kind, struct cof_slice name, const char *part, const char *what)
{
    struct cof_error err = {0};
    char field[PLACE_TEXT];
    (void) snprintf(field, sizeof field, "the %s in %.40s", part, what);
    return cof_name_check(kind, name, field, &err) == COF_OK ? CLI_OK
                                                             : cli_refuse(CLI_REJECTED, NULL, "%s", err.message);
}

static cli_exit check_place(const struct reference *reference, const char *what)
{
    struct cof_uuid uuid;
    if (reference->workspace == NULL) {
        return CLI_OK;
    }
    if (reference->workspace[0] != '\0' && !cof_uuid_parse(cof_slice_text(reference->workspace), &uuid)) {
        return cli_usage("coffer whoami tells the UUID; coffer:///ENVIRONMENT/NAME/KEY needs none",
                         "the workspace in %s is no UUID", what);
    }
    return reference_check_name(COF_NAME_ENVIRONMENT, cof_slice_text(reference->environment), "environment", what);
}

/* Cuts WORKSPACE/ENVIRONMENT/NAME/KEY. What stands behind a "?" is of older versions, which nothing hands out by reference. */
static cli_exit split_full(char *text, const char *what, struct reference *ret_reference)
{
    char *parts[PARTS] = {text};
    size_t count = 1;
    if (strchr(text, '?') != NULL) {
        return cli_usage("coffer secret reveal NAME KEY --version NUMBER shows an older one",
                         "%s has a \"?\"; a reference is of the current version", what);
    }
    for (char *slash = strchr(text, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (count < PARTS) {
            parts[count] = slash + 1;
        }
        count++;
    }
    if (count != PARTS) {
        return cli_usage(SCHEME "/prod/slack/SLACK_BOT_TOKEN",
                         "%s is not of the form " SCHEME "WORKSPACE/ENVIRONMENT/NAME/KEY", what);
    }
    *ret_reference = (struct reference){parts[0], parts[1], parts[2], parts[3]};
    return CLI_OK;
}

static cli_exit split_short(char *text, const char *what, struct reference *ret_reference)
{
    char *name = NULL;
    char *key = NULL;
    if (!cli_split_reference(text, &name, &key)) {
        return cli_usage("slack.SLACK_BOT_TOKEN", "%s is not of the form NAME.KEY", what);
    }
    *ret_reference = (struct reference){NULL, NULL, name, key};
    return CLI_OK;
}

cli_exit reference_read(char *text, const char *what, struct reference *ret_reference)
{
    struct reference reference = {NULL, NULL, text, text};
    cli_exit code = reference_is_full(cof_slice_text(text)) ? split_full(text + sizeof SCHEME - 1, what, &reference)
                                                            : split_short(text, what, &reference);
    if (code == CLI_OK) {
        code = check_place(&reference, what);
    }
    if (code == CLI_OK) {
        code = reference_check_name(COF_NAME_SECRET, cof_slice_text(reference.name), "name", what);
    }
    if (code == CLI_OK) {
        code = reference_check_name(COF_NAME_KEY, cof_slice_text(reference.key), "key", what);
    }
    if (code == CLI_OK) {
        *ret_reference = reference;
    }
    return code;
}

cli_exit reference_read_short(char *text, const char *what, struct reference *ret_reference)
{
    if (reference_is_full(cof_slice_text(text))) {
        return cli_usage("slack.SLACK_BOT_TOKEN -e prod",
                         "%s names its place, but this command's is that of -e and -w", what);
    }
    return reference_read(text, what, ret_reference);
}

/* --- Asking ----------------------------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_place(const struct reference *a, const struct reference *b)
{
    return same_text(a->workspace, b->workspace) && same_text(a->environment, b->environment);
}

struct asking {
    coffer_request *request;
    const struct reference *references;
    size_t count;
    size_t *items;
    size_t next; /* number of the item that is made next */
};

/* All that is of this place becomes the next item. */
static void ask_place(const struct cli *cli, struct asking *asking, const struct reference *place)
{
    if (asking->next > 0) {
        coffer_request_next_item(asking->request);
    }
    if (place->environment == NULL) {
        resolve_add_environments(cli, asking->request);
    } else {
        coffer_request_add_environment(asking->request, place->environment);
    }
    if (place->workspace != NULL && place->workspace[0] != '\0') {
        coffer_request_set_workspace(asking->request, place->workspace);
    }
    coffer_request_set_consistency_token(asking->request, cli->state);
    for (size_t i = 0; i < asking->count; i++) {
        if (same_place(&asking->references[i], place)) {
            coffer_request_add_reference(asking->request, asking->references[i].name, asking->references[i].key);
            asking->items[i] = asking->next;
        }
    }
    asking->next++;
}

static bool is_first_of_place(const struct asking *asking, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (same_place(&asking->references[j], &asking->references[i])) {
            return false;
        }
    }
    return true;
}

void reference_ask(const struct cli *cli, coffer_request *request, const struct reference *references, size_t count,
                   bool first, size_t *ret_items)
{
    static const struct reference own_place;
    struct asking asking = {.request = request, .references = references, .count = count};
    bool own = first;
    asking.items = ret_items;
    for (size_t i = 0; i < count; i++) {
        own = own || references[i].environment == NULL;
    }
    if (own) {
        ask_place(cli, &asking, &own_place);
    }
    for (size_t i = 0; i < count; i++) {
        if (references[i].environment != NULL && is_first_of_place(&asking, i)) {
            ask_place(cli, &asking, &references[i]);
        }
    }
}
