#include "common/web/frame.h"

#include <string.h>

#include "common/encode.h"

enum {
    HEADER_LEAST = 2,
    FIN = 0x80,
    RESERVED = 0x70,
    OPCODE = 0x0f,
    MASKED = 0x80,
    LENGTH = 0x7f,
    LENGTH_16 = 126,
    LENGTH_64 = 127,
    CONTROL = 0x08, /* of an opcode */
    CODE = 2,       /* bytes of a code in a close */
};

/* --- Headers -------------------------------------------------------------------------------------------------- */

static size_t length_size(uint8_t second)
{
    const uint8_t length = second & LENGTH;
    if (length == LENGTH_16) {
        return sizeof(uint16_t);
    }
    return length == LENGTH_64 ? sizeof(uint64_t) : 0;
}

/* Bytes of the header that has begun. */
static size_t header_wanted(const struct cof_web_reader *reader)
{
    if (reader->header_size < HEADER_LEAST) {
        return HEADER_LEAST;
    }
    const uint8_t second = reader->header[1];
    return HEADER_LEAST + length_size(second) + ((second & MASKED) != 0 ? COF_WEB_MASK : 0);
}

/* True when it is whole. */
static bool take_header(struct cof_web_reader *reader, const uint8_t *bytes, size_t size, size_t *at)
{
    while (reader->header_size < header_wanted(reader)) {
        if (*at == size) {
            return false;
        }
        reader->header[reader->header_size++] = bytes[(*at)++];
    }
    return true;
}

/* False if the length is not written in the shortest form. */
static bool read_length(const struct cof_web_reader *reader, uint64_t *ret_length)
{
    const uint8_t *extended = reader->header + HEADER_LEAST;
    switch (length_size(reader->header[1])) {
    case sizeof(uint16_t):
        *ret_length = cof_get_u16(extended);
        return *ret_length >= LENGTH_16;
    case sizeof(uint64_t):
        *ret_length = cof_get_u64(extended);
        return *ret_length > UINT16_MAX && *ret_length <= INT64_MAX;
    default:
        *ret_length = reader->header[1] & LENGTH;
        return true;
    }
}

static cof_web_code check_control(const struct cof_web_reader *reader, uint64_t length)
{
    const bool known =
        reader->opcode == COF_WEB_CLOSE || reader->opcode == COF_WEB_PING || reader->opcode == COF_WEB_PONG;
    const bool fits = reader->last && length <= COF_WEB_CONTROL_MOST;
    return known && fits ? COF_WEB_NONE : COF_WEB_PROTOCOL_ERROR;
}

static cof_web_code check_data(const struct cof_web_reader *reader, uint64_t length)
{
    const bool goes_on = reader->opcode == COF_WEB_CONTINUATION;
    if (reader->opcode > COF_WEB_BINARY || goes_on != reader->in_message) {
        return COF_WEB_PROTOCOL_ERROR;
    }
    if (reader->opcode == COF_WEB_TEXT) {
        return COF_WEB_UNSUPPORTED;
    }
    const uint64_t before = goes_on ? reader->announced : 0;
    return length > reader->most - before ? COF_WEB_TOO_LARGE : COF_WEB_NONE;
}

static bool is_control(const struct cof_web_reader *reader)
{
    return (reader->opcode & CONTROL) != 0;
}

/* The header is whole: NONE, or why the connection must end. */
static cof_web_code begin_frame(struct cof_web_reader *reader)
{
    const uint8_t first = reader->header[0];
    const bool masked = (reader->header[1] & MASKED) != 0;
    uint64_t length = 0;
    reader->opcode = first & OPCODE;
    const bool last = (first & FIN) != 0;
    if ((first & RESERVED) != 0 || masked != reader->masked || !read_length(reader, &length)) {
        return COF_WEB_PROTOCOL_ERROR;
    }
    reader->last = last;
    const cof_web_code code = is_control(reader) ? check_control(reader, length) : check_data(reader, length);
    if (code != COF_WEB_NONE) {
        return code;
    }
    if (masked) {
        memcpy(reader->mask, reader->header + reader->header_size - COF_WEB_MASK, COF_WEB_MASK);
    }
    if (!is_control(reader)) {
        reader->announced = (reader->in_message ? reader->announced : 0) + length;
        reader->in_message = true;
    }
    reader->mask_at = 0;
    reader->control_size = 0;
    reader->left = length;
    reader->in_payload = true;
    return COF_WEB_NONE;
}

/* --- Payloads ------------------------------------------------------------------------------------------------- */

static void unmask(struct cof_web_reader *reader, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; reader->masked && i < size; i++) {
        bytes[i] = (uint8_t) (bytes[i] ^ reader->mask[reader->mask_at]);
        reader->mask_at = (reader->mask_at + 1) % COF_WEB_MASK;
    }
}

