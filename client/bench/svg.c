#include "client/bench/svg.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EDGE = 640, /* of the plot, to the right */
    HEIGHT = 480,
    LEFT = 90,
    TOP = 50,
    BOTTOM = 60,
    LINES = 4,
    TICKS = 5,
    ROW = 18,
    SAMPLE = 30, /* of a line, before its name */
    LETTER = 7
};

static const struct {
    const char *name;
    double share;
    const char *dashes;
    bool control; /* of the echo */
} lines[LINES] = {
    {"p50", 0.5, "none", false},
    {"p99", 0.99, "6 3", false},
    {"p99.9", 0.999, "2 3", false},
    {"nng echo p50", 0.5, "1 5", true},
};

static const char *const colours[] = {"#1b6ca8", "#c0392b", "#1e8449", "#7d3c98", "#b9770e", "#283747"};

struct point {
    const struct subject *subject;
    double load;
    double us[LINES];
};

struct drawing {
    struct point points[SUBJECTS_MAX];
    size_t count;
    size_t lines;     /* without the echo's if there is none */
    double most_load; /* at the right edge, a whole number of steps */
    double step;
    double least_us;
    double most_us;
    FILE *to;
};

/* --- What is drawn ---------------------------------------------------------------------------------------------- */

/* What is called at this load, or the echo beside it. */
static bool add_times(const struct measure *measure, struct drawing *drawing, struct point *point, bool control)
{
    const struct subject *subject = point->subject;
    struct load_result *total = measure_total(measure, subject, control ? &subject->control : &subject->own);
    if (total == NULL) {
        return false;
    }
    for (size_t i = 0; i < drawing->lines; i++) {
        if (lines[i].control == control) {
            point->us[i] = fmax(histogram_quantile(&total->latency, lines[i].share) / 1000, 0.1);
            drawing->least_us = fmin(drawing->least_us, point->us[i]);
            drawing->most_us = fmax(drawing->most_us, point->us[i]);
        }
    }
    free(total);
    return true;
}

static bool add_point(const struct measure *measure, const struct subject *subject, struct drawing *drawing)
{
    struct point *point = &drawing->points[drawing->count++];
    point->subject = subject;
    point->load = subject->rate > 0 ? (double) subject->rate
                                    : statistics_spread(subject->own.rate, subject->marks, measure->rounds).median;
    drawing->most_load = fmax(drawing->most_load, point->load);
    return add_times(measure, drawing, point, false) &&
           (measure->no_echo || add_times(measure, drawing, point, true));
}

/* About `most` / TICKS, as people count: 1, 2 or 5 with zeros behind it. */
static double step_of(double most)
{
    const double decade = pow(10, floor(log10(most / TICKS)));
    const double share = most / TICKS / decade;
    const double nice = share <= 1 ? 1 : (share <= 2 ? 2 : (share <= 5 ? 5 : 10));
    return decade * nice;
}

static bool collect(const struct measure *measure, struct drawing *drawing)
{
    drawing->lines = measure->no_echo ? LINES - 1 : LINES;
    for (size_t i = 0; i < measure->subject_count; i++) {
        if (!add_point(measure, &measure->subjects[i], drawing)) {
            (void) fputs("coffer-bench: there is no memory left\n", stderr);
            return false;
        }
    }
    if (drawing->most_load <= 0) {
        (void) fputs("coffer-bench: --svg: no call has succeeded, so there is nothing to draw\n", stderr);
        return false;
    }
    drawing->step = step_of(drawing->most_load);
    drawing->most_load = ceil(drawing->most_load / drawing->step) * drawing->step;
    /* Whole decades. */
    drawing->least_us = pow(10, floor(log10(drawing->least_us)));
    drawing->most_us = pow(10, ceil(log10(fmax(drawing->most_us, drawing->least_us * 1.001))));
    return true;
}

static double x_of(const struct drawing *drawing, double load)
{
    return LEFT + load / drawing->most_load * (EDGE - LEFT);
}

static double y_of(const struct drawing *drawing, double us)
{
    const double share = log10(us / drawing->least_us) / log10(drawing->most_us / drawing->least_us);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
}

/* --- Axes ------------------------------------------------------------------------------------------------------- */

static void draw_decade(const struct drawing *drawing, double us, double y)
{
    const char *unit = us >= 1000000 ? "s" : (us >= 1000 ? "ms" : "us");
    const double count = us >= 1000000 ? us / 1000000 : (us >= 1000 ? us / 1000 : us);
    (void) fprintf(drawing->to, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g %s</text>\n", LEFT - 8, y + 4,
                   count, unit);
}

static void draw_time(const struct drawing *drawing)
{
    const int decades = (int) lround(log10(drawing->most_us / drawing->least_us));
    for (int i = 0; i <= decades; i++) {
        const double us = drawing->least_us * pow(10, i);
        const double y = y_of(drawing, us);
        (void) fprintf(drawing->to, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT,
                       y, EDGE, y);
        draw_decade(drawing, us, y);
    }
    (void) fprintf(
        drawing->to,
        "<text x=\"20\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 20 %d)\">latency</text>\n",
        (TOP + HEIGHT - BOTTOM) / 2, (TOP + HEIGHT - BOTTOM) / 2);
}

