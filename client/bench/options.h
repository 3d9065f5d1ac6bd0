#pragma once

#include "client/bench/measure.h"

/* The command line. */

struct options {
    char *address;
    char *token_file;
    char *admin_token_file; /* of who makes and removes the data */
    struct data_workspaces workspaces;
    uint32_t secrets;
    uint32_t value_size;
    uint32_t timeout_ms; /* of the calls that are measured */
    bool json;
    bool help;
    bool version;
};

/* Reads everything; rounds, sizes and mixes go straight into `measure`. False: what is wrong was said. */
bool options_read(int argc, char **argv, struct options *options, struct measure *measure);
void options_done(struct options *options);
void options_help(void);
