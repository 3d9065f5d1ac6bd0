#include "server/service/asks.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/crypto.h"

enum {
    KEPT_US = 60000000,
    ANSWER_MOST = 65536,
    TURN_US = 30000000, /* for which a request waits for its turn */
    LATER_MS = 1000,
};

typedef enum slot_state { SLOT_FREE, SLOT_AWAITED, SLOT_KEPT } slot_state;

struct slot {
    struct asks *asks;
    struct outbound_answer *answer; /* KEPT */
    int64_t until_us;               /* KEPT */
    slot_state state;
    struct flight_key key;
    struct cof_uuid workspace;
};

struct asks {
    struct asks_options options;
    pthread_mutex_t lock;
    uint8_t key[CRYPTO_KEY]; /* of asks_secret */
    struct slot slots[];
};

struct asks *asks_new(const struct asks_options *options)
{
    struct cof_error err;
    struct asks *asks = calloc(1, sizeof *asks + options->most * sizeof *asks->slots);
    if (asks == NULL || crypto_random(asks->key, sizeof asks->key, &err) != COF_OK) {
        free(asks);
        return NULL;
    }
    asks->options = *options;
    (void) pthread_mutex_init(&asks->lock, NULL);
    return asks;
}

void asks_free(struct asks *asks)
{
    if (asks == NULL) {
        return;
    }
    for (size_t i = 0; i < asks->options.most; i++) {
        assert(asks->slots[i].state != SLOT_AWAITED);
        outbound_answer_free(asks->slots[i].answer);
    }
    (void) pthread_mutex_destroy(&asks->lock);
    cof_wipe(asks->key, sizeof asks->key);
    free(asks);
}

/* --- Keys ----------------------------------------------------------------------------------------------------- */

static cof_code key_of(const struct call *call, const struct ask *ask, struct flight_key *ret_key)
{
    uint8_t text[sizeof "ask" + 3 * sizeof call->request_id.bytes + ASK_NAME_MAX] = "ask";
    const size_t size = sizeof call->request_id.bytes;
    const size_t name = strlen(ask->name);
    assert(name <= ASK_NAME_MAX);
    uint8_t *at = text + sizeof "ask";
    memcpy(at, ask->workspace->bytes, size);
    memcpy(at + size, call->request_id.bytes, size);
    memcpy(at + 2 * size, call->token->id.bytes, size);
    memcpy(at + 3 * size, ask->name, name);
    return crypto_sha256(cof_slice_of(text, sizeof "ask" + 3 * size + name), ret_key->bytes, call->err);
}

static cof_code not_available(struct call *call)
{
    return cof_fail(call->err, COF_REASON_NOT_AVAILABLE, "nothing is asked of providers here; %s",
                    cof_reason_next_step(COF_REASON_NOT_AVAILABLE));
}

cof_code asks_secret(struct call *call, const struct cof_uuid *workspace, const char *name,
                     uint8_t ret_secret[ASK_SECRET])
{
    const struct ask ask = {.name = name, .workspace = workspace};
    struct flight_key key;
    _Static_assert((int) ASK_SECRET == (int) CRYPTO_DIGEST, "an HMAC is the secret");
    if (call->service->asks == NULL) {
        return not_available(call);
    }
    TRY(key_of(call, &ask, &key));
    return crypto_hmac(call->service->asks->key, cof_slice_of(key.bytes, sizeof key.bytes), ret_secret, call->err);
}

/* The limit of waiting calls counts by the host that is waited for. */
static cof_code flight_of(const struct call *call, const struct ask *ask, struct flight *ret_flight)
{
    uint8_t digest[CRYPTO_DIGEST];
    TRY(key_of(call, ask, &ret_flight->key));
    TRY(crypto_sha256(cof_slice_text(ask->group), digest, call->err));
    memcpy(ret_flight->group.bytes, digest, sizeof ret_flight->group.bytes);
    return COF_OK;
}

