#ifndef COFFER_COFFER_H
#define COFFER_COFFER_H

/*
 * libcoffer: values of secrets for executors.
 *
 *     coffer_client *client = NULL;
 *     coffer_request *request = coffer_request_new();
 *     coffer_result *result = NULL;
 *     coffer_error *error = NULL;
 *
 *     coffer_request_add_environment(request, "prod");
 *     coffer_request_add_reference(request, "slack", "SLACK_BOT_TOKEN");
 *     if (coffer_client_open(NULL, &client, &error) == COFFER_OK &&
 *         coffer_resolve(client, request, &result, &error) == COFFER_OK) {
 *         const coffer_item *item = coffer_result_item(result, 0);
 *         coffer_bytes token = coffer_item_value(item, "slack", "SLACK_BOT_TOKEN");
 *     }
 *
 * Threads. A client may be used by any number of threads at once. A request may be read by several threads, but
 * built by one at a time; a result and an error belong to one thread at a time. Callbacks run on threads of the
 * library.
 *
 * Processes. A client has threads of nng's and open connections, which a fork() does not take along: open clients
 * after a fork, or start programs with posix_spawn(). The library changes no signal handler and raises no SIGPIPE.
 *
 * Memory. Values and the token lie in memory that is locked and kept out of core files where the system allows it
 * (coffer_client_memory_locked), and are wiped when they are freed. Messages with values are wiped as soon as they
 * were read. Not wiped are sent messages, which hold the token, and buffers of the kernel.
 *
 * Text is UTF-8 and ends with a NUL. Values are bytes and may hold anything.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coffer/errors.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the library that the program runs with, such as "0.1.0". Static. */
COFFER_API const char *coffer_version(void);

/* Borrowed bytes; `data` is NULL where there are none. Not NUL-terminated. */
typedef struct coffer_bytes {
    const uint8_t *data;
    size_t length;
} coffer_bytes;

/*
 * The client.
 */

typedef struct coffer_client coffer_client;

/*
 * Makes a client. It connects in the background and connects again whenever a connection was lost; a server that
 * cannot be reached is told by the calls.
 *
 * `settings` is a list of `name=value`, separated by white space, or NULL. A value with white space stands in
 * single quotes; a backslash takes the next character as it is. What is not given there is taken from the
 * environment:
 *
 *   addr                COFFER_ADDR         addresses, separated by commas: ipc:///PATH, tls+tcp://HOST:PORT,
 *                                           wss://HOST:PORT/PATH, or tcp://HOST:PORT and ws://HOST:PORT/PATH, which
 *                                           have no TLS. A call goes to one that is connected. Default:
 *                                           ipc:///run/coffer/coffer.sock
 *   token_file          COFFER_TOKEN_FILE   file with the token, read once. Or the token itself in COFFER_TOKEN, or with
 *                                           coffer_client_set_token; it is not taken from `settings`, since those end
 *                                           up in argument lists and logs
 *   workspace           COFFER_WORKSPACE    UUID of the workspace for requests that name none. Default: the token's
 *   environment         COFFER_ENVIRONMENT  environment for requests that name none. Default: "default"
 *   timeout             COFFER_TIMEOUT      time for a call, with a unit: 500ms, 10s, 1min. Default: 10s, at most 1h
 *   connect_timeout                         longest wait for any server to be connected. Default: 3s
 *   insecure_transport                      yes: allow plain tcp:// and ws:// to other hosts than this one. Default: no
 *   application_name                        told to the server beside the library's version, 1 to 64 of printable ASCII
 *   coalesce                                no: each resolve travels in a request of its own. Default: yes
 *   coalesce_requests                       requests on their way, 1 to 64, from which on further resolves are gathered
 *                                           into the next request. Default: 4
 *   coalesce_wait                           longest time for which they are gathered. Default: 20ms
 *   memory                                  locked memory for values, with a unit: 512KiB, 64MiB. Default: 16MiB, or
 *                                           7MiB where RLIMIT_MEMLOCK allows no more; at least 64KiB
 *   cacert              COFFER_CACERT       file of the CAs in PEM whose certificates servers may have, for TLS.
 *                                           Default: the system's. The files of TLS are read once
 *   client_cert         COFFER_CLIENT_CERT  file of the client's certificate in PEM, followed by those that lead to its
 *                                           CA, where servers ask for one
 *   client_key          COFFER_CLIENT_KEY   file of its key in PEM, not encrypted; only its owner may use it
 *   tls_server_name     COFFER_TLS_SERVER_NAME  host's name or address that a server's certificate must have. Default:
 *                                           the host of the address
 *
 * Without a token only calls that need none succeed.
 *
 * Errors: COFFER_REASON_CONFIG_INVALID with the setting's name as the field, COFFER_REASON_OUT_OF_MEMORY.
 * Does not wait. Thread-safe.
 */