/* RFC 6455, section 7.4: those that a peer may send. */
static bool code_valid(uint16_t code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static void end_close(const struct cof_web_reader *reader, struct cof_web_event *event)
{
    const uint16_t code = reader->control_size >= CODE ? cof_get_u16(reader->control) : 0;
    event->kind = COF_WEB_CLOSED;
    event->code = (cof_web_code) code;
    if (reader->control_size == 1 || (reader->control_size >= CODE && !code_valid(code))) {
        event->kind = COF_WEB_REFUSED;
        event->code = COF_WEB_PROTOCOL_ERROR;
    }
}

static void end_frame(struct cof_web_reader *reader)
{
    reader->in_payload = false;
    reader->header_size = 0;
}

/* True if there is an event. A pong is none: nobody asked for it, or it came. */
static bool take_control(struct cof_web_reader *reader, uint8_t *bytes, size_t size, struct cof_web_event *event)
{
    unmask(reader, bytes, size);
    if (size > 0) {
        memcpy(reader->control + reader->control_size, bytes, size);
        reader->control_size = (uint8_t) (reader->control_size + size);
    }
    if (reader->left > 0) {
        return false;
    }
    end_frame(reader);
    if (reader->opcode == COF_WEB_CLOSE) {
        end_close(reader, event);
        return true;
    }
    event->kind = COF_WEB_PINGED;
    event->bytes = reader->control;
    event->size = reader->control_size;
    return reader->opcode == COF_WEB_PING;
}

static void take_data(struct cof_web_reader *reader, uint8_t *bytes, size_t size, struct cof_web_event *event)
{
    unmask(reader, bytes, size);
    event->kind = COF_WEB_PART;
    event->bytes = bytes;
    event->size = size;
    event->last = reader->last;
    event->announced = reader->announced;
    if (reader->left == 0) {
        end_frame(reader);
        event->end = reader->last;
        reader->in_message = !reader->last;
    }
}

/* True if there is an event. */
static bool take_payload(struct cof_web_reader *reader, uint8_t *bytes, size_t size, size_t *at,
                         struct cof_web_event *event)
{
    uint8_t *start = bytes + *at;
    const size_t here = size - *at < reader->left ? size - *at : (size_t) reader->left;
    *at += here;
    reader->left -= here;
    if (is_control(reader)) {
        return take_control(reader, start, here, event);
    }
    if (here == 0 && reader->left > 0) {
        return false;
    }
    take_data(reader, start, here, event);
    return true;
}

void cof_web_read(struct cof_web_reader *reader, uint8_t *bytes, size_t size, size_t *at,
                  struct cof_web_event *ret_event)
{
    *ret_event = (struct cof_web_event){.kind = COF_WEB_SHORT};
    for (;;) {
        if (!reader->in_payload) {
            if (!take_header(reader, bytes, size, at)) {
                return;
            }
            const cof_web_code code = begin_frame(reader);
            if (code != COF_WEB_NONE) {
                *ret_event = (struct cof_web_event){.kind = COF_WEB_REFUSED, .code = code};
                return;
            }
        }
        if (take_payload(reader, bytes, size, at, ret_event)) {
            return;
        }
        *ret_event = (struct cof_web_event){.kind = COF_WEB_SHORT};
        if (*at == size && reader->in_payload) {
            return;
        }
    }
}

bool cof_web_begun(const struct cof_web_reader *reader)
{
    return reader->in_payload || reader->in_message || reader->header_size > 0;
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

size_t cof_web_header_size(uint64_t payload)
{
    if (payload < LENGTH_16) {
        return HEADER_LEAST;
    }
    return HEADER_LEAST + (payload <= UINT16_MAX ? sizeof(uint16_t) : sizeof(uint64_t));
}

size_t cof_web_header(uint8_t to[COF_WEB_HEADER_MOST], cof_web_opcode opcode, uint64_t payload, const uint8_t *mask)
{
    size_t size = cof_web_header_size(payload);
    const uint8_t masked = mask == NULL ? 0 : MASKED;
    to[0] = (uint8_t) (FIN | (uint8_t) opcode);
    if (payload < LENGTH_16) {
        to[1] = (uint8_t) (masked | payload);
    } else if (payload <= UINT16_MAX) {
        to[1] = (uint8_t) (masked | LENGTH_16);
        cof_put_u16(to + HEADER_LEAST, (uint16_t) payload);
    } else {
        to[1] = (uint8_t) (masked | LENGTH_64);
        cof_put_u64(to + HEADER_LEAST, payload);
    }
    if (mask != NULL) {
        memcpy(to + size, mask, COF_WEB_MASK);
        size += COF_WEB_MASK;
    }
    return size;
}

void cof_web_mask(const uint8_t mask[COF_WEB_MASK], uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t) (bytes[i] ^ mask[i % COF_WEB_MASK]);
    }
}
