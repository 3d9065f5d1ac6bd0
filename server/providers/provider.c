#include "server/providers/provider.h"

#include <assert.h>
#include <string.h>

static bool is_label_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

/* Labels that neither begin nor end with a hyphen, separated by dots. */
static bool is_host(const char *text, size_t *ret_labels)
{
    size_t labels = 0;
    while (true) {
        const char *first = text;
        while (is_label_byte(*text)) {
            text++;
        }
        if (text == first || *first == '-' || text[-1] == '-' || text - first > 63) {
            return false;
        }
        labels++;
        if (*text != '.') {
            break;
        }
        text++;
    }
    *ret_labels = labels;
    return *text == '\0';
}

static bool is_segment(const char *text)
{
    static const char bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return text[strspn(text, bytes)] == '\0' && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

bool provider_parameter_fits(const struct provider_parameter *parameter, const char *value)
{
    size_t labels = 0;
    if (value[0] == '\0' || strlen(value) > PROVIDER_PARAMETER_VALUE_MAX) {
        return false;
    }
    switch (parameter->form) {
    case PROVIDER_FORM_LABEL:
        return is_host(value, &labels) && labels == 1;
    case PROVIDER_FORM_HOST:
        return is_host(value, &labels) && labels >= 2;
    case PROVIDER_FORM_SEGMENT:
        return is_segment(value);
    }
    return false;
}

static const struct provider_parameter *find_parameter(const struct provider *provider, struct cof_slice name)
{
    for (size_t i = 0; i < provider->parameter_count; i++) {
        if (cof_slice_equal(cof_slice_text(provider->parameters[i].name), name)) {
            return &provider->parameters[i];
        }
    }
    return NULL;
}

static const char *form_in_words(provider_parameter_form form)
{
    switch (form) {
    case PROVIDER_FORM_LABEL:
        return "one part of a host's name: a-z, 0-9 and \"-\"";
    case PROVIDER_FORM_HOST:
        return "a host's name, such as acme.example.com";
    case PROVIDER_FORM_SEGMENT:
        return "letters, digits, \".\", \"_\" and \"-\"";
    }
    return "";
}

/* Whoever misspells a parameter should not get another one's URL. */
static cof_code check_values(const struct provider *provider, struct provider_pairs values, struct cof_error *err)
{
    for (size_t i = 0; i < values.count; i++) {
        const struct provider_parameter *parameter = find_parameter(provider, cof_slice_text(values.items[i].name));
        if (parameter == NULL) {
            return cof_fail(err, COF_REASON_FIELD_INVALID, "the provider %s has no parameter %.64s", provider->id,
                            values.items[i].name);
        }
        if (!provider_parameter_fits(parameter, values.items[i].value)) {
            return cof_fail(err, COF_REASON_FIELD_INVALID, "the parameter %s of %s must be %s, at most %d bytes",
                            parameter->name, provider->id, form_in_words(parameter->form),
                            PROVIDER_PARAMETER_VALUE_MAX);
        }
    }
    return COF_OK;
}

static cof_code find_value(const struct provider *provider, struct cof_slice name, struct provider_pairs values,
                           struct cof_slice *ret_value, struct cof_error *err)
{
    const struct provider_parameter *parameter = find_parameter(provider, name);
    assert(parameter != NULL);
    const char *value = parameter->value;
    for (size_t i = 0; i < values.count; i++) {
        if (strcmp(values.items[i].name, parameter->name) == 0) {
            value = values.items[i].value;
        }
    }
    if (value[0] == '\0') {
        return cof_fail(err, COF_REASON_FIELD_REQUIRED, "the provider %s needs the parameter %s: %s", provider->id,
                        parameter->name, form_in_words(parameter->form));
    }
    *ret_value = cof_slice_text(value);
    return COF_OK;
}

static cof_code append(char url[PROVIDER_URL_MAX + 1], size_t *length, struct cof_slice text,
                       const struct provider *provider, struct cof_error *err)
{
    if (text.len > PROVIDER_URL_MAX - *length) {
        return cof_fail(err, COF_REASON_FIELD_INVALID,
                        "a URL of the provider %s is longer than %d bytes with its parameters", provider->id,
                        PROVIDER_URL_MAX);
    }
    if (text.len > 0) {
        memcpy(url + *length, text.data, text.len);
    }
    *length += text.len;
    return COF_OK;
}

cof_code provider_expand(const struct provider *provider, const char *template, struct provider_pairs values,
                         struct cof_arena *arena, const char **ret_url, struct cof_error *err)
{
    char url[PROVIDER_URL_MAX + 1];
    size_t length = 0;
    TRY(check_values(provider, values, err));
    while (*template != '\0') {
        const size_t plain = strcspn(template, "{");
        TRY(append(url, &length, cof_slice_of(template, plain), provider, err));
        template += plain;
        if (*template == '{') {
            struct cof_slice value = {0};
            const struct cof_slice name = cof_slice_of(template + 1, strcspn(template + 1, "}"));
            TRY(find_value(provider, name, values, &value, err));
            TRY(append(url, &length, value, provider, err));
            template += name.len + 2;
        }
    }
    const char *copy = cof_arena_text(arena, cof_slice_of(url, length));
    if (copy == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_url = copy;
    return COF_OK;
}
