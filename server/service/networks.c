#include "server/service/networks.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { V4_OFFSET = 12, V4_BITS = 32, V6_BITS = 128, NETWORK_TEXT = INET6_ADDRSTRLEN + 4 };

static const uint8_t mapped[V4_OFFSET] = {[10] = 0xff, [11] = 0xff};

typedef enum network_kind {
    NETWORK_V4,
    NETWORK_V6,
    NETWORK_LOCAL,
    NETWORK_USER,
} network_kind;

/* An IPv4 network is kept in the mapped form, with its prefix counted in that form. */
struct network {
    network_kind kind;
    uint8_t address[16];
    unsigned prefix;
    uint32_t uid;
};

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* A decimal number without sign or leading zeros. */
static bool read_number(struct cof_slice text, uint64_t most, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (text.len == 0 || text.len > 10 || (text.len > 1 && text.data[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        number = number * 10 + (uint64_t) (text.data[i] - '0');
    }
    *ret_number = number;
    return number <= most;
}

static bool is_mapped(const uint8_t address[16])
{
    return memcmp(address, mapped, sizeof mapped) == 0;
}

/* NULL, or what is wrong with it. */
static const char *read_address(struct cof_slice text, struct network *network)
{
    char zero_ended[INET6_ADDRSTRLEN];
    if (text.len >= sizeof zero_ended) {
        return "is no address";
    }
    memcpy(zero_ended, text.data, text.len);
    zero_ended[text.len] = '\0';
    memcpy(network->address, mapped, sizeof mapped);
    network->kind = NETWORK_V4;
    if (inet_pton(AF_INET, zero_ended, network->address + V4_OFFSET) == 1) {
        return NULL;
    }
    network->kind = NETWORK_V6;
    if (inet_pton(AF_INET6, zero_ended, network->address) != 1) {
        return "is neither a network like 10.0.0.0/8 or 2001:db8::/32 nor unix or unix:<uid>";
    }
    return is_mapped(network->address) ? "is an IPv4 network; write it as such" : NULL;
}

static bool has_bits_behind(const uint8_t address[16], unsigned prefix)
{
    for (unsigned bit = prefix; bit < V6_BITS; bit++) {
        if ((address[bit / 8] >> (7 - bit % 8) & 1) != 0) {
            return true;
        }
    }
    return false;
}

static const char *read_prefix(struct cof_slice text, bool given, struct network *network)
{
    const unsigned bits = network->kind == NETWORK_V4 ? V4_BITS : V6_BITS;
    uint64_t prefix = bits;
    if (given && !read_number(text, bits, &prefix)) {
        return "has no valid number of bits behind the slash";
    }
    network->prefix = V6_BITS - bits + (unsigned) prefix;
    return has_bits_behind(network->address, network->prefix) ? "has bits set behind its prefix" : NULL;
}

static const char *read_network(struct cof_slice text, struct network *network)
{
    static const char user[] = "unix:";
    const struct cof_slice prefix = cof_slice_text(user);
    uint64_t uid;
    if (cof_slice_equal(text, cof_slice_text("unix"))) {
        network->kind = NETWORK_LOCAL;
        return NULL;
    }
    if (text.len > prefix.len && memcmp(text.data, user, prefix.len) == 0) {
        network->kind = NETWORK_USER;
        /* The last number means "no user". */
        if (!read_number(cof_slice_of(text.data + prefix.len, text.len - prefix.len), UINT32_MAX - 1, &uid)) {
            return "has no user ID behind unix:";
        }
        network->uid = (uint32_t) uid;
        return NULL;
    }
    const uint8_t *slash = text.len == 0 ? NULL : memchr(text.data, '/', text.len);
    const size_t length = slash == NULL ? text.len : (size_t) (slash - text.data);
    const char *problem = read_address(cof_slice_of(text.data, length), network);
    if (problem != NULL) {
        return problem;
    }
    const struct cof_slice bits = cof_slice_of(text.data + length + 1, slash == NULL ? 0 : text.len - length - 1);
    return read_prefix(bits, slash != NULL, network);
}

static cof_code format(const struct network *network, struct cof_arena *arena, struct cof_slice *ret_text,
                       struct cof_error *err)
{
    char address[INET6_ADDRSTRLEN] = "";
    const char *text = "unix";
    switch (network->kind) {
    case NETWORK_V4:
        (void) inet_ntop(AF_INET, network->address + V4_OFFSET, address, sizeof address);
        text = cof_arena_format(arena, "%s/%u", address, network->prefix - (V6_BITS - V4_BITS));
        break;
    case NETWORK_V6:
        (void) inet_ntop(AF_INET6, network->address, address, sizeof address);
        text = cof_arena_format(arena, "%s/%u", address, network->prefix);
        break;
    case NETWORK_USER:
        text = cof_arena_format(arena, "unix:%u", network->uid);
        break;
    case NETWORK_LOCAL:
        break;
    }
    if (text == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_text = cof_slice_text(text);
    return COF_OK;
}

cof_code networks_read(char *const *texts, size_t count, const char *field, struct cof_arena *arena,
                       struct row_texts *ret_networks, struct cof_error *err)
{
    if (count > NETWORKS_MAX) {
        return cof_fail_field(err, COF_REASON_LIMIT_EXCEEDED, field, "%s has %zu entries; at most %d are allowed",
                              field, count, NETWORKS_MAX);
    }
    struct cof_slice *items = cof_arena_array(arena, count, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < count; i++) {
        struct network network = {0};
        char path[COF_ERROR_FIELD_SIZE];
        const char *problem = read_network(cof_slice_text(texts[i]), &network);
        (void) snprintf(path, sizeof path, "%s[%zu]", field, i);
        if (problem != NULL) {
            return cof_fail_field(err, COF_REASON_FIELD_INVALID, path, "%s %s", path, problem);
        }
        TRY(format(&network, arena, &items[i], err));
    }
    *ret_networks = (struct row_texts){items, count};
    return COF_OK;
}

/* --- Deciding ------------------------------------------------------------------------------------------------- */

static bool same_bits(const uint8_t a[16], const uint8_t b[16], unsigned count)
{
    const unsigned whole = count / 8;
    const unsigned rest = count % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0);
}

static bool holds(const struct network *network, const struct call_peer *peer)
{
    switch (network->kind) {
    case NETWORK_V4:
    case NETWORK_V6:
        return peer->has_address && is_mapped(peer->address) == (network->kind == NETWORK_V4) &&
               same_bits(network->address, peer->address, network->prefix);
    case NETWORK_LOCAL:
        return peer->local;
    case NETWORK_USER:
        return peer->local && peer->has_uid && peer->uid == network->uid;
    }
    return false;
}

static bool covers(const struct network *outer, const struct network *inner)
{
    switch (outer->kind) {
    case NETWORK_V4:
    case NETWORK_V6:
        return inner->kind == outer->kind && inner->prefix >= outer->prefix &&
               same_bits(outer->address, inner->address, outer->prefix);
    case NETWORK_LOCAL:
        return inner->kind == NETWORK_LOCAL || inner->kind == NETWORK_USER;
    case NETWORK_USER:
        return inner->kind == NETWORK_USER && inner->uid == outer->uid;
    }
    return false;
}

bool networks_permit(const struct row_texts *networks, const struct call_peer *peer)
{
    for (size_t i = 0; i < networks->count; i++) {
        struct network network = {0};
        if (read_network(networks->items[i], &network) == NULL && holds(&network, peer)) {
            return true;
        }
    }
    return networks->count == 0;
}

static bool covered(struct cof_slice text, const struct row_texts *outer)
{
    struct network inner = {0};
    if (read_network(text, &inner) != NULL) {
        return false;
    }
    for (size_t i = 0; i < outer->count; i++) {
        struct network network = {0};
        if (read_network(outer->items[i], &network) == NULL && covers(&network, &inner)) {
            return true;
        }
    }
    return false;
}

bool networks_within(const struct row_texts *inner, const struct row_texts *outer)
{
    if (outer->count == 0) {
        return true;
    }
    for (size_t i = 0; i < inner->count; i++) {
        if (!covered(inner->items[i], outer)) {
            return false;
        }
    }
    return inner->count > 0;
}
