#include "client/cli/text.h"

#include <locale.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

enum { WIDE = 2 };

/* --- Columns -------------------------------------------------------------------------------------------------- */

/* The table of widths is the C library's, which asks for a locale of UTF-8. This one is part of every Debian. */
static locale_t utf8(void)
{
    static locale_t locale;
    static bool asked;
    if (!asked) {
        locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
        asked = true;
    }
    return locale;
}

/* The character at the beginning of a text that is not empty: how many bytes it has, and how many columns it takes. */
static size_t character(const char *text, size_t *ret_width)
{
    mbstate_t state = {0};
    wchar_t letter = 0;
    const locale_t ours = utf8();
    const locale_t before = ours == (locale_t) 0 ? ours : uselocale(ours);
    const size_t length = mbrtowc(&letter, text, strlen(text), &state);
    const bool valid = length != (size_t) -1 && length != (size_t) -2;
    const int width = valid ? wcwidth(letter) : 1;
    if (ours != (locale_t) 0) {
        (void) uselocale(before);
    }
    *ret_width = width < 0 ? 1 : (size_t) width;
    return valid ? length : 1;
}

size_t text_width(const char *text)
{
    size_t total = 0;
    while (*text != '\0') {
        size_t width;
        text += character(text, &width);
        total += width;
    }
    return total;
}

const char *text_end(const char *text, size_t width)
{
    while (*text != '\0') {
        size_t taken;
        const size_t length = character(text, &taken);
        if (taken > width) {
            break;
        }
        width -= taken;
        text += length;
    }
    return text;
}

/* --- Lines ---------------------------------------------------------------------------------------------------- */

struct lines {
    FILE *out;
    size_t indent;
    size_t room;
    size_t column; /* where the next character goes */
    bool begun;    /* a word stands on this line */
};

static void new_line(struct lines *lines)
{
    fprintf(lines->out, "\n%*s", (int) lines->indent, "");
    lines->column = lines->indent;
    lines->begun = false;
}

/* How much of a text without blanks stays together: up to a letter before which it may be broken. */
static size_t piece(const char *text, size_t length, size_t *ret_width)
{
    size_t at = 0;
    *ret_width = 0;
    while (at < length) {
        size_t width;
        const size_t bytes = character(text + at, &width);
        if (at > 0 && width == WIDE) {
            break;
        }
        *ret_width += width;
        at += bytes;
    }
    return at;
}

/* `blanks` come before it unless it begins a line. */
static void put_word(struct lines *lines, const char *word, size_t length, size_t blanks)
{
    while (length > 0) {
        size_t width;
        const size_t bytes = piece(word, length, &width);
        if (lines->begun && lines->room > 0 && lines->column + blanks + width > lines->room) {
            new_line(lines);
            blanks = 0;
        }
        fprintf(lines->out, "%*s%.*s", (int) blanks, "", (int) bytes, word);
        lines->column += blanks + width;
        lines->begun = true;
        blanks = 0;
        word += bytes;
        length -= bytes;
    }
}

void text_wrap(FILE *out, const char *text, size_t column, size_t indent, size_t room)
{
    struct lines lines = {.out = out, .indent = indent, .room = room, .column = column};
    while (*text != '\0') {
        const size_t blanks = strspn(text, " ");
        const size_t length = strcspn(text + blanks, " \n");
        put_word(&lines, text + blanks, length, blanks);
        text += blanks + length;
        if (*text == '\n') {
            (void) fputc('\n', out);
            lines.column = 0;
            lines.begun = false;
            text++;
        }
    }
}

size_t text_room(FILE *out)
{
    struct winsize size = {0};
    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}
