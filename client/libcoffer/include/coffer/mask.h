#ifndef COFFER_MASK_H
#define COFFER_MASK_H

/*
 * Masks values of secrets in the output of an action, before it reaches a log.
 *
 *     coffer_masker *masker = NULL;
 *     coffer_mask_stream *stream = NULL;
 *
 *     if (coffer_masker_new(result, NULL, 0, &masker, &error) == COFFER_OK &&
 *         coffer_mask_stream_new(masker, write_to_log, log, &stream, &error) == COFFER_OK) {
 *         while ((length = read(pipe, buffer, sizeof buffer)) > 0)
 *             coffer_mask_stream_feed(stream, buffer, length);
 *         coffer_mask_stream_flush(stream);
 *     }
 *     coffer_mask_stream_free(stream);
 *     coffer_masker_free(masker);
 *
 * What is masked: of every value its bytes, its base64 with the standard and the URL-safe alphabet at each of the
 * three places at which it can stand in a longer text, its percent-encoding, its escaped form in a JSON text and its
 * hexadecimal digits of either case; the same of the value without the white space around it; and the same of each
 * line of a value of several lines, without the white space around it, if 8 bytes of it or more are left. Lines that
 * begin with "-----BEGIN " or "-----END " and end with "-----" are no secret.
 *
 * The output is the input, in which each longest run of bytes that belong to such forms is replaced by `***`, however
 * the input was cut into pieces. Where forms overlap or touch, all of their bytes are masked, by one `***`; so a
 * long form is never shown by a short one inside of it.
 *
 * What is not masked: values under 4 bytes, which coffer_masker_unmasked counts; lines under 8 bytes alone; values
 * that a program has changed in another way (reversed, compressed, wrapped at a column, cut off); in base64 of a
 * longer text, up to four bits of the first and of the last byte, whose digits belong to neighbouring bytes, too.
 *
 * Cost. Linear in the input, whatever it holds. A masker has about 16 bytes of memory for each byte of its forms,
 * which are about 15 bytes for each byte of a value of text, up to 85 where most bytes have to be escaped, and as much
 * again for values of several lines; 128 MiB in all. A stream keeps back at most as much as the longest form has, and
 * needs about five times that.
 *
 * Memory. Masker and streams lie in memory that is kept out of core files, is locked where the system's limits
 * allow it, and is wiped when they are freed. A forked child does not have it: there coffer_mask_stream_feed fails.
 */

#include <coffer/coffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The forms of a set of values. It never changes, so any number of threads may use it at once. */
typedef struct coffer_masker coffer_masker;

/*
 * Makes a masker of all values that came with a result, also those of items that failed, and of further values.
 * `result` may be NULL; so may `values` if `count` is 0. Everything is copied: the result may be freed first.
 *
 * Errors: COFFER_RESOURCE_EXHAUSTED with LIMIT_EXCEEDED if the forms have more than 8 MiB together, or with
 * OUT_OF_MEMORY. Then nothing can be masked: do not let the output go.
 */
COFFER_API coffer_status coffer_masker_new(const coffer_result *result, const coffer_bytes *values, size_t count,
                                           coffer_masker **ret_masker, coffer_error **ret_error) COFFER_MUST_USE;

/* Wipes and frees. Its streams must be freed before. NULL is allowed. */
COFFER_API void coffer_masker_free(coffer_masker *masker);

/* How many values cannot be masked because they have less than 4 bytes. */
COFFER_API size_t coffer_masker_unmasked(const coffer_masker *masker);

/* One output that is masked. It belongs to one thread at a time. */
typedef struct coffer_mask_stream coffer_mask_stream;

/*
 * Takes a piece of masked output, which is valid only inside of the call; `length` is never 0. Returns false if it
 * cannot go on. Not allowed inside: calls with the same stream.
 */
typedef bool (*coffer_mask_sink)(const void *data, size_t length, void *context);

/* Makes a stream, whose output goes to `sink`. Errors: OUT_OF_MEMORY. The masker must outlive it. */
COFFER_API coffer_status coffer_mask_stream_new(const coffer_masker *masker, coffer_mask_sink sink, void *context,
                                                coffer_mask_stream **ret_stream,
                                                coffer_error **ret_error) COFFER_MUST_USE;

/*
 * Masks the next piece of the input. What can still be the beginning of a form is kept back.
 *
 * COFFER_CANCELLED: the sink returned false, now or earlier; nothing more goes out. COFFER_FAILED_PRECONDITION: this
 * is a forked child of the process that made the masker; nothing goes out. Allocates nothing.
 */
COFFER_API coffer_status coffer_mask_stream_feed(coffer_mask_stream *stream, const void *data,
                                                 size_t length) COFFER_MUST_USE;

/*
 * Ends the input: what was kept back goes out. Only at the end, for what has come so far of a value goes out as it
 * is. Afterwards the stream can be fed with another input. Fails as coffer_mask_stream_feed.
 */
COFFER_API coffer_status coffer_mask_stream_flush(coffer_mask_stream *stream) COFFER_MUST_USE;

/* Wipes and frees; does not flush. NULL is allowed. */
COFFER_API void coffer_mask_stream_free(coffer_mask_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
