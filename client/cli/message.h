#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <protobuf-c/protobuf-c.h>

/*
 * Messages as JSON: what `--json` prints. Names are those of the proto files in lowerCamelCase, enums their names,
 * times RFC 3339, numbers numbers. Every field is there, but for messages that are not set and branches of a oneof
 * that were not taken. Bytes are a text where they are UTF-8, and otherwise base64 under the name with "Base64" behind
 * it. Control characters are escaped, so that a terminal may show it.
 */

void cli_json_message(FILE *out, const ProtobufCMessage *message);

/* The same on one line. */
void cli_json_line(FILE *out, const ProtobufCMessage *message);

/* The same without its newline, with "***" in place of all bytes. */
void cli_json_redacted(FILE *out, const ProtobufCMessage *message);

/* Only the fields, each on a line of its own, without braces. */
void cli_json_members(FILE *out, const ProtobufCMessage *message);

/*
 * The items of a repeated field that holds no bytes, separated by commas, each on a line of its own; `before` others
 * stand before them. Returns how many there are then.
 */
size_t cli_json_items(FILE *out, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                      size_t before, unsigned depth);

/* Room for the name of a field, with its end. */
enum { MESSAGE_NAME = 80 };

/* "create_time" as "createTime", into MESSAGE_NAME bytes. */
void cli_json_field_name(const ProtobufCFieldDescriptor *field, char *ret_name);

/*
 * From now on messages of this kind have only these of their fields, by their index in the descriptor; NULL ends that. The
 * indices are borrowed.
 */
void cli_json_choose(const ProtobufCMessageDescriptor *of, const size_t *fields, size_t count);

/* "fieldName": and a space. */
void cli_json_name(FILE *out, const ProtobufCFieldDescriptor *field);

/* "text", with its quotes. */
void cli_json_text(FILE *out, const char *text);

/* "name": "text", or "nameBase64": "...". */
void cli_json_bytes(FILE *out, const char *name, const uint8_t *data, size_t length);

/* How many items a repeated field has, and where they are. */
size_t cli_repeated(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, const void **ret_items);
