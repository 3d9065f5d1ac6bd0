#pragma once

#include "client/reflect/schema.h"

/*
 * Serializes a message that is given as JSON, by protobuf's JSON mapping: fields by their names in lowerCamelCase or as in
 * the proto file, bytes in base64 of either alphabet, 64-bit numbers as texts or numbers, enums by name or number, times in
 * RFC 3339, durations as "1.5s", field masks as "displayName,tags". null is the same as not given. Other messages of
 * google.protobuf, for example Any, are given by their fields.
 *
 * Fails with DOCUMENT_INVALID or DOCUMENT_TOO_DEEP if it is no JSON, with FIELD_INVALID for what does not fit the message,
 * with LIMIT_EXCEEDED if more than `limit` bytes come out, or with OUT_OF_MEMORY. A failure names the place and the
 * field's path, never a value.
 */
COF_CODE message_pack(const struct schema_entry *message, struct cof_slice json, size_t limit,
                      struct cof_arena *arena, struct cof_slice *ret_bytes, struct cof_error *err);
