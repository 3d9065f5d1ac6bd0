#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/mask.h>

#include "client/libcoffer/failure.h"
#include "client/libcoffer/mask_automaton.h"

enum {
    ALIVE = 0x6d61736b,   /* stands in memory that a forked child finds wiped */
    ROOM_FOR_HEADERS = 7, /* chunks beyond what the pieces of an arena add up to */
};

static const char mask_text[] = "***";

struct coffer_masker {
    struct cof_pool *pool;
    struct cof_arena arena;
    const uint32_t *alive;
    struct automaton automaton;
    size_t longest; /* form */
    size_t unmasked;
};

/* Bytes of the input by their place in it, the last not among them. */
struct span {
    uint64_t from;
    uint64_t to;
};

struct coffer_mask_stream {
    const coffer_masker *masker;
    coffer_mask_sink sink;
    void *context;
    struct cof_pool *pool;
    struct cof_arena arena;
    uint32_t node;
    bool stopped;     /* the sink wants no more */
    bool after_mask;  /* the last byte that went out was masked */
    uint64_t settled; /* what stands before went out */
    uint64_t begin;   /* place of the piece that is being fed; what was kept back stands before */
    uint8_t *kept;    /* a ring, by place */
    size_t kept_room;
    struct span *spans; /* a ring: what is to be masked of that which did not go out, disjoint, not touching */
    size_t span_room;
    size_t span_first;
    size_t span_count;
};

/* --- Masker --------------------------------------------------------------------------------------------------- */

/* Memory for so many bytes in a few pieces. */
static cof_code reserve(size_t bytes, struct cof_pool **ret_pool, struct cof_arena *arena, struct cof_error *err)
{
    TRY(cof_pool_new(bytes + (size_t) ROOM_FOR_HEADERS * COF_ARENA_CHUNK, COF_LOCK_BEST_EFFORT, ret_pool, err));
    cof_arena_init(arena, *ret_pool, SIZE_MAX);
    return COF_OK;
}

static void release(struct cof_pool *pool, struct cof_arena *arena)
{
    if (pool != NULL) {
        cof_arena_reset(arena);
        cof_pool_free(pool);
    }
}

/* What is needed while a masker is made. */
struct making {
    struct cof_slice *values;
    size_t count;
    struct cof_pool *pool;
    struct cof_arena arena;
};

static void making_done(struct making *making)
{
    free(making->values);
    release(making->pool, &making->arena);
}

static void masker_free_cleanup(coffer_masker **masker)
{
    coffer_masker_free(*masker);
}

static cof_code gather(struct making *making, const coffer_result *result, const coffer_bytes *values, size_t count,
                       struct cof_error *err)
{
    const size_t masks = result == NULL ? 0 : coffer_result_mask_count(result);
    making->values = calloc(masks + count + 1, sizeof *making->values);
    if (making->values == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < masks; i++) {
        const coffer_bytes mask = coffer_result_mask(result, i);
        making->values[making->count++] = cof_slice_of(mask.data, mask.length);
    }
    for (size_t i = 0; i < count; i++) {
        making->values[making->count++] = cof_slice_of(values[i].data, values[i].length);
    }
    return COF_OK;
}

static cof_code make_forms(struct making *making, struct mask_forms *ret_forms, struct cof_error *err)
{
    TRY(reserve(mask_forms_room(making->values, making->count), &making->pool, &making->arena, err));
    TRY(mask_forms_make(making->values, making->count, &making->arena, ret_forms, err));
    if (!automaton_fits(ret_forms)) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED,
                        "the forms of the values to mask have %zu bytes, at most %d are allowed; do not let the "
                        "output go, or resolve fewer values at once",
                        ret_forms->bytes, AUTOMATON_NODES_MAX);
    }
    return COF_OK;
}

static cof_code fill(coffer_masker *masker, const struct mask_forms *forms, struct cof_error *err)
{
    TRY(reserve(automaton_room(forms), &masker->pool, &masker->arena, err));
    uint32_t *alive = cof_arena_alloc(&masker->arena, sizeof *alive);
    if (alive == NULL) {
        return cof_arena_exhausted(err);
    }
    *alive = ALIVE;
    masker->alive = alive;
    masker->longest = forms->longest;
    return automaton_make(forms, &masker->arena, &masker->automaton, err);
}

