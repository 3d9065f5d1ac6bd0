#include "common/web/handshake.h"

#include <openssl/evp.h>

#include "common/encode.h"

/* RFC 6455, section 1.3. */
#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

enum {
    KEY_BYTES = 16,
    DIGEST = 20,
    SWITCHING_PROTOCOLS = 101,
};

bool cof_web_key_valid(struct cof_slice key)
{
    uint8_t bytes[(COF_WEB_KEY - 1) / 4 * 3];
    size_t size = 0;
    return key.len == COF_WEB_KEY - 1 && cof_base64_decode(key, bytes, &size) && size == KEY_BYTES;
}

bool cof_web_accept(struct cof_slice key, char accept[COF_WEB_ACCEPT])
{
    char text[COF_WEB_KEY + sizeof WEBSOCKET_GUID];
    uint8_t digest[DIGEST];
    if (key.len != COF_WEB_KEY - 1) {
        return false;
    }
    memcpy(text, key.data, key.len);
    memcpy(text + key.len, WEBSOCKET_GUID, sizeof WEBSOCKET_GUID);
    /* SHA-1 protects nothing here: the answer only shows that the peer speaks WebSocket. */
    if (EVP_Q_digest(NULL, "SHA1", NULL, text, key.len + sizeof WEBSOCKET_GUID - 1, digest, NULL) != 1) {
        return false;
    }
    cof_base64_encode(cof_slice_of(digest, sizeof digest), accept);
    return true;
}

static bool has_once(const struct cof_head *head, const char *name, const char *value)
{
    struct cof_slice found;
    return cof_head_find(head, name, &found) == 1 && cof_slice_equal(found, cof_slice_text(value));
}

bool cof_web_accepted(const struct cof_head *response, const char *key)
{
    char accept[COF_WEB_ACCEPT];
    struct cof_slice unused;
    return response->status == SWITCHING_PROTOCOLS && cof_web_accept(cof_slice_text(key), accept) &&
           cof_head_lists(response, "Upgrade", "websocket") && cof_head_lists(response, "Connection", "upgrade") &&
           has_once(response, "Sec-WebSocket-Accept", accept) &&
           has_once(response, "Sec-WebSocket-Protocol", COF_WEB_PROTOCOL) &&
           cof_head_find(response, "Sec-WebSocket-Extensions", &unused) == 0;
}
