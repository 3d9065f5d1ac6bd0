#include <stdatomic.h>

#include "common/varint.h"
#include "server/dispatch/ticket.h"

/*
 * A call is its workspace's: the token's, or with a token of several workspaces the one that the request names. A
 * Resolve may name several; its first item speaks for all of them, as libcoffer sends together what one process asks.
 * The request was not looked at yet, so what is read here is a hint for the queue and nothing else.
 */

enum { COST_BYTES = 1024 }; /* of a request, for one unit of cost */

static struct cof_slice find_bytes(struct cof_slice message, uint32_t number)
{
    struct wire_field field;
    while (wire_take(&message, &field)) {
        if (field.number == number && field.type == WIRE_BYTES) {
            return field.bytes;
        }
    }
    return cof_slice_of(NULL, 0);
}

static const ProtobufCFieldDescriptor *field_named(const ProtobufCMessageDescriptor *type, const char *name)
{
    return protobuf_c_message_descriptor_get_field_by_name(type, name);
}

/* The field `workspace` of the request, or of its first item. */
static struct cof_slice named_workspace(const ProtobufCMessageDescriptor *type, struct cof_slice message)
{
    const ProtobufCFieldDescriptor *items = field_named(type, "items");
    if (items != NULL && items->type == PROTOBUF_C_TYPE_MESSAGE) {
        message = find_bytes(message, items->id);
        type = items->descriptor;
    }
    const ProtobufCFieldDescriptor *workspace = field_named(type, "workspace");
    return workspace == NULL ? cof_slice_of(NULL, 0) : find_bytes(message, workspace->id);
}

/* Without a cache nobody is known. A write ends the use of all that is kept of its workspace, and makes no strangers. */
static bool is_stranger(const struct dispatch *dispatch, const struct ticket *ticket)
{
    const struct service *service = dispatch_options_of(dispatch)->service;
    return service->cache != NULL && ticket->has_token && !caller_was_known(service, &ticket->token);
}

struct fair_key fair_key_of(const struct dispatch *dispatch, const struct ticket *ticket)
{
    struct fair_key key = {
        .workspace = ticket->token.workspace,
        .token = ticket->token.id,
        .stranger = is_stranger(dispatch, ticket),
    };
    struct cof_uuid named;
    if (ticket->token.kind != COF_TOKEN_WORKSPACE &&
        cof_uuid_parse(named_workspace(ticket->method->request, ticket->frame.payload), &named)) {
        key.workspace = named;
    }
    return key;
}

/* A write has a worker for itself, where of other calls a batch has one. */
uint32_t fair_cost(const struct ticket *ticket)
{
    const uint32_t alone = ticket->method->class == METHOD_WRITE ? FAIR_BATCH : 1;
    return alone + (uint32_t) (ticket->frame.payload.len / COST_BYTES);
}