COFFER_API coffer_status coffer_client_open(const char *settings, coffer_client **ret_client,
                                            coffer_error **ret_error) COFFER_MUST_USE;

/*
 * Ends calls that are running with COFFER_REASON_CLIENT_CLOSED, waits for their callbacks, and frees the client.
 * Results stay valid. No other thread may begin a call any more; not allowed in a callback. NULL is allowed.
 */
COFFER_API void coffer_client_close(coffer_client *client);

/*
 * Replaces the token for calls that begin from now on. The bytes are copied; `length` 0 takes the token away.
 * Errors: COFFER_REASON_TOKEN_MALFORMED, COFFER_REASON_OUT_OF_MEMORY. Thread-safe.
 */
COFFER_API coffer_status coffer_client_set_token(coffer_client *client, const void *token, size_t length,
                                                 coffer_error **ret_error) COFFER_MUST_USE;

/* Whether the memory for values could be locked, so that it never goes to swap. Thread-safe. */
COFFER_API bool coffer_client_memory_locked(const coffer_client *client);

/*
 * Requests. A request has one item or several; an item asks for references, declared keys and expressions, together at
 * most 1,000 references, in environments. A function that cannot
 * do what it is asked for (a name that is not allowed, no memory) remembers the first such failure, and
 * coffer_resolve returns it; so nothing needs to be checked in between. All texts are copied.
 */

typedef struct coffer_request coffer_request;

/* A request with one empty item. NULL if there is no memory, which all functions accept; coffer_resolve tells it.
 */
COFFER_API coffer_request *coffer_request_new(void);
COFFER_API void coffer_request_free(coffer_request *request); /* NULL is allowed */

/*
 * Begins the next item, which the functions below then fill; the first one is there already. An item that comes
 * from another workspace or run needs to be one of its own. At most 1,000 items.
 */
COFFER_API void coffer_request_next_item(coffer_request *request);

/* The caller's own mark, returned by coffer_item_id; at most 128 bytes. */
COFFER_API void coffer_request_set_id(coffer_request *request, const char *id);

/* UUID of the workspace, lower case. Not set: the client's, or the token's own. */
COFFER_API void coffer_request_set_workspace(coffer_request *request, const char *workspace);

/*
 * Adds an environment; each gets an answer of its own, and nothing is taken from another one. None added: the
 * client's environment, or "default". At most 1,000 in an item.
 */
COFFER_API void coffer_request_add_environment(coffer_request *request, const char *environment);

/* Adds a reference: a key of a secret. At most 1,000 in an item. */
COFFER_API void coffer_request_add_reference(coffer_request *request, const char *secret, const char *key);

/* What a secret must be. */
typedef enum coffer_secret_type {
    COFFER_SECRET_ANY = 0,
    COFFER_SECRET_CUSTOM = 1,
    COFFER_SECRET_SSH_KEY = 2,
    COFFER_SECRET_MTLS = 3,
    COFFER_SECRET_CA_CERT = 4,
    COFFER_SECRET_GITHUB_APP = 5
} coffer_secret_type;

/*
 * What an action needs of one secret. Begin with COFFER_DECLARATION_INIT; a field that is 0 or NULL is not given.
 *
 * A required secret or key that is missing is an error, and so is a required key that is blank. Of a secret that is
 * not optional and has only optional keys, one at least must be there. Optional and missing is
 * COFFER_OUTCOME_ABSENT, which is no error.
 */
typedef struct coffer_declaration {
    size_t struct_size;
    const char *secret;
    const char *const *keys; /* those that must be there */
    size_t key_count;
    const char *const *optional_keys;
    size_t optional_key_count;
    bool optional; /* the whole secret may be missing */
    coffer_secret_type type;
} coffer_declaration;

