#include "server/http/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ROOM_LEAST = 1024,
    DEFAULT_MOST = 4 << 20,
    LINE_MOST = 1024,
};

static bool make_room(struct http_text *text, size_t more)
{
    const size_t most = text->most == 0 ? DEFAULT_MOST : text->most;
    size_t room = text->room < ROOM_LEAST ? ROOM_LEAST : text->room;
    if (text->failed || more > most - text->size) {
        return false;
    }
    while (room - text->size < more) {
        room *= 2;
    }
    if (room == text->room) {
        return true;
    }
    char *larger = realloc(text->data, room);
    if (larger == NULL) {
        return false;
    }
    text->data = larger;
    text->room = room;
    return true;
}

void http_text_add(struct http_text *text, struct cof_slice bytes)
{
    if (!make_room(text, bytes.len)) {
        text->failed = true;
        return;
    }
    if (bytes.len > 0) {
        memcpy(text->data + text->size, bytes.data, bytes.len);
        text->size += bytes.len;
    }
}

void http_text_format(struct http_text *text, const char *format, ...)
{
    char line[LINE_MOST];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (size < 0 || size >= LINE_MOST) {
        text->failed = true;
        return;
    }
    http_text_add(text, cof_slice_of(line, (size_t) size));
}

void http_text_done(struct http_text *text)
{
    free(text->data);
    *text = (struct http_text){0};
}
