#include "client/cli/complete.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"
#include "common/permission.h"

/*
 * Completion: the shells' scripts ask `coffer __complete WORD...`, the last word being the one under the cursor. A line
 * of the answer is a word, a tab, and what it means; the line ":files" stands for names of files.
 */

enum { LIST_WORD = 32 };

struct line {
    char *const *words; /* before the one under the cursor */
    size_t count;
    const char *current;
    char *group; /* the first words that are no options, or NULL */
    char *verb;
};

static void offer(const struct line *line, const char *prefix, const char *word, const char *meaning)
{
    const size_t length = strlen(prefix);
    if (strncmp(line->current, prefix, length) == 0 &&
        strncmp(line->current + length, word, strlen(line->current + length)) == 0) {
        printf("%s%s\t%s\n", prefix, word, meaning);
    }
}

/* --- Where the cursor is ---------------------------------------------------------------------------------------- */

static const struct option_row *option_of(const char *word)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *row = &option_rows[i];
        const bool letter = row->letter != '\0' && word[0] == '-' && word[1] == row->letter && word[2] == '\0';
        if (letter || (strncmp(word, "--", 2) == 0 && strcmp(word + 2, row->name) == 0)) {
            return row;
        }
    }
    return NULL;
}

/* The option whose argument is under the cursor. bash makes "--type=a" three words. */
static const struct option_row *open_option(const struct line *line)
{
    size_t count = line->count;
    if (count > 0 && strcmp(line->words[count - 1], "=") == 0) {
        count--;
    }
    const struct option_row *row = count == 0 ? NULL : option_of(line->words[count - 1]);
    return row != NULL && row->argument != NULL ? row : NULL;
}

static bool behind_dashes(const struct line *line)
{
    for (size_t i = 0; i < line->count; i++) {
        if (strcmp(line->words[i], "--") == 0) {
            return true;
        }
    }
    return false;
}

static void find_command(struct line *line)
{
    for (size_t i = 0; i < line->count; i++) {
        const struct option_row *row = option_of(line->words[i]);
        if (row != NULL && row->argument != NULL) {
            i += i + 1 < line->count && strcmp(line->words[i + 1], "=") == 0 ? 2 : 1;
        } else if (line->words[i][0] != '-' && line->group == NULL) {
            line->group = line->words[i];
        } else if (line->words[i][0] != '-' && line->verb == NULL) {
            line->verb = line->words[i];
        }
    }
}

/* --- What may stand there --------------------------------------------------------------------------------------- */

/* Words of a list that is separated by commas. */
static void offer_list(const struct line *line, const char *list)
{
    char word[LIST_WORD];
    while (*list != '\0') {
        const size_t length = strcspn(list, ",");
        assert(length < sizeof word);
        memcpy(word, list, length);
        word[length] = '\0';
        offer(line, "", word, "");
        list += length + (list[length] == ',');
    }
}

static void offer_permissions(const struct line *line)
{
    for (int i = 0; i < COF_PERMISSION_COUNT; i++) {
        offer(line, "", cof_permission_name((cof_permission) i), cof_permission_what((cof_permission) i));
    }
}

static void offer_name(const char *name, void *line)
{
    offer(line, "", name, "");
}

static void offer_from_server(const struct line *line, complete_source source)
{
    complete_from_server(source, line->words, line->count, line->current, offer_name, (void *) (uintptr_t) line);
}

