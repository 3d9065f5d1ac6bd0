#include "client/bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_ADDR = 256,
    OPT_TOKEN_FILE,
    OPT_ADMIN_TOKEN_FILE,
    OPT_OUTPUT,
    OPT_ANCHOR,
    OPT_VERSION,
    OPT_ROUNDS,
    OPT_DURATION,
    OPT_COUNT,
    OPT_WARM_UP,
    OPT_SECRETS,
    OPT_VALUE_SIZE,
    OPT_SEED,
    OPT_DEVIATION,
    OPT_RATE,
    OPT_TIMEOUT,
    OPT_NO_ECHO,
};

static const struct option long_options[] = {
    {"addr", required_argument, NULL, OPT_ADDR},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"admin-token-file", required_argument, NULL, OPT_ADMIN_TOKEN_FILE},
    {"workspace", required_argument, NULL, 'w'},
    {"in-flight", required_argument, NULL, 'n'},
    {"rate", required_argument, NULL, OPT_RATE},
    {"no-echo", no_argument, NULL, OPT_NO_ECHO},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"count", required_argument, NULL, OPT_COUNT},
    {"warm-up", required_argument, NULL, OPT_WARM_UP},
    {"secrets", required_argument, NULL, OPT_SECRETS},
    {"value-size", required_argument, NULL, OPT_VALUE_SIZE},
    {"seed", required_argument, NULL, OPT_SEED},
    {"deviation", required_argument, NULL, OPT_DEVIATION},
    {"anchor", required_argument, NULL, OPT_ANCHOR},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

void options_help(void)
{
    puts("coffer-bench: how fast a Coffer server is, as a ratio to bare nng\n\n"
         "  coffer-bench [OPTIONS] MIX...\n\n"
         "A mix is one of the calls below, or several with weights: resolve=9,write=1. In each round every mix "
         "runs\n"
         "once, and for each a bare nng echo of the same sizes, in a random order; the ratio is the median of the\n"
         "rounds' ratios. A round in which the echo is far from its own median is void for its mix.\n");
    for (size_t i = 0; i < operation_kind_count(); i++) {
        printf("  %-10s %s\n", operation_kind_at(i)->name, operation_kind_at(i)->help);
    }
    puts(
        "\nOptions:\n"
        "  --addr ADDRESS            tcp://HOST:PORT or ipc://PATH                 (COFFER_ADDR)\n"
        "  --token-file FILE         file with the token of the calls              (COFFER_TOKEN_FILE, "
        "COFFER_TOKEN)\n"
        "  --admin-token-file FILE   file with the token that makes and removes the secrets; default: the same\n"
        "  -w, --workspace UUID      needed with fleet tokens; @FILE names a file with one UUID on each line\n"
        "  -n, --in-flight N         calls in flight; default 64\n"
        "  --rate N                  an open loop: N calls begin in each second, whatever became of those before,\n"
        "                            and a call's time counts from when it was due; --in-flight is the most then\n"
        "  --no-echo                 no echo beside the mixes, so no ratio to it either\n"
        "  --timeout MS              milliseconds for each call; default 30000\n"
        "  --rounds N                default 9, at most 100\n"
        "  --duration MS             milliseconds of each run; default 1000\n"
        "  --count N                 calls of each run, instead of a duration\n"
        "  --warm-up MS              milliseconds before each run that are not counted; default 200\n"
        "  --secrets N               secrets to make, over all workspaces; default 1000\n"
        "  --value-size BYTES        default 256\n"
        "  --seed N                  of the order and the choice of secrets; default: random, and printed\n"
        "  --deviation PERCENT       how far an echo may be off its median; default 25\n"
        "  --anchor NAME=PROGRAM     one more thing to compare with: a program that prints calls per second\n"
        "  --output text|json        default text\n\n"
        "The secrets lie in the environment bench and are removed at the end; so is the environment, unless it "
        "holds\n"
        "others. Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 more than half of the rounds of a mix are "
        "void.");
}

/* --- Values --------------------------------------------------------------------------------------------------- */

static bool wrong(const char *option, const char *text, const char *want)
{
    (void) fprintf(stderr, "coffer-bench: --%s: \"%s\" is not %s\n  hint: coffer-bench --help\n", option, text,
                   want);
    return false;
}

static bool read_number(const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *ret_number)
{
    char *end = NULL;
    char want[80];
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && number >= least && number <= most) {
        *ret_number = number;
        return true;
    }
    (void) snprintf(want, sizeof want, "a number from %llu to %llu", (unsigned long long) least,
                    (unsigned long long) most);
    return wrong(option, text, want);
}

static bool read_small(const char *option, const char *text, uint32_t least, uint32_t most, uint32_t *ret_number)
{
    uint64_t number = 0;
    if (!read_number(option, text, least, most, &number)) {
        return false;
    }
    *ret_number = (uint32_t) number;
    return true;
}

static bool add_workspace(struct options *options, const char *text)
{
    struct cof_uuid uuid;
    struct data_workspaces *list = &options->workspaces;
    if (!cof_uuid_parse(cof_slice_text(text), &uuid) || list->count == DATA_WORKSPACES_MAX) {
        return wrong("workspace", text, "a UUID in lower case, or there are too many of them");
    }
    void *more = realloc(list->uuids, (list->count + 1) * sizeof *list->uuids);
    if (more == NULL) {
        (void) fprintf(stderr, "coffer-bench: there is no memory left\n");
        return false;
    }
    list->uuids = more;
    cof_uuid_format(&uuid, list->uuids[list->count++]);
    return true;
}

