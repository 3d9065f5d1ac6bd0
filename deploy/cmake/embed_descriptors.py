"""Writes a C file that holds a descriptor set without what no reader of comments needs: embed_descriptors.py IN OUT

protoc's source information has a position for every word of the proto files. Kept are the places that have a comment before
them, without their positions, and nothing of the files that come with every protobuf compiler.
"""

import sys

WELL_KNOWN = b"google/protobuf/"
FILE = 1  # field of FileDescriptorSet
NAME, SOURCE_INFO = 1, 9  # fields of FileDescriptorProto
LOCATION = 1  # field of SourceCodeInfo
PATH, LEADING = 1, 3  # fields of Location
PER_LINE = 16


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def take_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def fields(data):
    """(number, body) of every field, and its bytes as they stand there; body is None for what has no length."""
    at = 0
    while at < len(data):
        begin = at
        tag, at = take_varint(data, at)
        body = None
        if tag & 7 == 0:
            _, at = take_varint(data, at)
        elif tag & 7 == 2:
            length, at = take_varint(data, at)
            body, at = data[at:at + length], at + length
        else:
            raise ValueError(f"wire type {tag & 7} in a descriptor")
        yield tag >> 3, body, data[begin:at]


def rewrite(data, number, change):
    """The message with `change` made to each of its fields of that number; None takes the field away."""
    out = b""
    for found, body, raw in fields(data):
        if found == number:
            body = change(body)
            raw = b"" if body is None else varint(number << 3 | 2) + varint(len(body)) + body
        out += raw
    return out


def only_comments(location):
    parts = list(fields(location))
    if not any(number == LEADING for number, _, _ in parts):
        return None
    return b"".join(raw for number, _, raw in parts if number in (PATH, LEADING))


def without_positions(file):
    name = next(body for number, body, _ in fields(file) if number == NAME)
    change = (lambda info: None) if name.startswith(WELL_KNOWN) else lambda info: rewrite(info, LOCATION, only_comments)
    return rewrite(file, SOURCE_INFO, change)


def main():
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        data = rewrite(file.read(), FILE, without_positions)
    lines = [", ".join(map(str, data[i:i + PER_LINE])) for i in range(0, len(data), PER_LINE)]
    body = ",\n    ".join(lines)
    with open(target, "w", encoding="ascii") as file:
        file.write('#include "proto/descriptors.h"\n\n'
                   f"const uint8_t proto_descriptors[] = {{\n    {body}}};\n"
                   "const size_t proto_descriptors_size = sizeof proto_descriptors;\n")


main()
