#include "server/outbound/assertion.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/encode.h"
#include "common/sink.h"
#include "server/crypto/jws.h"

enum { NUMBER_TEXT = 24 };

static void put(struct cof_sink *sink, const char *text)
{
    cof_sink_put_raw(sink, cof_slice_text(text));
}

/* "name":"value", or nothing for an empty one. A comma stands before all but the first member. */
static void put_text(struct cof_sink *sink, bool first, const char *name, struct cof_slice value)
{
    if (value.len == 0) {
        return;
    }
    put(sink, first ? "\"" : ",\"");
    put(sink, name);
    put(sink, "\":\"");
    cof_sink_put(sink, COF_ENCODING_JSON, value);
    put(sink, "\"");
}

static void put_number(struct cof_sink *sink, const char *name, int64_t value)
{
    char text[NUMBER_TEXT];
    (void) snprintf(text, sizeof text, "%" PRId64, value);
    put(sink, ",\"");
    put(sink, name);
    put(sink, "\":");
    put(sink, text);
}

static void write_header(const struct assertion *assertion, const char *algorithm, struct cof_sink *sink)
{
    put(sink, "{");
    put_text(sink, true, "alg", cof_slice_text(algorithm));
    put_text(sink, false, "typ", cof_slice_text("JWT"));
    put_text(sink, false, "kid", assertion->key_id);
    put(sink, "}");
}

static void write_claims(const struct assertion *assertion, const char *nonce, struct cof_sink *sink)
{
    put(sink, "{");
    put_text(sink, true, "iss", assertion->issuer);
    put_text(sink, false, "sub", assertion->subject);
    put_text(sink, false, "aud", assertion->audience);
    put_text(sink, false, "scope", assertion->scope);
    put_text(sink, false, "jti", cof_slice_text(nonce));
    put_number(sink, "iat", assertion->now_s - ASSERTION_LEEWAY_S);
    put_number(sink, "exp", assertion->now_s + ASSERTION_LIFE_S);
    put(sink, "}");
}

typedef void writer(const struct assertion *assertion, const char *text, struct cof_sink *sink);

static cof_code written(const struct assertion *assertion, writer *write, const char *text, struct cof_arena *arena,
                        struct cof_slice *ret_json, struct cof_error *err)
{
    struct cof_sink sink = {.to = NULL};
    write(assertion, text, &sink);
    sink = (struct cof_sink){.to = cof_arena_alloc(arena, sink.used), .room = sink.used};
    if (sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    write(assertion, text, &sink);
    *ret_json = cof_slice_of(sink.to, sink.used);
    return COF_OK;
}

cof_code assertion_sign(const struct assertion *assertion, const char *field, struct cof_arena *arena,
                        struct cof_slice *ret_text, struct cof_error *err)
{
    AUTO(private_key_cleanup) struct private_key *key = NULL;
    char nonce[COF_BASE64URL_SIZE(ASSERTION_NONCE)];
    jws_algorithm algorithm = JWS_RS256;
    struct cof_slice header;
    struct cof_slice claims;
    TRY(private_key_read(assertion->key, PRIVATE_KEY_FOR_TLS, field, arena, &key, err));
    TRY(jws_algorithm_of(key, field, &algorithm, err));
    cof_base64url_encode(cof_slice_of(assertion->nonce, ASSERTION_NONCE), nonce);
    TRY(written(assertion, write_header, jws_algorithm_name(algorithm), arena, &header, err));
    TRY(written(assertion, write_claims, nonce, arena, &claims, err));
    return jws_sign(key, algorithm, header, claims, arena, ret_text, err);
}

cof_code assertion_check_key(struct cof_slice text, const char *field, struct cof_arena *arena,
                             struct cof_error *err)
{
    AUTO(private_key_cleanup) struct private_key *key = NULL;
    jws_algorithm algorithm = JWS_RS256;
    TRY(private_key_read(text, PRIVATE_KEY_FOR_TLS, field, arena, &key, err));
    return jws_algorithm_of(key, field, &algorithm, err);
}