static bool add_workspaces(struct options *options, const char *path)
{
    char line[COF_UUID_TEXT + 2];
    FILE *file = fopen(path, "re");
    bool good = true;
    if (file == NULL) {
        (void) fprintf(stderr, "coffer-bench: --workspace: %s: %s\n", path, strerror(errno));
        return false;
    }
    while (good && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        good = add_workspace(options, line);
    }
    (void) fclose(file);
    return good;
}

/* Names stand in JSON as they are. */
static bool add_anchor(struct measure *measure, const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    struct anchor *anchor = &measure->anchors[measure->anchor_count];
    const size_t length = strspn(text, allowed);
    if (length == 0 || length >= ANCHOR_NAME || text[length] != '=' || text[length + 1] == '\0' ||
        measure->anchor_count == ANCHORS_MAX) {
        return wrong("anchor", text, "NAME=PROGRAM, or there are too many of them");
    }
    memcpy(anchor->name, text, length);
    anchor->program = text + length + 1;
    measure->anchor_count++;
    return true;
}

static bool add_mix(struct measure *measure, const char *text)
{
    if (measure->subject_count == SUBJECTS_MAX || !mix_read(text, &measure->subjects[measure->subject_count].mix)) {
        return wrong("help", text, "a mix of calls, or there are too many of them");
    }
    measure->subject_count++;
    return true;
}

/* --- Options -------------------------------------------------------------------------------------------------- */

static bool read_milliseconds(const char *option, const char *text, uint64_t least, uint64_t *ret_us)
{
    const uint64_t hour = 3600000;
    if (!read_number(option, text, least, hour, ret_us)) {
        return false;
    }
    *ret_us *= 1000;
    return true;
}

static bool take_measure(struct measure *measure, int option)
{
    uint64_t number = 0;
    switch (option) {
    case 'n':
        return read_small("in-flight", optarg, 1, LOAD_SLOTS_MAX, &measure->in_flight);
    case OPT_NO_ECHO:
        measure->no_echo = true;
        return true;
    case OPT_RATE:
        return read_small("rate", optarg, 1, 10000000, &measure->rate);
    case OPT_ROUNDS:
        return read_small("rounds", optarg, 1, ROUNDS_MAX, &measure->rounds);
    case OPT_DURATION:
        return read_milliseconds("duration", optarg, 1, &measure->duration_us);
    case OPT_WARM_UP:
        return read_milliseconds("warm-up", optarg, 0, &measure->warm_up_us);
    case OPT_COUNT:
        measure->duration_us = 0;
        return read_number("count", optarg, 1, UINT32_MAX, &measure->calls);
    case OPT_SEED:
        return read_number("seed", optarg, 0, UINT64_MAX, &measure->seed);
    case OPT_ANCHOR:
        return add_anchor(measure, optarg);
    default:
        if (!read_number("deviation", optarg, 1, 1000, &number)) {
            return false;
        }
        measure->deviation = (double) number;
        return true;
    }
}

static bool take_option(struct options *options, struct measure *measure, int option)
{
    switch (option) {
    case OPT_ADDR:
        options->address = optarg;
        return true;
    case OPT_TOKEN_FILE:
        options->token_file = optarg;
        return true;
    case OPT_ADMIN_TOKEN_FILE:
        options->admin_token_file = optarg;
        return true;
    case 'w':
        return optarg[0] == '@' ? add_workspaces(options, optarg + 1) : add_workspace(options, optarg);
    case OPT_SECRETS:
        return read_small("secrets", optarg, 1, 10000000, &options->secrets);
    case OPT_VALUE_SIZE:
        return read_small("value-size", optarg, 1, 65536, &options->value_size);
    case OPT_TIMEOUT:
        return read_small("timeout", optarg, 1, 600000, &options->timeout_ms);
    case OPT_OUTPUT:
        options->json = strcmp(optarg, "json") == 0;
        return options->json || strcmp(optarg, "text") == 0 || wrong("output", optarg, "text or json");
    case OPT_VERSION:
        options->version = true;
        return true;
    case 'h':
        options->help = true;
        return true;
    case '?':
        (void) fputs("  hint: coffer-bench --help\n", stderr);
        return false;
    default:
        return take_measure(measure, option);
    }
}

/* Without a list there is one workspace: the one that COFFER_WORKSPACE names, or the token's own. */
static bool default_workspace(struct options *options)
{
    const char *named = getenv("COFFER_WORKSPACE");
    if (options->workspaces.count > 0) {
        return true;
    }
    if (named != NULL && named[0] != '\0') {
        return add_workspace(options, named);
    }
    options->workspaces.uuids = calloc(1, sizeof *options->workspaces.uuids);
    options->workspaces.count = 1;
    return options->workspaces.uuids != NULL;
}

bool options_read(int argc, char **argv, struct options *options, struct measure *measure)
{
    int option;
    while ((option = getopt_long(argc, argv, "w:n:h", long_options, NULL)) != -1) {
        if (!take_option(options, measure, option)) {
            return false;
        }
    }
    for (int i = optind; i < argc; i++) {
        if (!add_mix(measure, argv[i])) {
            return false;
        }
    }
    if (measure->subject_count == 0 && !options->help && !options->version) {
        (void) fputs("coffer-bench: name a call to measure\n  hint: coffer-bench --help\n", stderr);
        return false;
    }
    return default_workspace(options);
}

void options_done(struct options *options)
{
    free(options->workspaces.uuids);
    options->workspaces = (struct data_workspaces){0};
}
