#pragma once

#include "server/providers/provider.h"

/*
 * The ID of a custom provider, made of its name in any script: transliterated as ICU's "Any-Latin; Latin-ASCII" does, in
 * lower case, every run of other characters one "_", none at the ends, and "custom_" before it unless it is there already.
 * A name of which nothing is left becomes eight random hexadecimal digits. "custom_mcp_..." is reserved and becomes
 * "custom_oauth_mcp_...". What is taken gets "_1", "_2" and so on.
 */

/* Fails with FIELD_INVALID if the name is no UTF-8, or with OUT_OF_MEMORY. */
COF_CODE provider_id_make(const char *name, bool (*taken)(const char *id, const void *context), const void *context,
                          struct cof_arena *arena, const char **ret_id, struct cof_error *err);
