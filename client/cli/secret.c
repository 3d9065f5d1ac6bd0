#include "client/cli/secret.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/reference.h"

enum { NUMBER_TEXT = 40, WHAT_TEXT = 40, QUESTION_TEXT = 360, NAME_COLUMN = 14 };

/* --- Values ----------------------------------------------------------------------------------------------------- */

struct pairs *pairs_new(void)
{
    return calloc(1, sizeof(struct pairs));
}

void pairs_free(struct pairs *pairs)
{
    for (size_t i = 0; pairs != NULL && i < pairs->count; i++) {
        cli_value_done(&pairs->values[i]);
    }
    free(pairs);
}

static cli_exit add_pair(char *argument, size_t place, bool file, struct pairs *pairs)
{
    if (pairs->count == CLI_KEYS_MAX) {
        return cli_usage(NULL, "a secret has at most %d keys", CLI_KEYS_MAX);
    }
    struct cli_value *value = &pairs->values[pairs->count];
    Coffer__V1__KeyValue *message = &pairs->messages[pairs->count];
    pairs->list[pairs->count++] = message;
    const cli_exit code = file ? cli_read_file_value(argument, value) : cli_read_value(argument, place, value);
    coffer__v1__key_value__init(message);
    message->key = value->key;
    message->value = (ProtobufCBinaryData){value->length, value->data};
    return code;
}

/* A name that cannot be is told before anybody has typed a value for it. */
static cli_exit check_names(const struct cli *cli, const char *name, size_t first)
{
    char what[WHAT_TEXT];
    cli_exit code = reference_check_name(COF_NAME_SECRET, cof_slice_text(name), "name", "argument 1");
    for (size_t i = first; code == CLI_OK && i < cli->argument_count; i++) {
        const char *key = cli->arguments[i];
        (void) snprintf(what, sizeof what, "argument %zu", i + 1);
        code = reference_check_name(COF_NAME_KEY, cof_slice_of(key, strcspn(key, "=")), "key", what);
    }
    return code;
}

cli_exit pairs_read(const struct cli *cli, const char *name, size_t first, struct pairs *pairs)
{
    cli_exit code = check_names(cli, name, first);
    for (size_t i = first; code == CLI_OK && i < cli->argument_count; i++) {
        code = add_pair(cli->arguments[i], i + 1, false, pairs);
    }
    for (size_t i = 0; code == CLI_OK && i < cli->files.count; i++) {
        code = add_pair(cli->files.items[i], 0, true, pairs);
    }
    return code;
}

/* --- Words ------------------------------------------------------------------------------------------------------ */

static const char *const types[] = {"unknown", "custom", "ssh_key", "mtls", "ca_cert", "github_app"};

cli_exit secret_type_read(const char *text, Coffer__V1__SecretType *ret_type)
{
    *ret_type = COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED;
    for (size_t i = 1; text != NULL && i < COF_COUNT(types); i++) {
        if (strcmp(text, types[i]) == 0) {
            *ret_type = (Coffer__V1__SecretType) i;
            return CLI_OK;
        }
    }
    return text == NULL ? CLI_OK
                        : cli_usage("custom, ssh_key, mtls, ca_cert, github_app", "--type is none of the types");
}

const char *secret_type_name(Coffer__V1__SecretType type)
{
    return (size_t) type < COF_COUNT(types) ? types[type] : types[0];
}

