#pragma once

#include <coffer/v1/provider.pb-c.h>

#include "server/providers/provider.h"
#include "server/service/call.h"
#include "server/store/row.h"

/* Providers as they are sent, stored and shown. */

/*
 * Reads what was sent into name, definition and the struct; texts are borrowed from the message. Fails with FIELD_REQUIRED or
 * FIELD_INVALID of the field `name` or `definition`. `id` is the provider's, or any valid one while it has none.
 */
COF_CODE provider_read(struct call *call, const char *id, const char *name,
                       const Coffer__V1__ProviderDefinition *definition, struct provider *ret_provider);

/* The definition as it is stored: with the fields that this server knows. */
COF_CODE provider_pack(struct call *call, const struct provider *provider, struct cof_slice *ret_definition);

/* A row whose MAC was checked, as the struct; in the arena. CORRUPTED if it cannot be read. */
COF_CODE provider_of_row(struct call *call, const struct provider_row *row, struct provider *ret_provider);

/* Whether client credentials, codes or tokens would be sent somewhere else, or in another way. */
bool provider_moves(const struct provider *before, const struct provider *after);

/* As it is shown; `row` is NULL for a built-in one. */
COF_CODE provider_message(struct call *call, const struct provider *provider, const struct provider_row *row,
                          Coffer__V1__Provider **ret_message);
