#ifndef COFFER_ERRORS_H
#define COFFER_ERRORS_H

/*
 * Errors of libcoffer. A program acts on the status and the reason, and shows the message to people.
 *
 * Statuses have the numbers of google.rpc.Code. Reasons have the numbers of coffer.rpc.v1.ErrorReason; newer servers may
 * send reasons that this header does not have, so act on the status where a reason is not one that you wait for.
 */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define COFFER_API __attribute__((visibility("default")))
#define COFFER_MUST_USE __attribute__((warn_unused_result))
#else
#define COFFER_API
#define COFFER_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* How a call, or one item of a result, went. */
typedef enum coffer_status {
    COFFER_OK = 0, /* Success. */
    COFFER_CANCELLED = 1, /* The client was closed. */
    COFFER_UNKNOWN = 2, /* A code or an outcome that this library does not know. */
    COFFER_INVALID_ARGUMENT = 3, /* The request or a setting is wrong, whatever the state of the server. */
    COFFER_DEADLINE_EXCEEDED = 4, /* The time for the call was over. */
    COFFER_NOT_FOUND = 5, /* It is not there. */
    COFFER_ALREADY_EXISTS = 6, /* The name is taken. */
    COFFER_PERMISSION_DENIED = 7, /* Not allowed, or not there: the caller may not know which. */
    COFFER_RESOURCE_EXHAUSTED = 8, /* A limit. */
    COFFER_FAILED_PRECONDITION = 9, /* The state of something must change first. */
    COFFER_ABORTED = 10, /* Another write came between. */
    COFFER_OUT_OF_RANGE = 11, /* Past the end. */
    COFFER_UNIMPLEMENTED = 12, /* The server cannot do it. */
    COFFER_INTERNAL = 13, /* A fault of Coffer. */
    COFFER_UNAVAILABLE = 14, /* Something is out of reach just now; the library has repeated the call for as long as it was allowed to. */
    COFFER_DATA_LOSS = 15, /* Stored data failed its integrity check. */
    COFFER_UNAUTHENTICATED = 16 /* No token, or one that is not valid. */
} coffer_status;