#define COFFER_DECLARATION_INIT                                                      \
    {                                                                                \
        sizeof(coffer_declaration), NULL, NULL, 0, NULL, 0, false, COFFER_SECRET_ANY \
    }

/*
 * Adds a declaration, which is copied. All declarations of an item are taken together, also those of several actions
 * and for one secret: what one of them requires is required. The values are those of the keys that were declared.
 */
COFFER_API void coffer_request_add_declaration(coffer_request *request, const coffer_declaration *declaration);

/*
 * Names the registered action that the item is for: what it and its steps declare is added to the item, with the same
 * rules as for declarations that are added here. The item fails with COFFER_OUTCOME_ACTION_NOT_FOUND if the workspace has
 * no such action. The values are found by coffer_item_value_at; outcomes of what the action declares come behind all
 * others of the item. NULL or "": none.
 */
COFFER_API void coffer_request_set_action(coffer_request *request, const char *action);

/*
 * Adds an expression as its author wrote it, such as "${{ SECRETS.a.KEY || SECRETS.b.KEY }}": one template and nothing
 * else, UTF-8 of at most 8 KiB. The server evaluates it; what is wrong with it stands in the item, with its place. For
 * texts and documents with such templates in them there is coffer/template.h.
 */
COFFER_API void coffer_request_add_expression(coffer_request *request, const char *expression);

/*
 * Lets the server check that the values can be environment variables: the same key from two secrets makes the item
 * fail with COFFER_OUTCOME_ENVIRONMENT_VIEW_CONFLICT, in a preflight, too. coffer/view.h gives the variables.
 */
COFFER_API void coffer_request_set_environment_view(coffer_request *request);

/* The run that the values are for; it stands in the server's audit log. Each at most 256 bytes, or NULL. */
COFFER_API void coffer_request_set_run(coffer_request *request, const char *workflow_id, const char *run_id,
                                       const char *action);

/*
 * Tokens that would expire sooner are refreshed first. In seconds; not set: the smaller of five minutes and a fifth
 * of the token's life.
 */
COFFER_API void coffer_request_set_min_remaining_validity(coffer_request *request, uint32_t seconds);

/* The consistency token of a write or of an earlier result: never answer from an older state. */
COFFER_API void coffer_request_set_consistency_token(coffer_request *request, const char *token);

/* Of the whole request: milliseconds for the call instead of the client's `timeout`, at most 3,600,000. */
COFFER_API void coffer_request_set_timeout(coffer_request *request, uint32_t milliseconds);

/* What to do where a value has to be fetched first: an OAuth provider's token, credentials of a role. */
typedef enum coffer_pending {
    COFFER_PENDING_WAIT = 0,  /* let the server wait, within the time for the call */
    COFFER_PENDING_POLL = 1,  /* let the library ask again, whenever the server advises to, until it is there */
    COFFER_PENDING_RETURN = 2 /* return what is there; the rest is COFFER_OUTCOME_PENDING */
} coffer_pending;

/*
 * Of the whole request. Not set: COFFER_PENDING_WAIT. With COFFER_PENDING_POLL, too, items that are not there when the
 * time for the call is over are COFFER_OUTCOME_PENDING, with the advice when to ask again.
 */
COFFER_API void coffer_request_set_pending(coffer_request *request, coffer_pending pending);

/* Of the whole request: the header `traceparent` of W3C Trace Context. */
COFFER_API void coffer_request_set_traceparent(coffer_request *request, const char *traceparent);

/*
 * Of the whole request: return no values, only what would fail, in pages of `page_size` (0: 100, at most 1,000).
 * `page_token` is NULL or what coffer_result_next_page_token of the page before gave. coffer/preflight.h goes through
 * all pages by itself.
 */
COFFER_API void coffer_request_set_validate_only(coffer_request *request, uint32_t page_size,
                                                 const char *page_token);

/*
 * Resolving.
 */

typedef struct coffer_result coffer_result;

