#pragma once

#include <sys/types.h>

#include <coffer/coffer.h>
#include <coffer/mask.h>

#include "client/cli/cli.h"

/* A program that `coffer run` starts: what it writes passes through masks, and signals reach it. */

enum { PROGRAM_OUTPUTS = 2 };

struct program_output {
    coffer_mask_stream *stream;
    int from; /* -1: the program writes where this one does, or has ended */
    int to;
};

struct program {
    char **words;
    char **environment;
    const int *files; /* that it inherits under the same numbers */
    size_t file_count;
    const coffer_result *masked; /* whose values are masked; NULL: its output is its own */
    /* Of program_start. */
    coffer_masker *masker;
    int ends[PROGRAM_OUTPUTS][2]; /* of pipes */
    struct program_output outputs[PROGRAM_OUTPUTS];
    pid_t pid; /* 0: none runs */
    int status;
};

/* Begins to hand signals on, once for all programs: one that comes while none runs is for the next. */
void program_signals(void);

/* Says why it could not be started; CLI_NOT_RUN, CLI_NO_PROGRAM or CLI_NOT_EXECUTABLE. */
cli_exit program_start(struct program *program);

/* Moves what it writes until it has ended, true, or until `news`, a descriptor or -1, can be read. */
bool program_wait(struct program *program, int news);

/* Whether this process was told to end with TERM: then a program that still runs is the last one. */
bool program_is_ending(void);

/*
 * Asks it to end, kills it after `grace_ms`, and moves the rest of what it wrote. Whether it should begin anew: not if it
 * had ended by itself, or somebody else has asked it to end meanwhile.
 */
bool program_stop(struct program *program, int64_t grace_ms);

/* The exit code of one that has ended. */
cli_exit program_exit(const struct program *program);

/* Frees what is left of one that has ended, or did not start. */
void program_done(struct program *program);