/* Why. */
typedef enum coffer_reason {
    COFFER_REASON_NONE = 0, /* No error, or a reason that this library does not know. */
    COFFER_REASON_FRAME_INVALID = 1, /* The request frame cannot be decoded. */
    COFFER_REASON_FRAME_REVISION_UNSUPPORTED = 2, /* The frame has a revision that this server does not speak. */
    COFFER_REASON_METHOD_UNKNOWN = 3, /* The server has no such method. */
    COFFER_REASON_PAYLOAD_INVALID = 4, /* The payload is not a message of the type that the method takes. */
    COFFER_REASON_STRING_INVALID = 5, /* A string is not valid UTF-8 or holds a NUL byte. */
    COFFER_REASON_METADATA_INVALID = 6, /* The frame's metadata breaks a rule or a limit. */
    COFFER_REASON_REQUEST_ID_INVALID = 7, /* The request ID is not a UUIDv7 of 16 bytes. */
    COFFER_REASON_REQUEST_ID_EXPIRED = 8, /* The request ID is too old or lies in the future. */
    COFFER_REASON_REQUEST_ID_REUSED = 9, /* The request ID was used before for another call. */
    COFFER_REASON_DEADLINE_EXCEEDED = 10, /* The time for the call is over. */
    COFFER_REASON_MESSAGE_TOO_LARGE = 11, /* A message is larger than the limit. */
    COFFER_REASON_TOO_MANY_IN_FLIGHT = 12, /* Too many calls are in flight. */
    COFFER_REASON_SERVER_BUSY = 13, /* The server's queue is full. */
    COFFER_REASON_OUT_OF_MEMORY = 14, /* The memory set aside for one call is used up. */
    COFFER_REASON_SERVER_DRAINING = 15, /* The server is shutting down and did not start the call. */
    COFFER_REASON_DATABASE_UNAVAILABLE = 16, /* The database cannot be reached. */
    COFFER_REASON_OUTCOME_UNKNOWN = 17, /* The connection to the database broke while the write was committed. */
    COFFER_REASON_CONFLICT = 18, /* The write met another one and lost every retry. */
    COFFER_REASON_IN_PROGRESS = 19, /* An earlier attempt of this call is still running. */
    COFFER_REASON_INTERNAL = 20, /* An internal error. */
    COFFER_REASON_NOT_AVAILABLE = 21, /* This server does not offer that. */
    COFFER_REASON_AUDIT_UNAVAILABLE = 22, /* The audit log cannot be written, so nothing is released. */
    COFFER_REASON_TOKEN_MISSING = 30, /* The call has no token. */
    COFFER_REASON_TOKEN_MALFORMED = 31, /* The token is cut, mistyped or not a token of Coffer. */
    COFFER_REASON_TOKEN_INVALID = 32, /* The token is not known, or it was revoked. */
    COFFER_REASON_TOKEN_EXPIRED = 33, /* The token has expired. */
    COFFER_REASON_ACCOUNT_DISABLED = 34, /* The service account of the token is disabled or has expired. */
    COFFER_REASON_PERMISSION_DENIED = 35, /* The token does not permit this, or it does not exist. */
    COFFER_REASON_WORKSPACE_REQUIRED = 36, /* The token acts in several workspaces and the request names none. */
    COFFER_REASON_TOKEN_EXCEEDS_ISSUER = 37, /* The grants go beyond those of the caller. */
    COFFER_REASON_WORKSPACE_NOT_FOUND = 38, /* There is no such workspace. */
    COFFER_REASON_WORKSPACE_DISABLED = 39, /* The workspace is disabled. */
    COFFER_REASON_FIELD_INVALID = 50, /* A field has a value that is not allowed. */
    COFFER_REASON_FIELD_REQUIRED = 51, /* A field that is needed is empty. */
    COFFER_REASON_LIMIT_EXCEEDED = 52, /* A limit would be exceeded. */
    COFFER_REASON_PAGE_TOKEN_INVALID = 53, /* The page token does not belong to this list. */
    COFFER_REASON_NAME_RESERVED = 54, /* Names that end in _oauth belong to OAuth connections. */
    COFFER_REASON_SECRET_NOT_FOUND = 60, /* There is no such secret in this environment. */
    COFFER_REASON_SECRET_EXISTS = 61, /* A secret with this name exists in this environment. */
    COFFER_REASON_KEY_NOT_FOUND = 62, /* The secret has no such key. */
    COFFER_REASON_VERSION_MISMATCH = 63, /* The secret has changed since the version that was expected. */
    COFFER_REASON_ETAG_MISMATCH = 64, /* The resource has changed since the etag was read. */
    COFFER_REASON_UID_MISMATCH = 65, /* The name now belongs to another resource than was expected. */
    COFFER_REASON_ENVIRONMENT_NOT_FOUND = 66, /* There is no such environment. */
    COFFER_REASON_ENVIRONMENT_EXISTS = 67, /* An environment with this name exists. */
    COFFER_REASON_ENVIRONMENT_NOT_EMPTY = 68, /* The environment still holds secrets. */
    COFFER_REASON_WORKSPACE_EXISTS = 69, /* A workspace with this name exists. */
    COFFER_REASON_ACCOUNT_NOT_FOUND = 70, /* There is no such service account. */
    COFFER_REASON_ACCOUNT_EXISTS = 71, /* A service account with this name exists. */
    COFFER_REASON_TOKEN_NOT_FOUND = 72, /* There is no such token. */
    COFFER_REASON_CORRUPTED = 73, /* Stored data failed its integrity check and was not used. */
    COFFER_REASON_KEY_EMPTY = 74, /* A required key is empty or holds only white space. */
    COFFER_REASON_CONSISTENCY_TOKEN_UNKNOWN = 80, /* The consistency token comes from another life of the database. */
    COFFER_REASON_CONSISTENCY_NOT_REACHED = 81, /* The state that the consistency token names was not reached in time. */
    COFFER_REASON_EXPRESSION_INVALID = 82, /* An expression is not written as it must be. */
    COFFER_REASON_DECLARATION_NOT_SATISFIED = 83, /* What the action declares is not stored. */
    COFFER_REASON_ENVIRONMENT_VIEW_CONFLICT = 84, /* Two secrets have the same key, so no flat view can be made. */
    COFFER_REASON_ANSWER_TOO_LARGE = 85, /* This result alone is larger than an answer may be. */
    COFFER_REASON_INCOMPLETE_AWS_KEYS = 86, /* An AWS access key stands without its secret key, or the reverse. */
    COFFER_REASON_CONNECTION_NOT_FOUND = 87, /* There is no such OAuth connection. */
    COFFER_REASON_REAUTH_REQUIRED = 88, /* The provider wants the user to log in again. */
    COFFER_REASON_PROVIDER_UNAVAILABLE = 89, /* The provider does not answer. */
    COFFER_REASON_AWS_ROLE_REFUSED = 90, /* AWS did not let Coffer assume the role. */
    COFFER_REASON_SECRET_EXPIRED = 91, /* The secret has expired and its settings block its use. */
    COFFER_REASON_NOT_CONNECTED = 100, /* No server could be reached. */
    COFFER_REASON_REPLY_INVALID = 101, /* The server's reply cannot be decoded. */
    COFFER_REASON_CLIENT_CLOSED = 102, /* The client was closed while the call was running. */
    COFFER_REASON_CONFIG_INVALID = 103 /* The client's settings are wrong. */
} coffer_reason;

/* A failure. It belongs to whoever got it, and to one thread at a time. */
typedef struct coffer_error coffer_error;

/*
 * Every function with a `coffer_error **ret_error` takes NULL for it. Otherwise it writes: NULL on success, on failure an
 * error that the caller frees. So free an error before you use its variable again.
 */
COFFER_API void coffer_error_free(coffer_error *error); /* NULL is allowed */

/* COFFER_OK for NULL. */
COFFER_API coffer_status coffer_error_status(const coffer_error *error);

/* COFFER_REASON_NONE for NULL, and for a reason that is newer than this library. */
COFFER_API coffer_reason coffer_error_reason(const coffer_error *error);

/*
 * What failed, where, and what to do next: one line of English in UTF-8, without a secret. Valid until the error is
 * freed; never NULL.
 */
COFFER_API const char *coffer_error_message(const coffer_error *error);

/* Path of the wrong field or name of the wrong setting, such as "items[3].references[0].name"; else empty. */
COFFER_API const char *coffer_error_field(const coffer_error *error);

/* ID of the call as a UUID, by which the server's log can be searched; empty if no call was made. */
COFFER_API const char *coffer_error_request_id(const coffer_error *error);

/* Milliseconds to wait before a repeat; 0: the server gave no advice. */
COFFER_API uint32_t coffer_error_retry_after_ms(const coffer_error *error);

/* A fact for programs that the server attached, such as "limit"; NULL if there is none of that name. */
COFFER_API const char *coffer_error_fact(const coffer_error *error, const char *name);

/* "NOT_FOUND"; "UNKNOWN" for a number outside the enum. Static. */
COFFER_API const char *coffer_status_name(coffer_status status);

/* "SECRET_NOT_FOUND"; "UNSPECIFIED" for a number outside the enum. Static. */
COFFER_API const char *coffer_reason_name(coffer_reason reason);

#ifdef __cplusplus
}
#endif

#endif
