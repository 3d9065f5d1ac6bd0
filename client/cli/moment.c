#include "client/cli/moment.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

bool moment_span(const char *text, int64_t *ret_seconds)
{
    static const struct {
        const char *unit;
        int64_t seconds;
    } units[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
    int64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && number < INT32_MAX; at++) {
        number = number * 10 + (*at - '0');
    }
    for (size_t i = 0; at != text && i < COF_COUNT(units); i++) {
        if (strcmp(at, units[i].unit) == 0) {
            *ret_seconds = number * units[i].seconds;
            return true;
        }
    }
    return false;
}

/* A day stands for its first second. timegm takes the 31st of February for one of March, so the way back must agree. */
bool moment_parse(const char *text, int64_t *ret_seconds)
{
    enum { ROOM = 32, DAY_LENGTH = 10 };
    char whole[ROOM];
    char again[ROOM];
    struct tm parts = {0};
    (void) snprintf(whole, sizeof whole, "%.20s%s", text, strlen(text) == DAY_LENGTH ? "T00:00:00Z" : "");
    const char *end = strptime(whole, "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (strlen(text) > ROOM - DAY_LENGTH || end == NULL || *end != '\0') {
        return false;
    }
    const time_t seconds = timegm(&parts);
    *ret_seconds = (int64_t) seconds;
    return gmtime_r(&seconds, &parts) != NULL && strftime(again, sizeof again, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0 &&
           strcmp(again, whole) == 0;
}

cli_exit moment_read(const char *name, const char *text, Google__Protobuf__Timestamp *ret_time, bool *ret_never)
{
    int64_t seconds = 0;
    google__protobuf__timestamp__init(ret_time);
    *ret_never = strcmp(text, "never") == 0;
    if (*ret_never) {
        return CLI_OK;
    }
    if (moment_span(text, &seconds)) {
        seconds += (int64_t) time(NULL);
    } else if (!moment_parse(text, &seconds)) {
        return cli_usage("2027-01-31, 2027-01-31T12:00:00Z (UTC), 90d, 12h or never", "--%s is no time", name);
    }
    ret_time->seconds = seconds;
    return CLI_OK;
}