const char *asks_group(struct call *call, const struct cof_uuid *workspace, const char *url)
{
    char hex[2 * sizeof workspace->bytes + 1];
    const char *host = strstr(url, "://");
    host = host == NULL ? url : host + strlen("://");
    const size_t room = OUTBOUND_GROUP_MAX - sizeof hex;
    const size_t length = strcspn(host, "/?#");
    cof_hex_encode(cof_slice_of(workspace->bytes, sizeof workspace->bytes), hex);
    return cof_arena_format(call->arena, "%s/%.*s", hex, (int) (length < room ? length : room), host);
}

/* --- Slots, under the lock ------------------------------------------------------------------------------------ */

static void empty_slot(struct slot *slot)
{
    outbound_answer_free(slot->answer);
    slot->answer = NULL;
    slot->state = SLOT_FREE;
}

static struct slot *find(struct asks *asks, const struct flight_key *key)
{
    for (size_t i = 0; i < asks->options.most; i++) {
        struct slot *slot = &asks->slots[i];
        if (slot->state != SLOT_FREE && memcmp(slot->key.bytes, key->bytes, sizeof key->bytes) == 0) {
            return slot;
        }
    }
    return NULL;
}

/* NULL: there are too many, of all or of the workspace. */
static struct slot *reserve(struct asks *asks, const struct flight_key *key, const struct cof_uuid *workspace)
{
    const int64_t now_us = cof_clock_monotonic(asks->options.clock);
    struct slot *free_one = NULL;
    uint32_t own = 0;
    for (size_t i = 0; i < asks->options.most; i++) {
        struct slot *slot = &asks->slots[i];
        if (slot->state == SLOT_KEPT && slot->until_us <= now_us) {
            empty_slot(slot);
        }
        own += slot->state != SLOT_FREE && cof_uuid_equal(&slot->workspace, workspace);
        free_one = slot->state == SLOT_FREE ? slot : free_one;
    }
    if (free_one == NULL || own >= asks->options.most_per_workspace) {
        return NULL;
    }
    *free_one = (struct slot){.asks = asks, .state = SLOT_AWAITED, .key = *key, .workspace = *workspace};
    return free_one;
}

/* --- Asking --------------------------------------------------------------------------------------------------- */

/* The answer lies where it is looked for before the flight lands. */
static void answered(void *context, struct outbound_answer *answer)
{
    struct slot *slot = context;
    struct asks *asks = slot->asks;
    (void) pthread_mutex_lock(&asks->lock);
    const struct flight_key key = slot->key;
    slot->answer = answer;
    slot->until_us = cof_clock_monotonic(asks->options.clock) + KEPT_US;
    slot->state = SLOT_KEPT;
    (void) pthread_mutex_unlock(&asks->lock);
    flights_land(asks->options.flights, &key);
}

static void give_back(struct asks *asks, struct slot *slot)
{
    (void) pthread_mutex_lock(&asks->lock);
    empty_slot(slot);
    (void) pthread_mutex_unlock(&asks->lock);
}

static cof_code busy(struct call *call)
{
    cof_ignore(cof_fail(call->err, COF_REASON_SERVER_BUSY,
                        "this server asks providers for too many things at once; %s",
                        cof_reason_next_step(COF_REASON_SERVER_BUSY)));
    return cof_error_retry_after(call->err, LATER_MS);
}

static cof_code begin(struct call *call, const struct ask *ask, const struct flight *flight, struct slot *slot)
{
    struct asks *asks = call->service->asks;
    if (slot == NULL) {
        return busy(call);
    }
    if (flights_begin(asks->options.flights, &flight->key) != FLIGHT_BEGUN) {
        give_back(asks, slot);
        return busy(call);
    }
    outbound_send(asks->options.outbound, &(struct outbound_request){
                                              .group = ask->group,
                                              .method = ask->method,
                                              .url = ask->url,
                                              .headers = ask->headers,
                                              .header_count = ask->header_count,
                                              .body = ask->body,
                                              .answer_bytes = ANSWER_MOST,
                                              .send_until_us = cof_clock_monotonic(asks->options.clock) + TURN_US,
                                              .done = answered,
                                              .context = slot,
                                          });
    return COF_OK;
}

