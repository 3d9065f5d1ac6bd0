#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <coffer/mask.h>

#include "common/attr.h"
#include "common/error.h"
#include "common/slice.h"
#include "tests/support/test.h"

/* --- Text that grows ------------------------------------------------------------------------------------------ */

struct text {
    uint8_t *data;
    size_t length;
    size_t room;
};

static void text_done(struct text *text)
{
    free(text->data);
}

static void text_add(struct text *text, const void *data, size_t length)
{
    if (text->length + length > text->room) {
        text->room = 2 * (text->length + length);
        text->data = realloc(text->data, text->room);
        if (text->data == NULL) {
            abort();
        }
    }
    if (length > 0) {
        memcpy(text->data + text->length, data, length);
        text->length += length;
    }
}

static void text_add_text(struct text *text, const char *more)
{
    text_add(text, more, strlen(more));
}

static bool text_is(const struct text *text, const char *expected)
{
    return text->length == strlen(expected) &&
           (text->length == 0 || memcmp(text->data, expected, text->length) == 0);
}

static struct cof_slice slice_of(const struct text *text)
{
    return cof_slice_of(text->data, text->length);
}

/* --- What the masker should do, in the plainest way ----------------------------------------------------------- */

/* All forms of some values, written without a thought for memory or time. */
struct oracle {
    struct text forms[4096];
    size_t count;
};

static void oracle_done(struct oracle **oracle)
{
    for (size_t i = 0; *oracle != NULL && i < (*oracle)->count; i++) {
        text_done(&(*oracle)->forms[i]);
    }
    free(*oracle);
}

static struct text *next_form(struct oracle *oracle)
{
    if (oracle->count == COF_COUNT(oracle->forms)) {
        abort();
    }
    return &oracle->forms[oracle->count++];
}

static void print_number(char *to, size_t size, const char *before, unsigned number, bool upper)
{
    const int digits = (int) (size - 1 - strlen(before));
    (void) (upper ? snprintf(to, size, "%s%0*X", before, digits, number)
                  : snprintf(to, size, "%s%0*x", before, digits, number));
}

static void oracle_hex(struct oracle *oracle, struct cof_slice value, bool upper)
{
    struct text *form = next_form(oracle);
    for (size_t i = 0; i < value.len; i++) {
        char digits[3];
        print_number(digits, sizeof digits, "", value.data[i], upper);
        text_add_text(form, digits);
    }
}

/* base64 of whole bytes, with padding. */
static void encode_base64(const struct text *bytes, bool url, struct text *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes->length; i += 3) {
        uint32_t group = 0;
        char four[5] = "====";
        const size_t left = bytes->length - i < 3 ? bytes->length - i : 3;
        for (size_t k = 0; k < 3; k++) {
            group = group << 8 | (k < left ? bytes->data[i + k] : 0);
        }
        for (size_t k = 0; k <= left; k++) {
            four[k] = digits[group >> (18 - 6 * k) & 63];
            four[k] = (char) (url && four[k] == '+' ? '-' : url && four[k] == '/' ? '_' : four[k]);
        }
        text_add_text(to, four);
    }
}

/* The value between others, in base64. */
static void encode_between(struct cof_slice value, const char *before, const char *after, bool url, struct text *to)
{
    AUTO(text_done) struct text whole = {0};
    text_add_text(&whole, before);
    text_add(&whole, value.data, value.len);
    text_add_text(&whole, after);
    encode_base64(&whole, url, to);
}

/* The digits that stay the same whatever stands around the value. */
static void oracle_base64(struct oracle *oracle, struct cof_slice value, size_t shift, bool url)
{
    static const char *const before[][2] = {{"", ""}, {"\1", "\xfe"}, {"\1\1", "\xfe\xfe"}};
    AUTO(text_done) struct text one = {0};
    AUTO(text_done) struct text other = {0};
    AUTO(text_done) struct text last = {0};
    encode_between(value, before[shift][0], "\1\1\1", url, &one);
    encode_between(value, before[shift][1], "\xfe\xfe\xfe", url, &other);
    encode_between(value, before[shift][0], "", url, &last);
    size_t from = 0;
    while (one.data[from] != other.data[from]) {
        from++;
    }
    size_t to = from;
    while (one.data[to] == other.data[to]) {
        to++;
    }
    const size_t padding = (shift + value.len) % 3 == 0 ? 0 : 3 - (shift + value.len) % 3;
    text_add(next_form(oracle), one.data + from, to - from);
    text_add(next_form(oracle), last.data + from, last.length - padding - from);
    text_add(next_form(oracle), last.data + from, last.length - from);
}

