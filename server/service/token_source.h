#pragma once

#include "common/error.h"
#include "common/uuid.h"
#include "server/refresh/machine.h"
#include "server/service/flights.h"
#include "server/service/refresh_rows.h"

/*
 * Who gets new tokens for connections (docs/decisions/0022-refresh.md). A handler begins or joins the connection's flight,
 * says that a token is wanted, and waits for the flight; what came of it lies in the connection's rows.
 */
struct token_source {
    /* Somebody waits for it until then (monotonic). False if too many are wanted: no flight lands for it. Thread-safe, does
     * not block. */
    bool (*want)(void *context, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                 const struct refresh_wish *wish, int64_t until_us);
    void *context;
};

/* The flight that brings a connection's token. */
COF_CODE token_flight_key(const struct cof_uuid *connection, struct flight_key *ret_key, struct cof_error *err);

/* The same, counted with those of the same provider. */
COF_CODE token_flight(struct call *call, const struct refresh_rows *rows, const struct provider *provider,
                      struct flight *ret_flight);