static void draw_load(const struct drawing *drawing)
{
    const long ticks = lround(drawing->most_load / drawing->step);
    for (long i = 0; i <= ticks; i++) {
        const double load = drawing->step * (double) i;
        (void) fprintf(drawing->to, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#ddd\"/>\n",
                       x_of(drawing, load), TOP, x_of(drawing, load), HEIGHT - BOTTOM + 4);
        (void) fprintf(drawing->to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
                       x_of(drawing, load), HEIGHT - BOTTOM + 20, load);
    }
    (void) fprintf(drawing->to, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">calls per second</text>\n",
                   (LEFT + EDGE) / 2, HEIGHT - 15);
}

/* --- Lines ------------------------------------------------------------------------------------------------------ */

/* Whether it is the first of its mix. */
static bool is_first(const struct drawing *drawing, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (strcmp(drawing->points[i].subject->mix.name, drawing->points[at].subject->mix.name) == 0) {
            return false;
        }
    }
    return true;
}

static void draw_line(const struct drawing *drawing, size_t first, size_t line, const char *colour)
{
    const char *name = drawing->points[first].subject->mix.name;
    (void) fputs("<polyline points=\"", drawing->to);
    for (size_t i = first; i < drawing->count; i++) {
        if (strcmp(drawing->points[i].subject->mix.name, name) == 0) {
            (void) fprintf(drawing->to, "%.1f,%.1f ", x_of(drawing, drawing->points[i].load),
                           y_of(drawing, drawing->points[i].us[line]));
        }
    }
    (void) fprintf(drawing->to, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\"/>\n",
                   colour, lines[line].dashes);
    for (size_t i = first; i < drawing->count; i++) {
        if (strcmp(drawing->points[i].subject->mix.name, name) == 0) {
            (void) fprintf(drawing->to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                           x_of(drawing, drawing->points[i].load), y_of(drawing, drawing->points[i].us[line]),
                           colour);
        }
    }
}

/* Its name, behind a piece of the line. */
static void draw_name(const struct drawing *drawing, size_t row, size_t line, const char *mix, const char *colour)
{
    const size_t y = TOP + 14 + row * ROW;
    const int x = EDGE + 20;
    (void) fprintf(drawing->to,
                   "<line x1=\"%d\" y1=\"%zu\" x2=\"%d\" y2=\"%zu\" stroke=\"%s\" stroke-width=\"2\" "
                   "stroke-dasharray=\"%s\"/>\n",
                   x, y - 4, x + SAMPLE, y - 4, colour, lines[line].dashes);
    (void) fprintf(drawing->to, "<text x=\"%d\" y=\"%zu\" fill=\"%s\">%s %s</text>\n", x + SAMPLE + 8, y, colour,
                   mix, lines[line].name);
}

/* Names of mixes are letters, digits, "=" and ",", which SVG takes as they are. */
static void draw_mixes(const struct drawing *drawing)
{
    size_t mixes = 0;
    for (size_t i = 0; i < drawing->count; i++) {
        if (!is_first(drawing, i)) {
            continue;
        }
        const char *colour = colours[mixes % COF_COUNT(colours)];
        for (size_t line = 0; line < drawing->lines; line++) {
            draw_line(drawing, i, line, colour);
            draw_name(drawing, mixes * drawing->lines + line, line, drawing->points[i].subject->mix.name, colour);
        }
        mixes++;
    }
}

/* With room for the longest name. */
static size_t whole_width(const struct drawing *drawing)
{
    size_t longest = 0;
    for (size_t i = 0; i < drawing->count; i++) {
        const size_t length = strlen(drawing->points[i].subject->mix.name) + strlen(lines[drawing->lines - 1].name);
        longest = length > longest ? length : longest;
    }
    return EDGE + 2 * SAMPLE + (longest + 1) * LETTER;
}

/* The list of lines may be longer than the drawing is high. */
static size_t whole_height(const struct drawing *drawing)
{
    size_t rows = 0;
    for (size_t i = 0; i < drawing->count; i++) {
        rows += is_first(drawing, i) ? drawing->lines : 0;
    }
    const size_t list = TOP + (rows + 1) * ROW;
    return list > HEIGHT ? list : HEIGHT;
}

static void draw(const struct drawing *drawing)
{
    (void) fprintf(drawing->to,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%zu\" viewBox=\"0 0 %zu %zu\" "
                   "font-family=\"sans-serif\" font-size=\"12\">\n"
                   "<title>coffer-bench: latency against load</title>\n"
                   "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
                   "<text x=\"%d\" y=\"28\" font-size=\"15\">coffer-bench: latency against load</text>\n",
                   whole_width(drawing), whole_height(drawing), whole_width(drawing), whole_height(drawing), LEFT);
    draw_time(drawing);
    draw_load(drawing);
    draw_mixes(drawing);
    (void) fputs("</svg>\n", drawing->to);
}

static bool write_file(struct drawing *drawing, const char *path)
{
    drawing->to = fopen(path, "we");
    bool good = drawing->to != NULL;
    if (good) {
        draw(drawing);
        good = ferror(drawing->to) == 0;
        good = fclose(drawing->to) == 0 && good;
    }
    if (!good) {
        (void) fprintf(stderr, "coffer-bench: --svg: %s: %s\n", path, strerror(errno));
    }
    return good;
}

bool svg_write(const struct measure *measure, const char *path)
{
    struct drawing *drawing = calloc(1, sizeof *drawing);
    if (drawing == NULL) {
        (void) fputs("coffer-bench: there is no memory left\n", stderr);
        return false;
    }
    drawing->least_us = HUGE_VAL;
    const bool good = collect(measure, drawing) && write_file(drawing, path);
    free(drawing);
    return good;
}
