#include "server/service/page.h"

#include "common/encode.h"
#include "common/name.h"

enum { PAGE_FORMAT = 1, PAGE_HEADER = 2 };

uint32_t page_size(const struct call *call, uint32_t asked)
{
    const struct service_limits *limits = &call->service->limits;
    if (asked == 0) {
        return limits->page_size_default;
    }
    return asked < limits->page_size_max ? asked : limits->page_size_max;
}

cof_code page_invalid(struct call *call)
{
    return cof_fail_field(call->err, COF_REASON_PAGE_TOKEN_INVALID, "page_token", "%s; %s",
                          cof_reason_meaning(COF_REASON_PAGE_TOKEN_INVALID),
                          cof_reason_next_step(COF_REASON_PAGE_TOKEN_INVALID));
}

static bool read_parts(struct cof_slice rest, struct page_position *position)
{
    for (size_t i = 0; i < PAGE_PARTS; i++) {
        if (rest.len < 2 || rest.len - 2 < cof_get_u16(rest.data)) {
            return false;
        }
        const size_t length = cof_get_u16(rest.data);
        position->parts[i] = cof_slice_of(rest.data + 2, length);
        if (!cof_text_valid(position->parts[i])) {
            return false;
        }
        rest = cof_slice_of(rest.data + 2 + length, rest.len - 2 - length);
    }
    return rest.len == 0;
}

cof_code page_read(struct call *call, page_list list, const char *token, struct page_position *ret_position)
{
    const size_t text_length = strlen(token);
    const size_t size = text_length / 4 * 3 + text_length % 4 * 3 / 4;
    *ret_position = (struct page_position){0};
    if (text_length == 0) {
        return COF_OK;
    }
    uint8_t *bytes = cof_arena_alloc(call->arena, size + 1);
    if (bytes == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (size < PAGE_HEADER || size > PAGE_POSITION_MAX ||
        !cof_base64url_decode(cof_slice_of(token, text_length), bytes, size) || bytes[0] != PAGE_FORMAT ||
        bytes[1] != list || !read_parts(cof_slice_of(bytes + PAGE_HEADER, size - PAGE_HEADER), ret_position)) {
        return page_invalid(call);
    }
    return COF_OK;
}

cof_code page_make(struct call *call, page_list list, const struct page_position *position, char **ret_token)
{
    uint8_t bytes[PAGE_POSITION_MAX] = {PAGE_FORMAT, (uint8_t) list};
    size_t size = PAGE_HEADER;
    for (size_t i = 0; i < PAGE_PARTS; i++) {
        const struct cof_slice part = position->parts[i];
        if (size + 2 + part.len > sizeof bytes) {
            return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "a position in a list is too long");
        }
        cof_put_u16(bytes + size, (uint16_t) part.len);
        if (part.len > 0) {
            memcpy(bytes + size + 2, part.data, part.len);
        }
        size += 2 + part.len;
    }
    *ret_token = cof_arena_alloc(call->arena, COF_BASE64URL_SIZE(size));
    if (*ret_token == NULL) {
        return cof_arena_exhausted(call->err);
    }
    cof_base64url_encode(cof_slice_of(bytes, size), *ret_token);
    return COF_OK;
}
