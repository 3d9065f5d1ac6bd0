#include <string.h>

#include <coffer/mask.h>

#include "client/libcoffer/mask_forms.h"
#include "common/attr.h"
#include "tests/fuzz/fuzz.h"

/*
 * Any bytes as values to mask and as output, cut into any pieces: what comes out must be what a search for each form at
 * each place finds. The first byte is the number of values, and each of those is a byte for its length and its bytes;
 * then comes a byte for the size of the pieces, and the output is what is left.
 */

enum { VALUES_MAX = 4, OUTPUT_MAX = 1 << 16, POOL = 1 << 22 };

struct input {
    struct cof_slice rest;
    coffer_bytes values[VALUES_MAX];
    size_t count;
    size_t piece;
};

struct output {
    uint8_t *data;
    size_t length;
};

static uint8_t take_byte(struct cof_slice *from)
{
    if (from->len == 0) {
        return 0;
    }
    *from = cof_slice_of(from->data + 1, from->len - 1);
    return from->data[-1];
}

static struct cof_slice take_bytes(struct cof_slice *from, size_t length)
{
    const struct cof_slice taken = cof_slice_of(from->data, length < from->len ? length : from->len);
    *from = cof_slice_of(from->data + taken.len, from->len - taken.len);
    return taken;
}

static void read_input(struct input *input)
{
    input->count = take_byte(&input->rest) % (VALUES_MAX + 1);
    for (size_t i = 0; i < input->count; i++) {
        const struct cof_slice value = take_bytes(&input->rest, take_byte(&input->rest));
        input->values[i] = (coffer_bytes){value.data, value.len};
    }
    input->piece = (size_t) take_byte(&input->rest) + 1;
}

static bool collect(const void *data, size_t length, void *context)
{
    struct output *output = context;
    MUST(length > 0 && length <= OUTPUT_MAX - output->length);
    memcpy(output->data + output->length, data, length);
    output->length += length;
    return true;
}

static void feed_pieces(const coffer_masker *masker, const struct input *input, struct output *output)
{
    coffer_mask_stream *stream = NULL;
    struct cof_slice rest = input->rest;
    MUST(coffer_mask_stream_new(masker, collect, output, &stream, NULL) == COFFER_OK);
    while (rest.len > 0) {
        const struct cof_slice piece = take_bytes(&rest, input->piece);
        MUST(coffer_mask_stream_feed(stream, piece.data, piece.len) == COFFER_OK);
    }
    MUST(coffer_mask_stream_flush(stream) == COFFER_OK);
    coffer_mask_stream_free(stream);
}

static void search_plainly(const struct mask_forms *forms, struct cof_slice text, struct output *output)
{
    uint8_t *covered = calloc(text.len + 1, 1);
    MUST(covered != NULL);
    for (size_t i = 0; i < forms->count; i++) {
        const struct cof_slice form = forms->forms[i];
        for (size_t at = 0; at + form.len <= text.len; at++) {
            if (text.data[at] == form.data[0] && memcmp(text.data + at, form.data, form.len) == 0) {
                memset(covered + at, 1, form.len);
            }
        }
    }
    for (size_t at = 0; at < text.len; at++) {
        if (covered[at] == 0) {
            (void) collect(text.data + at, 1, output);
        } else if (at == 0 || covered[at - 1] == 0) {
            (void) collect("***", 3, output);
        }
    }
    free(covered);
}

static void compare(const struct input *input, const struct mask_forms *forms)
{
    coffer_masker *masker = NULL;
    struct output plain = {malloc(OUTPUT_MAX), 0};
    struct output masked = {malloc(OUTPUT_MAX), 0};
    MUST(plain.data != NULL && masked.data != NULL);
    MUST(coffer_masker_new(NULL, input->values, input->count, &masker, NULL) == COFFER_OK);
    feed_pieces(masker, input, &masked);
    search_plainly(forms, input->rest, &plain);
    MUST(plain.length == masked.length && memcmp(plain.data, masked.data, plain.length) == 0);
    coffer_masker_free(masker);
    free(plain.data);
    free(masked.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.rest = {data, size}};
    struct cof_slice values[VALUES_MAX];
    static struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_error err;
    struct mask_forms forms = {0};
    if (size > OUTPUT_MAX / 4) {
        return 0;
    }
    read_input(&input);
    for (size_t i = 0; i < input.count; i++) {
        values[i] = cof_slice_of(input.values[i].data, input.values[i].length);
    }
    MUST(pool != NULL || cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    cof_arena_init(&arena, pool, SIZE_MAX);
    MUST(mask_forms_make(values, input.count, &arena, &forms, &err) == COF_OK);
    MUST(forms.count == 0 || (forms.shortest >= MASK_VALUE_MIN && forms.longest >= forms.shortest));
    compare(&input, &forms);
    cof_arena_reset(&arena);
    return 0;
}
