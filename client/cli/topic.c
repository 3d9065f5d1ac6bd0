#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"

/* `coffer help TOPIC`. */

struct topic {
    const char *name;
    const char *about;
    const char *text;
};

static const struct topic topics[] = {
#define TOPIC(name, about, text) {name, about, text},
#include "client/cli/topics.def"
#undef TOPIC
};

enum { NAME_COLUMN = 18 };

static void print_line(const char *line, size_t length)
{
    char *copy = strndup(line, length);
    if (copy == NULL || length == 0 || line[0] == ' ') {
        printf("%.*s\n", (int) length, line);
    } else {
        help_wrapped(copy, 0);
    }
    free(copy);
}

bool help_topic(const char *name)
{
    for (size_t i = 0; i < COF_COUNT(topics); i++) {
        if (strcmp(topics[i].name, name) != 0) {
            continue;
        }
        printf("%s: %s\n\n", topics[i].name, topics[i].about);
        for (const char *at = topics[i].text; *at != '\0';) {
            const size_t length = strcspn(at, "\n");
            print_line(at, length);
            at += length + (at[length] == '\n');
        }
        return true;
    }
    return false;
}

void help_each_topic(void (*each)(const char *name, const char *about, const char *text))
{
    for (size_t i = 0; i < COF_COUNT(topics); i++) {
        each(topics[i].name, topics[i].about, topics[i].text);
    }
}

static void print_about(const char *name, const char *about, const char *text)
{
    (void) text;
    printf("  %-*s", NAME_COLUMN - 2, name);
    help_wrapped(about, NAME_COLUMN);
}

void help_topics(void)
{
    help_each_topic(print_about);
}
