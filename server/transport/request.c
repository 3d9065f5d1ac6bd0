#include "server/transport/request.h"

#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/secret.h"
#include "common/web/frame.h"

enum { REPLY_OFFSET = SP_HEADER_MOST + SP_ID };

struct request *request_new(struct connection *connection, const struct exchange_ops *ops, size_t frame_size)
{
    struct request *request = malloc(sizeof *request + frame_size);
    if (request == NULL) {
        return NULL;
    }
    *request = (struct request){.connection = connection, .frame_size = frame_size};
    request->exchange.ops = ops;
    request->exchange.frame = (struct cof_slice){request->frame, frame_size};
    return request;
}

static void drop_reply(struct request *request)
{
    if (request->reply != NULL) {
        cof_wipe(request->reply, request->reply_size);
        free(request->reply);
        request->reply = NULL;
    }
}

void request_free(struct request *request)
{
    drop_reply(request);
    cof_wipe(request->frame, request->frame_size);
    free(request);
}

uint8_t *request_make_reply(struct exchange *exchange, size_t size)
{
    struct request *request = request_of(exchange);
    drop_reply(request);
    request->reply = malloc(REPLY_OFFSET + size);
    if (request->reply == NULL) {
        return NULL;
    }
    request->reply_size = REPLY_OFFSET + size;
    return request->reply + REPLY_OFFSET;
}

struct cof_slice request_sealed_reply(struct request *request, sp_framing framing)
{
    const uint64_t size = request->reply_size - SP_HEADER_MOST;
    uint8_t header[COF_WEB_HEADER_MOST] = {1};
    size_t header_size = 1 + sizeof size;
    if (framing == FRAMING_WEB) {
        header_size = cof_web_header(header, COF_WEB_BINARY, size, NULL);
    } else {
        cof_put_u64(header + 1, size);
    }
    const size_t skip = framing == FRAMING_LENGTH;
    uint8_t *start = request->reply + SP_HEADER_MOST - (header_size - skip);
    memcpy(start, header + skip, header_size - skip);
    memcpy(request->reply + SP_HEADER_MOST, request->id, SP_ID);
    return cof_slice_of(start, request->reply_size - (size_t) (start - request->reply));
}
