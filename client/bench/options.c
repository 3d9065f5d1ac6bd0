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
    OPT_THINK,
    OPT_RAMP,
    OPT_MIXES,
    OPT_SVG,
    OPT_TOLERANCE,
};

static const struct option long_options[] = {
    {"addr", required_argument, NULL, OPT_ADDR},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"admin-token-file", required_argument, NULL, OPT_ADMIN_TOKEN_FILE},
    {"workspace", required_argument, NULL, 'w'},
    {"in-flight", required_argument, NULL, 'n'},
    {"rate", required_argument, NULL, OPT_RATE},
    {"think", required_argument, NULL, OPT_THINK},
    {"ramp", required_argument, NULL, OPT_RAMP},
    {"mixes", required_argument, NULL, OPT_MIXES},
    {"svg", required_argument, NULL, OPT_SVG},
    {"tolerance", required_argument, NULL, OPT_TOLERANCE},
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
    puts(
        "coffer-bench: how fast a Coffer server is, as a ratio to bare nng\n\n"
        "  coffer-bench [OPTIONS] MIX...\n"
        "  coffer-bench compare BEFORE AFTER [--tolerance PERCENT] [--output text|json]\n\n"
        "A mix is one of the calls below, or several with weights: resolve=9,write=1. In each round every mix\n"
        "runs once, and for each a bare nng echo of the same sizes, in a random order; the ratio is the median of\n"
        "the rounds' ratios. A round in which the echo is far from its own median is void for its mix.\n"
        "compare reads what --output json wrote of two runs, and says what has become better or worse.\n");
    for (size_t i = 0; i < operation_kind_count(); i++) {
        printf("  %-10s %s\n", operation_kind_at(i)->name, operation_kind_at(i)->help);
    }
    puts(
        "\nOptions:\n"
        "  --addr ADDRESS[,...]      tcp://HOST:PORT or ipc://PATH; several get the same load each (COFFER_ADDR)\n"
        "  --token-file FILE         file with the token of the calls        (COFFER_TOKEN_FILE, COFFER_TOKEN)\n"
        "  --admin-token-file FILE   file with the token that makes and removes the secrets; default: the same\n"
        "  -w, --workspace UUID      needed with fleet tokens; @FILE names a file with one UUID on each line\n"
        "  --mixes FILE              mixes, one on a line; a line that begins with # is none\n"
        "  -n, --in-flight N[,N...]  calls in flight; default 64. Each mix runs with each number\n"
        "  --rate N[,N...]           an open loop: N calls begin in each second, whatever became of those before,\n"
        "                            and a call's time counts from when it was due; --in-flight is the most then.\n"
        "                            Each mix runs at each rate\n"
        "  --think MS                in a closed loop: milliseconds from the end of a call to the next one's "
        "begin\n"
        "  --ramp MS                 milliseconds in which the load grows to its full size, before the warm-up\n"
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
        "  --output text|json        default text\n"
        "  --svg FILE                draw latency against load\n"
        "  --tolerance PERCENT       by how much a figure may change before compare calls it better or worse; "
        "default 5\n\n"
        "The secrets lie in the environment bench and are removed at the end; so is the environment, unless it\n"
        "holds others. Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 more than half of the rounds of a mix "
        "are\n"
        "void, 4 compare found something that has become worse.");
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
        (void) fprintf(stderr,
                       "coffer-bench: \"%s\" is not a mix of calls, or there are too many of them\n"
                       "  hint: coffer-bench --help\n",
                       text);
        return false;
    }
    measure->subject_count++;
    return true;
}

/* The mixes of a file. */
static bool add_mixes(struct measure *measure, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    bool good = true;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        (void) fprintf(stderr, "coffer-bench: --mixes: %s: %s\n", path, strerror(errno));
        return false;
    }
    while (good && getline(&line, &room, file) > 0) {
        line[strcspn(line, " \t\r\n")] = '\0';
        good = line[0] == '\0' || line[0] == '#' || add_mix(measure, line);
    }
    free(line);
    (void) fclose(file);
    return good;
}

static bool read_loads(const char *option, const char *text, uint32_t most, struct loads *ret_loads)
{
    struct loads loads = {.count = 0};
    char *copy = strdup(text);
    char *next = copy;
    bool good = copy != NULL;
    while (good && next != NULL) {
        const char *number = strsep(&next, ",");
        good = loads.count < LOADS_MAX ? read_small(option, number, 1, most, &loads.of[loads.count++])
                                       : wrong(option, text, "a list of at most 32 numbers");
    }
    free(copy);
    *ret_loads = loads;
    return good;
}

