#include "common/web/head.h"

#define TCHAR_MARKS "!#$%&'*+-.^_`|~"

enum { STATUS_DIGITS = 3 };

/* What is left to be read. */
struct rest {
    const uint8_t *at;
    const uint8_t *end;
};

static bool is_alphanumeric(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static bool is_token(uint8_t byte)
{
    return is_alphanumeric(byte) || (byte != '\0' && strchr(TCHAR_MARKS, byte) != NULL);
}

static bool is_graphic(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f;
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t) (byte + ('a' - 'A')) : byte;
}

/* --- Lines ---------------------------------------------------------------------------------------------------- */

static struct cof_slice take_while(struct rest *rest, bool (*fits)(uint8_t byte))
{
    const uint8_t *start = rest->at;
    while (rest->at < rest->end && fits(*rest->at)) {
        rest->at++;
    }
    return cof_slice_of(start, (size_t) (rest->at - start));
}

static bool take_text(struct rest *rest, const char *text)
{
    const struct cof_slice expected = cof_slice_text(text);
    if (!cof_slice_starts_with(cof_slice_of(rest->at, (size_t) (rest->end - rest->at)), expected)) {
        return false;
    }
    rest->at += expected.len;
    return true;
}

static bool take_request_line(struct rest *rest, struct cof_head *head)
{
    head->method = take_while(rest, is_token);
    if (head->method.len == 0 || !take_text(rest, " ")) {
        return false;
    }
    const struct cof_slice target = take_while(rest, is_graphic);
    const uint8_t *mark = target.len == 0 ? NULL : memchr(target.data, '?', target.len);
    head->path = target;
    if (mark != NULL) {
        head->path.len = (size_t) (mark - target.data);
        head->query = cof_slice_of(mark + 1, target.len - head->path.len - 1);
    }
    return head->path.len > 0 && head->path.data[0] == '/' && memchr(target.data, '#', target.len) == NULL &&
           take_text(rest, " HTTP/1.1\r\n");
}

static bool is_of_text(uint8_t byte)
{
    return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

static bool take_status_line(struct rest *rest, struct cof_head *head)
{
    if (!take_text(rest, "HTTP/1.1 ") || rest->end - rest->at < STATUS_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < STATUS_DIGITS; i++) {
        const uint8_t digit = *rest->at++;
        if (digit < '0' || digit > '9') {
            return false;
        }
        head->status = head->status * 10 + (unsigned) (digit - '0');
    }
    /* Some leave out the space in front of a phrase that is not there. */
    if (!take_text(rest, " ")) {
        return take_text(rest, "\r\n");
    }
    (void) take_while(rest, is_of_text);
    return take_text(rest, "\r\n");
}

static bool take_field(struct rest *rest, struct cof_head_field *ret_field)
{
    ret_field->name = take_while(rest, is_token);
    if (ret_field->name.len == 0 || !take_text(rest, ":")) {
        return false;
    }
    (void) take_while(rest, is_blank);
    ret_field->value = take_while(rest, is_of_text);
    while (ret_field->value.len > 0 && is_blank(ret_field->value.data[ret_field->value.len - 1])) {
        ret_field->value.len--;
    }
    return take_text(rest, "\r\n");
}

/* --- Heads ---------------------------------------------------------------------------------------------------- */

/* Where the empty line ends; 0: it has not come. */
static size_t end_of_head(struct cof_slice bytes)
{
    const size_t looked_at = bytes.len < COF_HEAD_MOST ? bytes.len : COF_HEAD_MOST;
    for (size_t i = 3; i < looked_at; i++) {
        if (memcmp(bytes.data + i - 3, "\r\n\r\n", 4) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static cof_head_step take_fields(struct rest *rest, struct cof_head *head)
{
    while (!take_text(rest, "\r\n")) {
        if (head->field_count == COF_HEAD_FIELDS) {
            return COF_HEAD_LARGE;
        }
        if (!take_field(rest, &head->fields[head->field_count])) {
            return COF_HEAD_BAD;
        }
        head->field_count++;
    }
    return COF_HEAD_DONE;
}

/* A peer that speaks something else is told before it has sent what would be a whole head. */
static bool may_become_head(struct cof_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.data[i] != '\r' && bytes.data[i] != '\n' && !is_of_text(bytes.data[i])) {
            return false;
        }
    }
    return true;
}

static cof_head_step take_head(struct cof_slice bytes, struct cof_head *head,
                               bool (*take_first)(struct rest *rest, struct cof_head *head))
{
    const size_t size = end_of_head(bytes);
    memset(head, 0, sizeof *head);
    if (size == 0) {
        if (bytes.len >= COF_HEAD_MOST) {
            return COF_HEAD_LARGE;
        }
        return may_become_head(bytes) ? COF_HEAD_SHORT : COF_HEAD_BAD;
    }
    struct rest rest = {bytes.data, bytes.data + size};
    head->size = size;
    return take_first(&rest, head) ? take_fields(&rest, head) : COF_HEAD_BAD;
}

cof_head_step cof_head_request(struct cof_slice bytes, struct cof_head *ret_head)
{
    return take_head(bytes, ret_head, take_request_line);
}

cof_head_step cof_head_response(struct cof_slice bytes, struct cof_head *ret_head)
{
    return take_head(bytes, ret_head, take_status_line);
}

/* --- Fields --------------------------------------------------------------------------------------------------- */

bool cof_head_same(struct cof_slice text, struct cof_slice other)
{
    if (text.len != other.len) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (lower(text.data[i]) != lower(other.data[i])) {
            return false;
        }
    }
    return true;
}

uint32_t cof_head_find(const struct cof_head *head, const char *name, struct cof_slice *ret_value)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (!cof_head_same(head->fields[i].name, cof_slice_text(name))) {
            continue;
        }
        if (count++ == 0) {
            *ret_value = head->fields[i].value;
        }
    }
    return count;
}

static bool list_has(struct cof_slice list, struct cof_slice token)
{
    size_t at = 0;
    while (at < list.len) {
        while (at < list.len && (is_blank(list.data[at]) || list.data[at] == ',')) {
            at++;
        }
        size_t end = at;
        while (end < list.len && list.data[end] != ',') {
            end++;
        }
        size_t last = end;
        while (last > at && is_blank(list.data[last - 1])) {
            last--;
        }
        if (cof_head_same(cof_slice_of(list.data + at, last - at), token)) {
            return true;
        }
        at = end;
    }
    return false;
}

bool cof_head_lists(const struct cof_head *head, const char *name, const char *token)
{
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (cof_head_same(head->fields[i].name, cof_slice_text(name)) &&
            list_has(head->fields[i].value, cof_slice_text(token))) {
            return true;
        }
    }
    return false;
}
