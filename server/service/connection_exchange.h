#pragma once

#include "server/outbound/http.h"
#include "server/outbound/token_answer.h"
#include "server/outbound/token_request.h"
#include "server/providers/provider.h"
#include "server/service/refresh_rows.h"

/*
 * What a connection asks its provider's token endpoint for (docs/decisions/0022-refresh.md, 0023-connections.md): from the
 * rows to the request. Nothing is sent here.
 */

struct connection_exchange {
    const char *url;
    const char *group; /* requests that are counted together: see connection_group */
    struct token_request request;
    struct token_question question; /* that the answer is read with */
    int64_t life_us;                /* of a token whose life is not told; REFRESH_NEVER */
    int64_t refresh_life_us;        /* of a refresh token, in the same way */
};

/* The headers of its request; returns how many there are. They last as long as the exchange does. */
enum { CONNECTION_EXCHANGE_HEADERS = 3 };
size_t connection_exchange_headers(const struct connection_exchange *exchange,
                                   struct outbound_header headers[CONNECTION_EXCHANGE_HEADERS]);

/*
 * The provider as the connection was configured for it; NULL if it is not there any more, or has changed since, so that the
 * connection has to be configured anew. No pipeline may be open; the texts are the call's or the catalogue's.
 */
COF_CODE connection_exchange_provider(struct call *call, const struct refresh_rows *rows,
                                      const struct provider **ret_provider);

/* The same from what refresh_rows_look has read beside the rows. */
COF_CODE connection_exchange_provider_read(struct call *call, const struct refresh_rows *rows,
                                           const struct rows *found, size_t index,
                                           const struct provider **ret_provider);

/*
 * Exchanges the connection's grant: its refresh token, or what it has of its own if that is empty. The texts, credentials
 * among them, are the call's. CORRUPTED if the rows do not open; FIELD_REQUIRED or FIELD_INVALID if they make no request.
 */
COF_CODE connection_exchange_make(struct call *call, const struct refresh_rows *rows,
                                  const struct provider *provider, struct cof_slice refresh_token,
                                  struct connection_exchange *ret_exchange);

/*
 * Revokes one of the connection's tokens (RFC 7009), at a provider that has an endpoint for it; the same failures. What the
 * answer says is read with the question, but that it need not have a token in it.
 */
COF_CODE connection_exchange_revoke(struct call *call, const struct refresh_rows *rows,
                                    const struct provider *provider, struct cof_slice token, bool is_refresh_token,
                                    struct connection_exchange *ret_exchange);

/* What an authorization brought. */
struct connection_code {
    struct cof_slice code;
    struct cof_slice redirect_uri;
    struct cof_slice verifier; /* empty: without PKCE */
    bool device;               /* it is a device code */
};

/* Exchanges a code, in the same way. */
COF_CODE connection_exchange_make_code(struct call *call, const struct refresh_rows *rows,
                                       const struct provider *provider, const struct connection_code *code,
                                       struct connection_exchange *ret_exchange);

/* Begins a device flow (RFC 8628), at a provider that has an endpoint for it; the same failures. The answer is no token's.
 * The challenge is empty for one that refuses PKCE. */
COF_CODE connection_exchange_make_device(struct call *call, const struct refresh_rows *rows,
                                         const struct provider *provider, struct cof_slice challenge,
                                         struct connection_exchange *ret_exchange);

/* The provider's name for limits: its ID, and for a workspace's own one something that no other workspace has. NULL if the
 * memory is exhausted. */
const char *connection_group(struct call *call, const struct cof_uuid *workspace, const struct provider *provider)
    COF_MUST_USE;
