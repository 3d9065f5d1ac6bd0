#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/method.h"
#include "server/service/call.h"

/* The method table (common/method.def): what exists, who may call it, and what answers. */

typedef enum method_class {
    METHOD_INLINE,
    METHOD_READ,
    METHOD_WRITE,
} method_class;

/* What an answer leaves in the audit stream before it leaves itself. A refusal always leaves a record, but for those of
 * NONE. */
typedef enum method_audit {
    METHOD_AUDIT_NONE,
    METHOD_AUDIT_WRITTEN,
    METHOD_AUDIT_SETTING,   /* written or durable, as audit.resolve says */
    METHOD_AUDIT_DURABLE,   /* on the disk */
    METHOD_AUDIT_COMMITTED, /* nothing: the record is a row of its transaction */
} method_audit;

typedef cof_code method_handler(struct call *call, const ProtobufCMessage *request, ProtobufCMessage *response);
/* Says in call->prefetch what the call will read; `workspace` is the one that an empty one means. */
typedef cof_code method_prefetch(struct call *call, const ProtobufCMessage *request,
                                 const struct cof_uuid *workspace);

struct method {
    method_class class;
    method_audit audit;
    method_handler *handle;
    method_prefetch *prefetch; /* NULL: none */
    /* Filled by method_table_start. */
    const char *name; /* SERVICE/METHOD */
    cof_method_access access;
    cof_permission permission;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    bool from_memory; /* it may be answered from the cache alone */
};

/* Ties the table to the generated descriptors. Once, before any other thread; aborts if a row names a method that
 * the proto files do not have. */
void method_table_start(void);

/* NULL for an unknown name. */
const struct method *method_find(struct cof_slice name);

/* Whether the name of a method is of one of this service. */
bool method_is_of(const char *name, const char *service);

/* Whether narrowed tokens may call the method, within the rights that they have: those of ResolveService only. */
bool method_takes_narrowed(const struct method *method);

size_t method_count(void);
const struct method *method_at(size_t index);
size_t method_index(const struct method *method);
