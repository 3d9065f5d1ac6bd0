#include "server/service/fault.h"

#ifdef COFFER_FAULTS

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/crypto/crypto.h"

enum { PROBABILITY_STEPS = 65536, WAIT_SECONDS = 3600, FAULT_EXIT = 86 };

static double probability(const char *text)
{
    return text == NULL ? 1.0 : strtod(text, NULL);
}

static int drawn(double chance)
{
    uint8_t bytes[2];
    struct cof_error err;
    if (crypto_random(bytes, sizeof bytes, &err) != COF_OK) {
        return 0;
    }
    return bytes[0] * 256 + bytes[1] < (int) (chance * PROBABILITY_STEPS);
}

static void act(const char *action)
{
    if (strncmp(action, "exit", 4) == 0) {
        _exit(FAULT_EXIT);
    }
    if (strncmp(action, "wait", 4) == 0) {
        const struct timespec pause = {.tv_sec = WAIT_SECONDS};
        (void) nanosleep(&pause, NULL);
    }
}

void fault_point(const char *name)
{
    const char *setting = getenv("COFFER_FAULT");
    const size_t length = strlen(name);
    if (setting == NULL || strncmp(setting, name, length) != 0 || setting[length] != ':') {
        return;
    }
    const char *action = setting + length + 1;
    const char *chance = strchr(action, ':');
    if (drawn(probability(chance == NULL ? NULL : chance + 1))) {
        act(action);
    }
}

#else
/* An empty file is no translation unit. */
typedef int fault_points_are_off;
#endif
