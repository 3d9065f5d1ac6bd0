#pragma once

#include <stdint.h>

/* Facts about PostgreSQL's binary format that sender and reader share. */

/* Object IDs of the built-in types that cross the wire; fixed in PostgreSQL's catalog (pg_type.dat). */
enum {
    POSTGRES_BOOL = 16,
    POSTGRES_BYTEA = 17,
    POSTGRES_NAME = 19,
    POSTGRES_INT8 = 20,
    POSTGRES_INT4 = 23,
    POSTGRES_TEXT = 25,
    POSTGRES_TEXT_ARRAY = 1009,
    POSTGRES_TIMESTAMPTZ = 1184,
    POSTGRES_UUID = 2950,
};

/* Of a one-dimensional array: everything before the first item. */
enum { POSTGRES_ARRAY_EMPTY_SIZE = 12, POSTGRES_ARRAY_HEADER_SIZE = 20 };

/* 2000-01-01 UTC, from which timestamptz counts, in Unix microseconds. */
#define POSTGRES_EPOCH_US INT64_C(946684800000000)
