#pragma once

#include "client/bench/data.h"
#include "client/bench/echo.h"
#include "common/attr.h"

/* The calls that are measured, and mixes of them. */

struct operation_kind {
    const char *name;
    const char *method;
    bool needs_data;
    size_t references; /* of a Resolve */
    const char *help;
};

size_t operation_kind_count(void);
const struct operation_kind *operation_kind_at(size_t index);

/* A kind with its requests, which are made before the clock runs. */
struct operation {
    const struct operation_kind *kind;
    struct cof_slice *payloads;
    size_t count;
    size_t least; /* bytes of an answer that is whole */
    struct echo_sizes sizes;
};

enum { MIX_PARTS = 8, MIX_NAME = 120 };

struct mix_part {
    struct operation operation;
    uint32_t weight;
};

struct mix {
    char name[MIX_NAME]; /* as it was written */
    struct mix_part parts[MIX_PARTS];
    size_t count;
    uint32_t weights; /* sum */
};

/* Reads "resolve", or "resolve=9,write=1"; false if it cannot be read. */
bool mix_read(const char *text, struct mix *ret_mix);

/*
 * Makes the requests; then makes one call of each kind, looks whether its answer is right, and learns its size. Says
 * what is wrong. The data may be empty if no kind needs it.
 */
bool mix_prepare(struct mix *mix, const struct data *data, coffer_client *client);
void mix_done(struct mix *mix);
bool mix_needs_data(const struct mix *mix);

/* The operation of the slot's next call, by weight. */
const struct operation *mix_choose(const struct mix *mix, struct load_slot *slot);

/* The request of the slot's next call. Slots write different secrets as long as there are enough. */
struct cof_slice operation_payload(const struct operation *operation, const struct data *data,
                                   struct load_slot *slot);
