#include "client/cli/grant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/text.h"

enum { LABEL = 14 };

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* The parts of a rule, in the order in which they are written, each behind its mark. */
static const char marks[] = "@/#";

enum { PARTS = sizeof marks };

static size_t count_words(const char *text)
{
    size_t count = 1;
    for (; *text != '\0'; text++) {
        count += *text == ',' || strchr(marks, *text) != NULL;
    }
    return count;
}

/* Cuts the text at its commas; false if nothing stands between two of them. */
static bool split(char *text, char **words, size_t *ret_count)
{
    size_t count = 0;
    char *save = NULL;
    if (text[0] == '\0' || text[0] == ',' || text[strlen(text) - 1] == ',' || strstr(text, ",,") != NULL) {
        return false;
    }
    for (char *word = strtok_r(text, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save)) {
        words[count++] = word;
    }
    *ret_count = count;
    return true;
}

/* Cuts the text at its marks; a part that is not there is NULL. False if they stand in another order, or twice. */
static bool split_parts(char *text, char *parts[PARTS])
{
    size_t part = 0;
    memset(parts, 0, PARTS * sizeof *parts);
    parts[0] = text;
    for (char *at = strpbrk(text, marks); at != NULL; at = strpbrk(at, marks)) {
        const size_t next = (size_t) (strchr(marks, *at) - marks) + 1;
        if (next <= part) {
            return false;
        }
        *at++ = '\0';
        parts[next] = at;
        part = next;
    }
    return true;
}

static cli_exit parse(char *text, Coffer__V1__Rule *rule, char ***ret_words)
{
    static const char form[] = "--grant resolve,secret:read@prod,staging-*/slack";
    char *parts[PARTS];
    struct {
        char ***items;
        size_t *count;
    } lists[PARTS] = {{&rule->permissions, &rule->n_permissions},
                      {&rule->environments, &rule->n_environments},
                      {&rule->names, &rule->n_names},
                      {&rule->workspaces, &rule->n_workspaces}};
    coffer__v1__rule__init(rule);
    char **words = calloc(count_words(text), sizeof *words);
    *ret_words = words;
    if (words == NULL) {
        return cli_no_memory();
    }
    if (!split_parts(text, parts)) {
        return cli_usage(form, "a grant is PERMISSION[,...][@ENVIRONMENT[,...]][/NAME[,...]][#WORKSPACE[,...]]");
    }
    for (size_t i = 0; i < PARTS; i++) {
        *lists[i].items = words;
        if (parts[i] != NULL && !split(parts[i], words, lists[i].count)) {
            return cli_usage(form, "a part of a grant is empty; leave it out, with its mark, for all");
        }
        words += *lists[i].count;
    }
    return CLI_OK;
}

static void from_options(struct cli *cli, Coffer__V1__Rule *rule)
{
    coffer__v1__rule__init(rule);
    rule->permissions = cli->permissions.items;
    rule->n_permissions = cli->permissions.count;
    rule->environments = cli->environment_patterns.items;
    rule->n_environments = cli->environment_patterns.count;
    rule->names = cli->names.items;
    rule->n_names = cli->names.count;
    rule->workspaces = cli->workspaces.items;
    rule->n_workspaces = cli->workspaces.count;
}

cli_exit grants_read(struct cli *cli, struct grants *grants)
{
    const size_t patterns = cli->environment_patterns.count + cli->names.count + cli->workspaces.count;
    memset(grants, 0, sizeof *grants);
    if (cli->grants.count > GRANTS_MAX) {
        return cli_usage(NULL, "--grant is given more than %d times", GRANTS_MAX);
    }
    if (cli->grants.count > 0 && cli->permissions.count + patterns > 0) {
        return cli_usage("--grant resolve@prod --grant secret:read",
                         "--grant says all of a rule; --permission and patterns cannot stand beside it");
    }
    if (cli->permissions.count == 0 && patterns > 0) {
        return cli_usage("--permission resolve --env-pattern prod",
                         "a pattern belongs to permissions: what is permitted is given anew, as a whole");
    }
    for (size_t i = 0; i < cli->grants.count; i++) {
        grants->list[i] = &grants->rules[i];
        grants->count++;
        const cli_exit code = parse(cli->grants.items[i], &grants->rules[i], &grants->words[i]);
        if (code != CLI_OK) {
            return code;
        }
    }
    if (cli->permissions.count > 0) {
        from_options(cli, &grants->rules[0]);
        grants->list[0] = &grants->rules[0];
        grants->count = 1;
    }
    return CLI_OK;
}

void grants_done(struct grants *grants)
{
    for (size_t i = 0; i < grants->count; i++) {
        free(grants->words[i]);
    }
    grants->count = 0;
}

/* --- Printing ------------------------------------------------------------------------------------------------- */

void grant_print_list(const char *label, char *const *items, size_t count)
{
    char *text = NULL;
    size_t length = 0;
    FILE *joined = count == 0 ? NULL : open_memstream(&text, &length);
    for (size_t i = 0; joined != NULL && i < count; i++) {
        fprintf(joined, "%s%s", i == 0 ? "" : ", ", items[i]);
    }
    if (joined != NULL && fclose(joined) == 0) {
        printf("%-*s", LABEL, label);
        text_wrap(stdout, text, LABEL, LABEL, text_room(stdout));
        (void) putchar('\n');
    }
    free(text);
}

void grant_print(const char *label, const Coffer__V1__Rule *rule)
{
    grant_print_list(label, rule->permissions, rule->n_permissions);
    grant_print_list("  envs", rule->environments, rule->n_environments);
    grant_print_list("  names", rule->names, rule->n_names);
    grant_print_list("  workspaces", rule->workspaces, rule->n_workspaces);
}
