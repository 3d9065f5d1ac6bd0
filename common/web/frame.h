#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"

/*
 * WebSocket's frames (RFC 6455, section 5) as bytes in memory. Messages are binary; a text message, an extension, a
 * frame of the wrong masking and whatever else the RFC forbids ends the connection with the code that it names. What is
 * read is unmasked where it lies, and nothing of a message is kept here.
 */

enum {
    COF_WEB_HEADER_MOST = 14, /* bytes before a frame's payload, with the mask */
    COF_WEB_MASK = 4,
    COF_WEB_CONTROL_MOST = 125, /* payload of a ping, pong or close */
};

typedef enum cof_web_opcode {
    COF_WEB_CONTINUATION = 0,
    COF_WEB_TEXT = 1,
    COF_WEB_BINARY = 2,
    COF_WEB_CLOSE = 8,
    COF_WEB_PING = 9,
    COF_WEB_PONG = 10,
} cof_web_opcode;

/* Why a connection ends, for the peer. */
typedef enum cof_web_code {
    COF_WEB_NONE = 0, /* a close without a code */
    COF_WEB_NORMAL = 1000,
    COF_WEB_GOING_AWAY = 1001,
    COF_WEB_PROTOCOL_ERROR = 1002,
    COF_WEB_UNSUPPORTED = 1003, /* a text */
    COF_WEB_POLICY = 1008,
    COF_WEB_TOO_LARGE = 1009,
} cof_web_code;

/* Reads the frames of one peer. */
struct cof_web_reader {
    bool masked;   /* whether the peer is a client, which must mask; a server must not */
    uint64_t most; /* bytes of a message */

    bool in_message; /* a binary message has begun and not ended */
    bool in_payload;
    bool last; /* of the message */
    uint8_t opcode;
    uint64_t announced; /* bytes of the message, in all frames that have begun */
    uint64_t left;      /* of the frame's payload */
    uint8_t mask[COF_WEB_MASK];
    size_t mask_at;
    uint8_t header_size;
    uint8_t header[COF_WEB_HEADER_MOST];
    uint8_t control_size;
    uint8_t control[COF_WEB_CONTROL_MOST];
};

typedef enum cof_web_kind {
    COF_WEB_SHORT,   /* all bytes were taken, and there is nothing more in them */
    COF_WEB_PART,    /* bytes of a message */
    COF_WEB_PINGED,  /* to be answered with a pong of the same bytes */
    COF_WEB_CLOSED,  /* the peer closes, with `code`; nothing is read behind it */
    COF_WEB_REFUSED, /* the peer broke the rules; to be closed with `code` */
} cof_web_kind;

struct cof_web_event {
    cof_web_kind kind;
    uint8_t *bytes; /* part or ping; in the bytes that were given, or in the reader */
    size_t size;
    bool last; /* the frame is its message's last, so `announced` is the size of it */
    bool end;  /* the message ends behind these bytes */
    uint64_t announced;
    cof_web_code code;
};

/* Reads on from `bytes + *at`, up to the next event, and moves `at` behind it. After CLOSED and REFUSED nothing more may
 * be read. */
void cof_web_read(struct cof_web_reader *reader, uint8_t *bytes, size_t size, size_t *at,
                  struct cof_web_event *ret_event);

/* Whether a frame or message has begun and is not whole. */
bool cof_web_begun(const struct cof_web_reader *reader);

/* The size of the header of an unmasked frame. */
size_t cof_web_header_size(uint64_t payload);
/* Writes a frame's header, with its mask if there is one; returns the size. */
size_t cof_web_header(uint8_t to[COF_WEB_HEADER_MOST], cof_web_opcode opcode, uint64_t payload,
                      const uint8_t *mask);
/* Masks or unmasks bytes of a payload that begins here. */
void cof_web_mask(const uint8_t mask[COF_WEB_MASK], uint8_t *bytes, size_t size);
