#pragma once

#include "server/providers/provider.h"

/*
 * The device flow's answers (RFC 8628) as texts: what begins one, and what a refusal of the token endpoint means while
 * somebody is still typing. Pure. Nothing of an answer is quoted, for the device code stands in it.
 */

enum {
    DEVICE_CODE_MAX = 4096,
    DEVICE_USER_CODE_MAX = 64,
    DEVICE_LIFE_MOST_S = 30 * 60, /* codes that live longer are given up all the same */
    DEVICE_INTERVAL_S = 5,        /* where none is told */
    DEVICE_INTERVAL_MOST_S = 300,
    DEVICE_SLOWER_S = 5, /* is added whenever the provider says slow_down */
};

struct device_start {
    const char *device_code;
    const char *user_code;        /* that a person types at the address */
    const char *verification_uri; /* https */
    const char *complete_uri;     /* the same with the code in it; empty: none */
    int64_t life_s;
    int64_t interval_s;
};

/* Reads the answer of a success. FILE_INVALID if a code or the address is missing, an address is not https, or a time makes
 * no sense. */
COF_CODE device_start_read(struct cof_slice answer, struct cof_arena *arena, struct device_start *ret_start,
                           struct cof_error *err);

typedef enum device_word {
    DEVICE_PENDING, /* authorization_pending: ask again after the interval */
    DEVICE_SLOWER,  /* slow_down: the same, and the interval is longer from now on */
    DEVICE_DENIED,  /* access_denied: the person said no */
    DEVICE_EXPIRED, /* expired_token: the person took too long */
    DEVICE_OTHER,   /* as token_found says */
} device_word;

/* What the provider's error code means here. */
device_word device_word_of(const char *code);