static void offer_argument(const struct line *line, const struct option_row *row)
{
    static const struct {
        const char *argument;
        const char *words;
        const char *connections; /* the same in the group of OAuth, if that is different */
    } known[] = {{"TYPE", "custom,ssh_key,mtls,ca_cert,github_app", "user,service"},
                 {"FORMAT", "text,json,yaml,env,vault,infisical,coffer", NULL},
                 {"KIND", "fleet,system", NULL},
                 {"WHEN", "auto,always,never", NULL},
                 {"TIME", "30d,90d,1h,24h", NULL},
                 {"FORM", "json,jsonl,table,raw,env", NULL}};
    const bool oauth = line->group != NULL && strcmp(line->group, "oauth") == 0;
    for (size_t i = 0; i < COF_COUNT(known); i++) {
        if (strcmp(row->argument, known[i].argument) == 0) {
            offer_list(line, oauth && known[i].connections != NULL ? known[i].connections : known[i].words);
        }
    }
    if (strcmp(row->name, "permission") == 0 || strcmp(row->name, "grant") == 0) {
        offer_permissions(line);
    }
    if (strcmp(row->argument, "FILE") == 0) {
        puts(":files");
    } else if (strcmp(row->name, "env") == 0 || strcmp(row->name, "to-env") == 0) {
        offer_from_server(line, COMPLETE_ENVIRONMENTS);
    } else if (strcmp(row->name, "action") == 0) {
        offer_from_server(line, COMPLETE_ACTIONS);
    } else if (strcmp(row->name, "ref") == 0) {
        offer_from_server(line, COMPLETE_REFERENCES);
    }
}

static void offer_options(const struct line *line, const struct command *command)
{
    for (size_t i = 0; i < option_count; i++) {
        if (command_takes(command, i)) {
            char meaning[OPTION_HELP];
            offer(line, "--", option_rows[i].name, option_help(command, &option_rows[i], meaning));
        }
    }
}

/* Groups stand in the table one after the other, with all of their verbs. */
static void offer_groups(const struct line *line)
{
    for (size_t i = 0; i < command_count; i++) {
        const bool first = i == 0 || strcmp(commands[i - 1].group, commands[i].group) != 0;
        if (first) {
            offer(line, "", commands[i].group, commands[i].verb[0] == '\0' ? commands[i].help : "");
        }
    }
}

static void offer_verbs(const struct line *line, const char *group)
{
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].group, group) == 0) {
            offer(line, "", commands[i].verb, commands[i].help);
        }
    }
}

/* What the words of a command's arguments stand for, where the server knows it. The first one that fits holds. */
static void offer_names(const struct line *line, const struct command *command)
{
    static const struct {
        const char *group; /* NULL: any */
        const char *arguments;
        complete_source source;
    } known[] = {{NULL, "NAME.KEY", COMPLETE_REFERENCES},    {NULL, "[NAME.KEY]", COMPLETE_REFERENCES},
                 {NULL, "ACTION", COMPLETE_ACTIONS},         {NULL, "ENVIRONMENT", COMPLETE_ENVIRONMENTS},
                 {NULL, "UUID|NAME", COMPLETE_WORKSPACES},   {NULL, "[UUID|NAME]", COMPLETE_WORKSPACES},
                 {NULL, "ACCOUNT", COMPLETE_ACCOUNTS},       {"integration", "", COMPLETE_INTEGRATIONS},
                 {"env", "NAME", COMPLETE_ENVIRONMENTS},     {"sa", "NAME", COMPLETE_ACCOUNTS},
                 {"sa", "[NAME]", COMPLETE_ACCOUNTS},        {"secret", "NAME", COMPLETE_SECRETS},
                 {"export", "[NAME", COMPLETE_SECRETS},      {"oauth", "PROVIDER", COMPLETE_PROVIDERS},
                 {"oauth", "[PROVIDER]", COMPLETE_PROVIDERS}};
    if (strcmp(command->verb, "create") == 0 || command->most == 0) {
        return;
    }
    for (size_t i = 0; i < COF_COUNT(known); i++) {
        const bool group = known[i].group == NULL || strcmp(known[i].group, command->group) == 0;
        if (group && strncmp(command->arguments, known[i].arguments, strlen(known[i].arguments)) == 0) {
            offer_from_server(line, known[i].source);
            return;
        }
    }
}

/* Told while topics are gone through. */
static const struct line *completed;

static void offer_topic(const char *name, const char *about, const char *text)
{
    (void) text;
    offer(completed, "", name, about);
}

