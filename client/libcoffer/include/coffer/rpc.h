#ifndef COFFER_RPC_H
#define COFFER_RPC_H

/*
 * Calls of any method of Coffer, for programs that manage secrets and for tools. The messages are those of the
 * proto files; whoever compiles them with protoc-c calls the generated stubs through coffer_service_new.
 */

#include <coffer/coffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One entry of the metadata of a call or of its answer. */
typedef struct coffer_metadata {
    const char *key; /* 1 to 64 of a-z 0-9 . _ - */
    const void *value;
    size_t length;
} coffer_metadata;

/* Begin with COFFER_CALL_OPTIONS_INIT; a field that is 0 or NULL is not given. */
typedef struct coffer_call_options {
    size_t struct_size;
    uint32_t timeout_ms;     /* time for the call in milliseconds; 0: the client's `timeout` */
    const char *traceparent; /* header of W3C Trace Context */
    /*
     * 16 bytes, a UUIDv7 (RFC 9562): repeats an earlier call of the program, to learn the outcome of a write. By
     * default every call has a new one.
     */
    const uint8_t *request_id;
    const coffer_metadata *metadata; /* at most 28 entries; "authorization" and "user-agent" are the library's */
    size_t metadata_count;
} coffer_call_options;

#define COFFER_CALL_OPTIONS_INIT                            \
    {                                                       \
        sizeof(coffer_call_options), 0, NULL, NULL, NULL, 0 \
    }

/* The answer to a call. Belongs to the caller, in locked memory. */
typedef struct coffer_reply coffer_reply;

/*
 * Calls a method and waits for the answer. `method` is its full name, such as
 * "coffer.v1.SecretService/CreateSecret"; `request` is the serialized request message, at most 1 MiB with its
 * frame. `options` may be NULL.
 *
 * Repeats and errors as for coffer_resolve; in all repeats the request ID is the same, so that a write happens
 * once. After COFFER_UNAVAILABLE or COFFER_DEADLINE_EXCEEDED a write may have happened: coffer_error_request_id has
 * the ID by which a repeat can tell. Thread-safe. Not in a callback.
 */
COFFER_API coffer_status coffer_call(coffer_client *client, const char *method, const void *request, size_t length,
                                     const coffer_call_options *options, coffer_reply **ret_reply,
                                     coffer_error **ret_error) COFFER_MUST_USE;

/* Takes over the reply and the error, one of which is NULL. The rules of coffer_resolve_done. */
typedef void (*coffer_call_done)(coffer_reply *reply, coffer_error *error, void *context);

/* The same without waiting; the rules of coffer_resolve_start. Everything given is copied. */
COFFER_API coffer_status coffer_call_start(coffer_client *client, const char *method, const void *request,
                                           size_t length, const coffer_call_options *options, coffer_call_done done,
                                           void *context, coffer_error **ret_error) COFFER_MUST_USE;

/* The serialized response message. Everything returned is valid until the reply is freed. */
COFFER_API coffer_bytes coffer_reply_payload(const coffer_reply *reply);
/* ID of the call as a UUID. */
COFFER_API const char *coffer_reply_request_id(const coffer_reply *reply);
/* Microseconds that the server worked on the last attempt. */
COFFER_API uint32_t coffer_reply_server_time_us(const coffer_reply *reply);
/* Attempts that were sent, 1 or more. */
COFFER_API uint32_t coffer_reply_attempts(const coffer_reply *reply);
/* Value of a key of the answer's metadata; `data` is NULL if there is none. */
COFFER_API coffer_bytes coffer_reply_metadata(const coffer_reply *reply, const char *key);
/* Wipes and frees. NULL is allowed. */
COFFER_API void coffer_reply_free(coffer_reply *reply);

/*
 * Stubs that protoc-c generated, over a client.
 *
 *     ProtobufCService *service = coffer_service_new(client, &coffer__v1__secret_service__descriptor);
 *     coffer__v1__secret_service__get_secret(service, &request, got_secret, &my_data);
 *     if (coffer_service_error(service) != NULL) ...
 *     coffer_service_free(service);
 *
 * Calling a stub waits for the answer and calls the closure before it returns, with the message, which is valid
 * only inside of the closure and then wiped, or with NULL on failure. Other calls may be made in the closure, on
 * other services. A service belongs to one thread at a time and must be freed before its client is closed.
 */

struct ProtobufCService;
struct ProtobufCServiceDescriptor;

/* NULL if there is no memory. */
COFFER_API struct ProtobufCService *coffer_service_new(coffer_client *client,
                                                       const struct ProtobufCServiceDescriptor *descriptor);
/* The same as protobuf_c_service_destroy. NULL is allowed. */
COFFER_API void coffer_service_free(struct ProtobufCService *service);

/* The failure of the last call, valid until the next one; NULL if it succeeded. */
COFFER_API const coffer_error *coffer_service_error(const struct ProtobufCService *service);

/* Milliseconds for each call of this service; 0: the client's `timeout`. */
COFFER_API void coffer_service_set_timeout(struct ProtobufCService *service, uint32_t milliseconds);

#ifdef __cplusplus
}
#endif

#endif
