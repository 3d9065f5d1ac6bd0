#include "server/store/hosts.h"

#include <stdlib.h>
#include <string.h>

void hosts_keep(struct hosts *hosts, const char *keyword, const char *value)
{
    const struct {
        const char *keyword;
        char **to;
    } lists[] = {{"host", &hosts->host}, {"hostaddr", &hosts->hostaddr}, {"port", &hosts->port}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (strcmp(keyword, lists[i].keyword) == 0) {
            free(*lists[i].to);
            *lists[i].to = value == NULL || value[0] == '\0' ? NULL : strdup(value);
        }
    }
}

void hosts_done(struct hosts *hosts)
{
    free(hosts->host);
    free(hosts->hostaddr);
    free(hosts->port);
    *hosts = (struct hosts){0};
}

unsigned hosts_count(const struct hosts *hosts)
{
    unsigned count = 1;
    const char *list = hosts->hostaddr != NULL ? hosts->hostaddr : hosts->host;
    for (; list != NULL && *list != '\0'; list++) {
        count += *list == ',';
    }
    return count;
}

const char *hosts_item(const char *list, unsigned index, char *to, size_t size)
{
    if (list == NULL) {
        return NULL;
    }
    for (const char *comma = strchr(list, ','); comma != NULL && index > 0; comma = strchr(list, ',')) {
        list = comma + 1;
        index--;
    }
    const size_t len = strcspn(list, ",");
    const size_t kept = len < size ? len : size - 1;
    memcpy(to, list, kept);
    to[kept] = '\0';
    return to;
}

bool hosts_unambiguous(const struct hosts *hosts, const char *conninfo)
{
    const bool uri = strncmp(conninfo, "postgres://", 11) == 0 || strncmp(conninfo, "postgresql://", 13) == 0;
    if (!uri) {
        return true;
    }
    const char *at = strchr(conninfo, '@');
    const bool second_at = at != NULL && at[1 + strcspn(at + 1, "@?")] == '@';
    return !second_at && (hosts->port == NULL || hosts->port[strspn(hosts->port, "0123456789,")] == '\0');
}
