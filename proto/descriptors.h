#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The descriptors of all services, with their comments: a serialized google.protobuf.FileDescriptorSet, made of the proto
 * files in the build. What lies in the audit log is not among them, for no call speaks of it.
 */
extern const uint8_t proto_descriptors[];
extern const size_t proto_descriptors_size;
