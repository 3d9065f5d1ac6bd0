#pragma once

#include "client/reflect/schema.h"

/*
 * Writes a serialized message as JSON, by protobuf's JSON mapping: fields in the order of the proto file, those that are
 * not set left out, bytes in base64, 64-bit numbers as texts, enums by name where it is known. Fields that the schema does
 * not have are left out. Control characters are escaped, so that a terminal may show it. Other messages of
 * google.protobuf than times, durations and field masks are written by their fields.
 *
 * The text lies in the arena, with a newline at its end. Fails with REPLY_INVALID if the bytes are no such message, or with
 * OUT_OF_MEMORY.
 */
COF_CODE message_print(const struct schema_entry *message, struct cof_slice bytes, struct cof_arena *arena,
                       struct cof_slice *ret_json, struct cof_error *err);