static void oracle_percent(struct oracle *oracle, struct cof_slice value, const char *kept, bool plus, bool upper)
{
    struct text *form = next_form(oracle);
    for (size_t i = 0; i < value.len; i++) {
        const char byte = (char) value.data[i];
        char escaped[4] = {byte};
        if (plus && byte == ' ') {
            escaped[0] = '+';
        } else if (byte == '\0' || strchr(kept, byte) == NULL) {
            print_number(escaped, sizeof escaped, "%", value.data[i], upper);
        }
        text_add(form, escaped, strlen(escaped));
    }
}

/* The second byte of an escape that has two; NUL if there is none. */
static char json_letter(char byte, bool slash)
{
    switch (byte) {
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '/':
        return slash ? '/' : '\0';
    case '"':
    case '\\':
        return byte;
    default:
        return '\0';
    }
}

/* For values in ASCII; other characters have a test of their own. */
static void oracle_json(struct oracle *oracle, struct cof_slice value, const char *numbered, bool slash, bool upper)
{
    struct text *form = next_form(oracle);
    for (size_t i = 0; i < value.len; i++) {
        const char byte = (char) value.data[i];
        const bool listed = byte != '\0' && strchr(numbered, byte) != NULL;
        const char letter = listed ? '\0' : json_letter(byte, slash);
        char escaped[8] = {byte};
        if (letter != '\0') {
            (void) snprintf(escaped, sizeof escaped, "\\%c", letter);
        } else if (listed || value.data[i] < ' ') {
            print_number(escaped, 7, "\\u", (unsigned) byte, upper);
        }
        text_add_text(form, escaped);
    }
}

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static void oracle_forms(struct oracle *oracle, struct cof_slice value)
{
    text_add(next_form(oracle), value.data, value.len);
    oracle_hex(oracle, value, false);
    oracle_hex(oracle, value, true);
    for (size_t shift = 0; shift < 3; shift++) {
        oracle_base64(oracle, value, shift, false);
        oracle_base64(oracle, value, shift, true);
    }
    for (int upper = 0; upper < 2; upper++) {
        oracle_percent(oracle, value, LETTERS "-._~", false, upper != 0);
        oracle_percent(oracle, value, LETTERS "-._~/", false, upper != 0);
        oracle_percent(oracle, value, LETTERS "-._~!*'()", false, upper != 0);
        oracle_percent(oracle, value, LETTERS "-._~!*'();,/?:@&=+$#", false, upper != 0);
        oracle_percent(oracle, value, LETTERS "-._~", true, upper != 0);
        oracle_percent(oracle, value, LETTERS "-._*", true, upper != 0);
    }
    oracle_json(oracle, value, "", false, false);
    oracle_json(oracle, value, "", true, false);
    oracle_json(oracle, value, "<>&", false, false);
    oracle_json(oracle, value, "\"<>&'+`\x7f", false, true);
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static struct cof_slice stripped(struct cof_slice text)
{
    size_t from = 0;
    size_t to = text.len;
    while (from < to && is_space(text.data[from])) {
        from++;
    }
    while (to > from && is_space(text.data[to - 1])) {
        to--;
    }
    return cof_slice_of(text.data + from, to - from);
}

static void oracle_value(struct oracle *oracle, struct cof_slice value)
{
    const struct cof_slice inner = stripped(value);
    size_t from = 0;
    if (value.len < 4) {
        return;
    }
    oracle_forms(oracle, value);
    if (inner.len >= 4) {
        oracle_forms(oracle, inner);
    }
    for (size_t to = 0; to <= inner.len; to++) {
        if (to == inner.len || inner.data[to] == '\n') {
            const struct cof_slice line = stripped(cof_slice_of(inner.data + from, to - from));
            if (line.len >= 8 && line.len < inner.len) {
                oracle_forms(oracle, line);
            }
            from = to + 1;
        }
    }
}

static void oracle_mask(const struct oracle *oracle, const struct text *input, struct text *output)
{
    bool *covered = calloc(input->length + 1, sizeof *covered);
    for (size_t i = 0; i < oracle->count; i++) {
        const struct text *form = &oracle->forms[i];
        for (size_t at = 0; at + form->length <= input->length; at++) {
            if (memcmp(input->data + at, form->data, form->length) == 0) {
                memset(covered + at, true, form->length);
            }
        }
    }
    for (size_t at = 0; at < input->length; at++) {
        if (!covered[at]) {
            text_add(output, input->data + at, 1);
        } else if (at == 0 || !covered[at - 1]) {
            text_add_text(output, "***");
        }
    }
    free(covered);
}

/* --- The masker under test ------------------------------------------------------------------------------------ */

static void masker_done(coffer_masker **masker)
{
    coffer_masker_free(*masker);
}

static void stream_done(coffer_mask_stream **stream)
{
    coffer_mask_stream_free(*stream);
}

static bool collect(const void *data, size_t length, void *context)
{
    text_add(context, data, length);
    return length > 0;
}

static coffer_masker *masker_of(const struct cof_slice *values, size_t count)
{
    coffer_masker *masker = NULL;
    coffer_error *error = NULL;
    coffer_bytes *bytes = calloc(count + 1, sizeof *bytes);
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (coffer_bytes){values[i].data, values[i].len};
    }
    if (coffer_masker_new(NULL, bytes, count, &masker, &error) != COFFER_OK) {
        fprintf(stderr, "%s\n", coffer_error_message(error));
        abort();
    }
    free(bytes);
    return masker;
}

