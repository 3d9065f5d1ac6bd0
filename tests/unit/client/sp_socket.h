#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The server's side of nanomsg's REQ/REP on a plain socket (docs/protocol.md, Bytes on the connection). */

enum {
    SP_ADDRESS = 128,
    SP_ID = 4,
    SP_HEADER_MOST = 1 + 8 + SP_ID, /* the byte 01 on ipc, the length, the ID */
};

/*
 * Listens on an address (ipc:///PATH, or NULL: a free port of 127.0.0.1), which it writes to `ret_address`. Ends the
 * process where that fails.
 */
int sp_listen(const char *address, char ret_address[SP_ADDRESS]);

bool sp_is_ipc(const char *address);

/* All of the bytes, or false: the connection has ended. */
bool sp_read(int fd, void *to, size_t len);
bool sp_write(int fd, const void *bytes, size_t len);

/* Exchanges the greetings. */
bool sp_greet(int fd);

/* Reads a header; gives the size of the frame that follows. */
bool sp_read_header(int fd, bool ipc, uint8_t ret_id[SP_ID], size_t *ret_size);
/* Writes a header before a frame of that size; gives its length. */
size_t sp_put_header(uint8_t to[SP_HEADER_MOST], bool ipc, const uint8_t id[SP_ID], size_t size);
