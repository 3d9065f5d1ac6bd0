#ifndef COFFER_ERRORS_H
#define COFFER_ERRORS_H

/*
 * Errors of libcoffer. A program acts on the status and the reason, and shows the message to people.
 *
 * Statuses have the numbers of google.rpc.Code. Reasons have the numbers of coffer.rpc.v1.ErrorReason; newer
 * servers may send reasons that this header does not have, so act on the status where a reason is not one that you
 * wait for.
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
    COFFER_OK = 0,                  /* Success. */
    COFFER_CANCELLED = 1,           /* The client was closed. */
    COFFER_UNKNOWN = 2,             /* A code or an outcome that this library does not know. */
    COFFER_INVALID_ARGUMENT = 3,    /* The request or a setting is wrong, whatever the state of the server. */
    COFFER_DEADLINE_EXCEEDED = 4,   /* The time for the call was over. */
    COFFER_NOT_FOUND = 5,           /* It is not there. */
    COFFER_ALREADY_EXISTS = 6,      /* The name is taken. */
    COFFER_PERMISSION_DENIED = 7,   /* Not allowed, or not there: the caller may not know which. */
    COFFER_RESOURCE_EXHAUSTED = 8,  /* A limit. */
    COFFER_FAILED_PRECONDITION = 9, /* The state of something must change first. */
    COFFER_ABORTED = 10,            /* Another write came between. */
    COFFER_OUT_OF_RANGE = 11,       /* Past the end. */
    COFFER_UNIMPLEMENTED = 12,      /* The server cannot do it. */
    COFFER_INTERNAL = 13,           /* A fault of Coffer. */
    COFFER_UNAVAILABLE = 14,        /* Something is out of reach; repeated in vain until the deadline. */
    COFFER_DATA_LOSS = 15,          /* Stored data failed its integrity check. */
    COFFER_UNAUTHENTICATED = 16     /* No token, or one that is not valid. */
} coffer_status;