const char *secret_state_name(const Coffer__V1__Secret *secret)
{
    switch (secret->state) {
    case COFFER__V1__SECRET_STATE__SECRET_STATE_ACTIVE:
        return secret->expire_time != NULL && cli_is_past(secret->expire_time) ? "expired" : "";
    case COFFER__V1__SECRET_STATE__SECRET_STATE_DELETED:
        return "deleted";
    case COFFER__V1__SECRET_STATE__SECRET_STATE_CORRUPTED:
        return "corrupted";
    case COFFER__V1__SECRET_STATE__SECRET_STATE_UNSPECIFIED:
    case _COFFER__V1__SECRET_STATE_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

const char *secret_keys_text(Coffer__V1__SecretKey *const *keys, size_t count, char *text, size_t room)
{
    (void) snprintf(text, room, "%s", count > 0 ? keys[0]->name : "");
    if (count > 1) {
        const size_t used = strlen(text);
        (void) snprintf(text + used, room - used, ", +%zu", count - 1);
    }
    return text;
}

/* --- Printing --------------------------------------------------------------------------------------------------- */

static void print_facts(const Coffer__V1__SecretFacts *facts)
{
    char text[NUMBER_TEXT];
    if (facts->key_type[0] != '\0') {
        (void) snprintf(text, sizeof text, "%.20s, %" PRIu32 " bits", facts->key_type, facts->key_bits);
        cli_print_field("key type", text);
    }
    if (facts->fingerprint[0] != '\0') {
        cli_print_field("fingerprint", facts->fingerprint);
    }
    if (facts->certificates > 0) {
        (void) snprintf(text, sizeof text, "%" PRIu32, facts->certificates);
        cli_print_field("certificates", text);
        cli_print_field("subject", facts->subject);
        cli_print_field("issuer", facts->issuer);
        cli_print_field("valid until", cli_time(facts->certificate_expire_time));
    }
}

static void print_expiry(const Coffer__V1__Secret *secret)
{
    char text[NUMBER_TEXT + NUMBER_TEXT];
    if (secret->expire_time != NULL) {
        (void) snprintf(text, sizeof text, "%s%s", cli_time(secret->expire_time),
                        secret->block_when_expired ? ", and is refused from then on" : "");
        cli_print_field("expires", text);
    } else if (secret->block_when_expired) {
        cli_print_field("expires", "never; it would be refused when expired");
    }
}

static void print_keys(const Coffer__V1__Secret *secret)
{
    size_t width = 0;
    for (size_t i = 0; i < secret->n_keys; i++) {
        const size_t length = strlen(secret->keys[i]->name);
        width = length > width ? length : width;
    }
    for (size_t i = 0; i < secret->n_keys; i++) {
        const Coffer__V1__SecretKey *key = secret->keys[i];
        printf("%-*s%-*s  %" PRIu32 " byte%s%s\n", NAME_COLUMN, i == 0 ? "keys" : "", (int) width, key->name,
               key->size, key->size == 1 ? "" : "s", key->blank ? ", blank" : "");
    }
}

void secret_print(const Coffer__V1__Secret *secret)
{
    char version[NUMBER_TEXT];
    (void) snprintf(version, sizeof version, "%" PRIu64, secret->version);
    cli_print_field("name", secret->name);
    cli_print_field("environment", secret->environment);
    cli_print_field("type", secret_type_name(secret->type));
    cli_print_field("uid", secret->uid);
    cli_print_field("version", version);
    cli_print_field("etag", secret->etag);
    if (secret_state_name(secret)[0] != '\0') {
        cli_print_field("state", secret_state_name(secret));
    }
    if (secret->description[0] != '\0') {
        cli_print_field("description", secret->description);
    }
    for (size_t i = 0; i < secret->n_tags; i++) {
        cli_print_field(i == 0 ? "tags" : "", secret->tags[i]);
    }
    print_expiry(secret);
    cli_print_field("created", cli_time(secret->create_time));
    cli_print_field("updated", cli_time(secret->update_time));
    if (secret->delete_time != NULL) {
        cli_print_field("deleted", cli_time(secret->delete_time));
    }
    if (secret->facts != NULL) {
        print_facts(secret->facts);
    }
    print_keys(secret);
}

void secret_note(const char *what, const Coffer__V1__Secret *secret)
{
    cli_note("%s: %s in %s, version %" PRIu64 ", %zu key%s", secret->name, what, secret->environment,
             secret->version, secret->n_keys, secret->n_keys == 1 ? "" : "s");
}

void secret_warn(char *const *warnings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *text = cli_harmless(warnings[i]);
        cli_note("coffer: warning: %s", text == NULL ? "" : text);
        free(text);
    }
}

cli_exit secret_confirm(const struct cli *cli, const char *what)
{
    char question[QUESTION_TEXT];
    const char *environment = cli_environment(cli)[0] == '\0' ? "default" : cli_environment(cli);
    (void) snprintf(question, sizeof question, "%.100s the secret \"%.100s\" in \"%.100s\".", what,
                    cli->arguments[0], environment);
    return cli_confirm(cli, question, cli->arguments[0]);
}