static size_t too_short(const coffer_bytes *values, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        found += values[i].length < MASK_VALUE_MIN;
    }
    return found;
}

static cof_code masker_new(const coffer_result *result, const coffer_bytes *values, size_t count,
                           coffer_masker **ret_masker, struct cof_error *err)
{
    AUTO(making_done) struct making making = {0};
    AUTO(masker_free_cleanup) coffer_masker *masker = calloc(1, sizeof *masker);
    struct mask_forms forms = {0};
    if (masker == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(gather(&making, result, values, count, err));
    TRY(make_forms(&making, &forms, err));
    TRY(fill(masker, &forms, err));
    masker->unmasked = (result == NULL ? 0 : coffer_result_unmasked(result)) + too_short(values, count);
    *ret_masker = TAKE(masker);
    return COF_OK;
}

coffer_status coffer_masker_new(const coffer_result *result, const coffer_bytes *values, size_t count,
                                coffer_masker **ret_masker, coffer_error **ret_error)
{
    struct cof_error err;
    cof_error_clear(&err);
    cof_ignore(masker_new(result, values, count, ret_masker, &err));
    return failure_tell(&err, NULL, ret_error);
}

void coffer_masker_free(coffer_masker *masker)
{
    if (masker != NULL) {
        release(masker->pool, &masker->arena);
        free(masker);
    }
}

size_t coffer_masker_unmasked(const coffer_masker *masker)
{
    return masker->unmasked;
}

/* --- Output --------------------------------------------------------------------------------------------------- */

static void send(coffer_mask_stream *stream, const void *data, size_t length)
{
    if (!stream->stopped && length > 0) {
        stream->stopped = !stream->sink(data, length, stream->context);
    }
}

/* Bytes that are no part of a form, up to `to`: what was kept back of them, then those of this piece. */
static void send_plain(coffer_mask_stream *stream, struct cof_slice piece, uint64_t to)
{
    const uint64_t kept_to = to < stream->begin ? to : stream->begin;
    stream->after_mask = false;
    while (stream->settled < kept_to) {
        const size_t at = (size_t) (stream->settled % stream->kept_room);
        const size_t room = stream->kept_room - at;
        const size_t left = (size_t) (kept_to - stream->settled);
        const size_t length = left < room ? left : room;
        send(stream, stream->kept + at, length);
        stream->settled += length;
    }
    if (stream->settled < to) {
        send(stream, piece.data + (stream->settled - stream->begin), (size_t) (to - stream->settled));
        stream->settled = to;
    }
}

static struct span *span_at(coffer_mask_stream *stream, size_t i)
{
    return &stream->spans[(stream->span_first + i) % stream->span_room];
}

/* Lets everything before `to` go, which no further byte can make a part of a form. */
static void settle(coffer_mask_stream *stream, struct cof_slice piece, uint64_t to)
{
    while (stream->settled < to) {
        const struct span *span = stream->span_count == 0 ? NULL : span_at(stream, 0);
        if (span == NULL || span->from > stream->settled) {
            send_plain(stream, piece, span == NULL || span->from > to ? to : span->from);
            continue;
        }
        if (!stream->after_mask) {
            send(stream, mask_text, sizeof mask_text - 1);
        }
        stream->after_mask = true;
        stream->settled = span->to < to ? span->to : to;
        if (stream->settled == span->to) {
            stream->span_first = (stream->span_first + 1) % stream->span_room;
            stream->span_count--;
        }
    }
}

/* A form was found; it takes in what it overlaps or touches. */
static void cover(coffer_mask_stream *stream, uint64_t from, uint64_t to)
{
    while (stream->span_count > 0 && span_at(stream, stream->span_count - 1)->to >= from) {
        const struct span *last = span_at(stream, stream->span_count - 1);
        from = last->from < from ? last->from : from;
        stream->span_count--;
    }
    assert(stream->span_count < stream->span_room);
    *span_at(stream, stream->span_count++) = (struct span){from, to};
}

/* --- Input ---------------------------------------------------------------------------------------------------- */

static void search(coffer_mask_stream *stream, struct cof_slice piece)
{
    const struct automaton *automaton = &stream->masker->automaton;
    uint32_t node = stream->node;
    size_t at = 0;
    while (at < piece.len && !stream->stopped) {
        at = node == 0 ? automaton_skip(automaton, piece, at) : at;
        if (at == piece.len) {
            break;
        }
        node = automaton_step(automaton, node, piece.data[at++]);
        const struct automaton_node *found = &automaton->nodes[node];
        if (found->longest > 0) {
            cover(stream, stream->begin + at - found->longest, stream->begin + at);
        }
        if (stream->span_count > 0 && span_at(stream, 0)->to <= stream->begin + at - found->depth) {
            settle(stream, piece, stream->begin + at - found->depth);
        }
    }
    stream->node = node;
}

/* Keeps back what did not go out of this piece, at most as much as the longest form has. */
static void keep(coffer_mask_stream *stream, struct cof_slice piece)
{
    const uint64_t end = stream->begin + piece.len;
    uint64_t place = stream->settled > stream->begin ? stream->settled : stream->begin;
    assert(end - stream->settled <= stream->kept_room);
    while (place < end) {
        const size_t at = (size_t) (place % stream->kept_room);
        const size_t room = stream->kept_room - at;
        const size_t left = (size_t) (end - place);
        const size_t length = left < room ? left : room;
        memcpy(stream->kept + at, piece.data + (place - stream->begin), length);
        place += length;
    }
    stream->begin = end;
}

/* COFFER_OK if the stream can go on. */
static coffer_status state(const coffer_mask_stream *stream)
{
    if (*stream->masker->alive != ALIVE) {
        return COFFER_FAILED_PRECONDITION;
    }
    return stream->stopped ? COFFER_CANCELLED : COFFER_OK;
}

coffer_status coffer_mask_stream_feed(coffer_mask_stream *stream, const void *data, size_t length)
{
    const struct cof_slice piece = cof_slice_of(data, length);
    if (state(stream) != COFFER_OK) {
        return state(stream);
    }
    search(stream, piece);
    if (!stream->stopped) {
        settle(stream, piece, stream->begin + length - stream->masker->automaton.nodes[stream->node].depth);
        keep(stream, piece);
    }
    return state(stream);
}

coffer_status coffer_mask_stream_flush(coffer_mask_stream *stream)
{
    if (state(stream) != COFFER_OK) {
        return state(stream);
    }
    settle(stream, cof_slice_of(NULL, 0), stream->begin);
    stream->node = 0;
    stream->after_mask = false;
    return state(stream);
}

/* --- Stream --------------------------------------------------------------------------------------------------- */

static void stream_free_cleanup(coffer_mask_stream **stream)
{
    coffer_mask_stream_free(*stream);
}

static cof_code make_rings(coffer_mask_stream *stream, struct cof_error *err)
{
    stream->kept_room = stream->masker->longest + 1;
    /* Spans have at least so many bytes, do not touch, and all but one end in what is kept back. */
    stream->span_room = stream->masker->longest / (MASK_VALUE_MIN + 1) + 2;
    TRY(reserve(stream->kept_room + stream->span_room * sizeof *stream->spans, &stream->pool, &stream->arena, err));
    stream->kept = cof_arena_alloc(&stream->arena, stream->kept_room);
    stream->spans = cof_arena_array(&stream->arena, stream->span_room, sizeof *stream->spans);
    return stream->kept == NULL || stream->spans == NULL ? cof_arena_exhausted(err) : COF_OK;
}

static cof_code stream_new(const coffer_masker *masker, coffer_mask_sink sink, void *context,
                           coffer_mask_stream **ret_stream, struct cof_error *err)
{
    AUTO(stream_free_cleanup) coffer_mask_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return cof_arena_exhausted(err);
    }
    stream->masker = masker;
    stream->sink = sink;
    stream->context = context;
    TRY(make_rings(stream, err));
    *ret_stream = TAKE(stream);
    return COF_OK;
}

coffer_status coffer_mask_stream_new(const coffer_masker *masker, coffer_mask_sink sink, void *context,
                                     coffer_mask_stream **ret_stream, coffer_error **ret_error)
{
    struct cof_error err;
    cof_error_clear(&err);
    cof_ignore(stream_new(masker, sink, context, ret_stream, &err));
    return failure_tell(&err, NULL, ret_error);
}

void coffer_mask_stream_free(coffer_mask_stream *stream)
{
    if (stream != NULL) {
        release(stream->pool, &stream->arena);
        free(stream);
    }
}
