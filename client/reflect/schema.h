#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/varint.h"

/*
 * What a server can be asked, read from the descriptors that it tells: messages, enums, services and methods of any
 * version, also of one that this program was not compiled with. Everything lies in the arena that it was read into.
 */

typedef enum schema_kind {
    SCHEMA_MESSAGE,
    SCHEMA_ENUM,
    SCHEMA_SERVICE,
    SCHEMA_METHOD,
} schema_kind;

typedef enum schema_type {
#define TYPE(id, number, name, wire) SCHEMA_TYPE_##id = (number),
#include "client/reflect/type.def"
#undef TYPE
} schema_type;

/* Messages that have a JSON form of their own. */
typedef enum schema_special {
    SCHEMA_PLAIN,
    SCHEMA_TIMESTAMP,
    SCHEMA_DURATION,
    SCHEMA_FIELD_MASK,
} schema_special;

enum { SCHEMA_NO_ONEOF = -1 };

struct schema_entry;

struct schema_field {
    const char *name;
    const char *json_name;
    const char *comment; /* "": none; so everywhere */
    uint32_t number;
    schema_type type;
    const struct schema_entry *of; /* the message or enum that it is of; else NULL */
    int32_t oneof;                 /* index into those of its message, or SCHEMA_NO_ONEOF */
    bool repeated;
    bool packed;
    bool presence; /* a zero that is given differs from one that is not */
    bool optional; /* it is written with this word */
};

struct schema_oneof {
    const char *name;
    const char *comment;
};

struct schema_value {
    const char *name;
    const char *comment;
    int32_t number;
};

/* A message, an enum, a service or a method; what is not of its kind is 0. */
struct schema_entry {
    schema_kind kind;
    const char *name; /* "package.Name", of methods "package.Service/Method" */
    const char *comment;
    const ProtobufCMessage *descriptor; /* that a message or method was read from */
    /* Of a message. */
    struct schema_field *fields;
    size_t field_count;
    const struct schema_oneof *oneofs;
    size_t oneof_count;
    schema_special special;
    bool is_map; /* an entry of a map: key and value */
    /* Of an enum. */
    const struct schema_value *values;
    size_t value_count;
    /* Of a method. */
    const struct schema_entry *input;
    const struct schema_entry *output;
    bool streams;
};

/* Sorted by name. */
struct schema {
    const struct schema_entry *entries;
    size_t count;
};

/* Reads a serialized google.protobuf.FileDescriptorSet. Fails with REPLY_INVALID if it contradicts itself or holds what
 * this program does not know, or with OUT_OF_MEMORY. */
COF_CODE schema_read(struct cof_slice set, struct cof_arena *arena, struct schema *ret_schema,
                     struct cof_error *err);

/* The entry of that full name, or the only one whose name ends with it behind a dot or a slash; else NULL. */
const struct schema_entry *schema_find(const struct schema *schema, struct cof_slice name);

/* The name that looks like it, for those who mistyped; NULL if there is none. */
const char *schema_near(const struct schema *schema, struct cof_slice name);

/* "uint32", or the full name of the message or enum. */
const char *schema_type_name(const struct schema_field *field);

wire_type schema_wire(schema_type type);
