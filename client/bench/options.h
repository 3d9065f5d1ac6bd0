#pragma once

#include "client/bench/compare.h"
#include "client/bench/measure.h"

/* The command line. */

enum { LOADS_MAX = 32 };

/* Each mix runs under each load. */
struct loads {
    uint32_t of[LOADS_MAX];
    size_t count;
};

struct options {
    char *address; /* or several, separated by commas */
    char *token_file;
    char *admin_token_file; /* of who makes and removes the data */
    struct data_workspaces workspaces;
    uint32_t secrets;
    uint32_t value_size;
    uint32_t timeout_ms; /* of the calls that are measured */
    struct loads in_flight;
    struct loads rates;     /* none: closed loops */
    struct compare compare; /* if it names files then they are compared, and nothing is measured */
    const char *svg;
    bool json;
    bool help;
    bool version;
};

/* Reads everything; rounds, sizes and mixes go straight into `measure`. False: what is wrong was said. */
bool options_read(int argc, char **argv, struct options *options, struct measure *measure);
void options_done(struct options *options);
void options_help(void);