/* Masks the input in pieces of at most `most` bytes, sizes random; 0: all at once. */
static bool mask_in_pieces(const coffer_masker *masker, struct cof_slice input, size_t most, uint64_t *random,
                           struct text *output)
{
    AUTO(stream_done) coffer_mask_stream *stream = NULL;
    size_t at = 0;
    if (coffer_mask_stream_new(masker, collect, output, &stream, NULL) != COFFER_OK) {
        return false;
    }
    while (at < input.len) {
        const size_t left = input.len - at;
        const size_t drawn = most == 0 ? left : (size_t) (test_random(random) % (most + 1));
        const size_t length = drawn < left ? drawn : left;
        /* Memory of exactly that size, freed at once: nothing may be read beyond it or later. */
        uint8_t *piece = malloc(length + (length == 0));
        if (piece == NULL) {
            return false;
        }
        memcpy(piece, input.data + at, length);
        const coffer_status status = coffer_mask_stream_feed(stream, piece, length);
        free(piece);
        if (status != COFFER_OK) {
            return false;
        }
        at += length;
    }
    return coffer_mask_stream_flush(stream) == COFFER_OK;
}

/* What becomes of the input with one value, whole and byte by byte. */
static bool masks_to(const char *value, const char *input, const char *expected)
{
    const struct cof_slice values[] = {cof_slice_text(value)};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 1);
    AUTO(text_done) struct text whole = {0};
    AUTO(text_done) struct text bytes = {0};
    uint64_t random = 1;
    const bool done = mask_in_pieces(masker, cof_slice_text(input), 0, &random, &whole) &&
                      mask_in_pieces(masker, cof_slice_text(input), 1, &random, &bytes);
    const bool right = done && text_is(&whole, expected) && text_is(&bytes, expected);
    if (!right) {
        fprintf(stderr, "\"%s\" became \"%.*s\"\n", input, (int) whole.length, (const char *) whole.data);
    }
    return right;
}

/* --- Forms ---------------------------------------------------------------------------------------------------- */

static void value_is_masked_wherever_it_stands(void)
{
    CHECK(masks_to("hunter22", "hunter22", "***"));
    CHECK(masks_to("hunter22", "password=hunter22;", "password=***;"));
    CHECK(masks_to("hunter22", "hunter2", "hunter2"));
    CHECK(masks_to("hunter22", "hunterhunter22 hunter22x", "hunter*** ***x"));
    CHECK(masks_to("hunter22", "Hunter22", "Hunter22"));
    CHECK(masks_to("hunter22", "", ""));
}

