#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "server/metrics/metrics.h"

enum { KIB = 1024, LINE = 512, STARTED_FIELD = 20 /* of /proc/PID/stat, behind the state */ };

/* The kernel's own text: digits behind blanks. */
static bool read_number(const char *text, uint64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    return errno == 0 && end != text;
}

/* The number of KiB behind a name in /proc/self/status, in bytes; -1: there is none. */
static double status_bytes(const char *name)
{
    char line[LINE];
    uint64_t value = 0;
    double found = -1;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && found < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':' &&
            read_number(line + strlen(name) + 1, &value)) {
            found = (double) value * KIB;
        }
    }
    if (file != NULL) {
        (void) fclose(file);
    }
    return found;
}

static double descriptors(void)
{
    double count = -3; /* the two dots, and the descriptor that counts */
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return -1;
    }
    while (readdir(folder) != NULL) {
        count++;
    }
    (void) closedir(folder);
    return count;
}

/* Seconds since 1970 when the process began; -1: not known. */
static double started(void)
{
    char text[LINE * 2] = "";
    uint64_t ticks = 0;
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL) {
        return -1;
    }
    const size_t size = fread(text, 1, sizeof text - 1, file);
    (void) fclose(file);
    text[size] = '\0';
    /* The name of the program stands in parentheses, and may hold anything. */
    const char *at = strrchr(text, ')');
    for (int i = 0; at != NULL && i < STARTED_FIELD; i++) {
        at = strchr(at + 1, ' ');
    }
    struct timespec now;
    struct timespec up;
    if (at == NULL || !read_number(at, &ticks) || clock_gettime(CLOCK_REALTIME, &now) != 0 ||
        clock_gettime(CLOCK_BOOTTIME, &up) != 0) {
        return -1;
    }
    const double booted = (double) (now.tv_sec - up.tv_sec) + (double) (now.tv_nsec - up.tv_nsec) / 1e9;
    const long ticks_per_s = sysconf(_SC_CLK_TCK);
    return booted + (double) ticks / (double) ticks_per_s;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        return -1;
    }
    return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void write_known(struct http_text *to, const char *name, const char *type, const char *help, double value)
{
    if (value >= 0) {
        metrics_write_value(to, name, type, help, value);
    }
}

void metrics_write_process(struct http_text *to)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    write_known(to, "process_cpu_seconds_total", "counter", "Time on processors.", cpu_seconds());
    write_known(to, "process_resident_memory_bytes", "gauge", "Memory that is there.", status_bytes("VmRSS"));
    write_known(to, "process_virtual_memory_bytes", "gauge", "Memory that is mapped.", status_bytes("VmSize"));
    write_known(to, "coffer_locked_memory_bytes", "gauge", "Memory that is locked.", status_bytes("VmLck"));
    write_known(to, "process_open_fds", "gauge", "Open descriptors.", descriptors());
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        metrics_write_value(to, "process_max_fds", "gauge", "Descriptors that may be open.",
                            (double) limit.rlim_cur);
    }
    write_known(to, "process_start_time_seconds", "gauge", "When the process began.", started());
}
