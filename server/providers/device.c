#include "server/providers/device.h"

#include <string.h>

#include "common/attr.h"
#include "server/providers/members.h"
#include "server/providers/metadata.h"

enum start_member { DEVICE, USER, URI, URI_OF_SOME, COMPLETE, EXPIRES, INTERVAL, START_MEMBERS };

static cof_code refuse(struct cof_error *err, const char *problem)
{
    return cof_fail(err, COF_REASON_FILE_INVALID, "the answer %s", problem);
}

static bool is_printable(const char *text, size_t max)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            return false;
        }
    }
    return text[0] != '\0' && strlen(text) <= max;
}

static cof_code check(const struct member *members, const char *uri, struct cof_error *err)
{
    const char *complete = members[COMPLETE].text;
    const int64_t interval = members[INTERVAL].number;
    if (!is_printable(members[DEVICE].text, DEVICE_CODE_MAX)) {
        return refuse(err, "has no device_code that can be sent");
    }
    if (!is_printable(members[USER].text, DEVICE_USER_CODE_MAX)) {
        return refuse(err, "has no user_code that can be typed");
    }
    if (!metadata_url_is_https(uri) || (complete[0] != '\0' && !metadata_url_is_https(complete))) {
        return refuse(err, "has an address for people that is no URL with https");
    }
    if (strstr(uri, members[DEVICE].text) != NULL || strstr(complete, members[DEVICE].text) != NULL) {
        return refuse(err, "has the device_code in an address for people");
    }
    if (members[EXPIRES].number <= 0 || interval > DEVICE_INTERVAL_MOST_S) {
        return refuse(err, "has no end, or an interval that nobody waits for");
    }
    return COF_OK;
}

cof_code device_start_read(struct cof_slice answer, struct cof_arena *arena, struct device_start *ret_start,
                           struct cof_error *err)
{
    struct member members[START_MEMBERS] = {
        [DEVICE] = {.name = "device_code", .kind = MEMBER_TEXT, .text = ""},
        [USER] = {.name = "user_code", .kind = MEMBER_TEXT, .text = ""},
        [URI] = {.name = "verification_uri", .kind = MEMBER_TEXT, .text = ""},
        /* As some large providers call it, from before the standard. */
        [URI_OF_SOME] = {.name = "verification_url", .kind = MEMBER_TEXT, .text = ""},
        [COMPLETE] = {.name = "verification_uri_complete", .kind = MEMBER_TEXT, .text = ""},
        [EXPIRES] = {.name = "expires_in", .kind = MEMBER_NUMBER, .text = ""},
        [INTERVAL] = {.name = "interval", .kind = MEMBER_NUMBER, .text = ""},
    };
    TRY(members_read("the answer", answer, members, START_MEMBERS, arena, err));
    const char *uri = members[URI].text[0] == '\0' ? members[URI_OF_SOME].text : members[URI].text;
    TRY(check(members, uri, err));
    const int64_t life = members[EXPIRES].number;
    const int64_t interval = members[INTERVAL].number;
    *ret_start = (struct device_start){
        .device_code = members[DEVICE].text,
        .user_code = members[USER].text,
        .verification_uri = uri,
        .complete_uri = members[COMPLETE].text,
        .life_s = life < DEVICE_LIFE_MOST_S ? life : DEVICE_LIFE_MOST_S,
        .interval_s = interval > 0 ? interval : DEVICE_INTERVAL_S,
    };
    return COF_OK;
}

device_word device_word_of(const char *code)
{
    static const struct {
        const char *code;
        device_word word;
    } known[] = {{"authorization_pending", DEVICE_PENDING},
                 {"slow_down", DEVICE_SLOWER},
                 {"access_denied", DEVICE_DENIED},
                 {"expired_token", DEVICE_EXPIRED}};
    for (size_t i = 0; i < COF_COUNT(known); i++) {
        if (strcmp(known[i].code, code) == 0) {
            return known[i].word;
        }
    }
    return DEVICE_OTHER;
}
