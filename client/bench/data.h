#pragma once

#include <stdatomic.h>

#include <protobuf-c/protobuf-c.h>

#include "client/bench/load.h"
#include "client/bench/remote.h"
#include "common/uuid.h"

/*
 * What is measured needs something to read and write: secrets of one key in the environment `bench`, spread evenly over
 * the workspaces, all with one random value that nobody ever sees. Their names carry the run, so that several runs may
 * share a workspace. Removed at the end.
 */

#define DATA_ENVIRONMENT "bench"
#define DATA_KEY "VALUE"

enum { DATA_NAME = 64, DATA_WORKSPACES_MAX = 100000 };

struct data_workspaces {
    char (*uuids)[COF_UUID_TEXT]; /* an empty text stands for the token's own */
    size_t count;
};

struct data {
    struct data_workspaces workspaces;
    size_t per_workspace;
    size_t count; /* secrets, over all workspaces */
    uint32_t run; /* random, in all names */
    char *value;
    size_t value_size;
};

/* Fails (false) if there is no memory. At least one secret for each workspace. */
bool data_init(struct data *data, const struct data_workspaces *workspaces, size_t secrets, size_t value_size);
void data_done(struct data *data); /* wipes */

/* The secret's name and workspace. */
void data_name(const struct data *data, size_t secret, char name[DATA_NAME]);
char *data_workspace(const struct data *data, size_t secret);

/* Makes the secrets; says what fails. */
bool data_create(struct data *data, coffer_client *client, uint32_t in_flight);
/* Removes the secrets, and the environment where nobody else uses it. */
bool data_remove(struct data *data, coffer_client *client, uint32_t in_flight);

/* The serialized message in memory of its own; no data if there is none left. */
struct cof_slice data_pack(const ProtobufCMessage *message);
void data_free(struct cof_slice *bytes); /* wipes */