/* --- Loads ---------------------------------------------------------------------------------------------------- */

static void set_load(struct subject *subject, uint32_t in_flight, uint32_t rate)
{
    subject->in_flight = in_flight;
    subject->rate = rate;
    if (rate > 0) {
        (void) snprintf(subject->label, sizeof subject->label, "%s @%u/s", subject->mix.name, rate);
    } else {
        (void) snprintf(subject->label, sizeof subject->label, "%s x%u", subject->mix.name, in_flight);
    }
}

/* Each mix once under each load: the rates of an open loop, or the calls in flight of a closed one. */
static bool spread_loads(struct measure *measure, const struct options *options)
{
    const bool open = options->rates.count > 0;
    const struct loads *loads = open ? &options->rates : &options->in_flight;
    const size_t mixes = measure->subject_count;
    if (mixes * loads->count > SUBJECTS_MAX || (open && options->in_flight.count > 1)) {
        (void) fputs(open && options->in_flight.count > 1
                         ? "coffer-bench: --rate wants one --in-flight, which is the most\n"
                         : "coffer-bench: there are too many mixes and loads\n",
                     stderr);
        return false;
    }
    for (size_t i = 0; i < mixes * loads->count; i++) {
        struct subject *subject = &measure->subjects[i];
        if (i >= mixes && !mix_read(measure->subjects[i % mixes].mix.name, &subject->mix)) {
            return false;
        }
        set_load(subject, open ? options->in_flight.of[0] : loads->of[i / mixes], open ? loads->of[i / mixes] : 0);
    }
    measure->subject_count = mixes * loads->count;
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
    case OPT_NO_ECHO:
        measure->no_echo = true;
        return true;
    case OPT_THINK:
        return read_milliseconds("think", optarg, 0, &measure->think_us);
    case OPT_RAMP:
        return read_milliseconds("ramp", optarg, 0, &measure->ramp_us);
    case OPT_MIXES:
        return add_mixes(measure, optarg);
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

static bool take_output(struct options *options)
{
    options->json = strcmp(optarg, "json") == 0;
    options->compare.json = options->json;
    return options->json || strcmp(optarg, "text") == 0 || wrong("output", optarg, "text or json");
}

static bool take_tolerance(struct options *options)
{
    uint64_t number = 0;
    const bool good = read_number("tolerance", optarg, 0, 1000, &number);
    options->compare.tolerance = (double) number;
    return good;
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
        return take_output(options);
    case 'n':
        return read_loads("in-flight", optarg, LOAD_SLOTS_MAX, &options->in_flight);
    case OPT_RATE:
        return read_loads("rate", optarg, 10000000, &options->rates);
    case OPT_SVG:
        options->svg = optarg;
        return true;
    case OPT_TOLERANCE:
        return take_tolerance(options);
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

static bool take_compare(char **words, int count, struct options *options)
{
    if (count != 2) {
        (void) fputs("coffer-bench: compare wants two reports\n  hint: coffer-bench compare BEFORE AFTER\n",
                     stderr);
        return false;
    }
    options->compare.before = words[0];
    options->compare.after = words[1];
    return true;
}

static bool take_mixes(char **words, int count, struct options *options, struct measure *measure)
{
    for (int i = 0; i < count; i++) {
        if (!add_mix(measure, words[i])) {
            return false;
        }
    }
    if (measure->subject_count == 0 && !options->help && !options->version) {
        (void) fputs("coffer-bench: name a call to measure\n  hint: coffer-bench --help\n", stderr);
        return false;
    }
    if (options->rates.count > 0 && measure->think_us > 0) {
        (void) fputs("coffer-bench: --think is for closed loops, and --rate makes an open one\n", stderr);
        return false;
    }
    return spread_loads(measure, options) && default_workspace(options);
}

bool options_read(int argc, char **argv, struct options *options, struct measure *measure)
{
    int option;
    options->in_flight = (struct loads){.of = {64}, .count = 1};
    while ((option = getopt_long(argc, argv, "w:n:h", long_options, NULL)) != -1) {
        if (!take_option(options, measure, option)) {
            return false;
        }
    }
    if (optind < argc && strcmp(argv[optind], "compare") == 0) {
        return take_compare(argv + optind + 1, argc - optind - 1, options);
    }
    return take_mixes(argv + optind, argc - optind, options, measure);
}

void options_done(struct options *options)
{
    free(options->workspaces.uuids);
    options->workspaces = (struct data_workspaces){0};
}