static void offer_words(const struct line *line, const struct command *command)
{
    if (line->group == NULL) {
        offer_groups(line);
    } else if (command == NULL && line->verb == NULL) {
        offer_verbs(line, line->group);
    } else if (strcmp(line->group, "help") == 0 && line->verb == NULL) {
        offer_groups(line);
        completed = line;
        help_each_topic(offer_topic);
        offer_list(line, "all,exit-codes,man");
    } else if (strcmp(line->group, "help") == 0 && line->verb != NULL) {
        offer_verbs(line, line->verb);
    } else if (strcmp(line->group, "completion") == 0) {
        offer_list(line, "bash,zsh,fish");
    } else if (command != NULL && strstr(command->arguments, "FILE]") != NULL) {
        puts(":files");
    } else if (command != NULL) {
        offer_names(line, command);
    }
}

void complete_words(char *const *words, size_t count)
{
    struct line line = {.words = words, .count = count == 0 ? 0 : count - 1};
    line.current = count == 0 ? "" : words[count - 1];
    if (strcmp(line.current, "=") == 0) {
        line.current = "";
        line.count++;
    }
    find_command(&line);
    char *const names[] = {line.group, line.verb};
    const size_t named = line.group == NULL ? 0 : (line.verb == NULL ? 1 : 2);
    const struct command *command = command_find(names, named);
    const struct option_row *open = open_option(&line);
    if (behind_dashes(&line)) {
        puts(":files");
    } else if (open != NULL) {
        offer_argument(&line, open);
    } else if (line.current[0] == '-') {
        offer_options(&line, command);
    } else {
        offer_words(&line, command);
    }
}

/* --- Scripts ---------------------------------------------------------------------------------------------------- */

static const char bash[] =
    "_coffer() {\n"
    "    local line current=${COMP_WORDS[COMP_CWORD]}\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        if [[ $line == :files ]]; then\n"
    "            compopt -o filenames 2>/dev/null\n"
    "            mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$current\")\n"
    "        else\n"
    "            COMPREPLY+=(\"${line%%$'\\t'*}\")\n"
    "        fi\n"
    "    done < <(coffer __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _coffer coffer\n";

static const char zsh[] =
    "#compdef coffer\n"
    "_coffer() {\n"
    "    local line\n"
    "    local -a found\n"
    "    for line in \"${(@f)$(coffer __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\"; do\n"
    "        if [[ $line == :files ]]; then\n"
    "            _files\n"
    "        elif [[ -n $line ]]; then\n"
    "            found+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
    "        fi\n"
    "    done\n"
    "    (( ${#found} )) && _describe -t coffer coffer found\n"
    "}\n"
    "if [[ ${funcstack[1]} == _coffer ]]; then\n"
    "    _coffer \"$@\"\n" /* zsh has loaded this file at the first completion */
    "else\n"
    "    compdef _coffer coffer\n"
    "fi\n";

static const char fish[] = "function __coffer_complete\n"
                           "    set -l before (commandline -opc)\n"
                           "    set -e before[1]\n"
                           "    for line in (coffer __complete $before (commandline -ct) 2>/dev/null)\n"
                           "        if test \"$line\" = :files\n"
                           "            __fish_complete_path (commandline -ct)\n"
                           "        else\n"
                           "            echo $line\n"
                           "        end\n"
                           "    end\n"
                           "end\n"
                           "complete -c coffer -f -a '(__coffer_complete)'\n";

cli_exit cmd_completion(struct cli *cli)
{
    static const struct {
        const char *name;
        const char *script;
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    for (size_t i = 0; i < COF_COUNT(shells); i++) {
        if (strcmp(cli->arguments[0], shells[i].name) == 0) {
            fputs(shells[i].script, stdout);
            return CLI_OK;
        }
    }
    return cli_usage("coffer completion bash", "there are scripts for bash, zsh and fish");
}