/*
 * Asks for the values and waits for the answer. COFFER_OK means that the server answered each item in each
 * environment; whether it could be resolved stands in its own status (coffer_result_failed, coffer_item_status).
 *
 * Resolves that several threads make at the same time may travel in one request (`coalesce`). What becomes of one of
 * them does not touch the others, and nobody gets the values of another one.
 *
 * Lost connections, servers that shut down or are busy are overcome within the time for the call, by another
 * attempt with the same request ID, at the next address that is connected. So is a server that does not answer, after
 * half of the time, if another address is connected. Results that had no room in an answer
 * are asked for again.
 *
 * Errors, besides those of the server (TOKEN_..., PERMISSION_DENIED, LIMIT_EXCEEDED, ...):
 *   COFFER_INVALID_ARGUMENT    FIELD_INVALID, FIELD_REQUIRED: the request is wrong, and was not sent
 *   COFFER_RESOURCE_EXHAUSTED  MESSAGE_TOO_LARGE: the request is larger than 1 MiB; OUT_OF_MEMORY;
 *                              TOO_MANY_IN_FLIGHT: 4,096 calls are running on this client
 *   COFFER_UNAVAILABLE         NOT_CONNECTED: no server could be reached, or the connection was lost again and again
 *   COFFER_DEADLINE_EXCEEDED   DEADLINE_EXCEEDED: no answer in time
 *   COFFER_CANCELLED           CLIENT_CLOSED
 *   COFFER_INTERNAL            REPLY_INVALID: the answer is not one to this request
 *
 * Thread-safe; waits at most for the time for the call. Not in a callback.
 */
COFFER_API coffer_status coffer_resolve(coffer_client *client, const coffer_request *request,
                                        coffer_result **ret_result, coffer_error **ret_error) COFFER_MUST_USE;

/*
 * Takes over the result and the error, one of which is NULL. Called once, on a thread of the library: it must not
 * block and must not close the client. It may start further calls.
 */
typedef void (*coffer_resolve_done)(coffer_result *result, coffer_error *error, void *context);

/*
 * The same without waiting. COFFER_OK means that `done` will be called, perhaps before this function returns;
 * otherwise it is not called. The request may be freed at once. Thread-safe, also in a callback.
 */
COFFER_API coffer_status coffer_resolve_start(coffer_client *client, const coffer_request *request,
                                              coffer_resolve_done done, void *context,
                                              coffer_error **ret_error) COFFER_MUST_USE;

/*
 * Results. Everything that is returned below belongs to the result and is valid until it is freed.
 */

/* What became of one reference, or of one item in one environment. Newer servers may send others: they are errors.
 */
typedef enum coffer_outcome {
    COFFER_OUTCOME_UNSPECIFIED = 0,
    COFFER_OUTCOME_RESOLVED = 1,
    COFFER_OUTCOME_ABSENT = 2,
    COFFER_OUTCOME_NOT_NEEDED = 3,
    COFFER_OUTCOME_SECRET_NOT_FOUND = 4,
    COFFER_OUTCOME_KEY_NOT_FOUND = 5,
    COFFER_OUTCOME_CONNECTION_NOT_FOUND = 6,
    COFFER_OUTCOME_REAUTH_REQUIRED = 7,
    COFFER_OUTCOME_PROVIDER_UNAVAILABLE = 8,
    COFFER_OUTCOME_PERMISSION_DENIED = 9,
    COFFER_OUTCOME_CORRUPTED = 10,
    COFFER_OUTCOME_AWS_ROLE_REFUSED = 11,
    COFFER_OUTCOME_EXPRESSION_INVALID = 12,
    COFFER_OUTCOME_PENDING = 13,
    COFFER_OUTCOME_DEFERRED = 14,
    COFFER_OUTCOME_DECLARATION_NOT_SATISFIED = 15,
    COFFER_OUTCOME_ENVIRONMENT_VIEW_CONFLICT = 16,
    COFFER_OUTCOME_TOO_LARGE = 17,
    COFFER_OUTCOME_DEADLINE_EXCEEDED = 18,
    COFFER_OUTCOME_STORE_UNAVAILABLE = 19,
    COFFER_OUTCOME_INCOMPLETE_AWS_KEYS = 20,
    COFFER_OUTCOME_KEY_EMPTY = 21,
    COFFER_OUTCOME_CONSISTENCY_TOKEN_UNKNOWN = 22,
    COFFER_OUTCOME_CONSISTENCY_NOT_REACHED = 23,
    COFFER_OUTCOME_SECRET_EXPIRED = 24,
    COFFER_OUTCOME_NOT_AVAILABLE = 25,
    COFFER_OUTCOME_WORKSPACE_DISABLED = 26,
    COFFER_OUTCOME_ITEM_INVALID = 27,
    COFFER_OUTCOME_ACTION_NOT_FOUND = 28,
    COFFER_OUTCOME_AWS_ROLE_ARN_INVALID = 29,
    COFFER_OUTCOME_AWS_REGION_INVALID = 30,
    COFFER_OUTCOME_AWS_IDENTITY_MISSING = 31,
    COFFER_OUTCOME_AWS_IDENTITY_REFUSED = 32,
    COFFER_OUTCOME_AWS_SESSION_REFUSED = 33,
    COFFER_OUTCOME_AWS_THROTTLED = 34,
    COFFER_OUTCOME_AWS_UNAVAILABLE = 35
} coffer_outcome;

