#pragma once

#include "server/providers/members.h"

/*
 * Discovery as texts: where metadata is asked for, and what the answers say. RFC 8414 and OpenID Connect Discovery for an
 * authorization server, RFC 9728 for a protected resource such as an MCP server. Pure. What is taken from an answer is
 * https, and the answer has to be about whom it was asked for: otherwise one server could speak for another.
 */

enum { METADATA_MAX = MEMBERS_ANSWER_MAX, METADATA_SERVERS_MAX = 8, METADATA_PLACES_MAX = 3 };

/* Whether it is a URL with https, without a user, and of printable ASCII. */
bool metadata_url_is_https(const char *url);

struct metadata_places {
    const char *urls[METADATA_PLACES_MAX];
    size_t count;
};

/*
 * Where an authorization server's metadata may be, in the order in which they are tried: RFC 8414 (the well-known part goes
 * before the issuer's path), OpenID Connect with the same rule, and OpenID Connect's own, which appends it.
 */
COF_CODE metadata_server_places(const char *issuer, struct cof_arena *arena, struct metadata_places *ret_places,
                                struct cof_error *err);

/* Where a resource's metadata may be: with its path, and for the whole host. */
COF_CODE metadata_resource_places(const char *resource, struct cof_arena *arena, struct metadata_places *ret_places,
                                  struct cof_error *err);

struct metadata_server {
    const char *issuer;
    const char *authorization_endpoint;
    const char *token_endpoint;
    const char *revocation_endpoint;
    const char *device_endpoint;
    const char *registration_endpoint;
    bool sends_issuer;       /* authorization_response_iss_parameter_supported */
    bool pkce_s256;          /* code_challenge_methods_supported has it, or is not told */
    bool client_credentials; /* grant_types_supported has it */
    unsigned client_auths;   /* those that are known here; BASIC where nothing is told */
};

/*
 * Reads an authorization server's metadata. Its issuer must be `issuer`, byte by byte. Fails with FILE_INVALID, which says
 * what is wrong and quotes nothing of the answer.
 */
COF_CODE metadata_server_read(struct cof_slice answer, const char *issuer, struct cof_arena *arena,
                              struct metadata_server *ret_server, struct cof_error *err);

struct metadata_resource {
    const char *resource;
    struct provider_texts servers; /* issuers */
    struct provider_texts scopes;
};

/* The same for a protected resource: `resource` must be the one that was asked for. */
COF_CODE metadata_resource_read(struct cof_slice answer, const char *resource, struct cof_arena *arena,
                                struct metadata_resource *ret_resource, struct cof_error *err);
