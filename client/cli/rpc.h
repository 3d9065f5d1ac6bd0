#pragma once

#include "client/cli/cli.h"

/*
 * The message of this type that --data holds as JSON, by protobuf's mapping and the server's descriptors; what this program
 * does not know of it is left out. To be freed with cli_free_message. Says what is wrong.
 */
cli_exit rpc_read_data(struct cli *cli, const ProtobufCMessageDescriptor *descriptor,
                       ProtobufCMessage **ret_message);