/* "SECRET_NOT_FOUND"; "UNKNOWN" for a number outside the enum. Static. */
COFFER_API const char *coffer_outcome_name(coffer_outcome outcome);

/* True for RESOLVED, ABSENT and NOT_NEEDED only. */
COFFER_API bool coffer_outcome_ok(coffer_outcome outcome);

/* Wipes the values and frees the result. NULL is allowed. */
COFFER_API void coffer_result_free(coffer_result *result);

/*
 * Number of items x environments, in the order of the request: the environments of its first item, those of the
 * second, and so on. With validate_only only those that would fail.
 */
COFFER_API size_t coffer_result_count(const coffer_result *result);

/* How many of them have a status other than COFFER_OK. */
COFFER_API size_t coffer_result_failed(const coffer_result *result);

/* One item in one environment. */
typedef struct coffer_item coffer_item;

/* NULL if the index is not less than the count. */
COFFER_API const coffer_item *coffer_result_item(const coffer_result *result, size_t index);

/*
 * Every value that has to be masked in logs, the longest first: those of all items, and forms of them that do not
 * stand in the items. Values under 4 bytes cannot be masked; coffer_result_unmasked counts them.
 */
COFFER_API size_t coffer_result_mask_count(const coffer_result *result);
COFFER_API coffer_bytes coffer_result_mask(const coffer_result *result, size_t index);
COFFER_API size_t coffer_result_unmasked(const coffer_result *result);

/* With validate_only: asks for the next page; empty on the last. */
COFFER_API const char *coffer_result_next_page_token(const coffer_result *result);

/* With validate_only: how many items x environments would be resolved and would fail, over all pages. */
COFFER_API uint32_t coffer_result_would_resolve(const coffer_result *result);
COFFER_API uint32_t coffer_result_would_fail(const coffer_result *result);

/* ID of the call, or of its last part, as a UUID: the server's log and audit log have it. */
COFFER_API const char *coffer_result_request_id(const coffer_result *result);

/* Index of the item in the request. */
COFFER_API size_t coffer_item_index(const coffer_item *item);
/* What coffer_request_set_id set; else empty. */
COFFER_API const char *coffer_item_id(const coffer_item *item);
COFFER_API const char *coffer_item_workspace(const coffer_item *item);
COFFER_API const char *coffer_item_environment(const coffer_item *item);

/* COFFER_OK: all that the item asked for is there, or may be absent. Otherwise the item has no values. */
COFFER_API coffer_status coffer_item_status(const coffer_item *item);
/* The worst outcome of the item. */
COFFER_API coffer_outcome coffer_item_outcome(const coffer_item *item);
/* What failed, where, and what to do next; empty on success. */
COFFER_API const char *coffer_item_message(const coffer_item *item);
/* Milliseconds to wait before a repeat; 0: a repeat will not help, or there is no advice. */
COFFER_API uint32_t coffer_item_retry_after_ms(const coffer_item *item);

/*
 * The value of a reference. `data` is NULL if there is none; a value that is empty has `data` and the length 0.
 * Wiped by coffer_result_free.
 */
COFFER_API coffer_bytes coffer_item_value(const coffer_item *item, const char *secret, const char *key);

/* All values of the item, by secret and key; the pointers for names may be NULL. */
COFFER_API size_t coffer_item_value_count(const coffer_item *item);
COFFER_API coffer_bytes coffer_item_value_at(const coffer_item *item, size_t index, const char **ret_secret,
                                             const char **ret_key);