static void base64_is_masked_at_each_alignment_in_both_alphabets(void)
{
    /* printf '%s' 'pass~word?' and with one and two bytes before it, and behind it. */
    CHECK(masks_to("pass~word?", "cGFzc353b3JkPw==", "***"));
    CHECK(masks_to("pass~word?", "cGFzc353b3JkPw", "***"));
    CHECK(masks_to("pass~word?", "eHBhc3N+d29yZD8=", "eH***"));
    CHECK(masks_to("pass~word?", "eHBhc3N-d29yZD8", "eH***"));
    CHECK(masks_to("pass~word?", "dTpwYXNzfndvcmQ/", "dTp***"));
    CHECK(masks_to("pass~word?", "dTpwYXNzfndvcmQ_", "dTp***"));
    CHECK(masks_to("pass~word?", "cGFzc353b3JkP3g=", "***3g="));
    CHECK(masks_to("pass~word?", "dTpwYXNzfndvcmQ/eA==", "dTp***eA=="));
}

static void percent_encoding_is_masked_as_each_encoder_writes_it(void)
{
    CHECK(masks_to("a b/c~d+e", "a%20b%2Fc~d%2Be", "***"));
    CHECK(masks_to("a b/c~d+e", "a%20b%2fc~d%2be", "***"));
    CHECK(masks_to("a b/c~d+e", "a%20b/c~d%2Be", "***"));
    CHECK(masks_to("a b/c~d+e", "a+b%2Fc~d%2Be", "***"));
    CHECK(masks_to("a b/c~d+e", "a+b%2Fc%7Ed%2Be", "***"));
    CHECK(masks_to("a b/c~d+e", "a%20b/c~d+e", "***"));
    CHECK(masks_to("it's(fine)!", "it's(fine)!", "***"));
    CHECK(masks_to("it's(fine)!", "it%27s%28fine%29%21", "***"));
    CHECK(masks_to("gr\xc3\xbc\xc3\x9f", "gr%C3%BC%C3%9F", "***"));
}

