#pragma once

#include <stddef.h>
#include <stdio.h>

/*
 * Text as a terminal shows it. A column is what one Latin letter takes: letters of East Asia and most pictures take two,
 * a mark above a letter none, and a byte that is no UTF-8 one. The locale of the environment has no say in it.
 */

/* The columns that a text takes. */
size_t text_width(const char *text);

/* Where its longest beginning of whole characters ends that takes no more than `width` columns. */
const char *text_end(const char *text, size_t width);

/*
 * Writes a text behind the `column` columns that stand on its first line already, broken at blanks so that no line is
 * wider than `room` (0: it is not broken). Further lines begin at `indent`. A line break in the text is one, and
 * the line behind it begins as the text says. What has no blanks is not broken, even if it is wider than the room, so
 * that it can be copied; but before a letter that takes two columns it may be, for languages with such letters have no
 * blanks. Writes no newline at the end.
 */
void text_wrap(FILE *out, const char *text, size_t column, size_t indent, size_t room);

/* The columns of the terminal that `out` goes to; 0 where it is none or does not tell. */
size_t text_room(FILE *out);