/* The version of the secret that the values come from; 0 if the item has no value of it. */
COFFER_API uint64_t coffer_item_version(const coffer_item *item, const char *secret);

/* Milliseconds since 1970-01-01 UTC at which the first of the item's values expires by itself; 0: none does. */
COFFER_API int64_t coffer_item_expires_ms(const coffer_item *item);

/* Milliseconds since 1970-01-01 UTC: the item comes from the state of then, because the database is lost; 0: it
 * does not. */
COFFER_API int64_t coffer_item_stale_since_ms(const coffer_item *item);

/* The state that the item was read at; for coffer_request_set_consistency_token. */
COFFER_API const char *coffer_item_consistency_token(const coffer_item *item);

/*
 * The outcomes of all that the item asked for, as one list: its references, then the keys and the optional keys of each
 * declaration (one entry for the secret, if it has neither), then the references of each expression.
 * COFFER_OUTCOME_UNSPECIFIED if there is no such index.
 *
 * Of an item that was resolved, an operand of a `||` that is missing keeps that outcome, and its fault.
 */
COFFER_API size_t coffer_item_reference_count(const coffer_item *item);
COFFER_API coffer_outcome coffer_item_reference_outcome(const coffer_item *item, size_t index);

/*
 * The outcome of each declaration, in their order: the worst of its keys. COFFER_OUTCOME_UNSPECIFIED if there is no
 * such index. The message is empty unless it failed.
 */
COFFER_API size_t coffer_item_declaration_count(const coffer_item *item);
COFFER_API coffer_outcome coffer_item_declaration_outcome(const coffer_item *item, size_t index);
COFFER_API const char *coffer_item_declaration_message(const coffer_item *item, size_t index);

/* What an expression is worth. */
typedef enum coffer_expression_kind {
    COFFER_EXPRESSION_NONE = 0,  /* nothing: it failed, or its item did, or there is no such index */
    COFFER_EXPRESSION_VALUE = 1, /* coffer_item_expression_value */
    COFFER_EXPRESSION_NULL = 2,
    COFFER_EXPRESSION_NOT_EVALUATED =
        3 /* for the workflow engine, to whom the values of its references are given */
} coffer_expression_kind;

/* The same of each expression; the message says what is wrong, and where in it. */
COFFER_API size_t coffer_item_expression_count(const coffer_item *item);
COFFER_API coffer_outcome coffer_item_expression_outcome(const coffer_item *item, size_t index);
COFFER_API const char *coffer_item_expression_message(const coffer_item *item, size_t index);
COFFER_API coffer_expression_kind coffer_item_expression_kind(const coffer_item *item, size_t index);
/* `data` is NULL unless the kind is COFFER_EXPRESSION_VALUE. Wiped by coffer_result_free. */
COFFER_API coffer_bytes coffer_item_expression_value(const coffer_item *item, size_t index);

/* What is wrong with one reference. An item has all of its faults, not only the first. */
typedef struct coffer_fault coffer_fault;

COFFER_API size_t coffer_item_fault_count(const coffer_item *item);
/* NULL if the index is not less than the count. */
COFFER_API const coffer_fault *coffer_item_fault(const coffer_item *item, size_t index);

/* Index of the reference in the list of its item (coffer_item_reference_outcome). */
COFFER_API size_t coffer_fault_reference(const coffer_fault *fault);
COFFER_API const char *coffer_fault_secret(const coffer_fault *fault);
COFFER_API const char *coffer_fault_key(const coffer_fault *fault);
COFFER_API coffer_outcome coffer_fault_outcome(const coffer_fault *fault);
/* What failed, where, and what to do next. */
COFFER_API const char *coffer_fault_message(const coffer_fault *fault);
/* Milliseconds to wait before a repeat; 0: a repeat will not help, or there is no advice. */
COFFER_API uint32_t coffer_fault_retry_after_ms(const coffer_fault *fault);
/* Names or keys that look alike and that the caller may see, the nearest first. */
COFFER_API size_t coffer_fault_near_miss_count(const coffer_fault *fault);
COFFER_API const char *coffer_fault_near_miss(const coffer_fault *fault, size_t index);

#ifdef __cplusplus
}
#endif

#endif