/* Why. docs/errors.md of the source says of each reason what it means and what to do. */
typedef enum coffer_reason {
    COFFER_REASON_NONE = 0,
    COFFER_REASON_FRAME_INVALID = 1,
    COFFER_REASON_FRAME_REVISION_UNSUPPORTED = 2,
    COFFER_REASON_METHOD_UNKNOWN = 3,
    COFFER_REASON_PAYLOAD_INVALID = 4,
    COFFER_REASON_STRING_INVALID = 5,
    COFFER_REASON_METADATA_INVALID = 6,
    COFFER_REASON_REQUEST_ID_INVALID = 7,
    COFFER_REASON_REQUEST_ID_EXPIRED = 8,
    COFFER_REASON_REQUEST_ID_REUSED = 9,
    COFFER_REASON_DEADLINE_EXCEEDED = 10,
    COFFER_REASON_MESSAGE_TOO_LARGE = 11,
    COFFER_REASON_TOO_MANY_IN_FLIGHT = 12,
    COFFER_REASON_SERVER_BUSY = 13,
    COFFER_REASON_OUT_OF_MEMORY = 14,
    COFFER_REASON_SERVER_DRAINING = 15,
    COFFER_REASON_DATABASE_UNAVAILABLE = 16,
    COFFER_REASON_OUTCOME_UNKNOWN = 17,
    COFFER_REASON_CONFLICT = 18,
    COFFER_REASON_IN_PROGRESS = 19,
    COFFER_REASON_INTERNAL = 20,
    COFFER_REASON_NOT_AVAILABLE = 21,
    COFFER_REASON_AUDIT_UNAVAILABLE = 22,
    COFFER_REASON_SERVICE_UNKNOWN = 23,
    COFFER_REASON_TOKEN_MISSING = 30,
    COFFER_REASON_TOKEN_MALFORMED = 31,
    COFFER_REASON_TOKEN_INVALID = 32,
    COFFER_REASON_TOKEN_EXPIRED = 33,
    COFFER_REASON_ACCOUNT_DISABLED = 34,
    COFFER_REASON_PERMISSION_DENIED = 35,
    COFFER_REASON_WORKSPACE_REQUIRED = 36,
    COFFER_REASON_TOKEN_EXCEEDS_ISSUER = 37,
    COFFER_REASON_WORKSPACE_NOT_FOUND = 38,
    COFFER_REASON_WORKSPACE_DISABLED = 39,
    COFFER_REASON_ACCOUNT_NEEDED = 40,
    COFFER_REASON_NETWORK_DENIED = 41,
    COFFER_REASON_TOKEN_ENDED = 42,
    COFFER_REASON_TOKEN_UNSUPPORTED = 43,
    COFFER_REASON_WORKSPACE_DELETED = 45,
    COFFER_REASON_FIELD_INVALID = 50,
    COFFER_REASON_FIELD_REQUIRED = 51,
    COFFER_REASON_LIMIT_EXCEEDED = 52,
    COFFER_REASON_PAGE_TOKEN_INVALID = 53,
    COFFER_REASON_NAME_RESERVED = 54,
    COFFER_REASON_SECRET_NOT_FOUND = 60,
    COFFER_REASON_SECRET_EXISTS = 61,
    COFFER_REASON_KEY_NOT_FOUND = 62,
    COFFER_REASON_VERSION_MISMATCH = 63,
    COFFER_REASON_ETAG_MISMATCH = 64,
    COFFER_REASON_UID_MISMATCH = 65,
    COFFER_REASON_ENVIRONMENT_NOT_FOUND = 66,
    COFFER_REASON_ENVIRONMENT_EXISTS = 67,
    COFFER_REASON_ENVIRONMENT_NOT_EMPTY = 68,
    COFFER_REASON_WORKSPACE_EXISTS = 69,
    COFFER_REASON_ACCOUNT_NOT_FOUND = 70,
    COFFER_REASON_ACCOUNT_EXISTS = 71,
    COFFER_REASON_TOKEN_NOT_FOUND = 72,
    COFFER_REASON_CORRUPTED = 73,
    COFFER_REASON_KEY_EMPTY = 74,
    COFFER_REASON_VERSION_NOT_FOUND = 75,
    COFFER_REASON_VERSION_DESTROYED = 76,
    COFFER_REASON_CONSISTENCY_TOKEN_UNKNOWN = 80,
    COFFER_REASON_CONSISTENCY_NOT_REACHED = 81,
    COFFER_REASON_EXPRESSION_INVALID = 82,
    COFFER_REASON_DECLARATION_NOT_SATISFIED = 83,
    COFFER_REASON_ENVIRONMENT_VIEW_CONFLICT = 84,
    COFFER_REASON_ANSWER_TOO_LARGE = 85,
    COFFER_REASON_INCOMPLETE_AWS_KEYS = 86,
    COFFER_REASON_CONNECTION_NOT_FOUND = 87,
    COFFER_REASON_REAUTH_REQUIRED = 88,
    COFFER_REASON_PROVIDER_UNAVAILABLE = 89,
    COFFER_REASON_AWS_ROLE_REFUSED = 90,
    COFFER_REASON_SECRET_EXPIRED = 91,
    COFFER_REASON_WATCH_EXPIRED = 92,
    COFFER_REASON_ACTION_NOT_FOUND = 93,
    COFFER_REASON_ACTION_CYCLE = 94,
    COFFER_REASON_GENERATION_MISMATCH = 95,
    COFFER_REASON_NOT_CONNECTED = 100,
    COFFER_REASON_REPLY_INVALID = 101,
    COFFER_REASON_CLIENT_CLOSED = 102,
    COFFER_REASON_CONFIG_INVALID = 103,
    COFFER_REASON_TEXT_TOO_LARGE = 110,
    COFFER_REASON_EXPRESSION_TOO_LONG = 111,
    COFFER_REASON_TOO_MANY_REFERENCES = 112,
    COFFER_REASON_DOCUMENT_TOO_DEEP = 113,
    COFFER_REASON_DOCUMENT_INVALID = 114,
    COFFER_REASON_DOCUMENT_KEY_CONFLICT = 115,
    COFFER_REASON_VALUE_NOT_TEXT = 116,
    COFFER_REASON_VALUE_ABSENT = 117,
    COFFER_REASON_FILE_INVALID = 118,
    COFFER_REASON_PROVIDER_NOT_FOUND = 119,
    COFFER_REASON_PROVIDER_IN_USE = 120,
    COFFER_REASON_AUTHORIZATION_NOT_FOUND = 121,
    COFFER_REASON_AUTHORIZATION_OVER = 122,
    COFFER_REASON_AUTHORIZATION_REFUSED = 123,
    COFFER_REASON_DISCOVERY_FAILED = 125,
    COFFER_REASON_ADDRESS_REFUSED = 126,
    COFFER_REASON_REGISTRATION_REFUSED = 127,
    COFFER_REASON_REGISTRATION_UNKNOWN = 128,
    COFFER_REASON_AWS_ROLE_ARN_INVALID = 130,
    COFFER_REASON_AWS_REGION_INVALID = 131,
    COFFER_REASON_AWS_IDENTITY_MISSING = 132,
    COFFER_REASON_AWS_IDENTITY_REFUSED = 133,
    COFFER_REASON_AWS_SESSION_REFUSED = 134,
    COFFER_REASON_AWS_THROTTLED = 135,
    COFFER_REASON_AWS_UNAVAILABLE = 136,
    COFFER_REASON_AWS_NOT_CONFIGURED = 137,
    COFFER_REASON_AWS_SESSION_NAME_REFUSED = 138,
    COFFER_REASON_AWS_ROLE_MISSING = 139
} coffer_reason;

/* A failure. It belongs to whoever got it, and to one thread at a time. */
typedef struct coffer_error coffer_error;

/*
 * Every function with a `coffer_error **ret_error` takes NULL for it. Otherwise it writes: NULL on success, on
 * failure an error that the caller frees. So free an error before you use its variable again.
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
