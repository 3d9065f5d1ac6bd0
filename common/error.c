#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct reason_row {
    cof_reason reason;
    cof_code code;
    const char *name;
    const char *meaning;
    const char *next_step;
};

static const struct reason_row reasons[] = {
#define REASON(name, number, code, meaning, next) {COF_REASON_##name, COF_##code, #name, meaning, next},
#include "common/reason.def"
#undef REASON
};

static const struct reason_row unknown_reason = {
    COF_REASON_NONE, COF_UNKNOWN, "UNSPECIFIED", "an unknown error", "use a newer client",
};

static const struct reason_row *row_of(cof_reason reason)
{
    for (size_t i = 0; i < COF_COUNT(reasons); i++) {
        if (reasons[i].reason == reason) {
            return &reasons[i];
        }
    }
    return &unknown_reason;
}

void cof_error_clear(struct cof_error *err)
{
    err->code = COF_OK;
    err->reason = COF_REASON_NONE;
    err->origin = COF_ORIGIN_OWN;
    err->retry_after_ms = 0;
    err->fact_count = 0;
    err->native[0] = '\0';
    err->field[0] = '\0';
    err->message[0] = '\0';
    err->trail[0] = '\0';
}

/* A cut text must still be valid UTF-8: steps back over the bytes of a character that lost its end. */
static void trim_cut_character(char *text, size_t size)
{
    size_t end = strlen(text);
    if (end + 1 < size) {
        return;
    }
    while (end > 0 && ((unsigned char) text[end - 1] & 0xC0U) == 0x80U) {
        end--;
    }
    if (end > 0 && ((unsigned char) text[end - 1] & 0x80U) != 0) {
        end--;
    }
    text[end] = '\0';
}

COF_PRINTF(3, 0)
static void format_into(char *to, size_t size, const char *format, va_list args)
{
    const int written = vsnprintf(to, size, format, args);
    if (written < 0) {
        to[0] = '\0';
    } else if ((size_t) written >= size) {
        trim_cut_character(to, size);
    }
}

static void set_reason(struct cof_error *err, cof_reason reason)
{
    cof_error_clear(err);
    err->reason = reason;
    err->code = row_of(reason)->code;
}

cof_code cof_fail(struct cof_error *err, cof_reason reason, const char *format, ...)
{
    va_list args;
    set_reason(err, reason);
    va_start(args, format);
    format_into(err->message, sizeof err->message, format, args);
    va_end(args);
    return err->code;
}

cof_code cof_fail_field(struct cof_error *err, cof_reason reason, const char *field, const char *format, ...)
{
    va_list args;
    set_reason(err, reason);
    va_start(args, format);
    format_into(err->message, sizeof err->message, format, args);
    va_end(args);
    (void) snprintf(err->field, sizeof err->field, "%s", field);
    return err->code;
}

cof_code cof_fail_internal(struct cof_error *err, cof_origin origin, const char *native, const char *format, ...)
{
    va_list args;
    set_reason(err, COF_REASON_INTERNAL);
    err->origin = origin;
    (void) snprintf(err->native, sizeof err->native, "%s", native == NULL ? "" : native);
    (void) snprintf(err->message, sizeof err->message, "%s; %s", cof_reason_meaning(COF_REASON_INTERNAL),
                    cof_reason_next_step(COF_REASON_INTERNAL));
    va_start(args, format);
    format_into(err->trail, sizeof err->trail, format, args);
    va_end(args);
    return err->code;
}

cof_code cof_note(struct cof_error *err, const char *format, ...)
{
    va_list args;
    size_t used = strlen(err->trail);
    if (used > 0 && used + 3 < sizeof err->trail) {
        memcpy(err->trail + used, " < ", 4);
        used += 3;
    }
    va_start(args, format);
    format_into(err->trail + used, sizeof err->trail - used, format, args);
    va_end(args);
    return err->code;
}

cof_code cof_error_fact(struct cof_error *err, const char *key, const char *format, ...)
{
    va_list args;
    if (err->fact_count == COF_ERROR_FACTS) {
        return err->code;
    }
    struct cof_error_fact *fact = &err->facts[err->fact_count++];
    fact->key = key;
    va_start(args, format);
    format_into(fact->value, sizeof fact->value, format, args);
    va_end(args);
    return err->code;
}

cof_code cof_error_retry_after(struct cof_error *err, uint32_t milliseconds)
{
    err->retry_after_ms = milliseconds;
    return err->code;
}

const char *cof_code_name(cof_code code)
{
    switch (code) {
#define CODE(name, number) \
    case COF_##name:       \
        return #name;
#include "common/code.def"
#undef CODE
    }
    return "UNKNOWN";
}

const char *cof_reason_name(cof_reason reason)
{
    return row_of(reason)->name;
}

cof_code cof_reason_code(cof_reason reason)
{
    return row_of(reason)->code;
}

const char *cof_reason_meaning(cof_reason reason)
{
    return row_of(reason)->meaning;
}

const char *cof_reason_next_step(cof_reason reason)
{
    return row_of(reason)->next_step;
}
