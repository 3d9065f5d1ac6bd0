#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "client/bench/compare.h"
#include "client/bench/options.h"
#include "client/bench/report.h"
#include "client/bench/svg.h"

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_VOID = 3, EXIT_WORSE = 4 };

enum { ADMIN_IN_FLIGHT = 16, ADMIN_TIMEOUT_MS = 30000 };

static volatile int stop;

static void on_signal(int number)
{
    stop = number;
}

/* The first signal ends the rounds, so that the secrets are removed; the second ends the program. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int) SA_RESETHAND | SA_RESTART};
    (void) sigaction(SIGINT, &action, NULL);
    (void) sigaction(SIGTERM, &action, NULL);
}

static bool is_ipc(const struct options *options)
{
    return options->address == NULL || strncmp(options->address, "ipc:", 4) == 0;
}

static bool prepare_mixes(struct measure *measure)
{
    for (size_t i = 0; i < measure->subject_count; i++) {
        if (!mix_prepare(&measure->subjects[i].mix, &measure->data, measure->clients[0])) {
            return false;
        }
    }
    return true;
}

static bool needs_data(const struct measure *measure)
{
    bool needs = false;
    for (size_t i = 0; i < measure->subject_count; i++) {
        needs = needs || mix_needs_data(&measure->subjects[i].mix);
    }
    return needs;
}

static bool measure_mixes(struct measure *measure)
{
    return prepare_mixes(measure) && measure_run(measure, &stop);
}

/* What is wrong with the address or the token is told once, and before anything is made. */
static bool is_answered(coffer_client *client)
{
    static const uint8_t empty[1];
    const struct remote_call call = {.method = "coffer.v1.TokenService/GetCaller",
                                     .payload = cof_slice_of(empty, 0)};
    coffer_reply *reply = remote_wait(client, &call);
    const bool answered = reply != NULL;
    coffer_reply_free(reply);
    return answered;
}

/* What was made is removed, whatever happens in between; by a client of its own, that is as patient as is needed. */
static bool measure_with_data(struct measure *measure, const struct options *options)
{
    const char *token_file = options->admin_token_file != NULL ? options->admin_token_file : options->token_file;
    coffer_client *admin = remote_open(options->address, token_file, ADMIN_TIMEOUT_MS);
    const bool answered = admin != NULL && is_answered(admin);
    bool done = answered && data_create(&measure->data, admin, ADMIN_IN_FLIGHT) && measure_mixes(measure);
    done = answered && data_remove(&measure->data, admin, ADMIN_IN_FLIGHT) && done;
    coffer_client_close(admin);
    return done;
}

/* A client for each address, so that all of them have the same load; libcoffer itself stays with one that answers. */
static bool open_clients(struct measure *measure, const struct options *options)
{
    char *addresses = options->address == NULL ? NULL : strdup(options->address);
    char *next = addresses;
    bool good = options->address == NULL || addresses != NULL;
    do {
        const char *address = next == NULL ? NULL : strsep(&next, ",");
        coffer_client *client = good ? remote_open(address, options->token_file, options->timeout_ms) : NULL;
        good = client != NULL;
        if (good) {
            measure->clients[measure->client_count++] = client;
        }
    } while (good && next != NULL && measure->client_count < CLIENTS_MAX);
    free(addresses);
    return good;
}

static bool run(struct measure *measure, const struct options *options, const struct echo_server *server)
{
    if (!data_init(&measure->data, &options->workspaces, options->secrets, options->value_size)) {
        (void) fputs("coffer-bench: there is no memory left\n", stderr);
        return false;
    }
    if (!open_clients(measure, options)) {
        return false;
    }
    measure->echo = echo_client_open(server->address);
    if (measure->echo == NULL) {
        (void) fputs("coffer-bench: the echo's server cannot be reached\n", stderr);
        return false;
    }
    return needs_data(measure) ? measure_with_data(measure, options) : measure_mixes(measure);
}

static enum exit_code report(const struct measure *measure, const struct options *options)
{
    const bool written = options->json ? report_json(measure, stdout) : report_text(measure, stdout);
    if (!written || fflush(stdout) != 0) {
        (void) fputs("coffer-bench: the report cannot be written\n", stderr);
        return EXIT_FAILED;
    }
    if (options->svg != NULL && !svg_write(measure, options->svg)) {
        return EXIT_FAILED;
    }
    return measure_spoiled(measure) ? EXIT_VOID : EXIT_DONE;
}

static enum exit_code bench(struct measure *measure, const struct options *options)
{
    struct echo_server server;
    enum exit_code code = EXIT_FAILED;
    if (!echo_server_start(is_ipc(options), &server)) {
        (void) fputs("coffer-bench: the echo's server cannot be started\n", stderr);
    } else if (run(measure, options, &server)) {
        code = report(measure, options);
    }
    echo_client_close(measure->echo);
    for (size_t i = 0; i < measure->client_count; i++) {
        coffer_client_close(measure->clients[i]);
    }
    echo_server_stop(&server);
    return code;
}

static enum exit_code compare(const struct options *options)
{
    bool worse = false;
    if (!compare_files(&options->compare, &worse)) {
        return EXIT_FAILED;
    }
    return worse ? EXIT_WORSE : EXIT_DONE;
}

/* Short, because people copy it. */
static uint32_t random_seed(void)
{
    uint32_t seed = 0;
    return getrandom(&seed, sizeof seed, 0) == (ssize_t) sizeof seed ? seed : 1;
}

static enum exit_code run_options(struct measure *measure, const struct options *options)
{
    if (options->help) {
        options_help();
        return EXIT_DONE;
    }
    if (options->version) {
        printf("coffer-bench %s\n", coffer_version());
        return EXIT_DONE;
    }
    if (options->compare.before != NULL) {
        return compare(options);
    }
    catch_signals();
    return bench(measure, options);
}

int main(int argc, char **argv)
{
    static struct measure measure = {
        .rounds = 9,
        .warm_up_us = 200000,
        .duration_us = 1000000,
        .deviation = 25,
    };
    struct options options = {
        .address = getenv("COFFER_ADDR"),
        .secrets = 1000,
        .value_size = 256,
        .timeout_ms = 30000,
        .compare = {.tolerance = 5},
    };
    enum exit_code code = EXIT_USAGE;
    measure.seed = random_seed();
    if (options_read(argc, argv, &options, &measure)) {
        code = run_options(&measure, &options);
    }
    measure_done(&measure);
    options_done(&options);
    return (int) code;
}