static void json_escapes_are_masked_as_each_writer_writes_them(void)
{
    CHECK(masks_to("say \"hi\"\n\\o/", "say \\\"hi\\\"\\n\\\\o/", "***"));
    CHECK(masks_to("say \"hi\"\n\\o/", "say \\\"hi\\\"\\n\\\\o\\/", "***"));
    CHECK(masks_to("<a&b>\x01\x1f", "\\u003ca\\u0026b\\u003e\\u0001\\u001f", "***"));
    CHECK(masks_to("<a&b>\"'+`", "\\u003Ca\\u0026b\\u003E\\u0022\\u0027\\u002B\\u0060", "***"));
    CHECK(masks_to("gr\xc3\xbc\xc3\x9f", "gr\\u00fc\\u00df", "***"));
    CHECK(masks_to("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "***"));
    CHECK(masks_to("key\xf0\x9f\x94\x91\xe2\x82\xac", "key\\ud83d\\udd11\\u20ac", "***"));
    CHECK(masks_to("bad\xc3(\xff\xed\xa0\x80\"", "bad\xc3(\xff\xed\xa0\x80\\\"", "***"));
}

static void hex_is_masked_in_both_cases(void)
{
    CHECK(masks_to("Lemon\xff", "4c656d6f6eff", "***"));
    CHECK(masks_to("Lemon\xff", "x4C656D6F6EFFx", "x***x"));
    CHECK(masks_to("Lemon\xff", "4c656D6f6eff", "4c656D6f6eff"));
}

static void each_line_of_a_long_value_is_masked_by_itself(void)
{
    static const char key[] = "-----BEGIN A KEY-----\n  line one is long\r\nshort\nline2two\n-----END A KEY-----\n";
    CHECK(masks_to(key, key, "***"));
    CHECK(masks_to(key, "> line one is long <", "> *** <"));
    CHECK(masks_to(key, "line2two", "***"));
    CHECK(masks_to(key, "a short line2tw0", "a short line2tw0"));
    CHECK(masks_to(key, "-----BEGIN A KEY-----", "-----BEGIN A KEY-----"));
    CHECK(masks_to(key, "bGluZTJ0d28=", "***"));
}

static void white_space_around_a_value_hides_it_from_nothing(void)
{
    CHECK(masks_to(" pin1\n", "the pin1.", "the ***."));
    CHECK(masks_to("pin1\n", "pin1\npin1", "***"));
    CHECK(masks_to("a \n\n", "a \n\n a", "*** a"));
}

static void values_under_four_bytes_are_counted_not_masked(void)
{
    const struct cof_slice values[] = {cof_slice_text("abc"), cof_slice_text(""), cof_slice_text("abcd")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 3);
    AUTO(text_done) struct text output = {0};
    CHECK_INT(coffer_masker_unmasked(masker), 2);
    CHECK(mask_in_pieces(masker, cof_slice_text("abc YWJj abcd"), 0, NULL, &output));
    CHECK(text_is(&output, "abc YWJj ***"));
}

static void masker_without_values_changes_nothing(void)
{
    AUTO(masker_done) coffer_masker *masker = masker_of(NULL, 0);
    AUTO(text_done) struct text output = {0};
    uint64_t random = 7;
    CHECK_INT(coffer_masker_unmasked(masker), 0);
    CHECK(mask_in_pieces(masker, cof_slice_text("nothing to hide, nothing to mask"), 3, &random, &output));
    CHECK(text_is(&output, "nothing to hide, nothing to mask"));
}

/* --- Overlaps ------------------------------------------------------------------------------------------------- */

static void long_form_is_not_shown_by_a_short_one_inside_of_it(void)
{
    const struct cof_slice values[] = {cof_slice_text("word"), cof_slice_text("passwords"),
                                       cof_slice_text("sword")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 3);
    AUTO(text_done) struct text output = {0};
    CHECK(mask_in_pieces(masker, cof_slice_text("passwords password passwor sword"), 0, NULL, &output));
    CHECK(text_is(&output, "*** pas*** passwor ***"));
}

static void forms_that_overlap_or_touch_are_masked_together(void)
{
    const struct cof_slice values[] = {cof_slice_text("abcd"), cof_slice_text("cdefgh"), cof_slice_text("1234")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 3);
    AUTO(text_done) struct text output = {0};
    CHECK(mask_in_pieces(masker, cof_slice_text("-abcdefgh-abcdabcd1234-abcdef-abcd12345"), 0, NULL, &output));
    CHECK(text_is(&output, "-***-***-***ef-***5"));
}

/* --- Streams -------------------------------------------------------------------------------------------------- */

enum { VALUES_MAX = 5, VALUE_LENGTH_MAX = 24, RANDOM_ROUNDS = 150 };

/* Bytes that make many coincidences, and all that is escaped somewhere. */
static void random_value(uint64_t *random, struct text *value)
{
    static const char few[] = "aab";
    static const char many[] = "abAZ09 \n\r\t\"\\/<>&'+`~!*()%;,?:@=$#-._";
    const char *set = test_random(random) % 2 == 0 ? few : many;
    const size_t length = test_random(random) % VALUE_LENGTH_MAX;
    value->length = 0;
    for (size_t i = 0; i < length; i++) {
        text_add(value, set + test_random(random) % strlen(set), 1);
    }
}

/* Forms, parts of forms and other bytes, one behind the other. */
static void random_input(uint64_t *random, const struct oracle *oracle, struct text *input)
{
    for (size_t left = test_random(random) % 40; left > 0; left--) {
        AUTO(text_done) struct text other = {0};
        const struct text *form = oracle->count == 0 ? &other : &oracle->forms[test_random(random) % oracle->count];
        const size_t from =
            form->length == 0 || test_random(random) % 2 == 0 ? 0 : test_random(random) % form->length;
        const size_t rest = form->length - from;
        const size_t length = rest == 0 || test_random(random) % 2 == 0 ? rest : test_random(random) % rest;
        if (test_random(random) % 4 == 0) {
            random_value(random, &other);
            text_add(input, other.data, other.length);
        } else if (length > 0) {
            text_add(input, form->data + from, length);
        }
    }
}

static void check_round(uint64_t *random)
{
    AUTO(oracle_done) struct oracle *oracle = calloc(1, sizeof *oracle);
    struct text texts[VALUES_MAX] = {{0}};
    struct cof_slice values[VALUES_MAX];
    const size_t count = test_random(random) % (VALUES_MAX + 1);
    CHECK(oracle != NULL);
    for (size_t i = 0; i < count; i++) {
        random_value(random, &texts[i]);
        values[i] = slice_of(&texts[i]);
        oracle_value(oracle, values[i]);
    }
    AUTO(masker_done) coffer_masker *masker = masker_of(values, count);
    for (size_t i = 0; i < count; i++) {
        text_done(&texts[i]);
    }
    for (size_t most = 0; most <= 32; most = 2 * most + 1) {
        AUTO(text_done) struct text input = {0};
        AUTO(text_done) struct text expected = {0};
        AUTO(text_done) struct text output = {0};
        random_input(random, oracle, &input);
        oracle_mask(oracle, &input, &expected);
        CHECK(mask_in_pieces(masker, slice_of(&input), most, random, &output));
        CHECK_INT(output.length, expected.length);
        CHECK(output.length == 0 || memcmp(output.data, expected.data, output.length) == 0);
    }
}

static void output_is_that_of_a_plain_search_however_the_input_is_cut(void)
{
    uint64_t random = test_seed();
    const int before = test_failures;
    for (int i = 0; i < RANDOM_ROUNDS && test_failures == before; i++) {
        check_round(&random);
    }
}

static void only_what_can_still_become_a_form_is_kept_back(void)
{
    const struct cof_slice values[] = {cof_slice_text("tomorrow")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 1);
    AUTO(stream_done) coffer_mask_stream *stream = NULL;
    AUTO(text_done) struct text output = {0};
    CHECK_INT(coffer_mask_stream_new(masker, collect, &output, &stream, NULL), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(stream, "see you\n", 8), COFFER_OK);
    CHECK(text_is(&output, "see you\n"));
    CHECK_INT(coffer_mask_stream_feed(stream, "is it tomo", 10), COFFER_OK);
    CHECK(text_is(&output, "see you\nis it "));
    CHECK_INT(coffer_mask_stream_feed(stream, "rrow", 4), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(stream, "?to", 3), COFFER_OK);
    CHECK(text_is(&output, "see you\nis it ***?"));
    CHECK_INT(coffer_mask_stream_flush(stream), COFFER_OK);
    CHECK(text_is(&output, "see you\nis it ***?to"));
    /* The next input begins anew. */
    CHECK_INT(coffer_mask_stream_feed(stream, "morrow tomorrow", 15), COFFER_OK);
    CHECK_INT(coffer_mask_stream_flush(stream), COFFER_OK);
    CHECK(text_is(&output, "see you\nis it ***?tomorrow ***"));
}

static void two_streams_of_one_masker_know_nothing_of_each_other(void)
{
    const struct cof_slice values[] = {cof_slice_text("tomorrow")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 1);
    AUTO(stream_done) coffer_mask_stream *one = NULL;
    AUTO(stream_done) coffer_mask_stream *other = NULL;
    AUTO(text_done) struct text first = {0};
    AUTO(text_done) struct text second = {0};
    CHECK_INT(coffer_mask_stream_new(masker, collect, &first, &one, NULL), COFFER_OK);
    CHECK_INT(coffer_mask_stream_new(masker, collect, &second, &other, NULL), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(one, "tomo", 4), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(other, "rrow", 4), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(one, "rrow", 4), COFFER_OK);
    CHECK_INT(coffer_mask_stream_flush(one), COFFER_OK);
    CHECK_INT(coffer_mask_stream_flush(other), COFFER_OK);
    CHECK(text_is(&first, "***") && text_is(&second, "rrow"));
}

/*
 * A search that looks again and again at what it has seen would not end within the test's time: each byte of the
 * input is in the middle of forms as long as values can be.
 */
static void worst_input_costs_no_more_than_any(void)
{
    enum { LONG = 1 << 15, INPUT = 1 << 18 };
    uint8_t *same = malloc(INPUT);
    AUTO(text_done) struct text output = {0};
    uint64_t random = 3;
    CHECK(same != NULL);
    memset(same, 'a', INPUT);
    const struct cof_slice values[] = {cof_slice_of(same, LONG), cof_slice_text("aaaa"),
                                       cof_slice_text("aaaaaaab")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 3);
    CHECK(mask_in_pieces(masker, cof_slice_of(same, INPUT), 1, &random, &output));
    CHECK(text_is(&output, "***"));
    free(same);
}

static bool refuse_second(const void *data, size_t length, void *context)
{
    (void) data;
    (void) length;
    return ++*(int *) context < 2;
}

static void sink_that_refuses_gets_no_more(void)
{
    const struct cof_slice values[] = {cof_slice_text("tomorrow")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 1);
    AUTO(stream_done) coffer_mask_stream *stream = NULL;
    int calls = 0;
    CHECK_INT(coffer_mask_stream_new(masker, refuse_second, &calls, &stream, NULL), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(stream, "a", 1), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(stream, "b tomorrow c tomorrow d", 23), COFFER_CANCELLED);
    CHECK_INT(calls, 2);
    CHECK_INT(coffer_mask_stream_feed(stream, "e", 1), COFFER_CANCELLED);
    CHECK_INT(coffer_mask_stream_flush(stream), COFFER_CANCELLED);
    CHECK_INT(calls, 2);
}

static void too_many_forms_are_refused_not_left_out(void)
{
    enum { HUGE_VALUE = 200 << 10 };
    uint8_t *data = malloc(HUGE_VALUE);
    uint64_t random = 11;
    coffer_masker *masker = NULL;
    coffer_error *error = NULL;
    CHECK(data != NULL);
    for (size_t i = 0; i < HUGE_VALUE; i++) {
        data[i] = (uint8_t) test_random(&random);
    }
    const coffer_bytes value = {data, HUGE_VALUE};
    CHECK_INT(coffer_masker_new(NULL, &value, 1, &masker, &error), COFFER_RESOURCE_EXHAUSTED);
    CHECK(masker == NULL);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_LIMIT_EXCEEDED);
    CHECK_CONTAINS(coffer_error_message(error), "do not let the output go");
    coffer_error_free(error);
    free(data);
}

/* In a child the forms are wiped; what it is given must not go out as it is. */
static void forked_child_lets_nothing_go(void)
{
    const struct cof_slice values[] = {cof_slice_text("tomorrow")};
    AUTO(masker_done) coffer_masker *masker = masker_of(values, 1);
    AUTO(stream_done) coffer_mask_stream *stream = NULL;
    AUTO(text_done) struct text output = {0};
    CHECK_INT(coffer_mask_stream_new(masker, collect, &output, &stream, NULL), COFFER_OK);
    const pid_t child = fork();
    if (child == 0) {
        const coffer_status status = coffer_mask_stream_feed(stream, "tomorrow", 8);
        const coffer_status end = coffer_mask_stream_flush(stream);
        _exit(status == COFFER_FAILED_PRECONDITION && end == COFFER_FAILED_PRECONDITION && output.length == 0 ? 0
                                                                                                              : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(coffer_mask_stream_feed(stream, "tomorrow", 8), COFFER_OK);
    CHECK_INT(coffer_mask_stream_flush(stream), COFFER_OK);
    CHECK(text_is(&output, "***"));
}

TEST_MAIN(TEST(value_is_masked_wherever_it_stands), TEST(base64_is_masked_at_each_alignment_in_both_alphabets),
          TEST(percent_encoding_is_masked_as_each_encoder_writes_it),
          TEST(json_escapes_are_masked_as_each_writer_writes_them), TEST(hex_is_masked_in_both_cases),
          TEST(each_line_of_a_long_value_is_masked_by_itself),
          TEST(white_space_around_a_value_hides_it_from_nothing),
          TEST(values_under_four_bytes_are_counted_not_masked), TEST(masker_without_values_changes_nothing),
          TEST(long_form_is_not_shown_by_a_short_one_inside_of_it),
          TEST(forms_that_overlap_or_touch_are_masked_together),
          TEST(output_is_that_of_a_plain_search_however_the_input_is_cut),
          TEST(only_what_can_still_become_a_form_is_kept_back),
          TEST(two_streams_of_one_masker_know_nothing_of_each_other), TEST(worst_input_costs_no_more_than_any),
          TEST(sink_that_refuses_gets_no_more), TEST(too_many_forms_are_refused_not_left_out),
          TEST(forked_child_lets_nothing_go))