static cof_code wait_for(struct call *call, const struct ask *ask, const struct flight *flight)
{
    const int64_t until_us = call_wait_end(call, call->deadline_us);
    cof_ignore(cof_fail(call->err, COF_REASON_PROVIDER_UNAVAILABLE,
                        "the provider has not answered yet; repeat the call with the same request ID"));
    if (call_may_wait(call, until_us)) {
        call_wait_for_flight(call, CALL_WAIT_PROVIDER, ask->workspace, flight, until_us);
    }
    return cof_error_retry_after(call->err, LATER_MS);
}

static cof_code copy_out(struct call *call, const struct outbound_answer *answer,
                         struct outbound_answer_view *ret_answer)
{
    struct outbound_answer_view view = outbound_answer_view(answer);
    uint8_t *body = cof_arena_alloc(call->arena, view.body.len + 1);
    if (body == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (view.body.len > 0) {
        memcpy(body, view.body.data, view.body.len);
    }
    view.body = cof_slice_of(body, view.body.len);
    *ret_answer = view;
    return COF_OK;
}

cof_code asks_ask(struct call *call, const struct ask *ask, struct outbound_answer_view *ret_answer)
{
    struct asks *asks = call->service->asks;
    struct flight flight;
    cof_code code = COF_OK;
    if (asks == NULL) {
        return not_available(call);
    }
    TRY(flight_of(call, ask, &flight));
    (void) pthread_mutex_lock(&asks->lock);
    struct slot *slot = find(asks, &flight.key);
    const bool known = slot != NULL;
    const bool kept = known && slot->state == SLOT_KEPT;
    if (kept) {
        code = copy_out(call, slot->answer, ret_answer);
    } else if (!known) {
        slot = reserve(asks, &flight.key, ask->workspace);
    }
    (void) pthread_mutex_unlock(&asks->lock);
    if (kept) {
        return code;
    }
    TRY(known ? COF_OK : begin(call, ask, &flight, slot));
    return wait_for(call, ask, &flight);
}

bool asks_known(struct call *call, const struct ask *ask)
{
    struct asks *asks = call->service->asks;
    struct flight_key key;
    if (asks == NULL || key_of(call, ask, &key) != COF_OK) {
        return false;
    }
    (void) pthread_mutex_lock(&asks->lock);
    const bool known = find(asks, &key) != NULL;
    (void) pthread_mutex_unlock(&asks->lock);
    return known;
}

void asks_forget(struct call *call, const struct ask *ask)
{
    struct asks *asks = call->service->asks;
    struct flight_key key;
    if (asks == NULL || key_of(call, ask, &key) != COF_OK) {
        return;
    }
    (void) pthread_mutex_lock(&asks->lock);
    struct slot *slot = find(asks, &key);
    if (slot != NULL && slot->state == SLOT_KEPT) {
        empty_slot(slot);
    }
    (void) pthread_mutex_unlock(&asks->lock);
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

cof_code asks_arrived(struct call *call, const struct outbound_answer_view *answer, const char *what)
{
    if (answer->end == OUTBOUND_ANSWERED) {
        return COF_OK;
    }
    if (answer->end == OUTBOUND_REFUSED_URL || answer->end == OUTBOUND_REFUSED_ADDRESS) {
        return cof_fail(call->err, COF_REASON_ADDRESS_REFUSED,
                        "%s is not asked: it is not https, or has no public "
                        "address; %s",
                        what, cof_reason_next_step(COF_REASON_ADDRESS_REFUSED));
    }
    cof_ignore(cof_fail(call->err, COF_REASON_PROVIDER_UNAVAILABLE, "%s gave no whole answer: %s; %s", what,
                        answer->what[0] == '\0' ? outbound_end_name(answer->end) : answer->what,
                        cof_reason_next_step(COF_REASON_PROVIDER_UNAVAILABLE)));
    return cof_error_retry_after(call->err, answer->retry_after_ms > 0 ? answer->retry_after_ms : LATER_MS);
}
